"""Why a listener heard nothing: text, compute or gateway.

`text` is decided here, for each hole: the text of the word that was due next had not been released when a
listener without a jitter buffer ran dry. When text is released is the server's own rule, so its front end
reads the text once more, with the times at which it was written. What is left over is the engine's or the
gateway's; only the server knows which, and it counts them.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cosyduplex_server.bench.listener import Stall
from cosyduplex_server.bench.settings import SLOT_MS
from cosyduplex_server.text.front import FlushPoint, TextFrontEnd

# `text_idle_ms` of a server with default settings.
WRITER_PAUSE_S = 0.7
# Text that comes in the last slot before its sound is due is late for any engine.
LEAST_NOTICE_S = SLOT_MS / 1000
# A frame that is not full waits for what follows, and so does a slot.
HELD_BACK_MS = 40

CAUSES = ("text", "compute", "gateway", "unattributed")


@dataclass(frozen=True, slots=True)
class Writing:
    """What was written when; `ended_s` is None for a text that was cut off.

    Attributes:
        pieces: what was appended, in order.
        written_s: when.
        ended_s: when its end was written.
    """

    pieces: Sequence[str]
    written_s: Sequence[float]
    ended_s: float | None


@dataclass(frozen=True, slots=True)
class Words:
    """The words whose audio came: where each ends, in milliseconds of audio and in characters of the text."""

    end_ms: Sequence[float]
    char_end: Sequence[int]


def text_holes(
    stalls: Sequence[Stall], writing: Writing, words: Words, *, in_parts: bool = False
) -> frozenset[float]:
    """Where a stream waited for its text, as positions in milliseconds.

    Args:
        stalls: of the listener without a jitter buffer; others stall at the same places, or not at all.
        writing: the text.
        words: what of it was heard.
        in_parts: the engine is given a segment while it is written.
    """
    if not stalls:
        return frozenset()
    releases = list(released(writing, in_parts=in_parts))
    return frozenset(
        stall.position_ms for stall in stalls if _is_for_want_of_text(stall, releases, writing, words)
    )


def _is_for_want_of_text(
    stall: Stall, releases: Sequence[tuple[int, float]], writing: Writing, words: Words
) -> bool:
    """Whether the text of the word that was due next had not been released in time."""
    num_spoken = bisect.bisect_right(words.end_ms, stall.position_ms + HELD_BACK_MS)
    spoken_chars = words.char_end[num_spoken - 1] if num_spoken else 0
    text = "".join(writing.pieces[: len(writing.written_s)])
    due_char = next((at for at in range(spoken_chars, len(text)) if text[at].isalnum()), len(text))
    in_time_s = stall.dry_s - LEAST_NOTICE_S
    for end_char, released_s in releases:
        if end_char > due_char:
            return released_s > in_time_s
    # All that was written had been spoken: unless that was the end, more text was to come.
    return writing.ended_s is None or writing.ended_s > in_time_s


def released(writing: Writing, *, in_parts: bool = False) -> Iterator[tuple[int, float]]:
    """The end of each segment, or part of one, in characters, and when the server could have known it."""
    front = TextFrontEnd()
    front.in_parts = in_parts
    last_s = math.inf
    for piece, at_s in zip(writing.pieces, writing.written_s, strict=False):
        yield from _pause(front, last_s, at_s)
        front.append(piece)
        yield from _drain(front, at_s)
        last_s = at_s
    if writing.ended_s is None:
        yield from _pause(front, last_s, math.inf)
    else:
        yield from _pause(front, last_s, writing.ended_s)
        front.end()
        yield from _drain(front, writing.ended_s)


def _pause(front: TextFrontEnd, since_s: float, until_s: float) -> Iterator[tuple[int, float]]:
    if until_s - since_s >= WRITER_PAUSE_S:
        front.idle()
        yield from _drain(front, since_s + WRITER_PAUSE_S)


def _drain(front: TextFrontEnd, at_s: float) -> Iterator[tuple[int, float]]:
    while True:
        item = front.next()
        assert not isinstance(item, FlushPoint)
        if item is not None:
            yield item.source_end, at_s
        elif not front.busy:
            return


@dataclass(frozen=True, slots=True)
class ServerUnderruns:
    """How often the server saw a listener run dry while the campaign ran, by what was missing."""

    text: float
    compute: float
    gateway: float


@dataclass(frozen=True, slots=True)
class Blame:
    """Slots without data of one stream, by cause."""

    text: int = 0
    gateway: int = 0
    shared: int = 0

    def split(self, seen: ServerUnderruns | None) -> dict[str, float]:
        """By `CAUSES`: what is shared falls to compute and gateway as the server counted them.

        Where it counted neither, the audio had left it in time: the gateway (or the way from it) was late.
        """
        slots = dict.fromkeys(CAUSES, 0.0)
        slots["text"] = self.text
        slots["gateway"] = self.gateway
        if seen is None:
            slots["unattributed"] = self.shared
        else:
            counted = seen.compute + seen.gateway
            compute = self.shared * seen.compute / counted if counted else 0.0
            slots["compute"] = compute
            slots["gateway"] += self.shared - compute
        return slots


def blame(stalls: Sequence[Stall], waited_for_text: frozenset[float], server_underruns: int | None) -> Blame:
    """Divides the stalls of one listener.

    Args:
        stalls: the listener's.
        waited_for_text: `text_holes` of the stream.
        server_underruns: how often the server saw its listener run dry (`context.done`); None if it never
            said. A stream that the server saw without a hole lost its slots after they had been sent.
    """
    text = sum(stall.num_slots for stall in stalls if stall.position_ms in waited_for_text)
    other = sum(stall.num_slots for stall in stalls) - text
    if server_underruns == 0:
        return Blame(text=text, gateway=other)
    return Blame(text=text, shared=other)
