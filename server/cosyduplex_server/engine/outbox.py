"""Between an engine and the link: the segments still to speak, and the events on their way out."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Final

from cosyduplex.errors import ERROR_KINDS, ErrorCode
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.errors import Failure

logger = logging.getLogger(__name__)

_BYTES_PER_SAMPLE: Final = 2


@dataclass(frozen=True, slots=True)
class Segment:
    """A whole segment, ready to be spoken."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class FlushPoint:
    """All text before this has been asked for."""

    number: int


@dataclass(frozen=True, slots=True)
class FinishPoint:
    """No more text follows."""


class SegmentQueue:
    """What an engine that speaks whole segments has still to do, in order."""

    def __init__(self) -> None:
        self._items: deque[Segment | FlushPoint | FinishPoint] = deque()
        self._open: Segment | None = None

    def append(self, segment: int, text: str, closes: bool) -> None:
        """Take more text; a segment also ends where the next one, a flush or the finish begins."""
        if self._open is not None and self._open.number != segment:
            self._close_segment()
        before = "" if self._open is None else self._open.text
        self._open = Segment(segment, before + text)
        if closes:
            self._close_segment()

    def flush(self, number: int) -> None:
        """Mark that all text so far has been asked for."""
        self._close_segment()
        self._items.append(FlushPoint(number))

    def finish(self) -> None:
        """Mark the end of the text."""
        self._close_segment()
        self._items.append(FinishPoint())

    def clear(self) -> None:
        """Forget everything."""
        self._items.clear()
        self._open = None

    def peek(self) -> Segment | FlushPoint | FinishPoint | None:
        """The next thing to do, or None."""
        return self._items[0] if self._items else None

    def pop(self) -> None:
        """Take away what `peek` showed."""
        self._items.popleft()

    def _close_segment(self) -> None:
        if self._open is not None:
            self._items.append(self._open)
            self._open = None


class Outbox:
    """The events of one context, first in first out; audio is split where the credit ends.

    `emit` and `fail` are the engine's, from any thread; the rest is the host's, on the event loop.

    Attributes:
        credit_samples: how many samples may be sent altogether.
        sent_samples: how many have been.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, credit_samples: int) -> None:
        self._loop = loop
        self._events: deque[link.Event] = deque()
        self._head_offset = 0  # bytes of the first event's audio that have been sent
        self._ends = False  # the last event is here; nothing is taken after it
        self._changed = asyncio.Event()
        self.credit_samples = credit_samples
        self.sent_samples = 0

    def emit(self, event: link.Event) -> None:
        """Send `event` after all that was emitted before it; dropped after `done` or `error`."""
        self._loop.call_soon_threadsafe(self._put, event)

    def fail(self, error: BaseException) -> None:
        """End the context: a `Failure` is told as it is, of anything else only the log learns more."""
        self.emit(_as_event(error))

    def add_credit(self, credit_samples: int) -> None:
        """Raise the number of samples that may be sent altogether; it never falls."""
        self.credit_samples = max(self.credit_samples, credit_samples)
        self._changed.set()

    def end(self, last: link.Event) -> None:
        """Drop all that has not been sent, and send `last` in its place."""
        if self._ends and not self._events:
            return
        self._events.clear()
        self._head_offset = 0
        self._ends = False
        self._put(last)

    async def next_event(self) -> link.Event:
        """The next event; waits until there is one and it may be sent."""
        while (event := self._take()) is None:
            self._changed.clear()
            await self._changed.wait()
        return event

    def _put(self, event: link.Event) -> None:
        if self._ends:
            return
        self._ends = event.WhichOneof("event") in ("done", "error")
        self._events.append(event)
        self._changed.set()

    def _take(self) -> link.Event | None:
        if not self._events:
            return None
        event = self._events[0]
        kind = event.WhichOneof("event")
        if kind == "audio":
            return self._take_audio(event)
        if kind == "done":
            event.done.samples = self.sent_samples
        self._events.popleft()
        if kind == "marks" and self._events and self._events[0].HasField("audio"):
            return self._take_with_marks(event)
        return event

    def _take_with_marks(self, marks: link.Event) -> link.Event:
        """Words and the audio they begin in, in one message where the audio may be sent."""
        audio = self._take_audio(self._events[0])
        if audio is None:
            return marks
        return link.Event(audio=link.Audio(pcm=audio.audio.pcm, words=marks.marks.words))

    def _take_audio(self, event: link.Event) -> link.Event | None:
        start, end = self._head_offset, len(event.audio.pcm)
        allowed = (self.credit_samples - self.sent_samples) * _BYTES_PER_SAMPLE
        stop = min(end, start + allowed)
        if stop == start:
            return None
        self.sent_samples += (stop - start) // _BYTES_PER_SAMPLE
        self._head_offset = 0 if stop == end else stop
        if stop == end:
            self._events.popleft()
        if (start, stop) == (0, end):
            return event
        return link.Event(audio=link.Audio(pcm=event.audio.pcm[start:stop]))


def error_event(code: ErrorCode, message: str) -> link.Event:
    """An `Error` event of `code`."""
    return link.Event(error=link.Error(code=code, message=message, retryable=ERROR_KINDS[code].retryable))


def _as_event(error: BaseException) -> link.Event:
    if isinstance(error, Failure):
        return error_event(error.code, error.message)
    logger.error("the engine failed", exc_info=error)
    return error_event(ErrorCode.ENGINE_FAILED, "The engine failed while speaking this text.")
