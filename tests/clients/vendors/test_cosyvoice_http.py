"""Upstream CosyVoice's HTTP client, whose calls of `requests` are repeated here as they are."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
import requests
import soundfile
from hearing import Sound, assert_speech, longest_silence_s, raw, tones_hz
from servers import Server

TEXT = "收到好友从远方寄来的生日礼物，那份意外的惊喜与深深的祝福让我心中充满了甜蜜的快乐。"
PROMPT_TEXT = "希望你以后能够做的比我还好呦。"
INSTRUCTION = "用四川话说这句话<|endofprompt|>"
PAYLOADS = {
    "sft": {"tts_text": TEXT, "spk_id": "中文女"},
    "zero_shot": {"tts_text": TEXT, "prompt_text": PROMPT_TEXT},
    "cross_lingual": {"tts_text": TEXT},
    "instruct": {"tts_text": TEXT, "spk_id": "中文女", "instruct_text": INSTRUCTION},
    "instruct2": {"tts_text": TEXT, "instruct_text": INSTRUCTION},
}
WITH_FILE = ("zero_shot", "cross_lingual", "instruct2")


def works(feature: str) -> pytest.MarkDecorator:
    return pytest.mark.door("CosyVoice HTTP", client="requests", feature=feature)


def ask(
    server: Server, mode: str, prompt_wav: bytes, method: str = "GET", **changes: Any
) -> requests.Response:
    """The request of upstream's client."""
    url = f"{server.url}/inference_{mode}"
    payload = {**PAYLOADS[mode], **changes}
    if mode in WITH_FILE:
        files = [("prompt_wav", ("prompt_wav", BytesIO(prompt_wav), "application/octet-stream"))]
        return requests.request(method, url, data=payload, files=files, stream=True, timeout=30)
    return requests.request(method, url, data=payload, stream=True, timeout=30)


def heard(response: requests.Response, rate_hz: int) -> Sound:
    """What upstream's client makes of the answer."""
    tts_audio = b""
    for piece in response.iter_content(chunk_size=16000):
        tts_audio += piece
    return raw(tts_audio, rate_hz)


@pytest.fixture(scope="module")
def prompt_wav(shared_server: Server) -> bytes:
    """Somebody who speaks for some seconds."""
    body = {"model": "m", "voice": "alloy", "input": "A voice of one's own. " * 2, "response_format": "wav"}
    spoken = requests.post(f"{shared_server.url}/v1/audio/speech", json=body, timeout=30).content
    samples, rate_hz = soundfile.read(BytesIO(spoken))
    file = BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV")
    return file.getvalue()


@works("{mode}, {method}")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("mode", PAYLOADS)
def test_every_mode_speaks(server: Server, prompt_wav: bytes, mode: str, method: str) -> None:
    rate_hz = server.get("/v1/info")["sample_rate"]
    response = ask(server, mode, prompt_wav, method)
    assert response.status_code == 200
    sound = heard(response, rate_hz)
    assert_speech(sound, TEXT)
    assert longest_silence_s(sound) < 0.8


@works("cloned voice")
@pytest.mark.parametrize("mode", WITH_FILE)
def test_the_recording_decides_the_voice(
    scripted_server: Callable[..., Server], prompt_wav: bytes, mode: str
) -> None:
    server = scripted_server(clones=True)
    (tone_hz,) = tones_hz(heard(ask(server, mode, prompt_wav), 24000))
    assert tone_hz >= 1200  # a clone's; a voice of the script's own is lower


@works("fixed rate")
def test_the_operator_decides_the_rate(scripted_server: Callable[..., Server], prompt_wav: bytes) -> None:
    server = scripted_server("--cosyvoice-rate", "22050")
    sound = heard(ask(server, "sft", prompt_wav), 22050)
    assert len(tones_hz(sound)) == 1
    assert sound.seconds == pytest.approx(0.06 * len(TEXT), abs=0.01)


@works("streamed")
def test_the_first_samples_come_while_the_rest_is_being_made(
    scripted_server: Callable[..., Server], prompt_wav: bytes
) -> None:
    server = scripted_server(realtime_factor=1.0)
    response = ask(server, "sft", prompt_wav, tts_text=TEXT * 20)
    pieces = response.iter_content(chunk_size=16000)
    assert len(next(pieces)) > 0
    assert server.metrics()["cosyduplex_contexts"] == 1
    response.close()
    server.wait_until_idle(within_s=10)


@works("missing field refused")
@pytest.mark.parametrize("mode", PAYLOADS)
def test_what_is_missing_is_told_as_fastapi_tells_it(server: Server, prompt_wav: bytes, mode: str) -> None:
    response = ask(server, mode, prompt_wav, tts_text=None)
    assert response.status_code == 422
    assert [problem["loc"] for problem in response.json()["detail"]] == [["body", "tts_text"]]


@works("unknown voice refused")
def test_an_unknown_voice_is_refused(server: Server, prompt_wav: bytes) -> None:
    response = ask(server, "sft", prompt_wav, spk_id="nobody-at-all")
    assert (response.status_code, response.json()["error"]) == (404, "unknown_voice")
