"""A client of ElevenLabs' sockets, and what its messages hold."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from bridges.sockets import DialectClient
from conftest import ServerProcess

RATE_HZ = 24000
VOICE = "21m00Tcm4TlvDq8ikWAM"
INIT = {"text": " "}
END = {"text": ""}


def path(kind: str, voice: str = VOICE, **query: object) -> str:
    """Of a socket; PCM unless told otherwise."""
    pairs = {"output_format": f"pcm_{RATE_HZ}", **query}
    return f"/v1/text-to-speech/{voice}/{kind}?" + "&".join(
        f"{name}={value}" for name, value in pairs.items()
    )


class ElevenLabsClient(DialectClient):
    """One socket of the vendor's."""

    def __init__(
        self, server: ServerProcess, kind: str, *, voice: str = VOICE, headers: Any = None, **query: object
    ) -> None:
        super().__init__(server, path(kind, voice, **query), additional_headers=headers)

    def next(self, timeout_s: float = 20) -> dict[str, Any]:
        """The next message."""
        message = super().next(timeout_s)
        assert isinstance(message, dict)
        return message

    def until_final(self, context_id: str | None = None) -> list[dict[str, Any]]:
        """The messages up to the last one, of one context where it is named; those alone."""
        found: list[dict[str, Any]] = []
        while not found or not found[-1].get("isFinal"):
            message = self.next()
            if message.get("contextId") == context_id:
                found.append(message)
        return found

    def until_audio(self) -> dict[str, Any]:
        """The first message with audio."""
        while not audio([message := self.next()]):
            pass
        return message

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Everything that came."""
        return [message for message in self.messages if isinstance(message, dict)]


def audio(messages: Iterable[dict[str, Any]]) -> bytes:
    """The audio of some messages."""
    return b"".join(base64.b64decode(message.get("audio") or "") for message in messages)


def aligned(messages: Iterable[dict[str, Any]]) -> str:
    """The text that their alignments spell."""
    return "".join(
        char for message in messages if message.get("alignment") for char in message["alignment"]["chars"]
    )
