"""The Python client: words in as they are written, speech out as it is made.

    async with cosyduplex.connect("ws://127.0.0.1:8765") as session:
        async for pcm in session.speak(llm_tokens()):
            play(pcm)

A session holds any number of contexts that speak at once; each is fed and iterated on its own. All of it
belongs to one event loop; `cosyduplex.sync` is the same with threads.

**A slow taker.** The socket is always read: were it not, acknowledgements would wait behind audio, and
neither side's keepalive pings would be answered, which ends the session after 20 s. Audio that is not taken
waits in its context instead. In a paced session the client tells the server how much has really been taken
as soon as more than `max_ahead_ms` waits, so little more than that ever does. With `max_ahead_ms=0` nothing
paces the server; there, as a last resort, a context with more than `MAX_UNREAD_BYTES` unread is cancelled
and raises `ContextError` with the code `slow_consumer`; the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import queue
import ssl as tls
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Collection, Iterable, Iterator
from concurrent.futures import Future as ThreadFuture
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import urlsplit, urlunsplit

import orjson
from websockets.asyncio import client as websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from cosyduplex import __version__, wire
from cosyduplex.connection import ClientConnection, ServerEvent
from cosyduplex.errors import ErrorCode, RemoteProtocolError
from cosyduplex.messages import (
    AudioFrame,
    AudioOptions,
    ClientMessage,
    ContextCancel,
    ContextCancelled,
    ContextDone,
    ContextFlushed,
    ContextOpen,
    ContextStarted,
    Error,
    Feedback,
    FlowOptions,
    Limits,
    Marks,
    NegotiatedAudio,
    Ping,
    PlaybackReport,
    Pong,
    SessionDraining,
    SessionEnd,
    SessionEnded,
    SessionStart,
    SessionStarted,
    SpeechOptions,
    TextAppend,
    TextEnd,
    TextFlush,
    TextOptions,
    Warning,
)

DEFAULT_URL = "ws://127.0.0.1:8765"
MAX_UNREAD_BYTES = 64 << 20  # of one context: more than the longest `max_ahead_ms` at 48 kHz
MAX_UNREAD_SESSION_EVENTS = 256
HOLD_INTERVAL_S = 1.0

_PATH = "/v1/duplex"
_MAX_RECEIVED_BYTES = 4 << 20
_PING_INTERVAL_S = _PING_TIMEOUT_S = 10
_CLOSE_TIMEOUT_S = 2
_OUTBOX_HIGH_BYTES, _OUTBOX_LOW_BYTES = 256 << 10, 64 << 10
_JSON_BYTES_PER_CHAR = 12  # the longest escape of one code point, "\ud83d\ude00"
_MESSAGE_OVERHEAD_BYTES = 2048  # a message without its text; an id of 128 characters may be all escapes

Event = AudioFrame | Marks | ContextFlushed | Warning | Error | ContextDone
SessionEvent = Warning | Error | SessionDraining | SessionEnded
Tokens = str | Iterable[str | None] | AsyncIterable[str | None]

_T = TypeVar("_T")

# --- what can go wrong -------------------------------------------------------------------------------


class CosyDuplexError(Exception):
    """Base of all that the client raises for reasons outside your program."""


class ServerError(CosyDuplexError):
    """Something was refused or failed; its text is `code: message — solution`.

    Attributes:
        code: what went wrong, an `ErrorCode` where it came from the server.
        message: the same for people.
        solution: what to do about it.
        retryable: trying again, later, may help.
        retry_after_ms: when, where the server said so.
    """

    def __init__(
        self,
        code: str,
        message: str,
        solution: str = "",
        *,
        retryable: bool = False,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}" + (f" — {solution}" if solution else ""))
        self.code = code
        self.message = message
        self.solution = solution
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms


class ConnectError(ServerError):
    """No session could be opened: nobody answered, or the server refused."""


class SessionError(ServerError):
    """The server ended the session with an error."""


class ContextError(ServerError):
    """The server ended the context with an error, or refused part of its text while `speak` ran."""


class SessionClosed(CosyDuplexError):
    """The session is over: closed by either side, or the socket broke.

    Attributes:
        code: the WebSocket close code; 1006 when there was none.
        reason: why, as far as is known.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"session closed ({code}): {reason or 'no reason given'}")
        self.code = code
        self.reason = reason


class ContextEnded(CosyDuplexError):
    """Text came for a context that is done or cancelled."""


_AnyServerError = TypeVar("_AnyServerError", bound=ServerError)


def _error_from(kind: type[_AnyServerError], error: Error) -> _AnyServerError:
    return kind(
        error.code,
        error.message,
        error.solution,
        retryable=error.retryable,
        retry_after_ms=error.retry_after_ms,
    )


# --- opening -----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def connect(
    url: str = DEFAULT_URL,
    *,
    voice: str | None = None,
    language: str | None = None,
    audio: AudioOptions | None = None,
    speech: SpeechOptions | None = None,
    text: TextOptions | None = None,
    max_ahead_ms: int = 3000,
    marks: bool = False,
    api_key: str | None = None,
    ssl: tls.SSLContext | None = None,
    open_timeout: float | None = 10,
) -> AsyncIterator[Session]:
    """Opens a session; leaving the block cancels what still speaks and closes it.

    Args:
        url: Where the server is; `http(s)` means `ws(s)`, and the path may be left out.
        voice: Who speaks; None for the server's own choice.
        language: Of the text, as `en` or `zh`; None to find out.
        audio: Encoding, sample rate and frame duration; PCM at 24 kHz in frames of 20 ms by default.
        speech: Speed, pitch, volume and manner.
        text: How the text is read.
        max_ahead_ms: How far ahead of a listener in real time the server sends, 200 to 600000;
            0 = as fast as it is made, for files.
        marks: Whether to get the times of the words.
        api_key: A key or token of the server.
        ssl: For `wss`, what to trust instead of the system's certificates.
        open_timeout: Seconds until giving up.

    Raises:
        ConnectError: nobody answered, or the server refused.
        SessionError: the server does not know the voice, the format or another wish.
        ValueError: a wish is outside its limits.

    Example:
        ```python
        import asyncio
        import cosyduplex

        async def tokens():
            for word in "Hello , and welcome .".split():
                yield word + " "

        async def main():
            async with cosyduplex.connect("ws://127.0.0.1:8765") as session:
                async for pcm in session.speak(tokens()):
                    print(len(pcm), "bytes of speech")

        asyncio.run(main())
        ```
    """
    start = SessionStart(
        voice=voice,
        language=language,
        audio=audio or AudioOptions(),
        speech=speech or SpeechOptions(),
        text=text or TextOptions(),
        flow=FlowOptions(max_ahead_ms=max_ahead_ms),
        marks=marks,
    )
    _check(start)
    socket = await _open_socket(url, api_key, ssl, open_timeout)
    session = Session(socket, start)
    run = asyncio.create_task(session._run(), name="cosyduplex session")
    try:
        await session._begin(open_timeout)
        yield session
    finally:
        try:
            await session.aclose()
        finally:
            run.cancel()
            await asyncio.wait([run])
            if not run.cancelled():
                run.result()


def _check(message: ClientMessage) -> None:
    """Checks a message as the server will, so that a mistake is raised where it was made."""
    try:
        wire.decode_client_message(wire.encode_message(message))
    except RemoteProtocolError as exc:
        raise ValueError(str(exc)) from None


async def _open_socket(
    url: str, api_key: str | None, ssl: tls.SSLContext | None, open_timeout: float | None
) -> websocket.ClientConnection:
    url = _socket_url(url)
    options: dict[str, Any] = {} if ssl is None else {"ssl": ssl}
    if _is_loopback(url):
        options["proxy"] = None
    try:
        return await websocket.connect(
            url,
            additional_headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            user_agent_header=f"cosyduplex/{__version__}",
            compression=None,
            max_size=_MAX_RECEIVED_BYTES,
            ping_interval=_PING_INTERVAL_S,
            ping_timeout=_PING_TIMEOUT_S,
            close_timeout=_CLOSE_TIMEOUT_S,
            open_timeout=open_timeout,
            **options,
        )
    except InvalidStatus as exc:
        raise _refusal(exc) from exc
    except InvalidURI as exc:
        raise ConnectError("bad_request", str(exc), "Give a URL such as ws://127.0.0.1:8765.") from exc
    except InvalidHandshake as exc:
        message = f"what answers at {url} does not speak WebSocket ({exc})"
        raise ConnectError("unreachable", message, "Check the URL and the port.") from exc
    except tls.SSLCertVerificationError as exc:
        message = f"the certificate of {url} is not trusted ({exc.verify_message})"
        raise ConnectError("unreachable", message, "Give ssl= a context that trusts it.") from exc
    except OSError as exc:  # TimeoutError among them
        message = f"nobody answers at {url} ({exc.strerror or exc})"
        solution = "Start the server with `cosyduplex serve`, or check the URL."
        raise ConnectError("unreachable", message, solution, retryable=True) from exc


def _socket_url(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path.rstrip("/").removesuffix(_PATH) + _PATH
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def _is_loopback(url: str) -> bool:
    """A proxy of the environment is not asked for what runs on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refusal(exc: InvalidStatus) -> ConnectError:
    status = exc.response.status_code
    try:
        body = orjson.loads(exc.response.body)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        message = f"the server answered HTTP {status} instead of opening a WebSocket"
        return ConnectError("refused", message, "Check that the URL is that of a CosyDuplex server.")
    return ConnectError(
        str(body.get("error", "refused")),
        str(body.get("message", f"HTTP {status}")),
        str(body.get("solution", "")),
        retryable=status in (429, 503),
    )


# --- queues ------------------------------------------------------------------------------------------


class _Inbox(Generic[_T]):
    """What has come and waits to be taken; `get` may be cancelled at any time without losing anything."""

    def __init__(self, max_items: int | None = None) -> None:
        self._items: deque[_T] = deque(maxlen=max_items)
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, item: _T) -> None:
        self._items.append(item)
        self._changed.set()

    def close(self) -> None:
        """Nothing more comes; what is there can still be taken."""
        self._closed = True
        self._changed.set()

    def clear(self) -> None:
        self._items.clear()

    async def get(self) -> _T | None:
        """Returns the oldest item, or None once the inbox is closed and empty."""
        while not self._items:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()


class _Outbox:
    """Messages on their way to the socket, in order.

    Room is waited for before a message is numbered, so that numbering and queueing are one step: a cancelled
    `await` leaves nothing half said.
    """

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._num_bytes = 0
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    def put(self, message: bytes) -> None:
        self._messages.append(message)
        self._num_bytes += len(message)
        self._filled.set()
        if self._num_bytes > _OUTBOX_HIGH_BYTES:
            self._has_room.clear()

    async def get(self) -> bytes:
        while not self._messages:
            self._filled.clear()
            await self._filled.wait()
        message = self._messages.popleft()
        self._num_bytes -= len(message)
        if self._num_bytes <= _OUTBOX_LOW_BYTES:
            self._has_room.set()
        return message

    async def wait_for_room(self) -> None:
        await self._has_room.wait()

    def release(self) -> None:
        """Lets everyone go who waits for room: nothing is sent any more."""
        self._has_room.set()


# --- tokens ------------------------------------------------------------------------------------------

_NO_MORE: Any = object()


async def _each(tokens: Tokens) -> AsyncGenerator[str | None, None]:
    """Yields what `tokens` yields, whatever kind of iterable it is."""
    if isinstance(tokens, str):
        yield tokens
    elif isinstance(tokens, AsyncIterable):
        async for token in tokens:
            yield token
    elif isinstance(tokens, Collection):
        for token in tokens:
            yield token
    else:
        async with contextlib.aclosing(_from_thread(iter(tokens))) as stream:
            async for token in stream:
                yield token


async def _from_thread(tokens: Iterator[str | None]) -> AsyncGenerator[str | None, None]:
    """Reads an iterator that may block, one token at a time, in a daemon thread."""
    requests: queue.SimpleQueue[ThreadFuture[Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_answer, args=(tokens, requests), name="cosyduplex tokens", daemon=True).start()
    try:
        while True:
            request: ThreadFuture[Any] = ThreadFuture()
            requests.put(request)
            token = await asyncio.wrap_future(request)
            if token is _NO_MORE:
                return
            yield token
    finally:
        requests.put(None)


def _answer(tokens: Iterator[str | None], requests: queue.SimpleQueue[ThreadFuture[Any] | None]) -> None:
    while (request := requests.get()) is not None:
        if not request.set_running_or_notify_cancel():
            continue
        try:
            request.set_result(next(tokens, _NO_MORE))
        except BaseException as exc:  # noqa: BLE001 (raised again where the token is awaited)
            request.set_exception(exc)


# --- context -----------------------------------------------------------------------------------------


class Context:
    """One stream of text that is spoken; made by `Session.context`.

    Feed it from one task and iterate over it in another, or let `speak` do both:

        async for event in context:   # audio in order, marks, flushed, warnings; ends after `ContextDone`
            match event:
                case AudioFrame(payload=pcm): ...
                case Marks(words=words): ...

    The iteration ends at once after a cancel. It raises `ContextError` where the server ended the context
    with an error and `SessionClosed` or `SessionError` where the session ended, after what had come before.
    An `Error` among the events ended nothing: part of what was sent was not taken.

    Attributes:
        id: its name in the protocol, free again once it has ended.
        result: how it ended, once it has: `ContextDone`, or `ContextCancelled` with how far the listener got.
    """

    def __init__(self, session: Session, opening: ContextOpen) -> None:
        self.id = opening.context_id
        self.result: ContextDone | ContextCancelled | None = None
        self._session = session
        self._opening = opening
        self._generation: int | None = None
        self._text_ended = False
        self._ended = False
        self._error: BaseException | None = None
        self._answer: asyncio.Future[ContextCancelled | None] | None = None  # to a cancel
        self._inbox: _Inbox[Event] = _Inbox()
        self._backlog = _Backlog()

    def __repr__(self) -> str:
        return f"<cosyduplex.Context {self.id!r}>"

    # --- text in

    async def append(self, text: str) -> None:
        """Sends more text, split anywhere; waits while the socket takes no more.

        Long text goes out in several messages: a cancelled `append` may have sent the beginning.

        Raises:
            ContextEnded: the context is done or cancelled.
            ContextError: it was ended by an error.
            SessionClosed: the session is over (or `SessionError`).
            LocalProtocolError: the text has been ended.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be str, not {type(text).__name__}")
        for piece in _pieces(text, self._session.started.limits):
            await self._session._wait_for_room()
            self._say(TextAppend(context_id=self.id, text=piece))

    async def flush(self) -> None:
        """Has all text so far spoken now; one `ContextFlushed` follows when it has been sent as audio."""
        await self._session._wait_for_room()
        self._say(TextFlush(context_id=self.id))

    async def end(self) -> None:
        """Says that no more text follows; ending twice is ending once."""
        await self._session._wait_for_room()
        if not self._text_ended:
            self._say(TextEnd(context_id=self.id))
            self._text_ended = True

    async def feed(self, tokens: Tokens) -> None:
        """Appends every token as it comes, then ends the text; returns early once the context is cancelled.

        Args:
            tokens: A string, an async iterable or an iterable of strings. An iterable that has no length,
                as a generator, is read in a thread, so that it may block. Empty tokens and None are skipped.

        Raises:
            ContextError: the context was ended by an error.
            SessionClosed: the session is over (or `SessionError`).
        """
        try:
            async with contextlib.aclosing(_each(tokens)) as stream:
                async for token in stream:
                    if token:
                        await self.append(token)
            await self.end()
        except ContextEnded:
            return

    def _say(self, message: TextAppend | TextFlush | TextEnd) -> None:
        self._raise_if_ended()
        if self._generation is None:
            self._generation = self._session._open(self, self._opening)
        self._session._send(message)

    def _raise_if_ended(self) -> None:
        if self._error is not None:
            _raise_again(self._error)
        if self._ended:
            how = "done" if isinstance(self.result, ContextDone) else "cancelled"
            raise ContextEnded(f"context {self.id!r} is {how}")

    # --- audio out

    def __aiter__(self) -> Context:
        return self

    async def __anext__(self) -> Event:
        event = await self._inbox.get()
        if event is not None:
            self._backlog.take(event, self._session.started.audio)
            return event
        if self._error is not None:
            _raise_again(self._error)
        raise StopAsyncIteration

    async def speak(self, tokens: Tokens) -> AsyncGenerator[Event, None]:
        """Feeds the tokens while yielding the events; leaving early cancels the context on the server.

        What the tokens raise is raised here.
        """
        feeder = asyncio.create_task(self.feed(tokens), name=f"cosyduplex feed {self.id}")
        feeder.add_done_callback(self._fed)
        try:
            async for event in self:
                yield event
        finally:
            self._stop()
            feeder.cancel()
            await asyncio.wait([feeder])

    def _fed(self, feeder: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if feeder.cancelled() else feeder.exception()
        if error is not None:
            self._stop(error)

    async def cancel(self, *, played_ms: int | None = None) -> ContextCancelled | None:
        """Stops speaking now (barge-in): no audio is yielded any more; waits for the server's answer.

        Args:
            played_ms: How much the listener has heard; None leaves it to the server's own clock.

        Returns:
            How far into the text the listener got. Also after `ContextDone` while the server remembers the
            context (60 s), since done is sent, not heard; None where there was nothing to cancel.

        Raises:
            SessionClosed: the session ended before the answer came (or `SessionError`).
        """
        if isinstance(self.result, ContextCancelled):
            return self.result
        if self._answer is None:
            if isinstance(self.result, ContextDone):
                self._cancel_done(played_ms)
            else:
                self._stop(played_ms=played_ms)
        if self._answer is None:
            return None
        answer = await asyncio.shield(self._answer)
        if answer is None:
            self._session._raise_if_over()
        return answer

    def _stop(self, error: BaseException | None = None, *, played_ms: int | None = None) -> None:
        """Ends the context here at once, and on the server where it has been opened."""
        if self._ended:
            return
        if self._generation is not None:
            self._session._send(ContextCancel(context_id=self.id, played_ms=played_ms))
            self._answer = asyncio.get_running_loop().create_future()
        self._end(error, drop=True)

    def _cancel_done(self, played_ms: int | None) -> None:
        session = self._session
        if session._failure is not None or session._is_reopened(self):
            return
        self._inbox.clear()
        session._send(ContextCancel(context_id=self.id, played_ms=played_ms))
        # A server that has forgotten the context answers nothing: the pong then comes first.
        self._answer = session._ping()

    # --- from the session

    def _receive(self, message: Event | ContextStarted | ContextCancelled) -> None:
        match message:
            case ContextStarted():
                pass
            case ContextCancelled():
                self.result = message
                self._end(drop=True)
                self._acknowledge(message)
            case ContextDone():
                if not self._ended:
                    self.result = message
                    self._inbox.put(message)
                    self._end()
            case Error(ends="context"):
                self._end(_error_from(ContextError, message))
                self._acknowledge(None)  # a cancel that crosses an ending error is not answered
            case _ if not self._ended:
                self._take_in(message)

    def _take_in(self, event: Event) -> None:
        self._inbox.put(event)
        self._backlog.put(event, self._session.started.audio)
        if self._backlog.num_bytes > MAX_UNREAD_BYTES:
            self._stop(
                ContextError(
                    "slow_consumer",
                    f"more than {MAX_UNREAD_BYTES >> 20} MiB of audio waited to be taken",
                    "Take the audio as it comes, or connect with a max_ahead_ms above 0.",
                )
            )
        elif isinstance(event, AudioFrame):
            self._hold_back()

    def _hold_back(self) -> None:
        """Corrects the server's idea of the listener where more audio waits here than may be ahead.

        Between two reports the server lets its own clock run on, so each of them holds it for a while.
        """
        max_ahead_ms = self._session._max_ahead_ms
        now_s = asyncio.get_running_loop().time()
        backlog = self._backlog
        if max_ahead_ms and backlog.unread_ms > max_ahead_ms and backlog.may_report(now_s):
            self._session._report(self.id, played_ms=backlog.taken_ms, buffered_ms=backlog.unread_ms)

    def _end(self, error: BaseException | None = None, *, drop: bool = False) -> None:
        if drop:
            self._inbox.clear()
        if self._ended:
            return
        self._ended = True
        self._error = error
        self._inbox.close()
        self._session._release(self)

    def _acknowledge(self, answer: ContextCancelled | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)


class _Backlog:
    """How much of a context waits to be taken, in bytes and in milliseconds of audio.

    Attributes:
        num_bytes: of all events that wait.
        taken_ms: where in the context's audio the taker is.
        unread_ms: audio that has come and was not taken.
        has_reports: the program reports the playback itself; nothing is reported in its place.
    """

    _EVENT_BYTES = 256  # what an event costs beside its payload, roughly

    def __init__(self) -> None:
        self.num_bytes = 0
        self.taken_ms = 0
        self.unread_ms = 0
        self.has_reports = False
        self._reported_at_s = float("-inf")

    def put(self, event: Event, audio: NegotiatedAudio) -> None:
        self.num_bytes += self._size(event)
        if isinstance(event, AudioFrame):
            self.unread_ms = _end_ms(event, audio) - self.taken_ms

    def take(self, event: Event, audio: NegotiatedAudio) -> None:
        self.num_bytes -= self._size(event)
        if isinstance(event, AudioFrame):
            received_ms = self.taken_ms + self.unread_ms
            self.taken_ms = _end_ms(event, audio)
            self.unread_ms = received_ms - self.taken_ms

    def may_report(self, now_s: float) -> bool:
        """Whether a report is due, not more than one in `HOLD_INTERVAL_S`; counts it as sent."""
        if self.has_reports or now_s - self._reported_at_s < HOLD_INTERVAL_S:
            return False
        self._reported_at_s = now_s
        return True

    def _size(self, event: Event) -> int:
        return self._EVENT_BYTES + (len(event.payload) if isinstance(event, AudioFrame) else 0)


def _end_ms(frame: AudioFrame, audio: NegotiatedAudio) -> int:
    """Where a frame ends in its context; an Opus packet lasts a whole frame."""
    samples = len(frame.payload) // 2 if audio.encoding == "pcm_s16le" else audio.frame_samples
    return (frame.pts + samples) * 1000 // audio.sample_rate


def _pieces(text: str, limits: Limits) -> Iterator[str]:
    """Splits text so that each piece fits a message, however it is escaped."""
    fitting = (limits.max_message_bytes - _MESSAGE_OVERHEAD_BYTES) // _JSON_BYTES_PER_CHAR
    step = max(1, min(limits.max_text_chars, fitting))
    return (text[begin : begin + step] for begin in range(0, len(text), step))


def _raise_again(error: BaseException) -> NoReturn:
    """Raises an error that several tasks may meet, without the traceback of the last one."""
    raise error.with_traceback(None)


# --- session -----------------------------------------------------------------------------------------


class Session:
    """One connection to the server; made by `connect`.

    Attributes:
        started: what the server said at the start: the audio as negotiated, voice, engine, limits.
    """

    started: SessionStarted

    def __init__(self, socket: websocket.ClientConnection, start: SessionStart) -> None:
        self._socket = socket
        self._start = start
        self._max_ahead_ms = start.flow.max_ahead_ms
        self._connection = ClientConnection()
        self._outbox = _Outbox()
        self._has_started: asyncio.Future[SessionStarted] = asyncio.get_running_loop().create_future()
        self._contexts: weakref.WeakSet[Context] = weakref.WeakSet()
        self._live: dict[int, Context] = {}  # by generation: opened and not ended here
        self._pings: dict[int, asyncio.Future[Any]] = {}
        self._ping_numbers = itertools.count(1)
        self._context_numbers = itertools.count(1)
        self._inbox: _Inbox[SessionEvent] = _Inbox(MAX_UNREAD_SESSION_EVENTS)
        self._failure: CosyDuplexError | None = None
        self._socket_ended = asyncio.Event()

    # --- what a program does

    def context(
        self,
        context_id: str | None = None,
        *,
        voice: str | None = None,
        language: str | None = None,
        speech: SpeechOptions | None = None,
        text: TextOptions | None = None,
    ) -> Context:
        """Makes a context; the server hears of it with its first text.

        Args:
            context_id: Its name, free again once the context has ended; None for a new one.
            voice: Who speaks in this context alone; so for the others.
            language: Of its text.
            speech: Speed, pitch, volume and manner.
            text: How its text is read.

        Raises:
            ValueError: a wish is outside its limits.
        """
        opening = ContextOpen(
            context_id=self._new_id() if context_id is None else context_id,
            voice=voice,
            language=language,
            speech=speech or SpeechOptions(),
            text=text or TextOptions(),
        )
        _check(opening)
        context = Context(self, opening)
        if self._failure is not None:
            context._end(self._failure)
        self._contexts.add(context)
        return context

    async def speak(
        self,
        tokens: Tokens,
        *,
        context_id: str | None = None,
        voice: str | None = None,
        language: str | None = None,
        speech: SpeechOptions | None = None,
        text: TextOptions | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Speaks tokens as they come and yields the audio: samples, or one Opus packet at a time.

        Leaving the loop, closing the iterator or cancelling the task cancels the context on the server.

        Args:
            tokens: As in `Context.feed`.
            context_id: As in `context`, with the other wishes.

        Raises:
            ContextError: the context was ended by an error, or part of the text was not taken.
            SessionClosed: the session is over (or `SessionError`).
        """
        context = self.context(context_id, voice=voice, language=language, speech=speech, text=text)
        async with contextlib.aclosing(context.speak(tokens)) as events:
            async for event in events:
                if isinstance(event, AudioFrame) and event.payload:
                    yield event.payload
                elif isinstance(event, Error):
                    raise _error_from(ContextError, event)

    async def cancel(self) -> list[ContextCancelled]:
        """Stops every context whose audio has not been heard to its end; returns how far each got.

        Contexts that are done but that the listener has not heard out are among them, as far as the program
        still holds them.

        Raises:
            SessionClosed: the session ended before the answers came (or `SessionError`).
        """
        self._raise_if_over()
        contexts = [context for context in self._contexts if not isinstance(context.result, ContextCancelled)]
        self._send(ContextCancel())
        answers = [self._ping()]  # what was done is answered before it, what lives by the contexts' own
        for context in list(self._live.values()):
            context._answer = asyncio.get_running_loop().create_future()
            answers.append(context._answer)
            context._end()
        for context in contexts:
            context._inbox.clear()
        await asyncio.wait(answers)
        self._raise_if_over()
        results = (context.result for context in contexts)
        return [result for result in results if isinstance(result, ContextCancelled)]

    def report_playback(
        self,
        context_id: str,
        *,
        played_ms: int,
        buffered_ms: int | None = None,
        underruns: int | None = None,
    ) -> None:
        """Tells the server what the listener has heard; it paces by this from then on.

        Players that know should report about once a second. Never waits.

        Raises:
            SessionClosed: the session is over (or `SessionError`).
        """
        for context in self._contexts:
            if context.id == context_id:
                context._backlog.has_reports = True
        self._report(context_id, played_ms=played_ms, buffered_ms=buffered_ms, underruns=underruns)

    def feedback(self, context_id: str, score: int, comment: str | None = None) -> None:
        """Sends how a person found a context, from 1 (bad) to 5 (good). Never waits.

        Raises:
            ValueError: the score is outside its limits.
            SessionClosed: the session is over (or `SessionError`).
        """
        message = Feedback(context_id=context_id, score=score, comment=comment)
        _check(message)
        self._send(message)

    async def ping(self) -> float:
        """Returns the round trip to the server's session in milliseconds.

        Raises:
            SessionClosed: the session ended before the answer came (or `SessionError`).
        """
        loop = asyncio.get_running_loop()
        sent_s = loop.time()
        await self._ping()
        self._raise_if_over()
        return (loop.time() - sent_s) * 1000

    async def events(self) -> AsyncGenerator[SessionEvent, None]:
        """Yields what concerns no single context: draining, warnings, errors; ends with the session.

        Only the last 256 are kept for who does not look.
        """
        while (event := await self._inbox.get()) is not None:
            yield event

    async def aclose(self) -> None:
        """Cancels what still speaks, ends the session and closes the socket; `connect` does it by itself."""
        if self._failure is None:
            closed = SessionClosed(1000, "closed by this side")
            for context in list(self._live.values()):
                context._stop(closed)
            self._send(SessionEnd())
            self._fail(closed)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await self._socket_ended.wait()
        with contextlib.suppress(TimeoutError):  # a socket that takes no more would be waited for
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._socket.close()
        self._socket.transport.abort()

    # --- for contexts

    def _new_id(self) -> str:
        names = (f"context-{number}" for number in self._context_numbers)
        return next(name for name in names if self._connection.generation_of(name) is None)

    def _open(self, context: Context, opening: ContextOpen) -> int:
        self._send(opening)
        generation = self._connection.generation_of(context.id)
        assert generation is not None
        self._live[generation] = context
        return generation

    def _is_reopened(self, context: Context) -> bool:
        """Whether another context lives under the id of this one, which is done."""
        return self._connection.generation_of(context.id) is not None

    def _release(self, context: Context) -> None:
        if context._generation is not None:
            self._live.pop(context._generation, None)

    async def _wait_for_room(self) -> None:
        await self._outbox.wait_for_room()

    def _send(self, message: ClientMessage) -> None:
        self._raise_if_over()
        self._outbox.put(self._connection.send(message))

    def _ping(self) -> asyncio.Future[Any]:
        """Sends a ping; its pong, or the end of the session, sets None."""
        number = next(self._ping_numbers)
        self._send(Ping(t=number))
        self._pings[number] = asyncio.get_running_loop().create_future()
        return self._pings[number]

    def _report(
        self,
        context_id: str,
        *,
        played_ms: int,
        buffered_ms: int | None = None,
        underruns: int | None = None,
    ) -> None:
        message = PlaybackReport(
            context_id=context_id,
            played_ms=played_ms,
            buffered_ms=buffered_ms,
            underruns=underruns,
            last_seq=self._connection.last_seq,
            last_ev=self._connection.last_ev,
        )
        _check(message)
        self._send(message)

    def _raise_if_over(self) -> None:
        if self._failure is not None:
            _raise_again(self._failure)

    # --- the socket

    async def _begin(self, open_timeout: float | None) -> None:
        self._send(self._start)
        try:
            async with asyncio.timeout(open_timeout):
                self.started = await self._has_started
        except TimeoutError:
            message = f"the server did not begin the session within {open_timeout:g} s"
            raise ConnectError("timeout", message, "Try again.", retryable=True) from None
        except SessionClosed as exc:
            code = ErrorCode.OVER_CAPACITY if exc.code == 1013 else "refused"
            message = f"the server closed the socket with {exc.code} ({exc.reason or 'no reason given'})"
            raise ConnectError(code, message, "Try again later.", retryable=exc.code == 1013) from exc

    async def _run(self) -> None:
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
                if self._failure is None:
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
            case _ if event.stale:
                pass
            case SessionStarted():
                if not self._has_started.done():
                    self._has_started.set_result(message)
            case Pong():
                self._receive_pong(message)
            case SessionEnded():
                self._inbox.put(message)
                self._fail(SessionClosed(1000, f"the server ended the session ({message.reason})"))
            case Error() if message.ends == "session" or not self._has_started.done():
                self._fail(_error_from(SessionError, message))
            case SessionDraining():
                self._inbox.put(message)
            case _:
                self._deliver(event, message)

    def _receive_pong(self, pong: Pong) -> None:
        answer = self._pings.pop(pong.t, None) if isinstance(pong.t, int) else None
        if answer is not None and not answer.done():
            answer.set_result(None)

    def _deliver(self, event: ServerEvent, message: Event | ContextStarted | ContextCancelled) -> None:
        context = self._context_of(event)
        if context is not None:
            context._receive(message)
        elif isinstance(message, Warning | Error):
            self._inbox.put(message)

    def _context_of(self, event: ServerEvent) -> Context | None:
        if event.generation is None:  # named, without an index: it is about the one that lives
            return next((c for c in self._live.values() if c.id == event.context_id), None)
        live = self._live.get(event.generation)
        return live or next((c for c in self._contexts if c._generation == event.generation), None)

    def _fail(self, error: CosyDuplexError) -> None:
        """Ends everything with this error; the first one counts."""
        if self._failure is not None:
            return
        self._failure = error
        for context in list(self._contexts):
            context._end(error)
            context._acknowledge(None)
        for answer in self._pings.values():
            if not answer.done():
                answer.set_result(None)
        self._inbox.close()
        self._outbox.release()
        if not self._has_started.done():
            self._has_started.set_exception(error)
