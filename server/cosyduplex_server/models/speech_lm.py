"""The speech language model of CosyVoice 2 and 3: text in, speech tokens out.

A Qwen2 body (RMSNorm before each part, rotary positions, grouped heads, biases on q, k and v, a gated MLP)
between one embedding of all input rows and a head of speech ids. Keys and values live in a `PagedKV` and
positions come in, so sequences of different lengths share a call, and rows may come in forwards of any size.

Legend: B sequences, T new rows of each, N blocks of a table, J cached rows (N times a block's), C hidden
channels, H query heads, G key/value heads, D head channels, V ids of the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosyduplex_server.models.config import SpeechLMConfig
from cosyduplex_server.models.kv_cache import PagedKV
from cosyduplex_server.models.table import Table


@dataclass(frozen=True, slots=True)
class _Rows:
    """What every layer needs to know of the new rows."""

    positions_BT: Tensor
    tables_BN: Tensor
    cos_BT1D: Tensor
    sin_BT1D: Tensor
    mask_B1QJ: Tensor  # added to the scores; Q = H / G * T: the heads that share keys are rows
    kv: PagedKV


class SpeechLM(nn.Module):
    """The language model; norms, rotary angles, softmax and logits are float32 whatever the weights' type."""

    def __init__(self, config: SpeechLMConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Table(config.num_rows, config.hidden)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_layers))
        self.norm = _RMSNorm(config)
        self.head = nn.Linear(config.hidden, config.speech_rows, bias=config.generation == 2)

    def forward(self, rows_BT: Tensor, positions_BT: Tensor, kv: PagedKV, tables_BN: Tensor) -> Tensor:
        """Runs new rows, whose keys and values it leaves in the cache.

        A sequence with fewer than T new rows repeats its last one, row and position: the same values are
        written to the same place, and `hidden_BTC[:, -1]` is every sequence's last row. A place in the batch
        that stands for no sequence (any row, position 0) needs a block of its own at the head of its table:
        block 0 is never written.

        Args:
            rows_BT: input rows as `SpeechLMConfig` numbers them, int64.
            positions_BT: their places in their sequences, int64; all rows before them are cached, or come
                in this call.
            kv: made by `new_cache`.
            tables_BN: each sequence's blocks, padded with 0, int64, with room for the new rows. Sequences may
                share blocks whose rows all lie before the new ones.

        Returns:
            hidden_BTC: after the last norm, float32.
        """
        rows = self._rows(positions_BT, kv, tables_BN)
        x_BTC = self.embed(rows_BT)
        for layer_index, layer in enumerate(self.layers):
            x_BTC = layer(x_BTC, rows, layer_index)
        hidden_BTC: Tensor = self.norm(x_BTC)
        return hidden_BTC

    def embed(self, rows_BT: Tensor) -> Tensor:
        """The embeddings (B, T, C) of input rows."""
        return F.embedding(rows_BT, self.embedding.weight)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (..., V) of the ids that may follow, float32, of `forward`'s hidden rows (..., C)."""
        bias = None if self.head.bias is None else self.head.bias.float()
        return F.linear(hidden.float(), self.head.weight.float(), bias)

    def _rows(self, positions_BT: Tensor, kv: PagedKV, tables_BN: Tensor) -> _Rows:
        D, dtype = self.config.head_dim, self.embedding.weight.dtype
        cos_BT1D, sin_BT1D = _rotary_angles(positions_BT, D, self.config.rope_theta)
        cached_J = torch.arange(tables_BN.shape[1] * kv.block_rows, device=positions_BT.device)
        hidden_BTJ = cached_J > positions_BT[:, :, None]
        mask_BTJ = torch.zeros(hidden_BTJ.shape, dtype=dtype, device=positions_BT.device)
        mask_BTJ = mask_BTJ.masked_fill_(hidden_BTJ, -torch.inf)
        mask_B1QJ = mask_BTJ.repeat(1, self.config.num_heads // self.config.num_kv_heads, 1)[:, None]
        return _Rows(positions_BT, tables_BN, cos_BT1D, sin_BT1D, mask_B1QJ, kv)


def new_cache(
    config: SpeechLMConfig,
    num_blocks: int,
    dtype: torch.dtype,
    device: torch.device | str,
    block_rows: int = 64,
) -> PagedKV:
    """The cache for a `SpeechLM` of this size and type; block 0 is one of `num_blocks`."""
    return PagedKV(
        num_layers=config.num_layers,
        num_blocks=num_blocks,
        num_heads=config.num_kv_heads,
        block_rows=block_rows,
        head_dim=config.head_dim,
        dtype=dtype,
        device=device,
    )


class _Layer(nn.Module):
    def __init__(self, config: SpeechLMConfig) -> None:
        super().__init__()
        self.attention_norm = _RMSNorm(config)
        self.attention = _Attention(config)
        self.mlp_norm = _RMSNorm(config)
        self.mlp = _GatedMLP(config)

    def forward(self, x_BTC: Tensor, rows: _Rows, layer_index: int) -> Tensor:
        dtype = x_BTC.dtype
        x_BTC = x_BTC + self.attention(self.attention_norm(x_BTC).to(dtype), rows, layer_index)
        x_BTC = x_BTC + self.mlp(self.mlp_norm(x_BTC).to(dtype))
        return x_BTC


class _Attention(nn.Module):
    def __init__(self, config: SpeechLMConfig) -> None:
        super().__init__()
        H, G, D = config.num_heads, config.num_kv_heads, config.head_dim
        self.num_heads, self.num_kv_heads, self.head_dim = H, G, D
        self.qkv = nn.Linear(config.hidden, (H + 2 * G) * D)
        self.out = nn.Linear(H * D, config.hidden, bias=False)

    def forward(self, x_BTC: Tensor, rows: _Rows, layer_index: int) -> Tensor:
        B, T, _ = x_BTC.shape
        H, G, D = self.num_heads, self.num_kv_heads, self.head_dim
        qkv = self.qkv(x_BTC).view(B, T, H + 2 * G, D)
        qk = _rotate(qkv[:, :, : H + G], rows.cos_BT1D, rows.sin_BT1D).transpose(1, 2)  # (B, H + G, T, D)
        k, v = qk[:, H:], qkv[:, :, H + G :].transpose(1, 2)  # (B, G, T, D)
        rows.kv.write_rows(layer_index, rows.tables_BN, rows.positions_BT, k, v)
        k, v = rows.kv.gather(layer_index, rows.tables_BN)  # (B, G, J, D)
        # The H / G heads that share keys go in as rows: the keys need not be repeated for them.
        q = qk[:, :H].reshape(B, G, H // G * T, D)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=rows.mask_B1QJ)
        return F.linear(y.view(B, H, T, D).transpose(1, 2).reshape(B, T, H * D), self.out.weight)


class _GatedMLP(nn.Module):
    def __init__(self, config: SpeechLMConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.hidden, 2 * config.mlp_hidden, bias=False)
        self.down = nn.Linear(config.mlp_hidden, config.hidden, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        gate, up = self.gate_up(x_BTC).chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, self.down.weight)


class _RMSNorm(nn.Module):
    """Computes and answers in float32."""

    def __init__(self, config: SpeechLMConfig) -> None:
        super().__init__()
        self.eps = config.rms_eps
        self.weight = nn.Parameter(torch.ones(config.hidden))

    def forward(self, x_BTC: Tensor) -> Tensor:
        return F.rms_norm(x_BTC.float(), self.weight.shape, self.weight.float(), self.eps)


def _rotary_angles(positions_BT: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B, T, 1, D) float32: channel i and channel i + D / 2 turn together."""
    pairs = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions_BT.device)
    angles = positions_BT[:, :, None, None].float() / theta ** (pairs / head_dim)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def _rotate(x_BTHD: Tensor, cos_BT1D: Tensor, sin_BT1D: Tensor) -> Tensor:
    low, high = x_BTHD.float().chunk(2, dim=-1)
    turned = torch.cat([-high, low], dim=-1)
    return (x_BTHD * cos_BT1D + turned * sin_BT1D).to(x_BTHD.dtype)
