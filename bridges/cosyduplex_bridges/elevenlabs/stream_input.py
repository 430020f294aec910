"""The socket `stream-input`: one text, and after its audio the connection's end."""

from __future__ import annotations

from typing import Any

from cosyduplex.messages import Warning
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.elevenlabs.settings import read_voice_settings
from cosyduplex_bridges.elevenlabs.sockets import SpeechSocket, socket_door, text_of
from cosyduplex_bridges.elevenlabs.speech import Piece, Speech
from cosyduplex_server.dialect import SocketDoor
from cosyduplex_server.errors import Failure

_FINAL = {"audio": None, "isFinal": True, "normalizedAlignment": None, "alignment": None}


class StreamInput(SpeechSocket):
    """One connection."""

    _speech: Speech | None = None

    def obey(self, message: dict[str, Any]) -> None:
        """Takes text; an empty one is the end."""
        text = text_of(message)
        if self._speech is None:
            self._speech = self.open_speech(message)
            self._sending = self.session.spawn(self._send(self._speech))
        elif self._speech.has_ended:
            self.tell_log("text after the end is not spoken")
            return
        elif message.get("voice_settings") is not None:
            self._keep_settings(message)
        if text or message.get("text") is None:
            self.append(self._speech, message, text)
        else:
            self._speech.end()

    def _keep_settings(self, message: dict[str, Any]) -> None:
        """Refuses what is wrong; what is only new is not worth a connection."""
        read_voice_settings(message["voice_settings"])
        self.tell_log("voice_settings have an effect in the first message alone")

    def expire(self) -> float:
        """Gives up on a client that has fallen silent before its end, and has heard all there is."""
        speech = self._speech
        if speech is not None and (speech.has_ended or not speech.utterance.is_silent):
            self.heard_s = self.now_s
        elif self.now_s - self.heard_s >= self.timeout_s:
            self.time_out()
        return self.heard_s + self.timeout_s

    async def _send(self, speech: Speech) -> None:
        async for item in speech.pieces():
            if isinstance(item, Piece):
                await self.session.writable()
                self.session.send(self.message_of(item))
            elif isinstance(item, Warning):
                self.tell_log(item.message)
        self.session.send(_FINAL)
        # The SDK (2.78.0) reads until the connection ends, and looks at nothing else.
        self.session.close()

    def fail(self, failure: Failure) -> None:
        """Tells of a failure, ends the connection and with it the speech."""
        if self._speech is not None:
            self._speech.utterance.close()
        super().fail(failure)


def door(bridge: Bridge) -> SocketDoor:
    """The place of the socket."""
    return socket_door(bridge, "stream-input", StreamInput)
