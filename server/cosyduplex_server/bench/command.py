"""`cosyduplex bench`: options in, progress while it runs, a table, JSON and a picture at the end."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from cosyduplex_server.bench.settings import Settings, SettingsError

if TYPE_CHECKING:
    from cosyduplex_server.bench.load import Campaign
    from cosyduplex_server.bench.turn import TurnResult

_USAGE_ERROR, _FAILED = 2, 1
_DEFAULT_SESSIONS = 10
_MAX_VOICES = 16
_LINE_EVERY_S = 5
_HOST = re.compile(r"([\w.-]+|\[[\da-fA-F:.]+\])(:\d+)?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add(
        "--url",
        default=os.environ.get("COSYDUPLEX_URL", "http://127.0.0.1:8765"),
        help="the server, as http://127.0.0.1:8765",
    )
    add("--api-key", metavar="KEY", default=os.environ.get("COSYDUPLEX_API_KEY"), help="its key")
    add(
        "--sessions",
        type=int,
        metavar="N",
        help=f"sessions at a time ({_DEFAULT_SESSIONS}); with --arrivals-per-second, in all",
    )
    add(
        "--arrivals-per-second",
        type=float,
        metavar="A",
        help="sessions arrive by chance at this rate, one text each, instead of N being kept busy",
    )
    add("--duration", type=float, metavar="S", help="begin texts for S seconds; else one for each session")
    add(
        "--tokens-per-second",
        type=float,
        default=20.0,
        metavar="R",
        help="pace of the LLM, with jitter and bursts (20); 0 gives each text at once",
    )
    add(
        "--text-seconds",
        type=_seconds,
        default=(2.0, 60.0),
        metavar="A-B",
        help="length of the texts as speech, log-normal between A and B (2-60); one number fixes it",
    )
    add("--language", choices=["en", "zh", "both"], default="both", help="of the texts (both)")
    add(
        "--voices",
        metavar="ID,…",
        help=f"voices by falling popularity (Zipf); the server's first {_MAX_VOICES} when left out",
    )
    add("--codec", choices=["pcm_s16le", "opus"], default="pcm_s16le", help="of the audio (pcm_s16le)")
    add("--sample-rate", type=int, default=24_000, metavar="HZ", help="of the audio (24000)")
    add(
        "--max-ahead-ms",
        type=int,
        metavar="MS",
        help="how far ahead of playback the server sends (3000; 0 with --tokens-per-second 0)",
    )
    add(
        "--cancel-share",
        type=float,
        default=0.0,
        metavar="P",
        help="share of the texts that is interrupted (0)",
    )
    add("--seed", type=int, default=1, metavar="N", help="the same seed draws the same campaign (1)")
    add("--server-pid", type=int, metavar="PID", help="read the server's CPU time of this local process")
    add("--json", metavar="FILE", help="write the report there")
    add("--plot", metavar="FILE.png", help="draw it there (needs matplotlib)")


def _seconds(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not as 2-60 or 10") from None


def run(arguments: argparse.Namespace) -> int:
    """Runs one campaign and returns the exit code."""
    import asyncio
    from http.client import HTTPException

    import orjson

    from cosyduplex_server.bench import plot
    from cosyduplex_server.bench.report import table, times_to_first_audio_ms
    from cosyduplex_server.voices import FetchError

    try:
        plot_library = _check_outputs(arguments)
        report, results = asyncio.run(_measure(arguments))
        print(table(report))
        if arguments.json is not None:
            with open(arguments.json, "wb") as file:
                file.write(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        if plot_library is not None:
            plot.draw(plot_library, report, times_to_first_audio_ms(results), arguments.plot)
    except SettingsError as exc:
        return _complain(str(exc), _USAGE_ERROR)
    except (FetchError, OSError, HTTPException) as exc:
        return _complain(str(exc), _FAILED)
    if report["ttfa_text_ms"] is None:
        return _complain("no audio came: nothing was measured", _FAILED)
    return 0


def _complain(message: str, exit_code: int) -> int:
    print(f"cosyduplex: {message}", file=sys.stderr)
    return exit_code


async def _measure(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[TurnResult]]:
    import asyncio
    import signal
    from datetime import UTC, datetime

    from cosyduplex_server.bench.load import Campaign
    from cosyduplex_server.bench.probe import read_info, read_server
    from cosyduplex_server.bench.report import Readings, build

    url, api_key, pid = http_url(arguments.url), arguments.api_key, arguments.server_pid
    settings = _settings(arguments, url)
    settings = dataclasses.replace(settings, voices=await _voices(arguments, url))
    server = await read_info(url, api_key)
    before = await read_server(url, api_key, pid)
    began_at = datetime.now(UTC)
    campaign = Campaign(settings, api_key)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, campaign.stop)
    progress = Progress(sys.stderr.isatty())
    await campaign.run(progress.show)
    progress.close()
    readings = Readings(before, await read_server(url, api_key, pid))
    report = build(campaign, readings, server, _command(arguments), began_at)
    return report, campaign.results


def _check_outputs(arguments: argparse.Namespace) -> Any:
    """Finds out before the campaign whether its results can be written.

    Returns:
        What draws; None when nothing is to be drawn, or can be.

    Raises:
        OSError: a file cannot be written.
    """
    from cosyduplex_server.bench import plot

    if arguments.json is not None:
        open(arguments.json, "ab").close()
    if arguments.plot is None:
        return None
    try:
        library = plot.load_library()
    except plot.PlotUnavailable as exc:
        print(f"cosyduplex: no plot: {exc}", file=sys.stderr)
        return None
    open(arguments.plot, "ab").close()
    return library


async def _voices(arguments: argparse.Namespace, url: str) -> tuple[str, ...]:
    """The voices to draw from; asking for them also shows whether a server is there.

    Raises:
        FetchError: it is not, or refuses.
    """
    from cosyduplex_server.voices import FetchError, fetch_voices

    answer = await fetch_voices(url, arguments.api_key)
    if not isinstance(answer, dict) or "voices" not in answer:
        raise FetchError(f"what answers at {url} is no CosyDuplex server")
    if arguments.voices is not None:
        return tuple(arguments.voices.replace(",", " ").split())
    return tuple(voice["id"] for voice in answer["voices"][:_MAX_VOICES])


def http_url(url: str) -> str:
    """The server's HTTP address, however it was given: with `ws`, with the door's path, without a scheme.

    Raises:
        FetchError: it is no such address.
    """
    from cosyduplex_server.voices import FetchError

    wrong = FetchError(f"{url!r} is no address of a server, as http://127.0.0.1:8765 is")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        if parts.port == 0 or scheme not in ("http", "https") or not _HOST.fullmatch(parts.netloc):
            raise wrong
    except ValueError:  # a port or an IPv6 address that is none
        raise wrong from None
    path = parts.path.rstrip("/").removesuffix("/v1/duplex")
    return urlunsplit((scheme, parts.netloc, path, "", ""))


def _settings(arguments: argparse.Namespace, url: str) -> Settings:
    """The campaign without its voices, which the server knows."""
    is_open_loop = arguments.arrivals_per_second is not None
    sessions = arguments.sessions
    if sessions is None and not is_open_loop:
        sessions = _DEFAULT_SESSIONS
    max_ahead_ms = arguments.max_ahead_ms
    if max_ahead_ms is None:
        max_ahead_ms = 0 if arguments.tokens_per_second == 0 else 3000
    return Settings(
        url=url,
        sessions=sessions,
        arrivals_per_s=arguments.arrivals_per_second,
        duration_s=arguments.duration,
        tokens_per_s=arguments.tokens_per_second,
        text_seconds=arguments.text_seconds,
        language=arguments.language,
        voices=(),
        codec=arguments.codec,
        sample_rate_hz=arguments.sample_rate,
        max_ahead_ms=max_ahead_ms,
        cancel_share=arguments.cancel_share,
        seed=arguments.seed,
    )


def _command(arguments: argparse.Namespace) -> list[str]:
    """The command line, without the key."""
    return [word.replace(arguments.api_key, "…") if arguments.api_key else word for word in sys.argv]


class Progress:
    """How the campaign stands: one line on a terminal, written anew; elsewhere one every few seconds."""

    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._seconds = 0

    def show(self, campaign: Campaign) -> None:
        """Shows it, once a second."""
        self._seconds += 1
        if self._is_terminal:
            print(f"\r\x1b[K{_standing(campaign)}", end="", file=sys.stderr, flush=True)
        elif self._seconds % _LINE_EVERY_S == 0:
            print(_standing(campaign), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves a clean line."""
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _standing(campaign: Campaign) -> str:
    now = campaign.course[-1]
    return (
        f"{now.at_s:.0f} s: {now.sessions} sessions, {now.speaking} texts in hand, "
        f"{len(campaign.results)} ended, {now.audio_s:.0f} s of audio, {now.stalls} stalls, "
        f"{now.errors} errors; generator {campaign.own_load.cpu_share:.0%} of a core"
    )
