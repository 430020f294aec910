"""Several contexts of one session at once: each says its own text, whole."""

from __future__ import annotations

from itertools import groupby, zip_longest

import pytest
from spectral import compare

from cosyduplex.messages import AudioFrame, ContextDone, TextAppend, TextEnd

TEXTS = {
    "english": "Seven old ships were sailing slowly past the harbour wall, and nobody looked up.",
    "chinese": "昨天下了一场大雪，孩子们都不想上学，旅客只好慢慢等待。",
    "mixed": "Please open 窗户, because 房间里很热: 他买 oranges 花了五十块钱。",
}


@pytest.mark.parametrize(
    "audio",
    [
        pytest.param({"encoding": "pcm_s16le", "sample_rate": 16000}, id="pcm"),
        pytest.param({"encoding": "opus", "sample_rate": 24000}, id="opus"),
    ],
)
async def test_each_context_says_its_own_text(listen, voice, clauses, audio):
    client = await listen(max_ahead_ms=500, **audio)
    for characters in zip_longest(*TEXTS.values()):
        for context_id, character in zip(TEXTS, characters, strict=True):
            if character:
                await client.send(TextAppend(context_id=context_id, text=character))
    await client.send(*(TextEnd(context_id=context_id) for context_id in TEXTS))
    while len(client.messages(ContextDone)) < len(TEXTS):
        await client.play()
    frames = [event.context_id for event in client.events if isinstance(event.message, AudioFrame)]
    assert len(list(groupby(frames))) > 10  # they were heard in turns, not one after another

    references = {context_id: (await voice(*clauses(text))).sound for context_id, text in TEXTS.items()}
    for context_id in TEXTS:
        heard = client.sound(context_id)
        said = {name: compare(heard, reference) for name, reference in references.items()}
        assert said[context_id].says_the_same
        assert said[context_id].holes == ()
        assert heard.ms == pytest.approx(references[context_id].ms, rel=0.012)
        assert all(said[name].distance > 4 for name in TEXTS if name != context_id)
