"""Sends PCM frames of 20 ms to every socket, as plainly as `websockets` allows: one ticker, one broadcast."""

from __future__ import annotations

import asyncio
import json

from websockets.asyncio.server import ServerConnection, broadcast, serve

FRAME = bytes(12 + 960)


async def main() -> None:
    sockets: set[ServerConnection] = set()

    async def handle(socket: ServerConnection) -> None:
        sockets.add(socket)
        try:
            await socket.wait_closed()
        finally:
            sockets.discard(socket)

    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        while True:
            next_s += 0.02
            await asyncio.sleep(max(0.0, next_s - loop.time()))
            broadcast(sockets, FRAME)


asyncio.run(main())
