#!/usr/bin/env bash
# Every test there is. A failed step does not stop the next ones, so that one
# run tells all; the last line counts the steps.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."

jobs=$(nproc)
export MOBE=$PWD/build/release/mobe
passed=0
failures=()

step() {
  echo "== $*"
  if "$@"; then
    passed=$((passed + 1))
  else
    failures+=("$*")
    echo "== FAILED: $*"
  fi
}

# A download, while the processors compile.
scripts/venv.sh &
venv=$!

# Without these there is nothing to test.
cmake --preset release
cmake --build --preset release -j"$jobs" --target mobe unit_tests
cmake --preset asan
cmake --build --preset asan -j"$jobs"

step scripts/format.sh --check
for preset in release asan; do
  step ctest --test-dir "build/$preset" --output-on-failure --no-tests=error \
    -j"$jobs"
done
for test in tests/*_test.sh; do
  step bash "$test"
done
for test in tests/*_test.py; do
  step python3 "$test"
done
step tests/faults/faults.py --sample --seed 1
step wait "$venv"
step build/venv/bin/pytest -q -n "$jobs" tests/python

for failure in "${failures[@]}"; do echo "FAILED: $failure"; done
echo "steps: $passed passed, ${#failures[@]} failed"
[[ ${#failures[@]} -eq 0 ]]
