"""The ports of the gRPC doors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from cosyduplex_bridges.bridge import Bridge


@asynccontextmanager
async def grpc_servers(bridge: Bridge) -> AsyncIterator[Mapping[str, str]]:
    """The gRPC servers for as long as the block lasts; yields their addresses by door.

    Raises:
        ConfigError: a port is taken.
    """
    yield {}
