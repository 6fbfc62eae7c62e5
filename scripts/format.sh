#!/usr/bin/env bash
# Formats the C++ sources in place; with --check, fails on what it would change.
# The version is pinned: others format the same source differently.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1-}" in
  "") options=(-i) ;;
  --check) options=(--dry-run -Werror) ;;
  *) echo "usage: scripts/format.sh [--check]" >&2; exit 2 ;;
esac
find src bench fuzz \( -name '*.cc' -o -name '*.h' \) -print0 |
  xargs -0 clang-format-14 "${options[@]}"
