from dataclasses import astuple
from itertools import pairwise
from typing import Any

import pytest
from cosyvoice.small_tokenizer import CORPUS, small_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.engine.cosyvoice.plan import (
    PlanItem,
    SegmentEnd,
    TextPlan,
    TextStart,
    Unit,
    certain_tokens,
)
from cosyduplex_server.engine.outbox import FinishPoint, FlushPoint

POLICIES: list[TextStart] = ["clause", "interleave", "sentence"]


def plan(text_start: TextStart = "clause", **options: int) -> TextPlan:
    return TextPlan(small_tokenizer(), text_start, **options)


def drain(plan: TextPlan) -> list[PlanItem]:
    items = []
    while (item := plan.next()) is not None:
        items.append(item)
    return items


def units(items: list[PlanItem]) -> list[Unit]:
    return [item for item in items if isinstance(item, Unit)]


def speak(text: str, text_start: TextStart = "clause", **options: int) -> list[Unit]:
    """The units of one segment that is complete at once."""
    planned = plan(text_start, **options)
    planned.append(0, text, True)
    return units(drain(planned))


def texts(text: str, text_start: TextStart = "clause", **options: int) -> list[str]:
    return [unit.text for unit in speak(text, text_start, **options)]


def frozen(items: list[PlanItem]) -> list[Any]:
    return [astuple(item) if isinstance(item, Unit) else item for item in items]


def whole(text: str) -> list[int]:
    return small_tokenizer().encode(text)


# --- The policies --------------------------------------------------------------------------------------

ENGLISH = "The weather is lovely today, so we are going to the park together."
CHINESE = "今天天气很好，我们一起去公园玩吧。"


def test_sentence_speaks_one_complete_unit() -> None:
    planned = plan("sentence")
    planned.append(0, ENGLISH[:30], False)
    assert planned.next() is None
    planned.append(0, ENGLISH[30:], True)
    unit, end = drain(planned)
    assert isinstance(unit, Unit)
    assert (unit.mode, unit.closed, unit.continues, unit.text) == ("uni", True, False, ENGLISH)
    assert unit.ids == whole(ENGLISH)
    assert end == SegmentEnd(0)


def test_interleave_begins_with_the_first_word() -> None:
    planned = plan("interleave")
    planned.append(0, "The weather", False)
    unit = planned.next()
    assert isinstance(unit, Unit)
    assert (unit.mode, unit.closed, unit.text) == ("bi", False, "The")
    planned.append(0, " is", False)
    assert unit.text == "The weather"
    assert planned.next() is None
    planned.append(0, ENGLISH[len("The weather is") :], True)
    assert unit.closed
    assert unit.ids == whole(ENGLISH)
    assert drain(planned) == [SegmentEnd(0)]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (CHINESE, "今天天气很好，"),
        (ENGLISH, "The weather is lovely today,"),
        ("我用 iPhone 打了：好吗？", "我用 iPhone 打了："),
        ("今天天气很好,我们去公园。", "今天天气很好,"),
        ("“The weather is lovely,” he said to the park.", "“The weather is lovely,”"),
        ("“今天天气很好，”他说我们一起去公园。", "“今天天气很好，"),
    ],
)
def test_clause_speaks_the_first_clause_alone(text: str, first: str) -> None:
    first_unit, rest = speak(text, start_tokens=30)
    assert first_unit.text == first
    assert (first_unit.mode, first_unit.closed, first_unit.continues) == ("uni", True, False)
    assert (rest.mode, rest.closed, rest.continues) == ("bi", True, True)
    assert first_unit.ids == whole(first)
    assert rest.ids == whole(rest.text)


def test_marks_after_the_end_of_the_first_clause_are_not_spoken() -> None:
    assert texts("“今天天气很好，”他说。", start_tokens=30)[1] == "他说。"
    assert texts("今天天气很好……”我们去公园。", start_tokens=30) == ["今天天气很好…", "我们去公园。"]


@pytest.mark.parametrize(
    "text",
    [
        "We counted 1,000 and 12:30 and so on",
        "比分是3：2吗大家说",
        "The park costs 3.5 and Mr. Smith is there",
        "好，",
        "The, weather",
    ],
)
def test_no_clause_ends_there(text: str) -> None:
    assert texts(text, start_tokens=60) == [text]


def test_a_clause_mark_of_chinese_is_certain_at_once() -> None:
    planned = plan(start_tokens=30)
    planned.append(0, "今天天气很好，", False)
    (unit,) = drain(planned)
    assert isinstance(unit, Unit)
    assert unit.text == "今天天气很好，"


def test_a_comma_of_english_waits_for_the_blank() -> None:
    planned = plan(start_tokens=30)
    planned.append(0, "The weather is lovely today,", False)
    assert planned.next() is None
    planned.append(0, " ", False)
    assert units(drain(planned))[0].text == "The weather is lovely today,"


LONG = "we are going to the park today and then we are going to the world of the park once upon a time"


def test_a_long_clause_is_cut_before_a_word() -> None:
    first, rest = speak(LONG)
    assert len(first.tokens) >= 8
    assert first.text + rest.text == LONG
    assert rest.text.startswith(" ")
    words = small_tokenizer().words(LONG)
    before_last_word = [token for word in words if word[-1].end <= first.tokens[-1].end for token in word]
    assert before_last_word == first.tokens
    assert len([token for word in words for token in word if token.end <= len(first.text)]) < 8 + 6
    assert first.ids + rest.ids == whole(LONG)


def test_a_long_clause_waits_for_three_tokens_more() -> None:
    planned = plan()
    tokens = small_tokenizer().tokens(LONG)
    first = len(speak(LONG)[0].tokens)
    shown = tokens[first + 2].end  # the third is certain when the next begins
    planned.append(0, LONG[:shown], False)
    assert planned.next() is None
    planned.append(0, LONG[shown : shown + 2], False)
    assert units(drain(planned))[0].text == LONG[: tokens[first].start]


def test_the_start_is_not_cut_off_a_short_rest() -> None:
    tokens = small_tokenizer().tokens(LONG)
    first = len(speak(LONG)[0].tokens)
    for rest in (1, 2):
        text = LONG[: tokens[first + rest - 1].end]
        if len(whole(text)) == first + rest:
            assert texts(text) == [text]


def test_chinese_without_marks_is_cut_between_tokens() -> None:
    text = "我们一起去公园玩吧我们今天一起去公园天气很好我们说故事"
    first, rest = speak(text)
    assert 8 <= len(first.tokens) < 12
    assert first.text + rest.text == text


def test_only_the_first_sentence_is_two_units() -> None:
    planned = plan(start_tokens=30)
    planned.append(0, CHINESE, True)
    planned.append(1, CHINESE, True)
    planned.finish()
    items = drain(planned)
    assert [(unit.segment, unit.mode, unit.continues) for unit in units(items)] == [
        (0, "uni", False),
        (0, "bi", True),
        (1, "bi", False),
    ]
    assert [unit.number for unit in units(items)] == [0, 1, 2]
    assert items[2:] == [SegmentEnd(0), items[3], SegmentEnd(1), FinishPoint()]


def test_after_a_flush_the_start_is_quick_again() -> None:
    planned = plan(start_tokens=30)
    planned.append(0, CHINESE, True)
    planned.flush(1)
    planned.append(1, CHINESE, True)
    assert [unit.mode for unit in units(drain(planned))] == ["uni", "bi", "uni", "bi"]


def test_a_flush_closes_what_is_open() -> None:
    planned = plan()
    planned.append(0, "The weath", False)
    assert planned.next() is None
    planned.flush(7)
    unit, *others = drain(planned)
    assert isinstance(unit, Unit)
    assert (unit.text, unit.closed) == ("The weath", True)
    assert others == [SegmentEnd(0), FlushPoint(7)]


def test_the_next_segment_closes_the_one_before() -> None:
    planned = plan("interleave")
    planned.append(0, "The weather", False)
    planned.append(1, "is", True)
    first, end, second, _ = drain(planned)
    assert isinstance(first, Unit)
    assert isinstance(second, Unit)
    assert (first.text, end, second.text) == ("The weather", SegmentEnd(0), "is")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("text", ["", " ", "。", "…… ——”", "?!"])
def test_nothing_to_say_is_only_an_end(policy: TextStart, text: str) -> None:
    planned = plan(policy)
    planned.append(0, text, True)
    planned.append(1, "好的吗", True)
    planned.finish()
    end, unit, *others = drain(planned)
    assert end == SegmentEnd(0)
    assert isinstance(unit, Unit)
    assert unit.number == 0
    assert unit.mode == ("bi" if policy == "interleave" else "uni")
    assert others == [SegmentEnd(1), FinishPoint()]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_long_sentence_is_cut_between_words(policy: TextStart) -> None:
    text = " ".join(["The weather is lovely today and it's nice"] * 20)
    pieces = speak(text, policy, max_unit_tokens=50)
    assert "".join(unit.text for unit in pieces) == text
    assert [token for unit in pieces for token in unit.tokens] == small_tokenizer().tokens(text)
    assert all(len(unit.tokens) < 60 for unit in pieces)
    assert all(after.text.startswith(" ") and after.continues for _, after in pairwise(pieces))
    assert all(unit.closed for unit in pieces)


def test_what_has_no_words_is_cut_all_the_same() -> None:
    pieces = speak("7" * 400, max_unit_tokens=100)
    assert "".join(unit.text for unit in pieces) == "7" * 400
    assert max(len(unit.tokens) for unit in pieces) == 132
    assert len(pieces[0].tokens) == 40


def test_special_tokens_are_text() -> None:
    text = "好的<|endofprompt|>[breath]我们"
    (unit,) = speak(text, "sentence")
    assert unit.text == text
    assert small_tokenizer().end_of_prompt not in unit.ids
    assert unit.ids == whole(text)


@pytest.mark.parametrize("text", CORPUS)
def test_short_runs_have_the_tokens_of_the_whole_text(text: str) -> None:
    assert certain_tokens(small_tokenizer(), text, 0, closed=True) == small_tokenizer().tokens(text)


def test_a_text_of_many_characters_takes_no_quadratic_time() -> None:
    text = "我们一起去公园玩吧" * 2000
    tokens = certain_tokens(small_tokenizer(), text, 0, closed=True)
    assert tokens[-1].end == len(text)


# --- Any split gives the same units --------------------------------------------------------------------

fragments = st.sampled_from(
    [
        *("今天", "天气很好", "，", "。", "：", "……", "”", "“", "我们一起去公园玩吧", "3", "12.5", "个"),
        *(" ", "  ", "\n", "The", " weather", "'s", "'", " is", ",", ", ", "!", "?", ")", "(", "it", "1,000"),
        *(
            "e\u0301",
            "\u0301",
            "\u0323",
            "=",
            "\u0338",
            "한국어",
            "ᄒ",
            "ᅡ",
            "😀",
            "ไทย",
            "か\u3099",
            "%",
            "7" * 30,
        ),
        *("internationalization" * 4, "我们今天一起" * 4, "我们一起去 iPhone"),
    ]
)
any_text = st.one_of(st.lists(fragments, max_size=14).map("".join), st.text(max_size=40))
cuts = st.lists(st.integers(0, 400), max_size=12)


def parts(text: str, at: list[int]) -> list[str]:
    bounds = sorted({0, len(text), *(cut for cut in at if cut < len(text))})
    return [text[start:end] for start, end in pairwise(bounds)]


@pytest.mark.parametrize("policy", POLICIES)
@given(st.lists(any_text, min_size=1, max_size=3), cuts, st.integers(1, 9), st.integers(5, 30))
def test_any_split_gives_the_same_units(
    policy: TextStart, segments: list[str], at: list[int], start_tokens: int, max_unit_tokens: int
) -> None:
    options = {"start_tokens": start_tokens, "max_unit_tokens": max_unit_tokens}
    at_once, in_parts = plan(policy, **options), plan(policy, **options)
    items: list[PlanItem] = []
    seen: dict[int, list[int]] = {}
    for number, text in enumerate(segments):
        at_once.append(number, text, True)
        for part in parts(text, at):
            in_parts.append(number, part, False)
            items += drain(in_parts)
            for unit in units(items):  # what a unit had it keeps
                known = seen.setdefault(unit.number, [])
                assert unit.ids[: len(known)] == known
                known[:] = unit.ids
        in_parts.append(number, "", True)
        items += drain(in_parts)
    assert frozen(items) == frozen(drain(at_once))


@given(any_text, st.text(max_size=20), st.text(max_size=20))
def test_certain_tokens_are_the_same_whatever_follows(text: str, one: str, other: str) -> None:
    tokenizer = small_tokenizer()
    known = certain_tokens(tokenizer, text, 0, closed=False)
    for more in (one, other):
        assert certain_tokens(tokenizer, text + more, 0, closed=True)[: len(known)] == known


@pytest.mark.parametrize("policy", POLICIES)
@given(any_text, st.integers(1, 9), st.integers(5, 30))
def test_units_cover_what_can_be_spoken_in_order(
    policy: TextStart, text: str, start_tokens: int, max_unit_tokens: int
) -> None:
    found = speak(text, policy, start_tokens=start_tokens, max_unit_tokens=max_unit_tokens)
    at = 0
    for unit in found:
        assert not any(char.isalnum() for char in text[at : unit.start])
        assert unit.start == unit.tokens[0].start >= at
        at = unit.tokens[-1].end
        assert unit.text == text[unit.start : at]
        assert all(left.start <= right.start for left, right in pairwise(unit.tokens))
        assert any(char.isalnum() for char in unit.text)
    assert not any(char.isalnum() for char in text[at:])
