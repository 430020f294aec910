"""`POST /api/v1/services/audio/tts/SpeechSynthesizer`: a text, as events or as a file to be fetched."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from cosyduplex.containers import WavWriter
from cosyduplex.errors import RemoteProtocolError
from cosyduplex.wire import load_json
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Codec
from cosyduplex_bridges.dashscope.duplex import result_of
from cosyduplex_bridges.dashscope.errors import error_body, http_status, new_request_id, refuse
from cosyduplex_bridges.dashscope.fields import Fields, bad_field
from cosyduplex_bridges.dashscope.parameters import DOOR, Wanted, read_parameters, without_tags
from cosyduplex_bridges.dashscope.sentences import Narration, SentenceAudio
from cosyduplex_bridges.files import file_url
from cosyduplex_bridges.results import LIFETIME_S
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import MAX_TEXT_BODY_BYTES, Door, SpeechResponse, read_body
from cosyduplex_server.schema import Operation

_WAV_HEADER_BYTES: Final = 44
PATH: Final = "/api/v1/services/audio/tts/SpeechSynthesizer"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechInput:
    """What is spoken, and how."""

    text: str
    voice: str
    format: str = "mp3"
    sample_rate: int = 22050
    volume: int = 50
    rate: float = 1.0
    pitch: float = 1.0
    bit_rate: int = 32
    seed: int = 0
    instruction: str = ""
    language_hints: list[str] | None = None
    enable_ssml: bool = False
    word_timestamp_enabled: bool = False
    enable_markdown_filter: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechRequest:
    """A DashScope request; with the header `X-DashScope-SSE: enable` the answer is a stream of events."""

    model: str
    input: SpeechInput


def door(bridge: Bridge) -> Door:
    """The route."""

    async def answer(gateway: Gateway, request: Request) -> Response:
        fields = Fields(read_json(await read_body(request, MAX_TEXT_BODY_BYTES)), "body")
        given = fields.part("parameters").merged(fields.part("input"))
        wanted = read_parameters(bridge, given, 0)
        text = given.required_text("text")
        if not text.strip():
            raise bad_field("input.text is empty")
        if wanted.takes_ssml and (plain := without_tags(text)) is not None:
            text = plain
        encoder = wanted.audio.encoder()
        utterance = gateway.open_utterance(DOOR, wanted.options)
        utterance.warnings.extend(wanted.ignored)
        narration = Narration(bridge, utterance, encoder, word_times=wanted.word_times)
        try:
            narration.append(text)
            narration.end()
        except Failure:
            utterance.close()
            raise
        streams = request.headers.get("x-dashscope-sse", "").lower() == "enable"
        speech = _Speech(bridge, request, wanted, narration, encoder.media_type)
        return SpeechResponse(
            utterance,
            speech.as_events() if streams else speech.as_file(),
            media_type="text/event-stream" if streams else "application/json",
            headers={"cache-control": "no-cache"},
            refuse=refuse,
        )

    operation = Operation(
        method="POST",
        path=PATH,
        summary="DashScope: speaks a text, as events or as a file to be fetched",
        body=SpeechRequest,
    )
    return Door(DOOR, operation, answer, refuse, scope="speak")


def read_json(body: bytes) -> Any:
    """The body of a request.

    Raises:
        Failure: it is not JSON.
    """
    try:
        return load_json(body)
    except RemoteProtocolError:
        raise bad_field("the body must be JSON in UTF-8") from None


class _Speech:
    """One answer."""

    def __init__(
        self, bridge: Bridge, request: Request, wanted: Wanted, narration: Narration, media_type: str
    ) -> None:
        self._bridge = bridge
        self._request = request
        self._wanted = wanted
        self._narration = narration
        self._media_type = media_type
        self._request_id = new_request_id()
        self._num_events = 0

    async def as_file(self) -> AsyncIterator[bytes]:
        """One piece: the JSON that says where the audio is."""
        audio = b"".join(
            [part.data async for part in self._narration.parts() if isinstance(part, SentenceAudio)]
        )
        body = self._result({"finish_reason": "stop", "audio": self._keep(audio)})
        yield orjson.dumps(body)

    async def as_events(self) -> AsyncIterator[bytes]:
        """Events as the audio is made, then one that says where to fetch it again."""
        audio = bytearray()
        try:
            async for part in self._narration.parts():
                body = result_of(part)
                output = body["output"] | {"finish_reason": "null"}
                if isinstance(part, SentenceAudio):
                    audio += part.data
                    output["audio"] = {"data": base64.b64encode(part.data).decode()}
                yield self._event("result", 200, self._result(output))
            # Without a type: dashscope 2.0.2 takes one that begins with "sentence-" for no end.
            kept = {"data": "", **self._keep(bytes(audio))}
            yield self._event("result", 200, self._result({"finish_reason": "stop", "audio": kept}))
        except Failure as failure:
            if not self._num_events:
                raise
            body = error_body(failure) | {"request_id": self._request_id}
            yield self._event("error", http_status(failure), body)

    def _result(self, output: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "output": output,
            "usage": {"characters": self._narration.characters},
            "request_id": self._request_id,
        }

    def _event(self, kind: str, status: int, body: Mapping[str, Any]) -> bytes:
        """One event. dashscope 2.0.2 knows `event:error` in this spelling alone, with no space."""
        self._num_events += 1
        head = f"id:{self._num_events}\nevent:{kind}\n:HTTP_STATUS/{status}\n"
        status_line = f"status:{status}\n" if kind == "error" else ""
        return head.encode() + status_line.encode() + b"data:" + orjson.dumps(body) + b"\n\n"

    def _keep(self, audio: bytes) -> dict[str, Any]:
        """Where the audio can be fetched."""
        if self._wanted.audio.codec is Codec.WAV:
            audio = _with_lengths(audio, self._wanted.audio.sample_rate_hz)
        result_id = self._bridge.results.put(audio, self._media_type)
        return {
            "url": file_url(self._request, result_id),
            "id": f"audio_{self._request_id}",
            "expires_at": int(time.time() + LIFETIME_S),
        }


def _with_lengths(wav: bytes, sample_rate_hz: int) -> bytes:
    """A WAV that was streamed, with the lengths that are known now."""
    file = io.BytesIO()
    with WavWriter(file, sample_rate_hz) as writer:
        writer.write(wav[_WAV_HEADER_BYTES:])
    return file.getvalue()
