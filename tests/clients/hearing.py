"""Ears: whether bytes are speech, how long it is, and which tones are in it."""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

_WINDOW_MS = 20
_SPEECH_DB = -45
# Bytes taken for mu-law that are none lie above it, voices at full scale far below.
_LOUDEST_SPEECH = 0.4
# What a voice says in a second, in characters of a Latin alphabet; a Chinese one counts as three.
_CHARACTERS_PER_S = (8, 40)
_RAW_DTYPES = {"pcm_s16le": "<i2", "pcm_f32le": "<f4"}
_RAW_SCALES = {"pcm_s16le": 32768.0, "pcm_f32le": 1.0}


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono samples, full scale 1."""

    samples: Samples
    rate_hz: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.rate_hz


def raw(data: bytes, rate_hz: int, encoding: str = "pcm_s16le") -> Sound:
    """The sound of samples without a container: `pcm_s16le`, `pcm_f32le`, `pcm_mulaw` or `pcm_alaw`.

    Raises:
        AssertionError: the last sample is cut.
    """
    if encoding in _RAW_DTYPES:
        dtype = np.dtype(_RAW_DTYPES[encoding])
        assert len(data) % dtype.itemsize == 0, f"{len(data)} bytes end within a sample"
        return Sound(np.frombuffer(data, dtype).astype(np.float64) / _RAW_SCALES[encoding], rate_hz)
    decoder = av.CodecContext.create(encoding, "r")
    decoder.sample_rate, decoder.layout = rate_hz, "mono"
    blocks = [frame.to_ndarray().ravel() for frame in decoder.decode(av.Packet(data))]
    return Sound(np.concatenate([np.zeros(0), *blocks]) / 32768.0, rate_hz)


def decoded(data: bytes, container: str | None = None) -> Sound:
    """The sound of a WAV, MP3, FLAC, Ogg Opus or AAC stream; `container` when it cannot be told by looking.

    Raises:
        av.error.InvalidDataError: it is no such stream, or is damaged.
    """
    with av.open(io.BytesIO(data), format=container) as stream:
        (track,) = stream.streams.audio
        resampler = av.AudioResampler(format="flt", layout="mono")
        blocks = [
            out.to_ndarray().ravel() for frame in stream.decode(track) for out in resampler.resample(frame)
        ]
        return Sound(np.concatenate(blocks).astype(np.float64), track.rate)


def assert_speech(sound: Sound, text: str | None = None) -> None:
    """Passes what sounds like speech, of about the length of `text`.

    Silence, noise, swapped bytes, halves of samples and a wrong sample type are not. 40 ms of speech in one
    piece is the least.

    Raises:
        AssertionError: says what it is instead.
    """
    assert len(sound.samples), "nothing at all"
    loud = _windows(sound)[_loud(sound)]
    assert len(loud) >= 2, f"{sound.seconds:.2f} s of silence"
    assert np.abs(sound.samples).max() <= 1.001, "beyond full scale: not samples of that type"
    level = np.sqrt(np.mean(loud**2))
    assert level < _LOUDEST_SPEECH, f"a level of {level:.2f}: not samples of that type"
    # In a voice most windows repeat themselves within a pitch period; in noise none does.
    voiced = np.mean([_periodicity(window, sound.rate_hz) > 0.5 for window in loud])
    assert voiced > 0.45, f"noise: only {voiced:.0%} of it is voiced"
    if text is not None:
        size = sum(3 if "\u3400" <= char <= "\u9fff" else 1 for char in text)
        least, most = (size / pace for pace in reversed(_CHARACTERS_PER_S))
        assert least < sound.seconds < most + 1, f"{sound.seconds:.2f} s for {size} characters"


def longest_silence_s(sound: Sound) -> float:
    """The longest pause between two sounds."""
    (loud,) = np.nonzero(_loud(sound))
    return float(np.diff(loud).max(initial=1) - 1) * _WINDOW_MS / 1000


def tones_hz(sound: Sound) -> set[int]:
    """The tones of a scripted engine's contexts, each rounded to the nearest 20 Hz."""
    windows = _windows(sound)
    power = np.mean(windows**2, axis=1)
    # All tones are equally loud; where one begins or ends a codec leaves other things.
    windows = windows[power > power.max(initial=0) / 4]
    spectra = np.abs(np.fft.rfft(windows * np.hanning(windows.shape[1]), 4 * sound.rate_hz // 20, axis=1))
    return {int(round(peak * 5 / 20) * 20) for peak in spectra.argmax(axis=1)}


def _windows(sound: Sound) -> NDArray[np.float64]:
    size = sound.rate_hz * _WINDOW_MS // 1000
    return sound.samples[: len(sound.samples) // size * size].reshape(-1, size)


def _loud(sound: Sound) -> NDArray[np.bool_]:
    power = np.mean(_windows(sound) ** 2, axis=1)
    return power > 10 ** (_SPEECH_DB / 10)


def _periodicity(window: Samples, rate_hz: int) -> float:
    """The highest normalised autocorrelation at a pitch of 80 to 500 Hz."""
    window = window - window.mean()
    spectrum = np.fft.rfft(window, 2 * len(window))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(window)]
    lags = np.arange(rate_hz // 500, min(rate_hz // 80, len(window) * 3 // 4))
    # The overlap gets shorter with the lag.
    correlation = correlation * len(window) / (len(window) - np.arange(len(window)))
    return float(correlation[lags].max() / max(correlation[0], 1e-12))
