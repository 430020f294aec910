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
paces the server; there, as a last resort, a context with more than 64 MiB unread is cancelled and raises
`ContextError` with the code `slow_consumer`; the others go on.
"""

from cosyduplex.client.context import Context, Event
from cosyduplex.client.failures import (
    ConnectError,
    ContextEnded,
    ContextError,
    CosyDuplexError,
    ServerError,
    SessionClosed,
    SessionError,
)
from cosyduplex.client.link import SessionEvent
from cosyduplex.client.opening import DEFAULT_URL, connect
from cosyduplex.client.session import Session
from cosyduplex.client.tokens import Tokens

__all__ = [
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
]
