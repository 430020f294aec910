"""Barge-in: what it tells, what it frees, and whom it leaves alone."""

from __future__ import annotations

import asyncio
import random

import pytest
from cosyvoice_server.serving import (
    CHINESE,
    ENGLISH,
    SAVED,
    SFT,
    SLOTS,
    UNPACED,
    Listener,
    ModelServer,
    memory_kb,
    same,
)

from cosyduplex.messages import (
    AudioFrame,
    ContextCancel,
    ContextCancelled,
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
)

LONG = f"{ENGLISH} {CHINESE} " * 2
PACED = SessionStart(flow=FlowOptions(max_ahead_ms=200), marks=True, speech=UNPACED.speech)


async def has_free_slots(server: ModelServer) -> None:
    """Waits until nothing is spoken."""
    async with asyncio.timeout(10):
        while server.slots() != (SLOTS, 0):
            await asyncio.sleep(0.05)


async def test_it_tells_how_far_into_the_text_the_listener_got(listen):
    client = await listen()
    text = "**Well**, hello world, 你好。 How are you?"
    done = await client.say(text)
    words = client.words()
    for played_ms, chars in (
        (0, 0),
        (words[0].end_ms - 1, 0),
        (words[0].end_ms, words[0].char_end),
        (words[4].end_ms + 1, words[4].char_end),
        (done.audio_ms, len(text)),
    ):
        context_id = f"after {played_ms} ms"
        await client.say(text, context_id)
        await client.send(ContextCancel(context_id=context_id, played_ms=played_ms))
        cancelled = await client.until(ContextCancelled)
        assert (cancelled.spoken_chars, cancelled.estimated) == (chars, False)
        assert cancelled.sent_ms == done.audio_ms


async def test_in_the_middle_of_the_audio_it_tells_the_words_that_were_heard(listen):
    client = await listen()
    await client.send(TextAppend(text=LONG))
    while len(client.words()) < 5 or len(client.audio()) / 48 <= client.words()[3].end_ms:
        await client.receive()
    heard = client.words()[3]
    await client.send(ContextCancel(context_id="default", played_ms=heard.end_ms))
    cancelled = await client.until(ContextCancelled)
    assert cancelled.spoken_chars == heard.char_end
    assert heard.end_ms < cancelled.sent_ms < 20_000
    await client.nothing_more(0.2)


async def before_any_text(client: Listener, context_id: str) -> None:
    await client.send(ContextOpen(context_id=context_id))


async def while_text_is_held_back(client: Listener, context_id: str) -> None:
    await client.send(TextAppend(context_id=context_id, text="no"))


async def while_the_first_words_are_computed(client: Listener, context_id: str) -> None:
    await client.send(TextAppend(context_id=context_id, text=LONG))
    await asyncio.sleep(0.02)


async def while_a_sentence_is_open(client: Listener, context_id: str) -> None:
    await client.send(
        TextAppend(context_id=context_id, text="one two three four five six seven eight nine ten eleven ")
    )
    await client.until_audio(context_id)


async def while_audio_is_sent(client: Listener, context_id: str) -> None:
    await client.send(TextAppend(context_id=context_id, text=LONG))
    await client.until_audio(context_id)


async def while_the_listener_is_ahead_of_nothing(client: Listener, context_id: str) -> None:
    await client.send(TextAppend(context_id=context_id, text=LONG), TextEnd(context_id=context_id))
    await client.until_audio(context_id)


async def while_a_flush_waits(client: Listener, context_id: str) -> None:
    await client.send(TextAppend(context_id=context_id, text=LONG), TextFlush(context_id=context_id))
    await asyncio.sleep(0.05)


async def after_a_flush(client: Listener, context_id: str) -> None:
    await client.send(TextAppend(context_id=context_id, text="Hello."), TextFlush(context_id=context_id))
    await client.until(ContextFlushed, context_id=context_id)


async def after_the_end(client: Listener, context_id: str) -> None:
    await client.say("Hello.", context_id)


STAGES = (
    before_any_text,
    while_text_is_held_back,
    while_the_first_words_are_computed,
    while_a_sentence_is_open,
    while_audio_is_sent,
    while_the_listener_is_ahead_of_nothing,
    while_a_flush_waits,
    after_a_flush,
    after_the_end,
)


@pytest.mark.parametrize("stage", STAGES)
async def test_its_slot_is_free_again(server, listen, stage):
    client = await listen()
    for number in range(SLOTS + 2):
        context_id = f"{number}"
        await stage(client, context_id)
        await client.send(ContextCancel(context_id=context_id))
        cancelled = await client.until(ContextCancelled, context_id=context_id)
        seen = len(client.events)
        await client.say("Next.", context_id)
        late = [event for event in client.events[seen:] if isinstance(event.message, AudioFrame)]
        assert all(event.message.context_index != cancelled.context_index for event in late)
    assert client.messages(Error) == []
    await has_free_slots(server)


async def test_the_others_go_on_as_if_nothing_were(listen):
    client = await listen()
    await client.say(LONG, "alone")
    await client.send(TextAppend(context_id="stays", text=LONG), TextEnd(context_id="stays"))
    for number in range(3):
        context_id = f"goes {number}"
        await client.send(TextAppend(context_id=context_id, text=LONG), TextEnd(context_id=context_id))
        await client.until_audio(context_id)
        await client.send(ContextCancel(context_id=context_id))
        await client.until(ContextCancelled, context_id=context_id)
    if not any(done.context_id == "stays" for done in client.messages(ContextDone)):
        await client.until(ContextDone, context_id="stays")
    assert same(client.samples("stays"), client.samples("alone"))


async def ended(client: Listener, context_id: str) -> None:
    """Waits until a context is cancelled, or was refused for want of a slot."""
    while True:
        message = (await client.receive()).message
        if isinstance(message, Error):
            assert message.code == "over_capacity"
        if isinstance(message, ContextCancelled | Error) and message.context_id == context_id:
            return


async def storm(server: ModelServer, sessions: int, contexts: int, seed: int) -> None:
    """Sessions whose contexts are cancelled anywhere, ended, or left when the socket is torn."""
    choose = random.Random(seed)

    async def session() -> None:
        client = await Listener.open(server.ws_url, choose.choice([PACED, UNPACED]))
        async with client:
            for number in range(contexts):
                opening = {"context_id": f"{number}", "voice": choose.choice([SAVED, SFT])}
                speech = SpeechOptions(instruct=choose.choice([None, "用四川话说这句话"]))
                await client.send(ContextOpen(**opening, speech=speech))
                await client.send(TextAppend(context_id=f"{number}", text=choose.choice(["Hello. ", LONG])))
                await asyncio.sleep(choose.random() * 0.1)
                if choose.random() < 0.8:
                    await client.send(ContextCancel(context_id=f"{number}"))
                    await ended(client, f"{number}")

    await asyncio.gather(*(session() for _ in range(sessions)))
    await has_free_slots(server)


async def test_a_storm_of_cancels_and_torn_sockets_leaves_nothing(server, listen):
    await storm(server, sessions=SLOTS, contexts=3, seed=0)
    before_kb = memory_kb(server.worker())
    await storm(server, sessions=SLOTS, contexts=12, seed=1)
    assert memory_kb(server.worker()) - before_kb < 20_000
    client = await listen()
    for number in range(SLOTS):
        await client.send(TextAppend(context_id=f"{number}", text="All of them speak now."))
        await client.send(TextEnd(context_id=f"{number}"))
    for _ in range(SLOTS):
        assert (await client.until(ContextDone)).audio_ms > 0
