"""English readings of sizes, ratios and plain numbers."""

from __future__ import annotations

import regex

from cosyduplex_server.text.english_form import (
    DASH,
    DIGITS,
    INTEGER,
    NUMBER,
    SPACE,
    WORD_END,
    one_of,
    reading,
)
from cosyduplex_server.text.english_numbers import integer, label, number, ordinal, power

Match = regex.Match[str]

_NUMBER_END = rf"{WORD_END}(?![.,:/][0-9])"

_LENGTH = one_of("km m cm mm dm ft in inch inches mi px pixels feet meters cm² m²".split())


def _score(match: Match) -> str | None:
    """4.5/5, while 4/5 is a fraction."""
    return f"{number(match['score'])} out of {number(match['best'])}" if "." in match["score"] else None


SIZES = (
    reading(
        "ordinal",
        DIGITS,
        rf"(?P<n>{INTEGER})(?:st|nd|rd|th|ST|ND|RD|TH){WORD_END}",
        lambda match: ordinal(int(match["n"].replace(",", ""))),
    ),
    reading(
        "scientific number",
        DIGITS,
        rf"(?P<n>{NUMBER})[eE]\+?(?P<minus>-?)0?(?P<exponent>[0-9]{{1,3}}){WORD_END}",
        lambda match: f"{number(match['n'])} times ten {power(match['minus'] + match['exponent'])}",
    ),
    reading(
        "resolution",
        DIGITS,
        r"(?P<size>[0-9]{3,4})(?: ?[x×] ?(?P<size>[0-9]{3,4})){1,2}(?![0-9A-Za-z^]|[.,][0-9])(?! ?=)",
        lambda match: " by ".join(map(label, match.captures("size"))),
    ),
    reading(
        "by",  # but "3 × 4 = 12" is a product
        "x×",
        rf"(?<=[0-9](?:{SPACE}?(?:[cmk]?m|in|ft|px|['\"′″]))? ?)(?:x(?= ?[0-9])(?! ?{NUMBER} ?=)"
        rf"|×(?= ?{NUMBER}(?: ?× ?{NUMBER})?{SPACE}?{_LENGTH}{WORD_END}))",
        lambda match: "by",
    ),
    reading(
        "score",
        DIGITS,
        rf"(?P<score>{NUMBER})/(?P<best>5|10|100){WORD_END}(?![./][0-9])",
        _score,
    ),
    reading(
        "verses",
        DIGITS,
        rf"(?P<chapter>[0-9]{{1,3}}):(?P<first>[0-9]{{1,3}}){DASH}(?P<last>[0-9]{{1,3}}){WORD_END}(?![:.][0-9])",
        lambda match: f"{integer(match['chapter'])} {integer(match['first'])} to {integer(match['last'])}",
    ),
    reading(
        "ratio",
        DIGITS,
        rf"(?P<side>{NUMBER})(?::(?P<side>{NUMBER})){{1,3}}{WORD_END}(?!:[0-9])",
        lambda match: " to ".join(map(number, match.captures("side"))),
    ),
    reading(
        "numbers in a row",
        DIGITS,
        rf"(?P<part>[0-9]{{1,2}})(?:-(?P<part>[0-9]{{1,2}})){{2,5}}{WORD_END}(?!-[0-9])"
        rf"|(?P<part>[0-9]{{1,3}})(?:/(?P<part>[0-9]{{1,3}})){{2,5}}{WORD_END}(?!/[0-9])",
        lambda match: " ".join(map(integer, match.captures("part"))),
    ),
)

NUMBERS = (
    reading(
        "number of a list",
        DIGITS,
        r"(?<=(?<![^\n])[ \t]{0,8})(?P<n>[0-9]{1,3})\.(?=[ \t])",
        lambda match: f"{integer(match['n'])}.",
    ),
    reading(
        "number with spaces",
        DIGITS,
        rf"(?P<n>[0-9]{{1,3}}(?:[\u00a0\u2009\u202f][0-9]{{3}})+(?:\.[0-9]+)?){_NUMBER_END}",
        lambda match: number(",".join(match["n"].split())),
    ),
    reading(
        "number with spaces",  # "100 200 300" are three
        DIGITS,
        r"(?<![0-9] )(?P<n>[1-9][0-9]{0,2}(?: [0-9]{3}){0,3} 0[0-9]{2}(?: [0-9]{3}){0,3}(?:\.[0-9]+)?)"
        rf"{_NUMBER_END}(?! [0-9])",
        lambda match: number(match["n"].replace(" ", ",")),
    ),
    reading("decimal", DIGITS, rf"{INTEGER}\.[0-9]+(?!\.?[0-9])", lambda match: number(match[0])),
    reading("decimal without a whole", ".", r"(?<![\w.,])\.[0-9]+(?![0-9])", lambda match: number(match[0])),
    reading(
        "numbers without a space",
        DIGITS,
        r"(?P<n>[0-9]+),(?=[0-9])(?![0-9]{3}(?![0-9]))",
        lambda match: f"{integer(match['n'])}, ",
    ),
    reading("number", DIGITS, INTEGER, lambda match: integer(match[0])),
    reading("point", ".", r"(?<=[0-9])\.(?=[0-9])", lambda match: "point"),
)
