# SPDX-License-Identifier: GPL-3.0-or-later
"""libespeak-ng from the `espeakng-loader` wheel, by ctypes.

The library keeps global state and crashes when two threads call it: one process has one `Espeak`, and one
thread calls it.
"""

from __future__ import annotations

import ctypes
import re
import tempfile
from collections.abc import Callable, Sequence
from ctypes import CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_int, c_short, c_size_t, c_uint, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosyduplex_server.engine.worker import EngineUnavailable

# 1.51 reads Mandarin as English letters and digits.
MINIMUM_VERSION: Final = (1, 52)
INSTALL_HINT: Final = "install it with: pip install 'cosyduplex[voice]'"

# The library copies the data path into 160 bytes and fails, with a misleading message, where it does not fit.
_LONGEST_DATA_PATH: Final = 150

# Numbers of speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS: Final = 2
_INITIALIZE_DONT_EXIT: Final = 0x8000
_CHARS_UTF8: Final = 1
# Without it the last, unfinished buffer of a text is thrown away: up to 60 ms of the last word's sound.
_ENDPAUSE: Final = 0x1000
_EVENT_WORD: Final = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4


class _Event(Structure):
    _fields_ = (
        ("type", c_int),
        ("unique_identifier", c_uint),
        ("text_position", c_int),  # characters, from 1
        ("length", c_int),
        ("audio_position", c_int),  # ms: coarser than `sample`
        ("sample", c_int),  # from the start of this text
        ("user_data", c_void_p),
        ("id", c_char * 8),
    )


_Callback = CFUNCTYPE(c_int, POINTER(c_short), c_int, POINTER(_Event))


class WordStart(NamedTuple):
    """A word begins: its position in the text in characters, and in the sound in samples, both from 0."""

    position: int
    sample: int


@dataclass(frozen=True, slots=True)
class Style:
    """How to speak, in the library's own units.

    Attributes:
        voice: a language and variant, as in "en-us+f5".
        rate_wpm: words a minute, 80 to 450.
        pitch: 0 to 99, 50 as the voice is.
        pitch_range: 0 to 99, 50 as the voice is.
        volume: 100 is the library's own level, at which Chinese clips.
    """

    voice: str
    rate_wpm: int
    pitch: int
    pitch_range: int
    volume: int


# Gets the next samples and the words that begin in them; returns whether to go on.
OnAudio = Callable[[NDArray[np.int16], Sequence[WordStart]], bool]


class Espeak:
    """The library, initialised.

    Attributes:
        version: as the library gives it, "1.52.0".
        sample_rate_hz: of all sound it makes.

    Raises:
        EngineUnavailable: the library is missing, too old, or without its data.
    """

    def __init__(self) -> None:
        library_path, data_path = _locate()
        try:
            self._lib: Any = ctypes.CDLL(library_path)
        except OSError as error:
            raise EngineUnavailable(f"libespeak-ng cannot be loaded; {INSTALL_HINT}") from error
        self._declare()
        self.version: str = self._lib.espeak_Info(None).decode()
        if _version_tuple(self.version) < MINIMUM_VERSION:
            raise EngineUnavailable(f"espeak-ng {self.version} is too old, 1.52 is needed; {INSTALL_HINT}")
        self._short_path: tempfile.TemporaryDirectory[str] | None = None
        if len(data_path.encode()) > _LONGEST_DATA_PATH:
            self._short_path = tempfile.TemporaryDirectory(prefix="cosyduplex-")
            link = Path(self._short_path.name) / "espeak-ng-data"
            link.symlink_to(data_path)
            data_path = str(link)
        self.sample_rate_hz: int = self._lib.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, data_path.encode(), _INITIALIZE_DONT_EXIT
        )
        if self.sample_rate_hz <= 0:
            raise EngineUnavailable(f"espeak-ng finds no data; {INSTALL_HINT}")
        self._on_audio: OnAudio | None = None
        self._error: BaseException | None = None
        self._callback = _Callback(self._heard)
        self._lib.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, style: Style, on_audio: OnAudio) -> None:
        """Speak `text`, which holds neither NUL nor a surrogate, and return when it is spoken or stopped.

        What `on_audio` raises is raised here. SSML and phoneme input are off: no flag asks for them.
        """
        self._select(style.voice)
        for parameter, value in (
            (_RATE, style.rate_wpm),
            (_PITCH, style.pitch),
            (_RANGE, style.pitch_range),
            (_VOLUME, style.volume),
        ):
            self._lib.espeak_SetParameter(parameter, value, 0)
        self._on_audio, self._error = on_audio, None
        data = text.encode()
        failed = self._lib.espeak_Synth(data, len(data) + 1, 0, 1, 0, _CHARS_UTF8 | _ENDPAUSE, None, None)
        if self._error is not None:
            raise self._error
        if failed:
            raise RuntimeError(f"espeak_Synth returned {failed}")

    def phonemes(self, text: str, voice: str) -> str:
        """How `voice` would say `text`, in the library's own notation."""
        self._select(voice)
        rest = c_char_p(text.encode())
        clauses = []
        while rest.value is not None:
            clauses.append(self._lib.espeak_TextToPhonemes(ctypes.byref(rest), _CHARS_UTF8, 0).decode())
        return " ".join(clauses)

    def _select(self, voice: str) -> None:
        # A wrong name must not go by unnoticed: the library would go on in the voice before.
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {voice}")

    def _heard(self, samples: Any, count: int, events: Any) -> int:
        """The library's callback: nothing may be raised into C."""
        assert self._on_audio is not None
        try:
            pcm = np.ctypeslib.as_array(samples, (count,)).copy() if samples and count else _NO_SOUND
            return 0 if self._on_audio(pcm, _word_starts(events)) else 1
        except BaseException as error:  # noqa: BLE001  raised again by speak()
            self._error = error
            return 1

    def _declare(self) -> None:
        lib = self._lib
        lib.espeak_Info.argtypes = [c_void_p]
        lib.espeak_Info.restype = c_char_p
        lib.espeak_Initialize.argtypes = [c_int, c_int, c_char_p, c_int]
        lib.espeak_SetSynthCallback.argtypes = [_Callback]
        lib.espeak_SetSynthCallback.restype = None
        lib.espeak_SetVoiceByName.argtypes = [c_char_p]
        lib.espeak_SetParameter.argtypes = [c_int, c_int, c_int]
        lib.espeak_Synth.argtypes = [c_char_p, c_size_t, c_uint, c_int, c_uint, c_uint, c_void_p, c_void_p]
        lib.espeak_TextToPhonemes.argtypes = [POINTER(c_char_p), c_int, c_int]
        lib.espeak_TextToPhonemes.restype = c_char_p


_NO_SOUND: Final = np.empty(0, np.int16)


def _word_starts(events: Any) -> list[WordStart]:
    starts = []
    index = 0
    while (event := events[index]).type:
        if event.type == _EVENT_WORD:
            starts.append(WordStart(event.text_position - 1, event.sample))
        index += 1
    return starts


def _locate() -> tuple[str, str]:
    try:
        import espeakng_loader
    except ModuleNotFoundError as error:
        raise EngineUnavailable(f"the embedded voice needs espeak-ng; {INSTALL_HINT}") from error
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()


def _version_tuple(version: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else (0, 0)
