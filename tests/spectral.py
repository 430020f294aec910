"""Instruments that listen: what a sound says against another sound, where it falls silent, its level and pitch.

Nothing here knows a language or a voice. Distances are between cepstra, warped in time, so tempo and pauses
cost little; a silence inside a word costs little as well, which is why `holes` looks for those.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import soxr
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ANALYSIS_HZ = 16000
_FRAME = 400  # 25 ms
_HOP = 160  # 10 ms
_FFT = 512
HOP_MS = 10
_NUM_BANDS = 24
_NUM_CEPSTRA = 12
# Below this much of the speech's own level, quietness all sounds alike: codec noise is not compared.
_FLOOR = 1e-4


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono samples, full scale 1."""

    samples: Array
    rate_hz: int

    @classmethod
    def of(cls, pcm: bytes | NDArray[np.int16], rate_hz: int) -> Sound:
        """From s16le."""
        whole = np.frombuffer(pcm, "<i2") if isinstance(pcm, bytes) else pcm
        return cls(whole / 32768, rate_hz)

    @property
    def ms(self) -> float:
        """Its length."""
        return len(self.samples) * 1000 / self.rate_hz

    def cut(self, start_ms: float, end_ms: float) -> Sound:
        """From one time to another."""
        start, end = (round(at * self.rate_hz / 1000) for at in (start_ms, end_ms))
        return Sound(self.samples[start:end], self.rate_hz)

    def at(self, rate_hz: int) -> Sound:
        """At another rate."""
        return Sound(soxr.resample(self.samples, self.rate_hz, rate_hz), rate_hz)

    def then(self, *others: Sound) -> Sound:
        """Followed by others of its rate."""
        return Sound(np.concatenate([self.samples, *(other.samples for other in others)]), self.rate_hz)


def silence(ms: float, rate_hz: int) -> Sound:
    return Sound(np.zeros(round(ms * rate_hz / 1000)), rate_hz)
