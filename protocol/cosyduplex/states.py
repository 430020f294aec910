"""The life of a context and of a session, as tables.

A missing key is the error. `connection.py` enforces both tables at both ends; the tests walk them.

A context is seen from the server. `CLIENT` says what a client's message does to it, `SERVER` what the
server may say about it. `CANCELLING` lasts from the client's cancel to the server's answer; `FREE` is every
id that is not remembered.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from cosyduplex.messages import (
    AudioFrame,
    ContextCancel,
    ContextCancelled,
    ContextDone,
    ContextFlushed,
    ContextOpen,
    ContextStarted,
    Error,
    Marks,
    TextAppend,
    TextEnd,
    TextFlush,
    Warning,
)


class ContextState(Enum):
    """Where a context stands."""

    FREE = auto()  # no such context: the id may be used
    OPENING = auto()  # the client has opened it, `context.started` is not out yet
    OPEN = auto()  # text may follow
    ENDING = auto()  # `text.end` was taken, audio may follow
    CANCELLING = auto()  # a cancel was taken, `context.cancelled` is not out yet
    DONE = auto()  # everything was sent; a cancel is still answered
    FAILED = auto()  # ended by an error; late text is dropped until it is opened again


class SessionState(Enum):
    """Where a session stands."""

    NEW = auto()  # nothing said yet
    STARTED = auto()
    ENDED = auto()  # nothing more is sent or read


_S = ContextState

CLIENT: dict[ContextState, dict[type[Any], ContextState]] = {
    _S.FREE: {
        ContextOpen: _S.OPENING,
        TextAppend: _S.OPENING,
        ContextCancel: _S.FREE,
    },
    _S.OPEN: {
        TextAppend: _S.OPEN,
        TextFlush: _S.OPEN,
        TextEnd: _S.ENDING,
        ContextCancel: _S.CANCELLING,
    },
    _S.ENDING: {
        TextFlush: _S.ENDING,
        ContextCancel: _S.CANCELLING,
    },
    _S.DONE: {
        ContextOpen: _S.OPENING,
        TextAppend: _S.OPENING,
        ContextCancel: _S.CANCELLING,
    },
    _S.FAILED: {
        ContextOpen: _S.OPENING,
        TextAppend: _S.FAILED,
        TextFlush: _S.FAILED,
        TextEnd: _S.FAILED,
        ContextCancel: _S.FREE,
    },
}

SERVER: dict[ContextState, dict[type[Any], ContextState]] = {
    _S.OPENING: {ContextStarted: _S.OPEN},
    _S.OPEN: {
        Marks: _S.OPEN,
        ContextFlushed: _S.OPEN,
        AudioFrame: _S.OPEN,
        Warning: _S.OPEN,
        Error: _S.FAILED,
    },
    _S.ENDING: {
        Marks: _S.ENDING,
        ContextFlushed: _S.ENDING,
        AudioFrame: _S.ENDING,
        Warning: _S.ENDING,
        ContextDone: _S.DONE,
        Error: _S.FAILED,
    },
    _S.CANCELLING: {ContextCancelled: _S.FREE},
}

LIVE = frozenset({_S.OPENING, _S.OPEN, _S.ENDING, _S.CANCELLING})
