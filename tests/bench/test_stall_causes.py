"""Who is to blame for a hole: the writer, the engine or the gateway."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.bench.listener import Stall
from cosyduplex_server.bench.stalls import (
    Blame,
    ServerUnderruns,
    Words,
    Writing,
    blame,
    released,
    text_holes,
)

# "One." is known to end when the blank after it comes, at 0.5 s; "Two." when the writer has paused, at 1.8 s.
WRITING = Writing(["One.", " Two", "."], [0.0, 0.5, 1.1], 5.0)
ONE_HEARD = Words([400.0], [3])


def holes(dry_s: float, position_ms: float, writing: Writing = WRITING, words: Words = ONE_HEARD) -> bool:
    return bool(text_holes([Stall(position_ms, dry_s, 1)], writing, words))


def test_text_is_released_when_it_is_certain_or_when_the_writer_pauses() -> None:
    assert list(released(WRITING)) == [(4, 0.5), (9, pytest.approx(1.8))]


def test_an_engine_that_streams_text_is_given_words_before_their_sentence_ends() -> None:
    writing = Writing(["One two thr", "ee four."], [0.0, 3.0], 5.0)
    assert list(released(writing, in_parts=True)) == [(7, 0.0), (13, 3.0), (19, pytest.approx(3.7))]
    two_is_next = ([Stall(400.0, 0.5, 1)], writing, Words([400.0], [3]))
    assert text_holes(*two_is_next) == {400.0}
    assert text_holes(*two_is_next, in_parts=True) == frozenset()
    three_is_next = ([Stall(800.0, 2.0, 1)], writing, Words([400.0, 800.0], [3, 7]))
    assert text_holes(*three_is_next, in_parts=True) == {800.0}


def test_a_stream_whose_next_word_was_not_written_yet_waits_for_text() -> None:
    assert holes(dry_s=1.5, position_ms=400.0)


def test_a_word_that_was_there_in_time_was_not_waited_for() -> None:
    assert not holes(dry_s=2.5, position_ms=400.0)


def test_a_hole_within_a_word_is_not_for_want_of_text() -> None:
    assert not holes(dry_s=1.5, position_ms=200.0)


def test_text_that_comes_in_the_last_moment_is_late() -> None:
    assert holes(dry_s=1.81, position_ms=400.0)
    assert not holes(dry_s=1.83, position_ms=400.0)


def test_after_the_last_word_only_an_open_text_is_waited_for() -> None:
    all_heard = Words([400.0, 800.0], [3, 8])
    assert holes(dry_s=3.0, position_ms=800.0, words=all_heard)
    assert not holes(dry_s=6.0, position_ms=800.0, words=all_heard)


def test_a_text_that_was_cut_off_is_judged_by_what_was_written() -> None:
    cut = Writing(["One.", " Two", " three."], [0.0, 1.0], None)
    assert holes(dry_s=1.2, position_ms=400.0, writing=cut)
    assert not holes(dry_s=0.1, position_ms=0.0, writing=Writing(["One. "], [0.0], None), words=Words([], []))


def test_a_buffered_listener_waits_for_text_where_the_unbuffered_one_does() -> None:
    late, later = Stall(400.0, 1.86, 4), Stall(900.0, 3.0, 2)
    assert blame([late, later], frozenset({400.0}), server_underruns=2) == Blame(text=4, shared=2)


def test_a_stream_the_server_saw_without_a_hole_was_held_up_behind_it() -> None:
    assert blame([Stall(100.0, 1.0, 3)], frozenset(), server_underruns=0) == Blame(gateway=3)


def test_what_is_shared_falls_to_compute_and_gateway_as_the_server_counted() -> None:
    slots = Blame(text=5, gateway=1, shared=8).split(ServerUnderruns(text=9, compute=3, gateway=1))
    assert slots == {"text": 5, "compute": 6, "gateway": 3, "unattributed": 0}


def test_where_the_server_counted_neither_the_audio_was_late_behind_it() -> None:
    slots = Blame(shared=8).split(ServerUnderruns(text=9, compute=0, gateway=0))
    assert slots["gateway"] == 8


def test_without_the_servers_counts_nobody_is_accused() -> None:
    assert Blame(text=1, shared=8).split(None) == {"text": 1, "compute": 0, "gateway": 0, "unattributed": 8}


counts = st.integers(0, 1000)


@given(counts, counts, counts, st.builds(ServerUnderruns, counts, counts, counts) | st.none())
def test_every_slot_has_a_cause(text: int, gateway: int, shared: int, seen: ServerUnderruns | None) -> None:
    slots = Blame(text, gateway, shared).split(seen)
    assert sum(slots.values()) == pytest.approx(text + gateway + shared)
