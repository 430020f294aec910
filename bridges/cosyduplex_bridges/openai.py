"""OpenAI's `POST /v1/audio/speech`, with what self-hosted servers of the same shape take besides."""

from __future__ import annotations

import base64
import math
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response

from cosyduplex.errors import ERROR_KINDS, ErrorCode
from cosyduplex.messages import AudioOptions, SpeechOptions
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Codec
from cosyduplex_bridges.forms import FieldFailure, Fields, read_object, wrong
from cosyduplex_bridges.one_shot import Wanted, speak
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import Door, json_response
from cosyduplex_server.schema import Operation
from cosyduplex_server.utterance import Utterance, UtteranceOptions

_DOOR: Final = "openai"
_PATH: Final = "/v1/audio/speech"
# What OpenAI's `pcm` is, and all that its clients expect of the others.
_RATE_HZ: Final = 24000
_CODECS: Final = {
    "mp3": Codec.MP3,
    "opus": Codec.OPUS,
    "aac": Codec.AAC,
    "flac": Codec.FLAC,
    "wav": Codec.WAV,
    "pcm": Codec.PCM,
}
_LOW_SPEED, _HIGH_SPEED = 0.5, 2.0  # what an engine speaks
_MAX_INSTRUCTIONS: Final = 2000
_SPEECH_TOKENS_PER_S: Final = 25
# Which field a failure is about, where whoever found it did not know of fields.
_FIELD_OF: Final = {
    ErrorCode.UNKNOWN_VOICE: "voice",
    ErrorCode.TEXT_TOO_LONG: "input",
    ErrorCode.UNSUPPORTED_FORMAT: "response_format",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceObject:
    """A voice by its id."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechRequest:
    """What is to be spoken and how; `model` may be anything, one model speaks."""

    input: str
    voice: str | VoiceObject
    model: str | None = None
    instructions: str | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float = 1.0
    stream_format: Literal["audio", "sse"] = "audio"
    stream: bool = True
    language: str | None = None
    seed: int | None = None


def http_doors(bridge: Bridge) -> tuple[Door, ...]:
    """The door `openai`."""

    async def answer(gateway: Gateway, request: Request) -> Response:
        return _speak(bridge, await read_object(gateway, request, recording=False))

    operation = Operation(
        method="POST",
        path=_PATH,
        summary="Speaks a text, as OpenAI does",
        body=SpeechRequest,
        media_type="audio/mpeg",
    )
    return (Door(_DOOR, operation, answer, _refuse, scope="speak"),)


def _speak(bridge: Bridge, fields: Fields) -> Response:
    fields.text("model")
    text = fields.required_text("input")
    codec = _CODECS[fields.choice("response_format", tuple(_CODECS), "mp3")]
    as_events = fields.choice("stream_format", ("audio", "sse"), "audio") == "sse"
    speed = fields.number("speed", 0.25, 4.0)
    spoken_speed = None if speed is None else min(max(speed, _LOW_SPEED), _HIGH_SPEED)
    notes = []
    if spoken_speed != speed:
        notes.append(f"speed {speed:g} is spoken as {spoken_speed:g}: from 0.5 to 2 is possible")
    instructions = fields.text("instructions") or None
    if instructions is not None and len(instructions) > _MAX_INSTRUCTIONS:
        raise wrong("instructions", f"may have {_MAX_INSTRUCTIONS} characters at most")
    wanted = Wanted(
        door=_DOOR,
        text=text,
        options=UtteranceOptions(
            voice=bridge.voice(_DOOR, _voice_name(fields)),
            language=fields.text("language"),
            speech=SpeechOptions(speed=spoken_speed, instruct=instructions, seed=_seed(fields)),
            audio=AudioOptions(encoding="pcm_s16le", sample_rate=_RATE_HZ),
        ),
        codec=codec,
        media_type="text/event-stream" if as_events else "",
        headers={"x-request-id": _request_id(), **({"cache-control": "no-cache"} if as_events else {})},
        notes=notes,
        whole=not as_events and not fields.flag("stream", True),
        refuse=_refuse,
    )
    return speak(bridge, wanted, body=_events if as_events else None)


def _voice_name(fields: Fields) -> str:
    """The name in `voice`, a string or an object with an id; vLLM-Omni's clients may call it `speaker`.

    Raises:
        FieldFailure: there is none.
    """
    voice = fields.get("voice")
    if voice is None:
        voice = fields.get("speaker")
    if isinstance(voice, dict):
        voice = voice.get("id")
    if not isinstance(voice, str) or not voice:
        raise wrong("voice", "must be the name of a voice, or an object with its id")
    return voice


def _seed(fields: Fields) -> int | None:
    seed = fields.number("seed", 0, 2**53 - 1)
    return None if seed is None else int(seed)


def _request_id() -> str:
    return f"req_{secrets.token_hex(16)}"


# --- server-sent events ------------------------------------------------------------------------------


async def _events(utterance: Utterance, audio: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The audio as events, and the usage: a token in is a character, out it is 40 ms of speech.

    Raises:
        Failure: it ended before any audio. A later end is told by an event as well, before the connection
            is broken off.
    """
    has_begun = False
    try:
        async for data in audio:
            has_begun = True
            yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
    except Failure as failure:
        if has_begun:
            yield _event({"type": "speech.audio.error", "error": _error(failure)})
        raise
    num_in = utterance.num_chars
    num_out = math.ceil(utterance.sent_ms * _SPEECH_TOKENS_PER_S / 1000)
    usage = {"input_tokens": num_in, "output_tokens": num_out, "total_tokens": num_in + num_out}
    yield _event({"type": "speech.audio.done", "usage": usage})


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


# --- failures ----------------------------------------------------------------------------------------


def _refuse(failure: Failure) -> Response:
    status = ERROR_KINDS[failure.code].http_status
    if status in (404, 413):  # OpenAI says of what a field holds that the request is bad
        status = 400
    headers = {"x-request-id": _request_id()}
    if failure.retry_after_ms is not None:
        headers["retry-after-ms"] = str(failure.retry_after_ms)
        headers["retry-after"] = str(math.ceil(failure.retry_after_ms / 1000))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return json_response({"error": _error(failure)}, status, headers)


def _error(failure: Failure) -> dict[str, str | None]:
    kind = ERROR_KINDS[failure.code]
    code = "invalid_api_key" if failure.code is ErrorCode.UNAUTHORIZED else str(failure.code)
    return {
        "message": f"{failure.message}. {failure.solution or kind.solution}",
        "type": "server_error" if kind.http_status >= 500 else "invalid_request_error",
        "param": failure.name if isinstance(failure, FieldFailure) else _FIELD_OF.get(failure.code),
        "code": code,
    }
