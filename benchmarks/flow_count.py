"""The work of the flow in floating-point operations: by a formula, and counted in what PyTorch really calls.

The counter has attention made of plain matrix products, which it sees; on the `meta` device nothing is computed,
but calling takes longer than computing a small model on the CPU. Norms, activations and sums are left out: they
are not matrix products and a few tenths of a per cent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cosyduplex_server.models.config import (
    CHUNK_TOKENS,
    FRAMES_PER_TOKEN,
    LOOKAHEAD_TOKENS,
    MEL_CHANNELS,
    FlowConfig,
    UNetConfig,
)
from cosyduplex_server.models.flow import Flow, FlowBatch
from cosyduplex_server.models.flow_cache import GUIDANCE_ROWS
from cosyduplex_server.models.flow_encoder import UPSAMPLE_KERNEL
from cosyduplex_server.models.unet import IN_CHANNELS, KERNEL


@dataclass(frozen=True)
class Work:
    """Floating-point operations; a multiplication with its addition is two.

    Attributes:
        linear: of layers and convolutions, in proportion to the rows computed.
        attention: of products of queries with keys, positions and values.
    """

    linear: int = 0
    attention: int = 0

    @property
    def total(self) -> int:
        return self.linear + self.attention

    def __add__(self, other: Work) -> Work:
        return Work(self.linear + other.linear, self.attention + other.attention)


def chunk_work(config: FlowConfig, num_tokens: int, context_chunks: int) -> Work:
    """One chunk of one sequence behind so many cached ones."""
    context = context_chunks * CHUNK_TOKENS
    return Work(_linear_work(config, num_tokens), _attention_work(config, num_tokens, context))


def whole_work(config: FlowConfig, num_tokens: int, *, skip_hidden: bool) -> Work:
    """A whole sequence without a cache, under the streaming masks.

    Args:
        config: the flow's sizes.
        num_tokens: prompt included.
        skip_hidden: whether attention leaves out the keys that the masks hide, as no code known to us does;
            else it computes them all, as `Flow.full` and upstream do.
    """
    linear = _linear_work(config, num_tokens)
    if not skip_hidden:
        return Work(linear, _attention_work(config, num_tokens, 0))
    chunks = range(0, num_tokens, CHUNK_TOKENS)
    attention = (_attention_work(config, min(CHUNK_TOKENS, num_tokens - begin), begin) for begin in chunks)
    return Work(linear, sum(attention))


def _linear_work(config: FlowConfig, num_tokens: int) -> int:
    unet, encoder = config.estimator, config.encoder
    assert isinstance(unet, UNetConfig)
    C, inner, W, hidden = (
        unet.channels,
        unet.num_heads * unet.head_dim,
        encoder.width,
        config.prelookahead_hidden,
    )

    def residual(in_channels: int) -> int:
        return KERNEL * (in_channels + C) * C + in_channels * C

    residuals = residual(IN_CHANNELS) + unet.num_mid_stages * residual(C) + residual(2 * C)
    layers = unet.num_layers * (4 * C * inner + 2 * unet.mlp_factor * C * C)
    evaluation = residuals + layers + 3 * KERNEL * C * C + C * MEL_CHANNELS
    encoder_layer = 4 * W * W + 2 * W * encoder.mlp_hidden
    token = (LOOKAHEAD_TOKENS + 1 + 3) * W * hidden + encoder.num_layers * encoder_layer
    frame = (
        (UPSAMPLE_KERNEL + 1) * W * W + encoder.num_up_layers * encoder_layer + W * MEL_CHANNELS
    ) + config.num_steps * GUIDANCE_ROWS * evaluation
    embedded = (num_tokens + LOOKAHEAD_TOKENS) * config.token_width * W
    return 2 * (embedded + num_tokens * (token + FRAMES_PER_TOKEN * frame))


def _attention_work(config: FlowConfig, num_tokens: int, context_tokens: int) -> int:
    """Queries of `num_tokens` tokens with their own keys and those of the context."""
    unet, encoder = config.estimator, config.encoder
    assert isinstance(unet, UNetConfig)

    def encoder_layer(queries: int, context: int) -> int:
        keys = context + queries
        return encoder.width * queries * (2 * keys + keys + queries - 1)

    frames, context = num_tokens * FRAMES_PER_TOKEN, context_tokens * FRAMES_PER_TOKEN
    evaluations = config.num_steps * GUIDANCE_ROWS * unet.num_layers
    estimator = evaluations * unet.num_heads * unet.head_dim * 2 * frames * (context + frames)
    tokens = encoder.num_layers * encoder_layer(num_tokens, context_tokens)
    return 2 * (estimator + tokens + encoder.num_up_layers * encoder_layer(frames, context))


class Counter:
    """Counts what a flow of these sizes calls, up to so many tokens."""

    def __init__(self, config: FlowConfig, max_tokens: int, device: str) -> None:
        self._device = device
        with torch.device(device):
            self._flow = Flow(config)
        # What depends on the weights alone is computed once in a server's life and is no chunk's work.
        self._flow.prepare(max_tokens * FRAMES_PER_TOKEN)
        with torch.inference_mode():
            self._flow.encoder.token_stack.reach(max_tokens, max_tokens)
            self._flow.encoder.frame_stack.reach(max_tokens * FRAMES_PER_TOKEN, max_tokens * FRAMES_PER_TOKEN)
        self._cache = self._flow.new_cache(num_slots=2, num_blocks=3)

    def chunk(self, num_tokens: int, context_chunks: int) -> Work:
        """One chunk behind so many cached ones, as `Flow.step` computes it."""
        one = self._zeros(1, dtype=torch.int64)
        batch = FlowBatch(
            tokens_BT=self._zeros(1, num_tokens, dtype=torch.int64),
            lookahead_B3=self._zeros(1, LOOKAHEAD_TOKENS, dtype=torch.int64),
            slots_B=one,
            tables_BN=self._zeros(1, context_chunks, dtype=torch.int64),
            context_blocks_B=one,
            blocks_B=one,
            first_frames_B=one,
            spk_B80=self._zeros(1, MEL_CHANNELS),
            cond_BT80=self._zeros(1, num_tokens * FRAMES_PER_TOKEN, MEL_CHANNELS),
        )
        return _count(lambda: self._flow.step(self._cache, batch))

    def whole(self, num_tokens: int) -> Work:
        """A whole sequence, as `Flow.full` computes it under the streaming masks."""
        tokens, spk = self._zeros(1, num_tokens, dtype=torch.int64), self._zeros(1, MEL_CHANNELS)
        no_prompt = self._zeros(1, 0, MEL_CHANNELS)
        return _count(lambda: self._flow.full(tokens, no_prompt, spk, streaming=True, finalize=True))

    def _zeros(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=self._device)


def _count(call: Callable[[], object]) -> Work:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    attention = counter.get_flop_counts()["Global"].get(torch.ops.aten.bmm, 0)
    return Work(counter.get_total_flops() - attention, attention)
