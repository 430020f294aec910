"""Servers that the tests of doors share: starting one costs more than most of these tests."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bridges.http_calls import Journal
from conftest import FakeWorker, ServerProcess

PARAMETERS = ("speed", "emotion", "instruct", "dialect", "seed")


@dataclass(frozen=True, slots=True)
class Scripted:
    """A server whose engine follows a script.

    Attributes:
        server: the server.
        spoken: how each context was to be spoken.
        voices: which voices came and went.
    """

    server: ServerProcess
    spoken: Journal
    voices: Journal

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port


@contextmanager
def servers() -> Iterator[Callable[..., Scripted]]:
    """Starts servers with scripted engines; they end with the block.

    Raises:
        AssertionError: one has logged a traceback.
    """
    started: list[tuple[FakeWorker, ServerProcess]] = []
    # Not pytest's own folder: a socket's path may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="cdx-", dir="/tmp") as root:

        def start(*options: str, **script: Any) -> Scripted:
            folder = Path(root, str(len(started)))
            folder.mkdir()
            spoken, voices = Journal(folder / "spoken"), Journal(folder / "voices")
            worker = FakeWorker(folder, open_log=str(spoken.file), voice_log=str(voices.file), **script)
            try:
                server = ServerProcess(
                    "--workers", worker.address, "--voices-dir", str(folder / "added"), *options
                )
            except BaseException:
                worker.close()
                raise
            started.append((worker, server))
            return Scripted(server, spoken, voices)

        yield start
        logs = [server.log() for _, server in started]
        for worker, server in started:
            server.close()
            worker.close()
        for log in logs:
            assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., Scripted]]:
    """Starts servers, `serve("--api-key", "k", clones=True)`; they end with the module."""
    with servers() as start:
        yield start


@pytest.fixture(scope="session")
def share() -> Iterator[Callable[..., Scripted]]:
    """As `serve`, but one server for all who ask for the same; they leave it as they found it."""
    with servers() as start:
        known: dict[str, Scripted] = {}

        def shared(*options: str, **script: Any) -> Scripted:
            asked = json.dumps([options, script])
            if asked not in known:
                known[asked] = start(*options, **script)
            return known[asked]

        yield shared


@pytest.fixture(scope="module")
def scripted(serve: Callable[..., Scripted]) -> Scripted:
    """A server whose engine knows every option, clones voices, and speaks 60 ms a character at once."""
    return serve(clones=True, parameters=PARAMETERS, voices=["zh-f", "en-f"])


@pytest.fixture(scope="session")
def common(share: Callable[..., Scripted]) -> Scripted:
    """As `scripted`, for all who leave it as they found it."""
    return share(clones=True, parameters=PARAMETERS, voices=["zh-f", "en-f"])
