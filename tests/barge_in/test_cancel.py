"""Cancel at every stage: nothing of that context after its answer, the slot freed, others unharmed."""

from __future__ import annotations

import asyncio

import pytest
from native_client import NativeClient

from cosyduplex.messages import (
    AudioFrame,
    AudioOptions,
    ContextCancel,
    ContextCancelled,
    ContextDone,
    ContextFlushed,
    ContextOpen,
    FlowOptions,
    PlaybackReport,
    SessionStart,
    TextAppend,
    TextEnd,
    TextFlush,
)

PACED = SessionStart(flow=FlowOptions(max_ahead_ms=500))
UNPACED = SessionStart(flow=FlowOptions(max_ahead_ms=0))
LONG = "This is a sentence with a number of words. " * 10


async def cancelled_cleanly(client: NativeClient, context_id: str = "default") -> ContextCancelled:
    """Waits for the answer, then speaks again under the same id: nothing of the old one may come between."""
    cancelled = await client.until(ContextCancelled, context_id=context_id)
    seen = len(client.events)
    await client.send(TextAppend(context_id=context_id, text="Next."), TextEnd(context_id=context_id))
    await client.until(ContextDone, context_id=context_id)
    late = client.events[seen:]
    assert all(getattr(event.message, "context_index", None) != cancelled.context_index for event in late)
    return cancelled


async def test_before_any_text(fake_server):
    server = fake_server()
    async with await NativeClient.open(server.ws_url, PACED) as client:
        await client.send(ContextOpen(), ContextCancel(context_id="default"))
        cancelled = await cancelled_cleanly(client)
        assert (cancelled.sent_ms, cancelled.spoken_chars, cancelled.estimated) == (0, 0, True)


async def test_while_text_is_held_back(fake_server):
    server = fake_server()
    async with await NativeClient.open(server.ws_url, PACED) as client:
        await client.send(TextAppend(text="no boundary yet"), ContextCancel(context_id="default"))
        assert (await cancelled_cleanly(client)).sent_ms == 0


async def test_while_the_first_chunk_is_computed(fake_server):
    server = fake_server(first_audio_ms=200, slots=1)
    async with await NativeClient.open(server.ws_url, PACED) as client:
        await client.send(TextAppend(text="Computing. "))
        await asyncio.sleep(0.05)
        await client.send(ContextCancel(context_id="default"))
        assert (await cancelled_cleanly(client)).sent_ms == 0
        assert not any(event.stale for event in client.events if isinstance(event.message, AudioFrame))


@pytest.mark.parametrize("encoding", ["pcm_s16le", "opus"])
async def test_while_audio_is_streamed(fake_server, encoding):
    server = fake_server(slots=1)
    start = SessionStart(audio=AudioOptions(encoding=encoding), flow=FlowOptions(max_ahead_ms=500))
    async with await NativeClient.open(server.ws_url, start) as client:
        await client.send(TextAppend(text=LONG))
        while len(client.frames()) < 30:
            await client.receive()
        await client.send(ContextCancel(context_id="default", played_ms=300))
        cancelled = await cancelled_cleanly(client)
        assert cancelled.sent_ms >= 30 * 20 - 20
        assert not cancelled.estimated
        # 60 ms a character: "This" ends at 240 ms and "is" at 420 ms.
        assert cancelled.spoken_chars == len("This")


async def test_between_the_end_of_the_text_and_the_end_of_the_audio(fake_server):
    server = fake_server(ms_per_char=100)
    async with await NativeClient.open(server.ws_url, PACED) as client:
        await client.send(TextAppend(text="It goes on after its text."), TextEnd())
        while len(client.frames()) < 10:
            await client.receive()
        await client.send(ContextCancel(context_id="default"))
        cancelled = await cancelled_cleanly(client)
        assert cancelled.estimated
        assert cancelled.spoken_chars < 26


async def test_after_done_it_tells_how_far_the_listener_got(fake_server):
    server = fake_server(ms_per_char=100)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="Sent, but not heard."), TextEnd())
        done = await client.until(ContextDone)
        await client.send(ContextCancel(context_id="default", played_ms=950))
        cancelled = await client.until(ContextCancelled)
        assert cancelled.sent_ms == done.audio_ms
        assert cancelled.context_index == done.context_index
        assert cancelled.spoken_chars == len("Sent, but")
        await client.send(ContextCancel(context_id="default"), ContextCancel(context_id="default"))
        await client.nothing_more(0.2)


async def test_after_everything_was_heard(fake_server):
    server = fake_server(ms_per_char=1)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="Short. 🎉"), TextEnd())
        done = await client.until(ContextDone)
        await client.send(ContextCancel(context_id="default", played_ms=done.audio_ms + 1000))
        assert (await client.until(ContextCancelled)).spoken_chars == len("Short. 🎉")


async def test_of_what_never_was_is_ignored(fake_server):
    server = fake_server()
    async with await NativeClient.open(server.ws_url, PACED) as client:
        await client.send(ContextCancel(context_id="never"), ContextCancel())
        await client.nothing_more(0.2)


async def test_without_an_id_it_means_all_that_is_not_heard_yet(fake_server):
    server = fake_server(ms_per_char=100)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(context_id="heard", text="Hm."), TextEnd(context_id="heard"))
        await client.until(ContextDone)
        await asyncio.sleep(0.35)  # three characters of 100 ms are over
        await client.send(TextAppend(context_id="done", text="Sent at once. "), TextEnd(context_id="done"))
        await client.until(ContextDone)
        await client.send(ContextOpen(context_id="open"), ContextCancel())
        answers = [await client.until(ContextCancelled) for _ in range(2)]
        assert {answer.context_id for answer in answers} == {"done", "open"}
        await client.nothing_more(0.2)


async def test_one_context_leaves_the_others_alone(fake_server):
    server = fake_server(realtime_factor=0.1)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        for context_id in ("a", "b"):
            await client.send(TextAppend(context_id=context_id, text=LONG), TextEnd(context_id=context_id))
        while not (client.frames("a") and client.frames("b")):
            await client.receive()
        await client.send(ContextCancel(context_id="a"))
        done = await client.until(ContextDone)
        assert done.context_id == "b"
        assert len(client.audio("b")) == done.audio_ms * 48
        assert client.kinds()["a"][-1] == "context.cancelled"


async def test_it_frees_the_engine_at_once(fake_server):
    server = fake_server(slots=1, realtime_factor=1.0)
    async with await NativeClient.open(server.ws_url, PACED) as client:
        for number in range(20):
            context_id = f"turn {number}"
            await client.send(TextAppend(context_id=context_id, text=LONG))
            while not client.frames(context_id):
                await client.receive()
            await client.send(ContextCancel(context_id=context_id))
            await client.until(ContextCancelled)


async def test_flushes_of_a_cancelled_context_are_not_answered(fake_server):
    server = fake_server(realtime_factor=1.0)
    async with await NativeClient.open(server.ws_url, PACED) as client:
        await client.send(TextAppend(text=LONG), TextFlush(), ContextCancel(context_id="default"))
        await cancelled_cleanly(client)
        assert client.messages(ContextFlushed) == []


async def test_reports_make_the_estimate(fake_server):
    server = fake_server(ms_per_char=100)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="One two three four five six."), TextEnd())
        await client.until(ContextDone)
        await client.send(PlaybackReport(played_ms=1400), ContextCancel(context_id="default"))
        cancelled = await client.until(ContextCancelled)
        assert cancelled.estimated
        assert cancelled.spoken_chars == len("One two three")
