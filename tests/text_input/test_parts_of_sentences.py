"""A sentence can be had while it is written: in parts that are certain, and that joined are the whole."""

import re
from collections.abc import Callable
from itertools import groupby
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosyduplex_server.text.front import FlushPoint, Segment, TextFrontEnd

Item = Segment | FlushPoint
Markup = Literal["markdown", "plain"]
MARKUPS: list[Markup] = ["markdown", "plain"]


def take_all(front: TextFrontEnd) -> list[Item]:
    taken: list[Item] = []
    while (item := front.next()) is not None or front.busy:
        if item is not None:
            taken.append(item)
    return taken


def in_parts(*, markup: Markup = "markdown", normalize: bool = True) -> TextFrontEnd:
    front = TextFrontEnd(markup=markup, normalize=normalize)
    front.in_parts = True
    return front


def texts_of(items: list[Item]) -> list[str]:
    """The texts; what closes a segment ends in "|", a flush is its number."""
    return [
        f"{item.text}{'|' if item.closes else ''}" if isinstance(item, Segment) else str(item.number)
        for item in items
    ]


def joined(items: list[Item]) -> list[Item]:
    """The segments that these parts make, and the flushes between them."""
    whole: list[Item] = []
    for (index, number), group in groupby(
        items, lambda item: (-1, item.number) if isinstance(item, FlushPoint) else (item.index, 0)
    ):
        parts = [item for item in group if isinstance(item, Segment)]
        if not parts:
            whole.append(FlushPoint(number))
            continue
        assert [part.closes for part in parts] == [False] * (len(parts) - 1) + [True]
        assert all(part.text for part in parts[:-1]), "an empty part says nothing"
        offsets = [offset for part in parts for offset in part.offsets[:-1]]
        text = "".join(part.text for part in parts)
        ends = tuple(end for part in parts for end in part.ends)
        whole.append(Segment(index, text, (*offsets, parts[-1].offsets[-1]), ends=ends))
    return whole


# --- The whole

PIECES = [
    *"abcZé 0159.,;:!?-–—…\"'()[]<>*_`~#|\n",
    *"你好我写。，、！？：；“”（）《》①",
    "Hello ",
    "world",
    "不错",
    "3.14",
    "1,000",
    "Dr. ",
    "No. ",
    "U.S. ",
    "... ",
    "说：“",
    "**",
    "```\n",
    "<b>",
    "</b>",
    "<think>",
    "</think>",
    "](u)",
    "😀",
    "\u3099",
    "\ufe0f",
    "  ",
    " ,",
    " ;",
    " .",
    "https://a.b/c?d",
    "\ud83d",
]
few = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8, unique=True)
mixed_texts = few.flatmap(lambda chosen: st.lists(st.sampled_from(chosen), max_size=60).map("".join))
splits = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def speak(texts: list[str], split: list[int], front: TextFrontEnd) -> list[Item]:
    """Everything that is spoken of `texts`, a flush between them, appended in pieces of these sizes."""
    items: list[Item] = []
    turn = 0
    for number, text in enumerate(texts):
        if number:
            front.flush()
            items += take_all(front)
        while text:
            size = split[turn % len(split)]
            turn += 1
            front.append(text[:size])
            text = text[size:]
            items += take_all(front)
    front.end()
    return items + take_all(front)


@settings(max_examples=500)
@given(
    st.lists(mixed_texts, min_size=1, max_size=3),
    splits,
    st.sampled_from(MARKUPS),
    st.booleans(),
    st.sampled_from([10, 24, 200]),
)
@example(["Hello Donaudampfschiff"], [1], "plain", False, 10)
@example(["你好我写，“好"], [1], "plain", False, 10)
@example(["a ;你 ;b"], [1], "plain", False, 200)
def test_the_parts_are_the_segment_however_the_text_is_split(
    texts: list[str], split: list[int], markup: Markup, normalize: bool, max_segment_chars: int
) -> None:
    whole = TextFrontEnd(markup=markup, normalize=normalize, max_segment_chars=max_segment_chars)
    parts = TextFrontEnd(markup=markup, normalize=normalize, max_segment_chars=max_segment_chars)
    parts.in_parts = True
    assert joined(speak(texts, split, parts)) == speak(texts, [1 << 20], whole)


CORPUS = [
    "Hello, world. It costs $3.50, Dr. Smith said; really?! Yes... (I think.) See https://a.org/x?y=1, ok.",
    "今天天气不错，我们去公园吧！“好的。”他说……然后GPT-4模型跑了，比分3：2。价格是3.5元，对吧？",
    '# Title\n\n- **Bold** and *em* with `code_x`\n1. See [docs](https://x.y/a_(b) "t") now.\n\nWe 去 park.',
    "<think>Let me\nsee</think>\n\nSure! ![alt](u.png) 1️⃣ ~~gone~~ ***x*** y <|im_end|> and so on and on",
]


@pytest.mark.parametrize("text", CORPUS)
@pytest.mark.parametrize("markup", MARKUPS)
@pytest.mark.parametrize("normalize", [True, False])
def test_the_parts_are_the_segment_for_a_cut_at_every_place(
    text: str, markup: Markup, normalize: bool
) -> None:
    whole = speak([text], [len(text)], TextFrontEnd(markup=markup, normalize=normalize))
    for place in range(1, len(text)):
        parts = in_parts(markup=markup, normalize=normalize)
        assert joined(speak([text], [place, len(text)], parts)) == whole
    assert joined(speak([text], [1], in_parts(markup=markup, normalize=normalize))) == whole


# --- As soon as they are certain


@pytest.mark.parametrize(
    ("written", "released"),
    [
        ("Hello wor", ["Hello"]),
        ("Hello world ", ["Hello", " world"]),
        ("Hello, wor", ["Hello,|"]),
        ("Hello, big wor", ["Hello,|", "big"]),
        ("今天天气", ["今", "天", "天", "气"]),
        ("我用Pyth", ["我", "用"]),
        ("我用Python写", ["我", "用", "Python写"]),
        ("你好，他说，今天，很", ["你", "好", "，|", "他", "说", "，", "今", "天", "，", "很"]),
        ("他说“好", ["他", "说", "“好"]),
        ("共123", ["共"]),
        ("It is 3.", ["It", " is"]),
        ("It is 3.14 so", ["It", " is", " three point one four"]),
        ("Ask Dr. Wu now", ["Ask", " Doctor Wu"]),
        ("the **bold** x", ["the", " bold"]),
        ("see [the do", ["see", " the"]),
        ("see [docs](http://a.b) or", ["see", " docs"]),
        ("a<b>c</b> d", ["ac"]),
        ("<think>no words</think>so it", ["so"]),
        ("“", []),
        ("... (", []),
        ("wait !", ["wait"]),
    ],
)
def test_a_word_goes_out_when_what_follows_shows_that_it_is_complete(
    written: str, released: list[str]
) -> None:
    front = in_parts()
    texts: list[str] = []
    for char in written:
        front.append(char)
        texts += texts_of(take_all(front))
    assert texts == released


WORDS = ["Hello", "a", "don't", "x-ray", "3.14", "天", "今天", "のは", "Größe", "42", "%5", "e.g"]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=30), st.booleans(), splits)
def test_nothing_but_the_last_word_is_held(words: list[str], spaced: bool, split: list[int]) -> None:
    text = (" " if spaced else "").join(words)
    front = TextFrontEnd(max_segment_chars=len(text) + 10, normalize=False)
    front.in_parts = True
    appended = released = 0
    turn = 0
    while appended < len(text):
        piece = text[appended : appended + split[turn % len(split)]]
        turn += 1
        front.append(piece)
        appended += len(piece)
        released += sum(len(item.text) for item in take_all(front) if isinstance(item, Segment))
        # What stands after the last blank or CJK character may be half a word; the blank goes with it.
        unfinished = re.search(r" ?[^ \u3040-\u30ff\u4e00-\u9fff]*\Z", text[:appended])
        assert unfinished is not None
        assert appended - released == len(unfinished[0])
        assert front.pending_chars == appended - released


def test_all_that_came_at_once_is_one_part() -> None:
    front = in_parts()
    front.append("What the language model writes in one piece ")
    assert texts_of(take_all(front)) == ["What the language model writes in one piece"]


def test_a_whole_segment_that_came_at_once_has_no_parts() -> None:
    front = in_parts()
    front.append("One sentence. Another one here. And")
    assert texts_of(take_all(front)) == ["One sentence.|", "Another one here.|"]


def test_no_part_is_only_punctuation_at_the_beginning() -> None:
    front = in_parts()
    texts: list[str] = []
    for char in "“（《字 x":
        front.append(char)
        texts += texts_of(take_all(front))
    assert texts == ["“（《字"]


def test_without_parts_a_sentence_is_kept_until_its_end() -> None:
    front = TextFrontEnd()
    front.append("今天天气 is fine today")
    assert take_all(front) == []


# --- Flush, end, pause


@pytest.mark.parametrize(
    ("written", "out", "rest"),
    [
        ("Hello wor", ["Hello"], [" wor|"]),
        ("Hello world ", ["Hello world"], ["|"]),
        ("今天天气", ["今天天气"], ["|"]),
        ("Hello world .", ["Hello world"], [".|"]),
        ("word", [], ["word|"]),
        ("Go **", ["Go"], ["|"]),
        ("“”", [], []),
    ],
)
@pytest.mark.parametrize("last", [TextFrontEnd.flush, TextFrontEnd.end])
def test_a_flush_and_the_end_close_with_all_that_is_left(
    written: str, out: list[str], rest: list[str], last: Callable[[TextFrontEnd], None]
) -> None:
    front = in_parts()
    front.append(written)
    assert texts_of(take_all(front)) == out
    last(front)
    assert texts_of(take_all(front)) == (rest if last is TextFrontEnd.end else [*rest, "1"])
    assert front.pending_chars == 0


@pytest.mark.parametrize(
    ("written", "out", "at_the_pause", "more", "then"),
    [
        # Half a sentence stays open.
        ("Hello wor", ["Hello"], [], "ld. ", [" world.|"]),
        ("Hello world ", ["Hello world"], [], "again. ", [" again.|"]),
        ("今天天气", ["今天天气"], [], "很好。", ["很好。|"]),
        ("It is 3.", ["It is"], [], "5 m. ", [" three point five meters.|"]),
        ("It is 3 ", ["It is"], [" three"], "or so. ", [" or so.|"]),
        ("It ends at 5 p.m.", ["It ends at five"], [" p m.|"], " Come. ", ["Come.|"]),
        # What may be the end of a clause only goes out, and is cut there when it was.
        ("Hello,", [], ["Hello,"], " world. ", ["|", "world.|"]),
        ("See the U.S.", ["See the"], [" U.S."], " law. ", [" law.|"]),
        ("Ask dear Dr.", ["Ask dear"], [], " Wu. ", [" Doctor Wu.|"]),
        ("say so,", ["say"], [" so,"], '" he. ', ["|", "he.|"]),
        # What reads as a sentence closes.
        ("That is all.", ["That is"], [" all.|"], " Next. ", ["Next.|"]),
        ("See a.org/x?", ["See"], [" a dot org slash x?|"], " Yes. ", ["Yes.|"]),
        ("It is number No. ", ["It is number"], [" No.|"], "One. ", ["One.|"]),
        ("", [], [], "Hi. ", ["Hi.|"]),
    ],
)
def test_a_pause_closes_a_sentence_and_nothing_less(
    written: str, out: list[str], at_the_pause: list[str], more: str, then: list[str]
) -> None:
    front = in_parts()
    front.append(written)
    assert texts_of(take_all(front)) == out
    front.idle()
    assert texts_of(take_all(front)) == at_the_pause
    front.append(more)
    assert texts_of(take_all(front)) == then


@settings(max_examples=300)
@given(mixed_texts, splits, st.lists(st.integers(0, 20), max_size=6), st.sampled_from([10, 24, 200]))
def test_pauses_lose_and_double_nothing(
    text: str, split: list[int], pauses: list[int], max_segment_chars: int
) -> None:
    front = TextFrontEnd(markup="plain", normalize=False, max_segment_chars=max_segment_chars)
    front.in_parts = True
    items: list[Item] = []
    turn = at = 0
    while at < len(text):
        size = split[turn % len(split)]
        front.append(text[at : at + size])
        at += size
        items += take_all(front)
        if turn in pauses:
            front.idle()
            items += take_all(front)
        turn += 1
    front.end()
    items += take_all(front)
    spoken = "".join(item.text for item in joined(items) if isinstance(item, Segment))
    whole = speak([text], [1 << 20], TextFrontEnd(markup="plain", normalize=False))
    expected = "".join(item.text for item in whole if isinstance(item, Segment))
    assert re.sub(r"[\W_]", "", spoken) == re.sub(r"[\W_]", "", expected)
    offsets = [offset for item in items if isinstance(item, Segment) for offset in item.offsets]
    assert offsets == sorted(offsets)
