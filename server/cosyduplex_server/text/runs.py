"""Text on its way through the stages: characters with their offsets, and the script they are written in."""

import re
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]

# Written without spaces between words: Han, kana, bopomofo.
CJK = (
    "\u3005-\u3007\u3041-\u3096\u3099-\u30ff\u3105-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
CJK_CHAR = re.compile(f"[{CJK}]")
_LETTER = re.compile(r"[^\W\d_]")
_NUMERAL_BEFORE_TEENS = re.compile("[一二三四五六七八九][ \u00a0]?\\Z")
_TENTH = re.compile("(?:初|月[二三]?)十[ \u00a0]?\\Z")
_LAST_LETTER = re.compile(r".*([^\W\d_])", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Run:
    """Characters to speak and where each stands in the appended text."""

    text: str
    offsets: list[int]


def is_spaced_word_char(char: str) -> bool:
    """True for a letter or digit of a script that puts spaces between words."""
    return char.isalnum() and CJK_CHAR.match(char) is None


def would_merge(left: str, right: str) -> bool:
    """True when two characters side by side would read as one word."""
    return is_spaced_word_char(left) and is_spaced_word_char(right)


def numbers_merge(left: str, right: str) -> bool:
    """True when a numeral in hanzi and number words behind it would be heard as one number.

    The five of 周五 and 19:30 as 五十九点, the tenth of 初十 and 5 o'clock as 十五点, the three of 周三 and
    5% as 三百分之五.
    """
    if right[0] == "十" or right in ("百分", "千分", "万分"):
        return _NUMERAL_BEFORE_TEENS.search(left) is not None
    return right[0] in "一二两三四五六七八九" and right[1:] != "十" and _TENTH.search(left) is not None


def first_language(text: str) -> Language | None:
    """What the first letter is read as; None without letters."""
    letter = _LETTER.search(text)
    return _language_of(letter[0]) if letter else None


def last_language(text: str) -> Language | None:
    """What the last letter is read as; None without letters."""
    letter = _LAST_LETTER.match(text)
    return _language_of(letter[1]) if letter else None


def _language_of(letter: str) -> Language:
    return "zh" if CJK_CHAR.match(letter) else "en"


def known_language(tag: str) -> Language | None:
    """The language of a tag such as "zh-CN" when it is one with words of its own here."""
    main = tag.lower().replace("_", "-").partition("-")[0]
    if main in ("zh", "yue", "cmn"):
        return "zh"
    return "en" if main == "en" else None


def spread(num_chars: int, source: list[int]) -> list[int]:
    """Offsets for `num_chars` characters said in place of those at `source`, evenly and in order."""
    return [source[at * len(source) // num_chars] for at in range(num_chars)]
