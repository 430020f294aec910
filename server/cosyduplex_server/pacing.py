"""How far the listener is, and when the next frame may go.

`PlaybackClock` is pure: time comes in as an argument. `Ticker` is the one timer that all paced contexts of
the process share, where a sleeping task per session would cost a timer and a task switch per frame.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

TICK_S = 0.02
# asyncio calls a timer up to its clock's resolution early.
TIMER_SLACK_S = 1e-6
# The loop is given back after this long; what else is due follows in its next turn.
TURN_S = 0.002
# A listener with a full buffer is given this much at a time: a write costs far more than a frame.
REFILL_MS = 300.0


def refill_ms(max_ahead_ms: int) -> float:
    """How much has to fit before a full listener is sent more; small buffers are topped up in quarters."""
    return min(REFILL_MS, max_ahead_ms / 4)


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
    """One timer for everybody who waits for a moment: a wheel of 20 ms steps.

    What falls into one step is woken in one turn of the loop, so the cost is that of the wakings, not of
    the timers; and who is not due is not looked at.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._steps: dict[int, dict[Callable[[float], None], None]] = {}
        self._due: dict[Callable[[float], None], int] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._next_step = 0
        self._woken: deque[Callable[[float], None]] = deque()
        self._turn: asyncio.Handle | None = None  # the next turn of those in `_woken`

    def wake(self, member: Callable[[float], None], at_s: float) -> None:
        """Calls `member(now_s)` once, in the first step not before `at_s`; the earliest asked for wins."""
        step = math.ceil(at_s / TICK_S)
        known = self._due.get(member)
        if known is not None and known <= step:
            return
        self.discard(member)
        self._due[member] = step
        self._steps.setdefault(step, {})[member] = None
        if self._handle is None or step < self._next_step:
            self._arm(step)

    def discard(self, member: Callable[[float], None]) -> None:
        """Forgets a member."""
        members = self._steps.get(self._due.pop(member, -1))
        if members is not None:
            del members[member]

    def _arm(self, step: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._next_step = step
        self._handle = self._loop.call_at(step * TICK_S, self._tick)

    def _tick(self) -> None:
        self._handle = None
        now_s = self._loop.time()
        # After a stall of the loop several steps are due at once; each member is woken once all the same.
        for step in [step for step in self._steps if step * TICK_S <= now_s + TIMER_SLACK_S]:
            self._woken.extend(self._steps.pop(step))
        if self._turn is None:
            self._wake_some()
        self._arm_next()

    def _wake_some(self) -> None:
        """Wakes who is due, as many as one turn has time for: sessions that began together come together."""
        self._turn = None
        began_s = self._loop.time()
        while self._woken:
            now_s = self._loop.time()
            if now_s - began_s > TURN_S:
                self._turn = self._loop.call_later(0, self._wake_some)
                return
            member = self._woken.popleft()
            if self._due.get(member, math.inf) * TICK_S <= now_s + TIMER_SLACK_S:
                del self._due[member]
                member(now_s)

    def _arm_next(self) -> None:
        if self._steps and self._handle is None:
            self._arm(min(self._steps))
