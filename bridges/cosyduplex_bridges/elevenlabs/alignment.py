"""When each character of a text is heard, for the audio of one message after another.

Engines tell the times of words. What stands between words sounds, or is silent, between their times, and the
characters of a word share its time.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from cosyduplex.messages import WordMark


@dataclass(frozen=True, slots=True)
class Alignment:
    """Characters in the order of the text, each beginning where the one before it ends.

    Attributes:
        chars: one code point each, or one whole surrogate pair.
        starts: in samples of the whole audio; `ends` likewise.
        begin: where the message's audio begins in it.
    """

    chars: list[str]
    starts: list[int]
    ends: list[int]
    begin: int
    sample_rate_hz: int

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self | None:
        """One of parts that follow each other, in which nothing ends with a part."""
        if not parts:
            return None
        chars = [char for part in parts for char in part.chars]
        starts = [start for part in parts for start in part.starts]
        return cls(chars, starts, [*starts[1:], parts[-1].ends[-1]], parts[0].begin, parts[0].sample_rate_hz)

    def of_message(self) -> dict[str, Any]:
        """As the sockets have it: milliseconds from the beginning of the message's audio.

        Pipecat 1.14 adds the spans of all messages up to its clock: rounded as they are here, they add up.
        """
        begin_ms = self._ms(self.begin)
        starts_ms = [self._ms(start) - begin_ms for start in self.starts]
        pairs = zip(self.starts, self.ends, strict=True)
        durations_ms = [self._ms(end) - self._ms(start) for start, end in pairs]
        return {
            "chars": self.chars,
            "charStartTimesMs": starts_ms,
            "charDurationsMs": durations_ms,
            # As the API's own pages misspell them; LiveKit 1.8.9 reads these as well.
            "charsStartTimesMs": starts_ms,
            "charsDurationsMs": durations_ms,
        }

    def of_whole(self) -> dict[str, Any]:
        """As the HTTP routes have it: seconds from the beginning of all audio."""
        return {
            "characters": self.chars,
            "character_start_times_seconds": [self._ms(start) / 1000 for start in self.starts],
            "character_end_times_seconds": [self._ms(end) / 1000 for end in self.ends],
        }

    def _ms(self, samples: int) -> int:
        return round(samples * 1000 / self.sample_rate_hz)


class Characters:
    """The text of one utterance, character by character, and how far it has been told.

    Every character is told once, in order. As far as the words are known in time a message's characters fill
    exactly its audio, so that clients that count audio and clients that add up durations agree.

    Attributes:
        clock: how far in the audio the characters told so far reach, in samples.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self.clock = 0
        self._rate_hz = sample_rate_hz
        self._untimed: deque[str] = deque()
        self._position = 0  # of the first of them in the text
        self._timed: deque[tuple[str, int]] = deque()
        self._timed_end = 0
        self._flushes: deque[int] = deque()  # positions
        self._behind_word = False  # what comes next belongs to the pause behind a word

    def begins_before(self, until: int) -> bool:
        """Whether what is to be told next is known to begin before there."""
        return bool(self._timed) and self._timed[0][1] < until

    def append(self, text: str) -> None:
        """Takes text, in any split."""
        self._untimed.extend(text)

    def flush(self) -> None:
        """Notes that all text so far belongs to one more flush."""
        self._flushes.append(self._position + len(self._untimed))

    def time(self, words: Sequence[WordMark], shift: int) -> None:
        """Takes the times of words, which come before the audio in which they begin.

        Args:
            words: their offsets are code points of the text.
            shift: samples by which they are heard later than they say.
        """
        for word in words:
            start = max(word.start_ms * self._rate_hz // 1000 + shift, self._timed_end)
            end = max(word.end_ms * self._rate_hz // 1000 + shift, start)
            self._spread(word.char_start - self._position, self._timed_end, start)
            self._spread(word.char_end - self._position, start, end)
            self._timed_end = end
            self._behind_word = True

    def _spread(self, count: int, start: int, end: int) -> None:
        count = min(count, len(self._untimed))
        for at in range(count):
            self._timed.append((self._untimed.popleft(), start + (end - start) * at // count))
        self._position += max(count, 0)

    # --- out

    def take(self, begin: int, until: int) -> Alignment | None:
        """What is to be told with the audio from `begin` to `until`.

        Where nothing begins in it, something is told early, with its true time, or a mark of the pause in
        which it lies: a client's clock must not stop there.
        """
        taken: list[tuple[str, int]] = []
        end = until
        while self._timed and self._timed[0][1] < until:
            taken.append(self._timed.popleft())
        if not taken and self._timed:
            taken.append(self._timed.popleft())
            end = self._timed[0][1] if self._timed else self._timed_end
        elif not taken and self._is_pause():
            taken.append((self._untimed.popleft(), begin))
            self._position += 1
            blank = taken[0][0].isspace()
            self._behind_word = not blank or bool(self._untimed and self._untimed[0].isspace())
        return self._tell(taken, begin, end)

    def take_flushed(self, begin: int, until: int) -> Alignment | None:
        """The rest of what belongs to the next flush."""
        return self._take_all(self._flushes.popleft() - self._position, begin, until)

    def take_rest(self, begin: int, until: int) -> Alignment | None:
        """All that has not been told."""
        return self._take_all(len(self._untimed), begin, until)

    def _take_all(self, num_untimed: int, begin: int, until: int) -> Alignment | None:
        at = max(self._timed_end, begin)
        self._spread(num_untimed, at, max(at, until))
        taken = list(self._timed)
        self._timed.clear()
        return self._tell(taken, begin, until)

    def _is_pause(self) -> bool:
        if not self._behind_word or not self._untimed:
            return False
        char = self._untimed[0]
        return char.isspace() or unicodedata.category(char)[0] == "P"

    def _tell(self, taken: list[tuple[str, int]], begin: int, end: int) -> Alignment | None:
        if not taken:
            return None
        earliest = max(begin, self.clock)
        starts = [max(start, earliest) for _, start in taken]
        self.clock = max(end, starts[-1])
        return _alignment(
            [char for char, _ in taken], starts, [*starts[1:], self.clock], begin, self._rate_hz
        )


def _alignment(chars: list[str], starts: list[int], ends: list[int], begin: int, rate_hz: int) -> Alignment:
    """Joins the halves of characters that the client's own split divided; a half alone cannot be sent."""
    for at in range(len(chars) - 2, -1, -1):
        if "\ud800" <= chars[at] <= "\udbff" and "\udc00" <= chars[at + 1] <= "\udfff":
            pair = chars[at] + chars.pop(at + 1)
            chars[at] = pair.encode("utf-16", "surrogatepass").decode("utf-16")
            del starts[at + 1], ends[at]
    chars = [char.encode("utf-8", "replace").decode() for char in chars]
    return Alignment(chars, starts, ends, begin, rate_hz)
