#!/usr/bin/env bash
# Puts ONNX Runtime's shared library into the cache, from the wheel on PyPI, by its hash; offline once it is there.
# Takes: nothing (DCE_CACHE_DIR moves the cache; where ORT_DYLIB_PATH names a library, that one is used). Gives: the library's path as the last line of stdout, for ORT_DYLIB_PATH.
# The wheel's licence and third-party notices lie beside the library.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./common.sh

if [[ -n "${ORT_DYLIB_PATH:-}" ]]; then
  [[ -f "$ORT_DYLIB_PATH" ]] || die "ORT_DYLIB_PATH=$ORT_DYLIB_PATH is not a file: correct it, or unset it to have the library fetched"
  say "ONNX Runtime: ORT_DYLIB_PATH names one"
  echo "$ORT_DYLIB_PATH"
  exit 0
fi

version=1.31.1
case "$(uname -s)-$(uname -m)" in
  Linux-x86_64)
    platform=manylinux_2_28_x86_64
    wheel_sha256=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f
    ;;
  Linux-aarch64)
    platform=manylinux_2_28_aarch64
    wheel_sha256=da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3
    ;;
  *) die "no pinned ONNX Runtime for $(uname -s) on $(uname -m): install version $version or newer and set ORT_DYLIB_PATH to its library" ;;
esac

folder="$(cache)/onnxruntime-$version"
library="$folder/libonnxruntime.so"

if [[ -f "$library.sha256" ]]; then
  if (cd "$folder" && sha256sum --check --status libonnxruntime.so.sha256); then
    say "ONNX Runtime $version: in the cache"
    echo "$library"
    exit 0
  fi
  say "ONNX Runtime $version: the library in the cache does not have its sha256, so it is fetched anew"
  rm -rf "$folder"
fi

need python3 "run deploy/setup/packages.sh build"
say "ONNX Runtime $version: fetching the wheel from PyPI (about 24 MB)"
scratch
printf 'onnxruntime==%s --hash=sha256:%s\n' "$version" "$wheel_sha256" >"$SCRATCH/requirements.txt"
# The tags name one wheel, whatever the Python here: the library inside does not depend on it.
PIP_ROOT_USER_ACTION=ignore python3 -m pip --quiet --disable-pip-version-check --no-cache-dir download --no-deps --require-hashes --only-binary=:all: \
  --platform "$platform" --python-version 3.11 --implementation cp --abi cp311 \
  --requirement "$SCRATCH/requirements.txt" --dest "$SCRATCH" >&2 ||
  die "pip could not fetch onnxruntime $version: is the network there? Or set ORT_DYLIB_PATH to a library of yours"

python3 - "$SCRATCH" "$version" <<'PYTHON'
import pathlib, shutil, sys, zipfile

scratch, version = pathlib.Path(sys.argv[1]), sys.argv[2]
(wheel,) = scratch.glob("onnxruntime-*.whl")
(scratch / "out").mkdir()
names = {f"capi/libonnxruntime.so.{version}": "libonnxruntime.so", "LICENSE": "LICENSE", "ThirdPartyNotices.txt": "ThirdPartyNotices.txt"}
with zipfile.ZipFile(wheel) as archive:
    for inside, name in names.items():
        with archive.open(f"onnxruntime/{inside}") as source, open(scratch / "out" / name, "wb") as target:
            shutil.copyfileobj(source, target)
PYTHON
(cd "$SCRATCH/out" && sha256sum libonnxruntime.so >libonnxruntime.so.sha256)
renamed_into "$SCRATCH/out" "$folder"
say "ONNX Runtime $version: now in the cache"
echo "$library"
