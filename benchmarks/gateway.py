"""What one listener costs the gateway: CPU per 1,000 stream-seconds, beside two plain WebSocket servers.

Every server is pinned to core 0, the load and the scripted engine to core 1; the servers take turns in the
same run and the least of the repeats counts, since other programs share the machine. Figures are ratios to
node's `ws` of the same run; the CPU seconds beside them hold for this machine alone.

    .venv/bin/python benchmarks/gateway.py --json benchmarks/results/gateway.json

Needs node and, once, `npm ci` in benchmarks/peers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent / "peers"
SERVER_CORE, LOAD_CORE = 0, 1
# The gateway first fills each listener's buffer (3 s); the cost of a stream is that of the time after it.
SETTLE_S = 6.0
FRAME_BYTES = 2 + 2 + 12 + 960  # WebSocket header, frame header, 20 ms of PCM at 24 kHz
OPUS_FRAME_BYTES = 2 + 2 + 12 + 120  # 48 kb/s, on average; the encoder keeps to it closely


def pin(core: int) -> None:
    """Keeps this process on one core, where there are two."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads of a process."""
    total_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def rss_kb(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


# --- servers -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def run(command: list[str], core: int) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """A program pinned to a core, and the line of JSON it begins with."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=lambda: pin(core)
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{shlex.join(command)} did not start")
        yield process, json.loads(line)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def cosyduplex_server() -> Iterator[tuple[int, int]]:
    """Our server over a scripted engine; its process id and port."""
    with tempfile.TemporaryDirectory(prefix="cdx-") as folder:
        address = f"unix:{folder}/worker.sock"
        script = {"ms_per_char": 100, "chunk_ms": 1000, "slots": 4000}
        worker = [sys.executable, "-m", "cosyduplex_server.testing", "--listen", address]
        server = [sys.executable, "-m", "cosyduplex_server", "serve", "--port", "0", "--log-format", "json"]
        server += ["--log-level", "error", "--workers", address, "--max-sessions", "5000"]
        with run([*worker, "--script", json.dumps(script)], LOAD_CORE):
            with run(server, SERVER_CORE) as (process, ready):
                yield process.pid, int(ready["urls"][0].rpartition(":")[2])


@contextlib.contextmanager
def peer_server(*command: str) -> Iterator[tuple[int, int]]:
    """A plain server of `peers/`."""
    with run(list(command), SERVER_CORE) as (process, ready):
        yield process.pid, ready["port"]


SERVERS = {
    "node ws": lambda: peer_server("node", str(PEERS / "node_ws.js"), "1"),
    "node ws, 100 ms bursts": lambda: peer_server("node", str(PEERS / "node_ws.js"), "5"),
    "websockets": lambda: peer_server(sys.executable, str(PEERS / "plain_websockets.py")),
    "cosyduplex": cosyduplex_server,
}

# --- load --------------------------------------------------------------------------------------------


def masked(data: bytes) -> bytes:
    """A client's text frame; its mask is zero, which costs this side nothing."""
    if len(data) < 126:
        length = bytes((0x80 | len(data),))
    elif len(data) < 1 << 16:
        length = b"\xfe" + len(data).to_bytes(2, "big")
    else:
        length = b"\xff" + len(data).to_bytes(8, "big")
    return b"\x81" + length + bytes(4) + data


@dataclass
class Totals:
    """What all listeners together have received."""

    num_bytes: int = 0
    open: int = 0
    lost: int = 0


class Listener(asyncio.Protocol):
    """Shakes hands, says what it is told to, counts what comes."""

    def __init__(self, path: str, opening: list[dict[str, Any]], totals: Totals) -> None:
        self._path, self._opening, self._totals = path, opening, totals
        self._is_open = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if not self._is_open:
            assert b" 101 " in data, data
            self._is_open = True
            self._totals.open += 1
            for message in self._opening:
                self.say(message)
        self._totals.num_bytes += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._totals.lost += 1

    def say(self, message: dict[str, Any]) -> None:
        """Sends a message."""
        assert self.transport is not None
        self.transport.write(masked(json.dumps(message).encode()))


async def connect_all(
    port: int, num: int, path: str, opening: list[dict[str, Any]]
) -> tuple[list[Listener], Totals]:
    """Connects listeners, a hundred at a time."""
    totals, listeners = Totals(), []
    loop = asyncio.get_running_loop()
    for start in range(0, num, 100):
        made = await asyncio.gather(
            *(
                loop.create_connection(lambda: Listener(path, opening, totals), "127.0.0.1", port)
                for _ in range(min(100, num - start))
            )
        )
        listeners += [protocol for _, protocol in made]
        while totals.open < len(listeners):
            await asyncio.sleep(0.01)
    return listeners, totals


@dataclass
class Sample:
    """One server, one load, once."""

    cpu_s_per_1000_stream_s: float
    delivered: float  # stream-seconds that came over those due
    rss_kb: int


def opening_of(server: str, seconds: float, codec: str, max_ahead_ms: int) -> list[dict[str, Any]]:
    """What a listener says first: to the plain servers nothing, they send on their own."""
    if server != "cosyduplex":
        return []
    audio = {"encoding": codec, "sample_rate": 24000}
    words = int(seconds * 10 / 5) + 1  # 100 ms a character, "word " has five
    return [
        {"type": "session.start", "audio": audio, "flow": {"max_ahead_ms": max_ahead_ms}},
        {"type": "text.append", "text": "word " * words},
        {"type": "text.end"},
    ]


async def measure(
    server: str, num: int, seconds: float, codec: str = "pcm_s16le", max_ahead_ms: int = 3000
) -> Sample:
    """CPU of `num` streams over `seconds`, after they have settled."""
    with SERVERS[server]() as (pid, port):
        opening = opening_of(server, seconds + SETTLE_S + 10, codec, max_ahead_ms)
        listeners, totals = await connect_all(port, num, "/v1/duplex", opening)
        await asyncio.sleep(SETTLE_S)
        began_s, began_cpu_s, began_bytes = time.perf_counter(), cpu_s(pid), totals.num_bytes
        await asyncio.sleep(seconds)
        lasted_s = time.perf_counter() - began_s
        used_s = cpu_s(pid) - began_cpu_s
        frame_bytes = FRAME_BYTES if codec == "pcm_s16le" else OPUS_FRAME_BYTES
        came_s = (totals.num_bytes - began_bytes) / frame_bytes / 50
        sample = Sample(used_s / came_s * 1000, came_s / (num * lasted_s), rss_kb(pid))
        assert totals.lost == 0, f"{totals.lost} listeners of {server} were dropped"
        for listener in listeners:
            assert listener.transport is not None
            listener.transport.abort()
    return sample


async def measure_text(num: int, seconds: float, per_s: int) -> float:
    """CPU seconds of 1,000 fragments that are appended while the audio of earlier text is sent."""
    with cosyduplex_server() as (pid, port):
        opening = [{"type": "session.start", "audio": {"encoding": "pcm_s16le"}}]
        listeners, _ = await connect_all(port, num, "/v1/duplex", opening)
        fragment = masked(json.dumps({"type": "text.append", "text": "word "}).encode())
        loop = asyncio.get_running_loop()
        sent, began_cpu_s, end_s = 0, cpu_s(pid), loop.time() + seconds
        due_s = [loop.time() + i / num / per_s for i in range(num)]
        while loop.time() < end_s:
            now_s = loop.time()
            for i, listener in enumerate(listeners):
                if due_s[i] <= now_s:
                    assert listener.transport is not None
                    listener.transport.write(fragment)
                    due_s[i] += 1 / per_s
                    sent += 1
            await asyncio.sleep(0.005)
        used_s = cpu_s(pid) - began_cpu_s
        for listener in listeners:
            assert listener.transport is not None
            listener.transport.abort()
    return used_s / sent * 1000


async def measure_idle(num: int) -> float:
    """Resident kilobytes of one started session that does nothing."""
    with cosyduplex_server() as (pid, port):
        first, _ = await connect_all(port, 50, "/v1/duplex", [{"type": "session.start"}])
        await asyncio.sleep(0.5)
        before_kb = rss_kb(pid)
        rest, _ = await connect_all(port, num, "/v1/duplex", [{"type": "session.start"}])
        await asyncio.sleep(0.5)
        each_kb = (rss_kb(pid) - before_kb) / num
        for listener in (*first, *rest):
            assert listener.transport is not None
            listener.transport.abort()
    return each_kb


# --- the run -----------------------------------------------------------------------------------------


@dataclass
class Case:
    """One line of the result: the least of its repeats."""

    server: str
    streams: int
    codec: str
    max_ahead_ms: int
    samples: list[Sample] = field(default_factory=list)

    @property
    def best(self) -> Sample:
        """The repeat that was disturbed least."""
        return min(self.samples, key=lambda sample: sample.cpu_s_per_1000_stream_s)


def cases(streams: list[int]) -> list[Case]:
    """Every server at every size; Opus where there is CPU for it."""
    out = []
    for num in streams:
        out += [Case(name, num, "pcm_s16le", 0) for name in SERVERS if name != "cosyduplex"]
        out.append(Case("cosyduplex", num, "pcm_s16le", 3000))
        if num <= 100:
            out.append(Case("cosyduplex", num, "pcm_s16le", 200))
            out.append(Case("cosyduplex", num, "opus", 3000))
    return out


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 500, 1000])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--servers", nargs="+", default=list(SERVERS), choices=list(SERVERS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pin(LOAD_CORE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
    todo = [case for case in cases(options.streams) if case.server in options.servers]
    for repeat in range(options.repeats):
        for case in todo:
            sample = await measure(
                case.server, case.streams, options.seconds, case.codec, case.max_ahead_ms or 3000
            )
            case.samples.append(sample)
            print(
                f"{repeat + 1}/{options.repeats} {case.server:24} {case.streams:5} {case.codec:9} "
                f"{sample.cpu_s_per_1000_stream_s:7.3f} CPU-s per 1,000 stream-s, {sample.delivered:6.1%}",
                flush=True,
            )
    text = {per_s: await measure_text(100, options.seconds, per_s) for per_s in (20, 50)}
    idle_kb = await measure_idle(1000)
    result = report(todo, text, idle_kb)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def report(todo: list[Case], text: dict[int, float], idle_kb: float) -> dict[str, Any]:
    """Prints the table and returns it."""
    rows = []
    for case in todo:
        node = next(c for c in todo if c.server == "node ws" and c.streams == case.streams)
        ratio = case.best.cpu_s_per_1000_stream_s / node.best.cpu_s_per_1000_stream_s
        rows.append(
            {
                "server": case.server,
                "streams": case.streams,
                "codec": case.codec,
                "max_ahead_ms": case.max_ahead_ms or None,
                **asdict(case.best),
                "ratio_to_node_ws": ratio,
                "all_cpu_s_per_1000_stream_s": [s.cpu_s_per_1000_stream_s for s in case.samples],
            }
        )
        print(
            f"{case.server:24} {case.streams:5} {case.codec:9} ahead {case.max_ahead_ms or '-':>5} "
            f"{case.best.cpu_s_per_1000_stream_s:7.3f}  × {ratio:.2f} of node ws  {case.best.delivered:.1%}"
        )
    for per_s, seconds in text.items():
        print(f"1,000 text fragments at {per_s} a second: {seconds * 1000:.1f} ms CPU")
    print(f"an idle session: {idle_kb:.1f} KB")
    return {
        "command": shlex.join(["benchmarks/gateway.py", *sys.argv[1:]]),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
        "streams": rows,
        "cpu_s_per_1000_fragments": {str(per_s): seconds for per_s, seconds in text.items()},
        "idle_session_kb": idle_kb,
    }


if __name__ == "__main__":
    asyncio.run(main())
