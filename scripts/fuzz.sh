#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS (60), from the committed seeds in
# fuzz/corpus/NAME, on a growing corpus in build/fuzz/corpus/NAME.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake --preset fuzz
cmake --build --preset fuzz -j"$(nproc)" --target fuzz_targets
for program in build/fuzz/fuzz/*_fuzz; do
  name=$(basename "$program" _fuzz)
  grown=build/fuzz/corpus/$name
  mkdir -p "$grown"
  corpora=("$grown")
  [[ -d fuzz/corpus/$name ]] && corpora+=("fuzz/corpus/$name")
  echo "fuzz: $name"
  "$program" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 \
    -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/$name-" "${corpora[@]}"
done
