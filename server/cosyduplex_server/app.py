"""The composition root: everything is made, wired and taken down here, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

import cosyduplex
from cosyduplex.messages import PCM_SAMPLE_RATES_HZ
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.doors import http_doors, socket_doors
from cosyduplex_bridges.grpc_doors import grpc_servers
from cosyduplex_server.access import Gatekeeper
from cosyduplex_server.audio.opus import opus_available
from cosyduplex_server.audio.resample import Resampler
from cosyduplex_server.config import Config
from cosyduplex_server.engine.cosyvoice.files import CheckpointError, find_checkpoint
from cosyduplex_server.engine.cosyvoice.options import PROG as COSYVOICE_PROG
from cosyduplex_server.engine.pool import WorkerPool
from cosyduplex_server.engine.supervisor import EngineStartError, Supervisor
from cosyduplex_server.engine.voice_sync import VoiceSync
from cosyduplex_server.errors import ConfigError
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.http import make_app
from cosyduplex_server.listener import DUPLEX_PATH, NATIVE_DOOR, http_protocol, websocket_factory
from cosyduplex_server.metrics import Metrics
from cosyduplex_server.text.front import warm
from cosyduplex_server.tls import make_tls_context
from cosyduplex_server.voice_store import VoiceStore, default_voices_dir

log = logging.getLogger(__name__)

EMBEDDED_VOICE_MODULE = "cosyduplex_espeak"
COSYVOICE_MODULE = "cosyduplex_server.engine.cosyvoice.worker"
COSYVOICE_PACKAGES = ("torch", "tokenizers", "safetensors", "onnxruntime")
MAX_VOICE_PROCESSES = 4
# Workers elsewhere may come up after the gateway; it begins without them and says so.
REMOTE_WORKERS_S = 5.0
BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Running:
    """A server that takes calls.

    Attributes:
        urls: where, plain first.
        grpc: the addresses of the gRPC doors, by name.
        gateway: its shared parts.
    """

    urls: tuple[str, ...]
    grpc: Mapping[str, str]
    gateway: Gateway

    @property
    def ws_url(self) -> str:
        """Where the native protocol is, plain."""
        return self.urls[0].replace("http", "ws", 1) + DUPLEX_PATH


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers, and with an event for having started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the application's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, and says so."""
        await super().startup(sockets)
        self.listening.set()

    async def start(self, listening: socket.socket) -> None:
        """Begins to serve."""
        self._serving = asyncio.create_task(self.serve([listening]), name="http server")
        await self.listening.wait()

    async def stop(self) -> None:
        """Ends serving."""
        self.should_exit = True
        await self._serving


@asynccontextmanager
async def run_server(config: Config) -> AsyncIterator[Running]:
    """A server for as long as the block lasts; leaving it drains the sessions.

    Raises:
        ConfigError: a port is taken, a file cannot be used.
        EngineStartError: the engine cannot start.
    """
    command, reason = _engine_command(config)
    async with AsyncExitStack() as stack:
        sockets = _bind_all(config)
        for listening, _ in sockets:
            stack.callback(listening.close)
        voices = VoiceSync(await asyncio.to_thread(_open_store, config))
        pool = WorkerPool(
            on_stalled=lambda name: gateway.supervisor.kill(name) if gateway.supervisor else None,
            voices=voices,
        )
        gateway = Gateway(config, pool, voices, Gatekeeper(config, time.time), Metrics(), reason)
        stack.callback(gateway.close)
        stack.push_async_callback(_end, asyncio.create_task(voices.follow(), name="voices' folder"))
        bridge = Bridge.of(gateway)
        # HTTP first, so that /readyz can say "loading".
        for listening, context in sockets:
            server = await _listen(bridge, listening, context)
            stack.push_async_callback(server.stop)
        grpc_addresses = await stack.enter_async_context(grpc_servers(bridge))
        workers = await stack.enter_async_context(AsyncExitStack())
        stack.push_async_callback(pool.aclose)
        # A core that would idle while the workers start.
        warming = asyncio.create_task(asyncio.to_thread(warm), name="text rules")
        if command is None:
            await _reach_workers(pool, config.workers)
        else:
            await _start_workers(command, config, gateway, workers)
            await pool.wait_ready()
        await warming
        await asyncio.to_thread(_warm_up, pool.description.sample_rate_hz)
        stack.push_async_callback(gateway.drain, config.drain_timeout)
        urls = tuple(_url(each, config.host, bool(tls)) for each, tls in sockets)
        yield Running(urls, grpc_addresses, gateway)


def _open_store(config: Config) -> VoiceStore:
    """The store of added voices. A folder that was named must be usable; the usual one may be missing.

    Raises:
        ConfigError: the folder that was named is not usable.
    """
    store = VoiceStore(Path(config.voices_dir) if config.voices_dir else default_voices_dir())
    try:
        if config.voices_dir:
            store.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        store.open()
    except OSError as exc:
        if config.voices_dir:
            raise ConfigError(f"voices_dir cannot be used: {exc.strerror}") from None
        log.warning("added voices cannot be read", extra={"reason": exc.strerror})
    return store


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _warm_up(engine_hz: int) -> None:
    """Does once, off the event loop, what the first session would wait for: libopus and the filters."""
    opus_available()
    for rate_hz in PCM_SAMPLE_RATES_HZ if engine_hz else ():
        Resampler(engine_hz, rate_hz)


def _bind_all(config: Config) -> list[tuple[socket.socket, ssl.SSLContext | None]]:
    """The plain port and, where there is one, the secure port."""
    sockets: list[tuple[socket.socket, ssl.SSLContext | None]] = [
        (_bind(config.host, config.port, "port"), None)
    ]
    if config.tls_port and config.tls_cert is not None:
        hosts = tuple(sorted({"localhost", "127.0.0.1", "::1", config.host, *config.allow_host}))
        context = make_tls_context(config.tls_cert, config.tls_key, hosts)
        sockets.append((_bind(config.host, config.tls_port, "tls_port"), context))
    return sockets


def _bind(host: str, port: int, option: str) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Not `create_server`: asyncio turns Nagle's algorithm off only where the protocol is named, and with
        # it on the second small write after a pause waits 40 ms for the peer's delayed acknowledgement.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except socket.gaierror:
        raise ConfigError(f"host: there is no address called {host!r}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as exc:
        listening.close()
        flag = "--" + option.replace("_", "-")
        raise ConfigError(
            f"{option} {port} on {host} cannot be used ({exc.strerror}): choose another with {flag}"
        ) from None
    return listening


async def _listen(
    bridge: Bridge,
    listening: socket.socket,
    context: ssl.SSLContext | None,
) -> _HttpServer:
    gateway = bridge.gateway
    server = _HttpServer(
        uvicorn.Config(
            make_app(gateway, http_doors(bridge), frozenset({"duplex", "triton"})),
            http=http_protocol(gateway.config.write_timeout_s),
            ws=websocket_factory(gateway, (NATIVE_DOOR, *socket_doors(bridge))),  # type: ignore[arg-type]
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=5,
            ssl_context_factory=None if context is None else lambda *_: context,
        )
    )
    await server.start(listening)
    return server


async def _start_workers(
    command: list[str], config: Config, gateway: Gateway, workers: AsyncExitStack
) -> None:
    """Starts the workers of this machine. Where CosyVoice was not asked for by name, the other engine
    steps in for it.

    Raises:
        EngineStartError: none can start.
    """
    supervisor = await workers.enter_async_context(
        Supervisor(command, on_ready=gateway.pool.add, num_workers=_num_processes(command, config))
    )
    try:
        await supervisor.start()
        gateway.supervisor = supervisor
    except EngineStartError as exc:
        problem = str(exc).removeprefix(f"{COSYVOICE_PROG}: ")
        if config.engine != "auto" or COSYVOICE_MODULE not in command:
            raise EngineStartError(problem) from None
        await supervisor.aclose()
        gateway.engine_reason = _why_not_cosyvoice(problem, config)
        log.warning("the embedded voice speaks: %s", gateway.engine_reason)
        command = _embedded_voice(config, gateway.engine_reason)
        await _start_workers([*command, "--exit-with-stdin"], config, gateway, workers)


async def _reach_workers(pool: WorkerPool, addresses: tuple[str, ...]) -> None:
    for number, address in enumerate(addresses):
        pool.add(f"worker{number}", address)
    try:
        await pool.wait_ready(REMOTE_WORKERS_S)
    except TimeoutError:
        log.warning("no engine worker answers yet; contexts are refused until one does")


def _url(listening: socket.socket, host: str, secure: bool) -> str:
    scheme = "https" if secure else "http"
    port = listening.getsockname()[1]
    shown = "127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host
    return f"{scheme}://[{shown}]:{port}" if ":" in shown else f"{scheme}://{shown}:{port}"


# --- which engine ------------------------------------------------------------------------------------


def _engine_command(config: Config) -> tuple[list[str] | None, str]:
    """The program of the local workers (`None`: they run elsewhere), and why this engine.

    Raises:
        EngineStartError: the engine that was asked for is not there.
    """
    if config.workers:
        return None, "workers were named"
    if config.engine == "upstream":
        raise EngineStartError("--engine upstream needs --workers in this version")
    command, reason = worker_command(config)
    return [*command, "--exit-with-stdin"], reason


def worker_command(config: Config, cosyvoice: Sequence[str] | None = None) -> tuple[list[str], str]:
    """The program of one worker, without the address it shall listen on, and why this engine.

    Args:
        config: what was asked for.
        cosyvoice: the options of the CosyVoice engine; None takes those of `config`.

    Raises:
        EngineStartError: the engine that was asked for is not there.
    """
    reason = "it was asked for"
    if config.engine == "cosyvoice" or (config.engine == "auto" and config.model_dir is not None):
        problem = _cosyvoice_problem(config)
        if problem is None:
            options = _cosyvoice_options(config) if cosyvoice is None else cosyvoice
            command = [sys.executable, "-m", COSYVOICE_MODULE, *options, *_common_options(config)]
            return command, reason if config.engine == "cosyvoice" else "--model-dir holds a checkpoint"
        if config.engine == "cosyvoice":
            raise EngineStartError(problem)
        reason = _why_not_cosyvoice(problem, config)
        return _embedded_voice(config, reason), reason
    if config.engine == "auto":
        reason = "no --model-dir was given, so the embedded voice speaks"
    return _embedded_voice(config), reason


def _embedded_voice(config: Config, why: str = "") -> list[str]:
    """The program of the embedded voice.

    Args:
        config: what was asked for.
        why: it steps in.

    Raises:
        EngineStartError: it is not installed.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise EngineStartError(
            (f"{why}; and " if why else "")
            + "the embedded voice is not installed: run `pip install 'cosyduplex[server,voice]'`"
        )
    return [sys.executable, "-m", EMBEDDED_VOICE_MODULE, *_common_options(config)]


def _common_options(config: Config) -> list[str]:
    """What every engine's worker takes."""
    options = ["--log-format", config.log_format]
    return [*options, "--slots", str(config.slots)] if config.slots else options


def _why_not_cosyvoice(problem: str, config: Config) -> str:
    """A reason that clients may read: where things are on this machine is not for them."""
    folder = os.path.abspath(config.model_dir or "")
    return f"CosyVoice cannot be used: {problem.replace(folder, '--model-dir')}"


def _cosyvoice_problem(config: Config) -> str | None:
    """Why CosyVoice cannot speak, as far as can be told without loading it."""
    if config.model_dir is None:
        return "--engine cosyvoice needs --model-dir DIR, an official CosyVoice2 checkpoint"
    missing = [name for name in COSYVOICE_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: run `pip install 'cosyduplex[server,cosyvoice]'`"
    try:
        find_checkpoint(os.path.abspath(config.model_dir))
    except CheckpointError as exc:
        return str(exc)
    return None


def _cosyvoice_options(config: Config) -> list[str]:
    options = ["--model-dir", os.path.abspath(config.model_dir or ""), "--device", config.device]
    options += ["--text-start", config.text_start]
    return [*options, "--reduce-memory"] if config.reduce_memory else options


def _num_processes(command: list[str], config: Config) -> int:
    if COSYVOICE_MODULE in command:
        return 1  # the models are in memory once
    return config.voice_processes or min(os.cpu_count() or 1, MAX_VOICE_PROCESSES)


# --- serve -------------------------------------------------------------------------------------------


async def serve(config: Config, say_ready: Callable[[Running], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    Raises:
        ConfigError: the configuration cannot be used.
        EngineStartError: the engine cannot start.
    """
    for name in config.without_effect:
        log.warning("option %s has no effect in this version", name)
    async with run_server(config) as running:
        told_to_stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
        running.gateway.collector.start()
        say_ready(running)
        await told_to_stop.wait()
        log.info("draining", extra={"sessions": len(running.gateway.sessions)})


def ready_line(running: Running) -> str:
    """One line with every URL, the engine, its voices and what needs no key."""
    gateway = running.gateway
    engine = gateway.engine_name or "none yet"
    doors = ", ".join(("healthz", "readyz", *gateway.config.open_door))
    if not gateway.gatekeeper.has_keys:
        doors = "all (no keys are set)"
    grpc = (f"grpc://{address} ({name})" for name, address in running.grpc.items())
    urls = " ".join((*running.urls, running.ws_url, *grpc))
    return (
        f"cosyduplex {cosyduplex.__version__} ready: {urls} · engine {engine} ({gateway.engine_reason}) · "
        f"{gateway.num_voices} voices · open doors: {doors}"
    )
