"""The engine on a tiny checkpoint, as its worker makes it: what is told, and what is left behind."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import random
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from cosyvoice.speaking import ALL, SAVED, SFT, Context, settled, start
from cosyvoice.tiny_checkpoint import write_tiny_checkpoint

from cosyduplex_server.engine.cosyvoice.engine import CosyVoiceEngine
from cosyduplex_server.errors import Failure

TEXT = "Hello world, this is what a model says while it is still thinking."
ZH = "你好，世界。"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
async def engine(checkpoint) -> AsyncIterator[CosyVoiceEngine]:
    engine = start(checkpoint, slots=8)
    yield engine
    await engine.aclose()


def held(engine: CosyVoiceEngine) -> tuple[int, int, int, int]:
    """What requests hold: themselves, blocks of the LM, blocks of the flow and slots beyond the voices'."""
    state = engine.state
    prefixes = state.memory.prefixes
    return (
        state.num_requests,
        state.memory.lm_blocks.num_held,
        state.memory.flow_blocks.num_held - prefixes.num_blocks,
        state.memory.slots.num_held - prefixes.num_slots,
    )


async def test_a_text_is_spoken_to_its_end_and_everything_is_told_in_order(engine) -> None:
    heard = await Context(engine).say(TEXT, ZH).end()
    assert heard.segments == [0, 1]
    assert heard.kinds[-1] == "done"
    assert heard.kinds.index("audio") < heard.kinds.index("segment_done")
    assert len(heard.pcm) == 2 * sum(heard.chunks) > 0
    assert np.abs(heard.samples).max() > 100
    spoken = [(TEXT, ZH)[word.segment][word.char_start : word.char_end] for word in heard.words]
    assert spoken == [
        *"Hello world this is what a model says while it is still thinking".split(),
        *"你好世界",
    ]
    times = [time for word in heard.words for time in (word.sample_start, word.sample_end)]
    assert times == sorted(times)
    assert times[-1] <= len(heard.pcm) // 2


@pytest.mark.parametrize("voice", [SAVED, SFT])
async def test_speech_is_as_long_as_its_tokens_at_every_speed(engine, voice) -> None:
    normal = await Context(engine, voice=voice).say(TEXT).end()
    assert len(normal.pcm) // 2 % 960 == 0
    for speed in (0.5, 1.5, 2.0):
        heard = await Context(engine, voice=voice, speed=speed).say(TEXT).end()
        assert len(heard.pcm) / 2 == pytest.approx(len(normal.pcm) / 2 / speed, abs=960)


async def test_the_same_seed_says_the_same_alone_beside_others_and_however_the_text_comes(engine) -> None:
    alone = await Context(engine).say(TEXT, ZH).end()
    others = [Context(engine, seed=seed).say(TEXT * 2) for seed in (7, 8, 9)]
    beside = Context(engine)
    for at in range(0, len(TEXT), 5):
        beside.request.append(0, TEXT[at : at + 5], at + 5 >= len(TEXT))
        await asyncio.sleep(0.01)
    beside.request.append(1, ZH, True)
    heard, *_ = await asyncio.gather(beside.end(), *(other.end() for other in others))
    assert len(heard.pcm) == len(alone.pcm)
    assert np.abs(heard.samples - alone.samples).max() <= 32767 * 1e-3
    another = await Context(engine, seed=6).say(TEXT, ZH).end()
    assert another.pcm != alone.pcm


async def test_first_audio_needs_as_many_tokens_for_every_request(engine) -> None:
    first = await Context(engine).say(TEXT).end()
    later = await Context(engine).say(TEXT).end()
    together = [Context(engine, seed=seed).say(TEXT) for seed in range(5)]
    heard = await asyncio.gather(*(context.end() for context in together))
    assert {len(each.pcm) for each in (first, later)} == {len(first.pcm)}
    assert {each.chunks[0] for each in (first, later, *heard)} == {first.chunks[0]}
    assert first.chunks[:2] == later.chunks[:2]


async def test_the_first_words_sound_before_the_sentence_is_written(engine) -> None:
    context = Context(engine)
    context.request.append(0, "One two three four five six seven eight nine ten, and ", False)
    heard = await context.until("audio")
    assert "segment_done" not in heard.kinds
    context.request.append(0, "so on.", True)
    heard = await context.end()
    assert heard.segments == [0]


async def test_a_flush_is_answered_after_its_audio_and_more_may_follow(engine) -> None:
    context = Context(engine).say(TEXT)
    context.request.flush(1)
    before = await context.until("flushed")
    length = len(before.pcm)
    assert before.segments == [0]
    context.request.append(1, ZH, True)
    heard = await context.end()
    assert heard.kinds[-1] == "done"
    assert len(heard.pcm) > length
    alone = await Context(engine).say(TEXT).end()
    assert len(alone.pcm) == length


@pytest.mark.parametrize("texts", [[], [""], ["..."], ["—", "  "]])
async def test_a_text_without_words_is_done_without_audio(engine, texts) -> None:
    context = Context(engine).say(*texts)
    context.request.flush(1)
    heard = await context.end()
    assert heard.pcm == b""
    assert heard.segments == list(range(len(texts)))
    assert heard.kinds[-2:] == ["flushed", "done"]
    await settled(engine)
    assert held(engine) == (0, 0, 0, 0)


async def test_no_more_is_made_than_the_listener_has_credit_for(engine) -> None:
    context = Context(engine, credit=24_000).say(TEXT, TEXT, TEXT)
    while sum(context.heard.chunks) < 24_000:
        await context.event()
    await settled(engine)
    await asyncio.sleep(0.2)
    request = next(iter(engine.state.requests))
    assert 24_000 <= request.num_samples <= 24_000 + 25 * 960
    context.outbox.add_credit(ALL)
    context.request.progress(24_000, ALL)
    assert (await context.end()).segments == [0, 1, 2]


async def test_volume_is_a_gain(engine) -> None:
    normal = await Context(engine).say(ZH).end()
    half = await Context(engine, volume=0.5).say(ZH).end()
    silent = await Context(engine, volume=0.0).say(ZH).end()
    assert np.abs(half.samples - normal.samples / 2).max() <= 1
    assert set(silent.pcm) == {0}


async def test_marks_in_the_text_of_users_are_text(engine) -> None:
    with_mark = await Context(engine).say("Say <|endofprompt|> and [laughter] now.").end()
    assert with_mark.kinds[-1] == "done"
    words = "".join(
        "Say <|endofprompt|> and [laughter] now."[word.char_start : word.char_end] for word in with_mark.words
    )
    assert "endofprompt" in words
    assert "laughter" in words


async def test_a_saved_voice_follows_an_instruction(engine) -> None:
    plain = await Context(engine).say(ZH).end()
    told = await Context(engine, instruct="用四川话说这句话").say(ZH).end()
    marked = await Context(engine, instruct="用四川话说这句话<|endofprompt|>").say(ZH).end()
    assert told.pcm != plain.pcm
    assert told.pcm == marked.pcm


async def test_a_wish_that_is_not_fulfilled_is_told_and_nothing_ends(engine) -> None:
    heard = await Context(engine, emotion="flabbergasted").say(ZH).end()
    assert heard.kinds[0] == "note"
    assert heard.kinds[-1] == "done"


async def test_an_unknown_voice_is_refused(engine) -> None:
    with pytest.raises(Failure, match="no voice 'nobody'"):
        Context(engine, voice="nobody")


async def test_a_voice_prompt_is_computed_once_for_all_who_speak_with_it(engine) -> None:
    state = engine.state
    chunks = []
    step_flow = state.runner.step_flow

    def count(batch):
        chunks.extend(work.chunk for work in batch)
        return step_flow(batch)

    state.runner.step_flow = count
    await asyncio.gather(*(Context(engine, seed=seed).say(ZH).end() for seed in range(4)))
    prompts = [chunk.index for chunk in chunks if chunk.num_prompt_frames == 50]
    assert sorted(prompts) == sorted(set(prompts))
    assert len(prompts) >= 1
    assert len(state.memory.prefixes) == 1


async def test_what_fails_ends_the_contexts_concerned_and_no_other(engine) -> None:
    state = engine.state
    step_flow = state.runner.step_flow
    broken = Context(engine, voice=SFT).say(TEXT)

    def fail_sft(batch):
        if any(not work.prompt.mel_FC.shape[0] for work in batch):
            raise RuntimeError("a fault of the device")
        return step_flow(batch)

    state.runner.step_flow = fail_sft
    sound = Context(engine).say(TEXT)
    heard_broken, heard_sound = await asyncio.gather(broken.end(), sound.end())
    assert heard_broken.error == "engine_failed"
    assert heard_sound.kinds[-1] == "done" or heard_sound.error == "engine_failed"
    state.runner.step_flow = step_flow
    assert (await Context(engine, voice=SFT).say(TEXT).end()).kinds[-1] == "done"
    await settled(engine)
    assert held(engine) == (0, 0, 0, 0)


async def test_a_context_goes_on_without_its_past_when_memory_runs_out(checkpoint) -> None:
    engine = start(checkpoint, slots=2)
    try:
        blocks = engine.state.memory.flow_blocks
        spare = [blocks.allocate() for _ in range(blocks.num_free - 5)]
        heard = await Context(engine).say(*[TEXT] * 4).end()
        assert heard.kinds[-1] == "done"
        whole = await Context(engine).say(*[TEXT] * 4).end()
        assert len(heard.pcm) == len(whole.pcm)
        blocks.release(spare)
    finally:
        await engine.aclose()


async def test_a_context_for_which_there_is_no_memory_is_told_so(checkpoint) -> None:
    engine = start(checkpoint, slots=2)
    try:
        blocks = engine.state.memory.flow_blocks
        spare = [blocks.allocate() for _ in range(blocks.num_free)]
        heard = await Context(engine).say(TEXT).end()
        assert heard.error == "over_capacity"
        blocks.release(spare)
        assert (await Context(engine).say(TEXT).end()).kinds[-1] == "done"
        await settled(engine)
        assert held(engine) == (0, 0, 0, 0)
    finally:
        await engine.aclose()


async def test_the_end_of_upstream_differs_in_the_last_chunk_alone(checkpoint) -> None:
    ours, theirs = start(checkpoint), start(checkpoint, "--upstream-end")
    try:
        a, b = await Context(ours).say(TEXT).end(), await Context(theirs).say(TEXT).end()
        assert len(a.pcm) == len(b.pcm)
        assert a.chunks == b.chunks
        early = 2 * sum(a.chunks[:-1])
        assert a.pcm[:early] == b.pcm[:early]
        assert a.pcm[early:] != b.pcm[early:]
    finally:
        await ours.aclose()
        await theirs.aclose()


@pytest.mark.parametrize("policy", ["clause", "interleave", "sentence"])
async def test_every_text_start_speaks_the_whole_text(checkpoint, policy) -> None:
    engine = start(checkpoint, "--text-start", policy)
    try:
        heard = await Context(engine).say(TEXT, ZH).end()
        assert heard.segments == [0, 1]
        assert len(heard.words) == 17
    finally:
        await engine.aclose()


async def test_half_precision_speaks_as_well(checkpoint) -> None:
    engine = start(checkpoint, "--dtype", "bfloat16")
    try:
        heard = await Context(engine).say(TEXT).end()
        assert heard.kinds[-1] == "done"
        assert np.abs(heard.samples).max() > 100
    finally:
        await engine.aclose()


async def campaign(engine: CosyVoiceEngine, sessions: int, together: int, seed: int) -> None:
    """Sessions that end in every way: to the end, cancelled anywhere, with flushes."""
    rng = random.Random(seed)
    gate = asyncio.Semaphore(together)

    async def session(number: int) -> None:
        async with gate:
            context = Context(engine, seed=number, voice=rng.choice([SAVED, SFT]))
            for segment in range(rng.randrange(3)):
                context.request.append(segment, rng.choice([ZH, "Hello there."]), rng.random() < 0.9)
                if rng.random() < 0.2:
                    context.request.flush(segment)
            if rng.random() < 0.5:
                for _ in range(rng.randrange(3)):
                    await asyncio.sleep(rng.random() * 0.02)
                context.request.cancel()
            else:
                await context.end()

    async with asyncio.TaskGroup() as tasks:
        for number in range(sessions):
            tasks.create_task(session(number))
    await settled(engine)


async def fill_memory(engine: CosyVoiceEngine) -> None:
    """Uses more of the reserved memory at once than a campaign ever does: it takes room when first used."""
    voices = [SAVED, SFT] * 4
    contexts = [Context(engine, voice=voice, seed=seed).say(TEXT, TEXT) for seed, voice in enumerate(voices)]
    await asyncio.gather(*(context.end() for context in contexts))


def resident_bytes() -> int:
    """What is in use: without garbage, and without what the allocator keeps for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.timeout(300)
async def test_many_sessions_leave_nothing(engine) -> None:
    await fill_memory(engine)
    await campaign(engine, 60, 8, seed=0)  # buffers of libraries reach their size
    before = resident_bytes()
    await campaign(engine, 150, 8, seed=1)
    assert held(engine) == (0, 0, 0, 0)
    assert resident_bytes() < before * 1.01 + (1 << 20)


@pytest.mark.soak
@pytest.mark.timeout(3000)
async def test_three_thousand_sessions_leave_nothing(engine) -> None:
    await fill_memory(engine)
    await campaign(engine, 300, 8, seed=0)
    before = resident_bytes()
    await campaign(engine, 3000, 8, seed=1)
    assert held(engine) == (0, 0, 0, 0)
    assert resident_bytes() < before * 1.01
