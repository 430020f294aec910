"""The ports of the gRPC doors."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.cosyvoice_grpc import CosyVoiceService
from cosyduplex_bridges.grpc_calls import add_service
from cosyduplex_bridges.grpc_health import HealthService
from cosyduplex_bridges.grpc_stubs import cosyvoice_pb2 as cosyvoice
from cosyduplex_bridges.grpc_stubs import health_pb2 as health
from cosyduplex_bridges.grpc_stubs import kserve_pb2 as kserve
from cosyduplex_bridges.triton.service import TritonService
from cosyduplex_server.config import Config
from cosyduplex_server.errors import ConfigError

log = logging.getLogger(__name__)

# Contexts are drained before the servers end: what is left then is to write out what was made.
LAST_WRITES_S: Final = 5.0
# Some 30 s of a recording at 96 kHz, or five minutes at 16 kHz, as floats.
_MAX_REQUEST_BYTES: Final = 20 * 1024 * 1024
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    # A taken port is to be noticed, not shared.
    ("grpc.so_reuseport", 0),
    # A peer that is gone without a word is noticed; one that pings eagerly is not sent away.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
)


@dataclass(frozen=True, slots=True)
class _Door:
    """A service with a port option of its own; two may have the same port."""

    name: str
    option: str
    descriptor: ServiceDescriptor
    make: Callable[[Bridge, asyncio.Event], object]

    def port(self, config: Config) -> int:
        """The port that it shall have; 0 is none."""
        port: int = getattr(config, self.option)
        return port

    @property
    def default_port(self) -> int:
        """The port that it has unless told otherwise."""
        fields = {field.name: field.default for field in dataclasses.fields(Config)}
        port = fields[self.option]
        assert isinstance(port, int)
        return port


_DOORS: Final = (
    _Door(
        "triton",
        "triton_grpc_port",
        kserve.DESCRIPTOR.services_by_name["GRPCInferenceService"],
        TritonService,
    ),
    _Door(
        "cosyvoice",
        "cosyvoice_grpc_port",
        cosyvoice.DESCRIPTOR.services_by_name["CosyVoice"],
        lambda bridge, closing: CosyVoiceService(bridge),
    ),
)


@asynccontextmanager
async def grpc_servers(bridge: Bridge) -> AsyncIterator[Mapping[str, str]]:
    """The gRPC servers for as long as the block lasts; yields their addresses by door.

    Raises:
        ConfigError: a port that was named is taken.
    """
    config = bridge.gateway.config
    closing = asyncio.Event()
    servers: list[grpc.aio.Server] = []
    addresses: dict[str, str] = {}
    try:
        for port in dict.fromkeys(door.port(config) for door in _DOORS):
            doors = [door for door in _DOORS if door.port(config) == port]
            if port and (server := await _start(bridge, port, doors, closing)) is not None:
                servers.append(server)
                addresses |= {door.name: _address(config.host, port) for door in doors}
        yield addresses
    finally:
        closing.set()
        await asyncio.gather(*(server.stop(LAST_WRITES_S) for server in servers))


async def _start(
    bridge: Bridge, port: int, doors: list[_Door], closing: asyncio.Event
) -> grpc.aio.Server | None:
    """Starts a server; None where its port is taken and nobody has named it."""
    config = bridge.gateway.config
    if (problem := _problem(config.host, port)) is not None:
        if all(door.default_port == port for door in doors):
            names = ", ".join(door.name for door in doors)
            log.warning("port %d cannot be used (%s): gRPC door off: %s", port, problem, names)
            return None
        option = doors[0].option
        raise ConfigError(
            f"{option} {port} on {config.host} cannot be used ({problem}): choose another with "
            f"--{option.replace('_', '-')}"
        )
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=config.max_sessions)
    for door in doors:
        add_service(server, door.descriptor, door.make(bridge, closing))
    probed = HealthService(bridge.gateway, [door.descriptor.full_name for door in doors])
    add_service(server, health.DESCRIPTOR.services_by_name["Health"], probed)
    server.add_insecure_port(_address(config.host, port))
    await server.start()
    return server


def _problem(host: str, port: int) -> str | None:
    """Why a port cannot be listened on. gRPC itself would say so on standard error, in its own way."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            return error.strerror
    return None


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
