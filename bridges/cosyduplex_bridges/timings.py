"""Word times as dialects want them: words with the punctuation behind them, Chinese by the character."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cosyduplex.messages import WordMark

# Punctuation to Unicode, markup to whoever wrote it.
_MARKUP = frozenset("*_`#~|<>[]")


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word, or a Chinese character, and when it is spoken; punctuation of Chinese takes no time."""

    text: str
    start_ms: int
    end_ms: int


def timed_words(source: str, marks: Sequence[WordMark]) -> list[TimedWord]:
    """The words of some marks, in order.

    Args:
        source: all text of the utterance so far.
        marks: of it, their offsets in code points of `source`.
    """
    return [word for mark in marks for word in _words_of(source, mark)]


def _words_of(source: str, mark: WordMark) -> Iterator[TimedWord]:
    tail = _punctuation_at(source, mark.char_end)
    if not any(map(is_cjk, mark.text)):
        yield TimedWord(mark.text + tail, mark.start_ms, mark.end_ms)
        return
    step_ms = (mark.end_ms - mark.start_ms) / len(mark.text)
    for at, char in enumerate(mark.text):
        begin_ms, end_ms = mark.start_ms + round(at * step_ms), mark.start_ms + round((at + 1) * step_ms)
        yield TimedWord(char, begin_ms, end_ms)
    for char in tail:
        yield TimedWord(char, mark.end_ms, mark.end_ms)


def _punctuation_at(source: str, at: int) -> str:
    end = at
    while end < len(source) and source[end] not in _MARKUP and unicodedata.category(source[end])[0] == "P":
        end += 1
    return source[at:end]


def is_cjk(char: str) -> bool:
    """Whether it is a character of Chinese, Japanese kana included."""
    return (
        "\u3040" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\U00020000" <= char <= "\U0003ffff"
    )
