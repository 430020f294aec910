import pytest
from spectral import *
from test_f import FORMATS
@pytest.mark.parametrize("audio", FORMATS)
async def test_show(listen, voice, passage, clauses, audio):
    client = await listen(**audio)
    await client.say(passage.written, seed=3)
    h = client.sound()
    w=(await voice(passage.spoken)).sound; s=(await voice(*clauses(passage.written))).sound
    a=compare(h,w);b=compare(h,s);c=compare(h,(await voice(passage.other)).sound)
    sp=speech_span(h)
    print(f"{audio['encoding'][:4]}{audio['sample_rate']} dist {a.distance:.2f} worst {a.worst:.1f} other {c.distance:.2f} | seg {b.distance:.2f} {b.worst:.1f} holes {b.holes} | ms {h.ms:.0f} seg {s.ms-h.ms:.0f} whole {w.ms/h.ms:.3f} | lead {sp[0]} tail {h.ms-sp[1]:.0f} after {h.cut(sp[1]+20).peak:.4f} peak {h.peak:.2f} {fit_marks(h,[(x.start_ms,x.end_ms) for x in client.words()])}")
