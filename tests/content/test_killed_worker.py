"""A voice process killed in the middle of a word: one context ends, all else is whole, and it comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from urllib.request import urlopen

import pytest
from spectral import compare

from cosyduplex.messages import ContextDone, ContextOpen, Error, TextAppend, TextEnd

NUM_WORKERS = 2
SLOTS_EACH = 64

TEXTS = {
    "english": "The quick brown fox jumps over the lazy dog near the river bank. It rained for seven days. "
    "Nobody was surprised, because the old sailor had said so.",
    "chinese": "今天天气很好，我们一起去公园散步。晚上回家以后，大家坐下来喝茶聊天。"
    "外面下起了大雪，谁也不愿意再出门。",
}


def workers(server) -> list[int]:
    """The process ids of the server's engine workers."""
    threads = Path(f"/proc/{server.process.pid}/task").iterdir()
    children = [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
    return [pid for pid in children if b"cosyduplex_espeak" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def metric(server, sample: str) -> float:
    with urlopen(f"{server.url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample + " "))


async def all_ready(server, restarts: int) -> None:
    """Waits until so many workers were started again and all can speak; the server is ready when one can."""
    while (
        metric(server, "cosyduplex_engine_restarts_total") < restarts
        or metric(server, 'cosyduplex_engine_slots{state="free"}') < NUM_WORKERS * SLOTS_EACH
    ):
        await asyncio.sleep(0.05)


@pytest.fixture
async def server(start_server):
    server = start_server("--engine", "espeak", "--voice-processes", str(NUM_WORKERS))
    await all_ready(server, restarts=0)
    return server


async def test_only_the_context_it_spoke_ends(server, listen, voice, clauses):
    client = await listen(url=server.ws_url, max_ahead_ms=500, sample_rate=16000)
    for context_id, text in TEXTS.items():
        await client.send(TextAppend(context_id=context_id, text=text), TextEnd(context_id=context_id))
    while not all(client.frames(context_id) for context_id in TEXTS):
        await client.receive()
    os.kill(workers(server)[0], signal.SIGKILL)
    while len(client.messages(ContextDone) + client.messages(Error)) < len(TEXTS):
        await client.play()

    (error,) = client.messages(Error)
    (done,) = client.messages(ContextDone)
    assert (error.code, error.ends, error.retryable) == ("engine_failed", "context", True)
    assert {error.context_id, done.context_id} == set(TEXTS)
    references = {context_id: (await voice(*clauses(text))).sound for context_id, text in TEXTS.items()}
    whole = compare(client.sound(done.context_id), references[done.context_id])
    assert whole.says_the_same
    assert whole.holes == ()
    begun = client.sound(error.context_id)
    assert 0 < begun.ms < references[error.context_id].ms - 1000
    assert compare(begun, references[error.context_id].cut(0, begun.ms)).says_the_same

    # The other worker goes on serving; the client has the id of its lost context back by opening it.
    again = error.context_id
    await client.send(ContextOpen(context_id=again), TextAppend(context_id=again, text=TEXTS[again]))
    await client.send(TextEnd(context_id=again))
    while len(client.messages(ContextDone)) < 2:
        await client.play()
    assert compare(client.sound(again).cut(begun.ms), references[again]).says_the_same
    await all_ready(server, restarts=1)
    assert "Traceback" not in server.log()


async def test_workers_started_again_speak(server, listen, voice, clauses):
    killed = workers(server)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    await all_ready(server, restarts=len(killed))
    assert len(workers(server)) == len(killed)
    assert not set(workers(server)) & set(killed)
    client = await listen(url=server.ws_url)
    for context_id, text in TEXTS.items():
        await client.say(text, context_id)
        said = compare(client.sound(context_id), (await voice(*clauses(text))).sound)
        assert said.says_the_same
        assert said.holes == ()
    assert "Traceback" not in server.log()
