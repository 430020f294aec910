"""Every metric: name, help, labels, buckets. No label ever holds user text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_TTFA_BUCKETS_S = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10)
_TOTAL_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300, 600, 3600)
_STAGE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_RTF_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 3)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.sessions = Gauge("cosyduplex_sessions", "Open sessions", registry=registry)
        self.contexts = Gauge("cosyduplex_contexts", "Open contexts", registry=registry)
        self.requests = Counter(
            "cosyduplex_requests", "Contexts by how they ended", ("door", "outcome"), registry=registry
        )
        self.ttfa = Histogram(
            "cosyduplex_ttfa_seconds",
            "First text taken to first frame handed to the socket",
            ("door",),
            buckets=_TTFA_BUCKETS_S,
            registry=registry,
        )
        self.total = Histogram(
            "cosyduplex_total_seconds",
            "First text taken to the end of a context",
            ("door",),
            buckets=_TOTAL_BUCKETS_S,
            registry=registry,
        )
        self.stage = Histogram(
            "cosyduplex_stage_seconds",
            "Time in one stage of one context",
            ("stage",),
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        self.encode_stage = self.stage.labels("encode")
        self.rtf = Histogram(
            "cosyduplex_rtf",
            "Engine time over audio made, of one context",
            buckets=_RTF_BUCKETS,
            registry=registry,
        )
        self.underruns = Counter(
            "cosyduplex_underruns",
            "Times a listener ran dry, by what was missing",
            ("cause",),
            registry=registry,
        )
        self.audio_seconds = Counter("cosyduplex_audio_seconds", "Audio sent", registry=registry)
        self.characters = Counter("cosyduplex_characters", "Characters appended", registry=registry)
        self.engine_batch_size = Histogram(
            "cosyduplex_engine_batch_size",
            "Contexts in one engine step",
            ("stage",),
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
            registry=registry,
        )
        self.engine_restarts = Counter(
            "cosyduplex_engine_restarts", "Engine workers started again", registry=registry
        )
        self.engine_slots = Gauge(
            "cosyduplex_engine_slots", "Contexts the engine can hold", ("state",), registry=registry
        )
        self.full = Gauge("cosyduplex_full", "1 while a new context would be refused", registry=registry)
        self.gpu_memory = Gauge("cosyduplex_gpu_memory_bytes", "GPU memory in use", registry=registry)
        self.feedback = Histogram(
            "cosyduplex_feedback_score",
            "Listeners' scores",
            buckets=(1, 2, 3, 4, 5),
            registry=registry,
        )
        for cause in ("text", "compute", "gateway"):
            self.underruns.labels(cause)

    def context_ended(self, door: str, outcome: str, num_chars: int, sent_ms: float) -> None:
        """Counts a context that is over."""
        self.contexts.dec()
        self.requests.labels(door, outcome).inc()
        self.characters.inc(num_chars)
        self.audio_seconds.inc(sent_ms / 1000)
