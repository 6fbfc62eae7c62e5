#!/usr/bin/env bash
# Decoding and prompts of mobe beside those of llama.cpp, on random layers of the
# width of Qwen3-30B. Arguments (--form, --rounds, ...) go to bench/vs_llama.py.
#
# Builds llama.cpp (as llama-cpp-python) for this processor into build/llama, once:
# ten to thirty minutes with JOBS=2, the default. Takes 16 GB of disk there.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=build/llama
version=0.3.36
if [[ ! -f $folder/stamp || $(<"$folder/stamp") != "$version" ]]; then
  python3 -m venv "$folder/venv"
  CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-2} \
    CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" \
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    --no-binary llama-cpp-python "llama-cpp-python==$version" gguf==0.19.0
  echo "$version" >"$folder/stamp"
fi
if [[ ! -f $folder/original/config.json ]]; then
  scripts/venv.sh
  rm -rf "$folder/original"
  build/venv/bin/python scripts/make_checkpoint.py Qwen3-30B-A3B \
    "$folder/original" --layers 3
fi
exec "$folder/venv/bin/python" bench/vs_llama.py "$@"
