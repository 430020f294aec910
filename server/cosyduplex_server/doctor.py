"""What works on this machine, and what to do about what does not."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import grpc
import orjson

from cosyduplex_server.app import EMBEDDED_VOICE_MODULE
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.link.worker_pb2_grpc import EngineWorkerStub

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


def _embedded_voice() -> Finding:
    """Starts the voice's own program and asks it over the link: its library must not be loaded here."""
    name = "embedded voice"
    with tempfile.TemporaryDirectory(prefix="cosyduplex-") as folder:
        command = [sys.executable, "-m", EMBEDDED_VOICE_MODULE, "--exit-with-stdin"]
        worker = subprocess.Popen(
            [*command, "--listen", f"unix:{folder}/voice.sock"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with worker:
            assert worker.stdout is not None
            assert worker.stderr is not None
            line = worker.stdout.readline()
            if not line:
                last = worker.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
                detail = last[0] if last else "it ended at once"
                return Finding(name, "broken", detail, "Run `pip install 'cosyduplex[server,voice]'`.")
            with grpc.insecure_channel(orjson.loads(line)["address"]) as channel:
                stub = EngineWorkerStub(channel)  # type: ignore[no-untyped-call]
                told = stub.Describe(link.DescribeRequest(), timeout=PROBE_S)
            worker.communicate()  # its standard input ends, and so does it
    speaks = sorted({voice.language.partition("-")[0] for voice in told.voices})
    detail = f"{told.engine} {told.engine_version}, {len(told.voices)} voices ({', '.join(speaks)})"
    if "zh" not in speaks:
        return Finding(name, "missing", detail, " ".join(told.notes))
    return Finding(name, "ok", detail)


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
