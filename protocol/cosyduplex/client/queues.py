"""What waits between the socket's tasks and the program's."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

_T = TypeVar("_T")

_OUTBOX_HIGH_BYTES, _OUTBOX_LOW_BYTES = 256 << 10, 64 << 10


class Inbox(Generic[_T]):
    """What has come and waits to be taken; `get` may be cancelled at any time without losing anything.

    Args:
        max_items: How many to keep, the oldest going first; None for all.
    """

    def __init__(self, max_items: int | None = None) -> None:
        self._items: deque[_T] = deque(maxlen=max_items)
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, item: _T) -> None:
        """Adds an item."""
        self._items.append(item)
        self._changed.set()

    def clear(self) -> None:
        """Drops what has not been taken."""
        self._items.clear()

    def close(self) -> None:
        """Nothing more comes; what is there can still be taken."""
        self._closed = True
        self._changed.set()

    async def get(self) -> _T | None:
        """Returns the oldest item, or None once the inbox is closed and empty."""
        while not self._items:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()


class Outbox:
    """Messages on their way to the socket, in order.

    Room is waited for before a message is numbered, so that numbering and queueing are one step: a cancelled
    `await` leaves nothing half said.
    """

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._num_bytes = 0
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    def put(self, message: bytes) -> None:
        """Adds a message, room or not."""
        self._messages.append(message)
        self._num_bytes += len(message)
        self._filled.set()
        if self._num_bytes > _OUTBOX_HIGH_BYTES:
            self._has_room.clear()

    async def get(self) -> bytes:
        """Returns the oldest message, once there is one."""
        while not self._messages:
            self._filled.clear()
            await self._filled.wait()
        message = self._messages.popleft()
        self._num_bytes -= len(message)
        if self._num_bytes <= _OUTBOX_LOW_BYTES:
            self._has_room.set()
        return message

    async def wait_for_room(self) -> None:
        """Waits while too much waits already."""
        await self._has_room.wait()

    def release(self) -> None:
        """Lets everyone go who waits for room: nothing is sent any more."""
        self._has_room.set()
