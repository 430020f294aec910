"""A CosyVoice engine on a tiny checkpoint, and contexts spoken with it."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cosyduplex_server.engine.cosyvoice.engine import CosyVoiceEngine, CosyVoiceRequest
from cosyduplex_server.engine.cosyvoice.worker import make_engine, options_parser
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.outbox import Outbox

ALL = 1 << 40
SAVED, SFT = "tiny-saved", "英文女"


def start(checkpoint: Path, *options: str, slots: int = 4) -> CosyVoiceEngine:
    """The engine as its worker makes it."""
    parser = argparse.ArgumentParser(parents=[options_parser()])
    parser.add_argument("--slots", type=int)
    arguments = ["--model-dir", str(checkpoint), "--device", "cpu", "--slots", str(slots), *options]
    return make_engine(parser.parse_args(arguments))


@dataclass
class Heard:
    """What came of a context."""

    kinds: list[str] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)
    pcm: bytes = b""
    words: list[link.Word] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    error: str | None = None

    @property
    def samples(self) -> np.ndarray:
        return np.frombuffer(self.pcm, "<i2").astype(float)


class Context:
    """One context of an engine."""

    def __init__(self, engine: CosyVoiceEngine, *, credit: int = ALL, **opening: Any) -> None:
        self.outbox = Outbox(asyncio.get_running_loop(), credit)
        fields = {"voice": SAVED, "speed": 1.0, "volume": 1.0, "seed": 5, **opening}
        self.request: CosyVoiceRequest = engine.open(
            link.Open(request_id="test", credit_samples=credit, **fields), self.outbox
        )
        self.heard = Heard()

    def say(self, *segments: str) -> Context:
        for number, text in enumerate(segments):
            self.request.append(number, text, True)
        return self

    async def event(self) -> link.Event:
        """The next event, noted in `heard`."""
        event = await asyncio.wait_for(self.outbox.next_event(), 60)
        heard, kind = self.heard, event.WhichOneof("event")
        heard.kinds.append(kind)
        if kind == "audio":
            heard.chunks.append(len(event.audio.pcm) // 2)
            heard.pcm += event.audio.pcm
            heard.words += event.audio.words
            self.request.progress(self.outbox.sent_samples, self.outbox.credit_samples)
        elif kind == "marks":
            heard.words += event.marks.words
        elif kind == "segment_done":
            heard.segments.append(event.segment_done.segment)
        elif kind == "error":
            heard.error = event.error.code
        return event

    async def until(self, *kinds: str) -> Heard:
        """Everything up to an event of one of these kinds."""
        while (await self.event()).WhichOneof("event") not in kinds:
            pass
        return self.heard

    async def end(self) -> Heard:
        """Everything to the end; the text is finished."""
        self.request.finish()
        return await self.rest()

    async def rest(self) -> Heard:
        """Everything to the end."""
        heard = await self.until("done", "error")
        self.request.cancel()  # as the host does with every request
        return heard


async def settled(engine: CosyVoiceEngine) -> None:
    """Returns when the engine's thread has obeyed all that was asked of it before."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    engine.state.post(lambda: loop.call_soon_threadsafe(done.set))
    await asyncio.wait_for(done.wait(), 60)
