"""Aura: the socket `/v1/speak`, whose audio is in order and untagged, and its HTTP sibling."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from cosyduplex.errors import ERROR_KINDS, ErrorCode, RemoteProtocolError
from cosyduplex.wire import load_json
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.deepgram.settings import DOOR, read_settings
from cosyduplex_bridges.deepgram.turns import Turn, TurnDialect, text_of
from cosyduplex_server.access import Principal
from cosyduplex_server.dialect import DialectSession, Refusal, Socket, SocketDoor, Upgrade
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import (
    MAX_TEXT_BODY_BYTES,
    Door,
    SpeechResponse,
    json_response,
    read_body,
)
from cosyduplex_server.schema import Operation


class Aura(TurnDialect):
    """One connection of `/v1/speak`."""

    _sequence_id = 0

    def greet(self) -> None:
        """Sends `Metadata`."""
        self.session.send(
            {
                "type": "Metadata",
                "request_id": self.request_id,
                "model_name": self.settings.model,
                "model_version": self.bridge.gateway.engine_name,
                "model_uuid": _model_uuid(self.settings.model),
                "additional_model_uuids": [],
            }
        )

    def receive(self, message: dict[str, Any]) -> None:
        """Obeys a message; `Clear` is answered at once, and no `Flush` before it any more."""
        match message.get("type"):
            case "Speak":
                if text := text_of(message):
                    self.speak(text)
            case "Flush":
                self.flush()
            case "Clear":
                self.drop_turns()
                self._answer("Cleared")
            case "Close":
                self.close_when_done()
            case _:
                self.warn("INVALID_MESSAGE", "a message's type is Speak, Flush, Clear or Close")

    def done(self, turn: Turn) -> None:
        """Answers the flush that ended it; frameworks take the first `Flushed` for the end of their turn."""
        if not turn.unasked:
            self._answer("Flushed")

    def warn(self, code: str, description: str) -> None:
        """Sends a `Warning`: older SDKs and LiveKit read the longer names."""
        self.session.send(
            {
                "type": "Warning",
                "code": code,
                "description": description,
                "warn_code": code,
                "warn_msg": description,
            }
        )

    def fail(self, failure: Failure) -> None:
        """Warns of a message that was not taken; tells of anything worse, before the close says so, too."""
        if failure.code in (ErrorCode.BAD_REQUEST, ErrorCode.TEXT_TOO_LONG):
            self.warn(str(failure.code).upper(), failure.message)
            return
        solution = failure.solution or ERROR_KINDS[failure.code].solution
        self.session.send(
            {
                "type": "Error",
                "code": str(failure.code).upper(),
                "description": f"{failure.message}. {solution}",
                "message": failure.message,
            }
        )

    def _answer(self, name: str) -> None:
        self.session.send({"type": name, "sequence_id": self._sequence_id})
        self._sequence_id += 1


def _model_uuid(model: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"cosyduplex:{model}"))


def socket_door(bridge: Bridge) -> SocketDoor:
    """The place of the socket."""

    def open_session(
        gateway: Gateway, socket: Socket, upgrade: Upgrade, principal: Principal | None
    ) -> DialectSession:
        settings = read_settings(bridge, upgrade.query, rest=False)
        dialect = partial(Aura, bridge=bridge, settings=settings)
        return DialectSession(gateway, socket, DOOR, upgrade, principal, dialect)

    return SocketDoor(DOOR, "/v1/speak", open_session, refuse=refuse_upgrade)


def refuse_upgrade(failure: Failure) -> Refusal:
    """A failed handshake, with what is wrong in a header as well."""
    status, _ = failure.as_http()
    request_id = str(uuid.uuid4())
    headers = {
        "Content-Type": "application/json",
        "dg-request-id": request_id,
        "dg-error": failure.message.encode("ascii", "replace").decode(),
    }
    return 400 if status == 404 else status, headers, orjson.dumps(_error_body(failure, request_id))


def _error_body(failure: Failure, request_id: str) -> dict[str, str]:
    solution = failure.solution or ERROR_KINDS[failure.code].solution
    return {
        "err_code": str(failure.code).upper(),
        "err_msg": f"{failure.message}. {solution}",
        "request_id": request_id,
    }


# --- HTTP --------------------------------------------------------------------------------------------


def http_door(bridge: Bridge) -> Door:
    """`POST /v1/speak`."""

    async def speak(gateway: Gateway, request: Request) -> Response:
        settings = read_settings(bridge, request.query_params, rest=True)
        text = _body_text(await read_body(request, MAX_TEXT_BODY_BYTES))
        encoder = settings.encoder()
        utterance = gateway.open_utterance(DOOR, settings.options(bridge, paced=False))
        headers = {
            "dg-request-id": str(uuid.uuid4()),
            "dg-model-name": settings.model,
            "dg-model-uuid": _model_uuid(settings.model),
            "dg-char-count": str(len(text)),
        }
        answer = SpeechResponse(
            utterance,
            bridge.audio(utterance, encoder),
            media_type=encoder.media_type,
            headers=headers,
            refuse=_refuse,
        )
        try:
            utterance.append(text)
            utterance.end()
        except Failure:
            utterance.close()
            raise
        return answer

    operation = Operation(
        method="POST", path="/v1/speak", summary="Deepgram: speaks a text", media_type="audio/mpeg"
    )
    return Door(DOOR, operation, speak, refuse=_refuse, scope="speak")


def _body_text(body: bytes) -> str:
    try:
        message = load_json(body)
    except RemoteProtocolError:
        message = None
    text = message.get("text") if isinstance(message, dict) else None
    if not isinstance(text, str):
        raise Failure(ErrorCode.BAD_REQUEST, 'the body must be JSON with a "text" that is a string')
    return text


def _refuse(failure: Failure) -> Response:
    status, _ = failure.as_http()
    request_id = str(uuid.uuid4())
    return json_response(_error_body(failure, request_id), 400 if status == 404 else status)
