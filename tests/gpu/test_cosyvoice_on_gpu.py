"""The networks on CUDA: the same results as on the CPU, no waiting in between, nothing left behind."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from cosyvoice.conftest import (
    load_golden,
    tiny_flow_config,
    tiny_lm_config,
    tiny_vocoder_config,
)
from cosyvoice.flow_sequences import Cached, Voice, draw_tokens, golden_flow
from cosyvoice.flow_sequences import Sequence as FlowTokens
from torch import Tensor
from torch.testing import assert_close

from cosyduplex_server.engine.cosyvoice.flow_plan import FlowSequence
from cosyduplex_server.engine.cosyvoice.runner import FlowWork, LMWork, Memory, Runner, VocoderWork
from cosyduplex_server.models.config import CHUNK_FRAMES, ModelConfig
from cosyduplex_server.models.counter_random import integers, normal
from cosyduplex_server.models.flow import Flow, FlowBatch
from cosyduplex_server.models.phases import Phase
from cosyduplex_server.models.sampling import NOTHING, RasSampler
from cosyduplex_server.models.speech_lm import SpeechLM, new_cache
from cosyduplex_server.models.vocoder import Vocoder
from cosyduplex_server.models.vocoder_stream import VocoderState, VocoderStream
from cosyduplex_server.models.weights import Source
from cosyduplex_server.models.weights_flow import flow_weights
from cosyduplex_server.models.weights_speech_lm import speech_lm_weights
from cosyduplex_server.models.weights_vocoder import load_vocoder

pytestmark = [
    pytest.mark.gpu,
    # PyTorch says so whenever it is asked to fail at a wait.
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
]

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
F32, BF16 = torch.float32, torch.bfloat16
# As far as float32 may be from upstream's numbers.
LOGITS, SCORES, MEL, WAVE = 2e-4, 1e-3, 1e-3, 5e-3


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


# --- the golden networks on a device -----------------------------------------------------------------


@cache
def lm_on(device: torch.device, dtype: torch.dtype = F32) -> SpeechLM:
    config = tiny_lm_config(2)
    lm = SpeechLM(config)
    weights = speech_lm_weights(Source(load_golden("llm_v2"), "llm.pt"), config, dtype)
    lm.load_state_dict(weights, strict=True, assign=True)
    return lm.to(device).eval()


@cache
def flow_on(device: torch.device, dtype: torch.dtype = F32) -> Flow:
    config = tiny_flow_config(2)
    flow = Flow(config)
    weights = flow_weights(Source(load_golden("flow_v2"), "flow.pt"), config)
    flow.load_state_dict(weights, strict=True, assign=True)
    return flow.to(device, dtype).eval()


@cache
def vocoder_on(device: torch.device, dtype: torch.dtype = F32) -> Vocoder:
    return load_vocoder(load_golden("hift_v2"), tiny_vocoder_config(2), dtype=dtype, device=device)


def runner_on(device: torch.device, dtype: torch.dtype = F32) -> Runner:
    lm, flow, vocoder = lm_on(device, dtype), flow_on(device, dtype), vocoder_on(device, dtype)
    config = ModelConfig(
        generation=2, lm=lm.config, flow=flow.config, vocoder=vocoder.config, prompt_mel_fmax_hz=8000.0
    )
    memory = Memory(num_lm_blocks=20, num_slots=8, num_flow_blocks=40, num_prefixes=4)
    return Runner(config, lm, flow, vocoder, memory)


def far(ours: Tensor, theirs: Tensor) -> float:
    """How far two signals are apart, rms over rms."""
    ours, theirs = ours.cpu().double(), theirs.cpu().double()
    assert ours.shape == theirs.shape
    return float((ours - theirs).square().mean().sqrt() / theirs.square().mean().sqrt())


def close(on_cuda: Tensor, on_cpu: Tensor, tolerance: float) -> None:
    assert on_cuda.device.type == "cuda"
    assert_close(on_cuda.cpu(), on_cpu, atol=tolerance, rtol=0)


# --- speech LM ---------------------------------------------------------------------------------------


def lm_logits(device: torch.device, dtype: torch.dtype = F32) -> Tensor:
    """Logits (30, V) after a prompt, and after each of 29 rows that follow one by one."""
    lm = lm_on(device, dtype)
    kv = new_cache(lm.config, 8, dtype, device, block_rows=16)
    tables = torch.tensor([[3, 1, 5, 2, 4]], device=device)
    rows = torch.randint(lm.config.num_rows, (1, 60), generator=torch.Generator().manual_seed(0)).to(device)
    positions = torch.arange(60, device=device)[None]
    hidden = [lm(rows[:, :31], positions[:, :31], kv, tables)[:, -1]]
    hidden += [lm(rows[:, at : at + 1], positions[:, at : at + 1], kv, tables)[:, -1] for at in range(31, 60)]
    return lm.logits(torch.cat(hidden))


def test_the_speech_lm_scores_as_on_the_cpu() -> None:
    ours, theirs = lm_logits(CUDA), lm_logits(CPU)
    close(ours, theirs, LOGITS)
    close(ours.log_softmax(-1), theirs.log_softmax(-1), SCORES)


def test_a_place_in_a_batch_scores_as_it_does_alone() -> None:
    lm = lm_on(CUDA)
    kv = new_cache(lm.config, 40, F32, CUDA, block_rows=16)
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(lm.config.num_rows, (8, 40), generator=generator).to(CUDA)
    tables = torch.arange(1, 25, device=CUDA).view(8, 3)
    positions = torch.arange(40, device=CUDA).expand(8, -1)
    together = lm.logits(lm(rows, positions, kv, tables)[:, -1])
    for place in range(8):
        one = slice(place, place + 1)
        close(lm.logits(lm(rows[one], positions[one], kv, tables[one])[:, -1]), together[one].cpu(), LOGITS)


def test_random_numbers_are_those_of_the_cpu() -> None:
    seeds, counters = torch.arange(-50, 50), torch.arange(0, 1000, 10)
    drawn = integers(seeds.to(CUDA), counters.to(CUDA), 3, 63)
    assert torch.equal(drawn.cpu(), integers(seeds, counters, 3, 63))
    close(normal(seeds.to(CUDA), counters.to(CUDA), 3), normal(seeds, counters, 3), 1e-5)


def draws(device: torch.device) -> Tensor:
    config = tiny_lm_config(2)
    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn((512, config.speech_rows), generator=generator)
    history = torch.randint(config.speech_tokens, (512, config.ras_window), generator=generator)
    history[:100] = NOTHING
    history[100:300] = logits[100:300].argmax(1, keepdim=True)  # so that a second draw is made
    numbers = torch.arange(512)
    arguments = (logits, history, numbers % len(Phase), numbers, numbers * 7)
    drawn: Tensor = RasSampler(config, device)(*(tensor.to(device) for tensor in arguments))
    return drawn


def test_the_same_tokens_are_drawn_as_on_the_cpu() -> None:
    # A probability may be rounded otherwise, and one draw in a million with it.
    assert (draws(CUDA).cpu() != draws(CPU)).sum() <= 1


# --- flow --------------------------------------------------------------------------------------------


class CachedOn(Cached):
    """Sequences of a flow on a device; voices are drawn on the CPU, and the same everywhere."""

    def batch(self, sequences: Sequence[FlowTokens], *, spare_columns: int = 0) -> FlowBatch:
        return moved(super().batch(sequences, spare_columns=spare_columns), self.flow.speaker.weight.device)


def moved(batch: FlowBatch, device: torch.device) -> FlowBatch:
    return FlowBatch(
        **{field.name: getattr(batch, field.name).to(device) for field in dataclasses.fields(FlowBatch)}
    )


def flow_mels(device: torch.device, dtype: torch.dtype = F32) -> Tensor:
    """The mel of three sequences behind one prompt, chunk by chunk, two of them together."""
    flow, drawn = flow_on(device, dtype), golden_flow()
    cached, voice = CachedOn(flow), Voice.drawn(drawn, 40, seed=3)
    prefix = cached.prefix(voice)
    a, b, c = (cached.begin_behind(prefix, draw_tokens(drawn, 85, seed)) for seed in (4, 5, 6))
    while a.chunk:
        cached.step([a, b])
    cached.run(c)
    return torch.stack([sequence.mel_FC for sequence in (a, b, c)])


def test_the_flow_makes_the_mel_of_the_cpu() -> None:
    close(flow_mels(CUDA), flow_mels(CPU), MEL)


def test_the_projected_voice_is_that_of_the_cpu() -> None:
    embedding = torch.randn((2, 192), generator=torch.Generator().manual_seed(0))
    close(flow_on(CUDA).project_speaker(embedding.to(CUDA)), flow_on(CPU).project_speaker(embedding), 1e-5)


# --- vocoder -----------------------------------------------------------------------------------------


def golden_mel() -> Tensor:
    """Frames of the golden flow (200, 80)."""
    return load_golden("flow_v2_golden")["offline.mel_nostream"][0].T[:200].contiguous()


def waveforms(device: torch.device, dtype: torch.dtype = F32) -> Tensor:
    """Two utterances (2, N) in pieces of a second, with their noise, one of them faster."""
    stream = VocoderStream(vocoder_on(device, dtype), num_slots=2)
    states = [VocoderState(slot=0, seed=1), VocoderState(slot=1, seed=2, speed=1.5)]
    parts: list[list[Tensor]] = [[], []]
    for begin in range(0, 200, CHUNK_FRAMES):
        mel_TC = golden_mel()[begin : begin + CHUNK_FRAMES].to(device)
        last = begin + CHUNK_FRAMES >= 200
        for place, wav_N in enumerate(stream.push(states, [mel_TC, mel_TC], [last, last])):
            parts[place].append(wav_N)
    slow, fast = (torch.cat(part) for part in parts)
    return torch.cat([slow, fast])


def test_the_vocoder_makes_the_samples_of_the_cpu() -> None:
    close(waveforms(CUDA), waveforms(CPU), WAVE)


# --- all of it ---------------------------------------------------------------------------------------


def spoken(runner: Runner, num_tokens: int = 70, slot: int = 2) -> tuple[list[int], bytes]:
    """Tokens and samples of one context: a voice's prompt, a prompt of the LM, an utterance."""
    lm = runner.config.lm
    generator = torch.Generator().manual_seed(9)
    prompt = runner.flow_prompt(
        torch.randn(192, generator=generator), torch.randn(60, 80, generator=generator)
    )
    sequence = FlowSequence(torch.randint(200, (30,), generator=generator).tolist())
    sequence.next_chunk = 0  # nothing was computed before
    rows: tuple[int, ...] = tuple(range(20))
    position, tokens, pcm, table = 0, [], b"", []
    vocoder = runner.new_vocoder(slot, 5, 1.0)
    runner.begin_flow(slot)
    for step in range(num_tokens):
        work = LMWork(rows, position, (1, 2), Phase.NO_EOS, tuple(tokens), seed=4, step=step)
        (token,) = runner.step_lm([work])
        tokens.append(token)
        position, rows = position + len(rows), (lm.speech_row(token),)
        sequence.append(token)
    sequence.end()
    while sequence.is_ready:
        chunk, block = sequence.peek(), 2 + len(table)
        noise_frame = chunk.index * CHUNK_FRAMES
        (mel_FC,) = runner.step_flow([FlowWork(chunk, prompt, slot, tuple(table), block, noise_frame)])
        table.append(block)
        sequence.advance()
        (part,) = runner.vocode([VocoderWork(vocoder, mel_FC, sequence.is_done, 1.0)])
        pcm += part
    return tokens, pcm


def samples(pcm: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(pcm, "<i2").astype(np.float64))


def test_the_runner_speaks_as_on_the_cpu() -> None:
    (tokens, pcm), (tokens_cpu, pcm_cpu) = spoken(runner_on(CUDA)), spoken(runner_on(CPU))
    assert tokens == tokens_cpu
    assert len(pcm) == 2 * 960 * len(tokens)
    assert (samples(pcm) - samples(pcm_cpu)).abs().max() <= 32767 * WAVE


# --- half precision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lm_logits, flow_mels, waveforms])
def test_bfloat16_is_close_to_float32(make: Callable[..., Tensor]) -> None:
    # On the CPU 1.2 % of the logits, 0.9 % of the mel and 0.7 % of the samples, rms.
    assert 0 < far(make(CUDA, BF16), make(CUDA)) < 0.03


# --- the host never waits ----------------------------------------------------------------------------


class NoWait:
    """Inside it, whatever makes the host wait for the device fails."""

    def __enter__(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")

    def __exit__(self, *error: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


def test_a_wait_would_be_noticed() -> None:
    number = torch.ones(1, device=CUDA)
    with pytest.raises(RuntimeError, match="synchronizing"), NoWait():
        number.item()


@pytest.mark.parametrize("dtype", [F32, BF16], ids=["float32", "bfloat16"])
def test_the_host_does_not_wait_in_a_chunk_of_the_flow(dtype: torch.dtype) -> None:
    flow = flow_on(CUDA, dtype)
    flow.prepare(500)
    cached = CachedOn(flow)
    sequences = [
        cached.begin(Voice.drawn(golden_flow(), 30, seed=seed), draw_tokens(golden_flow(), 95, seed))
        for seed in (1, 2)
    ]
    cached.step(sequences)
    batch = cached.batch(sequences)
    with NoWait():
        mel = flow.step(cached.cache, batch)
    assert mel.isfinite().all()


def test_the_host_does_not_wait_in_a_step_of_the_speech_lm() -> None:
    lm = lm_on(CUDA)
    kv, sampler = new_cache(lm.config, 8, F32, CUDA), RasSampler(lm.config, CUDA)
    rows, zeros = torch.tensor([[3], [4]], device=CUDA), torch.zeros(2, dtype=torch.int64, device=CUDA)
    tables, history = torch.tensor([[1], [2]], device=CUDA), torch.full((2, 10), NOTHING, device=CUDA)
    with NoWait():
        logits = lm.logits(lm(rows, zeros[:, None], kv, tables)[:, -1])
        drawn = sampler(logits, history, zeros, zeros, zeros)
    assert drawn.shape == (2,)


def test_the_host_does_not_wait_in_a_window_of_the_vocoder() -> None:
    vocoder = vocoder_on(CUDA)
    mel_BTC, noise_BN = golden_mel()[None, :66].to(CUDA), torch.zeros((1, 66 * 480), device=CUDA)
    vocoder(mel_BTC, noise_BN)
    with NoWait():
        wav_BN = vocoder(mel_BTC, noise_BN)
    assert wav_BN.isfinite().all()


# --- memory ------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_a_hundred_contexts_leave_no_memory_behind() -> None:
    runner = runner_on(CUDA)
    first = spoken(runner, num_tokens=30)
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for number in range(100):
        assert spoken(runner, num_tokens=30, slot=2 + number % 6) == first
    gc.collect()
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before
