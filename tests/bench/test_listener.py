"""The listener model against a player that is simulated beat by beat."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.bench.listener import Listener, Stall

RATE_HZ, SLOT_MS, SLOT_SAMPLES = 24_000, 20, 480

Arrival = tuple[float, int]


def listener(delay_ms: int = 0) -> Listener:
    return Listener(delay_ms / 1000, SLOT_MS, RATE_HZ)


def heard(arrivals: list[Arrival], delay_ms: int = 0) -> Listener:
    player = listener(delay_ms)
    for at_s, num_samples in arrivals:
        player.receive(num_samples, at_s)
    return player


def simulate(arrivals: list[tuple[int, int]], delay_ms: int) -> tuple[list[tuple[int, int, int]], int]:
    """Beat by beat, in whole milliseconds; returns (slot, ms, missed) of each stall, and the slots played."""
    waiting = list(arrivals)
    samples = played = missed = 0
    stalls: list[tuple[int, int, int]] = []
    while waiting and samples < SLOT_SAMPLES:
        beat_ms, num_samples = waiting.pop(0)
        samples += num_samples
    if samples < SLOT_SAMPLES:
        return [], 0
    beat_ms += delay_ms
    while True:
        while waiting and waiting[0][0] <= beat_ms:
            samples += waiting.pop(0)[1]
        if samples // SLOT_SAMPLES > played:
            if missed:
                stalls.append((played, beat_ms - missed * SLOT_MS, missed))
            played, missed = played + 1, 0
        elif waiting:
            missed += 1
        else:
            return stalls, played
        beat_ms += SLOT_MS


gaps_ms = st.integers(0, 130)
sizes = st.one_of(st.just(SLOT_SAMPLES), st.integers(0, 4000))


@given(st.lists(st.tuples(gaps_ms, sizes), max_size=40), st.sampled_from([0, 60, 120]))
def test_it_hears_what_a_player_simulated_beat_by_beat_hears(
    steps: list[tuple[int, int]], delay_ms: int
) -> None:
    at_ms, arrivals = 0, []
    for gap_ms, num_samples in steps:
        at_ms += gap_ms
        arrivals.append((at_ms, num_samples))
    stalls, played = simulate(arrivals, delay_ms)

    player = heard([(ms / 1000, samples) for ms, samples in arrivals], delay_ms)
    found = [(round(s.position_ms / SLOT_MS), round(s.dry_s * 1000), s.num_slots) for s in player.stalls]

    assert found == stalls
    assert player.num_samples // SLOT_SAMPLES == played


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40))
def test_more_buffer_never_means_more_holes_and_only_at_the_same_places(at_ms: list[int]) -> None:
    arrivals = [(ms / 1000, SLOT_SAMPLES) for ms in sorted(at_ms)]
    none, lean, usual = (heard(arrivals, delay_ms) for delay_ms in (0, 60, 120))

    for less, more in ((none, lean), (lean, usual)):
        assert sum(s.num_slots for s in more.stalls) <= sum(s.num_slots for s in less.stalls)
        assert {s.position_ms for s in more.stalls} <= {s.position_ms for s in less.stalls}


def test_frames_on_the_beat_are_in_time() -> None:
    assert heard([(i * 0.02, SLOT_SAMPLES) for i in range(500)]).stalls == []


def test_a_frame_that_comes_late_by_little_costs_one_slot() -> None:
    player = heard([(0.0, SLOT_SAMPLES), (0.021, SLOT_SAMPLES), (0.04, SLOT_SAMPLES)])

    assert player.stalls == [Stall(20.0, 0.02, 1)]
    assert round(player.heard_at_s, 6) == 0.08


def test_a_jitter_buffer_covers_what_is_late_by_less() -> None:
    arrivals = [(0.0, SLOT_SAMPLES), (0.075, SLOT_SAMPLES)]

    assert [s.num_slots for s in heard(arrivals).stalls] == [3]
    assert heard(arrivals, delay_ms=60).stalls == []


def test_a_frame_of_11025_hz_fills_a_slot() -> None:
    player = Listener(0.0, SLOT_MS, 11_025)
    player.receive(220, 0.0)

    assert player.has_begun
    player.receive(220, 0.019)
    assert player.stalls == []


def test_the_first_slot_of_a_codec_with_delay_is_a_short_one() -> None:
    player = Listener(0.0, SLOT_MS, RATE_HZ, pre_skip=156)  # 6.5 ms
    player.receive(SLOT_SAMPLES, 0.0)

    assert player.has_begun
    assert player.num_samples == 324
    assert player.played_ms(0.001) == 13.5
    player.receive(SLOT_SAMPLES, 0.0135)
    assert player.stalls == []
    player.receive(SLOT_SAMPLES, 0.034)
    assert player.stalls == [Stall(33.5, 0.0335, 1)]


def test_a_stream_that_simply_ends_has_no_hole_at_its_end() -> None:
    player = heard([(0.0, SLOT_SAMPLES), (0.01, 100)])

    assert player.finish() == 2  # the last part of a slot is played too
    assert player.stalls == []


def test_what_was_waited_for_when_it_was_cut_off_is_missed() -> None:
    player = heard([(0.0, 2 * SLOT_SAMPLES)])

    assert player.stop(0.1) == 2
    assert player.stalls == [Stall(40.0, 0.04, 3)]


def test_what_had_not_been_played_when_it_was_cut_off_is_not_heard() -> None:
    player = heard([(0.0, 50 * SLOT_SAMPLES)], delay_ms=60)

    assert player.played_ms(0.05) == 0
    assert player.played_ms(0.061) == 20
    assert player.stop(0.1) == 3
    assert player.stalls == []


def test_nothing_is_heard_before_a_whole_slot() -> None:
    player = heard([(0.0, 300)])

    assert not player.has_begun
    assert player.stop(5.0) == 0
    assert player.stalls == []
