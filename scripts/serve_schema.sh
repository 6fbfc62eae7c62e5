#!/usr/bin/env bash
# Requests that schemathesis makes of the server's own OpenAPI file, right and
# wrong ones, against a sanitized server: none may be answered with a 5xx, end it
# or take longer than 30 s.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=build/schemathesis
if [[ ! -x $venv/bin/schemathesis ]]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5
fi
log=build/serve_schema.log
: >"$log"
build/release/mobe_asan serve tests/data/models/qwen3_moe --port 0 2>"$log" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
# It says on stderr where, and answers 503 while it loads.
until address=$(grep -om1 'http://[^ ]*' "$log") &&
  curl --silent --fail "$address/health" >/dev/null; do
  kill -0 "$server" || { cat "$log"; exit 1; }
  sleep 0.2
done
"$venv/bin/schemathesis" run "$address/openapi.json" --workers 2 \
  --checks not_a_server_error --request-timeout 30 --max-examples "${1:-200}" \
  --seed "${2:-1}" --no-color
# It drains and ends as it is told to; sanitizers have nothing to say.
kill "$server"
trap - EXIT
wait "$server" || { cat "$log"; exit 1; }
