"""CosyVoice2's flow against recorded runs of upstream."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cosyvoice.conftest import load_golden, tiny_flow_config
from cosyvoice.flow_sequences import golden_flow
from torch import Tensor
from torch.testing import assert_close

from cosyduplex_server.models.flow import Flow, start_noise, time_grid
from cosyduplex_server.models.flow_cache import Memories, OwnMemory, Tails, TailSlabs
from cosyduplex_server.models.weights import Source, WeightsError
from cosyduplex_server.models.weights_flow import flow_weights

EXACT, ENCODER, ESTIMATOR, MEL = 1e-6, 1e-4, 2e-4, 1e-3


@pytest.fixture(autouse=True)
def _inference() -> Any:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_golden("flow_v2_golden")


@pytest.fixture(scope="module")
def flow() -> Flow:
    return golden_flow()


def frames_last(x_BTC: Tensor) -> Tensor:
    return x_BTC.transpose(1, 2)


def close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    assert_close(ours, theirs, atol=tolerance, rtol=0)


def fresh_tails(flow: Flow, rows: int = 1) -> TailSlabs:
    return TailSlabs.zeros(flow.config, rows, torch.float32, "cpu")


def embed(flow: Flow, recorded: dict[str, Tensor], *, ahead: int) -> tuple[Tensor, Tensor]:
    """The 103 recorded tokens' embeddings, `ahead` rows beyond their end, and which of them exist."""
    tokens = torch.cat([recorded["prompt_token"], recorded["token"][:, :73]], 1)
    tokens = torch.nn.functional.pad(tokens, (0, ahead), value=-1)
    return flow.token_embedding(tokens.clamp(min=0)), tokens >= 0


def encode(flow: Flow, recorded: dict[str, Tensor], *, streaming: bool, finalize: bool) -> Tensor:
    x, exists = embed(flow, recorded, ahead=3 if finalize else 0)
    slabs, slots = fresh_tails(flow), torch.tensor([0])
    memories = Memories.own(x.shape[1] - 3, x.device, streaming=streaming)
    lookahead, upsample = (Tails.read(slab, slots) for slab in (slabs.lookahead, slabs.upsample))
    return flow.encoder(x, exists, 0, memories, lookahead, upsample)


def test_tokens_are_embedded_as_upstream_embeds_them(flow, recorded) -> None:
    x, _ = embed(flow, recorded, ahead=0)
    close(flow.encoder.embed(x), recorded["enc.embed"], ENCODER)


def test_the_lookahead_is_upstreams(flow, recorded) -> None:
    tails = Tails.read(fresh_tails(flow).lookahead, torch.tensor([0]))
    close(flow.encoder.lookahead(recorded["enc.embed"], tails), recorded["enc.prelook_ctx"], ENCODER)


@pytest.mark.parametrize("end", ["ctx", "final"])
@pytest.mark.parametrize("mask", ["stream", "nostream"])
def test_the_encoder_is_upstreams(flow, recorded, mask, end) -> None:
    encoded = encode(flow, recorded, streaming=mask == "stream", finalize=end == "final")
    close(encoded, recorded[f"enc.{mask}_{end}"], ENCODER)


def test_conditions_are_upstreams(flow, recorded) -> None:
    encoded = encode(flow, recorded, streaming=True, finalize=False)
    close(flow.encoder.project(encoded), recorded["mu.stream_ctx"], ENCODER)


@pytest.mark.parametrize(
    ("times", "chunk_frames", "name"),
    [("est.t", 50, "out_stream"), ("est.t", None, "out_nostream"), ("est.t2", 50, "out_stream_t2")],
)
def test_the_estimator_is_upstreams(flow, recorded, times, chunk_frames, name) -> None:
    parts = [frames_last(recorded[f"est.{part}"]) for part in ("x", "mu", "cond")]
    frames = parts[0].shape[1]
    parts.insert(2, recorded["est.spks"][:, None].expand(-1, frames, -1))
    memory = OwnMemory.of(frames, chunk_frames, torch.device("cpu"))
    tails = Tails.read(fresh_tails(flow).estimator[:, 0], torch.tensor([0]))
    vectors = flow.estimator.time_vectors(recorded[times])
    velocity = flow.estimator(torch.cat(parts, 2), vectors, memory, tails)
    close(frames_last(velocity), recorded[f"est.{name}"], ESTIMATOR)


@pytest.mark.parametrize(("name", "chunk_frames"), [("out_stream", 50), ("out_nostream", None)])
def test_the_solver_is_upstreams(flow, recorded, name, chunk_frames) -> None:
    mu, cond = (frames_last(recorded[f"est.{part}"][:1]) for part in ("mu", "cond"))
    memory = OwnMemory.of(mu.shape[1], chunk_frames, mu.device)
    slot = torch.tensor([0])
    mel = flow.solve(
        mu, recorded["est.spks"][:1], cond, torch.tensor([0]), memory, fresh_tails(flow).estimator, slot
    )
    close(frames_last(mel), recorded[f"cfm.{name}"], MEL)


def test_speakers_are_projected_as_upstream_projects_them(flow, recorded) -> None:
    close(flow.project_speaker(recorded["embedding"]), recorded["spk_proj"], EXACT)


def test_the_noise_is_upstreams_and_leaves_the_global_generator_alone(recorded) -> None:
    state = torch.get_rng_state()
    noise_CF = start_noise.__wrapped__().T
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(noise_CF[:, :8], recorded["rand_noise_first8"][0])
    assert torch.equal(noise_CF[:, -8:], recorded["rand_noise_last8"][0])
    assert_close(noise_CF.double().sum()[None], recorded["rand_noise_sum"], atol=1e-6, rtol=0)


def test_the_solvers_times_are_upstreams(recorded) -> None:
    close(time_grid(len(recorded["t_span"]) - 1), recorded["t_span"], EXACT)


# Tokens of the recording, whether they end there, the masks, and what upstream kept: its first and last frame
# after the prompt.
CALLS = {
    "chunk0.mel_full": (48, False, True, 0),
    "chunk0.mel_new": (48, False, True, 0),
    "chunk1.mel_new": (98, False, True, 90),
    "final.mel_new_stream": (150, True, True, 190),
    "final.mel_new_nostream": (150, True, False, 190),
    "offline.mel_nostream": (150, True, False, 0),
    "stream_all.mel": (148, False, True, 0),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_whole_call_gives_upstreams_mel(flow, recorded, name) -> None:
    num_tokens, finalize, streaming, first = CALLS[name]
    tokens = torch.cat([recorded["prompt_token"], recorded["token"][:, :num_tokens]], 1)
    spk = flow.project_speaker(recorded["embedding"])
    mel = flow.full(tokens, recorded["prompt_feat"], spk, streaming=streaming, finalize=finalize)
    close(frames_last(mel)[:, :, first:], recorded[name], MEL)


@pytest.mark.parametrize(("name", "final"), [("sft.mel_stream_28", False), ("sft.mel_final_28", True)])
def test_a_voice_without_prompt_gives_upstreams_mel(flow, recorded, name, final) -> None:
    spk, nothing = flow.project_speaker(recorded["embedding"]), recorded["prompt_feat"][:, :0]
    tokens = recorded["token"][:, :28]
    mel = flow.full(tokens, nothing, spk, streaming=not final, finalize=final)
    close(frames_last(mel), recorded[name], MEL)


def test_every_tensor_of_the_checkpoint_is_used_and_none_is_made_up() -> None:
    tensors, config = load_golden("flow_v2"), tiny_flow_config(2)
    assert sum(t.numel() for t in flow_weights(Source(tensors, "flow.pt"), config).values()) == sum(
        t.numel() for t in tensors.values()
    )
    for key in ("decoder.estimator.mid_blocks.1.1.0.attn1.to_k.weight", "encoder.after_norm.bias"):
        missing = {name: tensor for name, tensor in tensors.items() if name != key}
        with pytest.raises(WeightsError, match=key):
            flow_weights(Source(missing, "flow.pt"), config)
    with pytest.raises(WeightsError, match="belongs to no part"):
        flow_weights(Source({**tensors, "other.weight": torch.zeros(1)}, "flow.pt"), config)
