"""What came of a campaign: percentiles, the JSON document, the table for the terminal."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import cosyduplex
from cosyduplex_server.bench.load import Campaign
from cosyduplex_server.bench.probe import Reading
from cosyduplex_server.bench.settings import JITTER_BUFFERS_MS, SLOT_MS
from cosyduplex_server.bench.stalls import CAUSES, Blame, ServerUnderruns
from cosyduplex_server.bench.turn import TurnResult

SCHEMA = "cosyduplex.bench/1"

# Beyond these the generator itself is what is measured.
MAX_CPU_SHARE = 0.9
MAX_LAG_P99_MS = SLOT_MS / 2
# Longest hole a listener may have met, as other projects publish it.
CONTINUITY_MS = (50, 100, 200)


@dataclass(frozen=True, slots=True)
class Readings:
    """The server's counters around a campaign."""

    before: Reading
    after: Reading


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The percentile of ordered values, between two of them in proportion.

    Raises:
        ValueError: there are no values.
    """
    if not ordered:
        raise ValueError("no values")
    rank = (len(ordered) - 1) * percent / 100
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def distribution(values: Iterable[float], digits: int = 1) -> dict[str, float] | None:
    """Count, percentiles, extremes and mean; None without values."""
    ordered = sorted(values)
    if not ordered:
        return None
    figures = {
        "p50": percentile(ordered, 50),
        "p95": percentile(ordered, 95),
        "p99": percentile(ordered, 99),
        "min": ordered[0],
        "max": ordered[-1],
        "mean": math.fsum(ordered) / len(ordered),
    }
    return {"count": len(ordered), **{name: round(value, digits) for name, value in figures.items()}}


def build(
    campaign: Campaign,
    readings: Readings,
    server: dict[str, Any],
    command: Sequence[str],
    began_at: datetime,
) -> dict[str, Any]:
    """The whole report, as `docs/bench.md` describes it."""
    results = campaign.results
    outcomes = Counter(result.outcome for result in results)
    generator = _generator(campaign)
    audio_s = math.fsum(result.audio_s for result in results)
    return {
        "schema": SCHEMA,
        "valid": not generator["saturated"],
        "command": list(command),
        "began_at": began_at.isoformat(timespec="seconds"),
        "elapsed_s": round(campaign.elapsed_s, 3),
        "stopped_early": campaign.is_stopped,
        "environment": _environment(),
        "server": server,
        "settings": asdict(campaign.settings),
        "sessions": campaign.sessions_begun,
        "texts": {
            "begun": len(results),
            **{name: outcomes[name] for name in ("done", "cancelled", "failed", "cut")},
        },
        "errors": dict(campaign.errors.most_common()),
        **_first_audio(results),
        "playback": _playback(results, readings, in_parts=server.get("text_streaming") is True),
        "server_underruns": _server_underruns(readings),
        "stop": _stop(campaign),
        "rtf": _rtf(campaign),
        "audio_s": round(audio_s, 3),
        "audio_s_per_s": round(audio_s / campaign.elapsed_s, 3),
        "characters": sum(result.num_chars for result in results),
        "frames": campaign.frames,
        "bytes_received": campaign.bytes_received,
        "bytes_sent": campaign.bytes_sent,
        "server_cpu": _server_cpu(readings, audio_s),
        "generator": generator,
        "course": [asdict(second) for second in campaign.course],
    }


def _environment() -> dict[str, Any]:
    return {
        "cosyduplex": cosyduplex.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "cpus_of_generator": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def times_to_first_audio_ms(results: Iterable[TurnResult]) -> dict[str, list[float]]:
    """`ttfa_text` of every text with audio, `ttfa_enough` and `text_wait` of those the server told about."""
    times: dict[str, list[float]] = {"ttfa_text": [], "ttfa_enough": [], "text_wait": []}
    for result in results:
        ttfa_s, wait_s = result.ttfa_text_s, result.text_wait_s
        if ttfa_s is None:
            continue
        times["ttfa_text"].append(ttfa_s * 1000)
        if wait_s is not None:
            # The server's clock says how long it waited, ours the rest: the way there and back is in it.
            times["ttfa_enough"].append(max(0.0, ttfa_s - wait_s) * 1000)
            times["text_wait"].append(wait_s * 1000)
    return times


def _first_audio(results: Sequence[TurnResult]) -> dict[str, Any]:
    times = times_to_first_audio_ms(results)
    return {
        **{f"{name}_ms": distribution(values) for name, values in times.items()},
        "first_audio_ms": distribution(
            result.first_audio_ms for result in results if result.ttfa_text_s is not None
        ),
    }


# --- playback


def _server_underruns(readings: Readings) -> dict[str, float] | None:
    seen = readings.after.underruns_since(readings.before)
    return None if seen is None else asdict(seen)


def _playback(results: Sequence[TurnResult], readings: Readings, *, in_parts: bool) -> list[dict[str, Any]]:
    """One entry for each jitter buffer."""
    heard = [result for result in results if result.ttfa_text_s is not None]
    seen = readings.after.underruns_since(readings.before)
    blames = [result.blames(in_parts=in_parts) for result in heard]
    return [
        _listening(heard, [blame[index] for blame in blames], index, seen)
        for index in range(len(JITTER_BUFFERS_MS))
    ]


def _listening(
    heard: Sequence[TurnResult], blames: Sequence[Blame], index: int, seen: ServerUnderruns | None
) -> dict[str, Any]:
    stalls_ms = [[stall.num_slots * SLOT_MS for stall in result.playbacks[index].stalls] for result in heard]
    by_cause = dict.fromkeys(CAUSES, 0.0)
    streams_hit = dict.fromkeys(CAUSES, 0)
    for blame in blames:
        for cause, slots in blame.split(seen).items():
            by_cause[cause] += slots
            streams_hit[cause] += slots > 0
    missed = sum(by_cause.values())
    slots = sum(result.playbacks[index].heard_slots for result in heard) + missed
    worst = [max(stalls, default=0) for stalls in stalls_ms]
    audio_min = max(slots - missed, 1) * SLOT_MS / 60_000
    return {
        "jitter_buffer_ms": JITTER_BUFFERS_MS[index],
        "streams": len(heard),
        "slots": round(slots),
        "underrun_slots": {"all": round(missed), **{name: round(n, 1) for name, n in by_cause.items()}},
        "underrun_share": _shares({"all": missed, **by_cause}, slots),
        "stall_free_share": {
            "all": _share(sum(not stalls for stalls in stalls_ms), len(heard)),
            **{cause: _share(len(heard) - hit, len(heard)) for cause, hit in streams_hit.items()},
        },
        "stalls": sum(map(len, stalls_ms)),
        "stall_ms": distribution(ms for stalls in stalls_ms for ms in stalls),
        "stall_ms_per_audio_minute": round(missed * SLOT_MS / audio_min, 2),
        "continuity": {
            f"c{limit}": _share(sum(ms <= limit for ms in worst), len(worst)) for limit in CONTINUITY_MS
        },
    }


def _shares(parts: dict[str, float], whole: float) -> dict[str, float | None]:
    return {name: _share(part, whole) for name, part in parts.items()}


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole else None


# --- the rest


def _stop(campaign: Campaign) -> dict[str, Any]:
    cancelled = [result for result in campaign.results if result.outcome == "cancelled"]
    return {
        "last_frame_ms": distribution(
            result.stop_audio_s * 1000 for result in cancelled if result.stop_audio_s is not None
        ),
        "acknowledged_ms": distribution(
            result.stop_ack_s * 1000 for result in cancelled if result.stop_ack_s is not None
        ),
        "frames_after_end": campaign.late_frames,
    }


def _rtf(campaign: Campaign) -> dict[str, float] | None:
    if not campaign.settings.measures_speed:
        return None
    return distribution(
        (
            (result.ended_s - result.began_s) / result.audio_s
            for result in campaign.results
            if result.outcome == "done" and result.audio_s
        ),
        digits=5,
    )


def _server_cpu(readings: Readings, audio_s: float) -> dict[str, Any] | None:
    cpu_s = readings.after.cpu_since(readings.before)
    if cpu_s is None or not audio_s:
        return None
    return {
        "cpu_s": round(cpu_s, 3),
        "cpu_s_per_audio_s": round(cpu_s / audio_s, 6),
        "source": readings.after.cpu_source,
    }


def _generator(campaign: Campaign) -> dict[str, Any]:
    lags = distribution((lag_s * 1000 for lag_s in campaign.lags_s), digits=2)
    cpu_share = campaign.own_load.cpu_share
    reasons = []
    if cpu_share > MAX_CPU_SHARE:
        reasons.append(f"it used {cpu_share:.0%} of a core")
    if lags is not None and lags["p99"] > MAX_LAG_P99_MS:
        reasons.append(f"its event loop was {lags['p99']:.0f} ms late (p99)")
    return {
        "cpu_s": round(campaign.own_load.cpu_s, 3),
        "cpu_share": round(cpu_share, 4),
        "loop_lag_ms": lags,
        "saturated": bool(reasons),
        "why": "; ".join(reasons),
    }


# --- the terminal


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [_headline(report), ""]
    lines += _latency_lines(report)
    lines += ["", *_playback_lines(report["playback"]), ""]
    lines += _resource_lines(report)
    if not report["valid"]:
        lines += ["", f"GENERATOR SATURATED: figures not valid ({report['generator']['why']})"]
    return "\n".join(lines)


def _headline(report: dict[str, Any]) -> str:
    texts, server = report["texts"], report["server"]
    engine = f"{server.get('engine', '?')} {server.get('engine_version', '')}".strip()
    return (
        f"{report['sessions']} sessions, {texts['begun']} texts in {report['elapsed_s']:.1f} s on {engine}: "
        f"{texts['done']} done, {texts['cancelled']} cancelled, {texts['failed']} failed, {texts['cut']} cut"
        + (" (stopped early)" if report["stopped_early"] else "")
    )


def _latency_lines(report: dict[str, Any]) -> list[str]:
    stop = report["stop"]
    rows = [
        ("ttfa_text ms", report["ttfa_text_ms"]),
        ("ttfa_enough ms", report["ttfa_enough_ms"]),
        ("first audio, length ms", report["first_audio_ms"]),
        ("cancel to last frame ms", stop["last_frame_ms"]),
        ("cancel to answer ms", stop["acknowledged_ms"]),
        ("rtf", report["rtf"]),
    ]
    lines = [f"{'':24}{'p50':>10}{'p95':>10}{'p99':>10}{'max':>10}{'count':>8}"]
    for name, figures in rows:
        if figures is not None:
            cells = "".join(f"{figures[column]:>10g}" for column in ("p50", "p95", "p99", "max"))
            lines.append(f"{name:24}{cells}{figures['count']:>8}")
    return lines


def _playback_lines(playback: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        f"{'underrun slots':24}{'all':>10}{'text':>10}{'compute':>10}{'gateway':>10}   stall-free streams"
    ]
    for entry in playback:
        missed, share = entry["underrun_slots"], entry["underrun_share"]
        free = entry["stall_free_share"]["all"]
        name = f"jitter buffer {entry['jitter_buffer_ms']} ms"
        cells = "".join(f"{missed[cause]:>10g}" for cause in ("all", "text", "compute", "gateway"))
        lines.append(f"{name:24}{cells}   " + ("–" if free is None else f"{free:.2%} of {entry['streams']}"))
        if entry["slots"]:
            cells = "".join(f"{share[cause]:>10.4%}" for cause in ("all", "text", "compute", "gateway"))
            lines.append(f"{'  of ' + str(entry['slots']):24}{cells}")
        if missed["unattributed"]:
            lines.append(
                f"  compute or gateway, the server's /metrics do not say: {missed['unattributed']:g}"
            )
    return lines


def _resource_lines(report: dict[str, Any]) -> list[str]:
    cpu, generator = report["server_cpu"], report["generator"]
    errors = ", ".join(f"{code} {count}" for code, count in report["errors"].items()) or "none"
    lag = generator["loop_lag_ms"]
    lines = [
        f"audio: {report['audio_s']:.1f} s ({report['audio_s_per_s']:.2f} s/s), "
        f"{report['characters']} characters, {report['frames']} frames, "
        f"{report['bytes_received']} bytes received, {report['bytes_sent']} sent",
        f"errors: {errors}",
    ]
    if cpu is not None:
        lines.append(
            f"server: {cpu['cpu_s_per_audio_s'] * 1000:.2f} ms CPU per audio second ({cpu['source']})"
        )
    if lag is not None:
        lines.append(
            f"generator: {generator['cpu_share']:.0%} of a core, event loop late by "
            f"{lag['p50']:g} / {lag['p99']:g} / {lag['max']:g} ms (p50 / p99 / max)"
        )
    return lines
