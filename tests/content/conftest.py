"""A listener who decodes what arrives, and the voice itself, heard without a gateway."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from native_client import NativeClient
from spectral import Sound, Span

from cosyduplex.messages import (
    AudioFrame,
    AudioOptions,
    ContextDone,
    FlowOptions,
    Marks,
    PlaybackReport,
    SessionStart,
    SpeechOptions,
    TextAppend,
    TextEnd,
    WordMark,
)
from cosyduplex_server.audio.opus import OpusDecoder
from cosyduplex_server.testing import WorkerStream
from cosyduplex_server.text.front import Segment, TextFrontEnd


@dataclass(frozen=True, slots=True)
class Passage:
    """What a language model writes, what of it is to be heard, and words that are not in it."""

    written: str
    spoken: str
    other: str


_ENGLISH = "The quick brown fox jumps over the lazy dog. It rained for seven days, and nobody minded."
_CHINESE = "今天天气很好，我们一起去公园散步。晚上回家，大家坐下来喝茶。"
_MIXED = "Hello 世界, this is 测试 text: 我用 Python 写了三个程序。 They work well!"

_PASSAGES = {
    "english": Passage(
        _ENGLISH,
        _ENGLISH,
        "Several old machines stood behind a wooden house. She told them about her letter, or its answer.",
    ),
    "chinese": Passage(
        _CHINESE,
        _CHINESE,
        "昨天下了一场大雪，孩子们都不想上学。火车晚点，旅客只好慢慢等待。",
    ),
    "mixed": Passage(
        "<think>greet them</think>**Hello** 世界, this is 测试 _text_: 我用 `Python` 写了三个程序。\n\n"
        "- They work *well*! 🎉",
        _MIXED,
        "Please open 窗户, because 房间里 smells bad: 他买 oranges 花了五十块钱。 We must leave!",
    ),
}


@pytest.fixture(params=_PASSAGES)
def passage(request: pytest.FixtureRequest) -> Passage:
    """An English, a Chinese and a mixed text."""
    return _PASSAGES[request.param]


class Listener(NativeClient):
    """A client who hears what it is sent."""

    async def say(self, text: str, context_id: str = "default", *, seed: int = 0) -> ContextDone:
        """Sends a text as a language model writes it, a few characters at a time, and waits for its end."""
        await self.send(*(TextAppend(context_id=context_id, text=piece) for piece in tokens(text, seed)))
        await self.send(TextEnd(context_id=context_id))
        return await self.until(ContextDone, context_id=context_id)

    async def play(self) -> Any:
        """The next message; audio is played in no time, and the server told so."""
        event = await self.receive()
        if isinstance(event.message, AudioFrame) and event.context_id is not None:
            await self.send(PlaybackReport(context_id=event.context_id, played_ms=2**40))
        return event.message

    def sound(self, context_id: str = "default") -> Sound:
        """What has been heard of a context."""
        assert self.core.started is not None
        audio = self.core.started.audio
        payloads = [frame.payload for frame in self.frames(context_id) if frame.payload]
        if audio.encoding == "pcm_s16le":
            return Sound.of(b"".join(payloads), audio.sample_rate)
        decoder = OpusDecoder(audio.sample_rate)
        pcm = b"".join(decoder.decode(packet, audio.frame_samples) for packet in payloads)
        heard = Sound.of(pcm[2 * (audio.pre_skip or 0) :], audio.sample_rate)
        ends = [done.audio_ms for done in self.messages(ContextDone) if done.context_id == context_id]
        return heard.cut(0, ends[0]) if ends else heard

    def words(self, context_id: str = "default") -> list[WordMark]:
        """The marks of a context."""
        marks = (marks for marks in self.messages(Marks) if marks.context_id == context_id)
        return [word for message in marks for word in message.words]


Listen = Callable[..., Awaitable[Listener]]


@pytest.fixture
async def listen(request: pytest.FixtureRequest) -> AsyncIterator[Listen]:
    """Opens sessions, by default with the shared server and as fast as it speaks; they end with the test."""
    async with AsyncExitStack() as stack:

        async def start(
            *, url: str = "", max_ahead_ms: int = 0, speech: SpeechOptions | None = None, **audio: Any
        ) -> Listener:
            opening = SessionStart(
                audio=AudioOptions(**audio),
                speech=speech or SpeechOptions(),
                flow=FlowOptions(max_ahead_ms=max_ahead_ms),
                marks=True,
            )
            ws_url = url or request.getfixturevalue("voice_server").ws_url
            return await stack.enter_async_context(await Listener.open(ws_url, opening))

        yield start


@dataclass(frozen=True, slots=True)
class Reference:
    """What the voice says, and when it says each word."""

    sound: Sound
    spans: tuple[Span, ...]


Voice = Callable[..., Awaitable[Reference]]


@pytest.fixture(scope="session")
def worker_address() -> Iterator[str]:
    """A voice process of the tests' own, without a server."""
    with tempfile.TemporaryDirectory(prefix="cdx-", dir="/tmp") as folder:
        address = f"unix:{Path(folder) / 'v.sock'}"
        command = [sys.executable, "-m", "cosyduplex_espeak", "--listen", address, "--exit-with-stdin"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["address"]
            process.communicate()


@pytest.fixture
async def voice(worker_address: str) -> AsyncIterator[Voice]:
    """Speaks segments without a gateway."""
    async with grpc.aio.insecure_channel(worker_address) as channel:
        rate_hz = 22050

        async def speak(*segments: str, **manner: Any) -> Reference:
            heard = await WorkerStream(channel).speak(*segments, **manner)
            assert heard.kinds[-1] == "done", heard.events[-1]
            spans = ((w.sample_start * 1000 / rate_hz, w.sample_end * 1000 / rate_hz) for w in heard.words)
            return Reference(Sound.of(heard.pcm.tobytes(), rate_hz), tuple(spans))

        yield speak


def tokens(text: str, seed: int) -> list[str]:
    """`text` cut at random into pieces of one to five characters."""
    choose = random.Random(seed)
    pieces = []
    while text:
        size = choose.randint(1, 5)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


@pytest.fixture
def clauses() -> Callable[[str], list[str]]:
    """The segments in which the gateway hands a text to its engine; whether they are right others test."""

    def segments(text: str) -> list[str]:
        front = TextFrontEnd()
        front.append(text)
        front.end()
        taken: list[str] = []
        while (item := front.next()) is not None or front.busy:
            if isinstance(item, Segment):
                taken.append(item.text)
        return taken

    return segments
