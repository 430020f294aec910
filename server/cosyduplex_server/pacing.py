"""How far the listener is, and when the next frame may go.

`PlaybackClock` is pure: time comes in as an argument. `Ticker` is the one timer that all paced contexts of
the process share (a sleeping task per session costs twice the CPU per frame).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TICK_S = 0.02


class PlaybackClock:
    """What a listener of one context has played, in milliseconds of audio.

    Played is the last report carried on by the clock, at most what was sent. Without reports the listener
    is taken to start at the first frame and to stall when it runs dry.

    Attributes:
        sent_ms: audio handed to the socket.
        underruns: how often it ran dry before more came, or the listener's own count where it reports one.
    """

    __slots__ = ("_at_s", "_played_ms", "sent_ms", "underruns")

    def __init__(self) -> None:
        self.sent_ms = 0.0
        self.underruns = 0
        self._played_ms = 0.0
        self._at_s = 0.0

    def played_ms(self, now_s: float) -> float:
        """Milliseconds heard by now."""
        return min(self.sent_ms, self._played_ms + (now_s - self._at_s) * 1000)

    def ahead_ms(self, now_s: float) -> float:
        """Milliseconds sent and not yet heard."""
        return self.sent_ms - self.played_ms(now_s)

    @property
    def dry_at_s(self) -> float:
        """When the listener runs dry, or ran dry, if nothing more is sent."""
        return self._at_s + (self.sent_ms - self._played_ms) / 1000

    def send(self, duration_ms: float, now_s: float) -> bool:
        """Counts a frame as sent; returns whether the listener had run dry before it."""
        played_ms = self.played_ms(now_s)
        dry = 0 < self.sent_ms <= played_ms
        self.underruns += dry
        self._played_ms, self._at_s = played_ms, now_s
        self.sent_ms += duration_ms
        return dry

    def report(self, played_ms: float, underruns: int | None, now_s: float) -> None:
        """Takes the listener's own word for it."""
        self._played_ms, self._at_s = min(played_ms, self.sent_ms), now_s
        if underruns is not None:
            self.underruns = underruns


class Ticker:
    """Calls its members every 20 ms while it has any."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._members: dict[Callable[[float], None], None] = {}
        self._handle: asyncio.TimerHandle | None = None

    def add(self, member: Callable[[float], None]) -> None:
        """Calls `member(now_s)` at every tick from now on."""
        self._members[member] = None
        if self._handle is None:
            self._handle = self._loop.call_later(TICK_S, self._tick)

    def discard(self, member: Callable[[float], None]) -> None:
        """Calls it no more."""
        self._members.pop(member, None)

    def _tick(self) -> None:
        self._handle = None
        now_s = self._loop.time()
        for member in tuple(self._members):
            member(now_s)
        if self._members and self._handle is None:
            # Fixed delay, not fixed rate: after a stall of the loop no burst of ticks follows, and
            # pacing follows the clock, not the count of ticks.
            self._handle = self._loop.call_later(TICK_S, self._tick)
