#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: fetches ONNX Runtime with CUDA, builds, and compares the GPU with the CPU (benches/gpu_check.rs).
# Takes: what the bench takes (a bundle's folder, --device cuda:N). Gives: a table, one JSON object as the last line; exit status 1 where there is no GPU or the two do not agree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Before gigabytes are fetched: a GPU shows in one of these, in a container too.
if ! { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; } && ! compgen -G '/dev/nvidia[0-9]*' >/dev/null; then
  echo "gpu-check: error: no NVIDIA GPU on this machine (no /dev/nvidia*, and nvidia-smi lists none): nothing was fetched or compared. In a container, give it the GPU, as docker run --gpus all does" >&2
  exit 1
fi
if ! ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1' && ! compgen -G "${LD_LIBRARY_PATH:+${LD_LIBRARY_PATH%%:*}/}libcuda.so.1" >/dev/null; then
  echo "gpu-check: the loader's cache has no libcuda.so.1, NVIDIA's driver; going on, since it may lie elsewhere" >&2
fi

deploy/setup/packages.sh build
ORT_DYLIB_PATH="$(deploy/setup/onnxruntime.sh gpu | tail -n 1)"
export ORT_DYLIB_PATH
"${CARGO:-cargo}" bench --bench gpu_check -- "$@"
