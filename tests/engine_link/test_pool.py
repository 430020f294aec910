"""The gateway's pool of workers over real sockets: who speaks, what a stream says and how it ends."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.link import worker_pb2_grpc as link_grpc
from cosyduplex_server.engine.pool import EngineRefused, EngineStream, SpeakRequest, WorkerPool
from cosyduplex_server.engine.supervisor import Backoff
from cosyduplex_server.engine.worker import WorkerServer
from cosyduplex_server.testing import FakeEngine, FakeScript

PLENTY = 10**9
REQUEST = SpeakRequest(request_id="r1", credit_samples=PLENTY)
# 60 ms of audio a character, 100 ms a chunk, 24 kHz.
SCRIPT = FakeScript(slots=8)
SILENT = replace(SCRIPT, stall_after_ms=0)


class ScriptedWorker(link_grpc.EngineWorkerServicer):
    """A worker that keeps what it is told, and does what no good worker does."""

    def __init__(self, behaviour: str = "finish") -> None:
        self.behaviour = behaviour
        self.commands: list[link.Command] = []
        self.ends: list[str] = []
        self.reports: asyncio.Queue[link.Capacity] | None = None
        self.watching = asyncio.Event()
        self.watching.set()

    async def Describe(self, request: object, context: object) -> link.Description:
        return link.Description(engine="scripted", sample_rate_hz=24000, slots=4)

    async def Watch(self, request: object, context: object) -> AsyncIterator[link.Capacity]:
        while self.reports is not None:
            yield await self.reports.get()
        while await self.watching.wait():
            yield link.Capacity(slots=4)
            await asyncio.sleep(0.03)

    async def Speak(
        self,
        commands: AsyncIterator[link.Command],
        context: grpc.aio.ServicerContext[link.Command, link.Event],
    ) -> AsyncIterator[link.Event]:
        async for command in commands:
            self.commands.append(command)
            match self.behaviour, command.WhichOneof("command"):
                case "finish", "finish":
                    yield link.Event(done=link.Done())
                    return
                case "linger", "finish":
                    yield link.Event(done=link.Done())
                case "leave", "append":
                    return
                case "unavailable", "append":
                    self.watching.clear()
                    await context.abort(grpc.StatusCode.UNAVAILABLE)
                case "raise", "append":
                    raise RuntimeError(f"cannot say {command.append.text}")
        try:
            await asyncio.sleep(0.05)
            self.ends.append("by itself")
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise


class Host:
    """Starts workers in this process and stops what still runs at the end."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._stops: dict[str, Callable[[], Awaitable[None]]] = {}

    def address(self, name: str) -> str:
        return f"unix:{self._directory}/{name}.sock"

    async def start(self, name: str, script: FakeScript = SCRIPT) -> WorkerServer:
        server = WorkerServer(FakeEngine(script))
        self._stops[name] = server.aclose
        await server.start(self.address(name))
        return server

    async def serve(self, name: str, address: str) -> str:
        server = WorkerServer(FakeEngine(SCRIPT))
        self._stops[name] = server.aclose
        return await server.start(address)

    async def start_scripted(self, name: str, worker: ScriptedWorker) -> None:
        server = grpc.aio.server()
        link_grpc.add_EngineWorkerServicer_to_server(worker, server)
        server.add_insecure_port(self.address(name))
        await server.start()
        self._stops[name] = lambda: server.stop(None)

    async def stop(self, name: str) -> None:
        await self._stops.pop(name)()

    async def aclose(self) -> None:
        for name in tuple(self._stops):
            await self.stop(name)


@pytest.fixture
def directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:  # pytest's own is too long a path for a socket
        yield directory


@pytest.fixture
async def host(directory: str) -> AsyncIterator[Host]:
    host = Host(directory)
    yield host
    await host.aclose()


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    async with WorkerPool(backoff=lambda: Backoff(first_s=0.01, most_s=0.05)) as pool:
        yield pool


async def start(host: Host, pool: WorkerPool, **scripts: FakeScript) -> dict[str, WorkerServer]:
    """Workers by name, all of them ready."""
    servers = {name: await host.start(name, script) for name, script in scripts.items()}
    for name in scripts:
        pool.add(name, host.address(name))
    slots = sum(script.slots for script in scripts.values())
    await until(lambda: pool.slots.free == slots)
    return servers


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def read(stream: EngineStream) -> list[link.Event]:
    return [event async for event in stream]


def kinds(events: list[link.Event]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


def num_samples(events: list[link.Event]) -> int:
    return sum(len(event.audio.pcm) for event in events) // 2


def speak(pool: WorkerPool, text: str = "hello", request: SpeakRequest = REQUEST) -> EngineStream:
    stream = pool.open(request)
    stream.append(0, text)
    stream.finish()
    return stream


# --- what a stream says


async def test_events_come_in_order_and_end_after_done(host: Host, pool: WorkerPool) -> None:
    await start(host, pool, w0=SCRIPT)
    stream = pool.open(REQUEST)
    stream.append(0, "one two")
    stream.flush(1)
    stream.append(1, "three")
    stream.finish()
    events = await read(stream)
    segment = ["marks", "audio"]
    assert [kind for kind in kinds(events) if kind not in segment] == [
        "segment_done",
        "flushed",
        "segment_done",
        "done",
    ]
    assert num_samples(events) == events[-1].done.samples == 24000 * 60 * len("one twothree") // 1000
    assert (stream.worker, stream.sample_rate_hz, stream.exact_marks) == ("w0", 24000, True)


async def test_commands_arrive_in_order_with_what_was_asked(host: Host, pool: WorkerPool) -> None:
    worker = ScriptedWorker()
    await host.start_scripted("w0", worker)
    pool.add("w0", host.address("w0"))
    await pool.wait_ready(10)
    request = SpeakRequest(
        request_id="r7",
        voice="fake",
        language="zh",
        speed=1.5,
        pitch=-2,
        volume=0.5,
        emotion="glad",
        instruct="softly",
        dialect="yue",
        seed=0,
        credit_samples=480,
    )
    stream = pool.open(request)
    stream.append(0, "你", closes=False)
    stream.append(0, "好")
    stream.flush(1)
    stream.credit(960)
    stream.finish()
    assert kinds(await read(stream)) == ["done"]
    assert worker.commands == [
        link.Command(
            open=link.Open(
                request_id="r7",
                voice="fake",
                language="zh",
                speed=1.5,
                pitch=-2,
                volume=0.5,
                emotion="glad",
                instruct="softly",
                dialect="yue",
                seed=0,
                credit_samples=480,
            )
        ),
        # What had not been written yet is one message.
        link.Command(append=link.Append(segment=0, text="你好", closes=True)),
        link.Command(flush=link.Flush(flush=1)),
        link.Command(credit=link.Credit(samples=960)),
        link.Command(finish=link.Finish()),
    ]


async def test_credits_in_a_row_are_sent_as_one(host: Host, pool: WorkerPool) -> None:
    worker = ScriptedWorker()
    await host.start_scripted("w0", worker)
    pool.add("w0", host.address("w0"))
    await pool.wait_ready(10)
    stream = pool.open(REQUEST)
    for samples in (1, 2, 3):
        stream.credit(samples)
    stream.finish()
    await read(stream)
    assert [one.credit.samples for one in worker.commands if one.HasField("credit")] == [3]


async def test_audio_stops_at_the_credit_and_goes_on_with_more(host: Host, pool: WorkerPool) -> None:
    await start(host, pool, w0=SCRIPT)
    stream = speak(pool, "0123456789", replace(REQUEST, credit_samples=4000))
    events: list[link.Event] = []
    while num_samples(events) < 4000:
        events.append(await anext(stream))
    assert num_samples(events) == 4000
    stream.credit(PLENTY)
    assert num_samples(await read(stream)) == 14400 - 4000


async def test_commands_after_the_end_are_dropped(host: Host, pool: WorkerPool) -> None:
    worker = ScriptedWorker()
    await host.start_scripted("w0", worker)
    pool.add("w0", host.address("w0"))
    await pool.wait_ready(10)
    stream = speak(pool)
    await read(stream)
    stream.append(1, "late")
    stream.flush(2)
    stream.credit(5)
    stream.finish()
    stream.cancel()
    assert await read(stream) == []
    await read(speak(pool))
    told = [command.WhichOneof("command") for command in worker.commands]
    assert told == ["open", "append", "finish"] * 2


async def test_an_error_of_the_worker_ends_the_stream(host: Host, pool: WorkerPool) -> None:
    await start(host, pool, w0=replace(SCRIPT, fail_after_ms=100))
    events = await read(speak(pool))
    assert kinds(events) == ["marks", "audio", "error"]
    assert events[-1].error.code == ErrorCode.ENGINE_FAILED
    assert pool.slots.busy == 0


async def test_a_voice_nobody_knows_is_the_workers_to_refuse(host: Host, pool: WorkerPool) -> None:
    await start(host, pool, w0=SCRIPT)
    events = await read(speak(pool, request=replace(REQUEST, voice="nobody")))
    assert [event.error.code for event in events] == [ErrorCode.UNKNOWN_VOICE]


@pytest.mark.parametrize("behaviour", ["leave", "raise"])
async def test_a_worker_that_ends_without_a_last_event_has_failed(
    host: Host, pool: WorkerPool, behaviour: str
) -> None:
    await host.start_scripted("w0", ScriptedWorker(behaviour))
    pool.add("w0", host.address("w0"))
    await pool.wait_ready(10)
    events = await read(speak(pool, "a secret"))
    assert [event.error.code for event in events] == [ErrorCode.ENGINE_FAILED]
    assert events[0].error.retryable
    assert "secret" not in events[0].error.message


async def test_after_done_the_worker_may_end_the_call_in_its_own_time(host: Host, pool: WorkerPool) -> None:
    worker = ScriptedWorker("linger")
    await host.start_scripted("w0", worker)
    pool.add("w0", host.address("w0"))
    await pool.wait_ready(10)
    assert kinds(await read(speak(pool))) == ["done"]
    await until(lambda: len(worker.ends) == 1)
    assert worker.ends == ["by itself"]


async def test_a_stream_that_nobody_reads_holds_up_no_other(host: Host, pool: WorkerPool) -> None:
    await start(host, pool, w0=replace(SCRIPT, max_ahead_ms=10**9))
    unread = speak(pool, "x" * 2000)
    assert num_samples(await read(speak(pool, "x" * 2000))) == 2000 * 60 * 24
    assert num_samples(await read(unread)) == 2000 * 60 * 24


# --- which worker speaks


async def test_each_context_goes_to_the_least_loaded_worker(host: Host, pool: WorkerPool) -> None:
    await start(host, pool, w0=SILENT, w1=SILENT, w2=SILENT)
    streams = [speak(pool) for _ in range(6)]
    assert sorted(stream.worker for stream in streams) == ["w0", "w0", "w1", "w1", "w2", "w2"]
    for stream in streams:
        if stream.worker == "w1":
            stream.cancel()
    assert [speak(pool).worker for _ in range(2)] == ["w1", "w1"]


async def test_load_is_relative_to_the_slots(host: Host, pool: WorkerPool) -> None:
    await start(host, pool, small=replace(SILENT, slots=2), large=replace(SILENT, slots=8))
    workers = [speak(pool).worker for _ in range(5)]
    assert (workers.count("small"), workers.count("large")) == (1, 4)


async def test_contexts_of_other_gateways_count(host: Host, pool: WorkerPool) -> None:
    await start(host, pool, w0=SILENT)
    async with WorkerPool() as elsewhere:
        elsewhere.add("w0", host.address("w0"))
        await elsewhere.wait_ready(10)
        speak(elsewhere)
        speak(elsewhere)
        await until(lambda: pool.slots.busy == 2)
        await host.start("w1", SILENT)
        pool.add("w1", host.address("w1"))
        await until(lambda: pool.slots.free == 14)
        assert [speak(pool).worker for _ in range(2)] == ["w1", "w1"]
    await until(lambda: pool.slots.busy == 2)


async def test_a_full_pool_refuses_and_opens_again_when_a_context_ends(host: Host, pool: WorkerPool) -> None:
    await start(host, pool, w0=replace(SILENT, slots=1), w1=replace(SILENT, slots=1))
    first = speak(pool)
    assert not pool.is_full
    speak(pool)
    assert pool.is_full
    with pytest.raises(EngineRefused) as refused:
        pool.open(REQUEST)
    assert refused.value.code is ErrorCode.OVER_CAPACITY
    assert refused.value.retry_after_ms
    first.cancel()
    assert speak(pool).worker == first.worker


async def test_a_worker_filled_by_another_gateway_is_not_asked(host: Host, pool: WorkerPool) -> None:
    await start(host, pool, w0=replace(SILENT, slots=1))
    async with WorkerPool() as elsewhere:
        elsewhere.add("w0", host.address("w0"))
        await elsewhere.wait_ready(10)
        speak(elsewhere)
        await until(lambda: pool.is_full)
        with pytest.raises(EngineRefused, match="slot"):
            pool.open(REQUEST)


async def test_load_from_elsewhere_is_believed_when_it_is_reported_twice(
    host: Host, pool: WorkerPool
) -> None:
    worker = ScriptedWorker()
    worker.reports = asyncio.Queue()
    await host.start_scripted("w0", worker)
    pool.add("w0", host.address("w0"))
    seen = []
    for busy in (0, 2, 2, 0):
        # Each report has a number of slots of its own, to be recognised by.
        slots = 10 + len(seen)
        worker.reports.put_nowait(link.Capacity(slots=slots, busy=busy))
        await until(lambda: pool.description.slots == slots)  # noqa: B023
        seen.append(pool.slots.busy)
    # The first report that others have slots might mean contexts of ours that have just ended.
    assert seen == [0, 0, 2, 0]


async def test_without_a_worker_contexts_are_refused(host: Host, pool: WorkerPool) -> None:
    pool.add("w0", host.address("w0"))
    with pytest.raises(EngineRefused) as refused:
        pool.open(REQUEST)
    assert refused.value.code is ErrorCode.ENGINE_UNAVAILABLE
    assert refused.value.retry_after_ms
    assert not pool.ready
    with pytest.raises(TimeoutError):
        await pool.wait_ready(0.01)


async def test_workers_that_know_the_voice_come_first(host: Host, pool: WorkerPool) -> None:
    await start(
        host,
        pool,
        w0=replace(SILENT, slots=2, voices=("anna",)),
        w1=replace(SILENT, slots=2, voices=("bela",)),
    )
    bela = replace(REQUEST, voice="bela")
    assert [speak(pool, request=bela).worker for _ in range(2)] == ["w1", "w1"]
    with pytest.raises(EngineRefused, match="slot"):
        pool.open(bela)


async def test_a_draining_worker_finishes_what_it_has_and_gets_nothing_new(
    host: Host, pool: WorkerPool
) -> None:
    servers = await start(host, pool, w0=SCRIPT)
    stream = pool.open(REQUEST)
    stream.append(0, "still")
    await until(lambda: servers["w0"].busy == 1)
    draining = asyncio.create_task(servers["w0"].drain(10))
    await until(lambda: not pool.ready)
    with pytest.raises(EngineRefused):
        pool.open(REQUEST)
    stream.append(1, "here")
    stream.finish()
    assert kinds(await read(stream))[-1] == "done"
    await draining


# --- what the workers are


async def test_the_description_takes_all_workers_together(host: Host, pool: WorkerPool) -> None:
    assert pool.description.engine == ""
    await start(
        host,
        pool,
        w0=replace(SCRIPT, slots=1, voices=("anna", "bela")),
        w1=replace(SCRIPT, slots=2, voices=("carl", "anna")),
    )
    description = pool.description
    assert [voice.id for voice in description.voices] == ["anna", "bela", "carl"]
    assert (description.engine, description.engine_version) == ("fake", "1")
    assert (description.sample_rate_hz, description.exact_marks) == (24000, True)
    assert (description.slots, description.busy) == (3, 0)
    speak(pool)
    assert pool.description.busy == 1


async def test_the_description_is_remembered_when_no_worker_is_left(host: Host, pool: WorkerPool) -> None:
    await start(host, pool, w0=SCRIPT)
    await host.stop("w0")
    await until(lambda: not pool.ready)
    assert pool.description.engine == "fake"
    assert (pool.slots.free, pool.slots.busy, pool.slots.lost) == (0, 0, 8)


# --- workers that go and come


@asynccontextmanager
async def worker_process(address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cosyduplex_server.testing", "--listen", address),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_worker_fails_its_own_streams_once_and_no_others(host: Host, pool: WorkerPool) -> None:
    async with worker_process(host.address("doomed")) as process:
        pool.add("doomed", host.address("doomed"))
        await pool.wait_ready(10)
        request = replace(REQUEST, credit_samples=2400)
        doomed = [speak(pool, request=request) for _ in range(2)]
        await host.start("other")
        pool.add("other", host.address("other"))
        await until(lambda: pool.slots.free == 14)
        other = speak(pool, request=request)
        for stream in (*doomed, other):
            while (await anext(stream)).WhichOneof("event") != "audio":
                pass
        process.kill()
        for events in await asyncio.gather(*map(read, doomed)):
            assert [event.error.code for event in events] == [ErrorCode.ENGINE_FAILED]
        assert speak(pool).worker == "other"
        other.credit(PLENTY)
        assert kinds(await read(other))[-1] == "done"


async def test_nothing_is_opened_at_an_unreachable_worker_until_it_speaks(
    host: Host, pool: WorkerPool
) -> None:
    worker = ScriptedWorker("unavailable")
    await host.start_scripted("w0", worker)
    pool.add("w0", host.address("w0"))
    await pool.wait_ready(10)
    assert [event.error.code for event in await read(speak(pool))] == [ErrorCode.ENGINE_FAILED]
    assert not pool.ready
    worker.watching.set()
    await pool.wait_ready(10)


async def test_the_end_of_a_stream_from_before_says_nothing_of_the_worker_now(
    host: Host, pool: WorkerPool
) -> None:
    await host.start_scripted("w0", ScriptedWorker("unavailable"))
    pool.add("w0", host.address("w0"))
    await pool.wait_ready(10)
    old = speak(pool)
    await asyncio.sleep(0.05)
    await host.stop("w0")
    await until(lambda: not pool.ready)
    await host.start("w0")
    await pool.wait_ready(10)
    assert pool.slots.free == 8
    assert [event.error.code for event in await read(old)] == [ErrorCode.ENGINE_FAILED]
    assert pool.ready


async def test_a_worker_on_another_host_is_reached_past_any_proxy(
    host: Host, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    pool.add("w0", await host.serve("w0", "127.0.0.1:0"))
    await pool.wait_ready(10)
    assert kinds(await read(speak(pool)))[-1] == "done"


async def test_a_worker_that_comes_later_or_again_is_found(host: Host, pool: WorkerPool) -> None:
    pool.add("w0", host.address("w0"))
    for _ in range(2):
        await host.start("w0")
        await pool.wait_ready(10)
        assert kinds(await read(speak(pool)))[-1] == "done"
        await host.stop("w0")
        await until(lambda: not pool.ready)


async def test_a_known_name_is_connected_afresh_without_waiting(host: Host) -> None:
    async with WorkerPool(backoff=lambda: Backoff(first_s=1000, most_s=1000)) as pool:
        pool.add("w0", host.address("gone"))
        await asyncio.sleep(0.05)
        await host.start("here")
        pool.add("w0", host.address("here"))
        await pool.wait_ready(10)
        assert pool.slots.free == 8


async def test_a_worker_that_started_again_is_remembered_and_its_old_streams_fail(
    host: Host, pool: WorkerPool
) -> None:
    await start(host, pool, w0=SILENT)
    stream = speak(pool)
    pool.add("w0", host.address("not yet"))
    assert pool.description.engine == "fake"
    assert pool.slots.lost == 8
    assert [event.error.code for event in await read(stream)] == [ErrorCode.ENGINE_FAILED]


async def test_a_removed_worker_is_forgotten_and_its_streams_fail(host: Host, pool: WorkerPool) -> None:
    await start(host, pool, w0=SILENT)
    stream = speak(pool)
    pool.remove("w0")
    assert not pool.ready
    assert [event.error.code for event in await read(stream)] == [ErrorCode.ENGINE_FAILED]
    assert pool.description.engine == ""


async def test_a_silent_worker_is_lost_and_found_again_when_it_speaks(host: Host) -> None:
    worker = ScriptedWorker()
    await host.start_scripted("w0", worker)
    stalled: list[str] = []
    async with WorkerPool(
        on_stalled=stalled.append, stall_timeout_s=0.3, backoff=lambda: Backoff(first_s=0.01)
    ) as pool:
        pool.add("w0", host.address("w0"))
        await pool.wait_ready(10)
        stream = pool.open(REQUEST)
        worker.watching.clear()
        assert [event.error.code for event in await read(stream)] == [ErrorCode.ENGINE_FAILED]
        assert not pool.ready
        assert stalled[0] == "w0"
        worker.watching.set()
        await pool.wait_ready(10)


async def test_a_stopped_process_counts_as_silent(host: Host) -> None:
    stalled = asyncio.Event()
    async with (
        worker_process(host.address("w0")) as process,
        WorkerPool(on_stalled=lambda name: stalled.set(), stall_timeout_s=1.6) as pool,
    ):
        pool.add("w0", host.address("w0"))
        await pool.wait_ready(10)
        stream = pool.open(REQUEST)
        process.send_signal(signal.SIGSTOP)
        assert [event.error.code for event in await read(stream)] == [ErrorCode.ENGINE_FAILED]
        await stalled.wait()


async def test_a_freeze_of_the_gateway_is_not_the_workers_fault(host: Host) -> None:
    await host.start_scripted("w0", ScriptedWorker())
    stalled: list[str] = []
    async with WorkerPool(on_stalled=stalled.append, stall_timeout_s=0.6) as pool:
        pool.add("w0", host.address("w0"))
        await pool.wait_ready(10)
        stream = pool.open(REQUEST)
        time.sleep(0.8)
        await asyncio.sleep(0.1)
        stream.finish()
        assert kinds(await read(stream)) == ["done"]
        assert stalled == []


# --- cancelling


async def cancel_at_once(stream: EngineStream) -> None:
    stream.cancel()
    assert await read(stream) == []


async def cancel_before_the_first_event(stream: EngineStream) -> None:
    await asyncio.sleep(0.02)
    stream.cancel()
    assert await read(stream) == []


async def cancel_while_somebody_reads(stream: EngineStream) -> None:
    reading = asyncio.create_task(read(stream))
    await asyncio.sleep(0.02)
    stream.cancel()
    assert "error" not in kinds(await reading)


async def cancel_between_events(stream: EngineStream) -> None:
    assert (await anext(stream)).WhichOneof("event") == "marks"
    stream.cancel()
    stream.cancel()
    assert await read(stream) == []


async def cancel_the_reader(stream: EngineStream) -> None:
    reading = asyncio.create_task(read(stream))
    await asyncio.sleep(0.02)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await read(stream) == []


async def cancel_the_reader_before_it_runs(stream: EngineStream) -> None:
    async def first() -> link.Event:
        return await anext(stream)

    reading = asyncio.create_task(first())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await read(stream) == []


@pytest.mark.parametrize("first_audio_ms", [0, 3_600_000])
@pytest.mark.parametrize(
    "cancel",
    [
        cancel_at_once,
        cancel_before_the_first_event,
        cancel_while_somebody_reads,
        cancel_the_reader,
        cancel_the_reader_before_it_runs,
    ],
)
async def test_cancel_frees_the_slot_and_the_next_context_is_unharmed(
    host: Host, pool: WorkerPool, cancel: Callable[[EngineStream], Awaitable[None]], first_audio_ms: float
) -> None:
    servers = await start(host, pool, w0=replace(SCRIPT, slots=1, first_audio_ms=first_audio_ms))
    await cancel(speak(pool, request=replace(REQUEST, credit_samples=2400)))
    assert not pool.is_full
    await until(lambda: servers["w0"].busy == 0)
    await until(
        lambda: not any(task.get_name().startswith("engine link writer") for task in asyncio.all_tasks())
    )
    stream = speak(pool)
    if first_audio_ms == 0:
        assert kinds(await read(stream))[-1] == "done"


async def test_cancel_between_events_ends_the_iterator(host: Host, pool: WorkerPool) -> None:
    servers = await start(host, pool, w0=SCRIPT)
    await cancel_between_events(speak(pool))
    await until(lambda: servers["w0"].busy == 0)


# --- closing


async def test_closing_fails_the_streams_and_leaves_no_task(host: Host) -> None:
    async with worker_process(host.address("w0")):
        before = asyncio.all_tasks()
        pool = WorkerPool()
        pool.add("w0", host.address("w0"))
        pool.add("never", host.address("never"))
        await pool.wait_ready(10)
        reading = asyncio.create_task(read(pool.open(REQUEST)))
        unread = pool.open(REQUEST)
        await asyncio.sleep(0.02)
        await pool.aclose()
        await pool.aclose()
        assert [event.error.code for event in await reading] == [ErrorCode.ENGINE_FAILED]
        assert [event.error.code for event in await read(unread)] == [ErrorCode.ENGINE_FAILED]
        await until(lambda: asyncio.all_tasks() == before)


async def test_a_closed_pool_takes_nothing_more(host: Host) -> None:
    pool = WorkerPool()
    await pool.aclose()
    pool.add("w0", host.address("w0"))
    with pytest.raises(EngineRefused):
        pool.open(REQUEST)
    assert len(asyncio.all_tasks()) == 1
