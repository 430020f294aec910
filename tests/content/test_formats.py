"""Text fed as a language model writes it, heard in every format: the right words, whole, and nothing else."""

from __future__ import annotations

import pytest
from spectral import compare, speech_span, treble_db

FORMATS = [
    pytest.param({"encoding": encoding, "sample_rate": rate_hz, **more}, id=f"{encoding}-{rate_hz}")
    for encoding, rate_hz, more in (
        ("pcm_s16le", 8000, {}),
        ("pcm_s16le", 16000, {"frame_ms": 10}),
        ("pcm_s16le", 24000, {"frame_ms": 60}),
        ("pcm_s16le", 48000, {}),
        ("opus", 16000, {"profile": "narrow"}),
        ("opus", 24000, {"frame_ms": 60}),
        ("opus", 48000, {}),
    )
]
every_format = pytest.mark.parametrize("audio", FORMATS)


@every_format
@pytest.mark.parametrize("seed", [1, 2])
async def test_the_words_are_those_that_were_written(listen, voice, passage, audio, seed):
    client = await listen(**audio)
    await client.say(passage.written, seed=seed)
    heard = client.sound()
    said = compare(heard, (await voice(passage.spoken)).sound)
    assert said.says_the_same
    assert said.distance < 0.4 * compare(heard, (await voice(passage.other)).sound).distance


@every_format
async def test_no_sound_is_missing_between_the_words_or_in_them(listen, voice, passage, clauses, audio):
    client = await listen(**audio)
    done = await client.say(passage.written, seed=3)
    heard = client.sound()
    whole = (await voice(passage.spoken)).sound
    spoken = (await voice(*clauses(passage.written))).sound
    assert compare(heard, spoken).holes == ()
    # The voice is not the same each time: over 7 s its lengths vary by 60 ms.
    assert heard.ms == pytest.approx(spoken.ms, rel=0.012)
    assert heard.ms == pytest.approx(whole.ms, rel=0.05)
    assert done.audio_ms == pytest.approx(heard.ms, abs=1)


@every_format
async def test_it_begins_at_once_ends_in_silence_and_does_not_clip(listen, passage, audio):
    client = await listen(**audio)
    await client.say(passage.written, seed=4)
    heard = client.sound()
    begins_ms, ends_ms = speech_span(heard)
    assert begins_ms <= 20
    assert heard.ms - ends_ms <= 350
    assert heard.cut(ends_ms + 20).peak < 0.01
    assert heard.peak < 0.99


@pytest.mark.parametrize("rate_hz", [24000, 44100, 48000])
async def test_nothing_clicks_where_chunks_meet(listen, passage, rate_hz):
    client = await listen(sample_rate=rate_hz)
    await client.say(passage.written, seed=5)
    # The voice ends at 11 kHz; a filter restarted at every chunk reads -44 to -25 here.
    assert treble_db(client.sound(), above_hz=11500) < -70
