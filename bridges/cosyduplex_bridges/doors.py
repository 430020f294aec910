"""Every bridge's doors."""

from __future__ import annotations

from cosyduplex_bridges import cosyvoice_http, dashscope, files, openai, rest, workflow
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.cartesia import http as cartesia
from cosyduplex_bridges.cartesia import socket as cartesia_socket
from cosyduplex_bridges.deepgram import aura, flux
from cosyduplex_bridges.elevenlabs import http as elevenlabs
from cosyduplex_bridges.elevenlabs import multi_stream, stream_input
from cosyduplex_server.dialect import SocketDoor
from cosyduplex_server.routes import Door


def http_doors(bridge: Bridge) -> tuple[Door, ...]:
    """Those of HTTP."""
    return (
        *cartesia.http_doors(bridge),
        aura.http_door(bridge),
        *dashscope.http_doors(bridge),
        *files.http_doors(bridge),
        *elevenlabs.http_doors(bridge),
        *openai.http_doors(bridge),
        *rest.http_doors(bridge),
        *workflow.http_doors(bridge),
        *cosyvoice_http.http_doors(bridge),
    )


def socket_doors(bridge: Bridge) -> tuple[SocketDoor, ...]:
    """Those of WebSockets."""
    return (
        cartesia_socket.socket_door(bridge),
        aura.socket_door(bridge),
        *dashscope.socket_doors(bridge),
        flux.socket_door(bridge),
        stream_input.door(bridge),
        multi_stream.door(bridge),
    )
