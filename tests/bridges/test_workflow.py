"""The workflow TTS standard, in every form that its two documents allow."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from bridges.conftest import Scripted
from bridges.http_calls import Answer, call, multipart, tone_hz, urlencoded, wait_for

from cosyduplex_bridges.workflow import read_extend_data

PATH = "/stream-audio"
KEY = "a-key-for-tests"
TEXT = "Nine char"  # 60 ms each
# As the documents print it: single quotes, and one of them missing.
PRINTED = (
    "{'InstanceId':'68e00b6640e*****3e943332fee7','ChannelId':'123','SentenceId':'3',"
    'UserData\':\'{"aaaa":"bbbb"}\'}'
)
GOOD = json.dumps({"InstanceId": "i", "ChannelId": "c", "SentenceId": 3, "Emotion": "happy"})
FIELDS = {"Text": TEXT, "VoiceId": "yourVoiceId", "SampleRate": "16000", "Token": "t", "ExtendData": GOOD}

Send = Callable[[int, dict[str, Any]], Answer]


def as_json(port: int, fields: dict[str, Any]) -> Answer:
    return call(port, "POST", PATH, fields)


def as_form(port: int, fields: dict[str, Any]) -> Answer:
    return call(port, "POST", PATH, *urlencoded({name: str(value) for name, value in fields.items()}))


def as_multipart(port: int, fields: dict[str, Any]) -> Answer:
    return call(port, "POST", PATH, *multipart({name: str(value) for name, value in fields.items()}))


def json_without_label(port: int, fields: dict[str, Any]) -> Answer:
    return call(port, "POST", PATH, json.dumps(fields).encode())


def json_labelled_form(port: int, fields: dict[str, Any]) -> Answer:
    label = {"Content-Type": "application/x-www-form-urlencoded"}
    return call(port, "POST", PATH, json.dumps(fields).encode(), label)


def form_without_label(port: int, fields: dict[str, Any]) -> Answer:
    body, _ = urlencoded({name: str(value) for name, value in fields.items()})
    return call(port, "POST", PATH, body)


every_form = pytest.mark.parametrize(
    "send",
    [as_json, as_form, as_multipart, json_without_label, json_labelled_form, form_without_label],
    ids=lambda send: send.__name__,
)


@every_form
def test_every_form_is_spoken_as_pcm_at_its_rate(common: Scripted, send: Send) -> None:
    answer = send(common.port, FIELDS)
    assert answer.status == 200
    assert answer.headers["content-type"] == "audio/mpeg"  # the label of the documents' own server
    assert answer.headers["transfer-encoding"] == "chunked"
    assert len(answer.samples) == 9 * 60 * 16
    assert common.spoken.last()["emotion"] == "happy"


@every_form
@pytest.mark.parametrize(
    "extend_data", [None, "", PRINTED, "{", "[]", "null", "nothing like it", "{'Emotion': " + "[" * 5000]
)
def test_no_extend_data_is_ever_an_error(common: Scripted, send: Send, extend_data: str | None) -> None:
    fields = {"Text": TEXT, "SampleRate": 8000}
    answer = send(common.port, fields if extend_data is None else {**fields, "ExtendData": extend_data})
    assert answer.status == 200
    assert len(answer.samples) == 9 * 60 * 8


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000, "48000", 48000.0, "48000.0", None, ""])
def test_the_rate_may_be_written_as_any_number_is(common: Scripted, rate: Any) -> None:
    answer = as_json(common.port, {"Text": TEXT, "SampleRate": rate})
    rate_hz = int(float(rate or 48000))
    assert len(answer.samples) == 9 * 60 * rate_hz // 1000
    assert tone_hz(answer.samples, rate_hz) in range(300, 1100)


@pytest.mark.parametrize("rate", [0, -1, 22050, 44100, "fast", True, [48000], 1e999, "nan"])
@pytest.mark.parametrize("send", [as_json, as_form])
def test_another_rate_is_refused(common: Scripted, send: Send, rate: Any) -> None:
    fields = {"Text": TEXT, "SampleRate": rate}
    if rate == float("inf"):
        fields["SampleRate"] = "1e999"
    answer = send(common.port, fields)
    assert (answer.status, answer.json["error"]) == (400, "unsupported_format")


@pytest.mark.parametrize(
    "names",
    [("text", "sampleRate"), ("TEXT", "samplerate"), ("Teks", "SAMPLE_RATE"), ("tExT", "sample-rate")],
)
def test_names_are_taken_in_any_case(common: Scripted, names: tuple[str, str]) -> None:
    answer = as_json(common.port, {names[0]: TEXT, names[1]: 8000})
    assert len(answer.samples) == 9 * 60 * 8


@pytest.mark.parametrize("text", ["", " ", "。", "!?", "😀"])
def test_nothing_to_say_is_no_audio_and_no_error(common: Scripted, text: str) -> None:
    for send in (as_json, as_form, as_multipart):
        answer = send(common.port, {"Text": text})
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_consoles_that_look_whether_somebody_is_there_see_that(common: Scripted, method: str) -> None:
    assert call(common.port, method, PATH).status == 200


def test_the_documents_own_voice_is_the_default_one(common: Scripted) -> None:
    for voice in ("yourVoiceId", None, ""):
        assert as_json(common.port, {"Text": TEXT, "VoiceId": voice}).status == 200
        assert common.spoken.last()["voice"] in ("", "zh-f")


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"Text": None}, 400, "bad_request"),
        ({"Text": 5}, 400, "bad_request"),
        ({"Text": "x" * 100_001}, 413, "text_too_long"),
        ({"VoiceId": "nobody"}, 404, "unknown_voice"),
        ({"VoiceId": 5}, 400, "bad_request"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_told(common: Scripted, wrong: dict[str, Any], status: int, code: str) -> None:
    answer = as_json(common.port, {**FIELDS, **wrong})
    assert (answer.status, answer.json["error"]) == (status, code)


@pytest.mark.parametrize("body", [b"--b\r\n\r\nx\r\n--b--\r\n", b"--b", b"?", b""])
def test_a_broken_form_is_told(common: Scripted, body: bytes) -> None:
    answer = call(common.port, "POST", PATH, body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert (answer.status, answer.json["error"]) == (400, "bad_request")


# --- the token


def test_the_token_is_a_field_or_a_header(share: Callable[..., Scripted]) -> None:
    server = share("--api-key", KEY)
    for send in (as_json, as_form, as_multipart):
        assert send(server.port, {**FIELDS, "Token": KEY}).status == 200
        for token in ("", "a-wrong-one"):
            answer = send(server.port, {**FIELDS, "Token": token})
            assert (answer.status, answer.json["error"]) == (401, "unauthorized")
    header = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    assert call(server.port, "POST", PATH, json.dumps({"Text": TEXT}), header).status == 200
    assert call(server.port, "POST", PATH, b"").status == 401


# --- emotion


@pytest.mark.parametrize(
    ("emotion", "spoken"), [("neutral", ""), ("happy", "happy"), ("sad", "sad"), ("SAD", "SAD"), ("", "")]
)
def test_the_emotion_reaches_the_engine(common: Scripted, emotion: str, spoken: str) -> None:
    as_form(common.port, {"Text": TEXT, "ExtendData": json.dumps({"Emotion": emotion})})
    assert common.spoken.last()["emotion"] == spoken


def test_extend_data_may_be_an_object_and_the_emotion_beside_it(common: Scripted) -> None:
    as_json(common.port, {"Text": TEXT, "ExtendData": {"SentenceId": 3, "Emotion": "sad"}})
    assert common.spoken.last()["emotion"] == "sad"
    as_json(common.port, {"Text": TEXT, "Emotion": "happy"})
    assert common.spoken.last()["emotion"] == "happy"


def test_an_emotion_the_engine_lacks_is_said_and_logged(share: Callable[..., Scripted]) -> None:
    server = share()
    assert "emotion is not known" in as_form(server.port, FIELDS).warning
    wait_for(lambda: "emotion is not known" in server.server.log(), "it was not logged")


@pytest.mark.parametrize(
    ("extend_data", "found"),
    [
        (GOOD, {"InstanceId": "i", "ChannelId": "c", "SentenceId": "3", "Emotion": "happy"}),
        (json.dumps(GOOD), {"InstanceId": "i", "ChannelId": "c", "SentenceId": "3", "Emotion": "happy"}),
        (
            PRINTED,
            {"InstanceId": "68e00b6640e*****3e943332fee7", "ChannelId": "123", "SentenceId": "3"},
        ),
        ("{'SentenceId': 3, 'Emotion': 'sad'}", {"SentenceId": "3", "Emotion": "sad"}),
        ("{'Emotion':'sad','UserData':'{\"Emotion\":\"happy\"}'}", {"Emotion": "sad"}),
        ("{'UserData':'{\"Emotion\":\"happy\"}','Emotion':'sad'}", {"Emotion": "sad"}),
        ("{'UserData':'{\"Emotion\":\"happy\"}'", {}),
        ('{"UserData":"{\\"Emotion\\":\\"happy\\"}"}', {}),
        ("Emotion=happy", {"Emotion": "happy"}),
        ('{"emotion": "happy", "instanceid": null, "ChannelId": ["a"]}', {"Emotion": "happy"}),
        ('{"Emotion": "' + "x" * 9999 + '"}', {"Emotion": "x" * 256}),
        (7, {}),
        (None, {}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_extend_data_says_is_found_however_written(extend_data: Any, found: dict[str, str]) -> None:
    assert read_extend_data(extend_data) == found


@pytest.mark.parametrize("field", ["VoiceId", "Token", "ExtendData", "Emotion", "Text"])
def test_half_a_character_does_no_harm_in_any_field(common: Scripted, field: str) -> None:
    assert as_json(common.port, {**FIELDS, field: "half \ud83d"}).status in (200, 404)


@pytest.mark.parametrize("body", [b"Text=%FF%FE&SampleRate=8000", b"Text=\xff\xfe", b"Text=a&" * 100])
def test_a_form_of_odd_bytes_does_no_harm(common: Scripted, body: bytes) -> None:
    label = {"Content-Type": "application/x-www-form-urlencoded"}
    assert call(common.port, "POST", PATH, body, label).status in (200, 400)
