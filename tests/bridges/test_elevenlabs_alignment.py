"""Times of characters, for words that are told early, late or never, and audio in pieces of any size."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from cosyduplex.messages import WordMark
from cosyduplex_bridges.elevenlabs.alignment import Alignment, Characters

RATE_HZ = 1000  # a sample is a millisecond


def words_of(text: str, ms_per_char: int) -> list[WordMark]:
    return [
        WordMark(
            text=found[0],
            start_ms=found.start() * ms_per_char,
            end_ms=found.end() * ms_per_char,
            char_start=found.start(),
            char_end=found.end(),
        )
        for found in re.finditer(r"\w+", text)
    ]


def told(text: str, sizes: list[int], lead_ms: int, ms_per_char: int = 60) -> list[Alignment]:
    """What the messages tell of a text whose words are known `lead_ms` before their audio is sent."""
    characters = Characters(RATE_HZ)
    characters.append(text)
    words, end, sent, alignments = words_of(text, ms_per_char), len(text) * ms_per_char, 0, []
    pieces = iter(sizes)
    while sent < end:
        until = min(sent + next(pieces, 200), end)
        known = [word for word in words if word.start_ms < until + lead_ms]
        words = words[len(known) :]
        characters.time(known, 0)
        if sent < characters.clock < until:
            until = characters.clock
        elif characters.clock < until and (alignment := characters.take(sent, until)):
            alignments.append(alignment)
        sent = until
    if rest := characters.take_rest(sent, sent):
        alignments.append(rest)
    return alignments


texts = st.lists(st.sampled_from(["one", "of", "these", "...", "—", ",", " ", "  ", "字", "\n"]), max_size=30)
sizes = st.lists(st.integers(20, 600), max_size=60)


@given(texts.map("".join), sizes, st.sampled_from([-2000, -300, 0, 1000]))
def test_every_character_is_told_once_and_in_order(text: str, sizes: list[int], lead_ms: int) -> None:
    alignments = told(text, sizes, lead_ms)
    assert "".join(char for alignment in alignments for char in alignment.chars) == text
    starts = [start for alignment in alignments for start in alignment.starts]
    assert starts == sorted(starts)
    for alignment in alignments:
        message = alignment.of_message()
        assert len(message["chars"]) == len(message["charStartTimesMs"]) == len(message["charDurationsMs"])
        assert min(*message["charStartTimesMs"], *message["charDurationsMs"], 0) == 0


@given(texts.map("".join), sizes)
def test_a_clock_of_added_durations_is_right_where_words_are_known(text: str, sizes: list[int]) -> None:
    clock_ms = 0
    for alignment in told(f"a {text} z", sizes, lead_ms=10_000):
        assert clock_ms == alignment.begin
        message = alignment.of_message()
        clock_ms += message["charStartTimesMs"][-1] + message["charDurationsMs"][-1]


@given(texts.map("".join), sizes)
def test_a_word_that_is_known_is_told_at_its_time(text: str, sizes: list[int]) -> None:
    alignments = told(text, sizes, lead_ms=10_000)
    starts = [start for alignment in alignments for start in alignment.starts]
    for word in words_of(text, 60):
        assert starts[word.char_start] == word.start_ms


def test_what_was_flushed_is_told_with_the_flush() -> None:
    characters = Characters(RATE_HZ)
    characters.append("One... ")
    characters.flush()
    characters.append("Two.")
    characters.time(words_of("One", 60), 0)
    assert characters.take(0, 180) is not None
    flushed = characters.take_flushed(180, 300)
    assert flushed is not None
    assert "".join(flushed.chars) == "... "
    assert (flushed.starts[0], flushed.ends[-1]) == (180, 300)
    rest = characters.take_rest(300, 300)
    assert rest is not None
    assert "".join(rest.chars) == "Two."
