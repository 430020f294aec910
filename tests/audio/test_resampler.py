import itertools
import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyduplex_server.audio.resample import Resampler, _design

ENGINE_RATES_HZ = (16000, 22050, 24000, 44100, 48000)
WIRE_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
PAIRS = [pair for pair in itertools.product(ENGINE_RATES_HZ, WIRE_RATES_HZ) if pair[0] != pair[1]]
DOWNWARD = [pair for pair in PAIRS if pair[1] < pair[0]]
UPWARD = [pair for pair in PAIRS if pair[1] > pair[0]]

Signal = npt.NDArray[np.float64]


def convert(signal: Signal, in_hz: int, out_hz: int) -> Signal:
    resampler = Resampler(in_hz, out_hz)
    pcm = np.rint(signal).astype("<i2").tobytes()
    return np.frombuffer(resampler.process(pcm) + resampler.finish(), "<i2").astype(np.float64)


def tone(hz: float, sample_rate_hz: int, seconds: float = 0.4, amplitude: float = 30000) -> Signal:
    return amplitude * np.sin(
        2 * np.pi * hz * np.arange(int(sample_rate_hz * seconds)) / sample_rate_hz + 0.7
    )


def noise(num_samples: int) -> bytes:
    return np.random.default_rng(num_samples).integers(-20000, 20000, num_samples).astype("<i2").tobytes()


def rms(signal: Signal) -> float:
    return float(np.sqrt(np.mean(signal**2)))


def decibels(ratio: float) -> float:
    return 20 * math.log10(max(ratio, 1e-12))


def steady(signal: Signal, sample_rate_hz: int) -> Signal:
    """The signal without 50 ms at each end, where it begins and stops abruptly."""
    edge = sample_rate_hz // 20
    return signal[edge:-edge]


@pytest.mark.parametrize(("in_hz", "out_hz"), PAIRS)
def test_tones_of_the_passband_come_out_whole_and_in_their_place(in_hz: int, out_hz: int) -> None:
    edge = min(in_hz, out_hz) / 2 - 1000
    tones_hz = [edge * share for share in (0.03, 0.31, 0.77, 1.0)]
    out = convert(np.sum([tone(hz, in_hz, amplitude=7500) for hz in tones_hz], axis=0), in_hz, out_hz)
    ideal = np.sum([tone(hz, out_hz, amplitude=7500) for hz in tones_hz], axis=0)
    error = steady(out - ideal[: len(out)], out_hz)
    assert decibels(rms(ideal) / rms(error)) >= 80


@pytest.mark.parametrize(("in_hz", "out_hz"), PAIRS)
def test_a_band_of_noise_comes_out_as_the_reference_resampler_gives_it(in_hz: int, out_hz: int) -> None:
    white = np.fft.rfft(np.random.default_rng(7).standard_normal(in_hz // 2))
    # The reference itself is 80 dB exact up to some 0.8 of half the lower rate only.
    white[np.fft.rfftfreq(in_hz // 2, 1 / in_hz) > 0.375 * min(in_hz, out_hz)] = 0
    band = np.fft.irfft(white)
    band = np.rint(band / np.abs(band).max() * 30000)
    out = convert(band, in_hz, out_hz)
    reference = soxr.resample(band, in_hz, out_hz, quality="VHQ")
    common = min(len(out), len(reference))
    error = steady(out[:common] - reference[:common], out_hz)
    assert decibels(rms(reference) / rms(error)) >= 80


@pytest.mark.parametrize(("in_hz", "out_hz"), DOWNWARD)
def test_tones_that_the_new_rate_cannot_hold_are_suppressed(in_hz: int, out_hz: int) -> None:
    lowest, highest = out_hz / 2 + 10, in_hz / 2 - 50
    for hz in (lowest, (lowest + highest) / 2, highest):
        signal = tone(hz, in_hz)
        alias = steady(convert(signal, in_hz, out_hz), out_hz)
        assert decibels(rms(alias) / rms(signal)) <= -60


@pytest.mark.parametrize(("in_hz", "out_hz"), UPWARD)
def test_nothing_appears_above_what_the_old_rate_could_hold(in_hz: int, out_hz: int) -> None:
    for hz in (440, in_hz / 2 - 600, in_hz / 2 - 50):
        out = steady(convert(tone(hz, in_hz), in_hz, out_hz), out_hz)
        spectrum = np.abs(np.fft.rfft(out * np.kaiser(len(out), 18)))
        in_out_units = np.kaiser(len(out), 18).sum() / 2 * 30000
        above = np.fft.rfftfreq(len(out), 1 / out_hz) > in_hz / 2 + 20
        assert decibels(spectrum[above].max() / in_out_units) <= -60


@given(
    pair=st.sampled_from([*PAIRS, (24000, 24000)]),
    num_samples=st.integers(0, 3000),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
)
@settings(max_examples=150, deadline=None)
def test_any_chunking_gives_the_same_bytes(pair: tuple[int, int], num_samples: int, cuts: list[int]) -> None:
    pcm = noise(num_samples)
    whole = Resampler(*pair)
    expected = whole.process(pcm) + whole.finish()
    chunked = Resampler(*pair)
    out = b""
    edges = [0, *sorted(min(cut, num_samples) for cut in cuts), num_samples]
    for start, end in itertools.pairwise(edges):
        out += chunked.process(pcm[2 * start : 2 * end])
    assert out + chunked.finish() == expected


@pytest.mark.parametrize(("in_hz", "out_hz"), PAIRS)
def test_no_sum_of_products_can_need_rounding(in_hz: int, out_hz: int) -> None:
    weights = _design(in_hz, out_hz).table
    assert (weights == np.rint(weights)).all()
    assert np.abs(weights).sum(axis=0).max() * 2**15 < 2**53


def test_single_samples_give_the_same_bytes_as_one_chunk() -> None:
    pcm = noise(1200)
    whole, chunked = Resampler(24000, 44100), Resampler(24000, 44100)
    out = b"".join(chunked.process(pcm[at : at + 2]) for at in range(0, len(pcm), 2))
    assert out + chunked.finish() == whole.process(pcm) + whole.finish()


@pytest.mark.parametrize(("in_hz", "out_hz"), PAIRS)
def test_the_output_is_as_long_as_the_input_to_the_nearest_sample(in_hz: int, out_hz: int) -> None:
    for num_samples in (0, 1, 2, 3, 719, 5000):
        out = convert(np.zeros(num_samples), in_hz, out_hz)
        assert len(out) == math.floor(Fraction(num_samples * out_hz, in_hz) + Fraction(1, 2))


@pytest.mark.parametrize(("in_hz", "out_hz"), PAIRS)
def test_only_the_delay_is_held_back(in_hz: int, out_hz: int) -> None:
    resampler = Resampler(in_hz, out_hz)
    assert 1 <= resampler.delay_ms <= 3
    given_out = len(resampler.process(noise(in_hz // 5))) // 2
    assert given_out == math.ceil(Fraction((in_hz // 5 - resampler.delay_samples) * out_hz, in_hz))


def test_after_a_flush_the_stream_goes_on_as_if_silence_had_not_been_assumed() -> None:
    first, second = noise(1777), noise(1913)
    unbroken = Resampler(22050, 24000)
    expected = unbroken.process(first + second) + unbroken.finish()
    flushed = Resampler(22050, 24000)
    head = flushed.process(first) + flushed.flush()
    out = head + flushed.process(second) + flushed.finish()
    assert len(head) // 2 == round(1777 * 24000 / 22050)
    assert len(out) == len(expected)
    assert out[len(head) :] == expected[len(head) :]


def test_a_flush_before_silence_changes_nothing() -> None:
    first, pause, second = noise(1777), bytes(2 * 200), noise(1913)
    unbroken = Resampler(24000, 16000)
    expected = unbroken.process(first + pause + second) + unbroken.finish()
    flushed = Resampler(24000, 16000)
    out = flushed.process(first) + flushed.flush() + flushed.process(pause + second) + flushed.finish()
    assert out == expected


def test_a_flush_with_nothing_new_gives_nothing() -> None:
    resampler = Resampler(24000, 8000)
    resampler.process(noise(500))
    assert resampler.flush()
    assert resampler.flush() == b""
    assert resampler.finish() == b""


def test_a_full_scale_square_wave_saturates_and_does_not_wrap() -> None:
    half_period = 480
    out = convert(np.repeat(np.tile([32767.0, -32768.0], 10), half_period), 24000, 48000)
    halves = out.reshape(20, 2 * half_period)
    assert halves.max() == 32767
    assert halves.min() == -32768
    assert halves[0::2, 4:-4].min() > 0
    assert halves[1::2, 4:-4].max() < 0


@pytest.mark.parametrize(("in_hz", "out_hz"), [(22050, 24000), (24000, 8000), (24000, 44100)])
def test_a_constant_stays_exactly_that_constant(in_hz: int, out_hz: int) -> None:
    out = convert(np.full(4000, 12345.0), in_hz, out_hz)
    assert set(steady(out, out_hz // 10)) == {12345.0}


def test_equal_rates_pass_the_bytes_through_without_delay() -> None:
    resampler = Resampler(24000, 24000)
    pcm = noise(333)
    assert resampler.process(pcm) == pcm
    assert resampler.finish() == b""
    assert resampler.delay_ms == 0


@pytest.mark.parametrize("out_hz", [24000, 16000])
def test_half_a_sample_is_refused(out_hz: int) -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        Resampler(24000, out_hz).process(b"abc")


@pytest.mark.parametrize(("in_hz", "out_hz"), [(0, 24000), (24000, -1), (24000, 44101)])
def test_rates_without_a_usable_ratio_are_refused(in_hz: int, out_hz: int) -> None:
    with pytest.raises(ValueError, match=str(out_hz)):
        Resampler(in_hz, out_hz)
