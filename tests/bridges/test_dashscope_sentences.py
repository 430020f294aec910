"""Sentences of a growing text: where they end, whatever the fragments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_bridges.dashscope.sentences import Sentences, count_characters


def cut(pieces: list[str]) -> list[str]:
    """The sentences of a text that comes in pieces."""
    text, sentences = "".join(pieces), Sentences()
    for piece in pieces:
        sentences.append(piece)
    begins = sorted({sentences.begin_of(at) for at in range(len(text))})
    return [text[begin : sentences.end_of(begin)] for begin in begins]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One. ", "Two! ", "Three?"]),
        ("你好。世界！再见……走吧", ["你好。", "世界！", "再见……", "走吧"]),
        ("It is 3.14 at example.com. Yes.", ["It is 3.14 at example.com. ", "Yes."]),
        ("他说：“好。”然后走了。", ["他说：“好。”", "然后走了。"]),
        ('He said "no." Then he left.', ['He said "no." ', "Then he left."]),
        ("First line\nsecond line", ["First line\n", "second line"]),
        ("Really?! “Yes.” “No.”", ["Really?! ", "“Yes.” ", "“No.”"]),
    ],
)
def test_a_sentence_ends_with_its_mark_and_what_closes_it(text: str, sentences: list[str]) -> None:
    assert cut([text]) == sentences
    assert cut(list(text)) == sentences


@given(st.lists(st.text(alphabet="ab好 .。!\n”", min_size=1, max_size=6), max_size=12))
def test_no_text_is_lost_and_the_last_sentence_alone_is_open(pieces: list[str]) -> None:
    found = cut(pieces)
    assert "".join(found) == "".join(pieces)
    assert all(set(sentence) & set(".。!\n") for sentence in found[:-1])


def test_a_flush_ends_a_sentence_wherever_it_is() -> None:
    sentences = Sentences()
    sentences.append("one two")
    sentences.flush()
    sentences.append(" three.")
    assert (sentences.begin_of(8), sentences.end_of(0)) == (7, 7)
    assert sentences.pop_flush() == 7


def test_text_that_was_dropped_is_gone_and_the_rest_keeps_its_positions() -> None:
    sentences = Sentences()
    sentences.append("One. Two. Three.")
    sentences.drop_before(5)
    assert sentences.base == 5
    assert sentences.text(5, 9) == "Two."
    assert sentences.begin_of(12) == 10


def test_a_flood_of_sentence_ends_is_read_once() -> None:
    sentences = Sentences()
    for _ in range(2000):
        sentences.append("\n" * 500)
    sentences.append("x")
    assert sentences.begin_of(1_000_000) == 1_000_000


@pytest.mark.parametrize(("text", "count"), [("", 0), ("abc 1.", 6), ("你好", 4), ("日本語です", 8), ("한국", 2)])
def test_han_characters_count_two_and_all_others_one(text: str, count: int) -> None:
    assert count_characters(text) == count
