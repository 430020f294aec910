"""One WebSocket of a vendor's dialect: many utterances on a socket, none of which waits for another.

A `SocketDoor` says where a dialect is; its `Dialect` translates messages, one object a connection; the
`DialectSession` between it and the socket keeps the utterances, the limits and the end.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from cosyduplex.errors import ErrorCode, RemoteProtocolError
from cosyduplex.wire import load_json
from cosyduplex_server.access import Principal
from cosyduplex_server.errors import Failure
from cosyduplex_server.utterance import Utterance, UtteranceOptions

if TYPE_CHECKING:
    from cosyduplex_server.gateway import Gateway

log = logging.getLogger(__name__)

NORMAL, GOING_AWAY, POLICY, INTERNAL_ERROR = 1000, 1001, 1008, 1011


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The request that opened a socket.

    Attributes:
        path: unquoted, without the query.
        params: what the door's path names.
        query: the last value of each parameter.
        headers: names in lower case.
    """

    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]


class Socket(Protocol):
    """What a session needs of its socket."""

    @property
    def writable(self) -> bool:
        """Whether the peer takes what is sent."""

    def send(self, messages: Sequence[tuple[bool, Sequence[bytes]]]) -> None:
        """Sends messages in one write, in groups that are binary or text."""

    def close(self, code: int, reason: str) -> None:
        """Sends a close frame after what was sent, and waits for the peer's no longer than it must."""


class SocketSession(Protocol):
    """One socket's worth of contexts: what its socket and the gateway need of it."""

    id: str

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Keeps the contexts' tasks until the session is over; `on_ready`: messages may be handed in."""

    def drain(self, deadline_ms: int) -> None:
        """Tells the client that the server goes away; running contexts finish."""

    def end_drained(self) -> None:
        """The drain's deadline has come."""

    def receive_text(self, data: bytes) -> None:
        """Takes a text message."""

    def receive_binary(self, data: bytes) -> None:
        """Takes a binary message."""

    def tick(self) -> None:
        """The socket can take more."""

    def lost(self) -> None:
        """The socket is gone: the session is over."""

    def broken(self, failure: Failure) -> None:
        """The peer broke a rule of the transport, which closes: the session is over but for a last word."""

    def refuse(self, failure: Failure, code: int = POLICY) -> None:
        """Ends the session with an error and this close code."""

    def crash(self) -> None:
        """Ends the session after a mistake of ours."""


Refusal = tuple[int, Mapping[str, str], bytes]


def refuse_upgrade(failure: Failure) -> Refusal:
    """A failed handshake as this server's own doors tell it: status, headers, body."""
    status, body = failure.as_http()
    return status, {"Content-Type": "application/json"}, orjson.dumps(body)


@dataclass(frozen=True, slots=True)
class SocketDoor:
    """A place for WebSockets.

    Attributes:
        name: as `--open-door` and the metrics call it.
        path: with `{name}` for a part that varies.
        open: makes the session of a new connection. It may raise `Failure`: the handshake is refused.
        credential_inside: the key may come in the first message: without one in the handshake the session's
            `principal` is None until it has identified one.
        query_credentials: query parameters that may hold the key.
        refuse: how a failed handshake is told.
    """

    name: str
    path: str
    open: Callable[[Gateway, Socket, Upgrade, Principal | None], SocketSession]
    credential_inside: bool = False
    query_credentials: tuple[str, ...] = ()
    refuse: Callable[[Failure], Refusal] = refuse_upgrade

    def match(self, path: str) -> dict[str, str] | None:
        """What the path's varying parts are; None where it is another path."""
        found = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path), path.rstrip("/") or "/")
        return None if found is None else found.groupdict()


class Dialect:
    """What one vendor's client says and hears on one socket; subclasses translate."""

    def __init__(self, session: DialectSession) -> None:
        self.session = session

    def opened(self) -> None:
        """The socket is open: a dialect that greets does it here."""

    def receive(self, message: dict[str, Any]) -> None:
        """Obeys a message.

        Raises:
            Failure: told by `fail`.
        """
        raise NotImplementedError

    def receive_binary(self, data: bytes) -> None:
        """Obeys a binary message; a mistake unless the dialect has some.

        Raises:
            Failure: told by `fail`.
        """
        raise Failure(ErrorCode.BAD_REQUEST, "binary messages are not understood here", "Send JSON text.")

    def fail(self, failure: Failure) -> None:
        """Tells the client of a failure that no utterance's task has told it of, and ends what it ends."""
        raise NotImplementedError

    def idle(self) -> None:
        """Nothing has happened for a long time."""
        self.session.close(NORMAL, "idle")

    def drain(self) -> None:
        """The server goes away; called when no utterance is open any more."""
        self.session.close(GOING_AWAY, "going away")


class DialectSession:
    """One connection of a dialect.

    Attributes:
        gateway: what all connections share.
        door: its name.
        upgrade: the request that opened it.
        principal: who calls; None until the first message has told.
    """

    def __init__(
        self,
        gateway: Gateway,
        socket: Socket,
        door: str,
        upgrade: Upgrade,
        principal: Principal | None,
        dialect: Callable[[DialectSession], Dialect],
    ) -> None:
        self.id = gateway.new_id()
        self.gateway = gateway
        self.door = door
        self.upgrade = upgrade
        self.principal = principal
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._utterances: set[Utterance] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._writable = asyncio.Event()
        self._draining = False
        self._last_message_s = self._loop.time()
        self._idle_timer = self._loop.call_later(gateway.config.idle_s, self._on_idle)
        self._dialect = dialect(self)

    # --- for the dialect

    def identify(self, credential: str | None) -> None:
        """Finds out who calls, from a credential in the first message, where the handshake had none.

        Raises:
            Failure: `unauthorized`.
        """
        if self.principal is None:
            self.principal = self.gateway.gatekeeper.identify(credential, self.door, "speak")

    def speak(self, options: UtteranceOptions, context_id: str = "") -> Utterance:
        """Begins an utterance; it is closed with the connection at the latest.

        Raises:
            Failure: it cannot be spoken so, or there are too many.
        """
        if self.principal is None:
            self.identify(None)
        self._utterances = {utterance for utterance in self._utterances if not utterance.is_spent}
        if sum(not utterance.is_over for utterance in self._utterances) >= self.gateway.limits.max_contexts:
            raise Failure(
                ErrorCode.OVER_CAPACITY,
                f"a connection may have {self.gateway.limits.max_contexts} open contexts",
                "End or cancel a context first.",
                retry_after_ms=1000,
            )
        utterance = self.gateway.open_utterance(self.door, options, context_id)
        # In the next turn of the loop: whoever passed on its end has something to say about that first.
        utterance.when_spent = self._on_spent
        self._utterances.add(utterance)
        return utterance

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs work for as long as the connection lasts, as passing on an utterance's events does."""
        assert self._tasks is not None
        task = self._tasks.create_task(self._guard(work), name=f"{self.door} {self.id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls back after a delay; the caller cancels the timer when the connection ends."""
        return self._loop.call_later(delay_s, self._run_guarded, callback)

    async def in_thread(self, step: Callable[..., Any], *args: Any) -> Any:
        """Runs a step that would hold the event loop, as encoding does."""
        return await self._loop.run_in_executor(self.gateway.encode_pool, step, *args)

    async def writable(self) -> None:
        """Waits until the peer takes more; whoever sends audio does before each piece."""
        while not self._socket.writable and not self._over.is_set():
            self._writable.clear()
            await self._writable.wait()

    def send(self, *messages: Mapping[str, Any]) -> None:
        """Sends messages as JSON."""
        if not self._over.is_set():
            self._socket.send([(False, [orjson.dumps(message) for message in messages])])

    def send_binary(self, *messages: bytes) -> None:
        """Sends binary messages; empty ones, which clients stumble over, are left out."""
        whole = [message for message in messages if message]
        if whole and not self._over.is_set():
            self._socket.send([(True, whole)])

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Ends the connection."""
        if not self._over.is_set():
            self._socket.close(code, reason)
            self._stop()

    @property
    def is_over(self) -> bool:
        """Whether the connection is closed."""
        return self._over.is_set()

    # --- from the gateway

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Keeps the tasks until the connection is over."""
        async with asyncio.TaskGroup() as self._tasks:
            self._run_guarded(self._dialect.opened)
            on_ready()
            await self._over.wait()
            for utterance in tuple(self._utterances):
                utterance.close()
            for task in tuple(self._running):
                task.cancel()
        self._tasks = None

    def drain(self, deadline_ms: int) -> None:
        """The server goes away: open utterances finish, then the connection ends."""
        self._draining = True
        self._end_if_drained()

    def end_drained(self) -> None:
        """The drain's deadline has come."""
        if all(utterance.is_over for utterance in self._utterances):
            self.close(GOING_AWAY, "going away")
        else:
            self.refuse(Failure(ErrorCode.ENGINE_UNAVAILABLE, "the server is going away"), GOING_AWAY)

    # --- from the socket

    def receive_text(self, data: bytes) -> None:
        """Takes a text message."""
        self._last_message_s = self._loop.time()
        self._obey(lambda: self._dialect.receive(_object(data)))

    def receive_binary(self, data: bytes) -> None:
        """Takes a binary message."""
        self._last_message_s = self._loop.time()
        self._obey(lambda: self._dialect.receive_binary(data))

    def tick(self) -> None:
        """The socket can take more."""
        self._writable.set()

    def lost(self) -> None:
        """The socket is gone."""
        self._stop()

    def broken(self, failure: Failure) -> None:
        """The peer broke a rule of the transport: it is told so before the close frame."""
        if not self._over.is_set():
            self._dialect.fail(failure)
            self._stop()

    def refuse(self, failure: Failure, code: int = POLICY) -> None:
        """Ends the connection with an error and this close code."""
        if not self._over.is_set():
            self._dialect.fail(failure)
            self.close(code, str(failure.code))

    def crash(self) -> None:
        """Ends the connection after a mistake of ours."""
        log.exception("session crashed", extra={"session": self.id, "door": self.door})
        self.refuse(Failure(ErrorCode.INTERNAL, "the server made a mistake"), INTERNAL_ERROR)

    # --- inside

    def _obey(self, step: Callable[[], None]) -> None:
        if self._over.is_set():
            return
        try:
            step()
        except Failure as failure:
            self._dialect.fail(failure)

    def _run_guarded(self, callback: Callable[[], None]) -> None:
        try:
            self._obey(callback)
        except Exception:  # noqa: BLE001  the edge of a session: a mistake of ours ends it alone
            self.crash()

    async def _guard(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Failure as failure:
            if not self._over.is_set():
                self._dialect.fail(failure)
        except Exception:  # noqa: BLE001  the edge of a session
            self.crash()

    def _on_spent(self) -> None:
        self._loop.call_soon(self._end_if_drained)

    def _end_if_drained(self) -> None:
        if self._draining and all(utterance.is_spent for utterance in self._utterances):
            self._run_guarded(self._dialect.drain)

    def _on_idle(self) -> None:
        idle_s = self.gateway.config.idle_s
        since_s = self._loop.time() - self._last_message_s
        speaking = any(not (utterance.is_spent or utterance.is_silent) for utterance in self._utterances)
        if since_s >= idle_s and not speaking:
            self._run_guarded(self._dialect.idle)
            return
        delay_s = idle_s - since_s if since_s < idle_s else min(1.0, idle_s)
        self._idle_timer = self._loop.call_later(delay_s, self._on_idle)

    def _stop(self) -> None:
        self._over.set()
        self._writable.set()
        self._idle_timer.cancel()


def _object(data: bytes) -> dict[str, Any]:
    """The message.

    Raises:
        Failure: it is no JSON object.
    """
    try:
        message = load_json(data)
    except RemoteProtocolError as error:
        raise Failure(error.code, str(error)) from None
    if not isinstance(message, dict):
        raise Failure(ErrorCode.BAD_REQUEST, "a message must be a JSON object")
    return message
