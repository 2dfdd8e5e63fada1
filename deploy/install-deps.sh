#!/usr/bin/env bash
# Installs everything that NSIC needs to build, run and be tested on Debian 12. Safe to run again.
#   deploy/install-deps.sh            build, run and test
#   deploy/install-deps.sh --runtime  what the built programs need to build and run, without the test tools
set -euo pipefail

build=(
  build-essential cmake ninja-build ccache pkg-config git ca-certificates
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  libtorch-dev libopenblas0-pthread libhwy-dev
  libopencv-dev libopencv-contrib-dev
  libvips-dev libzimg-dev
  libavcodec-dev libavformat-dev libavfilter-dev libavutil-dev libswscale-dev libswresample-dev
  libsqlite3-dev libsqlitecpp-dev
  prometheus-cpp-dev libcpp-httplib-dev
  libcli11-dev libspdlog-dev nlohmann-json3-dev libtomlplusplus-dev libssl-dev zlib1g-dev
)
tests=(
  libgtest-dev libgmock-dev libbenchmark-dev
  clang-format clang-tidy
  ffmpeg libvips-tools sqlite3 python3 python3-yaml procps curl jq util-linux binutils
  prometheus chromium chromium-driver libjpeg-dev systemd
)

packages=("${build[@]}")
[[ "${1:-}" == "--runtime" ]] || packages+=("${tests[@]}")

as_root=()
if [[ $EUID -ne 0 ]]; then
  command -v sudo >/dev/null || { echo "install-deps: run as root, or install sudo first" >&2; exit 1; }
  as_root=(sudo)
fi

missing=()
for package in "${packages[@]}"; do
  [[ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null)" == "ii " ]] || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then
  echo "install-deps: everything is installed"
  exit 0
fi
echo "install-deps: installing ${#missing[@]} packages: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
# The tests start their own Prometheus; keep the package from starting one as a service.
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "install-deps: done"
