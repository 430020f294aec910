"""Text that does not come: what is there is not waited for in vain."""

from __future__ import annotations

import asyncio

from cosyduplex.messages import ContextDone, TextAppend, TextEnd


async def test_a_sentence_is_told_as_spoken_although_its_audio_is_still_held_back(listen):
    # Were it not, the gateway would take the engine for stuck while the writer pauses.
    client = await listen()
    await client.send(TextAppend(text="Hello there. "))
    async with asyncio.timeout(10):
        while [word.text for word in client.words()] != ["Hello", "there"]:
            await client.receive()
    await asyncio.sleep(0.3)
    await client.send(TextAppend(text="And good bye."), TextEnd())
    done = await client.until(ContextDone)
    assert [word.text for word in client.words()] == ["Hello", "there", "And", "good", "bye"]
    times = [time for word in client.words() for time in (word.start_ms, word.end_ms)]
    assert times == sorted(times)
    assert times[-1] <= done.audio_ms


async def test_sentences_too_short_to_be_heard_alone_do_not_wait_for_each_other(listen):
    # Fewer than the gateway hands out at a time would make a chunk of speech.
    client = await listen()
    text = "Yes. No. 好。Well. 不。Fine. Oh. 是。Go. Stop. " * 3
    await client.send(TextAppend(text=text), TextEnd())
    done = await asyncio.wait_for(client.until(ContextDone), 20)
    words = client.words()
    assert "".join(word.text for word in words) == text.translate(dict.fromkeys(map(ord, " .。")))
    assert words[-1].end_ms <= done.audio_ms


async def test_a_sentence_is_heard_to_its_end_although_the_writer_pauses(listen):
    client = await listen()
    whole = await client.say("你好，世界。今天好。", "whole")
    await client.send(TextAppend(text="你好，世界。今天好。", context_id="paused"))
    async with asyncio.timeout(15):
        while len(client.samples("paused")) < 24 * whole.audio_ms * 0.6:
            await client.receive()
    await client.send(TextEnd(context_id="paused"))
    done = await client.until(ContextDone, context_id="paused")
    assert done.audio_ms >= whole.audio_ms * 0.6
