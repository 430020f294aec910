"""What an HTTP door is made of: its place, how its body is read, how its answer and its failures go out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cosyduplex.errors import ErrorCode
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.schema import Operation
from cosyduplex_server.utterance import Utterance

log = logging.getLogger(__name__)

# A megabyte of text in JSON's longest spelling; more than any door may speak at once.
MAX_TEXT_BODY_BYTES = 2 * 1024 * 1024
BODY_TIMEOUT_S = 10.0
WARNING_HEADER = "x-cosyduplex-warning"

Handler = Callable[[Gateway, Request], Awaitable[Response]]


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(body), status, headers, "application/json")


def answer_failure(failure: Failure) -> Response:
    """The failure as this server's own doors tell it."""
    status, body = failure.as_http()
    return json_response(body, status)


@dataclass(frozen=True, slots=True)
class Door:
    """A route: what it is called where doors are opened, how it is documented, what answers it.

    Attributes:
        name: as `--open-door` and the metrics call it.
        operation: its method, path and documentation.
        handler: answers; a `Failure` that it raises is told by `refuse`.
        refuse: how the door's clients are told of a failure.
        scope: what a caller must be allowed to do.
        credential_inside: the key may be in the body: without one in the headers the handler is called with
            `request.state.principal` None and asks `Gatekeeper.identify` itself.
        query_credentials: query parameters that may hold the key.
    """

    name: str
    operation: Operation
    handler: Handler
    refuse: Callable[[Failure], Response] = answer_failure
    scope: str = "read"
    credential_inside: bool = False
    query_credentials: tuple[str, ...] = ()


async def read_body(request: Request, max_bytes: int, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """The request's body.

    Raises:
        Failure: it is larger than `max_bytes`, did not come in time, or ended early.
    """
    parts = []
    num_bytes = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                parts.append(part)
                num_bytes += len(part)
                if num_bytes > max_bytes:
                    raise Failure(ErrorCode.TEXT_TOO_LONG, "the body is too large")
    except TimeoutError:
        raise Failure(ErrorCode.TIMEOUT, "the body did not come in time") from None
    except ClientDisconnect:
        raise Failure(ErrorCode.BAD_REQUEST, "the body ended early") from None
    return b"".join(parts)


class SpeechResponse(Response):
    """Streams what is made of an utterance, from its first piece on; closes the utterance however it ends.

    The status goes out with the first piece, so that a failure before it has a status of its own. A later
    failure breaks the connection off, by which clients know that the body is not whole. The engine stops
    as soon as the client goes away.

    Args:
        utterance: what is spoken; `close` is called on it.
        body: pieces of the body; it may raise `Failure`.
        media_type: of the body.
        headers: more of them. Warnings that are known when the first piece is go into one of their own.
        refuse: how a failure before the first piece is told.
        whole: sends nothing before all of it is made, and then says how long it is.
        resources: what it needs until its end, and closes then.
    """

    def __init__(
        self,
        utterance: Utterance,
        body: AsyncIterator[bytes],
        *,
        media_type: str | None,
        headers: Mapping[str, str] | None = None,
        refuse: Callable[[Failure], Response] = answer_failure,
        whole: bool = False,
        resources: AsyncExitStack | None = None,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)
        self._utterance = utterance
        self._body = body
        self._refuse = refuse
        self._whole = whole
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers."""
        answering = asyncio.ensure_future(self._answer(scope, receive, send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.wait((answering, leaving))
            self._utterance.close()
            if self._utterance.warnings:
                about = {"door": self._utterance.door, "warnings": self._utterance.warnings}
                log.info("not spoken as asked", extra=about)
            if self._resources is not None:
                await self._resources.aclose()
        if not answering.cancelled():
            answering.result()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._whole:
                first = b"".join([piece async for piece in self._body])
                self.headers["content-length"] = str(len(first))
            else:
                first = await anext(self._body, b"")
        except Failure as failure:
            await self._refuse(failure)(scope, receive, send)
            return
        if self._utterance.warnings:
            # Header values are Latin-1; what is not is percent-encoded, as RFC 8187 does.
            told = quote(" · ".join(self._utterance.warnings)[:1000], safe=" ,.;:!?'\"()[]{}/<>=@&+*-_")
            self.headers[WARNING_HEADER] = told
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if first:
            await send({"type": "http.response.body", "body": first, "more_body": True})
        try:
            async for piece in self._body:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except Failure:
            return  # uvicorn breaks off a body that does not end
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
