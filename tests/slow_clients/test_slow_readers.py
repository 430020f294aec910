"""A client that reads slowly or not at all costs bounded memory and nobody else's audio."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket

import pytest
from native_client import NativeClient

from cosyduplex.messages import ContextDone, FlowOptions, SessionStart, TextAppend, TextEnd


class DeafClient:
    """Says much and reads nothing, through a socket with a small receive buffer."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            "GET /v1/duplex HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        assert b"101" in self.socket.recv(1000)

    def send(self, **fields: object) -> None:
        """Sends a message, masked with zeros."""
        data = json.dumps(fields).encode()
        assert len(data) < 65536
        head = (
            bytes((0x81, 0xFE)) + len(data).to_bytes(2, "big")
            if len(data) > 125
            else bytes((0x81, 0x80 | len(data)))
        )
        self.socket.sendall(head + bytes(4) + data)

    def close(self) -> None:
        """Hangs up."""
        self.socket.close()

    def is_dropped(self) -> bool:
        """Whether the server has given up on it; whatever it has sent before is skipped."""
        self.socket.setblocking(False)
        try:
            while self.socket.recv(65536):
                pass
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        return True


@pytest.fixture
def connect_deaf():
    """Connects deaf clients; they hang up with the test."""
    clients: list[DeafClient] = []

    def connect(port: int) -> DeafClient:
        clients.append(DeafClient(port))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


async def metric(port: int, name: str) -> float:
    """One value of /metrics."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    page = (await reader.read()).decode()
    writer.close()
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_a_deaf_client_gets_no_more_than_its_buffers_hold(fake_server, connect_deaf):
    server = fake_server("--write-timeout-s", "60", ms_per_char=100, slots=16)
    async with await NativeClient.open(server.ws_url, SessionStart()) as client:
        await client.send(TextAppend(text="Warm up."), TextEnd())
        await client.until(ContextDone)
    before_kb = server.memory_kb()
    deaf = [connect_deaf(server.port) for _ in range(8)]
    for each in deaf:
        each.send(type="session.start", flow={"max_ahead_ms": 0})
        each.send(type="text.append", text="A very long story that nobody hears. " * 1000)
    # An hour of audio each, unpaced; others go on at their pace meanwhile.
    async with await NativeClient.open(
        server.ws_url, SessionStart(flow=FlowOptions(max_ahead_ms=0))
    ) as client:
        for _ in range(5):
            await client.send(TextAppend(text="And this one is heard in full."), TextEnd())
            done = await client.until(ContextDone)
            assert done.audio_ms == 3000
            await asyncio.sleep(0.1)
    # 8 clients: text, socket buffers, 3 s of chunks and up to 30 s of replay log each (1.4 MB).
    assert server.memory_kb() - before_kb < 8 * 5_000
    assert await metric(server.port, "cosyduplex_audio_seconds_total") < 100


async def test_a_client_that_reads_nothing_for_too_long_is_dropped(fake_server, connect_deaf):
    server = fake_server("--write-timeout-s", "0.5")
    deaf = connect_deaf(server.port)
    deaf.send(type="session.start", flow={"max_ahead_ms": 0})
    deaf.send(type="text.append", text="A long story. " * 4000)
    while await metric(server.port, "cosyduplex_sessions") != 0:
        await asyncio.sleep(0.1)
    assert deaf.is_dropped()


async def test_a_client_that_answers_no_ping_is_dropped(fake_server, connect_deaf):
    server = fake_server("--ping-interval-s", "0.3")
    deaf = connect_deaf(server.port)
    deaf.send(type="ping")
    while await metric(server.port, "cosyduplex_sessions") != 0:
        await asyncio.sleep(0.1)
    assert deaf.is_dropped()


async def test_a_client_that_says_goodbye_and_lingers_is_dropped(fake_server, connect_deaf):
    server = fake_server()
    deaf = connect_deaf(server.port)
    deaf.send(type="text.append", text="On and on. " * 100)
    deaf.socket.sendall(b"\x88\x80\0\0\0\0")
    while await metric(server.port, "cosyduplex_sessions") != 0:
        await asyncio.sleep(0.05)


async def test_a_slow_reader_is_resumed_and_loses_nothing(fake_server):
    server = fake_server(ms_per_char=50)
    start = SessionStart(flow=FlowOptions(max_ahead_ms=0))
    slow = await NativeClient.open(server.ws_url, start)
    async with slow:
        slow.socket.transport.pause_reading()
        await slow.send(TextAppend(text="This is read late but whole. " * 60), TextEnd())
        await asyncio.sleep(1.0)
        slow.socket.transport.resume_reading()
        done = await slow.until(ContextDone)
        assert len(slow.audio()) == done.audio_ms * 48
        assert done.audio_ms == 60 * 28 * 50
