"""Where the listener is: simulated, with time as an argument."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.pacing import PlaybackClock


def test_nothing_is_played_before_the_first_frame():
    clock = PlaybackClock()
    assert clock.played_ms(1000.0) == 0
    clock.send(20, 1000.0)
    assert clock.played_ms(1000.0) == 0
    assert clock.played_ms(1000.015) == 15 or abs(clock.played_ms(1000.015) - 15) < 1e-6


def test_playing_stalls_when_dry_and_goes_on_with_the_next_frame():
    clock = PlaybackClock()
    clock.send(100, 0.0)
    assert clock.played_ms(5.0) == 100
    assert clock.send(100, 5.0) is True
    assert clock.underruns == 1
    assert clock.ahead_ms(5.0) == 100
    assert abs(clock.played_ms(5.04) - 140) < 1e-6


def test_a_report_is_carried_on_by_the_clock_and_never_beyond_what_was_sent():
    clock = PlaybackClock()
    clock.send(1000, 0.0)
    clock.report(100, None, 0.5)
    assert abs(clock.played_ms(0.6) - 200) < 1e-6
    clock.report(5000, 7, 0.7)
    assert clock.played_ms(0.7) == 1000
    assert clock.underruns == 7


@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "report", "wait"]), st.floats(0, 2000), st.floats(0, 3)),
        max_size=60,
    )
)
def test_played_is_never_more_than_sent_nor_negative(steps):
    clock, now_s = PlaybackClock(), 0.0
    for kind, amount_ms, pause_s in steps:
        now_s += pause_s
        if kind == "send":
            clock.send(amount_ms, now_s)
        elif kind == "report":
            clock.report(amount_ms, None, now_s)
        assert 0 <= clock.played_ms(now_s) <= clock.sent_ms
        assert clock.ahead_ms(now_s) >= 0


@given(
    st.integers(200, 5000), st.sampled_from([10, 20, 40, 60]), st.lists(st.floats(0.001, 0.3), max_size=200)
)
def test_a_sender_that_asks_the_clock_never_runs_further_ahead_than_allowed(max_ahead_ms, frame_ms, ticks):
    clock, now_s, heard_ms = PlaybackClock(), 0.0, 0.0
    for tick_s in ticks:  # ticks come as late as they like, as under a stalled event loop
        heard_ms = min(clock.sent_ms, heard_ms + tick_s * 1000 * (clock.sent_ms > 0))
        now_s += tick_s
        while clock.ahead_ms(now_s) + frame_ms <= max_ahead_ms:
            clock.send(frame_ms, now_s)
        assert clock.sent_ms - heard_ms <= max_ahead_ms + 1e-6
        assert clock.sent_ms - clock.played_ms(now_s) > max_ahead_ms - frame_ms
