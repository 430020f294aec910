"""Numbers of (seed, counter, stream): the same everywhere, and as good as random."""

from __future__ import annotations

import math

import pytest
import torch
from cosyvoice.host_sync import NoHostSync
from torch import Tensor

from cosyduplex_server.models import counter_random
from cosyduplex_server.models.counter_random import integers, normal, uniform

N = 50_000
COUNTERS = torch.arange(N)
EXTREMES = [0, 1, -1, 77, 2**31, 2**32 - 1, 2**62 + 3, 2**63 - 1, -(2**63)]


def seed(value: int) -> Tensor:
    return torch.tensor([value])


def mixed(word: int, key: int = 0) -> int:
    """The finaliser with Python's whole numbers, which never wrap by themselves."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 + key) % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return word ^ (word >> 31)


def word_of(seed: int, counter: int, stream: int) -> int:
    golden = 0x9E3779B97F4A7C15
    key = mixed((mixed(seed * golden % 2**64) + stream * 0xD1342543DE82EF95) % 2**64)
    return mixed((counter * golden + key) % 2**64, mixed((key + golden) % 2**64))


def correlation(x: Tensor, y: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([x.double().flatten(), y.double().flatten()]))[0, 1])


@pytest.mark.parametrize("stream", [0, 1, 8, 2**40])
def test_64_bit_arithmetic_wraps_as_unsigned_numbers_do(stream: int) -> None:
    seeds, counters = torch.tensor(EXTREMES)[:, None], torch.tensor(EXTREMES)[None]
    got = integers(seeds, counters, stream, 63)
    expected = [[word_of(s, c, stream) >> 1 for c in EXTREMES] for s in EXTREMES]
    assert got.tolist() == expected
    assert uniform(seeds, counters, stream).tolist() == [[(w >> 39) / 2**24 for w in row] for row in expected]


def test_the_finaliser_without_a_key_is_splitmix64() -> None:
    """The first outputs of the published generator at seed 1234567."""
    state, golden, outputs = 1234567, 0x9E3779B97F4A7C15, []
    for _ in range(3):
        state += golden
        outputs.append(mixed(state % 2**64))
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_a_number_does_not_depend_on_the_shapes_it_is_drawn_in() -> None:
    seeds, streams = torch.tensor([5, -9, 2**50]), torch.arange(9)
    for draw in (uniform, normal):
        block = draw(seeds[:, None, None], COUNTERS[None, :40, None], streams)
        assert block.shape == (3, 40, 9)
        for b, t, h in [(0, 0, 0), (1, 17, 3), (2, 39, 8)]:
            assert torch.equal(draw(seeds[b], COUNTERS[t], h), block[b, t, h])
        assert torch.equal(draw(seeds[1:2], COUNTERS[7:19], 4), block[1, 7:19, 4])


def test_arguments_are_left_as_they_were() -> None:
    seeds, counters, streams = torch.tensor([3, 4]), torch.tensor([1, 2]), torch.tensor([7, 8])
    normal(seeds, counters, streams)
    uniform(seeds, counters, streams)
    assert [x.tolist() for x in (seeds, counters, streams)] == [[3, 4], [1, 2], [7, 8]]


@pytest.mark.parametrize("bits", [1, 8, 24, 31, 63])
def test_whole_numbers_fill_their_range(bits: int) -> None:
    numbers = integers(seed(1), COUNTERS, 0, bits)
    assert int(numbers.min()) >= 0
    assert int(numbers.max()) < 2**bits
    ones = torch.stack([(numbers >> bit) & 1 for bit in range(bits)]).float().mean(1)
    assert (ones - 0.5).abs().max() < 5 * 0.5 / math.sqrt(N)


@pytest.mark.parametrize("seed_value", [0, 1, 2**63 - 1, -12345])
def test_uniform_numbers_are_uniform(seed_value: int) -> None:
    u = uniform(seed(seed_value), COUNTERS, 0)
    assert u.dtype == torch.float32
    assert 0.0 <= float(u.min()) < 1e-3
    assert 1.0 - 1e-3 < float(u.max()) < 1.0
    counts = torch.histc(u, 100, 0, 1)
    chi_square = float(((counts - N / 100) ** 2 / (N / 100)).sum())
    assert 50 < chi_square < 165  # 99 degrees of freedom: less than one in 10,000 outside


@pytest.mark.parametrize("seed_value", [0, 1, 2**63 - 1, -12345])
def test_normal_numbers_are_normal(seed_value: int) -> None:
    z = normal(seed(seed_value), COUNTERS, 0).double()
    assert abs(float(z.mean())) < 4.5 / math.sqrt(N)
    assert abs(float(z.var()) - 1) < 4.5 * math.sqrt(2 / N)
    assert abs(float((z**3).mean())) < 4.5 * math.sqrt(15 / N)
    assert abs(float((z**4).mean()) - 3) < 4.5 * math.sqrt(96 / N)
    ranks = 0.5 * (1 + torch.erf(z.sort().values / math.sqrt(2)))
    distance = (ranks - (torch.arange(N) + 0.5) / N).abs().max()
    assert float(distance) < 2.2 / math.sqrt(N)  # Kolmogorov and Smirnov: less than one in 10,000 above


@pytest.mark.parametrize("word", [0, -1, 2**63 - 1, -(2**63), 2**32 - 1, -(2**32)])
def test_no_64_bits_make_a_normal_number_that_is_not_finite(
    word: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counter_random, "_words", lambda *_: torch.tensor([word]))
    assert abs(float(normal(seed(0), seed(0), 0))) < 6.7


@pytest.mark.parametrize("draw", [uniform, normal])
def test_neighbours_know_nothing_of_each_other(draw: type[uniform]) -> None:
    """Neighbouring counters, seeds, streams, and the squares, whose relation a plain correlation misses."""
    limit = 4.5 / math.sqrt(N)
    base = draw(seed(3), COUNTERS, 0)
    others = {
        "next counter": draw(seed(3), COUNTERS + 1, 0),
        "counter plus 480": draw(seed(3), COUNTERS + 480, 0),
        "next seed": draw(seed(4), COUNTERS, 0),
        "negative seed": draw(seed(-3), COUNTERS, 0),
        "next stream": draw(seed(3), COUNTERS, 1),
        "far stream": draw(seed(3), COUNTERS, 2**32),
        "seed and stream exchanged": draw(seed(0), COUNTERS, 3),
    }
    for name, other in others.items():
        assert abs(correlation(base, other)) < limit, name
        assert abs(correlation((base - base.mean()) ** 2, (other - other.mean()) ** 2)) < limit, name


def test_numbers_along_seeds_are_as_good_as_along_counters() -> None:
    """A sampler draws at step 0 of many seeds that follow one another."""
    u = uniform(COUNTERS, torch.tensor(0), 0)
    counts = torch.histc(u, 100, 0, 1)
    assert 50 < float(((counts - N / 100) ** 2 / (N / 100)).sum()) < 165
    assert abs(correlation(u[1:], u[:-1])) < 4.5 / math.sqrt(N)


def test_no_stream_is_another_or_a_shifted_copy_of_one() -> None:
    seeds, streams = torch.arange(50)[:, None, None], torch.arange(10)[:, None]
    words = integers(seeds, torch.arange(200), streams, 63)
    assert words.unique().numel() == 50 * 10 * 200


def test_a_changed_bit_anywhere_changes_half_of_the_result() -> None:
    base = integers(seed(11), COUNTERS[:2000], 2, 63)
    for bit in range(63):
        for other in (
            integers(seed(11 ^ (1 << bit)), COUNTERS[:2000], 2, 63),
            integers(seed(11), COUNTERS[:2000] ^ (1 << bit), 2, 63),
            integers(seed(11), COUNTERS[:2000], 2 ^ (1 << bit), 63),
        ):
            changed = sum(((base ^ other) >> i) & 1 for i in range(63)).float().mean()
            assert abs(float(changed) / 63 - 0.5) < 0.01, bit


def test_drawing_does_not_wait_for_the_device() -> None:
    with NoHostSync():
        normal(COUNTERS[:4, None], COUNTERS[:10], 3)
        uniform(COUNTERS[:4, None], COUNTERS[:10], COUNTERS[:10])
