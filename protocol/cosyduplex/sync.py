"""The client for programs without asyncio: the same names, `with` and plain `for`.

    with cosyduplex.sync.connect("ws://127.0.0.1:8765") as session:
        for pcm in session.speak(llm_tokens()):
            play(pcm)

Each session runs in an event loop on a thread of its own. A session and its contexts may be used from any
number of threads: feed a context from one and iterate over it in another. Audio is handed over one event at
a time, when it is asked for; what waits is bounded as `cosyduplex.client` says.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ssl as tls
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from cosyduplex import client
from cosyduplex.client import DEFAULT_URL as DEFAULT_URL
from cosyduplex.client import Event, SessionClosed, SessionEvent
from cosyduplex.messages import (
    AudioOptions,
    ContextCancelled,
    ContextDone,
    SessionStarted,
    SpeechOptions,
    TextOptions,
)

_T = TypeVar("_T")


class _LoopThread:
    """An event loop on a thread of its own, and calls into it from any other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cosyduplex session", daemon=True)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._wait_for_stop())

    async def _wait_for_stop(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._is_open = True
        self._ready.set()
        await self._stop.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_open = False
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Runs a coroutine in the loop and returns its result; what interrupts the caller cancels it."""
        with self._lock:
            if not self._is_open:
                coroutine.close()
                raise _closed()
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:  # the loop stopped meanwhile
            raise _closed() from None
        finally:
            future.cancel()


def _closed() -> SessionClosed:
    return SessionClosed(1000, "closed by this side")


@contextlib.contextmanager
def connect(
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
) -> Iterator[Session]:
    """Opens a session as `cosyduplex.connect` does; leaving the block closes it.

    Example:
        ```python
        import cosyduplex.sync

        with cosyduplex.sync.connect("ws://127.0.0.1:8765") as session:
            for pcm in session.speak(word + " " for word in "Hello , and welcome .".split()):
                print(len(pcm), "bytes of speech")
        ```
    """
    with _LoopThread() as loop:
        opening = client.connect(
            url,
            voice=voice,
            language=language,
            audio=audio,
            speech=speech,
            text=text,
            max_ahead_ms=max_ahead_ms,
            marks=marks,
            api_key=api_key,
            ssl=ssl,
            open_timeout=open_timeout,
        )
        session = loop.call(opening.__aenter__())
        try:
            yield Session(session, loop)
        finally:
            loop.call(opening.__aexit__(None, None, None))


class Session:
    """One connection to the server; see `cosyduplex.client.Session`, whose methods these are."""

    def __init__(self, session: client.Session, loop: _LoopThread) -> None:
        self._session = session
        self._loop = loop

    @property
    def started(self) -> SessionStarted:
        """What the server said at the start."""
        return self._session.started

    def context(
        self,
        context_id: str | None = None,
        *,
        voice: str | None = None,
        language: str | None = None,
        speech: SpeechOptions | None = None,
        text: TextOptions | None = None,
    ) -> Context:
        """Makes a context; the server hears of it with its first text."""

        async def make() -> client.Context:
            return self._session.context(context_id, voice=voice, language=language, speech=speech, text=text)

        return Context(self._loop.call(make()), self._loop)

    def speak(
        self,
        tokens: str | Iterable[str | None],
        *,
        context_id: str | None = None,
        voice: str | None = None,
        language: str | None = None,
        speech: SpeechOptions | None = None,
        text: TextOptions | None = None,
    ) -> Generator[bytes, None, None]:
        """Speaks tokens as they come and yields the audio; leaving the loop cancels the context.

        The tokens are read in another thread, so they may take their time.
        """
        audio = self._session.speak(
            tokens, context_id=context_id, voice=voice, language=language, speech=speech, text=text
        )
        yield from _Taking(self._loop, audio)

    def cancel(self) -> list[ContextCancelled]:
        """Stops every context whose audio has not been heard to its end; returns how far each got."""
        return self._loop.call(self._session.cancel())

    def report_playback(
        self,
        context_id: str,
        *,
        played_ms: int,
        buffered_ms: int | None = None,
        underruns: int | None = None,
    ) -> None:
        """Tells the server what the listener has heard; it paces by this from then on."""

        async def report() -> None:
            self._session.report_playback(
                context_id, played_ms=played_ms, buffered_ms=buffered_ms, underruns=underruns
            )

        self._loop.call(report())

    def feedback(self, context_id: str, score: int, comment: str | None = None) -> None:
        """Sends how a person found a context, from 1 (bad) to 5 (good)."""

        async def send() -> None:
            self._session.feedback(context_id, score, comment)

        self._loop.call(send())

    def ping(self) -> float:
        """Returns the round trip to the server's session in milliseconds."""
        return self._loop.call(self._session.ping())

    def events(self) -> Generator[SessionEvent, None, None]:
        """Yields what concerns no single context: draining, warnings, errors; ends with the session."""
        with contextlib.suppress(SessionClosed):
            yield from _Taking(self._loop, self._session.events())


class Context:
    """One stream of text that is spoken; see `cosyduplex.client.Context`, whose methods these are."""

    def __init__(self, context: client.Context, loop: _LoopThread) -> None:
        self.id = context.id
        self._context = context
        self._loop = loop

    def __repr__(self) -> str:
        return f"<cosyduplex.sync.Context {self.id!r}>"

    @property
    def result(self) -> ContextDone | ContextCancelled | None:
        """How it ended, once it has."""
        return self._context.result

    def append(self, text: str) -> None:
        """Sends more text, split anywhere."""
        self._loop.call(self._context.append(text))

    def flush(self) -> None:
        """Has all text so far spoken now."""
        self._loop.call(self._context.flush())

    def end(self) -> None:
        """Says that no more text follows."""
        self._loop.call(self._context.end())

    def feed(self, tokens: str | Iterable[str | None]) -> None:
        """Appends every token as it comes, then ends the text; returns early once it is cancelled."""
        self._loop.call(self._context.feed(tokens))

    def cancel(self, *, played_ms: int | None = None) -> ContextCancelled | None:
        """Stops speaking now and waits for the server's answer."""
        return self._loop.call(self._context.cancel(played_ms=played_ms))

    def speak(self, tokens: str | Iterable[str | None]) -> Generator[Event, None, None]:
        """Feeds the tokens while yielding the events; leaving early cancels the context."""
        yield from _Taking(self._loop, self._context.speak(tokens))

    def __iter__(self) -> Generator[Event, None, None]:
        while (event := self._loop.call(self._next())) is not None:
            yield event

    async def _next(self) -> Event | None:
        return await anext(self._context, None)


class _Taking(Generic[_T]):
    """An async generator taken from threads: what was interrupted ends before it is closed."""

    def __init__(self, loop: _LoopThread, items: AsyncGenerator[_T, None]) -> None:
        self._loop = loop
        self._items = items
        self._turn = asyncio.Lock()

    def __iter__(self) -> Generator[_T, None, None]:
        try:
            while (item := self._loop.call(self._next())) is not None:
                yield item
        finally:
            with contextlib.suppress(SessionClosed):
                self._loop.call(self._close())

    async def _next(self) -> _T | None:
        async with self._turn:
            return await anext(self._items, None)

    async def _close(self) -> None:
        async with self._turn:
            await self._items.aclose()
