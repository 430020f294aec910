"""The command `cosyduplex`: options in, exit code out.

0 normal, 2 usage or configuration, 3 the engine could not start, 1 anything else; each with one clear line on
standard error. What a command needs is imported when it runs, so that the client's commands work without the
server's dependencies.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson

import cosyduplex

if TYPE_CHECKING:
    from cosyduplex_server.voices import VoicePlace

USAGE_ERROR, ENGINE_ERROR, OTHER_ERROR = 2, 3, 1
# A little over what a server takes, so that it can say how much too large a file is.
_MOST_AUDIO_BYTES = 11 * 1024 * 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    # The resampler's products are small: BLAS threads would double their CPU and win nothing.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # gRPC's core tells standard error of every worker that stops; the log has it already.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output is gone; Python would complain once more while flushing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OTHER_ERROR
    except ModuleNotFoundError as exc:
        if exc.name is not None and exc.name.startswith("cosyduplex"):
            raise
        return _complain(
            f"this command needs the server's packages ({exc.name} is missing): "
            "run `pip install 'cosyduplex[server,voice]'`",
            OTHER_ERROR,
        )


def _complain(message: str, exit_code: int) -> int:
    print(f"cosyduplex: {message}", file=sys.stderr)
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cosyduplex", description="Speaks text while it is being written.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"cosyduplex {cosyduplex.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_say(commands)
    _add_text(commands)
    _add_voices(commands)
    _add_models(commands)
    _add_worker(commands)
    _add_bench(commands)
    _add_doctor(commands)
    return parser


def _add(commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
    command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=run)
    return command


# --- serve -------------------------------------------------------------------------------------------


def _add_serve(commands: Any) -> None:
    serve = _add(commands, "serve", _serve, "Starts the server.")
    # Loading the option table costs nothing but the standard library.
    from cosyduplex_server.config import add_options

    add_options(serve)


def _serve(arguments: argparse.Namespace) -> int:
    from cosyduplex_server import app, logs
    from cosyduplex_server.config import load
    from cosyduplex_server.errors import ConfigError

    try:
        config = load(vars(arguments))
    except ConfigError as exc:
        return _complain(str(exc), USAGE_ERROR)
    logs.set_up(config.log_format, config.log_level)
    return _finish(app.serve(config, lambda running: _say_ready(running, config.log_format)))


def _finish(work: Coroutine[Any, Any, int | None]) -> int:
    """Runs a command that may start a server; what keeps it from starting has exit codes of its own."""
    from cosyduplex_server.engine.supervisor import EngineStartError
    from cosyduplex_server.errors import ConfigError

    try:
        return asyncio.run(work) or 0
    except ConfigError as exc:
        return _complain(str(exc), USAGE_ERROR)
    except EngineStartError as exc:
        return _complain(f"the engine could not start: {exc}", ENGINE_ERROR)


def _say_ready(running: Any, log_format: str) -> None:
    from cosyduplex_server.app import ready_line

    if log_format == "json":
        line = {
            "ready": True,
            "version": cosyduplex.__version__,
            "urls": [*running.urls, running.ws_url],
            "grpc": dict(running.grpc),
            "engine": running.gateway.engine_name,
            "reason": running.gateway.engine_reason,
            "voices": running.gateway.num_voices,
            "open_doors": list(running.gateway.config.open_door),
        }
        print(orjson.dumps(line).decode(), flush=True)
        return
    print(ready_line(running), flush=True)
    print(
        f"try:  echo 'Hello. 你好，世界。' | cosyduplex say --url {running.urls[0]} --out hello.wav",
        flush=True,
    )


# --- say ---------------------------------------------------------------------------------------------


def _add_say(commands: Any) -> None:
    say = _add(commands, "say", _say, "Speaks text, or standard input as it arrives.")
    say.add_argument("text", nargs="*", metavar="TEXT", help="what to say; standard input when left out")
    say.add_argument(
        "--out", metavar="FILE", help="a .wav or .opus file, or - for raw PCM on standard output"
    )
    say.add_argument("--voice", metavar="ID", help="which voice (see `cosyduplex voices list`)")
    say.add_argument("--language", metavar="CODE", help="zh, en, …; found out from the text when left out")
    say.add_argument("--speed", type=float, metavar="X", help="0.5 to 2")
    say.add_argument("--pitch", type=float, metavar="SEMITONES", help="-12 to 12")
    say.add_argument("--volume", type=float, metavar="GAIN", help="0 to 2")
    say.add_argument("--sample-rate", type=int, metavar="HZ", help="of what is written")
    say.add_argument(
        "--marks", action="store_true", help="print each word with its time, one JSON object a line"
    )
    say.add_argument("--verbose", action="store_true", help="say how long the first audio took")
    _add_server_address(say)


def _add_server_address(command: Any) -> None:
    command.add_argument(
        "--url",
        default=os.environ.get("COSYDUPLEX_URL"),
        help="server to use, as http://127.0.0.1:8765; one is started for the moment when left out",
    )
    command.add_argument(
        "--api-key", metavar="KEY", default=os.environ.get("COSYDUPLEX_API_KEY"), help="its key"
    )


def _say(arguments: argparse.Namespace) -> int:
    from cosyduplex_server.say import SayOptions, say

    options = SayOptions(
        text=" ".join(arguments.text) if arguments.text else None,
        out=arguments.out,
        url=arguments.url,
        api_key=arguments.api_key,
        voice=arguments.voice,
        language=arguments.language,
        speed=arguments.speed,
        pitch=arguments.pitch,
        volume=arguments.volume,
        sample_rate=arguments.sample_rate,
        marks=arguments.marks,
        verbose=arguments.verbose,
    )
    return _finish(say(options, local_server=local_server))


@asynccontextmanager
async def local_server() -> AsyncIterator[str]:
    """A server of this process's own, on a free loopback port; yields its URL."""
    from cosyduplex_server import logs
    from cosyduplex_server.app import run_server
    from cosyduplex_server.config import Config

    logs.set_up("text", "error")
    voices_dir = os.environ.get("COSYDUPLEX_VOICES_DIR")
    config = Config(port=0, voice_processes=1, drain_timeout=0.5, voices_dir=voices_dir)
    async with run_server(config) as running:
        yield running.urls[0]


# --- text --------------------------------------------------------------------------------------------


def _add_text(commands: Any) -> None:
    text = _add(
        commands,
        "text",
        _text,
        "Shows what would be spoken of a text: one JSON object a line.",
    )
    text.add_argument("text", nargs="*", metavar="TEXT", help="the text; standard input when left out")
    text.add_argument("--feed", type=_positive, metavar="N", help="append it in pieces of N characters")
    text.add_argument(
        "--language", metavar="CODE", default="auto", help="zh, en, …; found out from the text when left out"
    )
    text.add_argument(
        "--markup",
        choices=["markdown", "plain"],
        default="markdown",
        help="what it is written in; of plain text only what has no sound is left out (default: markdown)",
    )
    text.add_argument(
        "--no-normalize",
        dest="normalize",
        action="store_false",
        help="leave numbers, dates and units as they are written",
    )
    text.add_argument(
        "--code", choices=["skip", "announce"], default="skip", help="blocks of code (default: skip)"
    )
    text.add_argument("--tables", choices=["read", "skip"], default="read", help="tables (default: read)")
    text.add_argument("--emoji", choices=["drop", "name"], default="drop", help="emoji (default: drop)")
    text.add_argument(
        "--pronounce",
        type=_pronunciation,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="say VALUE where KEY is written; may be repeated",
    )


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _pronunciation(value: str) -> tuple[str, str]:
    written, equals, spoken = value.partition("=")
    if not (written and equals):
        raise argparse.ArgumentTypeError(f"{value!r} is not KEY=VALUE")
    return written, spoken


def _text(arguments: argparse.Namespace) -> int:
    from cosyduplex_server.text_command import run

    return run(arguments)


# --- voices ------------------------------------------------------------------------------------------


def _add_voices(commands: Any) -> None:
    voices = _add(commands, "voices", _voices_list, "Shows, adds and removes voices.")
    actions = voices.add_subparsers(required=True, metavar="ACTION")
    listing = _add(actions, "list", _voices_list, "Lists every voice; the first is the default.")
    listing.add_argument("--json", action="store_true", help="print the server's answer as it is")
    _add_server_address(listing)
    adding = _add(actions, "add", _voices_add, "Adds a voice made from a recording of 1 to 30 seconds.")
    adding.add_argument("name", metavar="NAME", help="what it is called")
    adding.add_argument("--audio", metavar="F", required=True, help="WAV, FLAC, Ogg, Opus or MP3 file")
    adding.add_argument("--text", metavar="T", required=True, help="exactly what the recording says")
    adding.add_argument("--language", metavar="L", default="", help="of the voice, as zh or en")
    adding.add_argument("--id", metavar="ID", default="", help="for programs; the name when left out")
    adding.add_argument(
        "--consent", action="store_true", help="the person who speaks in the recording has agreed (needed)"
    )
    showing = _add(actions, "show", _voices_show, "Shows all that is known of one voice.")
    removing = _add(actions, "remove", _voices_remove, "Removes a voice that was added.")
    for action in (showing, removing):
        action.add_argument("name", metavar="NAME", help="its id, or its name")
    for action in (adding, showing):
        action.add_argument("--json", action="store_true", help="print it as JSON")
    for action in (adding, showing, removing):
        _add_voice_place(action)


def _add_voice_place(command: Any) -> None:
    command.add_argument(
        "--url",
        default=os.environ.get("COSYDUPLEX_URL"),
        help="server to use; when left out, the one at http://127.0.0.1:8765, or the folder if none runs",
    )
    command.add_argument(
        "--api-key", metavar="KEY", default=os.environ.get("COSYDUPLEX_API_KEY"), help="its key"
    )
    command.add_argument("--voices-dir", metavar="DIR", help="work on this folder and ask no server")


def _voices_add(arguments: argparse.Namespace) -> int:
    if not arguments.consent:
        return _complain(
            "a voice is added only with --consent: the person who speaks in the recording has agreed",
            USAGE_ERROR,
        )
    try:
        with open(arguments.audio, "rb") as file:
            audio = file.read(_MOST_AUDIO_BYTES)
    except OSError as exc:
        return _complain(f"{arguments.audio} cannot be read: {exc.strerror}", USAGE_ERROR)
    given = {"id": arguments.id, "language": arguments.language}
    fields = {"name": arguments.name, "text": arguments.text, "consent": "true"}
    fields |= {name: value for name, value in given.items() if value}
    if any("\ud800" <= char <= "\udfff" for value in fields.values() for char in value):
        return _complain("the command line is not UTF-8", USAGE_ERROR)

    def add(place: VoicePlace) -> None:
        _print_voice(place.add(fields, audio), as_json=arguments.json, title="added: ")

    return _at_voice_place(arguments, add)


def _voices_show(arguments: argparse.Namespace) -> int:
    def show(place: VoicePlace) -> None:
        _print_voice(place.show(arguments.name), as_json=arguments.json)

    return _at_voice_place(arguments, show)


def _voices_remove(arguments: argparse.Namespace) -> int:
    return _at_voice_place(arguments, lambda place: print(f"removed: {place.remove(arguments.name)}"))


def _at_voice_place(arguments: argparse.Namespace, work: Callable[[VoicePlace], None]) -> int:
    from cosyduplex_server.voices import FetchError, open_place

    usual_folder = os.environ.get("COSYDUPLEX_VOICES_DIR")
    try:
        place = open_place(arguments.url, arguments.api_key, arguments.voices_dir, usual_folder)
        if place.note:
            print(f"cosyduplex: {place.note}", file=sys.stderr)
        work(place)
    except FetchError as exc:
        return _complain(str(exc), OTHER_ERROR)
    return 0


def _print_voice(voice: dict[str, Any], *, as_json: bool, title: str = "") -> None:
    if as_json:
        print(orjson.dumps(voice, option=orjson.OPT_INDENT_2).decode())
        return
    print(f"{title}{voice['id']}")
    for name in ("name", "language", "category", "text", "created", "warning"):
        if voice.get(name):
            print(f"  {name}: {voice[name]}")
    for kind in ("labels", "figures"):
        for name, value in voice.get(kind, {}).items():
            print(f"  {name}: {value:g}" if isinstance(value, float) else f"  {name}: {value}")
    for note in voice.get("notes", ()):
        print(f"  {note}")


def _voices_list(arguments: argparse.Namespace) -> int:
    from cosyduplex_server.voices import FetchError, fetch_voices

    async def show() -> int:
        try:
            if arguments.url:
                answer = await fetch_voices(arguments.url, arguments.api_key)
            else:
                async with local_server() as url:
                    answer = await fetch_voices(url, None)
        except FetchError as exc:
            return _complain(str(exc), OTHER_ERROR)
        _print_voices(answer, as_json=arguments.json)
        return 0

    return _finish(show())


def _print_voices(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
        return
    for voice in answer["voices"]:
        labels = ", ".join(f"{key}: {value}" for key, value in voice["labels"].items())
        print(f"{voice['id']:12} {voice['language']:6} {voice['name']}  ({labels})")


# --- models ------------------------------------------------------------------------------------------


def _add_models(commands: Any) -> None:
    # Loading the options costs nothing but the standard library.
    from cosyduplex_server.models_command import add_actions

    text = "Says which checkpoints there are, and whether one can be used."
    add_actions(commands.add_parser("models", help=text, description=text, allow_abbrev=False))


# --- worker ------------------------------------------------------------------------------------------


def _add_worker(commands: Any) -> None:
    worker = _add(commands, "worker", _worker, "Runs one engine worker, for `serve --workers ADDR`.")
    worker.add_argument("--listen", required=True, metavar="ADDR", help="unix:PATH or HOST:PORT")
    worker.add_argument(
        "--engine", choices=["auto", "espeak", "cosyvoice"], default="auto", help="which engine"
    )
    worker.add_argument("--slots", type=int, metavar="N", help="contexts at a time")
    worker.add_argument("--log-format", choices=["text", "json"], default="text", help="how log lines look")

    from cosyduplex_server.engine.cosyvoice.options import add_options

    add_options(worker)


def _worker(arguments: argparse.Namespace) -> int:
    from cosyduplex_server.app import worker_command
    from cosyduplex_server.config import Config
    from cosyduplex_server.engine.cosyvoice.options import as_arguments
    from cosyduplex_server.engine.supervisor import EngineStartError

    config = Config(
        engine=arguments.engine,
        model_dir=arguments.model_dir,
        slots=arguments.slots or 0,
        log_format=arguments.log_format,
    )
    try:
        command, _ = worker_command(config, as_arguments(arguments))
    except EngineStartError as exc:
        return _complain(f"the engine could not start: {exc}", ENGINE_ERROR)
    command += ["--listen", arguments.listen]
    # An engine is a program of its own, the embedded voice under its own licence: it takes this one's place.
    sys.stdout.flush()
    os.execv(sys.executable, command)


# --- bench -------------------------------------------------------------------------------------------


def _add_bench(commands: Any) -> None:
    # Loading the options costs nothing but the standard library.
    from cosyduplex_server.bench.command import add_arguments, run

    bench = _add(commands, "bench", run, "Puts a server under load and says what listeners would hear.")
    add_arguments(bench)


# --- doctor ------------------------------------------------------------------------------------------


def _add_doctor(commands: Any) -> None:
    doctor = _add(
        commands, "doctor", _doctor, "Says what works on this machine, and what to do about the rest."
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object a line")


def _doctor(arguments: argparse.Namespace) -> int:
    from cosyduplex_server.doctor import examine

    findings = examine()
    for finding in findings:
        if arguments.json:
            print(orjson.dumps(finding).decode())
            continue
        print(f"{finding.mark} {finding.name}: {finding.detail}")
        if finding.solution:
            print(f"    {finding.solution}")
    return OTHER_ERROR if any(finding.level == "broken" for finding in findings) else 0
