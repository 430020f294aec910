# SPDX-License-Identifier: GPL-3.0-or-later
"""When the words of a run sound, from the word starts the library reports."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cosyduplex_espeak.text import Word


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and its samples, counted from the start of the run's sound."""

    word: Word
    sample_start: int
    sample_end: int


class WordTimer:
    """Gives every word of a run its time, in order and without overlap.

    The library's word starts are exact in time and rough in text: several for one number, one for "of the"
    or 你好, lengths that are wrong, positions that go back. So a start counts only where it begins a word of
    ours that has not begun yet, and words without a start of their own share the time of the one before.
    """

    def __init__(self, words: Sequence[Word]) -> None:
        self._words = words
        self._ends = [word.end for word in words]
        self._first = 0  # the first word not yet timed
        self._latest = -1  # the last word that has begun
        self._begun_at = 0
        self._sound_end = 0

    def hear(self, loud: NDArray[np.intp]) -> None:
        """Learn which of the next samples are sound, not silence."""
        if loud.size:
            self._sound_end = int(loud[-1]) + 1

    def begin(self, position: int, sample: int) -> list[TimedWord]:
        """Learn that the library begins a word there, and return the words that are over now."""
        index = self._word_at(position)
        if index <= self._latest or index == len(self._words):
            return []
        over = self._close(index, sample) if self._sound_end and self._latest >= 0 else []
        self._latest = index
        self._begun_at = sample
        return over

    def finish(self) -> list[TimedWord]:
        """Learn that the run is over, and return the words left; none where there was no sound at all."""
        return self._close(len(self._words), self._sound_end) if self._sound_end else []

    def _word_at(self, position: int) -> int:
        index = bisect_right(self._ends, position)
        # A hanzi is one syllable and begins once: a second start there belongs to the number after it.
        again = index == self._latest and self._words[index].hanzi
        return index + 1 if again and not self._is_hanzi(index + 1) else index

    def _is_hanzi(self, index: int) -> bool:
        return index < len(self._words) and self._words[index].hanzi

    def _close(self, until: int, boundary: int) -> list[TimedWord]:
        """Share out the sound since the last start among the words before `until`, by their length."""
        words = self._words[self._first : until]
        start = self._begun_at
        length = max(0, min(boundary, self._sound_end) - start)
        total = sum(word.end - word.start for word in words)
        times, done = [], 0
        for word in words:
            begin = start + length * done // total
            done += word.end - word.start
            times.append(TimedWord(word, begin, start + length * done // total))
        self._first = until
        return times
