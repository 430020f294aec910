"""DashScope's routes: speech as events or as a file, and voices made of recordings."""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest
from bridges.conftest import Scripted
from bridges.http_calls import MIB, Answer, call, hang_up_halfway, metrics, raw_request, wait_for

SPEECH = "/api/v1/services/audio/tts/SpeechSynthesizer"
VOICES = "/api/v1/services/audio/tts/customization"
TEXT = "One two. Three 世界。"


def speech(port: int, headers: dict[str, str] | None = None, **given: Any) -> Answer:
    """Asks for speech."""
    body = {"model": "cosyvoice-v3", "input": {"text": TEXT, "voice": "longanyang", **given}}
    return call(port, "POST", SPEECH, body, headers)


def events(answer: Answer) -> list[tuple[str, dict[str, Any]]]:
    """Kind and data of each event; the lines are in the vendor's spelling."""
    found = []
    for number, block in enumerate(answer.body.decode().removesuffix("\n\n").split("\n\n"), 1):
        head, kind, status, *rest = block.split("\n")
        assert head == f"id:{number}"
        assert status.startswith(":HTTP_STATUS/")
        found.append((kind.removeprefix("event:"), json.loads(rest[-1].removeprefix("data:"))))
    return found


def recording(hz: float = 220.0, seconds: float = 4.0, rate_hz: int = 24000) -> str:
    """A recording that a voice can be made of, as a `data:` URL."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        times = np.arange(int(seconds * rate_hz)) / rate_hz
        writer.writeframes((8000 * np.sin(2 * np.pi * hz * times)).astype("<i2").tobytes())
    return "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def failing(serve: Callable[..., Scripted]) -> Scripted:
    """A server whose engine fails after 300 ms."""
    return serve(fail_after_ms=300)


@pytest.fixture(scope="module")
def locked(serve: Callable[..., Scripted]) -> Scripted:
    """A server with a key."""
    return serve("--api-key", "secret", clones=True)


# --- speech


def test_the_answer_says_where_the_audio_is_for_ten_minutes(scripted: Scripted) -> None:
    answer = speech(scripted.port, format="wav", sample_rate=16000)
    assert answer.status == 200
    output = answer.json["output"]
    assert (output["finish_reason"], answer.json["usage"]) == ("stop", {"characters": 20})
    assert output["audio"]["url"].startswith(f"{scripted.server.url}/v1/files/")
    file = call(scripted.port, "GET", output["audio"]["url"].removeprefix(scripted.server.url))
    assert (file.status, file.headers["content-type"]) == (200, "audio/wav")
    with wave.open(io.BytesIO(file.body)) as reader:
        assert reader.getframerate() == 16000
        assert reader.getnframes() / 16000 == pytest.approx(17 * 0.06)


def test_events_bring_each_sentence_with_its_audio_and_an_end_without_a_type(scripted: Scripted) -> None:
    answer = speech(
        scripted.port,
        {"X-DashScope-SSE": "enable"},
        format="mp3",
        sample_rate=24000,
        word_timestamp_enabled=True,
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events(answer)
    assert {kind for kind, _ in found} == {"result"}
    assert len({data["request_id"] for _, data in found}) == 1
    *parts, last = [data["output"] for _, data in found]
    types = [part["type"] for part in parts]
    assert types[0] == "sentence-begin"
    assert types.count("sentence-end") == 2
    assert parts[-1]["original_text"] == "Three 世界。"
    assert [word["text"] for word in parts[-1]["sentence"]["words"]][:2] == ["Three", "世"]
    audio = b"".join(base64.b64decode(part["audio"]["data"]) for part in parts if "audio" in part)
    with av.open(io.BytesIO(audio)) as stream:
        heard = sum(frame.samples for frame in stream.decode(audio=0)) / 24000
    assert heard == pytest.approx(17 * 0.06, abs=0.1)
    assert "type" not in last
    assert (last["finish_reason"], last["audio"]["data"]) == ("stop", "")
    path = last["audio"]["url"].removeprefix(scripted.server.url)
    assert call(scripted.port, "GET", path).body == audio


def test_an_engine_that_fails_between_two_events_is_told_in_one(failing: Scripted) -> None:
    found = events(speech(failing.port, {"X-DashScope-SSE": "enable"}))
    assert found[0][0] == "result"
    kind, data = found[-1]
    assert kind == "error"
    assert data["code"] == "InternalError"
    assert data["request_id"] == found[0][1]["request_id"]


def test_an_engine_that_fails_before_the_file_is_whole_is_a_failed_request(failing: Scripted) -> None:
    answer = speech(failing.port)
    assert (answer.status, answer.json["code"]) == (500, "InternalError")


def test_what_is_not_done_as_asked_is_in_a_header(scripted: Scripted) -> None:
    assert "pitch" in speech(scripted.port, pitch=1.5).warning
    assert "phonemes" in speech(scripted.port, phoneme_timestamp_enabled=True).warning
    assert not speech(scripted.port, seed=0, rate=1.0, volume=50, pitch=1.0).warning


@pytest.mark.parametrize("sse", [{}, {"X-DashScope-SSE": "enable"}])
@pytest.mark.parametrize(
    "given",
    [
        {"voice": "nobody-at-all"},
        {"voice": None},
        {"text": ""},
        {"text": " \n"},
        {"text": None},
        {"text": 5},
        {"text": "a" * MIB},
        {"format": "flac"},
        {"sample_rate": 1},
        {"rate": 9},
    ],
)
def test_a_bad_request_has_the_vendors_form(
    scripted: Scripted, given: dict[str, Any], sse: dict[str, str]
) -> None:
    answer = speech(scripted.port, sse, **given)
    assert answer.status == 400
    assert answer.json.keys() == {"code", "message", "request_id"}
    assert answer.json["code"] == "InvalidParameter"


@pytest.mark.parametrize("path", [SPEECH, VOICES])
@pytest.mark.parametrize("body", ["", "{", "[]", '{"input": []}', b"\xff", '{"input": {}}', "null"])
def test_a_body_that_says_nothing_is_a_bad_request(scripted: Scripted, path: str, body: str | bytes) -> None:
    answer = call(scripted.port, "POST", path, body)
    assert (answer.status, answer.json["code"]) == (400, "InvalidParameter")


def test_lone_surrogates_are_spoken_as_nothing(scripted: Scripted) -> None:
    answer = speech(scripted.port, {"X-DashScope-SSE": "enable"}, text="Hi \ud800 you.")
    assert events(answer)[0][1]["output"]["original_text"] == "Hi \ufffd you."


def test_a_client_that_hangs_up_frees_the_engine(serve: Callable[..., Scripted]) -> None:
    scripted = serve(realtime_factor=0.2)
    body = {
        "model": "m",
        "input": {"text": "Nobody will hear this to its end. " * 200, "voice": "longanyang"},
    }
    request = raw_request("POST", SPEECH, json.dumps(body).encode())
    request = request.replace(b"\r\n\r\n", b"\r\nX-DashScope-SSE: enable\r\n\r\n", 1)
    hang_up_halfway(scripted.port, request)
    wait_for(lambda: metrics(scripted.port)["cosyduplex_contexts"] == 0, "the engine goes on")


# --- keys


def test_every_route_needs_a_key_and_a_result_is_its_own(locked: Scripted) -> None:
    assert speech(locked.port).json["code"] == "InvalidApiKey"
    assert call(locked.port, "POST", VOICES, {"input": {"action": "list_voice"}}).status == 401
    assert call(locked.port, "GET", "/v1/files/guessed").status == 401
    key = {"Authorization": "Bearer secret"}
    assert call(locked.port, "GET", "/v1/files/guessed", headers=key).status == 404
    url = speech(locked.port, key).json["output"]["audio"]["url"]
    assert call(locked.port, "GET", url.removeprefix(locked.server.url)).status == 200


def test_voices_are_not_added_with_a_client_token(locked: Scripted) -> None:
    key = {"Authorization": "Bearer secret"}
    token = call(locked.port, "POST", "/v1/tokens", headers=key).json["token"]
    body = {"model": "voice-enrollment", "input": {"action": "list_voice"}}
    assert call(locked.port, "POST", VOICES, body, {"Authorization": f"Bearer {token}"}).status == 401
    assert call(locked.port, "POST", VOICES, body, key).status == 200


# --- voices


def enrol(port: int, action: str, model: str = "voice-enrollment", **given: Any) -> Answer:
    """Asks for something to be done with voices."""
    return call(port, "POST", VOICES, {"model": model, "input": {"action": action, **given}})


def create(port: int, **given: Any) -> str:
    """Adds a voice and returns its id."""
    given = {"target_model": "cosyvoice-v3.5-flash", "prefix": "abc1234567", "url": recording(), **given}
    answer = enrol(port, "create_voice", **given)
    assert answer.status == 200, answer.body
    voice_id: str = answer.json["output"]["voice_id"]
    return voice_id


def test_a_voice_is_added_listed_spoken_changed_and_removed(scripted: Scripted) -> None:
    port = scripted.port
    voice_id = create(port, language_hints=["en"])
    assert voice_id.startswith("cosyvoice-v3.5-flash-abc1234567-")
    assert len(voice_id) == 64
    assert (scripted.voices.last()["added"], scripted.voices.last()["text"]) == (voice_id, "")
    (entry,) = enrol(port, "list_voice", prefix="abc1234567", page_index=0, page_size=10).json["output"][
        "voice_list"
    ]
    assert (entry["voice_id"], entry["status"]) == (voice_id, "OK")
    found = enrol(port, "query_voice", voice_id=voice_id).json["output"]
    assert (found["status"], found["target_model"]) == ("OK", "cosyvoice-v3.5-flash")
    listed = {voice["id"]: voice for voice in call(port, "GET", "/v1/voices").json["voices"]}
    assert listed[voice_id]["language"] == "en"
    before = speech(port, voice=voice_id, format="pcm")
    assert before.status == 200
    assert scripted.spoken.last()["voice"] == voice_id
    old = call(port, "GET", f"/v1/voices/{voice_id}").json["sha256"]
    assert enrol(port, "update_voice", voice_id=voice_id, url=recording(330)).status == 200
    assert call(port, "GET", f"/v1/voices/{voice_id}").json["sha256"] != old
    assert enrol(port, "delete_voice", voice_id=voice_id).status == 200
    assert enrol(port, "query_voice", voice_id=voice_id).json["code"] == "InvalidParameter"
    assert enrol(port, "list_voice").json["output"]["voice_list"] == []


def test_a_voice_keeps_its_recording_when_the_new_one_is_refused(scripted: Scripted) -> None:
    voice_id = create(scripted.port)
    refused = enrol(scripted.port, "update_voice", voice_id=voice_id, url=recording(seconds=0.5))
    assert refused.status == 400
    assert enrol(scripted.port, "query_voice", voice_id=voice_id).json["output"]["status"] == "OK"
    enrol(scripted.port, "delete_voice", voice_id=voice_id)


def test_a_recording_is_cut_to_the_length_that_was_asked_for(scripted: Scripted) -> None:
    voice_id = create(scripted.port, url=recording(seconds=8), max_prompt_audio_length=3)
    assert call(scripted.port, "GET", f"/v1/voices/{voice_id}").json["figures"]["seconds"] == 3
    enrol(scripted.port, "delete_voice", voice_id=voice_id)


@pytest.mark.parametrize("wrapped", [True, False])
def test_qwens_form_takes_a_transcript_and_has_its_own_names(scripted: Scripted, wrapped: bool) -> None:
    qwen = "qwen-voice-enrollment"
    audio: Any = {"data": recording()} if wrapped else recording()
    given = {"target_model": "qwen3-tts-vc", "preferred_name": "Guanyu", "audio": audio, "text": "Hello."}
    created = enrol(scripted.port, "create", qwen, **given).json["output"]
    assert created["target_model"] == "qwen3-tts-vc"
    assert created["voice"].startswith("qwen-tts-vc-Guanyu-voice-")
    assert scripted.voices.last()["text"] == "Hello."
    listed = enrol(scripted.port, "list", qwen, page_size=5, page_index=0).json["output"]
    assert [voice["voice"] for voice in listed["voice_list"]] == [created["voice"]]
    assert enrol(scripted.port, "delete", qwen, voice=created["voice"]).status == 200


@pytest.mark.parametrize(
    ("action", "given", "told"),
    [
        ("create_voice", {"prefix": "TooLoud"}, "prefix"),
        ("create_voice", {"prefix": "elevenchars"}, "prefix"),
        ("create_voice", {"target_model": None}, "target_model"),
        ("create_voice", {"target_model": "a/b"}, "target_model"),
        ("create_voice", {"target_model": "m" * 60}, "too long"),
        ("create_voice", {"url": None}, "url"),
        ("create_voice", {"url": "http://127.0.0.1/secret"}, "--fetch-host"),
        ("create_voice", {"url": "file:///etc/passwd"}, "data:"),
        ("create_voice", {"url": "data:audio/wav;base64,AAAA"}, "not an audio file"),
        ("create_voice", {"url": recording(seconds=0.2)}, "at least 1 s"),
        ("create_voice", {"url": recording(seconds=31)}, "30 s"),
        ("create_voice", {"max_prompt_audio_length": 1}, "from 3"),
        ("update_voice", {"voice_id": "zh-f", "url": recording()}, "no voice of that id"),
        ("delete_voice", {"voice_id": "zh-f"}, "no voice of that id"),
        ("query_voice", {}, "voice_id is missing"),
        ("list_voice", {"page_size": 0}, "page_size"),
        ("dance", {}, "action must be one of"),
    ],
)
def test_what_cannot_be_done_with_voices_has_the_vendors_form(
    scripted: Scripted, action: str, given: dict[str, Any], told: str
) -> None:
    usual = {"target_model": "cosyvoice-v3", "prefix": "abc", "url": recording()}
    answer = enrol(scripted.port, action, **(usual | given if action == "create_voice" else given))
    assert answer.status == 400
    assert told in answer.json["message"]
    assert enrol(scripted.port, "list_voice").json["output"]["voice_list"] == []
