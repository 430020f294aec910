"""How a session begins and ends, and what is raised where it cannot."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
from client.scripted_server import Peer, heard, refusal, serving

import cosyduplex.client
from cosyduplex import wire
from cosyduplex.client import ConnectError, ContextError, SessionClosed, SessionError
from cosyduplex.messages import (
    AudioFrame,
    AudioOptions,
    ContextCancel,
    ContextOpen,
    ErrorCode,
    Feedback,
    FlowOptions,
    SessionDraining,
    SessionEnd,
    SessionEnded,
    SessionStart,
    SpeechOptions,
    TextAppend,
    TextEnd,
    TextOptions,
    Warning,
)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as unbound:
        unbound.bind(("127.0.0.1", 0))
        return unbound.getsockname()[1]


async def test_the_wishes_of_a_session_are_its_first_message() -> None:
    wishes = {
        "voice": "anna",
        "language": "zh",
        "audio": AudioOptions(encoding="opus", sample_rate=48000),
        "speech": SpeechOptions(speed=1.2),
        "text": TextOptions(normalize=False),
        "marks": True,
    }
    async with serving() as server:
        async with cosyduplex.client.connect(server.url, max_ahead_ms=500, **wishes) as session:
            assert session.started.voice == "anna"
        assert server.peers[0].received[0] == SessionStart(flow=FlowOptions(max_ahead_ms=500), **wishes)


@pytest.mark.parametrize(
    ("tail", "path"),
    [
        ("", "/v1/duplex"),
        ("/", "/v1/duplex"),
        ("/v1/duplex", "/v1/duplex"),
        ("/v1/duplex/?a=b", "/v1/duplex?a=b"),
        ("/behind/proxy", "/behind/proxy/v1/duplex"),
    ],
)
@pytest.mark.parametrize("scheme", ["ws://", "http://", ""])
async def test_a_url_may_leave_out_what_is_always_so(scheme: str, tail: str, path: str) -> None:
    async with serving() as server:
        async with cosyduplex.client.connect(server.url.replace("ws://", scheme) + tail):
            pass
        assert server.path == path


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch, free_port) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        assert await session.ping() > 0


async def test_the_key_goes_into_the_header() -> None:
    async with serving() as server:
        async with cosyduplex.client.connect(server.url, api_key="secret"):
            pass
        assert server.headers["Authorization"] == "Bearer secret"
        assert "Origin" not in server.headers


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [(401, "unauthorized", False), (403, "forbidden_origin", False), (503, "engine_unavailable", True)],
)
async def test_a_refused_handshake_says_why_and_what_to_do(status: int, code: str, retryable: bool) -> None:
    async with serving() as server:
        server.refusal = refusal(status, code, "the reason", "The way out.")
        with pytest.raises(ConnectError) as caught:
            async with cosyduplex.client.connect(server.url):
                pass
    assert str(caught.value) == f"{code}: the reason — The way out."
    assert (caught.value.code, caught.value.retryable) == (code, retryable)


@pytest.mark.parametrize("body", [b"<html>Not Found</html>", b"[]", b"", b"\xff"])
async def test_a_refusal_by_some_other_server_is_told_as_such(body: bytes) -> None:
    async with serving() as server:
        server.refusal = (404, body)
        with pytest.raises(ConnectError, match="HTTP 404") as caught:
            async with cosyduplex.client.connect(server.url):
                pass
    assert caught.value.code == "refused"


async def test_nobody_listening_is_told_with_the_way_to_start_a_server(free_port: int) -> None:
    with pytest.raises(ConnectError, match=rf"nobody answers at .*:{free_port}.*cosyduplex serve"):
        async with cosyduplex.client.connect(f"ws://127.0.0.1:{free_port}"):
            pass


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "ws://"])
async def test_a_url_that_is_none_is_told(url: str) -> None:
    with pytest.raises(ConnectError, match="bad_request"):
        async with cosyduplex.client.connect(url):
            pass


@pytest.mark.parametrize(
    ("answer", "message"), [(b"220 smtp.example ready\r\n", "does not speak WebSocket"), (b"", "timed out")]
)
async def test_what_does_not_speak_websocket_is_told(answer: bytes, message: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        is_closed.set()

    is_closed = asyncio.Event()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(ConnectError, match=message):
            async with cosyduplex.client.connect(f"ws://127.0.0.1:{port}", open_timeout=0.2):
                pass
        await is_closed.wait()


async def test_plain_http_behind_https_is_told() -> None:
    async with serving() as server:
        with pytest.raises(ConnectError, match="unreachable"):
            async with cosyduplex.client.connect(
                server.url.replace("ws", "wss"), ssl=ssl.create_default_context()
            ):
                pass


async def test_a_server_that_never_begins_is_given_up() -> None:
    async def mute(peer: Peer) -> None:
        await peer.socket.wait_closed()

    async with serving(mute) as server:
        with pytest.raises(ConnectError, match="timeout"):
            async with cosyduplex.client.connect(server.url, open_timeout=0.2):
                pass


async def test_a_full_server_that_closes_the_socket_is_told() -> None:
    async def full(peer: Peer) -> None:
        await peer.socket.close(1013, "full")

    async with serving(full) as server:
        with pytest.raises(ConnectError, match="over_capacity") as caught:
            async with cosyduplex.client.connect(server.url):
                pass
    assert caught.value.retryable


async def test_a_wish_that_the_server_does_not_know_is_raised_by_connect() -> None:
    async def refusing(peer: Peer) -> None:
        await peer.receive()
        await peer.fail("session")
        await peer.socket.close(1008)

    async with serving(refusing) as server:
        with pytest.raises(SessionError, match="over_capacity"):
            async with cosyduplex.client.connect(server.url, voice="nobody"):
                pass


@pytest.mark.parametrize("wish", [{"speech": SpeechOptions(speed=3)}, {"max_ahead_ms": 5}, {"voice": ""}])
async def test_a_wish_outside_its_limits_never_reaches_a_server(wish) -> None:
    with pytest.raises(ValueError, match="must"):
        async with cosyduplex.client.connect("ws://127.0.0.1:1", **wish):
            pass


async def test_an_error_ends_one_context_and_the_audio_before_it_is_heard() -> None:
    async def failing(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        await peer.speak(0, "ab")
        await peer.fail("context", context_id="c", index=0)
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        await peer.speak(1, "again")
        await peer.until_end()

    async with serving(failing) as server, cosyduplex.client.connect(server.url) as session:
        context = session.context("c")
        await context.append("text")
        assert heard((await anext(context)).payload + (await anext(context)).payload) == "ab"
        for _ in range(2):
            with pytest.raises(ContextError) as caught:
                await anext(context)
        assert (caught.value.message, caught.value.solution) == ("too much is spoken", "Wait.")
        assert await context.cancel() is None
        again = session.context("c")
        await again.append("text")
        assert heard((await anext(again)).payload) == "a"


async def test_an_error_of_the_session_ends_everything() -> None:
    async def failing(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.fail("session")
        await peer.socket.close(1011)

    async with serving(failing) as server, cosyduplex.client.connect(server.url) as session:
        context, unopened = session.context(), session.context()
        await context.flush()
        for broken in (anext(context), anext(unopened), session.ping(), session.cancel(), context.end()):
            with pytest.raises(SessionError, match="over_capacity"):
                await broken
        with pytest.raises(SessionError):
            session.feedback("c", 5)
        with pytest.raises(SessionError):
            await anext(session.context())


async def test_a_socket_that_dies_is_told_to_everyone_after_what_had_come() -> None:
    async def dying(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        await peer.speak(0, "ab")
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        peer.socket.transport.abort()

    async def letters(context) -> str:
        pcm = b""
        try:
            async for event in context:
                pcm += event.payload
        except SessionClosed as exc:
            return f"{heard(pcm)} {exc.code}"
        return "ended"

    async with serving(dying) as server, cosyduplex.client.connect(server.url) as session:
        first, second, unopened = (session.context() for _ in range(3))
        listening = [asyncio.create_task(letters(context)) for context in (first, second, unopened)]
        await first.append("ab")
        await second.append("x")
        assert await asyncio.gather(*listening) == ["ab 1006", " 1006", " 1006"]
        assert [event async for event in session.events()] == []
        assert await first.cancel() is None


async def test_a_socket_that_dies_ends_a_speech_that_waits_for_its_tokens() -> None:
    async def dying(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        await peer.speak(0, "a")
        peer.socket.transport.abort()

    async def tokens() -> AsyncIterator[str]:
        yield "a"
        await asyncio.Event().wait()

    async with serving(dying) as server, cosyduplex.client.connect(server.url) as session:
        audio = session.speak(tokens())
        assert heard(await anext(audio)) == "a"
        with pytest.raises(SessionClosed):
            await anext(audio)


async def test_a_cancel_whose_answer_never_comes_ends_with_the_socket() -> None:
    async def dying(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        await peer.expect(ContextCancel)
        peer.socket.transport.abort()

    async with serving(dying) as server, cosyduplex.client.connect(server.url) as session:
        context = session.context()
        await context.append("a")
        with pytest.raises(SessionClosed):
            await context.cancel()


async def test_a_server_that_breaks_the_protocol_ends_the_session() -> None:
    async def broken(peer: Peer) -> None:
        await peer.begin()
        await peer.socket.send(wire.encode_frame(AudioFrame(7, 1, 0, b"")))
        await peer.socket.wait_closed()
        assert peer.socket.close_code == 1002

    async with serving(broken) as server, cosyduplex.client.connect(server.url) as session:
        with pytest.raises(SessionClosed, match="audio for a context that is not live"):
            await anext(session.context())


async def test_leaving_the_block_cancels_what_speaks_and_ends_the_session() -> None:
    async with serving() as server:
        async with cosyduplex.client.connect(server.url) as session:
            context, done = session.context("c"), session.context("done")
            await done.feed("b")
            async for _ in done:
                pass
            await context.append("a")
        received = server.peers[0].received
        assert [m.context_id for m in received if isinstance(m, ContextCancel)] == ["c"]
        assert isinstance(received[-1], SessionEnd)
        assert server.peers[0].socket.close_code == 1000
        with pytest.raises(SessionClosed, match="closed by this side"):
            await anext(context)
        await session.aclose()


async def test_an_error_in_the_block_is_raised_as_it_is() -> None:
    async with serving() as server:
        with pytest.raises(ZeroDivisionError):
            async with cosyduplex.client.connect(server.url):
                raise ZeroDivisionError
        await server.peers[0].socket.wait_closed()


async def test_a_session_that_is_cancelled_leaves_nothing_behind() -> None:
    async def use(url: str) -> None:
        async with cosyduplex.client.connect(url) as session:
            context = session.context()
            await context.append("a")
            is_speaking.set()
            async for _ in context:
                pass

    is_speaking = asyncio.Event()
    async with serving() as server:
        task = asyncio.create_task(use(server.url))
        await is_speaking.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.peers[0].socket.wait_closed()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("cosyduplex")]


async def test_a_server_that_ends_the_session_says_why() -> None:
    async def draining(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.send(Warning(code=ErrorCode.RATE_LIMITED, message="slower"))
        await peer.send(Warning(code=ErrorCode.UNSUPPORTED_PARAMETER, message="no pitch", context_id="c"))
        await peer.fail("none")
        await peer.send(SessionDraining(deadline_ms=1000, resume=False))
        await peer.expect(TextEnd)
        await peer.done("c", 0)
        await peer.send(SessionEnded(reason="draining", audio_ms=0, characters=0))
        await peer.socket.close(1001)

    async with serving(draining) as server, cosyduplex.client.connect(server.url) as session:
        context = session.context("c")
        await context.end()
        kinds = [event.type async for event in session.events()]
        assert kinds == ["warning", "error", "session.draining", "session.ended"]
        assert [event.type async for event in context] == ["warning", "context.done"]
        with pytest.raises(SessionClosed, match="draining"):
            await anext(session.context())


async def test_feedback_reaches_the_server_within_its_limits() -> None:
    async with serving() as server:
        async with cosyduplex.client.connect(server.url) as session:
            session.feedback("c", 4, "good")
            with pytest.raises(ValueError, match="score"):
                session.feedback("c", 6)
        assert Feedback(context_id="c", score=4, comment="good") in server.peers[0].received
