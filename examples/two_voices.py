"""Two voices in one session, speaking at the same time, each into a file of its own.

    python examples/two_voices.py [--url URL] [--voices en-f en-m]

Shows the events of a context: audio, the times of the words, and how it ended.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import BinaryIO

import cosyduplex
from cosyduplex import AudioFrame, ContextDone, Marks
from cosyduplex.containers import WavWriter

QUESTION = "Who speaks first, when two voices share one socket?"
ANSWER = "Both do. Their audio is kept apart."


async def speak(session: cosyduplex.Session, voice: str, text: str, file: BinaryIO) -> None:
    with WavWriter(file, session.started.audio.sample_rate) as wav:
        async for event in session.context(voice=voice).speak(text):
            match event:
                case AudioFrame(payload=pcm):
                    wav.write(pcm)
                case Marks(words=words):
                    print(f"{voice}:", ", ".join(f"{word.text} at {word.start_ms} ms" for word in words))
                case ContextDone(audio_ms=audio_ms, ttfa_ms=ttfa_ms):
                    print(f"{voice}: {audio_ms} ms of audio, the first after {ttfa_ms} ms")


async def main(url: str, voices: list[str], files: tuple[BinaryIO, BinaryIO]) -> None:
    async with cosyduplex.connect(url, max_ahead_ms=0, marks=True) as session, asyncio.TaskGroup() as tasks:
        tasks.create_task(speak(session, voices[0], QUESTION, files[0]))
        tasks.create_task(speak(session, voices[1], ANSWER, files[1]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default=cosyduplex.DEFAULT_URL)
    parser.add_argument("--voices", nargs=2, default=["en-f", "en-m"], metavar="ID")
    arguments = parser.parse_args()
    with open("question.wav", "wb") as question, open("answer.wav", "wb") as answer:
        asyncio.run(main(arguments.url, arguments.voices, (question, answer)))
    print("written: question.wav, answer.wav")
