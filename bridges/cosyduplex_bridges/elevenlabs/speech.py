"""An utterance as messages: encoded audio, and with each piece of it the characters heard in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

from cosyduplex.messages import ContextCancelled, ContextDone, ContextFlushed, Marks, Warning
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Encoder
from cosyduplex_bridges.elevenlabs.alignment import Alignment, Characters
from cosyduplex_server.utterance import Sound, Utterance

_SAMPLE_BYTES = 2
# The longest word, and then some.
_MOST_WAITING_MS = 1500


@dataclass(frozen=True, slots=True)
class Piece:
    """What one message carries; either part may be missing."""

    audio: bytes
    alignment: Alignment | None


class Speech:
    """An utterance, what has been appended to it, and its audio on the way out.

    Args:
        timed: the times of characters are wanted.

    Attributes:
        utterance: it is to be closed by whoever opened it.
        last_flush: the number, from 1, of the last flush that the client asked for.
        has_ended: no more text follows.
        has_unflushed: text came after that flush.
    """

    def __init__(self, bridge: Bridge, utterance: Utterance, encoder: Encoder, *, timed: bool) -> None:
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
        self._waiting = b""  # what it made of those in between
        # Engines that measure words tell of each when it is over, and are many times as fast as speech.
        self._waits_for_words = timed and bridge.gateway.pool.description.exact_marks
        self._most_waiting = utterance.sample_rate_hz * _MOST_WAITING_MS // 1000

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
            if isinstance(event, Sound):
                async for piece in self._sound(event):
                    yield piece
            elif isinstance(event, Marks):
                self._characters.time(event.words, self._encoder.inserted_samples)
                for piece in self._ready():
                    yield piece
            elif isinstance(event, ContextFlushed):
                for piece in await self._flushed():
                    yield piece
                yield event
            elif isinstance(event, ContextDone):
                for piece in await self._rest():
                    yield piece
            elif isinstance(event, ContextCancelled):
                return
            else:
                yield event

    async def _sound(self, sound: Sound) -> AsyncIterator[Piece]:
        pcm = sound.pcm
        # Where something was told early, a message begins at its end: see `Characters.take`.
        cut = min(max(self._characters.clock - self._encoded, 0) * _SAMPLE_BYTES, len(pcm))
        for part in filter(None, (pcm[:cut], pcm[cut:])):
            self._waiting += await self._bridge.encode(self._encoder, part)
            self._encoded += len(part) // _SAMPLE_BYTES
            if self.utterance.is_cancelled:
                return
            for piece in self._ready():
                yield piece

    def _ready(self) -> Iterator[Piece]:
        """What is encoded, unless its words may still be told."""
        characters = self._characters
        if characters.clock < self._sent and characters.begins_before(self._sent):  # it could not wait
            yield Piece(b"", characters.take(characters.clock, self._sent))
        if not self._waiting:
            return
        is_told = characters.clock >= self._encoded
        may_wait = self._waits_for_words and self._encoded - self._sent < self._most_waiting
        if is_told or characters.begins_before(self._encoded) or not may_wait:
            begin = self._sent
            yield Piece(self._take_waiting(), None if is_told else characters.take(begin, self._encoded))

    def _take_waiting(self) -> bytes:
        data, self._waiting = self._waiting, b""
        self._sent = self._encoded
        return data

    async def _flushed(self) -> Iterable[Piece]:
        inserted = self._encoder.inserted_samples
        self._waiting += await self._bridge.flush(self._encoder)
        self._encoded += self._encoder.inserted_samples - inserted
        return self._last(self._characters.take_flushed(self._sent, self._encoded))

    async def _rest(self) -> Iterable[Piece]:
        self._waiting += await self._bridge.finish(self._encoder)
        return self._last(self._characters.take_rest(self._sent, self._encoded))

    def _last(self, alignment: Alignment | None) -> Iterable[Piece]:
        piece = Piece(self._take_waiting(), alignment)
        is_wanted = not self.utterance.is_cancelled and (piece.audio or piece.alignment)
        return (piece,) if is_wanted else ()
