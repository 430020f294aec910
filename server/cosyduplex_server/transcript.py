"""What was appended, what of it has been spoken when, and so how far a listener got."""

from __future__ import annotations

import re
from bisect import bisect_right

from cosyduplex.messages import WordMark
from cosyduplex_server.text.front import Segment

_LETTER = re.compile(r"[^\W_]")


class Transcript:
    """The appended text of one context, as long as it is needed, and the times of its words.

    Attributes:
        num_chars: code points appended so far.
    """

    def __init__(self) -> None:
        self.num_chars = 0
        self._chunks: list[str] = []
        self._base = 0  # position of the first code point still kept
        # Of each segment at the engine, for each of its characters the position it stands for.
        self._positions: dict[int, list[int]] = {}
        self._spoken: dict[int, str] = {}
        self._ends: dict[int, dict[int, int]] = {}  # of positions that stand for several code points
        self._word_ends_ms: list[int] = []
        self._heard_to: list[int] = []  # how far one got who heard so many words

    def append(self, text: str) -> None:
        """Takes appended text."""
        self._chunks.append(text)
        self.num_chars += len(text)

    def begin_segment(self, segment: Segment) -> None:
        """Takes a segment, or the first part of one, that is about to be spoken.

        The text before it is let go of.
        """
        if not self._positions:
            self._drop_before(segment.source_start)
        self._positions[segment.index] = list(segment.offsets[:-1])
        self._spoken[segment.index] = segment.text
        self._ends[segment.index] = dict(segment.ends)

    def extend_segment(self, part: Segment) -> None:
        """Takes the next part of a segment that has begun."""
        self._positions[part.index] += part.offsets[:-1]
        self._spoken[part.index] += part.text
        self._ends[part.index].update(part.ends)

    def end_segment(self, index: int) -> None:
        """Lets go of a segment that has been spoken."""
        self._positions.pop(index, None)
        self._spoken.pop(index, None)
        self._ends.pop(index, None)

    def _drop_before(self, position: int) -> None:
        text = "".join(self._chunks)
        self._chunks = [text[position - self._base :]]
        self._base = position

    def _slice(self, start: int, end: int) -> str:
        if len(self._chunks) != 1:
            self._chunks = ["".join(self._chunks)]
        return self._chunks[0][start - self._base : end - self._base]

    def mark(
        self, segment_index: int, char_start: int, char_end: int, start_ms: int, end_ms: int
    ) -> WordMark | None:
        """Turns a word of a segment into a word of the appended text; `None` where it stands for none."""
        positions = self._positions.get(segment_index, ())
        if not 0 <= char_start < char_end <= len(positions):
            return None
        start, last = positions[char_start], positions[char_end - 1]
        end = self._ends[segment_index].get(last, last + 1)
        self._word_ends_ms.append(end_ms)
        following = _LETTER.search(self._spoken[segment_index], char_end)
        # A "½" of which only "one" has been said has not been heard.
        self._heard_to.append(min(end, positions[following.start()]) if following else end)
        return WordMark(
            text=self._slice(start, end), start_ms=start_ms, end_ms=end_ms, char_start=start, char_end=end
        )

    def heard_chars(self, played_ms: float) -> int:
        """How far into the text somebody got who heard so much: to the end of the last whole word."""
        words = bisect_right(self._word_ends_ms, played_ms)
        return self._heard_to[words - 1] if words else 0
