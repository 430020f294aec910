"""The text to speak, whatever kind of iterable it comes in."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

Tokens = str | Iterable[str | None] | AsyncIterable[str | None]

_NO_MORE: Any = object()


async def each(tokens: Tokens) -> AsyncGenerator[str | None, None]:
    """Yields what `tokens` yields; an iterable without a length is read in a thread, since it may block."""
    if isinstance(tokens, str):
        yield tokens
    elif isinstance(tokens, AsyncIterable):
        async for token in tokens:
            yield token
    elif isinstance(tokens, Collection):
        for token in tokens:
            yield token
    else:
        async with contextlib.aclosing(_from_thread(iter(tokens))) as stream:
            async for token in stream:
                yield token


async def _from_thread(tokens: Iterator[str | None]) -> AsyncGenerator[str | None, None]:
    """Yields the tokens of an iterator, each asked for when it is wanted.

    A daemon thread of its own reads it: one of a pool would be waited for at exit, for ever where the
    iterator stands still.
    """
    requests: queue.SimpleQueue[Future[Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_answer, args=(tokens, requests), name="cosyduplex tokens", daemon=True).start()
    try:
        while True:
            request: Future[Any] = Future()
            requests.put(request)
            token = await asyncio.wrap_future(request)
            if token is _NO_MORE:
                return
            yield token
    finally:
        requests.put(None)


def _answer(tokens: Iterator[str | None], requests: queue.SimpleQueue[Future[Any] | None]) -> None:
    while (request := requests.get()) is not None:
        if not request.set_running_or_notify_cancel():
            continue
        try:
            request.set_result(next(tokens, _NO_MORE))
        except BaseException as exc:  # noqa: BLE001 (raised again where the token is awaited)
            request.set_exception(exc)
