#!/usr/bin/env bash
# The fast solver against the published algorithm; arguments (--passes 400,
# --json) go to bench/fit_vs_reference.py.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/venv.sh
exec build/venv/bin/python bench/fit_vs_reference.py "$@"
