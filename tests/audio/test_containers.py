import io
import struct
import wave
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyduplex.containers import OggOpusWriter, WavWriter, ogg_checksum, wav_stream_header
from cosyduplex_server.audio.opus import OpusDecoder, OpusEncoder, Profile

SpeechLike = Callable[[int, float], bytes]

# The first page that opusenc 0.2 writes for 48 kHz mono, `--serial 7`.
FOREIGN_PAGE = bytes.fromhex(
    "4f676753000200000000000000000700000000000000810b352f01134f707573486561640101380180bb0000000000"
)


class Pipe(io.RawIOBase):
    """Takes bytes and cannot seek, as a pipe or a socket."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.taken += bytes(data)
        return len(data)


# --- WAV ---


def test_a_closed_wav_tells_its_true_length() -> None:
    file = io.BytesIO()
    with WavWriter(file, 22050) as writer:
        writer.write(b"\x01\x02" * 300)
        writer.write(b"\x03\x04" * 200)
    data = file.getvalue()
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    with wave.open(io.BytesIO(data)) as reader:
        assert reader.getparams()[:4] == (1, 2, 22050, 500)
        assert reader.readframes(500) == b"\x01\x02" * 300 + b"\x03\x04" * 200


def test_a_wav_written_to_a_pipe_is_the_stream_header_and_the_samples() -> None:
    pipe = Pipe()
    with WavWriter(pipe, 16000) as writer:
        writer.write(b"\x01\x02" * 300)
    assert pipe.taken == wav_stream_header(16000) + b"\x01\x02" * 300


def test_a_wav_still_being_written_is_readable_to_its_present_end() -> None:
    file = io.BytesIO()
    writer = WavWriter(file, 24000)
    writer.write(b"\x05\x06" * 700)
    with wave.open(io.BytesIO(file.getvalue())) as reader:
        assert reader.getframerate() == 24000
        assert reader.readframes(10_000) == b"\x05\x06" * 700


def test_the_stream_header_says_unknown_sizes() -> None:
    header = wav_stream_header(24000)
    assert len(header) == 44
    assert header[4:8] == header[40:44] == b"\xff\xff\xff\xff"


def test_nothing_goes_out_before_the_first_samples() -> None:
    pipe = Pipe()
    writer = WavWriter(pipe, 16000)
    assert pipe.taken == b""
    writer.write(b"")
    assert pipe.taken == wav_stream_header(16000)


def test_a_wav_without_audio_is_a_valid_empty_one() -> None:
    file = io.BytesIO()
    WavWriter(file, 8000).close()
    with wave.open(io.BytesIO(file.getvalue())) as reader:
        assert reader.getnframes() == 0


def test_a_wav_may_begin_inside_a_file_and_leaves_it_open_at_its_end() -> None:
    file = io.BytesIO()
    file.write(b"before")
    with WavWriter(file, 8000) as writer:
        writer.write(b"\x01\x02" * 10)
    file.write(b"after")
    data = file.getvalue()
    assert data[:6] == b"before"
    assert data[-5:] == b"after"
    with wave.open(io.BytesIO(data[6:-5])) as reader:
        assert reader.getnframes() == 10


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        WavWriter(io.BytesIO(), 8000).write(b"abc")


# --- Ogg Opus ---


@dataclass(frozen=True)
class Page:
    flags: int
    granule: int
    serial: int
    sequence: int
    packets: list[bytes]


def reference_checksum(page: bytes) -> int:
    """RFC 3533's CRC, a bit at a time."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ (0x104C11DB7 if crc & 0x80000000 else 0)
    return crc


def read_pages(data: bytes) -> list[Page]:
    """Reads Ogg pages without any tolerance; no packet here may span pages."""
    pages, at = [], 0
    while at < len(data):
        magic, version, flags, granule, serial, sequence, checksum, num_segments = struct.unpack_from(
            "<4sBBqIIIB", data, at
        )
        assert (magic, version) == (b"OggS", 0)
        lacing = data[at + 27 : at + 27 + num_segments]
        begin = at + 27 + num_segments
        end = begin + sum(lacing)
        assert end <= len(data)
        assert reference_checksum(data[at : at + 22] + bytes(4) + data[at + 26 : end]) == checksum
        packets, length = [], 0
        for segment in lacing:
            length += segment
            if segment < 255:
                packets.append(data[begin : begin + length])
                begin, length = begin + length, 0
        assert length == 0
        pages.append(Page(flags, granule, serial, sequence, packets))
        at = end
    return pages


def encoded(
    speechlike: SpeechLike, sample_rate_hz: int, frame_ms: int, profile: Profile = "speech"
) -> tuple[OpusEncoder, list[bytes]]:
    encoder = OpusEncoder(sample_rate_hz, frame_ms, profile)
    size = 2 * encoder.frame_samples
    pcm = speechlike(sample_rate_hz, 1.2)
    return encoder, [encoder.encode(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size)]


def written(packets: list[bytes], total_samples: int | None = None) -> bytes:
    file = io.BytesIO()
    writer = OggOpusWriter(file, 24000, 156, serial=7)
    for packet in packets:
        writer.write(packet)
    writer.close(total_samples)
    return file.getvalue()


def test_the_checksum_is_the_one_of_the_specification() -> None:
    assert ogg_checksum(b"123456789") == 0x89A1897F
    stored = struct.unpack("<I", FOREIGN_PAGE[22:26])[0]
    assert ogg_checksum(FOREIGN_PAGE[:22] + bytes(4) + FOREIGN_PAGE[26:]) == stored


def test_the_first_page_is_the_one_the_reference_encoder_writes() -> None:
    file = io.BytesIO()
    OggOpusWriter(file, 48000, 312, serial=7).close()
    assert file.getvalue().startswith(FOREIGN_PAGE)


def test_headers_stand_alone_on_the_first_two_pages(speechlike) -> None:
    encoder, packets = encoded(speechlike, 16000, 20)
    file = io.BytesIO()
    writer = OggOpusWriter(file, 16000, encoder.pre_skip, vendor="声音")
    for packet in packets:
        writer.write(packet)
    writer.close()
    head, tags, *audio = read_pages(file.getvalue())
    # The pre-skip counts at 48 kHz whatever the rate: 104 samples become 312.
    assert head.packets == [b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 312, 16000, 0, 0)]
    assert tags.packets == [b"OpusTags" + struct.pack("<I6sI", 6, "声音".encode(), 0)]
    assert [head.granule, tags.granule] == [0, 0]
    assert [page.sequence for page in (head, tags, *audio)] == list(range(2 + len(audio)))
    assert [page.flags for page in (head, tags, *audio)] == [2, 0, *[0] * (len(audio) - 1), 4]
    assert len({page.serial for page in (head, tags, *audio)}) == 1


@pytest.mark.parametrize("sample_rate_hz", [8000, 12000, 16000, 24000, 48000])
@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
@pytest.mark.parametrize("profile", ["speech", "narrow"])
def test_pages_hold_the_packets_and_count_their_samples(
    sample_rate_hz, frame_ms, profile, speechlike
) -> None:
    encoder, packets = encoded(speechlike, sample_rate_hz, frame_ms, profile)
    file = io.BytesIO()
    writer = OggOpusWriter(file, sample_rate_hz, encoder.pre_skip)
    for packet in packets:
        writer.write(packet)
    writer.close()
    audio = read_pages(file.getvalue())[2:]
    assert [packet for page in audio for packet in page.packets] == packets
    num_packets = 0
    for page in audio:
        num_packets += len(page.packets)
        assert page.granule == num_packets * frame_ms * 48
        assert len(page.packets) * frame_ms <= 240


def test_the_last_page_ends_where_the_audio_does(speechlike) -> None:
    _, packets = encoded(speechlike, 24000, 20)
    full = len(packets) * 960
    assert read_pages(written(packets, total_samples=28000))[-1].granule == 2 * (156 + 28000)
    assert read_pages(written(packets))[-1].granule == full
    assert read_pages(written(packets, total_samples=10**9))[-1].granule == full


def test_the_end_never_lies_before_a_page_already_written(speechlike) -> None:
    _, packets = encoded(speechlike, 24000, 20)
    granules = [page.granule for page in read_pages(written(packets, total_samples=10))]
    assert granules == sorted(granules)


def test_a_page_is_written_about_every_200_ms_while_packets_come(speechlike) -> None:
    _, packets = encoded(speechlike, 24000, 20)
    pipe = Pipe()
    writer = OggOpusWriter(pipe, 24000, 156)
    sizes = []
    for packet in packets[:31]:
        writer.write(packet)
        sizes.append(len(pipe.taken))
    growths = [k for k in range(1, 31) if sizes[k] > sizes[k - 1]]
    assert growths == [10, 20, 30]
    assert len(read_pages(pipe.taken)) == 2 + 3


def test_a_second_stream_may_follow_in_the_same_file(speechlike) -> None:
    _, packets = encoded(speechlike, 24000, 20)
    file = io.BytesIO()
    for part in (packets[:25], packets[25:]):
        writer = OggOpusWriter(file, 24000, 156)
        for packet in part:
            writer.write(packet)
        writer.close()
    pages = read_pages(file.getvalue())
    begins = [k for k, page in enumerate(pages) if page.flags & 2]
    ends = [k for k, page in enumerate(pages) if page.flags & 4]
    assert begins == [0, ends[0] + 1]
    assert ends[1] == len(pages) - 1
    assert pages[0].serial != pages[-1].serial


@given(sizes=st.lists(st.integers(1, 1275), max_size=120))
@settings(max_examples=60, deadline=None)
def test_packets_of_any_size_come_back_whole(sizes) -> None:
    # Configuration 16 is a coded frame of 2.5 ms: many packets, more segments than one page can have.
    packets = [bytes([16 << 3]) + bytes([k % 251]) * (size - 1) for k, size in enumerate(sizes)]
    audio = read_pages(written(packets))[2:]
    assert [packet for page in audio for packet in page.packets] == packets
    assert audio[-1].granule == 120 * len(packets)


def test_more_bytes_than_a_page_has_room_for_begin_a_page_early() -> None:
    packets = [bytes([16 << 3]) * 1275] * 80
    audio = read_pages(written(packets))[2:]
    assert [packet for page in audio for packet in page.packets] == packets
    assert [len(page.packets) for page in audio] == [42, 38]


def test_packets_as_long_as_a_row_of_full_segments_come_back_whole() -> None:
    packets = [bytes([16 << 3]) * size for size in (254, 255, 256, 510, 765)]
    audio = read_pages(written(packets))[2:]
    assert [packet for page in audio for packet in page.packets] == packets


def test_a_stream_without_audio_has_its_headers_and_an_end() -> None:
    head, tags, end = read_pages(written([]))
    assert (head.flags, tags.flags, end.flags) == (2, 0, 4)
    assert end.packets == []


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        (b"\x00x", 480),
        (b"\x01xx", 2 * 480),
        (b"\x02\x01xx", 2 * 480),
        (b"\x03\x06x", 6 * 480),
        (b"\xfb\x05x", 4800),
    ],
)
def test_a_packet_of_several_coded_frames_counts_them_all(packet, samples) -> None:
    assert read_pages(written([packet]))[-1].granule == samples


@pytest.mark.parametrize("packet", [b"", b"\x03"])
def test_what_cannot_be_a_packet_is_refused(packet) -> None:
    with pytest.raises(ValueError, match="Opus packet"):
        OggOpusWriter(io.BytesIO(), 24000, 156).write(packet)


def test_a_rate_that_opus_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="22050"):
        OggOpusWriter(io.BytesIO(), 22050, 156)


def test_the_packets_read_back_decode_to_what_was_encoded(speechlike) -> None:
    _, packets = encoded(speechlike, 24000, 20)
    direct, through = OpusDecoder(24000), OpusDecoder(24000)
    read_back = [packet for page in read_pages(written(packets))[2:] for packet in page.packets]
    assert [through.decode(packet, 480) for packet in read_back] == [
        direct.decode(packet, 480) for packet in packets
    ]
