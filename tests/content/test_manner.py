"""Speed, pitch, volume and voice, as a session asks for them and as a context overrides them."""

from __future__ import annotations

import numpy as np
import pytest
from spectral import Sound, compare, pitch_hz, speech_db

from cosyduplex.messages import ContextDone, ContextOpen, SpeechOptions, TextAppend, TextEnd

TEXT = "Many more men are running along the long river. 今天天气很好，我们一起去公园散步。"


async def spoken(listen, *openings: ContextOpen, text: str = TEXT, **session) -> list[Sound]:
    """The same text in several contexts of one session at once."""
    client = await listen(**session)
    for opening in openings:
        context_id = opening.context_id
        await client.send(
            opening, TextAppend(context_id=context_id, text=text), TextEnd(context_id=context_id)
        )
    while len(client.messages(ContextDone)) < len(openings):
        await client.receive()
    return [client.sound(opening.context_id) for opening in openings]


def manner(context_id: str, **speech: float) -> ContextOpen:
    return ContextOpen(context_id=context_id, speech=SpeechOptions(**speech))


async def test_speed_changes_the_length_by_its_factor_and_not_the_words(listen, voice, clauses):
    plain, slow, fast = await spoken(listen, manner("1"), manner("2", speed=0.5), manner("3", speed=2.0))
    assert slow.ms / plain.ms == pytest.approx(2, rel=0.12)
    assert fast.ms / plain.ms == pytest.approx(0.5, rel=0.12)
    for sound, speed in ((plain, 1.0), (slow, 0.5), (fast, 2.0)):
        said = compare(sound, (await voice(*clauses(TEXT), speed=speed)).sound)
        assert said.says_the_same


async def test_pitch_moves_the_fundamental_by_its_semitones(listen):
    plain, high, low = await spoken(listen, manner("1"), manner("2", pitch=6), manner("3", pitch=-6))
    assert 12 * np.log2(pitch_hz(high) / pitch_hz(plain)) == pytest.approx(6, abs=1.5)
    assert 12 * np.log2(pitch_hz(low) / pitch_hz(plain)) == pytest.approx(-6, abs=1.5)
    assert high.ms == pytest.approx(plain.ms, rel=0.02)


async def test_volume_is_a_gain_that_never_clips(listen):
    plain, half, loud, none = await spoken(
        listen, manner("1"), manner("2", volume=0.5), manner("3", volume=2.0), manner("4", volume=0.0)
    )
    assert speech_db(half) == pytest.approx(speech_db(plain) - 6, abs=0.5)
    assert speech_db(plain) + 3 < speech_db(loud) < speech_db(plain) + 6.5
    assert loud.peak < 0.95
    assert none.peak == 0
    assert none.ms == pytest.approx(plain.ms, rel=0.02)


async def test_opus_does_not_clip_at_full_volume(listen):
    (loud,) = await spoken(listen, manner("1", volume=2.0), encoding="opus", sample_rate=48000)
    # The codec may overshoot the −1 dB it was given at a sample or two; clipping would flatten whole peaks.
    assert (abs(loud.samples) >= 0.999).mean() < 1e-4


async def test_men_and_women_differ_in_pitch(listen):
    woman, man = await spoken(
        listen, ContextOpen(context_id="1", voice="en-f"), ContextOpen(context_id="2", voice="en-m")
    )
    assert pitch_hz(man) < 0.75 * pitch_hz(woman)


async def test_each_voice_reads_digits_in_its_own_language(listen, voice):
    text = "3, 4, 5, 6, 7."
    openings = [ContextOpen(context_id=name, voice=name) for name in ("zh-f", "en-f")]
    heard = dict(zip(("zh-f", "en-f"), await spoken(listen, *openings, text=text), strict=True))
    meant = {
        "zh-f": (await voice("三，四，五，六，七。")).sound,
        "en-f": (await voice("three, four, five, six, seven.")).sound,
    }
    for name, sound in heard.items():
        distances = {other: compare(sound, reference).distance for other, reference in meant.items()}
        assert distances.pop(name) < 0.5 * min(distances.values())


async def test_a_context_overrides_only_what_it_names_and_only_for_itself(listen):
    session = SpeechOptions(speed=2.0, volume=0.5)
    override = manner("mine", speed=1.0)
    mine, other = await spoken(listen, override, ContextOpen(context_id="other"), speech=session)
    (plain,) = await spoken(listen, manner("plain"))
    assert mine.ms == pytest.approx(plain.ms, rel=0.02)
    assert other.ms == pytest.approx(plain.ms / 2, rel=0.12)
    assert speech_db(mine) == pytest.approx(speech_db(plain) - 6, abs=0.5)
    assert speech_db(other) == pytest.approx(speech_db(plain) - 6, abs=2)
