#!/usr/bin/env bash
# Loads native folders in another version of transformers than that of the other
# tests. Usage: scripts/interop.sh [VERSION]
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:-5.24.0}
scripts/venv.sh
venv=build/venv_transformers_$version
if [[ ! -x $venv/bin/python ]]; then
  python3 -m venv "$venv"
fi
# Everything else is that of build/venv, whose torch is large.
packages=$(build/venv/bin/python -c 'import site; print(site.getsitepackages()[0])')
echo "$packages" >"$("$venv/bin/python" -c \
  'import site; print(site.getsitepackages()[0])')/others.pth"
"$venv/bin/pip" install --quiet --disable-pip-version-check \
  "transformers==$version"
"$venv/bin/python" -m pytest -q tests/python/test_modeling_file.py \
  tests/python/test_transformers_5.py
