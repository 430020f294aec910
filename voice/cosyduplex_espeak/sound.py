# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to the library's sound: silence cut off its ends, its level set, its peaks held down."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cosyduplex_espeak.voices import Language

Pcm = NDArray[np.int16]

# Half the library's own level. At 100 Chinese clips inside the library, at 50 no voice does at any pitch.
LIBRARY_VOLUME: Final = 50
# Makes the voices equally loud, -19.5 dBFS while they speak.
_GAIN: Final[dict[Language, float]] = {"en": 2.0, "zh": 1.7}

_FULL_SCALE: Final = 32768.0
_CEILING: Final = 10 ** (-1.1 / 20)  # -1.1 dBFS
_KNEE: Final = 0.6

_SILENCE: Final = 100  # at LIBRARY_VOLUME, -50 dBFS
_LEAD_SAMPLES: Final = 110  # 5 ms before the first sound keep its onset


def level(pcm: Pcm, language: Language, volume: float) -> Pcm:
    """`pcm` at its final level. Sample by sample, so the same however it is cut into chunks.

    Linear below the knee, above it bent towards the ceiling, which no sample passes.
    """
    scaled = pcm * np.float32(_GAIN[language] * volume / _FULL_SCALE)
    size = np.abs(scaled)
    over = size > _KNEE
    if over.any():
        room = _CEILING - _KNEE
        bent = _KNEE + room * np.tanh((size[over] - _KNEE) / room)
        scaled[over] = np.copysign(bent, scaled[over])
    levelled: Pcm = np.rint(scaled * _FULL_SCALE).astype(np.int16)
    return levelled


def loud_samples(pcm: Pcm) -> NDArray[np.intp]:
    """The positions of the samples that are sound, not silence."""
    return np.flatnonzero((pcm > _SILENCE) | (pcm < -_SILENCE))


class SilenceTrim:
    """Cuts the silence off both ends of a run while it streams.

    Attributes:
        lead_samples: how many samples were cut off the start so far.
    """

    def __init__(self) -> None:
        self.lead_samples = 0
        self._begun = False
        self._held: Pcm = np.empty(0, np.int16)

    def feed(self, pcm: Pcm) -> Pcm:
        """What is certain to lie between the first sound and the last; silence at the end is held back."""
        data = np.concatenate((self._held, pcm))
        loud = loud_samples(data)
        if not loud.size:
            if self._begun:
                self._held = data
            else:
                self.lead_samples += data.size
            return data[:0]
        start = 0 if self._begun else max(0, int(loud[0]) - _LEAD_SAMPLES)
        end = int(loud[-1]) + 1
        self.lead_samples += start
        self._begun = True
        self._held = data[end:]
        return data[start:end]
