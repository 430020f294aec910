"""What the tests of the gRPC doors share."""

from __future__ import annotations

import asyncio
import re
import socket

import numpy as np


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def speech_like(seconds: float = 2.0, rate_hz: int = 16_000, pitch_hz: float = 150.0) -> np.ndarray:
    """A recording that is taken for one of a voice: float samples."""
    at_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.3 * np.sin(2 * np.pi * pitch_hz * at_s)).astype(np.float32)


def loudest_hz(samples: np.ndarray, rate_hz: int) -> float:
    """The frequency of a tone."""
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64)))
    return float(spectrum.argmax() * rate_hz / len(samples))


async def metric(port: int, name: str) -> float:
    """One value of /metrics; 0 where it is not there yet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    page = (await reader.read()).decode()
    writer.close()
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def until_idle(port: int) -> None:
    """Returns once no context is open at a server."""
    while await metric(port, "cosyduplex_contexts"):
        await asyncio.sleep(0.02)
