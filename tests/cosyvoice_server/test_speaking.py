"""What a client hears of a checkpoint through the native door."""

from __future__ import annotations

import asyncio
import re

import numpy as np
import pytest
from cosyvoice_server.serving import CHINESE, ENGLISH, MIXED, SAVED, SFT, SHORT, UNPACED, Listener, same

from cosyduplex.messages import (
    AudioOptions,
    ContextDone,
    ContextFlushed,
    ContextOpen,
    Error,
    FlowOptions,
    SessionStart,
    SpeechOptions,
    TextAppend,
    TextEnd,
    TextFlush,
    Warning,
)
from cosyduplex_server.audio.opus import OpusDecoder


@pytest.mark.parametrize("voice", [SAVED, SFT])
@pytest.mark.parametrize(
    "text",
    [
        "one two three four five six seven eight nine ten eleven twelve and then some more of them",
        "收到好友从远方寄来的生日礼物那份意外的惊喜让我很开心我们一起去公园吧今天天气很好",
        "我用 Python 写了三个 programs 给你看 and 你说 it works 很好 so 我们 go on with it now",
    ],
    ids=["english", "chinese", "mixed"],
)
async def test_audio_comes_while_the_sentence_is_being_written(listen, text, voice):
    client = await listen()
    await client.send(ContextOpen(voice=voice))
    await client.write(text)
    await client.until_audio()
    await client.send(TextAppend(text=" and that is all."), TextEnd())
    done = await client.until(ContextDone)
    assert done.ttfa_ms is not None
    assert done.characters == len(text) + len(" and that is all.")
    assert len(client.audio()) == done.audio_ms * 48


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, MIXED], ids=["english", "chinese", "mixed"])
async def test_the_words_are_marked_where_they_stand_and_as_long_as_they_sound(listen, text):
    client = await listen()
    await client.write(text)
    await client.send(TextEnd())
    done = await client.until(ContextDone)
    words = client.words()
    assert [word.text for word in words] == [text[word.char_start : word.char_end] for word in words]
    assert "".join(word.text for word in words) == re.sub(r"\W", "", text)
    times = [time for word in words for time in (word.start_ms, word.end_ms)]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= done.audio_ms


async def test_marks_count_in_the_text_that_was_appended_whatever_is_not_spoken_of_it(listen):
    client = await listen()
    text = "Some **bold** words 🎉, 你好 <think>not this</think>and `code` too. \n\n- One item.\n- 两个。"
    await client.write(text, size=1)
    await client.send(TextEnd())
    await client.until(ContextDone)
    words = client.words()
    assert [word.text for word in words] == [text[word.char_start : word.char_end] for word in words]
    said = "Some bold words 你 好 and code too One item 两 个".split()
    assert [re.sub(r"\W", "", word.text) for word in words] == said


async def test_every_word_of_a_long_text_is_spoken_once_and_in_order(listen):
    client = await listen()
    names = ("one 一", "two 二", "three 三", "four 四", "five 五", "six 六")
    text = " ".join("Sentence {} has a few words; 第{}句。".format(*name.split()) for name in names)
    await client.write(text, size=7)
    await client.send(TextEnd())
    done = await client.until(ContextDone)
    words = client.words()
    assert "".join(word.text for word in words) == re.sub(r"\W", "", text)
    assert words[-1].end_ms <= done.audio_ms
    assert len(client.audio()) == done.audio_ms * 48


async def test_the_same_seed_says_the_same_alone_and_among_others(listen):
    alone = await listen()
    for context_id, text in (("english", ENGLISH), ("chinese", CHINESE)):
        await alone.say(text, context_id)
    clients = [await listen(), await listen()]
    for client in clients:
        for context_id, text in (("english", ENGLISH), ("chinese", CHINESE)):
            await client.write(text, context_id, size=5)
            await client.send(TextEnd(context_id=context_id))

    async def rest(client: Listener) -> None:
        for _ in range(2):
            await client.until(ContextDone)

    await asyncio.gather(*(rest(client) for client in clients))
    for client in clients:
        for context_id in ("english", "chinese"):
            assert same(client.samples(context_id), alone.samples(context_id))


async def test_without_a_seed_and_with_another_it_sounds_different(listen):
    client = await listen(SessionStart(flow=FlowOptions(max_ahead_ms=0)))
    for context_id in ("a", "b"):
        await client.say(SHORT, context_id)
    await client.say(SHORT, "c", speech=SpeechOptions(seed=5))
    await client.say(SHORT, "d", speech=SpeechOptions(seed=6))
    assert len({client.audio(context_id) for context_id in "abcd"}) == 4
    assert all(np.abs(client.samples(context_id)).max() > 100 for context_id in "abcd")


async def test_speed_changes_the_length_and_volume_the_size(listen):
    client = await listen()
    await client.say(SHORT, "plain")
    for speed in (0.5, 2.0):
        await client.say(SHORT, f"{speed}", speech=SpeechOptions(speed=speed))
        expected = len(client.audio("plain")) / speed
        assert len(client.audio(f"{speed}")) == pytest.approx(expected, abs=48 * 40)
        assert client.words(f"{speed}")[-1].end_ms <= len(client.audio(f"{speed}")) / 48
    await client.say(SHORT, "half", speech=SpeechOptions(volume=0.5))
    assert np.abs(client.samples("half") - client.samples("plain") / 2).max() <= 33
    await client.say(SHORT, "silent", speech=SpeechOptions(volume=0))
    assert len(client.audio("silent")) == len(client.audio("plain"))
    assert not client.samples("silent").any()


@pytest.mark.parametrize(
    "speech",
    [
        SpeechOptions(instruct="用四川话说这句话"),
        SpeechOptions(dialect="sichuan"),
        SpeechOptions(emotion="happy"),
    ],
    ids=["instruct", "dialect", "emotion"],
)
async def test_a_manner_of_speaking_is_followed(listen, speech):
    client = await listen()
    await client.say(CHINESE, "plain")
    for context_id in ("told", "again"):
        await client.say(CHINESE, context_id, speech=speech)
    assert same(client.samples("told"), client.samples("again"))
    assert client.audio("told") != client.audio("plain")
    assert client.messages(Warning) == []
    # An instruction is no part of the text.
    assert "".join(word.text for word in client.words("told")) == re.sub(r"\W", "", CHINESE)


async def test_what_cannot_be_done_is_a_warning_and_the_text_is_spoken(listen):
    client = await listen()
    await client.say(SHORT, "plain")
    await client.say(SHORT, "pitch", speech=SpeechOptions(pitch=3))
    (warning,) = client.messages(Warning)
    assert (warning.code, warning.context_id) == ("unsupported_parameter", "pitch")
    assert warning.message.startswith("pitch is not known to cosyvoice2")
    assert same(client.samples("pitch"), client.samples("plain"))
    await client.say(SHORT, "emotion", speech=SpeechOptions(emotion="flabbergasted"))
    _, warning = client.messages(Warning)
    assert (warning.code, warning.context_id) == ("unsupported_parameter", "emotion")
    assert "'flabbergasted'" in warning.message
    assert same(client.samples("emotion"), client.samples("plain"))


async def test_an_instruction_that_is_too_long_ends_its_context_and_nothing_else(listen):
    client = await listen()
    await client.send(ContextOpen(speech=SpeechOptions(instruct="x" * 501)), TextAppend(text="Hello there. "))
    error = await client.until(Error)
    assert (error.code, error.ends, error.retryable) == ("bad_request", "context", False)
    assert "500" in error.message
    await client.say("Hello.", "next")


async def test_an_unknown_voice_is_refused_and_the_known_ones_are_named(server, listen):
    client = await listen()
    await client.send(ContextOpen(voice="nobody"), TextAppend(text="Hello."))
    error = await client.until(Error)
    assert (error.code, error.ends) == ("unknown_voice", "context")
    assert SAVED in error.solution
    await client.say("Hello.", "next", voice=SFT)
    other = await Listener.open(server.ws_url)
    async with other:
        await other.send(SessionStart(voice="nobody"))
        error = await other.until(Error)
        assert (error.code, error.ends) == ("unknown_voice", "session")


async def test_the_default_voice_is_the_first_of_the_list(server, listen):
    client = await listen()
    assert client.core.started is not None
    first = server.json("/v1/voices")["voices"][0]["id"]
    assert client.core.started.voice == first == SAVED
    await client.say(SHORT, "unnamed")
    await client.say(SHORT, "named", voice=SAVED)
    await client.say(SHORT, "other", voice=SFT)
    assert same(client.samples("named"), client.samples("unnamed"))
    assert client.audio("other") != client.audio("named")


async def test_a_flush_is_answered_after_its_audio_and_the_context_goes_on(listen):
    client = await listen()
    await client.send(TextAppend(text="no full stop"), TextFlush())
    flushed = await client.until(ContextFlushed)
    assert flushed.audio_ms == len(client.audio()) / 48 > 0
    assert [word.text for word in client.words()] == ["no", "full", "stop"]
    await client.send(TextFlush())
    assert (await client.until(ContextFlushed)).audio_ms == flushed.audio_ms
    await client.send(TextAppend(text=" and more"), TextEnd())
    done = await client.until(ContextDone)
    assert done.audio_ms > flushed.audio_ms
    assert [word.text for word in client.words()][3:] == ["and", "more"]


@pytest.mark.parametrize("text", ["", "... — !", "🎉 ** ** <think>hm</think>\n"])
async def test_a_text_without_words_is_done_without_audio(listen, text):
    client = await listen()
    done = await client.say(text)
    assert (done.audio_ms, done.characters, client.frames()) == (0, len(text), [])


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 44_100])
async def test_it_is_as_long_at_every_rate(listen, rate_hz):
    reference = await (await listen()).say(SHORT)
    client = await listen(
        SessionStart(
            audio=AudioOptions(sample_rate=rate_hz), flow=UNPACED.flow, speech=UNPACED.speech, marks=True
        )
    )
    done = await client.say(SHORT)
    assert done.audio_ms == pytest.approx(reference.audio_ms, abs=2)
    assert len(client.samples()) == pytest.approx(done.audio_ms * rate_hz / 1000, abs=rate_hz / 1000)


@pytest.mark.opus
async def test_opus_carries_the_same_speech(listen):
    plain = await listen()
    await plain.say(SHORT)
    client = await listen(
        SessionStart(audio=AudioOptions(encoding="opus"), flow=UNPACED.flow, speech=UNPACED.speech)
    )
    done = await client.say(SHORT)
    assert client.core.started is not None
    audio = client.core.started.audio
    decoder = OpusDecoder(audio.sample_rate)
    packets = [frame.payload for frame in client.frames() if frame.payload]
    pcm = b"".join(decoder.decode(packet, audio.frame_samples) for packet in packets)
    heard = np.frombuffer(pcm, "<i2")[audio.pre_skip :][: done.audio_ms * 24].astype(float)
    expected = plain.samples()
    assert len(heard) == len(expected)
    assert np.corrcoef(heard, expected)[0, 1] > 0.9
