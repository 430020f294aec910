"""`GET /v1/files/{id}`: results that a dialect hands over by URL.

The id is the credential: whoever asked for the result with a key was told it, and nobody can guess it. Users
of vendors' SDKs fetch such a URL without a key, as from object storage.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from cosyduplex.errors import ErrorCode
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import Door, json_response
from cosyduplex_server.schema import Operation

NAME: Final = "files"
_PATH: Final = "/v1/files/"


def file_url(request: Request, result_id: str) -> str:
    """Where whoever sent this request can fetch the result: at the host it spoke to."""
    return f"{request.url.scheme}://{request.headers['host']}{_PATH}{result_id}"


def http_doors(bridge: Bridge) -> tuple[Door, ...]:
    """The route."""

    async def answer(gateway: Gateway, request: Request) -> Response:
        result = bridge.results.get(request.path_params["id"])
        if result is not None:
            # A page of another origin must not find out what the bytes are by having them run or shown.
            headers = {"cache-control": "private, no-store", "x-content-type-options": "nosniff"}
            return Response(result.data, 200, headers, result.media_type)
        if request.state.principal is None:
            gateway.gatekeeper.identify(None, NAME, "read")
        failure = Failure(
            ErrorCode.BAD_REQUEST,
            "there is no result of that id, or no more",
            "Results are kept for ten minutes; ask for the speech again.",
        )
        return json_response(failure.as_http()[1], 404)

    operation = Operation(
        method="GET",
        path=f"{_PATH}{{id}}",
        summary="A result that was handed over by URL",
        media_type="application/octet-stream",
    )
    return (Door(NAME, operation, answer, credential_inside=True),)
