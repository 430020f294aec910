"""Barge-in: after a cancel nothing more is heard, and the next context is unharmed."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest
from client.scripted_server import Peer, heard, pcm_of, serving

import cosyduplex.client
from cosyduplex.client import ContextEnded, ContextError
from cosyduplex.messages import (
    AudioFrame,
    ContextCancel,
    ContextDone,
    ContextOpen,
    Ping,
    Pong,
    SessionStart,
    TextAppend,
    TextEnd,
)


async def letters(context) -> str:
    return heard(b"".join([event.payload async for event in context if isinstance(event, AudioFrame)]))


async def test_cancel_says_how_far_the_listener_got_and_ends_the_iteration_at_once() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        context = session.context()
        await context.append("abc")
        assert (await anext(context)).payload == pcm_of("a")
        cancelled = await context.cancel(played_ms=20)
        assert cancelled.spoken_chars == 3
        assert context.result == cancelled
        assert [event async for event in context] == []
        assert await context.cancel() == cancelled
        with pytest.raises(ContextEnded, match="cancelled"):
            await context.append("more")
    (message,) = [m for m in server.peers[0].received if isinstance(m, ContextCancel)]
    assert message.played_ms == 20


async def test_a_cancel_ends_a_listener_that_waits() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        context = session.context()
        await context.append("a")
        listening = asyncio.create_task(letters(context))
        await session.ping()
        await context.cancel()
        assert await listening == "a"


async def test_audio_that_crosses_the_cancel_is_not_heard_and_the_id_can_be_used_again_at_once() -> None:
    async def late(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        await peer.speak(0, "old")
        await peer.expect(ContextCancel)
        # What a server had sent before it saw the cancel.
        await peer.cancelled("c", 0, spoken_chars=1)
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        await peer.speak(1, "new")
        await peer.expect(TextEnd)
        await peer.done("c", 1, frames=3)

    async with serving(late) as server, cosyduplex.client.connect(server.url) as session:
        first = session.context("c")
        await first.append("old text")
        await anext(first)
        cancelling = asyncio.create_task(first.cancel())
        await asyncio.sleep(0)
        second = session.context("c")
        await second.feed("new text")
        assert await letters(second) == "new"
        assert (await cancelling).spoken_chars == 1
        assert await letters(first) == ""


async def test_stale_frames_of_a_cancelled_context_reach_nobody() -> None:
    is_cancelled, is_sent = asyncio.Event(), asyncio.Event()

    async def stale(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        await is_cancelled.wait()
        await peer.speak(0, "stale")  # the cancel is on its way and not read yet
        is_sent.set()
        await peer.expect(ContextCancel)
        await peer.cancelled("c", 0)

    async with serving(stale) as server, cosyduplex.client.connect(server.url) as session:
        context = session.context("c")
        await context.append("text")
        cancelling = asyncio.create_task(context.cancel())
        await asyncio.sleep(0)
        is_cancelled.set()
        await is_sent.wait()
        await cancelling
        assert await letters(context) == ""


async def test_a_cancel_after_done_is_answered_too_since_done_is_not_heard() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        context = session.context()
        await context.feed("abc")
        await session.ping()
        assert isinstance(context.result, ContextDone)
        cancelled = await context.cancel(played_ms=20)
        assert cancelled.spoken_chars == 3
        assert context.result == cancelled
        assert await letters(context) == ""


async def test_a_cancel_that_the_server_ignores_does_not_wait_for_ever() -> None:
    async def forgetful(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.expect(TextEnd)
        await peer.done("c", 0)
        await peer.expect(ContextCancel)
        await peer.send(Pong(t=(await peer.expect(Ping)).t))

    async with serving(forgetful) as server, cosyduplex.client.connect(server.url) as session:
        context = session.context("c")
        await context.feed("")
        assert [type(event) async for event in context] == [ContextDone]
        assert await context.cancel() is None


async def test_cancelling_what_was_done_does_not_touch_the_context_that_has_its_id_now() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        first = session.context("c")
        await first.feed("a")
        assert await letters(first) == "a"
        second = session.context("c")
        await second.append("b")
        assert await first.cancel() is None
        await second.end()
        assert await letters(second) == "b"


async def test_a_cancel_that_crosses_an_ending_error_ends_too() -> None:
    async def failing(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await is_cancelled.wait()
        await peer.expect(TextAppend)
        await peer.fail("context", context_id="c", index=0)
        await peer.until_end()

    is_cancelled = asyncio.Event()
    async with serving(failing) as server, cosyduplex.client.connect(server.url) as session:
        context = session.context("c")
        await context.append("a")
        cancelling = asyncio.create_task(context.cancel())
        await asyncio.sleep(0)
        is_cancelled.set()
        assert await cancelling is None
        assert await letters(context) == ""


async def test_a_context_that_was_never_opened_is_cancelled_without_a_word() -> None:
    async with serving() as server:
        async with cosyduplex.client.connect(server.url) as session:
            context = session.context()
            assert await context.cancel() is None
            assert await letters(context) == ""
            with pytest.raises(ContextEnded):
                await context.append("a")
        assert not any(isinstance(m, ContextCancel | ContextOpen) for m in server.peers[0].received)


async def test_cancelling_the_session_stops_every_context_and_only_those() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        contexts = [session.context(name) for name in "xyz"]
        unopened = session.context("later")
        for context in contexts:
            await context.append("abc")
        results = await session.cancel()
        assert sorted(result.context_id for result in results) == ["x", "y", "z"]
        assert [await letters(context) for context in contexts] == ["", "", ""]
        await unopened.feed("on")
        assert await letters(unopened) == "on"


async def test_cancelling_the_session_tells_of_done_contexts_that_were_not_heard_out() -> None:
    async def unheard(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        await peer.speak(0, "ab")
        await peer.expect(TextEnd)
        await peer.done("c", 0, frames=2)
        assert (await peer.expect(ContextCancel)).context_id is None
        peer.core.cancel(0)
        await peer.cancelled("c", 0, spoken_chars=1)
        await peer.send(Pong(t=(await peer.expect(Ping)).t))

    async with serving(unheard) as server, cosyduplex.client.connect(server.url) as session:
        context = session.context("c")
        await context.feed("ab")
        assert (await anext(context)).payload == pcm_of("a")
        (result,) = await session.cancel()
        assert (result, result.spoken_chars) == (context.result, 1)
        assert await letters(context) == ""


async def cancel_by_break(session) -> None:
    async for _ in session.speak(endless()):
        break
    gc.collect()
    await session.ping()  # the loop closes what was left behind


async def cancel_by_aclose(session) -> None:
    audio = session.speak(endless())
    await anext(audio)
    await audio.aclose()


async def cancel_by_task(session) -> None:
    async def listen() -> None:
        async for _ in session.speak(endless()):
            is_listening.set()

    is_listening = asyncio.Event()
    task = asyncio.create_task(listen())
    await is_listening.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def cancel_by_error(session) -> None:
    async def listen() -> None:
        async with contextlib.aclosing(session.speak(endless())) as audio:
            async for _ in audio:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await listen()


async def endless():
    yield "a"
    await asyncio.Event().wait()


@pytest.mark.parametrize("leave", [cancel_by_break, cancel_by_aclose, cancel_by_task, cancel_by_error])
async def test_leaving_speak_in_any_way_cancels_the_context_on_the_server(leave) -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        await leave(session)
        await session.ping()
        said = [type(m) for m in server.peers[0].received if not isinstance(m, SessionStart | Ping)]
        assert said == [ContextOpen, TextAppend, ContextCancel]
        assert not [task for task in asyncio.all_tasks() if "feed" in task.get_name()]


async def test_speaking_to_the_end_cancels_nothing() -> None:
    async with serving() as server:
        async with cosyduplex.client.connect(server.url) as session:
            async for _ in session.speak("abc"):
                pass
        assert not any(isinstance(m, ContextCancel) for m in server.peers[0].received)


async def test_part_of_the_text_that_is_not_taken_is_not_passed_over_in_silence() -> None:
    async def refusing(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        await peer.fail("none", context_id="c", index=0)
        await peer.expect(TextEnd)
        await peer.expect(ContextCancel)
        await peer.cancelled("c", 0)

    async with serving(refusing) as server, cosyduplex.client.connect(server.url) as session:
        with pytest.raises(ContextError) as caught:
            async for _ in session.speak("abc", context_id="c"):
                pass
    assert (caught.value.code, caught.value.retryable, caught.value.retry_after_ms) == (
        "over_capacity",
        True,
        50,
    )
