"""CosyVoice2's estimator: a U-Net of one resolution, causal convolutions between attention without positions.

Legend: M rows of the batch (B sequences times R guidance rows, a sequence's rows side by side), T frames,
C channels, H heads, D head channels, N residual blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosyduplex_server.models.config import MEL_CHANNELS, UNetConfig
from cosyduplex_server.models.flow_cache import GUIDANCE_ROWS, AttentionMemory, Tails

IN_CHANNELS = 4 * MEL_CHANNELS  # noisy mel, condition, speaker, prompt mel
TIME_SCALE = 1000.0
KERNEL = 3


def time_rows(times_R: Tensor) -> Tensor:
    """Sinusoids (R, 320) of the solver's times, in float32."""
    half = IN_CHANNELS // 2
    octave = torch.arange(half, dtype=torch.float32, device=times_R.device)
    angles = TIME_SCALE * times_R.float()[:, None] * torch.exp(octave * (-math.log(10_000.0) / (half - 1)))
    return torch.cat([angles.sin(), angles.cos()], 1)


class CausalConv(nn.Module):
    """A convolution that looks two frames back."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, channels, KERNEL)

    def forward(self, x_MTC: Tensor, tails: Tails) -> Tensor:
        y_MCT: Tensor = self.conv(tails.extend(x_MTC.transpose(1, 2)))
        return y_MCT.transpose(1, 2).contiguous()  # as norms and linear layers want it


class ConvBlock(nn.Module):
    """Causal convolution, norm over the channels, Mish."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv(in_channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_MTC: Tensor, tails: Tails) -> Tensor:
        return F.mish(self.norm(self.conv(x_MTC, tails)))


class ResidualBlock(nn.Module):
    """Two convolution blocks, the solver's time between them, beside a projection."""

    def __init__(self, in_channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.first = ConvBlock(in_channels, config.channels)
        self.second = ConvBlock(config.channels, config.channels)
        self.time = nn.Linear(config.time_hidden, config.channels)
        self.beside = nn.Linear(in_channels, config.channels)

    def forward(self, x_MTC: Tensor, time_R1C: Tensor, tails: Tails) -> Tensor:
        y: Tensor = self.first(x_MTC, tails) + time_R1C
        y = self.second(y, tails) + self.beside(x_MTC)
        return y


class TransformerLayer(nn.Module):
    """Attention, then an MLP, each behind its norm."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        inner = config.num_heads * config.head_dim
        self.attention_norm = nn.LayerNorm(config.channels)
        self.qkv = nn.Linear(config.channels, 3 * inner, bias=False)
        self.out = nn.Linear(inner, config.channels)
        self.mlp_norm = nn.LayerNorm(config.channels)
        self.mlp_in = nn.Linear(config.channels, config.mlp_factor * config.channels)
        self.mlp_out = nn.Linear(config.mlp_factor * config.channels, config.channels)

    def forward(self, x_MTC: Tensor, memory: AttentionMemory, layer: int) -> Tensor:
        x_MTC = x_MTC + self._attend(self.attention_norm(x_MTC), memory, layer)
        x_MTC = x_MTC + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x_MTC))))
        return x_MTC

    def _attend(self, x_MTC: Tensor, memory: AttentionMemory, layer: int) -> Tensor:
        """A sequence's guidance rows stand beside its heads: they share its table and its mask."""
        M, T, _ = x_MTC.shape
        qkv = self.qkv(x_MTC).view(M // GUIDANCE_ROWS, GUIDANCE_ROWS, T, 3, self.num_heads, -1)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)  # (B, R*H, T, D)
        k, v = memory.extend(layer, k, v)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=memory.mask)
        x_MTC = self.out(y.view(M, self.num_heads, T, -1).transpose(1, 2).flatten(2))
        return x_MTC


class Stage(nn.Module):
    """A residual block and its transformer layers."""

    def __init__(self, in_channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.residual = ResidualBlock(in_channels, config)
        layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.blocks_per_stage))
        self.layers = cast("Sequence[TransformerLayer]", layers)

    def forward(
        self, x_MTC: Tensor, time_R1C: Tensor, memory: AttentionMemory, first_layer: int, tails: Tails
    ) -> Tensor:
        x_MTC = self.residual(x_MTC, time_R1C, tails)
        for i, layer in enumerate(self.layers):
            x_MTC = layer(x_MTC, memory, first_layer + i)
        return x_MTC


class UNet(nn.Module):
    """The velocity of the mel at one time of the solver."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        C = config.channels
        self.time_in = nn.Linear(IN_CHANNELS, config.time_hidden)
        self.time_out = nn.Linear(config.time_hidden, config.time_hidden)
        self.down = Stage(IN_CHANNELS, config)
        self.down_conv = CausalConv(C, C)
        self.mid = cast(
            "Sequence[Stage]", nn.ModuleList(Stage(C, config) for _ in range(config.num_mid_stages))
        )
        self.up = Stage(2 * C, config)
        self.up_conv = CausalConv(C, C)
        self.final = ConvBlock(C, C)
        self.project = nn.Linear(C, MEL_CHANNELS)

    def time_vectors(self, times_R: Tensor) -> Tensor:
        """What each residual block adds at these times (R, N, C); in float32, since it is done once."""

        def project(linear: nn.Linear, x: Tensor) -> Tensor:
            return F.linear(x, linear.weight.float(), linear.bias.float())

        hidden = project(self.time_out, F.silu(project(self.time_in, time_rows(times_R))))
        stages = (self.down, *self.mid, self.up)
        vectors = [project(stage.residual.time, F.mish(hidden)) for stage in stages]
        return torch.stack(vectors, 1).to(self.project.weight.dtype)

    def forward(self, x_MTC: Tensor, time_RNC: Tensor, memory: AttentionMemory, tails: Tails) -> Tensor:
        """The velocity (M, T, 80); `x_MTC` holds noisy mel, condition, speaker, prompt mel, 80 channels each.

        The time vectors are one row for all, or one of each row of the batch.
        """
        times = time_RNC[:, :, None].unbind(1)
        per_stage = self.config.blocks_per_stage
        skip = x = self.down(x_MTC, times[0], memory, 0, tails)
        x = self.down_conv(x, tails)
        for i, stage in enumerate(self.mid, 1):
            x = stage(x, times[i], memory, i * per_stage, tails)
        x = torch.cat([x, skip], 2)
        x = self.up(x, times[-1], memory, (len(times) - 1) * per_stage, tails)
        velocity: Tensor = self.project(self.final(self.up_conv(x, tails), tails))
        return velocity
