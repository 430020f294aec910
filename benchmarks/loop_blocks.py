"""How long the gateway's event loop is held by one callback, in CPU time of its thread.

CPU time, since on a shared machine the clock also counts the turns of other programs. Streams begin together
and are written to all along, long texts among them.

    .venv/bin/python benchmarks/loop_blocks.py --json benchmarks/results/loop_blocks.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from gateway import LOAD_CORE, SERVER_CORE, connect_all, pin, run

LIMIT_MS = 5.0
# Runs in the server's process: times every callback of the loop from SIGUSR1 to SIGUSR2, and tells when it ends.
TIMED = """
import asyncio.events as events, json, signal, sys, time
run = events.Handle._run
spent, slow, kept, kept_slow = [], [], [], []
def timed(handle):
    began = time.thread_time_ns()
    run(handle)
    took = time.thread_time_ns() - began
    spent.append(took)
    if took > 5_000_000:
        slow.append(f"{took / 1e6:.1f} ms {handle!r}"[:160])
events.Handle._run = timed
signal.signal(signal.SIGUSR1, lambda *_: (spent.clear(), slow.clear()))
signal.signal(signal.SIGUSR2, lambda *_: (kept.extend(spent), kept_slow.extend(slow)))
from cosyduplex_server.cli import main
code = main(sys.argv[2:])
spent, slow = sorted(kept), kept_slow
late = [ns / 1e6 for ns in spent if ns > 5_000_000]
result = {"callbacks": len(spent), "p99_ms": spent[int(len(spent) * .99)] / 1e6,
          "p99_99_ms": spent[int(len(spent) * .9999)] / 1e6, "max_ms": spent[-1] / 1e6, "over_5_ms": len(late), "slow": slow[:40]}
open(sys.argv[1], "w").write(json.dumps(result))
sys.exit(code)
"""


async def measure(codec: str, num: int, seconds: float) -> dict[str, Any]:
    """The callbacks of one campaign, from the first connection to the last."""
    with tempfile.TemporaryDirectory(prefix="cdx-") as folder:
        address, told = f"unix:{folder}/worker.sock", Path(folder, "blocks.json")
        script = json.dumps({"ms_per_char": 65, "chunk_ms": 1000, "slots": 4000})
        worker = [sys.executable, "-m", "cosyduplex_server.testing", "--listen", address, "--script", script]
        server = [sys.executable, "-c", TIMED, str(told), "serve", "--port", "0", "--log-format", "json"]
        server += ["--log-level", "error", "--workers", address, "--drain-timeout", "0"]
        with run(worker, LOAD_CORE), run(server, SERVER_CORE) as (process, ready):
            port = int(ready["urls"][0].rpartition(":")[2])
            process.send_signal(signal.SIGUSR1)
            audio = {"encoding": codec, "sample_rate": 24000}
            long_text = "A paragraph of some length, **with markup**, 你好，世界。 " * 1500
            listeners, _ = await connect_all(
                port, num, "/v1/duplex", [{"type": "session.start", "audio": audio}]
            )
            for turn in range(int(seconds * 10)):
                for listener in listeners[turn % 5 :: 5]:
                    listener.say({"type": "text.append", "text": "some words "})
                await asyncio.sleep(0.1)
            for listener in listeners[:5]:
                listener.say({"type": "text.append", "context_id": "long", "text": long_text})
            await asyncio.sleep(3)
            process.send_signal(signal.SIGUSR2)
            await asyncio.sleep(0.2)
            process.terminate()
            await asyncio.to_thread(process.wait)
            for listener in listeners:
                assert listener.transport is not None
                listener.transport.abort()
        return {"codec": codec, "streams": num, **json.loads(told.read_text())}


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pin(LOAD_CORE)
    rows = [await measure("pcm_s16le", 300, options.seconds), await measure("opus", 60, options.seconds)]
    for row in rows:
        print(row)
    result = {
        "command": shlex.join(["benchmarks/loop_blocks.py", *sys.argv[1:]]),
        "machine": {"python": platform.python_version()},
        "limit_ms": LIMIT_MS,
        "rows": rows,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
