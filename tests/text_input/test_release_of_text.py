"""When text is spoken: as soon as it is certain, at a flush, at a pause; and never kept without bound."""

import re
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.text.front import FlushPoint, Segment, TextFrontEnd


def take_all(front: TextFrontEnd) -> list[str | int]:
    """The texts of the segments and the numbers of the flush points."""
    taken: list[str | int] = []
    while (item := front.next()) is not None or front.busy:
        if isinstance(item, Segment):
            taken.append(item.text)
        elif isinstance(item, FlushPoint):
            taken.append(item.number)
    return taken


def fed(*pieces: str) -> TextFrontEnd:
    """A front end that has been given `pieces` and asked after each."""
    front = TextFrontEnd()
    for piece in pieces:
        front.append(piece)
        take_all(front)
    return front


def said_at(before: str, last: str) -> list[str | int]:
    """What is released by `last` after `before`."""
    front = fed(*before)
    front.append(last)
    return take_all(front)


# --- A certain boundary


@pytest.mark.parametrize(
    ("before", "last", "released"),
    [
        ("你好，世界", "。", ["世界。"]),
        ("你好", "，", ["你好，"]),
        ("你好，世界……真的", "？", ["真的？"]),
        ("Hello,", " ", ["Hello,"]),
        ("Hello", "\n", ["Hello"]),
        ("Really", "?", ["Really?"]),
        ("**Stop**", "!", ["Stop!"]),
        ("Wait..", ".", ["Wait..."]),
        ("Go to example.com.", " ", ["Go to example dot com."]),
        ("It is 3.", " ", ["It is three."]),
        ("你好,", "w", []),
        ("你好", ",", ["你好,"]),
        ("[a label", "? ", ["a label?"]),
        ("see *this", ", ", ["see this,"]),
        ("`code", ": ", ["code:"]),
        ("a < b", ", ", ["a is less than b,"]),
        ("Wow", "!", ["Wow!"]),
        ("Right ... then", "!", ["then!"]),
        ("iPhone 15", "，", ["iPhone 十五，"]),
    ],
)
def test_a_certain_boundary_does_not_wait(before: str, last: str, released: list[str]) -> None:
    assert said_at(before, last) == released


@pytest.mark.parametrize(
    ("before", "last"),
    [
        ("It is 3", "."),
        ("It is 1", ","),
        ("At 12", ":"),
        ("Ask Dr", ". "),
        ("Made in the U.S", ". "),
        ("https://a.org/x", "?"),
        ("比分3", "："),
        ("Hello wor", "ld"),
        ("Number No", ". "),
        ("if x", "!"),
        ("It is 9", "%"),
        ("Chapter 3", " "),
    ],
)
def test_what_the_next_character_may_change_waits(before: str, last: str) -> None:
    assert said_at(before, last) == []


def test_an_unfinished_sentence_is_spoken_up_to_its_comma() -> None:
    front = TextFrontEnd()
    front.append("Hello, wor")
    assert take_all(front) == ["Hello,"]
    front.append("ld. 你好，世界。")
    assert take_all(front) == ["world.", "你好，世界。"]


@pytest.mark.parametrize("more", ['"', "”", "?!", "。", "...", ")", "~", ' "\n ', "🎉"])
def test_what_trails_a_released_boundary_is_no_segment(more: str) -> None:
    front = fed("Really?", more)
    front.end()
    assert take_all(front) == []


# --- Hold-back

OPENERS = ["[", "![", "[x](", "<", "</", "< ", "<b ", "<a href=", '<a href="', "<|", "< think", "<think "]
OPENERS += ["*", "**", "_", "~", "`", "``", "\\", "|", "- [", "#", "1", "(", "“", "http://a.b/?"]


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("words", ["word ", "字", "a<", "w."])
def test_no_opener_withholds_the_text_after_it(opener: str, words: str) -> None:
    front = TextFrontEnd()
    front.append(opener + words * 1500)
    spoken_to = 0
    while (item := front.next()) is not None or front.busy:
        if isinstance(item, Segment):
            spoken_to = item.source_end
    # 400 for the longest tag, 200 for the longest segment.
    assert front.appended_chars - spoken_to <= 600
    assert front.pending_chars <= 600


@given(st.lists(st.sampled_from([*"<[]*_|\\#-/=\"' ab1.,。你\n", "<think", "<b ", "<a x="]), max_size=200))
def test_what_waits_is_bounded_at_every_character(pieces: list[str]) -> None:
    front = TextFrontEnd(max_segment_chars=20)
    for char in "".join(pieces):
        front.append(char)
        take_all(front)
        assert front.pending_chars <= 450


def test_a_long_silence_is_passed_in_short_steps() -> None:
    front = TextFrontEnd()
    front.append("<think>" + "plan " * 20_000 + "</think>Done.")
    steps = 0
    while (item := front.next()) is None and front.busy:
        steps += 1
    assert item is None
    assert steps >= 50
    front.end()
    assert take_all(front) == ["Done."]


def test_append_leaves_the_work_to_next() -> None:
    front = TextFrontEnd()
    front.append("One sentence. " * 50_000)
    assert front.pending_chars == front.appended_chars == 700_000
    assert isinstance(front.next(), Segment)
    assert front.busy
    assert front.pending_chars > 697_000


@pytest.mark.parametrize("piece", ["1" * 500, "<think>xx " * 50, "word " * 100, "```\n" * 125, "<b " * 166])
def test_memory_stays_bounded(piece: str) -> None:
    front = TextFrontEnd()
    tracemalloc.start()
    try:
        for _ in range(300):
            front.append(piece)
            take_all(front)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 300_000


# --- Without punctuation


@pytest.mark.parametrize("char", ["1", "x", "字", "ก", "-1", "́"])
def test_endless_text_is_cut_at_the_longest_segment(char: str) -> None:
    front = TextFrontEnd(max_segment_chars=200, normalize=False)
    front.append((char * 100_000)[:100_000])
    front.end()
    texts = [text for text in take_all(front) if isinstance(text, str)]
    assert all(len(text) <= 200 for text in texts)
    assert len("".join(texts)) == (100_000 if char.isalnum() or "1" in char else 0)


def test_long_text_is_cut_between_words() -> None:
    front = TextFrontEnd(max_segment_chars=20, normalize=False)
    front.append("alpha beta gamma delta epsilon 1,234,567.89 zeta")
    front.end()
    assert take_all(front) == ["alpha beta gamma", "delta epsilon", "1,234,567.89 zeta"]


def test_long_mixed_text_is_cut_beside_a_cjk_character() -> None:
    front = TextFrontEnd(max_segment_chars=10)
    front.append("我们用PyTorch写模型很快")
    front.end()
    assert take_all(front) == ["我们用PyTorch", "写模型很快"]


def test_a_word_longer_than_a_segment_is_cut_inside() -> None:
    front = TextFrontEnd(max_segment_chars=10)
    front.append("so Donaudampfschifffahrt")
    front.end()
    assert take_all(front) == ["so", "Donaudampf", "schifffahr", "t"]


def test_a_segment_limit_too_small_for_a_word_is_refused() -> None:
    with pytest.raises(ValueError, match="max_segment_chars"):
        TextFrontEnd(max_segment_chars=9)


# --- Flush and end


def test_flush_speaks_what_has_been_appended() -> None:
    front = fed("Hello wor")
    front.flush()
    assert take_all(front) == ["Hello wor", 1]
    front.append("ld again")
    front.end()
    assert take_all(front) == ["ld again"]


def test_flush_with_nothing_pending_is_answered_at_once() -> None:
    front = TextFrontEnd()
    front.flush()
    front.flush()
    assert take_all(front) == [1, 2]
    assert not front.exhausted


def test_flushes_are_answered_in_order_behind_their_text() -> None:
    front = TextFrontEnd()
    for text in ["one", "", "two. three", "*"]:
        front.append(text)
        front.flush()
    assert take_all(front) == ["one", 1, 2, "two.", "three", 3, 4]


def test_text_after_a_flush_decides_nothing_before_it() -> None:
    front = TextFrontEnd()
    front.append("It is 3.")
    front.flush()
    front.append("14 or so")
    front.end()
    assert take_all(front) == ["It is three.", 1, "fourteen or so"]


def test_markup_goes_on_over_a_flush() -> None:
    front = TextFrontEnd()
    front.append("**bo")
    front.flush()
    front.append("ld** <think>a")
    front.flush()
    front.append("b</think> c ```")
    front.end()
    assert take_all(front) == ["bo", 1, "ld", 2, "c"]


def test_the_first_clause_after_a_flush_is_cut_short_again() -> None:
    front = fed("First, second, third.")
    front.flush()
    assert take_all(front) == ["second, third.", 1]
    front.append("Fourth, fifth, sixth.")
    front.end()
    assert take_all(front) == ["Fourth,", "fifth, sixth."]


def test_the_end_leaves_nothing_pending() -> None:
    front = TextFrontEnd()
    front.append("Say (this *now <b")
    assert not front.exhausted
    front.end()
    front.end()
    assert not front.exhausted
    assert take_all(front) == ["Say (this now <b"]
    assert front.exhausted
    assert front.pending_chars == 0


def test_offsets_lead_back_to_the_appended_text() -> None:
    text = "Go **home** 😀, [now](u)."
    front = TextFrontEnd()
    front.append(text)
    front.end()
    first, second = front.next(), front.next()
    assert isinstance(first, Segment)
    assert isinstance(second, Segment)
    assert (first.text, first.source_start, first.source_end) == ("Go home,", 0, text.index(",") + 1)
    home = first.text.index("home")
    assert text[first.offsets[home] : first.offsets[home + 3] + 1] == "home"
    assert (second.text, text[second.source_start : second.source_end]) == ("now.", "now](u).")


# --- The writer pauses


@pytest.mark.parametrize(
    ("written", "spoken", "more", "then"),
    [
        ("Hello wor", ["Hello"], "ld. ", ["world."]),
        ("Hello world ", ["Hello world"], "again. ", ["again."]),
        ("It is 3", ["It is"], ".5 m. ", ["three point five meters."]),
        ("It is 3.", ["It is"], "5 m. ", ["three point five meters."]),
        ("It is 3 ", ["It is three"], "of us. ", ["of us."]),
        ("Ask Dr", ["Ask"], ". Wu. ", ["Doctor Wu."]),
        ("Ask Dr.", ["Ask"], " Wu. ", ["Doctor Wu."]),
        ("See the U.S.", ["See the U.S."], " law. ", ["law."]),
        ("今年是2024年", ["今年是二零二四年"], "啊。", ["啊。"]),
        ("It ends at 5 p.m.", ["It ends at five p m."], " Come. ", ["Come."]),
        ("That is all.", ["That is all."], " Next. ", ["Next."]),
        ("See example", ["See"], ".com. ", ["example dot com."]),
        ("今天天气", ["今天天气"], "很好。", ["很好。"]),
        ("我用Pyth", ["我用"], "on写。", ["Python写。"]),
        ("共12", ["共"], "3元。", ["一百二十三元。"]),
        ("**", [], "x** ", []),
        ("word", [], "s ", []),
        ("", [], "Hi. ", ["Hi."]),
    ],
)
def test_a_pause_releases_complete_words(written: str, spoken: list[str], more: str, then: list[str]) -> None:
    front = fed(*written)
    front.idle()
    assert take_all(front) == spoken
    front.append(more)
    assert take_all(front) == then


def test_a_pause_that_is_over_releases_nothing() -> None:
    front = fed("Hello wor")
    front.idle()
    front.append("ld")
    assert take_all(front) == []


TOKENS = [
    "word",
    "x",
    "3.14",
    "1,000",
    "a.b@c.org",
    "12:30",
    "U.S.",
    "end.",
    "so,",
    "snake_case",
    "don't",
    "-5",
    "$3",
]


@given(st.lists(st.tuples(st.sampled_from(TOKENS), st.integers(0, 9)), max_size=40))
def test_pauses_anywhere_keep_words_and_numbers_whole(tokens: list[tuple[str, int]]) -> None:
    front = TextFrontEnd()
    segments: list[Segment] = []

    def take() -> None:
        while (item := front.next()) is not None or front.busy:
            if isinstance(item, Segment):
                segments.append(item)

    for token, pause_after in tokens:
        for position, char in enumerate(token + " "):
            front.append(char)
            take()
            # A pause behind the stop of an abbreviation or sentence cuts there, rightly.
            if position == pause_after and not re.search(r"[a-zA-Z][.,']$", token[: position + 1]):
                front.idle()
                take()
    front.end()
    take()
    spoken = {offset: number for number, item in enumerate(segments) for offset in item.offsets[:-1]}
    start = 0
    for token, _ in tokens:
        places = [spoken[start + i] for i, char in enumerate(token) if char.isalnum()]
        assert len(set(places)) == 1, token
        start += len(token) + 1
    assert all(a.source_end <= b.source_start for a, b in pairwise(segments))
