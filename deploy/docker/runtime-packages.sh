#!/usr/bin/env bash
# Prints the Debian packages that hold the shared libraries of a built program, one a line: what its image must install.
#   deploy/docker/runtime-packages.sh PROGRAM
set -euo pipefail

libraries=$(ldd "$1" | sed -nE 's/.* => (.*) \(0x[0-9a-f]+\)$/\1/p; s/.* => not found$/&/p')
[[ "$libraries" != *"not found"* ]] || { echo "runtime-packages: $1 lacks libraries here" >&2; exit 1; }
mapfile -t real < <(xargs -n 1 realpath <<<"$libraries" | sort -u)
# With merged /usr, a package may know a library as /lib/... or as /usr/lib/...: ask for both, one of them is unknown.
owners=$(dpkg -S "${real[@]}" "${real[@]#/usr}" 2>/dev/null || true)
for library in "${real[@]}"; do
  [[ "$owners" == *": $library"* || "$owners" == *": ${library#/usr}"* ]] ||
    { echo "runtime-packages: no package holds $library" >&2; exit 1; }
done
cut -d: -f1 <<<"$owners" | sort -u
