"""`cosyduplex worker --engine cosyvoice`, and a server whose engine it is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ServerProcess
from cosyvoice_server.serving import ENGLISH, ENVIRONMENT, UNPACED, Listener, options, same

from cosyduplex.messages import ContextDone, Error, TextAppend, TextEnd

# Starting PyTorch takes seconds, on a busy machine many.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def worker(checkpoint: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A worker on a port of its own, and its address."""
    command = [sys.executable, "-m", "cosyduplex_server", "worker", *options(checkpoint)]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0", "--threads", "1", "--slots", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **ENVIRONMENT},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        ready = json.loads(line)
        assert (ready["ready"], ready["engine"]) == (True, "cosyvoice2")
        yield process, ready["address"]
        process.kill()
        process.communicate()


async def test_a_server_speaks_with_it_until_it_ends(start_server, worker, listen):
    process, address = worker
    remote: ServerProcess = start_server("--workers", address)
    assert remote.ready["engine"].startswith("cosyvoice2 ")
    assert remote.ready["reason"] == "workers were named"
    here = await listen()
    await here.say(ENGLISH)
    async with await Listener.open(remote.ws_url, UNPACED) as client:
        # The same checkpoint says the same with the same seed, wherever it runs.
        await client.say(ENGLISH, "whole")
        assert same(client.samples("whole"), here.samples())
        # SIGTERM: what is being spoken is spoken to its end, and the worker goes.
        await client.send(TextAppend(context_id="last", text=f"{ENGLISH} " * 5), TextEnd(context_id="last"))
        await client.until_audio("last")
        process.send_signal(signal.SIGTERM)
        await client.until(ContextDone, context_id="last")
        assert await asyncio.to_thread(process.wait, 20) == 0
        await client.send(TextAppend(context_id="late", text="Hello."), TextEnd(context_id="late"))
        error = await client.until(Error)
        assert (error.code, error.retryable) == ("engine_unavailable", True)
    assert "Traceback" not in remote.log()
