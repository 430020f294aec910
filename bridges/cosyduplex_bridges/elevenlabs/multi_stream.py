"""The socket `multi-stream-input`: any number of contexts, which come and go while it stays."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import ContextFlushed, Warning
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.elevenlabs.errors import socket_error
from cosyduplex_bridges.elevenlabs.settings import is_true, read_voice_settings
from cosyduplex_bridges.elevenlabs.sockets import SpeechSocket, socket_door, text_of
from cosyduplex_bridges.elevenlabs.speech import Piece, Speech
from cosyduplex_server.dialect import DialectSession, SocketDoor
from cosyduplex_server.errors import Failure

_DEFAULT_ID: Final = "default"
_MAX_ID_CHARS: Final = 256


class _Context:
    """What is being spoken under an id.

    Attributes:
        touched_s: when the client last spoke to it, or was sent something of it.
        num_flushed: flushes that have been spoken.
        is_closing: the client has closed it; what it flushed before is still spoken.
        waiting: messages for the id that came after that: they begin a new context.
    """

    def __init__(self, context_id: str, speech: Speech, now_s: float) -> None:
        self.id = context_id
        self.speech = speech
        self.touched_s = now_s
        self.num_flushed = 0
        self.is_closing = False
        self.sending: asyncio.Task[None] | None = None
        self.waiting: deque[dict[str, Any]] = deque()

    @property
    def is_flushing(self) -> bool:
        """Whether a flush has not been spoken to its end."""
        return self.num_flushed < self.speech.last_flush


class MultiStream(SpeechSocket):
    """One connection."""

    def __init__(self, session: DialectSession, bridge: Bridge) -> None:
        super().__init__(session, bridge)
        self._contexts: dict[str, _Context] = {}
        self._failing: str | None = None  # the id in the message that is being obeyed
        self._closing = False

    # --- in

    def obey(self, message: dict[str, Any]) -> None:
        """Obeys a message."""
        self._failing = None
        self._failing = context_id = _id_of(message)
        if self._closing:
            return
        if is_true(message.get("close_socket")):
            self._close_socket()
            return
        context = self._contexts.get(context_id or _DEFAULT_ID)
        if context is not None and context.is_closing:
            self._obey_closing(context, message)
        elif is_true(message.get("close_context")):
            if context is not None:
                self._close_context(context)
        else:
            self._speak(context, context_id, message)
        self._failing = None

    def _speak(self, context: _Context | None, context_id: str | None, message: dict[str, Any]) -> None:
        text = text_of(message)
        if context is None:
            if not _opens(message):
                return
            context = self._open(context_id or _DEFAULT_ID, message)
        elif message.get("voice_settings") is not None:
            self._keep_settings(message)
        context.touched_s = self.now_s
        self.append(context.speech, message, text)

    def _open(self, context_id: str, message: dict[str, Any]) -> _Context:
        self._failing = context_id
        context = _Context(context_id, self.open_speech(message), self.now_s)
        self._contexts[context_id] = context
        context.sending = self.session.spawn(self._send(context))
        return context

    def _keep_settings(self, message: dict[str, Any]) -> None:
        """Refuses what is wrong; what is only new is not worth a connection."""
        read_voice_settings(message["voice_settings"])
        self.tell_log("voice_settings have an effect in the first message of a context alone")

    def _obey_closing(self, context: _Context, message: dict[str, Any]) -> None:
        """The id is the next context's already; to close it again is to stop what is still being spoken."""
        if context.waiting or (_opens(message) and not is_true(message.get("close_context"))):
            context.waiting.append(message)
        elif is_true(message.get("close_context")):
            self._stop(context)

    def _close_context(self, context: _Context) -> None:
        """Lets what was flushed be spoken to its end; the rest is not, nor is what is left of the audio."""
        context.is_closing = True
        speech = context.speech
        if not speech.has_unflushed:
            speech.end()
        elif not context.is_flushing:
            self._stop(context)

    def _close_socket(self) -> None:
        self._closing = True
        for context in self._contexts.values():
            context.waiting.clear()
            if not context.is_closing:
                context.speech.end()
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._closing and not self._contexts:
            self.session.close()

    def expire(self) -> float:
        """Ends contexts that nobody speaks to, and at last the connection."""
        for context in tuple(self._contexts.values()):
            if context.is_closing or not context.speech.utterance.is_silent:
                context.touched_s = self.now_s
            elif self.now_s - context.touched_s >= self.timeout_s:
                context.touched_s = self.now_s
                context.is_closing = True
                context.speech.end()
        if self._contexts:
            return self.timeout_s + min(context.touched_s for context in self._contexts.values())
        if self.now_s - self.heard_s >= self.timeout_s:
            self.time_out()
        return self.timeout_s + self.heard_s

    # --- out

    async def _send(self, context: _Context) -> None:
        try:
            async for item in context.speech.pieces():
                if isinstance(item, Piece):
                    await self.session.writable()
                    if self._contexts.get(context.id) is not context:
                        return
                    self._tell(context.id, self.message_of(item))
                    context.touched_s = self.now_s
                elif isinstance(item, ContextFlushed):
                    context.num_flushed += 1
                    if context.is_closing and context.speech.has_unflushed and not context.is_flushing:
                        break
                elif isinstance(item, Warning):
                    self.tell_log(item.message)
        except Failure as failure:
            self._fail_context(context, failure)
            return
        if self._contexts.get(context.id) is context:
            self._stop(context)

    def _stop(self, context: _Context) -> None:
        """Ends a context, whatever is left of it, and tells so; then its id is free."""
        del self._contexts[context.id]
        context.speech.utterance.close()
        self._tell(
            context.id, {"audio": None, "isFinal": True, "normalizedAlignment": None, "alignment": None}
        )
        for message in context.waiting:
            try:
                self.obey(message)
            except Failure as failure:
                self.fail(failure)
        self._close_when_done()

    def fail(self, failure: Failure) -> None:
        """Tells of a failure: in a context it ends that, of the whole connection it ends that."""
        context_id, self._failing = self._failing, None
        if failure.code in (ErrorCode.UNAUTHORIZED, ErrorCode.TIMEOUT) or self.settings is None:
            super().fail(failure)
        elif (context := self._contexts.get(context_id or "")) is not None:
            self._fail_context(context, failure)
        else:
            self._tell_failure(context_id, failure)

    def _fail_context(self, context: _Context, failure: Failure) -> None:
        if self._contexts.get(context.id) is context:
            self._tell_failure(context.id, failure)
            # Pipecat 1.14 reads no errors: without this it waits for the rest of the turn.
            self._stop(context)

    def _tell_failure(self, context_id: str | None, failure: Failure) -> None:
        if context_id is None:
            self.session.send(socket_error(failure))
        else:
            self._tell(context_id, socket_error(failure))

    def _tell(self, context_id: str, message: dict[str, Any]) -> None:
        """Sends it with the id in both spellings: Pipecat 1.14 reads the first, the live API has both."""
        sent_id = context_id.encode("utf-8", "replace").decode()
        self.session.send({**message, "contextId": sent_id, "context_id": sent_id})


def _opens(message: dict[str, Any]) -> bool:
    """Whether it begins a context: empty texts keep the connection alive (Pipecat 1.14, every 10 s)."""
    return bool(message.get("text")) or message.get("voice_settings") is not None


def _id_of(message: dict[str, Any]) -> str | None:
    context_id = message.get("context_id")
    if context_id is None:
        context_id = message.get("contextId")
    if context_id is None:
        return None
    if not isinstance(context_id, str) or not 0 < len(context_id) <= _MAX_ID_CHARS:
        raise Failure(
            ErrorCode.BAD_REQUEST, f"context_id must be a string of 1 to {_MAX_ID_CHARS} characters"
        )
    return context_id


def door(bridge: Bridge) -> SocketDoor:
    """The place of the socket."""
    return socket_door(bridge, "multi-stream-input", MultiStream)
