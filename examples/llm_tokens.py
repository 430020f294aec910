"""Speaks an LLM's answer while it is being written.

    python examples/llm_tokens.py [--url ws://127.0.0.1:8765] [--out answer.wav]

Put your own stream in the place of `llm`: any async iterator of strings will do.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO

import cosyduplex
from cosyduplex.containers import WavWriter

ANSWER = "Of course! The first words are heard while the last ones are still being thought of. 你好，世界。"


async def llm() -> AsyncIterator[str]:
    """Stands in for a model that writes 50 tokens a second."""
    for begin in range(0, len(ANSWER), 4):
        await asyncio.sleep(0.02)
        token = ANSWER[begin : begin + 4]
        print(token, end="", flush=True)
        yield token
    print(" [all written]")


async def speak(url: str, file: BinaryIO) -> None:
    # For a file, as fast as it is made; for a listener leave max_ahead_ms out, then the server paces.
    async with cosyduplex.connect(url, max_ahead_ms=0) as session:
        with WavWriter(file, session.started.audio.sample_rate) as wav:
            is_first = True
            async for pcm in session.speak(llm()):
                if is_first:
                    print(" [first audio] ", end="", flush=True)
                    is_first = False
                wav.write(pcm)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default=cosyduplex.DEFAULT_URL)
    parser.add_argument("--out", default="answer.wav")
    arguments = parser.parse_args()
    with open(arguments.out, "wb") as file:
        asyncio.run(speak(arguments.url, file))
    print(f"written: {arguments.out}")
