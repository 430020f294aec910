"""What the tests of HTTP doors call with, and hear with: no SDK, no HTTP library but the standard one."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def samples(self) -> NDArray[np.int16]:
        """The body as s16le."""
        return np.frombuffer(self.body, "<i2")

    @property
    def warning(self) -> str:
        """What was not done as asked."""
        return self.headers.get("x-cosyduplex-warning", "")


def call(
    port: int,
    method: str,
    path: str,
    body: bytes | str | Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Sends a request; a mapping is sent as JSON."""
    headers = dict(headers or {})
    if isinstance(body, Mapping):
        body = json.dumps(body)
        headers.setdefault("Content-Type", "application/json")
    if isinstance(body, str):
        body = body.encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        data = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)
    finally:
        connection.close()


def urlencoded(fields: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
    """A form as browsers send it, and its header."""
    return urlencode(fields).encode(), {"Content-Type": "application/x-www-form-urlencoded"}


def multipart(
    fields: Mapping[str, str], files: Mapping[str, bytes] | None = None
) -> tuple[bytes, dict[str, str]]:
    """A form with files, and its header."""
    boundary = "between-two-fields"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for name, data in (files or {}).items():
        head = f'Content-Disposition: form-data; name="{name}"; filename="{name}"'
        parts.append(
            f"--{boundary}\r\n{head}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
            + data
            + b"\r\n"
        )
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def raw_request(method: str, path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """The bytes of a request, for a socket."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def metrics(port: int) -> dict[str, float]:
    """Every sample of `/metrics`, by its name with labels."""
    lines = call(port, "GET", "/metrics").body.decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def wait_for(condition: Callable[[], bool], what: str, within_s: float = 10) -> None:
    """Returns as soon as something is so.

    Raises:
        AssertionError: it is not so in time.
    """
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def hang_up_halfway(port: int, request: bytes) -> None:
    """Reads the beginning of the answer and resets the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(request)
        assert b"200 OK" in client.recv(65536)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def tone_hz(samples: NDArray[np.int16], rate_hz: int) -> int:
    """The tone of a scripted engine's context, to the nearest 20 Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return round(float(spectrum.argmax()) * rate_hz / len(samples) / 20) * 20


@dataclass(frozen=True, slots=True)
class Journal:
    """What a scripted engine wrote down, a JSON object a line."""

    file: Path

    def last(self) -> dict[str, Any]:
        """The latest entry."""
        entry: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8").splitlines()[-1])
        return entry
