"""One timer for everybody, moved by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.pacing import TICK_S, Ticker
from cosyduplex_server.testing import ManualClock


class Sleeper:
    def __init__(self) -> None:
        self.woken: list[float] = []

    def wake(self, now_s: float) -> None:
        self.woken.append(now_s)


def test_a_member_is_woken_once_and_not_before_its_time():
    clock, sleeper = ManualClock(), Sleeper()
    ticker = Ticker(clock)
    ticker.wake(sleeper.wake, clock.time() + 0.05)
    clock.advance(0.049)
    assert sleeper.woken == []
    clock.advance(0.051)
    assert len(sleeper.woken) == 1
    clock.advance(1.0)
    assert len(sleeper.woken) == 1


def test_the_earliest_moment_asked_for_wins():
    clock, sleeper = ManualClock(), Sleeper()
    ticker = Ticker(clock)
    ticker.wake(sleeper.wake, 0.5)
    ticker.wake(sleeper.wake, 0.1)
    ticker.wake(sleeper.wake, 0.3)
    clock.advance(0.2)
    assert len(sleeper.woken) == 1
    clock.advance(1.0)
    assert len(sleeper.woken) == 1


def test_who_is_forgotten_is_not_woken():
    clock, sleeper, other = ManualClock(), Sleeper(), Sleeper()
    ticker = Ticker(clock)
    ticker.wake(sleeper.wake, 0.1)
    ticker.wake(other.wake, 0.1)
    ticker.discard(sleeper.wake)
    clock.advance(0.2)
    assert sleeper.woken == []
    assert len(other.woken) == 1


def test_a_member_may_ask_again_and_forget_others_while_it_is_woken():
    clock, victim = ManualClock(), Sleeper()
    ticker = Ticker(clock)
    times: list[float] = []

    def again(now_s: float) -> None:
        times.append(now_s)
        ticker.discard(victim.wake)
        if len(times) < 5:
            ticker.wake(again, now_s + 0.03)

    ticker.wake(again, 0.02)
    ticker.wake(victim.wake, 0.02)
    clock.advance(1.0)
    assert len(times) == 5
    assert victim.woken == []


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1), st.floats(0, 0.2)), max_size=60))
def test_everybody_is_woken_within_a_step_of_its_time(steps):
    clock = ManualClock()
    ticker = Ticker(clock)
    due: dict[int, float] = {}

    def woken(number: int, now_s: float) -> None:
        asked = due.pop(number)
        assert asked <= now_s + 1e-9

    members = [lambda now_s, number=number: woken(number, now_s) for number in range(6)]
    for number, delay_s, pause_s in steps:
        at_s = clock.time() + delay_s
        due[number] = min(due.get(number, at_s), at_s)
        ticker.wake(members[number], at_s)
        clock.advance(pause_s)
        assert all(at_s > clock.time() - TICK_S - 1e-9 for at_s in due.values())
    clock.advance(2.0)
    assert due == {}


@given(
    rounds=st.lists(
        st.lists(st.sampled_from([0.0, 0.1, 1.0, 1.9, 2.1, 30.0]), min_size=1, max_size=6),
        min_size=2,
        max_size=4,
    )
)
def test_everybody_is_woken_however_long_the_waking_of_others_takes(rounds):
    clock = ManualClock()
    ticker = Ticker(clock)
    for work_ms in rounds:
        woken = [False] * len(work_ms)

        def member(number: int, work_s: float, woken: list[bool] = woken):
            def wake(now_s: float) -> None:
                woken[number] = True
                clock.spend(work_s)

            return wake

        for number, ms in enumerate(work_ms):
            ticker.wake(member(number, ms / 1000), clock.time() + 0.05)
        clock.advance(1.0)
        assert all(woken)
