"""Keeps the engine workers of this machine running: starts, watches, restarts and ends their processes.

A worker is a program that takes `--listen ADDRESS --exit-with-stdin`, writes one line of JSON
`{"ready": true, "address": …}` on standard output once it can serve, and ends when its standard input does:
the supervisor holds the other end, so that workers die with it however it dies.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)

CANNOT_START = 3
"""The exit code of a worker that will never start as it was asked to (no library, no checkpoint)."""

_START_ATTEMPTS = 3
_DRAIN_S = 1.0
_MAX_LINE_BYTES = 64 * 1024
_STDOUT = 1


class EngineStartError(Exception):
    """The engine cannot start; the message is one line, a worker's own last word where it had one."""


@dataclass(slots=True, kw_only=True)
class Backoff:
    """Delays that double from `first_s` to `most_s` and begin again after `healthy_s` without a failure.

    Each is shortened by up to half at random, so that what failed together does not return together.
    """

    first_s: float = 0.1
    most_s: float = 10.0
    healthy_s: float = 30.0
    random: Callable[[], float] = random.random
    _failures: int = field(default=0, init=False)

    def after(self, lasted_s: float) -> float:
        """How long to wait after a failure that ended `lasted_s` of health."""
        if lasted_s >= self.healthy_s:
            self._failures = 0
        delay_s = min(self.most_s, self.first_s * 2.0**self._failures)
        if delay_s < self.most_s:
            self._failures += 1
        return delay_s * (1 - self.random() / 2)


class _Lines:
    """Cuts a stream of bytes into lines; one that is longer than a log can want is dropped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_LINE_BYTES:
            self._rest = b""
        return [text for line in lines if (text := line.decode(errors="replace").strip())]

    def end(self) -> list[str]:
        return self.feed(b"\n")


class _Process(asyncio.SubprocessProtocol):
    """One run of a worker, from start to end.

    A protocol and not `asyncio.create_subprocess_exec`, whose `wait()` lasts until every pipe is closed: a
    grandchild that outlives the worker would hold up the restart.
    """

    def __init__(self, name: str, on_ready: Callable[[str], None]) -> None:
        self._name = name
        self._on_ready = on_ready
        self._lines = {1: _Lines(), 2: _Lines()}
        self.is_ready = False
        self.last_line = ""
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._take(fd, self._lines[fd].feed(data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd in self._lines:
            self._take(fd, self._lines[fd].end())

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    def _take(self, fd: int, lines: list[str]) -> None:
        for line in lines:
            if fd == _STDOUT and not self.is_ready and (address := _ready_address(line)) is not None:
                self.is_ready = True
                self._on_ready(address)
                continue
            if fd != _STDOUT:
                self.last_line = line
            logger.info("%s: %s", self._name, line)


def _ready_address(line: str) -> str | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    match said:
        case {"ready": True, "address": str(address)}:
            return address
    return None


def _signal(send: Callable[[], None]) -> None:
    with suppress(ProcessLookupError):  # it has just ended by itself
        send()


@dataclass(slots=True)
class _Worker:
    name: str
    backoff: Backoff
    num_starts: int = 0
    ready_since_s: float | None = None
    transport: asyncio.SubprocessTransport | None = None


class Supervisor:
    """Runs `num_workers` processes of `command` for as long as its `async with` lasts.

    A worker that exits is started again after a growing delay, at a new address. What `on_ready` gets, each
    time a worker can serve, is the worker's name (the same over its restarts) and its address.

    Args:
        command: the program and its arguments; the listening address is added.
        on_ready: called with name and address on the event loop.
        num_workers: how many processes.
        grace_s: from SIGTERM to SIGKILL.
        backoff: makes one worker's delays.
        clock: monotonic seconds.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        on_ready: Callable[[str, str], None],
        num_workers: int = 1,
        grace_s: float = 5.0,
        backoff: Callable[[], Backoff] = Backoff,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._command = tuple(command)
        self._on_ready = on_ready
        self._grace_s = grace_s
        self._clock = clock
        self._sleep = sleep
        self._workers = [_Worker(f"w{number}", backoff()) for number in range(num_workers)]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def restarts(self) -> int:
        """How many times a worker was started again."""
        return sum(max(0, worker.num_starts - 1) for worker in self._workers)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            # Only this user can enter it, so that nobody else can speak to the workers.
            directory = tempfile.TemporaryDirectory(prefix="cosyduplex-", ignore_cleanup_errors=True)
            self._directory = Path(stack.enter_context(directory))
            self._group = await stack.enter_async_context(asyncio.TaskGroup())
            stack.callback(self._stop)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Starts all workers and returns when the first of them can serve.

        Raises:
            EngineStartError: one said, before that, that it never will; or ended three times over.
        """
        self._first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks = [
            self._group.create_task(self._keep(worker), name=f"engine worker {worker.name}")
            for worker in self._workers
        ]
        await self._first_ready

    def kill(self, name: str) -> None:
        """Ends a worker that answers no more; it is started again. Unknown names are ignored."""
        for worker in self._workers:
            if worker.name == name and worker.transport is not None:
                _signal(worker.transport.kill)

    async def aclose(self) -> None:
        """Ends every worker: SIGTERM, and SIGKILL after the grace. Idempotent."""
        await self._stack.aclose()

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _keep(self, worker: _Worker) -> None:
        while True:
            try:
                exit_code, last_word = await self._run(worker)
            except OSError as error:  # no such program, no more processes
                exit_code, last_word = CANNOT_START, f"{self._command[0]}: {error.strerror}"
            logger.warning("%s ended with exit code %s", worker.name, exit_code)
            hopeless = exit_code == CANNOT_START or worker.num_starts >= _START_ATTEMPTS
            if hopeless and not self._first_ready.done():
                message = last_word or f"the engine worker ended with exit code {exit_code}"
                self._first_ready.set_exception(EngineStartError(message))
            lasted_s = self._clock() - worker.ready_since_s if worker.ready_since_s is not None else 0.0
            await self._sleep(worker.backoff.after(lasted_s))

    async def _run(self, worker: _Worker) -> tuple[int | None, str]:
        """One process from start to end: its exit code and last word. Cancelled, it ends the process."""
        address = f"unix:{self._directory}/{worker.name}.{worker.num_starts}.sock"
        worker.num_starts += 1
        worker.ready_since_s = None

        def on_ready(address: str) -> None:
            worker.ready_since_s = self._clock()
            self._on_ready(worker.name, address)
            if not self._first_ready.done():
                self._first_ready.set_result(None)

        # A session of its own: Ctrl-C in the terminal is for the server, which drains before it ends workers.
        transport, process = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Process(worker.name, on_ready),
            *self._command,
            "--listen",
            address,
            "--exit-with-stdin",
            start_new_session=True,
        )
        worker.transport = transport
        try:
            await process.exited.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_S):
                    await process.closed.wait()
        finally:
            worker.transport = None
            await self._end(transport, process)
        return transport.get_returncode(), process.last_line

    async def _end(self, transport: asyncio.SubprocessTransport, process: _Process) -> None:
        try:
            if process.exited.is_set():
                return
            _signal(transport.terminate)
            try:
                async with asyncio.timeout(self._grace_s):
                    await process.exited.wait()
            except TimeoutError:
                _signal(transport.kill)
                await process.exited.wait()
        finally:
            transport.close()  # kills what still runs, should even the waiting be cancelled
