"""The benchmark of the first audio measures what it says, and its models are made as loaded ones are."""

from __future__ import annotations

import json
import warnings
from types import ModuleType
from typing import Any

import pytest
import torch
from cosyvoice.conftest import REPOSITORY
from cosyvoice.tiny_checkpoint import tiny_config, write_tiny_checkpoint

from cosyduplex_server.engine.cosyvoice.checkpoint import Checkpoint
from cosyduplex_server.engine.cosyvoice.loading import load_models
from cosyduplex_server.engine.cosyvoice.voice import DEFAULT_FIRST_HOP_TOKENS, first_packet, trim

TRACE = [
    {"cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 5000},
    {"cat": "cuda_runtime", "name": "cudaStreamSynchronize", "ts": 900, "dur": 5},
    {"cat": "kernel", "name": "gemm", "ts": 100, "dur": 200},
    {"cat": "kernel", "name": "gemm", "ts": 250, "dur": 100},  # half of it beside the first
    {"cat": "kernel", "name": "add", "ts": 700, "dur": 50},
    {"cat": "gpu_memcpy", "name": "Memcpy DtoH", "ts": 800, "dur": 100},
    {"cat": "kernel", "name": "add", "ts": 820, "dur": 10},  # inside the copy
]


@pytest.fixture(scope="module", autouse=True)
def _benchmarks() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "benchmarks")
        yield


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    import cosyvoice_first_audio

    return cosyvoice_first_audio


@pytest.fixture(scope="module")
def result(benchmark: ModuleType) -> dict[str, Any]:
    options = "--sizes tiny --times --requests 2 --warm-up 1 --seconds 3 --repeats 1".split()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "CONTEXT_SECONDS", (1, 4))
        patch.setattr(benchmark, "LM_BATCHES", (1, 3))
        patch.setattr(benchmark, "FLOW_BATCHES", (1, 3))
        found: dict[str, Any] = benchmark.run(benchmark.options_parser().parse_args(options))
    return found


def test_its_prompt_is_trimmed_as_the_engine_trims_it(benchmark: ModuleType) -> None:
    dropped = trim(benchmark.RECORDING_TOKENS, DEFAULT_FIRST_HOP_TOKENS)
    assert benchmark.RECORDING_TOKENS - dropped == benchmark.FLOW_PROMPT_TOKENS


def test_the_first_audio_is_what_the_engine_promises_of_such_a_voice(benchmark, result) -> None:
    first = result["first_audio_ms"]
    packet = first_packet(benchmark.FLOW_PROMPT_TOKENS)
    assert (first["num_lm_forwards"], first["audio"]) == (packet.tokens, packet.audio_ms)


def test_the_stages_are_parts_of_the_time_to_the_first_audio(result) -> None:
    first = result["first_audio_ms"]
    stages = ("lm_prefill", "lm_steps", "flow_chunk", "vocoder", "copy")
    assert all(first[stage]["median"] > 0 for stage in stages)
    # Of two requests the medians are means, and add up.
    assert sum(first[stage]["median"] for stage in stages) <= first["first_audio"]["median"] + 0.01


def test_times_of_a_cpu_are_not_for_showing(benchmark, result) -> None:
    assert result["times_mean_something"] is False
    assert result["profile"] is None
    assert "\n".join(benchmark.report(result)).startswith("CPU")
    assert json.loads(json.dumps(result)) == result


def test_a_stream_has_at_least_the_length_asked_for(result) -> None:
    stream = result["stream"]
    assert 3 <= stream["seconds"] < 4.1
    assert 0 < sum(stream["share_of_time"].values()) <= 1.01


def test_without_being_asked_a_cpu_is_not_timed(benchmark: ModuleType) -> None:
    found = benchmark.run(benchmark.options_parser().parse_args(["--sizes", "tiny"]))
    assert "operators" in found
    assert "first_audio_ms" not in found
    assert len(list(benchmark.report(found))) == 2


@pytest.mark.parametrize("mode", ["uni", "bi"])
def test_both_modes_of_the_speech_lm_can_be_measured(benchmark: ModuleType, mode: str) -> None:
    models = benchmark.random_models(benchmark.SIZES["tiny"](), torch.float32, torch.device("cpu"))
    bench = benchmark.Bench(models, torch.device("cpu"), 2)
    times = benchmark.Stream(bench, mode, 12).speak(samples=1)
    assert times.samples == 240 * 24


def test_a_trace_gives_kernels_waits_and_idle_time(benchmark: ModuleType) -> None:
    found = benchmark.device_activity(TRACE, calls=2, wall_ms=0.5)
    assert found["busy_ms"] == 0.2  # 250 + 50 + 100 us in two calls
    assert found["idle_share"] == 0.6
    assert (found["kernels"], found["copies_and_fills"], found["waits"]) == (2, 0.5, 0.5)
    assert [row["name"] for row in found["largest"]] == ["gemm", "add"]
    assert found["largest"][0] == {"name": "gemm", "calls": 1.0, "ms": 0.15}


def test_a_second_of_speech_is_25_tokens_a_chunk_and_a_window(benchmark: ModuleType) -> None:
    stage = benchmark.device_activity(TRACE, calls=2, wall_ms=0.5)
    found = benchmark.second_of_speech(
        {"lm_step": stage, "flow_chunk": stage, "vocoder_window_and_copy": stage}
    )
    assert found["wall_ms"] == 27 * 0.5
    assert found["kernels"] == 54
    assert found["idle_share"] == 0.6


def test_operators_are_counted_without_views(benchmark: ModuleType) -> None:
    x = torch.ones(4, 4)
    with torch.inference_mode(), benchmark.OperatorCount() as counter:
        (x @ x).t()[0].view(2, 2) + torch.empty(2, 2)
        torch.nn.functional.linear(x, x)
    assert counter.by_name == {"mm": 2, "add": 1}


def test_a_second_of_speech_calls_the_operators_of_its_parts(result) -> None:
    found = result["operators"]
    assert found["second_of_speech"] == (
        25 * found["lm_step"] + found["flow_chunk"] + found["vocoder_window_and_copy"]
    )
    assert found["flow_chunk"] > found["lm_step"] > 50


def test_what_the_profiler_writes_can_be_read(benchmark: ModuleType) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that there is no CUDA
        found = benchmark.profiled(lambda: torch.ones(3).sum(), wall_ms=1.0)
    assert found["kernels"] == 0
    assert found["idle_share"] == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_random_models_are_made_as_a_checkpoint_is_loaded(benchmark, tmp_path, dtype) -> None:
    config = tiny_config(2)
    loaded = load_models(Checkpoint(write_tiny_checkpoint(tmp_path)), dtype, torch.device("cpu"))
    made = benchmark.random_models(config, dtype, torch.device("cpu"))
    for name in ("lm", "flow", "vocoder"):
        ours, theirs = (
            {key: (tensor.dtype, tensor.shape) for key, tensor in getattr(models, name).state_dict().items()}
            for models in (made, loaded)
        )
        assert ours == theirs
