#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS (60), from the committed seeds in
# fuzz/corpus/NAME, on a growing corpus in build/fuzz/corpus/NAME, with the words
# of fuzz/NAME.dict where there is one.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake --preset fuzz
cmake --build --preset fuzz -j"$(nproc)" --target fuzz_targets
for source in fuzz/*_fuzz.cc; do
  name=$(basename "$source" _fuzz.cc)
  grown=build/fuzz/corpus/$name
  mkdir -p "$grown"
  corpora=("$grown")
  [[ -d fuzz/corpus/$name ]] && corpora+=("fuzz/corpus/$name")
  dict=()
  [[ -f fuzz/$name.dict ]] && dict=("-dict=fuzz/$name.dict")
  echo "fuzz: $name"
  "build/fuzz/${source%.cc}" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 \
    -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/$name-" "${dict[@]}" "${corpora[@]}"
done
