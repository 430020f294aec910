"""A context of the server, on a clock that a test moves: its text path is the real one, its engine a list."""

from __future__ import annotations

import asyncio
import re
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from cosyduplex.messages import (
    ContextDone,
    Marks,
    NegotiatedAudio,
    ServerMessage,
    SpeechOptions,
    TextOptions,
    WordMark,
)
from cosyduplex_server.config import Config
from cosyduplex_server.context import Context, ContextSettings, Outlet
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.metrics import Metrics
from cosyduplex_server.testing import ManualClock, ManualTimer
from cosyduplex_server.text.speakable import CJK

IDLE_MS = 700
_RATE_HZ = 24_000
_CHAR_S = 0.06
_WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:['’][^\W_{CJK}]+)*")


class LoopClock(ManualClock):
    """The part of an event loop that a context asks for."""

    def call_soon(self, callback: Callable[..., object], *args: Any) -> ManualTimer:
        """Call once what runs now has returned."""
        return self.call_later(0, callback, *args)


@dataclass(frozen=True, slots=True)
class Told:
    """One append of text at the engine."""

    segment: int
    text: str
    closes: bool


@types.coroutine
def _wait() -> Generator[None, None, None]:
    yield


class _Engine:
    """Speaks 60 ms a character and answers as an engine does, without a sound."""

    worker = "list"
    sample_rate_hz = _RATE_HZ
    exact_marks = True

    def __init__(self, clock: LoopClock, *, text_streaming: bool) -> None:
        self.text_streaming = text_streaming
        self.told: list[Told] = []
        self.words: list[str] = []
        self.pauses = 0
        self.wake: Callable[[], None] = lambda: None
        self._clock = clock
        self._busy_until_s = 0.0
        self._open: list[str] = []
        self._events: deque[link.Event] = deque()

    def append(self, segment: int, text: str, *, closes: bool = True) -> None:
        self.told.append(Told(segment, text, closes))
        self._open.append(text)
        if not closes:
            return
        spoken = "".join(self._open)
        self._open.clear()
        began_s = max(self._clock.time(), self._busy_until_s)
        self.words += [word[0] for word in _WORD.finditer(spoken)]
        words = [
            link.Word(
                segment=segment,
                char_start=word.start(),
                char_end=word.end(),
                sample_start=int((began_s + word.start() * _CHAR_S) * _RATE_HZ),
                sample_end=int((began_s + word.end() * _CHAR_S) * _RATE_HZ),
            )
            for word in _WORD.finditer(spoken)
        ]
        self._after(len(spoken) * _CHAR_S, link.Event(marks=link.Marks(words=words)))
        self._after(0, link.Event(segment_done=link.SegmentDone(segment=segment)))

    def flush(self, number: int) -> None:
        self.pauses += 1
        self._after(0, link.Event(flushed=link.Flushed(flush=number)))

    def finish(self) -> None:
        assert not self._open
        self._after(0, link.Event(done=link.Done()))

    def credit(self, samples: int) -> None:
        pass

    def cancel(self) -> None:
        pass

    def _after(self, seconds: float, event: link.Event) -> None:
        self._busy_until_s = max(self._clock.time(), self._busy_until_s) + seconds
        self._clock.call_at(self._busy_until_s, self._say, event)

    def _say(self, event: link.Event) -> None:
        self._events.append(event)
        self.wake()

    async def __aiter__(self) -> Any:
        while True:
            while not self._events:
                await _wait()
            yield self._events.popleft()


class _Outlet(Outlet):
    audio = NegotiatedAudio(encoding="pcm_s16le", sample_rate=_RATE_HZ, frame_ms=20)
    max_ahead_ms = 0
    door = "duplex"

    def __init__(self, engine: _Engine) -> None:
        self.emitted: list[ServerMessage] = []
        self._engine = engine

    def emit(self, message: ServerMessage) -> None:
        self.emitted.append(message)

    def pump(self) -> None:
        pass

    def spawn(self, context: Context, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        def step() -> None:
            try:
                work.send(None)
            except StopIteration:
                self._engine.wake = lambda: None

        self._engine.wake = step
        return cast("asyncio.Task[None]", SimpleNamespace(cancel=work.close))

    def ended(self, context: Context, outcome: str) -> None:
        assert outcome == "done"


@contextmanager
def _running(clock: LoopClock) -> Iterator[None]:
    asyncio._set_running_loop(cast(asyncio.AbstractEventLoop, clock))
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


@dataclass(frozen=True)
class Heard:
    """What came of a text.

    Attributes:
        told: the appends at the engine.
        words: what is spoken, word by word, each with its mark.
        pauses: ends of a sentence that the engine was told of because the writer paused.
    """

    told: list[Told]
    words: list[tuple[str, WordMark]]
    pauses: int

    @property
    def places(self) -> list[tuple[str, int, int]]:
        """Each spoken word, and the code points of the text it stands for."""
        return [(word, mark.char_start, mark.char_end) for word, mark in self.words]


def hear(
    fragments: list[tuple[str, int]],
    options: dict[str, Any],
    *,
    text_streaming: bool,
) -> Heard:
    """Has a context of the server speak fragments, each after so many milliseconds.

    Args:
        fragments: What is appended, and how long the writer waits before it.
        options: Of the context's text.
        text_streaming: The engine begins before a segment is complete.
    """
    clock = LoopClock(start=1000.0)
    engine = _Engine(clock, text_streaming=text_streaming)
    pool = SimpleNamespace(
        description=link.Description(sample_rate_hz=_RATE_HZ),
        streams_text=lambda voice: text_streaming,
        open=lambda request: engine,
    )
    config = Config(text_idle_ms=IDLE_MS, engine_stall_s=0)
    gateway = SimpleNamespace(
        config=config,
        limits=config.limits,
        pool=pool,
        metrics=_METRICS,
        new_id=lambda: "id",
        engine_voice=lambda asked: (asked, "", ""),
        voice_language=lambda asked: "",
    )
    outlet = _Outlet(engine)
    settings = ContextSettings(voice="", language="", speech=SpeechOptions(), text=TextOptions(**options))
    with _running(clock):
        context = Context("timed", 0, settings, outlet, cast(Gateway, gateway), marks=True)
        for text, wait_ms in fragments:
            clock.advance(wait_ms / 1000)
            context.append(text)
        context.end()
        while not any(isinstance(message, ContextDone) for message in outlet.emitted):
            clock.advance(60)
            context.take(clock.time())
    marks = [word for message in outlet.emitted if isinstance(message, Marks) for word in message.words]
    return Heard(engine.told, list(zip(engine.words, marks, strict=True)), engine.pauses)


_METRICS = Metrics()
