"""What becomes of code, tables and emoji is the client's choice; no choice breaks the rules of a stream."""

from itertools import pairwise
from typing import Literal, TypedDict, Unpack

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosyduplex_server.text.emoji import emoji_name
from cosyduplex_server.text.formulas import say_formula
from cosyduplex_server.text.speakable import Speakable


class Options(TypedDict, total=False):
    markup: Literal["markdown", "plain"]
    code: Literal["skip", "announce"]
    tables: Literal["read", "skip"]
    emoji: Literal["drop", "name"]
    language: str


def speakable(**options: Unpack[Options]) -> Speakable:
    return Speakable(options.pop("markup", "markdown"), **options)


def said(text: str, **options: Unpack[Options]) -> str:
    """What is spoken, white space as a segment has it: none before a mark, one space or break elsewhere."""
    reader = speakable(**options)
    spoken = reader.read(text, 0).text + reader.read("", len(text), final=True).text
    lines = (" ".join(line.split()) for line in spoken.split("\n"))
    joined = "\n".join(line for line in lines if line)
    return joined.replace(" ,", ",").replace(" ，", "，").replace(" .", ".").replace(" !", "!")


# --- Code


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Here:\n```python\nprint(1)\n```\nDone", "Here:\nCode block in Python.\nDone"),
        ("结果：\n```js\nx\n```\n好", "结果：\n代码块，JavaScript。\n好"),
        ("结果\n```\nx\n```\n好", "结果\n代码块。\n好"),
        ("```c++ title='x'\nx\n```", "Code block in C plus plus."),
        ("~~~{.sh}\nls\n~~~", "Code block in shell."),
        ("```text\nx\n```", "Code block."),
        ("```x<y\nz\n```", "Code block."),
        ("```ruby\nnever closed", "Code block in Ruby."),
        ("So\n\n    x = 1\n    y = 2\n\nok", "So\nCode block.\nok"),
        ("a <pre>x</pre>b", "a Code block.\nb"),
        ("use `pip install x` now", "use pip install x now"),
        ("Try: ```py\nx\n```\nok", "Try:\nCode block in Python.\nok"),
    ],
)
def test_a_block_of_code_is_announced_in_the_language_of_the_text(text: str, spoken: str) -> None:
    assert said(text, code="announce") == spoken


def test_the_language_of_the_context_goes_before_that_of_the_letters() -> None:
    assert said("Look\n```py\nx\n```", code="announce", language="zh-CN") == "Look\n代码块，Python。"
    assert said("看\n```py\nx\n```", code="announce", language="en-GB") == "看\nCode block in Python."
    # There are no words of its own for French.
    assert said("Voici\n```py\nx\n```", code="announce", language="fr") == "Voici\nCode block in Python."


def test_an_announcement_stands_where_the_fence_stood() -> None:
    text = "So:\n```py\nx\n```\nok"
    reader = speakable(code="announce")
    run = reader.read(text, 0)
    start = run.text.index("Code")
    stood_at = run.offsets[start : start + len("Code block in Python.")]
    assert {text[offset] for offset in stood_at} == {"`"}


# --- Tables

TABLE = "Look:\n| A | B |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n"


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        (TABLE + "\nAfter", "Look:\nAfter"),
        (TABLE + "After", "Look:\nAfter"),
        (TABLE + "# H", "Look:\nH"),
        ("A | B\n-- | --\n1 | 2\nAfter\n", "A\nAfter"),
        ("> | A | B |\n> |---|---|\n> | 1 | 2 |\n\nok", "ok"),
        ("| Item |\n|---|\n| Apple |\nok", "ok"),
        ("| no table |\nok", "no table\nok"),
    ],
)
def test_tables_can_be_left_out(text: str, spoken: str) -> None:
    assert said(text, tables="skip") == spoken


def test_a_row_is_read_while_it_is_written() -> None:
    reader = speakable()
    head = "| A | B |\n|---|---|\n"
    assert reader.read(head, 0).text == "\n"
    at = len(head)
    spoken = ""
    for char in "| one two | thr":
        spoken += reader.read(char, at).text
        at += 1
    assert spoken == "one two, B: thr"
    assert reader.held_from(at) == at


def test_the_head_of_a_table_waits_and_no_longer_than_that() -> None:
    reader = speakable()
    head = "| A | B |\n|---|--"
    assert reader.read(head, 0).text == ""
    assert reader.held_from(len(head)) == 0
    assert reader.read("x", len(head)).text.split() == ["A", ",", "B"]
    assert reader.held_from(len(head) + 1) == head.index("|---")  # which may be a head, too
    long_line = "| " + "cell " * 100
    reader = speakable()
    spoken = reader.read(long_line, 0).text
    assert len(long_line) - len(spoken) < 10


def test_a_cell_knows_where_it_stood_and_its_header_where_the_border_is() -> None:
    text = "| A | B |\n|---|---|\n| x | yy |\n"
    run = speakable().read(text, 0)
    header = run.text.index("B: ")
    assert [text[run.offsets[at]] for at in range(header, header + 3)] == ["|"] * 3
    cell = run.text.index("yy")
    assert [text[run.offsets[cell + at]] for at in range(2)] == ["y", "y"]


# --- Emoji


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Great job 👍! ok", "Great job, thumbs up! ok"),
        ("Great job 👍🏽 thanks", "Great job, thumbs up, thanks"),
        ("Well done! 🎉 Next", "Well done! party popper. Next"),
        ("🎉 恭喜你", "撒花，恭喜你"),
        ("🎉🎉 Hooray", "party popper, Hooray"),
        ("😂😂😂", "laughing with tears"),
        ("你好😀世界", "你好，笑脸，世界"),
        ("好的😀👍。", "好的，笑脸，点赞。"),
        ("🤷\u200d♀️ dunno", "shrug, dunno"),
        ("👨\u200d👩\u200d👧 ok", "family, ok"),
        ("👩🏽\u200d💻 codes", "programmer, codes"),
        ("🇨🇳 wins", "flag of China, wins"),
        ("去🇫🇷玩", "去，法国国旗，玩"),
        ("1️⃣ First", "1. First"),
        ("I ❤️ NY", "I, red heart, NY"),
        ("a🧿b", "a b"),
        ("- ✅ Done\n- ❌ No", "check mark, Done\ncross mark, No"),
        ("**Great 👍**", "Great, thumbs up"),
        ("x\n🎉\ny", "x\nparty popper\ny"),
        ("🎉" + " " * 20 + "好", "party popper, 好"),
    ],
)
def test_emoji_are_named_in_the_language_of_the_text(text: str, spoken: str) -> None:
    assert said(text, emoji="name") == spoken


def test_emoji_are_named_in_plain_text_too() -> None:
    assert said("# ok 👍", emoji="name", markup="plain") == "# ok, thumbs up"
    assert said("# ok 👍", markup="plain") == "# ok"


def test_the_language_of_the_context_names_emoji() -> None:
    assert said("好👍", emoji="name", language="en") == "好, thumbs up"
    assert said("ok 👍", emoji="name", language="zh") == "ok，点赞"


def test_an_emoji_is_named_once_the_next_character_shows_its_end() -> None:
    reader = speakable(emoji="name")
    assert reader.read("ok 👩", 0).text == "ok "
    assert reader.read("\u200d💻", 4).text == ""
    assert reader.read(".", 6).text == ", programmer."


@pytest.mark.parametrize("emoji", ["😀", "👍", "❤️", "👍🏿", "🏳️\u200d🌈", "🇩🇪", "#️⃣", "🤦🏻\u200d♂️", "⭐", "☎️"])
def test_an_emoji_has_a_name_in_both_languages(emoji: str) -> None:
    english, chinese = emoji_name(emoji, "en"), emoji_name(emoji, "zh")
    assert english is not None
    assert chinese is not None
    assert english.isascii()
    assert not any(char.isascii() for char in chinese)


# --- Formulas


@pytest.mark.parametrize(
    ("tex", "english", "chinese"),
    [
        ("x", "x", "x"),
        ("-5", "minus 5", "负5"),
        ("E = mc^2", "E equals m c squared", "E等于m c的平方"),
        (r"\frac{a+1}{b}", "a plus 1, over b", "b分之a加1"),
        (r"e^{-x}", "e to the power of minus x", "e的负x次方"),
        (r"\sqrt[3]{x}", "the cube root of x", "x的3次方根"),
        (r"\int_0^1 f(x)\,dx", "the integral from 0 to 1 of f of x d x", "从0到1积分，f x d x"),
        (
            r"\lim_{n \to \infty} a_n",
            "the limit as n goes to infinity of a sub n",
            "n趋向无穷大时的极限，a n",
        ),
        (r"\log_2 n", "log base 2 of n", "以2为底的log n"),
        (r"n!", "n factorial", "n阶乘"),
        (r"\text{speed} = \frac{d}{t}", "speed equals d over t", "speed等于t分之d"),
        (r"\hat{y} \neq \bar{y}", "y hat is not equal to y bar", "y帽不等于y拔"),
        (r"a & b", "formula", "公式"),
        (r"x^", "formula", "公式"),
        (r"\unknown", "formula", "公式"),
        ("{" * 9 + "}" * 9, "formula", "公式"),
        ("+".join("abcdefgh" * 9), "formula", "公式"),
    ],
)
def test_a_formula_is_read_from_the_board(tex: str, english: str, chinese: str) -> None:
    assert say_formula(tex, "en") == english
    assert say_formula(tex, "zh") == chinese


@given(
    st.text(alphabet="\\{}[]()^_|$&'!,-+=<> 0123ab汉frctexsqum", max_size=80), st.sampled_from(["en", "zh"])
)
def test_any_formula_has_words(tex: str, language: Literal["en", "zh"]) -> None:
    assert say_formula(tex, language)


# --- As a stream

PIECES = [
    *"*_~`#[]()<>|!?.,;:-=+/\\\"' \n\t0159aZéx$&^{}（【】｜～",
    *[
        "你",
        "好",
        "的",
        "。",
        "，",
        "✅",
        "❌",
        "😀",
        "👍🏽",
        "👨\u200d👩\u200d👧",
        "1️⃣",
        "🇨",
        "🇳",
        "\u200d",
        "\ufe0f",
    ],
    *["\u20e3", "\u200b", "\r", "\r\n", "\ue200", "\ue201", "\ud83d", "◁", "◁think▷", "◁/think▷"],
    *[
        "**",
        "***",
        "~~",
        "```",
        "\n```\n",
        "```python\n",
        "~~~\n",
        "](",
        "![",
        "\n- ",
        "\n# ",
        "\n> ",
        "\n1. ",
        "##",
    ],
    *[
        "|---|",
        "\n|---|---|\n",
        "|-|-|\n",
        "\n| a | b |",
        "a | b\n",
        "- | -\n",
        "---\n",
        "key: v\n",
        "+--+\n",
    ],
    *[
        "    ",
        "\n\n    a = 1\n",
        "\n    ",
        "[x] ",
        "[!NOTE]",
        "\n[^1]: ",
        "[a]: http",
        "[1]",
        "[2, 3]",
        "[^1]",
        "nums",
    ],
    *[
        "<think>",
        "</think>",
        "< / think >",
        "<reasoning>",
        "<|im_end|>",
        "<｜",
        "|>",
        "<br/>",
        "<b>",
        "</b>",
        "<td>",
    ],
    *[
        "<pre>",
        "</pre>",
        "<script>",
        "</script>",
        "</foo>",
        "<!--",
        "-->",
        "<https://a.b/c_d>",
        "<a@b.c>",
        "https://",
    ],
    *[
        "[INST]",
        "[THINK]",
        "[/THINK]",
        "【1†s】",
        "$x^2$",
        "$$",
        "$5 ",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "\\frac{a}{b}",
    ],
    *[
        "\\begin{a}",
        "\\end{a}",
        "\\text{",
        "&amp;",
        "&lt;",
        "&#39;",
        "&#0;",
        "&nbsp;",
        "(^_^)",
        "(T_T)",
        " :-)",
    ],
    *["[x](", "[a](data:", " 't", "==", "====", "--", "-->", "----", "word ", "Hello, ", "今天", "AB"],
]
few = st.lists(st.sampled_from(PIECES), min_size=1, max_size=10, unique=True)
texts = few.flatmap(lambda chosen: st.lists(st.sampled_from(chosen), max_size=40).map("".join))
options = st.fixed_dictionaries(
    {
        "markup": st.sampled_from(["markdown", "markdown", "plain"]),
        "code": st.sampled_from(["skip", "announce"]),
        "tables": st.sampled_from(["read", "skip"]),
        "emoji": st.sampled_from(["drop", "name"]),
        "language": st.sampled_from(["auto", "en", "zh"]),
    }
)


def read_in_pieces(pieces: list[str], split: list[int], chosen: Options) -> tuple[str, list[int], int]:
    """Text and offsets of what is spoken, a flush behind each piece, and how much ever waited."""
    reader = speakable(**chosen)
    spoken, offsets, most_held = "", [], 0
    at = turn = 0
    for piece in pieces:
        end = at + len(piece)
        while at < end:
            size = min(split[turn % len(split)], end - at)
            turn += 1
            start = at - (end - len(piece))
            run = reader.read(piece[start : start + size], at)
            spoken, offsets, at = spoken + run.text, offsets + run.offsets, at + size
            most_held = max(most_held, at - reader.held_from(at))
        run = reader.read("", at, final=True)
        spoken, offsets = spoken + run.text, offsets + run.offsets
        assert reader.held_from(at) == at
    return spoken, offsets, most_held


@settings(max_examples=500, deadline=None)
@given(st.lists(texts, min_size=1, max_size=3), st.lists(st.integers(1, 9), min_size=1, max_size=5), options)
@example(["A | B\n-|-\n" + "x" * 90 + " | y"], [1], {"tables": "skip"})
@example(["x🇨🇳🇨", "🇳"], [1], {"emoji": "name"})
@example(["a | b--<td> c"], [1], {})
def test_any_split_reads_the_same_at_the_same_places(
    pieces: list[str], split: list[int], chosen: Options
) -> None:
    spoken, offsets, most_held = read_in_pieces(pieces, split, chosen)
    assert (spoken, offsets) == read_in_pieces(pieces, [1 << 20], chosen)[:2]
    assert len(spoken) == len(offsets)
    assert all(left <= right for left, right in pairwise(offsets))
    assert not offsets or 0 <= offsets[0] <= offsets[-1] < sum(map(len, pieces))
    # 400 for the head of a table, or for a tag or formula.
    assert most_held <= 450


OPENERS = [
    "$",
    "$$",
    "$5 ",
    "\\(",
    "\\[",
    "\\begin{",
    "&",
    "&#",
    "【",
    "【1",
    "[1",
    "[^",
    "[a",
    "][",
    "(^",
    ":-",
    "◁th",
]
OPENERS += [
    "<a",
    "<https://",
    "<a@",
    "|",
    "a | ",
    "| a |\n|-",
    "    ",
    "\n\n    ",
    "---\n",
    "---\na",
    "1",
    "12.",
    "+",
    "==",
]
OPENERS += [
    "--",
    "# a #",
    "```",
    "a ```py",
    "¯",
    "👩",
    "👩\u200d",
    "🎉 ",
    "\ue200",
    "<x:",
    "</",
    "<tool_ca",
    "[THIN",
    "~",
]


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("words", ["word ", "字", "w", "^", "1"])
@pytest.mark.parametrize("emoji", ["drop", "name"])
def test_nothing_that_is_not_closed_waits_for_long(
    opener: str, words: str, emoji: Literal["drop", "name"]
) -> None:
    reader = speakable(emoji=emoji)
    for at, char in enumerate(opener + (words * 600)[:600]):
        reader.read(char, at)
        assert at + 1 - reader.held_from(at + 1) <= 450


@pytest.mark.parametrize("opener", ["", "**", "- ", "1. ", "> ", "`", "see [", "- [x] ", "“", "## "])
def test_words_do_not_wait(opener: str) -> None:
    reader = speakable()
    reader.read(opener, 0)
    for at, char in enumerate("kind words that follow 字字", start=len(opener)):
        reader.read(char, at)
        assert reader.held_from(at + 1) == at + 1


def test_a_label_waits_only_while_it_may_be_a_stage_direction() -> None:
    reader = speakable()
    held: list[int] = []
    for at, char in enumerate("see [sighted] and (laughable)"):
        reader.read(char, at)
        held.append(at + 1 - reader.held_from(at + 1))
    assert max(held) == len("(laugh")
    assert held[10] == held[-2] == 0


def test_the_address_of_a_link_ends_somewhere() -> None:
    assert said("[a](" + "x" * 300 + " 'title') b") == "a b"
    assert len(said("[a](" + "x" * 1000)) > 600
    assert said("![a](data:image/png;base64," + "x" * 5000 + ") b") == "a b"


def test_silence_is_not_counted_as_waiting() -> None:
    for opener in ["<think>", "```\n", "---\na: b\n", "\n\n    x = 1\n", "<!--", "<pre>"]:
        reader = speakable()
        text = opener + "x = plan; " * 50
        reader.read(text, 0)
        assert reader.held_from(len(text)) == len(text), opener
