"""What a listener in real time hears of a stream: pure arithmetic, time is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Two clocks' readings that should be equal differ by float noise; no sound card knows a microsecond.
_TOLERANCE_S = 1e-6


@dataclass(frozen=True, slots=True)
class Stall:
    """A hole in what is heard.

    Attributes:
        position_ms: how much had been played before it.
        dry_s: when the first slot without data was due.
        num_slots: slots without data, one after another.
    """

    position_ms: float
    dry_s: float
    num_slots: int


class Listener:
    """A player that takes one slot of audio at each beat of its sound card.

    It begins `delay_s` after its first whole slot has come. A slot that is not whole when it is due is an
    underrun: nothing is played, and the same slot is due again one beat later. Data that comes at the very
    moment its slot is due is in time.

    Args:
        delay_s: from the first slot to the beginning of playback.
        slot_ms: what the sound card takes at a time.
        sample_rate_hz: of the audio.
        pre_skip: samples of a codec's delay at the beginning: received and not heard, they make the first
            slot a short one.

    Attributes:
        stalls: the holes so far, in order. A player only knows that it missed something once more comes (or
            the stream is cut off): a stream that simply ended has no hole at its end.
    """

    __slots__ = (
        "_delay_s",
        "_num_samples",
        "_origin_s",
        "_pre_skip",
        "_rate_hz",
        "_ready_slots",
        "_slot_s",
        "_slot_samples",
        "stalls",
    )

    def __init__(self, delay_s: float, slot_ms: int, sample_rate_hz: int, pre_skip: int = 0) -> None:
        self.stalls: list[Stall] = []
        self._delay_s = delay_s
        self._rate_hz = sample_rate_hz
        self._pre_skip = pre_skip
        # As the frames of the wire: rounded down, so that one frame fills one slot at 11025 Hz too.
        self._slot_samples = sample_rate_hz * slot_ms // 1000
        self._slot_s = self._slot_samples / sample_rate_hz
        self._num_samples = 0
        self._ready_slots = 0
        self._origin_s: float | None = None  # slot 0 is or would have been due, holes taken out

    @property
    def has_begun(self) -> bool:
        """Whether a whole slot has come."""
        return self._origin_s is not None

    @property
    def num_samples(self) -> int:
        """Samples received that are to be heard."""
        return max(0, self._num_samples - self._pre_skip)

    def receive(self, num_samples: int, now_s: float) -> None:
        """Takes audio."""
        self._num_samples += num_samples
        ready_slots = self._num_samples // self._slot_samples
        if ready_slots == self._ready_slots:
            return
        if self._origin_s is None:
            self._origin_s = now_s + self._delay_s - self._pre_skip / self._rate_hz
        elif now_s > self._origin_s + self._ready_slots * self._slot_s + _TOLERANCE_S:
            self._miss(now_s)
        self._ready_slots = ready_slots

    def _miss(self, now_s: float) -> None:
        """Counts the slots that were due before now, and moves the rest of the stream behind them."""
        assert self._origin_s is not None
        dry_s = self._origin_s + self._ready_slots * self._slot_s
        num_slots = math.ceil((now_s - dry_s - _TOLERANCE_S) / self._slot_s)
        self.stalls.append(Stall(self._position_ms(self._ready_slots), dry_s, num_slots))
        self._origin_s += num_slots * self._slot_s

    def finish(self) -> int:
        """All has come: the rest will be heard, a last part of a slot too. Returns the slots heard in all."""
        self._ready_slots = math.ceil(self._num_samples / self._slot_samples)
        return self._ready_slots

    def stop(self, now_s: float) -> int:
        """Nothing more will be heard, and what was waited for was missed. Returns the slots heard in all."""
        if self._origin_s is None:
            return 0
        if now_s > self._origin_s + self._ready_slots * self._slot_s + _TOLERANCE_S:
            self._miss(now_s)
        return self._played_slots(now_s)

    def played_ms(self, now_s: float) -> float:
        """Milliseconds heard by now; a slot counts from its beginning."""
        return self._position_ms(self._played_slots(now_s))

    def _position_ms(self, num_slots: int) -> float:
        return max(0, num_slots * self._slot_samples - self._pre_skip) * 1000 / self._rate_hz

    def _played_slots(self, now_s: float) -> int:
        if self._origin_s is None or now_s < self._origin_s:
            return 0
        return min(self._ready_slots, int((now_s - self._origin_s) / self._slot_s) + 1)

    @property
    def heard_at_s(self) -> float:
        """When everything that has come will have been heard; 0 before the first slot."""
        return 0.0 if self._origin_s is None else self._origin_s + self._ready_slots * self._slot_s
