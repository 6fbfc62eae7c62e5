#!/usr/bin/env bash
# The whole way on the bundled model: compress, verify, measure, generate.
# Ends with one table of what was lost and what was won.
set -euo pipefail
cd "$(dirname "$0")/.."

mobe=build/release/mobe
model=models/english-qwen3-moe
text=models/mini-qwen3-moe/sample.txt
out=build/demo
prompt="It was a dark night, and"
rm -rf "$out"
mkdir -p "$out"

say() { printf '\n== %s\n' "$*"; }

say "mobe compress $model $out/mobe --ratio 0.75"
"$mobe" compress "$model" "$out/mobe" --ratio 0.75 --budget 300 --json \
  >"$out/compress.json"

say "mobe verify $out/mobe --against $model"
"$mobe" verify "$out/mobe" --against "$model"

say "mobe compare $model $out/mobe $text"
"$mobe" compare "$model" "$out/mobe" "$text"
"$mobe" compare "$model" "$out/mobe" "$text" --json --quiet >"$out/compare.json"

for name in original mobe; do
  folder=$model
  [[ $name == mobe ]] && folder=$out/mobe
  say "mobe generate $folder --prompt \"$prompt\""
  printf '%s' "$prompt"
  "$mobe" generate "$folder" --prompt "$prompt" --max-tokens 60 \
    --temperature 0.7 --top-p 0.9 --repetition-penalty 1.1 --seed 3 --quiet
  "$mobe" generate "$folder" --prompt "$prompt" --max-tokens 200 --quiet \
    --json >"$out/generate-$name.json"
  "$mobe" inspect "$folder" --json >"$out/inspect-$name.json"
done

# field FILE EXPRESSION: a number of one of the JSON files.
field() { jq -r "$2" "$out/$1.json"; }
row() { printf '%-34s %14s %14s\n' "$@"; }
speed=".tokens / .decode_seconds"

say "summary"
row "" original compressed
row "bytes of weights" "$(field inspect-original .bytes)" \
  "$(field inspect-mobe .bytes)"
row "expert weights kept" "100%" \
  "$(printf '%.1f%%' "$(field compress '100 * .ratio_experts')")"
row "whole model kept" "100%" \
  "$(printf '%.1f%%' "$(field compress '100 * .ratio_model')")"
row "error of W (mean scaled MSE)" 0 \
  "$(printf '%.5f' "$(field compress .mse_scaled_mean)")"
row "KL divergence, nats a token" 0 \
  "$(printf '%.5f' "$(field compare .kld_mean)")"
row "same top token" "100%" \
  "$(printf '%.1f%%' "$(field compare '100 * .top1_agreement')")"
row "perplexity" "$(printf '%.3f' "$(field compare .ppl_base)")" \
  "$(printf '%.3f' "$(field compare .ppl_other)")"
row "decoding, tokens a second" \
  "$(printf '%.0f' "$(field generate-original "$speed")")" \
  "$(printf '%.0f' "$(field generate-mobe "$speed")")"
row "time of the fit, seconds" "" \
  "$(printf '%.0f' "$(field compress .seconds)")"
