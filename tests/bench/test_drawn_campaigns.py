"""Arrivals, texts and the pace of writing: drawn from a seed."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.bench.arrivals import pace, plan_sessions, plan_turn
from cosyduplex_server.bench.settings import Settings
from cosyduplex_server.bench.texts import CHARS_PER_S, sample_seconds, sample_text, split_tokens

SETTINGS = Settings(
    url="http://127.0.0.1:1",
    sessions=50,
    arrivals_per_s=None,
    duration_s=None,
    tokens_per_s=20.0,
    text_seconds=(2.0, 60.0),
    language="both",
    voices=("first", "second", "third"),
    codec="pcm_s16le",
    sample_rate_hz=24_000,
    max_ahead_ms=3000,
    cancel_share=0.3,
    seed=7,
)

seeds = st.integers(0, 2**32)


def settings(**changes: object) -> Settings:
    return dataclasses.replace(SETTINGS, **changes)  # type: ignore[arg-type]


def test_the_same_seed_draws_the_same_campaign() -> None:
    again = settings()
    assert list(plan_sessions(SETTINGS)) == list(plan_sessions(again))
    assert [plan_turn(SETTINGS, 3, turn) for turn in range(5)] == [
        plan_turn(again, 3, turn) for turn in range(5)
    ]


def test_seeds_sessions_and_turns_draw_differently() -> None:
    texts = {
        plan_turn(settings(seed=seed), session, turn).text
        for seed in range(3)
        for session in range(3)
        for turn in range(3)
    }
    assert len(texts) == 27


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    starts = [
        plan.start_s for plan in plan_sessions(settings(sessions=None, arrivals_per_s=5.0, duration_s=1000.0))
    ]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    mean = sum(gaps) / len(gaps)

    assert starts == sorted(starts)
    assert starts[-1] < 1000
    assert mean == pytest.approx(0.2, rel=0.05)
    # Exponential: its deviation equals its mean.
    assert (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 == pytest.approx(mean, rel=0.1)


def test_arrivals_end_with_the_number_or_the_duration_whichever_comes_first() -> None:
    assert len(list(plan_sessions(settings(sessions=20, arrivals_per_s=5.0)))) == 20
    assert len(list(plan_sessions(settings(sessions=20, arrivals_per_s=5.0, duration_s=0.5)))) < 20


def test_sessions_that_are_kept_busy_do_not_all_begin_at_once() -> None:
    starts = [plan.start_s for plan in plan_sessions(SETTINGS)]
    assert len(starts) == 50
    assert len(set(starts)) == 50


def test_voices_are_drawn_by_zipf() -> None:
    voices = tuple("abcd")
    counts = Counter(plan.voice for plan in plan_sessions(settings(sessions=10_000, voices=voices)))
    total = 1 + 1 / 2 + 1 / 3 + 1 / 4
    for rank, voice in enumerate(voices, 1):
        assert counts[voice] / 10_000 == pytest.approx(1 / rank / total, abs=0.02)


def test_without_voices_the_server_chooses() -> None:
    assert {plan.voice for plan in plan_sessions(settings(voices=()))} == {None}


@given(seeds, st.integers(1, 200), st.floats(1, 100))
def test_tokens_are_written_in_order_beginning_at_once(seed: int, num_tokens: int, rate: float) -> None:
    due_s = pace(random.Random(seed), num_tokens, rate)
    assert len(due_s) == num_tokens
    assert due_s[0] == 0
    assert list(due_s) == sorted(due_s)


def test_the_pace_is_kept_on_the_whole_with_jitter_and_bursts() -> None:
    due_s = pace(random.Random(1), 20_000, 20.0)
    gaps = [later - earlier for earlier, later in pairwise(due_s)]

    assert due_s[-1] == pytest.approx(1000, rel=0.03)
    assert 0.05 < sum(gap == 0 for gap in gaps) / len(gaps) < 0.25  # held back, and delivered together
    assert max(gaps) > 0.2  # … after a pause
    assert len({round(gap, 6) for gap in gaps}) > 1000


@given(seeds, st.floats(1, 60), st.sampled_from(["en", "zh"]))
def test_a_text_is_as_long_as_asked_and_ends_as_a_sentence(seed: int, seconds: float, language: str) -> None:
    text = sample_text(random.Random(seed), seconds, language)  # type: ignore[arg-type]
    num_chars = seconds * CHARS_PER_S[language]

    assert text[-1] in ".!?。！？"
    assert len(text) <= max(num_chars, 2) + 1
    assert len(text) >= num_chars - 15  # an English word may be cut off, and the marks before it


@given(seeds, st.sampled_from(["en", "zh"]))
def test_tokens_put_together_are_the_text(seed: int, language: str) -> None:
    text = sample_text(random.Random(seed), 20, language)  # type: ignore[arg-type]
    tokens = split_tokens(text)
    assert "".join(tokens) == text
    assert 1 < len(text) / len(tokens) < 6


def test_lengths_are_log_normal_within_their_bounds() -> None:
    rng = random.Random(3)
    lengths = sorted(sample_seconds(rng, 2.0, 60.0) for _ in range(4000))
    assert lengths[0] >= 2
    assert lengths[-1] <= 60
    assert lengths[2000] == pytest.approx((2 * 60) ** 0.5, rel=0.08)
    assert sample_seconds(rng, 10.0, 10.0) == 10.0


def test_a_share_of_the_texts_is_interrupted_while_it_is_spoken() -> None:
    turns = [plan_turn(settings(text_seconds=(10.0, 10.0)), session, 0) for session in range(400)]
    cancels = [turn.cancel_after_s for turn in turns if turn.cancel_after_s is not None]
    assert len(cancels) / 400 == pytest.approx(0.3, abs=0.07)
    assert all(0 < after_s < 10 for after_s in cancels)


def test_without_a_pace_the_whole_text_comes_at_once() -> None:
    turn = plan_turn(settings(tokens_per_s=0.0), 0, 0)
    assert len(turn.pieces) == 1
    assert list(turn.due_s) == [0.0]


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"sessions": 0}, "--sessions"),
        ({"sessions": None}, "--sessions"),
        ({"sessions": None, "arrivals_per_s": 1.0}, "--duration"),
        ({"arrivals_per_s": 0.0}, "--arrivals-per-second"),
        ({"duration_s": 0.0}, "--duration"),
        ({"tokens_per_s": -1.0}, "--tokens-per-second"),
        ({"text_seconds": (5.0, 2.0)}, "--text-seconds"),
        ({"max_ahead_ms": 100}, "--max-ahead-ms"),
        ({"cancel_share": 1.5}, "--cancel-share"),
    ],
)
def test_a_setting_outside_its_limits_is_named(changes: dict[str, object], option: str) -> None:
    with pytest.raises(ValueError, match=option):
        settings(**changes)


def test_endless_arrivals_are_drawn_as_they_are_needed() -> None:
    endless = plan_sessions(settings(sessions=None, arrivals_per_s=100.0, duration_s=1e9))
    assert [plan.number for plan in islice(endless, 3)] == [0, 1, 2]
