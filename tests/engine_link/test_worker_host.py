"""The worker's side of the link: order, credit, slots, ends; over a real Unix socket, and as a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.link import worker_pb2_grpc as link_grpc
from cosyduplex_server.engine.outbox import FinishPoint, FlushPoint, Outbox, Segment, SegmentQueue
from cosyduplex_server.engine.worker import Engine, EngineRequest, WorkerServer
from cosyduplex_server.errors import Failure
from cosyduplex_server.testing import (
    CRASH_EXIT_CODE,
    FakeEngine,
    FakeScript,
    Heard,
    ManualClock,
    WorkerStream,
    tone_hz,
)


@pytest.fixture
def socket() -> Iterator[str]:
    # Not under tmp_path: a Unix socket's path is at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="cdx") as folder:
        yield f"unix:{Path(folder) / 'w.sock'}"


@asynccontextmanager
async def serving(engine: Engine, address: str) -> AsyncIterator[tuple[WorkerServer, grpc.aio.Channel]]:
    server = WorkerServer(engine)
    try:
        bound = await server.start(address)
        async with grpc.aio.insecure_channel(bound) as channel:
            yield server, channel
    finally:
        await server.aclose()


class Watcher:
    """Follows a worker's capacity."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = link_grpc.EngineWorkerStub(channel).Watch(link.WatchRequest())

    async def until_busy(self, busy: int) -> None:
        while (await self._call.read()).busy != busy:
            pass

    async def until_draining(self) -> None:
        while not (await self._call.read()).draining:
            pass


# --- Order and ends -------------------------------------------------------------------------------------


async def test_events_come_in_the_order_of_the_text(socket: str) -> None:
    script = FakeScript(ms_per_char=10, chunk_ms=40)
    async with serving(FakeEngine(script), socket) as (_, channel):
        stream = WorkerStream(channel)
        await stream.open()
        await stream.append(0, "one two.")
        await stream.flush(1)
        await stream.append(1, "thr", closes=False)
        await stream.append(1, "ee.")
        await stream.flush(2)
        await stream.finish()
        heard = await stream.rest()
    ends = [
        (event.WhichOneof("event"), event.segment_done.segment or event.flushed.flush)
        for event in heard.events
        if event.WhichOneof("event") not in ("audio", "marks")
    ]
    assert ends == [("segment_done", 0), ("flushed", 1), ("segment_done", 1), ("flushed", 2), ("done", 0)]
    assert heard.pcm.size == heard.events[-1].done.samples == script.samples(14 * 10)
    before_flush = heard.events[: heard.kinds.index("flushed")]
    assert sum(len(event.audio.pcm) for event in before_flush) == 2 * script.samples(8 * 10)


async def test_marks_are_the_words_in_code_points_and_samples(socket: str) -> None:
    script = FakeScript(ms_per_char=50)
    text = "Hi 你好 𠀀x"
    async with serving(FakeEngine(script), socket) as (_, channel):
        heard = await WorkerStream(channel).speak("ab", text)
    words = [word for word in heard.words if word.segment == 1]
    assert [text[word.char_start : word.char_end] for word in words] == ["Hi", "你", "好", "𠀀", "x"]
    offset = script.samples(2 * 50)
    assert all(word.sample_start == offset + script.samples(word.char_start * 50) for word in words)


async def test_a_flush_closes_an_open_segment_and_one_with_nothing_pending_is_answered(socket: str) -> None:
    async with serving(FakeEngine(FakeScript()), socket) as (_, channel):
        stream = WorkerStream(channel)
        await stream.open()
        await stream.flush(1)
        event = await stream.next_event()
        assert event is not None
        assert event.flushed.flush == 1
        await stream.append(0, "open", closes=False)
        await stream.flush(2)
        await stream.finish()
        heard = await stream.rest()
    assert heard.kinds[-3:] == ["segment_done", "flushed", "done"]


async def test_contexts_of_one_worker_do_not_mix(socket: str) -> None:
    script = FakeScript(ms_per_char=40, slots=6, realtime_factor=0.05)
    async with serving(FakeEngine(script), socket) as (_, channel):
        heard = await asyncio.gather(*(WorkerStream(channel).speak("a" * 20) for _ in range(6)))
    loudest = set()
    for one in heard:
        spectrum = np.abs(np.fft.rfft(one.pcm))
        loudest.add(round(float(np.argmax(spectrum)) * script.sample_rate_hz / one.pcm.size))
    assert loudest == {round(tone_hz(ordinal)) for ordinal in range(6)}


async def test_a_first_command_that_is_not_open_is_refused(socket: str) -> None:
    async with serving(FakeEngine(FakeScript()), socket) as (_, channel):
        stream = WorkerStream(channel)
        await stream.finish()
        assert (await stream.rest()).error_code == ErrorCode.BAD_REQUEST


async def test_a_second_open_ends_the_context(socket: str) -> None:
    async with serving(FakeEngine(FakeScript()), socket) as (_, channel):
        stream = WorkerStream(channel)
        await stream.open()
        await stream.open()
        assert (await stream.rest()).error_code == ErrorCode.BAD_REQUEST


@pytest.mark.parametrize(
    "field", [{"speed": 0.4}, {"speed": float("nan")}, {"pitch": 13.0}, {"volume": -0.1}]
)
async def test_parameters_out_of_range_are_refused(socket: str, field: dict[str, float]) -> None:
    async with serving(FakeEngine(FakeScript()), socket) as (_, channel):
        heard = await WorkerStream(channel).speak("x", **field)
    assert heard.error_code == ErrorCode.BAD_REQUEST
    assert next(iter(field)) in heard.events[-1].error.message


async def test_what_the_engine_refuses_is_told_with_its_code(socket: str) -> None:
    async with serving(FakeEngine(FakeScript()), socket) as (_, channel):
        heard = await WorkerStream(channel).speak("x", voice="nobody")
        assert heard.error_code == ErrorCode.UNKNOWN_VOICE
        assert not heard.events[-1].error.retryable
    async with serving(FakeEngine(FakeScript(refuse_open="over_capacity")), socket) as (server, channel):
        heard = await WorkerStream(channel).speak("x")
        assert (heard.error_code, heard.events[-1].error.retryable) == ("over_capacity", True)
        assert server.busy == 0


# --- Credit ---------------------------------------------------------------------------------------------


async def test_no_sample_is_sent_beyond_the_credit_and_none_before_it_is_kept_back(socket: str) -> None:
    script = FakeScript(ms_per_char=100, signal="counter")
    async with serving(FakeEngine(script), socket) as (_, channel):
        stream = WorkerStream(channel)
        await stream.open(credit_samples=0)
        await stream.append(0, "0123456789")
        await stream.finish()
        pcm = np.empty(0, np.int16)
        for credit in (1, 2, 2399, 2400, 2401, 9000, 24000):
            await stream.credit(credit)
            while pcm.size < credit:
                event = await stream.next_event()
                assert event is not None
                pcm = np.append(pcm, np.frombuffer(event.audio.pcm, np.int16))
            assert pcm.size == credit
        rest = await stream.rest()
    assert rest.pcm.size == 0
    assert rest.kinds == ["segment_done", "done"]
    assert np.array_equal(pcm, np.arange(24000) % 32768)


async def test_credit_never_falls(socket: str) -> None:
    async with serving(FakeEngine(FakeScript(ms_per_char=100)), socket) as (_, channel):
        stream = WorkerStream(channel)
        await stream.open(credit_samples=24000)
        await stream.credit(10)
        await stream.append(0, "0123456789")
        await stream.finish()
        assert (await stream.rest()).pcm.size == 24000


@settings(max_examples=100, deadline=None)
@given(
    chunks=st.lists(st.integers(1, 50), max_size=12),
    steps=st.lists(st.integers(0, 40), max_size=30),
)
def test_the_outbox_splits_audio_exactly_at_the_credit(chunks: list[int], steps: list[int]) -> None:
    async def run() -> None:
        outbox = Outbox(asyncio.get_running_loop(), credit_samples=0)
        total, sent, credit = sum(chunks), 0, 0
        position = 0
        for size in chunks:
            pcm = np.arange(position, position + size, dtype=np.int16).tobytes()
            outbox.emit(link.Event(audio=link.Audio(pcm=pcm)))
            position += size
        outbox.emit(link.Event(done=link.Done()))
        await asyncio.sleep(0)
        for step in [*steps, total]:
            credit += step
            outbox.add_credit(credit)
            while sent < min(total, credit):
                event = await outbox.next_event()
                samples = np.frombuffer(event.audio.pcm, np.int16)
                assert np.array_equal(samples, np.arange(sent, sent + samples.size))
                sent += samples.size
            assert sent == outbox.sent_samples == min(total, credit)
        assert (await outbox.next_event()).done.samples == total

    asyncio.run(run())


async def test_marks_and_ends_wait_behind_audio_without_credit() -> None:
    outbox = Outbox(asyncio.get_running_loop(), credit_samples=1)
    outbox.emit(link.Event(audio=link.Audio(pcm=b"\0" * 4)))
    outbox.emit(link.Event(flushed=link.Flushed(flush=1)))
    assert len((await outbox.next_event()).audio.pcm) == 2
    waiting = asyncio.ensure_future(outbox.next_event())
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.add_credit(2)
    assert len((await waiting).audio.pcm) == 2
    assert (await outbox.next_event()).flushed.flush == 1


async def test_nothing_follows_the_last_event() -> None:
    outbox = Outbox(asyncio.get_running_loop(), credit_samples=100)
    outbox.emit(link.Event(done=link.Done()))
    outbox.emit(link.Event(flushed=link.Flushed(flush=1)))
    outbox.fail(Failure(ErrorCode.TEXT_TOO_LONG, "late"))
    assert (await outbox.next_event()).HasField("done")
    outbox.end(link.Event(done=link.Done()))
    waiting = asyncio.ensure_future(outbox.next_event())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    waiting.cancel()


# --- Cancel and hang-up ---------------------------------------------------------------------------------


async def test_cancel_before_any_text(socket: str) -> None:
    async with serving(FakeEngine(FakeScript()), socket) as (_, channel):
        stream = WorkerStream(channel)
        await stream.open()
        await stream.cancel()
        heard = await stream.rest()
        assert heard.kinds == ["done"]
        await Watcher(channel).until_busy(0)


async def test_cancel_while_audio_waits_for_credit_drops_it(socket: str) -> None:
    async with serving(FakeEngine(FakeScript()), socket) as (_, channel):
        watcher = Watcher(channel)
        stream = WorkerStream(channel)
        await stream.open(credit_samples=1000)
        await stream.append(0, "some words to say")
        await stream.finish()
        got = 0
        while got < 1000:
            event = await stream.next_event()
            assert event is not None
            got += len(event.audio.pcm) // 2
        await stream.cancel()
        rest = await stream.rest()
        assert rest.kinds == ["done"]
        assert rest.events[-1].done.samples == 1000
        await watcher.until_busy(0)


async def test_cancel_after_the_end_is_harmless(socket: str) -> None:
    async with serving(FakeEngine(FakeScript(ms_per_char=1)), socket) as (server, channel):
        stream = WorkerStream(channel)
        assert (await stream.speak("short")).kinds[-1] == "done"
        # The call may be over before the command arrives.
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await stream.cancel()
        assert (await WorkerStream(channel).speak("next")).kinds[-1] == "done"
        assert server.busy == 0


async def test_a_gateway_that_vanishes_frees_its_slot_and_its_request(
    socket: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = RecordingEngine()
    async with serving(engine, socket) as (_, channel):
        watcher = Watcher(channel)
        stream = WorkerStream(channel)
        await stream.open()
        await watcher.until_busy(1)
        stream.call.cancel()
        await watcher.until_busy(0)
        assert engine.calls == ["cancel"]
    assert not caplog.records


async def test_a_lost_connection_frees_every_slot(socket: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(FakeEngine(FakeScript(slots=3)), socket) as (_, channel):
        watcher = Watcher(channel)
        async with grpc.aio.insecure_channel(socket) as other:
            for _ in range(3):
                await WorkerStream(other).open(credit_samples=0)
            await watcher.until_busy(3)
        await watcher.until_busy(0)
    assert not caplog.records


async def test_hanging_up_before_finish_cancels_and_after_it_does_not(socket: str) -> None:
    async with serving(FakeEngine(FakeScript(ms_per_char=10, realtime_factor=0.1)), socket) as (_, channel):
        early = WorkerStream(channel)
        await early.open(credit_samples=0)
        await early.append(0, "never heard")
        await early.call.done_writing()
        assert (await early.rest()).kinds == ["done"]
        late = WorkerStream(channel)
        await late.open()
        await late.append(0, "heard")
        await late.finish()
        await late.call.done_writing()
        assert (await late.rest()).pcm.size == 24 * 50


# --- Slots, draining ------------------------------------------------------------------------------------


async def test_a_full_worker_refuses_and_takes_again_when_a_slot_is_free(socket: str) -> None:
    async with serving(FakeEngine(FakeScript(slots=1)), socket) as (_, channel):
        watcher = Watcher(channel)
        first = WorkerStream(channel)
        await first.open()
        await watcher.until_busy(1)
        refused = await WorkerStream(channel).speak("x")
        assert refused.error_code == ErrorCode.OVER_CAPACITY
        assert refused.events[-1].error.retryable
        await first.finish()
        await first.rest()
        await watcher.until_busy(0)
        assert (await WorkerStream(channel).speak("x")).kinds[-1] == "done"


async def test_draining_refuses_new_contexts_and_lets_open_ones_finish(socket: str) -> None:
    async with serving(FakeEngine(FakeScript()), socket) as (server, channel):
        watcher = Watcher(channel)
        stream = WorkerStream(channel)
        await stream.open()
        await watcher.until_busy(1)
        drained = asyncio.create_task(server.drain(timeout_s=30))
        await watcher.until_draining()
        assert (await WorkerStream(channel).speak("x")).error_code == ErrorCode.ENGINE_UNAVAILABLE
        assert not drained.done()
        assert (await finish_with(stream, "last words")).kinds[-1] == "done"
        await drained


async def test_draining_gives_up_after_its_time(socket: str) -> None:
    async with serving(FakeEngine(FakeScript()), socket) as (server, channel):
        await WorkerStream(channel).open()
        await Watcher(channel).until_busy(1)
        await server.drain(timeout_s=0)
        assert server.busy == 1
    assert server.busy == 0


async def finish_with(stream: WorkerStream, text: str) -> Heard:
    await stream.append(0, text)
    await stream.finish()
    return await stream.rest()


# --- An engine that fails -------------------------------------------------------------------------------


class RecordingEngine:
    """Does nothing but remember, or raises where it is told to."""

    def __init__(self, raises_at: str = "") -> None:
        self.description = link.Description(engine="recording", slots=2)
        self.calls: list[str] = []
        self.raises_at = raises_at

    def open(self, request: link.Open, outbox: Outbox) -> EngineRequest:
        self.outbox = outbox
        if self.raises_at == "open":
            raise RuntimeError("secret path /root/x")
        return self

    def append(self, segment: int, text: str, closes: bool) -> None:
        if self.raises_at == "append":
            raise RuntimeError("secret path /root/x")
        self.calls.append("append")
        if self.raises_at == "later":
            self.outbox.fail(RuntimeError("secret path /root/x"))

    def flush(self, number: int) -> None:
        self.calls.append("flush")

    def finish(self) -> None:
        self.calls.append("finish")

    def cancel(self) -> None:
        self.calls.append("cancel")

    def progress(self, sent_samples: int, credit_samples: int) -> None:
        self.calls.append(f"progress {sent_samples} {credit_samples}")

    @property
    def gpu_memory_bytes(self) -> int:
        return 0

    async def aclose(self) -> None:
        self.calls.append("aclose")


@pytest.mark.parametrize("where", ["open", "append", "later"])
async def test_an_engine_that_raises_ends_its_context_and_tells_no_details(
    socket: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = RecordingEngine(raises_at=where)
    async with serving(engine, socket) as (_, channel):
        heard = await WorkerStream(channel).speak("x")
        assert heard.error_code == ErrorCode.ENGINE_FAILED
        assert "secret" not in heard.events[-1].error.message
        assert "secret path" in caplog.text
        await Watcher(channel).until_busy(0)
        engine.raises_at = ""
        survivor = WorkerStream(channel)
        await survivor.open()
        await survivor.cancel()
        assert (await survivor.rest()).kinds == ["done"]


async def test_the_engine_learns_what_was_sent_and_what_may_be(socket: str) -> None:
    engine = RecordingEngine()
    async with serving(engine, socket) as (_, channel):
        stream = WorkerStream(channel)
        await stream.open(credit_samples=5)
        await stream.append(0, "x")
        await Watcher(channel).until_busy(1)
        engine.outbox.emit(link.Event(audio=link.Audio(pcm=b"\0" * 20)))
        await stream.next_event()
        await stream.credit(10)
        await stream.next_event()
        await stream.cancel()
        await stream.rest()
    engine.calls.remove("append")
    assert engine.calls == ["progress 5 5", "progress 5 10", "progress 10 10", "cancel", "aclose"]


async def test_a_script_can_fail_and_stall(socket: str) -> None:
    async with serving(FakeEngine(FakeScript(fail_after_ms=250)), socket) as (_, channel):
        heard = await WorkerStream(channel).speak("0123456789")
        assert heard.pcm.size == 24 * 250
        assert heard.error_code == ErrorCode.ENGINE_FAILED
    async with serving(FakeEngine(FakeScript(stall_after_ms=250)), socket) as (_, channel):
        stream = WorkerStream(channel)
        await stream.open(credit_samples=1 << 30)
        await stream.append(0, "0123456789")
        got = 0
        while got < 24 * 250:
            event = await stream.next_event()
            assert event is not None
            got += len(event.audio.pcm) // 2
        await stream.cancel()
        assert (await stream.rest()).events[-1].done.samples == 24 * 250


# --- Text still to speak --------------------------------------------------------------------------------


def test_segments_are_gathered_until_they_are_closed() -> None:
    queue = SegmentQueue()
    queue.append(0, "Hel", closes=False)
    assert queue.peek() is None
    queue.append(0, "lo.", closes=True)
    queue.append(1, "Wor", closes=False)
    queue.append(2, "next", closes=False)
    queue.flush(7)
    queue.append(3, "last", closes=False)
    queue.finish()
    taken = []
    while (item := queue.peek()) is not None:
        taken.append(item)
        queue.pop()
    assert taken == [
        Segment(0, "Hello."),
        Segment(1, "Wor"),
        Segment(2, "next"),
        FlushPoint(7),
        Segment(3, "last"),
        FinishPoint(),
    ]


# --- As a process ---------------------------------------------------------------------------------------


async def start_fake(address: str, script: str = "{}", *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cosyduplex_server.testing", "--listen", address, "--script", script, *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ready_address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    said = json.loads(await process.stdout.readline())
    assert said["ready"] is True
    assert said["engine"] == "fake"
    assert said["pid"] == process.pid
    return str(said["address"])


async def test_a_worker_on_tcp_names_its_port_and_ends_with_its_standard_input() -> None:
    process = await start_fake("127.0.0.1:0", "{}", "--exit-with-stdin", "--slots", "3")
    address = await ready_address(process)
    assert not address.endswith(":0")
    async with grpc.aio.insecure_channel(address) as channel:
        description = await link_grpc.EngineWorkerStub(channel).Describe(link.DescribeRequest())
        assert (description.engine, description.slots) == ("fake", 3)
        await WorkerStream(channel).open(credit_samples=0)
        await Watcher(channel).until_busy(1)
        assert process.stdin is not None
        process.stdin.close()
        _, stderr = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in stderr


async def test_sigterm_lets_an_open_context_finish(socket: str) -> None:
    process = await start_fake(socket)
    async with grpc.aio.insecure_channel(await ready_address(process)) as channel:
        watcher = Watcher(channel)
        stream = WorkerStream(channel)
        await stream.open()
        await watcher.until_busy(1)
        process.send_signal(signal.SIGTERM)
        await watcher.until_draining()
        heard = await finish_with(stream, "good bye")
        assert heard.kinds[-1] == "done"
        assert heard.pcm.size == 24 * 60 * len("good bye")
        _, stderr = await process.communicate()
    assert (process.returncode, stderr) == (0, b"")


async def test_a_worker_that_was_started_by_another_leaves_sigint_to_it(socket: str) -> None:
    process = await start_fake(socket, "{}", "--exit-with-stdin")
    async with grpc.aio.insecure_channel(await ready_address(process)) as channel:
        process.send_signal(signal.SIGINT)
        assert (await WorkerStream(channel).speak("still here")).kinds[-1] == "done"
        await process.communicate(b"")
    assert process.returncode == 0


async def test_a_crash_is_a_crash(socket: str) -> None:
    process = await start_fake(socket, json.dumps({"crash_after_ms": 200}))
    async with grpc.aio.insecure_channel(await ready_address(process)) as channel:
        stream = WorkerStream(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.speak("a long sentence")
    assert await process.wait() == CRASH_EXIT_CODE
    await process.communicate()


@pytest.mark.parametrize(
    ("address", "script", "code", "message"),
    [
        ("unix:/nowhere/at/all.sock", "{}", 1, b"cannot listen"),
        ("unix:/tmp/never.sock", '{"refuse_start": "no library here"}', 3, b"no library here"),
        ("unix:/tmp/never.sock", '{"no_such": 1}', 2, b"--script"),
    ],
)
async def test_a_worker_that_cannot_start_says_why_in_one_line(
    address: str, script: str, code: int, message: bytes
) -> None:
    process = await start_fake(address, script)
    stdout, stderr = await process.communicate()
    assert process.returncode == code
    assert stdout == b""
    assert message in stderr.splitlines()[-1]
    assert b"Traceback" not in stderr


# --- The clock ------------------------------------------------------------------------------------------


def test_a_manual_clock_runs_what_is_due_in_order_and_at_its_time() -> None:
    clock = ManualClock(start=100.0)
    seen: list[tuple[str, float]] = []

    def note(name: str) -> None:
        seen.append((name, clock.time()))
        if name == "b":
            clock.call_later(0.5, note, "c")

    clock.call_later(2, note, "d")
    clock.call_later(1, note, "a")
    clock.call_later(1, note, "b")
    clock.call_later(1, note, "never").cancel()
    clock.call_later(9, note, "later")
    clock.advance(3)
    assert seen == [("a", 101.0), ("b", 101.0), ("c", 101.5), ("d", 102.0)]
    assert clock.time() == 103.0
