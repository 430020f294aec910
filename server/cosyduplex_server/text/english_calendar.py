"""English readings of dates, times of day, years and durations."""

from __future__ import annotations

import regex

from cosyduplex_server.text.english_form import (
    DASH,
    DIGITS,
    SPACE,
    STOP,
    STOP_BEFORE_CAPITAL,
    WORD_END,
    WORD_START,
    one_of,
    reading,
)
from cosyduplex_server.text.english_numbers import (
    cardinal,
    decade,
    integer,
    ordinal,
    plural_of_tens,
    spell,
    year,
)

Match = regex.Match[str]

# --- Dates

_MONTHS = "January February March April May June July August September October November December".split()
_MONTH_FIRST = frozenset(name[0] for name in _MONTHS)
_SHORT_MONTHS = "Jan Feb Mar Apr Jun Jul Aug Sept Sep Oct Nov Dec".split()
_MONTH_NAME = one_of([*_MONTHS, *_SHORT_MONTHS])
_SHORT_MONTH = one_of(_SHORT_MONTHS)
# Before a day or year a full stop belongs to the month; behind, only where no sentence ends.
_MONTH = rf"(?P<month>(?:{_SHORT_MONTH}\.|{_MONTH_NAME}))"
_MONTH_BEHIND = rf"(?P<month>{_MONTH_NAME}){WORD_END}(?:\.(?=,? ?[0-9a-z]))?"
_DAY_NUMBER = "(?>3[01]|[12][0-9]|0?[1-9])(?:st|nd|rd|th)?"
_DAY = rf"(?P<day>{_DAY_NUMBER})"
_DAYS = rf"{_DAY} ?{DASH} ?(?P<last>{_DAY_NUMBER})"
_YEAR = "(?:1[1-9]|20)[0-9]{2}"
_YEAR_BEHIND = rf"(?:,? (?P<year>{_YEAR}){WORD_END})?"
_NO_LONGER = rf"{WORD_END}(?![-/.][0-9])"
_WEEKDAYS = {
    "Mon": "Monday",
    "Tue": "Tuesday",
    "Tues": "Tuesday",
    "Wed": "Wednesday",
    "Thu": "Thursday",
    "Thur": "Thursday",
    "Thurs": "Thursday",
    "Fri": "Friday",
    "Sat": "Saturday",
    "Sun": "Sunday",
}
_WEEKDAY = one_of(_WEEKDAYS)
_MERIDIEM = r"(?:[ap]\.?m|[AP]\.?M)"


def _month(written: str) -> str:
    return next(name for name in _MONTHS if name.startswith(written[:3]))


def _day(written: str) -> str:
    return ordinal(int(written.rstrip("stndrh")))


def _date(month: str, day: str, of_year: str | None) -> str:
    said = f"{month} {_day(day)}"
    return f"{said}, {year(int(of_year))}" if of_year else said


def _numeric_date(of_year: str, month: str, day: str) -> str | None:
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return None
    if len(of_year) == 2:
        of_year = ("20" if int(of_year) < 50 else "19") + of_year
    return _date(_MONTHS[int(month) - 1], day, of_year)


def _year_first(match: Match) -> str | None:
    if match["sep"] == "." and len(match[0]) < 10:
        return None  # a version
    return _numeric_date(match["year"], match["month"], match["day"])


def _year_last(match: Match) -> str | None:
    """The month first, as in the United States, unless that is no date or dots are between."""
    first, second, of_year = match["first"], match["second"], match["year"]
    if match["sep"] != "/" and len(of_year) == 2:
        return None
    is_day_first = match["sep"] == "." or int(first) > 12
    return _numeric_date(of_year, second, first) if is_day_first else _numeric_date(of_year, first, second)


def _month_and_day_in_digits(match: Match) -> str | None:
    return None if match[0] == "9/11" else _date(_MONTHS[int(match["month"]) - 1], match["day"], None)


def _month_of_year(match: Match) -> str | None:
    """2026-11; but 2010-12 is two years."""
    of_year = match["year"]
    if "00" < of_year[2:] < match["month"]:
        return None
    return f"{_MONTHS[int(match['month']) - 1]} {year(int(of_year))}"


def _month_and_day(match: Match) -> str:
    return _date(_month(match["month"]), match["day"], match["year"])


def _month_and_days(match: Match) -> str:
    said = f"{_month(match['month'])} {_day(match['day'])} to {_day(match['last'])}"
    return f"{said}, {year(int(match['year']))}" if match["year"] else said


def _days_and_month(match: Match) -> str:
    the = "the " if match["the"] is None else ""
    to = f" to {the}{_day(match['last'])}" if match["last"] else ""
    said = f"{the}{_day(match['day'])}{to} of {_month(match['month'])}"
    return f"{said} {year(int(match['year']))}" if match["year"] else said


_DATES = (
    reading(
        "date",
        DIGITS,
        r"(?P<year>[12][0-9]{3})(?P<sep>[-/.])(?P<month>[01]?[0-9])(?P=sep)(?P<day>[0-3]?[0-9])" + _NO_LONGER,
        _year_first,
    ),
    reading(
        "date",
        DIGITS,
        r"(?P<first>[0-3]?[0-9])(?P<sep>[-/.])(?P<second>[0-3]?[0-9])(?P=sep)"
        rf"(?P<year>(?>[12][0-9]{{3}}|[0-9]{{2}})){_NO_LONGER}",
        _year_last,
    ),
    reading(
        "month and day in digits",
        DIGITS,
        r"(?<=\b(?:[Oo]n|[Bb]y|[Uu]ntil|[Bb]efore|[Aa]fter|[Ss]ince|[Dd]ue|[Dd]ated?) )"
        rf"(?P<month>1[0-2]|0?[1-9])/{_DAY}{_NO_LONGER}",
        _month_and_day_in_digits,
    ),
    reading(
        "month of a year",
        DIGITS,
        rf"(?P<year>(?:19|20)[0-9]{{2}})-(?P<month>0[1-9]|1[0-2]){_NO_LONGER}",
        _month_of_year,
    ),
    reading(
        "day before its month",
        DIGITS,
        rf"(?:(?<=\b[Tt]he )(?P<the>))?(?:{_DAYS}|{_DAY}){SPACE}{_MONTH_BEHIND}{_YEAR_BEHIND}",
        _days_and_month,
    ),
    reading(
        "days of a month",
        _MONTH_FIRST,
        rf"{WORD_START}{_MONTH}{SPACE}{_DAYS}{WORD_END}{_YEAR_BEHIND}",
        _month_and_days,
    ),
    reading(
        "day of a month",
        _MONTH_FIRST,
        rf"{WORD_START}{_MONTH}{SPACE}{_DAY}{WORD_END}(?![.,:][0-9]|%){_YEAR_BEHIND}",
        _month_and_day,
    ),
    reading(
        "month and year",
        _MONTH_FIRST,
        rf"{WORD_START}{_MONTH},?{SPACE}(?P<year>{_YEAR}){WORD_END}(?![-–.,:][0-9])",
        lambda match: f"{_month(match['month'])} {year(int(match['year']))}",
    ),
    reading(
        "months",
        _MONTH_FIRST,
        rf"{WORD_START}(?P<from>{_MONTH_NAME})\.? ?[-–] ?{_MONTH_BEHIND}",
        lambda match: f"{_month(match['from'])} to {_month(match['month'])}",
    ),
    reading(
        "short month",
        _MONTH_FIRST,
        rf"{WORD_START}(?P<month>{_SHORT_MONTH})(?<!Mar|Jun|Jul)(?:{STOP}|\.)",
        lambda match: _month(match["month"]) + ("." if match["stop"] else ""),
    ),
    reading(
        "weekdays",
        "MTWFS",
        rf"{WORD_START}(?P<day>{_WEEKDAY}) ?[-–] ?(?P<last>{_WEEKDAY}){WORD_END}",
        lambda match: f"{_WEEKDAYS[match['day']]} to {_WEEKDAYS[match['last']]}",
    ),
    reading(
        "short weekday",
        "MTWFS",
        rf"{WORD_START}(?P<day>{_WEEKDAY})"
        rf"(?:\.?(?=,? (?:{_DAY_NUMBER} )?{_MONTH_NAME}{WORD_END})|(?<!Sat|Sun)(?:\.|(?=,? [0-9]))"
        rf"|(?= [0-9]{{1,2}}(?:[-–:]| ?{_MERIDIEM})))",
        lambda match: _WEEKDAYS[match["day"]],
    ),
)

# --- Times of day

_TIME = (
    r"(?P<hour>(?>2[0-4]|[01]?[0-9])):(?P<minute>[0-5][0-9])"
    r"(?::(?P<second>[0-5][0-9])(?:\.[0-9]{1,6})?)?"
)


def _clock(match: Match, *, has_meridiem: bool = False) -> str:
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"] or 0)
    if not second:
        return _hour_and_minute(hour, minute, has_meridiem=has_meridiem)
    seconds = f"{cardinal(second)} second{'' if second == 1 else 's'}"
    if hour:
        return f"{_hour_and_minute(hour, minute, has_meridiem=has_meridiem)} and {seconds}"
    return f"{cardinal(minute)} minute{'' if minute == 1 else 's'} and {seconds}" if minute else seconds


def _hour_and_minute(hour: int, minute: int, *, has_meridiem: bool) -> str:
    if minute:
        return f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    if has_meridiem:
        return cardinal(hour)
    if hour in (0, 24):
        return "midnight"
    return f"{cardinal(hour)} o'clock" if hour <= 12 else f"{cardinal(hour)} hundred"


def _zone(match: Match) -> str:
    said = f"{'plus' if match['sign'] == '+' else 'minus'} {cardinal(int(match['zone_hours']))}"
    minutes = int(match["zone_minutes"] or 0)
    return f"{said} {cardinal(minutes)}" if minutes else said


def _timestamp(match: Match) -> str | None:
    date = _numeric_date(match["year"], match["month"], match["day"])
    if date is None:
        return None
    said = f"{date}, {_clock(match)}"
    if match["sign"]:
        return f"{said} UTC {_zone(match)}"
    return f"{said} UTC" if match["utc"] else said


_TIMES = (
    reading(
        "timestamp",
        DIGITS,
        rf"(?P<year>[12][0-9]{{3}})-(?P<month>[01][0-9])-(?P<day>[0-3][0-9])T{_TIME}"
        rf"(?:(?P<utc>Z)|(?P<sign>[+-])(?P<zone_hours>[01][0-9]):?(?P<zone_minutes>[0-5][0-9])?)?{WORD_END}",
        _timestamp,
    ),
    reading(
        "time with a.m. or p.m.",
        DIGITS,
        rf"{_TIME}(?={SPACE}?{_MERIDIEM}{WORD_END})",
        lambda match: _clock(match, has_meridiem=True),
    ),
    reading(
        "hour with a.m. or p.m.",
        DIGITS,
        rf"(?:1[0-2]|0?[1-9])(?={SPACE}?{_MERIDIEM}{WORD_END})",
        lambda match: cardinal(int(match[0])),
    ),
    reading("time", DIGITS, rf"{_TIME}(?: ?(?:h|hrs){WORD_END})?{WORD_END}(?![:.][0-9])", _clock),
    reading(
        "a.m. or p.m.",
        "apAP",
        rf"(?<=[0-9]{SPACE}?){_MERIDIEM}(?:(?<=\.[mM])(?:{STOP_BEFORE_CAPITAL}|\.))?{WORD_END}",
        lambda match: f"{match[0][0].lower()} m" + ("." if match["stop"] else ""),
    ),
    reading(
        "time zone",
        "UG",
        rf"{WORD_START}(?P<zone>UTC|GMT) ?(?P<sign>[-+−–])(?P<zone_hours>1[0-4]|0?[0-9])"
        rf"(?::?(?P<zone_minutes>[034][05]))?{WORD_END}",
        lambda match: f"{match['zone']} {_zone(match)}",
    ),
)

# --- Years

# Four digits from 1900 to 2099 are a year but before these nouns and beside the signs of a sum; earlier ones
# only after these words.
_COUNTED = (
    "people persons men women children users customers tokens words characters letters points votes "
    "students pupils teachers workers employees soldiers troops copies cars houses homes items files lines "
    "pages rows entries records calories dollars euros pounds yuan yen cents miles kilometers kilometres "
    "meters metres feet inches kilograms grams tons tonnes liters litres watts volts hours days weeks "
    "months years seconds minutes milliseconds pixels bits bytes megabytes gigabytes cases deaths patients "
    "samples images examples times units seats rooms members participants respondents games species stars "
    "degrees percent"
).split()
_BEFORE_YEAR = (
    "in since by of from until till before after during year years circa ca. c. around late early mid and "
    "summer winter spring fall autumn class season est. established founded born died"
).split()
_IN_YEAR = one_of([*_BEFORE_YEAR, *(word.capitalize() for word in _BEFORE_YEAR)])
_YEAR_END = rf"{WORD_END}(?![.,:/][0-9]|[-‐‑][A-Za-z]| ?[=+×÷*/<>^%])(?! {one_of(_COUNTED)}{WORD_END})"


def _years(match: Match) -> str | None:
    first, last = match["first"], match["last"]
    if len(last) == 2:
        last = first[:2] + last
    return f"{year(int(first))} to {year(int(last))}" if first < last else None


def _year_of_century(match: Match) -> str:
    digits = match["year"]
    return f"oh {spell(digits[1])}" if digits[0] == "0" else integer(digits)


_YEARS = (
    reading(
        "years",
        DIGITS,
        rf"(?P<first>{_YEAR})(?:(?: ?[-–—] ?| to )(?P<last>{_YEAR})|[–/-](?P<last>[0-9]{{2}}))"
        rf"{_YEAR_END}(?![-–][0-9])",
        _years,
    ),
    reading(
        "decade",
        DIGITS,
        rf"(?P<year>(?:1[1-9]|20)[0-9]0)['’]?s{WORD_END}",
        lambda match: decade(int(match["year"])),
    ),
    reading(
        "decade of a century",
        "'’‘",
        rf"(?<!\w)['’‘](?P<tens>[1-9]0)['’]?s{WORD_END}",
        lambda match: plural_of_tens(int(match["tens"])),
    ),
    reading(
        "decade of a life",
        DIGITS,
        r"(?<=\b(?:[Tt]he|early|mid|late|[Hh]is|[Hh]er|[Tt]heir|[Mm]y|[Yy]our|[Oo]ur)[ -])"
        rf"(?P<tens>[1-9]0)['’]?s{WORD_END}",
        lambda match: plural_of_tens(int(match["tens"])),
    ),
    reading(
        "year of a century",
        "'’‘",
        rf"(?<!\w)['’‘](?P<year>[0-9]{{2}}){WORD_END}(?!['’.,:][0-9]|['’])",
        _year_of_century,
    ),
    reading(
        "year after a word",
        DIGITS,
        rf"(?<=\b{_IN_YEAR} |[©(]|\bmid-|[Cc]opyright )(?:1[0-9]|20)[0-9]{{2}}{_YEAR_END}",
        lambda match: year(int(match[0])),
    ),
    reading(
        "year",
        DIGITS,
        rf"(?<![.,])(?<![$€£¥#=+×÷*/<>≤≥≈~^-] ?)(?:19|20)[0-9]{{2}}{_YEAR_END}",
        lambda match: year(int(match[0])),
    ),
)

# --- Durations


def _duration(match: Match) -> str:
    parts = (("d", "day"), ("h", "hour"), ("m", "minute"), ("s", "second"))
    given = ((match[key], name) for key, name in parts if match[key])
    return " ".join(f"{integer(digits)} {name}{'' if digits == '1' else 's'}" for digits, name in given)


_DURATIONS = (
    reading(
        "duration",
        DIGITS,
        r"(?:(?:(?P<d>[0-9]{1,3})d ?)?(?P<h>[0-9]{1,3})h ?(?P<m>[0-9]{1,2})(?:m|min)?"
        r"(?: ?(?P<s>[0-9]{1,2})s)?"
        r"|(?P<d>[0-9]{1,3})d ?(?P<h>[0-9]{1,3})h"
        rf"|(?P<m>[0-9]{{1,3}})m(?:in)? ?(?P<s>[0-9]{{1,2}})s){WORD_END}",
        _duration,
    ),
)

CALENDAR = (*_TIMES[:1], *_DATES, *_TIMES[1:], *_DURATIONS, *_YEARS)
