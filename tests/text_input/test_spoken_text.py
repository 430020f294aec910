"""What is said of a text, and where it is cut: written down from how a person would read it aloud.

Numbers and the like are left as they are written here; how those are read is told by tests/text_corpus.
"""

from typing import Literal

import pytest

from cosyduplex_server.text.front import Segment, TextFrontEnd

Case = tuple[str, list[str]]


def speak(text: str, *, markup: Literal["markdown", "plain"] = "markdown") -> list[str]:
    """The segments, with numbers as they are written: reading them out is another stage."""
    front = TextFrontEnd(markup=markup, normalize=False)
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
    ("| Name | Age |\n|:---|---:|\n| Ann | 5 |", ["Ann,", "Age: 5."]),
    ("| 名字 | 年龄 |\n|-|-|\n| 小明 | 五 |", ["小明，", "年龄：五。"]),
    (r"\*literal\* and C:\dir 5\. x", [r"*literal* and C:\dir 5.", "x"]),
    ("a hard\\\nbreak", ["a hard", "break"]),
    ("**Note:** read this", ["Note:", "read this"]),
]

LINES: list[Case] = [
    ("# Title #\n## A ##\nText # here", ["Title", "A", "Text # here"]),
    ("##标题\n正文", ["标题", "正文"]),
    ("• one\n+ two\n12. three", ["one", "two", "12. three"]),
    ("- [x](u) is a link", ["x is a link"]),
    ("> [!NOTE]\n> Take care.", ["Note", "Take care."]),
    ("1. First:\n   ```bash\n   ls -l\n   ```\n2. Next", ["1. First:", "2. Next"]),
    ("> ```\n> code\n> ```\n> words", ["words"]),
    ("Try this: ```python\nprint(1)\n```\nDone.", ["Try this:", "Done."]),
    ("````md\n```\ninner\n```\n````\nAfter", ["After"]),
    ("So:\n\n    x = 1\n\n    y = f(x)\n\nThat is all.", ["So:", "That is all."]),
    # Writers indent paragraphs, too.
    (
        "One day.\n\n    The old man went out to fish.\n\n    他回来了。",
        ["One day.", "The old man went out to fish.", "他回来了。"],
    ),
    ("- item\n\n    x = 1 goes on", ["item", "x = 1 goes on"]),
    ("[^1]: A note.\n[docs]: https://x.org 'T'\n[Note]: read this", ["Note:", "read this"]),
    ("[00:15] Hello", ["00:15 Hello"]),
    ("---\ntitle: A\ntags: [b, c]\n---\n# Start", ["Start"]),
    ("---\nJust a rule.\n---\nMore", ["Just a rule.", "More"]),
    ("---\na: b\nNo end came.", ["No end came."]),
    ("+-----+\n| box |\n+-----+\n=====\nok", ["box", "ok"]),
    ("a\r\n\r\n- b\r\n- c", ["a", "b", "c"]),
    ("word\n    x = 1", ["word", "x = 1"]),
]

TABLES: list[Case] = [
    (
        "| Name | Age | City |\n|---|---|---|\n| Ann | 5 | Paris |\n| Bob | | **Rome** |\n\nAfter",
        ["Ann,", "Age: 5, City: Paris.", "Bob, City: Rome.", "After"],
    ),
    (
        "价格如下：\n| 名称 | 价格 |\n|:-:|--:|\n| 苹果 | 5元 |\n| 香蕉 | 3元 |\n请选。",
        ["价格如下：", "苹果，价格：5元。", "香蕉，价格：3元。", "请选。"],
    ),
    ("| A | B |\n|:--|--:|\n| see [x](u) | `y` |\n# H", ["see x,", "B: y.", "H"]),
    ("> | A | B |\n> |---|---|\n> | 1 | 2 |", ["1,", "B: 2."]),
    ("| a \\| b | c |\n|---|---|\n| 1 \\| 2 | 3 |", ["1 | 2,", "c: 3."]),
    ("| A | B |\r\n|---|---|\r\n| 1 | 2 |\r\n| 3 | 4 |", ["1,", "B: 2.", "3, B: 4."]),
    # Without a border in front, the first header has been said before the table shows.
    ("Name | Age\n--- | ---\nAnn | 5\nBob | 6\n\nok", ["Name", "Ann, Age: 5.", "Bob, Age: 6.", "ok"]),
    (
        "| Feature | A | B |\n|---|---|---|\n| SSO | ✅ | ❌ |\n| API | ✅ Full | - |",
        ["SSO,", "A: yes, B: no.", "API, A: Full."],
    ),
    ("| 功能 | 甲 |\n|---|---|\n| 登录 | ✅ |", ["登录，", "甲：是。"]),
    ("| A | B |\n|---|---|\n| x<br>y | z |", ["x,", "y, B: z."]),
    ("| Item |\n|---|\n| Apple |\n| Pear |", ["Item", "Apple", "Pear"]),
    (
        "| a | b | c | d | e | f | g | h | i |\n" + "|-" * 9 + "|\n" + "| 1 " * 9 + "|",
        ["a,", "b, c, d, e, f, g, h, i", "1, 1, 1, 1, 1, 1, 1, 1, 1"],
    ),
    ("this | is no\ntable", ["this,", "is no", "table"]),
    ("| nor this\nnor that", ["nor this", "nor that"]),
    ("| A | B |\n|---|---|---|\n| 1 | 2 |", ["A,", "B", "1, 2"]),
    (
        "| K | What was measured in the long run of experiments |\n|-|-|\n| a | 1 |\n| b | 2 |",
        ["a,", "What was measured in the long run of experiments:", "1.", "b, 2."],
    ),
    ("Done ✅. ❌ No", ["Done.", "No"]),
]

LINKS: list[Case] = [
    ("See [a][1], [b] and [c][ref].", ["See a,", "b and c."]),
    ("<https://a.b/c_d> <a_b@c.org> <mailto:x@y.org>", ["https://a.b/c_d a_b@c.org x@y.org"]),
    ("https://x.y/a_b_/z~q **https://x.org** _em_", ["https://x.y/a_b_/z~q https://x.org em"]),
    (
        "The sky is blue[1]. Water[2][3] too. Studies [4, 5] agree [^1].",
        ["The sky is blue.", "Water too.", "Studies agree."],
    ),
    (
        "巴黎是首都[1][2]。根据报告【1†source】显示。【重要】通知",
        ["巴黎是首都。", "根据报告显示。", "【重要】通知"],
    ),
    ("[[1]](https://x.y) Paris [2](https://y.z).", ["Paris."]),
    ("nums[3], x[1], array[0] and my_list[2]", ["nums 3,", "x 1, array 0 and my_list 2"]),
    ("Plan B[2] holds[3].", ["Plan B holds."]),
    (
        "The list [1, 2, 3] and x = [4, 5], scores of [6-9]",
        ["The list 1,", "2, 3 and x = 4, 5, scores of 6-9"],
    ),
    ("cell[0][1] is [12:30]", ["cell 0 1 is 12:30"]),
    ("A\ue200cite\ue202turn0search1\ue201 B\ue200never closed\nC", ["A B", "C"]),
    ("![A cat](c.png) and ![](d.png)", ["A cat and"]),
]

MARKS: list[Case] = [
    ("==marked== a == b, a === b", ["marked a == b,", "a === b"]),
    ("**未闭合 *a **b**c `code", ["未闭合 a bc code"]),
    ("so -- he said --flag word--word 2019--2020 a-b", ["so —", "he said --flag word—word 2019-2020 a-b"]),
    ("A --> B ---- C", ["A —", "B — C"]),
    ("好的~ 马上来~\n好的~我来 周一~周五 3~5天", ["好的，", "马上来", "好的，我来 周一~周五 3~5天"]),
    ("Okay~ let's go. Bye~! ~/x ~5", ["Okay,", "let's go.", "Bye!", "~/x ~5"]),
    ("(^_^) hi (T_T) (*^▽^*) ¯\\_(ツ)_/¯ :) ok :-D", ["hi ok"]),
    ("(I think) (5) (>=) （注意） 12:30) a:)", ["(I think) (5) (>=) （注意） 12:30) a:"]),
    ("a &lt; b &amp; c&nbsp;d &#39;x&#39; R&D AT&T; &bogus;", ["a < b & c d 'x' R&D AT&T;", "&bogus;"]),
    ("&lt;b&gt; x&#8203;y p&#128512;q &#0;", ["<b> xy p q"]),
    ("C# and F# and #1", ["C# and F# and #1"]),
]

FORMULAS: list[Case] = [
    ("It costs $5 and $10, or US$3.", ["It costs $5 and $10,", "or US$3."]),
    ("$3.50 for a coffee, $20M in all, $5-$10", ["$3.50 for a coffee,", "$20M in all, $5-$10"]),
    ("$HOME and $PATH", ["$HOME and $PATH"]),
    ("So $x^2 + y_1 \\leq 5$ holds", ["So x squared plus y sub 1 is at most 5 holds"]),
    ("即$x^2 + 1 = \\frac{a}{b}$。", ["即x的平方加1等于b分之a。"]),
    ("where \\(n\\) is \\(\\alpha \\times 2\\)", ["where n is alpha times 2"]),
    ("$$\n\\sum_{i=1}^{n} i^2\n$$\nok", ["the sum from i equals 1 to n of i squared", "ok"]),
    ("Thus \\[ \\sqrt{2} \\approx 1.41 \\].", ["Thus the square root of 2 is about 1.41."]),
    ("as \\(not math at all\\) and \\[1\\]", ["as (not math at all) and 1"]),
    ("Matrix $$\\begin{pmatrix} 1 & 2 \\end{pmatrix}$$ here", ["Matrix formula here"]),
    ("矩阵 \\begin{align} a &= b \\end{align} 如上", ["矩阵 公式 如上"]),
    ("Then $$" + "x + " * 150 + "x$$ is long", ["Then formula is long"]),
    (
        "f is $f(x) = |x|$ and $(a+b)^2$",
        ["f is f of x equals the absolute value of x and a plus b,", "all squared"],
    ),
    ("$90^\\circ$ and $P(A|B)$", ["90 degrees and P of A given B"]),
]

HIDDEN: list[Case] = [
    ("<reasoning>a</reasoning>b <thought>c</thought>d ◁think▷e◁/think▷f", ["b d f"]),
    ("[THINK]no[/THINK]Yes [INST] q [/INST]", ["Yes q"]),
    ("◁think▷never closed", []),
    ("<tool_call>{}</tool_call>One<script>x<1</script> two<style>p{}</style>", ["One two"]),
    ("<pre><code>x = 1</code></pre>after", ["after"]),
    ('<?xml version="1.0"?><!DOCTYPE html><speak>Hi<break time="500ms"/>there</speak>', ["Hi there"]),
    ("<answer>Yes</answer> </s> <s> </unknown>x", ["Yes x"]),
    ("a<b>c</b> and i<j and 5 < style and x", ["ac and i<j and 5 < style and x"]),
]

SILENT: list[Case] = [
    ("Great job 👍🏽! 👨‍👩‍👧 🇨🇳 ❤️ ok", ["Great job!", "ok"]),
    ("1️⃣ First 2️⃣ second #️⃣", ["1. First 2 second"]),
    ("你好😀世界", ["你好世界"]),
    ("good👍job", ["good job"]),
    ("he\u200bl\u00adl\u202eo\ufeff w\x00or\x1bld", ["hello world"]),
    ("a\ud83db \ude00", ["ab"]),
    ("Hi<|endofprompt|> there <｜end▁of▁sentence｜>you", ["Hi there you"]),
    ("a\r\nb\u2028c", ["a", "b", "c"]),
]

DRAWN: list[Case] = [
    ("1️⃣ Open\n2️⃣ Close it", ["1. Open", "2. Close it"]),
    ("**1️⃣打开** 按2️⃣ 🔟", ["1. 打开 按2 10"]),
    ("Film ★★★★☆ by A. Rating: ⭐⭐⭐", ["Film 4 star by A. Rating:", "3 stars"]),
    ("口味★★★☆☆，服务：⭐️⭐️ 。", ["口味3星，", "服务：2星。"]),
    # Stars that divide or praise rate nothing.
    ("★★★ 注意 ★★★ great ⭐⭐⭐⭐⭐ ☆☆☆ ☆★", ["注意 great"]),
    ("\x1b[1;31mError\x1b[0m: \x1b[38;5;12mx\x1b[K y \x1b z", ["Error:", "x y z"]),
    ("Ｈｉ，１，２３４人 ＡＢ１，２，好", ["Hi，", "1,234人 AB1,2，好"]),
    ("One.😀Two!<|x|>Three,👍four 3.👍5", ["One.", "Two!", "Three, four 3.", "5"]),
    ("一。😀二，<|x|>三", ["一。", "二，三"]),
]

DIRECTIONS: list[Case] = [
    ("[laughter] Yes [Sigh]. (laughs) No (clears throat)!", ["Yes.", "No!"]),
    ("[笑]好（叹气），【停顿】嗯(笑)。", ["好，", "嗯。"]),
    ("[音乐]（音乐）老师【音乐】推荐", ["（音乐）老师【音乐】推荐"]),
    ("a[laughter]b [sigh][breath]c", ["a b c"]),
    # These are words.
    (
        "[laughter](x.html) [the laugh] (he laughs) （他笑了） (pause) [sig",
        ["laughter the laugh (he laughs) （他笑了） (pause) sig"],
    ),
]

TABLES_IN_CHINESE: list[Case] = [
    ("| 城市 | 气温 |\n|-|-|\n| 北京 | 25℃ |\n| 上海 | 5% |", ["北京，", "气温：25℃。", "上海，气温：5%。"]),
    (
        "| 项 | iPhone 15 |\n|-|-|\n| 价格 | 5999元 |\n| 重 | 171g |",
        ["价格，", "iPhone 15，5999元。", "重，iPhone 15，171g。"],
    ),
    ("| A | B |\n|-|-|\n| 苹果 | 5 |\n| pear | 6% |", ["苹果，", "B：5。", "pear, B: 6%."]),
    ("| A | B |\n|-|-|\n| x | y! |\n| z | C++ |", ["x,", "B: y!", "z, B: C++."]),
]

PLAIN: list[Case] = [
    ("[laughter] a (sighs) [b](c)", ["a [b](c)"]),
    ("# **a** `b` [c](d) <think>e", ["# **a** `b` [c](d) <think>e"]),
    ("* one\n- two | three", ["* one", "- two | three"]),
    ("<|im_<|im_end|>end|> <| x", ["<im_end|> < x"]),
    ("1️⃣ ok 😀 <|im_end|>x\u200by", ["1. ok xy"]),
]


MARKDOWN_CASES = ENGLISH + CHINESE + MIXED + MARKDOWN + SILENT
MARKDOWN_CASES += LINES + TABLES + LINKS + MARKS + FORMULAS + HIDDEN
MARKDOWN_CASES += DRAWN + DIRECTIONS + TABLES_IN_CHINESE


@pytest.mark.parametrize(("text", "spoken"), MARKDOWN_CASES)
def test_markdown_is_spoken(text: str, spoken: list[str]) -> None:
    assert speak(text) == spoken


@pytest.mark.parametrize(("text", "spoken"), ENGLISH + CHINESE + MIXED + PLAIN)
def test_plain_text_is_spoken(text: str, spoken: list[str]) -> None:
    assert speak(text, markup="plain") == spoken
