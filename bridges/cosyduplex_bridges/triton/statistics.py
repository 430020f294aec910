"""What `ModelStatistics` tells: how many utterances, and where their time went."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cosyduplex_bridges.grpc_stubs import kserve_pb2 as kserve


@dataclass(slots=True)
class Stopwatch:
    """The time of one utterance, in nanoseconds.

    Attributes:
        began: it came in.
        started: its turn came.
        opened: its inputs were read and an utterance was open.
        output_ns: spent waiting for the client to take what was made.
    """

    began: int = field(default_factory=time.monotonic_ns)
    started: int = 0
    opened: int = 0
    output_ns: int = 0

    def start(self) -> None:
        """Its turn has come."""
        self.started = time.monotonic_ns()

    def open(self) -> None:
        """It can be spoken."""
        self.opened = time.monotonic_ns()


@dataclass(slots=True)
class _Total:
    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += max(ns, 0)

    @property
    def message(self) -> kserve.StatisticDuration:
        return kserve.StatisticDuration(count=self.count, ns=self.ns)


class Statistics:
    """Those of one model, since the server started."""

    def __init__(self) -> None:
        self._success, self._fail = _Total(), _Total()
        self._queue, self._input, self._infer, self._output = _Total(), _Total(), _Total(), _Total()
        self._last_ms = 0

    def succeeded(self, watch: Stopwatch) -> None:
        """Counts an utterance that was spoken to its end."""
        now = time.monotonic_ns()
        self._last_ms = time.time_ns() // 1_000_000
        self._success.add(now - watch.began)
        self._queue.add(watch.started - watch.began)
        self._input.add(watch.opened - watch.started)
        self._infer.add(now - watch.opened - watch.output_ns)
        self._output.add(watch.output_ns)

    def failed(self, watch: Stopwatch) -> None:
        """Counts one that was refused, broke off or was cancelled."""
        self._last_ms = time.time_ns() // 1_000_000
        self._fail.add(time.monotonic_ns() - watch.began)

    def message(self, name: str, version: str) -> kserve.ModelStatistics:
        """What `ModelStatistics` answers."""
        compute = {
            "compute_input": self._input.message,
            "compute_infer": self._infer.message,
            "compute_output": self._output.message,
        }
        nothing = kserve.StatisticDuration()
        count = self._success.count
        return kserve.ModelStatistics(
            name=name,
            version=version,
            last_inference=self._last_ms,
            inference_count=count,
            execution_count=count,
            inference_stats=kserve.InferStatistics(
                success=self._success.message,
                fail=self._fail.message,
                queue=self._queue.message,
                cache_hit=nothing,
                cache_miss=nothing,
                **compute,
            ),
            batch_stats=[kserve.InferBatchStatistics(batch_size=1, **compute)] if count else [],
        )
