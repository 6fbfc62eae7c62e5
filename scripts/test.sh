#!/usr/bin/env bash
# Every test there is. A failed step does not stop the next ones, so that one
# run tells all; the last lines tell how long each step took, and count them.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."

jobs=$(nproc)
export MOBE=$PWD/build/release/mobe
mkdir -p build
results=$PWD/build/steps  # a line for each step: passed or FAILED, seconds, name
: >"$results"

step() {
  local begin=$SECONDS result=passed
  echo "== $*"
  "$@" || result=FAILED
  echo "== $*: $((SECONDS - begin)) s, $result"
  printf '%s %4d s  %s\n' "$result" $((SECONDS - begin)) "$*" >>"$results"
  [[ $result == passed ]]
}

# What runs the program by one process at a time, and sleeps much.
one_at_a_time() {
  step scripts/format.sh --check || true
  for test in tests/*_test.sh; do step bash "$test" || true; done
  for test in tests/*_test.py; do step python3 "$test" || true; done
  step tests/faults/faults.py --sample --seed 1 || true
  step tests/serve_load.py || true
  step tests/serve_fuzz.py || true
}

# A download, while the processors compile.
scripts/venv.sh &
venv=$!

# Without the program there is nothing to test.
cmake --preset release -DMOBE_ASAN_TESTS=ON
step cmake --build --preset release -j"$jobs" --target mobe manual unit_tests || exit 1
# The module for GPUs is built with the PyTorch of the other tests.
step wait "$venv" || true
cmake --preset release -DMOBE_TORCH=ON
step cmake --build --preset release -j"$jobs" --target mobe_torch || true
# Nothing else of these runs the benchmarks, of which one had long ceased to compile.
step cmake --build --preset release -j"$jobs" --target kernels_bench fit_width || true
unit_tests() {
  step ctest --test-dir build/release --output-on-failure --no-tests=error \
    -j"$jobs" -R "^$1_[0-9]" || true
}

# Beside it the other tests and the compilers have the processors that it leaves idle. A
# process group of its own: whoever interrupts this ends all of it.
set -m
one_at_a_time >build/one_at_a_time.log 2>&1 </dev/null &
others=$!
set +m
trap 'kill -- "-$others" 2>/dev/null || true' EXIT
unit_tests unit_tests
step cmake --build --preset release -j"$jobs" --target unit_tests_asan || true
unit_tests unit_tests_asan
wait "$others"
trap - EXIT
cat build/one_at_a_time.log

# By worksteal each process begins with files of its own, and so makes what the
# tests of a file share once.
step build/venv/bin/pytest -q -n "$jobs" --dist worksteal tests/python || true

sed -n 's/^passed/      /p; s/^FAILED/FAILED/p' "$results"
sed -n 's/^FAILED.* s  /FAILED: /p' "$results"
failed=$(grep -c ^FAILED "$results" || true)
echo "steps: $(grep -c ^passed "$results" || true) passed, $failed failed"
[[ $failed -eq 0 ]]
