"""SIGTERM: nothing new begins, what runs is finished, and the exit code is 0."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.error
import urllib.request

import pytest
from native_client import NativeClient
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from cosyduplex.messages import (
    ContextDone,
    Error,
    FlowOptions,
    SessionDraining,
    SessionEnded,
    SessionStart,
    TextAppend,
    TextEnd,
)

PACED = SessionStart(flow=FlowOptions(max_ahead_ms=300))


async def test_running_contexts_finish_and_nothing_new_begins(fake_server):
    server = fake_server(ms_per_char=100)
    async with (
        await NativeClient.open(server.ws_url, PACED) as busy,
        await NativeClient.open(server.ws_url, PACED) as idle,
    ):
        await busy.send(TextAppend(text="This sentence takes three seconds."), TextEnd())
        while not busy.frames():
            await busy.receive()
        server.process.send_signal(signal.SIGTERM)
        draining = await busy.until(SessionDraining)
        assert (draining.deadline_ms, draining.resume) == (30_000, False)
        assert (await idle.until(SessionEnded)).reason == "draining"
        assert (await idle.until_closed())[0] == 1001
        with pytest.raises(urllib.error.HTTPError) as unready:
            await asyncio.to_thread(urllib.request.urlopen, server.url + "/readyz")
        with unready.value as answer:
            assert answer.code == 503
            assert json.loads(answer.read())["status"] == "draining"
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.ws_url)
        assert refused.value.response.status_code == 503
        await busy.send(TextAppend(context_id="new", text="Too late."))
        error = await busy.until(Error)
        assert (error.code, error.context_id, error.ends) == ("engine_unavailable", "new", "context")
        done = await busy.until(ContextDone)
        assert done.audio_ms == 3400
        assert (await busy.until(SessionEnded)).reason == "draining"
    assert await asyncio.to_thread(server.process.wait, 20) == 0


async def test_what_does_not_finish_in_time_is_ended_with_an_error(fake_server):
    server = fake_server("--drain-timeout", "0.5", ms_per_char=100)
    async with await NativeClient.open(server.ws_url, PACED) as client:
        await client.send(TextAppend(text="This would go on for a very long time. " * 20))
        while not client.frames():
            await client.receive()
        server.process.send_signal(signal.SIGTERM)
        error = await client.until(Error)
        assert (error.code, error.ends, error.retryable) == ("engine_unavailable", "context", True)
        assert (await client.until_closed())[0] == 1001
    assert await asyncio.to_thread(server.process.wait, 20) == 0
    assert "Traceback" not in server.log()


async def test_a_client_that_does_not_answer_the_close_holds_nothing_up(fake_server):
    server = fake_server()
    client = await NativeClient.open(server.ws_url, PACED)
    client.socket.transport.pause_reading()
    assert await asyncio.to_thread(server.terminate) == 0
    client.socket.transport.abort()
