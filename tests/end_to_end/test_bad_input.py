"""Bad input ends what it concerns and nothing else, and says what to do."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

import pytest
from native_client import NativeClient
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from cosyduplex.messages import (
    AudioOptions,
    ContextDone,
    ContextOpen,
    ContextStarted,
    Error,
    FlowOptions,
    Ping,
    Pong,
    SessionStart,
    SessionStarted,
    SpeechOptions,
    TextAppend,
    TextEnd,
    Warning,
)

UNPACED = SessionStart(flow=FlowOptions(max_ahead_ms=0))


@pytest.fixture(scope="module")
def server(voice_server):
    return voice_server


async def still_speaks(client: NativeClient) -> None:
    """The session goes on as if nothing had been."""
    await client.send(TextAppend(context_id="after", text="Still here."), TextEnd(context_id="after"))
    done = await client.until(ContextDone)
    assert done.context_id == "after"
    assert done.audio_ms > 300


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("not json", "JSON"),
        ("[]", "object"),
        ('"text"', "object"),
        ("", "JSON"),
        ("[" * 100_000, "JSON"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "JSON"),
        ("{}", "type"),
        ('{"type": 3}', "type"),
        ('{"type": "text.shout"}', "unknown"),
        ('{"type": "text.append"}', "text is missing"),
        ('{"type": "text.append", "text": 5}', "text must be a string"),
        ('{"type": "text.append", "text": "x", "context_id": []}', "context_id"),
        ('{"type": "text.append", "text": "x", "context_id": ""}', "context_id"),
        ('{"type": "text.append", "text": "x", "n": "1"}', "n must be"),
        ('{"type": "text.append", "text": "x", "n": 0}', "n must be"),
        ('{"type": "context.open", "speech": {"speed": 9}}', "speech.speed"),
        ('{"type": "context.open", "speech": {"pitch": "high"}}', "speech.pitch"),
        ('{"type": "context.open", "text": {"markup": "rtf"}}', "text.markup"),
        ('{"type": "playback.report", "played_ms": -1}', "played_ms"),
        ('{"type": "feedback", "score": 6}', "score"),
        ('{"type": "session.start"}', "started"),
        ('{"type": "text.flush", "context_id": "never"}', "no context"),
        ('{"type": "text.end", "context_id": "never"}', "no context"),
        (b"audio?", "binary"),
    ],
)
async def test_a_message_that_cannot_be_read_ends_nothing(server, raw, says):
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.socket.send(raw)
        error = await client.until(Error)
        assert (error.code, error.ends, error.retryable) == ("bad_request", "none", False)
        assert says in error.message
        assert error.solution
        await still_speaks(client)


async def test_unknown_fields_and_nulls_are_ignored(server):
    async with await NativeClient.open(server.ws_url) as client:
        await client.send_raw(
            type="session.start", voice=None, audio=None, speech={"speed": None, "x": 1}, y={}
        )
        await client.until(SessionStarted)
        await client.send(ContextOpen())
        await client.until(ContextStarted)
        await client.send_raw(type="text.append", text="Hello.", tone=[1, 2])
        await client.send(TextEnd())
        assert (await client.until(ContextDone)).characters == 6


async def test_five_unreadable_messages_in_a_row_close_1003(server):
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        for _ in range(4):
            await client.socket.send("?")
        await client.send(Ping())
        await client.until(Pong)
        for _ in range(5):
            await client.socket.send(b"?")
        assert (await client.until_closed())[0] == 1003
        assert [error.ends for error in client.messages(Error)] == ["none"] * 8 + ["session"]


async def test_text_that_is_not_utf8_closes_1007(server):
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.socket.send(b'{"type": "ping", "t": "\xff"}', text=True)
        assert (await client.until_closed())[0] == 1007


async def test_a_message_over_the_limit_closes_1009(server):
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.socket.send("x" * 2_000_000)
            await client.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def test_900_kb_of_text_is_refused_and_nothing_of_it_is_taken(server):
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="a" * 900_000))
        error = await client.until(Error)
        assert (error.code, error.ends) == ("text_too_long", "none")
        await client.send(TextAppend(text="Short."), TextEnd())
        assert (await client.until(ContextDone)).characters == 6


async def test_text_that_waits_to_be_spoken_is_bounded(server):
    async with await NativeClient.open(server.ws_url, SessionStart()) as client:
        for _ in range(4):
            await client.send(TextAppend(text="word " * 15_000))
        error = await client.until(Error)
        assert (error.code, error.ends) == ("text_too_long", "none")
        assert "wait" in error.message


async def test_ten_thousand_appends_of_one_character_are_one_text(server):
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        text = "All of this comes one character at a time. " * 233
        for char in text[:10_000]:
            await client.send(TextAppend(text=char))
        await client.send(TextEnd())
        done = await client.until(ContextDone)
        assert done.characters == 10_000
        assert done.audio_ms > 300_000


@pytest.mark.parametrize(
    "text",
    [
        "1" * 20_000,
        "A" * 20_000,
        "!" * 20_000,
        "\u0301" * 5000,
        "\U0001f469\u200d" * 5000,
        "<|endofprompt|>" * 500,
    ],
)
async def test_text_that_expands_is_spoken_in_bounded_pieces_and_can_be_cancelled(server, text):
    async with await NativeClient.open(server.ws_url, SessionStart()) as client:
        await client.send(TextAppend(context_id="bomb", text=text))
        await client.send(TextAppend(context_id="after", text="Meanwhile."), TextEnd(context_id="after"))
        done = await client.until(ContextDone, context_id="after")
        assert done.audio_ms > 300


@pytest.mark.parametrize(
    "text",
    [
        "lone \ud83d surrogate \udc00 here.",
        "control \x00\x07\x1b[31m characters.",
        "zero\u200bwidth \u2060and\ufeff bidi \u202emarks.",
        "<speak><break time='10s'/>tags</speak>.",
        "[[h@l'oU]] and <|im_end|> look-alikes.",
    ],
)
async def test_odd_characters_are_spoken_as_nothing(server, text):
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text=text), TextEnd())
        done = await client.until(ContextDone)
        assert done.characters == len(text)
        assert 200 < done.audio_ms < 6000


async def test_lone_surrogates_in_every_other_field_end_nothing_they_should_not(server):
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        speech = {"emotion": "\ud83d", "instruct": "\udc00", "dialect": "\ud83d"}
        await client.send(ContextOpen(context_id="x\ud83d", language="\ud83d"))
        assert (await client.until(ContextStarted)).context_id == "x\ud83d"
        assert "language" in (await client.until(Warning)).message
        await client.send(TextAppend(context_id="x\ud83d", text="Fine."), TextEnd(context_id="x\ud83d"))
        assert (await client.until(ContextDone)).audio_ms > 200
        await client.send(
            ContextOpen(speech=SpeechOptions(**speech)), TextAppend(text="Fine too."), TextEnd()
        )
        assert (await client.until(ContextDone)).audio_ms > 200
        await client.send(ContextOpen(context_id="voice", voice="\ud83d"))
        assert (await client.until(Error)).code == "unknown_voice"


async def test_an_unknown_voice_ends_what_asked_for_it(server):
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(ContextOpen(context_id="odd", voice="nobody"))
        error = await client.until(Error)
        assert (error.code, error.ends, error.context_id) == ("unknown_voice", "context", "odd")
        assert "default" in error.solution
        await still_speaks(client)
    async with await NativeClient.open(server.ws_url) as client:
        await client.send(SessionStart(voice="nobody"))
        error = await client.until(Error)
        assert (error.code, error.ends) == ("unknown_voice", "session")
        assert (await client.until_closed())[0] == 1008


@pytest.mark.parametrize(
    "audio",
    [
        AudioOptions(encoding="mp3"),
        AudioOptions(sample_rate=12345),
        AudioOptions(frame_ms=25),
        AudioOptions(encoding="opus", sample_rate=44100),
        AudioOptions(encoding="opus", profile="hifi"),
        AudioOptions(encoding="opus", bitrate=1),
    ],
)
async def test_audio_that_cannot_be_made_ends_the_session_and_lists_what_can(server, audio):
    async with await NativeClient.open(server.ws_url) as client:
        await client.send(SessionStart(audio=audio))
        error = await client.until(Error)
        assert (error.code, error.ends) == ("unsupported_format", "session")
        assert (await client.until_closed())[0] == 1003


async def test_a_resume_is_refused_until_sessions_outlive_their_sockets(server):
    async with await NativeClient.open(server.ws_url) as client:
        await client.send_raw(
            type="session.start", resume={"session_id": "x", "resume_token": "y", "last_seq": 0, "last_ev": 0}
        )
        error = await client.until(Error)
        assert (error.code, error.ends) == ("resume_failed", "session")


async def test_use_of_an_ended_context_is_told_and_ends_nothing(server):
    async with await NativeClient.open(server.ws_url, SessionStart()) as client:
        await client.send(
            TextAppend(text="It has ended, but is not done yet, since it is paced. " * 3), TextEnd()
        )
        for kind in ("text.append", "text.end", "context.open"):
            await client.send_raw(type=kind, text="more" if kind == "text.append" else None)
            error = await client.until(Error)
            assert (error.code, error.ends, error.context_id) == ("bad_request", "none", "default")


async def test_too_many_contexts_are_refused_one_by_one(server):
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        for number in range(16):
            await client.send(ContextOpen(context_id=f"c{number}"))
        await client.send(ContextOpen(context_id="one too many"))
        error = await client.until(Error)
        assert (error.code, error.ends, error.context_id) == ("over_capacity", "context", "one too many")
        assert error.retry_after_ms is not None
        await client.send(
            TextAppend(context_id="c0", text="There is room for this."), TextEnd(context_id="c0")
        )
        assert (await client.until(ContextDone)).context_id == "c0"


async def test_silence_for_ever_is_closed_with_1008(start_server):
    server = start_server("--first-message-s", "0.3")
    async with await NativeClient.open(server.ws_url) as client:
        assert (await client.until_closed())[0] == 1008
        assert client.messages(Error)[0].code == "timeout"


async def test_a_socket_too_many_is_closed_with_1013(start_server):
    server = start_server("--max-sessions", "1")
    async with await NativeClient.open(server.ws_url, UNPACED) as first:
        async with await NativeClient.open(server.ws_url) as second:
            assert (await second.until_closed())[0] == 1013
            assert second.messages(Error)[0].code == "over_capacity"
        await still_speaks(first)
    async with await NativeClient.open(server.ws_url, UNPACED) as third:
        await still_speaks(third)


async def test_sockets_that_come_together_do_not_overrun_the_limit(start_server):
    server = start_server("--max-sessions", "3")
    clients = await asyncio.gather(*(NativeClient.open(server.ws_url) for _ in range(12)))
    started = refused = 0
    for client in clients:
        try:
            await client.send(Ping())
            await client.until(Pong)
            started += 1
        except ConnectionClosed:
            refused += client.socket.close_code == 1013
    for client in clients:
        await client.socket.close()
    assert (started, refused) == (3, 9)


async def test_half_a_handshake_holds_nothing(server):
    half = socket.create_connection(("127.0.0.1", server.port))
    half.sendall(b"GET /v1/duplex HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgr")
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await still_speaks(client)
    half.close()


async def test_a_first_message_in_one_piece_with_the_handshake_is_not_lost(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    payload = b'{"type":"ping","t":1}'
    masked = bytes(byte ^ 1 for byte in payload)
    writer.write(
        b"GET /v1/duplex HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        + bytes((0x81, 0x80 | len(payload), 1, 1, 1, 1))
        + masked
    )
    got = await reader.readuntil(b'"pong"')
    assert b"101" in got
    assert b"session.started" in got
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "head",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"POST /v1/tokens HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 200_000,
    ],
)
async def test_broken_http_is_answered_and_closed(server, head):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head)
    answer = await reader.read(4096)
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"Traceback" not in answer
    writer.close()


@pytest.mark.parametrize(
    "frame", [b"\xc1\x80\0\0\0\0", b"\x83\x80\0\0\0\0", b"\x81\x05hello", b"\x80\x80\0\0\0\0"]
)
async def test_broken_websocket_frames_close_the_socket_alone(server, frame):
    async with connect(server.ws_url) as broken, await NativeClient.open(server.ws_url, UNPACED) as client:
        broken.transport.write(frame)
        with pytest.raises(ConnectionClosed) as closed:
            await broken.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1002
        await still_speaks(client)


async def test_a_flood_of_pings_is_cut_off_and_hurts_nobody(server):
    async with connect(server.ws_url) as flood, await NativeClient.open(server.ws_url, UNPACED) as client:
        await flood.send(json.dumps({"type": "ping"}))
        flood.transport.write(b"\x89\x80\0\0\0\0" * 50_000)
        await still_speaks(client)
        with pytest.raises(ConnectionClosed):
            while True:
                await flood.recv()
        assert flood.close_code in (1006, 1008)


async def test_a_message_dripped_in_fragments_is_one_message(server):
    async with await NativeClient.open(server.ws_url, UNPACED) as client:

        async def drip():
            for part in ('{"type": "te', 'xt.append", "text"', ': "In pieces."}'):
                yield part
                await asyncio.sleep(0.01)

        await client.send(ContextOpen())
        await client.socket.send(drip(), text=True)
        await client.send(TextEnd())
        assert (await client.until(ContextDone)).characters == len("In pieces.")


async def test_a_client_that_vanishes_frees_everything(start_server, start_worker):
    worker = start_worker(realtime_factor=1.0)
    server = start_server("--workers", worker.address)
    client = await NativeClient.open(server.ws_url, SessionStart())
    await client.send(TextAppend(text="A very long story begins here and does not end. " * 20))
    while not client.frames():
        await client.receive()
    raw = client.socket.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.transport.abort()
    async with await NativeClient.open(server.ws_url, SessionStart()) as other:
        await other.send(Ping())
        await other.until(Pong)
    busy = ""
    while 'cosyduplex_engine_slots{state="busy"} 0.0' not in busy:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        busy = (await reader.read()).decode()
        writer.close()
    assert "cosyduplex_contexts 0.0" in busy
    assert 'outcome="dropped"' in busy
