"""The gateway's end of the link: which workers there are, which one speaks next, one stream per context."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from grpc.aio import AioRpcError, StreamStreamCall, UnaryStreamCall

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.link.worker_pb2_grpc import EngineWorkerStub
from cosyduplex_server.engine.supervisor import Backoff
from cosyduplex_server.engine.voice_sync import VoiceSync, WorkerVoices

logger = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]

_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    # Each try has its own connection; a shared one would carry gRPC's own back-off over to the next.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)
_RETRY_AFTER_MS = 1000


class EngineRefused(Exception):
    """No worker takes this context now; nothing was started."""

    def __init__(self, code: ErrorCode, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakRequest:
    """How one context is to be spoken; empty strings leave the choice to the engine."""

    request_id: str
    voice: str = ""
    language: str = ""
    speed: float = 1.0
    pitch: float = 0.0
    volume: float = 1.0
    emotion: str = ""
    instruct: str = ""
    dialect: str = ""
    seed: int | None = None
    credit_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDescription:
    """What the workers are, taken together.

    Engine, model, device and rate are those of the first healthy worker, or of the first known one while none
    is healthy (empty before any was reached). `exact_marks`, `text_streaming` and `parameters` are what all
    of them honour.
    """

    engine: str = ""
    engine_version: str = ""
    model: str = ""
    device: str = ""
    sample_rate_hz: int = 0
    voices: tuple[link.Voice, ...] = ()
    exact_marks: bool = False
    text_streaming: bool = False
    parameters: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    slots: int = 0
    busy: int = 0


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """The slots of all known workers by state; lost are those that no new context can get."""

    free: int = 0
    busy: int = 0
    lost: int = 0


class EngineStream:
    """One context at one worker: commands go in without waiting, events come out by iterating.

    The iterator ends after `done`, `error` or `cancel()`. A worker that is lost shows as one `error` event
    with code `engine_failed`, never as an exception. Cancelling the task that iterates cancels the stream.
    Events are taken from gRPC one at a time as they are asked for, so that what waits is bounded by HTTP/2
    flow control and by the credit.

    Attributes:
        text_streaming: the engine begins before a segment is complete.
    """

    def __init__(
        self,
        call: StreamStreamCall[link.Command, link.Event],
        request: SpeakRequest,
        *,
        worker: str,
        sample_rate_hz: int,
        exact_marks: bool,
        text_streaming: bool,
        spawn: Spawn,
        on_end: Callable[[EngineStream, grpc.StatusCode | None], None],
    ) -> None:
        self.worker = worker
        self.sample_rate_hz = sample_rate_hz
        self.exact_marks = exact_marks
        self.text_streaming = text_streaming
        self._request_id = request.request_id
        self._call = call
        self._on_end = on_end
        self._ended = False
        self._audio: link.Event | None = None  # came with words, which go first
        self._commands: deque[link.Command] = deque()
        self._wake = asyncio.Event()
        self._put(link.Command(open=_open_command(request)))
        self._writer = spawn(self._write(), f"engine link writer {request.request_id}")

    def append(self, segment: int, text: str, *, closes: bool = True) -> None:
        """Speaks more text of a segment; `closes` says that the segment is complete."""
        if self._commands and self._commands[-1].HasField("append"):
            waiting = self._commands[-1].append
            if waiting.segment == segment:  # parts of one turn of the loop: one message
                waiting.text += text
                waiting.closes = closes
                return
        self._put(link.Command(append=link.Append(segment=segment, text=text, closes=closes)))

    def flush(self, number: int) -> None:
        """Asks for a `flushed` event once all that was appended has been sent as audio."""
        self._put(link.Command(flush=link.Flush(flush=number)))

    def finish(self) -> None:
        """Says that no more text follows."""
        self._put(link.Command(finish=link.Finish()))

    def credit(self, samples: int) -> None:
        """Allows the worker to have sent this many samples, counted from the start of the context."""
        if self._commands and self._commands[-1].HasField("credit"):
            self._commands[-1].credit.samples = samples
        else:
            self._put(link.Command(credit=link.Credit(samples=samples)))

    def cancel(self) -> None:
        """Stops the call at once; the iterator ends. Idempotent, and nothing when the stream has ended."""
        if not self._ended:
            self._stop()

    def __aiter__(self) -> AsyncIterator[link.Event]:
        return self

    async def __anext__(self) -> link.Event:
        if self._ended:
            raise StopAsyncIteration
        if self._audio is not None:
            audio, self._audio = self._audio, None
            return audio
        try:
            event = await self._call.read()
        except AioRpcError as error:
            return self._fail(error.code())
        except asyncio.CancelledError:
            # Raised by gRPC, too, for a call that was cancelled from this side.
            if _is_being_cancelled():
                self.cancel()
                raise
            event = grpc.aio.EOF
        if self._ended:  # cancelled while it waited
            raise StopAsyncIteration
        if not isinstance(event, link.Event):
            return self._fail(None)
        if event.WhichOneof("event") in ("done", "error"):
            self._end()
        if event.HasField("audio") and event.audio.words:
            self._audio = event
            return link.Event(marks=link.Marks(words=event.audio.words))
        return event

    def _put(self, command: link.Command) -> None:
        if not self._ended:
            self._commands.append(command)
            self._wake.set()

    async def _write(self) -> None:
        """Sends the commands; after the last event, leaves it to the worker to end the call."""
        try:
            while not self._ended:
                await self._wake.wait()
                self._wake.clear()
                while self._commands and not self._ended:
                    await self._call.write(self._commands.popleft())
            await self._call.done_writing()
        except (AioRpcError, asyncio.InvalidStateError) as error:
            # The call has ended under our hands; whoever iterates learns why.
            logger.debug("writing to %s ended: %s", self.worker, type(error).__name__)

    def _end(self, failure: grpc.StatusCode | None = None) -> None:
        self._ended = True
        self._commands.clear()
        self._wake.set()
        self._on_end(self, failure)

    def _stop(self, failure: grpc.StatusCode | None = None) -> None:
        self._end(failure)
        self._call.cancel()
        self._writer.cancel()

    def _fail(self, failure: grpc.StatusCode | None) -> link.Event:
        # The status alone: the details might quote the text.
        reason = "no last event" if failure is None else failure.name
        logger.warning("%s failed in the middle of %s: %s", self.worker, self._request_id, reason)
        self._stop(failure)
        message = "The engine worker stopped in the middle of the speech."
        return link.Event(error=link.Error(code=ErrorCode.ENGINE_FAILED, message=message, retryable=True))


class _Stalled(Exception):
    """A worker is connected and says nothing."""


class _Watchdog:
    """Barks when it was not fed for `timeout_s`, in two halves: a freeze of this process uses up only one."""

    def __init__(self, timeout_s: float, bark: Callable[[], object]) -> None:
        self._half_s = timeout_s / 2
        self._bark = bark
        self.has_barked = False
        self._arm()

    def feed(self) -> None:
        self.stop()
        self._arm()

    def stop(self) -> None:
        self._timer.cancel()

    def _arm(self, half: int = 1) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._half_s, self._half_passed, half)

    def _half_passed(self, half: int) -> None:
        if half == 1:
            self._arm(2)
        else:
            self.has_barked = True
            self._bark()


class _Worker:
    """One worker as the pool sees it: its connection, its load, its streams."""

    def __init__(
        self,
        name: str,
        address: str,
        *,
        stall_timeout_s: float,
        voices: VoiceSync | None,
        spawn: Spawn,
        on_change: Callable[[], None],
        on_stalled: Callable[[str], None],
    ) -> None:
        self.name = name
        self._address = address
        self._stall_timeout_s = stall_timeout_s
        self._voices = voices
        self._added_voices: WorkerVoices | None = None
        self._spawn = spawn
        self._on_change = on_change
        self._on_stalled = on_stalled
        self.description: link.Description | None = None
        self.capacity: link.Capacity | None = None
        self.slots = 0
        self.streams: set[EngineStream] = set()
        self._num_elsewhere = 0
        self._num_elsewhere_before = 0

    @property
    def healthy(self) -> bool:
        return self.capacity is not None and not self.capacity.draining

    @property
    def busy(self) -> int:
        return len(self.streams) + self._num_elsewhere

    @property
    def has_room(self) -> bool:
        return self.healthy and self.busy < self.slots

    def knows(self, voice: str) -> bool:
        if self._added_voices is not None and self._added_voices.speaks(voice):
            return True
        return self.description is not None and any(one.id == voice for one in self.description.voices)

    @property
    def streams_text(self) -> bool:
        return self.description is not None and self.description.text_streaming

    def open(self, request: SpeakRequest) -> EngineStream:
        assert self.description is not None, "only a healthy worker opens contexts"
        stream = EngineStream(
            self._stub.Speak(),
            request,
            worker=self.name,
            sample_rate_hz=self.description.sample_rate_hz,
            exact_marks=self.description.exact_marks,
            text_streaming=self.description.text_streaming,
            spawn=self._spawn,
            on_end=self._forget,
        )
        self.streams.add(stream)
        return stream

    async def keep_connected(self, backoff: Backoff) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started_s = loop.time()
            try:
                # A new channel each time: this back-off is the only one.
                async with grpc.aio.insecure_channel(self._address, options=_CHANNEL_OPTIONS) as channel:
                    await self._follow(EngineWorkerStub(channel))  # type: ignore[no-untyped-call]
                reason = "closed by the worker"
            except AioRpcError as error:
                reason = error.code().name
            except _Stalled:
                reason = "the worker is silent"
                self._on_stalled(self.name)
            logger.info("no link to %s: %s", self.name, reason)
            await asyncio.sleep(backoff.after(loop.time() - started_s))

    async def _follow(self, stub: EngineWorkerStub) -> None:
        """Asks what the worker is, gives it the voices and follows its capacity, until the link is lost."""
        description = await self._describe(stub)
        self._stub = stub
        async with self._with_voices(description, stub) as self._added_voices:
            await self._watch(stub)

    def _with_voices(
        self, description: link.Description, stub: EngineWorkerStub
    ) -> AbstractAsyncContextManager[WorkerVoices | None]:
        if self._voices is None:
            return nullcontext()
        return self._voices.attended(self.name, description, stub, self._spawn)

    async def _watch(self, stub: EngineWorkerStub) -> None:
        watch: UnaryStreamCall[link.WatchRequest, link.Capacity] = stub.Watch(link.WatchRequest())
        watchdog = _Watchdog(self._stall_timeout_s, watch.cancel)
        try:
            while isinstance(capacity := await watch.read(), link.Capacity):
                watchdog.feed()
                self._take(capacity)
        except asyncio.CancelledError:
            if _is_being_cancelled() or not watchdog.has_barked:
                raise
            raise _Stalled from None
        finally:
            watchdog.stop()
            self._lose()

    async def _describe(self, stub: EngineWorkerStub) -> link.Description:
        call: Awaitable[link.Description] = stub.Describe(
            link.DescribeRequest(), timeout=self._stall_timeout_s
        )
        try:
            self.description = await call
            return self.description
        except AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _Stalled from None
            raise

    def _forget(self, stream: EngineStream, failure: grpc.StatusCode | None) -> None:
        if stream not in self.streams:  # of an earlier connection
            return
        self.streams.discard(stream)
        if failure is grpc.StatusCode.UNAVAILABLE:
            # A stream learns of a crash before `Watch` does. Nothing is opened here until the worker speaks.
            self.capacity = None
            self._on_change()

    def _take(self, capacity: link.Capacity) -> None:
        num_elsewhere = max(0, capacity.busy - len(self.streams))
        if self.capacity is None:
            logger.info("%s is ready at %s", self.name, self._address)
            self._num_elsewhere_before = num_elsewhere
        # A report may have been on its way while a context began or ended here, so a rise of what other
        # gateways run there is believed when two reports in a row show it.
        self._num_elsewhere = min(num_elsewhere, self._num_elsewhere_before)
        self._num_elsewhere_before = num_elsewhere
        self.capacity = capacity
        self.slots = capacity.slots
        self._on_change()

    def _lose(self) -> None:
        self.capacity = None
        self._added_voices = None
        self._num_elsewhere = 0
        self.streams = set()  # closing the channel, which follows, ends their calls
        self._on_change()


def _is_being_cancelled() -> bool:
    """Whether the running task is itself being cancelled, and not only something it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _open_command(request: SpeakRequest) -> link.Open:
    return link.Open(
        request_id=request.request_id,
        voice=request.voice,
        language=request.language,
        speed=request.speed,
        pitch=request.pitch,
        volume=request.volume,
        emotion=request.emotion,
        instruct=request.instruct,
        dialect=request.dialect,
        seed=request.seed,
        credit_samples=request.credit_samples,
    )


class WorkerPool:
    """Knows every worker's health and load, and opens each context at the least loaded one.

    Must be used on one running event loop and closed with `aclose()` (or as an `async with`).

    Args:
        on_stalled: called with the name of a worker that is connected but silent, so that its process can be
            replaced.
        stall_timeout_s: a worker tells its capacity once a second; after this much silence it is lost.
        voices: what workers that clone are given before they take contexts.
        backoff: makes one worker's delays between attempts to reach it.
    """

    def __init__(
        self,
        *,
        on_stalled: Callable[[str], None] = lambda name: None,
        stall_timeout_s: float = 8.0,
        voices: VoiceSync | None = None,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self._on_stalled = on_stalled
        self._stall_timeout_s = stall_timeout_s
        self._voices = voices
        self._backoff = backoff
        self._closed = False
        self._workers: dict[str, _Worker] = {}
        self._links: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def add(self, name: str, address: str) -> None:
        """Connects to a worker, and again whenever the connection is lost.

        A known name is a worker that started again: it is connected afresh at once, without waiting for any
        back-off. Nothing happens once the pool is closed.
        """
        if self._closed:
            return
        known = self._workers.get(name)
        worker = _Worker(
            name,
            address,
            stall_timeout_s=self._stall_timeout_s,
            voices=self._voices,
            spawn=self._spawn,
            on_change=self._update_ready,
            on_stalled=self._on_stalled,
        )
        if known is not None:
            worker.description, worker.slots = known.description, known.slots
            self._links[name].cancel()
        self._workers[name] = worker
        self._links[name] = self._spawn(worker.keep_connected(self._backoff()), f"engine link to {name}")
        self._update_ready()

    def remove(self, name: str) -> None:
        """Forgets a worker; its streams fail."""
        del self._workers[name]
        self._links.pop(name).cancel()
        self._update_ready()

    def open(self, request: SpeakRequest) -> EngineStream:
        """Opens a context at the least loaded healthy worker, of those that know the voice where any does.

        Raises:
            EngineRefused: no worker is healthy, or all of them are full.
        """
        fitting = self._fitting(request.voice)
        if not fitting:
            raise EngineRefused(
                ErrorCode.ENGINE_UNAVAILABLE, "No engine worker is ready.", retry_after_ms=_RETRY_AFTER_MS
            )
        free = [worker for worker in fitting if worker.has_room]
        if not free:
            raise EngineRefused(
                ErrorCode.OVER_CAPACITY, "Every engine slot is taken.", retry_after_ms=_RETRY_AFTER_MS
            )
        worker = min(free, key=lambda worker: (worker.busy / worker.slots, len(worker.streams)))
        return worker.open(request)

    def streams_text(self, voice: str) -> bool:
        """Whether whichever worker opens a context with this voice begins before a segment is complete."""
        fitting = self._fitting(voice)
        return bool(fitting) and all(worker.streams_text for worker in fitting)

    @property
    def ready(self) -> bool:
        """Whether any worker takes new contexts."""
        return self._ready.is_set()

    @property
    def is_full(self) -> bool:
        """Whether a context would be refused now, whatever its voice."""
        return not any(worker.has_room for worker in self._workers.values())

    async def wait_ready(self, timeout: float | None = None) -> None:
        """Returns once a worker takes new contexts.

        Raises:
            TimeoutError: none did within `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            await self._ready.wait()

    @property
    def description(self) -> EngineDescription:
        """What the workers are, taken together, as of now."""
        known = [worker for worker in self._workers.values() if worker.description is not None]
        workers = [worker for worker in known if worker.healthy] or known
        described = [worker.description for worker in workers if worker.description is not None]
        if not described:
            return EngineDescription()
        first = described[0]
        voices: dict[str, link.Voice] = {}
        for one in described:
            for voice in one.voices:
                voices.setdefault(voice.id, voice)
        return EngineDescription(
            engine=first.engine,
            engine_version=first.engine_version,
            model=first.model,
            device=first.device,
            sample_rate_hz=first.sample_rate_hz,
            voices=tuple(voices.values()),
            exact_marks=all(one.exact_marks for one in described),
            text_streaming=all(one.text_streaming for one in described),
            parameters=tuple(
                name for name in first.parameters if all(name in one.parameters for one in described)
            ),
            notes=tuple(dict.fromkeys(note for one in described for note in one.notes)),
            slots=sum(worker.slots for worker in workers),
            busy=sum(worker.busy for worker in workers),
        )

    @property
    def slots(self) -> SlotCounts:
        """The slots of all known workers by state."""
        workers = self._workers.values()
        busy = sum(worker.busy for worker in workers)
        free = sum(max(0, worker.slots - worker.busy) for worker in workers if worker.healthy)
        lost = sum(max(0, worker.slots - worker.busy) for worker in workers if not worker.healthy)
        return SlotCounts(free=free, busy=busy, lost=lost)

    @property
    def gpu_memory_bytes(self) -> int:
        """The GPU memory in use at all workers that can be reached."""
        return sum(worker.capacity.gpu_memory_bytes for worker in self._workers.values() if worker.capacity)

    async def aclose(self) -> None:
        """Ends every stream and every connection. Idempotent."""
        self._closed = True
        for name in tuple(self._workers):
            self.remove(name)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _fitting(self, voice: str) -> list[_Worker]:
        """The healthy workers that know the voice, or all healthy ones where none does."""
        healthy = self._healthy()
        return [worker for worker in healthy if worker.knows(voice)] or healthy

    def _healthy(self) -> list[_Worker]:
        return [worker for worker in self._workers.values() if worker.healthy]

    def _update_ready(self) -> None:
        if self._healthy():
            self._ready.set()
        else:
            self._ready.clear()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
