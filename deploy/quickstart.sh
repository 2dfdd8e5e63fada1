#!/usr/bin/env bash
# From a clone to restored pictures on Debian 12: installs what is missing (root or sudo), builds, restores FOLDER, or the sample
# pictures without one. Safe to run again: it then does only what is missing.
#   deploy/quickstart.sh [FOLDER]
set -euo pipefail
start=$PWD
cd "$(dirname "$0")/.."
exec </dev/null

[[ $# -le 1 && "${1:-}" != -* ]] || { echo "usage: deploy/quickstart.sh [FOLDER]" >&2; exit 2; }
if [[ $# -eq 1 ]]; then
  pictures=$(cd "$start" && realpath -e -- "$1") || { echo "quickstart: there is no folder $1" >&2; exit 2; }
else
  # A copy, so that nothing is written into the clone.
  pictures=$start/nsic-samples
  mkdir -p "$pictures"
  cp -r tests/data/samples/. "$pictures"
fi

echo "== packages"
deploy/install-deps.sh --runtime

echo "== build (about 10 minutes on 2 cores the first time)"
# The tests need packages that a user does without; a build folder that has them keeps them.
options=()
[[ -f build/CMakeCache.txt ]] || options=(-DNSIC_BUILD_TESTS=OFF)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset release "${options[@]}" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
ninja -C build

echo "== restore $pictures"
status=0
build/bin/nsic-client submit --local -- "$pictures" || status=$?

cat <<END

Restored pictures: $pictures-enhanced
Report:            $pictures-enhanced/nsic-report/index.html

Your own pictures: build/bin/nsic-client submit FOLDER
END
exit $status
