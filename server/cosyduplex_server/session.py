"""One session: keeps order and limits between a socket and its contexts; knows neither text nor tensors."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import secrets
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cosyduplex.connection import Received, ServerConnection, Violation
from cosyduplex.errors import ErrorCode
from cosyduplex.messages import (
    AudioOptions,
    ClientMessage,
    ContextCancel,
    ContextOpen,
    ContextStarted,
    Feedback,
    NegotiatedAudio,
    Notice,
    Ping,
    PlaybackReport,
    Pong,
    ServerMessage,
    SessionDraining,
    SessionEnd,
    SessionEnded,
    SessionStart,
    SessionStarted,
    SpeechOptions,
    TextAppend,
    TextEnd,
    TextFlush,
    TextOptions,
    Warning,
)
from cosyduplex_server.access import Principal
from cosyduplex_server.audio.encode import FrameRun
from cosyduplex_server.audio.negotiate import negotiate_audio
from cosyduplex_server.context import Context, ContextSettings, Outlet
from cosyduplex_server.dialect import GOING_AWAY, NORMAL, POLICY, Socket
from cosyduplex_server.errors import Failure
from cosyduplex_server.replay import ReplayLog

if TYPE_CHECKING:
    from cosyduplex_server.gateway import Gateway

log = logging.getLogger(__name__)

# How long a cancel is answered after `context.done`.
DONE_KEPT_S = 60.0
MAX_DONE_KEPT = 256
UNSUPPORTED_DATA, ENGINE_FAILURE, FULL = 1003, 1011, 1013


class Session(Outlet):
    """One WebSocket connection's worth of contexts.

    The socket calls `receive_text`, `receive_binary`, `tick` (it can take more) and `lost`; `run` owns
    the tasks of all contexts and returns when the session is over.
    """

    def __init__(self, gateway: Gateway, socket: Socket, principal: Principal | None) -> None:
        self.door = "duplex"
        self.id = gateway.new_id()
        self.principal = principal
        self.audio: NegotiatedAudio = negotiate_audio(AudioOptions())
        self.max_ahead_ms = 3000
        self._gateway = gateway
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._connection = ServerConnection()
        self._replay = ReplayLog(gateway.limits.replay_ms)
        self._start = SessionStart()
        self._contexts: dict[int, Context] = {}  # live ones, by index
        self._done: deque[tuple[float, Context]] = deque()  # done ones and when
        self._outgoing: list[tuple[bool, Sequence[bytes]]] = []
        self._over = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._started = False
        self._ending = False
        self._pumping = False
        self._audio_ms = 0.0
        self._characters = 0
        self._since_s = self._last_message_s = self._loop.time()
        self._timer = self._loop.call_later(gateway.config.first_message_s, self._on_silence)

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Keeps the contexts' tasks until the session is over.

        Args:
            on_ready: called once messages may be handed in.
        """
        async with asyncio.TaskGroup() as self._tasks:
            on_ready()
            await self._over.wait()
            for context in tuple(self._contexts.values()):
                context.drop()
        self._tasks = None

    # --- from the socket

    def receive_text(self, data: bytes) -> None:
        """Takes a text message."""
        self._handle(self._connection.receive_text(data))

    def receive_binary(self, data: bytes) -> None:
        """Takes a binary message, which is a mistake."""
        self._handle(self._connection.receive_binary())

    def lost(self) -> None:
        """The socket is gone: the session is over."""
        self._stop()

    def broken(self, failure: Failure) -> None:
        """The peer broke a rule of the transport, whose close code says it all."""
        self.lost()

    def refuse(self, failure: Failure, code: int = POLICY) -> None:
        """Ends the session with an error and this close code."""
        for context in tuple(self._contexts.values()):
            context.drop()
        self.emit(failure.as_error("session"))
        self._write()
        self._socket.close(code, str(failure.code))
        self._stop()

    def _handle(self, events: list[Received | Violation]) -> None:
        for event in events:
            if self._over.is_set():
                return
            if isinstance(event, Violation):
                self._refuse(event)
            else:
                self._obey(event)
        self.pump()

    def _refuse(self, violation: Violation) -> None:
        error = violation.error
        failure = Failure(error.code, str(error))
        if violation.close_code is None:
            self.emit(failure.as_error("none", error.context_id))
        else:
            self.refuse(failure, violation.close_code)

    def _obey(self, event: Received) -> None:
        message = event.message
        if not isinstance(message, Ping):
            self._last_message_s = self._loop.time()
        if isinstance(message, SessionStart):
            self._begin(message)
        elif event.index is not None:
            self._obey_about_context(message, event.index, event.opens)
        else:
            self._obey_about_session(message)

    def _obey_about_session(self, message: ClientMessage) -> None:
        match message:
            case ContextCancel():
                self._cancel_all(message.played_ms)
            case PlaybackReport():
                self._take_report(message)
            case Feedback():
                self._gateway.metrics.feedback.observe(message.score)
                log.info("feedback", extra={"session": self.id, "score": message.score})
            case Ping():
                self.emit(Pong(t=message.t))
            case SessionEnd():
                self._finish()
            case _:
                raise AssertionError(f"{message.type} without a context")

    # --- beginning

    def _begin(self, start: SessionStart) -> None:
        try:
            self._authorise(start)
            if start.resume is not None:
                raise Failure(ErrorCode.RESUME_FAILED, "this server keeps no session once its socket is gone")
            self.audio = negotiate_audio(start.audio)
            voice = self._gateway.voice_id(start.voice)
        except Failure as failure:
            code = UNSUPPORTED_DATA if failure.code is ErrorCode.UNSUPPORTED_FORMAT else POLICY
            self.refuse(failure, code)
            return
        self._start, self._started = start, True
        self.max_ahead_ms = start.flow.max_ahead_ms
        self._arm_timer(self._gateway.config.idle_s)
        warnings = tuple(
            Notice(code=ErrorCode.UNSUPPORTED_PARAMETER, message=text)
            for text in self._gateway.not_honoured(start.speech, start.language)
        )
        self._put(
            SessionStarted(
                session_id=self.id,
                resume_token=secrets.token_urlsafe(24),
                resume_window_ms=0,
                resumed=False,
                last_n=0,
                first_seq=1,
                audio=self.audio,
                voice=voice,
                engine=self._gateway.engine_name,
                limits=self._gateway.limits,
                warnings=warnings,
            )
        )
        log.info("session started", extra={"session": self.id, "encoding": self.audio.encoding})

    def _authorise(self, start: SessionStart) -> None:
        if self.principal is None:
            self.principal = self._gateway.gatekeeper.identify(start.token, "duplex", "speak")

    # --- contexts

    def _obey_about_context(self, message: ClientMessage, index: int, opens: bool) -> None:
        if opens and not self._open(message, index):
            return
        context = self._contexts.get(index) or self._done_context(index)
        if context is None:
            return
        match message:
            case ContextOpen():
                pass
            case TextAppend():
                try:
                    context.append(message.text)
                except Failure as failure:
                    self.emit(failure.as_error("none", context.context_id, index))
            case TextFlush():
                context.flush()
            case TextEnd():
                context.end()
            case ContextCancel():
                self._cancel(context, message.played_ms)
            case _:
                raise AssertionError(f"{message.type} is not about a context")

    def _open(self, message: ClientMessage, index: int) -> bool:
        """Opens a context; one that cannot be opened starts and ends at once, so that each has one end."""
        assert isinstance(message, ContextOpen | TextAppend)
        override = message if isinstance(message, ContextOpen) else ContextOpen()
        language = override.language or self._start.language or "auto"
        speech = self._gateway.manner(_merged(self._start.speech, override.speech), language)
        context = Context(
            message.context_id,
            index,
            ContextSettings(
                voice=override.voice or self._start.voice or "",
                language=self._gateway.spoken_language(language),
                speech=speech,
                text=_merged(self._start.text, override.text),
            ),
            self,
            self._gateway,
            self._start.marks,
        )
        self._forget_done()
        self._contexts[index] = context
        self._gateway.metrics.contexts.inc()
        self.emit(ContextStarted(context_id=message.context_id, context_index=index))
        try:
            self._admit(override.voice)
        except Failure as failure:
            context.fail(failure)
            return False
        if isinstance(message, ContextOpen):
            for text in self._gateway.not_honoured(message.speech, message.language):
                self.emit(
                    Warning(
                        code=ErrorCode.UNSUPPORTED_PARAMETER,
                        message=text,
                        context_id=message.context_id,
                        context_index=index,
                    )
                )
        return True

    def _admit(self, voice: str | None) -> None:
        if self._ending:
            raise Failure(ErrorCode.BAD_REQUEST, "the session is ending", "Start a new session.")
        if self._gateway.draining:
            raise Failure(
                ErrorCode.ENGINE_UNAVAILABLE,
                "the server is going away",
                "Connect again.",
                retry_after_ms=1000,
            )
        if len(self._contexts) > self._gateway.limits.max_contexts:
            raise Failure(
                ErrorCode.OVER_CAPACITY,
                f"a session may have {self._gateway.limits.max_contexts} open contexts",
                "End or cancel a context first.",
                retry_after_ms=1000,
            )
        self._gateway.voice_id(voice)

    def _done_context(self, index: int) -> Context | None:
        return next((context for _, context in self._done if context.index == index), None)

    def _forget_done(self) -> None:
        """Lets go of contexts that were done long ago."""
        now_s = self._loop.time()
        while self._done and (now_s - self._done[0][0] > DONE_KEPT_S or len(self._done) > MAX_DONE_KEPT):
            self._connection.forget(self._done.popleft()[1].index)

    def _cancel(self, context: Context, played_ms: int | None) -> None:
        context.cancel(played_ms)
        self._done = deque(entry for entry in self._done if entry[1] is not context)

    def _cancel_all(self, played_ms: int | None) -> None:
        now_s = self._loop.time()
        heard_later = [context for _, context in self._done if not context.is_heard(now_s)]
        for context in (*self._contexts.values(), *heard_later):
            self._connection.cancel(context.index)
            self._cancel(context, played_ms)

    def _take_report(self, report: PlaybackReport) -> None:
        now_s = self._loop.time()
        contexts = (*self._contexts.values(), *(context for _, context in reversed(self._done)))
        for context in contexts:
            if context.context_id == report.context_id:
                context.report(report.played_ms, report.underruns, now_s)
                break
        if report.last_seq is not None or report.last_ev is not None:
            self._replay.acknowledge(report.last_seq or 0, report.last_ev or 0)

    # --- what contexts ask for (Outlet)

    def emit(self, message: ServerMessage) -> None:
        """Puts a numbered message on its way."""
        data = self._put(message)
        self._replay.add_event(self._connection.last_ev, data)

    def emit_frames(self, context: Context, frames: FrameRun, duration_ms: float, *, last: bool) -> None:
        """Puts numbered frames on their way."""
        positioned = list(zip(frames.positions(), frames.payloads, strict=False))
        # A tuple of bytes is nothing that the garbage collector walks; a list is, for as long as it is kept.
        data = tuple(self._connection.send_frames(context.index, positioned, last=last))
        self._replay.add_frames(self._connection.last_seq, duration_ms, data)
        self._outgoing.append((True, data))
        self._audio_ms += duration_ms

    def _put(self, message: ServerMessage) -> bytes:
        data = self._connection.send(message)
        self._outgoing.append((False, (data,)))
        return data

    def spawn(self, context: Context, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a context's work as a child of this session."""
        assert self._tasks is not None
        return self._tasks.create_task(self._guard(context, work), name=f"context {context.index}")

    async def _guard(self, context: Context, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # the edge of a context: a mistake of ours ends it and nothing else
            log.exception("context crashed", extra={"session": self.id})
            context.crash()

    def ended(self, context: Context, outcome: str) -> None:
        """A context has sent its end."""
        del self._contexts[context.index]
        if outcome == "done":
            self._done.append((self._loop.time(), context))
        sent_ms = context.playback.sent_ms
        self._gateway.metrics.context_ended(self.door, outcome, context.num_chars, sent_ms)
        self._characters += context.num_chars

    def tick(self, now_s: float | None = None) -> None:
        """As `pump`, from a timer or the transport: a mistake of ours ends this session and no other."""
        try:
            self.pump(now_s)
        except Exception:  # noqa: BLE001  the edge of a session
            self.crash()

    def crash(self) -> None:
        """Ends the session after a mistake of ours."""
        log.exception("session crashed", extra={"session": self.id})
        self.refuse(Failure(ErrorCode.INTERNAL, "the server made a mistake"), ENGINE_FAILURE)

    def pump(self, now_s: float | None = None) -> None:
        """Sends whatever may be sent now, in shares, so that no context waits for another's backlog."""
        if self._pumping:
            return
        self._pumping = True
        now_s = self._loop.time() if now_s is None else now_s
        wake_at_s = math.inf
        progress = True
        while progress and self._socket.writable:
            progress = False
            for context in tuple(self._contexts.values()):
                emitted, come_back_s = context.take(now_s)
                progress |= emitted
                if come_back_s is not None:
                    wake_at_s = min(wake_at_s, come_back_s)
            self._write()
        self._write()
        # A socket that takes nothing says when it does again.
        if wake_at_s < math.inf and self._socket.writable and not self._over.is_set():
            self._gateway.ticker.wake(self.tick, wake_at_s)
        self._pumping = False
        self._end_if_due()

    def _write(self) -> None:
        if self._outgoing:
            outgoing, self._outgoing = self._outgoing, []
            self._socket.send(outgoing)

    # --- ending

    def _arm_timer(self, delay_s: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, self._on_silence)

    def _on_silence(self) -> None:
        """Ends what has been silent for too long: the session, or contexts nobody writes to."""
        now_s, idle_s = self._loop.time(), self._gateway.config.idle_s
        if not self._started:
            self.refuse(Failure(ErrorCode.TIMEOUT, "no message came in time"))
            return
        for context in tuple(self._contexts.values()):
            if context.is_silent and now_s - context.last_text_s >= idle_s:
                context.fail(
                    Failure(ErrorCode.TIMEOUT, f"no text came for {idle_s:g} s", "Open a new context.")
                )
        quiet_since_s = max(
            [self._last_message_s, *(context.last_text_s for context in self._contexts.values())]
        )
        if not self._contexts and now_s - self._last_message_s >= idle_s:
            self._end("idle", NORMAL)
            return
        self._arm_timer(max(quiet_since_s + idle_s - now_s, min(1.0, idle_s)))
        self.pump()

    def drain(self, deadline_ms: int) -> None:
        """Tells the client that the server goes away; running contexts finish."""
        if self._over.is_set():
            return
        if self._started:
            self.emit(SessionDraining(deadline_ms=deadline_ms, resume=False))
        self.pump()

    def end_drained(self) -> None:
        """The drain's deadline has come."""
        self._end("draining", GOING_AWAY)

    def _finish(self) -> None:
        self._ending = True
        for context in tuple(self._contexts.values()):
            self._connection.end_text(context.index)
            context.end()

    def _end_if_due(self) -> None:
        if self._contexts or self._over.is_set():
            return
        if self._ending:
            self._end("ended", NORMAL)
        elif self._gateway.draining:
            self._end("draining", GOING_AWAY)

    def _end(self, reason: Literal["ended", "idle", "draining", "failed"], code: int) -> None:
        if self._over.is_set():
            return
        for context in tuple(self._contexts.values()):
            context.fail(Failure(ErrorCode.ENGINE_UNAVAILABLE, "the server is going away", "Connect again."))
        if self._started:
            self.emit(
                SessionEnded(reason=reason, audio_ms=round(self._audio_ms), characters=self._characters)
            )
        self._write()
        self._socket.close(code, reason)
        self._stop()

    def _stop(self) -> None:
        if self._over.is_set():
            return
        self._over.set()
        self._timer.cancel()
        self._gateway.ticker.discard(self.tick)
        if self._started:
            log.info(
                "session ended",
                extra={
                    "session": self.id,
                    "seconds": round(self._loop.time() - self._since_s, 1),
                    "audio_ms": round(self._audio_ms),
                    "characters": self._characters,
                },
            )


_Options = TypeVar("_Options", SpeechOptions, TextOptions)


def _merged(base: _Options, over: _Options) -> _Options:
    """The session's options with the context's over them."""
    options = ((field.name, getattr(over, field.name)) for field in dataclasses.fields(over))
    return dataclasses.replace(base, **{name: value for name, value in options if value is not None})
