"""The sampler against recorded draws of upstream, its exact law, and itself in other batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from cosyvoice.conftest import tiny_lm_config
from cosyvoice.host_sync import NoHostSync
from torch import Tensor

from cosyduplex_server.models import sampling
from cosyduplex_server.models.config import SpeechLMConfig
from cosyduplex_server.models.phases import Phase
from cosyduplex_server.models.sampling import NOTHING, RasSampler, nucleus, phase_masks

RULES = [(0.8, 25), (0.5, 10), (1.0, 3)]
V2, V3 = SpeechLMConfig(), SpeechLMConfig(generation=3, special_rows=200)

both = pytest.mark.parametrize("config", [V2, V3], ids=["v2", "v3"])


@pytest.fixture(autouse=True)
def _inference() -> Any:
    with torch.inference_mode():
        yield


def sampler_of(num_ids: int) -> RasSampler:
    """A sampler for recorded scores of so many ids; its three last are special."""
    return RasSampler(SpeechLMConfig(speech_tokens=num_ids - 3))


def history_of(past: Sequence[int], window: int = 10) -> Tensor:
    recent = list(past)[-window:]
    return torch.tensor([recent + [NOTHING] * (window - len(recent))])


def draws(
    sampler: RasSampler,
    logits_V: Tensor,
    count: int,
    *,
    past: Sequence[int] = (),
    phase: Phase = Phase.FREE,
    seed: int = 0,
) -> Tensor:
    """What `count` sequences of different seeds draw."""
    return sampler(
        logits_V.expand(count, -1),
        history_of(past, sampler.window).expand(count, -1),
        torch.full((count,), phase),
        seed + torch.arange(count),
        torch.full((count,), 5),
    )


# Against upstream.


@pytest.mark.parametrize("top_p", [rule[0] for rule in RULES])
@pytest.mark.parametrize("index", range(4))
def test_the_nucleus_keeps_upstreams_ids(index: int, top_p: float, golden: Callable[[str], Any]) -> None:
    recorded, top_k = golden("sampling_golden"), dict(RULES)[top_p]
    probs, ids = nucleus(recorded[f"scores{index}"].softmax(-1)[None], top_p, top_k)
    expected = recorded[f"nucleus_ids{index}_p{top_p}_k{top_k}"]
    assert torch.equal(ids[0, : int((probs > 0).sum())], expected)


@pytest.mark.parametrize("top_p", [rule[0] for rule in RULES])
@pytest.mark.parametrize("index", range(4))
def test_draws_from_the_nucleus_with_upstreams_numbers_are_upstreams(
    index: int, top_p: float, golden: Callable[[str], Any]
) -> None:
    recorded, top_k = golden("sampling_golden"), dict(RULES)[top_p]
    sampler = sampler_of(recorded[f"scores{index}"].numel())
    sampler.top_p, sampler.top_k = top_p, top_k
    torch.manual_seed(1234 + index)
    tokens = [sample_as_upstream(sampler, recorded[f"scores{index}"], []) for _ in range(64)]
    assert tokens == recorded[f"nucleus_draws{index}_p{top_p}_k{top_k}"].tolist()


@pytest.mark.parametrize("index", range(4))
def test_repetition_aware_draws_with_upstreams_numbers_are_upstreams(
    index: int, golden: Callable[[str], Any]
) -> None:
    recorded = golden("sampling_golden")
    sampler = sampler_of(recorded[f"scores{index}"].numel())
    torch.manual_seed(99 + index)
    tokens: list[int] = []
    for _ in range(64):
        tokens.append(sample_as_upstream(sampler, recorded[f"scores{index}"], tokens))
    assert tokens == recorded[f"ras_draws{index}"].tolist()


def sample_as_upstream(sampler: RasSampler, scores: Tensor, past: Sequence[int]) -> int:
    def multinomial(probs: Tensor, number: int, wanted: Tensor) -> Tensor:
        if not wanted.item():
            return torch.zeros(1, dtype=torch.int64)
        kept = probs[:, : int((probs > 0).sum())] if number == 0 else probs
        return kept[0].multinomial(1, replacement=True)

    zero = torch.zeros(1, dtype=torch.int64)
    return int(sampler(scores[None], history_of(past), zero + Phase.FREE, zero, zero, multinomial))


# The nucleus.


def test_of_equal_probabilities_the_lower_id_comes_first() -> None:
    """As in a stable sort of the whole vocabulary, whatever the device's own selection does with ties."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randint(0, 6, (40, 500), generator=generator).float()
    probs, ids = nucleus(logits.softmax(-1), 2.0, 25)
    expected = logits.softmax(-1).sort(descending=True, stable=True)
    assert torch.equal(ids, expected.indices[:, :25])
    assert torch.equal(probs, expected.values[:, :25])


def test_the_entry_that_reaches_top_p_is_kept_and_the_next_is_not() -> None:
    probs, ids = nucleus(torch.tensor([[0.125, 0.5, 0.25, 0.125]]), 0.75, 25)
    assert probs.tolist() == [[0.5, 0.25, 0.0, 0.0]]
    assert ids[0, :2].tolist() == [1, 2]
    probs, _ = nucleus(torch.tensor([[0.125, 0.5, 0.25, 0.125]]), 0.76, 25)
    assert probs.tolist() == [[0.5, 0.25, 0.125, 0.0]]


# Phases.

ALLOWED = {
    "v2": {
        Phase.FREE: {6561, 6562, 6563},
        Phase.NO_EOS: set(),
        Phase.STREAM: {6563},
        Phase.END: {6561},
        Phase.UPSTREAM_NO_EOS: {6562, 6563},
    },
    "v3": {
        Phase.FREE: set(range(6561, 6761)),
        Phase.NO_EOS: set(),
        Phase.STREAM: {6564},
        Phase.END: {6562},
        Phase.UPSTREAM_NO_EOS: set(range(6562, 6761)),
    },
}


@both
@pytest.mark.parametrize("phase", Phase)
def test_a_phase_bans_exactly_what_it_says(config: SpeechLMConfig, phase: Phase) -> None:
    mask = phase_masks(config)[phase]
    allowed = set(range(6561)) | ALLOWED[f"v{config.generation}"][phase]
    assert mask.tolist() == [0.0 if i in allowed else -torch.inf for i in range(config.speech_rows)]


@both
@pytest.mark.parametrize("phase", Phase)
def test_what_a_phase_bans_is_never_drawn_however_likely(config: SpeechLMConfig, phase: Phase) -> None:
    """Neither at first, nor in the redraw after a repeat, which looks at everything."""
    logits = torch.zeros(config.speech_rows)
    logits[config.speech_tokens :] = 30.0
    logits[4000] = 60.0
    allowed = {4000} | ALLOWED[f"v{config.generation}"][phase]
    sampler = RasSampler(config)
    fresh = set(draws(sampler, logits, 50, phase=phase).tolist())
    redrawn = set(draws(sampler, logits, 150, past=[4000], phase=phase).tolist())
    specials = set(config.stop_ids)
    assert fresh == {4000}
    assert (redrawn & specials) <= allowed
    assert bool(redrawn & specials) == bool(allowed & specials)
    assert 4000 not in redrawn


@both
def test_sequences_of_a_batch_are_each_in_their_own_phase(config: SpeechLMConfig) -> None:
    logits = torch.zeros(config.speech_rows)
    logits[config.eos], logits[config.fill], logits[7] = 90.0, 60.0, 30.0
    phases = torch.tensor([Phase.FREE, Phase.NO_EOS, Phase.STREAM, Phase.END])
    zeros = torch.zeros(4, dtype=torch.int64)
    tokens = RasSampler(config)(logits.expand(4, -1), history_of([]).expand(4, -1), phases, zeros, zeros)
    assert tokens.tolist() == [config.eos, 7, config.fill, config.eos]


def test_scores_are_log_probabilities_taken_before_the_ban() -> None:
    """As upstream: what a ban leaves does not sum to one."""
    logits = torch.randn(3, V2.speech_rows, generator=torch.Generator().manual_seed(2))
    scores = RasSampler(V2).scores(logits, torch.tensor([Phase.NO_EOS, Phase.FREE, Phase.STREAM]))
    expected = logits.log_softmax(-1)
    expected[0, 6561:] = -torch.inf
    expected[2, 6561:6563] = -torch.inf
    assert torch.equal(scores, expected)


# Repeats.


def test_any_repeat_within_the_window_is_drawn_again_without_it() -> None:
    logits = torch.full((V2.speech_rows,), -20.0)
    logits[5], logits[9] = 20.0, 0.0
    sampler = RasSampler(V2)
    assert set(draws(sampler, logits, 20).tolist()) == {5}
    for place in range(10):
        past = [100 + i for i in range(10)]
        past[place] = 5
        assert set(draws(sampler, logits, 20, past=past).tolist()) == {9}


def test_the_redraw_is_from_everything_and_is_the_last() -> None:
    """With five ids as likely as another, two thousand less likely: the nucleus never holds these."""
    logits = torch.full((V2.speech_rows,), -40.0)
    logits[:5], logits[1000:3000] = 10.0, 2.0
    sampler = RasSampler(V2)
    assert set(draws(sampler, logits, 400).tolist()) <= {0, 1, 2, 3, 4}
    redrawn = draws(sampler, logits, 2000, past=[0, 1, 2, 3, 4])
    assert ((redrawn >= 1000) & (redrawn < 3000)).any()
    assert set(redrawn[redrawn < 5].tolist()) == {0, 1, 2, 3, 4}  # repeats, let through


def test_a_fill_in_the_window_counts() -> None:
    logits = torch.full((V2.speech_rows,), -20.0)
    logits[V2.fill], logits[9] = 20.0, 0.0
    sampler = RasSampler(V2)
    assert set(draws(sampler, logits, 20, phase=Phase.STREAM).tolist()) == {V2.fill}
    assert set(draws(sampler, logits, 20, past=[V2.fill, 1], phase=Phase.STREAM).tolist()) == {9}


# Seeded draws.


@pytest.mark.parametrize(
    ("spread", "past", "phase"),
    [
        (1.0, [], Phase.NO_EOS),
        (3.0, [], Phase.FREE),
        (3.0, "top 6", Phase.STREAM),
        (1.0, "top 6", Phase.UPSTREAM_NO_EOS),
    ],
)
def test_draws_follow_the_exact_law(spread: float, past: Any, phase: Phase) -> None:
    config = tiny_lm_config(2)
    sampler, count = RasSampler(config), 20_000
    logits = spread * torch.randn(config.speech_rows, generator=torch.Generator().manual_seed(3))
    past = logits.argsort(descending=True)[:6].tolist() if past else []
    expected = exact_law(logits.double(), phase_masks(config)[phase].double(), past, 0.8, 25) * count
    tokens = torch.cat(
        [draws(sampler, logits, 2000, past=past, phase=phase, seed=i) for i in range(0, count, 2000)]
    )
    observed = torch.bincount(tokens, minlength=config.speech_rows).double()
    assert observed[expected == 0].sum() == 0
    common = expected >= 8
    observed = torch.cat([observed[common], observed[~common].sum()[None]])
    expected = torch.cat([expected[common], expected[~common].sum()[None]])
    cells = expected > 0
    chi_square = float(((observed - expected) ** 2 / expected)[cells].sum())
    freedom = int(cells.sum()) - 1
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5 + 4


def exact_law(logits: Tensor, mask: Tensor, past: Sequence[int], top_p: float, top_k: int) -> Tensor:
    """The probability of each id, by going through every first draw and every redraw."""
    scores = logits.log_softmax(-1) + mask
    probs = scores.softmax(-1)
    kept: list[int] = []
    for i in probs.argsort(descending=True, stable=True).tolist():
        if float(probs[kept].sum()) >= top_p or len(kept) == top_k:
            break
        kept.append(i)
    law = torch.zeros_like(probs)
    for i in kept:
        first = probs[i] / probs[kept].sum()
        if i in past:
            others = scores.clone()
            others[i] = -torch.inf
            law += first * others.softmax(-1)
        else:
            law[i] += first
    return law


def test_the_draw_and_its_redraw_are_independent() -> None:
    """Two ids hold nearly all: were the redraw's number the first one's, its outcome would follow from it."""
    config = tiny_lm_config(2)
    logits = torch.full((config.speech_rows,), -40.0)
    logits[:4] = torch.tensor([0.0, 0.0, 0.0, 0.0])
    tokens = draws(RasSampler(config), logits, 9000, past=[0])
    shares = torch.bincount(tokens, minlength=4)[:4] / 9000
    torch.testing.assert_close(shares, torch.tensor([0.0, 1 / 3, 1 / 3, 1 / 3]), atol=0.025, rtol=0)


def test_a_sequence_draws_the_same_alone_as_in_a_batch() -> None:
    generator = torch.Generator().manual_seed(4)
    count = 64
    logits = 3 * torch.randn(count, V3.speech_rows, generator=generator)
    history = torch.stack([logits.topk(10).indices[i] for i in range(count)])
    phases = torch.randint(len(Phase), (count,), generator=generator)
    seeds = torch.randint(-(2**62), 2**62, (count,), generator=generator)
    steps = torch.arange(count)
    sampler = RasSampler(V3)
    batch = sampler(logits, history, phases, seeds, steps)
    for i in range(count):
        row = slice(i, i + 1)
        assert sampler(logits[row], history[row], phases[row], seeds[row], steps[row]) == batch[i]
    order = torch.randperm(count, generator=generator)
    again = sampler(logits[order], history[order], phases[order], seeds[order], steps[order])
    assert torch.equal(again, batch[order])


def test_each_step_and_each_seed_draws_anew() -> None:
    sampler, logits = RasSampler(V2), torch.zeros(V2.speech_rows)
    count = 300
    arguments = logits.expand(count, -1), history_of([]).expand(count, -1), torch.zeros(count).long()
    numbers, same = torch.arange(count), torch.full((count,), 11)
    by_step = sampler(*arguments, same, numbers)
    by_seed = sampler(*arguments, numbers, same)
    assert by_step.unique().numel() == by_seed.unique().numel() == 25  # the nucleus of a flat law
    assert (by_step == by_seed).float().mean() < 0.15
    assert torch.equal(by_step, sampler(*arguments, same, numbers))


@pytest.mark.parametrize("number", [0, 2**31 - 1])
def test_the_least_and_the_greatest_number_draw_what_may_be_drawn(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that are banned stand at the ends of the running sum: the first just drawn, the last special."""
    monkeypatch.setattr(sampling, "integers", lambda seeds, *_: torch.full_like(seeds, number))
    sampler, logits = RasSampler(V2), torch.zeros(V2.speech_rows)
    first = draws(sampler, logits, 1, phase=Phase.NO_EOS)
    assert first.tolist() == [0 if number == 0 else 24]
    again = draws(sampler, logits, 1, past=first.tolist(), phase=Phase.NO_EOS)
    assert again.tolist() == [1 if number == 0 else 6560]


def test_sampling_does_not_wait_for_the_device() -> None:
    sampler = RasSampler(V2)
    logits, history = torch.zeros(4, V2.speech_rows), history_of([1, 2]).expand(4, -1)
    numbers = torch.arange(4)
    with NoHostSync():
        sampler(logits, history, numbers, numbers, numbers)
