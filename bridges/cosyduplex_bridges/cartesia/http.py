"""`POST /tts/bytes` and `POST /tts/sse`: a whole transcript, its audio as it is made."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from cosyduplex.errors import ErrorCode, RemoteProtocolError
from cosyduplex.messages import Marks
from cosyduplex.wire import load_json
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.cartesia.request import (
    DOOR,
    Generation,
    error_body,
    read_generation,
    transcript_of,
)
from cosyduplex_bridges.timings import timed_words
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import (
    MAX_TEXT_BODY_BYTES,
    Door,
    Handler,
    SpeechResponse,
    json_response,
    read_body,
)
from cosyduplex_server.schema import Operation
from cosyduplex_server.utterance import Utterance


def http_doors(bridge: Bridge) -> tuple[Door, ...]:
    """Both routes."""

    async def speak_bytes(gateway: Gateway, request: Request) -> Response:
        generation, transcript, _ = await _read(bridge, request)
        utterance = _begin(gateway, generation, transcript)
        encoder = generation.encoder()
        body = bridge.audio(utterance, encoder)
        return SpeechResponse(utterance, body, media_type=encoder.media_type, refuse=_refuse)

    async def speak_events(gateway: Gateway, request: Request) -> Response:
        generation, transcript, context_id = await _read(bridge, request)
        utterance = _begin(gateway, generation, transcript)
        body = _events(bridge, utterance, generation, transcript, context_id)
        return SpeechResponse(utterance, body, media_type="text/event-stream", refuse=_refuse)

    return (
        _door("/tts/bytes", "Cartesia: audio", "application/octet-stream", speak_bytes),
        _door("/tts/sse", "Cartesia: events", "text/event-stream", speak_events),
    )


def _door(path: str, summary: str, media_type: str, handler: Handler) -> Door:
    operation = Operation(method="POST", path=path, summary=summary, media_type=media_type)
    return Door(
        DOOR,
        operation,
        handler,
        refuse=_refuse,
        scope="speak",
        query_credentials=("api_key", "access_token"),
    )


async def _read(bridge: Bridge, request: Request) -> tuple[Generation, str, str | None]:
    try:
        message = load_json(await read_body(request, MAX_TEXT_BODY_BYTES))
    except RemoteProtocolError as error:
        raise Failure(ErrorCode.BAD_REQUEST, str(error)) from None
    if not isinstance(message, dict):
        raise Failure(ErrorCode.BAD_REQUEST, "the body must be a JSON object")
    context_id = message.get("context_id")
    return (
        read_generation(bridge, message, socket=False),
        transcript_of(message),
        context_id.encode("utf-8", "replace").decode() if isinstance(context_id, str) else None,
    )


def _begin(gateway: Gateway, generation: Generation, transcript: str) -> Utterance:
    utterance = gateway.open_utterance(DOOR, generation.options)
    utterance.warnings.extend(generation.ignored)
    try:
        utterance.append(transcript)
    except Failure:
        utterance.close()
        raise
    utterance.end()
    return utterance


async def _events(
    bridge: Bridge, utterance: Utterance, generation: Generation, transcript: str, context_id: str | None
) -> AsyncIterator[bytes]:
    common: dict[str, Any] = {} if context_id is None else {"context_id": context_id}
    sounded = False
    try:
        async for event in bridge.events(utterance, generation.encoder()):
            if isinstance(event, bytes):
                sounded = True
                data = base64.b64encode(event).decode()
                chunk = {"data": data, "step_time": 0.0}
                yield _event("chunk", {**common, **chunk, "status_code": 206, "done": False})
            elif isinstance(event, Marks):
                words = timed_words(transcript, event.words)
                times = {
                    "words": [word.text.encode("utf-8", "replace").decode() for word in words],
                    "start": [word.start_ms / 1000 for word in words],
                    "end": [word.end_ms / 1000 for word in words],
                }
                fields = {"word_timestamps": times, "status_code": 206, "done": False}
                yield _event("timestamps", {**common, **fields})
    except Failure as failure:
        if not sounded:
            raise
        _, body = error_body(failure)
        yield _event("error", {**common, **body, "error": body["message"], "done": True})
        return
    yield _event("done", {**common, "status_code": 200, "done": True})


def _event(name: str, fields: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps({"type": name, **fields}))


def _refuse(failure: Failure) -> Response:
    status, body = error_body(failure)
    return json_response({**body, "request_id": str(uuid.uuid4())}, status)
