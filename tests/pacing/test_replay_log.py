"""The log of what was sent: bounded, in order, and let go of as it arrives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.replay import MAX_EVENTS, ReplayLog


def test_no_more_than_the_window_is_kept():
    log = ReplayLog(replay_ms=100)
    for seq in range(1, 21):
        log.add_frames(seq, 20, [b"x"])
    assert log.kept_ms == 100
    assert log.first_seq == 16


def test_a_write_of_several_frames_is_kept_and_let_go_of_as_one():
    log = ReplayLog(replay_ms=100)
    log.add_frames(3, 60, [b"1", b"2", b"3"])
    assert (len(log), log.first_seq) == (3, 1)
    log.acknowledge(last_seq=2, last_ev=0)
    assert log.first_seq == 1
    log.add_frames(6, 60, [b"4", b"5", b"6"])
    assert (len(log), log.first_seq, log.kept_ms) == (3, 4, 60)


def test_events_alone_are_bounded_too():
    log = ReplayLog(replay_ms=100)
    for ev in range(1, MAX_EVENTS + 500):
        log.add_event(ev, b"{}")
    assert len(log) == MAX_EVENTS


def test_what_has_arrived_is_let_go_of_up_to_the_first_that_has_not():
    log = ReplayLog(replay_ms=1000)
    log.add_event(1, b"{}")
    log.add_frames(1, 20, [b"x"])
    log.add_event(2, b"{}")
    log.add_frames(2, 20, [b"x"])
    log.acknowledge(last_seq=2, last_ev=1)
    assert (len(log), log.first_seq) == (2, 2)
    log.acknowledge(last_seq=2, last_ev=2)
    assert (len(log), log.first_seq, log.kept_ms) == (0, 0, 0)


@given(st.lists(st.tuples(st.sampled_from("fea"), st.integers(0, 30), st.integers(0, 30)), max_size=200))
def test_its_sums_are_always_those_of_its_entries(steps):
    log, seq, ev = ReplayLog(replay_ms=200), 0, 0
    for kind, a, b in steps:
        if kind == "f":
            seq += 1
            log.add_frames(seq, a, [b""])
        elif kind == "e":
            ev += 1
            log.add_event(ev, b"")
        else:
            log.acknowledge(a, b)
        assert 0 <= log.kept_ms <= 200
        assert log.first_seq <= seq
    log.acknowledge(seq, ev)
    assert len(log) == 0
    assert log.kept_ms == 0
