"""A WebSocket client for load: one buffer for all sockets, no object per frame.

The client library's own parser makes an object of every frame and would be the first thing to be full.
This one takes what a CosyDuplex server sends (unfragmented, no extensions) and treats anything else as a
broken connection.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Protocol, cast

import orjson
from websockets.utils import accept_key, generate_key

_MAX_HEAD_BYTES = 64 * 1024
_FINAL_TEXT, _FINAL_BINARY, _CLOSE, _PING, _PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
NO_CLOSE_FRAME = 1006

# The kernel writes here what comes for whichever socket is being read.
_buffer = bytearray(256 * 1024)
_view = memoryview(_buffer)


class HandshakeRefused(Exception):
    """The server did not open a WebSocket.

    Attributes:
        code: why, an error code of the protocol where the server gave one.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Receiver(Protocol):
    """Who is told what comes; `now_s` is the loop's time at which it was read."""

    def on_binary(self, message: memoryview, now_s: float) -> None:
        """Takes a binary message, which is gone after the call."""

    def on_text(self, message: bytes, now_s: float) -> None:
        """Takes a text message."""

    def on_closed(self, close_code: int, now_s: float) -> None:
        """The socket is gone."""


def frame(payload: bytes, opcode: int = _FINAL_TEXT) -> bytes:
    """A client's frame.

    The masking key is zero, which leaves the payload as it is: masking protects proxies from web pages.
    """
    length = len(payload)
    if length < 126:
        return struct.pack("!BBI", opcode, 0x80 | length, 0) + payload
    if length < 1 << 16:
        return struct.pack("!BBHI", opcode, 0x80 | 126, length, 0) + payload
    return struct.pack("!BBQI", opcode, 0x80 | 127, length, 0) + payload


class ClientSocket(asyncio.BufferedProtocol):
    """One connection.

    Attributes:
        opened: done once messages may be written; fails with `HandshakeRefused`.
        closed: done once the socket is gone.
        bytes_received: of everything.
        bytes_sent: of everything.
    """

    def __init__(self, receiver: Receiver, host: str, path: str, api_key: str | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.bytes_received = 0
        self.bytes_sent = 0
        self._receiver = receiver
        self._host, self._path, self._api_key = host, path, api_key
        self._key = generate_key()
        self._transport: asyncio.Transport
        self._rest = b""
        self._is_open = False
        self._close_code = NO_CLOSE_FRAME

    # --- out

    def write(self, frames: bytes) -> None:
        """Writes whole frames, as `frame` makes them."""
        self.bytes_sent += len(frames)
        self._transport.write(frames)

    def abort(self) -> None:
        """Ends the connection, now."""
        self._transport.abort()

    # --- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks for the upgrade."""
        self._transport = cast(asyncio.Transport, transport)
        credential = f"Authorization: Bearer {self._api_key}\r\n" if self._api_key is not None else ""
        head = (
            f"GET {self._path} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {self._key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: duplex.v1\r\n{credential}\r\n"
        )
        self.write(head.encode())

    def get_buffer(self, sizehint: int) -> memoryview:
        """The buffer that all sockets share: what is in it is used up before this one returns to the loop."""
        return _view

    def buffer_updated(self, nbytes: int) -> None:
        """Takes what has come."""
        self.bytes_received += nbytes
        view = memoryview(self._rest + _view[:nbytes]) if self._rest else _view[:nbytes]
        start = 0 if self._is_open else self._take_head(bytes(view))
        self._rest = bytes(view[self._take_frames(view, start) :])

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells whoever waits."""
        if self._is_open:
            self._receiver.on_closed(self._close_code, self._loop.time())
        else:
            self._refuse(HandshakeRefused("connection_lost", "the connection broke"))
        self.closed.set_result(None)

    # --- handshake

    def _take_head(self, data: bytes) -> int:
        """Reads the answer to the upgrade; returns where the frames begin."""
        end = data.find(b"\r\n\r\n")
        if end < 0 and len(data) <= _MAX_HEAD_BYTES:
            return 0
        lines = data[: max(end, 0)].decode("latin-1").split("\r\n")
        accept = f"sec-websocket-accept: {accept_key(self._key)}".lower()
        if lines[0].startswith("HTTP/1.1 101") and any(line.lower() == accept for line in lines):
            self._is_open = True
            self.opened.set_result(None)
            return end + 4
        self._refuse(_refusal(lines[0], data[end + 4 :]))
        self._transport.abort()
        return len(data)

    def _refuse(self, refusal: HandshakeRefused) -> None:
        if not self.opened.done():  # who waited for it may have given up
            self.opened.set_exception(refusal)

    # --- frames

    def _take_frames(self, data: memoryview, start: int) -> int:
        """Takes every whole frame; returns where the first that is not whole begins."""
        if not self._is_open:
            return start
        now_s = self._loop.time()
        end = len(data)
        while end - start >= 2:
            length, payload = data[start + 1], start + 2
            if length == 126:
                if end - start < 4:
                    break
                length, payload = data[start + 2] << 8 | data[start + 3], start + 4
            elif length == 127:
                if end - start < 10:
                    break
                length, payload = int.from_bytes(data[start + 2 : start + 10]), start + 10
            stop = payload + length
            if stop > end:
                break
            if data[start] == _FINAL_BINARY:
                self._receiver.on_binary(data[payload:stop], now_s)
            else:
                self._take_other(data[start], bytes(data[payload:stop]), now_s)
            start = stop
        return start

    def _take_other(self, opcode: int, payload: bytes, now_s: float) -> None:
        if opcode == _FINAL_TEXT:
            self._receiver.on_text(payload, now_s)
        elif opcode == _PING:
            self.write(frame(payload, _PONG))
        elif opcode == _CLOSE:
            if len(payload) >= 2:
                self._close_code = int.from_bytes(payload[:2])
            self.write(frame(payload[:2], _CLOSE))
            self._transport.close()
        elif opcode != _PONG:
            self._transport.abort()


def _refusal(status_line: str, body: bytes) -> HandshakeRefused:
    status = status_line.partition(" ")[2].partition(" ")[0]
    try:
        answer = orjson.loads(body)
        return HandshakeRefused(str(answer["error"]), str(answer["message"]))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return HandshakeRefused(f"http_{status or 'none'}", "the server did not open a WebSocket")
