"""Results that a dialect hands over by URL: `GET /v1/files/{id}` gives out what is kept here."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cosyduplex.errors import ErrorCode
from cosyduplex_server.errors import Failure

LIFETIME_S: Final = 600.0
MAX_BYTES: Final = 256 * 2**20
# 256 bits: nobody guesses one in ten minutes.
_ID_BYTES: Final = 32


class Clock(Protocol):
    """The part of an event loop that is needed here."""

    def time(self) -> float:
        """Seconds on a clock that only goes forward."""

    def call_at(self, when: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        """Calls back once, at that time or a little later."""


@dataclass(frozen=True, slots=True)
class Result:
    """One result.

    Attributes:
        data: The whole body.
        media_type: Its `Content-Type`.
        expires_at: When it is forgotten, on the store's clock.
    """

    data: bytes
    media_type: str
    expires_at: float


class ResultStore:
    """Keeps results for `lifetime_s`, the newest `max_bytes` of them: when it is full, the oldest go first.

    Args:
        clock: The running event loop.
        max_bytes: Of all results together.
        lifetime_s: How long each is kept.
    """

    def __init__(self, clock: Clock, max_bytes: int = MAX_BYTES, lifetime_s: float = LIFETIME_S) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._lifetime_s = lifetime_s
        self._results: OrderedDict[str, Result] = OrderedDict()  # as they will expire
        self._num_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of all the results that are kept."""
        return self._num_bytes

    def put(self, data: bytes, media_type: str) -> str:
        """Keeps a result and returns the id by which alone it can be had.

        Raises:
            Failure: `text_too_long`: it is larger than all that may be kept.
        """
        if len(data) > self._max_bytes:
            raise Failure(
                ErrorCode.TEXT_TOO_LONG,
                "the audio is too long to be handed over by URL",
                "Send less text at a time, or ask for streaming or a compressed format.",
            )
        while self._num_bytes + len(data) > self._max_bytes:
            self._forget_oldest()
        result_id = secrets.token_urlsafe(_ID_BYTES)
        expires_at = self._clock.time() + self._lifetime_s
        self._results[result_id] = Result(data, media_type, expires_at)
        self._num_bytes += len(data)
        if self._timer is None:
            self._timer = self._clock.call_at(expires_at, self._expire)
        return result_id

    def get(self, result_id: str) -> Result | None:
        """Returns a result; None when there is none of that id, or no more."""
        result = self._results.get(result_id)
        return result if result is not None and result.expires_at > self._clock.time() else None

    def close(self) -> None:
        """Forgets everything."""
        self._results.clear()
        self._num_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget_oldest(self) -> None:
        _, result = self._results.popitem(last=False)
        self._num_bytes -= len(result.data)

    def _expire(self) -> None:
        """Forgets what is due, and comes back for the next: one timer, whatever is kept."""
        self._timer = None
        now = self._clock.time()
        while self._results:
            oldest = next(iter(self._results.values()))
            if oldest.expires_at > now:
                self._timer = self._clock.call_at(oldest.expires_at, self._expire)
                return
            self._forget_oldest()
