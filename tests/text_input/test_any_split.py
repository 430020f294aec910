"""However the text is split, what is spoken is the same, in order, complete, and knows where it stood."""

import re
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosyduplex_server.text.front import FlushPoint, Segment, TextFrontEnd

Item = Segment | FlushPoint
Markup = Literal["markdown", "plain"]
MARKUPS: list[Markup] = ["markdown", "plain"]
markups = st.sampled_from(MARKUPS)
limits = st.sampled_from([10, 24, 200])

NASTY = [
    *"*_~`#[]()<>|!?.,;:-=+/\\\"' \n\t0159aZé",
    *"你好。，、！？：；…—“”（）①",
    *"😀👍\u200d\ufe0f\u20e3\u200b\u202e\x00\x1b\u00ad\u0301\u00a0\u2028",
    "\ud83d",
    "\ude00",
    "**",
    "***",
    "~~",
    "```",
    "\n```\n",
    "](",
    "![",
    "- ",
    "\n- ",
    "\n# ",
    "\n> ",
    "|---|",
    "\n\n",
    "---",
    "<think>",
    "</think>",
    "< THINK a=1 >",
    "</ think >",
    "<|endofprompt|>",
    "<｜",
    "|>",
    "<br/>",
    "<b>",
    "</b>",
    "<a href='x y'>",
    "<td>",
    "<!--",
    "-->",
    "https://a.b/c?d=1",
    "x@y.org",
    "3.14",
    "1,000",
    "12:30",
    "Dr. ",
    "e.g. ",
    "U.S. ",
    "No. ",
    "... ",
    "Hello, ",
    "world. ",
    "1️⃣",
    "👨‍👩‍👧",
    "🇨🇳",
    "👍🏽",
    "- [x] ",
    "2*3*4",
    "snake_case_name",
]


def texts_of(pieces: list[str]) -> st.SearchStrategy[list[str]]:
    """Texts between flushes, each drawn from few different pieces: those meet in ways that many do not."""
    few = st.lists(st.sampled_from(pieces), min_size=1, max_size=8, unique=True)
    text = few.flatmap(lambda chosen: st.lists(st.sampled_from(chosen), max_size=60).map("".join))
    return st.lists(text, min_size=1, max_size=3)


nasty_texts = texts_of(NASTY)


def take_all(front: TextFrontEnd) -> list[Item]:
    taken: list[Item] = []
    while (item := front.next()) is not None or front.busy:
        if item is not None:
            taken.append(item)
    return taken


def speak(
    texts: list[str], *, piece_chars: list[int], markup: Markup, max_segment_chars: int = 200
) -> list[Item]:
    """Everything that is spoken of `texts`, a flush between them, appended in pieces of the given sizes."""
    front = TextFrontEnd(markup=markup, max_segment_chars=max_segment_chars)
    spoken: list[Item] = []
    turn = 0
    for number, text in enumerate(texts):
        if number:
            front.flush()
            spoken += take_all(front)
        while text:
            size = piece_chars[turn % len(piece_chars)]
            turn += 1
            front.append(text[:size])
            text = text[size:]
            spoken += take_all(front)
    front.end()
    spoken += take_all(front)
    assert front.exhausted
    assert front.next() is None
    return spoken


def at_once(texts: list[str], *, markup: Markup, max_segment_chars: int = 200) -> list[Item]:
    """The same with nothing taken before all is appended."""
    front = TextFrontEnd(markup=markup, max_segment_chars=max_segment_chars)
    for number, text in enumerate(texts):
        if number:
            front.flush()
        front.append(text)
    front.end()
    return take_all(front)


CORPUS = [
    "Hello, world. It costs $3.50, Dr. Smith said; really?! Yes... (I think.) See https://a.org/x?y=1, ok.",
    "今天天气不错，我们去公园吧！“好的。”他说……然后GPT-4模型跑了，比分3：2。价格是3.5元，对吧？",
    '# Title\n\n- **Bold** and *em* with `code_x`\n1. See [docs](https://x.y/a_(b) "t") now.\n\n'
    "| a | b |\n|---|:-:|\n| 1 | 2 |\n\n```python\nprint('no')\n```\nAfter 2*3*4 <br> x<y, a < b.",
    "<think>Let me\nsee</think>\n\nSure! ![alt](u.png) 1️⃣ 👨‍👩‍👧 <|im_end|> ~~gone~~ ***x*** "
    '\\*lit\\* <b class="c">y</b>',
]


@pytest.mark.parametrize("text", CORPUS)
@pytest.mark.parametrize("markup", MARKUPS)
def test_a_cut_at_every_place_gives_the_same_segments(text: str, markup: Markup) -> None:
    whole = at_once([text], markup=markup)
    for place in range(1, len(text)):
        assert speak([text], piece_chars=[place, len(text)], markup=markup) == whole
    assert speak([text], piece_chars=[1], markup=markup) == whole


@settings(max_examples=300)
@given(nasty_texts, st.lists(st.integers(1, 9), min_size=1, max_size=5), markups, limits)
@example(["4..<td>] +"], [1], "markdown", 200)
@example(["a\U0001f44d\U0001f1e8b"], [1], "plain", 200)
def test_any_split_gives_the_same_segments(
    texts: list[str], piece_chars: list[int], markup: Markup, max_segment_chars: int
) -> None:
    whole = at_once(texts, markup=markup, max_segment_chars=max_segment_chars)
    assert speak(texts, piece_chars=piece_chars, markup=markup, max_segment_chars=max_segment_chars) == whole
    assert [item.number for item in whole if isinstance(item, FlushPoint)] == list(range(1, len(texts)))


@settings(max_examples=300)
@given(nasty_texts, markups, limits)
def test_segments_are_well_formed(texts: list[str], markup: Markup, max_segment_chars: int) -> None:
    appended = "".join(texts)
    items = at_once(texts, markup=markup, max_segment_chars=max_segment_chars)
    segments = [item for item in items if isinstance(item, Segment)]
    assert [segment.index for segment in segments] == list(range(len(segments)))
    for segment in segments:
        assert 0 < len(segment.text) <= max_segment_chars
        assert segment.text == segment.text.strip()
        assert re.search(r"[^\W_]|[%$+=]", segment.text)
        assert "<|" not in segment.text
        assert not re.search("[\x00-\x1f\u200b\u200d\u202e\ufe0f\u20e3\ud800-\udfff😀👍👨🇨🏽]", segment.text)
        assert len(segment.offsets) == len(segment.text) + 1
        for char, offset in zip(segment.text, segment.offsets, strict=False):
            # A replaced character is white space or the comma of a table's cell border.
            assert appended[offset] == char or char in " ,，"
    offsets = [offset for segment in segments for offset in segment.offsets]
    assert all(left <= right for left, right in pairwise(offsets))
    assert not offsets or 0 <= offsets[0] <= offsets[-1] <= len(appended)


def words(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def spoken_words(items: list[Item]) -> str:
    return words("".join(item.text for item in items if isinstance(item, Segment)))


@settings(max_examples=300)
@given(nasty_texts)
def test_plain_text_speaks_every_letter_once_and_in_order(texts: list[str]) -> None:
    # Keycaps are emoji, and control tokens are nobody's words.
    kept = [re.sub("[0-9#*]\ufe0f?\u20e3|<[|｜]\\S*?[|｜]>", "", text) for text in texts]
    kept = [text for text in kept if "<|" not in text and "<｜" not in text]
    kept = [re.sub("\ufe0f|\u20e3", "", text) for text in kept]
    assert spoken_words(at_once(kept, markup="plain")) == words("".join(kept))


VISIBLE_MARKUP = [
    piece
    for piece in NASTY
    if not any(mark in piece for mark in ["<", "`", "~", "]", "(", "\u20e3", "\ufe0f"])
]


@settings(max_examples=300)
@given(texts_of(VISIBLE_MARKUP))
def test_markdown_speaks_every_letter_once_and_in_order(texts: list[str]) -> None:
    assert spoken_words(at_once(texts, markup="markdown")) == words("".join(texts))
