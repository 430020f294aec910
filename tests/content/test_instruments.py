"""The instruments themselves: each defect they are for shows on them, and a change of format does not."""

from __future__ import annotations

import numpy as np
import pytest
from spectral import Sound, compare, fit_marks, pitch_hz, speech_db, speech_span, treble_db

RATE_HZ = 22050


async def test_the_same_text_is_the_same_at_any_rate(voice, passage):
    reference, again = await voice(passage.spoken), await voice(passage.spoken)
    for rate_hz in (8000, 16000, 24000, 48000):
        said = compare(again.sound.at(rate_hz), reference.sound)
        assert said.says_the_same
        assert said.holes == ()


async def test_other_words_are_far_away(voice, passage):
    reference, again = await voice(passage.spoken), await voice(passage.spoken)
    half_ms = again.sound.ms / 2
    front, back = again.sound.cut(0, half_ms), again.sound.cut(half_ms)
    for wrong, least in (
        (front.then(again.sound), 2.0),
        (front, 2.5),
        (back, 2.5),
        (back.then(front), 3.8),
        ((await voice(passage.other)).sound, 5.0),
    ):
        said = compare(wrong, reference.sound)
        assert said.distance > least
        assert said.worst > 8


async def test_a_few_missing_words_show_where_it_fits_worst(voice, passage):
    reference, again = await voice(passage.spoken), await voice(passage.spoken)
    (start_ms, _), (_, end_ms) = again.spans[3], again.spans[4]
    said = compare(again.sound.cut(0, start_ms).then(again.sound.cut(end_ms)), reference.sound)
    assert said.distance < 1.8
    assert said.worst > 6


@pytest.mark.parametrize("hole_ms", [100, 200])
async def test_a_hole_in_a_word_is_found_whether_it_hides_sound_or_parts_it(voice, passage, hole_ms):
    reference, again = await voice(passage.spoken), await voice(passage.spoken)
    for start_ms, end_ms in again.spans[2::8]:
        at_ms = (start_ms + end_ms) / 2
        nothing = Sound.silence(hole_ms, RATE_HZ)
        for resume_ms in (at_ms, at_ms + hole_ms):
            torn = again.sound.cut(0, at_ms).then(nothing, again.sound.cut(resume_ms))
            # The hole may run into a pause before or after it, and the pause beside it be found too long.
            assert any(abs(hole.start_ms - at_ms) < 160 for hole in compare(torn, reference.sound).holes)


async def test_marks_that_are_off_by_80_ms_do_not_fit(voice, passage):
    spoken = await voice(passage.spoken)
    fit = fit_marks(spoken.sound, spoken.spans)
    assert fit.faint == 0
    assert fit.outside_ms <= 20
    assert fit.idle_ms <= 40
    for shift_ms in (-80, 80):
        off = fit_marks(spoken.sound, [(start + shift_ms, end + shift_ms) for start, end in spoken.spans])
        assert off.outside_ms >= 60
        assert off.idle_ms >= 60


async def test_clicks_and_clipping_show_above_the_voice(voice, passage):
    spoken = await voice(passage.spoken)
    sound = spoken.sound.at(48000)
    assert treble_db(sound, above_hz=11500) < -75
    start_ms, end_ms = spoken.spans[3]
    middle_ms = (start_ms + end_ms) / 2
    spliced = sound.cut(0, middle_ms).then(sound.cut(middle_ms + 1))
    clipped = Sound(np.clip(sound.samples * 2.5, -1, 1), sound.rate_hz)
    for spoilt in (spliced, clipped):
        assert treble_db(spoilt, above_hz=11500) > -65


async def test_ends_and_level_are_read_off(voice, passage):
    spoken = (await voice(passage.spoken)).sound
    late = Sound.silence(500, RATE_HZ).then(spoken, Sound.silence(500, RATE_HZ))
    assert speech_span(late) == pytest.approx([500 + at_ms for at_ms in speech_span(spoken)], abs=10)
    half = Sound(spoken.samples / 2, RATE_HZ)
    assert speech_db(half) == pytest.approx(speech_db(spoken) - 6, abs=0.1)


@pytest.mark.parametrize("true_hz", [90, 130, 210, 300, 430])
def test_pitch_is_read_off(true_hz):
    seconds = np.arange(RATE_HZ) / RATE_HZ
    assert pitch_hz(Sound(seconds * true_hz % 1 - 0.5, RATE_HZ)) == pytest.approx(true_hz, rel=0.03)
