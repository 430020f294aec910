"""AddVoice and RemoveVoice at a worker's host: who makes voices, one at a time and beside speech."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from voices.enrolment import RECORDING

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.link.worker_pb2_grpc import EngineWorkerStub
from cosyduplex_server.engine.worker import WorkerServer
from cosyduplex_server.errors import Failure
from cosyduplex_server.testing import FakeEngine, FakeScript, WorkerStream

PROMPT = link.VoicePrompt(id="anna", text="x", audio=RECORDING)


class WatchedEngine(FakeEngine):
    """Does with a voice what it is told, and notes when it began and ended."""

    def __init__(self, make: Callable[[], None], *, clones: bool = True) -> None:
        super().__init__(FakeScript(clones=clones))
        self.make = make
        self.spans: list[tuple[float, float]] = []
        self.closed_at = 0.0

    def add_voice(self, prompt: link.VoicePrompt) -> link.VoiceAdded:
        began = time.monotonic()
        self.make()
        self.spans.append((began, time.monotonic()))
        return super().add_voice(prompt)

    async def aclose(self) -> None:
        self.closed_at = time.monotonic()


@asynccontextmanager
async def serving(
    engine: FakeEngine,
) -> AsyncIterator[tuple[EngineWorkerStub, grpc.aio.Channel, WorkerServer]]:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is too long a path for a socket
        server = WorkerServer(engine)
        address = await server.start(f"unix:{folder}/worker.sock")
        async with grpc.aio.insecure_channel(address) as channel:
            yield EngineWorkerStub(channel), channel, server
        await server.aclose()


async def test_an_engine_that_clones_none_leaves_both_calls_unimplemented():
    async with serving(FakeEngine(FakeScript())) as (stub, _, _):
        for call in (stub.AddVoice(PROMPT), stub.RemoveVoice(link.VoiceId(id="anna"))):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_refusal_is_an_answer_with_its_code():
    def refuse() -> None:
        raise Failure(ErrorCode.BAD_REFERENCE_AUDIO, "no speech in it")

    async with serving(WatchedEngine(refuse)) as (stub, _, _):
        error = (await stub.AddVoice(PROMPT)).error
    assert (error.code, error.message, error.retryable) == ("bad_reference_audio", "no speech in it", False)


async def test_a_crash_of_the_engine_tells_the_caller_nothing_but_that(caplog):
    def crash() -> None:
        raise ValueError("/a/secret/path")

    async with serving(WatchedEngine(crash)) as (stub, _, _):
        error = (await stub.AddVoice(PROMPT)).error
        assert not (await stub.RemoveVoice(link.VoiceId(id="unknown"))).ListFields()
    assert error.code == "engine_failed"
    assert "secret" not in error.message
    assert "secret" in caplog.text


async def test_voices_are_made_one_at_a_time_while_contexts_speak():
    engine = WatchedEngine(lambda: time.sleep(0.2))
    async with serving(engine) as (stub, channel, _):
        adding = asyncio.gather(*(stub.AddVoice(PROMPT) for _ in range(3)))
        heard = await WorkerStream(channel).speak("Spoken meanwhile.")
        assert heard.kinds[-1] == "done"
        assert len(engine.spans) < 3
        await adding
    spans = sorted(engine.spans)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))


async def test_an_engine_is_not_closed_while_it_makes_a_voice():
    engine = WatchedEngine(lambda: time.sleep(0.5))
    async with serving(engine) as (stub, _, _):
        call = stub.AddVoice(PROMPT)
        await asyncio.sleep(0.2)
        call.cancel()
    assert engine.spans[0][1] <= engine.closed_at
