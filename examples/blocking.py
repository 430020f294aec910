"""Speaks standard input line by line, as it comes, without asyncio.

    (echo 'One.'; sleep 1; echo 'Two.') | python examples/blocking.py [--url URL] [--out lines.wav]

Any iterable will do in the place of `sys.stdin`, the stream of a synchronous LLM client among them.
"""

from __future__ import annotations

import argparse
import sys

import cosyduplex.sync
from cosyduplex.containers import WavWriter


def main(url: str, out: str) -> None:
    # For a file, as fast as it is made; for a listener leave max_ahead_ms out, then the server paces.
    with (
        cosyduplex.sync.connect(url, max_ahead_ms=0) as session,
        open(out, "wb") as file,
        WavWriter(file, session.started.audio.sample_rate) as wav,
    ):
        for pcm in session.speak(sys.stdin):
            wav.write(pcm)
    print(f"written: {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default=cosyduplex.sync.DEFAULT_URL)
    parser.add_argument("--out", default="lines.wav")
    arguments = parser.parse_args()
    main(arguments.url, arguments.out)
