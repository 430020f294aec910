"""When the text comes changes nothing; only where a writer pauses for long may a cut be made.

The contexts here are those of the server, on a clock that the tests move.
"""

from __future__ import annotations

from itertools import groupby, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from text_corpus.corpus import Case, cases, front_end, speak, take_all
from text_corpus.planned import planned_tokens
from text_corpus.timed import IDLE_MS, Heard, hear

CASES = cases()
BY_ID = {case.id: case for case in CASES}

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=6)
pauses = st.lists(st.integers(0, IDLE_MS - 1), min_size=1, max_size=7)
any_pauses = st.lists(
    st.sampled_from([0, 0, 0, 1, IDLE_MS - 1, IDLE_MS, IDLE_MS + 1, 5 * IDLE_MS]), min_size=1, max_size=7
)


def timed(text: str, sizes: list[int], pauses: list[int]) -> list[tuple[str, int]]:
    """The text in pieces of the given sizes, with the given pauses before them, both over and over."""
    fragments = []
    while text:
        turn = len(fragments)
        size = sizes[turn % len(sizes)]
        fragments.append((text[:size], pauses[turn % len(pauses)]))
        text = text[size:]
    return fragments


def joined(heard: Heard) -> list[tuple[int, str]]:
    """The segments an engine was told, whole; the last part of each, and no other, closes it."""
    segments = []
    for index, parts in groupby(heard.told, lambda part: part.segment):
        told = list(parts)
        assert [part.closes for part in told] == [False] * (len(told) - 1) + [True]
        segments.append((index, "".join(part.text for part in told)))
    return segments


def whole(case: Case) -> Heard:
    """What comes of the text when it comes at once."""
    return hear([(case.source, 0)], case.options, text_streaming=False)


# --- Pauses shorter than the idle time


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(CASES), sizes, pauses, st.booleans())
def test_a_writer_of_any_rhythm_gets_the_same_segments_at_the_same_places(
    case: Case, sizes: list[int], pauses: list[int], text_streaming: bool
) -> None:
    heard = hear(timed(case.source, sizes, pauses), case.options, text_streaming=text_streaming)
    assert joined(heard) == [(segment.index, segment.text) for segment in speak(case)]
    assert heard.places == whole(case).places
    for _, mark in heard.words:
        assert mark.text == case.source[mark.char_start : mark.char_end]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(CASES[::6]), sizes, pauses, st.booleans())
def test_the_speech_model_is_given_the_same_tokens_in_any_rhythm(
    case: Case, sizes: list[int], pauses: list[int], text_streaming: bool
) -> None:
    heard = hear(timed(case.source, sizes, pauses), case.options, text_streaming=text_streaming)
    told = [(part.segment, part.text, part.closes) for part in heard.told]
    assert planned_tokens(told) == planned_tokens(
        [(segment.index, segment.text, True) for segment in speak(case)]
    )


# --- Longer ones

Place = tuple[str, int, int]


def between_words(case: Case, reading: list[Place]) -> list[int]:
    """The places of a text where a word has ended, and what still waits would be said as it is written.

    A reader who is given "$5 " and no more says "five dollars", and cannot take it back when "million" comes.
    """

    def as_written(word: str, start: int, end: int) -> bool:
        # A letter can be a word of an expression: the m of "p.m.".
        return source[start:end] == word and (len(word) > 1 or not word.isascii())

    source, found = case.source, []
    front = front_end(case)
    front.in_parts = True
    for place in range(1, len(source)):
        front.append(source[place - 1])
        take_all(front)
        waits_from = place - front.pending_chars
        waiting = [word for word in reading if word[2] > waits_from and word[1] < place]
        ends_word = source[place - 1].isspace() or not (source[place - 1] + source[place]).isascii()
        if ends_word and all(end <= place and as_written(word, start, end) for word, start, end in waiting):
            found.append(place)
    return found


def with_long_pauses(case: Case, cuts: list[int], *, text_streaming: bool) -> Heard:
    """What comes of the text when its writer pauses for long at each of these places."""
    fragments = [case.source[left:right] for left, right in pairwise([0, *cuts, len(case.source)])]
    return hear([(one, 2 * IDLE_MS) for one in fragments], case.options, text_streaming=text_streaming)


# All cases: what Hypothesis draws depends, "repeatable" or not, on the constants in the modules that are
# imported, so that a failure of the next test comes and goes with the tests that run beside it.
@pytest.mark.parametrize("begin", range(0, len(CASES), 50))
def test_long_pauses_between_all_words_change_no_word_and_no_place(begin: int) -> None:
    for case in CASES[begin : begin + 50]:
        reading = whole(case).places
        cuts = between_words(case, reading)
        for text_streaming in (False, True):
            paused = with_long_pauses(case, cuts, text_streaming=text_streaming)
            assert paused.places == reading, case.id


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(CASES), st.lists(st.integers(0, 999), max_size=4), st.booleans())
def test_a_long_pause_between_words_changes_no_word_and_no_place(
    case: Case, chosen: list[int], text_streaming: bool
) -> None:
    reading = whole(case).places
    allowed = between_words(case, reading)
    cuts = sorted({allowed[number % len(allowed)] for number in chosen}) if allowed else []
    assert with_long_pauses(case, cuts, text_streaming=text_streaming).places == reading


def lost(expected: list[Place], places: list[Place], source: str) -> list[Place]:
    """The words in whose place nothing is said; a sign that is left alone has no words."""
    said = {at for _, start, end in places for at in range(start, end)}
    return [
        word
        for word in expected
        if said.isdisjoint(range(word[1], word[2])) and any(map(str.isalnum, source[word[1] : word[2]]))
    ]


def check_once_and_in_order(places: list[Place], source: str) -> None:
    """Nothing is said before what stands before it, and no word as it was written is said twice."""
    for before, after in pairwise(places):
        assert before[1] <= after[1], (before, after)
        assert before[2] <= after[2], (before, after)
        # A letter can be a word of an expression: the C of "C++".
        as_written = any(len(word) > 1 and source[start:end] == word for word, start, end in (before, after))
        assert before[2] <= after[1] or not as_written, (before, after)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(CASES), sizes, any_pauses, st.booleans())
@example(BY_ID["names-en-05"], [1], [IDLE_MS], False)
@example(BY_ID["names-en-05"], [1], [IDLE_MS], True)
@example(BY_ID["money-en-06"], [1], [IDLE_MS], True)
def test_pauses_of_any_length_anywhere_lose_nothing_and_say_nothing_twice(
    case: Case, sizes: list[int], pauses: list[int], text_streaming: bool
) -> None:
    heard = hear(timed(case.source, sizes, pauses), case.options, text_streaming=text_streaming)
    joined(heard)
    check_once_and_in_order(heard.places, case.source)
    assert lost(whole(case).places, heard.places, case.source) == []
