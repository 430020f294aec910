"""What keeping keys and values saves: the flow's work for one utterance, in floating-point operations.

Three ways to make the same mel while it is being spoken, one second at a time, behind a prompt:
cached (each chunk once, the voice's own chunks shared by all its utterances and not counted), recomputed (the whole
prefix for every second), and recomputed with attention that skips what the masks hide. No clock is involved: the
formula is first held against a count of what PyTorch calls at these sizes.

    .venv/bin/python benchmarks/flow_cost.py --json benchmarks/results/flow_cost.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from flow_count import Counter, Work, chunk_work, whole_work

from cosyduplex_server.models.config import CHUNK_TOKENS, LOOKAHEAD_TOKENS, TOKENS_PER_S, FlowConfig

PROMPT_TOKENS = 87  # a prompt of 3.5 s
SECONDS = (1, 2, 5, 10, 20, 30, 60)
UPSTREAM_HOPS = (25, 50, 100)  # and 100 from then on


def cached_work(config: FlowConfig, prompt: int, speech: int) -> Work:
    """All chunks after those that hold nothing but the voice."""
    first = max(0, prompt - LOOKAHEAD_TOKENS) // CHUNK_TOKENS
    work = Work()
    for chunk, begin in enumerate(range(0, prompt + speech, CHUNK_TOKENS)):
        if chunk >= first:
            work += chunk_work(config, min(CHUNK_TOKENS, prompt + speech - begin), chunk)
    return work


def recomputed_work(
    config: FlowConfig,
    prompt: int,
    speech: int,
    *,
    hops: tuple[int, ...] = (CHUNK_TOKENS,),
    skip_hidden: bool,
) -> Work:
    """The prefix at every hop, whole chunks, and once more at the end."""
    total, work = prompt + speech, Work()
    end = prompt + -prompt % CHUNK_TOKENS
    growing = iter(hops)
    hop = next(growing)
    while (end := end + hop) + LOOKAHEAD_TOKENS <= total:
        work += whole_work(config, end, skip_hidden=skip_hidden)
        hop = next(growing, hop)
    return work + whole_work(config, total, skip_hidden=skip_hidden)


def second_work(config: FlowConfig, prompt: int, second: int) -> Work:
    """The cached chunk in which the given second of speech ends, the first being 1."""
    return chunk_work(config, CHUNK_TOKENS, (prompt + second * TOKENS_PER_S - 1) // CHUNK_TOKENS)


def measure(config: FlowConfig, prompt: int = PROMPT_TOKENS) -> dict[str, Any]:
    """The figures of all lengths."""
    rows = []
    for seconds in SECONDS:
        speech = seconds * TOKENS_PER_S
        cached = cached_work(config, prompt, speech).total
        ways = {
            "recomputed": recomputed_work(config, prompt, speech, skip_hidden=False),
            "recomputed_skipping_hidden": recomputed_work(config, prompt, speech, skip_hidden=True),
            "recomputed_at_upstreams_hops": recomputed_work(
                config, prompt, speech, hops=UPSTREAM_HOPS, skip_hidden=False
            ),
        }
        rows.append(
            {"seconds": seconds, "cached_gflop": round(cached / 1e9, 1)}
            | {f"{way}_gflop": round(work.total / 1e9, 1) for way, work in ways.items()}
            | {f"{way}_ratio": round(work.total / cached, 2) for way, work in ways.items()}
        )
    fifth, sixtieth = (second_work(config, prompt, second).total for second in (5, 60))
    return {
        "prompt_tokens": prompt,
        "utterances": rows,
        "second_5_gflop": round(fifth / 1e9, 1),
        "second_60_gflop": round(sixtieth / 1e9, 1),
        "second_60_over_second_5": round(sixtieth / fifth, 3),
    }


def check(config: FlowConfig) -> list[dict[str, Any]]:
    """Holds the formula against the count, at two solver steps so that it takes a minute and not an hour.

    Raises:
        AssertionError: they differ, by however little.
    """
    config = replace(config, num_steps=2)
    counter = Counter(config, max_tokens=4 * CHUNK_TOKENS, device="meta")
    checked = []
    for name, counted, expected in (
        ("first chunk", counter.chunk(25, 0), chunk_work(config, 25, 0)),
        ("last chunk of 12 tokens behind 3", counter.chunk(12, 3), chunk_work(config, 12, 3)),
        ("whole 60 tokens", counter.whole(60), whole_work(config, 60, skip_hidden=False)),
    ):
        assert counted == expected, f"{name}: counted {counted}, expected {expected}"
        checked.append({"what": name, "linear": counted.linear, "attention": counted.attention})
    return checked


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="writes the figures here too")
    options = parser.parse_args()
    config = FlowConfig()
    result = {
        "command": "benchmarks/flow_cost.py --json benchmarks/results/flow_cost.json",
        "torch": torch.__version__.partition("+")[0],
        "model": "CosyVoice2-0.5B's flow",
        "formula_equals_count_at_two_solver_steps": check(config),
        **measure(config),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
