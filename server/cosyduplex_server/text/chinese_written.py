"""What the written forms of Chinese expressions are made of, as parts of patterns.

A group of digits goes on as long as a separator and a further digit follow: 2026-11-21, 1,234.56.
How far such a group reaches is certain before any rule looks at it (`INCOMPLETE`), so the rules may say with
`END` that it ends: what they then look at has already come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import regex

from cosyduplex_server.text.reading import Reading
from cosyduplex_server.text.runs import CJK

Match = regex.Match[str]

DIGITS = frozenset("0123456789０１２３４５６７８９")
LATIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

D = "[0-9０-９]"
POINT = "[.．]"
COLON = "[:：∶]"
SLASH = "[/／]"
DASH = "[-−–—－]"
MINUS = "[-−–－]"
SP = "[ \u00a0\u2009\u202f]?"
HAN = f"[{CJK}]"
LATIN_UNIT = "(?:k?cal|kJ|bit|[kcmdμn]?m|[km]?g|m?L|ml|[kMG]?Hz|k?W|k?V|mAh|h|s|min|[KMGT]B)"
# n-1 and x-2 are differences; A-1 is a name, and so is what a word numbers, 图a-1.
VARIABLE = "(?<![A-Za-z0-9图圖表式例款型号號选選项項件])[a-z]"
TO = f"{SP}(?:[-−–—－~～∼〜到至]){SP}"  # between the ends of a range

# Integers and decimals, with commas after thousands or without. Full-width commas part numbers unless the
# digits are full-width too.
_GROUPED = f"{D}{{1,3}}+(?:,{D}{{3}}(?!{D}))++|[０-９]{{1,3}}+(?:，[０-９]{{3}}(?!{D}))++"
NUM = f"(?:{_GROUPED}|{D}{{1,40}}+)(?:{POINT}{D}{{1,40}}+)?+"
_SEPARATOR = f"(?:[-.．,:：∶/／−–—－~～·•]|(?<=[０-９])，|(?<={D}{{2}})T)"
# A separator and a digit go on; a number ends where they do not.
END = f"(?!{D}|{_SEPARATOR}{D})"
GROUP = f"{D}{{1,40}}+(?:{_SEPARATOR}{D}{{1,40}}+){{0,8}}+"
SEPARATORS = regex.compile(f"({_SEPARATOR})")

# What stands before the digits of an amount; it begins the expression.
SIGNS = "[$＄¥￥€£₩₹₽฿]"
CODES = "(?:US\\$|HK\\$|NT\\$|AU?\\$|CA?\\$|S\\$|R\\$|USD|RMB|CNY|EUR|GBP|JPY|HKD)"
INCOMPLETE = f"{GROUP}{_SEPARATOR}{D}"
INCOMPLETE_AMOUNT = f"(?:(?<![A-Za-z])(?:{CODES}|N[oO]\\.){SP}|{SIGNS}{SP}){INCOMPLETE}"


def rule(name: str, first: Iterable[str], pattern: str, read: Callable[[Match], str | None] | str) -> Reading:
    """A reading whose words are fixed or made from the match."""
    starts = frozenset(first)
    if starts & DIGITS:
        pattern = f"(?<!{D})(?:{pattern})"
    said = (lambda _: read) if isinstance(read, str) else read
    return Reading(name, starts, pattern, said)


def any_of(words: Iterable[str]) -> str:
    """A pattern of any of these words, the longest first."""
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return f"(?:{'|'.join(regex.escape(word) for word in longest_first)})"


def to(match: Match) -> str:
    """What is said between the ends of a range, whose sign is the group "to"."""
    return "至" if "至" in match["to"] else "到"
