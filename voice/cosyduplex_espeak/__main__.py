# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded voice as a worker process: `python -m cosyduplex_espeak --listen unix:/run/voice.sock`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

_PROG = "cosyduplex_espeak"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker, and return its exit code."""
    try:
        from cosyduplex_espeak.engine import DEFAULT_SLOTS, EspeakEngine
        from cosyduplex_server.engine.worker_process import run_worker
    except ModuleNotFoundError as missing:
        hint = "install it with: pip install 'cosyduplex[voice]'"
        print(f"{_PROG}: the Python package {missing.name} is missing; {hint}", file=sys.stderr)
        return 3

    async def start(options: argparse.Namespace) -> EspeakEngine:
        return await EspeakEngine.start(options.slots or DEFAULT_SLOTS)

    return run_worker(start, argv, prog=_PROG)


if __name__ == "__main__":
    sys.exit(main())
