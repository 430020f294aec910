"""What a session has sent, kept for a while, so that a listener who lost the socket can be given it again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

MAX_EVENTS = 1000


class ReplayLog:
    """The last frames and events of one session in their order, bounded in milliseconds and in events.

    Attributes:
        kept_ms: audio in the log.
    """

    def __init__(self, replay_ms: int) -> None:
        self.kept_ms = 0.0
        self._replay_ms = replay_ms
        self._events = 0
        # What was written at a time: number of its last frame or 0, of its event or 0, milliseconds, bytes.
        self._entries: deque[tuple[int, int, float, Sequence[bytes]]] = deque()

    def __len__(self) -> int:
        return sum(len(data) for _, _, _, data in self._entries)

    @property
    def first_seq(self) -> int:
        """Number of the oldest frame kept; 0 without any."""
        return next((seq - len(data) + 1 for seq, _, _, data in self._entries if seq), 0)

    def add_frames(self, last_seq: int, duration_ms: float, frames: Sequence[bytes]) -> None:
        """Keeps frames of one write, of which the last has this number; lets go of the oldest writes."""
        self._entries.append((last_seq, 0, duration_ms, frames))
        self.kept_ms += duration_ms
        while self.kept_ms > self._replay_ms:
            self._drop_oldest()

    def add_event(self, ev: int, data: bytes) -> None:
        """Keeps an event, and lets go of the oldest beyond the bound."""
        self._entries.append((0, ev, 0.0, (data,)))
        self._events += 1
        while self._events > MAX_EVENTS:
            self._drop_oldest()

    def acknowledge(self, last_seq: int, last_ev: int) -> None:
        """Lets go of what has arrived, write by write, as far as everything before it has arrived too."""
        while self._entries:
            seq, ev, _, _ = self._entries[0]
            if seq > last_seq or ev > last_ev:
                return
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        seq, _, duration_ms, _ = self._entries.popleft()
        self.kept_ms = self.kept_ms - duration_ms if self._entries else 0.0
        self._events -= not seq
