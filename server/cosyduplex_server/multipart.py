"""Forms with files, of which no more is read than may come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable

from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from cosyduplex.errors import ErrorCode
from cosyduplex_server.errors import Failure

# It warns of every malformed form, with a piece of it.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


async def read_multipart(
    request: Request,
    *,
    max_bytes: int,
    max_field_bytes: int,
    max_fields: int,
    timeout_s: float,
    solution: str | None = None,
    too_large: Callable[[int], Failure],
) -> FormData:
    """The form of a request, with one file at most; to be closed by the caller.

    Args:
        request: its body has not been read.
        max_bytes: of the whole body.
        max_field_bytes: of a field that is no file.
        max_fields: that are no files.
        timeout_s: for all of it to come.
        solution: what to tell whoever sends something else.
        too_large: what to tell of that many bytes, or more.

    Raises:
        Failure: it is none, is too large, or did not come in time.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large(int(declared))
    parser = MultiPartParser(
        request.headers,
        _bounded(request, max_bytes, too_large),
        max_files=1,
        max_fields=max_fields,
        max_part_size=max_field_bytes,
    )
    try:
        async with asyncio.timeout(timeout_s):
            return await parser.parse()
    except TimeoutError:
        raise Failure(
            ErrorCode.TIMEOUT, "the recording did not come in time", "Send a smaller file, as FLAC or Opus."
        ) from None
    except MultiPartException as error:
        message = f"the form cannot be read: {error.message}"
        raise Failure(ErrorCode.BAD_REQUEST, message, solution) from None
    except ClientDisconnect:
        raise Failure(ErrorCode.BAD_REQUEST, "the form ended early", solution) from None


async def _bounded(
    request: Request, max_bytes: int, too_large: Callable[[int], Failure]
) -> AsyncGenerator[bytes, None]:
    num_bytes = 0
    async for part in request.stream():
        num_bytes += len(part)
        if num_bytes > max_bytes:
            raise too_large(num_bytes)
        yield part
