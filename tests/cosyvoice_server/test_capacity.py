"""More who want to speak than can, and listeners who do not listen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest
from cosyvoice_server.serving import CHINESE, ENGLISH, SLOTS, UNPACED, ModelServer, memory_kb, same
from slow_clients.test_slow_readers import DeafClient

from cosyduplex.messages import (
    ContextCancel,
    ContextCancelled,
    ContextDone,
    Error,
    FlowOptions,
    SessionStart,
    TextAppend,
    TextEnd,
)

PACED = SessionStart(flow=FlowOptions(max_ahead_ms=200), speech=UNPACED.speech)
LONG = f"{ENGLISH} {CHINESE} " * 10


async def test_who_finds_every_slot_taken_is_told_when_to_come_back(server, listen):
    client = await listen(PACED)
    for number in range(SLOTS):
        await client.send(TextAppend(context_id=f"{number}", text=LONG))
        await client.until_audio(f"{number}")
    with urlopen(f"{server.url}/readyz") as answer:
        assert answer.headers["x-cosyduplex-full"] == "1"
    assert server.metrics()["cosyduplex_full"] == 1
    assert server.slots() == (0, SLOTS)
    other = await listen()
    await other.send(TextAppend(text="One too many."), TextEnd())
    error = await other.until(Error)
    assert (error.code, error.ends, error.retryable) == ("over_capacity", "context", True)
    assert error.retry_after_ms
    await client.send(ContextCancel(context_id="0"))
    await client.until(ContextCancelled)
    await other.say("Now there is room.", "again")
    await client.send(ContextCancel())
    for _ in range(SLOTS - 1):
        await client.until(ContextCancelled)


async def test_a_socket_that_is_torn_frees_its_slots(server, listen):
    for _ in range(3):
        client = await listen(PACED)
        for number in range(SLOTS):
            await client.send(TextAppend(context_id=f"{number}", text=LONG))
            await client.until_audio(f"{number}")
        client.socket.transport.abort()
        async with asyncio.timeout(10):
            while server.slots() != (SLOTS, 0):
                await asyncio.sleep(0.02)


def cpu_ticks(pid: int) -> int:
    """Hundredths of a second that a process has worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def rests(server: ModelServer) -> None:
    """Waits until the worker has nothing it may do."""
    async with asyncio.timeout(30):
        while True:
            before = cpu_ticks(server.worker())
            await asyncio.sleep(0.5)
            if cpu_ticks(server.worker()) - before <= 2:
                return


@pytest.fixture
def connect_deaf(server: ModelServer) -> Iterator[Callable[[], DeafClient]]:
    """Connects clients that read nothing; they hang up with the test."""
    with ExitStack() as stack:

        def connect() -> DeafClient:
            client = DeafClient(server.port)
            stack.callback(client.close)
            return client

        yield connect


async def test_for_who_does_not_read_no_more_is_made_than_was_granted(server, listen, connect_deaf):
    alone = await listen()
    await alone.say(ENGLISH)
    sent_s = server.metrics()["cosyduplex_audio_seconds_total"]
    deaf = [connect_deaf() for _ in range(SLOTS - 1)]
    for each in deaf:
        each.send(type="session.start", flow={"max_ahead_ms": 0})
        each.send(type="text.append", text=LONG * 5)
    # There are minutes to speak, and the models come to rest after seconds.
    await rests(server)
    assert server.slots() == (1, SLOTS - 1)
    assert server.metrics()["cosyduplex_audio_seconds_total"] - sent_s < len(deaf) * 30
    client = await listen()
    await client.say(ENGLISH, "first")
    before_kb = memory_kb(server.worker())
    for context_id in ("second", "third"):
        await client.say(ENGLISH, context_id)
        assert same(client.samples(context_id), alone.samples())
    assert memory_kb(server.worker()) - before_kb < 5000
    for each in deaf:
        each.close()
    async with asyncio.timeout(10):
        while server.slots() != (SLOTS, 0):
            await asyncio.sleep(0.05)


async def test_a_slow_listener_hears_everything(listen):
    client = await listen(PACED)
    await client.send(TextAppend(text=ENGLISH), TextEnd())
    while not client.messages(ContextDone):
        await client.receive()
        await asyncio.sleep(0.005)
    fast = await listen()
    await fast.say(ENGLISH)
    assert same(client.samples(), fast.samples())
