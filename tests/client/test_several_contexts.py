"""Several contexts in one session, and listeners that do not keep up."""

from __future__ import annotations

import asyncio

import pytest
from client.scripted_server import FRAME_SAMPLES, Peer, heard, pcm_of, serving

import cosyduplex.client
from cosyduplex.client import ContextError
from cosyduplex.client import context as context_module
from cosyduplex.messages import (
    AudioFrame,
    ContextCancel,
    ContextDone,
    ContextOpen,
    Ping,
    PlaybackReport,
    Pong,
    TextAppend,
)


async def letters(context) -> str:
    return heard(b"".join([event.payload async for event in context if isinstance(event, AudioFrame)]))


async def take(context, num_frames: int) -> str:
    return heard(b"".join([(await anext(context)).payload for _ in range(num_frames)]))


async def test_contexts_that_speak_at_once_are_heard_apart() -> None:
    texts = {name: name * 30 for name in "abcd"}

    async def tokens(text: str):
        for character in text:
            await asyncio.sleep(0)
            yield character

    async def speak(session, name: str) -> str:
        return heard(b"".join([audio async for audio in session.speak(tokens(texts[name]), context_id=name)]))

    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        spoken = await asyncio.gather(*(speak(session, name) for name in texts))
        appended = [m.context_id for m in server.peers[0].received if isinstance(m, TextAppend)]
    assert spoken == list(texts.values())
    assert appended[:8] == ["a", "b", "c", "d"] * 2


async def test_audio_comes_in_order_with_its_place_in_the_context() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        context = session.context()
        await context.feed("abc")
        *frames, done = [event async for event in context]
    assert [frame.pts for frame in frames] == [0, FRAME_SAMPLES, 2 * FRAME_SAMPLES]
    assert [frame.first for frame in frames] == [True, False, False]
    assert heard(b"".join(frame.payload for frame in frames)) == "abc"
    assert (done.audio_ms, done.characters) == (60, 3)


async def test_ids_that_were_not_chosen_are_unlike_those_that_were() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        chosen = session.context("context-1")
        await chosen.append("a")
        made = session.context()
        assert made.id != chosen.id
        await made.feed("b")
        assert await letters(made) == "b"


async def test_acknowledgements_do_not_wait_behind_audio_that_nobody_takes() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url, max_ahead_ms=0) as session:
        unread, other = session.context("unread"), session.context("other")
        await unread.append("x" * 2000)
        await other.append("y" * 2000)
        assert (await other.cancel()).spoken_chars == 2000
        assert await session.ping() > 0
        await unread.end()
        assert await letters(unread) == "x" * 2000


async def test_the_server_is_told_once_more_waits_than_may_be_ahead(monkeypatch) -> None:
    monkeypatch.setattr(context_module, "REPORT_INTERVAL_S", 0)
    reports: asyncio.Queue[PlaybackReport] = asyncio.Queue()

    async def speak(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        await peer.speak(0, "a" * 10)  # 200 ms: as far ahead as allowed
        await peer.send(Pong(t=(await peer.expect(Ping)).t))
        await peer.speak(0, "b", at=10)
        reports.put_nowait(await peer.expect(PlaybackReport))
        await peer.send(Pong(t=(await peer.expect(Ping)).t))
        await peer.speak(0, "cd", at=11)
        reports.put_nowait(await peer.expect(PlaybackReport))

    async with serving(speak) as server, cosyduplex.client.connect(server.url, max_ahead_ms=200) as session:
        context = session.context("c")
        await context.append("text")
        await session.ping()
        first = await reports.get()
        assert await take(context, 2) == "aa"
        await session.ping()
        second = await reports.get()
    assert (first.played_ms, first.buffered_ms, first.last_seq) == (0, 220, 11)
    assert (second.played_ms, second.buffered_ms, second.last_seq) == (40, 220, 13)


async def test_a_listener_that_keeps_up_or_reports_itself_is_not_reported(monkeypatch) -> None:
    monkeypatch.setattr(context_module, "REPORT_INTERVAL_S", 0)
    async with serving() as server:
        async with cosyduplex.client.connect(server.url, max_ahead_ms=200) as session:
            context = session.context("quick")
            for _ in range(40):
                await context.append("abc")
                assert await take(context, 3) == "abc"
            own = session.context("own")
            await own.append("x")
            session.report_playback("own", played_ms=7, buffered_ms=13, underruns=1)
            await own.append("x" * 40)
            await session.ping()
        (report,) = [m for m in server.peers[0].received if isinstance(m, PlaybackReport)]
    assert (report.context_id, report.played_ms, report.buffered_ms, report.underruns) == ("own", 7, 13, 1)


async def test_a_paced_server_never_fills_a_listener_that_stands_still() -> None:
    """The contract's clock on the server's side, with time made up; the client's side is real."""
    max_ahead_ms, frame_ms = 1000, 20

    class PacedListener:
        def __init__(self) -> None:
            self.backlog = context_module._Backlog()
            self.sent_ms, self.played_ms, self.at_ms, self.reported_at_ms = 0, 0, 0, -1000

        def step(self, now_ms: int, audio) -> None:
            played_ms = min(self.sent_ms, self.played_ms + now_ms - self.at_ms)
            if self.sent_ms + frame_ms - played_ms > max_ahead_ms:
                return
            self.played_ms, self.at_ms = played_ms, now_ms
            self.backlog.put(AudioFrame(0, 1, self.sent_ms * 24, bytes(frame_ms * 48)), audio)
            self.sent_ms += frame_ms
            if self.backlog.unread_ms > max_ahead_ms and now_ms - self.reported_at_ms >= 1000:
                self.reported_at_ms, self.played_ms = now_ms, self.backlog.taken_ms

    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        listener = PacedListener()
        for now_ms in range(0, 600_000, frame_ms):
            listener.step(now_ms, session.started.audio)
    assert listener.backlog.unread_ms < max_ahead_ms + 6000


async def test_without_pacing_a_context_that_nobody_reads_is_given_up_and_the_others_go_on(
    monkeypatch,
) -> None:
    monkeypatch.setattr(context_module, "MAX_UNREAD_BYTES", 100_000)
    async with serving() as server:
        async with cosyduplex.client.connect(server.url, max_ahead_ms=0) as session:
            unread, read = session.context("unread"), session.context("read")
            await unread.append("x" * 200)
            await read.feed("y" * 50)
            assert await letters(read) == "y" * 50
            with pytest.raises(ContextError) as caught:
                await letters(unread)
            assert caught.value.code == "slow_consumer"
            with pytest.raises(ContextError):
                await unread.append("more")
            await session.ping()
        (cancel,) = [m for m in server.peers[0].received if isinstance(m, ContextCancel)]
    assert cancel.context_id == "unread"


async def test_an_audio_that_was_taken_makes_room_again(monkeypatch) -> None:
    monkeypatch.setattr(context_module, "MAX_UNREAD_BYTES", 20_000)
    async with serving() as server, cosyduplex.client.connect(server.url, max_ahead_ms=0) as session:
        context = session.context()
        for _ in range(20):
            await context.append("0123456789")
            assert await take(context, 10) == "0123456789"
        await context.end()
        assert [type(event) async for event in context] == [ContextDone]


async def test_a_listener_may_be_cancelled_and_go_on_without_losing_audio() -> None:
    async with serving() as server, cosyduplex.client.connect(server.url) as session:
        context = session.context()
        spoken = []
        for character in "abc":
            waiting = asyncio.ensure_future(anext(context))
            await asyncio.sleep(0)
            waiting.cancel()
            await context.append(character)
            spoken.append((await anext(context)).payload)
        assert spoken == [pcm_of(character) for character in "abc"]
