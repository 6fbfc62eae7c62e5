#!/usr/bin/env bash
# Formats the C++ sources in place; with --check, fails on what it would change.
# The version is pinned: others format the same source differently. Where there is no
# package of it (Debian 13), it comes from PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1-}" in
  "") options=(-i) ;;
  --check) options=(--dry-run -Werror) ;;
  *) echo "usage: scripts/format.sh [--check]" >&2; exit 2 ;;
esac
format=clang-format-14
if ! command -v "$format" >/dev/null; then
  format=build/clang-format/bin/clang-format
  if [[ ! -x $format ]]; then
    python3 -m venv build/clang-format
    build/clang-format/bin/pip install --quiet --disable-pip-version-check \
      clang-format==14.0.6
  fi
fi
find src bench fuzz \( -name '*.cc' -o -name '*.h' \) -print0 |
  xargs -0 "$format" "${options[@]}"
