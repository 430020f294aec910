"""Recordings: what is taken, as what it is kept, and what each refusal measured."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from voices.enrolment import RECORDING, encoded, speech, wav_params

from cosyduplex_server.audio.reference import MAX_BYTES, read_recording
from cosyduplex_server.errors import Failure


def refused(data: bytes) -> Failure:
    with pytest.raises(Failure) as caught:
        read_recording(data)
    assert caught.value.code == "bad_reference_audio"
    assert caught.value.solution
    return caught.value


def samples_of(wav: bytes) -> Any:
    return soundfile.read(io.BytesIO(wav), dtype="int16")[0]


@pytest.mark.parametrize(
    ("form", "subtype", "rate_hz"),
    [
        ("WAV", "PCM_16", 16_000),
        ("WAV", "PCM_24", 48_000),
        ("WAV", "FLOAT", 44_100),
        ("WAV", "ULAW", 16_000),
        ("RF64", "PCM_16", 24_000),
        ("FLAC", "PCM_16", 96_000),
        ("OGG", "VORBIS", 44_100),
        ("OGG", "OPUS", 48_000),
        ("OGG", "OPUS", 16_000),
        ("MP3", "MPEG_LAYER_III", 44_100),
        ("MP3", "MPEG_LAYER_III", 22_050),
    ],
)
def test_a_recording_is_kept_as_16_bit_mono_at_its_own_rate(form, subtype, rate_hz):
    made = speech(2.0, rate_hz)
    recording = read_recording(encoded(made, rate_hz, form, subtype))
    channels, width, kept_hz, seconds = wav_params(recording.wav)
    assert (channels, width, kept_hz, recording.sample_rate_hz) == (1, 2, rate_hz, rate_hz)
    assert seconds == pytest.approx(2.0, abs=0.1)
    assert recording.duration_s == pytest.approx(seconds)
    assert recording.peak_dbfs == pytest.approx(-6, abs=1.5)
    kept = samples_of(recording.wav) / 32768
    level_db = 20 * np.log10(kept.std() / made.std())
    assert level_db == pytest.approx(0, abs=1)


def test_sixteen_bits_are_kept_to_the_bit():
    made = (speech() * 32767).astype(np.int16)
    assert (samples_of(read_recording(encoded(made)).wav) == made).all()


def test_silence_around_the_speech_is_left_as_it_is():
    made = np.concatenate([np.zeros(24_000), speech(), np.zeros(24_000)])
    recording = read_recording(encoded(made))
    assert (recording.duration_s, round(recording.sound_s, 1)) == (5.0, 3.0)


def test_channels_are_mixed_down():
    left = (speech() * 32767).astype(np.int16)
    stereo = np.stack([left, np.zeros_like(left)], axis=1)
    kept = samples_of(read_recording(encoded(stereo)).wav)
    assert np.abs(kept - left / 2).max() <= 1


def test_a_wav_of_unknown_length_is_read_to_its_end():
    wav = bytearray(RECORDING)
    wav[4:8] = wav[40:44] = b"\xff\xff\xff\xff"
    assert read_recording(bytes(wav)).duration_s == 3.0


@pytest.mark.parametrize(
    ("seconds", "taken"), [(0.99, False), (1.0, True), (30.0, True), (30.01, False), (60.0, False)]
)
def test_one_to_thirty_seconds_are_taken(seconds, taken):
    data = encoded(speech(seconds, 16_000), 16_000)
    if taken:
        assert read_recording(data).duration_s == pytest.approx(seconds)
    else:
        assert f"{seconds:.1f}" in refused(data).message or f"{seconds:.2f}" in refused(data).message


def test_a_compressed_file_that_unpacks_to_hours_is_not_unpacked():
    silence = np.zeros(16_000 * 3600, np.int16)
    data = encoded(silence, 16_000, "FLAC")
    assert len(data) < 1_000_000
    assert "3600.0 s" in refused(data).message


@pytest.mark.parametrize(
    ("rate_hz", "taken"), [(8000, False), (11_025, False), (15_999, False), (16_000, True)]
)
def test_less_than_16_khz_is_refused(rate_hz, taken):
    data = encoded(speech(2.0, rate_hz), rate_hz)
    if taken:
        assert read_recording(data).sample_rate_hz == rate_hz
    else:
        assert f"{rate_hz} samples a second; at least 16000" in refused(data).message


@pytest.mark.parametrize(
    "made",
    [
        np.zeros(72_000),
        speech() * 0.002,
        np.full(72_000, 0.5),  # an offset is no sound
        np.concatenate([speech(0.5), np.zeros(72_000)]),
        np.stack([speech(), -speech()], axis=1),
    ],
    ids=["zeros", "very quiet", "offset", "half a second of sound", "channels that cancel out"],
)
def test_what_cannot_be_heard_is_silent(made):
    failure = refused(encoded(made, subtype="FLOAT"))
    assert "silent" in failure.message
    assert "dBFS" in failure.message


@pytest.mark.parametrize(("form", "gain"), [("WAV", 2), ("FLAC", 2), ("MP3", 3), ("OGG", 3)])
def test_a_clipped_recording_is_refused(form, gain):
    made = np.clip(2 * gain * speech(), -1, 1)
    assert "clipped" in refused(encoded(made, form=form)).message


@pytest.mark.parametrize(
    "made",
    [2 * speech(), np.sin(2 * np.pi * 100 * np.arange(72_000) / 24_000)],
    ids=["speech that peaks at full scale", "a full-scale tone"],
)
def test_a_loud_recording_is_not_clipped(made):
    assert read_recording(encoded(made)).clipped_share < 0.001


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"R", "not an audio file"),
        (b"hello, I am a text" * 100, "not an audio file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), "not an audio file"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(1000), "m4a"),
        (b"\x1aE\xdf\xa3" + bytes(1000), "WebM"),
        (b"\xff\xf1" + bytes(1000), "AAC"),
        (b"#!AMR\n" + bytes(1000), "AMR"),
        (b"FORM\0\0\0\0AIFF" + bytes(1000), "AIFF"),
        (b"RIFF\0\0\0\0WAVE" + bytes(range(256)) * 4, "damaged"),
        (b"OggS" + bytes(range(256)) * 4, "damaged"),
        (b"fLaC" + bytes(range(256)) * 4, "damaged"),
        (RECORDING[:44], "0.00 s"),
        (RECORDING[:10_000], "0.21 s"),
    ],
)
def test_what_is_no_recording_is_named(data, says):
    assert says in refused(data).message


def test_an_unknown_container_comes_with_the_way_to_convert_it():
    assert "ffmpeg -i" in (refused(b"\0\0\0\x20ftypM4A " + bytes(99)).solution or "")


def test_ten_megabytes_are_the_most():
    assert "10.0 MiB; 10 MiB at most" in refused(RECORDING + bytes(MAX_BYTES + 1 - len(RECORDING))).message


def test_samples_that_are_no_numbers_are_refused():
    made = speech()
    made[100] = np.nan
    assert "not numbers" in refused(encoded(made, subtype="FLOAT")).message


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from(
        [b"RIFF\0\0\0\0WAVEfmt ", b"OggS", b"fLaC\0\0\0\x22", b"ID3\4\0\0", b"\xff\xfb\x90"]
    ),
    rest=st.binary(max_size=3000),
)
def test_damaged_files_are_refused_and_nothing_else_happens(start, rest):
    refused(start + rest)


@settings(max_examples=60, deadline=None)
@given(form=st.sampled_from(["WAV", "FLAC", "OGG"]), data=st.data())
def test_a_file_with_a_wrong_byte_is_read_or_refused(form, data):
    file = bytearray(FILES[form])
    for _ in range(data.draw(st.integers(1, 5))):
        file[data.draw(st.integers(0, min(len(file) - 1, 400)))] = data.draw(st.integers(0, 255))
    try:
        recording = read_recording(bytes(file))
    except Failure as failure:
        outcome: object = failure.code
    else:
        outcome = 1 <= recording.duration_s <= 30
    assert outcome in ("bad_reference_audio", True)


FILES = {form: encoded(speech(1.5, 16_000), 16_000, form) for form in ("WAV", "FLAC", "OGG")}
