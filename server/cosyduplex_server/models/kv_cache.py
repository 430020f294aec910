"""Keys and values of attention layers, in blocks that sequences own or share.

Which block belongs to whom is kept elsewhere, in plain Python; this is only the memory. Legend: B sequences,
N blocks of a table, R rows of a block, H heads, D head channels, T new rows.
"""

from __future__ import annotations

import torch
from torch import Tensor


class PagedKV:
    """The memory of a stack of layers, allocated once.

    Block 0 stays zero: tables are padded with it.

    Args:
        num_layers: layers (for the flow: solver steps times layers).
        num_blocks: blocks altogether, block 0 included.
        num_heads: key/value heads (for the flow: both guidance rows' heads, row 0's first).
        block_rows: rows of a block.
        head_dim: channels of a head.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_blocks: int,
        num_heads: int,
        block_rows: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self.block_rows = block_rows
        self.num_blocks = num_blocks
        self._data = torch.zeros(
            (num_layers, num_blocks, 2, num_heads, block_rows, head_dim), dtype=dtype, device=device
        )

    @property
    def block_bytes(self) -> int:
        """Memory of one block over all layers."""
        return self._data[:, 0].numel() * self._data.element_size()

    def write_blocks(self, layer: int, blocks: Tensor, k_BHTD: Tensor, v_BHTD: Tensor) -> None:
        """Fills the first T rows of one block of each sequence; `blocks` (B,) int64."""
        self._data[layer, blocks, 0, :, : k_BHTD.shape[2]] = k_BHTD.to(self._data.dtype)
        self._data[layer, blocks, 1, :, : v_BHTD.shape[2]] = v_BHTD.to(self._data.dtype)

    def write_rows(
        self, layer: int, tables_BN: Tensor, positions_BT: Tensor, k_BHTD: Tensor, v_BHTD: Tensor
    ) -> None:
        """Writes rows at their positions in their sequences."""
        blocks_BT = tables_BN.gather(1, positions_BT // self.block_rows)
        rows_BT = positions_BT % self.block_rows
        self._data[layer, blocks_BT, 0, :, rows_BT] = k_BHTD.transpose(1, 2).to(self._data.dtype)
        self._data[layer, blocks_BT, 1, :, rows_BT] = v_BHTD.transpose(1, 2).to(self._data.dtype)

    def gather(self, layer: int, tables_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, N*R, D) of the tables' blocks, in their order."""
        kv = self._data[layer].index_select(0, tables_BN.flatten())  # (B*N, 2, H, R, D)
        B, N = tables_BN.shape
        kv = kv.view(B, N, *kv.shape[1:]).permute(2, 0, 3, 1, 4, 5).flatten(3, 4)  # (2, B, H, N*R, D)
        return kv[0], kv[1]
