"""An utterance as messages: encoded audio, and with each piece of it the characters heard in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from cosyduplex.messages import ContextCancelled, ContextDone, ContextFlushed, Marks, Warning
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Encoder
from cosyduplex_bridges.elevenlabs.alignment import Alignment, Characters
from cosyduplex_server.utterance import Sound, Utterance

_SAMPLE_BYTES = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """What one message carries; either part may be missing."""

    audio: bytes
    alignment: Alignment | None


class Speech:
    """An utterance, what has been appended to it, and its audio on the way out.

    Attributes:
        utterance: it is to be closed by whoever opened it.
        last_flush: the number, from 1, of the last flush that the client asked for.
        has_ended: no more text follows.
        has_unflushed: text came after that flush.
    """

    def __init__(self, bridge: Bridge, utterance: Utterance, encoder: Encoder) -> None:
        self.utterance = utterance
        self.last_flush = 0
        self.has_ended = False
        self.has_unflushed = False
        self._num_flushes = 0
        self._bridge = bridge
        self._encoder = encoder
        self._characters = Characters(utterance.sample_rate_hz)
        self._sent = 0  # samples that messages have carried
        self._encoded = 0  # samples that the encoder has taken

    def append(self, text: str) -> None:
        """Takes text.

        Raises:
            Failure: `text_too_long`; nothing of it was taken.
        """
        self.utterance.append(text)
        self._characters.append(text)
        self.has_unflushed = self.has_unflushed or bool(text)

    def flush(self, *, asked: bool) -> None:
        """Has all that was appended spoken now; `asked`: by the client."""
        self._num_flushes += 1
        if asked:
            self.last_flush = self._num_flushes
            self.has_unflushed = False
        self._characters.flush()
        self.utterance.flush()

    def end(self) -> None:
        """No more text follows."""
        self.has_ended = True
        self.utterance.end()

    async def pieces(self) -> AsyncIterator[Piece | ContextFlushed | Warning]:
        """What is to be sent, in its order; nothing after a cancel.

        Raises:
            Failure: it ends with an error.
        """
        async for event in self.utterance:
            if isinstance(event, Marks):
                self._characters.time(event.words, self._encoder.inserted_samples)
            elif isinstance(event, Sound):
                async for piece in self._sound(event):
                    yield piece
            elif isinstance(event, ContextFlushed):
                if (last := await self._flushed()) is not None:
                    yield last
                yield event
            elif isinstance(event, ContextDone):
                if (last := await self._rest()) is not None:
                    yield last
            elif isinstance(event, ContextCancelled):
                return
            else:
                yield event

    async def _sound(self, sound: Sound) -> AsyncIterator[Piece]:
        characters, pcm = self._characters, sound.pcm
        if characters.clock < self._sent and (late := characters.take(characters.clock, self._sent)):
            yield Piece(b"", late)
        # Where something was told early, a message begins at its end: see `Characters.take`.
        cut = min(max(characters.clock - self._encoded, 0) * _SAMPLE_BYTES, len(pcm))
        for part in filter(None, (pcm[:cut], pcm[cut:])):
            data = await self._bridge.encode(self._encoder, part)
            self._encoded += len(part) // _SAMPLE_BYTES
            if self.utterance.is_cancelled:
                return
            if data:
                yield self._piece(data)

    def _piece(self, data: bytes) -> Piece:
        begin, self._sent = self._sent, self._encoded
        told = self._characters.clock >= self._sent
        return Piece(data, None if told else self._characters.take(begin, self._sent))

    async def _flushed(self) -> Piece | None:
        inserted = self._encoder.inserted_samples
        data = await self._bridge.flush(self._encoder)
        self._encoded += self._encoder.inserted_samples - inserted
        begin = self._sent
        if data:
            self._sent = self._encoded
        return self._last(data, self._characters.take_flushed(begin, self._sent))

    async def _rest(self) -> Piece | None:
        data = await self._bridge.finish(self._encoder)
        begin, self._sent = self._sent, self._encoded
        return self._last(data, self._characters.take_rest(begin, self._sent))

    def _last(self, data: bytes, alignment: Alignment | None) -> Piece | None:
        if self.utterance.is_cancelled or not (data or alignment):
            return None
        return Piece(data, alignment)
