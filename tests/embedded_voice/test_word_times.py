"""From the library's rough word starts to times: in order, without overlap, every word of ours has one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_espeak.text import Word, split_runs
from cosyduplex_espeak.timing import TimedWord, WordTimer


def words_of(text: str) -> tuple[Word, ...]:
    (run,) = split_runs(text, "en")
    return run.words


def times(text: str, starts: list[tuple[int, int]], sound_end: int) -> list[tuple[str, int, int]]:
    """Words timed where everything sounds up to `sound_end`."""
    timer = WordTimer(words_of(text))
    timed: list[TimedWord] = []
    loud = np.arange(sound_end)
    for position, sample in starts:
        timer.hear(loud[loud < sample])
        timed += timer.begin(position, sample)
    timer.hear(loud)
    timed += timer.finish()
    return [
        (text[one.word.char_start : one.word.char_end], one.sample_start, one.sample_end) for one in timed
    ]


def test_a_word_lasts_until_the_next_one_begins() -> None:
    assert times("one two", [(0, 0), (4, 100)], 180) == [("one", 0, 100), ("two", 100, 180)]


def test_a_pause_belongs_to_no_word() -> None:
    timer = WordTimer(words_of("one... two"))
    timer.begin(0, 0)
    timer.hear(np.arange(60))
    (first,) = timer.begin(7, 100)
    assert (first.sample_start, first.sample_end) == (0, 60)


def test_several_starts_of_one_number_count_once() -> None:
    starts = [(0, 0), (1, 40), (1, 70), (0, 90), (5, 120)]
    assert times("2026 now", starts, 200) == [("2026", 0, 120), ("now", 120, 200)]


def test_words_without_a_start_share_the_time_of_the_one_before() -> None:
    assert times("of the end", [(0, 0), (7, 100)], 150) == [
        ("of", 0, 40),
        ("the", 40, 100),
        ("end", 100, 150),
    ]
    assert times("你好吗", [(0, 0), (2, 100)], 150) == [("你", 0, 50), ("好", 50, 100), ("吗", 100, 150)]


def test_words_before_the_first_start_share_its_time() -> None:
    assert times("a bcd", [(2, 20)], 100) == [("a", 20, 40), ("bcd", 40, 100)]


def test_a_second_start_at_one_hanzi_belongs_to_the_number_after_it() -> None:
    starts = [(0, 0), (1, 50), (1, 90), (3, 150)]
    assert times("价是3.14", starts, 300) == [("价", 0, 50), ("是", 50, 90), ("3.14", 90, 300)]


def test_sound_without_any_start_is_shared_by_all_words_and_silence_gives_none() -> None:
    assert times("ab cd", [], 100) == [("ab", 0, 50), ("cd", 50, 100)]
    assert times("ab cd", [(0, 0), (3, 5)], 0) == []


@given(
    st.text("ab 你好1.,", min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(-1, 25), st.integers(0, 500)), max_size=12),
    st.integers(1, 600),
)
def test_any_starts_give_every_word_one_time_in_order(
    text: str, starts: list[tuple[int, int]], sound_end: int
) -> None:
    all_words = [word for run in split_runs(text, "en")[:1] for word in run.words]
    timer = WordTimer(all_words)
    timed: list[TimedWord] = []
    heard = 0
    for position, sample in sorted(starts, key=lambda start: start[1]):
        timer.hear(np.arange(heard, min(sample, sound_end)))
        heard = max(heard, min(sample, sound_end))
        timed += timer.begin(position, sample)
    timer.hear(np.arange(heard, sound_end))
    timed += timer.finish()
    assert [one.word for one in timed] == all_words
    position = 0
    for one in timed:
        assert position <= one.sample_start <= one.sample_end
        position = one.sample_end
