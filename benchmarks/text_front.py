"""What the text front end withholds, against the least that any front end must, and what it costs.

Held back: code points that have been appended and are neither handed on nor silent, after each piece of 4 characters
of every second case of the golden corpus (tests/text_corpus): each piece takes a hundred readings.

The least: a front end that reads complete texts as ours does must withhold, after a prefix, whatever is read
differently when the prefix is continued in different ways. Its continuations here are those of all cases that begin
with the prefix, and a list of tails that people do write after anything (TAILS), the end of the text among them. What
all of these readings, each computed on the complete text, have in common from the beginning is what could have been
handed on; what is withheld is counted from the first source character of the rest. More continuations can only make
the least greater, so it is a lower bound. It is taken twice: for whole segments, which is what an engine that needs
whole segments gets, and for characters, which no front end can beat at all; ours is held against it in parts.

Costs: CPU time, as a ratio to a loop of plain Python that is timed in turn with it, because the same machine is twice
as slow at another hour; calls of functions and peak memory, which do not depend on the machine.

    .venv/bin/python benchmarks/text_front.py --json benchmarks/results/text_front.json
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import re
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from text_corpus.corpus import Case, cases, take_all

from cosyduplex_server.text.front import Segment, TextFrontEnd, warm
from cosyduplex_server.text.speakable import CJK

FRAGMENT_CHARS = 4
BATCH_CHARS = 1024  # the most that one call reads
REPEATS = 5
BASELINE_RUNS = 300
WARM_UP_CHARS = 250_000
GROWTH_CHARS = (62_500, 625_000)  # the longer is a megabyte
WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}]+|[^\w\s]|_")
TAILS = (
    # the end, breaks, punctuation
    *(
        "",
        "\n",
        "\n\n",
        " ",
        ".",
        ". Then",
        ", then",
        "...",
        "!",
        "? ",
        ":",
        "; and",
        ")",
        '"',
        "'s",
        "-",
        "–",
    ),
    *("。", "，", "、", "！", "：", "；", "……", "”", "）", "—"),
    # words go on, or end
    *("a", "s", "th", "xyz", " and then", " The end.", "的", "好", "你好。", "A", " I", "I ", "V"),
    # numbers go on, get a unit, become a date, a time, an amount, an address
    *(
        "0",
        "5",
        "50",
        ".5",
        ",000",
        "/2",
        ":30",
        "-3",
        "~9",
        "%",
        "°C",
        "km",
        " km/h",
        " pm",
        " am",
        "x",
        "k",
        "M",
    ),
    *(
        " million",
        " and a half",
        "年",
        "月",
        "日",
        "点",
        "个",
        "元",
        "万",
        "亿",
        "岁",
        "号",
        "分",
        "-01-15",
        "/12/25",
    ),
    *("@a.org", ".com", ".com/x", "://a.org", ".py", "$5", " 1234", ", 2024", "+1", "=2", " = 4"),
    # markup goes on
    *(
        "*",
        "**",
        "_",
        "`",
        "```\n",
        "~~",
        "](u)",
        "]",
        "[1]",
        "|",
        "| b |\n",
        "<br>",
        ">",
        "<|im_end|>",
        "#",
        "\\",
    ),
    *("</think>", "-->", "\ufe0f", "\u20e3", "\u200d", "😀", "\u0301", "&amp;", ";"),
)


# --- What is withheld


def read(text: str, case: Case) -> list[Segment]:
    """The reading of a complete text."""
    front = TextFrontEnd(**case.options)
    front.append(text)
    front.end()
    return take_all(front)


def withheld(case: Case, *, in_parts: bool) -> list[int]:
    """Characters held back after each fragment."""
    front = TextFrontEnd(**case.options)
    front.in_parts = in_parts
    held = []
    for at in range(0, len(case.source), FRAGMENT_CHARS):
        front.append(case.source[at : at + FRAGMENT_CHARS])
        take_all(front)
        held.append(front.pending_chars)
    return held


def least_withheld(case: Case, corpus: list[Case]) -> Iterator[tuple[int, int]]:
    """After each fragment the least that must be held back: of whole segments, and of words."""
    for at in range(0, len(case.source), FRAGMENT_CHARS):
        prefix = case.source[: at + FRAGMENT_CHARS]
        texts = {prefix + tail for tail in TAILS}
        texts |= {
            other.source
            for other in corpus
            if other.source.startswith(prefix) and other.options == case.options
        }
        readings = [read(text, case) for text in texts]
        segments = min(
            (_first_difference(readings[0], reading) for reading in readings[1:]), default=len(readings[0])
        )
        yield (
            _held(prefix, [_segment_start(reading, segments) for reading in readings]),
            _held(prefix, _word_starts([_words(reading) for reading in readings])),
        )


def _first_difference(left: list[Any], right: list[Any]) -> int:
    """The length of the beginning that two lists share."""
    shortest = min(len(left), len(right))
    return next((at for at in range(shortest) if left[at] != right[at]), shortest)


def _segment_start(reading: list[Segment], number: int) -> int | None:
    return reading[number].source_start if number < len(reading) else None


def _words(reading: list[Segment]) -> list[tuple[str, int]]:
    """What is spoken, word by word, with its place; where a segment ends is not part of it."""
    return [
        (word[0], segment.offsets[word.start()])
        for segment in reading
        for word in WORD.finditer(segment.text)
    ]


def _word_starts(readings: list[list[tuple[str, int]]]) -> list[int | None]:
    common = min(
        (_first_difference(readings[0], reading) for reading in readings[1:]), default=len(readings[0])
    )
    return [reading[common][1] if common < len(reading) else None for reading in readings]


def _held(prefix: str, starts: list[int | None]) -> int:
    """Code points of the prefix from the first that is read in one of the ways, but not in all, on.

    Where a reading goes on with a character of its tail, nothing of the prefix is withheld for it.
    """
    within = [start for start in starts if start is not None and start < len(prefix)]
    return len(prefix) - min(within) if within else 0


def figures(values: list[int]) -> dict[str, float]:
    """Mean, p99 and the largest."""
    ordered = sorted(values)
    return {
        "steps": len(values),
        "mean": round(statistics.fmean(values), 2),
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[math.ceil(len(ordered) * 0.99) - 1],
        "max": ordered[-1],
    }


def measure_withheld(corpus: list[Case]) -> dict[str, Any]:
    """Ours against the least, for whole segments and in parts, in all and for each language."""
    rows: dict[str, dict[str, list[int]]] = {}
    for case in corpus[::2]:
        least = list(least_withheld(case, corpus))
        found = {
            "whole segments": (withheld(case, in_parts=False), [segments for segments, _ in least]),
            "in parts": (withheld(case, in_parts=True), [chars for _, chars in least]),
        }
        for manner, (ours, bound) in found.items():
            for language in ("all", case.language):
                row = rows.setdefault(f"{manner}, {language}", {"ours": [], "least": []})
                row["ours"] += ours
                row["least"] += bound
    return {
        name: {
            "ours": figures(row["ours"]),
            "least": figures(row["least"]),
            "mean_excess": round(statistics.fmean(row["ours"]) - statistics.fmean(row["least"]), 2),
        }
        for name, row in rows.items()
    }


# --- What it costs


def baseline(text: str) -> int:
    """A loop of plain Python over the characters: what CPU times are divided by."""
    spaces = 0
    for char in text:
        if char == " ":
            spaces += 1
    return spaces


def feed(text: str, size: int, **options: Any) -> TextFrontEnd:
    """Appends the text in pieces, taking all that is certain after each."""
    front = TextFrontEnd(**options)
    for at in range(0, len(text), size):
        front.append(text[at : at + size])
        while front.next() is not None or front.busy:
            pass
    return front


def cpu_s(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def measure_cost(text: str, **options: Any) -> dict[str, float]:
    """CPU time for each character, in fragments and in the largest pieces one call reads."""
    gc.collect()
    timed: dict[str, list[float]] = {"baseline": [], "fragments": [], "batches": []}
    for _ in range(REPEATS):
        timed["baseline"].append(
            cpu_s(lambda: [baseline(text) for _ in range(BASELINE_RUNS)]) / BASELINE_RUNS
        )
        timed["fragments"].append(cpu_s(lambda: feed(text, FRAGMENT_CHARS, **options)))
        timed["batches"].append(cpu_s(lambda: feed(text, BATCH_CHARS, **options)))
    best = {name: min(values) for name, values in timed.items()}
    us = {name: seconds / len(text) * 1e6 for name, seconds in best.items()}
    return {
        "characters": len(text),
        "us_per_char_in_fragments": round(us["fragments"], 2),
        "us_per_fragment": round(us["fragments"] * FRAGMENT_CHARS, 1),
        "us_per_char_in_batches": round(us["batches"], 2),
        "baseline_us_per_char": round(us["baseline"], 4),
        "fragments_over_baseline": round(us["fragments"] / us["baseline"]),
        "batches_over_baseline": round(us["batches"] / us["baseline"]),
    }


def measure_longest_call(corpus: list[Case]) -> dict[str, float | str]:
    """The longest call of `next` with 1024 characters of each case, over and over, in CPU time."""
    warm()
    longest_ms, worst = 0.0, ""
    for case in corpus:
        text = (case.source * (BATCH_CHARS // len(case.source) + 1))[:BATCH_CHARS]
        best = _longest_call_ms(text, case.options)
        for _ in range(2):  # another process may have had the core's caches
            if best > longest_ms:
                best = min(best, _longest_call_ms(text, case.options))
        if best > longest_ms:
            longest_ms, worst = best, case.id
    return {"longest_call_ms": round(longest_ms, 2), "case": worst}


def _longest_call_ms(text: str, options: dict[str, Any]) -> float:
    front = TextFrontEnd(**options)
    front.append(text)
    longest = 0.0
    while front.busy:
        began = time.process_time()
        front.next()
        longest = max(longest, time.process_time() - began)
    return longest * 1e3


def calls_of(work: Callable[[], Any]) -> int:
    """How many functions are called."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def peak_bytes(text: str) -> int:
    """What the front end holds at most while the text is fed to it, the text itself not counted."""
    feed(text[:WARM_UP_CHARS], FRAGMENT_CHARS)  # the interpreter keeps small objects for use again
    tracemalloc.start()
    feed(text, FRAGMENT_CHARS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def measure_growth(corpus: list[Case]) -> list[dict[str, float]]:
    """Function calls and memory for a short text and a long one."""
    body = (
        "\n\n".join(case.source for case in corpus if not case.options and "<think>" not in case.source)
        + "\n\n"
    )
    rows = []
    for num_chars in GROWTH_CHARS:
        text = (body * (num_chars // len(body) + 1))[:num_chars]
        calls = calls_of(lambda text=text: feed(text, FRAGMENT_CHARS))  # type: ignore[misc]
        rows.append(
            {
                "characters": num_chars,
                "calls_per_char": round(calls / num_chars, 2),
                "peak_kib": round(peak_bytes(text) / 1024, 1),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    corpus = [case for case in cases() if case.source]
    texts = {
        language: "\n\n".join(
            case.source for case in corpus if case.language == language and not case.options
        )
        for language in ("zh", "en", "mixed")
    }
    found = {
        "command": ".venv/bin/python benchmarks/text_front.py --json benchmarks/results/text_front.json",
        "machine": f"{platform.machine()}, Python {platform.python_version()}; times are CPU time, minimum of {REPEATS}",
        "corpus_cases": len(corpus),
        "fragment_chars": FRAGMENT_CHARS,
        "tails": len(TAILS),
        "withheld_chars": measure_withheld(corpus),
        "cost": {language: measure_cost(text) for language, text in texts.items()},
        "cost_without_normalising": {
            language: measure_cost(text, normalize=False) for language, text in texts.items()
        },
        "longest_call": measure_longest_call(corpus),
        "growth": measure_growth(corpus),
    }
    printed = json.dumps(found, indent=1, ensure_ascii=False)
    print(printed)
    if arguments.json:
        arguments.json.write_text(printed + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
