"""English readings of signs: of numbers, ranges, sums and comparisons.

Each is read by itself; what stands beside it decides what it is.
"""

from __future__ import annotations

from collections.abc import Callable

import regex

from cosyduplex_server.text.english_form import SPACE, first_of, one_of, reading
from cosyduplex_server.text.english_numbers import integer, power

Match = regex.Match[str]

# What stands before the sign of a sum, and after the dash of a range.
_OPERAND = r"[\w)\]%°²³]"
_AFTER_NUMBER = rf"(?:[0-9%°‰$€£¥¢½¼¾]|[0-9]{SPACE}?[A-Za-z°µ]{{1,4}}|[ap]\.m\.)"
_RIGHT_NUMBER = r"[$€£¥]?\.?[0-9]"
_BRACKETS = tuple("()[]√$")

# Between two things; before a number alone.
_COMPARISONS = {
    "<": ("is less than", "less than"),
    ">": ("is greater than", "more than"),
    "<=": ("is less than or equal to", "at most"),
    ">=": ("is greater than or equal to", "at least"),
    "≤": ("is less than or equal to", "at most"),
    "≥": ("is greater than or equal to", "at least"),
    "≪": ("is much less than", "much less than"),
    "≫": ("is much greater than", "much more than"),
    "≠": ("is not equal to", "not"),
    "!=": ("is not equal to", "not"),
    "≡": ("is equivalent to", "equivalent to"),
}
_APPROXIMATIONS = frozenset("≈~∼")
_COMPARISON = one_of(_COMPARISONS)

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ", "0123456789-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUPERSCRIPT_DIGIT = "[⁰¹²³⁴-⁹]"
_EXPONENT = r"(?P<exponent>[-−]?(?>[0-9]+(?:\.[0-9]+)?|[a-z]))"


def _apart(words: str, match: Match) -> str:
    """Words in place of a sign, kept apart from a bracket beside it."""
    text, start, end = match.string, match.start(), match.end()
    left = " " if text[start - 1 : start] in _BRACKETS else ""
    right = " " if text[end : end + 1] in _BRACKETS else ""
    return f"{left}{words}{right}"


def _between(words: str) -> Callable[[Match], str]:
    return lambda match: _apart(words, match)


def _value(written: str) -> float:
    return float(written.replace(",", "").rstrip(".") or "0")


def _spaced_dash(match: Match) -> str:
    """ "5 - 3 = 2" and "20 - 5" subtract, "5 - 10" and "9 am - 5 pm" are ranges."""
    left, right = match["left"], match["right"]
    if match["equals"] is not None:
        return "minus"
    is_amount = not match["unit"] and ":" not in left + right and max(left.count("."), right.count(".")) < 2
    is_difference = is_amount and match[0] == "-" and _value(left) >= _value(right)
    return "minus" if is_difference else "to"


def _comparison(match: Match) -> str:
    return _apart(_COMPARISONS[match["sign"]][0], match)


def _bound(match: Match) -> str:
    return "about" if match["sign"] in _APPROXIMATIONS else _COMPARISONS[match["sign"]][1]


SIGNS = (
    reading(
        "minus sign", "-−–", rf"(?<![\w)\]%°'’\".,+/−–-])[-−–](?={_RIGHT_NUMBER})", lambda match: "minus"
    ),
    reading(
        "minus",
        "−-",
        rf"(?<={_OPERAND} ?)−(?= ?[\w($√])|(?<=[0-9)])-(?=\()|(?<=\))-(?=[0-9])",
        _between("minus"),
    ),
    reading("range", "-‐‑‒–~", rf"(?<={_AFTER_NUMBER})[-‐‑‒–~](?={_RIGHT_NUMBER})", lambda match: "to"),
    reading(
        "range or difference",
        "-–",
        rf"(?<=(?<![0-9.,:])(?P<left>[0-9][0-9.,:]*)(?:{SPACE}?(?P<unit>[A-Za-z%°.]{{1,4}}))? )[-–]"
        rf"(?= [$€£¥]?(?P<right>[0-9][0-9.,:]*+)(?P<equals> ?=)?)",
        _spaced_dash,
    ),
    reading("hyphen after a number", "-‐‑", r"(?<=[0-9])[-‐‑](?=[A-Za-z]| (?:to|and|or) )", lambda match: ""),
    reading(
        "plus",
        "+",
        rf"(?<={_OPERAND} ?)\+(?= ?[\w(√$.])|(?<=[0-9%])\+(?![\w+])|(?<![\w)+])\+(?={_RIGHT_NUMBER})",
        _between("plus"),
    ),
    reading("plus or minus", "±", "±", lambda match: "plus or minus"),
    reading("times", "×", rf"(?<={_OPERAND} ?)×(?= ?[\w(√])", _between("times")),
    reading(
        "times",
        "*·⋅",
        r"(?<=[0-9)] ?)[*·⋅](?= ?[\w(])|(?<=\w ?)\*(?= ?[0-9(])|(?<=\w )\*(?= \w)|(?<=\w)\*(?=\w)",
        _between("times"),
    ),
    reading("divided by", "÷", "÷", _between("divided by")),
    reading("divided by", "/", r"(?<=[0-9)] )/(?= [0-9(])", _between("divided by")),
    reading("equals", "=", rf"(?<={_OPERAND} ?)={{1,3}}(?= ?[-\w(√$+.−\"'])", _between("equals")),
    reading(
        "comparison",
        first_of(_COMPARISONS),
        rf"(?<=[\w)\]%°²³] )(?<!\b(?:is|are|was|were|be|been) )(?P<sign>{_COMPARISON})(?= [-\w($√.−])"
        rf"|(?<=\w)(?P<sign>[<>]=)(?=[\w\"'.])"
        # Not behind a word: "Stop!" is certain to end there.
        rf"|(?<=(?<![A-Za-z])\w)(?P<sign>!=)(?=[\w\"'.])"
        rf"|(?<=[0-9)\]%°²³]|(?<!\w)[A-Za-z])(?P<sign>{_COMPARISON})(?=[0-9($√.]|[A-Za-z](?!\w))",
        _comparison,
    ),
    reading(
        "not equal, the mark being said", "=", r"(?<=\w!)=(?=[\w\"'.])", lambda match: " is not equal to"
    ),
    reading(
        "approximately",
        _APPROXIMATIONS,
        r"(?<=[0-9)%°²³] ?|(?<!\w)\w ?|\b[A-Z]{3} )[≈~∼](?= ?[\w($√.−-])",
        _between("is approximately"),
    ),
    reading(
        "bound",
        first_of(_COMPARISONS) | _APPROXIMATIONS,
        rf"(?<![\w<>=~-])(?P<sign>{_COMPARISON}|[≈~∼]) ?(?=[-−]?{_RIGHT_NUMBER})",
        _bound,
    ),
    reading("change", "→-=", rf"(?<=[0-9%] ?)(?:→|[-=]>)(?= ?{_RIGHT_NUMBER})", lambda match: "to"),
    reading("change", "→-=", r"(?<=(?<!\w)\w{1,3} ?)(?:→|[-=]>)(?= ?\w{1,3}(?!\w))", lambda match: "to"),
    reading("step", "→-=", r"(?<=[\w)\"”'] ?)(?:→|[-=]>)(?= ?[\w(\"“'])", lambda match: ","),
    reading(
        "power",
        "^*",
        rf"(?<=[\w)])(?:\^|\*\*)(?:{_EXPONENT}|[({{]{_EXPONENT}[)}}])(?![A-Za-z0-9])",
        lambda match: _apart(power(match["exponent"].replace("−", "-")), match),
    ),
    reading(
        "superscript",
        "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ",
        rf"(?<=[0-9)]|(?<!\w)[A-Za-z]{{1,2}})(?P<exponent>⁻?(?>{_SUPERSCRIPT_DIGIT}+|ⁿ))(?![⁰¹²³⁴-⁹⁻])",
        lambda match: _apart(power(match["exponent"].translate(_SUPERSCRIPTS)), match),
    ),
    reading(
        "mark of a footnote",
        "¹²³⁴⁵⁶⁷⁸⁹⁰",
        rf"(?<=[\w.,;:!?\"”'’)]){_SUPERSCRIPT_DIGIT}+",
        lambda match: "",
    ),
    reading("subscript", "₀₁₂₃₄₅₆₇₈₉", "[₀-₉]+", lambda match: integer(match[0].translate(_SUBSCRIPTS))),
    reading("root", "√", r"√(?= ?[\w(])", lambda match: "the square root of"),
    reading("infinity", "∞", "∞", lambda match: "infinity"),
    reading("pi", "π", r"(?<!\p{Greek})π(?!\p{Greek})", lambda match: "pi"),
)
