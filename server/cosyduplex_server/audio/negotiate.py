"""Which audio a session gets: what was asked for, checked against what this server can make."""

from __future__ import annotations

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import (
    DEFAULT_SAMPLE_RATE_HZ,
    FRAME_DURATIONS_MS,
    OPUS_SAMPLE_RATES_HZ,
    PCM_SAMPLE_RATES_HZ,
    AudioOptions,
    NegotiatedAudio,
)
from cosyduplex_server.audio.encode import AudioFormat
from cosyduplex_server.audio.opus import OpusEncoder, Profile, default_bitrate, opus_available
from cosyduplex_server.errors import Failure

OPUS_BITRATES = (6_000, 510_000)


def negotiate_audio(asked: AudioOptions) -> NegotiatedAudio:
    """Fills in the defaults and returns the audio as it will be.

    Raises:
        Failure: `unsupported_format`; the text names what is not supported and what is.
    """
    encoding = asked.encoding or "pcm_s16le"
    sample_rate = DEFAULT_SAMPLE_RATE_HZ if asked.sample_rate is None else asked.sample_rate
    frame_ms = 20 if asked.frame_ms is None else asked.frame_ms
    _require("frame_ms", frame_ms, FRAME_DURATIONS_MS)
    if encoding == "pcm_s16le":
        _require("sample_rate of pcm_s16le", sample_rate, PCM_SAMPLE_RATES_HZ)
        return NegotiatedAudio(encoding="pcm_s16le", sample_rate=sample_rate, frame_ms=frame_ms)
    _require("encoding", encoding, ("pcm_s16le", "opus"))
    return _negotiate_opus(asked, sample_rate, frame_ms)


def _negotiate_opus(asked: AudioOptions, sample_rate: int, frame_ms: int) -> NegotiatedAudio:
    if opus_available() is None:
        raise Failure(
            ErrorCode.UNSUPPORTED_FORMAT,
            "this server cannot encode Opus: libopus is not installed on it",
            'Use encoding "pcm_s16le", or install libopus (Debian: libopus0) where the server runs.',
        )
    _require("sample_rate of opus", sample_rate, OPUS_SAMPLE_RATES_HZ)
    profile = asked.profile or "speech"
    _require("profile", profile, ("speech", "narrow"))
    low, high = OPUS_BITRATES
    if asked.bitrate is not None and not low <= asked.bitrate <= high:
        raise Failure(ErrorCode.UNSUPPORTED_FORMAT, f"bitrate of opus must be from {low} to {high}")
    name: Profile = "narrow" if profile == "narrow" else "speech"
    bitrate = asked.bitrate or default_bitrate(name, sample_rate)
    return NegotiatedAudio(
        encoding="opus",
        sample_rate=sample_rate,
        frame_ms=frame_ms,
        profile=name,
        bitrate=bitrate,
        pre_skip=OpusEncoder(sample_rate, frame_ms, name, bitrate).pre_skip,
    )


def format_of(audio: NegotiatedAudio) -> AudioFormat:
    """The negotiated audio as the encoder wants it."""
    return AudioFormat(
        audio.encoding, audio.sample_rate, audio.frame_ms, audio.profile or "speech", audio.bitrate
    )


def _require(name: str, value: object, supported: tuple[object, ...]) -> None:
    if value not in supported:
        choices = ", ".join(map(str, supported))
        raise Failure(ErrorCode.UNSUPPORTED_FORMAT, f"{name} is not supported; choose one of {choices}")
