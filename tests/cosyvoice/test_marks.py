from itertools import pairwise

import pytest
from cosyvoice.small_tokenizer import small_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.engine.cosyvoice.marks import EstimatedWord, MarkEstimator
from cosyduplex_server.engine.cosyvoice.plan import TextPlan, Unit
from cosyduplex_server.engine.cosyvoice.tokenizer import TextToken

CHINESE = "今天天气很好，我们去公园。"
ENGLISH = "Of course, it's 12.5% of AT&T."


def unit(text: str, closed: bool = True, start: int = 0, segment: int = 0) -> Unit:
    tokens = [TextToken(0, start, start + len(text))]
    return Unit(0, segment, start, "bi", False, tokens, text, closed)


def speak(estimator: MarkEstimator, spoken: Unit, num_tokens: int) -> None:
    estimator.begin_unit(spoken)
    estimator.add_speech(num_tokens)
    estimator.end_unit()


def said(words: list[EstimatedWord], text: str, start: int = 0) -> list[str]:
    return [text[word.char_start - start : word.char_end - start] for word in words]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CHINESE, list("今天天气很好我们去公园")),
        (ENGLISH, ["Of", "course", "it's", "12.5%", "of", "AT&T"]),
        ("我用 iPhone15 打了3个电话", [*"我用", "iPhone15", *"打了", "3", *"个电话"]),
        ("“well-known” cafe\u0301 — 12:30.", ["well-known", "cafe\u0301", "12:30"]),
        ("ありがとう、한국어 ไทย!", ["ありがとう", "한국어", "ไทย"]),
        ("¥5 + $6 … ！", ["¥5", "+", "$6"]),
    ],
)
def test_words_are_hanzi_or_what_belongs_together(text: str, words: list[str]) -> None:
    estimator = MarkEstimator()
    speak(estimator, unit(text), 100)
    assert said(estimator.words_until(96_000), text) == words


def test_words_of_complete_speech_share_it_exactly() -> None:
    estimator = MarkEstimator()
    speak(estimator, unit("今天好"), 30)
    words = estimator.words_until(30 * 960)
    assert [(word.sample_start, word.sample_end) for word in words] == [
        (0, 9600),
        (9600, 19_200),
        (19_200, 28_800),
    ]


def test_a_pause_belongs_to_the_word_before_it() -> None:
    estimator = MarkEstimator()
    speak(estimator, unit("今，天好"), 30)
    first, second, third = (word.sample_end - word.sample_start for word in estimator.words_until(30 * 960))
    assert first == pytest.approx(second * (5.5 + 5) / 5.5, abs=3)
    assert second == pytest.approx(third, abs=1)


def test_places_are_those_of_the_segment() -> None:
    estimator = MarkEstimator()
    speak(estimator, unit("天气", start=7, segment=3), 10)
    assert [(word.segment, word.char_start, word.char_end) for word in estimator.words_until(9600)] == [
        (3, 7, 8),
        (3, 8, 9),
    ]


def test_a_word_is_told_with_the_audio_it_begins_in() -> None:
    estimator = MarkEstimator()
    speak(estimator, unit("今天好"), 30)
    assert len(estimator.words_until(1)) == 1
    assert len(estimator.words_until(9600)) == 0
    assert len(estimator.words_until(9601)) == 1
    assert len(estimator.words_until(28_800)) == 1
    assert estimator.words_until(28_800) == []


def test_units_follow_one_another() -> None:
    estimator = MarkEstimator()
    speak(estimator, unit("今天"), 10)
    speak(estimator, unit("今天", segment=1), 20)
    words = estimator.words_until(30 * 960)
    assert [word.segment for word in words] == [0, 0, 1, 1]
    assert words[2].sample_start == words[1].sample_end == 9600
    assert words[3].sample_end == 28_800


def test_speed_shortens_the_words() -> None:
    estimator = MarkEstimator(samples_per_token=960 / 1.5)
    speak(estimator, unit("今天"), 30)
    assert estimator.words_until(19_200)[-1].sample_end == 19_200


def test_while_speech_comes_words_take_their_usual_time() -> None:
    estimator = MarkEstimator()
    estimator.begin_unit(unit(CHINESE, closed=False))
    estimator.add_speech(28)
    words = estimator.words_until(10 * 960)
    assert said(words, CHINESE) == ["今", "天"]
    assert [word.sample_end - word.sample_start for word in words] == [5280, 5280]


def test_the_pace_of_the_voice_is_learnt() -> None:
    def second_word(num_tokens: int) -> int:
        estimator = MarkEstimator()
        speak(estimator, unit(CHINESE), num_tokens)
        estimator.begin_unit(unit(CHINESE, closed=False))
        estimator.add_speech(1000)
        word = estimator.words_until(num_tokens * 960 + 1)[-1]
        return word.sample_end - word.sample_start

    usual = second_word(round(11 * 5.5 + 5 + 8))
    assert usual == pytest.approx(5280, rel=0.02)
    assert second_word(40) < usual < second_word(120)


def test_no_word_ends_after_the_speech_that_is_known() -> None:
    estimator = MarkEstimator()
    estimator.begin_unit(unit("internationalization of it"))
    estimator.add_speech(10)
    (word,) = estimator.words_until(960)
    assert word.sample_end == 9600
    estimator.end_unit()
    assert [(each.sample_start, each.sample_end) for each in estimator.words_until(9600)] == [
        (9600, 9600)
    ] * 2


def test_words_of_a_complete_text_stretch_over_speech_that_is_longer_than_usual() -> None:
    estimator = MarkEstimator()
    estimator.begin_unit(unit("今天好"))
    estimator.add_speech(60)
    (word,) = estimator.words_until(960)
    assert word.sample_end == 20 * 960


def test_a_word_that_goes_on_is_found_whole_unless_it_was_told() -> None:
    growing = unit("it", closed=False)
    estimator = MarkEstimator()
    estimator.begin_unit(growing)
    growing.text = "it don"
    estimator.add_speech(30)
    assert said(estimator.words_until(1), growing.text) == ["it"]
    growing.text = "it don't"
    assert said(estimator.words_until(15 * 960), growing.text) == ["don't"]


def test_a_word_that_comes_late_begins_with_the_audio_that_was_not_sent() -> None:
    growing = unit("今", closed=False)
    estimator = MarkEstimator()
    estimator.begin_unit(growing)
    estimator.add_speech(40)
    estimator.words_until(20 * 960)
    growing.text = "今天"
    (word,) = estimator.words_until(21 * 960)
    assert word.sample_start == 20 * 960


def test_words_of_a_plan_have_the_places_of_its_units() -> None:
    text = "今天天气很好，我们一起去公园，好吗？"
    plan = TextPlan(small_tokenizer())
    plan.append(0, text, True)
    estimator = MarkEstimator()
    num_units = 0
    while (item := plan.next()) is not None:
        if isinstance(item, Unit):
            speak(estimator, item, 50)
            num_units += 1
    assert num_units == 2
    assert said(estimator.words_until(100 * 960), text) == list("今天天气很好我们一起去公园好吗")


unit_texts = st.lists(
    st.sampled_from(
        ["今", "天气", "，", "。", " the", " of", ",", " 12.5", "%", " it", "'s", "はい", " 한국", " …"]
    ),
    min_size=1,
    max_size=8,
).map("".join)
schedules = st.lists(
    st.tuples(unit_texts, st.integers(1, 60), st.lists(st.integers(0, 5000), max_size=6), st.booleans()),
    min_size=1,
    max_size=4,
)


@given(schedules, st.floats(400, 2000))
def test_words_are_told_once_in_order_in_time_and_within_their_speech(
    schedule: list[tuple[str, int, list[int], bool]], samples_per_token: float
) -> None:
    estimator = MarkEstimator(samples_per_token)
    told: list[EstimatedWord] = []
    asked = made = 0

    def ask(sample_end: int) -> None:
        nonlocal asked
        sample_end = max(asked, min(sample_end, round(made * samples_per_token)))
        for word in estimator.words_until(sample_end):
            assert word.sample_start >= asked
            assert word.sample_start < sample_end or word.sample_start == word.sample_end == sample_end
            assert word.sample_end <= round(made * samples_per_token)
            told.append(word)
        asked = sample_end

    bounds = []
    for segment, (text, num_tokens, steps, grows) in enumerate(schedule):
        spoken = unit(text[: len(text) // 2] if grows else text, closed=not grows, segment=segment)
        estimator.begin_unit(spoken)
        begin = made
        for place in range(num_tokens):
            made += 1
            estimator.add_speech(1)
            if place < len(steps):
                ask(asked + steps[place])
            if place == num_tokens // 2:
                spoken.text, spoken.closed = text, True
        if not spoken.closed:
            spoken.text, spoken.closed = text, True
        estimator.end_unit()
        bounds.append((round(begin * samples_per_token), round(made * samples_per_token)))
    ask(round(made * samples_per_token))
    for before, after in pairwise(told):
        assert (before.segment, before.char_end) <= (after.segment, after.char_start)
        assert before.sample_start <= before.sample_end <= after.sample_start
    for segment, (text, _, _, grows) in enumerate(schedule):
        words = [word for word in told if word.segment == segment]
        begin, end = bounds[segment]
        assert all(begin <= word.sample_start <= word.sample_end <= end for word in words)
        spoken = "".join(text[word.char_start : word.char_end] for word in words)
        assert [char for char in spoken if char.isalnum()] == [char for char in text if char.isalnum()]
        if words and not grows:
            assert words[0].sample_start == begin
            assert all(before.sample_end == after.sample_start for before, after in pairwise(words))


@given(st.lists(st.tuples(unit_texts, st.integers(1, 60)), min_size=1, max_size=4), st.integers(1, 3000))
def test_speech_that_is_complete_before_it_is_sent_is_covered(
    schedule: list[tuple[str, int]], step: int
) -> None:
    estimator = MarkEstimator()
    spans = []
    for segment, (text, num_tokens) in enumerate(schedule):
        speak(estimator, unit(text, segment=segment), num_tokens)
        spans.append(num_tokens * 960)
    told = [word for end in range(step, sum(spans) + step, step) for word in estimator.words_until(end)]
    begin = 0
    for segment, length in enumerate(spans):
        words = [word for word in told if word.segment == segment]
        if words:
            assert (words[0].sample_start, words[-1].sample_end) == (begin, begin + length)
            assert all(before.sample_end == after.sample_start for before, after in pairwise(words))
        begin += length
