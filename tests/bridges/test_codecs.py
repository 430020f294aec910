"""Streaming encoders: what a client decodes is the audio that went in, however it was cut."""

from __future__ import annotations

import builtins
import gc
import io
import itertools
import weakref
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cosyduplex.containers import ogg_checksum
from cosyduplex.errors import ErrorCode
from cosyduplex_bridges import codecs
from cosyduplex_bridges.codecs import (
    Codec,
    Encoder,
    available_codecs,
    bitrates,
    make_encoder,
    nearest_bitrate,
    sample_rates_hz,
)
from cosyduplex_server.errors import Failure

RATE_HZ = 24000
FRAMED = (Codec.MP3, Codec.FLAC, Codec.AAC, Codec.OPUS)
PLAIN = tuple(codec for codec in Codec if codec not in FRAMED)

Samples = NDArray[np.float64]


def sound(rate_hz: int, duration_s: float) -> bytes:
    """A voice-like sweep, unlike itself at any delay, below what 8 kHz can hold."""
    at = np.arange(int(rate_hz * duration_s)) / rate_hz
    sweep = np.sin(2 * np.pi * (300 * at + 500 * at**2)) + 0.3 * np.sin(2 * np.pi * 170 * at)
    return bytes((8000 * sweep * np.minimum(1, at * 40)).astype("<i2").tobytes())


def as_samples(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2").astype(np.float64) / 32768


def encoded(codec: Codec, rate_hz: int, pcm: bytes, bitrate: int | None = None) -> bytes:
    encoder = make_encoder(codec, rate_hz, bitrate=bitrate)
    return b"".join(encoder.encode(pcm[at : at + 962]) for at in range(0, len(pcm), 962)) + encoder.finish()


def decoded(codec: Codec, stream: bytes) -> tuple[Samples, int]:
    """What FFmpeg makes of the stream, and its sample rate."""
    # Told the format: FFmpeg's guess wants more frames of MPEG-2.5 and ADTS than a second has.
    form = {Codec.AAC: "aac", Codec.MP3: "mp3", Codec.FLAC: "flac", Codec.OPUS: "ogg"}[codec]
    parts = []
    with av.open(io.BytesIO(stream), format=form) as container:
        rate_hz = container.streams.audio[0].codec_context.sample_rate
        for frame in container.decode(audio=0):
            plane = frame.to_ndarray().reshape(-1)
            scale = 32768 if plane.dtype == np.int16 else 1
            parts.append(plane.astype(np.float64) / scale)
    return np.concatenate(parts) if parts else np.zeros(0), rate_hz


def aligned_snr_db(original: Samples, heard: Samples) -> tuple[float, int]:
    """How well the one is found in the other, and at which delay."""
    size = 1 << (len(original) + len(heard)).bit_length()
    match = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(original, size)), size)
    delay = int(np.argmax(match[: len(heard)]))
    part = heard[delay : delay + len(original)]
    reference = original[: len(part)]
    gain = np.dot(part, reference) / np.dot(reference, reference)
    noise = part - gain * reference
    return float(10 * np.log10(np.sum((gain * reference) ** 2) / (np.sum(noise**2) + 1e-20))), delay


def ogg_pages(stream: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Flags, granule and lacing of each page; every checksum is checked."""
    at = 0
    while at < len(stream):
        assert stream[at : at + 4] == b"OggS"
        num_segments = stream[at + 26]
        lacing = stream[at + 27 : at + 27 + num_segments]
        end = at + 27 + num_segments + sum(lacing)
        page = stream[at:end]
        assert len(page) == end - at
        bare = page[:22] + bytes(4) + page[26:]
        assert int.from_bytes(page[22:26], "little") == ogg_checksum(bare)
        yield page[5], int.from_bytes(page[6:14], "little", signed=True), lacing
        at = end


# --- what is decoded is what went in -------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", sample_rates_hz(Codec.MP3))
def test_mp3_decodes_to_the_audio_at_every_rate(rate_hz: int) -> None:
    pcm = sound(rate_hz, 1.2)
    heard, heard_hz = decoded(Codec.MP3, encoded(Codec.MP3, rate_hz, pcm))
    snr_db, delay = aligned_snr_db(as_samples(pcm), heard)
    frame = 1152 if rate_hz >= 32000 else 576
    assert heard_hz == rate_hz
    assert snr_db > 15
    assert delay <= 1105
    # The encoder's delay, the last frame's filling and the frame that empties the encoder.
    assert 0 <= len(heard) - len(pcm) // 2 <= 1105 + 2 * frame


@pytest.mark.parametrize(
    ("rate_hz", "bitrate"),
    [(8000, 32_000), (22050, 32_000), (24000, 48_000), (44100, 128_000), (44100, 192_000)],
)
def test_mp3_has_the_constant_bitrate_asked_for_and_no_xing_header(rate_hz: int, bitrate: int) -> None:
    stream = encoded(Codec.MP3, rate_hz, sound(rate_hz, 2), bitrate)
    heard, _ = decoded(Codec.MP3, stream)
    assert len(stream) * 8 / (len(heard) / rate_hz) == pytest.approx(bitrate, rel=0.05)
    assert stream[0] == 0xFF
    assert stream[1] & 0xE0 == 0xE0
    assert b"Xing" not in stream
    assert b"Info" not in stream


@pytest.mark.parametrize("rate_hz", sample_rates_hz(Codec.FLAC))
def test_flac_decodes_to_the_very_samples_at_every_rate(rate_hz: int) -> None:
    pcm = sound(rate_hz, 0.71)
    stream = encoded(Codec.FLAC, rate_hz, pcm)
    heard, heard_hz = decoded(Codec.FLAC, stream)
    assert heard_hz == rate_hz
    assert (heard * 32768).astype("<i2").tobytes() == pcm


@pytest.mark.parametrize("rate_hz", sample_rates_hz(Codec.AAC))
def test_aac_decodes_to_the_audio_at_every_rate(rate_hz: int) -> None:
    pcm = sound(rate_hz, 1.2)
    heard, heard_hz = decoded(Codec.AAC, encoded(Codec.AAC, rate_hz, pcm))
    snr_db, _ = aligned_snr_db(as_samples(pcm), heard)
    assert heard_hz == rate_hz
    assert snr_db > 15
    assert 0 <= len(heard) - len(pcm) // 2 <= 1024 + 2 * 1024


@pytest.mark.opus
@pytest.mark.parametrize("rate_hz", sample_rates_hz(Codec.OPUS))
def test_opus_decodes_to_the_audio_with_its_exact_length(rate_hz: int) -> None:
    pcm = sound(rate_hz, 1.234)
    heard, heard_hz = decoded(Codec.OPUS, encoded(Codec.OPUS, rate_hz, pcm))
    assert heard_hz == 48000
    assert len(heard) == len(pcm) // 2 * 48000 // rate_hz
    snr_db, delay = aligned_snr_db(as_samples(pcm), heard[:: 48000 // rate_hz])
    assert snr_db > 12
    assert delay <= 1


@pytest.mark.parametrize("codec", [Codec.MULAW, Codec.ALAW, Codec.F32LE])
def test_companded_and_float_samples_decode_to_the_audio(codec: Codec) -> None:
    pcm = sound(8000, 0.5)
    subtype = {Codec.MULAW: "ULAW", Codec.ALAW: "ALAW", Codec.F32LE: "FLOAT"}[codec]
    heard, _ = soundfile.read(
        io.BytesIO(encoded(codec, 8000, pcm)),
        samplerate=8000,
        channels=1,
        format="RAW",
        subtype=subtype,
    )
    snr_db, delay = aligned_snr_db(as_samples(pcm), heard)
    assert len(heard) == len(pcm) // 2
    assert delay == 0
    assert snr_db > 34


@pytest.mark.parametrize(
    ("codec", "subtype"),
    [(Codec.WAV, "PCM_16"), (Codec.WAV_F32, "FLOAT"), (Codec.WAV_MULAW, "ULAW"), (Codec.WAV_ALAW, "ALAW")],
)
def test_a_streamed_wav_of_each_kind_is_read_by_soundfile(codec: Codec, subtype: str) -> None:
    pcm = sound(16000, 0.4)
    stream = encoded(codec, 16000, pcm)
    info = soundfile.info(io.BytesIO(stream))
    heard, rate_hz = soundfile.read(io.BytesIO(stream))
    assert (info.format, info.subtype, rate_hz, info.channels) == ("WAV", subtype, 16000, 1)
    assert len(heard) == len(pcm) // 2
    assert aligned_snr_db(as_samples(pcm), heard)[0] > 34


def test_pcm_passes_through() -> None:
    assert encoded(Codec.PCM, 44100, b"\x01\x02" * 1000) == b"\x01\x02" * 1000


def test_float_samples_are_the_integers_over_32768() -> None:
    pcm = np.array([-32768, -1, 0, 1, 32767], "<i2").tobytes()
    assert np.frombuffer(encoded(Codec.F32LE, RATE_HZ, pcm), "<f4").tolist() == [
        -1.0,
        -1 / 32768,
        0.0,
        1 / 32768,
        32767 / 32768,
    ]


# --- G.711 ---------------------------------------------------------------------------------------------


def mulaw_by_the_book(sample: int) -> int:
    """G.191's `ulaw_compress`: the sample's 14 upper bits, sign and one's complement magnitude."""
    magnitude = min(((~sample if sample < 0 else sample) >> 2) + 33, 8191)
    # G.191 counts segments from 1.
    segment_number = 1
    rest = magnitude >> 6
    while rest:
        segment_number += 1
        rest >>= 1
    code = (8 - segment_number) << 4 | 15 - (magnitude >> segment_number & 15)
    return code if sample < 0 else code | 0x80


def alaw_by_the_book(sample: int) -> int:
    """G.191's `alaw_compress`: the sample's 12 upper bits, sign and one's complement magnitude."""
    code = (~sample if sample < 0 else sample) >> 4
    if code > 15:
        exponent = 1
        while code > 31:
            code >>= 1
            exponent += 1
        code = code - 16 + (exponent << 4)
    return (code if sample < 0 else code | 0x80) ^ 0x55


@pytest.mark.parametrize(
    ("codec", "by_the_book"), [(Codec.MULAW, mulaw_by_the_book), (Codec.ALAW, alaw_by_the_book)]
)
def test_every_sample_has_the_g711_code_of_the_standard(codec: Codec, by_the_book: Any) -> None:
    samples = range(-32768, 32768)
    codes = encoded(codec, 8000, np.array(samples, "<i2").tobytes())
    assert codes == bytes(map(by_the_book, samples))


@pytest.mark.parametrize(("codec", "silence"), [(Codec.MULAW, b"\xff"), (Codec.ALAW, b"\xd5")])
def test_silence_has_the_g711_code_that_telephones_know(codec: Codec, silence: bytes) -> None:
    assert encoded(codec, 8000, bytes(200)) == silence * 100


# --- streaming -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", Codec)
@given(cuts=st.lists(st.integers(0, 7000), max_size=12))
def test_the_bytes_do_not_depend_on_how_the_audio_was_cut(codec: Codec, cuts: list[int]) -> None:
    pcm = sound(16000, 0.44)
    if codec is Codec.OPUS:
        pytest.importorskip("opuslib")
    whole, pieces = make_encoder(codec, 16000), make_encoder(codec, 16000)
    edges = [0, *sorted(2 * cut for cut in cuts), len(pcm)]
    at_once = whole.encode(pcm) + whole.finish()
    in_pieces = b"".join(pieces.encode(pcm[begin:end]) for begin, end in itertools.pairwise(edges))
    in_pieces += pieces.finish()
    if codec is Codec.OPUS:
        at_once, in_pieces = without_serial(at_once), without_serial(in_pieces)
    assert in_pieces == at_once


def without_serial(stream: bytes) -> bytes:
    """The pages without the stream's random number and the checksums over it."""
    pages = [b"OggS" + page for page in stream.split(b"OggS")[1:]]
    return b"".join(page[:14] + page[18:22] + page[26:] for page in pages)


def first_bytes_after(encoder: Encoder, rate_hz: int) -> int:
    """How many samples go in until something comes out, in steps of a millisecond."""
    step = rate_hz // 1000
    for taken in range(step, rate_hz, step):
        if encoder.encode(bytes(2 * step)):
            return taken
    raise AssertionError("nothing came out in a second")


@pytest.mark.parametrize(
    ("codec", "most_samples"),
    [(Codec.MP3, 2 * 576), (Codec.AAC, 2 * 1024), (Codec.FLAC, 576), (Codec.OPUS, 480)],
)
def test_the_first_bytes_come_as_early_as_the_codec_allows(codec: Codec, most_samples: int) -> None:
    assert first_bytes_after(make_encoder(codec, RATE_HZ), RATE_HZ) <= most_samples + RATE_HZ // 1000


@pytest.mark.parametrize("rate_hz", sample_rates_hz(Codec.FLAC))
def test_flac_waits_for_no_more_than_27_ms_at_any_rate(rate_hz: int) -> None:
    assert first_bytes_after(make_encoder(Codec.FLAC, rate_hz), rate_hz) <= 27 * rate_hz // 1000


@pytest.mark.parametrize("codec", PLAIN)
def test_sample_by_sample_codecs_give_out_each_sample_at_once(codec: Codec) -> None:
    encoder = make_encoder(codec, RATE_HZ)
    first = len(encoder.encode(b"\x01\x02"))
    second = len(encoder.encode(b"\x01\x02"))
    assert first >= second > 0
    assert encoder.flush() == b""
    assert not encoder.threaded


@pytest.mark.parametrize("codec", FRAMED)
def test_after_a_flush_all_the_audio_can_be_heard(codec: Codec) -> None:
    encoder = make_encoder(codec, RATE_HZ)
    pcm = sound(RATE_HZ, 0.5)
    stream = encoder.encode(pcm) + encoder.flush()
    heard, heard_hz = decoded(codec, stream)
    snr_db, delay = aligned_snr_db(as_samples(pcm), heard[:: heard_hz // RATE_HZ])
    assert snr_db > 12
    assert len(heard) * RATE_HZ // heard_hz - delay >= len(pcm) // 2


@pytest.mark.parametrize("codec", FRAMED)
def test_a_flush_says_how_much_silence_it_put_in(codec: Codec) -> None:
    encoder = make_encoder(codec, RATE_HZ)
    first, second = sound(RATE_HZ, 0.31), sound(RATE_HZ, 0.7)[RATE_HZ // 2 :]
    stream = encoder.encode(first) + encoder.flush()
    inserted = encoder.inserted_samples
    stream += encoder.encode(second) + encoder.finish()
    timeline = as_samples(first + bytes(2 * inserted) + second)
    heard, heard_hz = decoded(codec, stream)
    assert inserted > 0
    assert aligned_snr_db(timeline, heard[:: heard_hz // RATE_HZ])[0] > (5 if codec is Codec.OPUS else 12)


@pytest.mark.parametrize("codec", FRAMED)
def test_a_flush_with_nothing_to_say_inserts_nothing(codec: Codec) -> None:
    encoder = make_encoder(codec, RATE_HZ)
    assert encoder.flush() == b""
    encoder.encode(sound(RATE_HZ, 0.1))
    encoder.flush()
    inserted = encoder.inserted_samples
    assert encoder.flush() == b""
    assert encoder.inserted_samples == inserted


@pytest.mark.opus
def test_opus_messages_hold_whole_pages_of_at_most_100_ms() -> None:
    encoder = make_encoder(Codec.OPUS, RATE_HZ)
    pcm = sound(RATE_HZ, 1.5)
    messages = [encoder.encode(pcm[at : at + 1920]) for at in range(0, len(pcm), 1920)]
    messages += [encoder.flush(), encoder.encode(pcm[:10_000]), encoder.finish()]
    pages = [page for message in messages for page in ogg_pages(message)]
    granules = [granule for _, granule, _ in pages[2:]]
    lengths = np.diff([0, *granules])
    assert all(0 < length <= 4800 for length in lengths)
    assert lengths[0] == 960
    assert [flags for flags, _, _ in pages] == [2, *[0] * (len(pages) - 2), 4]


@pytest.mark.opus
def test_opus_that_ends_after_a_flush_ends_with_a_page_that_holds_a_packet() -> None:
    encoder = make_encoder(Codec.OPUS, RATE_HZ)
    stream = encoder.encode(sound(RATE_HZ, 0.2)) + encoder.flush() + encoder.finish()
    *_, (flags, _, lacing) = ogg_pages(stream)
    assert flags == 4
    assert lacing
    heard, _ = decoded(Codec.OPUS, stream)
    assert len(heard) >= 9600


@pytest.mark.parametrize("codec", Codec)
def test_a_stream_without_audio_is_finished_all_the_same(codec: Codec) -> None:
    encoder = make_encoder(codec, RATE_HZ)
    assert encoder.encode(b"") == b""
    stream = encoder.finish()
    if codec in (Codec.WAV, Codec.WAV_F32, Codec.WAV_MULAW, Codec.WAV_ALAW, Codec.FLAC):
        assert soundfile.info(io.BytesIO(stream)).samplerate == RATE_HZ
    elif codec is Codec.OPUS:
        assert len(decoded(codec, stream)[0]) == 0
    elif codec in PLAIN:
        assert stream == b""


@pytest.mark.parametrize("codec", Codec)
def test_what_an_encoder_holds_back_does_not_grow(codec: Codec) -> None:
    encoder = make_encoder(codec, RATE_HZ)
    second = sound(RATE_HZ, 1)
    encoder.encode(second)
    sizes = [len(encoder.encode(second)) for _ in range(8)]
    assert min(sizes[1:]) > 0.7 * max(sizes[1:])


@pytest.mark.parametrize("codec", Codec)
def test_an_encoder_is_freed_when_it_is_dropped(codec: Codec) -> None:
    gc.disable()
    try:
        encoder = make_encoder(codec, RATE_HZ)
        encoder.encode(sound(RATE_HZ, 0.1))
        gone = weakref.ref(encoder)
        del encoder
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("codec", Codec)
def test_half_a_sample_is_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        make_encoder(codec, RATE_HZ).encode(b"abc")


# --- what there is -------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", Codec)
def test_every_rate_that_is_named_can_be_made(codec: Codec) -> None:
    for rate_hz in sample_rates_hz(codec):
        assert make_encoder(codec, rate_hz).media_type.startswith("audio/")


@pytest.mark.parametrize("rate_hz", sample_rates_hz(Codec.MP3))
def test_every_mp3_bitrate_that_is_named_can_be_made(rate_hz: int) -> None:
    pcm = sound(rate_hz, 0.5)
    possible = bitrates(Codec.MP3, rate_hz)
    assert possible is not None
    for bitrate in possible:
        with av.open(io.BytesIO(encoded(Codec.MP3, rate_hz, pcm, bitrate)), format="mp3") as container:
            assert container.streams.audio[0].codec_context.sample_rate == rate_hz
            assert {packet.size for packet in container.demux(audio=0)} - {0}
            assert container.streams.audio[0].bit_rate == pytest.approx(bitrate, rel=0.01)


@pytest.mark.parametrize("rate_hz", sample_rates_hz(Codec.AAC))
def test_the_limits_of_the_aac_bitrates_can_be_made(rate_hz: int) -> None:
    pcm = sound(rate_hz, 0.5)
    possible = bitrates(Codec.AAC, rate_hz)
    assert possible is not None
    for bitrate in (possible[0], possible[-1]):
        heard, _ = decoded(Codec.AAC, encoded(Codec.AAC, rate_hz, pcm, bitrate))
        assert len(heard) >= len(pcm) // 2


@pytest.mark.parametrize(
    ("codec", "rate_hz", "bitrate"),
    [
        (Codec.PCM, 7999, None),
        (Codec.OPUS, 22050, None),
        (Codec.MP3, 96000, None),
        (Codec.MP3, 24000, 192_000),
        (Codec.MP3, 8000, 128_000),
        (Codec.MP3, 44100, 100_000),
        (Codec.OPUS, 24000, 5000),
        (Codec.AAC, 8000, 64_000),
        (Codec.WAV, 24000, 64_000),
        (Codec.FLAC, 24000, 64_000),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_can(
    codec: Codec, rate_hz: int, bitrate: int | None
) -> None:
    with pytest.raises(Failure) as caught:
        make_encoder(codec, rate_hz, bitrate=bitrate)
    assert caught.value.code is ErrorCode.UNSUPPORTED_FORMAT
    assert caught.value.solution


@pytest.mark.parametrize(
    ("codec", "rate_hz", "asked", "taken"),
    [
        (Codec.MP3, 24000, 256_000, 160_000),
        (Codec.MP3, 44100, 100_000, 96_000),
        (Codec.OPUS, 24000, 1000, 6000),
        (Codec.AAC, 8000, 500_000, 48_000),
        (Codec.FLAC, 24000, 64_000, None),
    ],
)
def test_the_nearest_bitrate_can_be_made(codec: Codec, rate_hz: int, asked: int, taken: int | None) -> None:
    assert nearest_bitrate(codec, rate_hz, asked) == taken
    make_encoder(codec, rate_hz, bitrate=taken)


@pytest.mark.parametrize("codec", [Codec.MP3, Codec.FLAC, Codec.AAC])
def test_without_pyav_the_client_learns_what_to_ask_for_instead(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_av(name: str, *args: Any, **details: Any) -> Any:
        if name == "av":
            raise ModuleNotFoundError("No module named 'av'", name="av")
        return real(name, *args, **details)

    monkeypatch.setattr(builtins, "__import__", without_av)
    codecs._av.cache_clear()
    with pytest.raises(Failure) as caught:
        make_encoder(codec, RATE_HZ)
    assert caught.value.code is ErrorCode.UNSUPPORTED_FORMAT
    assert "cosyduplex[bridges]" in (caught.value.solution or "")
    assert codec not in available_codecs()
    assert Codec.WAV in available_codecs()


@pytest.mark.opus
def test_with_all_libraries_every_codec_is_available() -> None:
    assert available_codecs() == tuple(Codec)
