"""`hift.pt` to our vocoder's names."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from cosyduplex_server.models.config import MEL_CHANNELS, VocoderConfig
from cosyduplex_server.models.vocoder import PITCH_LAYERS, Vocoder, short_transform_tensors
from cosyduplex_server.models.weights import Source, strip_prefix

WRAPPER = "generator."  # some files were saved from inside their training wrapper


def vocoder_weights(source: Source, config: VocoderConfig) -> dict[str, Tensor]:
    """Takes all weights of a CosyVoice2 vocoder, weight norms folded, as float32.

    Args:
        source: the file's tensors, without the `generator.` that some files put into their names.
        config: the sizes.

    Raises:
        WeightsError: a tensor is missing, has another shape, or belongs to no part of the vocoder.
    """
    found = _Taken(source)
    channels, bins = config.channels, config.n_fft + 2
    for layer in range(PITCH_LAYERS):
        inputs = config.f0_channels if layer else MEL_CHANNELS
        found.normed(
            f"pitch.convs.{layer}", f"f0_predictor.condnet.{2 * layer}", config.f0_channels, inputs, 3
        )
    found.plain("pitch.out", "f0_predictor.classifier", 1, config.f0_channels)
    found.plain("harmonics.mix", "m_source.l_linear", 1, config.num_harmonics + 1)
    found.normed("decoder.pre", "conv_pre", channels, MEL_CHANNELS, 7)
    for index, kernel in enumerate(config.upsample_kernels):
        stage, channels = f"decoder.stages.{index}", channels // 2
        stride = math.prod(config.upsample_rates[index + 1 :])
        found.transposed(f"{stage}.up", f"ups.{index}", 2 * channels, channels, kernel)
        down = 1 if stride == 1 else 2 * stride
        found.plain(f"{stage}.source_down", f"source_downs.{index}", channels, bins, down)
        source_block = f"source_resblocks.{index}"
        found.block(f"{stage}.source_block", source_block, channels, config.source_kernels[index], config)
        for branch, size in enumerate(config.resblock_kernels):
            number = index * len(config.resblock_kernels) + branch
            found.block(f"{stage}.blocks.{branch}", f"resblocks.{number}", channels, size, config)
    found.normed("decoder.post", "conv_post", bins, channels, 7)
    source.finish()
    transform = short_transform_tensors(config.n_fft, config.stft_hop)
    return found.tensors | {f"decoder.stft.{name}": tensor for name, tensor in transform.items()}


def load_vocoder(
    tensors: Mapping[str, Tensor],
    config: VocoderConfig,
    *,
    file: str = "hift.pt",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Vocoder:
    """A vocoder ready for inference.

    Args:
        tensors: the checkpoint's state dict.
        config: the sizes.
        file: its name, for messages.
        dtype: of the decoder's convolutions; pitch, source and both STFTs stay float32.
        device: where it shall live.

    Raises:
        WeightsError: as `vocoder_weights`.
    """
    weights = vocoder_weights(Source(strip_prefix(tensors, WRAPPER), file), config)
    with torch.device("meta"):
        vocoder = Vocoder(config)
    vocoder.load_state_dict(weights, strict=True, assign=True)
    vocoder.decoder.pre.to(dtype)
    vocoder.decoder.stages.to(dtype)
    vocoder.decoder.post.to(dtype)
    return vocoder.requires_grad_(False).eval().to(device)


class _Taken:
    """Our names of what was taken from a source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.tensors: dict[str, Tensor] = {}

    def plain(self, ours: str, theirs: str, *shape: int) -> None:
        self.tensors[f"{ours}.weight"] = self._source.take(f"{theirs}.weight", *shape)
        self.tensors[f"{ours}.bias"] = self._source.take(f"{theirs}.bias", shape[0])

    def normed(self, ours: str, theirs: str, *shape: int) -> None:
        self.tensors[f"{ours}.weight"] = self._source.take_normed(theirs, *shape)
        self.tensors[f"{ours}.bias"] = self._source.take(f"{theirs}.bias", shape[0])

    def transposed(self, ours: str, theirs: str, inputs: int, outputs: int, kernel: int) -> None:
        """A ConvTranspose1d: its first dimension, over which its norm runs too, is the inputs."""
        self.tensors[f"{ours}.weight"] = self._source.take_normed(theirs, inputs, outputs, kernel)
        self.tensors[f"{ours}.bias"] = self._source.take(f"{theirs}.bias", outputs)

    def block(self, ours: str, theirs: str, channels: int, kernel: int, config: VocoderConfig) -> None:
        for j in range(len(config.resblock_dilations)):
            self.normed(f"{ours}.dilated.{j}", f"{theirs}.convs1.{j}", channels, channels, kernel)
            self.normed(f"{ours}.plain.{j}", f"{theirs}.convs2.{j}", channels, channels, kernel)
            for snakes, number in (("dilated_snakes", 1), ("plain_snakes", 2)):
                alpha = self._source.take(f"{theirs}.activations{number}.{j}.alpha", channels)
                self.tensors[f"{ours}.{snakes}.{j}.alpha"] = alpha
