"""Opus, mono, through opuslib: the gaps of that library closed, and only what speech needs.

libopus is loaded at the first use, so a machine without it still serves PCM. An encoder or decoder
belongs to one thread at a time; different ones share nothing, and the library runs without the GIL.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import warnings
from dataclasses import dataclass
from typing import Any, Final, Literal

Profile = Literal["speech", "narrow"]

SAMPLE_RATES_HZ: Final = (8000, 12000, 16000, 24000, 48000)
FRAME_DURATIONS_MS: Final = (10, 20, 40, 60)
MIN_BITRATE: Final = 6000
MAX_BITRATE: Final = 510_000

_COMPLEXITY: Final = 5
# A packet of 60 ms is at most three coded frames of 1275 bytes and their lengths (RFC 6716, 3.2).
_MAX_PACKET_BYTES: Final = 4000

_HOW_TO_INSTALL: Final = (
    "install it (Debian, Ubuntu: apt-get install libopus0; Fedora: dnf install opus; "
    "macOS: brew install opus) or ask for pcm_s16le"
)


class OpusUnavailable(Exception):
    """Opus cannot be used on this machine; the message says what to install."""


@dataclass(frozen=True, slots=True)
class _Codec:
    """The parts of opuslib in use; it has no types."""

    package: Any
    encode: Any


@functools.cache
def _codec() -> _Codec:
    # opuslib raises a bare Exception when the library is missing: ask first.
    if ctypes.util.find_library("opus") is None:
        raise OpusUnavailable(f"the Opus library (libopus) is not on this machine: {_HOW_TO_INSTALL}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # opuslib compares ints with `is`
            import opuslib
            import opuslib.api.encoder
            import opuslib.api.info
    except ModuleNotFoundError as error:
        raise OpusUnavailable(
            "the Python package opuslib is missing: pip install 'cosyduplex[server]', or ask for pcm_s16le"
        ) from error
    except OSError as error:
        raise OpusUnavailable(f"the Opus library does not load ({error}): {_HOW_TO_INSTALL}") from error
    # Its variadic ctl functions have no declared arguments, without which some ABIs (Apple's arm64)
    # pass the variable ones in the wrong place.
    opuslib.api.encoder.libopus_ctl.argtypes = (opuslib.api.encoder.EncoderPointer, ctypes.c_int)
    return _Codec(package=opuslib, encode=opuslib.api.encoder.encode)


def opus_available() -> str | None:
    """Returns the version of libopus, or None when Opus cannot be used; loads it on the first call."""
    try:
        codec = _codec()
    except OpusUnavailable:
        return None
    version: bytes = codec.package.api.info.get_version_string()
    return version.decode("ascii")


def default_bitrate(profile: Profile, sample_rate_hz: int) -> int:
    """Returns the bits per second that a profile uses at a rate when nobody asks for another."""
    if profile == "speech":
        return 48_000
    if sample_rate_hz <= 12000:
        return 16_000
    return 20_000 if sample_rate_hz <= 16000 else 24_000


class OpusEncoder:
    """Encodes one stream, a whole frame to a packet each time; every packet is to be sent (no DTX).

    In-band error correction stays off, as is the library's default: the transport loses nothing.

    Args:
        sample_rate_hz: One of `SAMPLE_RATES_HZ`.
        frame_ms: One of `FRAME_DURATIONS_MS`.
        profile: "speech" codes full-band audio, "narrow" a voice in few bits at two to three times the CPU.
        bitrate: Bits per second, `MIN_BITRATE` to `MAX_BITRATE`; None for the profile's own.

    Attributes:
        frame_samples: Samples that `encode` takes.
        pre_skip: Samples of delay at the start of the decoded stream, to be dropped by the listener.

    Raises:
        OpusUnavailable: libopus or its binding is missing.
        ValueError: The rate, the duration or the bitrate is none that Opus has.
    """

    def __init__(
        self, sample_rate_hz: int, frame_ms: int, profile: Profile, bitrate: int | None = None
    ) -> None:
        _check_rate(sample_rate_hz)
        if frame_ms not in FRAME_DURATIONS_MS:
            raise ValueError(f"an Opus frame here lasts one of {FRAME_DURATIONS_MS} ms, not {frame_ms}")
        if bitrate is None:
            bitrate = default_bitrate(profile, sample_rate_hz)
        if not MIN_BITRATE <= bitrate <= MAX_BITRATE:
            raise ValueError(f"an Opus bitrate lies in {MIN_BITRATE}..{MAX_BITRATE} bit/s, not {bitrate}")
        self._codec = _codec()
        application = "audio" if profile == "speech" else "voip"
        self._encoder = self._codec.package.Encoder(sample_rate_hz, 1, application)
        self._encoder.bitrate = bitrate
        self._encoder.complexity = _COMPLEXITY
        self.frame_samples: int = sample_rate_hz * frame_ms // 1000
        self.pre_skip: int = self._encoder.lookahead

    def encode(self, pcm: bytes) -> bytes:
        """Returns the packet for exactly `frame_samples` mono s16le samples.

        Raises:
            ValueError: `pcm` has another length (the library would read past its end).
        """
        if len(pcm) != 2 * self.frame_samples:
            raise ValueError(f"a frame is {2 * self.frame_samples} bytes, not {len(pcm)}")
        # The binding's own encode() limits a packet to the size of its PCM, too little at high bitrates.
        packet: bytes = self._codec.encode(
            self._encoder.encoder_state, pcm, self.frame_samples, _MAX_PACKET_BYTES
        )
        return packet


class OpusDecoder:
    """Decodes the packets of one stream, in order.

    Args:
        sample_rate_hz: The rate to decode to, one of `SAMPLE_RATES_HZ`.

    Raises:
        OpusUnavailable: libopus or its binding is missing.
        ValueError: Opus does not have that rate.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        _check_rate(sample_rate_hz)
        self._codec = _codec()
        self._decoder = self._codec.package.Decoder(sample_rate_hz, 1)

    def decode(self, packet: bytes, frame_samples: int) -> bytes:
        """Returns the mono s16le samples of a packet that holds at most `frame_samples`.

        Raises:
            ValueError: `packet` is not an Opus packet, or a longer one.
        """
        if not packet:
            raise ValueError("an empty packet: the library would invent audio for a lost one")
        try:
            pcm: bytes = self._decoder.decode(packet, frame_samples)
        except self._codec.package.OpusError as error:
            raise ValueError(f"not an Opus packet of up to {frame_samples} samples") from error
        return pcm


def _check_rate(sample_rate_hz: int) -> None:
    if sample_rate_hz not in SAMPLE_RATES_HZ:
        raise ValueError(f"Opus has the sample rates {SAMPLE_RATES_HZ}, not {sample_rate_hz}")
