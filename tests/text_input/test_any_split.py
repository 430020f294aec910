"""However the text is split, what is spoken is the same, in order, complete, and knows where it stood."""

import re
from itertools import pairwise
from typing import Literal, TypedDict, Unpack

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosyduplex_server.text.front import FlushPoint, Segment, TextFrontEnd

Item = Segment | FlushPoint
Markup = Literal["markdown", "plain"]
MARKUPS: list[Markup] = ["markdown", "plain"]
markups = st.sampled_from(MARKUPS)
limits = st.sampled_from([10, 24, 200])


class Options(TypedDict, total=False):
    """What a front end is made with."""

    markup: Markup
    language: str
    voice_language: str
    normalize: bool
    pronunciations: dict[str, str]
    code: Literal["skip", "announce"]
    tables: Literal["read", "skip"]
    emoji: Literal["drop", "name"]
    max_segment_chars: int


ENTRIES = {
    "world": "whirled",
    "Dr. Smith": "the doctor",
    "1": "uno",
    "你好": "您好",
    "x@y.org": "mail",
    "e.g.": "",
}
options = st.fixed_dictionaries(
    {
        "markup": markups,
        "language": st.sampled_from(["auto", "en", "zh"]),
        "voice_language": st.sampled_from(["", "zh", "ja"]),
        "normalize": st.booleans(),
        "pronunciations": st.sampled_from([{}, ENTRIES]),
        "code": st.sampled_from(["skip", "announce"]),
        "tables": st.sampled_from(["read", "skip"]),
        "emoji": st.sampled_from(["drop", "name"]),
        "max_segment_chars": limits,
    }
)

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
# What some characters are read as where they are markup: hyphens as a dash, cells as a comma; a number
# on a keycap, which is one of a list, ends with a full stop.
REPLACED = {"-": "—", "|": ",，", "<": ",，", **dict.fromkeys("0123456789\ufe0f\u20e3", ".")}

# What readings are made for, in the middle of each other.
EXPRESSIONS = [
    *"0123456789.,:/-–~%°$€¥£+=×#@&()'’ \n",
    *"年月日号点分秒时周第约至到两万亿元块角个只米斤度℃％：，。、",
    " million",
    " kg",
    "km/h",
    " p.m.",
    " am ",
    "st ",
    "th",
    "May ",
    "Jan. ",
    "2024",
    "1999",
    "1990s",
    "3/4",
    "½",
    "12:30",
    "v2.0",
    "IV",
    " II ",
    "Chapter ",
    "King Henry ",
    "第十",
    "三",
    "+86 138",
    "555-1234",
    "192.168.0.1",
    "http://",
    "www.",
    ".com",
    "main.py",
    "C:\\",
    "a@b",
    "Mr. ",
    "etc. ",
    "vs. ",
    "No. ",
    "U.S. ",
    "USD ",
    "人民币",
    "公里",
    "比分",
    "电话",
    "A",
    "b",
    "the ",
    "The ",
    "我们",
    "0" * 300,
]
expressions = texts_of(EXPRESSIONS)


def take_all(front: TextFrontEnd) -> list[Item]:
    taken: list[Item] = []
    while (item := front.next()) is not None or front.busy:
        if item is not None:
            taken.append(item)
    return taken


def speak(texts: list[str], *, piece_chars: list[int], **options: Unpack[Options]) -> list[Item]:
    """Everything that is spoken of `texts`, a flush between them, appended in pieces of the given sizes."""
    front = TextFrontEnd(**options)
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


def at_once(texts: list[str], **options: Unpack[Options]) -> list[Item]:
    """The same with nothing taken before all is appended."""
    front = TextFrontEnd(**options)
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
@pytest.mark.parametrize("normalize", [True, False])
def test_a_cut_at_every_place_gives_the_same_segments(text: str, markup: Markup, normalize: bool) -> None:
    whole = at_once([text], markup=markup, normalize=normalize)
    for place in range(1, len(text)):
        assert speak([text], piece_chars=[place, len(text)], markup=markup, normalize=normalize) == whole
    assert speak([text], piece_chars=[1], markup=markup, normalize=normalize) == whole


@settings(max_examples=600)
@given(nasty_texts | expressions, st.lists(st.integers(1, 9), min_size=1, max_size=5), options)
@example(["4..<td>] +"], [1], {})
@example(["a\U0001f44d\U0001f1e8b"], [1], {"markup": "plain"})
def test_any_split_gives_the_same_segments(
    texts: list[str], piece_chars: list[int], options: Options
) -> None:
    whole = at_once(texts, **options)
    assert speak(texts, piece_chars=piece_chars, **options) == whole
    assert [item.number for item in whole if isinstance(item, FlushPoint)] == list(range(1, len(texts)))


@settings(max_examples=600)
@given(nasty_texts | expressions, options)
def test_segments_know_where_they_stood(texts: list[str], options: Options) -> None:
    appended = "".join(texts)
    segments = [item for item in at_once(texts, **options) if isinstance(item, Segment)]
    assert [segment.index for segment in segments] == list(range(len(segments)))
    for segment in segments:
        assert 0 < len(segment.text) <= options.get("max_segment_chars", 200)
        assert segment.text == segment.text.strip()
        assert len(segment.offsets) == len(segment.text) + 1
        starts = segment.offsets[:-1]
        assert all(start < end and start in starts for start, end in segment.ends)
        spans = [(start, dict(segment.ends).get(start, start + 1)) for start in sorted(set(starts))]
        assert all(left[1] <= right[0] for left, right in pairwise(spans))
        assert starts[-1] < segment.source_end <= len(appended)
    # The words of one expression may fall into two segments, and then a place into both.
    starts = tuple(start for segment in segments for start in segment.offsets[:-1])
    assert all(left <= right for left, right in pairwise((0, *starts)))


@settings(max_examples=300)
@given(nasty_texts, markups, limits)
def test_segments_hold_what_was_written(texts: list[str], markup: Markup, max_segment_chars: int) -> None:
    appended = "".join(texts)
    items = at_once(texts, markup=markup, tables="skip", max_segment_chars=max_segment_chars, normalize=False)
    segments = [item for item in items if isinstance(item, Segment)]
    for segment in segments:
        assert re.search(r"[^\W_]|[%$+=]", segment.text)
        assert "<|" not in segment.text
        assert not re.search("[\x00-\x1f\u200b\u200d\u202e\ufe0f\u20e3\ud800-\udfff😀👍👨🇨🏽]", segment.text)
        for char, offset in zip(segment.text, segment.offsets, strict=False):
            written = appended[offset]
            assert char in (written, " ") or char in REPLACED.get(written, ""), (written, char)


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
    assert spoken_words(at_once(kept, markup="plain", normalize=False)) == words("".join(kept))


# White space at the beginning of a line makes it code.
VISIBLE_MARKUP = [
    piece for piece in NASTY if piece.strip(" \t") and not any(mark in piece for mark in "<`~](|\u20e3\ufe0f")
]


@settings(max_examples=300)
@given(texts_of(VISIBLE_MARKUP))
def test_markdown_speaks_every_letter_once_and_in_order(texts: list[str]) -> None:
    assert spoken_words(at_once(texts, markup="markdown", normalize=False)) == words("".join(texts))
