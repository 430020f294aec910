"""The campaign as a picture; needs matplotlib, which nothing else here does."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from cosyduplex_server.bench.stalls import CAUSES

_COLOURS = {"text": "#8da0cb", "compute": "#fc8d62", "gateway": "#e31a1c", "unattributed": "#999999"}


class PlotUnavailable(Exception):
    """No picture can be drawn on this machine; the text says what to do."""


def load_library() -> Any:
    """matplotlib's figure module, without a display.

    Raises:
        PlotUnavailable: it is not installed.
    """
    try:
        return importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError:
        raise PlotUnavailable("matplotlib is not installed: run `pip install 'cosyduplex[bench]'`") from None


def draw(
    library: Any, report: dict[str, Any], first_audio_ms: Mapping[str, Sequence[float]], path: str
) -> None:
    """Writes the picture: time to first audio, holes by cause, the campaign's course.

    Args:
        library: what `load_library` returned.
        report: the report.
        first_audio_ms: all times to first audio, by how they are called.
        path: of the PNG file.
    """
    figure = library.Figure(figsize=(13, 4.2), layout="constrained")
    latency, holes, course = figure.subplots(1, 3)
    _draw_latency(latency, first_audio_ms)
    _draw_holes(holes, report["playback"])
    _draw_course(course, report["course"])
    settings = report["settings"]
    figure.suptitle(
        f"{report['sessions']} sessions, {settings['tokens_per_s']:g} tokens/s, {settings['codec']}, "
        f"engine {report['server'].get('engine', '?')}" + ("" if report["valid"] else " – NOT VALID")
    )
    figure.savefig(path, dpi=110)


def _draw_latency(axes: Any, first_audio_ms: Mapping[str, Sequence[float]]) -> None:
    for name, values in first_audio_ms.items():
        if values:
            axes.ecdf(values, label=name)
    axes.set(title="Time to first audio", xlabel="ms", ylabel="share of texts", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if any(first_audio_ms.values()):
        axes.set_xlim(left=0)
        axes.legend(loc="lower right")


def _draw_holes(axes: Any, playback: Sequence[dict[str, Any]]) -> None:
    names = [f"{entry['jitter_buffer_ms']} ms" for entry in playback]
    bottom = [0.0] * len(playback)
    for cause in CAUSES:
        shares = [(entry["underrun_share"][cause] or 0.0) * 100 for entry in playback]
        if cause != "unattributed" or any(shares):
            axes.bar(names, shares, bottom=bottom, label=cause, color=_COLOURS[cause])
        bottom = [low + share for low, share in zip(bottom, shares, strict=True)]
    axes.set(title="Slots without audio, by cause", xlabel="jitter buffer", ylabel="% of slots")
    axes.set_ylim(0, max(0.1, max(bottom, default=0) * 1.15))
    axes.legend()


def _draw_course(axes: Any, course: Sequence[dict[str, Any]]) -> None:
    at_s = [second["at_s"] for second in course]
    axes.plot(at_s, [second["sessions"] for second in course], label="sessions")
    axes.plot(at_s, [second["speaking"] for second in course], label="texts in hand")
    axes.plot(at_s, [second["stalls"] for second in course], label="stalls so far", color="#e31a1c")
    axes.plot(at_s, [second["errors"] for second in course], label="errors so far", color="black", ls=":")
    axes.set(title="The campaign", xlabel="s", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
