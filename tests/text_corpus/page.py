"""Writes the figures of benchmarks/text_front.py and the golden corpus into docs/text.md.

.venv/bin/python tests/text_corpus/page.py
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from text_corpus.corpus import Case, Group, cases, groups

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "text.md"
FIGURES = ROOT / "benchmarks" / "results" / "text_front.json"
BEGIN = "<!-- From here on this page is made by tests/text_corpus/page.py. -->\n"
# Nothing of a text may be taken for this page's own markup.
_MARKUP = re.compile(r"[\\`*_{}\[\]()<>#+!|~&$@:-]")
_LANGUAGES = {"zh": "Chinese", "en": "English", "mixed": "mixed"}


def corpus_text() -> str:
    """The generated part of the page."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    return "".join([BEGIN, "\n", _figures_text(figures), "\n", _introduction(), *map(_group_text, groups())])


def with_corpus(page: str) -> str:
    """The page with the corpus as it is now."""
    written, begin, _ = page.partition(BEGIN)
    assert begin, f"{PAGE} has lost its line {BEGIN!r}"
    return written + corpus_text()


def _figures_text(figures: dict[str, Any]) -> str:
    withheld = "".join(
        f"| {name} | {_pair(row['ours'])} | {_pair(row['least'])} |\n"
        for name, row in sorted(figures["withheld_chars"].items(), reverse=True)
    )
    costs = "".join(
        f"| {_LANGUAGES[language]} | {cost['us_per_char_in_fragments']} | {cost['fragments_over_baseline']} "
        f"| {cost['us_per_char_in_batches']} | {cost['batches_over_baseline']} |\n"
        for language, cost in figures["cost"].items()
    )
    size, call_ms = figures["fragment_chars"], figures["longest_call"]["longest_call_ms"]
    short, long = figures["growth"][0], figures["growth"][-1]
    return f"""## What is held back, and what it costs

Characters held back after each fragment of {size}, over every second case of the corpus below, and the least
that any front end with the same readings must hold back. "Whole segments" is what an engine gets that wants
whole segments, "in parts" one that begins to speak within a sentence.

| | mean, p99 | the least |
|---|---|---|
{withheld}
CPU time for each character of the corpus, in µs and as a multiple of what a loop of plain Python that looks
for spaces takes:

| | in fragments of {size}: µs | multiple | in pieces of 1024: µs | multiple |
|---|---|---|---|---|
{costs}
The longest call for 1024 characters took {call_ms} ms. In fragments, a text of {long["characters"]:,}
characters costs {long["calls_per_char"]} function calls a character and {long["peak_kib"]:.0f} KiB of memory;
one of {short["characters"]:,} characters {short["calls_per_char"]} and {short["peak_kib"]:.0f} KiB.

`{figures["command"]}` measures it ({figures["machine"]}); the file says how the least is found.
"""


def _pair(row: dict[str, float]) -> str:
    return f"{row['mean']}, {row['p99']}"


def _introduction() -> str:
    counts = Counter(case.language for case in cases())
    listed = ", ".join(f"{counts[language]} {name}" for language, name in _LANGUAGES.items())
    return f"""## The golden corpus

What a person would say, written down before the code was run. Every case is a test (`tests/text_corpus`),
in every split in two, one character at a time, and at random. Where something is read wrongly, a case here is
the place to say so.

{counts.total()} cases: {listed}. ⏎ is a line break; each line of the second column ends with a pause.
"""


def _group_text(group: Group) -> str:
    rows = "".join(f"| {' | '.join(_cells(case))} |\n" for case in group.cases)
    return f"\n### {group.title}\n\n| written | spoken | why |\n|---|---|---|\n{rows}"


def _cells(case: Case) -> Iterator[str]:
    yield f"<code>{_shown(case.source)}</code>"
    yield "<br>".join(_shown(line) for line in case.lines) or "(nothing)"
    yield case.why + "".join(f"; `{name}={value!r}`" for name, value in case.options.items())


def _shown(text: str) -> str:
    return "".join(map(_shown_char, text))


def _shown_char(char: str) -> str:
    if char == "\n":
        return " ⏎ "
    if _MARKUP.match(char):
        return f"&#{ord(char)};"
    hidden = unicodedata.category(char) in ("Cc", "Cf", "Cs", "Mn")
    return f"⟨U+{ord(char):04X}⟩" if hidden else char


if __name__ == "__main__":
    PAGE.write_text(with_corpus(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
