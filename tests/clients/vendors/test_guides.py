"""The callers that the REST guide and the workflow TTS standard print, with `requests` as they have it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import requests
import soundfile
from hearing import Sound, assert_speech, longest_silence_s, raw, tones_hz
from servers import Server

TEXT = "您好，请问有什么可以帮您？我们的客服会尽快为您处理。"
# As the standard prints it, unbalanced quotes included.
PRINTED = (
    "{'InstanceId':'68e00b6640e*****3e943332fee7','ChannelId':'123','SentenceId':'3',"
    'UserData\':\'{"aaaa":"bbbb"}\'}'
)
rest = "REST guide"
workflow = "Workflow standard"


def works(door: str, feature: str) -> pytest.MarkDecorator:
    return pytest.mark.door(door, client="requests", feature=feature)


def post(url: str, **details: Any) -> bytes:
    with requests.post(url, stream=True, timeout=30, **details) as response:
        assert response.status_code == 200, response.text
        return b"".join(response.iter_content(chunk_size=1024))


def tts(server: Server, **fields: Any) -> tuple[Sound, requests.Response]:
    """The load test of the guide: chunks of 1024 bytes."""
    body = {"text": TEXT, "mode": "sft", "speaker_id": "中文女", "stream": True, **fields}
    with requests.post(f"{server.url}/tts", json=body, stream=True, timeout=30) as response:
        assert response.status_code == 200, response.text
        data = b"".join(response.iter_content(chunk_size=1024))
        return raw(data, int(response.headers["X-Sample-Rate"])), response


@pytest.fixture(scope="module")
def recording() -> bytes:
    """Three seconds of something that is louder than silence."""
    t = np.arange(3 * 24000) / 24000
    file = BytesIO()
    soundfile.write(file, 0.3 * np.sin(440 * t) * np.sin(3 * t), 24000, format="WAV")
    return file.getvalue()


# --- REST


@works(rest, "mode sft")
@pytest.mark.parametrize("stream", [True, False])
def test_the_guides_request_speaks(server: Server, stream: bool) -> None:
    sound, response = tts(server, stream=stream)
    assert response.headers["Content-Type"] == "audio/pcm"
    assert response.headers["X-Channels"] == "1"
    assert ("Content-Length" in response.headers) == (not stream)
    assert_speech(sound, TEXT)
    assert longest_silence_s(sound) < 0.8


@works(rest, "mode {mode}")
@pytest.mark.parametrize("mode", ["zero_shot", "cross_lingual", "instruct"])
def test_a_recording_decides_the_voice(
    scripted_server: Callable[..., Server], recording: bytes, mode: str
) -> None:
    sound, _ = tts(
        scripted_server(clones=True),
        mode=mode,
        speaker_id=None,
        reference_audio=base64.b64encode(recording).decode(),
        reference_text="参考音频对应的文本",
        emotion="happy",
        dialect="cantonese",
    )
    (tone_hz,) = tones_hz(sound)
    assert tone_hz >= 1200  # a clone's; a voice of the script's own is lower


@works(rest, "speed")
def test_speed_is_the_tempo(server: Server) -> None:
    (slow, _), (fast, _) = tts(server, speed=0.5), tts(server, speed=2.0)
    assert slow.seconds > 2 * fast.seconds


@works(rest, "errors")
@pytest.mark.parametrize("wrong", [{"speed": 3}, {"mode": "x"}, {"text": ""}, {"speaker_id": "nobody"}])
def test_an_error_says_what_and_what_to_do(server: Server, wrong: dict[str, Any]) -> None:
    response = requests.post(f"{server.url}/tts", json={"text": TEXT, **wrong}, timeout=30)
    assert 400 <= response.status_code < 500
    assert set(response.json()) == {"error", "message", "solution"}


# --- the workflow


@works(workflow, "{form}")
@pytest.mark.parametrize("extend_data", [None, PRINTED, json.dumps({"SentenceId": 3, "Emotion": "happy"})])
@pytest.mark.parametrize("form", ["JSON", "form", "multipart"])
def test_every_form_of_the_request_speaks(server: Server, form: str, extend_data: str | None) -> None:
    fields = {"Text": TEXT, "VoiceId": "yourVoiceId", "SampleRate": 16000, "Token": "t"}
    if extend_data is not None:
        fields["ExtendData"] = extend_data
    written = {name: (None, str(value)) for name, value in fields.items()}
    details: dict[str, dict[str, Any]] = {
        "JSON": {"json": fields},
        "form": {"data": fields},
        "multipart": {"files": written},
    }
    sound = raw(post(f"{server.url}/stream-audio", **details[form]), 16000)
    assert_speech(sound)
    assert longest_silence_s(sound) < 0.8


@works(workflow, "{rate} Hz")
@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_every_rate_of_the_standard_is_spoken(server: Server, rate: int) -> None:
    fields = {"Text": TEXT, "VoiceId": "zh-f", "SampleRate": rate, "ExtendData": PRINTED}
    assert_speech(raw(post(f"{server.url}/stream-audio", data=fields), rate), TEXT)


@works(workflow, "token")
def test_the_token_is_the_key(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server("--api-key", "the-right-one")
    url = f"{server.url}/stream-audio"
    fields = {"Text": TEXT, "SampleRate": 48000, "Token": "a-wrong-one", "ExtendData": PRINTED}
    assert requests.post(url, data=fields, timeout=30).status_code == 401
    assert len(post(url, data={**fields, "Token": "the-right-one"})) > 0


@works(workflow, "stops when its client goes away")
def test_whoever_hangs_up_stops_the_synthesis(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server(realtime_factor=1.0)
    fields = {"Text": TEXT * 20, "SampleRate": 48000, "ExtendData": PRINTED}
    response = requests.post(f"{server.url}/stream-audio", data=fields, stream=True, timeout=30)
    pieces = response.iter_content(chunk_size=1024)
    assert len(next(pieces)) > 0
    assert server.metrics()["cosyduplex_contexts"] == 1
    response.close()
    server.wait_until_idle(within_s=10)
