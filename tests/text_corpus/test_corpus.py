"""Every case of the golden corpus is read as a person would read it, in any split and at any time."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from text_corpus.corpus import Case, cases, front_end, heard, languages, speak, take_all
from text_corpus.planned import planned_tokens

from cosyduplex_server.text.front import Segment

CASES = cases()
PLANNED = CASES[::6]

case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
# A test each would be thousands.
kind = pytest.mark.parametrize("kind", sorted({case.id.rpartition("-")[0] for case in CASES}))


def of(kind: str) -> list[Case]:
    """The cases of one kind."""
    return [case for case in CASES if case.id.rpartition("-")[0] == kind]


# --- The corpus itself


def test_the_corpus_is_large_and_in_both_languages() -> None:
    counts = {name: sum(case.language == name for case in CASES) for name in ("zh", "en", "mixed")}
    assert len(CASES) >= 320
    assert min(counts["zh"], counts["en"]) >= 160
    assert counts["mixed"] >= 60


def test_no_case_is_there_twice() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    assert len({(case.source, repr(case.options)) for case in CASES}) == len(CASES)


# --- Read as a person would


@case
def test_a_case_is_read_as_a_person_would(case: Case) -> None:
    for language in languages(case):
        assert heard(case, speak(case, language=language)) == case.lines, f"language={language}: {case.why}"


@pytest.mark.parametrize(
    ("voice", "spoken"), [("", "three"), ("en-GB", "three"), ("zh", "三"), ("cmn-CN", "三"), ("ja", "3")]
)
def test_a_number_without_letters_is_read_in_the_language_of_the_voice(voice: str, spoken: str) -> None:
    number = Case("voice", "mixed", "3", [], True, "", {"voice_language": voice})
    assert [segment.text for segment in speak(number)] == [spoken]
    before_a_letter = Case("voice", "mixed", "3: yes", [], True, "", {"voice_language": voice})
    assert speak(before_a_letter)[0].text == "three:"


def check_places(segments: list[Segment], source: str) -> None:
    """Each character stands for one of the text, in order; words of one expression may be in two segments."""
    starts = [start for segment in segments for start in segment.offsets[:-1]]
    assert all(before <= after for before, after in pairwise([0, *starts]))
    for segment in segments:
        assert len(segment.offsets) == len(segment.text) + 1
        assert segment.offsets[-2] < segment.source_end <= len(source)


@kind
def test_each_spoken_character_stands_for_one_of_the_text(kind: str) -> None:
    for case in of(kind):
        check_places(speak(case), case.source)


def spoken_words(segment: Segment) -> list[tuple[int, int]]:
    """Where the words of a segment are in its text."""
    ends = accumulate((len(word) + 1 for word in segment.text.split(" ")), initial=0)
    return [(start, stop - 1) for start, stop in pairwise(ends) if stop - 1 > start]


@kind
def test_each_spoken_word_has_a_place_of_its_own_in_the_text(kind: str) -> None:
    for case in of(kind):
        places = [
            (segment.offsets[start], segment.offsets[stop])
            for segment in speak(case)
            for start, stop in spoken_words(segment)
        ]
        for start, stop in places:
            assert 0 <= start <= stop <= len(case.source), case.id
        assert all(before[0] <= after[0] for before, after in pairwise(places)), case.id


# --- However it is split


@kind
def test_a_cut_at_every_place_changes_nothing(kind: str) -> None:
    for case in of(kind):
        whole = speak(case)
        for place in range(1, len(case.source)):
            assert speak(case, [case.source[:place], case.source[place:]]) == whole, (case.id, place)
        assert speak(case, list(case.source)) == whole, case.id


def pieces(text: str, sizes: list[int]) -> list[str]:
    """The text in pieces of the given sizes, over and over."""
    parts: list[str] = []
    while text:
        size = sizes[len(parts) % len(sizes)]
        parts.append(text[:size])
        text = text[size:]
    return parts


splits = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(CASES), min_size=1, max_size=4), st.sampled_from(["\n\n", " ", ""]), splits)
def test_cases_one_after_another_are_the_same_however_they_are_split(
    chosen: list[Case], between: str, sizes: list[int]
) -> None:
    text = between.join(case.source for case in chosen)
    whole = Case("joined", "mixed", text, [], True, "")
    assert speak(whole, pieces(text, sizes)) == speak(whole)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(CASES),
    splits,
    st.lists(st.sampled_from(["take one", "take all", "wait"]), min_size=1, max_size=7),
)
def test_the_moments_of_asking_change_nothing(case: Case, sizes: list[int], actions: list[str]) -> None:
    front = front_end(case)
    taken: list[Segment] = []
    for number, piece in enumerate(pieces(case.source, sizes)):
        front.append(piece)
        action = actions[number % len(actions)]
        if action == "take all":
            taken += take_all(front)
        elif action == "take one" and isinstance(item := front.next(), Segment):
            taken.append(item)
    front.end()
    assert taken + take_all(front) == speak(case)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CASES), splits)
def test_words_given_as_they_become_certain_make_the_same_segments(case: Case, sizes: list[int]) -> None:
    front = front_end(case)
    front.in_parts = True
    taken: list[Segment] = []
    for piece in pieces(case.source, sizes):
        front.append(piece)
        taken += take_all(front)
    front.end()
    taken += take_all(front)
    whole = speak(case)
    joined: dict[int, str] = {}
    for part in taken:
        joined[part.index] = joined.get(part.index, "") + part.text
    assert list(joined.items()) == [(segment.index, segment.text) for segment in whole]


def given_to_engine(parts: list[Segment]) -> list[tuple[int, str, bool]]:
    return [(part.index, part.text, part.closes) for part in parts]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PLANNED), splits)
def test_the_speech_model_is_given_the_same_tokens_however_the_text_is_split(
    case: Case, sizes: list[int]
) -> None:
    front = front_end(case)
    front.in_parts = True
    parts: list[Segment] = []
    for piece in pieces(case.source, sizes):
        front.append(piece)
        parts += take_all(front)
    front.end()
    parts += take_all(front)
    assert planned_tokens(given_to_engine(parts)) == planned_tokens(given_to_engine(speak(case)))


# --- Whatever it is

ATOMS = [
    *"*_~`#[]()<>|!?.,;:-=+/\\\"'$%&@^{} \n\t0123456789aeimvxEGIVX",
    *"你好年月日点第两个元。，、！？：；…—“”（）①½²℃￥",
    *"😀👍\u200d\ufe0f\u20e3\u200b\u202e\x00\x1b\u00ad\u0301\u00a0\u2028\ufeff０５Ａ：－",
    "\ud83d",
    "\ude00",
    "\r\n",
    "**",
    "```\n",
    "](",
    "| ",
    "<think>",
    "</think>",
    "<|im_end|>",
    "http://",
    "www.",
    ".com",
    "1,000",
    "999",
    "12:30",
    "2024-01-15",
    "$3.",
    "5.5%",
    "°C",
    "km/h",
    " pm",
    "Dr. ",
    "No. ",
    "XIV",
    "1/2",
    "~3",
    "-5",
    "万",
    "million ",
    "January ",
    "Chapter ",
]
few_atoms = st.lists(st.sampled_from(ATOMS), min_size=1, max_size=9, unique=True)
wild_texts = few_atoms.flatmap(lambda chosen: st.lists(st.sampled_from(chosen), max_size=50).map("".join))
markups = st.sampled_from(["markdown", "plain"])
context_languages = st.sampled_from(["auto", "zh", "en", "ja"])


@settings(max_examples=500, deadline=None)
@given(wild_texts, splits, markups, context_languages)
@example("12:30" * 10, [1], "markdown", "auto")  # a segment ends within what stands for one character
def test_any_text_is_read_and_never_much_longer_than_it_was_written(
    text: str, sizes: list[int], markup: str, language: str
) -> None:
    wild = Case("wild", "mixed", text, [], True, "", {"markup": markup})
    segments = speak(wild, language=language)
    assert speak(wild, pieces(text, sizes), language=language) == segments
    assert sum(len(segment.text) for segment in segments) <= 40 * len(text) + 100
    check_places(segments, text)
    assert [segment.index for segment in segments] == list(range(len(segments)))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), splits)
def test_any_characters_are_read(text: str, sizes: list[int]) -> None:
    wild = Case("wild", "mixed", text, [], True, "")
    assert speak(wild, pieces(text, sizes)) == speak(wild)
