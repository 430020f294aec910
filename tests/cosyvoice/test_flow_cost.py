"""What the flow's cache saves, in counted operations."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest
from cosyvoice.conftest import REPOSITORY, tiny_flow_config
from cosyvoice.flow_sequences import OTHER_SIZES

from cosyduplex_server.models.config import FlowConfig

SIZES = {"golden": replace(tiny_flow_config(2), num_steps=1), "other": OTHER_SIZES}


@pytest.fixture(scope="module", autouse=True)
def _benchmarks() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "benchmarks")
        yield


@pytest.fixture
def flow_cost() -> ModuleType:
    import flow_cost

    return flow_cost


@pytest.fixture
def flow_count() -> ModuleType:
    import flow_count

    return flow_count


@pytest.mark.parametrize("sizes", SIZES)
def test_the_formula_is_the_count_of_what_is_called(flow_count, sizes) -> None:
    config = SIZES[sizes]
    counter = flow_count.Counter(config, max_tokens=150, device="cpu")
    for tokens, chunks in ((25, 0), (25, 3), (12, 5)):
        assert counter.chunk(tokens, chunks) == flow_count.chunk_work(config, tokens, chunks)
    assert counter.whole(60) == flow_count.whole_work(config, 60, skip_hidden=False)


def test_keeping_keys_and_values_saves_what_it_promises(flow_cost) -> None:
    """Against recomputing every second the prefix behind a prompt of 3.5 s, even without hidden keys."""
    rows = {row["seconds"]: row for row in flow_cost.measure(FlowConfig())["utterances"]}
    assert rows[10]["recomputed_ratio"] >= rows[10]["recomputed_skipping_hidden_ratio"] >= 7.5
    assert rows[60]["recomputed_ratio"] >= rows[60]["recomputed_skipping_hidden_ratio"] >= 20


def test_the_sixtieth_second_costs_at_most_2_8_times_the_fifth(flow_cost) -> None:
    assert flow_cost.measure(FlowConfig())["second_60_over_second_5"] <= 2.8


def test_only_attention_grows_with_what_was_said_and_in_proportion_to_it(flow_count) -> None:
    works = [flow_count.chunk_work(FlowConfig(), 25, chunks) for chunks in (0, 10, 20, 60)]
    assert len({work.linear for work in works}) == 1
    per_chunk = (works[1].attention - works[0].attention) // 10
    assert works[2].attention - works[1].attention == 10 * per_chunk
    assert works[3].attention - works[2].attention == 40 * per_chunk


def test_the_formula_gives_the_known_cost_of_the_real_model(flow_count) -> None:
    """Counted in upstream's code: 13.24 GFLOP an evaluation of 50 frames without attention.

    Of these 0.02 are the solver's time, which upstream computes anew at every evaluation.
    """
    one, two = (flow_count.chunk_work(replace(FlowConfig(), num_steps=steps), 25, 0) for steps in (1, 2))
    assert (two.linear - one.linear) / 1e9 == pytest.approx(13.22, abs=0.005)
    assert (
        two.attention - one.attention == 56 * 2 * 2 * 2 * 50 * 50 * 512
    )  # layers, rows, products, multiply-add
