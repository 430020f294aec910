"""Failures in the API's words."""

from __future__ import annotations

from typing import Any, Final

import orjson
from starlette.responses import Response

from cosyduplex.errors import ERROR_KINDS, ErrorCode
from cosyduplex_server.dialect import INTERNAL_ERROR, POLICY, Refusal
from cosyduplex_server.errors import Failure
from cosyduplex_server.routes import json_response

# The HTTP status and the API's own name.
_KINDS: Final = {
    ErrorCode.BAD_REQUEST: (422, "invalid_request"),
    ErrorCode.UNAUTHORIZED: (401, "invalid_api_key"),
    ErrorCode.FORBIDDEN_ORIGIN: (403, "forbidden_origin"),
    ErrorCode.UNKNOWN_VOICE: (400, "voice_not_found"),
    ErrorCode.UNSUPPORTED_FORMAT: (400, "invalid_output_format"),
    ErrorCode.TEXT_TOO_LONG: (400, "max_character_limit_exceeded"),
    ErrorCode.RATE_LIMITED: (429, "too_many_concurrent_requests"),
    ErrorCode.OVER_CAPACITY: (429, "system_busy"),
    ErrorCode.ENGINE_UNAVAILABLE: (503, "system_busy"),
    ErrorCode.TIMEOUT: (408, "request_timeout"),
}
_OUR_MISTAKE: Final = (500, "internal_server_error")
_ON_SOCKETS: Final = {
    ErrorCode.BAD_REQUEST: "invalid_input_message",
    ErrorCode.TIMEOUT: "input_timeout_exceeded",
}
# A close frame's reason has room for 123 bytes.
_MAX_REASON_CHARS: Final = 120


class EmptyText(Failure):
    """There is nothing to speak, which has a name of its own."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.BAD_REQUEST, "text is empty", "Send a text with something to speak.")


def socket_error(failure: Failure) -> dict[str, Any]:
    """The error message of a socket; the SDK raises it for its key `message`."""
    _, name = _kind(failure)
    return {
        "message": _sentence(failure),
        "error": _ON_SOCKETS.get(failure.code, name),
        "code": close_code(failure),
    }


def close_code(failure: Failure) -> int:
    """How a socket ends that ends with the failure."""
    status, _ = _kind(failure)
    return POLICY if status < 500 else INTERNAL_ERROR


def close_reason(failure: Failure) -> str:
    """What the SDK shows where it has overwritten the error message with its own next one."""
    return failure.message.encode("ascii", "replace").decode()[:_MAX_REASON_CHARS]


def refuse(failure: Failure) -> Response:
    """The failure as an HTTP answer."""
    status, _ = _kind(failure)
    return json_response(_detail(failure), status)


def refuse_upgrade(failure: Failure) -> Refusal:
    """The failure as a failed handshake."""
    status, _ = _kind(failure)
    return status, {"Content-Type": "application/json"}, orjson.dumps(_detail(failure))


def _detail(failure: Failure) -> dict[str, dict[str, str]]:
    _, name = _kind(failure)
    return {"detail": {"status": name, "message": _sentence(failure)}}


def _kind(failure: Failure) -> tuple[int, str]:
    if isinstance(failure, EmptyText):
        return 400, "input_text_empty"
    return _KINDS.get(failure.code, _OUR_MISTAKE)


def _sentence(failure: Failure) -> str:
    solution = failure.solution or ERROR_KINDS[failure.code].solution
    return f"{failure.message.rstrip('.')}. {solution}"
