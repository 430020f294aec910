"""A worker as a process of its own: its command line, its ready line, its end."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from cosyduplex_server import logs
from cosyduplex_server.engine.worker import Engine, EngineUnavailable, WorkerServer

DRAIN_TIMEOUT_S: Final = 30.0
# After its gateway's death a worker that cannot even stop (a wedged library call, say) ends this hard.
_STOP_TIMEOUT_S: Final = 5.0

EngineFactory = Callable[[argparse.Namespace], Awaitable[Engine]]


def run_worker(
    start_engine: EngineFactory,
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    parents: Sequence[argparse.ArgumentParser] = (),
) -> int:
    """Run one engine behind the link until it is told to stop, and return the exit code.

    When it listens it prints one line of JSON: `{"ready": true, "address": …, "engine": …, "pid": …}`.
    SIGTERM and SIGINT end it once the open contexts are done, at most 30 s later.

    Args:
        start_engine: makes the engine from the parsed options (`slots` may be None: the engine's own number).
        argv: the command line without the program's name.
        prog: the program's name, for its help.
        parents: parsers with options of this engine.
    """
    options = _parser(prog, parents).parse_args(argv)
    logs.set_up(options.log_format, "info")
    try:
        asyncio.run(_run(start_engine, options))
    except EngineUnavailable as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"{prog}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


async def serve_worker(
    engine: Engine,
    address: str,
    *,
    ready: Callable[[str], None],
    exit_with_stdin: bool = False,
    drain_timeout_s: float = DRAIN_TIMEOUT_S,
) -> None:
    """Serve `engine` on `address` until this process is told to stop; closes the engine.

    Args:
        engine: what is served.
        address: `unix:PATH` or `HOST:PORT` (port 0: any).
        ready: called with the address once it listens.
        exit_with_stdin: stop at once when standard input ends, and leave SIGINT to the parent: a terminal
            sends it to the whole process group.
        drain_timeout_s: how long open contexts may go on after SIGTERM.

    Raises:
        OSError: the address cannot be had.
    """
    loop = asyncio.get_running_loop()
    told_to_drain, told_to_stop = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told_to_drain.set)
    loop.add_signal_handler(signal.SIGINT, (lambda: None) if exit_with_stdin else told_to_drain.set)
    server = WorkerServer(engine)
    try:
        ready(await server.start(address))
        if exit_with_stdin:
            threading.Thread(target=_follow_stdin, args=(loop, told_to_stop), daemon=True).start()

        async def drain() -> None:
            await told_to_drain.wait()
            await server.drain(drain_timeout_s)

        ends = {
            asyncio.create_task(drain(), name="drain"),
            asyncio.create_task(told_to_stop.wait(), name="stop"),
        }
        _, pending = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
    finally:
        await server.aclose()


async def _run(start_engine: EngineFactory, options: argparse.Namespace) -> None:
    engine = await start_engine(options)

    def say_ready(address: str) -> None:
        line = {"ready": True, "address": address, "engine": engine.description.engine, "pid": os.getpid()}
        print(json.dumps(line), flush=True)

    await serve_worker(engine, options.listen, ready=say_ready, exit_with_stdin=options.exit_with_stdin)


def _parser(prog: str, parents: Sequence[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, parents=list(parents), description="One engine worker of CosyDuplex."
    )
    parser.add_argument(
        "--listen", metavar="ADDRESS", required=True, help="unix:PATH or HOST:PORT (port 0: any)"
    )
    parser.add_argument("--slots", metavar="N", type=_positive, help="contexts at a time")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when standard input ends")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _follow_stdin(loop: asyncio.AbstractEventLoop, told_to_stop: asyncio.Event) -> None:
    """Read until the parent closes its end, which its death does too."""
    stdin = sys.stdin.fileno()
    while os.read(stdin, 4096):
        pass
    deadline = threading.Timer(_STOP_TIMEOUT_S, os._exit, (1,))
    deadline.daemon = True
    deadline.start()
    loop.call_soon_threadsafe(told_to_stop.set)
