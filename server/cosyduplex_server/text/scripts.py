"""The language an expression is read in: told by the letters around it.

The letter before it tells most. Where that is Latin and the sentence may still be Chinese, what
comes behind the expression tells: a hanzi right behind it, "iPhone 15多少钱", makes it Chinese. An expression
waits until that is certain, which is a character or two longer.
"""

from __future__ import annotations

import re
from typing import Literal

import regex

from cosyduplex_server.text.reading import LEFT_CONTEXT
from cosyduplex_server.text.runs import known_language

Script = Literal["en", "zh", ""]  # "": of neither, the voice reads it by itself

# How far ahead the first letter of a text is looked for, when a number comes before it.
_LOOK_AHEAD = 32
# How far behind an expression its neighbour is looked for: over the numbers of a range or a sum.
_MOST_BEHIND = 24

_CHINESE_MARKS = "、。，！？；：「」『』《》（）【】％￥～"
_HAN = "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff〇]"
_CHINESE = re.compile(f"{_HAN}|[{_CHINESE_MARKS}]")
_LAST_CHINESE = re.compile(f".*(?:{_CHINESE.pattern})", re.DOTALL)
_KANA = re.compile("[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
# Of no language: π and Ω, and numbers in one character, ² ½ ① Ⅳ.
_GREEK = "\u0370-\u03ff"
_NUMERALS = (
    "²³¹¼-¾\u2070-\u2089\u2150-\u2189\u2460-\u249b\u24ea-\u24ff\u2776-\u2793\u3220-\u3229\u3251-\u325f"
)
_LATIN = re.compile("[A-Za-z\u00aa-\u024f\u1e00-\u1eff\uff21-\uff5a]")
# What stands before the names of geometry and the lines of a proof.
_NAME_SIGNS = "∵∴∠△⊙√"
# The first letter that is no unit glued to a number: the "a" of "5kg apples".
_FIRST_LETTER = re.compile(
    rf"(?:\d(?>[A-Za-z/²³µ]*)|(?![{_CHINESE_MARKS}])[\W\d_{_GREEK}{_NUMERALS}])*+([^\W\d_{_GREEK}{_NUMERALS}]|[{_CHINESE_MARKS}])"
)
# A variable, the x of ∵x>0，, is of no language.
_VARIABLE = regex.compile(f"(?<=[{_NAME_SIGNS} =<>+])(?:[A-Za-z]|[A-Z]{{2,3}})(?=\\s?[=<>≤≥+²³∥⊥，。])")

# --- Names in a Chinese sentence

# Words that are no names: behind one of them the sentence has turned English.
_FUNCTION_WORDS = frozenset(
    "is are was were am be been has have had do does did will would can could should may might must not at "
    "about in on of for to from by with over under around than within until since before after during "
    "between per up as so and or but if when then here there the a an this that these those my your his her "
    "its our their I we you they he she it only just all some every each nearly almost get got".split()
)
# A letter with a sign behind it is a variable: a²+b².
_WORD = re.compile("[^A-Za-z]*([A-Za-z]{2,}(?![A-Za-z0-9])|[A-Za-z](?= [A-Za-z]))")
_CAPITALIZED = "(?=[a-z.+_#/]*+[A-Z0-9])[A-Za-z0-9.+_#/]{1,24}+"
_TERM = f"(?:[0-9.]{{0,8}}[A-Za-z{_GREEK}]{{1,2}}[²³]?|[0-9.]{{1,8}})"
# One word; or several of which each has a capital or a digit; or letters and numbers with signs between.
_NAME = (
    f"(?:[A-Za-z]{{1,24}}+[a-z0-9.+_#/]{{0,24}}+|(?:{_CAPITALIZED}[ \\-]?){{1,5}}"
    f"|(?:{_CAPITALIZED}[ \\-]){{1,4}}[A-Za-z]{{1,3}}(?=\\Z)"
    f"|{_TERM}(?: ?[-+×*/=<>≤≥^()] ?{_TERM}){{0,6}})"
)
# ... and O( of O(1).
_NAME_END = "(?:[ \\-)）”\"'=<>≤≥≈≠+×*/^:&@]{0,4}|(?<=[A-Za-z])\\()"
# A number behind one of them is still Chinese ...
_NAME_IN_CHINESE = re.compile(f"(?:[ (（“\"'·0-9.%{_NAME_SIGNS}]|\\n(?=[∵∴]))*{_NAME}{_NAME_END}")
# ... but behind such a one only where no English word follows it: 用pandas 2写, 小明 owns 3 cats.
_MAYBE_VERB = re.compile("[ (（“\"'·]*[a-z]{2,24} ")
# Hanzi within an English sentence: "Say 你好 3 times".
_INSERTED = re.compile(
    f"[A-Za-z][,:]? ?[\"“'‘]?(?:(?![的是了在有和与與比就也都不要用为為从從到]){_HAN}){{1,8}}[\"”'’]? \\Z"
)
# An aside leaves the language as it was: "Spring Festival (春节) 2026".
_ASIDE = re.compile(f"({_HAN}|[^\\W\\d_](?= ))[^\\w()（）\\n]{{0,2}}[(（][^()（）\\n]{{1,40}}[)）] ?\\Z")
# All of the sentence so far: nothing, or a name; shorter than `LEFT_CONTEXT`, so that the text begins at \A.
_SENTENCE_IS_NAME = re.compile(
    f"(?:\\A|[\\n.!?:;。！？：；…])[ \"“'‘(（{_NAME_SIGNS}]{{0,3}}"
    f"(?:[A-Za-z]{{1,20}}+[a-z0-9.+_#/]{{0,8}}+|(?:(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{{1,10}}+[ \\-]?){{0,4}}"
    f"|{_TERM}(?: ?[-+×*/=<>≤≥^()] ?{_TERM}){{0,2}}){_NAME_END}\\Z"
)

# --- What stands behind an expression

_MEASURE = (
    "(?:[年月号點点元块塊个個岁歲万萬亿億次位件只條条張张台辆輛倍]|日(?!本)|天(?![使安津堂空气氣])|小时|小時|分钟|分鐘"
    "|公里|公斤|美元|人民币|度(?!假))"
)
_NUMBERS = "[$¥€£]?[0-9]++(?:[.,:/][0-9]++)*+"
_PARTS = "[0-9]++|[%°℃²³]"
# In any sentence: hanzi right behind, over the rest of a range; a measure after a space.
_HAN_BEHIND = regex.compile(
    f"(?>[-–—~～+×*/=<>≤≥]{_NUMBERS}|{_PARTS})*+(?:(?<han>{_HAN})|(?<=[0-9]) {_MEASURE})"
)
# Where all of the sentence so far is a name: also after the rest of it, 15 Pro Max的, after a space, and
# any mark of Chinese; the colon only behind a
# letter and number, Q1：什么, as "Day 1：" is said in English.
_CHINESE_BEHIND_NAME = regex.compile(
    f"(?> ?[-–—~～+×*/=<>≤≥] ?{_NUMBERS}|{_PARTS})*+(?>(?<=[₀-₉²³])[A-Z][A-Za-z0-9₀-₉²³]{{0,8}}+)?+"
    f"(?> (?:[A-Z0-9]|v(?=[0-9]))[A-Za-z0-9+]*+(?:\\.[A-Za-z0-9+]++)*+){{0,4}}+"
    f"(?:(?<han>{_HAN})| {_HAN}|(?<=(?<![A-Za-z0-9])[A-Z]{{1,2}}[0-9]{{1,2}})：{_HAN}|[，、。？！（])"
)
_ENGLISH_BEHIND = regex.compile("(?:[-–~][0-9.,]{1,12}+)?(?: (?!am|pm)[a-z]|[.,;!?](?!\\S))")
# The digit of Cloud9 and Web3 is part of a foreign word.
_WORD_WITH_DIGIT = re.compile("(?<![A-Za-z0-9])[A-Z][a-z]+[0-9]\\Z")
# numpy==1.26 is a line of code.
_IN_CODE = re.compile("[A-Za-z_]{2}[=<>!~]=\\Z")
# What both languages read alike; the dot of Node.js they do not.
_ALIKE = re.compile("(?:[A-Za-z'’ ]|\\.(?![A-Za-z]{2}))+")

# --- Lists

_LIST_NUMBER = regex.compile(
    "(?<=(?:\\A|\\n)[ \\t]{0,8})(?<number>[0-9]{1,3})[.)．）、](?=[ \\t]|" + _HAN + ")"
)

_LINE_BEFORE = re.compile(r"([^\n]+)\n\s*\Z")


def script_of(char: str) -> Script | None:
    """The script a character belongs to; None when it is of none or of every one."""
    if _LATIN.match(char):
        return "en" if char.isalpha() else None
    if _CHINESE.match(char):
        return "zh"
    return "" if char.isalpha() and not "\u0370" <= char <= "\u03ff" else None


def script_asked_for(language: str) -> Script | None:
    """The script that a context's language stands for; None when it is to be found out."""
    return None if language.lower() in ("", "auto") else known_language(language) or ""


def script_at(text: str, at: int, nearest: Script, *, chinese_to: int = -1) -> tuple[Script, bool]:
    """The script of what stands at `at`, and whether what stands behind cannot change that.

    Args:
        text: What has come, and what stands before the expression.
        at: Where it begins.
        nearest: The script of the last letter before it.
        chinese_to: Where the last expression before it that was read in Chinese ends.
    """
    if nearest == "":
        return "", True
    before = max(0, at - LEFT_CONTEXT)
    if text.isascii() or text[before:at].isascii():
        return nearest, nearest == "zh"
    if _KANA.search(text, before, at):  # Japanese writes numbers beside Han and Latin letters
        return "", True
    aside = _ASIDE.search(text, before, at)
    if aside:
        nearest = script_of(aside[1]) or nearest
    elif nearest == "en":
        chinese = _LAST_CHINESE.match(text, before, at)
        end = max(chinese.end() if chinese else -1, chinese_to)
        if end >= before and _NAME_IN_CHINESE.fullmatch(text, end, at) and not _has_turned(text, end, at):
            return "zh", not _MAYBE_VERB.fullmatch(text, end, at)
    elif _INSERTED.search(text, before, at):
        return "zh", False
    return nearest, nearest == "zh"


def _has_turned(text: str, start: int, end: int) -> bool:
    """Whether what begins at `start` begins with a word of an English sentence."""
    word = _WORD.match(text, start, end)
    if word is None:
        return False
    return word[1] in _FUNCTION_WORDS or (
        len(word[1]) > 1 and word[1][0].lower() + word[1][1:] in _FUNCTION_WORDS
    )


def script_after(text: str, at: int, *, final: bool, otherwise: Script) -> Script | None:
    """The script of what stands at `at`, where no letter stands before it; None while that may yet change.

    It is that of the next letter, and `otherwise` where none comes soon.
    """
    limit = at + _LOOK_AHEAD
    start = at
    while letter := _FIRST_LETTER.match(text, start, limit):
        variable = _VARIABLE.match(text, letter.start(1), partial=not final)
        script = script_of(letter[1])
        if variable is None and script is not None:
            return script
        if variable is not None and variable.partial:
            return None
        start = letter.end() if variable is None else variable.end()
    return otherwise if final or len(text) - at >= _LOOK_AHEAD else None


def turns_chinese(text: str, at: int, end: int, *, final: bool) -> bool | None:
    """Whether an expression among Latin letters is Chinese by what stands behind; None while that may change.

    Args:
        text: What has come, and what stands before the expression.
        at: Where it begins.
        end: Where it ends, as English reads it.
        final: Nothing more comes.
    """
    before = max(0, at - LEFT_CONTEXT)
    if _ALIKE.fullmatch(text, at, end) or _IN_CODE.search(text, before, at):
        return False
    sentence = _SENTENCE_IS_NAME.search(text, before, at)
    is_name = sentence is not None and not _has_turned(text, sentence.start(), at)
    limit = end + _MOST_BEHIND
    pattern = _CHINESE_BEHIND_NAME if is_name else _HAN_BEHIND
    behind = pattern.match(text, end, limit, partial=not final and len(text) < limit)
    if behind is None:
        return False
    if behind.partial:
        return None
    return behind["han"] is None or not _WORD_WITH_DIGIT.search(text, before, end)


def turns_english(text: str, end: int, *, final: bool) -> bool | None:
    """Whether an English word follows the expression that ends at `end`; None while that may change."""
    limit = end + _MOST_BEHIND
    behind = _ENGLISH_BEHIND.match(text, end, limit, partial=not final and len(text) < limit)
    if behind is None:
        return False
    return None if behind.partial or (behind.end() == len(text) and not final) else True


def is_introduced_in_english(text: str, at: int) -> bool:
    """Whether the line before the list that `at` begins is English: its numbers are, whatever it lists."""
    line = _LINE_BEFORE.search(text, max(0, at - LEFT_CONTEXT), at)
    return (
        line is not None
        and _CHINESE.search(line[1]) is None
        and not _FUNCTION_WORDS.isdisjoint(line[1].lower().split())
    )


def list_number_of(text: str, at: int, *, final: bool) -> str | None:
    """The digits at `at` if they number an item of a list, "" if they do not; None while that may change."""
    number = _LIST_NUMBER.match(text, at, partial=not final)
    if number is None:
        return ""
    return None if number.partial else number["number"]
