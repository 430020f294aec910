# SPDX-License-Identifier: GPL-3.0-or-later
"""The voices of the embedded engine: each speaks English and Mandarin in one timbre."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.errors import Failure

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice.

    Attributes:
        id: the name on the link.
        name: for people.
        language: BCP 47, what it speaks best; also how it reads digits that stand alone.
        gender: "female" or "male".
        english: the library's voice for English text.
        mandarin: the library's voice for Chinese text.
    """

    id: str
    name: str
    language: str
    gender: str
    english: str
    mandarin: str

    @property
    def base_language(self) -> Language:
        """The language of text that belongs to neither."""
        return "zh" if self.language.startswith("zh") else "en"

    def library_voice(self, language: Language) -> str:
        """The library's voice for text of `language`."""
        return self.mandarin if language == "zh" else self.english


# f5 is the most intelligible variant (a recogniser's word error rate 0.33; 0.85 without a variant).
VOICES: Final = (
    Voice("default", "Default", "en-US", "female", "en-us+f5", "cmn+f5"),
    Voice("en-f", "English (America), female", "en-US", "female", "en-us+f5", "cmn+f5"),
    Voice("en-m", "English (America), male", "en-US", "male", "en-us+m3", "cmn+m3"),
    Voice("en-gb-f", "English (Great Britain), female", "en-GB", "female", "en+f5", "cmn+f5"),
    Voice("en-gb-m", "English (Great Britain), male", "en-GB", "male", "en+m3", "cmn+m3"),
    Voice("zh-f", "普通话，女声", "zh-CN", "female", "en-us+f5", "cmn+f5"),
    Voice("zh-m", "普通话，男声", "zh-CN", "male", "en-us+m3", "cmn+m3"),
)

_NOTES: Final = (
    "The embedded voice is a formant synthesiser: exact and quick, and robotic by design.",
    "Pitch reaches -11 to +10 semitones in English and -9 to +10 in Chinese.",
)
_NO_MANDARIN: Final = "This espeak-ng reads Mandarin as English: Chinese text is refused."


def reads_mandarin(phonemes: Callable[[str, str], str]) -> bool:
    """Whether the library speaks Mandarin: its phonemes of 好 and 今天 have the tones they must have.

    A library before 1.52 says the pinyin in English, tone numbers and all ("jin one tian one").
    """
    return "214" in phonemes("好", "cmn") and phonemes("今天", "cmn").count("55") == 2


def describe(version: str, sample_rate_hz: int, slots: int, mandarin: bool) -> link.Description:
    """What the worker says of itself; without Mandarin the Chinese voices are left out."""
    voices = [voice for voice in VOICES if mandarin or voice.base_language == "en"]
    return link.Description(
        engine="espeak-ng",
        engine_version=version,
        model="formant",
        device="cpu",
        sample_rate_hz=sample_rate_hz,
        voices=[_on_link(voice, mandarin) for voice in voices],
        exact_marks=True,
        parameters=["speed", "pitch", "volume"],
        slots=slots,
        notes=_NOTES if mandarin else (*_NOTES, _NO_MANDARIN),
    )


def choose(voice_id: str, mandarin: bool) -> Voice:
    """The voice of that id; the first when it is empty.

    Raises:
        Failure: `unknown_voice`.
    """
    for voice in VOICES:
        if voice_id in (voice.id, "") and (mandarin or voice.base_language == "en"):
            return voice
    raise Failure(ErrorCode.UNKNOWN_VOICE, f"The embedded engine has no voice {voice_id!r}.")


def base_language(requested: str, voice: Voice) -> Language:
    """The language of text that belongs to neither: the one asked for, else the voice's.

    Raises:
        Failure: `bad_request`, a language this engine does not speak.
    """
    match requested.lower().partition("-")[0]:
        case "" | "auto":
            return voice.base_language
        case "en":
            return "en"
        case "zh" | "cmn":
            return "zh"
    raise Failure(ErrorCode.BAD_REQUEST, "The embedded voice speaks English (en) and Mandarin (zh).")


def _on_link(voice: Voice, mandarin: bool) -> link.Voice:
    languages = "en, zh" if mandarin else "en"
    labels = {"gender": voice.gender, "engine": "espeak-ng", "languages": languages}
    return link.Voice(id=voice.id, name=voice.name, language=voice.language, labels=labels)
