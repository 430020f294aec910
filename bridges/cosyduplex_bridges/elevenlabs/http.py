"""The HTTP routes: a whole text, its audio as it is made, with the times of its characters or without."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from cosyduplex.errors import ErrorCode, RemoteProtocolError
from cosyduplex.wire import load_json
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Encoder
from cosyduplex_bridges.elevenlabs.alignment import Alignment
from cosyduplex_bridges.elevenlabs.errors import EmptyText, refuse
from cosyduplex_bridges.elevenlabs.settings import DOOR, Settings, read_settings, read_voice_settings
from cosyduplex_bridges.elevenlabs.speech import Piece, Speech
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import MAX_TEXT_BODY_BYTES, Door, SpeechResponse, read_body
from cosyduplex_server.schema import Operation

_PATH = "/v1/text-to-speech/{voice_id}"
_NDJSON = "application/x-ndjson"

_Body = Callable[[Speech], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceSettings:
    """How the voice speaks; of these `speed` alone has an effect."""

    stability: float | None = None
    similarity_boost: float | None = None
    style: float | None = None
    use_speaker_boost: bool | None = None
    speed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextToSpeech:
    """A text and how it is spoken; `output_format` is in the query."""

    text: str
    model_id: str | None = None
    language_code: str | None = None
    voice_settings: VoiceSettings | None = None
    seed: int | None = None
    apply_text_normalization: str | None = None


@dataclass(frozen=True, slots=True)
class _Route:
    """One of the four.

    Attributes:
        suffix: of the path.
        media_type: of the answer; None is the audio's own.
        whole: nothing is sent before all of it is made.
    """

    suffix: str
    summary: str
    body: _Body
    media_type: str | None = None
    whole: bool = False


def http_doors(bridge: Bridge) -> tuple[Door, ...]:
    """All four routes."""
    routes = (
        _Route("", "ElevenLabs: speaks a text", _audio),
        _Route("/stream", "ElevenLabs: speaks a text as it is made", _audio),
        _Route(
            "/with-timestamps",
            "ElevenLabs: audio, and the times of its characters",
            _timed_whole,
            "application/json",
            whole=True,
        ),
        _Route(
            "/stream/with-timestamps",
            "ElevenLabs: audio as it is made, and the times of its characters",
            _timed_lines,
            _NDJSON,
        ),
    )
    return tuple(_door(bridge, route) for route in routes)


def _door(bridge: Bridge, route: _Route) -> Door:
    async def answer(gateway: Gateway, request: Request) -> Response:
        return await _speak(bridge, route, request)

    operation = Operation(
        method="POST",
        path=_PATH + route.suffix,
        summary=route.summary,
        body=TextToSpeech,
        media_type=route.media_type or "audio/mpeg",
    )
    return Door(DOOR, operation, answer, refuse=refuse, scope="speak")


async def _speak(bridge: Bridge, route: _Route, request: Request) -> Response:
    message = _object(await read_body(request, MAX_TEXT_BODY_BYTES))
    fields = {**request.query_params, **message}
    settings = read_settings(bridge, request.path_params["voice_id"], fields)
    speed, notes = read_voice_settings(message.get("voice_settings"))
    text = _text_of(message)
    encoder = settings.encoder()
    speech = _begin(bridge, settings, encoder, speed, text, marks=route.media_type is not None)
    speech.utterance.warnings.extend((*settings.ignored, *notes))
    return SpeechResponse(
        speech.utterance,
        route.body(speech),
        media_type=route.media_type or encoder.media_type,
        headers={"request-id": str(uuid.uuid4()), "character-cost": str(len(text))},
        refuse=refuse,
        whole=route.whole,
    )


def _begin(
    bridge: Bridge, settings: Settings, encoder: Encoder, speed: float | None, text: str, *, marks: bool
) -> Speech:
    utterance = bridge.gateway.open_utterance(DOOR, settings.options(bridge, speed, paced=False, marks=marks))
    speech = Speech(bridge, utterance, encoder)
    try:
        speech.append(text)
    except Failure:
        utterance.close()
        raise
    speech.end()
    return speech


def _object(body: bytes) -> dict[str, Any]:
    try:
        message = load_json(body)
    except RemoteProtocolError:
        message = None
    if not isinstance(message, dict):
        raise Failure(ErrorCode.BAD_REQUEST, "the body must be a JSON object")
    return message


def _text_of(message: dict[str, Any]) -> str:
    text = message.get("text")
    if not isinstance(text, str):
        raise Failure(ErrorCode.BAD_REQUEST, 'the body needs a "text" that is a string')
    if not text.strip():
        raise EmptyText
    return text


# --- bodies ------------------------------------------------------------------------------------------


async def _audio(speech: Speech) -> AsyncIterator[bytes]:
    async for item in speech.pieces():
        if isinstance(item, Piece) and item.audio:
            yield item.audio


async def _timed_lines(speech: Speech) -> AsyncIterator[bytes]:
    async for item in speech.pieces():
        if isinstance(item, Piece):
            yield orjson.dumps(_timed(item.audio, item.alignment)) + b"\n"


async def _timed_whole(speech: Speech) -> AsyncIterator[bytes]:
    audio, alignments = bytearray(), []
    async for item in speech.pieces():
        if isinstance(item, Piece):
            audio += item.audio
            if item.alignment is not None:
                alignments.append(item.alignment)
    yield orjson.dumps(_timed(bytes(audio), Alignment.joined(alignments)))


def _timed(audio: bytes, alignment: Alignment | None) -> dict[str, Any]:
    times = None if alignment is None else alignment.of_whole()
    return {
        "audio_base64": base64.b64encode(audio).decode(),
        "alignment": times,
        "normalized_alignment": times,
    }
