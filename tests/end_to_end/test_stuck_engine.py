"""A worker whose process lives and whose engine is stuck: the context it holds is ended, and no other."""

from __future__ import annotations

import asyncio

import pytest
from native_client import NativeClient

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import (
    ContextDone,
    ContextFlushed,
    ContextStarted,
    Error,
    FlowOptions,
    SessionStart,
    TextAppend,
    TextEnd,
    TextFlush,
)

UNPACED = SessionStart(flow=FlowOptions(max_ahead_ms=0))
PACED = SessionStart(flow=FlowOptions(max_ahead_ms=300))
STALL = ("--engine-stall-s", "0.5")


async def test_what_was_made_before_is_heard_and_then_the_error_comes(fake_server):
    server = fake_server(*STALL, stall_after_ms=600, slots=2)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="A sentence of more than ten characters."), TextEnd())
        error = await client.until(Error)
        assert (error.code, error.ends) == (ErrorCode.ENGINE_FAILED, "context")
        assert "0.5 s" in error.message
        assert len(client.audio()) == 600 * 48
        assert "engine stuck" in server.log()


async def test_the_slot_and_the_other_contexts_of_the_session_go_on(fake_server):
    server = fake_server(*STALL, stall_after_ms=600, slots=2)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(
            TextAppend(context_id="stuck", text="A sentence of more than ten characters."),
            TextEnd(context_id="stuck"),
            TextAppend(context_id="short", text="Short. "),
        )
        assert (await client.until(Error)).context_id == "stuck"
        await client.send(TextEnd(context_id="short"))
        await client.until(ContextDone, context_id="short")
        # Both slots are free again.
        for context_id in ("a", "b"):
            await client.send(TextAppend(context_id=context_id, text="Again. "))
        for context_id in ("a", "b"):
            await client.send(TextEnd(context_id=context_id))
            await client.until(ContextDone, context_id=context_id)


async def test_a_writer_who_goes_on_does_not_hide_it(fake_server):
    server = fake_server(*STALL, stall_after_ms=0)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        answer = asyncio.ensure_future(client.until(Error))
        for _ in range(100):
            if answer.done():
                break
            await client.send(TextAppend(text="More and more. "))
            await asyncio.sleep(0.1)
        assert (await answer).code == ErrorCode.ENGINE_FAILED


async def test_an_end_that_is_never_told_is_noticed(fake_server):
    # All that was asked for has been spoken to the last sample.
    server = fake_server(*STALL, ms_per_char=100, chunk_ms=100, stall_after_ms=600)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="Short."), TextFlush())
        assert (await client.until(Error)).code == ErrorCode.ENGINE_FAILED
        assert client.messages(ContextFlushed) == []


async def test_waiting_for_the_listener_is_not_being_stuck(fake_server):
    # The engine makes all of it at once and rests for 2 s at a time until it may send more.
    server = fake_server("--engine-stall-s", "0.3", ms_per_char=100, max_ahead_ms=60_000)
    async with await NativeClient.open(server.ws_url, PACED) as client:
        await client.send(
            TextAppend(text="This takes a little more than six seconds of everybody's time."), TextEnd()
        )
        done = await client.until(ContextDone)
        assert done.audio_ms == 6200


@pytest.mark.parametrize("text_streaming", [False, True])
async def test_waiting_for_text_is_not_being_stuck(fake_server, text_streaming):
    server = fake_server("--engine-stall-s", "0.2", text_streaming=text_streaming)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="One sentence. And half "))
        await client.until(ContextStarted)
        await asyncio.sleep(0.8)
        await client.send(TextAppend(text="of another."), TextEnd())
        await client.until(ContextDone)
        assert client.messages(Error) == []


async def test_it_can_be_turned_off(fake_server):
    server = fake_server("--engine-stall-s", "0", stall_after_ms=0)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="Nobody will ever say this."), TextEnd())
        await client.until(ContextStarted)
        await client.nothing_more(1.0)
