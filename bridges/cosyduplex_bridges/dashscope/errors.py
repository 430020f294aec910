"""Failures as DashScope's clients know them."""

from __future__ import annotations

import uuid
from typing import Final

import orjson
from starlette.responses import Response

from cosyduplex.errors import ERROR_KINDS, ErrorCode
from cosyduplex_server.dialect import Refusal
from cosyduplex_server.errors import Failure
from cosyduplex_server.routes import json_response

_CODES: Final = {
    ErrorCode.UNAUTHORIZED: "InvalidApiKey",
    ErrorCode.FORBIDDEN_ORIGIN: "AccessDenied",
    ErrorCode.RATE_LIMITED: "Throttling.RateQuota",
    ErrorCode.OVER_CAPACITY: "Throttling.RateQuota",
    ErrorCode.ENGINE_UNAVAILABLE: "ServiceUnavailable",
    ErrorCode.ENGINE_FAILED: "InternalError",
    ErrorCode.TIMEOUT: "RequestTimeOut",
    ErrorCode.INTERNAL: "InternalError",
}
# What the client can mend is InvalidParameter there, a voice that does not exist among it.
_USERS_MISTAKE: Final = "InvalidParameter"


def new_request_id() -> str:
    """The id of one request."""
    return str(uuid.uuid4())


def error_code(failure: Failure) -> str:
    """The vendor's name for what happened."""
    return _CODES.get(failure.code, _USERS_MISTAKE)


def error_message(failure: Failure) -> str:
    """What happened and what to do; the vendor's errors have one text for both."""
    return f"{failure.message.rstrip('.')}. {failure.solution or ERROR_KINDS[failure.code].solution}"


def error_body(failure: Failure) -> dict[str, str]:
    """The body of a failed request."""
    return {
        "code": error_code(failure),
        "message": error_message(failure),
        "request_id": new_request_id(),
    }


def http_status(failure: Failure) -> int:
    """The status of a failed request; 400 for what is InvalidParameter, as the vendor's."""
    if error_code(failure) == _USERS_MISTAKE:
        return 400
    if error_code(failure) == "Throttling.RateQuota":
        return 429
    return ERROR_KINDS[failure.code].http_status


def refuse(failure: Failure) -> Response:
    """A failed HTTP request."""
    return json_response(error_body(failure), http_status(failure))


def refuse_handshake(failure: Failure) -> Refusal:
    """A failed upgrade."""
    return (
        http_status(failure),
        {"Content-Type": "application/json"},
        orjson.dumps(error_body(failure)),
    )
