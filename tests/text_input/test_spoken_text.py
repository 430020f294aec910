"""What is said of a text, and where it is cut: written down from how a person would read it aloud."""

from typing import Literal

import pytest

from cosyduplex_server.text.front import Segment, TextFrontEnd

Case = tuple[str, list[str]]


def speak(text: str, *, markup: Literal["markdown", "plain"] = "markdown") -> list[str]:
    front = TextFrontEnd(markup=markup)
    front.append(text)
    front.end()
    spoken: list[str] = []
    while (item := front.next()) is not None or front.busy:
        if isinstance(item, Segment):
            spoken.append(item.text)
    return spoken


ENGLISH: list[Case] = [
    ("Hello, world.", ["Hello,", "world."]),
    ("Hi there! How are you? I am fine.", ["Hi there!", "How are you?", "I am fine."]),
    ("No punctuation at all", ["No punctuation at all"]),
    # A short clause stays with its neighbours, except the very first.
    ("Well, it is late. If so, we go home now.", ["Well,", "it is late.", "If so, we go home now."]),
    (
        "Yes. When the rain finally stopped in the evening, we walked to the river; it was cold.",
        ["Yes.", "When the rain finally stopped in the evening,", "we walked to the river; it was cold."],
    ),
    ("It costs 3.14 dollars. Fine.", ["It costs 3.14 dollars.", "Fine."]),
    (
        "About 1,000,000 people at 12:30, or -5 degrees.",
        ["About 1,000,000 people at 12:30,", "or -5 degrees."],
    ),
    ("Dr. Smith met Mrs. Jones. They left.", ["Dr. Smith met Mrs. Jones.", "They left."]),
    ("J. K. Rowling wrote it. Really.", ["J. K. Rowling wrote it.", "Really."]),
    ("The U.S. economy grew. So what?", ["The U.S. economy grew.", "So what?"]),
    ("Use fruit, e.g. apples. Done.", ["Use fruit,", "e.g. apples.", "Done."]),
    ("No. 5 is alive. No. I am not.", ["No. 5 is alive.", "No.", "I am not."]),
    ("See example.com or mail a.b@c.org. Bye.", ["See example.com or mail a.b@c.org.", "Bye."]),
    ("Open https://a.org/x?y=1&z=2. Then go.", ["Open https://a.org/x?y=1&z=2.", "Then go."]),
    ("Is it https://a.org? Yes.", ["Is it https://a.org?", "Yes."]),
    ("if a != b then stop. ok", ["if a != b then stop.", "ok"]),
    ("Really?! Yes!!! Wait... what", ["Really?", "Yes!", "Wait...", "what"]),
    ('"Stop." He ran. (He did.) "Why?" Ok.', ['"Stop.', "He ran.", "(He did.", '"Why?', "Ok."]),
    ('"Hello," he said.', ['"Hello,', "he said."]),
    ("Paris — the city — sleeps.", ["Paris —", "the city — sleeps."]),
    ("one two\nthree\n\n\nfour", ["one two", "three", "four"]),
    ("  spaced \t  out   text  ", ["spaced out text"]),
    ("It is 50% of $3 + 4 = 7", ["It is 50% of $3 + 4 = 7"]),
    ("version 2.0.1. next", ["version 2.0.1.", "next"]),
    ("rated .5 and .NET", ["rated .5 and .NET"]),
    ("... !!! ,,, () -- \u2026", []),
    ("", []),
]

CHINESE: list[Case] = [
    ("你好，世界。", ["你好，", "世界。"]),
    ("今天天气怎么样？我很好！谢谢；再见。", ["今天天气怎么样？", "我很好！", "谢谢；", "再见。"]),
    ("“好的。”他说。", ["“好的。", "他说。"]),
    ("嗯……让我想想。", ["嗯…", "让我想想。"]),
    (
        "好。如果明天不下雨的话我们大家一起，就去公园里散步。",
        ["好。", "如果明天不下雨的话我们大家一起，", "就去公园里散步。"],
    ),
    ("好。苹果、香蕉、梨，都行。", ["好。", "苹果、香蕉、梨，都行。"]),
    ("比分是3：2，时间12：30。", ["比分是3：2，", "时间12：30。"]),
    ("2019—2020年很难。", ["2019—2020年很难。"]),
    ("价格是3.5元。打开example.com看看。", ["价格是3.5元。", "打开example.com看看。"]),
    ("一、准备材料。2、开始。", ["一、准备材料。", "2、开始。"]),
    ("二○二六年①号", ["二○二六年①号"]),
]

MIXED: list[Case] = [
    (
        "我用Python 3.11写了一个WebSocket服务器。It works.",
        ["我用Python 3.11写了一个WebSocket服务器。", "It works."],
    ),
    ("Hello,世界! 你好,world.", ["Hello,", "世界!", "你好,world."]),
    ("请打开 Wi-Fi，then restart。", ["请打开 Wi-Fi，", "then restart。"]),
]

MARKDOWN: list[Case] = [
    ("This is **bold** and *soft* and ***both***.", ["This is bold and soft and both."]),
    ("__init__ _em_ ~~old~~ new ~5", ["init em old new ~5"]),
    ("这是**重点**内容，*斜体*字。", ["这是重点内容，", "斜体字。"]),
    ("un**believ**able a*b**2", ["unbelievable a*b**2"]),
    ("2*3*4 and a * b and snake_case_name and 5 > 3", ["2*3*4 and a * b and snake_case_name and 5 > 3"]),
    ("2**10 is (a+b)*(c+d)", ["2**10 is (a+b)*(c+d)"]),
    ("# Title\nText ## here #tag", ["Title", "Text ## here #tag"]),
    ("- one\n* two\n+ three\n1. four\n2) five", ["one", "two", "three", "1. four", "2) five"]),
    ("- [ ] open\n- [x] done", ["open", "done"]),
    ("> quoted\n> > twice", ["quoted", "twice"]),
    ("a\n---\nb\n***\nc\n===\n- - -\nd", ["a", "b", "c", "d"]),
    ("-5 degrees\n--flag", ["-5 degrees", "--flag"]),
    ("Run `git_push *x*` now", ["Run git_push *x* now"]),
    ("Before\n```python\nprint('x')\n```\nAfter", ["Before", "After"]),
    ("~~~\ncode ``` here\n~~~\nAfter", ["After"]),
    ("```not``` a block", ["not a block"]),
    ("Look:\n```\nnever closed. Never", ["Look:"]),
    ("See [the docs](https://x.org/a_(b)?c) now", ["See the docs now"]),
    ('![a cat](cat.png "A cat") sits', ["a cat sits"]),
    ("[![badge](b.svg)](https://ci) ok", ["badge ok"]),
    ("[note] and array[0]", ["note and array 0"]),
    ("<think>First, plan.\n</think>\n\nThe answer is 4.", ["The answer is 4."]),
    ("< THINK type='x' >no< / Think >Yes <thinking>no</thinking>Ok", ["Yes Ok"]),
    ("Hello. <think>never closed. Still", ["Hello."]),
    ('one<br>two <b>bold</b> <span class="c">x</span><!-- no -->', ["one", "two bold x"]),
    ("a < b and x<y and x<b and List<String> <3", ["a < b and x<y and x<b and List<String> <3"]),
    ("| Name | Age |\n|:---|---:|\n| Ann | 5 |", ["Name,", "Age", "Ann, 5"]),
    ("| 名字 | 年龄 |\n|-|-|\n| 小明 | 五 |", ["名字，", "年龄", "小明，五"]),
    (r"\*literal\* and C:\dir 5\. x", [r"*literal* and C:\dir 5.", "x"]),
    ("a hard\\\nbreak", ["a hard", "break"]),
    ("**Note:** read this", ["Note:", "read this"]),
]

SILENT: list[Case] = [
    ("Great job 👍🏽! 👨‍👩‍👧 🇨🇳 ❤️ ok", ["Great job!", "ok"]),
    ("1️⃣ First 2️⃣ second #️⃣", ["First second"]),
    ("你好😀世界", ["你好世界"]),
    ("good👍job", ["good job"]),
    ("he\u200bl\u00adl\u202eo\ufeff w\x00or\x1bld", ["hello world"]),
    ("a\ud83db \ude00", ["ab"]),
    ("Hi<|endofprompt|> there <｜end▁of▁sentence｜>you", ["Hi there you"]),
    ("a\r\nb\u2028c", ["a", "b", "c"]),
]

PLAIN: list[Case] = [
    ("# **a** `b` [c](d) <think>e", ["# **a** `b` [c](d) <think>e"]),
    ("* one\n- two | three", ["* one", "- two | three"]),
    ("<|im_<|im_end|>end|> <| x", ["<im_end|> < x"]),
    ("1️⃣ ok 😀 <|im_end|>x\u200by", ["ok xy"]),
]


@pytest.mark.parametrize(("text", "spoken"), ENGLISH + CHINESE + MIXED + MARKDOWN + SILENT)
def test_markdown_is_spoken(text: str, spoken: list[str]) -> None:
    assert speak(text) == spoken


@pytest.mark.parametrize(("text", "spoken"), ENGLISH + CHINESE + MIXED + PLAIN)
def test_plain_text_is_spoken(text: str, spoken: list[str]) -> None:
    assert speak(text, markup="plain") == spoken
