# SPDX-License-Identifier: GPL-3.0-or-later
"""A segment's text, made ready for the library: cleaned, cut into runs of one language, its words found.

Each word keeps its code points of the segment, whatever was dropped or rewritten around it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from cosyduplex_espeak.voices import Language

_SENTENCE_ENDS: Final = frozenset(".。．!！?？…")
_CLAUSE_ENDS: Final = frozenset(",，、;；:：—–")
_CLOSERS: Final = " \t\n\"'”’」』）)】]》〉>*_~"

_SENTENCE_PAUSE_MS: Final = 280
_CLAUSE_PAUSE_MS: Final = 140
_SEGMENT_PAUSE_MS: Final = 60
_SWITCH_PAUSE_MS: Final = 30

_SYMBOLS: Final = frozenset("%&@#*/\\_§‰°")
_JOINERS: Final = frozenset("'’-‐‑")

# Over the characters' classes: H hanzi, D digit, A another letter or mark, S a symbol read by its name, E an
# emoji or the like, J what joins letters, P what joins digits, blank anything else.
_WORD: Final = re.compile(r"H|S*[AD]+(?:(?:J|(?<=D)P(?=D)|S+)[AD]+)*S*|S+|E")
# "3个" is read in Chinese whatever stands before it, unless it belongs to a name ("A3纸").
_NUMBER: Final = re.compile(r"(?<![A-Za-z\d])\d(?:[\d.,:/-]*\d)?%?")


@dataclass(frozen=True, slots=True)
class Word:
    """One hanzi, or letters, digits and symbols that belong together.

    Attributes:
        start: its first character in the run's text.
        end: the character after its last.
        char_start: its first code point in the segment.
        char_end: the code point after its last.
        hanzi: whether it is a hanzi, so one syllable.
    """

    start: int
    end: int
    char_start: int
    char_end: int
    hanzi: bool


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of a segment in one language.

    Attributes:
        language: of the whole run.
        text: what the library gets.
        words: its words, in order.
        pause_ms: the silence after it, at speed 1.
    """

    language: Language
    text: str
    words: tuple[Word, ...]
    pause_ms: int


def split_runs(segment: str, base: Language) -> list[Run]:
    """The runs of `segment`; none when it holds nothing to speak.

    The library's English voice reads hanzi as "Chinese letter", and its Mandarin voice reads English badly
    and word by word, so each language gets its own voice. What is in neither script goes with what stands
    before it, at the start with what follows, and alone it is `base`. A clause ends a run as well: the
    library makes next to no pause at a comma, and the rhythm must not depend on where segments were cut.
    """
    text, offsets = _clean(segment)
    spans = list(_word_spans(text))
    kinds = zip(_languages(text, base), _clauses(text), strict=True)
    stretches = [
        (language, [index for index, _ in group])
        for (language, _), group in groupby(enumerate(kinds), key=lambda item: item[1])
    ]
    runs = []
    for language, indices in stretches if spans else []:
        start, end = indices[0], indices[-1] + 1
        last = end == len(text)
        pause_ms = _pause_ms(text[start:end], _SEGMENT_PAUSE_MS if last else _SWITCH_PAUSE_MS)
        # The voice must not fall as at the end of a sentence where only the language changes.
        continued = "," if pause_ms == _SWITCH_PAUSE_MS else ""
        words = tuple(
            Word(first - start, after - start, offsets[first], offsets[after - 1] + 1, _is_hanzi(text[first]))
            for first, after in spans
            if start <= first < end
        )
        runs.append(Run(language, text[start:end] + continued, words, pause_ms))
    return runs


def _clean(segment: str) -> tuple[str, list[int]]:
    """What may reach the library, and for each of its characters the code point it comes from."""
    characters: list[str] = []
    offsets: list[int] = []
    for offset, character in enumerate(segment):
        for spoken in _speakable(character):
            characters.append(spoken)
            offsets.append(offset)
    return "".join(characters), offsets


def _speakable(character: str) -> str:
    match unicodedata.category(character):
        case "Cc" | "Cs" | "Co" | "Cn" | "Zl" | "Zp":
            return " "
        case "Cf":  # zero-width: never parts a word
            return ""
        case "Lu" | "Ll" | "Lt" | "Lm" | "Lo" | "Nd":  # full-width, mathematical, ligatures
            return unicodedata.normalize("NFKC", character)
        case "Mn" if unicodedata.name(character).startswith("VARIATION SELECTOR"):
            return ""
    return character


def _word_spans(text: str) -> Iterator[tuple[int, int]]:
    return (found.span() for found in _WORD.finditer("".join(map(_class_of, text))))


def _class_of(character: str) -> str:
    if _is_hanzi(character):
        return "H"
    if character in _SYMBOLS:
        return "S"
    if character in _JOINERS:
        return "J"
    if character in ".,:":
        return "P"
    match unicodedata.category(character)[0], unicodedata.category(character)[1]:
        case "N", "d":
            return "D"
        case (("L" | "M" | "N"), _):
            return "A"
        case "S", "o":
            return "E"
        case "S", _:
            return "S"
    return " "


def _languages(text: str, base: Language) -> list[Language]:
    """The language of every character."""
    found: list[Language | None] = [_script(character) for character in text]
    for number in _NUMBER.finditer(text):
        if number.end() < len(text) and _is_hanzi(text[number.end()]):
            found[number.start() : number.end()] = ["zh"] * (number.end() - number.start())
    current = next((language for language in found if language is not None), base)
    languages = []
    for language in found:
        current = language or current
        languages.append(current)
    return languages


def _clauses(text: str) -> list[int]:
    """The number of the clause each character is in; marks and closers go with what stands before them."""
    numbers = []
    number = 0
    in_clause = ended = False
    for position, character in enumerate(text):
        if character in _CLAUSE_ENDS or character in _SENTENCE_ENDS:
            # A Latin mark ends a clause only before a blank: not in 1,000 or 12:30. A full stop does not:
            # here it stands after an abbreviation, for a sentence would have ended the segment.
            following = text[position + 1 : position + 2]
            is_latin = character.isascii()
            ended = ended or (in_clause and character != "." and not (is_latin and following.strip()))
        elif ended and character not in _CLOSERS:
            number += 1
            in_clause = ended = False
        in_clause = in_clause or character.isalnum()
        numbers.append(number)
    return numbers


def _script(character: str) -> Language | None:
    if _is_hanzi(character):
        return "zh"
    return "en" if character.isalpha() else None


def _is_hanzi(character: str) -> bool:
    return (
        "\u4e00" <= character <= "\u9fff"
        or "\u3400" <= character <= "\u4dbf"
        or "\U00020000" <= character <= "\U000323af"
        or "\uf900" <= character <= "\ufaff"
        or character in "〇々"
    )


def _pause_ms(text: str, otherwise_ms: int) -> int:
    end = text.rstrip(_CLOSERS)[-1:]
    if end in _SENTENCE_ENDS:
        return _SENTENCE_PAUSE_MS
    return _CLAUSE_PAUSE_MS if end in _CLAUSE_ENDS else otherwise_ms
