"""Random numbers without state: each is a function of a seed, a counter and the number of a stream.

So a number does not depend on what else is in the batch, on the device, or on how many were drawn before.

The function is splitmix64's finaliser (Steele, Lea and Flood 2014) over the counter times the golden ratio,
with one half of a stream's key added before it and the other in the middle of it: streams are then not
shifted copies of each other. All arithmetic is that of 64-bit unsigned integers in int64, which wraps.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word


_GOLDEN: Final = _signed(0x9E3779B97F4A7C15)
_MULTIPLIER_1: Final = _signed(0xBF58476D1CE4E5B9)
_MULTIPLIER_2: Final = _signed(0x94D049BB133111EB)
_STREAM_STEP: Final = _signed(0xD1342543DE82EF95)


def integers(seeds: Tensor, counters: Tensor, streams: Tensor | int, bits: int) -> Tensor:
    """Uniform int64 numbers of [0, 2**bits), the arguments' shapes broadcast together.

    Args:
        seeds: int64, any values.
        counters: int64, any values.
        streams: numbers that tell apart what one seed is used for.
        bits: at most 63.
    """
    return _shift_right(_words(seeds, counters, streams), 64 - bits)


def uniform(seeds: Tensor, counters: Tensor, streams: Tensor | int) -> Tensor:
    """Uniform float32 numbers of [0, 1), multiples of 2**-24; arguments as of `integers`."""
    return integers(seeds, counters, streams, 24).to(torch.float32).mul_(2.0**-24)


def normal(seeds: Tensor, counters: Tensor, streams: Tensor | int) -> Tensor:
    """Standard normal float32 numbers, none beyond 6.7; arguments as of `integers`.

    Box and Muller's cosine: the radius from the upper half of the 64 bits, the angle from the lower half.
    """
    words = _words(seeds, counters, streams)
    radius = _shift_right(words, 32).to(torch.float32).add_(1.0).mul_(2.0**-32)
    radius = radius.log_().mul_(-2.0).clamp_(min=0.0).sqrt_()
    angle = words.bitwise_and_(0xFFFFFFFF).to(torch.float32).mul_(2.0 * math.pi * 2.0**-32)
    return radius.mul_(angle.cos_())


def _words(seeds: Tensor, counters: Tensor, streams: Tensor | int) -> Tensor:
    if isinstance(streams, int):
        streams = torch.full((), streams, dtype=torch.int64, device=seeds.device)
    key_1 = _mix(_mix(seeds * _GOLDEN, 0) + streams * _STREAM_STEP, 0)
    key_2 = _mix(key_1 + _GOLDEN, 0)
    return _mix(counters * _GOLDEN + key_1, key_2)


def _mix(words: Tensor, key: Tensor | int) -> Tensor:
    """The finaliser; `words` is overwritten."""
    words.bitwise_xor_(_shift_right(words, 30)).mul_(_MULTIPLIER_1).add_(key)
    words.bitwise_xor_(_shift_right(words, 27)).mul_(_MULTIPLIER_2)
    return words.bitwise_xor_(_shift_right(words, 31))


def _shift_right(words: Tensor, bits: int) -> Tensor:
    """The logical shift: int64's own drags the sign along."""
    return (words >> bits).bitwise_and_((1 << (64 - bits)) - 1)
