"""Keys and values of attention layers, in blocks that sequences own or share.

Which block belongs to whom is kept elsewhere, in plain Python; this is only the memory. Legend: B sequences,
N blocks of a table, R rows of a block, H heads, D head channels, T new rows.
"""

from __future__ import annotations

import math
import mmap
import sys
from contextlib import suppress

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
        # A block's rows lie together within a head: a table's blocks, gathered, are what attention reads.
        self._data = _zeros(
            (num_layers, 2, num_heads, num_blocks, block_rows, head_dim), dtype, torch.device(device)
        )

    @property
    def block_bytes(self) -> int:
        """Memory of one block over all layers."""
        return self._data[:, :, :, 0].numel() * self._data.element_size()

    def write_blocks(self, layer: int, blocks: Tensor, k_BHTD: Tensor, v_BHTD: Tensor) -> None:
        """Fills the first T rows of one block of each sequence; `blocks` (B,) int64."""
        for half, new_BHTD in enumerate((k_BHTD, v_BHTD)):
            new_HBTD = new_BHTD.transpose(0, 1).to(self._data.dtype)
            self._data[layer, half][:, blocks, : new_HBTD.shape[2]] = new_HBTD

    def write_rows(
        self, layer: int, tables_BN: Tensor, positions_BT: Tensor, k_BHTD: Tensor, v_BHTD: Tensor
    ) -> None:
        """Writes rows at their positions in their sequences."""
        blocks_BT = tables_BN.gather(1, positions_BT // self.block_rows)
        rows_BT = positions_BT % self.block_rows
        for half, new_BHTD in enumerate((k_BHTD, v_BHTD)):
            self._data[layer, half][:, blocks_BT, rows_BT] = new_BHTD.transpose(0, 1).to(self._data.dtype)

    def gather(self, layer: int, tables_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, N*R, D) of the tables' blocks, in their order."""
        B, N = tables_BN.shape
        kv = self._data[layer].index_select(2, tables_BN.flatten())  # (2, H, B*N, R, D)
        k, v = kv.view(*kv.shape[:2], B, N * self.block_rows, -1).transpose(1, 2)
        return k, v


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; in main memory only what is touched takes any, so that much can be reserved for the worst case.

    PyTorch writes its zeros out: 12 GB of them took 100 s. NumPy asks for huge pages: the first block took
    2 MB for each of its thousands of pieces, and the first listener waited 2.4 s instead of 0.2 s.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    untouched = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    if sys.platform == "linux":
        with suppress(OSError):  # a kernel that has none
            untouched.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(untouched, dtype=dtype).view(shape)
