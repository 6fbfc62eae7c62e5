#!/usr/bin/env bash
# Runs every benchmark; arguments (--benchmark_filter=...) go to each.
set -euo pipefail
cd "$(dirname "$0")/.."

for program in build/release/bench/*_bench; do
  "$program" "$@"
done
