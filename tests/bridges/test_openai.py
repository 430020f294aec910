"""`POST /v1/audio/speech`, without the SDK: its own tests are those of `tests/clients`."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest
from bridges.conftest import Scripted
from bridges.http_calls import Answer, call, tone_hz

TEXT = "Twelve chars"  # 60 ms each
SAMPLES = 12 * 60 * 24
KEY = "a-key-for-tests"


def speak(server: Scripted, **fields: Any) -> Answer:
    """Calls the door; a field that is None is left out."""
    fields = {"model": "tts-1", "voice": "alloy", "input": TEXT, "response_format": "pcm", **fields}
    body = {name: value for name, value in fields.items() if value is not None}
    return call(server.port, "POST", "/v1/audio/speech", body)


def events(data: bytes) -> list[dict[str, Any]]:
    blocks = data.decode().split("\n\n")
    assert blocks[-1] == ""
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-1]]


# --- audio


def test_pcm_is_every_sample_at_24_khz(common: Scripted) -> None:
    answer = speak(common)
    assert (answer.status, answer.headers["content-type"]) == (200, "audio/pcm")
    assert len(answer.samples) == SAMPLES
    assert tone_hz(answer.samples, 24000) >= 300


@pytest.mark.parametrize(
    ("audio_format", "media_type", "magic"),
    [
        ("mp3", "audio/mpeg", b"\xff"),
        ("opus", "audio/ogg", b"OggS"),
        ("aac", "audio/aac", b"\xff\xf1"),
        ("flac", "audio/flac", b"fLaC"),
        ("wav", "audio/wav", b"RIFF\xff\xff\xff\xffWAVE"),
    ],
)
def test_every_format_begins_as_its_own(
    common: Scripted, audio_format: str, media_type: str, magic: bytes
) -> None:
    answer = speak(common, response_format=audio_format)
    assert answer.headers["content-type"] == media_type
    assert answer.body.startswith(magic)


def test_without_a_format_it_is_mp3(common: Scripted) -> None:
    assert speak(common, response_format=None).headers["content-type"] == "audio/mpeg"


def test_every_answer_has_an_id_of_its_own(common: Scripted) -> None:
    ids = [speak(common, voice=voice).headers["x-request-id"] for voice in ("alloy", "alloy", "nobody")]
    assert len(set(ids)) == 3


def test_without_streaming_the_length_is_known_beforehand(common: Scripted) -> None:
    streamed, whole = speak(common, stream=True), speak(common, stream=False)
    assert "content-length" not in streamed.headers
    assert whole.headers["content-length"] == str(2 * SAMPLES)
    assert len(whole.body) == len(streamed.body)


def test_more_than_openais_4096_characters_are_taken(common: Scripted) -> None:
    assert len(speak(common, input="word " * 1000).samples) > 24 * 60 * 4096


@pytest.mark.parametrize("text", [" ", "…", "😀"])
def test_what_nobody_can_say_is_no_audio_and_no_error(common: Scripted, text: str) -> None:
    answer = speak(common, input=text, response_format="wav")
    assert answer.status == 200
    assert len(answer.body) == 44


# --- server-sent events


def test_events_carry_the_same_bytes_and_then_the_usage(common: Scripted) -> None:
    answer = speak(common, stream_format="sse")
    assert answer.headers["content-type"].startswith("text/event-stream")
    *deltas, done = events(answer.body)
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert sum(len(base64.b64decode(event["audio"])) for event in deltas) == 2 * SAMPLES
    usage = {"input_tokens": 12, "output_tokens": 18, "total_tokens": 30}  # 720 ms are 18 times 40 ms
    assert done == {"type": "speech.audio.done", "usage": usage}


def test_events_tell_of_a_failure_before_they_break_off(share: Callable[..., Scripted]) -> None:
    server = share(fail_after_ms=300)
    with pytest.raises(http.client.IncompleteRead) as broken:
        speak(server, input="word " * 100, stream_format="sse")
    *deltas, error = events(broken.value.partial)
    assert deltas
    assert error["type"] == "speech.audio.error"
    assert error["error"]["code"] == "engine_failed"


def test_events_of_an_engine_that_has_no_room_are_a_status(share: Callable[..., Scripted]) -> None:
    answer = speak(share(refuse_open="over_capacity"), stream_format="sse")
    assert answer.status == 503
    assert answer.json["error"]["type"] == "server_error"


# --- voice and manner


@pytest.mark.parametrize("voice", ["en-f", {"id": "en-f"}, "alloy"])
def test_a_voice_is_a_name_or_an_object(common: Scripted, voice: Any) -> None:
    assert speak(common, voice=voice).status == 200
    assert common.spoken.last()["voice"] in ("en-f", "zh-f")


def test_vllms_name_for_a_voice_is_known(common: Scripted) -> None:
    assert speak(common, voice=None, speaker="en-f").status == 200
    assert common.spoken.last()["voice"] == "en-f"


def test_instructions_reach_the_engine(common: Scripted) -> None:
    assert speak(common, instructions="Speak softly.").warning == ""
    assert common.spoken.last()["instruct"] == "Speak softly."


@pytest.mark.parametrize(("asked", "spoken"), [(0.25, 0.5), (0.5, 0.5), (1.5, 1.5), (2, 2.0), (4.0, 2.0)])
def test_a_speed_beyond_the_engines_is_the_nearest_and_said_so(
    common: Scripted, asked: float, spoken: float
) -> None:
    answer = speak(common, speed=asked)
    assert common.spoken.last()["speed"] == spoken
    assert ("speed" in answer.warning) == (asked != spoken)


def test_what_the_engine_does_not_know_is_said(share: Callable[..., Scripted]) -> None:
    answer = speak(share(), instructions="Speak softly.", speed=1.5)
    assert answer.status == 200
    assert "instruct is not known" in answer.warning
    assert "speed is not known" in answer.warning


# --- what is wrong


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": None}, "input"),
        ({"input": "x" * 100_001}, "input"),
        ({"voice": None}, "voice"),
        ({"voice": ""}, "voice"),
        ({"voice": {}}, "voice"),
        ({"voice": ["alloy"]}, "voice"),
        ({"voice": "nobody"}, "voice"),
        ({"model": 5}, "model"),
        ({"response_format": "vox"}, "response_format"),
        ({"response_format": ["mp3"]}, "response_format"),
        ({"speed": 0.2}, "speed"),
        ({"speed": "1"}, "speed"),
        ({"speed": True}, "speed"),
        ({"stream_format": "pigeon"}, "stream_format"),
        ({"stream": "yes"}, "stream"),
        ({"instructions": 5}, "instructions"),
        ({"instructions": "x" * 2001}, "instructions"),
        ({"language": 5}, "language"),
        ({"seed": "a"}, "seed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(common: Scripted, wrong: dict[str, Any], param: str) -> None:
    answer = speak(common, **wrong)
    assert answer.status == 400
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"]


def test_a_wrong_key_is_told_as_openai_tells_it(share: Callable[..., Scripted]) -> None:
    answer = speak(share("--api-key", KEY))
    assert answer.status == 401
    assert answer.json["error"]["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("field", ["voice", "instructions", "language", "model"])
def test_half_a_character_does_no_harm_in_any_field(common: Scripted, field: str) -> None:
    assert speak(common, **{field: "half \ud83d"}).status in (200, 400)
