# SPDX-License-Identifier: GPL-3.0-or-later
"""espeak-ng as the engine of a worker: many contexts, one library, one thread that calls it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from cosyduplex.errors import ErrorCode
from cosyduplex_espeak.library import Espeak
from cosyduplex_espeak.synthesis import Manner, SegmentOutput, speak
from cosyduplex_espeak.text import split_runs
from cosyduplex_espeak.voices import Language, base_language, choose, describe, reads_mandarin
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.outbox import FinishPoint, FlushPoint, Outbox, Segment, SegmentQueue
from cosyduplex_server.errors import Failure

DEFAULT_SLOTS: Final = 64
# A context rests while this much audio waits for credit, so that a slow listener costs 0.5 MB and no more.
MAX_AHEAD_S: Final = 10


class EspeakEngine:
    """The embedded voice. Contexts take turns, segment by segment, on the one thread the library has."""

    def __init__(self, library: Espeak, thread: Executor, slots: int, mandarin: bool) -> None:
        self._library = library
        self._thread = thread
        self._mandarin = mandarin
        self._description = describe(library.version, library.sample_rate_hz, slots, mandarin)

    @classmethod
    async def start(cls, slots: int = DEFAULT_SLOTS) -> EspeakEngine:
        """Load the library on the thread that will call it from now on, and check what it can speak.

        Raises:
            EngineUnavailable: the library is missing, too old, or without its data.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="espeak")
        loop = asyncio.get_running_loop()
        library = await loop.run_in_executor(thread, Espeak)
        mandarin = await loop.run_in_executor(thread, reads_mandarin, library.phonemes)
        return cls(library, thread, slots, mandarin)

    @property
    def description(self) -> link.Description:
        """The library's version, the voices, and what does not work."""
        return self._description

    def open(self, request: link.Open, outbox: Outbox) -> EspeakRequest:
        """Begin a context.

        Raises:
            Failure: `unknown_voice`, or `bad_request` for a language it does not speak.
        """
        voice = choose(request.voice, self._mandarin)
        speaker = _Speaker(
            library=self._library,
            manner=Manner(voice=voice, speed=request.speed, pitch=request.pitch, volume=request.volume),
            mandarin=self._mandarin,
            emit=outbox.emit,
            language=base_language(request.language, voice),
            follows_text=request.language.lower() in ("", "auto"),
        )
        return EspeakRequest(speaker, self._thread, outbox)

    @property
    def gpu_memory_bytes(self) -> int:
        """None."""
        return 0

    async def aclose(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)


class EspeakRequest:
    """One context: its text in order, at most one segment of it in the thread's queue."""

    def __init__(self, speaker: _Speaker, thread: Executor, outbox: Outbox) -> None:
        self._speaker = speaker
        self._thread = thread
        self._outbox = outbox
        self._queue = SegmentQueue()
        self._speaking: asyncio.Future[None] | None = None
        self._sent_samples = 0

    def append(self, segment: int, text: str, closes: bool) -> None:
        """Take more text; a segment is spoken once it is complete."""
        self._queue.append(segment, text, closes)
        self._work()

    def flush(self, number: int) -> None:
        """Answer once everything before is spoken."""
        self._queue.flush(number)
        self._work()

    def finish(self) -> None:
        """Be done once everything before is spoken."""
        self._queue.finish()
        self._work()

    def cancel(self) -> None:
        """Stop at the next 60 ms of a segment being spoken, and forget the rest."""
        self._speaker.cancelled.set()
        self._queue.clear()

    def progress(self, sent_samples: int, credit_samples: int) -> None:
        """Go on when little enough is waiting."""
        self._sent_samples = sent_samples
        self._work()

    def _work(self) -> None:
        while self._speaking is None and (item := self._queue.peek()) is not None:
            match item:
                case Segment():
                    if (
                        self._speaker.position - self._sent_samples
                        > MAX_AHEAD_S * self._speaker.sample_rate_hz
                    ):
                        return
                    loop = asyncio.get_running_loop()
                    self._speaking = loop.run_in_executor(self._thread, self._speaker.speak, item)
                    self._speaking.add_done_callback(self._spoken)
                case FlushPoint(number):
                    self._outbox.emit(link.Event(flushed=link.Flushed(flush=number)))
                case FinishPoint():
                    seconds = {"vocoder": self._speaker.seconds}  # it has this one stage
                    self._outbox.emit(link.Event(done=link.Done(stage_seconds=seconds)))
            self._queue.pop()

    def _spoken(self, speaking: asyncio.Future[None]) -> None:
        self._speaking = None
        if speaking.cancelled():
            return
        if (error := speaking.exception()) is not None:
            self.cancel()
            self._outbox.fail(error)
            return
        self._work()


@dataclass(slots=True, kw_only=True)
class _Speaker:
    """One context's part on the library's thread; the event loop reads it only between two segments.

    Attributes:
        language: of text that belongs to neither language.
        follows_text: `language` becomes that of the last text spoken.
        position: the next sample of the context.
        seconds: the time spent speaking.
        cancelled: set from the event loop.
    """

    library: Espeak
    manner: Manner
    mandarin: bool
    emit: Callable[[link.Event], None]
    language: Language
    follows_text: bool
    position: int = 0
    seconds: float = 0.0
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def sample_rate_hz(self) -> int:
        return self.library.sample_rate_hz

    def speak(self, segment: Segment) -> None:
        """Speak one segment.

        Raises:
            Failure: `text_too_long`, or `bad_request` for Chinese where the library cannot speak it.
        """
        if self.cancelled.is_set():
            return
        began = perf_counter()
        runs = split_runs(segment.text, self.language)
        if not self.mandarin and any(run.language == "zh" for run in runs):
            raise Failure(ErrorCode.BAD_REQUEST, "The embedded voice on this machine cannot speak Chinese.")
        output = SegmentOutput(segment.number, self.position, self.sample_rate_hz, self.emit)
        speak(self.library, runs, self.manner, output, self.cancelled)
        self.emit(link.Event(segment_done=link.SegmentDone(segment=segment.number)))
        self.position = output.position
        self.seconds += perf_counter() - began
        if runs and self.follows_text:
            self.language = runs[-1].language
