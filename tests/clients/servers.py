"""Servers and scripted engines in processes of their own, from the environment in which the server lives."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "bin" / "python"
HOST = "127.0.0.1"


class Server:
    """A `cosyduplex serve` with every port open.

    Attributes:
        url: `http://127.0.0.1:PORT`; `ws_url` is the same with `ws`.
        tls_url: `https://127.0.0.1:PORT`; a client trusts it by `ca_file`.
        triton: `127.0.0.1:PORT` of the Triton door.
        cosyvoice: `127.0.0.1:PORT` of the CosyVoice gRPC door.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._log = tempfile.TemporaryFile()
        tls, triton, cosyvoice = free_ports(3)
        ports = ["--port", "0", "--tls-port", str(tls), "--tls-cert", "auto"]
        ports += ["--triton-grpc-port", str(triton), "--cosyvoice-grpc-port", str(cosyvoice)]
        self._process = subprocess.Popen(
            [PYTHON, "-m", "cosyduplex_server", "serve", "--log-format", "json", *ports, *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise RuntimeError(f"the server did not start:\n{self.log()}")
        self.url: str = json.loads(line)["urls"][0]
        self.ws_url = self.url.replace("http", "ws", 1)
        self.tls_url = f"https://{HOST}:{tls}"
        self.triton = f"{HOST}:{triton}"
        self.cosyvoice = f"{HOST}:{cosyvoice}"
        self.ca_file = folder / "ca.pem"
        # A self-signed certificate is its own authority, and is shown to whoever connects.
        self.ca_file.write_text(ssl.get_server_certificate((HOST, tls)))

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a client that is to find this server."""
        return {
            **os.environ,
            "COSYDUPLEX_URL": self.url,
            "COSYDUPLEX_WS_URL": self.ws_url,
            "COSYDUPLEX_TLS_URL": self.tls_url,
            "COSYDUPLEX_TRITON": self.triton,
            "COSYDUPLEX_COSYVOICE_GRPC": self.cosyvoice,
            "SSL_CERT_FILE": str(self.ca_file),
        }

    def log(self) -> str:
        """What it has written to standard error so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def get(self, path: str) -> Any:
        """The JSON at `path`."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`, by its name with labels."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def wait_until_idle(self, within_s: float = 15) -> None:
        """Returns when no context is being spoken.

        Raises:
            AssertionError: one still is after `within_s`: its client is gone and its synthesis goes on.
        """
        end = time.monotonic() + within_s
        while (contexts := self.metrics()["cosyduplex_contexts"]) > 0:
            assert time.monotonic() < end, f"{contexts:g} contexts go on without a listener"
            time.sleep(0.05)

    def close(self) -> None:
        """Ends it, and looks for tracebacks in what it wrote.

        Raises:
            AssertionError: it wrote one, or did not end well.
        """
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=40)
        assert self._process.stdout is not None
        self._process.stdout.close()
        log = self.log()
        self._log.close()
        assert "Traceback" not in log, log
        assert code == 0, log


class ScriptedWorker:
    """A scripted engine by `cosyduplex_server.testing.FakeScript`; `address` is for `--workers`."""

    def __init__(self, folder: Path, script: dict[str, Any]) -> None:
        self.address = f"unix:{folder}/worker.sock"
        command = [PYTHON, "-m", "cosyduplex_server.testing", "--listen", self.address]
        self._process = subprocess.Popen(
            [*command, "--script", json.dumps(script)], stdout=subprocess.PIPE, stderr=None
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the scripted worker did not start"

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [open_socket.getsockname()[1] for open_socket in sockets]
    for open_socket in sockets:
        open_socket.close()
    return ports
