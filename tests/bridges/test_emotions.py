"""Emotions, dialects and instructions: what each door calls them, and what becomes of them."""

from __future__ import annotations

import pytest
from bridges.emotions_page import PAGE, with_tables

from cosyduplex_bridges.emotions import dialect_of, emotion_of, split_prompt
from cosyduplex_server.engine.cosyvoice.instructions import DIALECTS, EMOTIONS, instruction


def told(generation, **wishes):
    return instruction(generation, **{"instruct": "", "emotion": "", "dialect": "", **wishes})


def test_the_page_has_the_phrases_of_the_engine():
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page) == page, "run: .venv/bin/python tests/bridges/emotions_page.py"


# Written down from the models' own documents, not from the code.
@pytest.mark.parametrize(
    ("generation", "wishes", "phrase"),
    [
        (2, {"dialect": "sichuan"}, "用四川话说这句话"),
        (2, {"dialect": "cantonese"}, "用粤语说这句话"),
        (2, {"emotion": "happy"}, "你能用高兴的情感说吗？"),
        (3, {"dialect": "cantonese"}, "请用广东话表达。"),
        (3, {"dialect": "minnan"}, "请用闽南话表达。"),
        (3, {"emotion": "happy"}, "请非常开心地说一句话。"),
        (3, {"emotion": "sad"}, "请非常伤心地说一句话。"),
        (3, {"emotion": "angry"}, "请非常生气地说一句话。"),
    ],
)
def test_a_name_becomes_the_phrase_of_the_training(generation, wishes, phrase):
    assert told(generation, **wishes).text == phrase
    assert told(generation, **wishes).notes == ()


def test_cosyvoice3_knows_the_seventeen_dialects_and_three_emotions_of_its_list():
    assert sum(manner.v3 is not None for manner in DIALECTS) == 17
    assert sum(manner.v3 is not None for manner in EMOTIONS) == 3


@pytest.mark.parametrize("generation", [2, 3])
def test_a_dialect_is_for_chinese_alone(generation):
    assert told(generation, dialect="sichuan", language="zh").notes == ()
    elsewhere = told(generation, dialect="sichuan", emotion="happy", language="en")
    assert elsewhere.text == told(generation, emotion="happy").text
    assert "'sichuan' is one of Chinese" in elsewhere.notes[0]


@pytest.mark.parametrize("generation", [2, 3])
def test_no_two_manners_share_a_name(generation):
    for manners in (EMOTIONS, DIALECTS):
        names = [name for manner in manners for name in manner.names]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("name", [None, "", " ", "neutral", "Neutral", "none", "自然"])
def test_no_emotion_is_no_wish(name):
    assert emotion_of(name) is None


@pytest.mark.parametrize("name", [None, "", "Mandarin", "普通话"])
def test_no_dialect_is_no_wish(name):
    assert dialect_of(name) is None


def test_a_wish_is_as_long_as_a_name_may_be():
    assert emotion_of(" happy ") == "happy"
    assert len(emotion_of("x" * 1000) or "") == 64


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("plain text", ("", "plain text")),
        ("用四川话说<|endofprompt|>", ("用四川话说", "")),
        ("You are a helpful assistant.<|endofprompt|>text", ("", "text")),
        ("You are a helpful assistant. 慢一点<|endofprompt|>text", ("慢一点", "text")),
        ("", ("", "")),
    ],
)
def test_what_stands_before_the_end_of_prompt_is_an_instruction(text, parts):
    assert split_prompt(text) == parts
