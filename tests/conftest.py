"""Servers under test run in processes of their own, as a user would start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from cosyduplex_server.audio.opus import OpusUnavailable, opus_available

# The same examples every time, so that a change fails for what it changed; HYPOTHESIS_PROFILE=default looks
# for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# Without libopus, which not everybody may install, what needs it is skipped, and says so.


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what asks a server for Opus."""
    named = item.get_closest_marker("opus") or "opus" in item.nodeid.replace("without_libopus", "")
    if named and opus_available() is None:
        pytest.skip("libopus is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Skips what calls the library itself."""
    try:
        return (yield)
    except OpusUnavailable:
        pytest.skip("libopus is not installed")


# Fixed ports would be everybody's at once; tests of these doors name their own. A second process of the
# embedded voice takes as long to start as the server.
LEAN = ("--triton-grpc-port", "0", "--cosyvoice-grpc-port", "0", "--voice-processes", "1")


class ServerProcess:
    """A `cosyduplex serve` in a process of its own.

    Attributes:
        url: its plain HTTP URL.
        ws_url: its native door.
        ready: its ready line.
    """

    def __init__(self, *options: str, environment: dict[str, str] | None = None, prelude: str = "") -> None:
        self._log = tempfile.TemporaryFile()
        # The prelude makes the machine another one: without a library, say.
        code = f"{prelude}\nimport sys\nfrom cosyduplex_server.cli import main\nsys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "serve", "--port", "0", "--log-format", "json", *LEAN]
        self.process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **(environment or {})},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise RuntimeError(f"the server did not start:\n{self.log()}")
        self.ready: dict[str, Any] = json.loads(line)
        self.urls: list[str] = self.ready["urls"]
        self.url = self.urls[0]
        self.ws_url = self.urls[-1]
        self.port = int(self.url.rpartition(":")[2])

    def log(self) -> str:
        """What it has written to standard error so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def memory_kb(self) -> int:
        """Its resident memory, children not counted."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def terminate(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)

    def close(self) -> None:
        """Ends it, however it stands."""
        if self.process.poll() is None:
            self.terminate()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()


class FakeWorker:
    """A scripted engine worker in a process of its own; `address` is for `--workers`."""

    def __init__(self, folder: Path, **script: Any) -> None:
        self.address = f"unix:{folder}/worker.sock"
        command = [sys.executable, "-m", "cosyduplex_server.testing", "--listen", self.address]
        self.process = subprocess.Popen(
            [*command, "--script", json.dumps(script)], stdout=subprocess.PIPE, stderr=None
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), "the fake worker did not start"

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def start_server() -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers with the options given; they end with the test."""
    servers: list[ServerProcess] = []

    def start(*options: str, **details: Any) -> ServerProcess:
        servers.append(ServerProcess(*options, **details))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def start_worker() -> Iterator[Callable[..., FakeWorker]]:
    """Starts scripted workers; they end with the test."""
    workers: list[FakeWorker] = []
    # Not pytest's own folder: a socket's path may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="cdx-", dir="/tmp") as folder:

        def start(**script: Any) -> FakeWorker:
            own = Path(folder, str(len(workers)))
            own.mkdir()
            workers.append(FakeWorker(own, **script))
            return workers[-1]

        yield start
        for worker in workers:
            worker.close()


@pytest.fixture(scope="session")
def voice_server() -> Iterator[ServerProcess]:
    """One server with the embedded voice, shared by tests that leave it as they found it."""
    server = ServerProcess("--engine", "espeak", "--voice-processes", "2")
    yield server
    log = server.log()
    server.close()
    assert "Traceback" not in log, log


@pytest.fixture
def fake_server(
    start_server: Callable[..., ServerProcess], start_worker: Callable[..., FakeWorker]
) -> Callable[..., ServerProcess]:
    """Starts a server whose engine is a scripted worker."""

    def start(*options: str, **script: Any) -> ServerProcess:
        return start_server("--workers", start_worker(**script).address, *options)

    return start
