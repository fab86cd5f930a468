#!/usr/bin/env bash
# Puts ONNX Runtime's shared library into the cache, from the wheel on PyPI, by its hash; offline once it is there.
# Takes: nothing, or `gpu` for the variant with CUDA and NVIDIA's libraries for it (DCE_CACHE_DIR moves the cache; where ORT_DYLIB_PATH names a library, that one is used).
# Gives: the library's path as the last line of stdout, for ORT_DYLIB_PATH.
# The wheels' licences and third-party notices lie beside the library. With `gpu` that is about 1.4 GB to fetch and 2.0 GB on the disk; NVIDIA's driver is not in it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./common.sh

variant="${1:-cpu}"
case "$variant" in
  cpu | gpu) ;;
  *) die "'$variant' is none of: cpu, gpu" ;;
esac

if [[ -n "${ORT_DYLIB_PATH:-}" ]]; then
  [[ -f "$ORT_DYLIB_PATH" ]] || die "ORT_DYLIB_PATH=$ORT_DYLIB_PATH is not a file: correct it, or unset it to have the library fetched"
  say "ONNX Runtime: ORT_DYLIB_PATH names one"
  echo "$ORT_DYLIB_PATH"
  exit 0
fi

version=1.31.1
wheels=() # NAME==VERSION --hash=sha256:HASH
case "$variant-$(uname -s)-$(uname -m)" in
  cpu-Linux-x86_64)
    platforms=(manylinux_2_28_x86_64)
    wheels=("onnxruntime==$version --hash=sha256:5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f")
    size="about 24 MB"
    ;;
  cpu-Linux-aarch64)
    platforms=(manylinux_2_28_aarch64)
    wheels=("onnxruntime==$version --hash=sha256:da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3")
    size="about 24 MB"
    ;;
  gpu-Linux-x86_64)
    # What the provider needs (readelf -d libonnxruntime_providers_cuda.so), cuDNN for the GRU, and the compiler that parts of cuDNN use.
    platforms=(manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux2014_x86_64)
    wheels=(
      "onnxruntime-gpu==$version --hash=sha256:e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6"
      "nvidia-cublas==13.10.0.20 --hash=sha256:dcc6d63884c53d07e267ce7e6feac17b2538cebaafec5db865736c3e28e4dc84"
      "nvidia-curand==10.4.5.25 --hash=sha256:22bb226a857e5888fe6b54ae465fc4371296bcff13a35f79e19691bcf454f529"
      "nvidia-cuda-runtime==13.5.37 --hash=sha256:df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d"
      "nvidia-cudnn-cu13==9.28.1.4 --hash=sha256:a54f205b1db1f2895d99f398754db1369816f0569dd459731f925635cf7b65ec"
      "nvidia-cuda-nvrtc==13.5.37 --hash=sha256:86b4d68058807988b7d9af5b44917a0601e9c337f35ccd657bfb3c759ff8d8bc"
    )
    size="about 1.4 GB: CUDA 13 and cuDNN 9 are in it"
    ;;
  *) die "no pinned ONNX Runtime ($variant) for $(uname -s) on $(uname -m): install version $version or newer and set ORT_DYLIB_PATH to its library" ;;
esac

name="onnxruntime"
[[ "$variant" == gpu ]] && name="onnxruntime-gpu"
folder="$(cache)/$name-$version"
library="$folder/libonnxruntime.so"

# The other libraries by their sizes: their hashes would take seconds each time.
is_whole() {
  (cd "$folder" && sha256sum --check --status libonnxruntime.so.sha256) || return 1
  [[ ! -f "$folder/libraries" ]] || (cd "$folder" && stat -c '%s %n' -- *.so* | grep -v sha256 | cmp -s - libraries)
}

if [[ -f "$library.sha256" ]]; then
  if is_whole; then
    say "ONNX Runtime $version ($variant): in the cache"
    echo "$library"
    exit 0
  fi
  say "ONNX Runtime $version ($variant): what is in the cache is not what was put there, so it is fetched anew"
  rm -rf "$folder"
fi

need python3 "run deploy/setup/packages.sh build"
say "ONNX Runtime $version ($variant): fetching from PyPI ($size)"
scratch
printf '%s\n' "${wheels[@]}" >"$SCRATCH/requirements.txt"
# The tags name one wheel each, whatever the Python here: the libraries inside do not depend on it.
TMPDIR="$SCRATCH" PIP_ROOT_USER_ACTION=ignore python3 -m pip --quiet --disable-pip-version-check --no-cache-dir download --no-deps --require-hashes --only-binary=:all: \
  "${platforms[@]/#/--platform=}" --python-version 3.11 --implementation cp --abi cp311 --abi none \
  --requirement "$SCRATCH/requirements.txt" --dest "$SCRATCH" >&2 ||
  die "pip could not fetch $name $version: is the network there, and room in $(cache)? Or set ORT_DYLIB_PATH to a library of yours"

python3 - "$SCRATCH" "$version" <<'PYTHON'
import pathlib, shutil, sys, zipfile

scratch, version = pathlib.Path(sys.argv[1]), sys.argv[2]
out = scratch / "out"
out.mkdir()
for wheel in sorted(scratch.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for inside in archive.namelist():
            path = pathlib.PurePosixPath(inside)
            if wheel.name.startswith("onnxruntime"):
                wanted = path.name in (f"libonnxruntime.so.{version}", "libonnxruntime_providers_cuda.so")
                # Without a provider nobody asks for what providers share.
                wanted = wanted or ("_gpu-" in wheel.name and path.name == "libonnxruntime_providers_shared.so")
                if path.parent.name == "capi" and wanted:
                    name = path.name.removesuffix(f".{version}")
                elif path.parts in (("onnxruntime", "LICENSE"), ("onnxruntime", "ThirdPartyNotices.txt")):
                    name = path.name
                else:
                    continue
            elif path.parent.name == "lib" and ".so" in path.name:
                name = path.name
            elif path.parent.name == "licenses":
                name = f"LICENSE.{wheel.name.split('-')[0]}"
            else:
                continue
            with archive.open(inside) as source, open(out / name, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    wheel.unlink()
PYTHON
(
  cd "$SCRATCH/out"
  sha256sum libonnxruntime.so >libonnxruntime.so.sha256
  [[ "$variant" == cpu ]] || stat -c '%s %n' -- *.so* | grep -v sha256 >libraries
)
renamed_into "$SCRATCH/out" "$folder"
say "ONNX Runtime $version ($variant): now in the cache"
echo "$library"
