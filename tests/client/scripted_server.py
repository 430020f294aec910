"""A server for tests of the client: the protocol's server core on a real loopback socket, and a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Request, Response, serve
from websockets.asyncio.server import ServerConnection as Socket
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from cosyduplex.connection import Received, ServerConnection
from cosyduplex.messages import (
    ContextCancel,
    ContextCancelled,
    ContextDone,
    ContextFlushed,
    ContextStarted,
    Error,
    Limits,
    NegotiatedAudio,
    Ping,
    Pong,
    ServerMessage,
    SessionEnd,
    SessionEnded,
    SessionStart,
    SessionStarted,
    TextAppend,
    TextEnd,
    TextFlush,
)

FRAME_SAMPLES = 480  # 20 ms at 24 kHz
PCM = NegotiatedAudio(encoding="pcm_s16le", sample_rate=24000, frame_ms=20)


def pcm_of(character: str) -> bytes:
    """A frame that says which character it speaks."""
    return ord(character).to_bytes(4, "little") * (FRAME_SAMPLES // 2)


def heard(pcm: bytes) -> str:
    """The text that frames of `pcm_of` speak."""
    frame_bytes = 2 * FRAME_SAMPLES
    assert len(pcm) % frame_bytes == 0
    return "".join(chr(int.from_bytes(pcm[at : at + 4], "little")) for at in range(0, len(pcm), frame_bytes))


class Peer:
    """The server's end of one session, to be driven message by message.

    Attributes:
        received: every message taken, in order.
    """

    def __init__(self, socket: Socket, limits: Limits) -> None:
        self.socket = socket
        self.core = ServerConnection()
        self.limits = limits
        self.received: list[Any] = []
        self._waiting: list[Received] = []

    async def receive(self) -> Received:
        """The next message of the client; the session.start is answered on the way."""
        while not self._waiting:
            data = await self.socket.recv()
            assert isinstance(data, str)
            for event in self.core.receive_text(data):
                assert isinstance(event, Received), event
                self.received.append(event.message)
                self._waiting.append(event)
        return self._waiting.pop(0)

    async def expect(self, kind: type[Any]) -> Any:
        """The next message, which must be of this kind; a context that it opens is started."""
        event = await self.receive()
        assert isinstance(event.message, kind), event.message
        if event.opens:
            await self.send(ContextStarted(context_id=event.message.context_id, context_index=event.index))
        return event.message

    async def begin(self, audio: NegotiatedAudio = PCM) -> SessionStart:
        """Answers the session.start."""
        start = await self.expect(SessionStart)
        await self.send(
            SessionStarted(
                session_id="s",
                resume_token="t",
                resume_window_ms=0,
                resumed=False,
                last_n=0,
                first_seq=1,
                audio=audio,
                voice=start.voice or "test",
                engine="scripted",
                limits=self.limits,
            )
        )
        return start

    async def send(self, message: ServerMessage) -> None:
        await self.socket.send(self.core.send(message), text=True)

    async def speak(self, index: int, text: str, *, at: int = 0, last: bool = False) -> None:
        """One frame for each character, the first one being number `at` of its context."""
        for number, character in enumerate(text, start=at):
            is_last = last and number == at + len(text) - 1
            frame = self.core.send_frame(index, number * FRAME_SAMPLES, pcm_of(character), last=is_last)
            await self.socket.send(frame)

    async def done(self, context_id: str, index: int, *, frames: int = 0) -> None:
        await self.send(
            ContextDone(
                context_id=context_id,
                context_index=index,
                audio_ms=frames * 20,
                characters=frames,
                ttfa_ms=1,
                ttfa_enough_ms=1,
                underruns=0,
            )
        )

    async def flushed(self, context_id: str, index: int, *, frames: int = 0) -> None:
        await self.send(ContextFlushed(context_id=context_id, context_index=index, audio_ms=frames * 20))

    async def cancelled(self, context_id: str, index: int, *, spoken_chars: int = 0) -> None:
        await self.send(
            ContextCancelled(
                context_id=context_id,
                context_index=index,
                sent_ms=spoken_chars * 20,
                spoken_chars=spoken_chars,
                estimated=True,
            )
        )

    async def fail(self, ends: Any, *, context_id: str | None = None, index: int | None = None) -> None:
        await self.send(
            Error(
                code="over_capacity",  # type: ignore[arg-type]
                message="too much is spoken",
                solution="Wait.",
                retryable=True,
                retry_after_ms=50,
                ends=ends,
                context_id=context_id,
                context_index=index,
            )
        )

    async def until_end(self) -> None:
        """Takes what comes until the client ends the session."""
        while not isinstance((await self.receive()).message, SessionEnd):
            pass

    async def end(self) -> None:
        """Answers a session.end."""
        await self.send(SessionEnded(reason="ended", audio_ms=0, characters=0))


@dataclass
class _Spoken:
    context_id: str
    frames: int = 0
    is_done: bool = False


class Speaker:
    """Speaks one frame for each character as it is appended, and answers everything as the contract says."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._contexts: dict[int, _Spoken] = {}

    async def run(self) -> None:
        await self._peer.begin()
        while await self._answer(await self._peer.receive()):
            pass

    async def _answer(self, event: Received) -> bool:
        peer, message, index = self._peer, event.message, event.index
        if index is not None:
            return await self._answer_context(message, index, opens=event.opens)
        match message:
            case ContextCancel(context_id=None):
                for i, spoken in list(self._contexts.items()):
                    if not spoken.is_done:
                        peer.core.cancel(i)
                        await self._cancelled(i)
            case Ping():
                await peer.send(Pong(t=message.t))
            case SessionEnd():
                await peer.end()
                return False
        return True

    async def _answer_context(self, message: Any, index: int, *, opens: bool) -> bool:
        if opens:
            self._contexts[index] = _Spoken(message.context_id)
            await self._peer.send(ContextStarted(context_id=message.context_id, context_index=index))
        spoken = self._contexts[index]
        match message:
            case TextAppend():
                await self._peer.speak(index, message.text, at=spoken.frames)
                spoken.frames += len(message.text)
            case TextFlush():
                await self._peer.flushed(spoken.context_id, index, frames=spoken.frames)
            case TextEnd():
                spoken.is_done = True
                await self._peer.done(spoken.context_id, index, frames=spoken.frames)
            case ContextCancel():
                await self._cancelled(index)
        return True

    async def _cancelled(self, index: int) -> None:
        spoken = self._contexts.pop(index)
        await self._peer.cancelled(spoken.context_id, index, spoken_chars=spoken.frames)


Script = Callable[[Peer], Awaitable[None]]


class ScriptedServer:
    """Serves each session by a script; `check` raises what a script raised.

    Attributes:
        url: where it listens.
        headers: of the last handshake.
        peers: of all sessions so far.
        refusal: `(status, body)` to refuse every handshake with; None to accept.
    """

    def __init__(self, script: Script, limits: Limits) -> None:
        self.script = script
        self.limits = limits
        self.url = ""
        self.headers = Headers()
        self.path = ""
        self.peers: list[Peer] = []
        self.refusal: tuple[int, bytes] | None = None
        self._failures: list[BaseException] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[ScriptedServer]:
        async with serve(
            self._serve, "127.0.0.1", 0, compression=None, process_request=self._process_request
        ) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self
        for failure in self._failures:
            raise failure

    async def _serve(self, socket: Socket) -> None:
        peer = Peer(socket, self.limits)
        self.peers.append(peer)
        try:
            await self.script(peer)
        except ConnectionClosed:
            pass
        except BaseException as exc:
            self._failures.append(exc)
            raise

    def _process_request(self, socket: Socket, request: Request) -> Response | None:
        self.headers, self.path = request.headers, request.path
        if self.refusal is None:
            return None
        status, body = self.refusal
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body))})
        return Response(status, HTTPStatus(status).phrase, headers, body)


def refusal(status: int, code: str, message: str, solution: str) -> tuple[int, bytes]:
    """The body that every door answers a refusal with."""
    return status, json.dumps({"error": code, "message": message, "solution": solution}).encode()


@contextlib.asynccontextmanager
async def serving(
    script: Script | None = None, *, limits: Limits | None = None
) -> AsyncIterator[ScriptedServer]:
    """A server in this event loop; without a script it speaks (`Speaker`)."""
    server = ScriptedServer(script or _speaker, limits or Limits())
    async with server.listening():
        yield server


@contextlib.contextmanager
def serving_in_thread(
    script: Script | None = None, *, limits: Limits | None = None
) -> Iterator[ScriptedServer]:
    """The same in a thread, for tests of programs without asyncio."""
    server = ScriptedServer(script or _speaker, limits or Limits())
    ready, loops = threading.Event(), []

    async def main() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        async with server.listening():
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield server
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _speaker(peer: Peer) -> None:
    await Speaker(peer).run()
