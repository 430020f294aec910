"""What can go wrong, each with its code: one table serves every door.

Two kinds of misbehaviour are different types (after h11): `LocalProtocolError` is our own mistake and
raised before anything reaches the wire; `RemoteProtocolError` is the peer's and carries what to tell it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ErrorCode(StrEnum):
    """The codes a client may meet, on any door."""

    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN_ORIGIN = "forbidden_origin"
    UNKNOWN_VOICE = "unknown_voice"
    UNSUPPORTED_FORMAT = "unsupported_format"
    UNSUPPORTED_PARAMETER = "unsupported_parameter"
    TEXT_TOO_LONG = "text_too_long"
    BAD_REFERENCE_AUDIO = "bad_reference_audio"
    RATE_LIMITED = "rate_limited"
    OVER_CAPACITY = "over_capacity"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    ENGINE_FAILED = "engine_failed"
    RESUME_FAILED = "resume_failed"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What is always true of a code: its default solution, whether trying again may help, its HTTP status."""

    solution: str
    retryable: bool
    http_status: int


ERROR_KINDS: dict[ErrorCode, ErrorKind] = {
    ErrorCode.BAD_REQUEST: ErrorKind("Correct the request and send it again.", False, 400),
    ErrorCode.UNAUTHORIZED: ErrorKind("Send a valid API key or a fresh token.", False, 401),
    ErrorCode.FORBIDDEN_ORIGIN: ErrorKind(
        "Start the server with --allow-origin or --allow-host for this name.", False, 403
    ),
    ErrorCode.UNKNOWN_VOICE: ErrorKind("Choose one of the voices listed by GET /v1/voices.", False, 404),
    ErrorCode.UNSUPPORTED_FORMAT: ErrorKind(
        "Choose an encoding and a sample rate listed by GET /v1/info.", False, 400
    ),
    ErrorCode.UNSUPPORTED_PARAMETER: ErrorKind(
        "Leave the parameter out, or use an engine that knows it.", False, 400
    ),
    ErrorCode.TEXT_TOO_LONG: ErrorKind("Send less text at a time, or begin a new context.", False, 413),
    ErrorCode.BAD_REFERENCE_AUDIO: ErrorKind("Send clear speech of 3 to 30 seconds.", False, 400),
    ErrorCode.RATE_LIMITED: ErrorKind("Send fewer, larger messages.", True, 429),
    ErrorCode.OVER_CAPACITY: ErrorKind("Try again after retry_after_ms.", True, 503),
    ErrorCode.ENGINE_UNAVAILABLE: ErrorKind("Try again shortly; the engine is starting again.", True, 503),
    ErrorCode.ENGINE_FAILED: ErrorKind("Send the text again in a new context.", True, 500),
    ErrorCode.RESUME_FAILED: ErrorKind("Start a new session.", False, 409),
    ErrorCode.TIMEOUT: ErrorKind("Send a message in time, or begin again.", True, 408),
    ErrorCode.INTERNAL: ErrorKind("Try again; tell the operator if it stays.", True, 500),
}


class LocalProtocolError(Exception):
    """This side tried to send what the protocol does not allow here."""


class RemoteProtocolError(Exception):
    """The peer sent what the protocol does not allow here.

    Attributes:
        code: what to tell the peer.
        context_id: the context it concerns, where one was named.
    """

    def __init__(
        self, message: str, *, code: ErrorCode = ErrorCode.BAD_REQUEST, context_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.context_id = context_id


class NotAMessage(RemoteProtocolError):
    """The peer's message is not a JSON object at all: not JSON, not an object, or binary from a client."""


class NotUtf8(RemoteProtocolError):
    """A text message is not UTF-8: the socket closes with 1007."""
