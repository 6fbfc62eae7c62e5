#!/usr/bin/env bash
# Runs every benchmark; arguments (--benchmark_filter=...) go to each.
set -euo pipefail
cd "$(dirname "$0")/.."

for source in bench/*_bench.cc; do
  "build/release/${source%.cc}" "$@"
done
