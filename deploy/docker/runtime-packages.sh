#!/usr/bin/env bash
# Prints the Debian packages that hold the shared libraries of a built program, one a line: what its image must install.
#   deploy/docker/runtime-packages.sh PROGRAM
set -euo pipefail

libraries=$(ldd "$1" | awk '$2 == "=>" {print $3}')
[[ "$libraries" != *not* ]] || { echo "runtime-packages: $1 lacks libraries here" >&2; exit 1; }
for library in $libraries; do
  # With merged /usr, a package may know a library as /lib/... or as /usr/lib/...
  real=$(realpath "$library")
  owner=$(dpkg -S "$real" 2>/dev/null || dpkg -S "${real#/usr}" 2>/dev/null || true)
  [[ -n $owner ]] || { echo "runtime-packages: no package holds $library" >&2; exit 1; }
  head -n 1 <<<"$owner" | cut -d: -f1
done | sort -u
