"""One server on a tiny checkpoint, shared by the tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from cosyvoice.tiny_checkpoint import write_tiny_checkpoint
from cosyvoice_server.serving import SLOTS, UNPACED, Listener, ModelServer

from cosyduplex.messages import SessionStart

Listen = Callable[..., Awaitable[Listener]]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint, not to be changed."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """Speaks with the checkpoint, never because a writer pauses; it has `SLOTS` slots."""
    voices = tmp_path_factory.mktemp("voices")
    server = ModelServer(
        checkpoint, "--slots", str(SLOTS), "--text-idle-ms", "0", "--voices-dir", str(voices)
    )
    yield server
    free, busy = server.slots()
    log = server.log()
    server.close()
    assert (free, busy) == (SLOTS, 0)
    assert "Traceback" not in log, log


@pytest.fixture
async def listen(server: ModelServer) -> AsyncIterator[Listen]:
    """Opens sessions, by default with the shared server and as fast as it speaks; they end with the test."""
    async with AsyncExitStack() as stack:

        async def start(start: SessionStart = UNPACED, *, at: ModelServer | None = None) -> Listener:
            return await stack.enter_async_context(await Listener.open((at or server).ws_url, start))

        yield start
