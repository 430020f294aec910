"""Levels that cannot clip, and silence cut off wherever the chunks fall."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_espeak.sound import SilenceTrim, level

MINUS_1_DBFS = 32768 * 10 ** (-1 / 20)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("volume", [0.5, 1.0, 2.0])
def test_no_sample_passes_minus_1_dbfs_and_louder_stays_louder(language: str, volume: float) -> None:
    ramp = np.arange(-32768, 32768).astype(np.int16)
    out = level(ramp, language, volume).astype(int)
    assert np.abs(out).max() <= MINUS_1_DBFS
    assert (np.diff(out) >= 0).all()
    assert np.diff(out).max() <= 5


def test_quiet_sound_is_only_scaled() -> None:
    quiet = np.array([-1000, -1, 0, 7, 1000], np.int16)
    assert level(quiet, "en", 1.0).tolist() == [-2000, -2, 0, 14, 2000]
    assert level(quiet, "en", 2.0).tolist() == [-4000, -4, 0, 28, 4000]
    assert not level(quiet, "en", 0.0).any()


def sound(silence: int, loud: int, gap: int, tail: int) -> np.ndarray:
    parts = [np.zeros(silence), np.full(loud, 5000), np.zeros(gap), np.full(loud, -5000), np.full(tail, 90)]
    return np.concatenate(parts).astype(np.int16)


@given(
    st.integers(0, 500),
    st.integers(1, 300),
    st.integers(0, 500),
    st.integers(0, 500),
    st.lists(st.integers(1, 400), max_size=8),
)
def test_trimmed_sound_runs_from_the_first_loud_sample_to_the_last_in_any_chunks(
    silence: int, loud: int, gap: int, tail: int, sizes: list[int]
) -> None:
    whole = sound(silence, loud, gap, tail)
    trim = SilenceTrim()
    chunks = np.split(whole, np.cumsum(sizes)[np.cumsum(sizes) < whole.size])
    out = np.concatenate([trim.feed(chunk) for chunk in chunks])
    assert silence - 110 <= trim.lead_samples <= silence
    assert np.array_equal(out, whole[trim.lead_samples : whole.size - tail])


def test_silence_alone_leaves_nothing() -> None:
    trim = SilenceTrim()
    assert trim.feed(np.full(5000, 99, np.int16)).size == 0
    assert trim.lead_samples == 5000
