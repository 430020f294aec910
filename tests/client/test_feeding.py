"""What may be fed, and that it arrives as it was written."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from client.scripted_server import Peer, heard, serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cosyduplex.client
from cosyduplex.client import ContextEnded, ContextError, SessionClosed
from cosyduplex.errors import LocalProtocolError
from cosyduplex.messages import (
    AudioFrame,
    ContextDone,
    ContextFlushed,
    ContextOpen,
    Limits,
    SpeechOptions,
    TextAppend,
    TextEnd,
    TextFlush,
    TextOptions,
)


def generated() -> Iterator[str | None]:
    yield from ("one ", "", None, "two ", "three")


async def streamed() -> AsyncIterator[str | None]:
    for token in generated():
        await asyncio.sleep(0)
        yield token


class Sequence:
    def __iter__(self) -> Iterator[str | None]:
        return generated()


class AsyncSequence:
    def __aiter__(self) -> AsyncIterator[str | None]:
        return streamed()


@pytest.mark.parametrize(
    "tokens",
    [
        "one two three",
        ["one ", "two ", "three"],
        ("one ", "two ", "three"),
        generated,
        streamed,
        Sequence,
        AsyncSequence,
        lambda: iter(["one ", "two ", "three"]),
    ],
)
async def test_any_iterable_of_tokens_is_spoken_to_its_end(tokens) -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        pcm = b"".join([audio async for audio in session.speak(tokens() if callable(tokens) else tokens)])
    assert heard(pcm) == "one two three"


async def test_audio_comes_before_the_last_token_is_written() -> None:
    has_heard = asyncio.Event()

    async def tokens() -> AsyncIterator[str]:
        yield "first"
        await has_heard.wait()
        yield "second"

    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        spoken = []
        async for audio in session.speak(tokens()):
            spoken.append(audio)
            has_heard.set()
    assert heard(b"".join(spoken)) == "firstsecond"


async def test_an_iterator_that_blocks_does_not_hold_up_the_audio() -> None:
    has_heard = threading.Event()

    def tokens() -> Iterator[str]:
        yield "first"
        has_heard.wait()
        yield "second"

    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        spoken = []
        async for audio in session.speak(tokens()):
            spoken.append(audio)
            has_heard.set()
    assert heard(b"".join(spoken)) == "firstsecond"


@pytest.mark.parametrize("blocking", [True, False])
async def test_what_the_tokens_raise_is_raised_where_the_audio_is_taken(blocking: bool) -> None:
    def broken() -> Iterator[str]:
        yield "a"
        raise ZeroDivisionError

    async def broken_stream() -> AsyncIterator[str]:
        yield "a"
        raise ZeroDivisionError

    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        with pytest.raises(ZeroDivisionError):
            async for _ in session.speak(broken() if blocking else broken_stream()):
                pass
        assert heard(b"".join([audio async for audio in session.speak("on")])) == "on"


async def test_tokens_that_are_cancelled_do_not_leave_the_listener_waiting() -> None:
    async def tokens() -> AsyncIterator[str]:
        yield "a"
        raise asyncio.CancelledError

    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        audio = session.speak(tokens())
        with pytest.raises(asyncio.CancelledError):
            async for _ in audio:
                pass


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec=None), max_size=40), limit=st.integers(1, 7))
def test_long_text_arrives_whole_in_messages_within_the_limits(text: str, limit: int) -> None:
    async def run() -> None:
        async with serving(limits=Limits(max_text_chars=limit)) as server:
            async with cosyduplex.client.connect(server.url) as session:
                context = session.context()
                await context.append(text)
                await context.end()
                assert [event async for event in context][-1].characters == len(text)
            pieces = [m.text for m in server.peers[0].received if isinstance(m, TextAppend)]
        assert "".join(pieces) == text
        assert all(len(piece) <= limit for piece in pieces)

    asyncio.run(run())


async def test_no_message_is_longer_than_the_server_reads() -> None:
    text = "\ud800" + "\N{GRINNING FACE}" * 50_000  # the lone surrogate has all of it escaped
    sizes: list[int] = []

    async def count(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        taken = 0
        while taken < len(text):
            data = await peer.socket.recv()
            sizes.append(len(data))
            taken += len(peer.core.receive_text(data)[0].message.text)
        await peer.expect(TextEnd)
        await peer.done("c", 0)

    async with (
        serving(count, limits=Limits(max_message_bytes=100_000)) as server,
        cosyduplex.client.connect(server.url) as session,
    ):
        context = session.context("c")
        await context.feed(text)
        async for _ in context:
            pass
    assert len(sizes) > 1
    assert max(sizes) <= 100_000


async def test_text_that_is_no_text_is_refused_here() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        with pytest.raises(TypeError, match="not bytes"):
            await session.context().append(b"text")
        with pytest.raises(TypeError, match="not int"):
            async for _ in session.speak([1]):
                pass


async def test_a_context_says_its_wishes_when_it_opens() -> None:
    speech, text = SpeechOptions(speed=1.5), TextOptions(markup="plain")
    async with serving() as server:
        async with cosyduplex.client.connect(server.url) as session:
            context = session.context("c", voice="anna", language="zh", speech=speech, text=text)
            assert server.peers[0].received[1:] == []
            await context.feed("x")
            assert [type(event) async for event in context] == [AudioFrame, ContextDone]
        assert server.peers[0].received[1:4] == [
            ContextOpen(context_id="c", voice="anna", language="zh", speech=speech, text=text, n=1),
            TextAppend(context_id="c", text="x", n=2),
            TextEnd(context_id="c", n=3),
        ]


@pytest.mark.parametrize("wish", [{"voice": ""}, {"speech": SpeechOptions(speed=9)}, {"context_id": ""}])
async def test_a_wish_outside_its_limits_is_refused_here(wish) -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        with pytest.raises(ValueError, match=r"context\.open: (voice|speech\.speed|context_id) must"):
            session.context(**wish)


async def test_a_flush_is_answered_when_its_text_is_spoken() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        context = session.context()
        await context.append("ab")
        await context.flush()
        await context.append("c")
        await context.end()
        events = [event async for event in context]
    assert [type(event) for event in events] == [
        AudioFrame,
        AudioFrame,
        ContextFlushed,
        AudioFrame,
        ContextDone,
    ]
    assert events[2].audio_ms == 40
    assert context.result == events[-1]


async def test_text_after_its_end_is_refused_and_ending_twice_is_ending_once() -> None:
    async def slow(peer: Peer) -> None:
        await peer.begin()
        for kind in (ContextOpen, TextAppend, TextEnd, TextFlush):
            await peer.expect(kind)
        await peer.flushed("c", 0)
        await peer.done("c", 0)

    async with serving(slow) as server, cosyduplex.client.connect(server.url) as session:
        context = session.context("c")
        await context.append("a")
        await context.end()
        await context.end()
        with pytest.raises(LocalProtocolError):
            await context.append("b")
        await context.flush()
        async for _ in context:
            pass
        with pytest.raises(ContextEnded, match="done"):
            await context.append("b")


async def test_feeding_ends_quietly_when_the_context_is_cancelled() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        context, more = session.context(), asyncio.Event()

        async def tokens() -> AsyncIterator[str]:
            yield "a"
            await more.wait()
            yield "b"

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(context.feed(tokens()))
            await anext(context)
            await context.cancel()
            more.set()


async def test_feeding_a_context_that_failed_raises_why() -> None:
    async def full(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.fail("context", context_id="c", index=0)
        await peer.until_end()

    async with serving(full) as server, cosyduplex.client.connect(server.url) as session:
        context = session.context("c")
        await context.append("a")
        with pytest.raises(ContextError):
            await anext(context)
        with pytest.raises(ContextError, match="over_capacity: too much is spoken — Wait"):
            await context.feed("more")


async def test_text_that_the_socket_does_not_take_waits_and_is_let_go_at_the_end() -> None:
    async def deaf(peer: Peer) -> None:
        await peer.begin()
        peer.socket.transport.pause_reading()
        await peer.socket.wait_closed()

    async with serving(deaf) as server, cosyduplex.client.connect(server.url) as session:
        context = session.context()
        feeding = asyncio.create_task(context.feed(["x" * 80_000] * 1000))
        done, _ = await asyncio.wait([feeding], timeout=0.5)
        assert not done
        server.peers[0].socket.transport.abort()
        with pytest.raises(SessionClosed):
            await feeding


async def test_a_cancelled_append_leaves_the_session_as_it_was() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        context = session.context()
        for cut in range(5):
            task = asyncio.create_task(context.append(str(cut)))
            for _ in range(cut):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await context.end()
        spoken = heard(b"".join([event.payload async for event in context if isinstance(event, AudioFrame)]))
        assert spoken in {"01234"[n:] for n in range(6)}
