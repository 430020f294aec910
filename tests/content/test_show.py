import pytest,sys
sys.path.insert(0,'/tmp/cal')
from spectral import *
import spectral
from test_f import FORMATS
@pytest.mark.parametrize("audio", FORMATS)
async def test_show(listen, voice, passage, clauses, audio):
    client = await listen(**audio)
    await client.say(passage.written, seed=3)
    h = client.sound()
    s=(await voice(*clauses(passage.written))).sound
    print('fit', spectral._SILENCE_DB, audio['sample_rate'],compare(h,s).holes,fit_marks(h,[(x.start_ms,x.end_ms) for x in client.words()]))
