"""Every bridge's doors."""

from __future__ import annotations

from cosyduplex_bridges.bridge import Bridge
from cosyduplex_server.dialect import SocketDoor
from cosyduplex_server.routes import Door


def http_doors(bridge: Bridge) -> tuple[Door, ...]:
    """Those of HTTP."""
    return ()


def socket_doors(bridge: Bridge) -> tuple[SocketDoor, ...]:
    """Those of WebSockets."""
    return ()
