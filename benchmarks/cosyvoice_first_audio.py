"""How soon CosyVoice2 is heard, and where the time goes: one stream on one device, then batches.

From the moment all text of the first unit is there (the voice's prompt of 3.5 s, trimmed as the engine trims it, has
been computed before) to the first samples in main memory, by stage; then a stream of half a minute, chunks of the flow
behind longer and longer speech, batches, and on CUDA a profile of each stage: kernels, and how much of the time the
device does nothing. Weights are random numbers of the released sizes, made on the device: they cost what trained ones
cost, and never end their speech.

The models and the engine's own runner are driven by a small loop in the engine's order. Requests, marks and the link
are not in it.

On a machine with a GPU, from the repository's root; nothing but the repository, PyTorch and NumPy is needed:

    PYTHONPATH=server:protocol python3 benchmarks/cosyvoice_first_audio.py \\
        --device cuda --dtype bfloat16 --json "$OUT/cosyvoice_first_audio.json"

Times of a CPU say nothing about a GPU: there, only the operators that each stage calls are counted, in 15 s and 3 GB,
unless `--times` is given, and then the result says what the times are worth.

    .venv/bin/python benchmarks/cosyvoice_first_audio.py --dtype bfloat16 \\
        --json benchmarks/results/cosyvoice_operators.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import torch
from flow_count import chunk_work
from random_models import SIZES, RandomModels, random_models
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cosyduplex_server.engine.cosyvoice import runner as runner_module
from cosyduplex_server.engine.cosyvoice.flow_plan import Chunk, FlowSequence, num_prefix_chunks
from cosyduplex_server.engine.cosyvoice.interleave import Feed, Interleave, Mode
from cosyduplex_server.engine.cosyvoice.runner import (
    FIRST_FLOW_BLOCK,
    FIRST_LM_BLOCK,
    FIRST_SLOT,
    LM_BLOCK_ROWS,
    FlowWork,
    LMWork,
    Memory,
    Runner,
    VocoderWork,
)
from cosyduplex_server.models.config import (
    CHUNK_FRAMES,
    CHUNK_TOKENS,
    FRAMES_PER_TOKEN,
    LOOKAHEAD_TOKENS,
    MEL_CHANNELS,
    SAMPLE_RATE_HZ,
    SPEAKER_CHANNELS,
)
from cosyduplex_server.models.phases import Phase
from cosyduplex_server.models.vocoder_stream import VocoderState, VocoderStream

RECORDING_TOKENS = 87  # 3.5 s
FLOW_PROMPT_TOKENS = 65  # what the engine leaves of them for a first hop of 10 tokens
PROMPT_TEXT_TOKENS = 22
TEXT_TOKENS = 12
CONTEXT_SECONDS = (1, 5, 10, 30)
LM_ROWS = (128, 512, 2048)
LM_BATCHES = (1, 4, 16, 64)
FLOW_BATCHES = (1, 2, 4, 8, 16)
BATCH_ROWS, BATCH_SECONDS = 256, 5
PROFILED_CALLS = 5
PREPARED_SECONDS = 80  # of positions; a stream may be longer


# --- one stream --------------------------------------------------------------------------------------


class TimedStream(VocoderStream):
    """Notes when the vocoder's last window was ready, which the runner goes on to copy."""

    ready_s = 0.0

    def push(
        self, states: Sequence[VocoderState], mels_TC: Sequence[Tensor], final: Sequence[bool]
    ) -> list[Tensor]:
        wavs_N = super().push(states, mels_TC, final)
        if wavs_N[0].device.type == "cuda":
            torch.cuda.synchronize(wavs_N[0].device)
        self.ready_s = perf_counter()
        return wavs_N


class Bench:
    """A runner with random models, a voice whose prompt has been computed, and blocks to give out."""

    def __init__(self, models: RandomModels, device: torch.device, seconds: int) -> None:
        self.models, self.config, self.device = models, models.config, device
        rows = 1 + PROMPT_TEXT_TOKENS + RECORDING_TOKENS + (CHUNK_TOKENS + 2) * seconds + 2 * LM_BLOCK_ROWS
        self.lm_table = tuple(range(FIRST_LM_BLOCK, FIRST_LM_BLOCK + max(rows, 2049) // LM_BLOCK_ROWS + 1))
        batch_blocks = LM_BATCHES[-1] * (BATCH_ROWS // LM_BLOCK_ROWS + 1)
        first = FIRST_FLOW_BLOCK
        count = num_prefix_chunks(FLOW_PROMPT_TOKENS) + max(seconds, CONTEXT_SECONDS[-1]) + 4
        self.flow_blocks = tuple(range(first, first + count))
        self.batch_block = first + count  # and those after it: one for each sequence of a batch
        self.prefix_slot, self.slot = FIRST_SLOT, FIRST_SLOT + 1
        made: list[TimedStream] = []

        def make_stream(*args: Any, **kwargs: Any) -> TimedStream:
            made.append(TimedStream(*args, **kwargs))
            return made[-1]

        with patch.object(runner_module, "VocoderStream", make_stream):
            self.runner = Runner(
                models.config,
                models.lm,
                models.flow,
                models.vocoder,
                Memory(
                    num_lm_blocks=self.lm_table[-1] + 1 + batch_blocks,
                    num_slots=self.slot + FLOW_BATCHES[-1],
                    num_flow_blocks=self.batch_block + FLOW_BATCHES[-1],
                    num_prefixes=1,
                ),
            )
        (self.vocoder,) = made
        models.flow.prepare(PREPARED_SECONDS * CHUNK_FRAMES)
        self._generator = torch.Generator().manual_seed(1)
        self.prompt_text = self.draw(self.config.lm.text_vocab, PROMPT_TEXT_TOKENS)
        self.recording = self.draw(self.config.lm.speech_tokens, RECORDING_TOKENS)
        self._compute_prefix()

    def draw(self, below: int, count: int) -> list[int]:
        return torch.randint(below, (count,), generator=self._generator).tolist()

    def _compute_prefix(self) -> None:
        self.flow_prompt = self.recording[RECORDING_TOKENS - FLOW_PROMPT_TOKENS :]
        mel = torch.randn(FRAMES_PER_TOKEN * FLOW_PROMPT_TOKENS, MEL_CHANNELS, generator=self._generator)
        embedding = torch.randn(SPEAKER_CHANNELS, generator=self._generator)
        self.voice = self.runner.flow_prompt(embedding, mel)
        self.prefix = self.flow_blocks[: num_prefix_chunks(FLOW_PROMPT_TOKENS)]
        self.runner.begin_flow(self.prefix_slot)
        for index, block in enumerate(self.prefix):
            stop = CHUNK_TOKENS * (index + 1)
            chunk = Chunk(
                index=index,
                tokens=tuple(self.flow_prompt[stop - CHUNK_TOKENS : stop]),
                lookahead=tuple(self.flow_prompt[stop : stop + LOOKAHEAD_TOKENS]),
                num_prompt_frames=CHUNK_FRAMES,
                is_last=False,
            )
            self.runner.step_flow([self.flow_work(chunk, self.prefix_slot, self.prefix[:index], block)])
        self.runner.wait()

    def flow_work(self, chunk: Chunk, slot: int, table: Sequence[int], block: int) -> FlowWork:
        return FlowWork(chunk, self.voice, slot, tuple(table), block, chunk.index * CHUNK_FRAMES)


@dataclass
class Times:
    """Of one stream, in ms: from when its text was there to its first samples, and of each later step."""

    first: dict[str, float] = field(default_factory=dict)
    lm: list[float] = field(default_factory=list)
    flow: list[float] = field(default_factory=list)
    vocoder: list[float] = field(default_factory=list)
    copy: list[float] = field(default_factory=list)
    total: float = 0.0
    samples: int = 0


class Stream:
    """One utterance, its text known from the start."""

    def __init__(self, bench: Bench, mode: Mode, text_tokens: int) -> None:
        self._bench = bench
        self._text = bench.draw(bench.config.lm.text_vocab, text_tokens)
        self._mode: Mode = mode
        self._rows = self._draws = 0
        self._table = list(bench.prefix)
        self._sequence = FlowSequence(bench.flow_prompt)
        self._vocoder = bench.runner.new_vocoder(bench.slot, 1, 1.0)

    def speak(self, samples: int) -> Times:
        """Makes at least so many samples, and stops."""
        times, began = Times(), perf_counter()
        machine = Interleave(
            self._bench.config.lm, self._bench.prompt_text, self._bench.recording, self._mode
        )
        machine.append(self._text)
        machine.end()
        while times.samples < samples:
            if self._sequence.is_ready:
                self._chunk(times, began)
            at = perf_counter()
            feed = machine.next()
            assert feed is not None, "the text is too short for so much speech"
            token = machine.take(self._draw(feed, machine))
            times.lm.append(_ms(at))
            if token is not None:
                self._sequence.append(token)
        times.total = _ms(began)
        return times

    def _draw(self, feed: Feed, machine: Interleave) -> int:
        bench = self._bench
        length = self._rows + len(feed.rows)
        table = bench.lm_table[: -(-length // LM_BLOCK_ROWS)]
        history = tuple(machine.history)
        work = LMWork(feed.rows, self._rows, table, feed.phase, history, seed=7, step=self._draws)
        self._rows, self._draws = length, self._draws + 1
        return bench.runner.step_lm([work])[0]

    def _chunk(self, times: Times, began: float) -> None:
        bench, runner, at = self._bench, self._bench.runner, perf_counter()
        if len(self._table) == len(bench.prefix):
            runner.begin_flow(bench.slot, bench.prefix_slot)
        chunk, block = self._sequence.peek(), bench.flow_blocks[len(self._table)]
        (mel_FC,) = runner.step_flow([bench.flow_work(chunk, bench.slot, self._table, block)])
        self._table.append(block)
        self._sequence.advance()
        runner.wait()
        times.flow.append(_ms(at))
        at = perf_counter()
        (pcm,) = runner.vocode([VocoderWork(self._vocoder, mel_FC, False, 1.0)])
        done = perf_counter()
        times.vocoder.append((bench.vocoder.ready_s - at) * 1000)
        times.copy.append((done - bench.vocoder.ready_s) * 1000)
        if pcm and not times.first:
            times.first = {
                "lm_prefill": times.lm[0],
                "lm_steps": sum(times.lm[1:]),
                "flow_chunk": times.flow[0],
                "vocoder": times.vocoder[0],
                "copy": times.copy[0],
                "first_audio": (done - began) * 1000,
                "num_lm_forwards": len(times.lm),
                "audio": len(pcm) / 2 / SAMPLE_RATE_HZ * 1000,
            }
        times.samples += len(pcm) // 2


def _ms(since_s: float) -> float:
    return (perf_counter() - since_s) * 1000


# --- stages by themselves ----------------------------------------------------------------------------


class Stages:
    """Each stage as one call that waits for its end, in the shapes it has in the middle of a stream."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._tokens = tuple(bench.draw(bench.config.lm.speech_tokens, CHUNK_TOKENS))

    def lm_prefill(self) -> None:
        lm = self._bench.config.lm
        rows = [*range(PROMPT_TEXT_TOKENS + TEXT_TOKENS + 2), *map(lm.speech_row, self._bench.recording)]
        self._bench.runner.step_lm([self._lm_work(tuple(rows), 0, self._bench.lm_table, 0)])

    def lm_step(self, rows: int = BATCH_ROWS, batch: int = 1) -> None:
        bench, blocks = self._bench, rows // LM_BLOCK_ROWS + 1
        row = (bench.config.lm.speech_row(5),)
        if batch == 1:
            works = [self._lm_work(row, rows, bench.lm_table, 0)]
        else:
            first = bench.lm_table[-1] + 1
            tables = [range(first + blocks * place, first + blocks * (place + 1)) for place in range(batch)]
            works = [self._lm_work(row, rows, table, place) for place, table in enumerate(tables)]
        bench.runner.step_lm(works)

    def _lm_work(self, rows: tuple[int, ...], position: int, table: Sequence[int], seed: int) -> LMWork:
        blocks = (position + len(rows) - 1) // LM_BLOCK_ROWS + 1
        return LMWork(rows, position, tuple(table[:blocks]), Phase.NO_EOS, (), seed, step=position)

    def flow_chunk(self, context_s: int = BATCH_SECONDS, batch: int = 1) -> None:
        bench = self._bench
        chunk = Chunk(context_s, self._tokens, self._tokens[:LOOKAHEAD_TOKENS], 0, is_last=False)
        table = bench.flow_blocks[:context_s]
        bench.runner.step_flow(
            [
                bench.flow_work(chunk, bench.slot + place, table, bench.batch_block + place)
                for place in range(batch)
            ]
        )
        bench.runner.wait()

    def vocoder_windows(self, batch: int = 1) -> Callable[[], None]:
        """A call for the next window of each of so many utterances."""
        bench = self._bench
        mel_FC = torch.randn(CHUNK_FRAMES, MEL_CHANNELS, generator=torch.Generator().manual_seed(2))
        mel_FC = mel_FC.to(bench.device)
        states = [bench.runner.new_vocoder(bench.slot + place, place, 1.0) for place in range(batch)]

        def push() -> None:
            bench.runner.vocode([VocoderWork(state, mel_FC, False, 1.0) for state in states])

        push()  # the first window of an utterance is a shorter one
        return push


def timed(call: Callable[[], None], repeats: int) -> dict[str, float]:
    """Median and 95th percentile in ms, after three calls that do not count."""
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        at = perf_counter()
        call()
        times.append(_ms(at))
    return spread(times)


def spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    rank = min(len(ordered) - 1, -(-95 * len(ordered) // 100) - 1)
    return {"median": round(statistics.median(ordered), 3), "p95": round(ordered[rank], 3)}


# --- profile -----------------------------------------------------------------------------------------


def profiled(call: Callable[[], None], wall_ms: float) -> dict[str, Any]:
    """What one call asks of the device; `wall_ms` is how long it takes when nobody looks."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(PROFILED_CALLS):
            call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return device_activity(events, PROFILED_CALLS, wall_ms)


def device_activity(events: Sequence[dict[str, Any]], calls: int, wall_ms: float) -> dict[str, Any]:
    """Figures for one call from a trace of several.

    `idle_share` is the part of the call's own time, unprofiled, in which nothing runs on the device.
    """
    work = [event for event in events if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    kernels = [event for event in work if event["cat"] == "kernel"]
    waits = [event for event in events if str(event.get("name", "")).endswith("Synchronize")]
    busy_ms = busy_us(work) / 1000 / calls
    by_name: dict[str, list[float]] = {}
    for event in kernels:
        by_name.setdefault(event["name"], []).append(event["dur"])
    largest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:8]
    return {
        "wall_ms": round(wall_ms, 3),
        "busy_ms": round(busy_ms, 3),
        "idle_share": round(max(0.0, 1 - busy_ms / wall_ms), 3),
        "kernels": round(len(kernels) / calls, 1),
        "copies_and_fills": round((len(work) - len(kernels)) / calls, 1),
        "waits": round(len(waits) / calls, 1),
        "mean_kernel_us": round(sum(event["dur"] for event in kernels) / max(1, len(kernels)), 2),
        "largest": [
            {"name": name[:90], "calls": round(len(us) / calls, 1), "ms": round(sum(us) / 1000 / calls, 3)}
            for name, us in largest
        ],
    }


def busy_us(events: Sequence[dict[str, Any]]) -> float:
    """How long at least one of the events was running."""
    total, end = 0.0, float("-inf")
    for begin, stop in sorted((event["ts"], event["ts"] + event["dur"]) for event in events):
        total += max(0.0, stop - max(begin, end))
        end = max(end, stop)
    return total


# --- operators ---------------------------------------------------------------------------------------


class OperatorCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts PyTorch's operators that compute or copy: views and empty allocations are not among them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_name: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # In inference mode operators arrive before they are taken apart.
        with self:
            result = func.decompose(*args, **(kwargs or {}))
        if result is not NotImplemented:
            return result
        if not func.is_view and func._schema.name not in NOT_COMPUTED:
            self.by_name[func._schema.name.removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


NOT_COMPUTED = frozenset(
    {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::detach"}
    | {"aten::_local_scalar_dense", "aten::_reshape_alias", "aten::_unsafe_view", "aten::lift_fresh"}
)


def operators(bench: Bench) -> dict[str, Any]:
    """Of each stage of one stream: on a GPU at least so many launches, but for those of views.

    They do not depend on the device, so they can be counted on a CPU.
    """
    stages = Stages(bench)
    calls = {
        "lm_prefill": stages.lm_prefill,
        "lm_step": stages.lm_step,
        "flow_chunk": stages.flow_chunk,
        "vocoder_window_and_copy": stages.vocoder_windows(),
    }
    found: dict[str, Any] = {}
    by_name = {}
    for name, call in calls.items():
        with OperatorCount() as counter:
            call()
        found[name] = counter.by_name.total()
        by_name[name] = dict(counter.by_name.most_common(10))
    second = CHUNK_TOKENS * found["lm_step"] + found["flow_chunk"] + found["vocoder_window_and_copy"]
    return found | {"second_of_speech": second, "most": by_name}


# --- the whole ---------------------------------------------------------------------------------------


def measure(models: RandomModels, device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    bench = Bench(models, device, options.seconds)
    counted = {"operators": operators(bench), "memory": memory(models, device)}
    if device.type == "cpu" and not options.times:
        return counted
    return counted | {
        "first_audio_ms": first_audio(bench, options),
        "stream": stream(bench, options),
        **by_itself(bench, options.repeats),
        "batches": batches(bench, options.repeats),
        "profile": profile(bench, options.repeats) if device.type == "cuda" else None,
    }


def first_audio(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Requests one after the other, each to its first samples."""
    found: dict[str, list[float]] = {}
    for number in range(options.warm_up + options.requests):
        first = Stream(bench, options.mode, TEXT_TOKENS).speak(samples=1).first
        if number >= options.warm_up:
            for stage, ms in first.items():
                found.setdefault(stage, []).append(ms)
    exact = ("num_lm_forwards", "audio")
    return {stage: values[0] if stage in exact else spread(values) for stage, values in found.items()} | {
        "requests": options.requests
    }


def stream(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """One long utterance, the second of two, so that every length has been seen before."""
    text = options.seconds * 2 + 4
    for _ in range(2):
        times = Stream(bench, options.mode, text).speak(options.seconds * SAMPLE_RATE_HZ)
    audio_ms = times.samples / SAMPLE_RATE_HZ * 1000
    parts = {"lm": times.lm, "flow": times.flow, "vocoder": times.vocoder, "copy": times.copy}
    return {
        "seconds": round(audio_ms / 1000, 2),
        "real_time_factor": round(times.total / audio_ms, 4),
        "share_of_time": {part: round(sum(values) / times.total, 3) for part, values in parts.items()},
        "lm_step_ms": spread(times.lm[1:]),
        "flow_chunk_ms": spread(times.flow[1:]),
        "vocoder_window_ms": spread(times.vocoder[1:]),
        "copy_ms": spread(times.copy[1:]),
    }


def by_itself(bench: Bench, repeats: int) -> dict[str, Any]:
    """Steps of one stream by the length of what came before."""
    stages, flow = Stages(bench), bench.config.flow
    return {
        "lm_step_ms_by_rows": {str(rows): timed(partial(stages.lm_step, rows), repeats) for rows in LM_ROWS},
        "flow_chunk_by_context_s": {
            str(seconds): {
                "gflop": round(chunk_work(flow, CHUNK_TOKENS, seconds).total / 1e9, 1),
                "ms": timed(partial(stages.flow_chunk, seconds), repeats),
            }
            for seconds in CONTEXT_SECONDS
        },
    }


def batches(bench: Bench, repeats: int) -> dict[str, Any]:
    """The same steps for several streams at once; ms of the whole batch."""
    stages = Stages(bench)
    return {
        "lm_step_ms": {
            str(size): timed(partial(stages.lm_step, BATCH_ROWS, size), repeats) for size in LM_BATCHES
        },
        "flow_chunk_ms": {
            str(size): timed(partial(stages.flow_chunk, BATCH_SECONDS, size), repeats)
            for size in FLOW_BATCHES
        },
        "vocoder_and_copy_ms": {
            str(size): timed(stages.vocoder_windows(size), repeats) for size in FLOW_BATCHES
        },
        "rows": BATCH_ROWS,
        "context_s": BATCH_SECONDS,
    }


def profile(bench: Bench, repeats: int) -> dict[str, Any]:
    """What each stage of one stream, of a batch, and of a second of speech asks of the device."""
    stages = Stages(bench)
    found = {
        name: profiled(call, timed(call, repeats)["median"])
        for name, call in (
            ("lm_prefill", stages.lm_prefill),
            ("lm_step", stages.lm_step),
            (f"lm_step_of_{LM_BATCHES[-1]}", partial(stages.lm_step, BATCH_ROWS, LM_BATCHES[-1])),
            ("flow_chunk", stages.flow_chunk),
            (
                f"flow_chunk_of_{FLOW_BATCHES[-1]}",
                partial(stages.flow_chunk, BATCH_SECONDS, FLOW_BATCHES[-1]),
            ),
            ("vocoder_window_and_copy", stages.vocoder_windows()),
        )
    }
    found["second_of_speech"] = second_of_speech(found)
    return found


def second_of_speech(found: dict[str, Any]) -> dict[str, Any]:
    """25 tokens, one chunk, one window."""
    calls = {"lm_step": CHUNK_TOKENS, "flow_chunk": 1, "vocoder_window_and_copy": 1}
    keys = ("wall_ms", "busy_ms", "kernels", "copies_and_fills", "waits")
    total = {key: round(sum(count * found[name][key] for name, count in calls.items()), 3) for key in keys}
    return total | {
        "idle_share": round(max(0.0, 1 - total["busy_ms"] / total["wall_ms"]), 3),
        "mean_kernel_us": round(1000 * total["busy_ms"] / max(1, total["kernels"]), 2),
    }


def memory(models: RandomModels, device: torch.device) -> dict[str, Any]:
    """Bytes: of the weights a step reads, and of what a stream adds."""
    parts = {"lm": models.lm, "flow": models.flow, "vocoder": models.vocoder}
    found: dict[str, Any] = {
        f"{name}_weights_mb": round(sum(_bytes(w) for w in module.parameters()) / 1e6, 1)
        for name, module in parts.items()
    }
    found["lm_embedding_mb"] = round(_bytes(models.lm.embedding.weight) / 1e6, 1)
    found["flow_mb_per_s_of_speech"] = round(Runner.flow_bytes(models.flow)[0] / 1e6, 1)
    if device.type == "cuda":
        found["most_allocated_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    return found


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def described(device: torch.device) -> dict[str, Any]:
    """Where it ran, and whether the times may be shown to anybody."""
    on_gpu = device.type == "cuda"
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} threads",
        "times_mean_something": on_gpu,
        "note": "" if on_gpu else "Times of a CPU: they show that this runs, and nothing else.",
        "tf32": {
            "matrix_products": torch.get_float32_matmul_precision() != "highest",
            "convolutions": torch.backends.cudnn.allow_tf32,
        },
    }


def report(result: dict[str, Any]) -> Iterator[str]:
    """The figures that matter most, for whoever looks on."""
    yield f"{result['device']}, {result['dtype']}, sizes {result['sizes']}"
    counts = {name: count for name, count in result["operators"].items() if name != "most"}
    yield f"  operators: {counts}"
    if "first_audio_ms" not in result:
        return
    first = result["first_audio_ms"]
    stages = ("lm_prefill", "lm_steps", "flow_chunk", "vocoder", "copy", "first_audio")
    for stage in stages:
        yield f"  {stage:12} {first[stage]['median']:9.2f} ms   p95 {first[stage]['p95']:9.2f} ms"
    yield f"  stream: RTF {result['stream']['real_time_factor']}, {result['stream']['share_of_time']}"
    for name, row in (result["profile"] or {}).items():
        yield (
            f"  {name:24} {row['kernels']:7.0f} kernels of {row['mean_kernel_us']:6.1f} us,"
            f" busy {row['busy_ms']:8.2f} of {row['wall_ms']:8.2f} ms, idle {100 * row['idle_share']:3.0f} %"
        )


def options_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", choices=sorted(SIZES), default="full", help="full: CosyVoice2-0.5B (full)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--mode", choices=("uni", "bi"), default="uni", help="of the speech LM (uni)")
    parser.add_argument("--requests", type=int, default=50, help="timed to their first audio (50)")
    parser.add_argument("--warm-up", type=int, default=5, help="requests before them (5)")
    parser.add_argument("--seconds", type=int, default=30, help="of the long stream (30)")
    parser.add_argument("--repeats", type=int, default=30, help="of each step by itself (30)")
    parser.add_argument("--times", action="store_true", help="measures times on a CPU too")
    parser.add_argument("--json", type=Path, help="write the result here")
    return parser


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Makes the models and measures them."""
    device = torch.device(options.device)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[options.dtype]
    models = random_models(SIZES[options.sizes](), dtype, device)
    return {
        "sizes": options.sizes,
        "dtype": options.dtype,
        "mode": options.mode,
        **described(device),
        **measure(models, device, options),
    }


def main() -> None:
    options = options_parser().parse_args()
    if torch.device(options.device).type == "cpu":
        torch.set_num_threads(1)
    result = run(options)
    print("\n".join(report(result)))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
