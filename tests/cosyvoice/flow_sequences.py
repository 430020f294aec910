"""Flow sequences for tests: voices, sequences in a cache, and batches of their chunks."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from functools import cache

import torch
from cosyvoice.conftest import load_golden, tiny_flow_config
from torch import Tensor

from cosyduplex_server.models.config import CHUNK_TOKENS, FlowConfig, FlowEncoderConfig, UNetConfig
from cosyduplex_server.models.flow import Flow, FlowBatch
from cosyduplex_server.models.flow_cache import FIRST_BLOCK, FIRST_SLOT, FlowCache
from cosyduplex_server.models.weights import Source
from cosyduplex_server.models.weights_flow import flow_weights

OTHER_SIZES = FlowConfig(
    speech_tokens=37,
    token_width=24,
    prelookahead_hidden=40,
    encoder=FlowEncoderConfig(width=48, num_heads=3, mlp_hidden=56, num_layers=1, num_up_layers=2),
    estimator=UNetConfig(
        channels=32,
        num_heads=3,
        head_dim=16,
        blocks_per_stage=2,
        num_mid_stages=1,
        time_hidden=72,
        mlp_factor=2,
    ),
    num_steps=3,
    guidance=0.4,
)


@cache
def golden_flow(dtype: torch.dtype = torch.float32) -> Flow:
    """The tiny flow of the golden files."""
    config = tiny_flow_config(2)
    flow = Flow(config)
    weights = flow_weights(Source(load_golden("flow_v2"), "flow.pt"), config)
    flow.load_state_dict(weights, strict=True, assign=True)
    return flow.to(dtype).eval()


@cache
def random_flow(seed: int, config: FlowConfig = OTHER_SIZES) -> Flow:
    """A flow of random weights in which no layer is negligible."""
    generator = torch.Generator().manual_seed(seed)
    flow = Flow(config)
    for name, weight in flow.state_dict().items():
        drawn = torch.randn(weight.shape, generator=generator)
        if "norm" in name:
            weight.copy_(0.1 * drawn + (1 if name.endswith("weight") else 0))
        else:
            fan_in = weight[0].numel() if weight.dim() > 1 and "bias" not in name else 25
            weight.copy_(drawn * fan_in**-0.5)
    return flow.eval()


@dataclass(frozen=True, eq=False)
class Voice:
    """What a flow knows of a voice."""

    tokens: list[int]
    mel_FC: Tensor
    spk_B80: Tensor

    @classmethod
    def drawn(cls, flow: Flow, num_tokens: int, seed: int) -> Voice:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(flow.config.speech_tokens, (num_tokens,), generator=generator)
        mel = torch.randn((2 * num_tokens, 80), generator=generator)
        return cls(tokens.tolist(), mel, flow.project_speaker(torch.randn((1, 192), generator=generator)))

    @property
    def num_prefix_chunks(self) -> int:
        """Chunks in which nothing but the voice is seen."""
        return max(0, len(self.tokens) - 3) // CHUNK_TOKENS


def draw_tokens(flow: Flow, num: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(flow.config.speech_tokens, (num,), generator=generator).tolist()


def whole(
    flow: Flow, voice: Voice, tokens: Several[int], *, streaming: bool = True, finalize: bool = True
) -> Tensor:
    """The mel (F, 80) of all tokens after the voice's, in one pass."""
    row = torch.tensor([[*voice.tokens, *tokens]])
    return flow.full(row, voice.mel_FC[None], voice.spk_B80, streaming=streaming, finalize=finalize)[0]


@dataclass(eq=False)
class Sequence:
    """One sequence in a cache: a slot, a table and how far it is."""

    voice: Voice
    tokens: list[int]
    slot: int
    table: list[int] = field(default_factory=list)
    mels: list[Tensor] = field(default_factory=list)

    @property
    def all_tokens(self) -> list[int]:
        return [*self.voice.tokens, *self.tokens]

    @property
    def chunk(self) -> list[int]:
        begin = CHUNK_TOKENS * len(self.table)
        return self.all_tokens[begin : begin + CHUNK_TOKENS]

    @property
    def mel_FC(self) -> Tensor:
        """The mel after the prompt."""
        mel = torch.cat(self.mels)
        return mel[mel.shape[0] - 2 * len(self.tokens) :]


class Cached:
    """A cache with its slots and blocks given out one after the other."""

    def __init__(self, flow: Flow, num_slots: int = 8, num_blocks: int = 40) -> None:
        self.flow = flow
        self.cache: FlowCache = flow.new_cache(num_slots=num_slots, num_blocks=num_blocks)
        self._slots = iter(range(FIRST_SLOT, num_slots))
        self._blocks = iter(range(FIRST_BLOCK, num_blocks))

    def begin(self, voice: Voice, tokens: list[int]) -> Sequence:
        sequence = Sequence(voice, tokens, next(self._slots))
        self.cache.reset(sequence.slot)
        return sequence

    def prefix(self, voice: Voice) -> Sequence:
        """The voice's own chunks, run."""
        stored = self.begin(voice, [])
        for _ in range(voice.num_prefix_chunks):
            self.step([stored])
        return stored

    def begin_behind(self, stored: Sequence, tokens: list[int]) -> Sequence:
        """A sequence that goes on from a voice's stored prefix."""
        sequence = self.begin(stored.voice, tokens)
        self.cache.copy_slot(stored.slot, sequence.slot)
        sequence.table.extend(stored.table)
        return sequence

    def batch(self, sequences: Several[Sequence], *, spare_columns: int = 0) -> FlowBatch:
        """The next chunk of each, with more padding than necessary."""
        num_tokens = len(sequences[0].chunk)
        assert all(len(sequence.chunk) == num_tokens for sequence in sequences)
        columns = max(len(sequence.table) for sequence in sequences) + spare_columns
        lookahead, cond = [], torch.zeros(len(sequences), 2 * num_tokens, 80)
        for sequence, cond_TC in zip(sequences, cond, strict=True):
            begin = CHUNK_TOKENS * len(sequence.table)
            after = sequence.all_tokens[begin + num_tokens :][:3]
            lookahead.append([*after, *[-1] * (3 - len(after))])
            mel = sequence.voice.mel_FC[2 * begin :][: 2 * num_tokens]
            cond_TC[: mel.shape[0]] = mel
        lengths = [len(sequence.table) for sequence in sequences]
        return FlowBatch(
            tokens_BT=torch.tensor([sequence.chunk for sequence in sequences]),
            lookahead_B3=torch.tensor(lookahead),
            slots_B=torch.tensor([sequence.slot for sequence in sequences]),
            tables_BN=torch.tensor(
                [[0] * (columns - len(sequence.table)) + sequence.table for sequence in sequences],
                dtype=torch.int64,
            ),
            context_blocks_B=torch.tensor(lengths),
            blocks_B=torch.tensor([next(self._blocks) for _ in sequences]),
            first_frames_B=torch.tensor([2 * CHUNK_TOKENS * length for length in lengths]),
            spk_B80=torch.cat([sequence.voice.spk_B80 for sequence in sequences]),
            cond_BT80=cond,
        )

    def step(self, sequences: Several[Sequence], *, spare_columns: int = 0) -> None:
        batch = self.batch(sequences, spare_columns=spare_columns)
        mels = self.flow.step(self.cache, batch)
        for sequence, block, mel in zip(sequences, batch.blocks_B.tolist(), mels, strict=True):
            sequence.table.append(block)
            sequence.mels.append(mel)

    def run(self, sequence: Sequence) -> Tensor:
        """The mel of all its tokens, chunk by chunk."""
        while sequence.chunk:
            self.step([sequence])
        return sequence.mel_FC
