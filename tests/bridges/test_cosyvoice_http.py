"""The five routes of upstream CosyVoice's HTTP server, as its own client and FastAPI have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
from bridges.conftest import Scripted
from bridges.http_calls import Answer, call, multipart, tone_hz, urlencoded
from voices.enrolment import RECORDING

TEXT = "收到好友从远方寄来的生日礼物"  # 14 characters of 60 ms each
FIELDS: dict[str, dict[str, str]] = {
    "sft": {"tts_text": TEXT, "spk_id": "中文女"},
    "zero_shot": {"tts_text": TEXT, "prompt_text": "希望你以后能够做的比我还好呦。"},
    "cross_lingual": {"tts_text": TEXT},
    "instruct": {"tts_text": TEXT, "spk_id": "中文女", "instruct_text": "用四川话说这句话"},
    "instruct2": {"tts_text": TEXT, "instruct_text": "用四川话说这句话<|endofprompt|>"},
}
WITH_FILE = ("zero_shot", "cross_lingual", "instruct2")
every_mode = pytest.mark.parametrize("mode", FIELDS)


def speak(
    server: Scripted,
    mode: str,
    fields: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    recording: bytes = RECORDING,
) -> Answer:
    """Calls a route as the client does: an upload where there is a recording, else a form."""
    fields = FIELDS[mode] if fields is None else fields
    form = multipart(fields, {"prompt_wav": recording}) if mode in WITH_FILE else urlencoded(fields)
    return call(server.port, method, f"/inference_{mode}", *form)


@every_mode
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_mode_speaks_raw_samples_by_either_method(common: Scripted, mode: str, method: str) -> None:
    answer = speak(common, mode, method=method)
    assert answer.status == 200
    assert "content-type" not in answer.headers
    assert len(answer.samples) == 14 * 60 * 24
    assert (tone_hz(answer.samples, 24000) >= 1200) == (mode in WITH_FILE)


@pytest.mark.parametrize("mode", ["sft", "instruct"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_fields_may_stand_in_the_query_or_in_an_upload(common: Scripted, mode: str, method: str) -> None:
    path = f"/inference_{mode}"
    assert call(common.port, method, f"{path}?{urlencode(FIELDS[mode])}").status == 200
    assert call(common.port, method, path, *multipart(FIELDS[mode])).status == 200


def test_the_rate_is_the_models_or_what_the_operator_says(share: Callable[..., Scripted]) -> None:
    assert len(speak(share(sample_rate_hz=16000), "sft").samples) == 14 * 60 * 16
    fixed = share("--cosyvoice-rate", "22050", clones=True)
    for mode in ("sft", "zero_shot"):
        assert len(speak(fixed, mode).samples) == pytest.approx(14 * 60 * 22.05, abs=2)


# --- what is said besides the text


@pytest.mark.parametrize("mode", ["instruct", "instruct2"])
@pytest.mark.parametrize(
    "instruction",
    [
        "用四川话说这句话",
        "用四川话说这句话<|endofprompt|>",
        "You are a helpful assistant. 用四川话说这句话<|endofprompt|>",
    ],
)
def test_an_instruction_reaches_the_engine_without_its_marks(
    common: Scripted, mode: str, instruction: str
) -> None:
    assert speak(common, mode, {**FIELDS[mode], "instruct_text": instruction}).status == 200
    assert common.spoken.last()["instruct"] == "用四川话说这句话"


def test_the_system_prompt_of_cosyvoice3s_examples_is_not_spoken(common: Scripted) -> None:
    prefix = "You are a helpful assistant.<|endofprompt|>"
    answer = speak(common, "cross_lingual", {"tts_text": prefix + TEXT})
    assert len(answer.samples) == 14 * 60 * 24
    assert common.spoken.last()["instruct"] == ""
    speak(common, "zero_shot", {"tts_text": TEXT, "prompt_text": prefix + "说的话。"})
    assert common.voices.last()["text"] == "说的话。"


def test_zero_shot_gives_the_transcript_and_the_others_none(common: Scripted) -> None:
    speak(common, "zero_shot", {"tts_text": TEXT, "prompt_text": "别的话。"})
    assert common.voices.last()["text"] == "别的话。"


# --- what is wrong


def missing(*names: str) -> list[dict[str, Any]]:
    return [
        {"type": "missing", "loc": ["body", name], "msg": "Field required", "input": None} for name in names
    ]


@every_mode
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_missing_is_told_as_fastapi_tells_it(common: Scripted, mode: str, method: str) -> None:
    names = [*FIELDS[mode], *(["prompt_wav"] if mode in WITH_FILE else [])]
    for form in ((), urlencoded({}), multipart({"unknown": "x"}), urlencoded(dict.fromkeys(names, ""))):
        answer = call(common.port, method, f"/inference_{mode}", *form)
        assert answer.status == 422
        told = answer.json["detail"]
        assert sorted(map(str, told)) == sorted(map(str, missing(*names)))


@pytest.mark.parametrize("mode", WITH_FILE)
def test_a_recording_must_be_a_file(common: Scripted, mode: str) -> None:
    fields = {**FIELDS[mode], "prompt_wav": "/etc/passwd"}
    answer = call(common.port, "POST", f"/inference_{mode}", *urlencoded(fields))
    assert answer.status == 422
    assert answer.json["detail"][0]["loc"] == ["body", "prompt_wav"]


def test_a_text_must_not_be_a_file(common: Scripted) -> None:
    form = multipart({"spk_id": "中文女"}, {"tts_text": b"text"})
    answer = call(common.port, "POST", "/inference_sft", *form)
    assert answer.status == 422
    assert answer.json["detail"][0]["type"] == "string_type"


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"tts_text": TEXT, "spk_id": "nobody"}, 404, "unknown_voice"),
        ({"tts_text": "x" * 100_001, "spk_id": "中文女"}, 413, "text_too_long"),
    ],
    ids=["voice", "text"],
)
def test_the_rest_is_a_detail_beside_this_servers_own(
    common: Scripted, fields: dict[str, str], status: int, code: str
) -> None:
    answer = speak(common, "sft", fields)
    assert (answer.status, answer.json["error"]) == (status, code)
    assert answer.json["detail"]
    assert answer.json["solution"]


@pytest.mark.parametrize("recording", [b"no sound at all", RECORDING[:100], bytes(1 << 20)])
def test_a_file_that_is_no_recording_is_refused(common: Scripted, recording: bytes) -> None:
    answer = speak(common, "cross_lingual", recording=recording)
    assert (answer.status, answer.json["error"]) == (400, "bad_reference_audio")


def test_a_recording_of_more_than_10_mib_is_refused(common: Scripted) -> None:
    answer = speak(common, "cross_lingual", recording=bytes(13 << 20))
    assert (answer.status, answer.json["error"]) == (400, "bad_reference_audio")


@pytest.mark.parametrize("body", [b"--b\r\n\r\nx\r\n--b--\r\n", b"--b", b"?", b""])
def test_a_broken_form_is_told(common: Scripted, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = call(common.port, "POST", "/inference_cross_lingual", body, headers)
    assert answer.status in (400, 422)
