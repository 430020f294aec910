"""What both sockets have in common: who calls, how it speaks, and for how long it may be quiet."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from typing import Any, Final

from cosyduplex.errors import ErrorCode
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.elevenlabs.errors import close_code, close_reason, refuse_upgrade, socket_error
from cosyduplex_bridges.elevenlabs.settings import (
    DOOR,
    Settings,
    ignored,
    is_true,
    read_settings,
    read_voice_settings,
)
from cosyduplex_bridges.elevenlabs.speech import Piece, Speech
from cosyduplex_bridges.timings import is_cjk
from cosyduplex_server.access import Principal
from cosyduplex_server.dialect import Dialect, DialectSession, Socket, SocketDoor, Upgrade
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway

log = logging.getLogger(__name__)

_DEFAULT_TIMEOUT_S: Final = 20.0
_MAX_TIMEOUT_S: Final = 180.0
_CREDENTIALS: Final = ("xi-api-key", "xi_api_key", "single_use_token")
_SENTENCE_ENDS: Final = tuple(".!?…。！？")
_CLOSERS: Final = "\"'”’»)]」』）】"


class SpeechSocket(Dialect):
    """One connection; subclasses obey the messages of one of the sockets.

    Attributes:
        bridge: what all doors stand on.
        settings: None until it is known who calls, and whether they can be had.
        heard_s: when the last message came, by the event loop's clock.
        timeout_s: for how long nothing may come.
    """

    def __init__(self, session: DialectSession, bridge: Bridge) -> None:
        super().__init__(session)
        self.bridge = bridge
        self.settings: Settings | None = None
        self.timeout_s = _DEFAULT_TIMEOUT_S
        self._loop = asyncio.get_running_loop()
        self.heard_s = self.now_s
        self._auto_mode = False
        self._told: set[str] = set()

    # --- for the subclass

    def obey(self, message: dict[str, Any]) -> None:
        """Obeys a message of a caller who may speak.

        Raises:
            Failure: told by `fail`.
        """
        raise NotImplementedError

    def expire(self) -> float:
        """Ends what nobody has spoken to for `timeout_s`, and says when that may be so next."""
        raise NotImplementedError

    @property
    def now_s(self) -> float:
        """The event loop's clock."""
        return self._loop.time()

    def open_speech(self, message: dict[str, Any]) -> Speech:
        """Begins to speak, as the connection and its first message want it.

        Raises:
            Failure: it cannot be spoken so.
        """
        assert self.settings is not None
        speed, notes = read_voice_settings(message.get("voice_settings"))
        encoder = self.settings.encoder()
        utterance = self.session.speak(self.settings.options(self.bridge, speed, paced=True, marks=True))
        for note in (*notes, *ignored(message), *utterance.warnings):
            self.tell_log(note)
        return Speech(self.bridge, utterance, encoder)

    def append(self, speech: Speech, message: dict[str, Any], text: str) -> None:
        """Has the text of a message spoken, at once where the message or the connection wants that.

        Raises:
            Failure: it is too long.
        """
        # The blank that opens everything is none of the text; a later one may stand between two words.
        if text and (speech.utterance.num_chars or text != " "):
            speech.append(text)
        if is_true(message.get("flush")):
            speech.flush(asked=True)
        elif self._auto_mode and _is_sentence(text):
            speech.flush(asked=False)

    def message_of(self, piece: Piece) -> dict[str, Any]:
        """What both sockets say of audio: nothing is rewritten that a client sees, so both texts are one."""
        alignment = None if piece.alignment is None else piece.alignment.of_message()
        return {
            "audio": base64.b64encode(piece.audio).decode(),
            "isFinal": False,
            "normalizedAlignment": alignment,
            "alignment": alignment,
        }

    def tell_log(self, warning: str) -> None:
        """The API has no message for warnings: the log gets each of them once a connection."""
        if warning not in self._told:
            self._told.add(warning)
            log.warning("not as asked: %s", warning, extra={"session": self.session.id, "door": DOOR})

    # --- from the session

    def opened(self) -> None:
        """Reads the query: a browser is told what is wrong with it by a message alone."""
        if self.session.principal is not None:
            self._configure()
        self._watching = self.session.spawn(self._watch())

    def receive(self, message: dict[str, Any]) -> None:
        """Obeys a message; the first one may say who calls."""
        self.heard_s = self.now_s
        if self.session.principal is None:
            self.session.identify(_credential(message) or _credential(self.session.upgrade.query))
            self._configure()
        self.obey(message)

    def fail(self, failure: Failure) -> None:
        """Tells of a failure and ends the connection."""
        self.session.send(socket_error(failure))
        self.session.close(close_code(failure), close_reason(failure))

    # --- inside

    def _configure(self) -> None:
        query = self.session.upgrade.query
        self.timeout_s = _timeout_s(query.get("inactivity_timeout"))
        self._auto_mode = is_true(query.get("auto_mode"))
        self.settings = read_settings(self.bridge, self.session.upgrade.params["voice_id"], query)
        for note in self.settings.ignored:
            self.tell_log(note)

    async def _watch(self) -> None:
        while True:  # noqa: ASYNC110  nothing is polled: it sleeps until a silence is too long
            await asyncio.sleep(max(self.expire() - self.now_s, 0))

    def time_out(self) -> None:
        """Ends the connection for its silence, in the words of the API.

        Raises:
            Failure: always.
        """
        raise Failure(
            ErrorCode.TIMEOUT,
            f"Have not received a new text input within the timeout of {self.timeout_s:g} seconds. "
            "Streaming input terminated",
            'Send text more often, or {"text": " "} to keep the connection.',
        )


def text_of(message: dict[str, Any]) -> str:
    """The text of a message; none is as good as an empty one.

    Raises:
        Failure: it is something else.
    """
    text = message.get("text")
    if text is None:
        return ""
    if not isinstance(text, str):
        raise Failure(ErrorCode.BAD_REQUEST, "text must be a string")
    return text


def socket_door(
    bridge: Bridge, path: str, dialect: Callable[[DialectSession, Bridge], Dialect]
) -> SocketDoor:
    """The place of a socket whose last part is `path`."""

    def open_session(
        gateway: Gateway, socket: Socket, upgrade: Upgrade, principal: Principal | None
    ) -> DialectSession:
        return DialectSession(
            gateway, socket, DOOR, upgrade, principal, lambda session: dialect(session, bridge)
        )

    return SocketDoor(
        DOOR,
        f"/v1/text-to-speech/{{voice_id}}/{path}",
        open_session,
        credential_inside=True,
        query_credentials=_CREDENTIALS,
        refuse=refuse_upgrade,
    )


def _credential(fields: Any) -> str | None:
    """A key as browsers send it, who cannot set headers."""
    for name in _CREDENTIALS:
        if isinstance(value := fields.get(name), str) and value:
            return value
    value = fields.get("authorization")
    if not isinstance(value, str) or not value:
        return None
    scheme, _, token = value.partition(" ")
    return token.strip() if token and scheme.lower() == "bearer" else value


def _timeout_s(asked: str | None) -> float:
    if not asked:
        return _DEFAULT_TIMEOUT_S
    if not (asked.isascii() and asked.isdigit() and 0 < int(asked[:9]) <= _MAX_TIMEOUT_S):
        raise Failure(
            ErrorCode.BAD_REQUEST,
            f"inactivity_timeout must be a whole number of seconds from 1 to {_MAX_TIMEOUT_S:g}",
        )
    return float(asked)


def _is_sentence(text: str) -> bool:
    """Whether the text of a message is a whole sentence, as `auto_mode` promises, and no token of one."""
    whole = text.rstrip()
    sentence = whole.rstrip(_CLOSERS)
    return sentence.endswith(_SENTENCE_ENDS) and (" " in whole or any(map(is_cjk, whole)))
