"""A segment's text on its way to the library: runs of one language, words by code points."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_espeak.text import split_runs


def runs(text: str, base: str = "en") -> list[tuple[str, str]]:
    return [(run.language, run.text) for run in split_runs(text, base)]


def words(text: str) -> list[str]:
    return [text[word.char_start : word.char_end] for run in split_runs(text, "en") for word in run.words]


def test_each_script_gets_its_own_run_and_only_a_change_of_language_is_marked_as_going_on() -> None:
    assert runs("Hello 世界, this is 测试 text.") == [
        ("en", "Hello ,"),
        ("zh", "世界, "),
        ("en", "this is ,"),
        ("zh", "测试 ,"),
        ("en", "text."),
    ]


@pytest.mark.parametrize(
    ("text", "base", "expected"),
    [
        ("3个人", "en", ["zh"]),
        ("我有3个", "en", ["zh"]),
        ("用iPhone拍了3张", "en", ["zh", "en", "zh"]),
        ("买了iPhone 15", "zh", ["zh", "en"]),
        ("涨了50%的钱", "en", ["zh"]),
        ("the 3个", "en", ["en", "zh"]),
        ("A3纸", "en", ["en", "zh"]),
        ("In 2026 yes", "zh", ["en"]),
        ("3.14", "zh", ["zh"]),
        ("3.14", "en", ["en"]),
        ("“你好”", "en", ["zh"]),
        ("Привет", "zh", ["en"]),
    ],
)
def test_what_has_no_script_goes_with_its_surroundings(text: str, base: str, expected: list[str]) -> None:
    assert [language for language, _ in runs(text, base)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("don't well-known.", ["don't", "well-known"]),
        ("(It’s) “quoted”—twice…", ["It’s", "quoted", "twice"]),
        ("10:30, 3,456 or 3.14; 5% of $12.50!", ["10:30", "3,456", "or", "3.14", "5%", "of", "$12.50"]),
        ("你好,世界3个", ["你", "好", "世", "界", "3", "个"]),
        ("café cafe\u0301 naïve", ["café", "cafe\u0301", "naïve"]),
        ("𠀀𝒳 𪚥", ["𠀀", "𝒳", "𪚥"]),
        ("C++ & C#", ["C++", "&", "C#"]),
        ("end.Next", ["end", "Next"]),
        ("co\u00adoperate\u200b!", ["co\u00adoperate"]),
        ("x\u0000y", ["x", "y"]),
        ("…!?", []),
        ("", []),
    ],
)
def test_words_are_slices_of_the_segment(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "pause_ms"),
    [("One.", 280), ("一。”", 280), ("One, ", 140), ("one：", 140), ("one", 60), ('He said "so."', 280)],
)
def test_the_pause_after_a_run_is_that_of_its_punctuation(text: str, pause_ms: int) -> None:
    assert [run.pause_ms for run in split_runs(text, "en")] == [pause_ms]


def test_full_width_and_mathematical_letters_are_spoken_as_letters() -> None:
    assert runs("ＡＢ１２𝒳") == [("en", "AB12X")]


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("你好，a1.'-%\u200b\u00ad\x00 "), max_size=40))
def test_any_text_gives_words_in_order_and_nothing_the_library_must_not_get(text: str) -> None:
    position = 0
    for run in split_runs(text, "en"):
        assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in run.text)
        for word in run.words:
            assert position <= word.char_start < word.char_end <= len(text)
            assert 0 <= word.start < word.end
            position = word.char_end


@given(st.text("abc 你好世界12,。", max_size=30))
def test_every_letter_digit_and_hanzi_belongs_to_a_word(text: str) -> None:
    covered = {
        offset
        for run in split_runs(text, "en")
        for word in run.words
        for offset in range(word.char_start, word.char_end)
    }
    assert {offset for offset, character in enumerate(text) if character.isalnum()} <= covered


def test_a_lone_surrogate_is_spoken_as_nothing() -> None:
    assert runs("a\ud800b") == [("en", "a b")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天很好，我们去散步。", [("今天很好，", 140), ("我们去散步。", 280)]),
        ("Yes, at 12:30 for $1,000.", [("Yes, ", 140), ("at 12:30 for $1,000.", 280)]),
        ("“好，”他说。", [("“好，”", 140), ("他说。", 280)]),
        ("，你好", [("，你好", 60)]),
        ("Dr. Smith", [("Dr. Smith", 60)]),
    ],
)
def test_a_clause_is_a_run_so_that_its_pause_does_not_depend_on_the_segmenter(
    text: str, expected: list[tuple[str, int]]
) -> None:
    assert [(run.text, run.pause_ms) for run in split_runs(text, "en")] == expected
