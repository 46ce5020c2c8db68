#!/usr/bin/env bash
# nvcc and what belongs to it from Python wheels into a folder: no root, no system package.
#   bash get_nvcc.sh DIR  ->  DIR/nvidia/cu13/bin/nvcc (and cuobjdump, nvdisasm)
set -euo pipefail
dir=${1:?folder}
cuda=$dir/nvidia/cu13
if [ ! -x "$cuda/bin/nvcc" ] || [ ! -e "$cuda/lib/libcudart.so" ]; then
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --target "$dir" \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 \
    nvidia-cuda-cuobjdump==13.2.78 nvidia-cuda-nvdisasm==13.2.78
  # nvcc and CMake look for lib64 and for libcudart.so; the wheels have lib and libcudart.so.13.
  ln -sfn lib "$cuda/lib64"
  ln -sf libcudart.so.13 "$cuda/lib/libcudart.so"
fi
"$cuda/bin/nvcc" --version | tail -1
