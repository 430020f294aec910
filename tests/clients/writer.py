"""Somebody who writes while the listener listens."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator

SENTENCE = "A duplex server speaks while the text is still being written. "
ENDING = "That was all."
# Sizes that fit no word: every SDK and every door has to put the pieces together.
SIZES = (1, 3, 7, 2, 11, 5, 4)


class Writer:
    """An LLM's text in odd pieces, sentence after sentence until audio has been `heard`, then an ending.

    Iterating it ends only if audio was heard before the last text, so there is no clock to compare: whoever
    listens sets `heard` at the first audio. A client that reads only while it writes gets its turns as well.

    Attributes:
        heard: set by the listener.
        text: what has been written so far.
    """

    def __init__(
        self, sentence: str = SENTENCE, ending: str = ENDING, *, pace_s: float = 0.02, patience_s: float = 20
    ) -> None:
        self.heard = threading.Event()
        self.text = ""
        self._sentence = sentence
        self._ending = ending
        self._pace_s = pace_s
        self._patience_s = patience_s

    def _pieces(self) -> Iterator[str]:
        end = time.monotonic() + self._patience_s
        sizes = itertools.cycle(SIZES)
        while not self.heard.is_set():
            assert time.monotonic() < end, f"nothing was heard of {len(self.text)} characters"
            yield from _cut(self._sentence, sizes)
        yield from _cut(self._ending, sizes)

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces():
            time.sleep(self._pace_s)
            self.text += piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[str]:
        for piece in self._pieces():
            await asyncio.sleep(self._pace_s)
            self.text += piece
            yield piece


def _cut(text: str, sizes: Iterator[int]) -> Iterator[str]:
    at = 0
    while at < len(text):
        size = next(sizes)
        yield text[at : at + size]
        at += size
