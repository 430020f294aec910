"""The tables of `docs/emotions.md`, made from what the engine says to its models.

.venv/bin/python tests/bridges/emotions_page.py    # writes them
"""

from __future__ import annotations

import re
from pathlib import Path

from cosyduplex_server.engine.cosyvoice import instructions
from cosyduplex_server.engine.cosyvoice.instructions import instruction
from cosyduplex_server.models.config import Generation

PAGE = Path(__file__).parents[2] / "docs" / "emotions.md"
BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->\n"
NONE = "–"
# Where no dialect is spoken the phrases are the same; one row stands for all of them.
OTHER = "en"


def tables() -> str:
    """Both generations' tables, by dialect and emotion, and the names that mean each of them."""
    parts = [_names("Emotions", instructions.EMOTIONS), _names("Dialects", instructions.DIALECTS)]
    parts += [_phrases(generation) for generation in (2, 3)]
    return "\n".join(parts)


def _names(title: str, manners: tuple[instructions.Manner, ...]) -> str:
    lines = [f"### {title}", "", "| names | CosyVoice2 | CosyVoice3 |", "|---|---|---|"]
    for manner in manners:
        names = ", ".join(f"`{name}`" for name in sorted(manner.names))
        lines.append(f"| {names} | {manner.v2 or NONE} | {manner.v3 or NONE} |")
    return "\n".join([*lines, ""])


def _phrases(generation: Generation) -> str:
    emotions = ["", *_known(instructions.EMOTIONS, generation)]
    dialects = ["", *_known(instructions.DIALECTS, generation)]
    lines = [f"### What CosyVoice{generation} is told", ""]
    lines.append(f"| language | dialect | {' | '.join(emotion or 'no emotion' for emotion in emotions)} |")
    lines.append("|---" * (len(emotions) + 2) + "|")
    rows = [("Chinese", "zh", dialect) for dialect in dialects] + [("any other", OTHER, "")]
    for language, code, dialect in rows:
        cells = [
            instruction(generation, instruct="", emotion=emotion, dialect=dialect, language=code).text or NONE
            for emotion in emotions
        ]
        lines.append(f"| {language} | {dialect or NONE} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _known(manners: tuple[instructions.Manner, ...], generation: Generation) -> list[str]:
    words = (manner.word(generation) for manner in manners)
    return [word for word in words if word is not None]


def with_tables(page: str) -> str:
    """The page with its tables made anew."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    assert pattern.search(page), "the page has no place for the tables"
    return pattern.sub(lambda _: f"{BEGIN}\n{tables()}\n{END}", page)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
