# SPDX-License-Identifier: GPL-3.0-or-later
"""One segment spoken: its runs through the library, their sound and words onto the context's time line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cosyduplex.errors import ErrorCode
from cosyduplex_espeak.library import Espeak, Style, WordStart
from cosyduplex_espeak.sound import LIBRARY_VOLUME, Pcm, SilenceTrim, level, loud_samples
from cosyduplex_espeak.text import Run, Word
from cosyduplex_espeak.timing import TimedWord, WordTimer
from cosyduplex_espeak.voices import Language, Voice
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.errors import Failure

MESSAGE_MS: Final = 200
MAX_SEGMENT_S: Final = 300

# Measured. A lone clause comes out up to 10 % long at the top and several clauses in one segment 10 % short,
# as the library's pauses shrink faster than its vowels.
_SPEEDS: Final = (0.47, 0.73, 1.0, 1.27, 1.57, 2.17)
_RATES_WPM: Final = (88, 131, 175, 219, 262, 350)
# Semitones at espeakPITCH 0, 10, … measured by autocorrelation over a sentence; English and Chinese averaged.
_PITCH_SEMITONES: Final = (-8.2, -6.8, -5.3, -3.5, -1.8, 0.0, 2.0, 3.8, 5.8, 8.0, 9.6)
_PITCH_VALUES: Final = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)
# espeakPITCH ends at -8 and +10; from there the range moves English a little further, to -11 and +10.
_RANGE_SEMITONES: Final = (-12.0, -8.2, 9.6, 12.0)
_RANGE_VALUES: Final = (0, 50, 50, 99)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a context wants to be spoken.

    Attributes:
        voice: whose voice.
        speed: 0.5 to 2.0, 1 as the voice is.
        pitch: semitones.
        volume: gain, 0 to 2.
    """

    voice: Voice
    speed: float
    pitch: float
    volume: float

    def style(self, language: Language) -> Style:
        """The same in the library's units, for text of `language`."""
        return Style(
            voice=self.voice.library_voice(language),
            rate_wpm=round(float(np.interp(self.speed, _SPEEDS, _RATES_WPM))),
            pitch=round(float(np.interp(self.pitch, _PITCH_SEMITONES, _PITCH_VALUES))),
            pitch_range=round(float(np.interp(self.pitch, _RANGE_SEMITONES, _RANGE_VALUES))),
            volume=LIBRARY_VOLUME,
        )


class SegmentOutput:
    """Gathers a segment's sound and words into events: the first sound at once, then 200 ms at a time.

    Attributes:
        position: the next sample, from the start of the context.
    """

    def __init__(
        self, segment: int, position: int, sample_rate_hz: int, emit: Callable[[link.Event], None]
    ) -> None:
        self.position = position
        self.sample_rate_hz = sample_rate_hz
        self._segment = segment
        self._limit = position + MAX_SEGMENT_S * sample_rate_hz
        self._emit = emit
        self._message_samples = 1
        self._pcm: list[Pcm] = []
        self._pcm_samples = 0
        self._words: list[link.Word] = []

    def add_sound(self, pcm: Pcm) -> None:
        """Take the next samples.

        Raises:
            Failure: `text_too_long`.
        """
        self.position += pcm.size
        if self.position > self._limit:
            raise Failure(
                ErrorCode.TEXT_TOO_LONG, f"A segment would take more than {MAX_SEGMENT_S} s to speak."
            )
        self._pcm.append(pcm)
        self._pcm_samples += pcm.size
        if self._pcm_samples >= self._message_samples:
            self.flush()

    def add_word(self, word: Word, sample_start: int, sample_end: int) -> None:
        """Take a word that sounds from one sample of the context to another."""
        self._words.append(
            link.Word(
                segment=self._segment,
                char_start=word.char_start,
                char_end=word.char_end,
                sample_start=sample_start,
                sample_end=sample_end,
            )
        )

    def flush(self) -> None:
        """Emit what has been taken."""
        if self._words:
            self._emit(link.Event(marks=link.Marks(words=self._words)))
            self._words = []
        if self._pcm_samples:
            self._emit(link.Event(audio=link.Audio(pcm=np.concatenate(self._pcm).tobytes())))
            self._pcm, self._pcm_samples = [], 0
            self._message_samples = self.sample_rate_hz * MESSAGE_MS // 1000


def speak(
    library: Espeak, runs: Sequence[Run], manner: Manner, output: SegmentOutput, cancelled: threading.Event
) -> None:
    """Speak the runs of one segment into `output`; once cancelled it makes nothing more.

    Raises:
        Failure: `text_too_long`.
    """
    for run in runs:
        listener = _RunListener(run, manner.volume, output, cancelled)
        library.speak(run.text, manner.style(run.language), listener.hear)
        if cancelled.is_set():
            return
        listener.finish(pause_ms=run.pause_ms / manner.speed)
    output.flush()


class _RunListener:
    """Hears one run from the library, and puts it on the context's time line."""

    def __init__(self, run: Run, volume: float, output: SegmentOutput, cancelled: threading.Event) -> None:
        self._language = run.language
        self._volume = volume
        self._output = output
        self._cancelled = cancelled
        self._start = output.position
        self._heard_samples = 0
        self._timer = WordTimer(run.words)
        self._trim = SilenceTrim()

    def hear(self, pcm: Pcm, starts: Sequence[WordStart]) -> bool:
        """Take the library's next samples; False stops it."""
        if self._cancelled.is_set():
            return False
        loud = loud_samples(pcm) + self._heard_samples
        self._heard_samples += pcm.size
        over = []
        for start in starts:
            self._timer.hear(loud[loud < start.sample])
            over += self._timer.begin(start.position, start.sample)
        self._timer.hear(loud)
        sound = self._trim.feed(pcm)
        self._add_words(over)
        self._output.add_sound(level(sound, self._language, self._volume))
        return True

    def finish(self, pause_ms: float) -> None:
        """The run is over: its last words, and silence if it made any sound."""
        self._add_words(self._timer.finish())
        if self._output.position > self._start:
            pause_samples = round(pause_ms * self._output.sample_rate_hz / 1000)
            self._output.add_sound(np.zeros(pause_samples, np.int16))

    def _add_words(self, words: Iterable[TimedWord]) -> None:
        zero = self._start - self._trim.lead_samples
        for timed in words:
            first, after = (
                max(self._start, zero + timed.sample_start),
                max(self._start, zero + timed.sample_end),
            )
            self._output.add_word(timed.word, first, after)
