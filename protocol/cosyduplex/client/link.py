"""The session as its contexts see it: the socket, the protocol's core and who waits for what."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import weakref
from typing import TYPE_CHECKING, Any

from websockets.asyncio import client as websocket
from websockets.exceptions import ConnectionClosed

from cosyduplex import wire
from cosyduplex.client.failures import (
    ConnectError,
    CosyDuplexError,
    SessionClosed,
    SessionError,
    raise_again,
)
from cosyduplex.client.queues import Inbox, Outbox
from cosyduplex.connection import ClientConnection, ServerEvent
from cosyduplex.errors import ErrorCode, RemoteProtocolError
from cosyduplex.messages import (
    ClientMessage,
    ContextOpen,
    Error,
    Ping,
    PlaybackReport,
    Pong,
    SessionDraining,
    SessionEnd,
    SessionEnded,
    SessionStart,
    SessionStarted,
    Warning,
)

if TYPE_CHECKING:
    from cosyduplex.client.context import Context

CLOSE_TIMEOUT_S = 2
MAX_SESSION_EVENTS = 256

SessionEvent = Warning | Error | SessionDraining | SessionEnded


def check(message: ClientMessage) -> None:
    """Checks a message as the server will, so that a mistake is raised where it was made.

    Raises:
        ValueError: the message is outside the protocol's limits; the text says which field.
    """
    try:
        wire.decode_client_message(wire.encode_message(message))
    except RemoteProtocolError as exc:
        raise ValueError(str(exc)) from None


class Link:
    """One socket to the server, shared by the contexts of a session.

    Attributes:
        started: what the server said at the start.
        max_ahead_ms: how far ahead of the listener the server may send; 0 = without limit.
        failure: why the session is over; None while it is not.
        events: what concerns no single context.
        contexts: all that the program still holds or that still speak.
        live: those that are open here, by generation.
    """

    started: SessionStarted

    def __init__(self, socket: websocket.ClientConnection, max_ahead_ms: int) -> None:
        self.max_ahead_ms = max_ahead_ms
        self.failure: CosyDuplexError | None = None
        self.events: Inbox[SessionEvent] = Inbox(MAX_SESSION_EVENTS)
        self.contexts: weakref.WeakSet[Context] = weakref.WeakSet()
        self.live: dict[int, Context] = {}
        self._socket = socket
        self._connection = ClientConnection()
        self._outbox = Outbox()
        self._pings: dict[int, asyncio.Future[Any]] = {}
        self._ping_numbers = itertools.count(1)
        self._has_started: asyncio.Future[SessionStarted] = asyncio.get_running_loop().create_future()
        self._socket_ended = asyncio.Event()

    # --- out

    def raise_if_over(self) -> None:
        """Raises why the session is over, if it is."""
        if self.failure is not None:
            raise_again(self.failure)

    async def wait_for_room(self) -> None:
        """Waits while the socket takes no more text."""
        await self._outbox.wait_for_room()

    def send(self, message: ClientMessage) -> None:
        """Numbers and queues a message.

        Raises:
            SessionClosed: the session is over (or `SessionError`).
            LocalProtocolError: the protocol does not allow it now.
        """
        self.raise_if_over()
        self._outbox.put(self._connection.send(message))

    def open(self, context: Context, opening: ContextOpen) -> int:
        """Opens a context and returns its generation; raises as `send` does."""
        self.send(opening)
        generation = self._connection.generation_of(opening.context_id)
        assert generation is not None
        self.live[generation] = context
        return generation

    def has_live(self, context_id: str) -> bool:
        """Whether a context lives under this id."""
        return self._connection.generation_of(context_id) is not None

    def ping(self) -> asyncio.Future[Any]:
        """Sends a ping; its pong, or the end of the session, sets None."""
        number = next(self._ping_numbers)
        self.send(Ping(t=number))
        self._pings[number] = asyncio.get_running_loop().create_future()
        return self._pings[number]

    def report(
        self,
        context_id: str,
        *,
        played_ms: int,
        buffered_ms: int | None = None,
        underruns: int | None = None,
    ) -> None:
        """Sends what was heard of a context, and what has arrived of the session."""
        message = PlaybackReport(
            context_id=context_id,
            played_ms=played_ms,
            buffered_ms=buffered_ms,
            underruns=underruns,
            last_seq=self._connection.last_seq,
            last_ev=self._connection.last_ev,
        )
        check(message)
        self.send(message)

    # --- begin and end

    async def begin(self, start: SessionStart, open_timeout: float | None) -> None:
        """Starts the session and waits for the server's answer.

        Raises:
            ConnectError: it did not come, or the server closed the socket.
            SessionError: the server answered with an error.
        """
        self.send(start)
        try:
            async with asyncio.timeout(open_timeout):
                self.started = await self._has_started
        except TimeoutError:
            message = f"the server did not begin the session within {open_timeout:g} s"
            error = ConnectError("timeout", message, "Try again.", retryable=True)
            self._fail(error)
            raise error from None
        except SessionClosed as exc:
            is_full = exc.code == 1013
            code = ErrorCode.OVER_CAPACITY if is_full else "refused"
            message = f"the server closed the socket ({exc.code}: {exc.reason or 'no reason given'})"
            raise ConnectError(code, message, "Try again later.", retryable=is_full) from exc

    async def aclose(self) -> None:
        """Cancels what still speaks, ends the session and closes the socket, within a few seconds."""
        if self.failure is None:
            closed = SessionClosed(1000, "closed by this side")
            for context in list(self.live.values()):
                context._stop(closed)
            self.send(SessionEnd())
            self._fail(closed)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._socket_ended.wait()
        with contextlib.suppress(TimeoutError):  # closing waits for as long as the peer takes no data
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._socket.close()
        self._socket.transport.abort()

    def _fail(self, error: CosyDuplexError) -> None:
        """Ends everything with this error; the first one counts."""
        if self.failure is not None:
            return
        self.failure = error
        for context in list(self.contexts):
            context._end(error)
            context._acknowledge(None)
        for answer in self._pings.values():
            if not answer.done():
                answer.set_result(None)
        self.events.close()
        self._outbox.release()
        if not self._has_started.done():
            self._has_started.set_exception(error)

    # --- the socket

    async def run(self) -> None:
        """Reads and writes until the socket ends; then every context knows."""
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(), name="cosyduplex writer")
                await self._read()
                writer.cancel()
        finally:
            code = self._socket.close_code
            self._fail(SessionClosed(1006 if code is None else code, self._socket.close_reason or ""))
            self._socket_ended.set()

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self._socket.send(await self._outbox.get(), text=True)

    async def _read(self) -> None:
        try:
            while True:
                data = await self._socket.recv()
                if self.failure is None:
                    self._receive(data)
        except ConnectionClosed:
            return
        except RemoteProtocolError as exc:
            self._fail(SessionClosed(1002, f"the server broke the protocol: {exc}"))
            await self._socket.close(1002)

    def _receive(self, data: str | bytes) -> None:
        connection = self._connection
        event = connection.receive_text(data) if isinstance(data, str) else connection.receive_binary(data)
        message = event.message
        match message:
            case SessionStarted():
                if not self._has_started.done():
                    self._has_started.set_result(message)
            case Pong():
                self._receive_pong(message)
            case SessionDraining():
                self.events.put(message)
            case SessionEnded():
                self.events.put(message)
                self._fail(SessionClosed(1000, f"the server ended the session ({message.reason})"))
            case Error() if message.ends == "session" or not self._has_started.done():
                self._fail(SessionError.from_message(message))
            case _ if (context := self._context_of(event)) is not None:
                if not event.stale:
                    context._receive(message)
            case Warning() | Error():
                self.events.put(message)

    def _receive_pong(self, pong: Pong) -> None:
        answer = self._pings.pop(pong.t, None) if isinstance(pong.t, int) else None
        if answer is not None and not answer.done():
            answer.set_result(None)

    def _context_of(self, event: ServerEvent) -> Context | None:
        if event.generation is None:  # named at most: then it is about the one that lives
            return next((c for c in self.live.values() if c.id == event.context_id), None)
        live = self.live.get(event.generation)
        return live or next((c for c in self.contexts if c._generation == event.generation), None)
