"""An engine that streams text begins before the sentence is written; others get whole segments as ever."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import pytest
from conftest import ServerProcess
from native_client import NativeClient

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import (
    ContextCancel,
    ContextCancelled,
    ContextDone,
    ContextFlushed,
    ContextStarted,
    Error,
    FlowOptions,
    Marks,
    Ping,
    Pong,
    SessionStart,
    TextAppend,
    TextEnd,
    TextFlush,
)
from cosyduplex_server.engine.worker import WorkerServer
from cosyduplex_server.testing import FakeEngine, FakeScript
from cosyduplex_server.text.front import Segment, TextFrontEnd

UNPACED = SessionStart(flow=FlowOptions(max_ahead_ms=0), marks=True)


class Stage:
    """A server whose engine runs in this process, where what it is told can be seen."""

    def __init__(self, engine: FakeEngine, server: ServerProcess) -> None:
        self.engine = engine
        self.ws_url = server.ws_url

    @property
    def told(self) -> list[tuple[int, str, bool]]:
        """The appends that came, in order."""
        return [(one.segment, one.text, one.closes) for one in self.engine.appends]

    async def told_until(self, enough: Callable[[list[tuple[int, str, bool]]], bool]) -> None:
        """Returns once the engine was told what is asked for; else the test runs out of time."""
        while not enough(self.told):
            await asyncio.sleep(0.01)


@pytest.fixture
def stage(start_server: Callable[..., ServerProcess]) -> Callable[..., Any]:
    @asynccontextmanager
    async def stage(*options: str, **script: Any) -> AsyncIterator[Stage]:
        engine = FakeEngine(FakeScript(**{"text_streaming": True, **script}))
        worker = WorkerServer(engine)
        with tempfile.TemporaryDirectory(prefix="cdx-", dir="/tmp") as folder:
            address = await worker.start(f"unix:{folder}/worker.sock")
            try:
                yield Stage(engine, await asyncio.to_thread(start_server, "--workers", address, *options))
            finally:
                await worker.aclose()

    return stage


def joined(told: list[tuple[int, str, bool]]) -> dict[int, str]:
    """The whole segments, by their numbers; the last part of each, and no other, closes it."""
    segments = {}
    for segment, group in groupby(told, lambda one: one[0]):
        parts = list(group)
        assert segment not in segments
        assert [closes for *_, closes in parts] == [False] * (len(parts) - 1) + [True]
        segments[segment] = "".join(text for _, text, _ in parts)
    return segments


def segments_of(text: str) -> list[str]:
    front = TextFrontEnd()
    front.append(text)
    front.end()
    segments = []
    while (item := front.next()) is not None or front.busy:
        if isinstance(item, Segment):
            segments.append(item.text)
    return segments


async def settled(client: NativeClient) -> None:
    """Returns once the server has taken all that was sent."""
    await client.send(Ping(t=1))
    await client.until(Pong)


# --- What the engine is told


async def test_audio_comes_in_the_middle_of_the_first_clause(stage):
    async with stage() as at, await NativeClient.open(at.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="Half a sen"))
        await client.until(ContextStarted)
        while not client.frames():
            await client.receive()
        assert at.told == [(0, "Half a", False)]
        await client.send(TextAppend(text="tence and the rest."), TextEnd())
        await client.until(ContextDone)
        assert joined(at.told[1:]) == {0: " sentence and the rest."}


@pytest.mark.parametrize("fragment_chars", [1, 4, 1000])
async def test_the_parts_are_the_segments_that_others_get(stage, fragment_chars):
    text = (
        "Some **bold** words, 你好 <think>no</think>and 🎉 `code`. It costs 3.50 in all ! 今天天气不错，走。"
    )
    async with stage() as at, await NativeClient.open(at.ws_url, UNPACED) as client:
        for start in range(0, len(text), fragment_chars):
            await client.send(TextAppend(text=text[start : start + fragment_chars]))
        await client.send(TextEnd())
        done = await client.until(ContextDone)
        assert joined(at.told) == dict(enumerate(segments_of(text)))
        assert done.audio_ms == sum(map(len, segments_of(text))) * 60


async def test_an_engine_that_does_not_stream_text_gets_whole_segments(stage):
    text = "Half a sentence, and the rest of it. 今天天气不错，我们走。"
    async with (
        stage(text_streaming=False) as at,
        await NativeClient.open(at.ws_url, UNPACED) as client,
    ):
        for char in text:
            await client.send(TextAppend(text=char))
        await client.send(TextEnd())
        await client.until(ContextDone)
        assert at.told == [(number, one, True) for number, one in enumerate(segments_of(text))]


async def test_an_engine_that_does_not_stream_text_is_left_alone_until_a_clause_ends(stage):
    async with (
        stage("--text-idle-ms", "0", text_streaming=False, slots=1) as at,
        await NativeClient.open(at.ws_url, UNPACED) as client,
    ):
        await client.send(TextAppend(context_id="writing", text="half a sentence"))
        await client.send(
            TextAppend(context_id="done", text="Speaks in the only slot."), TextEnd(context_id="done")
        )
        assert (await client.until(ContextDone)).context_id == "done"


async def test_a_flush_closes_what_is_being_written(stage):
    async with stage() as at, await NativeClient.open(at.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="Hello wor"))
        await at.told_until(bool)
        await client.send(TextFlush())
        flushed = await client.until(ContextFlushed)
        assert at.told == [(0, "Hello", False), (0, " wor", True)]
        assert flushed.audio_ms == len("Hello wor") * 60
        await client.send(TextAppend(text="ld again"), TextEnd())
        await client.until(ContextDone)
        assert joined(at.told[2:]) == {1: "ld again"}


def written(told: list[tuple[int, str, bool]], segment: int) -> tuple[str, bool]:
    """What was told of a segment, in however many messages, and whether that closed it."""
    parts = [one for one in told if one[0] == segment]
    return "".join(text for _, text, _ in parts), any(closes for *_, closes in parts)


async def test_a_pause_in_the_middle_of_a_sentence_does_not_close_it(stage):
    async with (
        stage("--text-idle-ms", "40") as at,
        await NativeClient.open(at.ws_url, UNPACED) as client,
    ):
        await client.send(TextAppend(text="See U.S."))
        await at.told_until(lambda told: written(told, 0) == ("See U.S.", False))
        await client.send(TextAppend(text=" law at once."))
        await at.told_until(lambda told: written(told, 0) == ("See U.S. law at once.", True))
        await client.send(TextAppend(text=" And now"))
        await at.told_until(lambda told: written(told, 1) == ("And", False))


async def test_a_pause_does_not_close_a_sentence_that_waited_for_its_turn(stage):
    async with (
        stage("--text-idle-ms", "40", realtime_factor=100.0) as at,
        await NativeClient.open(at.ws_url, UNPACED) as client,
    ):
        await client.send(TextAppend(text="One sentence. Another one. The third is"))
        await at.told_until(lambda told: told[-1:] == [(2, "The third", False)])


# --- How much it is told


async def test_a_long_text_is_a_few_segments_ahead_of_the_voice(stage):
    sentence = "This is a sentence of which there are many. "
    async with (
        stage(realtime_factor=100.0) as at,
        await NativeClient.open(at.ws_url, UNPACED) as client,
    ):
        for _ in range(10):
            for word in sentence.split(" ")[:-1]:
                await client.send(TextAppend(text=word + " "))
        await settled(client)
        await at.told_until(lambda told: any(segment == 2 and closes for segment, _, closes in told))
        await settled(client)
        assert joined(at.told) == dict.fromkeys(range(3), sentence.strip())


async def test_words_come_one_by_one_while_they_are_urgent(stage):
    async with (
        stage(realtime_factor=100.0) as at,
        await NativeClient.open(at.ws_url, UNPACED) as client,
    ):
        await client.send(TextAppend(text="One sentence. Another "))
        await at.told_until(lambda told: told[-1:] == [(1, "Another", False)])
        await client.send(TextAppend(text="is written "))
        await at.told_until(lambda told: told[-1:] == [(1, " is written", False)])
        # With two whole sentences it has enough to do: the third comes when it is whole.
        await client.send(TextAppend(text="to its end. A third "), TextAppend(text="waits "))
        await settled(client)
        await at.told_until(lambda told: told[-1:] == [(1, " to its end.", True)])
        await client.send(TextAppend(text="for its end. A fourth waits "))
        await at.told_until(lambda told: told[-1:] == [(2, "A third waits for its end.", True)])


async def test_words_that_waited_come_when_the_voice_has_come_near(stage):
    async with stage() as at, await NativeClient.open(at.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="One sentence. Another one. The third is"))
        await at.told_until(lambda told: told[-1:] == [(2, "The third", False)])


async def test_a_fragment_is_one_message_at_most(stage):
    async with stage() as at, await NativeClient.open(at.ws_url, UNPACED) as client:
        for number in range(20):
            await client.send(TextAppend(text=f"piece {number} of an endless phrase "))
            await settled(client)
        assert len(at.told) <= 20
        await client.send(ContextCancel(context_id="default"))
        await client.until(ContextCancelled)


# --- Where the listener is


async def test_marks_of_an_open_segment_cut_the_appended_text(stage):
    text = "Some **bold** wo"
    async with stage() as at, await NativeClient.open(at.ws_url, UNPACED) as client:
        for char in text:
            await client.send(TextAppend(text=char))
        words = []
        while len(words) < 2:
            words += (await client.until(Marks)).words
        assert [word.text for word in words] == ["Some", "bold"]
        assert [text[word.char_start : word.char_end] for word in words] == ["Some", "bold"]
        assert not any(closes for *_, closes in at.told)


async def test_a_cancel_in_the_middle_of_an_open_segment_tells_how_far_the_listener_got(stage):
    async with stage() as at, await NativeClient.open(at.ws_url, UNPACED) as client:
        for fragment in ["**One** two", " three", " four"]:
            await client.send(TextAppend(text=fragment))
        while len(client.audio()) < len("One two three") * 60 * 48:
            await client.receive()
        # "One two" ends after 420 ms, "three" after 780.
        await client.send(ContextCancel(context_id="default", played_ms=700))
        cancelled = await client.until(ContextCancelled)
        assert cancelled.spoken_chars == len("**One** two")
        assert not any(closes for *_, closes in at.told)


async def test_a_writer_who_leaves_in_the_middle_of_a_sentence_is_not_waited_for(stage):
    async with (
        stage("--idle-s", "1") as at,
        await NativeClient.open(at.ws_url, UNPACED) as client,
    ):
        await client.send(TextAppend(text="Half a sentence and "))
        error = await client.until(Error)
        assert (error.code, error.ends) == (ErrorCode.TIMEOUT, "context")
        assert at.told == [(0, "Half a sentence and", False)]
