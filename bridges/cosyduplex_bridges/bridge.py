"""What every bridge stands on: the server's shared parts, foreign names of voices, audio as asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cosyduplex.messages import ContextDone
from cosyduplex_bridges.codecs import Encoder
from cosyduplex_bridges.results import ResultStore
from cosyduplex_bridges.voice_names import VoiceNames
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.utterance import Event, Sound, Utterance


@dataclass(frozen=True, slots=True)
class Bridge:
    """What the doors share.

    Attributes:
        gateway: sessions, engine, keys, metrics.
        voice_names: what other servers' clients call this one's voices.
        results: what a dialect hands over by URL.
    """

    gateway: Gateway
    voice_names: VoiceNames
    results: ResultStore

    @classmethod
    def of(cls, gateway: Gateway) -> Self:
        """The one of a server.

        Raises:
            ConfigError: the operator's file of voice names cannot be used.
        """
        named = gateway.config.voice_names
        names = VoiceNames.load(Path(named) if named else None)
        return cls(gateway, names, ResultStore(asyncio.get_running_loop()))

    def voice(self, door: str, name: str | None) -> str | None:
        """The voice that a door's client means; None is the default one.

        Raises:
            Failure: `unknown_voice`.
        """
        return self.voice_names.resolve(door, name, self.gateway.all_voices)

    async def encode(self, encoder: Encoder, pcm: bytes) -> bytes:
        """The next bytes of a stream, made in a thread where that takes long."""
        if not encoder.threaded:
            return encoder.encode(pcm)
        return await self._in_thread(encoder.encode, pcm)

    async def flush(self, encoder: Encoder) -> bytes:
        """What makes all that was encoded audible now."""
        return await self._in_thread(encoder.flush) if encoder.threaded else encoder.flush()

    async def finish(self, encoder: Encoder) -> bytes:
        """The last bytes of a stream."""
        return await self._in_thread(encoder.finish) if encoder.threaded else encoder.finish()

    async def _in_thread(self, step: Callable[..., bytes], *args: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.gateway.encode_pool, step, *args)

    async def audio(self, utterance: Utterance, encoder: Encoder) -> AsyncIterator[bytes]:
        """A whole utterance as bytes of one stream, piece by piece; other events are passed over.

        Raises:
            Failure: it ends with an error.
        """
        async for event in self.events(utterance, encoder):
            if isinstance(event, bytes):
                yield event

    async def events(self, utterance: Utterance, encoder: Encoder) -> AsyncIterator[Event | bytes]:
        """An utterance's events, its sound as bytes of one stream; nothing empty, and nothing after a cancel.

        Raises:
            Failure: it ends with an error.
        """
        async for event in utterance:
            if not isinstance(event, Sound):
                if isinstance(event, ContextDone) and (rest := await self.finish(encoder)):
                    yield rest
                yield event
            elif (data := await self.encode(encoder, event.pcm)) and not utterance.is_cancelled:
                yield data
