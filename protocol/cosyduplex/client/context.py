"""One stream of text that is spoken."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from typing import Self

from cosyduplex.client.failures import ContextEnded, ContextError, raise_again
from cosyduplex.client.link import Link
from cosyduplex.client.queues import Inbox
from cosyduplex.client.tokens import Tokens, each
from cosyduplex.messages import (
    AudioFrame,
    ContextCancel,
    ContextCancelled,
    ContextDone,
    ContextFlushed,
    ContextOpen,
    Error,
    Limits,
    Marks,
    NegotiatedAudio,
    ServerMessage,
    TextAppend,
    TextEnd,
    TextFlush,
    Warning,
)

MAX_UNREAD_BYTES = 64 << 20  # more than the longest `max_ahead_ms` at 48 kHz
REPORT_INTERVAL_S = 1.0

_JSON_BYTES_PER_CHAR = 12  # the longest escape of one code point, "\ud83d\ude00"
_MESSAGE_OVERHEAD_BYTES = 2048  # a message without its text; an id of 128 characters may be all escapes

Event = AudioFrame | Marks | ContextFlushed | Warning | Error | ContextDone


class Context:
    """One stream of text that is spoken; made by `Session.context`.

    Feed it from one task and iterate over it in another, or let `speak` do both:

        async for event in context:
            match event:
                case AudioFrame(payload=pcm):
                    play(pcm)
                case Marks(words=words):
                    show(words)

    Events come in order and end after `ContextDone`, or at once after a cancel. The iteration raises
    `ContextError` where the server ended the context with an error and `SessionClosed` or `SessionError`
    where the session ended, after what had come before. An `Error` among the events ended nothing: part of
    what was sent was not taken.

    Attributes:
        id: its name in the protocol, free again once it has ended.
        result: how it ended, once it has: `ContextDone`, or `ContextCancelled` with how far the listener got.
    """

    def __init__(self, link: Link, opening: ContextOpen) -> None:
        self.id = opening.context_id
        self.result: ContextDone | ContextCancelled | None = None
        self._link = link
        self._opening = opening
        self._generation: int | None = None  # once it has been opened
        self._text_ended = False
        self._ended = False
        self._error: BaseException | None = None
        self._answer: asyncio.Future[ContextCancelled | None] | None = None  # to a cancel
        self._inbox: Inbox[Event] = Inbox()
        self._backlog = _Backlog()
        if link.failure is not None:
            self._end(link.failure)
        link.contexts.add(self)

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
            LocalProtocolError: the text has been ended, or another context lives under this id.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be str, not {type(text).__name__}")
        for piece in _pieces(text, self._link.started.limits):
            await self._link.wait_for_room()
            self._say(TextAppend(context_id=self.id, text=piece))

    async def flush(self) -> None:
        """Has all text so far spoken now; one `ContextFlushed` follows when it has been sent as audio."""
        await self._link.wait_for_room()
        self._say(TextFlush(context_id=self.id))

    async def end(self) -> None:
        """Says that no more text follows; ending twice is ending once."""
        await self._link.wait_for_room()
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
            async with contextlib.aclosing(each(tokens)) as stream:
                async for token in stream:
                    if token:
                        await self.append(token)
            await self.end()
        except ContextEnded:
            return

    def _say(self, message: TextAppend | TextFlush | TextEnd) -> None:
        if self._error is not None:
            raise_again(self._error)
        if self._ended:
            how = "done" if isinstance(self.result, ContextDone) else "cancelled"
            raise ContextEnded(f"context {self.id!r} is {how}")
        if self._generation is None:
            self._generation = self._link.open(self, self._opening)
        self._link.send(message)

    # --- audio out

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self._inbox.get()
        if event is not None:
            self._backlog.take(event, self._link.started.audio)
            return event
        if self._error is not None:
            raise_again(self._error)
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
            self._link.raise_if_over()
        return answer

    def _stop(self, error: BaseException | None = None, *, played_ms: int | None = None) -> None:
        """Ends the context here at once, and on the server where it has been opened."""
        if self._ended:
            return
        if self._generation is not None:
            self._link.send(ContextCancel(context_id=self.id, played_ms=played_ms))
            self._answer = asyncio.get_running_loop().create_future()
        self._drop()
        self._end(error)

    def _cancel_done(self, played_ms: int | None) -> None:
        if self._link.failure is not None or self._link.has_live(self.id):  # the id is another's now
            return
        self._drop()
        self._link.send(ContextCancel(context_id=self.id, played_ms=played_ms))
        # A server that has forgotten the context answers nothing: the pong then comes first.
        self._answer = self._link.ping()

    # --- from the link

    def _await_cancelled(self) -> None:
        """Ends the context here, which a cancel of all contexts is about."""
        self._answer = asyncio.get_running_loop().create_future()
        self._end()

    def _reports_itself(self) -> None:
        """The program reports what was heard: nothing is reported in its place."""
        self._backlog.is_reported = True

    def _receive(self, message: ServerMessage | AudioFrame) -> None:
        match message:
            case ContextCancelled():
                self.result = message
                self._acknowledge(message)
                self._drop()
                self._end()
            case Error(ends="context"):
                self._acknowledge(None)  # a cancel that crosses an ending error is not answered
                self._end(ContextError.from_message(message))
            case ContextDone() if not self._ended:
                self.result = message
                self._keep(message)
                self._end()
            case AudioFrame() | Marks() | ContextFlushed() | Warning() | Error() if not self._ended:
                self._take_in(message)

    def _keep(self, event: Event) -> None:
        self._inbox.put(event)
        self._backlog.put(event, self._link.started.audio)

    def _take_in(self, event: Event) -> None:
        self._keep(event)
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
        backlog, max_ahead_ms = self._backlog, self._link.max_ahead_ms
        if not max_ahead_ms or backlog.unread_ms <= max_ahead_ms or backlog.is_reported:
            return
        now_s = asyncio.get_running_loop().time()
        if now_s - backlog.reported_at_s >= REPORT_INTERVAL_S:
            backlog.reported_at_s = now_s
            self._link.report(self.id, played_ms=backlog.taken_ms, buffered_ms=backlog.unread_ms)

    def _acknowledge(self, answer: ContextCancelled | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _drop(self) -> None:
        """Forgets what was not taken."""
        self._inbox.clear()
        self._backlog.num_bytes = 0

    def _end(self, error: BaseException | None = None) -> None:
        if self._ended:
            return
        self._ended = True
        self._error = error
        self._inbox.close()
        if self._generation is not None:
            self._link.live.pop(self._generation, None)


class _Backlog:
    """How much of a context waits to be taken.

    Attributes:
        num_bytes: of all events that wait.
        taken_ms: where in the context's audio the taker is.
        unread_ms: audio that has come and was not taken.
        is_reported: the program tells the server itself what was heard.
        reported_at_s: when the server was last told in its place.
    """

    _EVENT_BYTES = 256  # what an event costs beside its payload, roughly

    def __init__(self) -> None:
        self.num_bytes = 0
        self.taken_ms = 0
        self.unread_ms = 0
        self.is_reported = False
        self.reported_at_s = float("-inf")

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
