"""From words of segments back to words of the appended text."""

from __future__ import annotations

import re

import pytest

from cosyduplex.messages import WordMark
from cosyduplex_server.text.front import Segment, TextFrontEnd
from cosyduplex_server.transcript import Transcript


def transcript_of(*pieces: str) -> tuple[Transcript, list[Segment]]:
    front, transcript, segments = TextFrontEnd(), Transcript(), []
    for piece in pieces:
        front.append(piece)
        transcript.append(piece)
    front.end()
    while (item := front.next()) is not None or front.busy:
        if isinstance(item, Segment):
            segments.append(item)
            transcript.begin_segment(item)
    return transcript, segments


def test_a_word_is_the_slice_it_came_from():
    transcript, segments = transcript_of("A **bo", "ld** claim.")
    start = segments[0].text.index("bold")
    mark = transcript.mark(0, start, start + 4, 100, 200)
    assert mark is not None
    assert (mark.text, mark.char_start, mark.char_end) == ("bold", 4, 8)


def test_text_of_spoken_segments_is_let_go_of():
    front, transcript = TextFrontEnd(), Transcript()
    for number in range(1000):
        text = f"Sentence number {number}. "
        front.append(text)
        transcript.append(text)
        while isinstance(segment := front.next(), Segment):
            transcript.begin_segment(segment)
            mark = transcript.mark(segment.index, 0, 8, number, number + 1)
            assert mark is not None
            assert mark.text == "Sentence"
            transcript.end_segment(segment.index)
    assert sum(len(chunk) for chunk in transcript._chunks) < 200


def test_a_word_is_found_while_its_segment_is_being_written():
    front, transcript = TextFrontEnd(), Transcript()
    front.in_parts = True
    parts = []
    for piece in ["A **bo", "ld** new cl", "aim. Next "]:
        front.append(piece)
        transcript.append(piece)
        while isinstance(part := front.next(), Segment):
            if parts and parts[-1].index == part.index:
                transcript.extend_segment(part)
            else:
                transcript.begin_segment(part)
            parts.append(part)
            spoken = "".join(one.text for one in parts if one.index == part.index)
            last = spoken.split()[-1]
            start = spoken.rindex(last)
            mark = transcript.mark(part.index, start, start + len(last), 0, len(parts) * 100)
            assert mark is not None
            assert mark.text == last
            # What has not been handed on yet is no place for a mark.
            assert transcript.mark(part.index, start, start + len(last) + 1, 0, 1) is None
    assert [(part.text, part.closes) for part in parts] == [
        ("A", False),
        (" bold new", False),
        (" claim.", True),
        ("Next", False),
    ]
    assert [transcript.heard_chars(ms) for ms in (99, 100, 200, 300, 400)] == [0, 1, 14, 21, 26]


def test_heard_is_to_the_end_of_the_last_whole_word():
    transcript, _ = transcript_of("One two three.")
    for number, (start, end) in enumerate([(0, 3), (4, 7), (8, 13)]):
        transcript.mark(0, start, end, number * 100, number * 100 + 90)
    assert [transcript.heard_chars(ms) for ms in (0, 89, 90, 150, 190, 500)] == [0, 0, 3, 3, 7, 13]


def test_a_mark_of_no_segment_is_no_mark():
    transcript, _ = transcript_of("Word.")
    assert transcript.mark(7, 0, 1, 0, 1) is None
    assert transcript.mark(0, 3, 3, 0, 1) is None
    assert transcript.mark(0, 3, 99, 0, 1) is None


def test_a_word_that_stands_for_several_characters_is_all_of_them():
    transcript, segments = transcript_of("一共10个")
    ten = segments[0].text.index("十")
    mark = transcript.mark(0, ten, ten + 1, 100, 200)
    assert mark is not None
    assert (mark.text, mark.char_start, mark.char_end) == ("10", 2, 4)
    assert transcript.heard_chars(200) == 4


def marks_of(text: str) -> tuple[Transcript, list[WordMark]]:
    """The marks of each word of a text, the n-th heard at n seconds."""
    transcript, segments = transcript_of(text)
    marks = []
    for segment in segments:
        for word in re.finditer(r"[a-z']+|[\u4e00-\u9fff]", segment.text, re.IGNORECASE):
            ms = 1000 * len(marks) + 1000
            mark = transcript.mark(segment.index, word.start(), word.end(), ms - 999, ms)
            assert mark is not None
            assert mark.text == text[mark.char_start : mark.char_end]
            marks.append(mark)
    return transcript, marks


@pytest.mark.parametrize(
    ("text", "places", "heard"),
    [
        ("I am 23 now.", ["I", "am", "2", "3", "now"], [1, 4, 6, 7, 11]),
        ("Add ½ cup.", ["Add", "½", "½", "cup"], [3, 4, 5, 9]),
        ("它有25℃。", [*"它有2255℃℃"], [1, 2, 2, 3, 3, 4, 4, 5]),
        ("人口1,200,000。", ["人", "口", "1", ",2", "00", ",0", "00"], [1, 2, 3, 5, 7, 9, 11]),
        ("A **$5** tip.", ["A", "$", "$5", "tip"], [1, 4, 6, 12]),
    ],
)
def test_each_of_several_words_has_its_share_of_what_was_written(text, places, heard):
    transcript, marks = marks_of(text)
    found = [mark.text for mark in marks]
    assert (found, [transcript.heard_chars(1000 * n + 1000) for n in range(len(marks))]) == (places, heard)


def test_an_expression_is_heard_when_the_last_of_its_words_is():
    transcript, marks = marks_of("The year 1999 was ½ bad.")
    assert transcript.heard_chars(1000 * len(marks)) == len("The year 1999 was ½ bad")
    for number, mark in enumerate(marks[:-1]):
        assert transcript.heard_chars(1000 * number + 1000) <= marks[number + 1].char_start
        assert mark.char_end <= marks[number + 1].char_end
