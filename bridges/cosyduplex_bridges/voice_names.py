"""The names that clients of other servers have for voices: `voices.toml`, and an operator's file over it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Protocol, Self

from cosyduplex.errors import ErrorCode
from cosyduplex_server.errors import ConfigError, Failure

DOORS: Final = (
    "triton",
    "cosyvoice",
    "workflow",
    "rest",
    "dashscope",
    "elevenlabs",
    "cartesia",
    "deepgram",
    "openai",
)
_ANY: Final = "any"
_DEFAULT: Final = "default"
_LANGUAGE_PREFIX: Final = "lang:"
_WISH: Final = re.compile(r"lang:([a-z]{2,3})(?:,(female|male))?")
# Mandarin and Cantonese go by the language's common code elsewhere in the server.
_CHINESE: Final = ("cmn", "yue")
_SHIPPED: Final = "voices.toml"
_NUM_EXAMPLES: Final = 6


class Voice(Protocol):
    """What is asked of a voice, be it the engine's or an added one."""

    @property
    def id(self) -> str:
        """What it is called here."""

    @property
    def language(self) -> str:
        """BCP 47, or empty."""

    @property
    def labels(self) -> Mapping[str, str]:
        """`gender` and `languages`, where they are known."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """A voice by what it is like; where there is none like it, the nearest."""

    language: str
    gender: str

    def find(self, voices: Sequence[Voice]) -> str | None:
        """Returns the id; None for the default voice."""
        fitting = [voice for voice in voices if not self.gender or voice.labels.get("gender") == self.gender]
        for choice in (self._speaking(fitting), self._speaking(voices), fitting if self.gender else []):
            if choice:
                return choice[0].id
        return None

    def _speaking(self, voices: Sequence[Voice]) -> list[Voice]:
        best = [voice for voice in voices if _primary(voice.language) == self.language]
        return best or [voice for voice in voices if self.language in _also_spoken(voice)]


def _primary(language: str) -> str:
    primary = re.split("[-_]", language.strip().lower(), maxsplit=1)[0]
    return "zh" if primary in _CHINESE else primary


def _also_spoken(voice: Voice) -> set[str]:
    return {_primary(language) for language in voice.labels.get("languages", "").split(",")}


_Candidate = str | _Wish
_Table = Mapping[str, tuple[_Candidate, ...]]


class VoiceNames:
    """Which voice a client means.

    Args:
        tables: For each door and for `any`, the candidates of each name in lower case.
    """

    def __init__(self, tables: Mapping[str, _Table]) -> None:
        self._tables = tables

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """Reads the shipped names, and an operator's over them.

        Args:
            path: The operator's file, in the form of the shipped `voices.toml`.

        Raises:
            ConfigError: The operator's file cannot be read, or a key of it means nothing.
        """
        shipped = (resources.files("cosyduplex_bridges") / _SHIPPED).read_text(encoding="utf-8")
        tables = _read(_SHIPPED, shipped)
        if path is not None:
            for door, names in _read(path.name, _text(path)).items():
                tables[door] = {**tables.get(door, {}), **names}
        return cls(tables)

    def resolve(self, door: str, name: str | None, voices: Sequence[Voice]) -> str | None:
        """Returns the id of the voice that a door's client means; None is the default voice.

        An id of a voice that is there wins over every name. While there are no voices at all, a name that is
        not known is returned as it came: an engine that is still starting may have it.

        Args:
            door: One of `DOORS`.
            name: What the client sent.
            voices: Those there are, the default one first.

        Raises:
            Failure: `unknown_voice`.
        """
        if not name:
            return None
        if any(voice.id == name for voice in voices):
            return name
        key = _key(name)
        for table in self._looked_up(door):
            if key in table:
                return self._first(table[key], door, voices)
        if not voices:
            return name
        raise self._unknown(door, voices)

    def _looked_up(self, door: str) -> Iterator[_Table]:
        assert door in DOORS, door
        yield self._tables.get(door, {})
        yield self._tables.get(_ANY, {})

    def _first(self, candidates: tuple[_Candidate, ...], door: str, voices: Sequence[Voice]) -> str | None:
        ids = {voice.id for voice in voices}
        for candidate in candidates:
            if isinstance(candidate, _Wish):
                return candidate.find(voices)
            if candidate == _DEFAULT:
                return None
            if candidate in ids:
                return candidate
        raise self._unknown(door, voices)

    def _unknown(self, door: str, voices: Sequence[Voice]) -> Failure:
        names = [name for table in self._looked_up(door) for name in table if name != _DEFAULT]
        here = ", ".join(voice.id for voice in voices[:_NUM_EXAMPLES])
        return Failure(
            ErrorCode.UNKNOWN_VOICE,
            "there is no voice of that name",
            f"Choose one of the voices listed by GET /v1/voices{f', as {here}' if here else ''}, "
            f"or a name that clients of this kind know, as {', '.join(names[:_NUM_EXAMPLES])}.",
        )


def _key(name: str) -> str:
    return name.strip().casefold()


# --- reading a file ------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or "not readable"
    except UnicodeDecodeError:
        reason = "not UTF-8"
    raise ConfigError(f"voice_names: {path.name} cannot be read: {reason}")


def _read(file: str, text: str) -> dict[str, _Table]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"voice_names: {file} is not valid TOML: {error}") from None
    tables: dict[str, _Table] = {}
    for door, names in document.items():
        if door not in (*DOORS, _ANY):
            known = ", ".join((*DOORS, _ANY))
            raise ConfigError(f"voice_names: {file}: there is no door called {door!r}; there are {known}")
        if not isinstance(names, dict):
            raise ConfigError(f"voice_names: {file}: {door} must be a table of names, as [{door}]")
        tables[door] = _read_table(file, door, names)
    return tables


def _read_table(file: str, door: str, names: dict[str, Any]) -> _Table:
    table: dict[str, tuple[_Candidate, ...]] = {}
    for name, value in names.items():
        where = f"voice_names: {file}: {door}.{name!r}"
        key = _key(name)
        if not key:
            raise ConfigError(f"{where}: a name may not be empty")
        if key in table:
            raise ConfigError(f"{where} is there twice: names are compared without regard to case")
        candidates = value if isinstance(value, list) else [value]
        if not candidates or not all(isinstance(candidate, str) and candidate for candidate in candidates):
            raise ConfigError(f"{where} must be a voice (a string) or a list of them")
        table[key] = tuple(_candidate(where, candidate) for candidate in candidates)
    return table


def _candidate(where: str, text: str) -> _Candidate:
    if not text.startswith(_LANGUAGE_PREFIX):
        return text
    wish = _WISH.fullmatch(text)
    if wish is None:
        raise ConfigError(f"{where}: {text!r} is not of the form lang:zh, lang:zh,female or lang:zh,male")
    return _Wish(_primary(wish[1]), wish[2] or "")
