#!/usr/bin/env bash
# Enforces the layers of the house (CONTRIBUTING.md): what each folder may include, and what each program may link.
#   .ci/layers.sh [SOURCES [BIN]]    SOURCES: the repository (default: this one); BIN: its built programs (default: SOURCES/build/bin)
# Prints each breach as file:line: message and exits 1 if there is any. Programs that are not built are an error: a check that looked at
# nothing must not pass.
set -euo pipefail

root=$(cd "${1:-$(dirname "$0")/..}" && pwd)
bin=${2:-$root/build/bin}
cd "$root"

# The first row whose pattern matches a file decides. Then: the project's folders, and the libraries, that it may include.
# Rows are anchored at the start; '-' means none. Standard and POSIX headers are free.
rules='
core/base/(log|program)\.   core/base/                                                              spdlog/|CLI/|toml\+\+/
core/base/                  core/base/                                                              openssl/
core/farm/tile_grid         core/base/|core/farm/tile_grid                                          -
core/farm/                  core/(base|farm)/                                                       nlohmann/
core/rpc/                   core/(base|farm|rpc)/|core/media/video\.h|nsic/v1/                      grpc/|grpcpp/|google/protobuf/|spdlog/
core/media/                 core/(base|media)/|core/farm/tile_grid                                  vips/|glib|libav|libsw|zimg|opencv2/|lcms2
core/infer/                 core/(base|infer)/|core/farm/tile_grid|models/(arch|io)/                torch/|ATen/|c10/|nlohmann/|hwy/|omp
core/quality/               core/(base|media|quality)/                                              opencv2/|vips/
core/report/                core/(base|report)/                                                     nlohmann/
models/arch/                core/base/|core/farm/tile_grid|models/(arch|io)/                        torch/|ATen/|c10/|hwy/|omp
models/io/                  core/base/|core/farm/tile_grid|models/io/                               nlohmann/|zlib
models/train/               core/(base|infer|media|quality)/|core/farm/tile_grid|models/            torch/|ATen/|c10/|nlohmann/|CLI/|toml\+\+/|vips/|opencv2/|spdlog/
coordinator/db/             core/(base|farm)/|coordinator/db/                                       SQLiteCpp/|sqlite3|spdlog/|nlohmann/
coordinator/                core/(base|farm|rpc)/|models/io/|coordinator/|nsic/v1/                  grpc/|grpcpp/|google/protobuf/|openssl/|prometheus/|spdlog/|CLI/|nlohmann/
worker/                     core/|models/|worker/|nsic/v1/                                          torch/|ATen/|c10/|hwy/|grpc/|grpcpp/|google/protobuf/|prometheus/|httplib|spdlog/|CLI/|nlohmann/
client/                     core/(base|farm|rpc|media|quality|report)/|models/io/|client/|nsic/v1/  grpc/|grpcpp/|google/protobuf/|spdlog/|CLI/|nlohmann/
'

# Every #include of the house as "file line name".
includes() {
  grep -rnE --include='*.h' --include='*.cc' '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]' core models coordinator worker client |
    sed -E 's/^([^:]+):([0-9]+):[^<"]*[<"]([^>"]+)[>"].*/\1 \2 \3/'
}

check_includes() {
  includes | awk -v rules="$rules" '
    function breach(message) { print file ":" line ": " message; breaches++ }
    function is_system(name) {
      return name !~ /[.\/]/ || name ~ /^(sys|linux|netinet|arpa|net|asm)\// ||
             name ~ /^(dirent|dlfcn|endian|errno|fcntl|fnmatch|immintrin|limits|malloc|netdb|poll|pthread|pwd|sched|signal|spawn|stdlib|string|termios|time|unistd|cpuid)\.h$/
    }
    # Does `file` reach an include that matches `pattern`, through headers of the house?
    function reaches(from, pattern,    i, seen_key, name) {
      if ((from, pattern) in memo) return memo[from, pattern]
      memo[from, pattern] = 0
      for (i = 1; i <= count[from]; i++) {
        name = included[from, i]
        if (name ~ pattern || ((name in count) && reaches(name, pattern))) return memo[from, pattern] = 1
      }
      return 0
    }
    BEGIN {
      n = split(rules, rows, "\n")
      for (i = 1; i <= n; i++) {
        if (split(rows[i], cell, " ") != 3) continue
        r++; where[r] = "^(" cell[1] ")"; ours[r] = "^(" cell[2] ")"; theirs[r] = "^(" cell[3] ")"
      }
    }
    {
      file = $1; line = $2; name = $3
      included[file, ++count[file]] = name
      if (is_system(name)) next
      for (i = 1; i <= r && file !~ where[i]; i++) continue
      if (i > r) { breach("no rule covers this folder: add one to .ci/layers.sh"); next }
      if (name !~ ours[i] && name !~ theirs[i]) breach("may not include " name)
    }
    END {
      torch = "^(torch|ATen|c10)/"; wire = "^(grpc|grpcpp|google/protobuf|nsic/v1)/"
      for (file in count) {
        line = 1
        if (reaches(file, torch) && reaches(file, wire)) breach("sees both Torch and protobuf: put one behind a header without it")
        if (file ~ /^worker\/.*\.h$/ && reaches(file, torch)) breach("shows Torch to those who include it")
      }
      exit breaches > 0
    }'
}

# program, libraries that must not be loaded with it, directly or through others
links='
nsic-client       libtorch|libc10|libsqlite3
nsic-coordinator  libtorch|libc10|libavcodec|libavformat|libvips|libopencv
nsic-worker       libsqlite3
'

check_links() {
  local program forbidden found failed=0
  while read -r program forbidden; do
    [[ -n $program ]] || continue
    if [[ ! -x $bin/$program ]]; then
      echo "$bin/$program: not built"
      failed=1
      continue
    fi
    # What the program asks for itself (the libraries of Debian may load what they like: libvips loads libsqlite3 through its readers),
    # except for Torch and the media libraries, which must not be loaded at all.
    found=$(readelf -d "$bin/$program" | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' | grep -E "^($forbidden)" || true)
    found+=" $(ldd "$bin/$program" | awk '{print $1}' | grep -E "^($forbidden)" | grep -v '^libsqlite3' || true)"
    found=$(tr ' ' '\n' <<<"$found" | sort -u | xargs)
    if [[ -n $found ]]; then
      echo "$bin/$program: links $found"
      failed=1
    fi
  done <<<"$links"
  return $failed
}

failed=0
check_includes || failed=1
check_links || failed=1
[[ $failed -eq 0 ]] && echo "layers: in order"
exit $failed
