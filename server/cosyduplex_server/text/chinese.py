"""How Chinese is read aloud: numbers, dates, times, amounts, codes and signs, as a newsreader says them.

`READINGS` is in the order in which the kinds are tried: a whole date before a range, a counted thing before a
code, a number by itself last.
"""

from __future__ import annotations

from cosyduplex_server.text import chinese_arithmetic as arithmetic
from cosyduplex_server.text import chinese_calendar as calendar
from cosyduplex_server.text import chinese_identifiers as identifiers
from cosyduplex_server.text import chinese_quantities as quantities
from cosyduplex_server.text.chinese_numbers import cardinal
from cosyduplex_server.text.chinese_written import DIGITS, HAN, SP, D, Match, rule
from cosyduplex_server.text.reading import Reading

# --- The numbers of lists: "1. ", "1)", "(1)", "①" --------------------------------------------------------

_CIRCLED = (
    "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳",
    "⑴⑵⑶⑷⑸⑹⑺⑻⑼⑽⑾⑿⒀⒁⒂⒃⒄⒅⒆⒇",
    "⒈⒉⒊⒋⒌⒍⒎⒏⒐⒑⒒⒓⒔⒕⒖⒗⒘⒙⒚⒛",
)
_CIRCLED_NUMBERS = {char: str(at + 1) for chars in _CIRCLED for at, char in enumerate(chars)}
_LINE_START = "(?<![^\\n \\t][ \\t]{0,8})"
# 、 is a pause at which no clause ends.
_PAUSE = "、"


def _read_list_number(match: Match) -> str:
    return cardinal(match["number"]) + _PAUSE


_LIST_NUMBERS = (
    rule(
        "list number",
        DIGITS,
        f"{_LINE_START}(?<number>{D}{{1,2}})(?:[.．]\\s|[.．](?=[{HAN[1:-1]}“‘\"'(（《【])|[)）]\\s?)",
        _read_list_number,
    ),
    # 1）甲 2）乙: not the end of an aside (见图 2）.
    rule(
        "list number within a line",
        DIGITS,
        f"(?<=[^\\S\\n])(?<![(（][^\\n)）]{{0,40}})(?<number>{D}{{1,2}})[)）](?={SP}{HAN})",
        _read_list_number,
    ),
)
_BRACKETED_NUMBERS = (
    rule(
        "bracketed number",
        "(（",
        f"(?:{_LINE_START}|(?<=[：:；;。，,、]\\s?))[(（](?<number>{D}{{1,2}})[)）]\\s?",
        _read_list_number,
    ),
    rule(
        "circled number after its noun",
        _CIRCLED_NUMBERS,
        f"(?<=[图圖表式例第注见見由将])[{''.join(_CIRCLED_NUMBERS)}]",
        lambda match: cardinal(_CIRCLED_NUMBERS[match[0]]),
    ),
    rule(
        "circled number",
        _CIRCLED_NUMBERS,
        f"[{''.join(_CIRCLED_NUMBERS)}][、.．]?\\s?",
        lambda match: cardinal(_CIRCLED_NUMBERS[match[0][0]]) + _PAUSE,
    ),
)

# --- Spaces that stand only for the eye: 在 2026 年, 共 3 个 ----------------------------------------------

_SPACES = (
    rule(
        "space before a number",
        " \u00a0",
        f"(?<=(?![零一二三四五六七八九十百千万亿]){HAN})[ \u00a0](?=[0-9０-９¥￥$])",
        "",
    ),
    rule("space after a number", " \u00a0", f"(?<=[0-9０-９%％℃])[ \u00a0](?={HAN})", ""),
)

READINGS: tuple[Reading, ...] = (
    *arithmetic.HOLD,
    *identifiers.MAIL,
    *_LIST_NUMBERS,
    *arithmetic.SUMS,
    *quantities.LABELS,
    *identifiers.TELEPHONES,
    *arithmetic.FIGURES,
    *quantities.DAILY_TEMPERATURES,
    *arithmetic.RATIOS_BY_CUE,
    *identifiers.NAMED,
    *identifiers.ROOMS,
    *calendar.BEFORE_HANZI,
    *arithmetic.FRACTIONS[:1],
    *calendar.WHOLE,
    *quantities.ORDINAL,
    *identifiers.DICTATED_AFTER_LETTERS,
    *identifiers.MODELS,
    *quantities.SHARES,
    *quantities.MEASURES,
    *quantities.MONEY,
    *quantities.COUNTED,
    *identifiers.CODES_BY_CUE,
    *identifiers.SERVICES,
    *identifiers.MODELS_AFTER_SPACE,
    *calendar.BARE,
    *arithmetic.FRACTIONS[1:],
    *arithmetic.VULGAR,
    *arithmetic.RATIOS,
    *arithmetic.GROUPS,
    *identifiers.LATIN_WORDS,
    *_BRACKETED_NUMBERS,
    *arithmetic.SIGNS_BETWEEN,
    *identifiers.MARKS,
    *_SPACES,
)
