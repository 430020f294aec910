"""What a request says, whatever it is written in: JSON, a form, an upload, a query."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.datastructures import UploadFile
from starlette.requests import Request

from cosyduplex.errors import ErrorCode, RemoteProtocolError
from cosyduplex.wire import load_json
from cosyduplex_server.audio.reference import MAX_BYTES, too_many_bytes
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.multipart import read_multipart
from cosyduplex_server.routes import BODY_TIMEOUT_S, MAX_TEXT_BODY_BYTES, read_body

# A recording in base64, beside the longest text.
MAX_JSON_BYTES: Final = MAX_BYTES * 4 // 3 + MAX_TEXT_BODY_BYTES
# A recording as it is, beside the longest text.
MAX_FORM_BYTES: Final = MAX_BYTES + MAX_TEXT_BODY_BYTES
MAX_FIELDS: Final = 64
# Sixteen megabytes in this time are 2 Mbit/s.
UPLOAD_TIMEOUT_S: Final = 60.0
# What is longer is parsed beside the event loop, which it would hold up for milliseconds.
_LONG_BYTES: Final = 256 * 1024


@dataclass(eq=False)
class FieldFailure(Failure):
    """A failure for what one field holds, or for its being missing.

    Attributes:
        name: of the field.
    """

    name: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a request; `null` is as good as none.

    Attributes:
        values: by name; uploads are bytes, and all else in a form is text.
    """

    values: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """Whatever the field holds."""
        return self.values.get(name)

    def text(self, name: str) -> str | None:
        """A string.

        Raises:
            FieldFailure: it is something else.
        """
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise wrong(name, "must be a string")

    def required_text(self, name: str) -> str:
        """A string with something in it.

        Raises:
            FieldFailure: it is something else, or missing.
        """
        value = self.text(name)
        if not value:
            raise wrong(name, "is needed" if value is None else "must not be empty")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number in a range.

        Raises:
            FieldFailure: it is something else.
        """
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise wrong(name, f"must be a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """A truth value.

        Raises:
            FieldFailure: it is something else.
        """
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise wrong(name, "must be true or false")
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """One of some words.

        Raises:
            FieldFailure: it is something else.
        """
        value = self.values.get(name)
        if value is None:
            return default
        if value not in choices:
            raise wrong(name, f"must be one of {', '.join(choices)}")
        return str(value)


def wrong(name: str, problem: str, code: ErrorCode = ErrorCode.BAD_REQUEST) -> FieldFailure:
    """A failure that begins with the name of a field."""
    return FieldFailure(code, f"{name} {problem}", name=name)


# --- reading -----------------------------------------------------------------------------------------


async def read_fields(gateway: Gateway, request: Request, *, recording: bool) -> Fields:
    """The fields of the body, in whatever form they are, and of the query those that are not in the body.

    The form is that of the header `Content-Type`, but for what is plainly otherwise: curl says "urlencoded"
    of JSON, and some say nothing at all.

    Args:
        gateway: knows how many recordings may be held at a time.
        request: its body has not been read.
        recording: there may be one in it.

    Raises:
        Failure: it cannot be read, is too large, or did not come in time.
    """
    query = dict(request.query_params)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with _room(gateway, recording):
            return Fields({**query, **await _read_multipart(request, recording)})
    body = await _read_body(gateway, request, recording)
    if kind.endswith("json") or body.lstrip()[:1] == b"{":
        return Fields({**query, **await _object(body)})
    return Fields({**query, **_urlencoded(body)})


async def read_object(gateway: Gateway, request: Request, *, recording: bool) -> Fields:
    """The fields of a body that must be a JSON object; the arguments are those of `read_fields`.

    Raises:
        Failure: it is none, is too large, or did not come in time.
    """
    return Fields(await _object(await _read_body(gateway, request, recording)))


def _room(gateway: Gateway, recording: bool) -> AbstractAsyncContextManager[None]:
    """As many requests that may be large are read at a time as recordings may be held at a time."""
    return gateway.enrolments if recording else nullcontext()


async def _read_body(gateway: Gateway, request: Request, recording: bool) -> bytes:
    declared = request.headers.get("content-length", "")
    length = int(declared) if declared.isdecimal() else None
    max_bytes = MAX_JSON_BYTES if recording else MAX_TEXT_BODY_BYTES
    if length is not None and length > max_bytes:
        raise _too_large(length)
    is_small = not recording or (length is not None and length <= MAX_TEXT_BODY_BYTES)
    if is_small or not _has_body(request):
        return await read_body(request, MAX_TEXT_BODY_BYTES)
    async with _room(gateway, recording):
        return await read_body(request, MAX_JSON_BYTES, UPLOAD_TIMEOUT_S)


def _has_body(request: Request) -> bool:
    return "content-length" in request.headers or "transfer-encoding" in request.headers


async def _object(body: bytes) -> dict[str, Any]:
    try:
        value = load_json(body) if len(body) < _LONG_BYTES else await asyncio.to_thread(load_json, body)
    except RemoteProtocolError:
        value = None
    if not isinstance(value, dict):
        raise Failure(ErrorCode.BAD_REQUEST, "the body must be a JSON object")
    return value


def _urlencoded(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Failure(ErrorCode.BAD_REQUEST, f"a form may have {MAX_FIELDS} fields at most") from None
    return dict(pairs)


async def _read_multipart(request: Request, recording: bool) -> dict[str, str | bytes]:
    form = await read_multipart(
        request,
        max_bytes=MAX_FORM_BYTES if recording else MAX_TEXT_BODY_BYTES,
        max_field_bytes=MAX_TEXT_BODY_BYTES,
        max_fields=MAX_FIELDS,
        timeout_s=UPLOAD_TIMEOUT_S if recording else BODY_TIMEOUT_S,
        too_large=too_many_bytes if recording else _too_large,
    )
    try:
        return {
            name: await value.read() if isinstance(value, UploadFile) else value
            for name, value in form.multi_items()
        }
    finally:
        await form.close()


def _too_large(num_bytes: int) -> Failure:
    return Failure(ErrorCode.TEXT_TOO_LONG, "the body is too large")
