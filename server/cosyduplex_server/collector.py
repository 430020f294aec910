"""When the garbage collector may run: in small bites, and whole only where nobody waits for it.

Nearly everything here is freed by its last reference. Python's own thresholds would walk all that lives,
0.5 µs an object and tens of thousands of objects, on whatever message happens to cross them: the event loop
stands still for tens of milliseconds (`benchmarks/loop_blocks.py` with this module's `start` left out).
"""

from __future__ import annotations

import gc
from typing import Final

# Objects born since the last bite; a bite walks a few times as many, in about a millisecond.
_YOUNG: Final = 400
_NEVER: Final = 1_000_000
# Ended sessions leave some small cycles each. With listeners waiting, so many are let be, and as many again
# for every listener: the walk's length grows with them, and so it grows rarer.
_ENDED_MIN: Final = 1_000
_ENDED_PER_LIVE: Final = 4


class Collector:
    """Collects whole when the server falls idle, or when very many sessions have ended under load."""

    def __init__(self) -> None:
        self._started = False
        self._ended = 0

    def start(self) -> None:
        """Sets aside what the process has made so far; from now on whole collections happen here alone.

        For a process that is the server: without it nothing of Python's is changed.
        """
        self._started = True
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG, _NEVER, _NEVER)

    def session_ended(self, num_live: int) -> None:
        """Counts a session that ended, with so many left; collects when it is time."""
        if not self._started:
            return
        self._ended += 1
        if not num_live or self._ended >= _ENDED_MIN + _ENDED_PER_LIVE * num_live:
            self._ended = 0
            gc.collect()
