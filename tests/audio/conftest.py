from collections.abc import Callable

import numpy as np
import pytest

SpeechLike = Callable[[int, float], bytes]


@pytest.fixture
def speechlike() -> SpeechLike:
    """Makes s16le audio that no shift of itself resembles: gliding harmonics with syllables."""

    def make(sample_rate_hz: int, seconds: float) -> bytes:
        time = np.arange(round(sample_rate_hz * seconds)) / sample_rate_hz
        pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time)
        phase = 2 * np.pi * np.cumsum(pitch) / sample_rate_hz
        voice = sum(np.sin(k * phase) for k in range(3, 18))
        syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time + 1)
        signal = voice * syllables
        return (signal / np.abs(signal).max() * 20000).astype("<i2").tobytes()

    return make
