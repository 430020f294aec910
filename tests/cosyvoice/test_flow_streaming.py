"""The flow chunk by chunk: the same mel as in one pass, whoever shares the cache and the batch."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from cosyvoice.conftest import load_golden
from cosyvoice.flow_sequences import (
    OTHER_SIZES,
    Cached,
    Sequence,
    Voice,
    draw_tokens,
    golden_flow,
    random_flow,
    whole,
)
from cosyvoice.host_sync import NoHostSync
from torch.testing import assert_close

from cosyduplex_server.models.config import FlowConfig
from cosyduplex_server.models.flow import Flow, FlowBatch
from cosyduplex_server.models.flow_cache import SCRATCH_BLOCK, SCRATCH_SLOT, FlowCache

TOLERANCE = 1e-5  # of mel values up to 5: what reordering the sums costs
PROMPTS = [0, 7, 25, 30, 63]


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    assert_close(ours, theirs, atol=tolerance, rtol=0)


@pytest.fixture
def flow() -> Flow:
    return random_flow(1)


def test_chunks_behind_a_stored_prefix_give_upstreams_mel() -> None:
    flow, recorded = golden_flow(), load_golden("flow_v2_golden")
    voice = Voice(
        recorded["prompt_token"][0].tolist(),
        recorded["prompt_feat"][0],
        flow.project_speaker(recorded["embedding"]),
    )
    cached = Cached(flow)
    stored = cached.prefix(voice)
    assert len(stored.table) == 1
    sequence = cached.begin_behind(stored, recorded["token"][0].tolist())
    mel = cached.run(sequence)
    close(mel[:290], recorded["stream_all.mel"][0].T, tolerance=1e-3)
    close(mel[190:], recorded["final.mel_new_stream"][0].T, tolerance=1e-3)
    close(mel, whole(flow, voice, sequence.tokens))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_chunks_give_the_mel_of_one_pass_at_any_hop(flow, prompt) -> None:
    """Three sequences take turns in one cache, 1, 2 and 4 chunks at a time."""
    cached, voice = Cached(flow), Voice.drawn(flow, prompt, seed=prompt)
    hops = {cached.begin(voice, draw_tokens(flow, 130, seed)): seed for seed in (1, 2, 4)}
    while any(sequence.chunk for sequence in hops):
        for sequence, hop in hops.items():
            for _ in range(hop):
                if sequence.chunk:
                    cached.step([sequence])
    for sequence in hops:
        close(sequence.mel_FC, whole(flow, voice, sequence.tokens))


@pytest.mark.parametrize("length", [1, 2, 24, 25, 26, 27, 49, 51])
def test_a_sequence_may_end_anywhere_in_a_chunk(flow, length) -> None:
    cached, voice = Cached(flow), Voice.drawn(flow, 25, seed=3)
    tokens = draw_tokens(flow, length, seed=9)
    close(cached.run(cached.begin(voice, tokens)), whole(flow, voice, tokens))


def test_what_was_given_out_never_changes_when_more_tokens_come(flow) -> None:
    cached, voice = Cached(flow), Voice.drawn(flow, 30, seed=5)
    tokens = draw_tokens(flow, 120, seed=6)
    early = whole(
        flow, voice, tokens[:73], finalize=False
    )  # two whole chunks after the prompt's, and look-ahead
    close(cached.run(cached.begin(voice, tokens))[: early.shape[0]], early)


@pytest.mark.parametrize("prompt", [27, 28, 30, 63])
def test_sequences_share_a_voices_prefix(flow, prompt) -> None:
    cached, voice = Cached(flow), Voice.drawn(flow, prompt, seed=prompt)
    stored = cached.prefix(voice)
    assert len(stored.table) == {27: 0, 28: 1, 30: 1, 63: 2}[prompt]
    before = [slab[stored.slot].clone() for slab in cached.cache.tails.all]
    keys = [cached.cache.estimator_kv.gather(0, torch.tensor([[block]]))[0] for block in stored.table]
    sequences = [cached.begin_behind(stored, draw_tokens(flow, 70, seed)) for seed in (1, 2)]
    while sequences[0].chunk:
        cached.step(sequences)
    for sequence in sequences:
        close(sequence.mel_FC, whole(flow, voice, sequence.tokens))
    for slab, old in zip(cached.cache.tails.all, before, strict=True):
        assert torch.equal(slab[stored.slot], old)
    for block, old_keys in zip(stored.table, keys, strict=True):
        assert torch.equal(cached.cache.estimator_kv.gather(0, torch.tensor([[block]]))[0], old_keys)


def test_a_ragged_batch_gives_each_what_it_gets_alone(flow) -> None:
    """Voices of other lengths, sequences of other ages; all end in a chunk of the same length."""
    prompts, ages = [0, 7, 63, 30], [0, 3, 1, 4]
    cached, alone = Cached(flow), Cached(flow, num_blocks=60)
    sequences, expected = [], []
    for i, (prompt, age) in enumerate(zip(prompts, ages, strict=True)):
        voice = Voice.drawn(flow, prompt, seed=i)
        chunks = -(-prompt // 25) + age + 2
        tokens = draw_tokens(flow, 25 * chunks - 14 - prompt, seed=10 + i)  # the last chunk holds 11
        expected.append(alone.run(alone.begin(voice, tokens)))
        sequences.append(cached.begin(voice, tokens))
        while len(sequences[i].table) < chunks - 2:
            cached.step([sequences[i]])
    for spare in (0, 2):
        cached.step(sequences, spare_columns=spare)
    assert not any(sequence.chunk for sequence in sequences)
    assert len({len(sequence.table) for sequence in sequences}) > 2
    for sequence, mel in zip(sequences, expected, strict=True):
        close(sequence.mel_FC, mel)


def test_rows_that_only_fill_up_a_batch_change_nothing(flow) -> None:
    voice, tokens = Voice.drawn(flow, 30, seed=1), draw_tokens(flow, 45, seed=2)
    expected = whole(flow, voice, tokens)
    cached = Cached(flow)
    sequence = cached.begin(voice, tokens)
    while sequence.chunk:
        batch = cached.batch([sequence])
        filled = {
            name: F.pad(value, (0, 0) * (value.dim() - 1) + (0, 2)) for name, value in asdict(batch).items()
        }
        filled["slots_B"][1:] = SCRATCH_SLOT
        filled["blocks_B"][1:] = SCRATCH_BLOCK
        mel = flow.step(cached.cache, FlowBatch(**filled))
        sequence.table.append(int(batch.blocks_B[0]))
        sequence.mels.append(mel[0])
    close(sequence.mel_FC, expected)
    assert not cached.cache.estimator_kv.gather(0, torch.tensor([[0]]))[0].any()


def test_a_slot_and_blocks_that_were_used_are_as_good_as_new(flow) -> None:
    cached, voice = Cached(flow), Voice.drawn(flow, 30, seed=1)
    tokens = draw_tokens(flow, 60, seed=2)
    used = cached.begin(Voice.drawn(flow, 63, seed=7), draw_tokens(flow, 40, seed=8))
    cached.run(used)
    again = Sequence(voice, tokens, used.slot)
    cached.cache.reset(again.slot)
    cached._blocks = iter(used.table)
    close(cached.run(again), whole(flow, voice, tokens))


def test_sequences_of_one_shape_can_be_computed_whole_together(flow) -> None:
    voice = Voice.drawn(flow, 7, seed=1)
    rows = [draw_tokens(flow, 40, seed) for seed in (1, 2)]
    tokens = torch.tensor([voice.tokens + row for row in rows])
    mel = flow.full(
        tokens,
        voice.mel_FC.expand(2, -1, -1),
        voice.spk_B80.expand(2, -1),
        streaming=False,
        finalize=True,
    )
    for i, row in enumerate(rows):
        close(mel[i], whole(flow, voice, row, streaming=False))


def test_the_host_never_waits_inside_a_step(flow) -> None:
    cached, voice = Cached(flow), Voice.drawn(flow, 30, seed=1)
    sequences = [cached.begin(voice, draw_tokens(flow, 60, seed)) for seed in (1, 2)]
    flow.prepare(2 * 100)
    for _ in range(3):
        batch = cached.batch(sequences)
        with NoHostSync():
            flow.step(cached.cache, batch)
        for sequence, block in zip(sequences, batch.blocks_B.tolist(), strict=True):
            sequence.table.append(block)


def test_a_prepared_flow_computes_no_constants_in_its_steps() -> None:
    flow = random_flow(2)
    flow.prepare(400)
    made = [
        flow._solver_constants(),
        flow.encoder.token_stack._positions,
        flow.encoder.frame_stack._positions,
    ]
    cached, voice = Cached(flow), Voice.drawn(flow, 30, seed=1)
    cached.run(cached.begin(voice, draw_tokens(flow, 170, seed=1)))
    after = [
        flow._solver_constants(),
        flow.encoder.token_stack._positions,
        flow.encoder.frame_stack._positions,
    ]
    assert all(one is other for one, other in zip(made, after, strict=True))


def test_constants_follow_the_weights() -> None:
    first, second, voice_tokens = random_flow(3), random_flow(4), draw_tokens(random_flow(3), 40, seed=1)
    voice = Voice.drawn(second, 7, seed=1)
    expected = whole(second, voice, voice_tokens)
    flow = Flow(OTHER_SIZES)
    flow.load_state_dict(first.state_dict())
    whole(flow, voice, voice_tokens)
    flow.load_state_dict(second.state_dict())
    assert torch.equal(whole(flow, voice, voice_tokens), expected)


def test_constants_follow_the_dtype() -> None:
    flow, fresh = Flow(OTHER_SIZES), Flow(OTHER_SIZES)
    flow.load_state_dict(random_flow(5).state_dict())
    voice, tokens = Voice.drawn(random_flow(5), 7, seed=1), draw_tokens(flow, 40, seed=1)
    whole(flow, voice, tokens)
    low = replace(voice, spk_B80=voice.spk_B80.bfloat16())
    rounded = whole(flow.to(torch.bfloat16), low, tokens)
    fresh.load_state_dict(random_flow(5).state_dict())
    assert torch.equal(rounded, whole(fresh.to(torch.bfloat16), low, tokens))
    restored = whole(flow.to(torch.float32), voice, tokens)
    close(restored, rounded, tolerance=0.2)
    assert not torch.equal(restored, rounded)


def test_bfloat16_stays_close_to_float32() -> None:
    exact, rounded = golden_flow(), golden_flow(torch.bfloat16)
    voice = Voice.drawn(exact, 30, seed=1)
    tokens = draw_tokens(exact, 95, seed=2)
    cached = Cached(rounded)
    mel, expected = cached.run(cached.begin(voice, tokens)), whole(exact, voice, tokens)
    assert mel.dtype == torch.float32
    error = (mel - expected).square().mean().sqrt() / expected.std()
    assert error < 0.015  # measured: 0.009
    assert cached.cache.estimator_kv.block_bytes * 2 == Cached(exact).cache.estimator_kv.block_bytes


def test_the_caches_sizes_are_those_of_the_model() -> None:
    """2 guidance rows x 10 steps x 56 layers x K and V of 512 x 50 frames, and the encoder's, in 16 bits."""
    cache = FlowCache(FlowConfig(), num_slots=3, num_blocks=5, dtype=torch.bfloat16, device="meta")
    assert cache.estimator_kv.block_bytes == 50 * 2_293_760
    assert cache.block_bytes - cache.estimator_kv.block_bytes == 50 * 14_336
    assert cache.slot_bytes == 2 * (2 * 512 + 4 * 512 + 20 * 2 * (320 + 31 * 256))
