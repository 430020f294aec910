"""Marks are where the words sound: every word has speech, all speech has a word, and pauses have none."""

from __future__ import annotations

import pytest
from spectral import MarkFit, fit_marks

from cosyduplex.messages import ContextDone, ContextFlushed, TextAppend, TextEnd, TextFlush

FORMATS = [
    pytest.param({"encoding": "pcm_s16le", "sample_rate": 8000}, id="pcm_s16le-8000"),
    pytest.param({"encoding": "pcm_s16le", "sample_rate": 48000}, id="pcm_s16le-48000"),
    pytest.param({"encoding": "opus", "sample_rate": 16000, "profile": "narrow"}, id="opus-16000"),
    pytest.param({"encoding": "opus", "sample_rate": 48000, "frame_ms": 60}, id="opus-48000"),
]
every_format = pytest.mark.parametrize("audio", FORMATS)


def assert_fits(fit: MarkFit, encoding: str) -> None:
    assert fit.faint == 0
    assert fit.idle_ms <= 50  # a plosive's closure
    # Opus rings for up to 90 ms after a plosive, 35 dB below the speech.
    assert fit.outside_ms <= (100 if encoding == "opus" else 30)


@every_format
async def test_every_word_is_marked_where_it_sounds(listen, passage, audio):
    client = await listen(**audio)
    await client.say(passage.written, seed=5)
    words = client.words()
    fit = fit_marks(client.sound(), [(word.start_ms, word.end_ms) for word in words])
    assert_fits(fit, audio["encoding"])
    assert [passage.written[word.char_start : word.char_end] for word in words] == [
        word.text for word in words
    ]
    marked = "".join(word.text for word in words)
    assert [char for char in marked if char.isalnum()] == [char for char in passage.spoken if char.isalnum()]


@every_format
async def test_marks_still_fit_after_flushes(listen, audio):
    """A flush of Opus puts silence between, up to a frame each time: four that were forgotten would show."""
    client = await listen(**audio)
    flushed_ms = []
    for text in ("a first piece", " 第二段文字", " then a third", " 最后一段 and more"):
        await client.send(TextAppend(text=text), TextFlush())
        flushed_ms.append((await client.until(ContextFlushed)).audio_ms)
    await client.send(TextAppend(text=" until it ends."), TextEnd())
    done = await client.until(ContextDone)
    words = client.words()
    sound = client.sound()
    assert sound.ms == pytest.approx(done.audio_ms, abs=1)
    assert_fits(fit_marks(sound, [(word.start_ms, word.end_ms) for word in words]), audio["encoding"])
    # What is said was sent when its flush was answered.
    last_of = ("piece", "字", "third", "more")
    ends_ms = [next(word.end_ms for word in words if word.text == text) for text in last_of]
    assert all(end_ms <= at_ms for end_ms, at_ms in zip(ends_ms, flushed_ms, strict=True))
