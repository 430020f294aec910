"""On a dialect's socket, who stops reading is dropped, its engine is freed, and others hear everything."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from bridges.conftest import Scripted
from bridges.sockets import DialectClient, binary, metric, seconds, wait_for_metric

LONG = "A text that nobody reads the audio of, so that it piles up on the way. " * 100
HEARD = "The others hear this to its end."
OUTPUT = {"container": "raw", "encoding": "pcm_f32le", "sample_rate": 48000}
CARTESIA = {
    "context_id": "a",
    "transcript": LONG,
    "voice": "fake",
    "output_format": OUTPUT,
    "continue": False,
}

DEAF: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "deepgram v1": ("/v1/speak?model=fake&sample_rate=48000", [{"type": "Speak", "text": LONG}]),
    "deepgram v2": ("/v2/speak?model=fake&sample_rate=48000", [{"type": "Speak", "text": LONG}]),
    "cartesia": ("/tts/websocket", [CARTESIA]),
    "elevenlabs": (
        "/v1/text-to-speech/fake/stream-input?output_format=pcm_48000",
        [{"text": " "}, {"text": LONG}, {"text": ""}],
    ),
    "elevenlabs multi": (
        "/v1/text-to-speech/fake/multi-stream-input?output_format=pcm_48000",
        [{"text": " ", "context_id": "a"}, {"text": LONG, "context_id": "a", "flush": True}],
    ),
    "dashscope realtime": (
        "/api-ws/v1/realtime?model=qwen3-tts-flash-realtime",
        [
            {"type": "session.update", "session": {"voice": "fake", "sample_rate": 48000}},
            {"type": "input_text_buffer.append", "text": LONG},
        ],
    ),
}


@pytest.fixture(scope="module")
def scripted(serve: Callable[..., Scripted]) -> Scripted:
    return serve("--write-timeout-s", "1", "--dialect-max-ahead-ms", "0", ms_per_char=60)


def connect_deaf(port: int, path: str, messages: list[dict[str, Any]]) -> socket.socket:
    """Says its messages through a socket with a small receive buffer, and reads no more."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.connect(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    peer.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    assert b"101" in peer.recv(1000)
    for message in messages:
        data = json.dumps(message).encode()
        size = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        peer.sendall(b"\x81" + size + bytes(4) + data)  # masked with zeros
    return peer


@pytest.mark.parametrize("door", DEAF)
def test_who_stops_reading_is_dropped_and_holds_nobody_up(scripted: Scripted, door: str) -> None:
    server = scripted.server
    path, messages = DEAF[door]
    deaf = connect_deaf(server.port, path, messages)
    wait_for_metric(server, "cosyduplex_contexts", 1)
    with DialectClient(server, "/v1/speak?model=fake&sample_rate=24000") as other:
        other.say({"type": "Speak", "text": HEARD}, {"type": "Flush"})
        assert seconds(binary(other.until("Flushed"))) == pytest.approx(0.06 * len(HEARD), abs=0.05)
    wait_for_metric(server, "cosyduplex_contexts", 0)
    wait_for_metric(server, "cosyduplex_sessions", 0)
    assert metric(server, 'cosyduplex_engine_slots{state="busy"}') == 0
    deaf.close()
