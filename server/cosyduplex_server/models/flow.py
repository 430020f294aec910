"""The flow: speech tokens to mel frames, chunk by chunk, without computing anything twice.

- An encoder turns tokens into conditions at the mel's rate. Ten Euler steps carry fixed noise to mel frames,
  each with a conditioned and an unconditioned evaluation of the estimator (classifier-free guidance).
- A chunk is 25 tokens, 50 frames, counted from the sequence's first token, the voice's prompt included. It
  sees itself, all chunks before it and 3 tokens of look-ahead. So it never changes when more tokens come, and
  keys, values and the left inputs of convolutions are all that later chunks need of it.
- `step` is one chunk of many sequences; `full` is whole sequences without a cache, in the same modules.

Legend: B sequences, T new tokens or frames, F frames, S speaker channels, N blocks of a table, C channels,
R guidance rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache as once
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosyduplex_server.models.config import (
    CHUNK_FRAMES,
    CHUNK_TOKENS,
    FRAMES_PER_TOKEN,
    LOOKAHEAD_TOKENS,
    MAX_FRAMES,
    MEL_CHANNELS,
    SPEAKER_CHANNELS,
    FlowConfig,
    UNetConfig,
)
from cosyduplex_server.models.flow_cache import (
    GUIDANCE_ROWS,
    AttentionMemory,
    FlowCache,
    Memories,
    Tails,
    TailSlabs,
)
from cosyduplex_server.models.flow_encoder import FlowEncoder
from cosyduplex_server.models.table import Table
from cosyduplex_server.models.unet import UNet

NOISE_SEED = 0  # upstream's: checkpoints were listened to with this noise


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowBatch:
    """One chunk of each of B sequences.

    Attributes:
        tokens_BT: the chunk's tokens, as many in each row: 25, or fewer where all are their sequence's last.
        lookahead_B3: the three tokens after them (int64); -1 beyond the end of the sequence.
        slots_B: the sequences' slots, each at most once.
        tables_BN: the blocks of the chunks before, padded on the left with block 0 to the longest.
        context_blocks_B: how many of them are real.
        blocks_B: the blocks that take this chunk's keys and values, each at most once and in no table. The
            last chunk of a sequence needs one too, and may give it back afterwards.
        first_frames_B: the frame of the noise that it starts from: its place in its sequence, or further on
            where the speech began in another sequence.
        spk_B80: the voices, from `Flow.project_speaker`.
        cond_BT80: the prompt's mel where the chunk is prompt, zeros elsewhere (B, 2T, 80).
    """

    tokens_BT: Tensor
    lookahead_B3: Tensor
    slots_B: Tensor
    tables_BN: Tensor
    context_blocks_B: Tensor
    blocks_B: Tensor
    first_frames_B: Tensor
    spk_B80: Tensor
    cond_BT80: Tensor


@dataclass(frozen=True, slots=True)
class SolverConstants:
    """What is the same for all sequences, on the device of the weights.

    Attributes:
        noise_FC: where every sequence starts, by frame; float32.
        times: for each solver step what its time adds in each residual block.
        steps: lengths of the solver's steps.
    """

    noise_FC: Tensor
    times: Sequence[Tensor]
    steps: Sequence[float]


@once
def start_noise() -> Tensor:
    """The noise of all sequences (F, 80) float32, drawn without touching the global generator."""
    generator = torch.Generator("cpu").manual_seed(NOISE_SEED)
    noise_CF = torch.randn((MEL_CHANNELS, MAX_FRAMES), generator=generator, device="cpu")
    return noise_CF.transpose(0, 1).contiguous()


def time_grid(num_steps: int) -> Tensor:
    """The solver's times from 0 to 1 (num_steps+1,), finer at the start."""
    return 1 - torch.cos(torch.linspace(0, 1, num_steps + 1, device="cpu") * (torch.pi / 2))


class Flow(nn.Module):
    """CosyVoice2's flow."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        assert isinstance(config.estimator, UNetConfig)
        self.config = config
        self.token_embedding = Table(config.speech_tokens, config.token_width)
        self.speaker = nn.Linear(SPEAKER_CHANNELS, MEL_CHANNELS)
        self.encoder = FlowEncoder(config)
        self.estimator = UNet(config.estimator)
        self._constants: SolverConstants | None = None

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module; what was computed from the old weights is forgotten."""
        self._forget()
        return super().load_state_dict(*args, **kwargs)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """Called by `to` and its like; what was computed elsewhere or in another dtype is forgotten."""
        self._forget()
        return super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]

    def new_cache(self, *, num_slots: int, num_blocks: int) -> FlowCache:
        """A cache beside the weights, in their dtype."""
        weight = self.speaker.weight
        return FlowCache(
            self.config, num_slots=num_slots, num_blocks=num_blocks, dtype=weight.dtype, device=weight.device
        )

    @torch.inference_mode()
    def prepare(self, max_frames: int) -> None:
        """Computes ahead of time what depends on the weights alone, for sequences of up to `max_frames`.

        Without it, the first steps and steps further back than any before do it.
        """
        self._solver_constants()
        ahead = CHUNK_TOKENS - 1
        self.encoder.token_stack.reach(max_frames // FRAMES_PER_TOKEN - 1, ahead)
        self.encoder.frame_stack.reach(max_frames - 1, CHUNK_FRAMES - 1)

    @torch.inference_mode()
    def project_speaker(self, embedding_BS: Tensor) -> Tensor:
        """The voices (B, 80) as the estimator takes them."""
        embedding_BS = F.normalize(embedding_BS.float(), dim=1).to(self.speaker.weight.dtype)
        spk_B80: Tensor = self.speaker(embedding_BS)
        return spk_B80

    @torch.inference_mode()
    def step(self, cache: FlowCache, batch: FlowBatch) -> Tensor:
        """The mel (B, 2T, 80) float32 of one chunk of each sequence; the cache is brought up to date."""
        T = batch.tokens_BT.shape[1]
        assert 1 <= T <= CHUNK_TOKENS
        num_before = batch.tables_BN.shape[1] * CHUNK_TOKENS
        tables = torch.cat([batch.tables_BN, batch.blocks_B[:, None]], 1)
        memories = cache.memories(tables, batch.context_blocks_B, T)
        mu = self.encode(
            batch.tokens_BT, batch.lookahead_B3, num_before, memories, cache.tails, batch.slots_B
        )
        return self.solve(
            mu,
            batch.spk_B80,
            batch.cond_BT80,
            batch.first_frames_B,
            memories.estimator,
            cache.tails.estimator,
            batch.slots_B,
        )

    @torch.inference_mode()
    def full(
        self, tokens_BT: Tensor, prompt_mel_BFC: Tensor, spk_B80: Tensor, *, streaming: bool, finalize: bool
    ) -> Tensor:
        """The mel (B, frames, 80) float32 of whole sequences after their prompts, without a cache.

        Args:
            tokens_BT: the prompt's tokens, then the others.
            prompt_mel_BFC: the prompt's mel; so many frames are left out of the result.
            spk_B80: the voices, from `project_speaker`.
            streaming: whether a chunk sees only itself and what was before it, or everything everything.
            finalize: whether the tokens end here; otherwise the last three are look-ahead only.
        """
        B, device = tokens_BT.shape[0], tokens_BT.device
        if finalize:
            lookahead = tokens_BT.new_full((B, LOOKAHEAD_TOKENS), -1)
        else:
            tokens_BT, lookahead = tokens_BT.tensor_split([-LOOKAHEAD_TOKENS], 1)
        T, F_prompt = tokens_BT.shape[1], prompt_mel_BFC.shape[1]
        assert T * FRAMES_PER_TOKEN <= MAX_FRAMES
        memories = Memories.own(T, device, streaming=streaming)
        tails = TailSlabs.zeros(self.config, B, self.speaker.weight.dtype, device)
        slots = torch.arange(B, device=device)
        mu = self.encode(tokens_BT, lookahead, 0, memories, tails, slots)
        cond = F.pad(prompt_mel_BFC, (0, 0, 0, mu.shape[1] - F_prompt))
        begin = torch.zeros_like(slots)
        mel = self.solve(mu, spk_B80, cond, begin, memories.estimator, tails.estimator, slots)
        return mel[:, F_prompt:]

    def encode(
        self,
        tokens_BT: Tensor,
        lookahead_B3: Tensor,
        num_before: int,
        memories: Memories,
        slabs: TailSlabs,
        slots_B: Tensor,
    ) -> Tensor:
        """The conditions (B, 2T, 80) of T tokens behind `num_before` others, padding included."""
        tokens = torch.cat([tokens_BT, lookahead_B3], 1)
        x = self.token_embedding(tokens.clamp(min=0))
        lookahead = Tails.read(slabs.lookahead, slots_B)
        upsample = Tails.read(slabs.upsample, slots_B)
        y = self.encoder(x, tokens >= 0, num_before, memories, lookahead, upsample)
        lookahead.write(slabs.lookahead, slots_B)
        upsample.write(slabs.upsample, slots_B)
        mu_BTC: Tensor = self.encoder.project(y)
        return mu_BTC

    def solve(
        self,
        mu_BTC: Tensor,
        spk_B80: Tensor,
        cond_BT80: Tensor,
        first_frames_B: Tensor,
        memory: AttentionMemory,
        slab: Tensor,
        slots_B: Tensor,
    ) -> Tensor:
        """Carries the noise of these frames to mel (B, T, 80) float32, in Euler steps with guidance.

        The second guidance row has neither condition, nor speaker, nor prompt.
        """
        B, T, _ = mu_BTC.shape
        dtype, guidance = self.speaker.weight.dtype, self.config.guidance
        constants = self._solver_constants()
        spk = spk_B80.to(dtype)[:, None].expand(-1, T, -1)
        given = torch.cat([mu_BTC, spk, cond_BT80.to(dtype)], 2)
        given = torch.stack([given, torch.zeros_like(given)], 1)  # (B, R, T, 240)
        x = constants.noise_FC[first_frames_B[:, None] + torch.arange(T, device=mu_BTC.device)]
        for k, length in enumerate(constants.steps):
            rows = x.to(dtype)[:, None].expand(-1, GUIDANCE_ROWS, -1, -1)
            tails = Tails.read(slab[:, k], slots_B)
            layers = memory.at(k * self.estimator.config.num_layers)
            velocity = self.estimator(
                torch.cat([rows, given], 3).flatten(0, 1), constants.times[k], layers, tails
            )
            tails.write(slab[:, k], slots_B)
            velocity = velocity.float().view(B, GUIDANCE_ROWS, T, MEL_CHANNELS)
            x = x + length * ((1 + guidance) * velocity[:, 0] - guidance * velocity[:, 1])
        return x

    def _solver_constants(self) -> SolverConstants:
        if self._constants is None:
            device, grid = self.speaker.weight.device, time_grid(self.config.num_steps)
            vectors = self.estimator.time_vectors(grid[:-1].to(device))
            self._constants = SolverConstants(
                noise_FC=start_noise().to(device),
                times=[*vectors[:, None].unbind()],
                steps=grid.diff().tolist(),
            )
        return self._constants

    def _forget(self) -> None:
        self._constants = None
        self.encoder.token_stack.forget_positions()
        self.encoder.frame_stack.forget_positions()
