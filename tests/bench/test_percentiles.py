from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.bench.report import distribution, percentile

values = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=200)


@given(values)
def test_percentiles_are_those_of_the_standard_library(numbers: list[float]) -> None:
    expected = statistics.quantiles(numbers, n=100, method="inclusive")
    found = [percentile(sorted(numbers), percent) for percent in range(1, 100)]
    assert found == pytest.approx(expected, abs=1e-6)


@given(values, st.floats(0, 100))
def test_a_percentile_lies_between_the_extremes(numbers: list[float], percent: float) -> None:
    assert min(numbers) - 1e-6 <= percentile(sorted(numbers), percent) <= max(numbers) + 1e-6


def test_one_value_is_every_percentile() -> None:
    assert distribution([7.25]) == {
        "count": 1,
        **dict.fromkeys(("p50", "p95", "p99", "min", "max", "mean"), 7.2),
    }


def test_no_values_have_no_distribution() -> None:
    assert distribution([]) is None
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
