"""A client of any dialect whose messages are JSON and whose audio may be binary."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import numpy as np
from conftest import ServerProcess
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

Message = dict[str, Any] | bytes


class DialectClient:
    """One WebSocket, read when asked to.

    Attributes:
        server: whose it is.
        messages: everything that came, in order.
    """

    def __init__(self, server: ServerProcess, path: str, **details: Any) -> None:
        url = server.url.replace("http", "ws", 1) + path
        self.socket = connect(url, compression=None, max_size=None, legacy=True, **details)
        self.server = server
        self.messages: list[Message] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def say(self, *messages: dict[str, Any] | str | bytes) -> None:
        """Sends messages, whatever they are."""
        for message in messages:
            self.socket.send(json.dumps(message) if isinstance(message, dict) else message)

    def next(self, timeout_s: float = 20) -> Message:
        """The next message."""
        data = self.socket.recv(timeout=timeout_s)
        self.messages.append(data if isinstance(data, bytes) else json.loads(data))
        return self.messages[-1]

    def until(self, wanted: Callable[[Message], bool] | str) -> list[Message]:
        """The messages up to one that is wanted, a predicate or a `type`; that one is the last."""
        found = []
        is_wanted = wanted if callable(wanted) else lambda message: kind(message) == wanted
        while not found or not is_wanted(found[-1]):
            found.append(self.next())
        return found

    def closed(self) -> tuple[int, str]:
        """Reads to the end of the connection; returns the server's close code and reason."""
        with suppress(ConnectionClosed):
            while True:
                self.next()
        return self.socket.close_code or 0, self.socket.close_reason or ""

    def stays_quiet(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for a while."""
        try:
            self.next(seconds)
        except TimeoutError:
            return True
        return False


def kind(message: Message) -> str:
    """A message's type; "audio" of a binary one."""
    return "audio" if isinstance(message, bytes) else str(message.get("type"))


def binary(messages: list[Message]) -> bytes:
    """The audio of some messages."""
    return b"".join(message for message in messages if isinstance(message, bytes))


def seconds(pcm: bytes, rate_hz: int = 24000) -> float:
    """How long s16le is."""
    assert len(pcm) % 2 == 0
    return len(pcm) / 2 / rate_hz


def loudness(pcm: bytes) -> float:
    """The root mean square of s16le samples, in full scales."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64) / 32768
    return float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0


def tones_hz(pcm: bytes, rate_hz: int = 24000) -> set[int]:
    """The tones of scripted contexts in s16le, each to the nearest 10 Hz."""
    samples: NDArray[np.float64] = np.frombuffer(pcm, "<i2").astype(np.float64)
    size = rate_hz // 25
    windows = samples[: len(samples) // size * size].reshape(-1, size)
    power = np.mean(windows**2, axis=1)
    windows = windows[power > power.max(initial=0) / 4]
    spectra = np.abs(np.fft.rfft(windows * np.hanning(size), rate_hz // 5, axis=1))
    return {int(round(peak * 5 / 10) * 10) for peak in spectra.argmax(axis=1)}


def metric(server: ServerProcess, name: str) -> float:
    """One sample of `/metrics`, 0 where there is none yet."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), 0.0)


def wait_for_metric(server: ServerProcess, name: str, value: float, within_s: float = 10) -> None:
    """Returns once a sample has this value.

    Raises:
        AssertionError: it has another one still after `within_s`.
    """
    end = time.monotonic() + within_s
    while (now := metric(server, name)) != value:
        assert time.monotonic() < end, f"{name} is {now}"
        time.sleep(0.02)
