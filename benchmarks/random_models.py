"""Networks of any size with random weights, made on the device they run on: no file is read or written.

Random weights cost what trained ones cost, and keep signals at about their size on the way through the network;
what they say is noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from cosyduplex_server.models.config import (
    FlowConfig,
    FlowEncoderConfig,
    ModelConfig,
    SpeechLMConfig,
    UNetConfig,
    VocoderConfig,
)
from cosyduplex_server.models.flow import Flow
from cosyduplex_server.models.speech_lm import SpeechLM
from cosyduplex_server.models.table import Table
from cosyduplex_server.models.vocoder import Vocoder

NEVER = -30.0  # a logit
PITCH_HZ = 150.0

_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class RandomModels:
    """Ready for inference, in the types in which checkpoints are loaded."""

    config: ModelConfig
    lm: SpeechLM
    flow: Flow
    vocoder: Vocoder


def full_sizes() -> ModelConfig:
    """CosyVoice2-0.5B."""
    return ModelConfig(
        generation=2,
        lm=SpeechLMConfig(),
        flow=FlowConfig(),
        vocoder=VocoderConfig(),
        prompt_mel_fmax_hz=8000.0,
    )


def tiny_sizes() -> ModelConfig:
    """What a CPU computes in no time, with every kind of layer in it."""
    return ModelConfig(
        generation=2,
        lm=SpeechLMConfig(
            hidden=128,
            num_layers=2,
            num_heads=2,
            num_kv_heads=1,
            mlp_hidden=256,
            text_vocab=1024,
            speech_tokens=200,
            end_of_prompt=500,
        ),
        flow=FlowConfig(
            speech_tokens=200,
            token_width=64,
            prelookahead_hidden=64,
            encoder=FlowEncoderConfig(width=64, num_heads=2, mlp_hidden=128, num_layers=2, num_up_layers=2),
            estimator=UNetConfig(
                channels=64, num_heads=2, head_dim=32, blocks_per_stage=1, num_mid_stages=2, time_hidden=128
            ),
        ),
        vocoder=VocoderConfig(channels=64, f0_channels=64),
        prompt_mel_fmax_hz=8000.0,
    )


SIZES: dict[str, Callable[[], ModelConfig]] = {"full": full_sizes, "tiny": tiny_sizes}


def random_models(
    config: ModelConfig, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> RandomModels:
    """All three networks; the speech LM never ends its speech, the vocoder is neither silent nor clipped."""
    generator = torch.Generator(device).manual_seed(seed)
    return RandomModels(
        config,
        random_lm(config.lm, dtype, device, generator),
        random_flow(config.flow, dtype, device, generator),
        random_vocoder(config.vocoder, dtype, device, generator),
    )


@torch.no_grad()
def random_lm(
    config: SpeechLMConfig, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> SpeechLM:
    """A speech LM whose special ids are never likely."""
    with torch.device("meta"):
        lm = SpeechLM(config)
    for name, weight in lm.named_parameters():  # norms and the head stay float32, as when they are loaded
        if "norm" not in name and not name.startswith("head."):
            weight.data = weight.data.to(dtype)
    lm.to_empty(device=device)
    _fill(lm, generator)
    assert lm.head.bias is not None
    lm.head.weight[config.speech_tokens :] = 0.0
    lm.head.bias[config.speech_tokens :] = NEVER
    return _ready(lm)


@torch.no_grad()
def random_flow(
    config: FlowConfig, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Flow:
    """A flow."""
    with torch.device("meta"):
        flow = Flow(config).to(dtype)
    flow.to_empty(device=device)
    _fill(flow, generator)
    return _ready(flow)


@torch.no_grad()
def random_vocoder(
    config: VocoderConfig, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Vocoder:
    """A vocoder with a voice of about `PITCH_HZ`."""
    with torch.device(device):
        vocoder = Vocoder(config)
    _fill(vocoder, generator)
    vocoder.pitch.out.weight.mul_(30)
    vocoder.pitch.out.bias.add_(PITCH_HZ)
    for name, weight in vocoder.named_parameters():
        if ".plain." in name and name.endswith("weight"):
            weight.mul_(0.2)
    # The magnitude of a spectrum is an exponential: without these it fills the range or is nothing.
    for conv in (vocoder.decoder.pre, vocoder.decoder.post):
        conv.weight.mul_(0.5)
    assert vocoder.decoder.post.bias is not None
    vocoder.decoder.post.bias[: config.n_fft // 2 + 1] = 1.2
    for part in (vocoder.decoder.pre, vocoder.decoder.stages, vocoder.decoder.post):
        part.to(dtype)
    return _ready(vocoder)


def _fill(module: nn.Module, generator: torch.Generator) -> None:
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            weight.copy_(_drawn(part, name, weight.shape, generator))


def _drawn(part: nn.Module, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """A layer's weight: norms and alphas are ones, biases small, all else keeps a signal's size."""
    device = generator.device
    if len(shape) == 1 and not name.endswith("bias"):
        return torch.ones(shape, device=device)
    drawn: Tensor = torch.randn(shape, device=device, generator=generator)
    if name.endswith("bias"):  # of layers, and of relative attention
        return drawn * 0.02
    if isinstance(part, Table):
        return drawn
    if isinstance(part, nn.ConvTranspose1d):
        return drawn * math.sqrt(part.stride[0] / (shape[0] * shape[2]))
    return drawn / math.sqrt(shape[1:].numel())


def _ready(module: _Module) -> _Module:
    return module.eval().requires_grad_(False)
