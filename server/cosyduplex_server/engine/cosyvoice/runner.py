"""Batches of work in, tokens and samples out: the only module of the engine that knows tensors.

It owns the models and the memory of all sequences. What it is given are numbers: rows, slots, blocks.
Legend: B sequences, T new rows, N blocks of a table, W outputs remembered, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import torch
from torch import Tensor

from cosyduplex_server.engine.cosyvoice.flow_plan import Chunk
from cosyduplex_server.models import flow_cache
from cosyduplex_server.models.config import CHUNK_FRAMES, MEL_CHANNELS, ModelConfig
from cosyduplex_server.models.flow import Flow, FlowBatch
from cosyduplex_server.models.phases import Phase
from cosyduplex_server.models.sampling import NOTHING, RasSampler
from cosyduplex_server.models.speech_lm import SpeechLM, new_cache
from cosyduplex_server.models.vocoder import Vocoder
from cosyduplex_server.models.vocoder_stream import VocoderState, VocoderStream

LM_BLOCK_ROWS: Final = 64
# Rows of one LM sequence: 30 s of prompt with its text, a unit of text and the longest speech it may have.
MAX_LM_ROWS: Final = 4096
# A forward of the LM pads its rows to the longest: so many padded rows at most.
_MAX_PADDED_ROWS: Final = 2048
# What depends on the distance between frames is computed beforehand for a minute of speech.
_PREPARED_FRAMES: Final = 3000
# Blocks and slots before these are padding and scratch.
FIRST_LM_BLOCK: Final = 1
FIRST_FLOW_BLOCK: Final = flow_cache.FIRST_BLOCK
FIRST_SLOT: Final = flow_cache.FIRST_SLOT

FlowFrames = Tensor
"""Mel frames of one sequence, (F, 80) float32, on the device: a word for modules that know no tensors."""


@dataclass(frozen=True, slots=True)
class LMWork:
    """New rows of one sequence of the speech LM, and what may follow the last.

    Attributes:
        rows: input rows.
        position: of the first of them.
        table: the sequence's blocks, with room for the rows.
        phase: which ids may be drawn.
        history: the last outputs.
        seed: of the sequence's draws.
        step: how many draws it has made.
    """

    rows: tuple[int, ...]
    position: int
    table: tuple[int, ...]
    phase: Phase
    history: tuple[int, ...]
    seed: int
    step: int


@dataclass(frozen=True, slots=True, eq=False)
class FlowPrompt:
    """A voice as the flow takes it: speaker (80,) and the prompt's mel (F, 80), on the device."""

    spk_C: Tensor
    mel_FC: Tensor


@dataclass(frozen=True, slots=True)
class FlowWork:
    """One chunk of one flow sequence.

    Attributes:
        chunk: its tokens.
        prompt: the voice.
        slot: the sequence's.
        table: the blocks of the chunks before.
        block: takes this chunk's keys and values.
        noise_frame: where the noise of its first frame stands.
    """

    chunk: Chunk
    prompt: FlowPrompt
    slot: int
    table: tuple[int, ...]
    block: int
    noise_frame: int


@dataclass(frozen=True, slots=True, eq=False)
class VocoderWork:
    """New frames of one utterance.

    Attributes:
        state: the utterance's.
        mel_FC: the frames, (F, 80); None when only the rest is due.
        final: no frames follow.
        gain: 1 is as made.
    """

    state: VocoderState
    mel_FC: Tensor | None
    final: bool
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """How much of it there is.

    Attributes:
        num_lm_blocks: blocks of the speech LM.
        num_slots: of flow and vocoder, slot 0 included.
        num_flow_blocks: blocks of the flow.
        num_prefixes: voices' prompts that are kept computed though nobody is using them.
    """

    num_lm_blocks: int
    num_slots: int
    num_flow_blocks: int
    num_prefixes: int


class Runner:
    """The models and the memory of a fixed number of sequences.

    Args:
        config: sizes.
        lm: the speech LM.
        flow: the flow.
        vocoder: the vocoder.
        memory: how much to allocate.
        vocoder_context_frames: left and right of what is decoded, see `VocoderStream`.
    """

    def __init__(
        self,
        config: ModelConfig,
        lm: SpeechLM,
        flow: Flow,
        vocoder: Vocoder,
        memory: Memory,
        *,
        vocoder_context_frames: int = 8,
    ) -> None:
        self.config = config
        self.memory = memory
        self._lm = lm
        self._flow = flow
        self._no_frames = torch.zeros((0, MEL_CHANNELS), device=lm.embedding.weight.device)
        self._sampler = RasSampler(config.lm, lm.embedding.weight.device)
        self._device = lm.embedding.weight.device
        self._lm_kv = new_cache(
            config.lm, memory.num_lm_blocks, lm.embedding.weight.dtype, self._device, LM_BLOCK_ROWS
        )
        self._flow_cache = flow.new_cache(num_slots=memory.num_slots, num_blocks=memory.num_flow_blocks)
        self._vocoder = VocoderStream(
            vocoder,
            num_slots=memory.num_slots,
            left_frames=vocoder_context_frames,
            right_frames=vocoder_context_frames,
        )

    @staticmethod
    def lm_block_bytes(lm: SpeechLM) -> int:
        """Memory of one of the speech LM's blocks."""
        config, weight = lm.config, lm.embedding.weight
        return (
            (2 * config.num_layers * config.num_kv_heads * config.head_dim)
            * LM_BLOCK_ROWS
            * weight.element_size()
        )

    @staticmethod
    def flow_bytes(flow: Flow) -> tuple[int, int]:
        """Memory of one of the flow's blocks, and of one of its slots."""
        cache = flow.new_cache(num_slots=2, num_blocks=2)
        return cache.block_bytes, cache.slot_bytes

    def warm_up(self) -> None:
        """Computes ahead of time what the first contexts would wait for."""
        self._flow.prepare(_PREPARED_FRAMES)

    # --- speech LM

    @torch.inference_mode()
    def step_lm(self, batch: Sequence[LMWork]) -> list[int]:
        """Runs new rows of each sequence and draws one id for each.

        Rows of one forward are padded to the longest; so prompts and single tokens go apart.
        """
        tokens = [0] * len(batch)
        order = sorted(range(len(batch)), key=lambda index: len(batch[index].rows))
        drawn = [
            (places, self._forward_lm([batch[index] for index in places]))
            for places in _groups(order, lambda index: len(batch[index].rows))
        ]
        for places, ids_B in drawn:  # one wait for the device, after all of it is on its way
            for index, token in zip(places, ids_B.tolist(), strict=True):
                tokens[index] = token
        return tokens

    def _forward_lm(self, batch: Sequence[LMWork]) -> Tensor:
        longest = max(len(work.rows) for work in batch)
        blocks = max(len(work.table) for work in batch)
        window = self.config.lm.ras_window
        rows, positions, tables, history = [], [], [], []
        for work in batch:
            missing = longest - len(work.rows)
            last = work.position + len(work.rows) - 1
            rows.append([*work.rows, *[work.rows[-1]] * missing])
            positions.append([*range(work.position, last + 1), *[last] * missing])
            tables.append([*work.table, *[0] * (blocks - len(work.table))])
            history.append([*work.history[-window:], *[NOTHING] * (window - len(work.history[-window:]))])
        hidden_BTC = self._lm(self._ids(rows), self._ids(positions), self._lm_kv, self._ids(tables))
        ids_B: Tensor = self._sampler(
            self._lm.logits(hidden_BTC[:, -1]),
            self._ids(history),
            self._ids([work.phase for work in batch]),
            self._ids([work.seed for work in batch]),
            self._ids([work.step for work in batch]),
        )
        return ids_B

    # --- flow

    @torch.inference_mode()
    def flow_prompt(self, embedding_S: Tensor, mel_FC: Tensor) -> FlowPrompt:
        """A voice on the device.

        Args:
            embedding_S: (192,).
            mel_FC: frames of the flow's prompt, (F, 80).
        """
        spk_BC = self._flow.project_speaker(embedding_S[None].to(self._device))
        return FlowPrompt(spk_BC[0], mel_FC.to(self._device, torch.float32))

    def begin_flow(self, slot: int, source: int | None = None) -> None:
        """Makes a slot that of a sequence about to begin, or to go on from where another slot stands."""
        if source is None:
            self._flow_cache.reset(slot)
        else:
            self._flow_cache.copy_slot(source, slot)

    @torch.inference_mode()
    def step_flow(self, batch: Sequence[FlowWork]) -> list[Tensor]:
        """Computes one chunk of each sequence: the generated frames (F, 80) float32 of each, prompt left out.

        All chunks of a call have the same number of tokens.
        """
        tokens = len(batch[0].chunk.tokens)
        assert all(len(work.chunk.tokens) == tokens for work in batch)
        blocks = max(len(work.table) for work in batch)
        mel_BTC = self._flow.step(
            self._flow_cache,
            FlowBatch(
                tokens_BT=self._ids([work.chunk.tokens for work in batch]),
                lookahead_B3=self._ids([work.chunk.lookahead for work in batch]),
                slots_B=self._ids([work.slot for work in batch]),
                tables_BN=self._ids([(0,) * (blocks - len(work.table)) + work.table for work in batch]),
                context_blocks_B=self._ids([len(work.table) for work in batch]),
                blocks_B=self._ids([work.block for work in batch]),
                first_frames_B=self._ids([work.noise_frame for work in batch]),
                spk_B80=torch.stack([work.prompt.spk_C for work in batch]),
                cond_BT80=torch.stack([self._condition(work) for work in batch]),
            ),
        )
        return [mel_BTC[place, work.chunk.num_prompt_frames :] for place, work in enumerate(batch)]

    @torch.inference_mode()
    def last_chunk_in_full(self, tokens: Sequence[int], prompt: FlowPrompt, num_new_frames: int) -> Tensor:
        """The last frames (F, 80) of a sequence computed anew with every frame visible to every other.

        As upstream ends an utterance: it costs the whole sequence, and what these frames see is not what was
        heard before them.
        """
        mel_BTC = self._flow.full(
            self._ids([tokens]), prompt.mel_FC[None], prompt.spk_C[None], streaming=False, finalize=True
        )
        return mel_BTC[0, mel_BTC.shape[1] - num_new_frames :]

    def _condition(self, work: FlowWork) -> Tensor:
        frames = 2 * len(work.chunk.tokens)
        cond_TC = torch.zeros((frames, MEL_CHANNELS), device=self._device)
        first = work.chunk.index * CHUNK_FRAMES
        cond_TC[: work.chunk.num_prompt_frames] = work.prompt.mel_FC[
            first : first + work.chunk.num_prompt_frames
        ]
        return cond_TC

    # --- vocoder

    def new_vocoder(self, slot: int, seed: int, speed: float) -> VocoderState:
        """The state of an utterance about to begin."""
        return VocoderState(slot=slot, seed=seed, speed=speed)

    @torch.inference_mode()
    def vocode(self, batch: Sequence[VocoderWork]) -> list[bytes]:
        """The samples of each utterance, s16le, that its new frames complete."""
        waves_N = self._vocoder.push(
            [work.state for work in batch],
            [self._no_frames if work.mel_FC is None else work.mel_FC for work in batch],
            [work.final for work in batch],
        )
        lengths = [len(wave_N) for wave_N in waves_N]
        gains_B = torch.tensor([32767.0 * work.gain for work in batch]).to(self._device)
        parts = [wave_N * gains_B[place] for place, wave_N in enumerate(waves_N)]
        samples_N = torch.cat(parts).round().clamp(-32768, 32767).to(torch.int16).cpu()
        parts = list(torch.split(samples_N, lengths))
        return [part_N.numpy().astype("<i2", copy=False).tobytes() for part_N in parts]

    @staticmethod
    def is_fatal(error: Exception) -> bool:
        """Whether the device has failed for good; running out of its memory is not that."""
        return isinstance(error, torch.AcceleratorError)

    @property
    def gpu_memory_bytes(self) -> int:
        """Memory of the GPU that PyTorch holds for this process; 0 on a CPU."""
        return torch.cuda.memory_reserved(self._device) if self._device.type == "cuda" else 0

    def wait(self) -> None:
        """Waits for all that has been asked of the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _ids(self, values: Sequence[object]) -> Tensor:
        ids = torch.tensor(values, dtype=torch.int64)
        return ids if _on_cpu(self._device) else ids.pin_memory().to(self._device, non_blocking=True)


def _on_cpu(device: torch.device) -> bool:
    return device.type == "cpu"


def _groups(order: Sequence[int], length: Callable[[int], int]) -> list[list[int]]:
    """Places in batches: those of one row together, longer ones as long as padding stays small."""
    groups: list[list[int]] = []
    for single, places in groupby(order, key=lambda place: length(place) == 1):
        group: list[int] = []
        for place in places:
            if group and not single and (len(group) + 1) * length(place) > _MAX_PADDED_ROWS:
                groups.append(group)
                group = []
            group.append(place)
        groups.append(group)
    return groups
