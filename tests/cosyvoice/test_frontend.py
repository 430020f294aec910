import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.models.frontend import (
    kaldi_fbank,
    prompt_mel,
    resample,
    slaney_filters,
    speaker_fbank,
    whisper_log_mel,
)


@pytest.fixture
def front(golden):
    return golden("frontend_golden")


def close(ours, theirs, tolerance):
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


def tone(hz, rate_hz, num_samples):
    return torch.sin(2 * math.pi * hz / rate_hz * torch.arange(num_samples, dtype=torch.float64)).float()


def slow_resample(wav, from_hz, to_hz):
    """The windowed sinc as it is defined, every output sample from every input sample, in float64."""
    cutoff_hz = min(from_hz, to_hz) * 0.99
    from_s = np.arange(len(wav)) / from_hz
    to_s = np.arange(math.ceil(len(wav) * to_hz / from_hz)) / to_hz
    t = np.clip((from_s[None] - to_s[:, None]) * cutoff_hz, -6, 6)
    return (np.sinc(t) * np.cos(t * np.pi / 12) ** 2) @ wav.double().numpy() * cutoff_hz / from_hz


def test_resampling_equals_the_golden_recording(front):
    close(resample(front["wav24"][0], 24_000, 16_000), front["wav16"][0], 1e-4)


@pytest.mark.parametrize(("fmax_hz", "key"), [(8000, "mel24_fmax8000"), (None, "mel24_fmaxnone")])
def test_the_prompt_mel_equals_the_golden_one(front, fmax_hz, key):
    close(prompt_mel(front["wav24"][0], fmax_hz), front[key][0].T, 1e-3)


def test_the_tokenizers_spectrogram_equals_the_golden_one(front):
    close(whisper_log_mel(front["wav16"][0]), front["whisper_mel128"][0], 1e-3)


def test_the_filter_bank_equals_the_golden_one(front):
    close(kaldi_fbank(front["wav16"][0]), front["fbank80_raw"], 1e-2)


def test_the_speaker_encoders_input_equals_the_golden_one(front):
    close(speaker_fbank(front["wav16"][0]), front["fbank80"], 1e-2)


@pytest.mark.parametrize(
    ("from_hz", "to_hz"),
    [
        (16_000, 24_000),
        (22_050, 16_000),
        (44_100, 24_000),
        (48_000, 16_000),
        (48_000, 24_000),
        (44_101, 24_000),
    ],
)
def test_resampling_from_any_rate_is_the_windowed_sinc(from_hz, to_hz):
    wav = torch.randn(1501, generator=torch.Generator().manual_seed(from_hz))
    expected = torch.from_numpy(slow_resample(wav, from_hz, to_hz)).float()
    close(resample(wav, from_hz, to_hz), expected, 1e-5)


@given(
    length=st.integers(1, 2000), rates=st.sampled_from([(44_100, 16_000), (22_050, 24_000), (16_000, 24_000)])
)
def test_resampling_keeps_the_duration(length, rates):
    from_hz, to_hz = rates
    assert resample(torch.ones(length), from_hz, to_hz).shape == (math.ceil(length * to_hz / from_hz),)


def test_resampling_works_block_by_block_as_in_one_piece():
    wav = torch.randn(70_000, generator=torch.Generator().manual_seed(1))
    whole = resample(wav, 16_000, 24_000)  # 105,000 samples: more than one block
    around_the_seam = resample(wav[40_000:46_000], 16_000, 24_000)
    close(whole[61_500:68_000], around_the_seam[1500:8000], 1e-6)


def test_resampling_keeps_a_tone_and_drops_what_the_new_rate_cannot_hold():
    kept = resample(tone(1000, 44_100, 44_100), 44_100, 16_000)
    close(kept[100:-100], tone(1000, 16_000, 16_000)[100:-100], 2e-3)
    dropped = resample(tone(12_000, 44_100, 44_100), 44_100, 16_000)
    assert dropped[100:-100].abs().max() < 2e-3


def test_a_recording_at_the_right_rate_stays_as_it_is():
    wav = tone(440, 16_000, 999)
    assert torch.equal(resample(wav, 16_000, 16_000), wav)


def test_the_mel_of_the_newer_models_reaches_to_half_the_rate():
    wav = tone(10_000, 24_000, 24_000)
    assert prompt_mel(wav, None)[10:-10].max() > 0
    assert prompt_mel(wav, 8000)[10:-10].max() < -5


@pytest.mark.parametrize("num_samples", [721, 1919, 1920, 24_001, 24_479, 24_480])
def test_the_prompt_mel_has_a_frame_for_every_480_samples(num_samples):
    assert prompt_mel(torch.zeros(num_samples), 8000).shape == (num_samples // 480, 80)


@pytest.mark.parametrize("num_samples", [201, 16_000, 16_001, 16_159])
def test_the_tokenizers_spectrogram_has_a_frame_for_every_160_samples(num_samples):
    assert whisper_log_mel(tone(440, 16_000, num_samples)).shape == (128, num_samples // 160)


def test_silence_has_finite_spectrograms():
    for spectrogram in (
        prompt_mel(torch.zeros(24_000), 8000),
        whisper_log_mel(torch.zeros(16_000)),
        speaker_fbank(torch.zeros(16_000)),
    ):
        assert spectrogram.isfinite().all()


def test_the_speaker_encoder_does_not_hear_a_steady_colouring():
    wav = torch.randn(16_000, generator=torch.Generator().manual_seed(2))
    close(speaker_fbank(wav).mean(0), torch.zeros(80), 1e-4)
    close(speaker_fbank(wav * 0.25), speaker_fbank(wav), 1e-3)


@pytest.mark.parametrize(
    ("front_end", "shortest"),
    [
        (lambda wav: prompt_mel(wav, 8000), 721),
        (whisper_log_mel, 201),
        (kaldi_fbank, 400),
        (lambda wav: resample(wav, 48_000, 16_000), 1),
    ],
)
def test_a_clip_too_short_is_refused_and_one_just_long_enough_is_not(front_end, shortest):
    with pytest.raises(ValueError, match="too few"):
        front_end(torch.zeros(shortest - 1))
    assert front_end(torch.zeros(shortest)).numel() > 0


@pytest.mark.parametrize("rates", [(0, 16_000), (16_000, 0), (-1, 16_000)])
def test_a_rate_that_is_none_is_refused(rates):
    with pytest.raises(ValueError, match="cannot resample"):
        resample(torch.zeros(100), *rates)


def test_mel_filters_overlap_so_that_every_frequency_counts():
    filters = slaney_filters(24_000, 1920, 80, 8000)
    inside = filters[:, 1:640].sum(0)  # bins of 12.5 Hz, from 12.5 Hz to just below 8 kHz
    assert (inside > 0).all()
    assert (filters[:, 641:] == 0).all()
