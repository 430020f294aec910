"""The text front end of one context: text is appended in any split, segments are taken when they are certain.

    appended text ─► speakable ─► normalise ─► segment ─► Segment

Between the stages text travels as runs of characters with their offsets in the appended text, so that the end
of a segment can be led back to it, and so can a word that was heard.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cosyduplex_server.text import chinese, english
from cosyduplex_server.text.normalise import Normaliser
from cosyduplex_server.text.rulebook import Rulebook
from cosyduplex_server.text.runs import Run
from cosyduplex_server.text.segment import Segment, Segmenter
from cosyduplex_server.text.speakable import Speakable

__all__ = ["FlushPoint", "Segment", "TextFrontEnd", "warm"]

# A call takes less than a millisecond, 3 ms with the worst input: no longer may one keep an event loop.
_CHUNK_CHARS = 256
_WORK_PER_CALL = 400  # characters, and rules that are tried
_MIN_SEGMENT_CHARS = 10


_RULEBOOK = Rulebook(english=english.READINGS, chinese=chinese.READINGS)


def warm() -> None:
    """Makes the first text as fast as any other: what takes half a second then is done now."""
    _RULEBOOK.warm()
    TextFrontEnd()


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
        language: Of the text, for reading numbers and the like; "auto" to go by the letters next to each.
            Cutting reads the script itself.
        voice_language: Of the voice, which tells how to read a text without letters; "" reads it in English.
        normalize: Read numbers, dates, units and addresses out in words.
        pronunciations: What to say for a word or phrase, with or without `normalize`.
        code: "announce" says that a code block is left out.
        tables: "skip" leaves tables out.
        emoji: "name" says what each shows.
        max_segment_chars: The longest segment, cut between words where no punctuation comes.

    Raises:
        ValueError: `max_segment_chars` is below 10.
    """

    def __init__(
        self,
        *,
        markup: Literal["markdown", "plain"] = "markdown",
        language: str = "auto",
        voice_language: str = "",
        normalize: bool = True,
        pronunciations: Mapping[str, str] | None = None,
        code: Literal["skip", "announce"] = "skip",
        tables: Literal["read", "skip"] = "read",
        emoji: Literal["drop", "name"] = "drop",
        max_segment_chars: int = 200,
    ) -> None:
        if max_segment_chars < _MIN_SEGMENT_CHARS:
            raise ValueError(
                f"max_segment_chars must be at least {_MIN_SEGMENT_CHARS}, not {max_segment_chars}"
            )
        self.in_parts = False
        self._speakable = Speakable(markup, code=code, tables=tables, emoji=emoji, language=language)
        self._normaliser = Normaliser(
            _RULEBOOK if normalize else None,
            language=language,
            voice_language=voice_language,
            pronunciations=pronunciations,
        )
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
        self._word_complete = False  # the pause has come behind a whole word
        self._busy = False

    @property
    def appended_chars(self) -> int:
        """Code points appended so far."""
        return self._appended

    @property
    def pending_chars(self) -> int:
        """Code points appended and neither returned nor silent."""
        held = self._segmenter.held_from
        if held is None:
            held = self._normaliser.held_from
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
            self._idle = self._word_complete = False
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
        """The next thing that is certain, or None; does a little work at a time (see `busy`)."""
        budget = _WORK_PER_CALL
        while True:
            segment = self._segmenter.next(final=self._draining and not self._normaliser.is_behind)
            if segment is not None:
                return segment
            if self._normaliser.is_behind:
                if budget <= 0:
                    return None
                budget -= self._normalise(Run("", []), final=self._draining, max_work=budget)
            elif self._draining:
                flush_number = self._pass_barrier()
                if flush_number is not None:
                    return FlushPoint(flush_number)
            elif self._barriers and self._barriers[0].offset == self._read:
                self._draining = True
                budget -= self._pass_on("", final=True, max_work=max(budget, 1))
            elif self._read == self._appended:
                if not (self._idle and self._release_held()):
                    return self._caught_up()
            elif budget <= 0:
                return None
            else:
                budget -= self._read_chunk(budget)

    def _pass_barrier(self) -> int | None:
        self._draining = False
        self._segmenter.restart()
        return self._barriers.popleft().flush_number

    def _caught_up(self) -> Segment | None:
        self._busy = False
        if self._idle:
            self._idle = False
            return self._segmenter.next_words(in_parts=self.in_parts, word_complete=self._word_complete)
        return self._segmenter.next_part() if self.in_parts else None

    def _release_held(self) -> bool:
        """Reads an expression out that waits for more, if the pause has come behind a whole word."""
        run = self._normaliser.read_words()
        if run is None:
            return False
        self._segmenter.feed(run)
        self._word_complete = True
        return True

    def _read_chunk(self, budget: int) -> int:
        limit = self._barriers[0].offset if self._barriers else self._appended
        chunk = self._take(min(_CHUNK_CHARS, limit - self._read))
        return self._pass_on(chunk, final=False, max_work=budget)

    def _pass_on(self, text: str, *, final: bool, max_work: int) -> int:
        """Takes text through the stages; returns the work that it was."""
        run = self._speakable.read(text, self._read, final=final)
        self._read += len(text)
        return len(text) + self._normalise(run, final=final, max_work=max_work)

    def _normalise(self, run: Run, *, final: bool, max_work: int) -> int:
        work_before = self._normaliser.work
        self._segmenter.feed(self._normaliser.read(run, final=final, max_work=max_work))
        return self._normaliser.work - work_before

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
