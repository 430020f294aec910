"""The client and the server as they are, over a real socket."""

from __future__ import annotations

import asyncio

import pytest

import cosyduplex
import cosyduplex.sync
from cosyduplex import ContextDone, SpeechOptions


async def test_speaks_tokens_as_they_come(voice_server):
    async def tokens():
        for token in ("Hel", "lo, wor", "ld. ", "你好，", "世界。"):
            await asyncio.sleep(0.01)
            yield token

    async with cosyduplex.connect(voice_server.url, max_ahead_ms=0) as session:
        pcm = b"".join([chunk async for chunk in session.speak(tokens())])
        assert 2.0 < len(pcm) / 48000 < 5.0


async def test_cancelling_everything_returns_though_a_context_is_done_and_heard_by_then(voice_server):
    async with cosyduplex.connect(voice_server.url) as session:
        for _ in range(5):
            context = session.context()
            await context.append(" ")
            await context.end()
            async with asyncio.timeout(5):
                await session.cancel()


async def test_barge_in_tells_how_far_the_listener_got(voice_server):
    async with cosyduplex.connect(voice_server.url) as session:
        context = session.context(speech=SpeechOptions(speed=0.8))
        await context.append("One two three four five six seven eight nine ten. ")
        async for event in context:
            if isinstance(event, cosyduplex.AudioFrame) and event.pts > 24000:
                break
        cancelled = await context.cancel(played_ms=700)
        assert cancelled is not None
        assert 0 < cancelled.spoken_chars < 20
        assert cancelled.sent_ms > 700


def test_the_blocking_face_speaks_too(voice_server):
    with cosyduplex.sync.connect(voice_server.url, max_ahead_ms=0) as session:
        context = session.context()
        context.feed(["Spoken ", "without ", "asyncio."])
        events = list(context)
        assert isinstance(events[-1], ContextDone)
        assert events[-1].characters == 23


async def test_an_unknown_voice_is_an_error_with_a_solution(voice_server):
    with pytest.raises(cosyduplex.SessionError, match="unknown_voice"):
        async with cosyduplex.connect(voice_server.url, voice="nobody"):
            pass
