#!/usr/bin/env bash
# Builds everything and runs every test.
#   tests/run.sh            what a change must pass: under about 25 minutes on 2 cores
#   tests/run.sh --system   that, the long soaks, nsic_infer alone, and the unit and integration tests under ASan+UBSan and, those of
#                           threads, TSan
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

system=0
case "${1:-}" in
  "") ;;
  --system) system=1 ;;
  *) echo "usage: tests/run.sh [--system]" >&2; exit 2 ;;
esac

jobs=$(nproc)
step() { printf '\n== %s (after %d s)\n' "$1" "$SECONDS"; }

# build PRESET FOLDER [TARGET...]: everything, tests included, unless targets are named.
build() {
  local output
  output=$(cmake --preset "$1" -DNSIC_BUILD_TESTS=ON 2>&1) || { echo "$output"; return 1; }
  ninja -C "$2" -j "$jobs" --quiet "${@:3}"
}

# sanitized FOLDER [CTEST-ARGUMENT...]. LibTorch, gRPC, libvips and GLib are Debian's, without instrumentation: what happens inside them is
# not ours to judge.
sanitized() {
  ASAN_OPTIONS=detect_container_overflow=0 LSAN_OPTIONS="suppressions=$PWD/tests/lsan.supp:print_suppressions=0" \
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
    TSAN_OPTIONS="ignore_noninstrumented_modules=1:second_deadlock_stack=1:suppressions=$PWD/tests/tsan.supp:print_suppressions=0" \
    ctest --test-dir "$1" --output-on-failure -j 1 "${@:2}"
}

step "packages"
deploy/install-deps.sh

step "build (release)"
build release build

step "layers"
.ci/layers.sh

step "tests"
labels=(-LE system)
[[ $system -eq 0 ]] || labels=()
ctest --test-dir build --output-on-failure -j "$jobs" "${labels[@]}"

if [[ $system -eq 1 ]]; then
  step "nsic_infer alone"
  cmake -S . -B build-infer -G Ninja -DCMAKE_BUILD_TYPE=Release -DNSIC_ONLY_INFER=ON >/dev/null
  ninja -C build-infer -j "$jobs" --quiet

  step "build (asan)"
  build asan build-asan
  step "tests (asan)"
  sanitized build-asan -E '^e2e_'

  # Those of our own threads and of gRPC's. It sees no lock of LibTorch, OpenMP, GLib and FFmpeg, and would tell of races that are none.
  threaded=(base_test blob_store_test blob_transfer_test channel_test client_inputs_test client_job_test client_options_test
    coordinator_bench_test coordinator_db_test coordinator_judging_test coordinator_logic_test coordinator_process_test
    coordinator_service_test coordinator_video_test program_test remember_precision_test report_test restore_frames_test
    worker_parts_test)
  step "build (tsan)"
  build tsan build-tsan nsic-coordinator "${threaded[@]}"
  step "tests (tsan)"
  sanitized build-tsan -R "^($(IFS='|'; echo "${threaded[*]}"))$"
fi

step "passed"
