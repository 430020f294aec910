"""What the flow remembers of a sequence between its chunks, and what a layer sees of it.

A sequence is a slot (the left inputs of every causal convolution: constant size) and a table of blocks (the
keys and values of one chunk each: 25 tokens, 50 frames). One block number means the same chunk in all three
memories: the encoder's at 25 Hz, the encoder's at 50 Hz, the estimator's at every solver step.

Legend: B sequences, N blocks of a table, M rows of the estimator's batch (B times the guidance rows),
H heads, T new rows, S visible rows, D head channels, C channels, K left inputs of a convolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from cosyduplex_server.models.config import (
    CHUNK_FRAMES,
    CHUNK_TOKENS,
    FRAMES_PER_TOKEN,
    FlowConfig,
    UNetConfig,
)
from cosyduplex_server.models.kv_cache import PagedKV

GUIDANCE_ROWS: Final = 2
"""Rows of one sequence in the estimator's batch: conditioned, then not."""
SCRATCH_SLOT: Final = 0
"""For rows that only fill up a batch; no sequence has it."""
SCRATCH_BLOCK: Final = 1
"""Where such rows write; no sequence's table holds it. Block 0 pads tables and is never written."""
FIRST_SLOT: Final = 1
FIRST_BLOCK: Final = 2


@dataclass(frozen=True, slots=True)
class TailSlabs:
    """The left inputs of all causal convolutions, by slot.

    Attributes:
        lookahead: (slots, C, 2), of the encoder's look-ahead.
        upsample: (slots, C, 4), of the encoder's upsampling.
        estimator: (slots, solver steps, guidance rows, C of all convolutions, 2).
    """

    lookahead: Tensor
    upsample: Tensor
    estimator: Tensor

    @classmethod
    def zeros(
        cls, config: FlowConfig, num_slots: int, dtype: torch.dtype, device: torch.device | str
    ) -> TailSlabs:
        """Slots of sequences about to begin."""
        assert isinstance(config.estimator, UNetConfig)
        shapes = (
            (config.prelookahead_hidden, 2),
            (config.encoder.width, 4),
            (config.num_steps, GUIDANCE_ROWS, config.estimator.tail_channels, 2),
        )
        return cls(*(torch.zeros((num_slots, *shape), dtype=dtype, device=device) for shape in shapes))

    @property
    def all(self) -> tuple[Tensor, ...]:
        return self.lookahead, self.upsample, self.estimator


class FlowCache:
    """The memory of all flow sequences, allocated once.

    Args:
        config: the flow's sizes.
        num_slots: slots altogether, `SCRATCH_SLOT` included.
        num_blocks: blocks altogether, block 0 and `SCRATCH_BLOCK` included.
        dtype: the weights' dtype.
        device: the weights' device.
    """

    def __init__(
        self,
        config: FlowConfig,
        *,
        num_slots: int,
        num_blocks: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        encoder, unet = config.encoder, config.estimator
        assert isinstance(unet, UNetConfig)

        def memory(layers: int, heads: int, rows: int, head_dim: int) -> PagedKV:
            return PagedKV(
                num_layers=layers,
                num_blocks=num_blocks,
                num_heads=heads,
                block_rows=rows,
                head_dim=head_dim,
                dtype=dtype,
                device=device,
            )

        self.tails = TailSlabs.zeros(config, num_slots, dtype, device)
        self.token_kv = memory(encoder.num_layers, encoder.num_heads, CHUNK_TOKENS, encoder.head_dim)
        self.frame_kv = memory(encoder.num_up_layers, encoder.num_heads, CHUNK_FRAMES, encoder.head_dim)
        # The guidance rows of a sequence are kept as if they were heads: they share its table.
        self.estimator_kv = memory(
            config.num_steps * unet.num_layers, GUIDANCE_ROWS * unet.num_heads, CHUNK_FRAMES, unet.head_dim
        )

    @property
    def block_bytes(self) -> int:
        """Memory of one chunk's keys and values."""
        return sum(kv.block_bytes for kv in (self.token_kv, self.frame_kv, self.estimator_kv))

    @property
    def slot_bytes(self) -> int:
        """Memory of one sequence's convolution tails."""
        return sum(slab[0].numel() * slab.element_size() for slab in self.tails.all)

    def reset(self, slot: int) -> None:
        """Makes a slot that of a sequence about to begin."""
        for slab in self.tails.all:
            slab[slot].zero_()

    def copy_slot(self, source: int, target: int) -> None:
        """Lets the target go on from where the source stands; their blocks are shared through the tables."""
        for slab in self.tails.all:
            slab[target].copy_(slab[source])

    def memories(self, tables_BN: Tensor, context_blocks_B: Tensor, num_tokens: int) -> Memories:
        """What a chunk of `num_tokens` sees; a table's last block is the chunk's own."""
        frames = num_tokens * FRAMES_PER_TOKEN
        return Memories(
            PagedMemory.of(self.token_kv, tables_BN, context_blocks_B, num_tokens),
            PagedMemory.of(self.frame_kv, tables_BN, context_blocks_B, frames),
            PagedMemory.of(self.estimator_kv, tables_BN, context_blocks_B, frames),
        )


class Tails:
    """The left inputs of a network's causal convolutions during one call.

    The convolutions take their channels in the order in which the network calls them, so that all tails are
    read from the slab in one operation and written back in one.
    """

    def __init__(self, old_MCK: Tensor) -> None:
        self._old = old_MCK
        self._new: list[Tensor] = []
        self._taken = 0

    @classmethod
    def read(cls, slab: Tensor, slots_B: Tensor) -> Tails:
        """The tails of these slots; `slab` is (slots, C, K) or (slots, guidance rows, C, K)."""
        return cls(slab.index_select(0, slots_B).flatten(0, -3))

    def write(self, slab: Tensor, slots_B: Tensor) -> None:
        """Stores what the next chunk needs."""
        assert self._taken == self._old.shape[1], "not every convolution has asked for its tail"
        slab[slots_B] = torch.cat(self._new, 1).view(slots_B.shape[0], *slab.shape[1:])

    def extend(self, x_MCT: Tensor) -> Tensor:
        """The next convolution's input with its left inputs before it (M, C, K+T)."""
        begin, self._taken = self._taken, self._taken + x_MCT.shape[1]
        kept = self._old.shape[2]
        x = torch.cat([self._old[:, begin : self._taken], x_MCT], 2)
        self._new.append(x[:, :, x.shape[2] - kept :])
        return x


class AttentionMemory(Protocol):
    """What the attention layers of one stack see."""

    @property
    def mask(self) -> Tensor | None:
        """True where a key is visible; broadcasts to (B, H, T, S). None: everything."""

    def extend(self, layer: int, k_BHTD: Tensor, v_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, S, D) of all rows up to now; the new ones come last."""

    def at(self, first_layer: int) -> Self:
        """The same for the layers from `first_layer` on."""


@dataclass(frozen=True, slots=True)
class OwnMemory:
    """A whole sequence in one call: nothing came before.

    Args:
        mask: (T, T), or None when every row sees every other.
    """

    mask: Tensor | None

    @classmethod
    def of(cls, num_rows: int, chunk_rows: int | None, device: torch.device) -> OwnMemory:
        """A row sees its chunk and all before it; without chunks, everything."""
        if chunk_rows is None:
            return cls(None)
        chunk = torch.arange(num_rows, device=device) // chunk_rows
        return cls(chunk[None] <= chunk[:, None])

    def extend(self, layer: int, k_BHTD: Tensor, v_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        return k_BHTD, v_BHTD

    def at(self, first_layer: int) -> OwnMemory:
        return self


@dataclass(frozen=True, slots=True)
class PagedMemory:
    """One chunk of each sequence after the blocks of its table.

    Args:
        kv: the stack's memory.
        tables_BN: the blocks before the chunk, padded on the left, and as the last one the chunk's own.
        num_rows: S, the chunk's own rows included.
        mask: (B, 1, 1, S), hides the padding; None where there is none.
        first_layer: layer 0 of this stack within the memory.
    """

    kv: PagedKV
    tables_BN: Tensor
    num_rows: int
    mask: Tensor | None
    first_layer: int = 0

    @classmethod
    def of(cls, kv: PagedKV, tables_BN: Tensor, context_blocks_B: Tensor, chunk_rows: int) -> PagedMemory:
        """The memory for a chunk of `chunk_rows` rows behind `context_blocks_B` blocks.

        One sequence alone has no padding, and so no mask, which 14 % of a chunk's operators would be about.
        """
        num_context = tables_BN.shape[1] - 1
        num_rows = num_context * kv.block_rows + chunk_rows
        if tables_BN.shape[0] == 1:
            return cls(kv, tables_BN, num_rows, None)
        hidden_B = (num_context - context_blocks_B) * kv.block_rows
        mask = torch.arange(num_rows, device=tables_BN.device) >= hidden_B[:, None]
        return cls(kv, tables_BN, num_rows, mask[:, None, None])

    def extend(self, layer: int, k_BHTD: Tensor, v_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        self.kv.write_blocks(self.first_layer + layer, self.tables_BN[:, -1], k_BHTD, v_BHTD)
        k, v = self.kv.gather(self.first_layer + layer, self.tables_BN)
        return k[:, :, : self.num_rows], v[:, :, : self.num_rows]

    def at(self, first_layer: int) -> PagedMemory:
        return replace(self, first_layer=first_layer)


class Memories(NamedTuple):
    """What the three attention stacks see."""

    tokens: AttentionMemory
    frames: AttentionMemory
    estimator: AttentionMemory

    @classmethod
    def own(cls, num_tokens: int, device: torch.device, *, streaming: bool) -> Memories:
        """A whole sequence in one call; when not streaming, everything sees everything."""
        tokens, frames = (
            OwnMemory.of(num_tokens * per_token, CHUNK_TOKENS * per_token if streaming else None, device)
            for per_token in (1, FRAMES_PER_TOKEN)
        )
        return cls(tokens, frames, frames)
