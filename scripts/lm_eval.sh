#!/usr/bin/env bash
# scripts/compare_lm_eval.py, in an environment that has what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/venv.sh
venv=build/lm_venv
if [[ ! -f $venv/stamp ]]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  # torch and transformers, which are large, are those of the other one.
  ls -d "$PWD"/build/venv/lib/python3*/site-packages >"$(ls -d "$venv"/lib/python3*/site-packages)/shared.pth"
  "$venv/bin/pip" install --quiet --disable-pip-version-check \
    -r scripts/lm_eval_requirements.txt
  touch "$venv/stamp"
fi
"$venv/bin/python" scripts/compare_lm_eval.py "$@"
