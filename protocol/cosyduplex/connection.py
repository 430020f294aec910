"""Both ends of `duplex.v1` without I/O: messages in, events out; nothing here waits or knows a socket.

The server core turns what a client sends into events and numbers what the server says; the client core does
the same from the other side. Each refuses to send what the tables of `states.py` forbid
(`LocalProtocolError`) and reports what the peer did wrong (`Violation` at the server, which goes on;
`RemoteProtocolError` at the client, which cannot).
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from cosyduplex import wire
from cosyduplex.errors import (
    LocalProtocolError,
    NotAMessage,
    NotUtf8,
    RemoteProtocolError,
)
from cosyduplex.messages import (
    AudioFrame,
    ClientMessage,
    ContextCancel,
    ContextCancelled,
    ContextFlushed,
    ContextOpen,
    ContextStarted,
    Error,
    Marks,
    ServerMessage,
    SessionEnd,
    SessionEnded,
    SessionStart,
    SessionStarted,
    TextAppend,
    TextEnd,
    TextFlush,
    Warning,
)
from cosyduplex.states import CLIENT, LIVE, SERVER, ContextState, SessionState

MAX_MALFORMED_IN_A_ROW = 5
MAX_REMEMBERED_FAILURES = 1024
CONTEXT_INDEXES = 1 << 16
SEQ_MODULUS = 1 << 32

_ABOUT_CONTEXT = (ContextOpen, TextAppend, TextFlush, TextEnd, ContextCancel)


@dataclass(frozen=True, slots=True)
class Received:
    """A client's message that is allowed here.

    Attributes:
        message: what was sent.
        index: index of the context it is about; `None` when it is about none.
        opens: it opened that context, which waits for `context.started`.
    """

    message: ClientMessage
    index: int | None = None
    opens: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """A client's message that is not allowed here; nothing of it was taken.

    Attributes:
        error: what to tell the client.
        close_code: the socket closes with it, after the error; `None` when nothing ends.
    """

    error: RemoteProtocolError
    close_code: int | None = None


@dataclass(slots=True)
class _Context:
    context_id: str
    index: int
    state: ContextState = ContextState.OPENING
    has_frames: bool = False
    has_last: bool = False


class ServerConnection:
    """The server's end of one session.

    Attributes:
        state: of the session.
        last_n: the highest number the client gave a message, 0 without.
        last_ev: number of the last message sent.
        last_seq: number of the last frame sent.
    """

    def __init__(self) -> None:
        self.state = SessionState.NEW
        self.last_n = 0
        self.last_ev = 0
        self.last_seq = 0
        self._by_id: dict[str, _Context] = {}
        self._by_index: dict[int, _Context] = {}
        self._failed: dict[str, None] = {}
        self._next_index = 0
        self._malformed = 0

    # --- in

    def receive_text(self, data: bytes | str) -> list[Received | Violation]:
        """Takes one text message."""
        if self.state is SessionState.ENDED:
            return []
        try:
            message = wire.decode_client_message(data)
        except NotUtf8 as exc:
            return [Violation(exc, 1007)]
        except NotAMessage as exc:
            return self._refuse_malformed(exc)
        except RemoteProtocolError as exc:
            self._malformed = 0
            return [*self._begin(), Violation(exc)]
        self._malformed = 0
        return self._receive(message)

    def receive_binary(self) -> list[Received | Violation]:
        """Takes one binary message, which no client may send."""
        if self.state is SessionState.ENDED:
            return []
        return self._refuse_malformed(NotAMessage("a client sends no binary messages: audio flows to it"))

    def _refuse_malformed(self, error: NotAMessage) -> list[Received | Violation]:
        self._malformed += 1
        close_code = 1003 if self._malformed >= MAX_MALFORMED_IN_A_ROW else None
        return [*self._begin(), Violation(error, close_code)]

    def _begin(self) -> list[Received | Violation]:
        """Whatever comes first starts the session, with defaults unless it is a `session.start`."""
        if self.state is not SessionState.NEW:
            return []
        self.state = SessionState.STARTED
        return [Received(SessionStart())]

    def _receive(self, message: ClientMessage) -> list[Received | Violation]:
        if isinstance(message, SessionStart):
            if self.state is not SessionState.NEW:
                return [Violation(RemoteProtocolError("session.start: the session has started already"))]
            self.state = SessionState.STARTED
            return [Received(message)]
        events = self._begin()
        if isinstance(message, _ABOUT_CONTEXT) and message.n is not None:
            if message.n <= self.last_n:
                return events
            self.last_n = message.n
        if isinstance(message, _ABOUT_CONTEXT):
            return events + self._receive_about_context(message)
        return [*events, Received(message)]

    def _receive_about_context(
        self, message: ContextOpen | TextAppend | TextFlush | TextEnd | ContextCancel
    ) -> list[Received | Violation]:
        context_id = message.context_id
        if context_id is None:
            self._failed.clear()  # as a cancel by name does: the client takes every id as free from here on
            return [Received(message)]
        context = self._by_id.get(context_id)
        state = self.context_state(context_id)
        allowed = CLIENT.get(state, {})
        if type(message) not in allowed:
            return [
                Violation(
                    RemoteProtocolError(_explain(message, state), context_id=context_id),
                )
            ]
        after = allowed[type(message)]
        if after is ContextState.OPENING:
            return [Received(message, self._open(context_id).index, opens=True)]
        if context is None:  # an ignored cancel, or text for a context that has failed
            if after is ContextState.FREE:
                self._failed.pop(context_id, None)
            return []
        context.state = after
        return [Received(message, context.index)]

    def _open(self, context_id: str) -> _Context:
        self._failed.pop(context_id, None)
        if len(self._by_index) == CONTEXT_INDEXES:
            raise LocalProtocolError("no context index is free: limit the contexts of a session")
        while self._next_index in self._by_index:
            self._next_index = (self._next_index + 1) % CONTEXT_INDEXES
        # A done context keeps its index when its id is used again: a cancel without an id still means it.
        context = _Context(context_id, self._next_index)
        self._next_index = (self._next_index + 1) % CONTEXT_INDEXES
        self._by_id[context_id] = self._by_index[context.index] = context
        return context

    def cancel(self, index: int) -> None:
        """Counts the context among those a cancel without an id is about."""
        context = self._by_index[index]
        context.state = CLIENT[context.state][ContextCancel]

    def end_text(self, index: int) -> None:
        """Counts the context's text as ended, as `session.end` does."""
        context = self._by_index[index]
        if context.state is ContextState.OPEN:
            context.state = CLIENT[context.state][TextEnd]

    def forget(self, index: int) -> None:
        """Frees a done context for good: a cancel of it is no longer answered."""
        context = self._by_index.get(index)
        if context is not None and context.state is ContextState.DONE:
            self._drop(context)

    def _drop(self, context: _Context) -> None:
        del self._by_index[context.index]
        if self._by_id.get(context.context_id) is context:
            del self._by_id[context.context_id]

    def context_state(self, context_id: str) -> ContextState:
        """Where the context with this id stands."""
        context = self._by_id.get(context_id)
        if context is not None:
            return context.state
        return ContextState.FAILED if context_id in self._failed else ContextState.FREE

    @property
    def live_contexts(self) -> int:
        """Contexts whose end has not been sent."""
        return sum(context.state in LIVE for context in self._by_index.values())

    # --- out

    def send(self, message: ServerMessage) -> bytes:
        """Numbers a message and returns what goes on the wire.

        Raises:
            LocalProtocolError: the protocol does not allow it now.
        """
        if self.state is SessionState.ENDED:
            raise LocalProtocolError(f"{message.type} after the end of the session")
        if isinstance(message, SessionStarted):
            return wire.encode_message(message)
        if isinstance(message, Error | Warning) and message.context_index is None:
            message = self._with_index(message)
        self._account(message)
        self.last_ev += 1
        if isinstance(message, SessionEnded):
            self.state = SessionState.ENDED
        return wire.encode_message(dataclasses.replace(message, ev=self.last_ev))

    def _with_index(self, message: Error | Warning) -> Error | Warning:
        """Whoever names a live context need not know its index."""
        context = None if message.context_id is None else self._by_id.get(message.context_id)
        if context is None or Warning not in SERVER.get(context.state, {}):
            return message
        return dataclasses.replace(message, context_index=context.index)

    def _account(self, message: ServerMessage) -> None:
        if isinstance(message, SessionEnded) and self.live_contexts:
            raise LocalProtocolError("session.ended before the end of each context")
        if isinstance(message, Error) and message.ends == "none":
            return
        index = getattr(message, "context_index", None)
        if index is None:
            if isinstance(message, Error) and message.ends == "context":
                raise LocalProtocolError("error for a context that is not live")
            return
        context = self._by_index.get(index)
        if context is None:
            raise LocalProtocolError(f"{message.type} for a context that is not live")
        context.state = self._next_state(context, type(message))
        if context.state is ContextState.FREE:
            self._drop(context)
        elif context.state is ContextState.FAILED:
            self._drop(context)
            self._failed[context.context_id] = None
            if len(self._failed) > MAX_REMEMBERED_FAILURES:
                del self._failed[next(iter(self._failed))]

    @staticmethod
    def _next_state(context: _Context, kind: type) -> ContextState:
        try:
            return SERVER[context.state][kind]
        except KeyError:
            name = getattr(kind, "type", "audio")
            raise LocalProtocolError(f"{name} for a context that is {context.state.name}") from None

    def send_frame(self, index: int, pts: int, payload: bytes, *, last: bool = False) -> bytes:
        """Numbers one frame, as `send_frames` does."""
        return self.send_frames(index, ((pts, payload),), last=last)[0]

    def send_frames(
        self, index: int, frames: Sequence[tuple[int, bytes]], *, last: bool = False
    ) -> list[bytes]:
        """Numbers frames of one context, each a `pts` and a payload, and returns what goes on the wire.

        The first-of-context flag sets itself; `last` marks the last of them as the last of the context.

        Raises:
            LocalProtocolError: the context takes no more audio.
        """
        context = self._by_index.get(index)
        if context is None or self.state is SessionState.ENDED:
            raise LocalProtocolError("audio for a context that is not live")
        self._next_state(context, AudioFrame)
        if context.has_last:
            raise LocalProtocolError("audio after the last frame of its context")
        pack, kind, seq = wire.FRAME_HEADER.pack, wire.FRAME_KIND_AUDIO, self.last_seq
        flags = 0 if context.has_frames else wire.FLAG_FIRST
        last_flag_from = len(frames) - 1 if last else len(frames)
        out = []
        for number, (pts, payload) in enumerate(frames):
            seq = seq % (SEQ_MODULUS - 1) + 1
            if number == last_flag_from:
                flags |= wire.FLAG_LAST
            out.append(pack(kind, flags, index, seq, pts % SEQ_MODULUS) + payload)
            flags = 0
        self.last_seq = seq
        context.has_frames, context.has_last = True, last
        return out


def _explain(message: ClientMessage, state: ContextState) -> str:
    if state is ContextState.ENDING:
        return f"{message.type}: the text of this context has ended; wait for context.done or cancel it"
    if isinstance(message, ContextOpen):
        return "context.open: a context with this id is open already"
    return f"{message.type}: no context with this id is open"


# --- the client's end --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """What a server said.

    Attributes:
        message: the message or frame.
        generation: which of the contexts opened here it is about, from 1; `None` when it is about none.
        context_id: of that context.
        stale: this side has cancelled that context: drop it (barge-in is a number).
    """

    message: ServerMessage | AudioFrame
    context_id: str | None = None
    generation: int | None = None
    stale: bool = False


@dataclass(slots=True)
class _Generation:
    context_id: str
    number: int
    state: ContextState = ContextState.OPENING  # as the server sees it, before it hears of a cancel
    cancelled: bool = False
    has_last: bool = False


@dataclass(slots=True)
class _Mine:
    """What this side believes about one context id: its last generation, and those not yet answered.

    The server answers the openings of one id in order, so the k-th `context.started` is the k-th opening.
    """

    latest: _Generation
    unanswered: deque[_Generation]


class ClientConnection:
    """The client's end of one session.

    Attributes:
        started: the server's first message, once it has come.
        last_n: number of the last message sent.
        last_ev: number of the last message received.
        last_seq: number of the last frame received.
    """

    def __init__(self) -> None:
        self.state = SessionState.NEW
        self.started: SessionStarted | None = None
        self.last_n = 0
        self.last_ev = 0
        self.last_seq = 0
        self._opened = 0
        self._mine: dict[str, _Mine] = {}
        self._by_index: dict[int, _Generation] = {}

    # --- out

    def send(self, message: ClientMessage) -> bytes:
        """Checks and numbers a message and returns what goes on the wire.

        Raises:
            LocalProtocolError: the protocol does not allow it now.
        """
        if self.state is SessionState.ENDED:
            raise LocalProtocolError(f"{message.type} after the end of the session")
        if isinstance(message, SessionStart):
            if self.state is not SessionState.NEW:
                raise LocalProtocolError("session.start: the session has started already")
        elif isinstance(message, _ABOUT_CONTEXT):
            self._account(message)
            self.last_n += 1
            message = dataclasses.replace(message, n=self.last_n)
        self.state = SessionState.STARTED
        if isinstance(message, SessionEnd):
            for mine in self._mine.values():
                if mine.latest.state in (ContextState.OPENING, ContextState.OPEN):
                    mine.latest.state = ContextState.ENDING
        return wire.encode_message(message)

    def _account(self, message: ContextOpen | TextAppend | TextFlush | TextEnd | ContextCancel) -> None:
        if message.context_id is None:
            for mine in tuple(self._mine.values()):
                self._cancel(mine.latest)
            return
        current = self._current(message.context_id)
        state = ContextState.FREE if current is None else current.state
        # Before `context.started` arrives, a context takes text as an open one does.
        allowed = CLIENT[ContextState.OPEN if state is ContextState.OPENING else state]
        after = allowed.get(type(message))
        if after is None or after is ContextState.FAILED:
            raise LocalProtocolError(_explain(message, state))
        if after is ContextState.OPENING:
            self._open(message.context_id)
        elif current is None:  # a cancel of what is not known here: the server may know it
            return
        elif isinstance(message, ContextCancel):
            self._cancel(current)
        elif after is ContextState.ENDING:
            current.state = ContextState.ENDING

    def _open(self, context_id: str) -> None:
        self._opened += 1
        generation = _Generation(context_id, self._opened)
        mine = self._mine.get(context_id)
        if mine is None:
            self._mine[context_id] = _Mine(generation, deque([generation]))
        else:
            mine.latest = generation
            mine.unanswered.append(generation)

    def _cancel(self, generation: _Generation) -> None:
        generation.cancelled = True
        if generation.state is ContextState.FAILED:
            self._forget(generation)

    def _current(self, context_id: str) -> _Generation | None:
        """What text for this id goes to; `None` when the id is free."""
        mine = self._mine.get(context_id)
        return None if mine is None or mine.latest.cancelled else mine.latest

    def generation_of(self, context_id: str) -> int | None:
        """The number of the context open under this id, until it is cancelled or known to have ended."""
        current = self._current(context_id)
        return None if current is None or current.state is ContextState.FAILED else current.number

    # --- in

    def receive_text(self, data: bytes | str) -> ServerEvent:
        """Takes one text message.

        Raises:
            RemoteProtocolError: the server broke the protocol.
        """
        message = wire.decode_server_message(data)
        if self.state is SessionState.ENDED:
            raise RemoteProtocolError(f"{message.type} after the end of the session")
        if isinstance(message, SessionStarted):
            self.started = message
            if message.resumed is False:
                self.last_seq = self.last_ev = 0
            return ServerEvent(message)
        if message.ev:
            if message.ev != self.last_ev + 1:
                raise RemoteProtocolError(f"event {message.ev} follows event {self.last_ev}")
            self.last_ev = message.ev
        elif self.started is not None:
            raise RemoteProtocolError(f"{message.type} carries no event number")
        if isinstance(message, SessionEnded):
            if any(generation.state in LIVE for generation in self._by_index.values()):
                raise RemoteProtocolError("session.ended before the end of each context")
            self.state = SessionState.ENDED
        return self._about_context(message)

    def receive_binary(self, data: bytes) -> ServerEvent:
        """Takes one binary message.

        Raises:
            RemoteProtocolError: the server broke the protocol.
        """
        frame = wire.decode_frame(data)
        if self.state is SessionState.ENDED:
            raise RemoteProtocolError("audio after the end of the session")
        if frame.seq != self.last_seq % (SEQ_MODULUS - 1) + 1 and not frame.gap:
            raise RemoteProtocolError(f"frame {frame.seq} follows frame {self.last_seq}")
        self.last_seq = frame.seq
        generation = self._by_index.get(frame.context_index)
        if generation is None:
            raise RemoteProtocolError("audio for a context that is not live")
        if generation.has_last or AudioFrame not in SERVER.get(generation.state, {}):
            raise RemoteProtocolError("audio after the end of its context")
        generation.has_last = frame.last
        return ServerEvent(frame, generation.context_id, generation.number, generation.cancelled)

    def _about_context(self, message: ServerMessage) -> ServerEvent:
        index = getattr(message, "context_index", None)
        if index is None:
            return ServerEvent(message, getattr(message, "context_id", None))
        if isinstance(message, ContextStarted):
            return self._started(message)
        generation = self._by_index.get(index)
        if generation is None or generation.context_id != getattr(message, "context_id", None):
            raise RemoteProtocolError(f"{message.type} for a context that is not live")
        self._follow(message, index, generation)
        stale = generation.cancelled and isinstance(message, (Marks, ContextFlushed, Warning))
        return ServerEvent(message, generation.context_id, generation.number, stale)

    def _started(self, message: ContextStarted) -> ServerEvent:
        mine = self._mine.get(message.context_id)
        if mine is None or not mine.unanswered:
            raise RemoteProtocolError("context.started for a context that was not opened")
        known = self._by_index.get(message.context_index)
        if known is not None and known.state is not ContextState.DONE:
            raise RemoteProtocolError("context.started with an index that is in use")
        generation = mine.unanswered.popleft()
        if generation.state is ContextState.OPENING:
            generation.state = ContextState.OPEN
        self._by_index[message.context_index] = generation
        return ServerEvent(message, message.context_id, generation.number, generation.cancelled)

    def _follow(self, message: ServerMessage, index: int, generation: _Generation) -> None:
        """Moves a generation on as the server's table says."""
        if isinstance(message, Error) and message.ends == "none":
            return
        state = generation.state
        # A cancel may cross whatever the server said before it; of a done context it may be the answer to
        # one without an id.
        may_be_cancelled = generation.cancelled or state is ContextState.DONE
        if isinstance(message, ContextCancelled) and may_be_cancelled:
            state = ContextState.CANCELLING
        after = SERVER.get(state, {}).get(type(message))
        if after is None:
            raise RemoteProtocolError(f"{message.type} for a context that is {state.name}")
        generation.state = after
        if after in (ContextState.FREE, ContextState.FAILED):
            del self._by_index[index]
        # The index of a done one stays known, since a later cancel is still answered, until the server
        # reuses it. The id of a failed one takes no text before it is opened again or cancelled.
        if after not in LIVE and (after is not ContextState.FAILED or generation.cancelled):
            self._forget(generation)

    def _forget(self, generation: _Generation) -> None:
        mine = self._mine.get(generation.context_id)
        if mine is not None and mine.latest is generation:
            del self._mine[generation.context_id]
