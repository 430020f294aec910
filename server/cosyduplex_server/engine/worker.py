"""The host of an engine worker: one engine behind the link.

The host owns what every engine needs alike: the service, slots, credit, the end of a stream, draining. An
engine only turns text into events. `worker_process.py` makes a process of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, NoReturn, Protocol, TypeVar, cast

import grpc

from cosyduplex.errors import ERROR_KINDS, ErrorCode
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.link import worker_pb2_grpc as link_grpc
from cosyduplex_server.engine.outbox import Outbox, error_event
from cosyduplex_server.errors import Failure

logger = logging.getLogger(__name__)

T = TypeVar("T")
Message = TypeVar("Message")

CAPACITY_INTERVAL_S: Final = 1.0
# After the last event the gateway has this long to end its side of the call.
HANG_UP_S: Final = 5.0
# How long a full worker waits for a slot before it refuses.
SLOT_WAIT_S: Final = 0.05
# For the last events of contexts that have just ended, on a busy machine.
_CLOSE_GRACE_S: Final = 5.0

# A gateway that vanished without a word (TCP only) is noticed, and its contexts freed, after 15 s.
_GRPC_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),
)


class EngineUnavailable(Exception):
    """The engine cannot start, and trying again as it is will not help (exit code 3)."""


class EngineRequest(Protocol):
    """One context inside an engine. Every method is called on the event loop and returns at once."""

    def append(self, segment: int, text: str, closes: bool) -> None:
        """Take more text of `segment`; `closes` says that the segment is complete."""

    def flush(self, number: int) -> None:
        """Emit `Flushed(number)` after the audio of all text taken so far; an open segment is closed."""

    def finish(self) -> None:
        """No more text follows: emit `Done` after all audio."""

    def cancel(self) -> None:
        """Stop and forget. The host calls this once for every request, also after its end."""

    def progress(self, sent_samples: int, credit_samples: int) -> None:
        """Learn how many samples have been sent and how many may be; called after each change."""


class Engine(Protocol):
    """What a worker hosts."""

    @property
    def description(self) -> link.Description:
        """What this engine is; it does not change."""

    def open(self, request: link.Open, outbox: Outbox) -> EngineRequest:
        """Begin a context, whose events go to `outbox`: audio, marks, segment ends, flushes, then `Done`.

        Raises:
            Failure: the request cannot be served (`unknown_voice`, `bad_request`, …).
        """

    @property
    def gpu_memory_bytes(self) -> int:
        """Memory of a GPU that this process holds; 0 without one."""

    async def aclose(self) -> None:
        """Give everything back; called once, after the last request was cancelled."""


class CloningEngine(Engine, Protocol):
    """An engine that makes voices from recordings; its description says `clones_voices`.

    Both methods are called in a thread of their own, one call at a time, and may take seconds.
    """

    def add_voice(self, prompt: link.VoicePrompt) -> link.VoiceAdded:
        """Make a voice, in place of the one of that id where there is one.

        `prompt.features` are tried first, `prompt.audio` where they do not fit; either may be empty.

        Raises:
            Failure: no voice can be made of it (`bad_reference_audio`, …).
        """

    def remove_voice(self, voice_id: str) -> None:
        """Forget a voice, if there is one of that id. Contexts that speak it go on to their end."""


class WorkerServer(link_grpc.EngineWorkerServicer):
    """Serves the link for one engine and keeps its slots."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cloning = cast(CloningEngine, engine) if engine.description.clones_voices else None
        self._voice_thread = ThreadPoolExecutor(1, thread_name_prefix="voices")
        self._slots = engine.description.slots
        self._busy = 0
        self._draining = False
        self._closing = False
        self._changed = asyncio.Event()
        self._server = grpc.aio.server(options=_GRPC_OPTIONS)
        link_grpc.add_EngineWorkerServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]

    @property
    def busy(self) -> int:
        """How many contexts are open."""
        return self._busy

    async def start(self, address: str) -> str:
        """Listen on `unix:PATH` or `HOST:PORT`, and return the address with the port that was taken.

        Raises:
            OSError: the address cannot be had.
        """
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:  # what grpc raises for any address it cannot bind
            raise OSError(f"cannot listen on {address}") from error
        await self._server.start()
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    async def drain(self, timeout_s: float) -> None:
        """Refuse new contexts and wait for the open ones, at most `timeout_s`."""
        self._draining = True
        self._notify()
        try:
            async with asyncio.timeout(timeout_s):
                while self._busy:
                    await self._changed.wait()
        except TimeoutError:
            logger.warning("%d contexts did not finish in %.0f s", self._busy, timeout_s)

    async def aclose(self) -> None:
        """Stop listening, end every stream, and close the engine."""
        self._closing = True
        self._notify()
        await self._server.stop(None if self._busy else _CLOSE_GRACE_S)
        while self._busy:
            await self._changed.wait()
        # A voice that is being made is finished: nothing may use the engine once it is closed.
        await asyncio.to_thread(self._voice_thread.shutdown, cancel_futures=True)
        await self._engine.aclose()

    async def Describe(self, request: link.DescribeRequest, context: object) -> link.Description:
        """What this worker is."""
        return self._engine.description

    async def Watch(self, request: link.WatchRequest, context: object) -> AsyncIterator[link.Capacity]:
        """The capacity at once, after every change, and at least every second."""
        while not self._closing:
            changed = self._changed
            yield link.Capacity(
                slots=self._slots,
                busy=self._busy,
                draining=self._draining,
                gpu_memory_bytes=self._engine.gpu_memory_bytes,
            )
            try:
                async with asyncio.timeout(CAPACITY_INTERVAL_S):
                    await changed.wait()
            except TimeoutError:
                pass

    async def AddVoice(
        self,
        request: link.VoicePrompt,
        context: grpc.aio.ServicerContext[link.VoicePrompt, link.VoiceAdded],
    ) -> link.VoiceAdded:
        """Make a voice of the gateway's store known to the engine."""
        engine = self._cloning or await _clones_none(context)
        try:
            return await self._beside_speech(engine.add_voice, request)
        except Failure as failure:
            code, message = failure.code, failure.message
        except Exception as error:  # the engine's fault is told to whoever adds this voice
            logger.error("the engine failed to make a voice", exc_info=error)
            code, message = ErrorCode.ENGINE_FAILED, "The engine failed while making this voice."
        retryable = ERROR_KINDS[code].retryable
        return link.VoiceAdded(error=link.Error(code=code, message=message, retryable=retryable))

    async def RemoveVoice(
        self,
        request: link.VoiceId,
        context: grpc.aio.ServicerContext[link.VoiceId, link.VoiceRemoved],
    ) -> link.VoiceRemoved:
        """Have the engine forget a voice."""
        engine = self._cloning or await _clones_none(context)
        await self._beside_speech(engine.remove_voice, request.id)
        return link.VoiceRemoved()

    async def _beside_speech(self, work: Callable[[Message], T], argument: Message) -> T:
        """Do what takes seconds in the thread for voices, in the order it was asked for."""
        return await asyncio.get_running_loop().run_in_executor(self._voice_thread, work, argument)

    async def Speak(
        self,
        commands: AsyncIterator[link.Command],
        context: grpc.aio.ServicerContext[link.Command, link.Event],
    ) -> None:
        """One context: from `open` to `done` or `error`."""
        first = await anext(aiter(commands), None)
        if first is None:
            return
        refusal = self._refusal(first) or await self._wait_for_slot()
        if refusal is not None:
            await context.write(refusal)
            await _hang_up(commands)
            return
        slot = _Slot(self)
        try:
            await self._speak(first.open, commands, context, slot)
        finally:
            slot.release()

    def _refusal(self, first: link.Command) -> link.Event | None:
        if first.WhichOneof("command") != "open":
            return error_event(ErrorCode.BAD_REQUEST, "The first command must be open.")
        if (reason := _wrong_parameter(first.open)) is not None:
            return error_event(ErrorCode.BAD_REQUEST, reason)
        if self._draining:
            return error_event(ErrorCode.ENGINE_UNAVAILABLE, "This worker is shutting down.")
        return None

    async def _wait_for_slot(self) -> link.Event | None:
        """Take the slot of a context that is just ending: its gateway may know so before this worker does."""
        try:
            async with asyncio.timeout(SLOT_WAIT_S):
                while self._busy >= self._slots:
                    await self._changed.wait()
        except TimeoutError:
            return error_event(ErrorCode.OVER_CAPACITY, f"All {self._slots} slots of this worker are taken.")
        return None

    def count(self, contexts: int) -> None:
        """Count contexts that begin (1) or end (-1)."""
        self._busy += contexts
        self._notify()

    async def _speak(
        self,
        opening: link.Open,
        commands: AsyncIterator[link.Command],
        context: grpc.aio.ServicerContext[link.Command, link.Event],
        slot: _Slot,
    ) -> None:
        outbox = Outbox(asyncio.get_running_loop(), opening.credit_samples)
        try:
            request = self._engine.open(opening, outbox)
        except Exception as error:  # noqa: BLE001  the engine's fault is told to this context alone
            outbox.fail(error)
            await context.write(await outbox.next_event())
            await _hang_up(commands)
            return
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(
                _obey(commands, request, outbox), name=f"commands {opening.request_id}"
            )
            try:
                await _send(context, request, outbox, slot)
                await asyncio.wait((reader,), timeout=HANG_UP_S)  # as in `_hang_up`
            finally:  # reached as well when the gateway cancels the stream or is gone
                reader.cancel()
                request.cancel()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class _Slot:
    """One of a worker's slots, from now until it is given back."""

    def __init__(self, server: WorkerServer) -> None:
        self._server: WorkerServer | None = server
        server.count(1)

    def release(self) -> None:
        """Give it back; once is enough."""
        if self._server is not None:
            self._server.count(-1)
            self._server = None


async def _send(
    context: grpc.aio.ServicerContext[link.Command, link.Event],
    request: EngineRequest,
    outbox: Outbox,
    slot: _Slot,
) -> None:
    while True:
        event = await outbox.next_event()
        if event.WhichOneof("event") in ("done", "error"):
            slot.release()  # before the gateway can know, so that what it opens next finds it free
        try:
            await context.write(event)
        except grpc.aio.InternalError:  # the gateway is gone; gRPC cancels this task next
            return
        match event.WhichOneof("event"):
            case "done" | "error":
                return
            case "audio":
                request.progress(outbox.sent_samples, outbox.credit_samples)


async def _hang_up(commands: AsyncIterator[link.Command]) -> None:
    """Let the gateway end the call.

    A command may be on its way. Were the call over before it is written, gRPC would fail the gateway's side
    and throw away the events not yet read.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(HANG_UP_S):
            async for _ in commands:
                pass


async def _obey(commands: AsyncIterator[link.Command], request: EngineRequest, outbox: Outbox) -> None:
    """Carry out the gateway's commands. A gateway that hangs up before `finish` has cancelled."""
    finished = cancelled = False
    try:
        async for command in commands:
            match command.WhichOneof("command"):
                case "append":
                    request.append(command.append.segment, command.append.text, command.append.closes)
                case "flush":
                    request.flush(command.flush.flush)
                case "finish":
                    finished = True
                    request.finish()
                case "credit":
                    outbox.add_credit(command.credit.samples)
                    request.progress(outbox.sent_samples, outbox.credit_samples)
                case "cancel":
                    cancelled = True
                    break
                case _:
                    outbox.end(error_event(ErrorCode.BAD_REQUEST, "A context is opened once."))
    except Exception as error:  # noqa: BLE001  the engine's fault is told to this context alone
        outbox.fail(error)
        return
    if cancelled or not finished:
        outbox.end(link.Event(done=link.Done()))


async def _clones_none(context: grpc.aio.ServicerContext[Message, T]) -> NoReturn:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "This engine clones no voices.")
    raise AssertionError("abort raises")


def _wrong_parameter(opening: link.Open) -> str | None:
    for name, value, low, high in (
        ("speed", opening.speed, 0.5, 2.0),
        ("pitch", opening.pitch, -12.0, 12.0),
        ("volume", opening.volume, 0.0, 2.0),
    ):
        if not low <= value <= high:  # false for NaN too
            return f"{name} must be from {low:g} to {high:g}."
    return None
