"""One connection to the server, as a program sees it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator

from cosyduplex.client.context import Context
from cosyduplex.client.failures import ContextError
from cosyduplex.client.link import Link, SessionEvent, check
from cosyduplex.client.tokens import Tokens
from cosyduplex.messages import (
    AudioFrame,
    ContextCancel,
    ContextCancelled,
    ContextOpen,
    Error,
    Feedback,
    SessionStarted,
    SpeechOptions,
    TextOptions,
)


class Session:
    """One connection to the server; made by `connect`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._numbers = itertools.count(1)

    @property
    def started(self) -> SessionStarted:
        """What the server said at the start: the audio as negotiated, voice, engine, limits, warnings."""
        return self._link.started

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
        check(opening)
        return Context(self._link, opening)

    def _new_id(self) -> str:
        names = (f"context-{number}" for number in self._numbers)
        return next(name for name in names if not self._link.has_live(name))

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
        What the tokens raise is raised here.

        Args:
            tokens: As in `Context.feed`.
            context_id: As in `context`; so for the others.
            voice: Who speaks.
            language: Of the text.
            speech: Speed, pitch, volume and manner.
            text: How the text is read.

        Raises:
            ContextError: the context was ended by an error, or part of the text was not taken.
            SessionClosed: the session is over (or `SessionError`).
            ValueError: a wish is outside its limits.
        """
        context = self.context(context_id, voice=voice, language=language, speech=speech, text=text)
        async with contextlib.aclosing(context.speak(tokens)) as events:
            async for event in events:
                if isinstance(event, AudioFrame) and event.payload:
                    yield event.payload
                elif isinstance(event, Error):
                    raise ContextError.from_message(event)

    async def cancel(self) -> list[ContextCancelled]:
        """Stops every context whose audio has not been heard to its end; returns how far each got.

        Those that are done but not heard out are among the answers as far as the program still holds them.

        Raises:
            SessionClosed: the session ended before the answers came (or `SessionError`).
        """
        link = self._link
        contexts = [context for context in link.contexts if not isinstance(context.result, ContextCancelled)]
        link.send(ContextCancel())
        # What is answered is answered before the pong. Not all is: a context may be done and heard out by
        # the time the cancel arrives.
        pong = link.ping()
        for context in list(link.live.values()):
            context._await_cancelled()
        for context in contexts:
            context._drop()
        await asyncio.wait([pong])
        for context in contexts:
            context._acknowledge(None)
        link.raise_if_over()
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
            ValueError: a number is negative.
        """
        for context in self._link.live.values():
            if context.id == context_id:
                context._reports_itself()
        self._link.report(context_id, played_ms=played_ms, buffered_ms=buffered_ms, underruns=underruns)

    def feedback(self, context_id: str, score: int, comment: str | None = None) -> None:
        """Sends how a person found a context, from 1 (bad) to 5 (good). Never waits.

        Raises:
            ValueError: the score is outside its limits.
            SessionClosed: the session is over (or `SessionError`).
        """
        message = Feedback(context_id=context_id, score=score, comment=comment)
        check(message)
        self._link.send(message)

    async def ping(self) -> float:
        """Returns the round trip to the server's session in milliseconds.

        Raises:
            SessionClosed: the session ended before the answer came (or `SessionError`).
        """
        loop = asyncio.get_running_loop()
        sent_s = loop.time()
        await self._link.ping()
        self._link.raise_if_over()
        return (loop.time() - sent_s) * 1000

    async def events(self) -> AsyncGenerator[SessionEvent, None]:
        """Yields what concerns no single context: draining, warnings, errors; ends with the session.

        Only the last 256 are kept for who does not look.
        """
        while (event := await self._link.events.get()) is not None:
            yield event

    async def aclose(self) -> None:
        """Cancels what still speaks, ends the session and closes the socket; `connect` does it by itself."""
        await self._link.aclose()
