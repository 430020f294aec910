"""Makes docs/performance.md and its plots from the committed results: no figure there is typed by hand.

    .venv-clients/bin/python benchmarks/report.py

Needs matplotlib (the extra `bench`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
IMAGES = ROOT / "docs" / "images"


def main() -> None:
    gateway = json.loads((RESULTS / "gateway.json").read_text())
    blocks = json.loads((RESULTS / "loop_blocks.json").read_text())
    loads = sorted(
        (json.loads(file.read_text()) for file in RESULTS.glob("load-*.json")),
        key=lambda load: load["settings"]["sessions"],
    )
    IMAGES.mkdir(parents=True, exist_ok=True)
    plot_gateway(gateway)
    page = PAGE.format(
        gateway_command=gateway["command"],
        gateway_table=gateway_table(gateway),
        fragments=fragments(gateway),
        idle_kb=f"{gateway['idle_session_kb']:.1f}",
        opus=opus(gateway),
        load_table=load_table(loads),
        blocks_command=blocks["command"],
        blocks_table=blocks_table(blocks),
        load_sizes=" ".join(str(load["settings"]["sessions"]) for load in loads),
        largest=largest(loads),
        machine=f"{gateway['machine']['cpus']} shared cores, Python {gateway['machine']['python']}",
    )
    (ROOT / "docs" / "performance.md").write_text(page)


def gateway_table(gateway: dict[str, Any]) -> str:
    lines = [
        "| server | streams | codec | ahead | × node `ws` | CPU-s per 1,000 stream-s (all runs) | delivered |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in gateway["streams"]:
        runs = ", ".join(f"{value:.2f}" for value in row["all_cpu_s_per_1000_stream_s"])
        ahead = f"{row['max_ahead_ms']} ms" if row["max_ahead_ms"] else "–"
        lines.append(
            f"| {row['server']} | {row['streams']} | {row['codec']} | {ahead} | "
            f"**{row['ratio_to_node_ws']:.2f}** | {runs} | {row['delivered']:.0%} |"
        )
    return "\n".join(lines)


def fragments(gateway: dict[str, Any]) -> str:
    return "; ".join(
        f"{seconds * 1000:.0f} µs each at {per_s} a second"
        for per_s, seconds in gateway["cpu_s_per_1000_fragments"].items()
    )


def opus(gateway: dict[str, Any]) -> str:
    row = next(row for row in gateway["streams"] if row["codec"] == "opus")
    return f"{row['cpu_s_per_1000_stream_s']:.1f}"


def load_table(loads: list[dict[str, Any]]) -> str:
    lines = [
        "| sessions | streams heard | slots | gateway-caused | text-caused | compute-caused | stall-free of gateway "
        "and compute | TTFA from enough text p50 / p95 / p99 | server CPU per audio-second | valid |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for load in loads:
        heard = load["playback"][0]
        ttfa = load["ttfa_enough_ms"]
        share = heard["underrun_share"]
        free = heard["stall_free_share"]
        cpu = load["server_cpu"]
        lines.append(
            f"| {load['settings']['sessions']} | {heard['streams']} | {heard['slots']} | "
            f"{share['gateway']:.4%} | {share['text']:.3%} | {share['compute']:.4%} | "
            f"{min(free.get('gateway', 1.0), free.get('compute', 1.0)):.1%} | "
            f"{ttfa['p50']:.0f} / {ttfa['p95']:.0f} / {ttfa['p99']:.0f} ms | "
            f"{cpu_of(cpu)} | {'yes' if load['valid'] else 'no: generator saturated'} |"
        )
    return "\n".join(lines)


def cpu_of(cpu: dict[str, Any] | None) -> str:
    if not cpu:
        return "–"
    value = cpu["cpu_s_per_audio_s"]
    return "–" if value is None else f"{value * 1000:.2f} ms"


def blocks_table(blocks: dict[str, Any]) -> str:
    lines = [
        "| codec | streams | callbacks | p99 | p99.99 | longest | over 5 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['codec']} | {row['streams']} | {row['callbacks']:,} | {row['p99_ms']:.2f} ms | "
        f"{row['p99_99_ms']:.2f} ms | {row['max_ms']:.1f} ms | {row['over_5_ms']} |"
        for row in blocks["rows"]
    ]
    return "\n".join(lines)


def largest(loads: list[dict[str, Any]]) -> str:
    holding = [load["settings"]["sessions"] for load in loads if holds(load)]
    return str(max(holding)) if holding else "none of those tried"


def holds(load: dict[str, Any]) -> bool:
    """The rule of the page, for a listener without a jitter buffer."""
    share = load["playback"][0]["underrun_share"]
    return (
        load["valid"]
        and not load["errors"]
        and share["gateway"] < 0.001
        and share["compute"] < 0.001
        and load["ttfa_enough_ms"]["p95"] <= 300
    )


def plot_gateway(gateway: dict[str, Any]) -> None:
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    names = ["node ws", "node ws, 100 ms bursts", "websockets", "cosyduplex"]
    sizes = sorted({row["streams"] for row in gateway["streams"]})
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        rows = [
            next(
                row
                for row in gateway["streams"]
                if row["server"] == name
                and row["streams"] == size
                and row["codec"] == "pcm_s16le"
                and row["max_ahead_ms"] in (None, 3000)
            )
            for size in sizes
        ]
        places = [place + number * width for place in range(len(sizes))]
        bars = axes.bar(places, [row["ratio_to_node_ws"] for row in rows], width, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(
        [place + 1.5 * width for place in range(len(sizes))], [f"{size} streams" for size in sizes]
    )
    axes.axhline(1.0, color="gray", linewidth=0.8)
    axes.set_ylabel("CPU, × node ws of the same run")
    axes.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(IMAGES / "gateway-cpu.png", dpi=120)


PAGE = """\
# Performance

Made by `benchmarks/report.py` from `benchmarks/results/`; change neither by hand. Taken on {machine}, without a
GPU. Timings of a shared machine are noisy: read the ratios, which are against something run in the same
minutes. What the engine costs is not here: the engine of these runs follows a script.

## What a listener costs the gateway

    {gateway_command}

Streams of 20 ms frames, PCM at 24 kHz. The servers take turns in one run, pinned to core 0, the load to core 1;
the least of the runs counts. A stream-second is one second of audio delivered. *node ws* and *websockets* send a
canned frame on a timer and do nothing else; *cosyduplex* takes text, asks its worker, paces, numbers, logs for
replay and frames. It may run 3 s ahead of the listener and uses that to write several frames at once, as *node
ws, 100 ms bursts* does for comparison; with 200 ms ahead it writes small.

{gateway_table}

![CPU of 20 ms PCM frames as a ratio to node ws](images/gateway-cpu.png)

- **Opus**, speech profile (48 kb/s, complexity 5), all of the gateway's work included: {opus} ms CPU per
  audio-second, encoded in threads.
- **Text**: {fragments}, with the audio they become included (100 sessions).
- **An idle session**: {idle_kb} KB of memory.

**What limits next**, by a sampling profile of 300 PCM streams: socket writes, reading chunks from the link, cutting
them into frames, and asyncio's own bookkeeping, in this order and none far ahead of the next. For text it is the
cost of one small message: receiving, decoding, and looking at the session's contexts.

## How long the event loop is held

    {blocks_command}

CPU time of single callbacks of the gateway's loop, from the first connection on, all at once, with text coming in all
the time and five texts of 80,000 characters at the end. Starting and draining are not in it.

{blocks_table}

## Listeners of a language model

    benchmarks/load.sh {load_sizes}

`cosyduplex bench` ([how it measures](bench.md)): texts of 4 to 12 s written at 20 tokens a second with jitter and
bursts, heard without any jitter buffer, 20 s of arrivals a run. Server and scripted worker share core 0, the
generator has core 1. *Text-caused* holes are the writer's: nothing to say had come yet.

{load_table}

The largest number tried that holds (gateway- and compute-caused holes below 0.1 % of slots each, first audio from
enough text within 300 ms for 95 %, no errors, generator not saturated): **{largest}**. Beyond it the core that
server and worker share is full; which of the two was late then cannot be told apart for certain, so read the two
columns together.
"""

if __name__ == "__main__":
    main()
