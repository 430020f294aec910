"""What both sockets have in common: turns of text, spoken one after another.

A flush ends a turn. Each turn is an utterance of its own, so that a silent connection holds nothing of the
engine; the next one is made while the one before it is still being sent.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import Warning
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.deepgram.settings import Settings
from cosyduplex_server.dialect import NORMAL, Dialect, DialectSession
from cosyduplex_server.errors import Failure
from cosyduplex_server.utterance import Utterance

# The vendor's: a message that breaks the rules, data that cannot be taken, too much of it, and our failure.
_CLOSE_CODES = {
    ErrorCode.BAD_REQUEST: (1008, "DATA-0000"),
    ErrorCode.UNAUTHORIZED: (1008, "DATA-0001"),
    ErrorCode.TEXT_TOO_LONG: (1009, "BIG-0000"),
    ErrorCode.RATE_LIMITED: (1008, "DATA-0001"),
    ErrorCode.TIMEOUT: (1011, "NET-0001"),
}
OUR_FAILURE = (1011, "NET-0000")


def close_code_of(failure: Failure) -> tuple[int, str]:
    """The close code for a failure, and the vendor's name for it, which is the reason of the close."""
    return _CLOSE_CODES.get(failure.code, OUR_FAILURE)


@dataclass(eq=False, slots=True)
class Turn:
    """The text up to one flush; an empty one has no utterance."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    utterance: Utterance | None = None
    text: list[str] = field(default_factory=list)
    begin_ms: int = 0  # where its audio begins in the connection's
    cancelled: bool = False
    unasked: bool = False  # ended by the closing, not by a flush

    @property
    def sent_ms(self) -> int:
        """Audio sent of it."""
        return 0 if self.utterance is None else self.utterance.sent_ms


class TurnDialect(Dialect):
    """One connection; subclasses have the words of one version."""

    def __init__(self, session: DialectSession, bridge: Bridge, settings: Settings) -> None:
        super().__init__(session)
        self.bridge = bridge
        self.settings = settings
        self.request_id = str(uuid.uuid4())
        self.speed: float | None = None
        self.next_begin_ms = 0  # where the next turn's audio begins in what the listener hears
        self._open: Turn | None = None  # takes text
        self._turns: deque[Turn] = deque()  # the first is being sent
        self._begun = asyncio.Event()
        self._closing = False

    def opened(self) -> None:
        """Greets, and begins to send turns as they come."""
        self.greet()
        for name in self.settings.ignored:
            self.warn("UNSUPPORTED_PARAMETER", f"{name} has no effect on this server")
        self._sender = self.session.spawn(self._send_turns())

    # --- for the subclass

    def greet(self) -> None:
        """Sends the first message."""
        raise NotImplementedError

    def warn(self, code: str, description: str) -> None:
        """Tells of something that ends nothing."""
        raise NotImplementedError

    def begin(self, turn: Turn) -> None:
        """The first audio of a turn is about to be sent."""

    def done(self, turn: Turn) -> None:
        """All audio of a turn has been sent; of one without text there was none."""
        raise NotImplementedError

    def speak(self, text: str) -> None:
        """Adds text to the open turn.

        Raises:
            Failure: it is too much, or there is no room for one more turn.
        """
        turn = self._open
        if turn is None:
            utterance = self.session.speak(self.settings.options(self.bridge, speed=self.speed, paced=True))
            for warning in utterance.warnings:
                self.warn("UNSUPPORTED_PARAMETER", warning)
            turn = self._open = Turn(utterance=utterance)
            self._enqueue(turn)
        assert turn.utterance is not None
        turn.utterance.append(text)
        turn.text.append(text)

    def flush(self) -> Turn:
        """Ends the open turn; without one there is an empty turn, so that each flush is answered in order."""
        turn, self._open = self._open, None
        if turn is None:
            turn = Turn()
            self._enqueue(turn)
        elif turn.utterance is not None:
            turn.utterance.end()
        return turn

    @property
    def unfinished(self) -> tuple[Turn, ...]:
        """Turns that have not been sent to their end, in order."""
        return tuple(self._turns)

    def drop_turns(self) -> None:
        """Forgets every turn that has not been sent to its end; no audio of theirs follows."""
        for turn in self._turns:
            turn.cancelled = True
            if turn.utterance is not None:
                turn.utterance.close()
        self._turns.clear()
        self._open = None
        self._begun.set()

    def close_when_done(self) -> None:
        """Ends the connection once all that was said has been spoken."""
        self._closing = True
        if self._open is not None:
            self.flush().unasked = True
        self._begun.set()

    def bye(self) -> None:
        """Says whatever goes before the close frame."""

    # --- sending

    def _enqueue(self, turn: Turn) -> None:
        self._turns.append(turn)
        self._begun.set()

    async def _send_turns(self) -> None:
        while True:
            while self._turns:
                turn = self._turns[0]
                turn.begin_ms = self.next_begin_ms
                await self._send_turn(turn)
                if not turn.cancelled:
                    self.next_begin_ms += turn.sent_ms
                    self._turns.popleft()
                    self.done(turn)
            if self._closing:
                self.bye()
                self.session.close(NORMAL)
                return
            self._begun.clear()
            await self._begun.wait()

    async def _send_turn(self, turn: Turn) -> None:
        if turn.utterance is None:
            return
        begun = False
        try:
            async for event in self.bridge.events(turn.utterance, self.settings.encoder()):
                if isinstance(event, bytes):
                    await self.session.writable()
                    if turn.cancelled:
                        return
                    if not begun:
                        begun = True
                        self.begin(turn)
                    self.session.send_binary(event)
                elif isinstance(event, Warning):
                    self.warn("UNSUPPORTED_PARAMETER", event.message)
        except Failure as failure:
            # A turn that is not whole cannot be told from one that is but by the end of the connection.
            self.fail(failure)
            self.session.close(*close_code_of(failure))


def text_of(message: dict[str, Any]) -> str:
    """The text of a `Speak`.

    Raises:
        Failure: there is none.
    """
    text = message.get("text")
    if not isinstance(text, str):
        raise Failure(ErrorCode.BAD_REQUEST, "Speak needs a text that is a string")
    return text
