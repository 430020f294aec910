"""From the segments of a context to units: what the speech LM speaks as one sequence.

Tokens and units are functions of the segments' text and the places of flushes, and all decisions count
tokens: neither the split of a segment into parts nor their moments change them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal

from cosyduplex_server.engine.cosyvoice.interleave import Mode
from cosyduplex_server.engine.cosyvoice.tokenizer import TextToken, TextTokenizer
from cosyduplex_server.engine.outbox import FinishPoint, FlushPoint
from cosyduplex_server.text.speakable import CJK

TextStart = Literal["clause", "interleave", "sentence"]

DEFAULT_START_TOKENS: Final = 8
DEFAULT_MAX_UNIT_TOKENS: Final = 200

# No clause that is shorter is a first unit, nor does a cut by `start_tokens` leave less of one: a sequence of
# one or two tokens is nothing the model was trained with.
_MIN_TOKENS: Final = 3
# Where no word ends, a unit is cut so many tokens after its limit.
_OVERLONG_TOKENS: Final = 32

# Chinese has no blanks that end a group of tokens. Of so many letters in a row those up to a token's end are
# taken, but for the last ones, which might belong to a longer token.
_CJK_RUN: Final = 12
_CJK_RUN_REST: Final = 4
_LETTER_RUN: Final = 64
_LETTER_RUN_REST: Final = 16
# As much is tokenised at a time: the tokens of a text in one piece would be found again after each cut.
_CHUNK_CHARS: Final = 128

_CJK_CHAR: Final = re.compile(f"[{CJK}]")
_WIDE_MARKS: Final = "，、；：。！？…｡"
_MARK: Final = re.compile(f"[{_WIDE_MARKS},;:!?]")
_OPENING: Final = "\"'“‘([{（【「『《〈〔［｛«‹"
_CLOSING: Final = "\"'”’)]}）】」』》〉〕］｝»›"
_GLUED: Final = re.compile(f"[{re.escape(_WIDE_MARKS + _CLOSING)},;:!?]*")
_BLANK: Final = re.compile(r"\s*")


@dataclass(slots=True, eq=False)
class Unit:
    """Text that is one sequence of the speech LM.

    Attributes:
        number: from 0 in the context.
        segment: the segment it is a part of.
        start: its first code point in the segment.
        mode: whether speech begins before the text is complete ("bi") or not ("uni").
        continues: the same sentence goes on: the LM is prompted with the unit before as well.
        tokens: so far; their places are code points of the segment. Only ever added to.
        text: what the tokens stand for.
        closed: no more tokens follow.
    """

    number: int
    segment: int
    start: int
    mode: Mode
    continues: bool
    tokens: list[TextToken] = field(default_factory=list)
    text: str = ""
    closed: bool = False

    @property
    def ids(self) -> list[int]:
        """The tokens without their places."""
        return [token.id for token in self.tokens]


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """All units of a segment came before this; there may be none."""

    number: int


PlanItem = Unit | SegmentEnd | FlushPoint | FinishPoint


class TextPlan:
    """What to speak, in order.

    Args:
        tokenizer: of the model.
        text_start: how a unit's speech begins. "sentence": each sentence is a unit, spoken once it is
            complete. "interleave": each sentence is a unit, spoken while it is written. "clause": as that,
            but the first sentence of a context, and after a flush, is two: what is spoken first ends with a
            clause or after `start_tokens` and is complete when it begins, the rest continues it.
        start_tokens: see `text_start`.
        max_unit_tokens: a longer sentence is cut between words, and what follows continues it.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        text_start: TextStart = "clause",
        *,
        start_tokens: int = DEFAULT_START_TOKENS,
        max_unit_tokens: int = DEFAULT_MAX_UNIT_TOKENS,
    ) -> None:
        self._tokenizer = tokenizer
        self._text_start = text_start
        self._start_tokens = start_tokens
        self._max_unit_tokens = max_unit_tokens
        self._items: deque[PlanItem] = deque()
        self._segment: _Segment | None = None
        self._num_units = 0
        self._at_start = True  # nothing has been spoken since the beginning or the last flush

    def append(self, segment: int, text: str, closes: bool) -> None:
        """Take more text; a segment also ends where the next one, a flush or the finish begins."""
        if self._segment is not None and self._segment.number != segment:
            self._close_segment()
        if self._segment is None:
            self._segment = _Segment(segment)
        self._segment.text += text
        if closes:
            self._close_segment()
        else:
            self._advance(self._segment)

    def flush(self, number: int) -> None:
        """Mark that all text so far has been asked for."""
        self._close_segment()
        self._items.append(FlushPoint(number))
        self._at_start = True

    def finish(self) -> None:
        """Mark the end of the text."""
        self._close_segment()
        self._items.append(FinishPoint())

    def next(self) -> PlanItem | None:
        """The next item, or None. A unit may still grow; what comes after it is there once it is closed."""
        return self._items.popleft() if self._items else None

    def _close_segment(self) -> None:
        if self._segment is not None:
            self._segment.closed = True
            self._advance(self._segment)
            self._items.append(SegmentEnd(self._segment.number))
            self._segment = None

    def _advance(self, segment: _Segment) -> None:
        """Make units of what is certain of a segment."""
        segment.skip_silent()
        if self._text_start == "clause" and self._at_start and not self._speak_start(segment):
            return
        for token in certain_tokens(self._tokenizer, segment.text, segment.at, segment.closed):
            self._take(segment, token)
        if segment.closed and segment.unit is not None:
            self._close_unit(segment, segment.unit)

    # --- The first unit of a context

    def _speak_start(self, segment: _Segment) -> bool:
        """Make the first unit, if it is certain where it ends."""
        tokens = self._start_unit_tokens(segment)
        if tokens is None:
            return False
        unit = segment.unit = self._new_unit(segment, "uni")
        for token in tokens:
            segment.add(unit, token)
        self._close_unit(segment, unit)
        segment.silent = _GLUED
        segment.skip_silent()
        return True

    def _start_unit_tokens(self, segment: _Segment) -> list[TextToken] | None:
        """The tokens of the first unit, None while its end is not certain.

        It ends at the first clause end; where that is far, before the first word that follows `start_tokens`
        tokens and is followed by enough of the clause. Nothing it looks at can be changed by more text.
        """
        clause = self._first_clause(segment)
        tokens = clause
        if tokens is None:
            tokens = certain_tokens(self._tokenizer, segment.text, segment.at, closed=False)
        for place in range(self._start_tokens, len(tokens) - _MIN_TOKENS + 1):
            last, over = tokens[place - 1], place - self._start_tokens
            if _may_cut(segment.text, last, tokens[place], over) and segment.is_speakable_to(last.end):
                return tokens[:place]
        return clause

    def _first_clause(self, segment: _Segment) -> list[TextToken] | None:
        """The tokens up to the first clause end, or the segment's end; None while neither is certain."""
        for mark in _MARK.finditer(segment.text, segment.at):
            end = _clause_end(segment.text, mark.start(), segment.closed)
            if end == _UNCERTAIN:
                return None
            if end != _NO_END and segment.is_speakable_to(end):
                tokens = certain_tokens(self._tokenizer, segment.text[:end], segment.at, closed=True)
                if len(tokens) >= _MIN_TOKENS:
                    return tokens
        if not segment.closed:
            return None
        return certain_tokens(self._tokenizer, segment.text, segment.at, closed=True)

    # --- Units

    def _take(self, segment: _Segment, token: TextToken) -> None:
        """Add a token to the unit that grows, or to a new one."""
        unit = segment.unit
        if unit is not None and self._is_full(segment, unit, token):
            self._close_unit(segment, unit)
            unit = None
        if unit is None:
            unit = segment.unit = self._new_unit(segment, "uni" if self._text_start == "sentence" else "bi")
        segment.add(unit, token)
        if unit.mode == "bi":
            self._announce(segment, unit)

    def _is_full(self, segment: _Segment, unit: Unit, token: TextToken) -> bool:
        over = len(unit.tokens) - self._max_unit_tokens
        return over >= 0 and _may_cut(segment.text, unit.tokens[-1], token, over)

    def _new_unit(self, segment: _Segment, mode: Mode) -> Unit:
        return Unit(self._num_units, segment.number, segment.at, mode, segment.has_spoken)

    def _announce(self, segment: _Segment, unit: Unit) -> None:
        """Let a unit be spoken, if there is anything to say in it."""
        if unit.number == self._num_units and _is_speakable(unit.text):
            self._items.append(unit)
            self._num_units += 1
            self._at_start = False
            segment.has_spoken = True

    def _close_unit(self, segment: _Segment, unit: Unit) -> None:
        unit.closed = True
        self._announce(segment, unit)
        segment.unit = None


@dataclass(slots=True, eq=False)
class _Segment:
    """A segment that is being written.

    Attributes:
        at: the first code point that is in no unit.
        silent: what may stand there and is not spoken: blanks before the text; after the first unit, marks
            that belong to it and came when it was complete.
        unit: the one that grows.
        has_spoken: it has had a unit.
    """

    number: int
    text: str = ""
    closed: bool = False
    at: int = 0
    silent: re.Pattern[str] | None = _BLANK
    unit: Unit | None = None
    has_spoken: bool = False

    def skip_silent(self) -> None:
        """Go past what is not spoken, as far as it is known."""
        if self.silent is not None:
            found = self.silent.match(self.text, self.at)
            assert found is not None
            self.at = found.end()
            if self.at < len(self.text):
                self.silent = None

    def is_speakable_to(self, end: int) -> bool:
        """Whether there is anything to say from `at` on."""
        return _is_speakable(self.text[self.at : end])

    def add(self, unit: Unit, token: TextToken) -> None:
        """Add the token that follows the unit's text."""
        unit.tokens.append(token)
        unit.text += self.text[self.at : token.end]
        self.at = token.end


# --- Certain tokens: those that no later text can change ------------------------------------------------


def certain_tokens(tokenizer: TextTokenizer, text: str, start: int, closed: bool) -> list[TextToken]:
    """The tokens of `text` from `start` that are the same whatever follows; all of them where it is `closed`.

    They are the tokens of the whole text, except that long runs of letters are cut: what is before a cut
    does not merge with what is behind it.
    """
    tokens: list[TextToken] = []
    size = _CHUNK_CHARS
    while start < len(text):
        chunk = text[start : start + size]
        at_end = start + size >= len(text)
        taken = _certain_in_chunk(tokenizer, chunk, closed and at_end)
        if taken:
            tokens += [TextToken(id_, start + first, start + end) for id_, first, end in taken]
            start = tokens[-1].end
            size = _CHUNK_CHARS
        elif at_end:
            break
        else:
            size *= 2
    return tokens


def _certain_in_chunk(tokenizer: TextTokenizer, chunk: str, closed: bool) -> list[TextToken]:
    """The certain tokens at the chunk's beginning, up to the first run that is cut."""
    end = len(chunk) if closed else _certain_end(chunk)
    tokens: list[TextToken] = []
    for word in tokenizer.words(chunk):
        start = word[0].start
        head = _run_head(tokenizer, chunk[start : start + _LETTER_RUN])
        if head is not None:
            return tokens + [TextToken(id_, start + first, start + last) for id_, first, last in head]
        if word[-1].end > end:
            break
        tokens += word
    return tokens


def _certain_end(text: str) -> int:
    """Groups of tokens up to here stay as they are: each depends on the character after it and no other.

    Two exceptions: a group of blanks depends on all blanks that follow, and a character on the accents that
    follow.
    """
    end = len(text) - 1
    while end > 0 and unicodedata.combining(text[end]):
        end -= 1
    return min(end, len(text.rstrip()))


def _run_head(tokenizer: TextTokenizer, text: str) -> list[TextToken] | None:
    """The tokens to take of a long run of letters at the beginning of `text`; None if there is none.

    A function of the first characters, not of how long the run is. What is before the letters goes with them.
    """
    run = text[:_CJK_RUN]
    if len(run) == _CJK_RUN and run[1:].isalpha():
        tokens = tokenizer.tokens(run)
        for place in range(len(tokens) - 1, 0, -1):
            end = tokens[place].start
            beside_cjk = _CJK_CHAR.match(run[end]) or _CJK_CHAR.match(run[end - 1])
            if tokens[place - 1].end == end <= _CJK_RUN - _CJK_RUN_REST and beside_cjk:
                return tokens[:place]
    if len(text) == _LETTER_RUN and text[1:].isalpha():
        return tokenizer.tokens(text[: _LETTER_RUN - _LETTER_RUN_REST])
    return None


# --- Where a text may be cut ----------------------------------------------------------------------------

_NO_END, _UNCERTAIN = -1, -2


def _clause_end(text: str, mark: int, closed: bool) -> int:
    """The end of the clause that the mark ends, or _NO_END, or _UNCERTAIN.

    A full stop is no mark here: the front end ends the segment where it ends a sentence.
    """
    char, before, end = text[mark], text[mark - 1 : mark], mark + 1
    if char == "：" and before.isdigit():  # 3：2
        if end == len(text):
            return end if closed else _UNCERTAIN
        return _NO_END if text[end].isdigit() else end
    if char in _WIDE_MARKS or _CJK_CHAR.match(before):
        return end
    while end < len(text) and text[end] in _CLOSING:
        end += 1
    if end == len(text):
        return end if closed else _UNCERTAIN
    return end if text[end].isspace() or _CJK_CHAR.match(text[end]) else _NO_END


def _may_cut(text: str, before: TextToken, token: TextToken, over: int) -> bool:
    """Whether a unit that is `over` tokens longer than it should be may end between two tokens."""
    if before.end > token.start:  # parts of one character
        return False
    return over >= _OVERLONG_TOKENS or _word_begins(text, token.start)


def _word_begins(text: str, at: int) -> bool:
    """Whether a word begins inside a text: with its blank, or beside a CJK character."""
    left, right = text[at - 1], text[at]
    if right.isspace():
        return True
    if _CJK_CHAR.match(right):
        return left not in _OPENING and not left.isdigit()
    return _CJK_CHAR.match(left) is not None and right.isalnum()


def _is_speakable(text: str) -> bool:
    return any(char.isalnum() for char in text)
