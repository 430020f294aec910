"""The supervisor over real processes: starting, restarting, ending, and what it never leaves behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.pool import SpeakRequest, WorkerPool
from cosyduplex_server.engine.supervisor import Backoff, EngineStartError, Supervisor

# What every worker below begins with; it is given `--listen ADDRESS --exit-with-stdin`.
PREAMBLE = """
import json, os, signal, sys, time
address = sys.argv[sys.argv.index("--listen") + 1]
def ready():
    print(json.dumps({"ready": True, "address": address, "pid": os.getpid()}), flush=True)
def serve():
    ready()
    while os.read(0, 4096):
        pass
"""


def worker(body: str) -> list[str]:
    return [sys.executable, "-S", "-c", PREAMBLE + body]


@dataclass
class Readiness:
    """What the supervisor said became ready."""

    addresses: list[tuple[str, str]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, name: str, address: str) -> None:
        self.addresses.append((name, address))
        self.changed.set()

    async def count(self, number: int) -> None:
        async with asyncio.timeout(10):
            while len(self.addresses) < number:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the supervisor makes its own directory, which must be gone in the end."""
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


def children() -> set[int]:
    """The processes of this one, dead ones that nobody waited for included."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


@pytest.fixture(autouse=True)
def nothing_left(directory: Path) -> Iterator[None]:
    """No test leaves a process, nor a file of the supervisor."""
    before = children()
    yield
    assert children() == before
    assert [path for path in directory.iterdir() if path.name.startswith("cosyduplex-")] == []


@pytest.fixture(autouse=True)
async def no_task_left() -> AsyncIterator[None]:
    """No test leaves a task."""
    yield
    assert len(asyncio.all_tasks()) == 1


@asynccontextmanager
async def started(command: list[str], **options: object) -> AsyncIterator[tuple[Supervisor, Readiness]]:
    readiness = Readiness()
    options.setdefault("backoff", lambda: Backoff(first_s=0.01))
    async with Supervisor(command, on_ready=readiness, **options) as supervisor:  # type: ignore[arg-type]
        await supervisor.start()
        yield supervisor, readiness


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def is_running(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# --- starting


async def test_every_worker_gets_an_address_of_its_own() -> None:
    async with started(worker("serve()"), num_workers=3) as (supervisor, readiness):
        await readiness.count(3)
        assert {name for name, _ in readiness.addresses} == {"w0", "w1", "w2"}
        assert len({address for _, address in readiness.addresses}) == 3
        assert all(address.startswith("unix:/") for _, address in readiness.addresses)
        assert supervisor.restarts == 0


async def test_start_returns_with_the_first_ready_worker() -> None:
    body = "serve() if '/w1.' in address else os.read(0, 1)"
    async with started(worker(body), num_workers=2) as (_, readiness):
        assert [name for name, _ in readiness.addresses] == ["w1"]


async def test_sockets_lie_where_only_this_user_can_enter() -> None:
    async with started(worker("serve()")) as (_, readiness):
        path = Path(readiness.addresses[0][1].removeprefix("unix:"))
        assert path.parent.stat().st_mode & 0o077 == 0


async def test_noise_does_not_break_readiness_and_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    body = r"""
os.write(2, b"loading\nbad \xff bytes\n")
os.write(2, b"x" * 1_000_000 + b"\n")
print("a banner\n[1, 2]\n\"ready\"\n{\"ready\": false}\n{", flush=True)
os.write(2, b"half a li")
time.sleep(0.02)
os.write(2, b"ne\n")
serve()
"""
    async with started(worker(body)) as (_, readiness):
        assert len(readiness.addresses) == 1
        await until(lambda: "w0: half a line" in caplog.messages)
    for line in ("loading", "bad \ufffd bytes", "a banner", '{"ready": false}'):
        assert f"w0: {line}" in caplog.messages
    assert max(map(len, caplog.messages)) <= 100_000


async def test_output_after_readiness_never_blocks_the_worker() -> None:
    body = """
ready()
for _ in range(100):
    print("x" * 9_999)
    print("x" * 9_999, file=sys.stderr)
serve()
"""
    async with started(worker(body)) as (_, readiness):
        await asyncio.sleep(0)
        assert len(readiness.addresses) == 1


@pytest.mark.parametrize("num_workers", [1, 2])
async def test_a_worker_that_can_never_start_is_a_start_error_with_its_last_word(num_workers: int) -> None:
    body = "sys.stderr.write('loading\\nno voice library\\n'); sys.exit(3)"
    with pytest.raises(EngineStartError) as error:
        async with started(worker(body), num_workers=num_workers):
            pass
    assert str(error.value) == "no voice library"


async def test_a_program_that_does_not_exist_is_a_start_error() -> None:
    with pytest.raises(EngineStartError, match=r"/nowhere/worker: No such file"):
        async with started(["/nowhere/worker"]):
            pass


async def test_a_worker_that_only_ever_ends_is_a_start_error() -> None:
    with pytest.raises(EngineStartError, match="exit code 7"):
        async with started(worker("sys.exit(7)")):
            pass


async def test_a_worker_that_starts_at_the_third_try_has_started(directory: Path) -> None:
    body = f"""
open(os.path.join({str(directory)!r}, str(os.getpid())), "w").close()
serve() if len([name for name in os.listdir({str(directory)!r}) if name.isdigit()]) == 3 else sys.exit(1)
"""
    async with started(worker(body)) as (supervisor, _):
        assert supervisor.restarts == 2


async def test_a_second_worker_that_cannot_start_does_not_end_the_first(directory: Path) -> None:
    flag = directory / "flag"
    body = f"""
if "/w0." in address:
    serve()
while not os.path.exists({str(flag)!r}):
    time.sleep(0.01)
sys.exit(3)
"""
    async with started(worker(body), num_workers=2) as (supervisor, readiness):
        flag.touch()
        await until(lambda: supervisor.restarts >= 1)
        assert [name for name, _ in readiness.addresses] == ["w0"]


async def test_a_cancelled_start_leaves_nothing() -> None:
    body = "os.read(0, 1)"

    async def run() -> None:
        async with started(worker(body), num_workers=2):
            pass

    for delay_s in (0, 0.001, 0.05):
        starting = asyncio.create_task(run())
        await asyncio.sleep(delay_s)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting


# --- restarting


async def test_a_worker_that_ends_is_started_again_at_a_new_address() -> None:
    async with started(worker("serve()")) as (supervisor, readiness):
        for number in (1, 2):
            supervisor.kill("w0")
            await readiness.count(number + 1)
            assert supervisor.restarts == number
        assert len(set(readiness.addresses)) == 3
        supervisor.kill("nobody")


async def test_a_stopped_worker_can_be_killed_too() -> None:
    body = "ready(); os.kill(os.getpid(), signal.SIGSTOP)"
    async with started(worker(body)) as (supervisor, readiness):
        supervisor.kill("w0")
        await readiness.count(2)


async def test_delays_between_restarts_grow_until_the_worker_stays_healthy() -> None:
    delays_s: list[float] = []
    clock_s = 0.0
    enough = asyncio.Event()

    async def sleep(delay_s: float) -> None:
        nonlocal clock_s
        delays_s.append(delay_s)
        if len(delays_s) == 6:
            enough.set()
            await asyncio.Event().wait()

    def on_ready(name: str, address: str) -> None:
        nonlocal clock_s
        on_ready_s.append(clock_s)

    on_ready_s: list[float] = []

    def clock() -> float:
        # The fourth run is a healthy one: 30 s go by between its readiness and its end.
        return clock_s + (30.0 if len(on_ready_s) == 4 else 0.0)

    async with Supervisor(
        worker("ready()"),
        on_ready=on_ready,
        backoff=lambda: Backoff(random=lambda: 0.0),
        clock=clock,
        sleep=sleep,
    ) as supervisor:
        await supervisor.start()
        async with asyncio.timeout(10):
            await enough.wait()
    assert delays_s == [0.1, 0.2, 0.4, 0.1, 0.2, 0.4]


async def test_a_grandchild_that_keeps_the_pipes_open_does_not_hold_up_the_restart(directory: Path) -> None:
    note = directory / "grandchild"
    body = f"""
if address.endswith("w0.0.sock"):
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {{}})
    with open({str(note)!r}, "w") as note:
        note.write(str(pid))
    ready()
    sys.exit(1)
serve()
"""
    async with started(worker(body)) as (_, readiness):
        await readiness.count(2)
    os.kill(int(note.read_text()), signal.SIGKILL)


@given(
    first_s=st.floats(0.01, 1),
    most_s=st.floats(1, 100),
    jitter=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40),
)
def test_delays_stay_within_their_bounds_and_begin_again(
    first_s: float, most_s: float, jitter: list[float]
) -> None:
    randoms = iter([*jitter, 0.0])
    backoff = Backoff(first_s=first_s, most_s=most_s, random=lambda: next(randoms))
    for number, _ in enumerate(jitter):
        whole_s = min(most_s, first_s * 2**number)
        assert whole_s / 2 <= backoff.after(0.0) <= whole_s
    assert backoff.after(backoff.healthy_s) == first_s


# --- ending


async def test_a_worker_is_asked_to_end_before_it_is_killed(directory: Path) -> None:
    note = directory / "note"
    body = f"""
def end(*_):
    open({str(note)!r}, "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
serve()
"""
    async with started(worker(body)):
        pass
    assert note.exists()


async def test_a_worker_that_does_not_end_is_killed_after_the_grace() -> None:
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); time.sleep(60)"
    async with started(worker(body), grace_s=0.05, num_workers=2) as (_, readiness):
        await readiness.count(2)


async def test_a_second_cancel_while_closing_kills_at_once() -> None:
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); time.sleep(60)"
    is_up = asyncio.Event()
    before = children()

    async def run() -> None:
        async with started(worker(body), grace_s=60):
            is_up.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(run())
    await is_up.wait()
    running.cancel()
    await asyncio.sleep(0.05)
    assert len(children() - before) == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: children() == before)


async def test_closing_between_two_starts_ends_at_once() -> None:
    before = children()
    waiting = Backoff(first_s=1000, most_s=1000)
    async with started(worker("ready()"), backoff=lambda: waiting) as (supervisor, _):
        await until(lambda: children() == before)
        await supervisor.aclose()
        await supervisor.aclose()


async def test_an_interrupt_from_the_terminal_is_not_for_the_workers() -> None:
    before = children()
    async with started(worker("serve()")):
        (pid,) = children() - before
        assert os.getpgid(pid) != os.getpgid(0)


async def test_an_error_of_the_caller_passes_through_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with started(worker("serve()")):
            raise ZeroDivisionError


async def test_workers_die_with_a_supervisor_that_is_killed(directory: Path) -> None:
    body = f"open(os.path.join({str(directory)!r}, str(os.getpid())), 'w').close(); serve()"
    host = f"""
import asyncio
from cosyduplex_server.engine.supervisor import Supervisor
async def main():
    async with Supervisor({worker(body)!r}, on_ready=print, num_workers=2) as supervisor:
        await supervisor.start()
        await asyncio.Event().wait()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-u", "-c", host, stdout=-1)
    assert process.stdout is not None
    addresses = [(await process.stdout.readline()).split()[1] for _ in range(2)]
    pids = [int(name) for name in os.listdir(directory) if name.isdigit()]
    assert len(pids) == 2
    assert all(map(is_running, pids))
    process.kill()
    await process.wait()
    await until(lambda: not any(map(is_running, pids)))
    os.rmdir(os.path.dirname(addresses[0].decode().removeprefix("unix:")))


# --- with the pool and a whole engine


async def test_the_embedded_voice_speaks_through_the_link() -> None:
    pytest.importorskip("espeakng_loader", exc_type=ImportError)
    pool = WorkerPool()
    async with pool, Supervisor([sys.executable, "-m", "cosyduplex_espeak"], on_ready=pool.add) as supervisor:
        await supervisor.start()
        await pool.wait_ready(10)
        assert pool.description.engine == "espeak-ng"
        stream = pool.open(SpeakRequest(request_id="r1", credit_samples=10**6))
        stream.append(0, "Hello, world.")
        stream.finish()
        events = [event async for event in stream]
        num_samples = sum(len(event.audio.pcm) for event in events) // 2
        assert stream.sample_rate_hz // 2 < num_samples < stream.sample_rate_hz * 3
        assert events[-1].HasField("done")
    await until(lambda: len(asyncio.all_tasks()) == 1)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_worker_that_dies_or_hangs_in_mid_speech_is_replaced(end: signal.Signals) -> None:
    command = [sys.executable, "-m", "cosyduplex_server.testing"]
    before = children()
    pool = WorkerPool(on_stalled=lambda name: supervisor.kill(name), stall_timeout_s=1.6)
    supervisor = Supervisor(command, on_ready=pool.add)
    async with pool, supervisor:
        await supervisor.start()
        await pool.wait_ready(10)
        stream = pool.open(SpeakRequest(request_id="r1", credit_samples=2400))
        stream.append(0, "hello")
        while not (await anext(stream)).HasField("audio"):
            pass
        (pid,) = children() - before
        os.kill(pid, end)
        assert [event.error.code async for event in stream] == [ErrorCode.ENGINE_FAILED]
        await until(lambda: supervisor.restarts == 1)
        await pool.wait_ready(10)
        again = pool.open(SpeakRequest(request_id="r2", credit_samples=10**6))
        again.append(0, "hello")
        again.finish()
        assert [event.WhichOneof("event") async for event in again][-1] == "done"
    await until(lambda: len(asyncio.all_tasks()) == 1)
