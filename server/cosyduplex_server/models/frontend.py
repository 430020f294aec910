"""A recording turned into what the networks listen to: resampled, and as four kinds of spectrogram.

All of it runs once per voice, on the CPU, in float32; tables are made in float64. A recording is one channel
with samples from -1 to 1. What each network was trained on, and nothing else, decides the constants here.

Shapes: N samples, T frames, K taps of a filter, F bins of a spectrum, C mel channels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from cosyduplex_server.models.config import MEL_CHANNELS, MEL_HOP_SAMPLES, SAMPLE_RATE_HZ

SPEECH_RATE_HZ: Final = 16_000
"""What the speech tokenizer and the speaker encoder hear."""
WHISPER_HOP_SAMPLES: Final = 160

_SINC_ZEROS: Final = 6  # zero crossings of the resampling filter on each side
_SINC_ROLLOFF: Final = 0.99  # its cut-off, as a part of the lower of both Nyquist frequencies
_RESAMPLE_BLOCK: Final = 1 << 16  # output samples at a time: 50 MB for a filter of 200 taps

_PROMPT_FFT: Final = 1920
_PROMPT_FLOOR: Final = 1e-5

_WHISPER_FFT: Final = 400
_WHISPER_CHANNELS: Final = 128
_WHISPER_FLOOR: Final = 1e-10
_WHISPER_RANGE: Final = 8.0  # log10 units below the loudest value of the recording

_KALDI_FRAME: Final = 400
_KALDI_HOP: Final = 160
_KALDI_FFT: Final = 512
_KALDI_PREEMPHASIS: Final = 0.97
_KALDI_LOW_HZ: Final = 20.0
_KALDI_FLOOR: Final = torch.finfo(torch.float32).eps


def resample(wav_N: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """The recording at another rate, as long as `ceil(N * to_hz / from_hz)`.

    A windowed sinc, six zero crossings to each side under a squared cosine. Only the taps that are not zero
    are computed, so that rates with no large common divisor (44,100 and 24,000) cost no more than others.

    Raises:
        ValueError: a rate is not positive, or there is no sample.
    """
    if from_hz <= 0 or to_hz <= 0:
        raise ValueError(f"cannot resample from {from_hz} Hz to {to_hz} Hz")
    _check_length(wav_N, 1, "resample")
    if from_hz == to_hz:
        return wav_N
    divisor = math.gcd(from_hz, to_hz)
    old, new = from_hz // divisor, to_hz // divisor
    width, taps_PK = _sinc_taps(old, new)
    windows_NK = F.pad(wav_N, (width, width + 1)).unfold(0, taps_PK.shape[1], 1)
    length = -(-wav_N.numel() * new // old)
    out_N = wav_N.new_empty(length)
    for start in range(0, length, _RESAMPLE_BLOCK):
        m = torch.arange(start, min(start + _RESAMPLE_BLOCK, length))
        out_N[m] = (windows_NK[m * old // new] * taps_PK[m % new]).sum(1)
    return out_N


def prompt_mel(wav24_N: Tensor, fmax_hz: float | None) -> Tensor:
    """The mel spectrogram the flow continues: natural logarithm, (T, 80), 50 frames a second.

    Args:
        wav24_N: at 24 kHz.
        fmax_hz: where the highest mel channel ends; None: at half the rate.

    Raises:
        ValueError: the recording is shorter than 30 ms.
    """
    pad = (_PROMPT_FFT - MEL_HOP_SAMPLES) // 2
    _check_length(wav24_N, pad + 1, "a mel spectrogram")
    frames_TN = _reflect(wav24_N, pad).unfold(0, _PROMPT_FFT, MEL_HOP_SAMPLES)
    power_TF = _power(frames_TN * torch.hann_window(_PROMPT_FFT), _PROMPT_FFT)
    filters_CF = slaney_filters(
        SAMPLE_RATE_HZ, _PROMPT_FFT, MEL_CHANNELS, SAMPLE_RATE_HZ / 2 if fmax_hz is None else fmax_hz
    )
    return ((power_TF + 1e-9).sqrt() @ filters_CF.T).clamp_min(_PROMPT_FLOOR).log()


def whisper_log_mel(wav16_N: Tensor) -> Tensor:
    """The spectrogram the speech tokenizer reads: (128, T), 100 frames a second, about -1 to 1.

    Quiet parts are raised to 80 dB below the loudest value of the recording, which therefore must be whole.

    Args:
        wav16_N: at 16 kHz.

    Raises:
        ValueError: the recording is shorter than 13 ms.
    """
    _check_length(wav16_N, _WHISPER_FFT // 2 + 1, "Whisper's spectrogram")
    frames_TN = _reflect(wav16_N, _WHISPER_FFT // 2).unfold(0, _WHISPER_FFT, WHISPER_HOP_SAMPLES)[:-1]
    power_TF = _power(frames_TN * torch.hann_window(_WHISPER_FFT), _WHISPER_FFT)
    filters_CF = slaney_filters(SPEECH_RATE_HZ, _WHISPER_FFT, _WHISPER_CHANNELS, SPEECH_RATE_HZ / 2)
    log_CT = (filters_CF @ power_TF.T).clamp_min(_WHISPER_FLOOR).log10()
    return (log_CT.maximum(log_CT.max() - _WHISPER_RANGE) + 4) / 4


def speaker_fbank(wav16_N: Tensor) -> Tensor:
    """The filter bank the speaker encoder reads, without its mean over time: (T, 80), 100 frames a second.

    Args:
        wav16_N: at 16 kHz.

    Raises:
        ValueError: the recording is shorter than 25 ms.
    """
    fbank_TC = kaldi_fbank(wav16_N)
    return fbank_TC - fbank_TC.mean(0)


def kaldi_fbank(wav16_N: Tensor) -> Tensor:
    """Kaldi's log filter bank without dither: (T, 80); samples are not scaled to 16 bit.

    Args:
        wav16_N: at 16 kHz.

    Raises:
        ValueError: the recording is shorter than 25 ms.
    """
    _check_length(wav16_N, _KALDI_FRAME, "a filter bank")
    frames_TN = wav16_N.unfold(0, _KALDI_FRAME, _KALDI_HOP)
    frames_TN = frames_TN - frames_TN.mean(1, keepdim=True)
    before_TN = torch.cat((frames_TN[:, :1], frames_TN[:, :-1]), dim=1)
    frames_TN = (frames_TN - _KALDI_PREEMPHASIS * before_TN) * _povey_window()
    power_TF = _power(frames_TN, _KALDI_FFT)[:, :-1]
    return (power_TF @ _kaldi_filters().T).clamp_min(_KALDI_FLOOR).log()


@lru_cache(maxsize=8)
def slaney_filters(rate_hz: int, fft_size: int, num_channels: int, fmax_hz: float) -> Tensor:
    """Triangles from 0 to `fmax_hz`, evenly spaced on Slaney's scale, each of the same area: (C, F)."""
    edges_hz = _slaney_hz(torch.linspace(0, _slaney_mel(fmax_hz), num_channels + 2, dtype=torch.float64))
    bins_hz = torch.linspace(0, rate_hz / 2, fft_size // 2 + 1, dtype=torch.float64)
    areas_C1 = ((edges_hz[2:] - edges_hz[:-2]) / 2)[:, None]
    return (_triangles(edges_hz, bins_hz) / areas_C1).float()


@lru_cache(maxsize=1)
def _kaldi_filters() -> Tensor:
    """Triangles from 20 Hz to 8 kHz on Kaldi's scale, straight on that scale: (80, 256)."""

    def mel(hz: Tensor) -> Tensor:
        return 1127 * torch.log1p(hz / 700)

    low, high = mel(torch.tensor([_KALDI_LOW_HZ, SPEECH_RATE_HZ / 2], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, MEL_CHANNELS + 2, dtype=torch.float64)
    bins_hz = torch.arange(_KALDI_FFT // 2, dtype=torch.float64) * (SPEECH_RATE_HZ / _KALDI_FFT)
    return _triangles(edges, mel(bins_hz)).float()


def _triangles(edges: Tensor, bins_F: Tensor) -> Tensor:
    """Triangle c rises from edge c to 1 at edge c + 1 and falls to edge c + 2: (C, F)."""
    width = edges.diff()[:, None]
    rise_CF = (bins_F - edges[:-2, None]) / width[:-1]
    fall_CF = (edges[2:, None] - bins_F) / width[1:]
    return rise_CF.minimum(fall_CF).clamp_min(0)


_SLANEY_HZ_PER_MEL: Final = 200 / 3  # below 1 kHz the scale is straight,
_SLANEY_KNEE_HZ: Final = 1000.0
_SLANEY_KNEE_MEL: Final = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP: Final = math.log(6.4) / 27  # above it, logarithmic


def _slaney_mel(hz: float) -> float:
    if hz < _SLANEY_KNEE_HZ:
        return hz / _SLANEY_HZ_PER_MEL
    return _SLANEY_KNEE_MEL + math.log(hz / _SLANEY_KNEE_HZ) / _SLANEY_LOG_STEP


def _slaney_hz(mel: Tensor) -> Tensor:
    above = _SLANEY_KNEE_HZ * torch.exp((mel - _SLANEY_KNEE_MEL) * _SLANEY_LOG_STEP)
    return torch.where(mel < _SLANEY_KNEE_MEL, mel * _SLANEY_HZ_PER_MEL, above)


@lru_cache(maxsize=16)
def _sinc_taps(old: int, new: int) -> tuple[int, Tensor]:
    """The filter for each of the `new` phases, and how many taps lie before its input sample: (P, K)."""
    cutoff = min(old, new) * _SINC_ROLLOFF
    width = math.ceil(_SINC_ZEROS * old / cutoff)
    phases = torch.arange(new)
    behind_P1 = ((phases * old % new).double() / new)[
        :, None
    ]  # how far the output lies behind its input sample
    t_PK = (torch.arange(-width, width + 2, dtype=torch.float64) - behind_P1) * (cutoff / old)
    t_PK = t_PK.clamp(-_SINC_ZEROS, _SINC_ZEROS)
    window_PK = torch.cos(t_PK * (math.pi / 2 / _SINC_ZEROS)).square()
    return width, (torch.sinc(t_PK) * window_PK * (cutoff / old)).float()


@lru_cache(maxsize=1)
def _povey_window() -> Tensor:
    return torch.hann_window(_KALDI_FRAME, periodic=False, dtype=torch.float64).pow(0.85).float()


def _power(frames_TN: Tensor, fft_size: int) -> Tensor:
    spectrum_TF: Tensor = torch.fft.rfft(frames_TN, n=fft_size)
    return spectrum_TF.real.square() + spectrum_TF.imag.square()


def _reflect(wav_N: Tensor, pad: int) -> Tensor:
    return F.pad(wav_N[None], (pad, pad), mode="reflect")[0]


def _check_length(wav_N: Tensor, shortest: int, purpose: str) -> None:
    if wav_N.numel() < shortest:
        raise ValueError(f"{wav_N.numel()} samples are too few for {purpose}: it takes {shortest}")
