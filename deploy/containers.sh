#!/usr/bin/env bash
# Build the image with docker and prove it: by itself, then in a stack with volumes of its own, which go with it.
set -euo pipefail
cd "$(dirname "$0")/.."
export PORT=${PORT:-8000}
compose="docker compose --project-name que2search-check"

SECONDS=0
$compose build
echo "built in $SECONDS s"

alone=$(docker run --detach --read-only --publish "127.0.0.1:$PORT:8000" que2search:local)
trap 'docker rm --force "$alone" >/dev/null; $compose down --volumes --timeout 40' EXIT
curl --fail --silent --show-error --retry 60 --retry-delay 1 --retry-all-errors "http://127.0.0.1:$PORT/search?q=red+dress" >/dev/null
echo "a bare docker run, on a read-only root, answers /search"
docker stop --time 40 "$alone" >/dev/null
code=$(docker inspect --format '{{.State.ExitCode}}' "$alone")
echo "exit code after SIGTERM: $code"
[ "$code" = 0 ]

$compose up --detach --wait --wait-timeout 120
"${PYTHON:-python3}" deploy/check_stack.py
