"""The native door, from a real socket to scripted workers in their own processes."""

from __future__ import annotations

import asyncio
import struct

import pytest
from native_client import NativeClient

from cosyduplex.messages import (
    AudioOptions,
    ContextDone,
    ContextFlushed,
    ContextOpen,
    ContextStarted,
    Error,
    Feedback,
    FlowOptions,
    Marks,
    Ping,
    PlaybackReport,
    Pong,
    SessionEnd,
    SessionEnded,
    SessionStart,
    SessionStarted,
    SpeechOptions,
    TextAppend,
    TextEnd,
    TextFlush,
    Warning,
)

UNPACED = SessionStart(flow=FlowOptions(max_ahead_ms=0), marks=True)


def samples(pcm: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(pcm) // 2}h", pcm)


async def test_audio_comes_before_the_last_text(fake_server):
    server = fake_server()
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="Hello, wor"))
        await client.until(ContextStarted)
        await client.until(Marks)
        while not client.frames():
            await client.receive()
        await client.send(TextAppend(text="ld. Bye."), TextEnd())
        done = await client.until(ContextDone)
        assert done.characters == len("Hello, world. Bye.")
        assert [word.text for marks in client.messages(Marks) for word in marks.words] == [
            "Hello,",
            "world.",
            "Bye.",
        ]


async def test_every_sample_arrives_once_and_in_order(fake_server):
    server = fake_server(signal="counter", ms_per_char=50)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="One sentence. " * 20), TextEnd())
        done = await client.until(ContextDone)
        heard = samples(client.audio())
        assert heard == tuple(i % 32768 for i in range(len(heard)))
        assert done.audio_ms == len(heard) / 24
        frames = client.frames()
        assert frames[0].first
        assert frames[-1].last
        assert sum(frame.first for frame in frames) == sum(frame.last for frame in frames) == 1
        position = 0
        for frame in frames:
            assert frame.pts == position
            position += len(frame.payload) // 2


async def test_marks_cut_the_appended_text_exactly_whatever_was_removed_from_it(fake_server):
    server = fake_server()
    text = "Some **bold** words, 你好 <think>not this</think>and\ud83d 🎉 `code` too. The end."
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        for char in text:
            await client.send(TextAppend(text=char))
        await client.send(TextEnd())
        await client.until(ContextDone)
        words = [word for marks in client.messages(Marks) for word in marks.words]
        assert [text[word.char_start : word.char_end] for word in words] == [word.text for word in words]
        assert [word.char_start for word in words] == sorted(word.char_start for word in words)
        times = [time for word in words for time in (word.start_ms, word.end_ms)]
        assert times == sorted(times)
        assert "bold" in "".join(word.text for word in words)


async def test_contexts_of_one_session_do_not_mix(fake_server):
    server = fake_server(signal="tone", realtime_factor=0.1)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        texts = {"a": "First of all. " * 3, "b": "And second. " * 4, "c": "Third. " * 5}
        for context_id, text in texts.items():
            await client.send(TextAppend(context_id=context_id, text=text), TextEnd(context_id=context_id))
        for _ in texts:
            await client.until(ContextDone)
        kinds = client.kinds()
        for context_id, text in texts.items():
            assert kinds[context_id][0] == "context.started"
            assert kinds[context_id][-1] == "context.done"
            seconds = len(client.audio(context_id)) / 48000
            assert seconds == pytest.approx(len(text.strip()) * 0.06, abs=0.1 * len(text.split(". ")))
        assert len({frame.context_index for cid in texts for frame in client.frames(cid)}) == 3


async def test_one_flushed_per_flush_in_order_and_at_once_when_nothing_is_pending(fake_server):
    server = fake_server(ms_per_char=20)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(ContextOpen(), TextFlush(), TextFlush())
        assert (await client.until(ContextFlushed)).audio_ms == 0
        assert (await client.until(ContextFlushed)).audio_ms == 0
        await client.send(TextAppend(text="no full stop"), TextFlush())
        first = await client.until(ContextFlushed)
        assert first.audio_ms == pytest.approx(len("no full stop") * 20, abs=5)
        assert len(client.audio()) == first.audio_ms * 48
        await client.send(TextAppend(text=" and more"), TextFlush(), TextFlush(), TextEnd(), TextFlush())
        assert [(await client.until(ContextFlushed)).audio_ms for _ in range(3)]
        done = await client.until(ContextDone)
        assert done.audio_ms > first.audio_ms
        assert len(client.messages(ContextFlushed)) == 6


async def test_an_id_can_be_used_again_once_done(fake_server):
    server = fake_server()
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        indexes = []
        for _ in range(3):
            await client.send(TextAppend(text="Again."), TextEnd())
            indexes.append((await client.until(ContextDone)).context_index)
        assert len(set(indexes)) == 3


async def test_a_context_without_text_is_done_at_once(fake_server):
    server = fake_server()
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(ContextOpen(), TextEnd())
        done = await client.until(ContextDone)
        assert (done.audio_ms, done.characters, done.ttfa_ms) == (0, 0, None)
        assert client.frames() == []


async def test_a_context_of_nothing_speakable_is_done_without_audio(fake_server):
    server = fake_server()
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        text = "🎉 ** ** \u200b <think>hm</think>\n"
        await client.send(TextAppend(text=text), TextEnd())
        done = await client.until(ContextDone)
        assert (done.audio_ms, done.characters) == (0, len(text))


async def test_the_session_starts_with_whatever_comes_first(fake_server):
    server = fake_server()
    async with await NativeClient.open(server.ws_url) as client:
        await client.send(Ping(t="now"))
        started = await client.until(SessionStarted)
        assert (started.resumed, started.resume_window_ms, started.last_n, started.first_seq) == (
            False,
            0,
            0,
            1,
        )
        assert (started.audio.encoding, started.audio.sample_rate, started.audio.frame_ms) == (
            "pcm_s16le",
            24000,
            20,
        )
        pong = await client.until(Pong)
        assert (pong.t, pong.ev) == ("now", 1)


async def test_the_effective_configuration_is_echoed(fake_server):
    server = fake_server()
    start = SessionStart(
        audio=AudioOptions(encoding="opus", sample_rate=16000, frame_ms=40, profile="narrow"),
        speech=SpeechOptions(emotion="happy"),
    )
    async with await NativeClient.open(server.ws_url, start) as client:
        started = client.core.started
        assert started is not None
        assert started.audio.encoding == "opus"
        assert started.audio.profile == "narrow"
        assert 16_000 <= (started.audio.bitrate or 0) <= 24_000
        assert (started.audio.pre_skip or 0) > 0
        assert [str(notice.code) for notice in started.warnings] == ["unsupported_parameter"]
        assert "emotion" in started.warnings[0].message


async def test_what_a_context_asks_for_and_cannot_have_is_a_warning(fake_server):
    server = fake_server()
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(ContextOpen(speech=SpeechOptions(dialect="四川话")))
        warning = await client.until(Warning)
        assert (warning.code, warning.context_id) == ("unsupported_parameter", "default")


async def test_pacing_stays_within_max_ahead(fake_server):
    server = fake_server(ms_per_char=100)
    start = SessionStart(flow=FlowOptions(max_ahead_ms=400))
    async with await NativeClient.open(server.ws_url, start) as client:
        loop = asyncio.get_running_loop()
        began_s, sent_ms = loop.time(), 0.0  # the listener's clock begins no earlier, and counts no less
        await client.send(TextAppend(text="A sentence of some length."), TextEnd())
        while True:
            message = (await client.receive()).message
            if isinstance(message, ContextDone):
                break
            if not hasattr(message, "payload"):
                continue
            sent_ms += len(message.payload) / 48
            assert sent_ms - (loop.time() - began_s) * 1000 <= 400
        assert sent_ms == pytest.approx(2600, abs=20)
        assert message.underruns == 0


async def test_a_report_of_a_stalled_listener_holds_the_audio_back(fake_server):
    server = fake_server(ms_per_char=100)
    start = SessionStart(flow=FlowOptions(max_ahead_ms=1000))
    async with await NativeClient.open(server.ws_url, start) as client:
        await client.send(TextAppend(text="One rather long sentence here."), TextEnd())
        while len(client.audio()) < 48 * 1000:
            await client.receive()
        for _ in range(5):  # nothing was played in all this time
            await client.send(PlaybackReport(played_ms=0, last_seq=client.core.last_seq))
            await asyncio.sleep(0.05)
        sent_ms = len(client.audio()) / 48
        await client.send(PlaybackReport(played_ms=0), Ping())
        await client.until(Pong)
        assert len(client.audio()) / 48 - sent_ms <= 400


async def test_session_end_finishes_what_was_begun(fake_server):
    server = fake_server()
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="No end was sent for this"), SessionEnd())
        done = await client.until(ContextDone)
        ended = await client.until(SessionEnded)
        assert (ended.reason, ended.audio_ms, ended.characters) == ("ended", done.audio_ms, done.characters)
        assert await client.until_closed() == (1000, "ended")


async def test_feedback_is_counted(fake_server):
    server = fake_server()
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(Feedback(score=4, comment="secret words"), Ping())
        await client.until(Pong)
    assert "secret words" not in server.log()


async def test_a_pause_of_the_writer_speaks_whole_words_only(fake_server):
    server = fake_server("--text-idle-ms", "50")
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="these are words and a frag"))
        await client.until(Marks)
        while (words := [word.text for marks in client.messages(Marks) for word in marks.words])[-1] != "a":
            await client.until(Marks)
        assert words == ["these", "are", "words", "and", "a"]
        await client.send(TextAppend(text="ment"), TextEnd())
        await client.until(ContextDone)
        assert client.messages(Marks)[-1].words[-1].text == "fragment"


async def test_a_worker_that_fails_ends_only_its_context(fake_server):
    server = fake_server(fail_after_ms=500, ms_per_char=100)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(
            TextAppend(context_id="long", text="This is much too long for it."), TextEnd(context_id="long")
        )
        error = await client.until(Error)
        assert (error.code, error.ends, error.context_id, error.retryable) == (
            "engine_failed",
            "context",
            "long",
            True,
        )
        await client.send_raw(type="text.append", context_id="long", text="dropped")
        await client.send(TextAppend(context_id="b", text="Yes."))
        await client.send(TextEnd(context_id="b"))
        done = await client.until(ContextDone)
        assert done.context_id == "b"
        assert client.kinds()["long"][-1] == "error"


async def test_a_worker_that_is_killed_ends_only_its_contexts(start_server, start_worker):
    doomed, healthy = start_worker(crash_after_ms=300, ms_per_char=100), start_worker(ms_per_char=10)
    server = start_server("--workers", doomed.address, healthy.address)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(context_id="a", text="It will not get through this sentence."))
        await client.send(TextAppend(context_id="b", text="But this one is spoken."))
        await client.send(TextEnd(context_id="a"), TextEnd(context_id="b"))
        error = await client.until(Error)
        assert (error.code, error.ends) == ("engine_failed", "context")
        survivors = {"a", "b"} - {error.context_id}
        if not client.messages(ContextDone):
            await client.until(ContextDone)
        assert {done.context_id for done in client.messages(ContextDone)} == survivors
        await client.send(TextAppend(context_id="c", text="And so is this."), TextEnd(context_id="c"))
        assert (await client.until(ContextDone)).context_id == "c"


async def test_a_full_engine_refuses_with_a_time_to_come_back(fake_server):
    server = fake_server(slots=1, stall_after_ms=0)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(context_id="a", text="Takes the only slot."))
        while not client.messages(ContextStarted):
            await client.receive()
        await client.send(TextAppend(context_id="b", text="Finds none."))
        error = await client.until(Error)
        assert (error.code, error.ends, error.context_id) == ("over_capacity", "context", "b")
        assert error.retry_after_ms is not None
        assert error.retryable


async def test_an_open_context_without_text_holds_no_engine_slot(fake_server):
    server = fake_server(slots=1)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        for number in range(8):
            await client.send(ContextOpen(context_id=f"idle{number}"))
        await client.send(TextAppend(context_id="busy", text="There is room."), TextEnd(context_id="busy"))
        assert (await client.until(ContextDone)).context_id == "busy"


async def test_a_session_nobody_uses_is_ended(fake_server):
    server = fake_server("--idle-s", "0.4")
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(Ping())
        ended = await client.until(SessionEnded)
        assert ended.reason == "idle"
        assert (await client.until_closed())[0] == 1000


async def test_a_context_nobody_writes_to_times_out(fake_server):
    server = fake_server("--idle-s", "0.4")
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(ContextOpen(context_id="forgotten"))
        error = await client.until(Error)
        assert (error.code, error.ends, error.context_id) == ("timeout", "context", "forgotten")
        assert (await client.until(SessionEnded)).reason == "idle"


async def test_a_context_may_not_sound_for_ever(fake_server):
    server = fake_server("--max-context-s", "1", ms_per_char=100)
    async with await NativeClient.open(server.ws_url, UNPACED) as client:
        await client.send(TextAppend(text="This sentence takes more than one second. " * 3))
        error = await client.until(Error)
        assert (error.code, error.ends) == ("text_too_long", "context")
        assert len(client.audio()) / 48 >= 1000
