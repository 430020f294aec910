"""Sockets to sessions: moves bytes, enforces transport limits, decides nothing about speech.

uvicorn owns the port and HTTP; an upgrade hands the transport to `WebSocketProtocol`, which drives the
sans-I/O core of `websockets` itself. Doing so buys what uvicorn's own class does not have: limits before a
message is whole, several frames in one write, little unsent data in the kernel (so that a cancel is heard
at once), and an abort for peers that neither read nor answer.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, ClassVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import httptools
from uvicorn.config import Config as UvicornConfig
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import PROTOCOL
from cosyduplex_server.access import Principal, credential_of
from cosyduplex_server.dialect import POLICY, SocketDoor, SocketSession, Upgrade, refuse_upgrade
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.session import FULL, Session

log = logging.getLogger(__name__)

DUPLEX_PATH = "/v1/duplex"
HEADER_TIMEOUT_S = 10.0
MAX_HEADER_BYTES = 64 * 1024
CLOSE_TIMEOUT_S = 2.0
# A fragmented message must be whole within this time.
MESSAGE_TIMEOUT_S = 30.0
# Written and not yet taken by the kernel: above the first, audio waits in its context; above the last, the
# peer is gone for us, since only events it does not read can grow it so far.
WRITE_HIGH_BYTES, WRITE_LOW_BYTES, WRITE_MAX_BYTES = 64 * 1024, 16 * 1024, 4 * 1024 * 1024
# The kernel alone would swallow a minute of audio before a write blocks.
NOTSENT_LOWAT_BYTES = 16 * 1024
# What a peer may send: a burst, then so much a second. Ten contexts of a fast LLM write 500 messages a
# second; a flood of 50,000 pings would otherwise hold the loop for a second.
MESSAGE_BURST, MESSAGES_PER_S = 20_000, 2_000
BYTES_BURST, BYTES_PER_S = 16 << 20, 2 << 20
CONTROL_BURST, CONTROLS_PER_S = 100, 10
# Bytes parsed between two looks at the budget.
SLICE_BYTES = 4096


class Budget:
    """A token bucket: so many at once, so many a second."""

    __slots__ = ("_at_s", "_burst", "_left", "_per_s")

    def __init__(self, burst: int, per_s: int, now_s: float) -> None:
        self._burst, self._per_s, self._left, self._at_s = burst, per_s, float(burst), now_s

    def spend(self, now_s: float, amount: int = 1) -> bool:
        """Takes so much; returns whether there was enough."""
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s) - amount
        self._at_s = now_s
        return self._left >= 0


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, with a limit on how long and how large a request's head may be, and on a deaf peer."""

    write_timeout_s: ClassVar[float]
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock of the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clocks."""
        self._have_head()
        self._stop_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer reads too slowly; it has until the write time-out."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The peer reads again."""
        super().resume_writing()
        self._stop_write_timer()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def shutdown(self) -> None:
        """The server ends: a connection that is asked for nothing is closed, with or without its peer."""
        super().shutdown()
        if self.transport.is_closing():
            # TLS would wait for the peer's own goodbye, for half a minute.
            self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)

    def on_message_begin(self) -> None:
        """Starts the clock of a further request on the same connection."""
        super().on_message_begin()
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Stops the clock."""
        self._have_head()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Parses; frames that came in one piece with their handshake are not lost."""
        self._unset_keepalive_if_required()
        while data:
            # While a head is not whole, no more is parsed than it may have: a large body may follow it.
            room = len(data) if self._head_timer is None else MAX_HEADER_BYTES - self._head_bytes
            piece, data = data[:room], data[room:]
            self._head_bytes += len(piece)
            if not self._parse(piece, data):
                return
            if self._head_timer is not None and self._head_bytes >= MAX_HEADER_BYTES:
                self.send_400_response("The request's headers are too large.")
                return

    def _parse(self, data: bytes, more: bytes) -> bool:
        """Parses `data`, and says whether what came after it is for the parser, too."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
                rest = data[upgrade.args[0] :] + more
                if rest:
                    cast(asyncio.Protocol, self.transport.get_protocol()).data_received(rest)
            else:
                self.send_400_response("This upgrade is not supported.")
        except httptools.HttpParserError:
            self.send_400_response("This is not an HTTP request.")
        else:
            return True
        return False

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._on_head_timeout)

    def _have_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        self.transport.abort()


def http_protocol(write_timeout_s: float) -> type[HttpProtocol]:
    """What uvicorn makes of every connection."""
    return type("HttpProtocol", (HttpProtocol,), {"write_timeout_s": write_timeout_s})


class WebSocketProtocol(asyncio.Protocol):
    """One WebSocket: handshake, frames, keep-alive, back-pressure, close."""

    def __init__(self, gateway: Gateway, doors: Sequence[SocketDoor], server_state: ServerState) -> None:
        self._gateway = gateway
        self._doors = doors
        self._loop = asyncio.get_running_loop()
        self._server_state = server_state
        self._core = ServerProtocol(
            max_size=gateway.limits.max_message_bytes,
            subprotocols=[Subprotocol(PROTOCOL), Subprotocol("token"), Subprotocol("bearer")],
            select_subprotocol=_select_subprotocol,
        )
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._session: SocketSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._early = b""
        self._running = False
        self._parts: list[bytes] = []
        self._parts_binary = False
        self._message_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._ping_timer: asyncio.TimerHandle | None = None
        self._pong_due = False
        self._paused = False
        self._discarding = False
        self._has_last_word = False
        now_s = self._loop.time()
        self._messages = Budget(MESSAGE_BURST, MESSAGES_PER_S, now_s)
        self._controls = Budget(CONTROL_BURST, CONTROLS_PER_S, now_s)
        self._bytes = Budget(BYTES_BURST, BYTES_PER_S, now_s)

    # --- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the transport over from HTTP."""
        self._transport = cast(asyncio.Transport, transport)
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        self._transport.set_write_buffer_limits(WRITE_HIGH_BYTES, WRITE_LOW_BYTES)
        raw = transport.get_extra_info("socket")
        if raw is not None and hasattr(socket, "TCP_NOTSENT_LOWAT") and raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """Frees the session at once, however the socket went."""
        self._server_state.connections.discard(self)
        for timer in (self._message_timer, self._write_timer, self._close_timer, self._ping_timer):
            if timer is not None:
                timer.cancel()
        self._paused = True
        if self._session is not None:
            self._session.lost()

    def eof_received(self) -> bool | None:
        """The peer sends no more: without a close frame that is a lost connection."""
        return None  # the transport closes itself

    def pause_writing(self) -> None:
        """The peer reads too slowly; it has until the write time-out."""
        self._paused = True
        self._write_timer = self._loop.call_later(self._gateway.config.write_timeout_s, self._abort)

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._paused = False
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        if self._session is not None:
            self._session.tick()

    def data_received(self, data: bytes) -> None:
        """Parses in slices, so that no flood of tiny frames holds the loop."""
        if self._discarding:
            return
        if self._session is not None and not self._running:
            self._early += data
            return
        if not self._bytes.spend(self._loop.time(), len(data)):
            self._refuse_flood()
            return
        view = memoryview(data)
        for start in range(0, len(view), SLICE_BYTES):
            if self._transport.is_closing() or self._discarding:
                return
            self._core.receive_data(bytes(view[start : start + SLICE_BYTES]))
            for event in self._core.events_received():
                if isinstance(event, Request):
                    self._handshake(event)
                elif isinstance(event, Frame) and not self._take(event):
                    return
            if self._core.parser_exc is not None:
                self._fail(self._core.parser_exc)
                return
            self._write_core()
            if self._session is not None and not self._running:
                self._early += bytes(view[start + SLICE_BYTES :])
                return

    def shutdown(self) -> None:
        """uvicorn is shutting down; sessions have been drained before."""
        if self._core.state is State.OPEN:
            self.close(1001, "going away")
        elif self._core.state is State.CONNECTING:
            self._transport.close()

    # --- handshake

    def _handshake(self, request: Request) -> None:
        response = self._core.accept(request)
        session: SocketSession | None = None
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            upgrade, door = self._find_door(request)
            try:
                session = self._admit(upgrade, door)
            except Failure as failure:
                response = _refusal(failure, door)
        self._core.send_response(response)
        self._write_core()
        if self._core.state is not State.OPEN or session is None:
            self._transport.close()
            return
        self._session = session
        self._schedule_ping()
        if not self._gateway.admit(session):
            self._refuse_full()
            return
        self._task = self._loop.create_task(
            self._gateway.run_session(session, self._on_ready), name=f"session {session.id}"
        )
        self._server_state.tasks.add(self._task)
        self._task.add_done_callback(self._server_state.tasks.discard)

    def _find_door(self, request: Request) -> tuple[Upgrade, SocketDoor | None]:
        url = urlsplit(request.path)
        path = unquote(url.path)
        matches = ((door, door.match(path)) for door in self._doors)
        door, params = next((match for match in matches if match[1] is not None), (None, None))
        upgrade = Upgrade(
            path,
            params or {},
            dict(parse_qsl(url.query, keep_blank_values=True)),
            {name.lower(): value for name, value in request.headers.raw_items()},
        )
        return upgrade, door

    def _admit(self, upgrade: Upgrade, door: SocketDoor | None) -> SocketSession:
        headers = upgrade.headers
        sockname = self._transport.get_extra_info("sockname")
        local_ip = sockname[0] if isinstance(sockname, tuple) else None
        gatekeeper = self._gateway.gatekeeper
        gatekeeper.check_address(headers.get("host"), headers.get("origin"), local_ip)
        if door is None:
            raise Failure(ErrorCode.BAD_REQUEST, "there is no WebSocket at this path", f"Use {DUPLEX_PATH}.")
        if self._gateway.draining:
            raise Failure(ErrorCode.ENGINE_UNAVAILABLE, "the server is going away", "Connect again shortly.")
        offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",")]
        credential = credential_of(headers, offered, upgrade.query, door.query_credentials)
        principal: Principal | None = None
        # Without one in the handshake, the first message may bring it.
        open_to_all = door.name in self._gateway.config.open_door or not gatekeeper.has_keys
        if credential is not None or open_to_all or not door.credential_inside:
            principal = gatekeeper.identify(credential, door.name, "speak")
        return door.open(self._gateway, self, upgrade, principal)

    def _refuse_full(self) -> None:
        """Says why and closes with 1013; only the limit on sessions does this, not a busy engine."""
        assert self._session is not None
        session, self._session = self._session, None
        self._running = True
        session.refuse(Failure(ErrorCode.OVER_CAPACITY, "the server has no room for one more session"), FULL)

    def _on_ready(self) -> None:
        self._running = True
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    # --- frames in

    def _take(self, frame: Frame) -> bool:
        """Takes one frame; returns whether to go on reading."""
        now_s = self._loop.time()
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            self._pong_due = self._pong_due and frame.opcode is not Opcode.PONG
            if not self._controls.spend(now_s):
                return self._refuse_flood()
        elif frame.opcode is Opcode.CLOSE:
            self._write_core()
            self._transport.close()
            return False
        else:
            if not self._messages.spend(now_s):
                return self._refuse_flood()
            self._take_data(frame)
        return True

    def _take_data(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._parts_binary = frame.opcode is Opcode.BINARY
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            if self._message_timer is None:
                self._message_timer = self._loop.call_later(MESSAGE_TIMEOUT_S, self._on_message_timeout)
            return
        if self._message_timer is not None:
            self._message_timer.cancel()
            self._message_timer = None
        data, self._parts = b"".join(self._parts), []
        if self._session is not None and self._core.state is State.OPEN:
            try:
                if self._parts_binary:
                    self._session.receive_binary(data)
                else:
                    self._session.receive_text(data)
            except Exception:  # noqa: BLE001  the edge of a session: a mistake of ours ends it alone
                self._session.crash()

    def _refuse_flood(self) -> bool:
        self._end_session(Failure(ErrorCode.RATE_LIMITED, "too many messages in too little time"), POLICY)
        self._discarding = True
        return False

    def _on_message_timeout(self) -> None:
        self._message_timer = None
        self._end_session(Failure(ErrorCode.TIMEOUT, "a message was begun and not finished in time"), POLICY)

    def _end_session(self, failure: Failure, code: int) -> None:
        if self._session is not None and self._core.state is State.OPEN:
            self._session.refuse(failure, code)

    # --- frames out

    @property
    def writable(self) -> bool:
        """Whether the peer takes what is sent."""
        return not self._paused

    def send(self, messages: Sequence[tuple[bool, Sequence[bytes]]]) -> None:
        """Sends messages in one write."""
        is_open = self._core.state is State.OPEN or self._has_last_word
        if not is_open or self._transport.is_closing():
            return
        parts: list[bytes] = []
        for is_binary, group in messages:
            for data in group:
                parts.append(_frame_header(is_binary, len(data)))
                parts.append(data)
        self._transport.write(b"".join(parts))
        if self._transport.get_write_buffer_size() > WRITE_MAX_BYTES:
            self._abort()

    def close(self, code: int, reason: str) -> None:
        """Sends a close frame, and aborts if the peer does not answer in time."""
        if self._core.state is not State.OPEN:
            return
        self._core.send_close(code, reason[:120])
        self._write_core()
        self._close_timer = self._loop.call_later(CLOSE_TIMEOUT_S, self._abort)

    def _write_core(self) -> None:
        """Writes what the core wants to: handshake, pongs, close frames; it ends in "" for an EOF."""
        data = b"".join(self._core.data_to_send())
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _fail(self, error: Exception) -> None:
        """The peer broke RFC 6455 or a limit: the core closes, after the session's last word.

        What is still coming is read and dropped: closing with unread data would reset the connection, and
        the peer would lose the close frame that tells it why.
        """
        if self._session is not None:
            self._has_last_word = True
            self._session.broken(_failure_of(error))
            self._has_last_word = False
        self._write_core()
        self._discarding = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._close_timer = self._loop.call_later(CLOSE_TIMEOUT_S, self._abort)

    def _abort(self) -> None:
        self._transport.abort()

    # --- keep-alive

    def _schedule_ping(self) -> None:
        self._ping_timer = self._loop.call_later(self._gateway.config.ping_interval_s, self._on_ping_due)

    def _on_ping_due(self) -> None:
        if self._pong_due:  # the last ping was not answered
            self._abort()
            return
        if self._core.state is State.OPEN:
            self._pong_due = True
            self._core.send_ping(b"")
            self._write_core()
        self._schedule_ping()


NATIVE_DOOR = SocketDoor(
    "duplex",
    DUPLEX_PATH,
    lambda gateway, socket, upgrade, principal: Session(gateway, socket, principal),
    credential_inside=True,
)


def websocket_factory(gateway: Gateway, doors: Sequence[SocketDoor]) -> Callable[..., WebSocketProtocol]:
    """What uvicorn calls for every upgrade."""

    def make(
        config: UvicornConfig, server_state: ServerState, app_state: dict[str, Any]
    ) -> WebSocketProtocol:
        return WebSocketProtocol(gateway, doors, server_state)

    return make


@lru_cache(maxsize=256)
def _frame_header(is_binary: bool, length: int) -> bytes:
    """RFC 6455 5.2: final, unmasked, text or binary."""
    first = 0x82 if is_binary else 0x81
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)


def _failure_of(error: Exception) -> Failure:
    if isinstance(error, PayloadTooBig):
        return Failure(ErrorCode.TEXT_TOO_LONG, "the message is too large")
    return Failure(ErrorCode.BAD_REQUEST, "this is not a WebSocket frame")


def _select_subprotocol(core: ServerProtocol, offered: Any) -> Subprotocol | None:
    """The protocol's own name first; a page that offers only its token gets the word before it back."""
    for name in (PROTOCOL, "token", "bearer"):
        if name in offered:
            return Subprotocol(name)
    return None


def _refusal(failure: Failure, door: SocketDoor | None) -> Response:
    status, fields, data = (refuse_upgrade if door is None else door.refuse)(failure)
    if door is None and failure.code is ErrorCode.BAD_REQUEST:
        status = 404
    headers = Headers([*fields.items(), ("Content-Length", str(len(data))), ("Connection", "close")])
    return Response(status, HTTPStatus(status).phrase, headers, data)
