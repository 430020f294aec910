"""Streaming sample-rate conversion that gives the same bytes however its input is cut.

A polyphase FIR: output sample n lies at input time n * in / out and is a weighted sum of the input
samples less than `delay_ms` away from it. The weights repeat with the ratio's period, so a block of
whole periods is one row of a matrix product. Weights are integers; every product and partial sum is
then an integer below 2**53 and exact in float64, so neither the order in which a BLAS adds, nor fused
operations, nor the chunking can change a bit.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

# Half the filter's length, and so the audio it holds back. With the two constants below, tones are kept
# within 80 dB up to 0.9 kHz below half the lower rate, are 3 dB down 0.5 kHz below it, and stopped by
# 66 dB from it on: at 8 kHz the telephone band (3.4 kHz) survives.
_HALF_LENGTH_MS: Final = 2.8
_KAISER_BETA: Final = 8.5
_CUTOFF_MARGIN: Final = 1.25
_WEIGHT_BITS: Final = 30
_MAX_TABLE_WEIGHTS: Final = 1 << 20

_Samples = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Filter:
    """One block: `context + block_in` input samples times `table` are `block_out` output samples."""

    up: int
    down: int
    half: int
    block_in: int
    block_out: int
    table: _Samples

    @property
    def context(self) -> int:
        """Input samples a block needs beside its own: `half - 1` before them, `half` after."""
        return 2 * self.half - 1


class Resampler:
    """Converts one mono s16le stream between sample rates, bit-exact under any chunking.

    Output is aligned in time with the input (the filter's delay is taken out, not added): sample n of
    the output is heard at n / out_hz. At most `delay_samples` of input are held back. Equal rates pass
    the bytes through.

    Args:
        in_hz: Sample rate of what `process` takes.
        out_hz: Sample rate of what it gives.

    Raises:
        ValueError: A rate is not positive, or the ratio's period is too long to tabulate.
    """

    def __init__(self, in_hz: int, out_hz: int) -> None:
        self._filter = None if in_hz == out_hz else _design(in_hz, out_hz)
        self._in_hz = in_hz
        self._num_in = 0
        self._num_out = 0
        # Input from `half - 1` samples before the block that holds the next output sample.
        lead = self._filter.half - 1 if self._filter else 0
        self._held: _Samples = np.zeros(lead)

    @property
    def delay_samples(self) -> int:
        """Input samples that must follow a moment before its output is given."""
        return self._filter.half if self._filter else 0

    @property
    def delay_ms(self) -> float:
        """`delay_samples` as time."""
        return self.delay_samples * 1000 / self._in_hz

    def process(self, pcm: bytes) -> bytes:
        """Takes the next samples and gives every output sample they complete.

        Raises:
            ValueError: `pcm` does not hold whole 16-bit samples.
        """
        if len(pcm) % 2:
            raise ValueError(f"{len(pcm)} bytes are not whole 16-bit samples")
        if self._filter is None:
            return pcm
        samples = np.frombuffer(pcm, "<i2")
        self._num_in += len(samples)
        self._held = np.concatenate((self._held, samples))
        known = self._num_in - self._filter.half
        return self._emit(self._filter, _ceil_div(known * self._filter.up, self._filter.down))

    def flush(self) -> bytes:
        """Gives the output up to the input's end as if silence followed; the stream may go on.

        In total num_in * out_hz / in_hz samples have then been given, rounded half up.
        """
        if self._filter is None:
            return b""
        up, down = self._filter.up, self._filter.down
        return self._emit(self._filter, (2 * self._num_in * up + down) // (2 * down))

    def finish(self) -> bytes:
        """Gives the tail of a stream that has ended: see `flush`, which it is by another name."""
        return self.flush()

    def _emit(self, design: _Filter, end: int) -> bytes:
        """Computes output samples from the first not yet given up to `end`."""
        if end <= self._num_out:
            return b""
        skip = self._num_out % design.block_out
        num_blocks = _ceil_div(skip + end - self._num_out, design.block_out)
        # What is not known yet counts as silence; samples that it touches lie beyond `end`.
        padded = np.zeros(design.context + num_blocks * design.block_in)
        known = self._held[: len(padded)]
        padded[: len(known)] = known
        blocks = np.lib.stride_tricks.sliding_window_view(padded, design.context + design.block_in)
        exact = np.ascontiguousarray(blocks[:: design.block_in]) @ design.table
        out = exact.reshape(-1)[skip : skip + end - self._num_out]
        self._held = self._held[(skip + len(out)) // design.block_out * design.block_in :]
        self._num_out = end
        scaled = np.rint(out * 2.0**-_WEIGHT_BITS)
        return np.clip(scaled, -32768, 32767).astype("<i2").tobytes()


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


@functools.cache
def _design(in_hz: int, out_hz: int) -> _Filter:
    if in_hz <= 0 or out_hz <= 0:
        raise ValueError(f"sample rates must be positive, not {in_hz} and {out_hz}")
    divisor = math.gcd(in_hz, out_hz)
    up, down = out_hz // divisor, in_hz // divisor
    half = math.ceil(in_hz * _HALF_LENGTH_MS / 1000)
    # A block much shorter than the filter would make the product all overlap.
    periods = max(1, round(half / down))
    block_in, block_out = down * periods, up * periods
    span = 2 * half - 1 + block_in
    if span * block_out > _MAX_TABLE_WEIGHTS:
        raise ValueError(f"cannot convert {in_hz} Hz to {out_hz} Hz: no short whole-number ratio")
    out_times = np.arange(block_out, dtype=np.float64) * (down / up)
    in_times = np.arange(span, dtype=np.float64) - (half - 1)
    weights = _kernel(out_times[None, :] - in_times[:, None], half, in_hz, out_hz)
    table = np.rint(weights / weights.sum(axis=0) * 2.0**_WEIGHT_BITS)
    table.setflags(write=False)
    return _Filter(up, down, half, block_in, block_out, table)


def _kernel(time: _Samples, half: int, in_hz: int, out_hz: int) -> _Samples:
    """The low-pass as a function of time in input samples: a sinc under a Kaiser window."""
    cutoff = min(in_hz, out_hz) / in_hz - 2 * _CUTOFF_MARGIN / half
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0.0, 1 - (time / half) ** 2)))
    kernel: _Samples = np.where(np.abs(time) < half, np.sinc(cutoff * time) * window, 0.0)
    return kernel
