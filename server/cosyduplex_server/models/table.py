"""A table of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Table(nn.Module):
    """Rows by number.

    As `nn.Embedding`, whose random beginning costs 3 s of imports even where weights are loaded over it.
    """

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_rows, width))

    def forward(self, rows: Tensor) -> Tensor:
        """The rows (..., width) of these numbers, int64."""
        return F.embedding(rows, self.weight)
