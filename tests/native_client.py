"""The native protocol over a real socket, with every rule of the client core checked on the way."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any, Self

from websockets.asyncio.client import ClientConnection as Socket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from cosyduplex.connection import ClientConnection, ServerEvent
from cosyduplex.messages import (
    AudioFrame,
    ClientMessage,
    SessionEnd,
    SessionStart,
    SessionStarted,
)


class NativeClient:
    """A bare client: what it receives is checked by `ClientConnection` and kept.

    Attributes:
        events: every message and frame, in order.
        socket: the WebSocket below.
    """

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.core = ClientConnection()
        self.events: list[ServerEvent] = []

    @classmethod
    async def open(cls, ws_url: str, start: SessionStart | None = None, **details: Any) -> Self:
        """Connects and, when a start is given, starts the session and waits for the answer."""
        limits = {"max_size": None, "max_queue": None, "ping_interval": None}
        socket = await connect(ws_url, compression=None, **limits, **details)
        client = cls(socket)
        if start is not None:
            await client.send(start)
            assert isinstance((await client.receive()).message, SessionStarted)
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.socket.close()

    async def send(self, *messages: ClientMessage) -> None:
        """Sends messages."""
        for message in messages:
            await self.socket.send(self.core.send(message), text=True)

    async def send_raw(self, **fields: Any) -> None:
        """Sends a JSON object that the core would not let through."""
        await self.socket.send(json.dumps(fields))

    async def receive(self) -> ServerEvent:
        """The next message or frame."""
        data = await self.socket.recv()
        event = self.core.receive_text(data) if isinstance(data, str) else self.core.receive_binary(data)
        self.events.append(event)
        return event

    async def until(self, kind: type[Any], **fields: Any) -> Any:
        """Reads up to the next message of a type with these fields, and returns it."""
        while True:
            message = (await self.receive()).message
            if isinstance(message, kind) and all(getattr(message, k) == v for k, v in fields.items()):
                return message

    async def until_closed(self) -> tuple[int, str]:
        """Reads to the end and returns the close code and reason."""
        try:
            while True:
                await self.receive()
        except ConnectionClosed:
            return self.socket.close_code or 0, self.socket.close_reason or ""

    async def end(self) -> tuple[int, str]:
        """Ends the session and reads to the end."""
        await self.send(SessionEnd())
        return await self.until_closed()

    async def nothing_more(self, seconds: float) -> None:
        """Reads for a while and fails if anything comes."""
        try:
            event = await asyncio.wait_for(self.receive(), seconds)
        except TimeoutError:
            return
        raise AssertionError(f"nothing more was due, but {event} came")

    def audio(self, context_id: str = "default") -> bytes:
        """The PCM of every context of that id, one after another."""
        return b"".join(frame.payload for frame in self.frames(context_id))

    def frames(self, context_id: str = "default") -> list[AudioFrame]:
        """The frames of every context of that id."""
        return [
            event.message
            for event in self.events
            if isinstance(event.message, AudioFrame) and event.context_id == context_id
        ]

    def messages(self, kind: type[Any]) -> list[Any]:
        """The messages of a type, in order."""
        return [event.message for event in self.events if isinstance(event.message, kind)]

    def kinds(self) -> dict[str, list[str]]:
        """The names of what came, by context id; frames are `audio`."""
        out: dict[str, list[str]] = defaultdict(list)
        for event in self.events:
            name = "audio" if isinstance(event.message, AudioFrame) else event.message.type
            out[event.context_id or ""].append(name)
        return out
