#!/usr/bin/env bash
# Prints the Debian packages that hold the shared libraries of a built program, one a line: what its image must install.
#   deploy/docker/runtime-packages.sh PROGRAM
set -euo pipefail

libraries=$(ldd "$1" | awk '$2 == "=>" {print $3}')
[[ "$libraries" != *not* ]] || { echo "runtime-packages: $1 lacks libraries here" >&2; exit 1; }
for library in $libraries; do
  # By file name: with merged /usr, ldd's folder is not always the package's.
  owner=$(dpkg -S "*/$(basename "$(realpath "$library")")" | head -n 1 | cut -d: -f1)
  [[ -n $owner ]] || { echo "runtime-packages: no package holds $library" >&2; exit 1; }
  echo "$owner"
done | sort -u
