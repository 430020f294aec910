"""The worker dies in the middle of a sentence: what it spoke ends, the session lives, and it comes back."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from cosyvoice_server.serving import ENGLISH, SFT, SLOTS, same

from cosyduplex.messages import (
    ContextOpen,
    Error,
    Ping,
    Pong,
    SpeechOptions,
    TextAppend,
)

# Starting PyTorch takes seconds, on a busy machine many.
pytestmark = pytest.mark.timeout(180)

LONG = f"{ENGLISH} " * 10


async def test_open_contexts_fail_and_the_same_session_speaks_again(server, listen):
    client = await listen()
    await client.say(ENGLISH, "before")
    restarts = server.metrics()["cosyduplex_engine_restarts_total"]
    for context_id in ("speaks", "waits for text"):
        await client.send(TextAppend(context_id=context_id, text=LONG))
        await client.until_audio(context_id)
    killed = server.worker()
    os.kill(killed, signal.SIGKILL)
    errors = [await client.until(Error) for _ in range(2)]
    assert {error.context_id for error in errors} == {"speaks", "waits for text"}
    for error in errors:
        assert (error.code, error.ends, error.retryable) == ("engine_failed", "context", True)
        heard = client.audio(error.context_id)
        assert len(heard) % 2 == 0
        assert len(heard) > 0
    await client.send(Ping(t=1))
    assert (await client.until(Pong)).t == 1
    # Until another is ready, a context is refused and told that it may try again.
    await client.send(ContextOpen(context_id="at once"), TextAppend(context_id="at once", text="Hello. "))
    refused = await client.until(Error)
    assert refused.code in ("engine_unavailable", "over_capacity")
    assert refused.retryable
    async with asyncio.timeout(40):
        while server.slots() != (SLOTS, 0):
            await asyncio.sleep(0.1)
    assert server.worker() != killed
    assert server.metrics()["cosyduplex_engine_restarts_total"] == restarts + 1
    for context_id in ("speaks", "after"):
        await client.say(ENGLISH, context_id, speech=SpeechOptions(seed=5))
        heard = client.samples(context_id)[-len(client.samples("before")) :]
        assert same(heard, client.samples("before"))
    await client.say(ENGLISH, "other voice", voice=SFT)
