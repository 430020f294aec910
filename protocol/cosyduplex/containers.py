"""Audio files written while the audio arrives: WAV around PCM, Ogg around Opus packets."""

from __future__ import annotations

import random
import struct
import zlib
from types import TracebackType
from typing import BinaryIO, Final, Self

_UNKNOWN_SIZE: Final = 0xFFFFFFFF
_WAV_HEADER_BYTES: Final = 44


def wav_stream_header(sample_rate_hz: int) -> bytes:
    """Returns the header of a mono s16le WAV whose length is not known; readers go on to the end."""
    return _wav_header(sample_rate_hz, _UNKNOWN_SIZE)


def _wav_header(sample_rate_hz: int, data_bytes: int) -> bytes:
    riff_bytes = min(data_bytes + _WAV_HEADER_BYTES - 8, _UNKNOWN_SIZE)
    pcm, channels, sample_bytes = 1, 1, 2
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        riff_bytes,
        b"WAVE",
        b"fmt ",
        16,
        pcm,
        channels,
        sample_rate_hz,
        sample_rate_hz * sample_bytes,
        sample_bytes,
        8 * sample_bytes,
        b"data",
        data_bytes,
    )


class WavWriter:
    """Writes mono s16le audio as a WAV that is playable at any moment.

    The header goes out with the first samples and says "length unknown"; `close` writes the true
    lengths over it where the file can seek. The file itself stays open: it is the caller's.

    Args:
        file: Where to write, from its present position on.
        sample_rate_hz: Sample rate of the audio.
    """

    def __init__(self, file: BinaryIO, sample_rate_hz: int) -> None:
        self._file = file
        self._sample_rate_hz = sample_rate_hz
        self._header_at: int | None = None
        self._header_written = False
        self._data_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def write(self, pcm: bytes) -> None:
        """Appends samples.

        Raises:
            ValueError: `pcm` does not hold whole 16-bit samples.
        """
        if len(pcm) % 2:
            raise ValueError(f"{len(pcm)} bytes are not whole 16-bit samples")
        self._write_header()
        self._file.write(pcm)
        self._data_bytes += len(pcm)

    def close(self) -> None:
        """Completes the WAV: a header even without audio, true lengths where the file can seek."""
        self._write_header()
        if self._header_at is None or self._data_bytes >= _UNKNOWN_SIZE:
            return
        end = self._file.tell()
        self._file.seek(self._header_at)
        self._file.write(_wav_header(self._sample_rate_hz, self._data_bytes))
        self._file.seek(end)

    def _write_header(self) -> None:
        if not self._header_written:
            self._header_at = self._file.tell() if self._file.seekable() else None
            self._file.write(wav_stream_header(self._sample_rate_hz))
            self._header_written = True


# Ogg Opus: RFC 7845 says what the pages hold, RFC 3533 what a page is.
_OPUS_CLOCK_HZ: Final = 48000
_OPUS_RATES_HZ: Final = (8000, 12000, 16000, 24000, 48000)
_PAGE_SAMPLES: Final = _OPUS_CLOCK_HZ // 5
_MAX_PAGE_SEGMENTS: Final = 255
_STREAM_BEGINS: Final = 2
_STREAM_ENDS: Final = 4
# RFC 6716, table 2: how long one coded frame lasts, in 48 kHz samples, by the packet's configuration.
_SILK: Final = (480, 960, 1920, 2880)
_HYBRID: Final = (480, 960)
_CELT: Final = (120, 240, 480, 960)
_CODED_FRAME_SAMPLES: Final = _SILK * 3 + _HYBRID * 2 + _CELT * 4
_REVERSED_BITS: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class OggOpusWriter:
    """Writes the Opus packets of one mono stream as Ogg Opus, a page about every 200 ms.

    `close` leaves the file open: another writer may begin on it, which makes a chained stream.

    Args:
        file: Where to write; it need not seek.
        sample_rate_hz: Rate of the encoded audio, in which `pre_skip` and `total_samples` count.
        pre_skip: Samples that a player drops at the start.
        vendor: What the file says it was written by.
        serial: The stream's number, unlike that of any other in the file; None for a random one.

    Raises:
        ValueError: Opus does not have that rate.
    """

    def __init__(
        self,
        file: BinaryIO,
        sample_rate_hz: int,
        pre_skip: int,
        vendor: str = "cosyduplex",
        *,
        serial: int | None = None,
    ) -> None:
        if sample_rate_hz not in _OPUS_RATES_HZ:
            raise ValueError(f"Opus has the sample rates {_OPUS_RATES_HZ}, not {sample_rate_hz}")
        self._file = file
        self._sample_rate_hz = sample_rate_hz
        self._pre_skip = self._to_granule(pre_skip)
        self._vendor = vendor.encode()
        self._serial = random.getrandbits(32) if serial is None else serial
        self._num_pages = 0
        self._written_samples = 0  # at 48 kHz, on the pages written
        self._held: list[bytes] = []  # packets of the page not yet written
        self._held_samples = 0

    def write(self, packet: bytes) -> None:
        """Appends one packet.

        Raises:
            ValueError: `packet` cannot be an Opus packet.
        """
        samples = _packet_samples(packet)
        num_segments = sum(len(_lacing(held)) for held in [*self._held, packet])
        # A full page waits for the packet after it: only the stream's last page may say so.
        if self._held_samples >= _PAGE_SAMPLES or num_segments > _MAX_PAGE_SEGMENTS:
            self._write_held(self._written_samples + self._held_samples)
        self._held.append(packet)
        self._held_samples += samples

    def close(self, total_samples: int | None = None) -> None:
        """Writes what is held and ends the stream.

        Args:
            total_samples: Where the audio ends, counted after `pre_skip`; a player drops the
                rest. None keeps all that the packets hold.
        """
        granule = self._written_samples + self._held_samples
        if total_samples is not None:
            end = self._pre_skip + self._to_granule(total_samples)
            granule = max(self._written_samples, min(granule, end))
        self._write_held(granule, _STREAM_ENDS)

    def _to_granule(self, samples: int) -> int:
        return samples * (_OPUS_CLOCK_HZ // self._sample_rate_hz)

    def _write_held(self, granule: int, flags: int = 0) -> None:
        if self._num_pages == 0:
            self._write_headers()
        self._write_page(self._held, granule, flags)
        self._written_samples += self._held_samples
        self._held, self._held_samples = [], 0

    def _write_headers(self) -> None:
        version, channels, gain, mapping = 1, 1, 0, 0
        head = struct.pack(
            "<8sBBHIhB", b"OpusHead", version, channels, self._pre_skip, self._sample_rate_hz, gain, mapping
        )
        num_comments = 0
        tags = struct.pack(
            f"<8sI{len(self._vendor)}sI", b"OpusTags", len(self._vendor), self._vendor, num_comments
        )
        self._write_page([head], 0, _STREAM_BEGINS)
        self._write_page([tags], 0, 0)

    def _write_page(self, packets: list[bytes], granule: int, flags: int) -> None:
        lacing = b"".join(map(_lacing, packets))
        version = 0
        fields = (b"OggS", version, flags, granule, self._serial, self._num_pages)
        rest = struct.pack("<B", len(lacing)) + lacing + b"".join(packets)
        checksum = ogg_checksum(struct.pack("<4sBBqIII", *fields, 0) + rest)
        self._file.write(struct.pack("<4sBBqIII", *fields, checksum) + rest)
        self._num_pages += 1


def ogg_checksum(page: bytes) -> int:
    """Returns the CRC of an Ogg page whose own checksum field is zero.

    Ogg runs zlib's polynomial from the other end of each byte, begins at zero and inverts nothing.
    """
    crc = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "little").translate(_REVERSED_BITS), "big")


def _lacing(packet: bytes) -> bytes:
    """A packet's length as Ogg writes it: 255s and a last smaller number."""
    return b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])


def _packet_samples(packet: bytes) -> int:
    """How long a packet lasts, in 48 kHz samples (RFC 6716, 3.1 and 3.2)."""
    if not packet:
        raise ValueError("an Opus packet is never empty")
    count_code = packet[0] & 3
    if count_code == 3 and len(packet) < 2:
        raise ValueError("the Opus packet ends before its frame count")
    num_frames = packet[1] & 63 if count_code == 3 else min(count_code, 1) + 1
    return num_frames * _CODED_FRAME_SAMPLES[packet[0] >> 3]
