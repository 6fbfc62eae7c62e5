#!/usr/bin/env bash
# Makes build/venv with what tests/python needs, once for each version of
# requirements.txt and of Python.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=tests/python/requirements.txt
want=$( (python3 --version && cat "$requirements") | sha256sum)
[[ -f build/venv/stamp && $(<build/venv/stamp) == "$want" ]] && exit 0
rm -rf build/venv
python3 -m venv build/venv
build/venv/bin/pip install --quiet --disable-pip-version-check \
  -r "$requirements"
echo "$want" >build/venv/stamp
