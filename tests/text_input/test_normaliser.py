"""Expressions are read out as soon as no further character can change them, and lead back to their source."""

import tracemalloc
from collections.abc import Callable, Mapping
from itertools import pairwise, product

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosyduplex_server.text import chinese, english
from cosyduplex_server.text.normalise import Normaliser, SpokenRun
from cosyduplex_server.text.reading import LEFT_CONTEXT, LONGEST_EXPRESSION, Reading
from cosyduplex_server.text.rulebook import Rulebook, Rules
from cosyduplex_server.text.runs import Run
from cosyduplex_server.text.scripts import Script

DIGITS = frozenset("0123456789")
NAMES = dict(zip("0123456789", "zero one two three four five six seven eight nine".split(), strict=True))
HANZI = dict(zip("0123456789", "零一二三四五六七八九", strict=True))


def _reading(first: str, pattern: str, read: Callable[[regex.Match[str]], str | None]) -> Reading:
    return Reading(pattern, frozenset(first), pattern, read)


def _named(match: regex.Match[str]) -> str:
    return " ".join(NAMES[char] for char in match[0] if char in NAMES)


ENGLISH = (
    _reading(
        "0123456789", r"(?<whole>\d+)\.(?<part>\d+)(?![\w.])", lambda m: _named(m).replace(" ", " point ", 1)
    ),
    _reading("0123456789", r"(?<whole>\d+) kg(?!\w)", lambda m: _named(m) + " kilos"),
    _reading("0123456789", r"\d+%", lambda m: _named(m) + " percent"),
    _reading("0123456789", r"\d+(?![A-Za-z\d]|\.\d)", _named),
    _reading("D", r"Dr\.(?= [A-Z])", lambda m: "Doctor"),
    _reading("$", r"\$\d+(?!\d)", lambda m: _named(m) + " dollars"),
)
CHINESE = (
    _reading("1", r"10(?!\d)", lambda m: "十"),
    _reading("0123456789", r"\d+", lambda m: "".join(HANZI[char] for char in m[0])),
    _reading("第", r"第\d+(?!\d)", lambda m: "第" + "".join(HANZI[char] for char in m[0][1:])),
)
RULEBOOK = Rulebook(english=ENGLISH, chinese=CHINESE)


def spoken(
    text: str,
    split: list[int] | None = None,
    *,
    rulebook: Rulebook | None = RULEBOOK,
    language: str = "auto",
    pronunciations: Mapping[str, str] | None = None,
    flush_after: int | None = None,
) -> tuple[str, list[int], dict[int, int]]:
    """What is said of `text`, which comes in pieces of these sizes, a flush after so many characters."""
    normaliser = Normaliser(rulebook, language=language, pronunciations=pronunciations)
    whole = SpokenRun("", [], {})
    at = turn = 0
    while at < len(text):
        size = split[turn % len(split)] if split else len(text)
        turn += 1
        if flush_after is not None and at < flush_after:
            size = min(size, flush_after - at)
        piece = text[at : at + size]
        run = Run(piece, list(range(at, at + len(piece))))
        at += len(piece)
        whole = _joined(whole, normaliser.read(run, final=at == flush_after))
    whole = _joined(whole, normaliser.read(Run("", []), final=True))
    assert normaliser.held_from is None
    return whole.text, whole.offsets, whole.ends


def _joined(left: SpokenRun, right: SpokenRun) -> SpokenRun:
    return SpokenRun(left.text + right.text, left.offsets + right.offsets, left.ends | right.ends)


def said(text: str, **options: object) -> str:
    return spoken(text, **options)[0]  # type: ignore[arg-type]


# --- Any split

PIECES = [
    *"0123456789. $Dabkgé第年，。π\n",
    "Dr. Wu",
    " kg",
    "10",
    "one",
    "第10",
    "你好",
    "の",
    "Wi-Fi 6",
    "ab cd",
]
few = st.lists(st.sampled_from(PIECES), min_size=1, max_size=7, unique=True)
texts = few.flatmap(lambda chosen: st.lists(st.sampled_from(chosen), max_size=60).map("".join))
long_texts = st.lists(
    st.sampled_from(["1" * 300, "1" * 250, "a", ".", " ", "9", "你", "word "]), max_size=12
).map("".join)
splits = st.lists(st.integers(1, 9), min_size=1, max_size=5)
languages = st.sampled_from(["auto", "en", "zh", "de"])
ENTRIES = {
    "ab": "A B",
    "abk": "long one",
    "你好": "nihao",
    "Dr": "D R",
    "kg": "",
    "$1": "buck",
    "k": "K!",
    "1.": "x",
}
entries = st.sampled_from([{}, ENTRIES])


@settings(max_examples=600)
@given(texts | long_texts, splits, languages, entries, st.none() | st.integers(0, 30))
@example("1" * 256, [1], "en", {}, None)
@example("1" * 257, [1], "en", {}, None)
@example("第 " * 40 + "3 kg", [1], "auto", {}, None)
def test_any_split_says_the_same_and_stands_for_the_same(
    text: str, split: list[int], language: str, entries: dict[str, str], flush_after: int | None
) -> None:
    options = {"language": language, "pronunciations": entries, "flush_after": flush_after}
    assert spoken(text, split, **options) == spoken(text, **options)  # type: ignore[arg-type]


@settings(max_examples=300)
@given(texts, splits, languages, entries)
def test_every_written_character_is_stood_for_in_order(
    text: str, split: list[int], language: str, entries: dict[str, str]
) -> None:
    entries = {key: value for key, value in entries.items() if value}
    words, offsets, ends = spoken(text, split, language=language, pronunciations=entries)
    assert len(words) == len(offsets)
    assert all(left <= right for left, right in pairwise(offsets))
    covered = {place for offset in offsets for place in range(offset, ends.get(offset, offset + 1))}
    assert covered == set(range(len(text)))
    assert all(ends.get(left, left + 1) <= right for left, right in pairwise(sorted(set(offsets))))


@given(st.text(st.sampled_from([*"019.$Dr第你 ，\n\ud83d"])), splits)
def test_without_rules_and_entries_the_text_is_what_was_written(text: str, split: list[int]) -> None:
    assert spoken(text, split, rulebook=None) == (text, list(range(len(text))), {})


def test_offsets_lead_over_gaps_that_were_silent_before() -> None:
    normaliser = Normaliser(RULEBOOK, language="zh")
    run = normaliser.read(Run("有10个", [0, 3, 6, 9]), final=True)
    assert (run.text, run.offsets, run.ends) == ("有十个", [0, 3, 9], {3: 7})


def test_the_words_of_an_expression_share_out_its_places() -> None:
    words, offsets, _ = spoken("x 23 kg", language="en")
    assert words == "x two three kilos"
    assert offsets[words.index("two")] == 2
    assert offsets[words.index("kilos") + 4] == 6


# --- What is held

# Each replacement is one character of its own, so that two ways to read a text differ where they part.
DISTINCT = (
    _reading("12", r"[12]+k(?!2)", lambda m: chr(0x4E00 + len(m[0]) * 100 + int(m[0][:-1]))),
    _reading("12", r"[12]\.[12](?! k)", lambda m: chr(0x6000 + int(m[0][0] + m[0][2]))),
    _reading("12", r"[12]+(?:\.[12]{2})*(?![12])", lambda m: chr(0x7000 + int(m[0].replace(".", "")) % 4096)),
    _reading("k", r"k\.1|k1", lambda m: chr(0x8000 + len(m[0]))),
)


def _run_to_the_end(normaliser: Normaliser, text: str, start: int) -> list[tuple[str, int]]:
    run = normaliser.read(Run(text, list(range(start, start + len(text)))), final=False)
    return list(zip(run.text, run.offsets, strict=True))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_nothing_is_held_that_no_further_character_can_change(length: int) -> None:
    rulebook = Rulebook(english=DISTINCT, chinese=())
    more = [c for n in range(4) for c in map("".join, product("12.k ", repeat=n))]
    for prefix in map("".join, product("12.k ", repeat=length)):
        released = _run_to_the_end(Normaliser(rulebook, language="en"), prefix, 0)
        common: list[tuple[str, int]] | None = None
        for tail in more:
            words, offsets, _ = spoken(prefix + tail, rulebook=rulebook, language="en")
            whole = list(zip(words, offsets, strict=True))
            if common is None:
                common = whole
            same = next((i for i, (a, b) in enumerate(zip(common, whole, strict=False)) if a != b), None)
            common = common[: min(len(common), len(whole)) if same is None else same]
        assert common is not None
        assert [item for item in common if item[1] < length] == released, prefix


@pytest.mark.parametrize(
    ("written", "released", "held"),
    [
        ("It is 3", "It is ", "3"),
        ("It is 3.", "It is ", "3."),
        ("It is 3 ", "It is ", "3 "),
        ("It is 3 k", "It is ", "3 k"),
        ("It is 3 kg", "It is ", "3 kg"),
        ("It is 3 kg ", "It is three kilos ", ""),
        ("It is 3 ki", "It is three ki", ""),
        ("It is 3. ", "It is three. ", ""),
        ("It is 3.1", "It is ", "3.1"),
        ("It is 3.1,", "It is three point one,", ""),
        # A hanzi behind it would make it Chinese.
        ("It is 9%", "It is ", "9%"),
        ("It is 9%.", "It is nine percent.", ""),
        ("It is 9% ", "It is nine percent ", ""),
        ("It is 9%-", "It is ", "9%-"),
        ("It is 9%的", "It is 九%的", ""),
        ("我有9%", "我有九%", ""),
        ("Ask Dr", "Ask ", "Dr"),
        ("Ask Dr. ", "Ask ", "Dr. "),
        ("Ask Dr. W", "Ask Doctor W", ""),
        ("Ask Dr. w", "Ask Dr. w", ""),
        ("Ask Da", "Ask Da", ""),
    ],
)
def test_what_a_rule_is_still_reading_waits(written: str, released: str, held: str) -> None:
    normaliser = Normaliser(RULEBOOK)
    run = normaliser.read(Run(written, list(range(len(written)))), final=False)
    assert run.text == released
    held_from = len(written) if normaliser.held_from is None else normaliser.held_from
    assert written[held_from:] == held


@given(texts | long_texts, splits)
def test_what_is_held_is_bounded(text: str, split: list[int]) -> None:
    normaliser = Normaliser(RULEBOOK, language="en")
    at = turn = 0
    while at < len(text):
        piece = text[at : at + split[turn % len(split)]]
        normaliser.read(Run(piece, list(range(at, at + len(piece)))), final=False)
        at += len(piece)
        turn += 1
        held_from = at if normaliser.held_from is None else normaliser.held_from
        assert at - held_from <= LONGEST_EXPRESSION


@pytest.mark.parametrize("piece", ["1", "1 ", "1.", "$", "D", "Dr. ", "1 k", "word ", "第1"])
@pytest.mark.parametrize("piece_chars", [1, 128])
def test_the_work_grows_with_the_text(piece: str, piece_chars: int) -> None:
    num_chars = 10_000
    text = (piece * num_chars)[:num_chars]
    normaliser = Normaliser(RULEBOOK)
    for at in range(0, num_chars, piece_chars):
        chunk = text[at : at + piece_chars]
        normaliser.read(Run(chunk, list(range(at, at + len(chunk)))), final=False)
        # Each trial looks at this text and no more.
        assert len(normaliser._text) <= LONGEST_EXPRESSION + 3 * LEFT_CONTEXT + piece_chars
    # At each place once, and once more for each piece that ends within an expression.
    most_rules = 1 + len(ENGLISH) + len(CHINESE)
    assert normaliser.work <= most_rules * (num_chars + num_chars // piece_chars)


def test_a_megabyte_is_read_in_bounded_memory() -> None:
    normaliser = Normaliser(RULEBOOK)
    text = "A day has 24 hours, 第3天, 12345678901234567890. " * 200
    tracemalloc.start()
    try:
        for number in range(1_000_000 // len(text)):
            start = number * len(text)
            normaliser.read(Run(text, list(range(start, start + len(text)))), final=False)
            if number == 0:
                first_work = normaliser.work
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert normaliser.work <= 1.01 * first_work * (1_000_000 // len(text))
    assert peak_bytes < 4_000_000


def test_a_longer_expression_than_the_longest_stays_as_it_is_written() -> None:
    longest, too_long = "1" * (LONGEST_EXPRESSION - 1), "1" * LONGEST_EXPRESSION
    assert said(f"{longest} ", language="en").startswith("one one")
    assert said(f"{too_long} ", language="en") == f"{too_long} "


# --- A flush and a pause


def test_a_flush_reads_what_is_there_and_what_follows_by_itself() -> None:
    assert said("3.5 kg", language="en", flush_after=1) == "three.five kilos"
    assert said("3.5 kg", language="en", flush_after=2) == "three.five kilos"
    assert said("35", language="en", flush_after=1) == "threefive"


def test_the_language_outlives_a_flush() -> None:
    assert said("你好3 4", flush_after=3) == "你好三 四"


@pytest.mark.parametrize(
    ("written", "released"),
    [
        ("It is 3 ", "three "),
        ("共第3", None),
        ("It is 3", None),
        ("It is 3.", None),
        ("It is 3 kg", None),
        # A name behind it would change it.
        ("Ask Dr.", None),
        ("Ask Dr. ", None),
        ("Ask Dr. W", None),
        ("All is said", None),
    ],
)
def test_a_pause_releases_what_ends_with_a_complete_word(written: str, released: str | None) -> None:
    normaliser = Normaliser(RULEBOOK)
    normaliser.read(Run(written, list(range(len(written)))), final=False)
    held_from = normaliser.held_from
    run = normaliser.read_words()
    assert (run.text if run else None) == released
    assert normaliser.held_from == (None if run else held_from)


def test_what_comes_after_a_pause_still_sees_what_stood_before() -> None:
    normaliser = Normaliser(RULEBOOK)
    normaliser.read(Run("It is 3 ", list(range(8))), final=False)
    assert normaliser.read_words()
    run = normaliser.read(Run("kg", [8, 9]), final=True)
    assert (run.text, run.offsets) == ("kg", [8, 9])


# --- The language of an expression


@pytest.mark.parametrize(
    ("written", "words"),
    [
        # The nearest letter before.
        ("一共3 apples", "一共三 apples"),
        ("We eat 3 苹果", "We eat three 苹果"),
        ("你好。Please take 3", "你好。Please take three"),
        ("Say “你好” 3", "Say “你好” 三"),
        # Without one the first letter behind, but for a unit glued to the number.
        ("3 apples", "three apples"),
        ("3个苹果", "三个苹果"),
        ("3，4", "三，四"),
        ("3cm的书", "三cm的书"),
        ("3", "three"),
        ("3 + 4 = 7", "three + four = seven"),
        # A name within Chinese.
        ("我用Python 3写", "我用Python 三写"),
        ("在 Windows Server 3 上", "在 Windows Server 三 上"),
        ("他说 I have 3 cats", "他说 I have three cats"),
        ("Python 3", "Python three"),
        ("用pandas 3写", "用pandas 三写"),
        ("我的CPU是Intel i3", "我的CPU是Intel i三"),
        ("设x=3", "设x=三"),
        ("若y > 3", "若y > 三"),
        # But a word that no name is, or one that goes on in English, has turned the sentence English.
        ("小明 is 3", "小明 is three"),
        ("喝水，about 3", "喝水，about three"),
        ("小明 ate 3 apples", "小明 ate three apples"),
        ("小明 ate 3. ", "小明 ate three. "),
        # A hanzi right behind it.
        ("iPhone 3多少钱", "iPhone 三多少钱"),
        ("A3纸", "A三纸"),
        ("There are 3个 here", "There are 三个 here"),
        ("I want 3-5个", "I want 三-五个"),
        ("It costs 3 元.", "It costs 三 元."),
        # But in a foreign word, and in code.
        ("Cloud9的队长", "Cloud nine的队长"),
        ("pip install numpy==3即可", "pip install numpy==three即可"),
        # A space between them, where all before is a name; a full-width mark.
        ("Windows 3 比 Windows 9 好", "Windows 三 比 Windows 九 好"),
        ("Pixel 3 Pro的", "Pixel 三 Pro的"),
        ("iPhone 3、iPhone 9", "iPhone 三、iPhone 九"),
        ("x=3，y=9", "x=三，y=九"),
        ("Step 3：打开", "Step three：打开"),
        # Hanzi within English.
        ("Say 你好 3 times", "Say 你好 three times"),
        ("The Spring Festival (春节) 3", "The Spring Festival (春节) three"),
        ("深度学习（Deep Learning）3", "深度学习（Deep Learning）三"),
        # The numbers of a list go on as they began.
        ("语言：\n1. Go\n2. Java\n3. C", "语言：\n一. Go\n二. Java\n三. C"),
        ("Two:\n1. Go\n2. Java", "Two:\none. Go\ntwo. Java"),
        # Neither.
        ("これは3", "これは3"),
        ("日本の歴史3", "日本の歴史3"),
        ("это 3", "это 3"),
        ("π 3", "π three"),
        # What can only be of one language.
        ("Go to 第3", "Go to 第三"),
        ("我是Dr. Wu", "我是Doctor Wu"),
    ],
)
def test_the_letters_next_to_an_expression_tell_its_language(written: str, words: str) -> None:
    assert said(written) == words
    assert said(written, split=[1]) == words


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "你好 three"),
        ("en-GB", "你好 three"),
        ("zh", "你好 三"),
        ("zh_CN", "你好 三"),
        ("yue", "你好 三"),
        ("auto", "你好 三"),
        ("", "你好 三"),
        ("de", "你好 3"),
        ("ja", "你好 3"),
    ],
)
def test_a_language_that_was_asked_for_rules_everywhere(language: str, words: str) -> None:
    assert said("你好 3", language=language) == words


def test_a_number_that_no_letter_comes_before_waits_for_one_for_a_while() -> None:
    normaliser = Normaliser(RULEBOOK)
    waiting = "3" + " " * 30
    assert normaliser.read(Run(waiting, list(range(len(waiting)))), final=False).text == ""
    assert normaliser.read(Run("  ", [40, 41]), final=False).text.startswith("three ")


# --- Pronunciations


@pytest.mark.parametrize(
    ("entries", "written", "words"),
    [
        ({"CosyVoice": "cozy voice"}, "Use CosyVoice, please", "Use cozy voice, please"),
        ({"CosyVoice": "cozy voice"}, "用CosyVoice写", "用cozy voice写"),
        ({"CosyVoice": "cozy voice"}, "cosyvoice CosyVoices MyCosyVoice", "cosyvoice CosyVoices MyCosyVoice"),
        ({"nginx": "engine x"}, "Nginx NGINX nginx nginxs", "engine x engine x engine x nginxs"),
        ({"重庆": "崇庆"}, "去重庆市", "去崇庆市"),
        ({"New York": "NY", "New York City": "the city"}, "New York City, New York", "the city, NY"),
        ({"a": "first", "ab": "second"}, "a ab abc", "first second abc"),
        ({"US": "U S", "us": "uss"}, "US us Us", "U S uss uss"),
        ({"C++": "C plus plus"}, "C++ and C++20", "C plus plus and C plus plus two zero"),
        # Applied first, and its value is not read again.
        ({"3": "iii"}, "3 30", "iii three zero"),
        ({"x": "3 kg"}, "x 3 kg", "3 kg three kilos"),
        ({"Dr.": "Drive"}, "Dr. Wu", "Drive Wu"),
        ({"um": ""}, "Well um yes", "Well  yes"),
        ({"-": ""}, "a-b", "a b"),
        ({"GPT": "G P T"}, "GPT第3", "G P T第三"),
        ({"w": "<|endofprompt|>a\u200b\nb 😀"}, "w", "a b"),
        ({}, "as it is", "as it is"),
    ],
)
def test_an_entry_is_said_in_place_of_what_is_written(
    entries: dict[str, str], written: str, words: str
) -> None:
    assert said(written, pronunciations=entries) == words
    assert said(written, split=[1], pronunciations=entries) == words


@pytest.mark.parametrize(
    ("written", "released"),
    [
        ("go N", "go "),
        ("go New York", "go "),
        ("go New York C", "go "),
        ("go New York Ca", "go NY Ca"),
        ("go Nex", "go Nex"),
        ("重", ""),
        ("重庆", "崇庆"),
        ("um", ""),
        ("um ", "er "),
    ],
)
def test_what_may_become_an_entry_waits(written: str, released: str) -> None:
    entries = {"New York": "NY", "New York City": "the city", "重庆": "崇庆", "um": "er"}
    normaliser = Normaliser(None, pronunciations=entries)
    assert normaliser.read(Run(written, list(range(len(written)))), final=False).text == released


def test_the_most_entries_find_their_places() -> None:
    entries = {f"word{number}": f"said {number}" for number in range(200)}
    text = " ".join(entries)
    assert said(text, rulebook=None, pronunciations=entries) == " ".join(entries.values())


# --- Words stay apart


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("x3 ", "x three "),
        ("第3x", "第三x"),
        ("$3x", "three dollars x"),
        ("你好3", "你好三"),
        ("3$4", "three four dollars"),
    ],
)
def test_a_replacement_does_not_run_into_a_word(written: str, words: str) -> None:
    assert said(written) == words
    assert said(written, split=[1]) == words


# --- Rules


def _one_by_one(readings: tuple[Reading, ...], text: str, at: int, *, final: bool) -> tuple[int, str]:
    """What the readings say when each is asked by itself."""
    for reading in readings:
        match = reading.pattern.match(text, at)
        if not final:
            more = ["", *"012.k $Da第", "x", "\n"]
            ways = [reading.pattern.fullmatch(text + char, at, partial=True) for char in more]
            again = [reading.pattern.match(text + char, at) for char in more]
            if any(ways[1:]) or (ways[0] and ways[0].partial) or len({m and m.span() for m in again}) > 1:
                return -1, ""
        words = reading.read(match) if match else None
        if match and words is not None:
            return match.end(), words
    return 0, ""


@settings(max_examples=300)
@given(texts.filter(bool), st.booleans(), st.sampled_from([ENGLISH, DISTINCT]))
def test_readings_that_are_tried_together_say_what_each_would(
    text: str, final: bool, readings: tuple[Reading, ...]
) -> None:
    for at, char in enumerate(text):
        rules = Rulebook(english=readings, chinese=()).at(char, "en")
        if rules is not None:
            here = tuple(reading for reading in readings if char in reading.first)
            judged = rules.judge(text, at, final=final)
            assert judged == _one_by_one(here, text, at, final=final)


def _judged(readings: tuple[Reading, ...], text: str) -> tuple[int, str]:
    rules = Rulebook(english=readings, chinese=()).at(text[0], "en")
    assert rules is not None
    return rules.judge(text, 0, final=False)


def test_patterns_keep_their_flags_and_names_when_tried_together() -> None:
    readings = (
        Reading("verbose", frozenset("a"), r"(?x)a (?<n> \d ) # one", lambda m: m["n"]),
        Reading("either case", frozenset("aA"), r"(?i)ab(?<n>.)", lambda m: m["n"]),
        Reading("back", frozenset("a"), r"a(?<n>[cd])(?P=n)", lambda m: f"two {m['n']}"),
    )
    assert _judged(readings, "a1x") == (2, "1")
    assert _judged(readings, "ABxy") == (3, "x")
    assert _judged(readings, "addy") == (3, "two d")
    assert _judged(readings, "acdy") == (0, "")


def test_a_pattern_is_compiled_when_it_is_first_needed() -> None:
    rulebook = Rulebook(english=(_reading("1", "1(", lambda m: "one"),), chinese=())
    with pytest.raises(regex.error):
        rulebook.warm()


def test_nothing_is_left_to_compile_after_warming(monkeypatch: pytest.MonkeyPatch) -> None:
    rulebook = Rulebook(english=english.READINGS, chinese=chinese.READINGS)
    rulebook.warm()
    monkeypatch.setattr(regex, "compile", None)
    text = "On 5月1日 Dr. Wu paid $3.50 for A4纸, at 3:30 PM. "
    assert said(text, rulebook=rulebook).startswith(
        "On 五月一日 Doctor Wu paid three dollars and fifty cents"
    )


def test_a_reading_of_any_language_is_tried_before_those_of_the_other() -> None:
    key = Reading("key", frozenset("D"), r"Dr(?=\+)", lambda m: "Door", in_any_language=True)
    rulebook = Rulebook(english=(*ENGLISH, key), chinese=(*CHINESE, _reading("D", "Dr", lambda m: "博士")))
    assert said("按Dr+3", rulebook=rulebook) == "按Door+三"
    assert said("按Dr 3", rulebook=rulebook) == "按博士 三"


def test_a_reading_that_declines_leaves_it_to_the_next() -> None:
    readings = (
        _reading("1", r"1\d(?!\d)", lambda m: None),
        _reading("1", r"1\d(?!\d)", lambda m: "second"),
    )
    assert _judged(readings, "12 ") == (2, "second")
    assert _judged(readings[:1], "12 ") == (0, "")


# --- The readings of both languages

WRITTEN = [
    *"0123456789.,:/-–~%°$€¥+=×#@&()'’ \n",
    *"年月日号点分秒时周第约至到两万亿元块角个只米斤度℃％：，。、",
    *[" million", " kg", "km/h", " p.m.", "st ", "th", "May ", "Jan. ", "2024", "1999", "1990s", "½", "v2.0"],
    *[
        "IV",
        "Chapter ",
        "第十",
        "三",
        "+86 138",
        "555-1234",
        "http://",
        "www.",
        ".com",
        "main.py",
        "C:\\",
        "a@b",
    ],
    *["Mr. ", "No. ", "U.S. ", "USD ", "人民币", "比分", "电话", "A", "the ", "a ", "我们", "在", "page "],
]
SCRIPTS: list[Script] = ["en", "zh"]
BOTH = Rulebook(english=english.READINGS, chinese=chinese.READINGS)
written_texts = st.lists(st.sampled_from(WRITTEN), min_size=1, max_size=12).map("".join)


@settings(max_examples=300, deadline=None)
@given(written_texts)
def test_no_reading_is_passed_over_for_how_an_expression_begins(text: str) -> None:
    for at, char in enumerate(text):
        for script in SCRIPTS:
            rules = BOTH.at(char, script)
            if rules is not None:
                judged = rules.judge(text, at, final=True)
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(Rules, "_that_may_begin_with", lambda rules, _: rules._rules)
                    assert judged == rules.judge(text, at, final=True)
