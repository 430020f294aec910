"""The DashScope door: duplex synthesis, Qwen realtime, HTTP with events, and enrolment of voices."""

from __future__ import annotations

from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.dashscope.duplex import door as duplex_door
from cosyduplex_bridges.dashscope.enrolment import door as enrolment_door
from cosyduplex_bridges.dashscope.http import door as http_door
from cosyduplex_bridges.dashscope.realtime import door as realtime_door
from cosyduplex_server.dialect import SocketDoor
from cosyduplex_server.routes import Door


def http_doors(bridge: Bridge) -> tuple[Door, ...]:
    """Those of HTTP."""
    return (http_door(bridge), enrolment_door(bridge))


def socket_doors(bridge: Bridge) -> tuple[SocketDoor, ...]:
    """Those of WebSockets."""
    return (duplex_door(bridge), realtime_door(bridge))
