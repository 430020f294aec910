"""English readings of measures: a number and what it counts, heights, angles, rates."""

from __future__ import annotations

import regex

from cosyduplex_server.text.english_form import (
    ATTRIBUTIVE,
    DIGITS,
    INTEGER,
    NUMBER,
    SPACE,
    WORD_END,
    WORD_START,
    one_of,
    reading,
)
from cosyduplex_server.text.english_numbers import cardinal, fraction, integer, is_one, number
from cosyduplex_server.text.english_units import GLUED_UNITS, SCALES, UNITS, unit_name

Match = regex.Match[str]

_UNIT = one_of(unit for unit in UNITS if unit not in GLUED_UNITS)
_UNIT_END = rf"(?:(?<=[%‰°¢′″²³])|{WORD_END}(?![²³]))"
# "2 lb. of": the full stop of the abbreviation, where no sentence ends.
_UNIT_STOP = (
    r"(?:(?<=[0-9 -](?:lbs?|oz|ft|in|hrs?|mins?|secs?|yds?|mi|gal|tsp|tbsp|yrs?|wks?|mo|pt))"
    r"\.(?=\s+[a-z0-9(]|[,;:)]))?"
)


_SCREENS = "monitor screen display TV laptop tablet disk wheel wheels pipe pizza".split()
_AFTER_AMPS = "fuse circuit current breaker charger at of max per and or is to".split()


def _measure(match: Match) -> str:
    unit = match["unit"] or match["glued"]
    one = is_one(match["n"]) or match["hyphen"] is not None or match["attributive"] is not None
    return " ".join(filter(None, (number(match["n"]), unit_name(unit, one=one), _per(match))))


def _per(match: Match) -> str:
    if not match["per"]:
        return ""
    if match["count"]:
        return f"per {integer(match['count'].strip())} {unit_name(match['per'], one=False)}"
    return f"per {unit_name(match['per'], one=True)}"


def _height(match: Match) -> str:
    feet = f"{cardinal(int(match['feet']))} foot"
    return f"{feet} {cardinal(int(match['inches']))}" if match["inches"] != "0" else feet


_SIDES = {"N": "north", "S": "south", "E": "east", "W": "west"}


def _angle(match: Match) -> str:
    said = [f"{number(match['degrees'])} degrees {cardinal(int(match['minutes']))} minutes"]
    if match["seconds"]:
        said.append(f"{number(match['seconds'])} seconds")
    if match["side"]:
        said.append(_SIDES[match["side"]])
    return " ".join(said)


# --- Rates: what stands after "/" behind an amount

_SHORT_RATES = {
    "mo": "month",
    "yr": "year",
    "wk": "week",
    "hr": "hour",
    "h": "hour",
    "min": "minute",
    "sec": "second",
    "s": "second",
    "gal": "gallon",
    "lb": "pound",
    "mi": "mile",
    **{unit: unit_name(unit, one=True) for unit in "kg g km m m² l L ml GB MB TB kWh".split()},
}
_RATES = (
    "month year week day hour minute second night person user seat item unit gallon mile pound token tokens "
    "request call image page piece session share ton barrel student employee team device game kilometer "
    "meter liter kilogram"
).split()

# --- Thousands in a letter, multiples

# Of screens and films, said as they are written.
_RESOLUTIONS = frozenset("2 4 5 8".split())


def _scaled(match: Match) -> str:
    if match["n"] in _RESOLUTIONS and match["scale"] in "kK":
        return f"{number(match['n'])} K"
    return f"{number(match['n'])} {SCALES[match['scale']]}"


# --- Fractions

_CHARACTERS = {
    "½": (1, 2),
    "⅓": (1, 3),
    "⅔": (2, 3),
    "¼": (1, 4),
    "¾": (3, 4),
    "⅕": (1, 5),
    "⅖": (2, 5),
    "⅗": (3, 5),
    "⅘": (4, 5),
    "⅙": (1, 6),
    "⅚": (5, 6),
    "⅛": (1, 8),
    "⅜": (3, 8),
    "⅝": (5, 8),
    "⅞": (7, 8),
}
_SET_PHRASES = {
    (24, 7): "twenty four seven",
    (9, 11): "nine eleven",
    (20, 20): "twenty twenty",
    (4, 4): "four four",
}
_BEST_SCORES = frozenset((10, 100))


def _fraction(match: Match) -> str | None:
    if match["character"]:
        words = fraction(*_CHARACTERS[match["character"]])
    elif match["whole"]:
        words = _proper_fraction(int(match["numerator"]), int(match["denominator"]))
    else:
        of_stars = match["stars"] is not None
        words = _said_fraction(int(match["numerator"]), int(match["denominator"]), of_stars=of_stars)
    if words is None:
        return None
    if not match["whole"]:
        return _part_of_unit(words, match["unit"])
    words = (
        "a half" if words == "one half" else words.replace("one eighth", "an eighth").replace("one ", "a ", 1)
    )
    said = f"{integer(match['whole'])} and {words}"
    return f"{said} {unit_name(match['unit'], one=False)}" if match["unit"] else said


def _proper_fraction(numerator: int, denominator: int) -> str | None:
    return fraction(numerator, denominator) if 0 < numerator < denominator else None


def _said_fraction(numerator: int, denominator: int, *, of_stars: bool) -> str:
    """24/7, 50/50, 8/10 and 1/2 are each said in another way."""
    if phrase := _SET_PHRASES.get((numerator, denominator)):
        return phrase
    if numerator + denominator == 100:
        return f"{cardinal(numerator)} {cardinal(denominator)}"
    is_score = numerator > 1 and denominator in _BEST_SCORES and numerator <= denominator
    if of_stars or is_score or numerator == denominator:
        return f"{cardinal(numerator)} out of {cardinal(denominator)}"
    words = _proper_fraction(numerator, denominator)
    return words or f"{cardinal(numerator)} over {cardinal(denominator)}"


def _part_of_unit(words: str, unit: str | None) -> str:
    if not unit:
        return words
    name = unit_name(unit, one=True)
    if name == "percent":
        return f"{words} percent"
    article = "an" if name[0] in "aeiou" or name == "hour" else "a"
    return f"half {article} {name}" if words == "one half" else f"{words} of {article} {name}"


_WRITTEN_FRACTION = r"(?P<numerator>[0-9]{1,3})[/⁄](?P<denominator>[0-9]{1,4})(?![0-9/])(?![.,][0-9])"

MEASURES = (
    reading(
        "height",
        DIGITS,
        r"(?P<feet>[1-9])['’′] ?(?P<inches>1[01]|[0-9])(?:[\"”″]|''|(?=[ ,.]))",
        _height,
    ),
    reading(
        "angle",
        DIGITS,
        rf"(?P<degrees>{NUMBER})° ?(?P<minutes>[0-9]{{1,2}})[′'] ?"
        rf"(?:(?P<seconds>[0-9]{{1,2}}(?:\.[0-9]+)?)[″\"] ?)?(?P<side>[NSEW])?{WORD_END}",
        _angle,
    ),
    reading(
        "inches after feet",
        DIGITS,
        rf"(?<=\b(?:ft\.?|feet|foot) )(?P<n>{NUMBER}) in{WORD_END}",
        lambda match: f"{number(match['n'])} {unit_name('in', one=is_one(match['n']))}",
    ),
    reading(
        "inches of a screen",
        DIGITS,
        rf"(?P<n>{NUMBER})\"(?= {one_of(_SCREENS)}{WORD_END})",
        lambda match: f"{number(match['n'])} inch",
    ),
    reading(
        "measure",
        DIGITS,
        rf"{ATTRIBUTIVE}(?P<n>{NUMBER})(?:(?:(?P<hyphen>-)|{SPACE})?(?P<unit>{_UNIT})"
        rf"(?:/(?P<count>1?[0-9]{{1,3}} ?)?(?P<per>{_UNIT}))?|(?P<glued>{one_of(GLUED_UNITS)}))"
        rf"{_UNIT_END}{_UNIT_STOP}",
        _measure,
    ),
    reading(
        "measure of a number with spaces",
        DIGITS,
        rf"(?<![0-9] )(?P<n>[1-9][0-9]{{0,2}}(?: [0-9]{{3}}){{0,3}} 0[0-9]{{2}}(?: [0-9]{{3}}){{0,3}})"
        rf"{SPACE}(?P<unit>{_UNIT}){_UNIT_END}",
        lambda match: f"{integer(match['n'].replace(' ', ','))} {unit_name(match['unit'], one=False)}",
    ),
    reading(
        "amps",  # but "the 5 A students" and "seat 14A"
        DIGITS,
        rf"(?<!\b[A-Z][a-z]{{1,12}} |\b(?:seat|row|room|gate|class|section|unit) )(?P<n>{NUMBER})"
        rf"(?:(?<=[0-9]{{2}}|\.[0-9])A{WORD_END}"
        rf"|{SPACE}A(?=[,;.)/]|\Z|\n| {one_of(_AFTER_AMPS)}{WORD_END}))",
        lambda match: f"{number(match['n'])} {'amp' if is_one(match['n']) else 'amps'}",
    ),
    reading(
        "rate",
        "/",
        rf"(?<=[0-9]{SPACE}?[A-Za-z%²³°$€£¥µ]{{0,5}}|[0-9] (?:thousand|million|billion))/"
        rf"(?P<rate>{one_of([*_RATES, *_SHORT_RATES])}){WORD_END}",
        lambda match: f"per {_SHORT_RATES.get(match['rate'], match['rate'])}",
    ),
    reading(
        "rate without a number",
        "kmMG",
        rf"{WORD_START}(?P<unit>km|m|kB|MB|GB|Mb|mg|kg)/(?P<per>h|s²|s|L|l|m³|m2|m²){_UNIT_END}",
        lambda match: f"{unit_name(match['unit'], one=False)} per {unit_name(match['per'], one=True)}",
    ),
    reading(
        "scaled number",
        DIGITS,
        rf"(?P<n>{NUMBER})(?P<scale>k|K|M|mn|mln|bn|tn){WORD_END}",
        _scaled,
    ),
    reading(
        "multiple",
        DIGITS,
        rf"(?<![=+*/^(−] ?)(?<! - )(?P<n>{NUMBER})[x×]{WORD_END}(?! ?[-+=*/^<>−(])",
        lambda match: None if is_one(match["n"]) else f"{number(match['n'])} times",
    ),
    reading(
        "fraction",
        DIGITS | frozenset(_CHARACTERS),
        rf"(?<![/.])(?:(?:(?P<whole>[0-9]{{1,4}})[ -])?{_WRITTEN_FRACTION}"
        rf"|(?:(?P<whole>{INTEGER}) ?)?(?P<character>{one_of(_CHARACTERS)}))"
        rf"(?P<stars>(?= stars?{WORD_END}))?(?:{SPACE}?(?P<unit>{_UNIT}){_UNIT_END})?{WORD_END}",
        _fraction,
    ),
)
