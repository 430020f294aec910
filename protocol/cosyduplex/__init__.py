"""CosyDuplex: the `duplex.v1` protocol and its Python client."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cosyduplex.client import DEFAULT_URL as DEFAULT_URL
    from cosyduplex.client import ConnectError as ConnectError
    from cosyduplex.client import Context as Context
    from cosyduplex.client import ContextEnded as ContextEnded
    from cosyduplex.client import ContextError as ContextError
    from cosyduplex.client import CosyDuplexError as CosyDuplexError
    from cosyduplex.client import Event as Event
    from cosyduplex.client import ServerError as ServerError
    from cosyduplex.client import Session as Session
    from cosyduplex.client import SessionClosed as SessionClosed
    from cosyduplex.client import SessionError as SessionError
    from cosyduplex.client import SessionEvent as SessionEvent
    from cosyduplex.client import Tokens as Tokens
    from cosyduplex.client import connect as connect
    from cosyduplex.messages import AudioFrame as AudioFrame
    from cosyduplex.messages import AudioOptions as AudioOptions
    from cosyduplex.messages import ContextCancelled as ContextCancelled
    from cosyduplex.messages import ContextDone as ContextDone
    from cosyduplex.messages import ContextFlushed as ContextFlushed
    from cosyduplex.messages import Error as Error
    from cosyduplex.messages import Marks as Marks
    from cosyduplex.messages import SessionDraining as SessionDraining
    from cosyduplex.messages import SessionEnded as SessionEnded
    from cosyduplex.messages import SessionStarted as SessionStarted
    from cosyduplex.messages import SpeechOptions as SpeechOptions
    from cosyduplex.messages import TextOptions as TextOptions
    from cosyduplex.messages import Warning as Warning
    from cosyduplex.messages import WordMark as WordMark

_MODULES = {
    "cosyduplex.client": (
        "DEFAULT_URL",
        "ConnectError",
        "Context",
        "ContextEnded",
        "ContextError",
        "CosyDuplexError",
        "Event",
        "ServerError",
        "Session",
        "SessionClosed",
        "SessionError",
        "SessionEvent",
        "Tokens",
        "connect",
    ),
    "cosyduplex.messages": (
        "AudioFrame",
        "AudioOptions",
        "ContextCancelled",
        "ContextDone",
        "ContextFlushed",
        "Error",
        "Marks",
        "SessionDraining",
        "SessionEnded",
        "SessionStarted",
        "SpeechOptions",
        "TextOptions",
        "Warning",
        "WordMark",
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Loads the client when it is first asked for: a server or a worker does without it.

    Only names of the table: `from cosyduplex import wire` asks here too, before `wire` is imported.
    """
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'cosyduplex' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
