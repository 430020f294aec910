"""One context spoken for a door: text goes in as it comes, audio comes out as the door takes it.

The native protocol's `Session` has contexts of its own. Every other door opens utterances, and translates
what they yield.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cosyduplex.messages import (
    AudioOptions,
    ContextCancelled,
    ContextDone,
    ContextFlushed,
    Error,
    Marks,
    ServerMessage,
    SpeechOptions,
    TextOptions,
    Warning,
)
from cosyduplex_server.audio.encode import FrameRun
from cosyduplex_server.audio.negotiate import negotiate_audio
from cosyduplex_server.context import Context, ContextSettings, Outlet
from cosyduplex_server.errors import Failure

if TYPE_CHECKING:
    from cosyduplex_server.gateway import Gateway

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceOptions:
    """How one utterance is spoken.

    Attributes:
        voice: one of this server's voices; None is the default one.
        audio: `pcm_s16le` frames or Opus packets, as the native protocol has them.
        marks: whether word times are wanted.
        max_ahead_ms: how far the audio may run ahead of a listener in real time; 0 is as fast as it is made.
    """

    voice: str | None = None
    language: str | None = None
    speech: SpeechOptions = field(default_factory=SpeechOptions)
    text: TextOptions = field(default_factory=TextOptions)
    audio: AudioOptions = field(default_factory=AudioOptions)
    marks: bool = False
    max_ahead_ms: int = 0


@dataclass(frozen=True, slots=True)
class Sound:
    """The next piece of audio.

    Attributes:
        pts: where it begins, in samples at the negotiated rate from the utterance's first one.
        num_samples: how much it adds.
        payloads: PCM, to be joined; or Opus packets, one each.
        packet_samples: how much each payload adds.
    """

    pts: int
    num_samples: int
    payloads: list[bytes]
    packet_samples: list[int]

    @property
    def pcm(self) -> bytes:
        """The samples, mono s16le."""
        return b"".join(self.payloads)


Event = Sound | Marks | ContextFlushed | Warning | ContextDone | ContextCancelled


class Utterance(Outlet):
    """What one caller has said, once.

    Iterating yields `Sound`, `Marks`, `ContextFlushed` (one a flush) and `Warning` in their order, then one
    `ContextDone` or `ContextCancelled`, and raises `Failure` where it ends with an error. It makes no more
    audio than a few seconds beyond what is taken. Leaving its `with` block stops the engine.

    Open it with `Gateway.open_utterance`.

    Attributes:
        door: whose it is, for the metrics.
        warnings: a sentence for each thing that is not done as asked, so far.
        is_over: it has ended, and yields no more than what was made before.
        is_cancelled: whoever holds audio of it must drop that.
        is_spent: all that it yielded has been passed on, or nothing more is wanted.
        when_spent: called then.
    """

    def __init__(self, gateway: Gateway, door: str, options: UtteranceOptions, context_id: str = "") -> None:
        """Begins one.

        Raises:
            Failure: `unsupported_format`, `unknown_voice`.
        """
        self.door = door
        self.audio = negotiate_audio(options.audio)
        self.max_ahead_ms = options.max_ahead_ms
        self.warnings = list(gateway.not_honoured(options.speech, options.language))
        self.is_over = self.is_cancelled = self.is_spent = False
        self.when_spent: Callable[[], None] | None = None
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._failure: Failure | None = None
        self._something = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        gateway.voice_id(options.voice)
        self._context = Context(
            context_id,
            0,
            ContextSettings(
                voice=options.voice or "",
                language=gateway.spoken_language(options.language or "auto"),
                speech=gateway.manner(options.speech, options.language),
                text=options.text,
            ),
            self,
            gateway,
            options.marks,
        )
        gateway.metrics.contexts.inc()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- in

    def append(self, text: str) -> None:
        """Takes text, in any split; a lone surrogate is spoken as nothing.

        Raises:
            Failure: `text_too_long`; nothing of it was taken and nothing ends.
        """
        if not self.is_over:
            self._context.append(text)

    def flush(self) -> None:
        """Has all that was appended spoken now."""
        if not self.is_over:
            self._context.flush()

    def end(self) -> None:
        """No more text follows."""
        if not self.is_over:
            self._context.end()

    def cancel(self, played_ms: int | None = None) -> ContextCancelled:
        """Stops it at once, also after its end, and tells how far the listener got.

        Args:
            played_ms: what the listener has heard; the server's own playback clock tells when left out.
        """
        self._events.clear()
        self._context.cancel(played_ms)
        self.is_over = self.is_cancelled = True
        cancelled = self._events[-1]
        assert isinstance(cancelled, ContextCancelled)
        self._something.set()
        return cancelled

    def abort(self, failure: Failure) -> None:
        """Ends it with this failure."""
        if not self.is_over:
            self._events.clear()
            self._context.fail(failure)
            self._something.set()

    def close(self) -> None:
        """Frees everything; whoever iterates is told of no more."""
        self._context.drop()
        self.is_over = self.is_cancelled = True
        self._events.clear()
        self._gateway.ticker.discard(self._tick)
        self._something.set()
        self._spend()

    def _spend(self) -> None:
        if not self.is_spent:
            self.is_spent = True
            if self.when_spent is not None:
                self.when_spent()

    # --- out

    @property
    def num_chars(self) -> int:
        """Code points appended."""
        return self._context.num_chars

    @property
    def sample_rate_hz(self) -> int:
        """Of the audio it yields."""
        return self.audio.sample_rate

    @property
    def sent_ms(self) -> int:
        """Audio yielded so far."""
        return self._context.sent_ms

    @property
    def played_ms(self) -> int:
        """How much of it the listener has heard, by the server's own clock."""
        return round(self._context.playback.played_ms(self._loop.time()))

    @property
    def is_silent(self) -> bool:
        """Whether it waits for text, and for nothing else."""
        return self._context.is_silent

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            Failure: it ended with an error.
        """
        while not self._events:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                self._spend()
                raise failure
            if self.is_over:
                self._spend()
                raise StopAsyncIteration
            self._something.clear()
            _, come_back_s = self._context.take(self._loop.time())
            if self._events or self.is_over:
                continue
            if come_back_s is not None:
                self._gateway.ticker.wake(self._tick, come_back_s)
            await self._something.wait()
        return self._events.popleft()

    def _tick(self, now_s: float) -> None:
        self._something.set()

    # --- what the context asks for (Outlet)

    def emit(self, message: ServerMessage) -> None:
        """Puts a message on its way."""
        if isinstance(message, Error):
            self._failure = Failure(message.code, message.message, message.solution, message.retry_after_ms)
        else:
            assert isinstance(message, Marks | ContextFlushed | Warning | ContextDone | ContextCancelled)
            if isinstance(message, Warning):
                self.warnings.append(message.message)
            self._events.append(message)

    def emit_frames(self, context: Context, frames: FrameRun, duration_ms: float, *, last: bool) -> None:
        """Puts audio on its way; the native protocol's empty last frame is none."""
        num_samples = sum(frames.num_samples)
        if num_samples or any(frames.payloads):
            self._events.append(Sound(frames.pts, num_samples, frames.payloads, frames.num_samples))

    def pump(self) -> None:
        """Something can be taken."""
        self._something.set()

    def spawn(self, context: Context, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs the context's work until the utterance is closed."""
        task = self._loop.create_task(self._guard(work), name=f"{self.door} utterance")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # the edge of a context: a mistake of ours ends it and nothing else
            log.exception("utterance crashed", extra={"door": self.door})
            self._context.crash()

    def ended(self, context: Context, outcome: str) -> None:
        """The context has sent its end."""
        self.is_over = True
        self._gateway.ticker.discard(self._tick)
        self._gateway.utterance_ended(self)
        self._gateway.metrics.context_ended(self.door, outcome, context.num_chars, context.playback.sent_ms)
