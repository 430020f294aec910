"""The load generator's own WebSocket framing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.utils import accept_key

from cosyduplex_server.bench.connection import ClientSocket, HandshakeRefused, frame


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True


class Heard:
    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.close_code = 0

    def on_binary(self, message: memoryview, now_s: float) -> None:
        self.messages.append(("binary", bytes(message)))

    def on_text(self, message: bytes, now_s: float) -> None:
        self.messages.append(("text", message))

    def on_closed(self, close_code: int, now_s: float) -> None:
        self.close_code = close_code


def feed(socket: ClientSocket, data: bytes) -> None:
    while data:
        buffer = socket.get_buffer(-1)
        read = min(len(data), len(buffer))
        buffer[:read] = data[:read]
        socket.buffer_updated(read)
        data = data[read:]


def connected() -> tuple[ClientSocket, FakeTransport, Heard]:
    heard, transport = Heard(), FakeTransport()
    socket = ClientSocket(heard, "host:1", "/v1/duplex", "key")
    socket.connection_made(transport)
    return socket, transport, heard


def answer(transport: FakeTransport) -> bytes:
    key = transport.written.decode().split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
    ).encode()


def server_frame(opcode: Opcode, payload: bytes) -> bytes:
    return Frame(opcode, payload).serialize(mask=False)


messages = st.lists(
    st.tuples(
        st.sampled_from(["text", "binary"]), st.integers(0, 140) | st.sampled_from([125, 126, 65535, 65536])
    ),
    max_size=5,
)


@given(messages, st.lists(st.integers(1, 3000), max_size=30))
async def test_any_split_of_the_bytes_gives_the_same_messages(
    sizes: list[tuple[str, int]], cuts: list[int]
) -> None:
    socket, transport, heard = connected()
    sent = [(kind, bytes(i % 251 for i in range(size))) for kind, size in sizes]
    opcodes = {"text": Opcode.TEXT, "binary": Opcode.BINARY}
    stream = answer(transport) + b"".join(server_frame(opcodes[kind], data) for kind, data in sent)
    for cut in cuts:
        feed(socket, stream[:cut])
        stream = stream[cut:]
    feed(socket, stream)

    await socket.opened
    assert heard.messages == sent


@given(st.text(max_size=200) | st.sampled_from(["x" * 125, "x" * 126, "x" * 65_535, "x" * 65_536]))
def test_a_server_reads_what_it_writes(text: str) -> None:
    core = ServerProtocol(state=State.OPEN)
    core.receive_data(frame(text.encode()))
    (received,) = core.events_received()
    assert isinstance(received, Frame)
    assert bytes(received.data) == text.encode()


async def test_it_asks_for_the_protocol_with_the_key() -> None:
    _, transport, _ = connected()
    assert transport.written.startswith(b"GET /v1/duplex HTTP/1.1\r\nHost: host:1\r\n")
    assert b"\r\nAuthorization: Bearer key\r\n" in transport.written
    assert b"\r\nSec-WebSocket-Protocol: duplex.v1\r\n" in transport.written


async def test_pings_are_answered_and_a_close_frame_too() -> None:
    socket, transport, heard = connected()
    feed(socket, answer(transport))
    transport.written = b""
    feed(socket, server_frame(Opcode.PING, b"p") + server_frame(Opcode.CLOSE, b"\x03\xf5full"))

    assert transport.written == frame(b"p", 0x8A) + frame(b"\x03\xf5", 0x88)
    assert transport.closed
    socket.connection_lost(None)
    assert heard.close_code == 1013


async def test_a_connection_that_breaks_has_no_close_code() -> None:
    socket, transport, heard = connected()
    feed(socket, answer(transport))
    socket.connection_lost(ConnectionResetError())
    assert heard.close_code == 1006
    assert socket.closed.done()


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b'HTTP/1.1 401 Unauthorized\r\n\r\n{"error":"unauthorized","message":"no key"}', "unauthorized"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nnothing here", "http_404"),
        (b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: wrong\r\n\r\n", "http_101"),
        (b"220 mail.example ESMTP\r\n\r\n", "http_mail.example"),
    ],
)
async def test_a_refusal_is_named(reply: bytes, code: str) -> None:
    socket, transport, _ = connected()
    feed(socket, reply)
    assert transport.aborted
    with pytest.raises(HandshakeRefused) as refusal:
        await socket.opened
    assert refusal.value.code == code


async def test_a_connection_that_breaks_before_it_is_open_is_a_refusal() -> None:
    socket, _, heard = connected()
    socket.connection_lost(None)
    with pytest.raises(HandshakeRefused):
        await socket.opened
    assert heard.close_code == 0
