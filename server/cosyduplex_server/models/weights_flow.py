"""A checkpoint's flow under our names."""

from __future__ import annotations

import torch
from torch import Tensor

from cosyduplex_server.models.config import MEL_CHANNELS, SPEAKER_CHANNELS, FlowConfig, UNetConfig
from cosyduplex_server.models.unet import IN_CHANNELS, KERNEL
from cosyduplex_server.models.weights import Source


def flow_weights(source: Source, config: FlowConfig) -> dict[str, Tensor]:
    """CosyVoice2's `flow.pt` as the state dict of `Flow`.

    Raises:
        WeightsError: a tensor is missing, is left over, or has another shape than `config` says.
    """
    assert isinstance(config.estimator, UNetConfig)
    weights = {
        "token_embedding.weight": source.take(
            "input_embedding.weight", config.speech_tokens, config.token_width
        )
    }
    renaming = _Renaming(source, weights)
    renaming.linear("spk_embed_affine_layer", "speaker", SPEAKER_CHANNELS, MEL_CHANNELS)
    _take_encoder(renaming, config)
    _take_unet(renaming, config.estimator)
    source.finish()
    return weights


class _Renaming:
    """Takes layers out of a source and puts them under other names."""

    def __init__(self, source: Source, weights: dict[str, Tensor]) -> None:
        self._source = source
        self._weights = weights

    def put(self, name: str, tensor: Tensor) -> None:
        self._weights[name] = tensor

    def take(self, key: str, *shape: int) -> Tensor:
        return self._source.take(key, *shape)

    def linear(self, key: str, name: str, in_width: int, width: int, *, bias: bool = True) -> None:
        self.put(f"{name}.weight", self.take(f"{key}.weight", width, in_width))
        if bias:
            self.put(f"{name}.bias", self.take(f"{key}.bias", width))

    def pointwise(self, key: str, name: str, in_width: int, width: int) -> None:
        """A convolution of one frame, kept as a linear layer."""
        self.put(f"{name}.weight", self.take(f"{key}.weight", width, in_width, 1).squeeze(2))
        self.put(f"{name}.bias", self.take(f"{key}.bias", width))

    def conv(self, key: str, name: str, in_width: int, width: int, kernel: int) -> None:
        self.put(f"{name}.weight", self.take(f"{key}.weight", width, in_width, kernel))
        self.put(f"{name}.bias", self.take(f"{key}.bias", width))

    def norm(self, key: str, name: str, width: int) -> None:
        self.put(f"{name}.weight", self.take(f"{key}.weight", width))
        self.put(f"{name}.bias", self.take(f"{key}.bias", width))

    def fused(self, keys: list[str], name: str, in_width: int, width: int, *, bias: bool) -> None:
        """Linear layers of one input, one under the other."""
        self.put(f"{name}.weight", torch.cat([self.take(f"{key}.weight", width, in_width) for key in keys]))
        if bias:
            self.put(f"{name}.bias", torch.cat([self.take(f"{key}.bias", width) for key in keys]))


def _take_encoder(to: _Renaming, config: FlowConfig) -> None:
    width, hidden = config.encoder.width, config.prelookahead_hidden
    for key, name, in_width in (("embed", "embed", config.token_width), ("up_embed", "frame_embed", width)):
        to.linear(f"encoder.{key}.out.0", f"encoder.{name}.project", in_width, width)
        to.norm(f"encoder.{key}.out.1", f"encoder.{name}.norm", width)
    lookahead = "encoder.pre_lookahead_layer"
    to.conv(f"{lookahead}.conv1", "encoder.lookahead.right", width, hidden, 4)
    to.conv(f"{lookahead}.conv2", "encoder.lookahead.left", hidden, width, 3)
    for i in range(config.encoder.num_layers):
        _take_encoder_layer(to, f"encoder.encoders.{i}", f"encoder.token_stack.layers.{i}", config)
    to.conv("encoder.up_layer.conv", "encoder.upsample", width, width, 5)
    for i in range(config.encoder.num_up_layers):
        _take_encoder_layer(to, f"encoder.up_encoders.{i}", f"encoder.frame_stack.layers.{i}", config)
    to.norm("encoder.after_norm", "encoder.norm", width)
    to.linear("encoder_proj", "encoder.project", width, MEL_CHANNELS)


def _take_encoder_layer(to: _Renaming, key: str, name: str, config: FlowConfig) -> None:
    width, hidden = config.encoder.width, config.encoder.mlp_hidden
    heads, head_dim = config.encoder.num_heads, config.encoder.head_dim
    attention = f"{key}.self_attn"
    to.norm(f"{key}.norm_mha", f"{name}.attention_norm", width)
    to.fused(
        [f"{attention}.linear_{part}" for part in "qkv"], f"{name}.attention.qkv", width, width, bias=True
    )
    to.linear(f"{attention}.linear_pos", f"{name}.attention.position", width, width, bias=False)
    for part, ours in (("u", "content_bias"), ("v", "position_bias")):
        bias = to.take(f"{attention}.pos_bias_{part}", heads, head_dim)
        to.put(f"{name}.attention.{ours}", bias[:, None])
    to.linear(f"{attention}.linear_out", f"{name}.attention.out", width, width)
    to.norm(f"{key}.norm_ff", f"{name}.mlp_norm", width)
    to.linear(f"{key}.feed_forward.w_1", f"{name}.mlp_in", width, hidden)
    to.linear(f"{key}.feed_forward.w_2", f"{name}.mlp_out", hidden, width)


def _take_unet(to: _Renaming, config: UNetConfig) -> None:
    theirs, ours, C = "decoder.estimator", "estimator", config.channels
    to.linear(f"{theirs}.time_mlp.linear_1", f"{ours}.time_in", IN_CHANNELS, config.time_hidden)
    to.linear(f"{theirs}.time_mlp.linear_2", f"{ours}.time_out", config.time_hidden, config.time_hidden)
    _take_stage(to, f"{theirs}.down_blocks.0", f"{ours}.down", IN_CHANNELS, config)
    to.conv(f"{theirs}.down_blocks.0.2", f"{ours}.down_conv.conv", C, C, KERNEL)
    for i in range(config.num_mid_stages):
        _take_stage(to, f"{theirs}.mid_blocks.{i}", f"{ours}.mid.{i}", C, config)
    _take_stage(to, f"{theirs}.up_blocks.0", f"{ours}.up", 2 * C, config)
    to.conv(f"{theirs}.up_blocks.0.2", f"{ours}.up_conv.conv", C, C, KERNEL)
    _take_conv_block(to, f"{theirs}.final_block", f"{ours}.final", C, C)
    to.pointwise(f"{theirs}.final_proj", f"{ours}.project", C, MEL_CHANNELS)


def _take_stage(to: _Renaming, key: str, name: str, in_channels: int, config: UNetConfig) -> None:
    C, residual = config.channels, f"{name}.residual"
    _take_conv_block(to, f"{key}.0.block1", f"{residual}.first", in_channels, C)
    _take_conv_block(to, f"{key}.0.block2", f"{residual}.second", C, C)
    to.linear(f"{key}.0.mlp.1", f"{residual}.time", config.time_hidden, C)
    to.pointwise(f"{key}.0.res_conv", f"{residual}.beside", in_channels, C)
    for i in range(config.blocks_per_stage):
        _take_transformer_layer(to, f"{key}.1.{i}", f"{name}.layers.{i}", config)


def _take_conv_block(to: _Renaming, key: str, name: str, in_channels: int, channels: int) -> None:
    to.conv(f"{key}.block.0", f"{name}.conv.conv", in_channels, channels, KERNEL)
    to.norm(f"{key}.block.2", f"{name}.norm", channels)


def _take_transformer_layer(to: _Renaming, key: str, name: str, config: UNetConfig) -> None:
    C, inner, hidden = (
        config.channels,
        config.num_heads * config.head_dim,
        config.mlp_factor * config.channels,
    )
    attention = f"{key}.attn1"
    to.norm(f"{key}.norm1", f"{name}.attention_norm", C)
    to.fused([f"{attention}.to_{part}" for part in "qkv"], f"{name}.qkv", C, inner, bias=False)
    to.linear(f"{attention}.to_out.0", f"{name}.out", inner, C)
    to.norm(f"{key}.norm3", f"{name}.mlp_norm", C)
    to.linear(f"{key}.ff.net.0.proj", f"{name}.mlp_in", C, hidden)
    to.linear(f"{key}.ff.net.2", f"{name}.mlp_out", hidden, C)
