#!/usr/bin/env bash
# Listeners at 20 tokens a second on the scripted engine: the server and its worker on core 0, the load
# generator on core 1, one campaign for each number of sessions given.
#
#     benchmarks/load.sh 100 300 500
#
# Writes benchmarks/results/load-N.json.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
folder=$(mktemp -d /tmp/cdx-XXXXXX)
pids=()
cleanup() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait || true
	rm -rf "$folder"
}
trap cleanup EXIT
taskset -c 0 "$bin/python" -m cosyduplex_server.testing --listen "unix:$folder/worker.sock" \
	--script '{"slots": 4000, "chunk_ms": 1000, "ms_per_char": 65, "first_audio_ms": 50}' >"$folder/worker" 2>&1 &
pids+=($!)
taskset -c 0 "$bin/cosyduplex" serve --port 18765 --max-sessions 5000 --log-level warning \
	--workers "unix:$folder/worker.sock" >"$folder/server" 2>&1 &
pids+=($!)
until curl -sf http://127.0.0.1:18765/readyz >/dev/null; do sleep 0.1; done
mkdir -p benchmarks/results
for sessions in "$@"; do
	taskset -c 1 "$bin/cosyduplex" bench --url http://127.0.0.1:18765 --sessions "$sessions" \
		--tokens-per-second 20 --text-seconds 4-12 --language en --duration 20 \
		--json "benchmarks/results/load-$sessions.json" | tail -n 40
done
