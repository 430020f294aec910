"""How a session is opened and closed."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl as tls
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
from websockets.asyncio import client as websocket
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

from cosyduplex import __version__
from cosyduplex.client.failures import ConnectError
from cosyduplex.client.link import CLOSE_TIMEOUT_S, Link, check
from cosyduplex.client.session import Session
from cosyduplex.messages import AudioOptions, FlowOptions, SessionStart, SpeechOptions, TextOptions

DEFAULT_URL = "ws://127.0.0.1:8765"

_PATH = "/v1/duplex"
_MAX_RECEIVED_BYTES = 4 << 20
_PING_INTERVAL_S = _PING_TIMEOUT_S = 10


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
        open_timeout: Seconds until giving up; None to wait for ever.

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
    check(start)
    link = Link(await _open_socket(url, api_key, ssl, open_timeout), max_ahead_ms)
    run = asyncio.create_task(link.run(), name="cosyduplex session")
    try:
        await link.begin(start, open_timeout)
        yield Session(link)
    finally:
        try:
            await link.aclose()
        finally:
            run.cancel()
            await asyncio.wait([run])
            if not run.cancelled():
                run.result()


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
            close_timeout=CLOSE_TIMEOUT_S,
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
    """Whether a URL means this machine: then no proxy of the environment is asked."""
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
