"""The five HTTP routes of upstream CosyVoice's server, for its own client."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import AudioOptions, SpeechOptions
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.emotions import split_prompt
from cosyduplex_bridges.forms import Fields, read_fields
from cosyduplex_bridges.one_shot import Wanted, engine_audio, speak, voice_of_recording
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import Door, json_response
from cosyduplex_server.schema import Operation
from cosyduplex_server.utterance import UtteranceOptions

_DOOR: Final = "cosyvoice"
_FILE: Final = "prompt_wav"
_TEXT_TYPE, _FILE_TYPE, _MISSING = "string_type", "value_error", "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class SftForm:
    """With a voice of this server."""

    tts_text: str
    spk_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShotForm:
    """As in a recording, of which `prompt_text` is what it says."""

    tts_text: str
    prompt_text: str
    prompt_wav: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossLingualForm:
    """With the timbre of a recording, in any language."""

    tts_text: str
    prompt_wav: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructForm:
    """With a voice of this server, as `instruct_text` says."""

    tts_text: str
    spk_id: str
    instruct_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruct2Form:
    """With the timbre of a recording, as `instruct_text` says."""

    tts_text: str
    instruct_text: str
    prompt_wav: bytes


_ROUTES: Final[dict[str, Any]] = {
    "/inference_sft": SftForm,
    "/inference_zero_shot": ZeroShotForm,
    "/inference_cross_lingual": CrossLingualForm,
    "/inference_instruct": InstructForm,
    "/inference_instruct2": Instruct2Form,
}


@dataclass(eq=False)
class _FieldsFailure(Failure):
    """A failure for some fields, each with the type of its error as FastAPI names it."""

    problems: dict[str, str] = field(default_factory=dict, kw_only=True)


def http_doors(bridge: Bridge) -> tuple[Door, ...]:
    """The door `cosyvoice`, of HTTP. Upstream's client sends its forms with GET."""
    return tuple(
        Door(
            _DOOR,
            Operation(
                method=method,
                path=path,
                summary=f"Speaks a text, as upstream CosyVoice does ({path.removeprefix('/inference_')})",
                body=form,
                body_type="multipart/form-data",
                media_type="application/octet-stream",
            ),
            partial(_answer, bridge, tuple(form.__dataclass_fields__)),
            _refuse,
            scope="speak",
        )
        for path, form in _ROUTES.items()
        for method in ("GET", "POST")
    )


async def _answer(bridge: Bridge, names: tuple[str, ...], gateway: Gateway, request: Request) -> Response:
    fields = await read_fields(gateway, request, recording=_FILE in names)
    _check(fields, names)
    prompt, text = split_prompt(fields.values["tts_text"])
    instruction = prompt
    if "instruct_text" in names:
        instruction = _own_instruction(fields.values["instruct_text"])
    async with AsyncExitStack() as resources:
        if _FILE in names:
            said = split_prompt(fields.values["prompt_text"])[1] if "prompt_text" in names else ""
            voice: str | None = await voice_of_recording(gateway, resources, fields.values[_FILE], said)
        else:
            voice = bridge.voice(_DOOR, fields.values["spk_id"])
        wanted = Wanted(
            door=_DOOR,
            text=text,
            options=UtteranceOptions(
                voice=voice, speech=SpeechOptions(instruct=instruction or None), audio=_audio(gateway)
            ),
            media_type=None,  # as upstream
            refuse=_refuse,
        )
        return speak(bridge, wanted, resources)


def _own_instruction(text: str) -> str:
    """The instruction without the marks of CosyVoice3's examples."""
    before, behind = split_prompt(text)
    return before or behind


def _audio(gateway: Gateway) -> AudioOptions:
    """What the client plays its raw samples at, which it cannot be told."""
    rate_hz = gateway.config.cosyvoice_rate
    return AudioOptions(encoding="pcm_s16le", sample_rate=rate_hz) if rate_hz else engine_audio(gateway)


def _check(fields: Fields, names: tuple[str, ...]) -> None:
    """Raises `_FieldsFailure` for everything that is missing or is no text where text belongs."""
    problems = {}
    for name in names:
        value = fields.get(name)
        if value is None or value == "":  # FastAPI does not tell them apart in a form
            problems[name] = _MISSING
        elif isinstance(value, bytes) != (name == _FILE) or not isinstance(value, str | bytes):
            problems[name] = _FILE_TYPE if name == _FILE else _TEXT_TYPE
    if problems:
        message = f"missing or of the wrong type: {', '.join(problems)}"
        raise _FieldsFailure(ErrorCode.BAD_REQUEST, message, problems=problems)


# --- failures ----------------------------------------------------------------------------------------

_SAYS: Final = {
    _MISSING: "Field required",
    _TEXT_TYPE: "Input should be a valid string",
    _FILE_TYPE: "Value error, Expected UploadFile, received: <class 'str'>",
}


def _refuse(failure: Failure) -> Response:
    """FastAPI's own answer for fields; for the rest its `detail` beside this server's own."""
    if isinstance(failure, _FieldsFailure):
        detail = [
            {"type": problem, "loc": ["body", name], "msg": _SAYS[problem], "input": None}
            for name, problem in failure.problems.items()
        ]
        return json_response({"detail": detail}, 422)
    status, body = failure.as_http()
    return json_response({"detail": failure.message, **body}, status)
