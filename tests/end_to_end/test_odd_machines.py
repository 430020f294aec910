"""Machines that lack something, and addresses that are not the usual ones."""

from __future__ import annotations

import json
import urllib.request

from native_client import NativeClient

from cosyduplex.messages import (
    AudioOptions,
    ContextDone,
    Error,
    FlowOptions,
    SessionStart,
    TextAppend,
    TextEnd,
)

NO_LIBOPUS = """
import ctypes.util
find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if name == "opus" else find(name)
"""


async def test_without_libopus_pcm_works_and_opus_is_refused_with_what_to_install(start_server):
    server = start_server(prelude=NO_LIBOPUS)
    with urllib.request.urlopen(server.url + "/v1/info") as answer:
        assert [codec["encoding"] for codec in json.loads(answer.read())["codecs"]] == ["pcm_s16le"]
    async with await NativeClient.open(server.ws_url) as client:
        await client.send(SessionStart(audio=AudioOptions(encoding="opus")))
        error = await client.until(Error)
        assert error.code == "unsupported_format"
        assert "libopus" in error.message
        assert "pcm_s16le" in error.solution
    async with await NativeClient.open(
        server.ws_url, SessionStart(flow=FlowOptions(max_ahead_ms=0))
    ) as client:
        await client.send(TextAppend(text="Plain samples do."), TextEnd())
        assert (await client.until(ContextDone)).audio_ms > 500


async def test_it_listens_on_ipv6_too(fake_server):
    server = fake_server("--host", "::1")
    assert server.url.startswith("http://[::1]:")
    async with await NativeClient.open(server.ws_url, SessionStart()) as client:
        await client.send(TextAppend(text="Hello."), TextEnd())
        assert (await client.until(ContextDone)).characters == 6


async def test_beyond_loopback_a_key_is_needed_and_the_address_is_its_own_name(fake_server):
    server = fake_server("--host", "0.0.0.0", "--api-key", "secret")
    headers = {"Authorization": "Bearer secret"}
    async with await NativeClient.open(
        f"ws://127.0.0.1:{server.port}/v1/duplex", SessionStart(), additional_headers=headers
    ) as client:
        await client.send(TextAppend(text="Hello."), TextEnd())
        assert (await client.until(ContextDone)).characters == 6


async def test_workers_that_are_not_there_yet_are_waited_for(start_server, tmp_path):
    server = start_server("--workers", f"unix:{tmp_path}/nobody.sock")
    async with await NativeClient.open(server.ws_url, SessionStart()) as client:
        await client.send(TextAppend(text="Hello. "))
        error = await client.until(Error)
        assert (error.code, error.ends, error.retryable) == ("engine_unavailable", "context", True)
        assert error.retry_after_ms is not None
