"""The golden corpus: what language models write, and how a person would read it aloud.

Each `*.yaml` beside this file is one group. A case was written down from how it should sound, not from what
the code gives. `spoken` compares what is heard: each of its lines must be made of whole segments, so that a
line's end is a pause; `segments` compares every cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cosyduplex_server.text.front import FlushPoint, Segment, TextFrontEnd
from cosyduplex_server.text.speakable import CJK

FOLDER = Path(__file__).parent
# In the order of the page.
GROUPS = (
    "numbers",
    "money",
    "time",
    "units",
    "names",
    "markup",
    "silence",
    "answers",
    "mixed",
    "cuts",
    "choices",
)
# White space beside these is not heard.
_WIDE = f"[{CJK}，。！？：；、…“”‘’（）《》]"
_SILENT_SPACE = re.compile(f"(?<={_WIDE}) | (?={_WIDE})")


@dataclass(frozen=True)
class Case:
    """One text, and how it is read aloud.

    Attributes:
        id: unique.
        language: "zh", "en" or "mixed": of the text.
        source: what was written.
        lines: what is spoken, white space normalised.
        exact: the lines are the segments; else each line may be several of them.
        why: the rule of the ear, in a clause.
        options: of `TextFrontEnd`, beside its defaults.
    """

    id: str
    language: str
    source: str
    lines: list[str]
    exact: bool
    why: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Cases of one kind."""

    name: str
    title: str
    cases: list[Case]


@cache
def groups() -> list[Group]:
    """The whole corpus."""
    return [_group(name) for name in GROUPS]


def cases() -> list[Case]:
    """All cases."""
    return [case for group in groups() for case in group.cases]


def _group(name: str) -> Group:
    data = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return Group(name, data["title"], [_case(**values) for values in data["cases"]])


def _case(
    *,
    id: str,
    language: str,
    source: str,
    why: str,
    spoken: str | list[str] | None = None,
    segments: list[str] | None = None,
    options: dict[str, Any] | None = None,
) -> Case:
    assert (spoken is None) != (segments is None), id
    lines = segments if segments is not None else [spoken] if isinstance(spoken, str) else spoken
    assert lines is not None
    lines = [normal(line) for line in lines if line]
    return Case(id, language, source, lines, segments is not None, why, options or {})


def normal(text: str) -> str:
    """Text with its white space as it is heard."""
    return _SILENT_SPACE.sub("", re.sub(r"\s+", " ", text).strip())


def front_end(case: Case, language: str = "auto") -> TextFrontEnd:
    """A front end with the case's options."""
    return TextFrontEnd(**{"language": language, **case.options})


def take_all(front: TextFrontEnd) -> list[Segment]:
    """All that is certain now."""
    taken: list[Segment] = []
    while (item := front.next()) is not None or front.busy:
        assert not isinstance(item, FlushPoint)
        if item is not None:
            taken.append(item)
    return taken


def speak(case: Case, pieces: Iterable[str] | None = None, language: str = "auto") -> list[Segment]:
    """The segments of a case, appended in `pieces`."""
    front = front_end(case, language)
    segments: list[Segment] = []
    for piece in pieces or [case.source]:
        front.append(piece)
        segments += take_all(front)
    front.end()
    return segments + take_all(front)


def heard(case: Case, segments: list[Segment]) -> list[str]:
    """What is heard, in the case's own lines as far as whole segments make them, then segment by segment."""
    texts = [normal(segment.text) for segment in segments]
    if case.exact:
        return texts
    lines: list[str] = []
    for line in case.lines:
        for count in range(1, len(texts) + 1):
            if normal(" ".join(texts[:count])) == line:
                lines.append(line)
                del texts[:count]
                break
        else:
            break
    return lines + texts


def languages(case: Case) -> list[str]:
    """What the context may say of its language: the reading is the same."""
    return ["auto"] if case.language == "mixed" else ["auto", case.language]
