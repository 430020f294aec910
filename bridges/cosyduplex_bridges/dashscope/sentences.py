"""The sentences of a text that grows, and the audio of an utterance cut where they end.

The engine knows segments, not sentences, so this door finds the sentences itself: in the text by their
punctuation and by the client's flushes, in the audio by the time of the first word of each.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from cosyduplex.messages import ContextCancelled, ContextDone, ContextFlushed, Marks, WordMark
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Encoder
from cosyduplex_server.utterance import Sound, Utterance

_FINAL: Final = "。！？｡!?…\n"
_CLOSING: Final = r"\"'”’)\]}）】」』》〉"
# What may follow the mark that ends a sentence and still belongs to it.
_REST: Final = re.compile(rf"[{_FINAL}.]*+[{_CLOSING}]*+\s*+")
# A full stop ends one before white space alone: not in 3.14.
_END: Final = re.compile(
    rf"[{_FINAL}]{_REST.pattern}|\.[{_CLOSING}]*+(?:(?P<undecided>\Z)|\s{_REST.pattern})"
)
_AFTER_STOP: Final = re.compile(rf"[{_CLOSING}]*+(?:(?P<undecided>\Z)|(?P<space>\s))?")
_HAN: Final = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def count_characters(text: str) -> int:
    """The vendor's count: Han characters are two, all others one."""
    return len(text) + len(_HAN.findall(text))


class Sentences:
    """Where the sentences of a text begin; positions are code points of the whole text.

    Each fragment is read once, and text is kept until its sentence has been taken.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._base = 0  # position of the first code point still kept
        self._length = 0
        self._begins: list[int] = [0]
        self._flushes: deque[int] = deque()
        self._after_end = False  # the text so far ends with the end of a sentence
        self._after_stop = False  # … with a full stop, of which it is not known yet

    def append(self, text: str) -> None:
        """Takes more text."""
        if not text:
            return
        at, self._length = self._length, self._length + len(text)
        self._pieces.append(text)
        pos = 0
        if self._after_stop:
            found = _AFTER_STOP.match(text)
            assert found is not None
            if found["undecided"] is not None:
                return
            self._after_stop, self._after_end = False, found["space"] is not None
            pos = found.end() if self._after_end else 0
        if self._after_end:
            pos = self._pass_end(_REST.match(text, pos), at, len(text))
        while pos < len(text) and (end := _END.search(text, pos)) is not None:
            if end["undecided"] is not None:
                self._after_stop = True
                return
            pos = self._pass_end(end, at, len(text))

    def _pass_end(self, end: re.Match[str] | None, at: int, length: int) -> int:
        assert end is not None
        self._after_end = end.end() == length
        if not self._after_end:
            self._begin(at + end.end())
        return end.end()

    def _begin(self, position: int) -> None:
        if position > self._begins[-1]:
            self._begins.append(position)

    def flush(self) -> None:
        """What was appended is spoken now: its last sentence ends here."""
        self._flushes.append(self._length)
        self._begin(self._length)
        self._after_end = self._after_stop = False

    def pop_flush(self) -> int:
        """Where the oldest flush that is not done was."""
        return self._flushes.popleft()

    @property
    def base(self) -> int:
        """Where the text begins that has not been dropped."""
        return self._base

    @property
    def length(self) -> int:
        """Code points appended."""
        return self._length

    def begin_of(self, position: int) -> int:
        """Where the sentence of this position begins."""
        return self._begins[max(0, bisect_right(self._begins, position) - 1)]

    def end_of(self, position: int) -> int:
        """Where the sentence of this position ends, as far as is known."""
        after = bisect_right(self._begins, position)
        return self._begins[after] if after < len(self._begins) else self._length

    def text(self, start: int, end: int) -> str:
        """A piece of the text that has not been dropped."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0][start - self._base : end - self._base]

    def drop_before(self, position: int) -> None:
        """Lets go of what is before a position, where a sentence begins or the text ends."""
        rest = self.text(position, self._length)
        self._pieces, self._base = [rest], position
        del self._begins[: bisect_right(self._begins, position) - 1]


@dataclass(frozen=True, slots=True)
class SentenceBegin:
    """A sentence follows; `text` is what is known of it."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class SentenceAudio:
    """The next bytes of the stream."""

    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its place in its sentence: code points, and ms from where its audio begins."""

    text: str
    begin_index: int
    end_index: int
    begin_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class SentenceEnd:
    """The sentence has been spoken.

    Attributes:
        characters: of all the text so far, as `count_characters` counts.
        start_ms: where its audio begins in the utterance, from where its words' times count.
        end_ms: where it ends there.
    """

    index: int
    text: str
    words: tuple[Word, ...]
    characters: int
    start_ms: int
    end_ms: int


Part = SentenceBegin | SentenceAudio | SentenceEnd


@dataclass(slots=True)
class _Sentence:
    index: int
    start: int
    start_ms: int


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where the next sentence begins, in the text and in the audio."""

    position: int
    start_ms: int


class Narration:
    """An utterance as sentences with their audio.

    Text goes in through it alone. Iterating `parts` yields, of each sentence, its begin, its audio and its
    end.

    Attributes:
        characters: spoken so far.
    """

    def __init__(
        self, bridge: Bridge, utterance: Utterance, encoder: Encoder, *, word_times: bool = False
    ) -> None:
        self.utterance = utterance
        self.characters = 0
        self._bridge = bridge
        self._encoder = encoder
        self._word_times = word_times
        self._sentences = Sentences()
        self._spoken: _Sentence | None = None  # the one that is being spoken
        self._num_begun = 0
        self._at_ms = 0  # how much audio there has been
        self._last_begin: int | None = None  # of the last word's sentence, since the last flush
        self._first_begin: int | None = None  # of the first word's
        self._cuts: deque[_Cut] = deque()
        self._words: deque[WordMark] = deque()

    def append(self, text: str) -> None:
        """Takes text.

        Raises:
            Failure: `text_too_long`.
        """
        self.utterance.append(text)
        self._sentences.append(text)

    def flush(self) -> None:
        """Has all that was appended spoken now."""
        self.utterance.flush()
        self._sentences.flush()

    def end(self) -> None:
        """No more text follows."""
        self.utterance.end()

    async def parts(self) -> AsyncIterator[Part]:
        """What the utterance becomes; ends early, without a word, when it is cancelled.

        Raises:
            Failure: the utterance ends with an error.
        """
        async for event in self.utterance:
            match event:
                case Marks():
                    self._take_words(event)
                case Sound():
                    async for part in self._speak(event):
                        yield part
                case ContextFlushed():
                    async for part in self._rest(self._encoder.flush, self._sentences.pop_flush()):
                        yield part
                case ContextDone():
                    after_flush = self._spoken is None and self._num_begun > 0
                    async for part in self._rest(self._encoder.finish, self._sentences.length):
                        yield part
                    if after_flush and (data := await self._step(self._encoder.finish)):
                        yield SentenceAudio(self._num_begun - 1, data)  # what ends the stream
                case ContextCancelled():
                    return

    def _take_words(self, marks: Marks) -> None:
        for word in marks.words:
            begin = self._sentences.begin_of(word.char_start)
            if self._last_begin is None:  # what stands before the first word makes no sentence
                self._first_begin = self._last_begin = begin
            elif begin > self._last_begin:
                self._last_begin = begin
                self._cuts.append(_Cut(begin, word.start_ms))
            if self._word_times:
                self._words.append(word)

    async def _speak(self, sound: Sound) -> AsyncIterator[Part]:
        rate_hz = self.utterance.sample_rate_hz
        pcm, at = sound.pcm, sound.pts
        end = at + len(pcm) // 2
        if self._spoken is None:
            yield self._begin(at * 1000 // rate_hz, self._first_begin)
        while self._cuts and (cut_at := max(at, self._cuts[0].start_ms * rate_hz // 1000)) < end:
            cut = self._cuts.popleft()
            for part in await self._encode(pcm[: 2 * (cut_at - at)]):
                yield part
            pcm, at = pcm[2 * (cut_at - at) :], cut_at
            self._at_ms = at * 1000 // rate_hz
            yield self._end(cut.position)
            yield self._begin(self._at_ms, cut.position)
        self._at_ms = end * 1000 // rate_hz
        for part in await self._encode(pcm):
            yield part

    async def _encode(self, pcm: bytes) -> list[SentenceAudio]:
        data = await self._bridge.encode(self._encoder, pcm) if pcm else b""
        return self._audio(data)

    def _audio(self, data: bytes) -> list[SentenceAudio]:
        if not data or self.utterance.is_cancelled:
            return []
        assert self._spoken is not None
        return [SentenceAudio(self._spoken.index, data)]

    async def _rest(self, step: Callable[[], bytes], end: int) -> AsyncIterator[Part]:
        """What the encoder holds back, and the end of the sentence; nothing when nothing was spoken."""
        if self._spoken is None:
            self._count(end)
        else:
            for part in self._audio(await self._step(step)):
                yield part
            yield self._end(end)
        self._spoken = self._first_begin = self._last_begin = None
        self._cuts.clear()
        self._words.clear()

    async def _step(self, step: Callable[[], bytes]) -> bytes:
        if not self._encoder.threaded:
            return step()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._bridge.gateway.encode_pool, step)

    def _begin(self, start_ms: int, position: int | None) -> SentenceBegin:
        start = self._sentences.base
        self._spoken = _Sentence(self._num_begun, start, start_ms)
        self._num_begun += 1
        known = self._sentences.end_of(start if position is None else position)
        return SentenceBegin(self._spoken.index, self._sentences.text(start, known).rstrip())

    def _end(self, end: int) -> SentenceEnd:
        sentence = self._spoken
        assert sentence is not None
        text = self._sentences.text(sentence.start, end)
        words = []
        while self._words and self._words[0].char_start < end:
            word = self._words.popleft()
            words.append(
                Word(
                    word.text,
                    word.char_start - sentence.start,
                    word.char_end - sentence.start,
                    max(0, word.start_ms - sentence.start_ms),
                    max(0, word.end_ms - sentence.start_ms),
                )
            )
        self._count(end)
        return SentenceEnd(
            sentence.index, text.rstrip(), tuple(words), self.characters, sentence.start_ms, self._at_ms
        )

    def _count(self, end: int) -> None:
        """Counts what has been spoken, and lets go of it."""
        self.characters += count_characters(self._sentences.text(self._sentences.base, end))
        self._sentences.drop_before(end)
