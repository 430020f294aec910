"""The text front end of one context: text is appended in any split, segments are taken when they are certain.

    appended text ─► speakable ─► segment ─► Segment

Between the two stages text travels as runs of characters with their offsets; what rewrites the text for
reading aloud (numbers, dates, units) belongs there, and has only to keep the offsets.
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

from cosyduplex_server.text.segment import Segment, Segmenter
from cosyduplex_server.text.speakable import Speakable

__all__ = ["FlushPoint", "Segment", "TextFrontEnd"]

# 1024 characters of prose take 0.3 ms, of the worst input 3 ms: no longer may one call keep an event loop.
_CHUNK_CHARS = 512
_CHARS_PER_CALL = 1024
_MIN_SEGMENT_CHARS = 10


@dataclass(frozen=True, slots=True)
class FlushPoint:
    """Everything appended before the `number`-th flush (from 1) has been returned."""

    number: int


@dataclass(frozen=True, slots=True)
class _Barrier:
    """A place that must be reached with nothing held back: a flush, or the end (`flush_number` None)."""

    offset: int
    flush_number: int | None


class TextFrontEnd:
    """From appended text to segments an engine can speak.

    The segments are a function of the text and the places of its flushes: neither the split into appends nor
    the moments of `next` change them. `idle` is the one exception.

    Attributes:
        in_parts: The words of a segment are returned as they become certain, as parts that do not close it,
            for an engine that begins before its end. The parts of a segment, joined, are that segment.

    Args:
        markup: "markdown" removes what a rendered page would not show; "plain" only what has no sound.
        language: Of the text. Cutting reads the script itself; rewriting numbers needs it.
        max_segment_chars: The longest segment, cut between words where no punctuation comes.

    Raises:
        ValueError: `max_segment_chars` is below 10.
    """

    def __init__(
        self,
        *,
        markup: Literal["markdown", "plain"] = "markdown",
        language: str = "auto",
        max_segment_chars: int = 200,
    ) -> None:
        if max_segment_chars < _MIN_SEGMENT_CHARS:
            raise ValueError(
                f"max_segment_chars must be at least {_MIN_SEGMENT_CHARS}, not {max_segment_chars}"
            )
        self.language = language
        self.in_parts = False
        self._speakable = Speakable(markup)
        self._segmenter = Segmenter(max_segment_chars)
        self._unread: deque[str] = deque()
        self._unread_head = 0  # characters of the first piece that have been read
        self._appended = 0
        self._read = 0
        self._barriers: deque[_Barrier] = deque()
        self._flushes = 0
        self._ended = False
        self._draining = False  # the first barrier has been reached
        self._idle = False
        self._busy = False

    @property
    def appended_chars(self) -> int:
        """Code points appended so far."""
        return self._appended

    @property
    def pending_chars(self) -> int:
        """Code points appended and neither returned nor silent."""
        held = self._segmenter.held_from
        return self._appended - (self._speakable.held_from(self._read) if held is None else held)

    @property
    def busy(self) -> bool:
        """True while `next` has work to do: a None from it means "later", not "nothing certain yet"."""
        return self._busy

    @property
    def exhausted(self) -> bool:
        """True when the text has ended and all of it has been returned."""
        return self._ended and not self._barriers

    def append(self, text: str) -> None:
        """Adds text; nothing is read before `next`."""
        assert not self._ended
        if text:
            self._unread.append(text)
            self._appended += len(text)
            self._idle = False
            self._busy = True

    def flush(self) -> None:
        """Lets all that has been appended be spoken; `next` returns a `FlushPoint` after it."""
        self._flushes += 1
        self._barriers.append(_Barrier(self._appended, self._flushes))
        self._busy = True

    def end(self) -> None:
        """No more text follows: all is released."""
        if not self._ended:
            self._ended = True
            self._barriers.append(_Barrier(self._appended, None))
            self._busy = True

    def idle(self) -> None:
        """The writer has paused: releases the complete words that wait for their clause to end.

        They become a segment of their own, which is spoken at once. In parts, most of them are out already
        and the rest follows; their segment stays open, because an engine that was told of an end in the
        middle of a sentence would speak it as one. It is closed where the text reads as a sentence's end.
        """
        self._idle = True
        self._busy = True

    def next(self) -> Segment | FlushPoint | None:
        """The next thing that is certain, or None; reads about 1024 characters at most (see `busy`)."""
        budget = _CHARS_PER_CALL
        while True:
            segment = self._segmenter.next(final=self._draining)
            if segment is not None:
                return segment
            if self._draining:
                flush_number = self._pass_barrier()
                if flush_number is not None:
                    return FlushPoint(flush_number)
            elif self._barriers and self._barriers[0].offset == self._read:
                self._draining = True
                self._pass_on("", final=True)
            elif self._read == self._appended:
                return self._caught_up()
            elif budget <= 0:
                return None
            else:
                budget -= self._read_chunk()

    def _pass_barrier(self) -> int | None:
        self._draining = False
        self._segmenter.restart()
        return self._barriers.popleft().flush_number

    def _caught_up(self) -> Segment | None:
        self._busy = False
        if self._idle:
            self._idle = False
            return self._segmenter.next_words(in_parts=self.in_parts)
        return self._segmenter.next_part() if self.in_parts else None

    def _read_chunk(self) -> int:
        limit = self._barriers[0].offset if self._barriers else self._appended
        chunk = self._take(min(_CHUNK_CHARS, limit - self._read))
        self._pass_on(chunk, final=False)
        return len(chunk)

    def _pass_on(self, text: str, *, final: bool) -> None:
        run = self._speakable.read(text, self._read, final=final)
        self._read += len(text)
        self._segmenter.feed(run)

    def _take(self, num_chars: int) -> str:
        pieces: list[str] = []
        while num_chars:
            first = self._unread[0]
            piece = first[self._unread_head : self._unread_head + num_chars]
            pieces.append(piece)
            num_chars -= len(piece)
            self._unread_head += len(piece)
            if self._unread_head == len(first):
                self._unread.popleft()
                self._unread_head = 0
        return "".join(pieces)
