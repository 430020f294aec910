"""Streaming audio encoders for doors whose clients want more than PCM: bytes ready for the wire.

An encoder serves one stream of mono s16le audio, at the output rate already, and its bytes do not depend on
how the audio was cut into chunks. What it holds back is bounded: a frame or two, and for Opus a page.
"""

from __future__ import annotations

import functools
import io
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import ModuleType
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cosyduplex.containers import OggOpusWriter, wav_stream_header
from cosyduplex.errors import ErrorCode
from cosyduplex_server.audio import opus
from cosyduplex_server.errors import Failure

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext

_SAMPLE_BYTES: Final = 2


class Codec(StrEnum):
    """What a stream may be coded as."""

    PCM = "pcm"  # s16le
    F32LE = "f32le"
    MULAW = "mulaw"
    ALAW = "alaw"
    WAV = "wav"  # s16le behind one header that says "length unknown"
    WAV_F32 = "wav_f32"
    WAV_MULAW = "wav_mulaw"
    WAV_ALAW = "wav_alaw"
    MP3 = "mp3"
    FLAC = "flac"
    AAC = "aac"  # ADTS
    OPUS = "opus"  # Ogg


_PCM_RATES_HZ: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_SAMPLE_RATES_HZ: Final = {Codec.OPUS: opus.SAMPLE_RATES_HZ}

# ISO 11172-3 and 13818-3, layer III; MPEG-2.5 stops at what one channel of LAME's takes.
_MP3_KBITS: Final = {
    "mpeg1": (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    "mpeg2": (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    "mpeg2.5": (8, 16, 24, 32, 40, 48, 56, 64),
}
_MIN_AAC_BITRATE: Final = 8000
_MAX_AAC_BITRATE: Final = 192_000
# An AAC channel has 6144 bits for the 1024 samples of a frame.
_AAC_BITS_PER_SAMPLE: Final = 6


def available_codecs() -> tuple[Codec, ...]:
    """Returns the codecs that this machine has the libraries for."""
    missing: set[Codec] = set()
    try:
        _av()
    except Failure:
        missing |= {Codec.MP3, Codec.FLAC, Codec.AAC}
    if opus.opus_available() is None:
        missing.add(Codec.OPUS)
    return tuple(codec for codec in Codec if codec not in missing)


def sample_rates_hz(codec: Codec) -> tuple[int, ...]:
    """Returns the sample rates that `make_encoder` takes for a codec."""
    return _SAMPLE_RATES_HZ.get(codec, _PCM_RATES_HZ)


def bitrates(codec: Codec, sample_rate_hz: int) -> tuple[int, ...] | range | None:
    """Returns the bits per second that a codec takes at a rate; None where there is nothing to choose."""
    if codec is Codec.MP3:
        version = "mpeg1" if sample_rate_hz >= 32000 else "mpeg2" if sample_rate_hz >= 16000 else "mpeg2.5"
        return tuple(1000 * kbits for kbits in _MP3_KBITS[version])
    if codec is Codec.AAC:
        return range(_MIN_AAC_BITRATE, min(_AAC_BITS_PER_SAMPLE * sample_rate_hz, _MAX_AAC_BITRATE) + 1)
    if codec is Codec.OPUS:
        return range(opus.MIN_BITRATE, opus.MAX_BITRATE + 1)
    return None


def nearest_bitrate(codec: Codec, sample_rate_hz: int, bitrate: int) -> int | None:
    """Returns the bitrate to ask for when a client's own need not be met exactly; None as in `bitrates`."""
    possible = bitrates(codec, sample_rate_hz)
    if isinstance(possible, range):
        return min(max(bitrate, possible[0]), possible[-1])
    return None if possible is None else min(possible, key=lambda other: abs(other - bitrate))


def make_encoder(codec: Codec, sample_rate_hz: int, *, bitrate: int | None = None) -> Encoder:
    """Returns the encoder of one stream.

    Args:
        codec: What to make.
        sample_rate_hz: Rate of the audio that comes in, and of the stream; one of `sample_rates_hz(codec)`.
        bitrate: One of `bitrates(codec, sample_rate_hz)`; None for one that suits speech.

    Raises:
        Failure: `unsupported_format`: the rate or the bitrate is not one of them, or this machine lacks the
            library for the codec.
    """
    rates = sample_rates_hz(codec)
    if sample_rate_hz not in rates:
        raise _unsupported(
            f"{codec} is not made at {sample_rate_hz} Hz", f"Ask for one of {_listed(rates)} Hz."
        )
    possible = bitrates(codec, sample_rate_hz)
    if bitrate is not None and (possible is None or bitrate not in possible):
        raise _unsupported(
            f"{codec} at {sample_rate_hz} Hz is not made with {bitrate} bit/s",
            "Leave the bitrate out." if possible is None else f"Ask for {_listed(possible)} bit/s.",
        )
    match codec:
        case Codec.MP3:
            return _Mp3(sample_rate_hz, bitrate)
        case Codec.FLAC:
            return _Flac(sample_rate_hz)
        case Codec.AAC:
            return _Aac(sample_rate_hz, bitrate)
        case Codec.OPUS:
            return _OggOpus(sample_rate_hz, bitrate)
        case _:
            return _Plain(_PLAIN_FORMATS[codec], sample_rate_hz)


def _listed(values: tuple[int, ...] | range) -> str:
    if isinstance(values, range):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values))


def _unsupported(message: str, solution: str) -> Failure:
    return Failure(ErrorCode.UNSUPPORTED_FORMAT, message, solution)


class Encoder(ABC):
    """Encodes one stream. Not safe for two threads at once, but each call may run in any thread.

    Attributes:
        media_type: For the header `Content-Type`.
        threaded: Whether a call is expensive enough to belong in a worker thread.
        inserted_samples: Silence that flushes put before whatever is encoded next: by so much its marks come
            later.
    """

    media_type: str
    threaded: bool
    inserted_samples: int = 0

    @abstractmethod
    def encode(self, pcm: bytes) -> bytes:
        """Takes the next mono s16le samples and returns what they complete.

        Raises:
            ValueError: `pcm` does not hold whole 16-bit samples.
        """

    @abstractmethod
    def flush(self) -> bytes:
        """Returns what makes all that was encoded audible now; more may follow.

        Codecs of whole frames are filled up with silence, which from then on is part of the stream.
        """

    @abstractmethod
    def finish(self) -> bytes:
        """Returns the rest of the stream, which is then a whole file even if nothing was encoded."""


def _check_whole_samples(pcm: bytes) -> None:
    if len(pcm) % _SAMPLE_BYTES:
        raise ValueError(f"{len(pcm)} bytes are not whole 16-bit samples")


# --- sample by sample: PCM, float, G.711, and WAV around them ------------------------------------------


@dataclass(frozen=True, slots=True)
class _PlainFormat:
    media_type: str
    convert: Callable[[bytes], bytes]
    header: Callable[[int], bytes] = lambda sample_rate_hz: b""


class _Plain(Encoder):
    threaded = False

    def __init__(self, form: _PlainFormat, sample_rate_hz: int) -> None:
        self.media_type = form.media_type
        self._convert = form.convert
        self._header = form.header(sample_rate_hz)

    def encode(self, pcm: bytes) -> bytes:
        _check_whole_samples(pcm)
        return self._take_header() + self._convert(pcm) if pcm else b""

    def flush(self) -> bytes:
        return b""

    def finish(self) -> bytes:
        return self._take_header()

    def _take_header(self) -> bytes:
        header, self._header = self._header, b""
        return header


def _as_s16(pcm: bytes) -> bytes:
    return pcm


def _as_f32(pcm: bytes) -> bytes:
    return (np.frombuffer(pcm, "<i2").astype("<f4") / np.float32(32768)).tobytes()


def _as_mulaw(pcm: bytes) -> bytes:
    return bytes(_mulaw_codes()[np.frombuffer(pcm, "<u2")])


def _as_alaw(pcm: bytes) -> bytes:
    return bytes(_alaw_codes()[np.frombuffer(pcm, "<u2")])


def _all_samples() -> NDArray[np.int32]:
    """Every 16-bit sample, at the place that its bits make as an unsigned number."""
    return np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)


@functools.cache
def _mulaw_codes() -> NDArray[np.uint8]:
    """G.711 mu-law by ITU-T G.191: magnitudes of 13 bits, those of negative samples by one's complement."""
    samples = _all_samples()
    magnitude = np.minimum((np.where(samples < 0, ~samples, samples) >> 2) + 33, 0x1FFF)
    segment = _bit_length(magnitude) - 6
    code = (7 - segment) << 4 | (15 - (magnitude >> segment + 1 & 15))
    return np.asarray(code | np.where(samples < 0, 0, 0x80), np.uint8)


@functools.cache
def _alaw_codes() -> NDArray[np.uint8]:
    """G.711 A-law by ITU-T G.191: magnitudes of 11 bits, those of negative samples by one's complement."""
    samples = _all_samples()
    magnitude = np.where(samples < 0, ~samples, samples) >> 4
    segment = np.maximum(_bit_length(magnitude) - 4, 0)
    code = segment << 4 | (magnitude >> np.maximum(segment - 1, 0)) & 15
    return np.asarray((code | np.where(samples < 0, 0, 0x80)) ^ 0x55, np.uint8)


def _bit_length(values: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.frexp(values.astype(np.float64))[1].astype(np.int32)


_UNKNOWN_SIZE: Final = 0xFFFFFFFF
_WAVE_FLOAT: Final = 3
_WAVE_ALAW: Final = 6
_WAVE_MULAW: Final = 7


def _wav_header(kind: int, sample_bytes: int) -> Callable[[int], bytes]:
    """A WAV header for samples that are not PCM: they need a longer `fmt` and a `fact` chunk."""

    def header(sample_rate_hz: int) -> bytes:
        channels, extension_bytes = 1, 0
        byte_rate = sample_rate_hz * sample_bytes
        fmt = (kind, channels, sample_rate_hz, byte_rate, sample_bytes, 8 * sample_bytes, extension_bytes)
        return (
            struct.pack("<4sI4s", b"RIFF", _UNKNOWN_SIZE, b"WAVE")
            + struct.pack("<4sIHHIIHHH", b"fmt ", 18, *fmt)
            + struct.pack("<4sII", b"fact", 4, _UNKNOWN_SIZE)
            + struct.pack("<4sI", b"data", _UNKNOWN_SIZE)
        )

    return header


_PLAIN_FORMATS: Final = {
    Codec.PCM: _PlainFormat("audio/pcm", _as_s16),
    Codec.F32LE: _PlainFormat("audio/pcm", _as_f32),
    Codec.MULAW: _PlainFormat("audio/PCMU", _as_mulaw),
    Codec.ALAW: _PlainFormat("audio/PCMA", _as_alaw),
    Codec.WAV: _PlainFormat("audio/wav", _as_s16, wav_stream_header),
    Codec.WAV_F32: _PlainFormat("audio/wav", _as_f32, _wav_header(_WAVE_FLOAT, 4)),
    Codec.WAV_MULAW: _PlainFormat("audio/wav", _as_mulaw, _wav_header(_WAVE_MULAW, 1)),
    Codec.WAV_ALAW: _PlainFormat("audio/wav", _as_alaw, _wav_header(_WAVE_ALAW, 1)),
}


# --- frame by frame ------------------------------------------------------------------------------------


class _Framed(Encoder):
    """A codec of whole frames.

    Its input is the stream's timeline: n frames in make the first n * frame - delay samples audible.

    Args:
        frame_samples: Samples in a frame.
        delay: Samples by which a decoder's output comes late, when it drops nothing.
    """

    threaded = True

    def __init__(self, frame_samples: int, delay: int) -> None:
        self._frame_bytes = frame_samples * _SAMPLE_BYTES
        self._delay = delay
        self._pending = b""
        self._taken = 0  # samples of the timeline, silence included
        self._audio_end = 0  # where the last real audio in it ends
        self._coded = 0  # frames that came out of the codec

    @abstractmethod
    def _encode_frame(self, pcm: bytes) -> bytes:
        """What the codec gives out for a frame's samples; counts it in `_coded`."""

    def encode(self, pcm: bytes) -> bytes:
        _check_whole_samples(pcm)
        if not pcm:
            return b""
        coded = self._push(pcm)
        self._audio_end = self._taken
        return coded

    def flush(self) -> bytes:
        coded = bytearray()
        while self._audio_end and self._audible < self._audio_end:
            silence = bytes(self._frame_bytes - len(self._pending))
            self.inserted_samples += len(silence) // _SAMPLE_BYTES
            coded += self._push(silence)
        return bytes(coded)

    @property
    def _audible(self) -> int:
        return self._coded * self._frame_bytes // _SAMPLE_BYTES - self._delay

    def _push(self, pcm: bytes) -> bytes:
        self._taken += len(pcm) // _SAMPLE_BYTES
        waiting = self._pending + pcm
        end = len(waiting) - len(waiting) % self._frame_bytes
        self._pending = waiting[end:]
        return b"".join(
            self._encode_frame(waiting[at : at + self._frame_bytes])
            for at in range(0, end, self._frame_bytes)
        )


@functools.cache
def _av() -> ModuleType:
    try:
        import av
    except ImportError:
        raise _unsupported(
            "mp3, flac and aac need the Python package av, which this server lacks",
            "Ask for pcm, wav or opus, or have the operator run: pip install 'cosyduplex[bridges]'.",
        ) from None
    return av


class _Av(_Framed):
    """A codec of FFmpeg's, its packets as they are: no container that has to be written again at its end.

    Args:
        name: FFmpeg's name of the encoder.
        sample_format: As the encoder takes it.
        delay: As for `_Framed`.
    """

    def __init__(
        self,
        name: str,
        sample_rate_hz: int,
        sample_format: str,
        delay: int,
        bitrate: int | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        av = _av()
        self._sample_rate_hz = sample_rate_hz
        self._sample_format = sample_format
        codec: AudioCodecContext = av.CodecContext.create(name, "w")
        codec.sample_rate = sample_rate_hz
        codec.layout = "mono"
        codec.format = sample_format
        if bitrate is not None:
            codec.bit_rate = bitrate
        codec.options = options or {}
        codec.open()
        self._codec = codec
        self._next_pts = 0
        super().__init__(codec.frame_size, delay)

    def finish(self) -> bytes:
        rest = self._encode_samples(self._pending) if self._pending else b""
        self._pending = b""
        return rest + self._packets(None)

    def _encode_frame(self, pcm: bytes) -> bytes:
        return self._encode_samples(pcm)

    def _encode_samples(self, pcm: bytes) -> bytes:
        num_samples = len(pcm) // _SAMPLE_BYTES
        frame = _av().AudioFrame(format=self._sample_format, layout="mono", samples=num_samples, align=1)
        frame.sample_rate = self._sample_rate_hz
        frame.pts = self._next_pts
        self._next_pts += num_samples
        frame.planes[0].update(_as_f32(pcm) if self._sample_format == "fltp" else pcm)
        return self._packets(frame)

    def _packets(self, frame: object) -> bytes:
        packets = self._codec.encode(frame)  # type: ignore[arg-type]
        self._coded += len(packets)
        return b"".join(self._packet(bytes(packet)) for packet in packets)

    def _packet(self, packet: bytes) -> bytes:
        return packet


class _Mp3(_Av):
    """MP3 at a constant bitrate, frame after frame, with no Xing header before them.

    Without the bit reservoir LAME gives out each frame one frame sooner, and each can be decoded alone.
    """

    media_type = "audio/mpeg"
    # LAME's own 576 samples, and the 529 of every decoder.
    _DELAY: Final = 1105

    def __init__(self, sample_rate_hz: int, bitrate: int | None) -> None:
        if bitrate is None:
            bitrate = 128_000 if sample_rate_hz >= 32000 else 64_000 if sample_rate_hz >= 16000 else 32_000
        options = {"reservoir": "0", "compression_level": "7"}
        super().__init__("libmp3lame", sample_rate_hz, "s16p", self._DELAY, bitrate, options)


class _Flac(_Av):
    """Native FLAC whose header says "length unknown", in blocks of 16 to 27 ms."""

    media_type = "audio/flac"

    def __init__(self, sample_rate_hz: int) -> None:
        # Level 0 is what makes the blocks short; the prediction is that of the usual level 5.
        options = {"compression_level": "0", "lpc_type": "levinson", "max_prediction_order": "8"}
        super().__init__("flac", sample_rate_hz, "s16", 0, options=options)
        stream_info = self._codec.extradata
        assert stream_info is not None
        last_block_of_kind_0 = 0x80
        self._header = b"fLaC" + struct.pack(">BBH", last_block_of_kind_0, 0, len(stream_info)) + stream_info

    def encode(self, pcm: bytes) -> bytes:
        coded = super().encode(pcm)
        return self._take_header() + coded if coded else b""

    def flush(self) -> bytes:
        coded = super().flush()
        return self._take_header() + coded if coded else b""

    def finish(self) -> bytes:
        return self._take_header() + super().finish()

    def _take_header(self) -> bytes:
        header, self._header = self._header, b""
        return header


class _Aac(_Av):
    """AAC-LC in ADTS frames (ISO 14496-3, 1.A.3.2)."""

    media_type = "audio/aac"
    _DELAY: Final = 1024
    _RATES_HZ: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)

    def __init__(self, sample_rate_hz: int, bitrate: int | None) -> None:
        if bitrate is None:
            bitrate = 96_000 if sample_rate_hz >= 32000 else 64_000 if sample_rate_hz >= 16000 else 32_000
        self._rate_index = self._RATES_HZ.index(sample_rate_hz)
        options = {"aac_coder": "fast"}
        super().__init__("aac", sample_rate_hz, "fltp", self._DELAY, bitrate, options)

    def _packet(self, packet: bytes) -> bytes:
        low_complexity, mono, header_bytes = 1, 1, 7
        variable_rate = 0x7FF
        header = 0xFFF1  # the sync word, MPEG-4, no checksum
        for value, bits in (
            (low_complexity, 2),
            (self._rate_index, 4),
            (0, 1),
            (mono, 3),
            (0, 4),
            (header_bytes + len(packet), 13),
            (variable_rate, 11),
            (0, 2),
        ):
            header = header << bits | value
        return header.to_bytes(header_bytes, "big") + packet


# --- Ogg Opus ------------------------------------------------------------------------------------------

_OPUS_FRAME_MS: Final = 20
_MAX_PAGE_PACKETS: Final = 5


class _PagedWriter(OggOpusWriter):
    """Writes a page when told to, where `OggOpusWriter` waits for 200 ms and the packet after them."""

    def end_page(self) -> None:
        """Writes the packets held, if there are any; the stream goes on."""
        if self._held:
            self._write_held(self._written_samples + self._held_samples)


class _OggOpus(_Framed):
    """Ogg Opus in packets of 20 ms: a page for the first, then pages that grow to five packets."""

    media_type = "audio/ogg"

    def __init__(self, sample_rate_hz: int, bitrate: int | None) -> None:
        try:
            self._encoder = opus.OpusEncoder(sample_rate_hz, _OPUS_FRAME_MS, "speech", bitrate)
        except opus.OpusUnavailable as error:
            raise _unsupported(
                "opus needs libopus, which this server lacks", "Ask for pcm, wav or mp3."
            ) from error
        super().__init__(self._encoder.frame_samples, self._encoder.pre_skip)
        self._sink = io.BytesIO()
        self._writer = _PagedWriter(self._sink, sample_rate_hz, self._encoder.pre_skip)
        self._page_packets = 1
        self._packets_held = 0

    def encode(self, pcm: bytes) -> bytes:
        super().encode(pcm)
        if self._packets_held == self._page_packets:
            self._end_page()
        return self._take_pages()

    def flush(self) -> bytes:
        super().flush()
        self._end_page()
        return self._take_pages()

    def finish(self) -> bytes:
        super().flush()
        end = self._audio_end
        if self._packets_held == 0:  # the last page has to hold a packet
            self._push(bytes(self._frame_bytes - len(self._pending)))
        self._writer.close(end)
        return self._take_pages()

    def _encode_frame(self, pcm: bytes) -> bytes:
        # Not at once when it is full: as the stream finishes, its last page must hold a packet.
        if self._packets_held == self._page_packets:
            self._end_page()
        self._writer.write(self._encoder.encode(pcm))
        self._coded += 1
        self._packets_held += 1
        return b""

    def _end_page(self) -> None:
        self._writer.end_page()
        self._packets_held = 0
        self._page_packets = min(self._page_packets + 1, _MAX_PAGE_PACKETS)

    def _take_pages(self) -> bytes:
        pages = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return pages
