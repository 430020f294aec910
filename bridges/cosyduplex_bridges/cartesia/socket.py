"""The socket `/tts/websocket`: any number of contexts, each message of which names its own."""

from __future__ import annotations

import asyncio
import base64
import logging
import uuid
from collections import deque
from functools import partial
from typing import Any

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import ContextFlushed, Marks, Warning
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.cartesia.request import (
    DOOR,
    Generation,
    error_body,
    read_generation,
    transcript_of,
)
from cosyduplex_bridges.timings import timed_words
from cosyduplex_server.access import Principal
from cosyduplex_server.dialect import Dialect, DialectSession, Socket, SocketDoor, Upgrade
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.utterance import Event, Utterance

log = logging.getLogger(__name__)


class _Context:
    """One context: what is being spoken under an id.

    Attributes:
        waiting: messages for this id that came after its last transcript: they begin a new context of that
            id once this one has been spoken.
    """

    def __init__(self, context_id: str, utterance: Utterance, generation: Generation, now_s: float) -> None:
        self.id = context_id
        self.utterance = utterance
        self.generation = generation
        self.text = ""
        self.num_flushes = 0  # asked for
        self.num_flushed = 0  # answered
        self.has_ended = False
        self.sending: asyncio.Task[None] | None = None
        self.stepped_s = now_s
        self.waiting: deque[dict[str, Any]] = deque()


class CartesiaSocket(Dialect):
    """One connection."""

    def __init__(self, session: DialectSession, bridge: Bridge) -> None:
        super().__init__(session)
        self._bridge = bridge
        self._contexts: dict[str, _Context] = {}
        self._failing = ""  # the context of the message that is being obeyed
        self._loop = asyncio.get_running_loop()

    def receive(self, message: dict[str, Any]) -> None:
        """Obeys a message."""
        context_id = message.get("context_id")
        # Pipecat reads the id of every message, errors included.
        self._failing = context_id if isinstance(context_id, str) else ""
        if not self._failing or len(self._failing) > 256:
            raise Failure(ErrorCode.BAD_REQUEST, "context_id must be a string of 1 to 256 characters")
        context = self._contexts.get(self._failing)
        if message.get("cancel") is True:
            # The SDK has forgotten the context: a `done` would end the receiving of the next one.
            if context is not None:
                del self._contexts[context.id]
                context.utterance.close()
        elif context is not None and context.has_ended:
            context.waiting.append(message)
        else:
            self._generate(context, message)

    def fail(self, failure: Failure) -> None:
        """Sends an error, and ends the context it concerns."""
        self._fail(self._failing, failure)

    def _fail(self, context_id: str, failure: Failure) -> None:
        context = self._contexts.pop(context_id, None)
        if context is not None:
            context.utterance.close()
        _, body = error_body(failure)
        self.session.send(
            {
                "type": "error",
                "context_id": context_id.encode("utf-8", "replace").decode(),
                "done": True,
                "request_id": str(uuid.uuid4()),
                "error": body["message"],  # the name of older versions of the API
                **body,
            }
        )

    # --- text in

    def _generate(self, context: _Context | None, message: dict[str, Any]) -> None:
        transcript = transcript_of(message)
        if context is None:
            context = self._open(message)
        context.text += transcript
        context.utterance.append(transcript)
        if message.get("continue") is not True:
            context.has_ended = True
            context.utterance.end()
        elif message.get("flush") is True or (message.get("max_buffer_delay_ms") == 0 and transcript.strip()):
            # Without a buffer each submission is generated as it is, and answered as a flush.
            context.num_flushes += 1
            context.utterance.flush()

    def _open(self, message: dict[str, Any]) -> _Context:
        generation = read_generation(self._bridge, message, socket=True)
        utterance = self.session.speak(generation.options)
        context = _Context(self._failing, utterance, generation, self._loop.time())
        self._contexts[context.id] = context
        for warning in (*generation.ignored, *utterance.warnings):
            self._tell_log(warning)
        context.sending = self.session.spawn(self._send(context))
        return context

    def _tell_log(self, warning: str) -> None:
        """The dialect has no message for it."""
        log.warning("not as asked: %s", warning, extra={"session": self.session.id, "door": DOOR})

    # --- audio out

    async def _send(self, context: _Context) -> None:
        try:
            async for event in self._bridge.events(context.utterance, context.generation.encoder()):
                await self.session.writable()
                if self._contexts.get(context.id) is not context:
                    return
                self._pass_on(context, event)
        except Failure as failure:
            self._fail(context.id, failure)
        else:
            if self._contexts.get(context.id) is context:
                del self._contexts[context.id]
                self._tell(context, "done", done=True, status_code=200)
        self._go_on(context.waiting)

    def _pass_on(self, context: _Context, event: Event | bytes) -> None:
        if isinstance(event, bytes):
            now_s = self._loop.time()
            step_ms, context.stepped_s = (now_s - context.stepped_s) * 1000, now_s
            data = base64.b64encode(event).decode()
            self._tell(context, "chunk", data=data, step_time=round(step_ms, 3), **self._flush_id(context))
        elif isinstance(event, Marks):
            words = timed_words(context.text, event.words)
            times = {
                "words": [word.text.encode("utf-8", "replace").decode() for word in words],
                "start": [word.start_ms / 1000 for word in words],
                "end": [word.end_ms / 1000 for word in words],
            }
            self._tell(context, "timestamps", word_timestamps=times, **self._flush_id(context))
        elif isinstance(event, ContextFlushed):
            context.num_flushed += 1
            self._tell(context, "flush_done", flush_done=True, flush_id=context.num_flushed)
        elif isinstance(event, Warning):
            self._tell_log(event.message)

    @staticmethod
    def _flush_id(context: _Context) -> dict[str, int]:
        """Which submission a message belongs to, where the client divides them."""
        return {"flush_id": context.num_flushed + 1} if context.num_flushes else {}

    def _tell(self, context: _Context, kind: str, **fields: Any) -> None:
        common = {"type": kind, "context_id": context.id, "status_code": 206, "done": False}
        self.session.send({**common, **fields})

    def _go_on(self, waiting: deque[dict[str, Any]]) -> None:
        """Obeys what came for the context's id after its last transcript."""
        for message in waiting:
            try:
                self.receive(message)
            except Failure as failure:
                self.fail(failure)


def socket_door(bridge: Bridge) -> SocketDoor:
    """The place of the socket."""

    def open_session(
        gateway: Gateway, socket: Socket, upgrade: Upgrade, principal: Principal | None
    ) -> DialectSession:
        dialect = partial(CartesiaSocket, bridge=bridge)
        return DialectSession(gateway, socket, DOOR, upgrade, principal, dialect)

    return SocketDoor(DOOR, "/tts/websocket", open_session, query_credentials=("api_key", "access_token"))
