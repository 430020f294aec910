"""Written English with numbers, dates, addresses and abbreviations in it is read as a newsreader would."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, starmap
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyduplex_server.text.english import READINGS
from cosyduplex_server.text.english_form import one_of
from cosyduplex_server.text.english_numbers import cardinal, ordinal, roman, year
from cosyduplex_server.text.normalise import Normaliser, Rulebook
from cosyduplex_server.text.reading import Reading
from cosyduplex_server.text.speakable import Run

RULEBOOK = Rulebook(english=READINGS, chinese=())

# Source and what is said of it, one case a line.
_TABLE = Path(__file__).with_name("english_readings.txt").read_text(encoding="utf-8")
CASES = [tuple(line.split(" => ")) for line in _TABLE.splitlines() if " => " in line]
SOURCES = [source for source, _ in CASES]


def spoken(text: str, sizes: list[int]) -> str:
    """What is said of `text` when it comes in pieces of these sizes, in turn."""
    normaliser = Normaliser(RULEBOOK, language="en")
    said: list[str] = []
    at = turn = 0
    while at < len(text):
        end = min(at + sizes[turn % len(sizes)], len(text))
        run = normaliser.read(Run(text[at:end], list(range(at, end))), final=end == len(text))
        assert len(run.text) == len(run.offsets)
        said.append(run.text)
        at, turn = end, turn + 1
    return "".join(said)


def test_the_table_is_large_and_holds_no_case_twice() -> None:
    assert len(CASES) >= 250
    assert len(set(SOURCES)) == len(SOURCES)


@pytest.mark.parametrize(("source", "words"), CASES, ids=SOURCES)
def test_it_is_read_as_a_newsreader_would(source: str, words: str) -> None:
    assert spoken(source, [len(source)]) == words


@pytest.mark.parametrize("source", SOURCES)
def test_it_is_read_the_same_character_by_character(source: str) -> None:
    assert spoken(source, [1]) == spoken(source, [len(source)])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(SOURCES), min_size=1, max_size=3),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_any_split_of_any_cases_is_read_the_same(sources: list[str], sizes: list[int]) -> None:
    text = " ".join(sources)
    assert spoken(text, sizes) == spoken(text, [len(text)])


PIECES = [
    *"0123459abhkmpsxzACDGIKMSVX .,:;-–/'\"°%$€#@&+=<>~^_()½²\n",
    *"10 1.5 12:30 2026 1,000 555 -1234 www. http:// .com v2 GPT GB 1/2 e.g etc.".split(),
    *"T10:05 '90s 5' lb. USD .py /h".split(),
    *(f" {word}" for word in "a am p.m. km million 21 ft II The stars - = x to in 000".split()),
    *(f"{word} " for word in "Nov , Dr. St. No. King Henry sq The Main World War Part I in".split()),
]


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=20).map("".join),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_any_split_of_anything_is_read_the_same(text: str, sizes: list[int]) -> None:
    assert spoken(text, sizes) == spoken(text, [len(text)])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=20).map("".join))
def test_no_digit_is_left_to_the_voice(text: str) -> None:
    assert not any(char in "0123456789" for char in spoken(text, [len(text)]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=20).map("".join))
def test_offsets_never_go_back(text: str) -> None:
    run = Normaliser(RULEBOOK, language="en").read(Run(text, list(range(len(text)))), final=True)
    assert all(a <= b for a, b in pairwise(run.offsets))


def test_every_reading_is_heard_in_the_table() -> None:
    heard = set[int]()

    def recording(number: int, reading: Reading) -> Reading:
        def read(match: regex.Match[str]) -> str | None:
            words = reading.read(match)
            if words is not None:
                heard.add(number)
            return words

        return replace(reading, read=read)

    rulebook = Rulebook(english=tuple(starmap(recording, enumerate(READINGS))), chinese=())
    for source in SOURCES:
        Normaliser(rulebook, language="en").read(Run(source, list(range(len(source)))), final=True)
    assert [reading for number, reading in enumerate(READINGS) if number not in heard] == []


# --- Numbers in words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (17, "seventeen"),
        (40, "forty"),
        (999, "nine hundred ninety nine"),
        (1_000_001, "one million one"),
        (10**15, "one quadrillion"),
        (999 * 10**15, "nine hundred ninety nine quadrillion"),
        (10**18, "one" + " zero" * 18),
    ],
)
def test_cardinals_reach_the_quadrillions(number: int, words: str) -> None:
    assert cardinal(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "first"),
        (8, "eighth"),
        (9, "ninth"),
        (12, "twelfth"),
        (20, "twentieth"),
        (45, "forty fifth"),
        (100, "one hundredth"),
    ],
)
def test_ordinals_change_the_last_word_alone(number: int, words: str) -> None:
    assert ordinal(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1900, "nineteen hundred"),
        (1905, "nineteen oh five"),
        (2000, "two thousand"),
        (2009, "two thousand nine"),
        (2010, "twenty ten"),
        (1066, "ten sixty six"),
        (1000, "one thousand"),
    ],
)
def test_years_are_said_in_pairs_but_for_the_first_of_a_millennium(number: int, words: str) -> None:
    assert year(number) == words


@pytest.mark.parametrize(
    ("numeral", "value"),
    [("I", 1), ("IV", 4), ("IX", 9), ("XLIX", 49), ("LVIII", 58), ("XC", 90), ("CCC", 300)],
)
def test_roman_numerals_have_their_value(numeral: str, value: int) -> None:
    assert roman(numeral) == value


@pytest.mark.parametrize("numeral", ["", "IIII", "VX", "IC", "IXI", "A"])
def test_what_is_no_roman_numeral_has_none(numeral: str) -> None:
    assert roman(numeral) is None


def test_one_of_takes_the_longest_word_that_stands_there() -> None:
    words = ["m", "mm", "mol", "min", "m²", "s"]
    pattern = regex.compile(one_of(words))
    for word in words:
        assert pattern.fullmatch(word)
        match = pattern.match(word + "x")
        assert match is not None
        assert match[0] == word


# --- Hostile texts

HOSTILE = [
    *"1 1, 1. 1- 1/ 1: 1x 1e 1° 1' ½ 0x a. a/ a- a_ a1 a@ A1- $ $1 ( @ #a / ~/ = X 1km/ 1,000,".split(),
    *"192.168. 00: 10^ x²".split(),
    *(f"{word} " for word in "1 Ab & No. Jan 1,000 +1 X I St. II < http://a/ p.m.".split()),
    *("Jan 1 ", "1 000 ", "5 p.m. ", "X I "),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_hostile_text_is_read_to_its_end(unit: str) -> None:
    text = (unit * 10000)[:10000]
    assert spoken(text, [512]) == spoken(text, [len(text)])
