"""The language a number is read in: told by the letters around it."""

from __future__ import annotations

import re
from typing import Literal

from cosyduplex_server.text.reading import LEFT_CONTEXT
from cosyduplex_server.text.runs import known_language

Script = Literal["en", "zh", ""]  # "": of neither, the voice reads it by itself

# How far ahead the first letter of a text is looked for, when a number comes before it.
_LOOK_AHEAD = 32

_CHINESE_MARKS = "、。，！？；：「」『』《》（）【】％￥～"
_CHINESE = re.compile(f"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff〇{_CHINESE_MARKS}]")
_KANA = re.compile("[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
_GREEK = "\u0370-\u03ff"  # π and Ω stand in every language
_LATIN = re.compile("[A-Za-z\u00aa-\u024f\u1e00-\u1eff\uff21-\uff5a]")
# The first letter that is no unit glued to a number: the "a" of "5kg apples".
_FIRST_LETTER = re.compile(
    rf"(?:\d(?>[A-Za-z/²³µ]*)|(?![{_CHINESE_MARKS}])[\W\d_{_GREEK}])*+([^\W\d_{_GREEK}]|[{_CHINESE_MARKS}])"
)
# Latin words that name something within a Chinese sentence: one word, or several of which each has a capital
# or a digit. A number behind them is still Chinese.
_NAME_IN_CHINESE = re.compile(
    rf"{_CHINESE.pattern}[ (（“\"'·]*"
    r"(?:[A-Za-z]++[a-z0-9.+_#/]*+|(?:(?=[a-z.+_#/]*+[A-Z0-9])[A-Za-z0-9.+_#/]++[ \-]?)+)[ \-)）”\"']*\Z"
)


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


def script_at(text: str, at: int, nearest: Script) -> Script:
    """The script of what stands at `at`, where `nearest` is that of the last letter before it."""
    if text.isascii():
        return nearest
    before = max(0, at - LEFT_CONTEXT)
    if _KANA.search(text, before, at):  # Japanese writes numbers beside Han and Latin letters
        return ""
    if nearest == "en" and _NAME_IN_CHINESE.search(text, before, at):
        return "zh"
    return nearest


def script_after(text: str, at: int, *, final: bool) -> Script | None:
    """The script of what stands at `at`, where no letter stands before it; None while that may yet change."""
    letter = _FIRST_LETTER.match(text, at, at + _LOOK_AHEAD)
    script = script_of(letter[1]) if letter else None
    if script is not None:
        return script
    return "en" if final or len(text) - at >= _LOOK_AHEAD else None
