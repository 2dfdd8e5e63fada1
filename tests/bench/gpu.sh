#!/usr/bin/env bash
# Builds the engine against the LibTorch of a machine with a GPU, checks what it computes there and measures how fast.
#   tests/bench/gpu.sh [DEVICE]      (cuda:0)
#
# Needs a compiler, CMake, OpenSSL, nlohmann-json and LibTorch: that of $CMAKE_PREFIX_PATH, or of python3's torch. DEVICE cpu goes the same
# way on small pictures, to see that the way is open; its figures mean nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

device=${1:-cuda:0}
[[ $# -le 1 && $device =~ ^(cpu|cuda:[0-9]+)$ ]] || { echo "usage: tests/bench/gpu.sh [cuda:N|cpu]" >&2; exit 2; }
size=()
if [[ $device == cpu ]]; then
  size=(320 192)
elif ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
  echo "There is no NVIDIA GPU here (nvidia-smi names none), so there is nothing to measure. Run this on a machine that has one;" >&2
  echo "'tests/bench/gpu.sh cpu' shows that the rest works." >&2
  exit 3
fi

if [[ -z ${CMAKE_PREFIX_PATH:-} ]] && torch=$(python3 -c 'import torch; print(torch.utils.cmake_prefix_path)' 2>/dev/null); then
  export CMAKE_PREFIX_PATH=$torch
fi

build=build-gpu
generator=()
if command -v ninja >/dev/null; then generator=(-G Ninja); fi
if ! log=$(cmake -S . -B $build "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DNSIC_ONLY_INFER=ON 2>&1); then
  echo "$log" >&2
  echo "CMake failed. Point CMAKE_PREFIX_PATH at a LibTorch with CUDA (https://pytorch.org, or python3's torch)." >&2
  exit 1
fi
export OMP_WAIT_POLICY=passive  # threads that wait would spin and take from those that work
cmake --build $build --target device_bench --parallel

echo "== $device"
if [[ $device != cpu ]]; then nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader -i "${device#cuda:}"; fi

echo "== what is computed, against the CPU in fp32"
$build/bin/device_bench check "$device"

echo "== how fast; targets at 1080p: ns-iqe 60 ms, unet 60 fps, light 500 MP/s"
precisions=(fp32 tf32 bf16 fp16)
if [[ $device == cpu ]]; then precisions=(fp32); fi
for model in light unet ns-iqe; do
  for precision in "${precisions[@]}"; do
    # A process for each, so that its peak of memory is its own.
    $build/bin/device_bench speed "$device" "$model" "$precision" "${size[@]}"
  done
done
