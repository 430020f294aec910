"""`POST /tts` of the REST guide."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from bridges.conftest import Scripted
from bridges.http_calls import MIB, Answer, call, tone_hz, wait_for
from voices.enrolment import RECORDING, encoded, speech

TEXT = "需要合成的目标文本"  # 60 ms each
ENCODED = base64.b64encode(RECORDING).decode()


def speak(server: Scripted, **fields: Any) -> Answer:
    """Calls the door; a field that is None is left out."""
    fields = {"text": TEXT, **fields}
    return call(
        server.port, "POST", "/tts", {name: value for name, value in fields.items() if value is not None}
    )


# --- the four modes


def test_sft_is_what_is_meant_without_a_mode(common: Scripted) -> None:
    answer = speak(common)
    assert answer.status == 200
    assert answer.headers["content-type"] == "audio/pcm"
    assert (answer.headers["x-sample-rate"], answer.headers["x-channels"]) == ("24000", "1")
    assert len(answer.samples) == 9 * 60 * 24


def test_the_guides_own_example_speaks(common: Scripted) -> None:
    assert speak(common, mode="sft", speaker_id="中文女", stream=True).status == 200


def test_zero_shot_speaks_as_the_recording_does(common: Scripted) -> None:
    answer = speak(common, mode="zero_shot", reference_audio=ENCODED, reference_text="希望你以后。")
    assert answer.status == 200
    assert tone_hz(answer.samples, 24000) >= 1200  # a clone's
    assert common.voices.last()["text"] == "希望你以后。"


def test_cross_lingual_takes_the_timbre_alone(common: Scripted) -> None:
    other = base64.b64encode(encoded(speech(2.0))).decode()
    answer = speak(common, mode="cross_lingual", reference_audio=other, reference_text="ignored")
    assert tone_hz(answer.samples, 24000) >= 1200
    assert common.voices.last()["text"] == ""


@pytest.mark.parametrize(
    ("fields", "instruct"),
    [
        ({"instruct_text": "用四川话说这句话"}, "用四川话说这句话"),
        ({"reference_text": "用四川话说这句话"}, "用四川话说这句话"),
        ({"reference_audio": ENCODED, "reference_text": "transcript", "instruct_text": "慢一点"}, "慢一点"),
        ({"reference_audio": ENCODED, "reference_text": "transcript", "emotion": "happy"}, ""),
    ],
)
def test_instruct_says_how(common: Scripted, fields: dict[str, str], instruct: str) -> None:
    answer = speak(common, mode="instruct", **fields)
    assert answer.status == 200
    assert common.spoken.last()["instruct"] == instruct
    assert (tone_hz(answer.samples, 24000) >= 1200) == ("reference_audio" in fields)


def test_instruct_without_any_instruction_speaks_plainly_and_says_so(common: Scripted) -> None:
    answer = speak(common, mode="instruct")
    assert answer.status == 200
    assert "spoken plainly" in answer.warning


def test_a_recording_that_the_mode_has_no_use_for_is_mentioned(common: Scripted) -> None:
    assert "reference_audio" in speak(common, mode="sft", reference_audio=ENCODED).warning


def test_recordings_of_past_requests_are_forgotten(common: Scripted) -> None:
    for pitch_hz in range(100, 120):
        other = base64.b64encode(encoded(speech(1.2, pitch_hz=pitch_hz))).decode()
        assert speak(common, mode="cross_lingual", reference_audio=other, stream=False).status == 200
    wait_for(lambda: "removed" in common.voices.last(), "all of them are kept")


# --- how


def test_emotion_dialect_and_speed_reach_the_engine(common: Scripted) -> None:
    assert speak(common, emotion="happy", dialect="cantonese", speed=1.5).warning == ""
    spoken = common.spoken.last()
    assert (spoken["emotion"], spoken["dialect"], spoken["speed"]) == ("happy", "cantonese", 1.5)


def test_neutral_is_no_wish(share: Callable[..., Scripted]) -> None:
    server = share()
    assert speak(server, emotion="neutral", dialect="普通话").warning == ""
    assert "emotion is not known" in speak(server, emotion="happy").warning


def test_without_streaming_the_length_is_known_beforehand(common: Scripted) -> None:
    whole = speak(common, stream=False)
    assert whole.headers["content-length"] == str(2 * 9 * 60 * 24)
    assert "content-length" not in speak(common, stream=True).headers


def test_the_rate_is_the_engines(share: Callable[..., Scripted]) -> None:
    answer = speak(share(sample_rate_hz=16000))
    assert answer.headers["x-sample-rate"] == "16000"
    assert len(answer.samples) == 9 * 60 * 16


def test_base64_may_be_a_data_url_and_may_have_line_breaks(common: Scripted) -> None:
    lines = "\r\n".join(ENCODED[at : at + 76] for at in range(0, len(ENCODED), 76))
    for recording in (lines, f"data:audio/wav;base64,{ENCODED}"):
        assert speak(common, mode="cross_lingual", reference_audio=recording).status == 200


# --- what is wrong


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"text": None}, 400, "bad_request"),
        ({"text": ""}, 400, "bad_request"),
        ({"text": "x" * 100_001}, 413, "text_too_long"),
        ({"mode": "karaoke"}, 400, "bad_request"),
        ({"mode": 5}, 400, "bad_request"),
        ({"mode": "zero_shot"}, 400, "bad_request"),
        ({"mode": "zero_shot", "reference_audio": ENCODED}, 400, "bad_request"),
        ({"mode": "cross_lingual"}, 400, "bad_request"),
        ({"speaker_id": "nobody"}, 404, "unknown_voice"),
        ({"speaker_id": 5}, 400, "bad_request"),
        ({"speed": 0.4}, 400, "bad_request"),
        ({"speed": 2.1}, 400, "bad_request"),
        ({"speed": "fast"}, 400, "bad_request"),
        ({"stream": "yes"}, 400, "bad_request"),
        ({"emotion": 5}, 400, "bad_request"),
        ({"dialect": ["a"]}, 400, "bad_request"),
        ({"mode": "instruct", "instruct_text": "x" * 2001}, 400, "bad_request"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_told_with_what_to_do(
    common: Scripted, wrong: dict[str, Any], status: int, code: str
) -> None:
    answer = speak(common, **wrong)
    assert (answer.status, answer.json["error"]) == (status, code)
    assert answer.json["message"]
    assert answer.json["solution"]


@pytest.mark.parametrize(
    "recording",
    [
        "https://example.com/me.wav",
        "http://127.0.0.1/me.wav",
        "file:///etc/passwd",
        "/etc/passwd",
        "../me.wav",
        "data:audio/wav,me",
        "not base64!",
        base64.b64encode(b"no sound at all").decode(),
        base64.b64encode(encoded(speech(0.5))).decode(),
        base64.b64encode(b"RIFF" + bytes(10 * MIB)).decode(),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_recording_that_is_none_is_refused_and_no_address_followed(
    common: Scripted, recording: str
) -> None:
    answer = speak(common, mode="cross_lingual", reference_audio=recording)
    assert (answer.status, answer.json["error"]) == (400, "bad_reference_audio")
    assert "passwd" not in answer.body.decode()


def test_an_engine_that_clones_nothing_says_whose_voice_that_was(share: Callable[..., Scripted]) -> None:
    answer = speak(share(), mode="cross_lingual", reference_audio=ENCODED)
    assert answer.status == 200
    assert "the default voice speaks instead" in answer.warning


@pytest.mark.parametrize("field", ["speaker_id", "reference_text", "instruct_text", "emotion", "dialect"])
@pytest.mark.parametrize("mode", ["sft", "zero_shot", "instruct"])
def test_half_a_character_does_no_harm_in_any_field(common: Scripted, mode: str, field: str) -> None:
    fields = {"reference_audio": ENCODED, "reference_text": "text", "mode": mode} if mode != "sft" else {}
    answer = speak(common, **{**fields, field: "half \ud83d"})
    assert answer.status in (200, 404)
    assert speak(common).status == 200
