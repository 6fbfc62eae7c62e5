#!/usr/bin/env bash
# Format check and clang-tidy. Names of files limit clang-tidy to them.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/format.sh --check
if ! command -v clang-tidy-14 >/dev/null; then
  echo "lint: no clang-tidy-14 here (Debian 12 has it); only the format was checked"
  exit
fi
# Each file by itself, without precompiled headers: what doesn't include what it uses
# is an error.
cmake --preset lint >/dev/null
files=("$@")
if [[ ${#files[@]} -eq 0 ]]; then
  # What includes PyTorch's headers takes minutes each, nearly all of it for those.
  mapfile -t files < <(find src bench fuzz -name '*.cc' -not -path 'src/fit/torch/*' | sort)
fi
# Not run-clang-tidy, which sees only what the preset builds: for the
# fuzz targets clang-tidy takes the flags of the nearest file. Headers are
# checked with the files that include them. --quiet still counts on stderr the
# warnings that it hides; the pipe takes those lines out.
# Numbers that tests write down are small: there they may be of any type.
tidy() {
  local checks=$1
  shift
  [[ $# -eq 0 ]] || printf '%s\0' "$@" |
    xargs -0 -n 1 -P "$(nproc)" clang-tidy-14 -p build/lint --quiet --checks="$checks" \
      --extra-arg=-Wno-unknown-warning-option \
      2> >(grep -vE '^[0-9]+ warnings?( and [0-9]+ errors?)? generated' >&2)
}
tests=() others=()
for file in "${files[@]}"; do
  if [[ $file == *_test.cc ]]; then tests+=("$file"); else others+=("$file"); fi
done
result=0
tidy "" "${others[@]}" || result=$?
tidy "-bugprone-implicit-widening-of-multiplication-result,-bugprone-narrowing-conversions" \
  "${tests[@]}" || result=$?
[[ $result -eq 0 ]] || exit "$result"
echo "lint: ${#files[@]} files are clean"
