"""The embedded voice as tests meet it: a worker process behind the link, shared by all of them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest


@pytest.fixture(scope="session")
def voice_address() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="cdx") as folder:
        address = f"unix:{Path(folder) / 'v.sock'}"
        command = [sys.executable, "-m", "cosyduplex_espeak", "--listen", address, "--exit-with-stdin"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["address"]
            process.communicate()


@pytest.fixture
async def channel(voice_address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(voice_address) as channel:
        yield channel
