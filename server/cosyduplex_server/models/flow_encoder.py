"""The encoder of CosyVoice2's flow: speech tokens at 25 Hz to mel-shaped conditions at 50 Hz.

A look-ahead of 3 tokens, then everything is chunk-causal: transformer layers with relative positions at
25 Hz, a causal upsampling, transformer layers at 50 Hz. Since only differences of positions enter, a chunk
needs to know how far back its keys lie, not where it stands.

Legend: B sequences, T rows, S visible rows, R = S+T-1 relative positions, H heads, D head channels, W width,
C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosyduplex_server.models.config import (
    FRAMES_PER_TOKEN,
    LOOKAHEAD_TOKENS,
    MEL_CHANNELS,
    FlowConfig,
    FlowEncoderConfig,
)
from cosyduplex_server.models.flow_cache import AttentionMemory, Memories, Tails

LOOKAHEAD_SLOPE = 0.01
UPSAMPLE_KERNEL = 5
LAYER_EPS = 1e-12  # of the norms inside the transformer layers


def position_rows(back: int, ahead: int, width: int, device: torch.device) -> Tensor:
    """Sinusoids (back+ahead+1, W) of the distances query - key, from `back` down to `-ahead`."""
    distance = torch.arange(back, -ahead - 1, -1, dtype=torch.float32, device=device)
    octave = torch.arange(0, width, 2, dtype=torch.float32, device=device)
    angles = distance[:, None] * torch.exp(octave * (-math.log(10_000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


class RelativeAttention(nn.Module):
    """Self-attention whose scores also depend on how far a key lies behind its query."""

    def __init__(self, config: FlowEncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.position = nn.Linear(config.width, config.width, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(config.num_heads, 1, config.head_dim))
        self.position_bias = nn.Parameter(torch.zeros(config.num_heads, 1, config.head_dim))
        self.out = nn.Linear(config.width, config.width)

    def project_positions(self, rows_RW: Tensor) -> Tensor:
        """The positions as this layer's queries see them (H, D, R), computed in float32."""
        weight = self.position.weight
        projected = F.linear(rows_RW, weight.float()).to(weight.dtype)
        return projected.view(len(rows_RW), self.num_heads, -1).permute(1, 2, 0).contiguous()

    def forward(self, x_BTW: Tensor, positions_HDR: Tensor, memory: AttentionMemory, layer: int) -> Tensor:
        B, T, _ = x_BTW.shape
        q, k, v = self.qkv(x_BTW).view(B, T, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, H, T, D)
        k, v = memory.extend(layer, k, v)
        scores = by_column((q + self.position_bias) @ positions_HDR, k.shape[2]) * q.shape[3] ** -0.5
        if memory.mask is not None:
            scores = torch.where(memory.mask, scores, -math.inf)
        y = F.scaled_dot_product_attention(q + self.content_bias, k, v, attn_mask=scores)
        y_BTW: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return y_BTW


def by_column(scores_BHTR: Tensor, num_keys: int) -> Tensor:
    """Scores by relative position as scores by key (B, H, T, S).

    Query t stands at column S-T+t, so that its distance to key s is row T-1-t+s of the positions: each
    query's scores begin one column further left than those of the query before it.
    """
    B, H, T, R = scores_BHTR.shape
    scores = scores_BHTR.contiguous()
    return scores.as_strided(
        (B, H, T, num_keys), (H * T * R, T * R, R - 1, 1), scores.storage_offset() + T - 1
    )


class EncoderLayer(nn.Module):
    """Relative attention, then an MLP, each behind its norm."""

    def __init__(self, config: FlowEncoderConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, eps=LAYER_EPS)
        self.attention = RelativeAttention(config)
        self.mlp_norm = nn.LayerNorm(config.width, eps=LAYER_EPS)
        self.mlp_in = nn.Linear(config.width, config.mlp_hidden)
        self.mlp_out = nn.Linear(config.mlp_hidden, config.width)

    def forward(self, x_BTW: Tensor, positions_HDR: Tensor, memory: AttentionMemory, layer: int) -> Tensor:
        x = x_BTW + self.attention(self.attention_norm(x_BTW), positions_HDR, memory, layer)
        x_BTW = x + self.mlp_out(F.silu(self.mlp_in(self.mlp_norm(x))))
        return x_BTW


class EncoderStack(nn.Module):
    """Transformer layers of one rate, with their projected positions.

    The positions depend on the weights alone. They are computed when a longer reach is first asked for and
    kept: else projecting them would be the one part of a chunk's work outside attention that grows with its
    past.
    """

    def __init__(self, config: FlowEncoderConfig, num_layers: int) -> None:
        super().__init__()
        self.width = config.width
        layers = nn.ModuleList(EncoderLayer(config) for _ in range(num_layers))
        self.layers = cast("Sequence[EncoderLayer]", layers)
        self._back = self._ahead = -1
        self._positions: list[Tensor] = []

    def forget_positions(self) -> None:
        """Must follow any change of the weights."""
        self._back = self._ahead = -1
        self._positions = []

    def reach(self, back: int, ahead: int) -> None:
        """Makes sure that positions so far back and ahead are there."""
        if back <= self._back and ahead <= self._ahead:
            return
        self._back, self._ahead = (
            max(kept, (1 << wanted.bit_length()) - 1)
            for kept, wanted in ((self._back, back), (self._ahead, ahead))
        )
        attentions = [layer.attention for layer in self.layers]
        rows = position_rows(self._back, self._ahead, self.width, attentions[0].out.weight.device)
        self._positions = [attention.project_positions(rows) for attention in attentions]

    def forward(self, x_BTW: Tensor, num_before: int, memory: AttentionMemory) -> Tensor:
        """Runs the layers behind `num_before` earlier rows."""
        T = x_BTW.shape[1]
        self.reach(num_before + T - 1, T - 1)
        begin = self._back - (num_before + T - 1)
        for i, layer in enumerate(self.layers):
            positions = self._positions[i][:, :, begin : begin + num_before + 2 * T - 1]
            x_BTW = layer(x_BTW, positions, memory, i)
        return x_BTW


class ScaledEmbedding(nn.Module):
    """A projection to rows of length about sqrt(width) times sqrt(width)."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(in_width, width)
        self.norm = nn.LayerNorm(width)
        self.scale = math.sqrt(width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.project(x)) * self.scale
        return y


class Lookahead(nn.Module):
    """Mixes into every token the three after it, then the two before it."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.right = nn.Conv1d(width, hidden, LOOKAHEAD_TOKENS + 1)
        self.left = nn.Conv1d(hidden, width, 3)

    def forward(self, x_BTC: Tensor, tails: Tails) -> Tensor:
        """From T+3 rows to T."""
        ahead = F.leaky_relu(self.right(x_BTC.transpose(1, 2)), LOOKAHEAD_SLOPE)
        mixed: Tensor = self.left(tails.extend(ahead)).transpose(1, 2)
        return mixed + x_BTC[:, :-LOOKAHEAD_TOKENS]


class FlowEncoder(nn.Module):
    """Token embeddings to conditions of the estimator."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        encoder = config.encoder
        self.embed = ScaledEmbedding(config.token_width, encoder.width)
        self.lookahead = Lookahead(encoder.width, config.prelookahead_hidden)
        self.token_stack = EncoderStack(encoder, encoder.num_layers)
        self.upsample = nn.Conv1d(encoder.width, encoder.width, UPSAMPLE_KERNEL)
        self.frame_embed = ScaledEmbedding(encoder.width, encoder.width)
        self.frame_stack = EncoderStack(encoder, encoder.num_up_layers)
        self.norm = nn.LayerNorm(encoder.width)
        self.project = nn.Linear(encoder.width, MEL_CHANNELS)

    def forward(
        self,
        x_BTC: Tensor,
        exists_BT: Tensor,
        num_before: int,
        memories: Memories,
        lookahead: Tails,
        upsample: Tails,
    ) -> Tensor:
        """The encoder's output (B, 2T, W), before `project`.

        Args:
            x_BTC: embeddings of T new tokens and the 3 after them.
            exists_BT: False for tokens beyond the end: theirs are rows of zeros, after the embedding.
            num_before: visible tokens before these, padding included.
            memories: what the layers at 25 Hz and at 50 Hz see.
            lookahead: the look-ahead's left inputs.
            upsample: the upsampling's left inputs.
        """
        x = self.lookahead(self.embed(x_BTC) * exists_BT[:, :, None], lookahead)
        x = self.token_stack(x, num_before, memories.tokens)
        x = x.repeat_interleave(FRAMES_PER_TOKEN, 1).transpose(1, 2)
        x = self.frame_embed(self.upsample(upsample.extend(x)).transpose(1, 2).contiguous())
        y: Tensor = self.norm(self.frame_stack(x, num_before * FRAMES_PER_TOKEN, memories.frames))
        return y
