"""What works on this machine, and what to do about what does not."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson

LOUDSPEAKER_PROGRAMS = ("pw-cat", "paplay", "aplay", "ffplay", "play")
PROBE_S = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        name: what was looked at.
        level: `ok`; `missing` is something the main job does without; `broken` stops the main job.
        detail: what was found.
        solution: what to do, where something is to be done.
    """

    name: str
    level: Literal["ok", "missing", "broken"]
    detail: str
    solution: str = ""

    @property
    def mark(self) -> str:
        """A sign for the terminal."""
        return {"ok": "✓", "missing": "–", "broken": "✗"}[self.level]


def examine() -> list[Finding]:
    """Looks at everything."""
    return [
        _python(),
        _server_packages(),
        _embedded_voice(),
        _opus(),
        _loudspeaker(),
        _port(8765),
        _open_files(),
        _gpu(),
    ]


def _python() -> Finding:
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("Python", "ok", detail)


def _server_packages() -> Finding:
    needed = ("uvicorn", "starlette", "grpc", "numpy", "prometheus_client", "yaml", "cryptography")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        return Finding(
            "server packages",
            "broken",
            f"not installed: {', '.join(missing)}",
            "Run `pip install 'cosyduplex[server,voice]'`.",
        )
    return Finding("server packages", "ok", "installed")


def _embedded_voice() -> Finding:
    """Starts the voice's own program: its library must not be loaded into this one."""
    name = "embedded voice"
    command = [sys.executable, "-m", "cosyduplex_espeak", "--describe"]
    try:
        probe = subprocess.run(command, capture_output=True, timeout=PROBE_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding(
            name, "broken", f"did not start within {PROBE_S:g} s", "Try again; report it if it stays."
        )
    if probe.returncode != 0:
        last = probe.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it ended at once"]
        return Finding(name, "broken", last[0], "Run `pip install 'cosyduplex[voice]'`.")
    told = orjson.loads(probe.stdout.splitlines()[0])
    level: Literal["ok", "missing"] = "missing" if told["notes"] else "ok"
    detail = f"{told['engine']} {told['engine_version']}, {len(told['voices'])} voices"
    return Finding(name, level, detail, " ".join(told["notes"]))


def _opus() -> Finding:
    from cosyduplex_server.audio.opus import opus_available

    version = opus_available()
    if version is None:
        return Finding(
            "Opus",
            "missing",
            "libopus is not installed; audio is sent as PCM",
            "Install it (Debian: `apt-get install libopus0`, macOS: `brew install opus`).",
        )
    return Finding("Opus", "ok", version)


def _loudspeaker() -> Finding:
    found = next((name for name in LOUDSPEAKER_PROGRAMS if shutil.which(name)), None)
    if found is None:
        return Finding(
            "loudspeaker",
            "missing",
            "no program that plays sound was found; `say` can write files",
            "Install PipeWire, PulseAudio's or ALSA's tools, ffmpeg or sox; or use `say --out FILE`.",
        )
    return Finding("loudspeaker", "ok", f"`say` plays through {found}")


def _port(port: int) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            return Finding(
                f"port {port}", "missing", f"cannot be used: {exc.strerror}", "Start with another --port."
            )
    return Finding(f"port {port}", "ok", "free")


def _open_files() -> Finding:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        return Finding(
            "open files",
            "missing",
            f"{soft} at a time: about {soft - 64} sessions",
            f"Run `ulimit -n {min(hard, 65536)}` before starting.",
        )
    return Finding("open files", "ok", f"{soft} at a time")


def _gpu() -> Finding:
    has_device = Path("/dev/nvidia0").exists() or "CUDA_VISIBLE_DEVICES" in os.environ
    if not has_device:
        return Finding("GPU", "missing", "none found; the embedded voice needs none")
    return Finding("GPU", "ok", "an NVIDIA device is there")
