"""What a server tells of itself over HTTP, and what the kernel tells of a process."""

from __future__ import annotations

import asyncio
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from cosyduplex_server.bench.stalls import ServerUnderruns


@dataclass(frozen=True, slots=True)
class Reading:
    """The server's counters at one moment.

    Attributes:
        underruns: listeners that ran dry, by cause; None where the server does not say.
        cpu_s: CPU seconds used; None where nobody says.
        cpu_source: who said.
    """

    underruns: ServerUnderruns | None = None
    cpu_s: float | None = None
    cpu_source: str = ""

    def underruns_since(self, earlier: Reading) -> ServerUnderruns | None:
        """Listeners that ran dry between two readings."""
        if self.underruns is None or earlier.underruns is None:
            return None
        return ServerUnderruns(
            text=self.underruns.text - earlier.underruns.text,
            compute=self.underruns.compute - earlier.underruns.compute,
            gateway=self.underruns.gateway - earlier.underruns.gateway,
        )

    def cpu_since(self, earlier: Reading) -> float | None:
        """CPU seconds used between two readings."""
        if self.cpu_s is None or earlier.cpu_s is None or self.cpu_source != earlier.cpu_source:
            return None
        return self.cpu_s - earlier.cpu_s


async def read_server(url: str, api_key: str | None, server_pid: int | None) -> Reading:
    """Reads the counters: `/metrics`, and `/proc` for the CPU time of a process on this machine."""
    page = await asyncio.to_thread(_ask, f"{url}/metrics", api_key)
    samples = {} if page is None else _samples(page.decode())
    underruns = None
    if ("cosyduplex_underruns_total", "gateway") in samples:
        underruns = ServerUnderruns(
            *(samples["cosyduplex_underruns_total", cause] for cause in ("text", "compute", "gateway"))
        )
    if server_pid is not None:
        return Reading(underruns, process_cpu_s(server_pid), f"/proc/{server_pid}/stat")
    cpu_s = samples.get(("process_cpu_seconds_total", ""))
    return Reading(underruns, cpu_s, "process_cpu_seconds_total of /metrics")


async def read_info(url: str, api_key: str | None) -> dict[str, Any]:
    """`/v1/info`; empty where it is not to be had."""
    answer = await asyncio.to_thread(_ask, f"{url}/v1/info", api_key)
    try:
        info = orjson.loads(answer or b"")
    except orjson.JSONDecodeError:
        return {}
    return info if isinstance(info, dict) else {}


def _ask(url: str, api_key: str | None) -> bytes | None:
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return None
    except (OSError, HTTPException):
        return None


def _samples(page: str) -> dict[tuple[str, str], float]:
    """Values by name and cause."""
    return {
        (sample.name, sample.labels.get("cause", "")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def process_cpu_s(pid: int) -> float | None:
    """CPU seconds of a process on this machine, all its threads, its children not counted."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name before it may hold blanks and parentheses.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class OwnLoad:
    """How busy this process is: its CPU share, and how late its event loop comes to its work."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()
        self._began_cpu_s = time.process_time()

    @property
    def cpu_s(self) -> float:
        """CPU seconds used since the beginning."""
        return time.process_time() - self._began_cpu_s

    @property
    def cpu_share(self) -> float:
        """CPU seconds per second since the beginning."""
        return self.cpu_s / max(time.perf_counter() - self._began_s, 1e-9)
