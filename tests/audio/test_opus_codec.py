import ctypes.util
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyduplex_server.audio import opus
from cosyduplex_server.audio.opus import OpusDecoder, OpusEncoder, OpusUnavailable, opus_available

RATES_HZ = (8000, 12000, 16000, 24000, 48000)
PROFILES: tuple[Literal["speech", "narrow"], ...] = ("speech", "narrow")


def frames(pcm: bytes, frame_samples: int) -> list[bytes]:
    size = 2 * frame_samples
    return [pcm[at : at + size] for at in range(0, len(pcm) - size + 1, size)]


def encode_all(encoder: OpusEncoder, pcm: bytes) -> list[bytes]:
    return [encoder.encode(frame) for frame in frames(pcm, encoder.frame_samples)]


@pytest.mark.parametrize("sample_rate_hz", RATES_HZ)
@pytest.mark.parametrize("frame_ms", [10, 20, 40, 60])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_frame_becomes_one_packet_of_its_duration(sample_rate_hz, frame_ms, profile, speechlike) -> None:
    encoder = OpusEncoder(sample_rate_hz, frame_ms, profile)
    decoder = OpusDecoder(sample_rate_hz)
    assert encoder.frame_samples == sample_rate_hz * frame_ms // 1000
    for packet in encode_all(encoder, speechlike(sample_rate_hz, 0.3)):
        assert len(decoder.decode(packet, sample_rate_hz * 120 // 1000)) == 2 * encoder.frame_samples


@pytest.mark.parametrize("sample_rate_hz", RATES_HZ)
def test_pre_skip_is_the_codecs_six_and_a_half_milliseconds(sample_rate_hz) -> None:
    assert OpusEncoder(sample_rate_hz, 20, "speech").pre_skip == sample_rate_hz * 65 // 10000


@pytest.mark.parametrize(
    ("sample_rate_hz", "profile", "bitrate", "expected"),
    [
        (24000, "speech", None, 48_000),
        (8000, "narrow", None, 16_000),
        (16000, "narrow", None, 20_000),
        (24000, "narrow", None, 24_000),
        (48000, "narrow", 32_000, 32_000),
        (48000, "speech", 128_000, 128_000),
    ],
)
def test_the_stream_has_the_bitrate_of_its_profile_or_the_one_asked_for(
    sample_rate_hz, profile, bitrate, expected
) -> None:
    noise = np.random.default_rng(1).integers(-9000, 9000, 3 * sample_rate_hz).astype("<i2").tobytes()
    packets = encode_all(OpusEncoder(sample_rate_hz, 20, profile, bitrate), noise)
    assert sum(map(len, packets)) * 8 / 3 == pytest.approx(expected, rel=0.15)


def test_the_highest_bitrate_is_not_cut_to_the_size_of_the_pcm(speechlike) -> None:
    encoder = OpusEncoder(8000, 10, "speech", opus.MAX_BITRATE)
    packets = encode_all(encoder, speechlike(8000, 0.5))
    assert max(map(len, packets)) > 2 * encoder.frame_samples


@pytest.mark.parametrize("profile", PROFILES)
def test_silence_is_sent_as_whole_packets_too(profile) -> None:
    packets = encode_all(OpusEncoder(16000, 20, profile), bytes(2 * 16000 * 3))
    assert len(packets) == 150
    # A discontinued transmission would show as packets of a single byte.
    assert min(map(len, packets)) > 1


@pytest.mark.parametrize("wrong_by", [-2, -1, 1, 2, -960])
def test_a_buffer_that_is_not_one_frame_is_refused(wrong_by) -> None:
    with pytest.raises(ValueError, match="960 bytes"):
        OpusEncoder(24000, 20, "speech").encode(bytes(960 + wrong_by))


@pytest.mark.parametrize(
    ("sample_rate_hz", "frame_ms", "bitrate"),
    [(22050, 20, None), (24000, 30, None), (24000, 20, 5999), (24000, 20, 510_001)],
)
def test_what_opus_does_not_have_is_refused(sample_rate_hz, frame_ms, bitrate) -> None:
    with pytest.raises(ValueError, match="Opus"):
        OpusEncoder(sample_rate_hz, frame_ms, "speech", bitrate)


def test_a_decoder_refuses_a_rate_that_opus_does_not_have() -> None:
    with pytest.raises(ValueError, match="44100"):
        OpusDecoder(44100)


@given(packet=st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_decode_to_at_most_the_room_given_or_are_refused(packet) -> None:
    try:
        pcm = OpusDecoder(24000).decode(packet, 480)
    except ValueError:
        return
    assert 0 < len(pcm) <= 960


def test_an_empty_packet_is_refused_and_not_taken_for_a_lost_one() -> None:
    with pytest.raises(ValueError, match="empty"):
        OpusDecoder(24000).decode(b"", 480)


def test_encoders_in_parallel_threads_give_the_packets_they_give_alone(speechlike) -> None:
    inputs = [(rate, profile, speechlike(rate, 1)) for rate in RATES_HZ for profile in PROFILES]

    def encode(job: tuple[int, Literal["speech", "narrow"], bytes]) -> list[bytes]:
        rate, profile, pcm = job
        return encode_all(OpusEncoder(rate, 20, profile), pcm)

    alone = [encode(job) for job in inputs]
    with ThreadPoolExecutor(len(inputs)) as pool:
        assert list(pool.map(encode, inputs)) == alone


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The state of a process that has not used Opus yet."""
    opus._codec.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "opuslib"]:
        monkeypatch.delitem(sys.modules, name)
    yield monkeypatch
    opus._codec.cache_clear()


def test_the_version_of_the_library_is_told() -> None:
    version = opus_available()
    assert version is not None
    assert version.startswith("libopus 1.")


def test_a_missing_library_is_told_with_what_to_install(unloaded) -> None:
    unloaded.setattr(ctypes.util, "find_library", lambda name: None)
    assert opus_available() is None
    with pytest.raises(OpusUnavailable, match=r"libopus0.*pcm_s16le"):
        OpusEncoder(24000, 20, "speech")
    with pytest.raises(OpusUnavailable, match="libopus0"):
        OpusDecoder(24000)


def test_a_library_that_does_not_load_is_told_with_what_to_install(unloaded) -> None:
    unloaded.setattr(ctypes.util, "find_library", lambda name: "libno-such-opus.so")
    with pytest.raises(OpusUnavailable, match=r"libno-such-opus.*libopus0"):
        OpusEncoder(24000, 20, "speech")


def test_a_missing_binding_is_told_with_what_to_install(unloaded) -> None:
    unloaded.setitem(sys.modules, "opuslib", None)
    with pytest.raises(OpusUnavailable, match="pip install"):
        OpusEncoder(24000, 20, "speech")


def test_a_library_installed_later_is_found(unloaded) -> None:
    with unloaded.context() as absent:
        absent.setattr(ctypes.util, "find_library", lambda name: None)
        assert opus_available() is None
    assert opus_available() is not None
