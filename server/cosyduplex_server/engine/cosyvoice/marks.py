"""When words sound, estimated: the speech LM does not say which of its tokens belong to which word.

A unit's speech is shared among its words by how long such words usually take. What a unit needed tells the
voice's pace, and once its speech is complete the words not yet told share the rest exactly.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from cosyduplex_server.engine.cosyvoice.plan import Unit
from cosyduplex_server.models.config import SAMPLE_RATE_HZ, TOKENS_PER_S

SAMPLES_PER_TOKEN: Final = SAMPLE_RATE_HZ / TOKENS_PER_S

# Speech tokens (40 ms) at a usual pace. Only their proportions matter once a voice has spoken a little.
_HANZI_TOKENS: Final = 5.5
_HANGUL_TOKENS: Final = 5.0
_KANA_TOKENS: Final = 3.2
_LETTER_TOKENS: Final = 1.7
_DIGIT_TOKENS: Final = 6.0
_SYMBOL_TOKENS: Final = 10.0
_SENTENCE_PAUSE_TOKENS: Final = 8.0
_CLAUSE_PAUSE_TOKENS: Final = 5.0
# A voice's pace is believed like this many tokens of speech.
_PRIOR_TOKENS: Final = 50.0

_SENTENCE_MARKS: Final = frozenset("。！？!?….｡")
_CLAUSE_MARKS: Final = frozenset("，、；：,;:—–")
_NAMED_SYMBOLS: Final = frozenset("%&@#§‰°")
_JOINERS: Final = frozenset("'’-‐‑")
_POINTS: Final = frozenset(".,:")

# Over the kinds of characters: h hanzi, k kana, g hangul, d digit, l other letter or mark, s symbol with a
# name, j what joins letters, p what joins digits. A hanzi is a word.
_WORD: Final = re.compile(r"h|s?[kgdl]+(?:(?:j|(?<=d)p(?=d)|s)[kgdl]+)*s?|s")
_KIND_TOKENS: Final = {
    "h": _HANZI_TOKENS,
    "g": _HANGUL_TOKENS,
    "k": _KANA_TOKENS,
    "l": _LETTER_TOKENS,
    "d": _DIGIT_TOKENS,
    "s": _SYMBOL_TOKENS,
}


@dataclass(frozen=True, slots=True)
class EstimatedWord:
    """A word and its samples.

    Attributes:
        segment: its segment.
        char_start: its first code point in the segment.
        char_end: the code point after its last.
        sample_start: counted from the start of the context.
        sample_end: the sample after its last; the next word begins here.
    """

    segment: int
    char_start: int
    char_end: int
    sample_start: int
    sample_end: int


class MarkEstimator:
    """Tells the words of a context's speech, each once, in order and without overlap.

    A word is told before the sample it begins with is sent, and what was told stays: so its end is within
    the speech that is known to come. Words that are left when a unit's speech is complete sooner than
    expected are told with its last sample.

    Args:
        samples_per_token: of the audio that is sent, so at speed 2 half of what the vocoder makes.
    """

    def __init__(self, samples_per_token: float = SAMPLES_PER_TOKEN) -> None:
        self._samples_per_token = samples_per_token
        self._tracks: deque[_Track] = deque()
        self._num_tokens = 0
        self._asked = 0  # words have been asked for up to this sample
        self._told = 0  # the end of the last word told
        self._spoken_tokens = _PRIOR_TOKENS
        self._usual_tokens = _PRIOR_TOKENS

    def begin_unit(self, unit: Unit) -> None:
        """The speech that follows is that of `unit`, which may still grow."""
        assert not self._tracks or self._tracks[-1].ended
        self._tracks.append(_Track(unit, self._num_tokens, self._num_tokens))

    def add_speech(self, num_tokens: int) -> None:
        """So many speech tokens more have come."""
        self._num_tokens += num_tokens
        self._tracks[-1].token_end = self._num_tokens

    def end_unit(self) -> None:
        """The unit's speech is complete."""
        track = self._tracks[-1]
        track.ended = True
        track.find_words()
        track.usual_tokens += sum(word.tokens for word in track.words)
        if track.usual_tokens:
            self._spoken_tokens += track.token_end - track.token_start
            self._usual_tokens += track.usual_tokens

    def words_until(self, sample_end: int) -> list[EstimatedWord]:
        """The words, not yet told, that begin before this sample; asked before audio up to it is sent."""
        told: list[EstimatedWord] = []
        while self._tracks:
            track = self._tracks[0]
            track.find_words()
            while track.words and (word := self._tell(track, sample_end)) is not None:
                told.append(word)
            if track.words or not track.ended:
                break
            self._tracks.popleft()
        self._asked = max(self._asked, sample_end)
        return told

    def _tell(self, track: _Track, sample_end: int) -> EstimatedWord | None:
        begin, known = self._sample(track.token_start), self._sample(track.token_end)
        start = max(begin, self._told, min(self._asked, known))
        over = track.ended and known <= sample_end
        if start >= min(sample_end, known) and not over:
            return None
        length = self._share(track, max(0, known - start))
        word = track.pop()
        self._told = start + length
        segment, offset = track.unit.segment, track.unit.start
        return EstimatedWord(segment, offset + word.start, offset + word.end, start, self._told)

    def _share(self, track: _Track, known: int) -> int:
        """How many of the `known` samples left of a unit's speech are the next word's."""
        word = track.words[0].tokens
        total = sum(each.tokens for each in track.words)
        if track.ended:
            return round(known * word / total)
        pace = self._spoken_tokens / self._usual_tokens * self._samples_per_token
        if track.unit.closed:  # no more words come, so that the words left share at least what is known
            pace = max(pace, known / total)
        return min(known, round(pace * word))

    def _sample(self, token: int) -> int:
        return round(token * self._samples_per_token)


@dataclass(frozen=True, slots=True)
class _Word:
    """A word's place in the unit's text and its usual length, with the pause after it, in speech tokens."""

    start: int
    end: int
    tokens: float


@dataclass(slots=True, eq=False)
class _Track:
    """A unit's speech.

    Attributes:
        token_start: the first of its speech tokens, in the context.
        token_end: after the last that has come.
        ended: no more come.
        words: those that have not been told, as far as the text is known.
        usual_tokens: what those that have been told usually take.
    """

    unit: Unit
    token_start: int
    token_end: int
    ended: bool = False
    words: deque[_Word] = field(default_factory=deque)
    usual_tokens: float = 0.0
    _told_chars: int = 0
    _seen_chars: int = 0

    def find_words(self) -> None:
        """Look again if text has come; a word that went on is found whole if it was not told."""
        text = self.unit.text
        if len(text) > self._seen_chars:
            self._seen_chars = len(text)
            self.words = deque(_words(text, self._told_chars))

    def pop(self) -> _Word:
        """Take the next word."""
        word = self.words.popleft()
        self._told_chars = word.end
        self.usual_tokens += word.tokens
        return word


def _words(text: str, start: int) -> Iterator[_Word]:
    kinds = "".join(map(_kind, text))
    found = list(_WORD.finditer(kinds, start))
    for place, match in enumerate(found):
        following = found[place + 1].start() if place + 1 < len(found) else len(text)
        tokens = sum(_KIND_TOKENS.get(kind, 0.0) for kind in match[0])
        yield _Word(match.start(), match.end(), tokens + _pause_tokens(text[match.end() : following]))


def _pause_tokens(between: str) -> float:
    if not _SENTENCE_MARKS.isdisjoint(between):
        return _SENTENCE_PAUSE_TOKENS
    return 0.0 if _CLAUSE_MARKS.isdisjoint(between) else _CLAUSE_PAUSE_TOKENS


@lru_cache(maxsize=4096)
def _kind(char: str) -> str:
    if char in _JOINERS:
        return "j"
    if char in _POINTS:
        return "p"
    category = unicodedata.category(char)
    if category == "Nd":
        return "d"
    if category[0] in "LMN":
        return _letter_kind(char)
    return "s" if char in _NAMED_SYMBOLS or category in ("Sc", "Sm") else " "


def _letter_kind(char: str) -> str:
    name = unicodedata.name(char, "")
    if name.startswith("CJK ") or char in "〇々":
        return "h"
    if name.startswith("HANGUL"):
        return "g"
    return "k" if "KATAKANA" in name or "HIRAGANA" in name else "l"
