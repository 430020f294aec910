"""Dates and times in Chinese.

Years are read digit by digit, 二零二六年; months, days, hours and minutes as numbers, minutes below ten after
点 with 零. 3:00 is 三点, 2:30 两点三十分, 02:30 the same.
"""

from __future__ import annotations

from cosyduplex_server.text.chinese_numbers import ascii_form, cardinal, counted, digits
from cosyduplex_server.text.chinese_written import (
    COLON,
    DASH,
    DIGITS,
    END,
    HAN,
    POINT,
    SLASH,
    SP,
    TO,
    D,
    Match,
    rule,
    to,
)
from cosyduplex_server.text.reading import Reading

_DATE = f"{D}{{4}}(?:{DASH}{D}{{1,2}}{DASH}|{SLASH}{D}{{1,2}}{SLASH}|{POINT}{D}{{1,2}}{POINT}){D}{{1,2}}"
_CLOCK = f"{D}{{1,2}}{COLON}{D}{{2}}(?:{COLON}{D}{{2}})?"
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SEASON = "(?:赛季|學年|学年|年度|财年|財年)"
_EVENT = (
    "(?:世界杯|世界盃|奥运|奧運|欧洲杯|亚运|全运|春晚|春节|高考|国庆|元旦|款|届|屆|財年|财年|赛季|賽季|学年|學年|年度|"
    "第[一二三四1-4]季度|[上下]半年|Q[1-4])"
)
_CENTURY = f"(?:19|20|１９|２０){D}{{2}}"


def _year(written: str) -> str:
    return f"{digits(written)}年"


def _month_day(month: str, day: str) -> str | None:
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= _DAYS_OF_MONTH[int(month) - 1]):
        return None
    return f"{cardinal(month)}月{cardinal(day)}日"


def _date(written: str) -> str | None:
    plain = ascii_form(written).replace("—", "-")
    year, month, day = plain.replace("/", "-").replace(".", "-").split("-")
    month_day = _month_day(month, day)
    return _year(year) + month_day if month_day and 1000 <= int(year) < 3000 else None


def _clock(written: str) -> str | None:
    """14:30, 8:05, 12:30:15; None when no clock shows it."""
    hour, minute, *seconds = ascii_form(written).split(":")
    if int(hour) > 24 or int(minute) > 59 or (seconds and int(seconds[0]) > 59):
        return None
    words = f"{counted(hour)}点"
    if int(minute) or seconds:
        words += ("零" if 0 < int(minute) < 10 else "") + f"{cardinal(minute)}分"
    if seconds:
        words += ("零" if 0 < int(seconds[0]) < 10 else "") + f"{cardinal(seconds[0])}秒"
    return words


def _read_timestamp(match: Match) -> str | None:
    date, clock = _date(match["date"]), _clock(match["clock"])
    if date is None or clock is None:
        return None
    zone = ascii_form(match["zone"] or "")
    if zone == "Z":
        return f"{date}协调世界时{clock}"
    return date + (f"东{cardinal(zone[1:3])}区" if zone.startswith("+") else "") + clock


def _read_dates(match: Match) -> str | None:
    first, last = _date(match["first"]), _date(match["last"])
    return f"{first}{to(match)}{last}" if first and last else None


def _read_month_days(match: Match) -> str | None:
    first, last = (_month_day(*ascii_form(match[end]).split("/")) for end in ("first", "last"))
    return f"{first}{to(match)}{last}" if first and last else None


def _read_month_day(match: Match) -> str | None:
    """A date where it is no likely fraction: 11/21, 9/30, 03/05; 1/16 and 2/3 are fractions, 4/30 a date."""
    if match["sum"] is not None:
        return None
    month, day = ascii_form(match["month"]), ascii_form(match["day"])
    sure = match["sure"] is not None or month.startswith("0") or day.startswith("0") or int(month) >= int(day)
    sure = sure or (int(month) >= 10 and int(day) > 12)
    if not sure and (int(day) <= 12 or int(month) == 1 or int(day) in (16, 20, 25) or 100 % int(day) == 0):
        return None
    return _month_day(month, day)


def _read_clocks(match: Match) -> str | None:
    first, last = _clock(match["first"]), _clock(match["last"])
    return f"{first}{to(match)}{last}" if first and last else None


def _part_of_day(hour: int, *, afternoon: bool) -> str:
    if hour == 12:
        return "中午" if afternoon else "凌晨"
    if afternoon:
        return "下午" if hour < 6 else "晚上"
    return "凌晨" if hour < 5 else "上午"


def _read_half_day(match: Match) -> str | None:
    hour = int(match["hour"])
    if not 1 <= hour <= 12:
        return None
    clock = _clock(f"{hour}:{match['minute'] or '00'}")
    return clock and _part_of_day(hour, afternoon=match["half"] in "Pp") + clock


def _read_length(match: Match) -> str | None:
    """How long a recording is: 12:34 is minutes and seconds, 1:12:34 begins with hours."""
    units = ("小时", "分", "秒")
    parts = ascii_form(match[0]).split(":")
    if any(int(part) > 59 for part in parts[1:]):
        return None
    return "".join(counted(part) + unit for part, unit in zip(parts, units[-len(parts) :], strict=True))


def _read_year_month(match: Match) -> str | None:
    year, month = match["year"], match["month"]
    return f"{_year(year)}{cardinal(month)}月" if 1 <= int(month) <= 12 else None


def _read_years(match: Match) -> str:
    return f"{digits(match['first'])}{to(match)}{digits(match['last'])}"


def _read_bare_years(match: Match) -> str | None:
    first, last = match["first"], match["last"]
    round_numbers = first.endswith("00") and last.endswith("00")
    return _read_years(match) if int(first) < int(last) and not round_numbers else None


def _read_early_year(match: Match) -> str | None:
    return None if match["year"].endswith("00") else digits(match["year"])


def _read_compact_date(match: Match) -> str | None:
    day = _month_day(match[0][4:6], match[0][6:8])
    return digits(match[0]) if day else None


def _read_year_of_event(match: Match) -> str:
    return digits(match[0])


def _read_born_after(match: Match) -> str | None:
    if match["later"] is not None:
        return None
    if not match["to"]:
        return digits(match["first"])
    return f"{digits(match['first'])}{'、' if match['to'] in '/-' else match['to']}{digits(match['last'])}"


_DATES = (
    rule(
        "timestamp",
        DIGITS,
        f"(?<date>{_DATE})T(?<clock>{_CLOCK})(?:[.,]{D}{{1,9}})?(?<zone>Z|[-+]{D}{{2}}:?{D}{{2}})?{END}",
        _read_timestamp,
    ),
    rule("dates", DIGITS, f"(?<first>{_DATE})(?<to>{TO})(?<last>{_DATE})(?!{D})", _read_dates),
    rule("date", DIGITS, f"{_DATE}{END}", lambda match: _date(match[0])),
    rule(
        "months and days",
        DIGITS,
        f"(?<first>{D}{{1,2}}{SLASH}{D}{{1,2}})(?<to>{TO})(?<last>{D}{{1,2}}{SLASH}{D}{{1,2}})(?!{D})",
        _read_month_days,
    ),
    rule(
        "month and day",
        DIGITS,
        f"(?<![=+×÷*/<>A-Za-z]{SP}|共|约)(?<month>{D}{{1,2}}){SLASH}(?<day>{D}{{1,2}}){END}"
        f"(?<sum>(?={SP}[=+×÷*%A-Za-z英拍]))?(?<sure>(?={SP}[(（]?(?:周|週|星期|礼拜|禮拜)))?",
        _read_month_day,
    ),
    rule(
        "year and month",
        DIGITS,
        f"(?<![A-Za-z]{SP})(?<year>{_CENTURY})(?:[-/]|{POINT}(?=[01]))(?<month>[01]{D}){END}",
        _read_year_month,
    ),
    rule("compact date", DIGITS, f"(?:19|20)[0-9]{{6}}{END}", _read_compact_date),
)

_YEARS = (
    rule(
        "season",
        DIGITS,
        f"(?<first>{_CENTURY})(?<to>[-–—~/])(?<last>{D}{{2}}(?:{D}{{2}})?)(?={SP}{_SEASON})",
        _read_years,
    ),
    rule(
        "years",
        DIGITS,
        f"(?<first>[12１２]{D}{{3}})(?<to>{TO})(?<last>{D}{{2}}(?:{D}{{2}})?)(?={SP}年)",
        _read_years,
    ),
    # Two thousand years of history, two thousand years ago; around the year 2000 it is 前后.
    rule(
        "so many years",
        DIGITS,
        f"[1-9]{D}00(?={SP}年(?:的?历史|的?歷史|的?文明|[来來]的|前的))",
        lambda match: cardinal(match[0]),
    ),
    rule(
        "year", DIGITS, f"(?:[1１]{D}{{3}}(?<!000)|[2２]{D}{{3}})(?={SP}年)", lambda match: digits(match[0])
    ),
    rule(
        "year BC",
        DIGITS,
        f"(?<=公元前?{SP}|西元前?{SP}|[（(，,、；;至到于於自从從—–－~～-]前{SP}){D}{{3,4}}(?={SP}年)",
        lambda match: digits(match[0]),
    ),
    # Three digits are a year in a span of years, before a month, and where a clause says when; else they
    # are how long something takes, as are round ones.
    rule(
        "year before the millennium",
        DIGITS,
        f"(?<year>[1-9]{D}{{2}})(?:(?={SP}年{SP}{D}{{1,2}}{SP}月)"
        f"|(?={SP}年?{TO}[1-9]{D}{{2,3}}{SP}年)"
        f"|(?<={D}{{3}}{SP}年?{TO}{D}{{3}})(?={SP}年))",
        _read_early_year,
    ),
    rule(
        "year before the millennium, by what is before",
        DIGITS,
        f"(?<=(?:[于於自从從]|(?<![现現实實存所])在|(?<!达|達)到|至){SP}|(?<![^。！？!?；;：:（(\n])){D}{{3}}(?<!00)(?={SP}年(?:[，,（(）)]|{HAN}))"
        f"(?!{SP}年[级級代内內间間里裡前后後以之时時的左多历歷来來])",
        lambda match: digits(match[0]),
    ),
    rule("year from its zero", DIGITS, f"[0０]{D}(?={SP}年)", lambda match: digits(match[0])),
    rule(
        "month or day from its zero", DIGITS, f"[0０]{D}(?={SP}[月日号號])", lambda match: cardinal(match[0])
    ),
    rule("hour from its zero", DIGITS, f"[0０]{D}(?={SP}[点點时時])", lambda match: counted(match[0])),
    rule(
        "minute from its zero",
        DIGITS,
        f"[0０]{D}(?={SP}[分秒])",
        lambda match: digits(match[0]) if int(match[0]) else "零",
    ),
    rule("two after hours or minutes", "2２", f"(?<=[时時点點分]{SP})[2２](?={SP}[分秒])", "二"),
    rule("short year", DIGITS, f"{D}{{2}}(?={SP}年{SP}{D}{{1,2}}{SP}月)", lambda match: digits(match[0])),
    rule("year of an event", DIGITS, f"{_CENTURY}(?={SP}{_EVENT})", _read_year_of_event),
    rule("decade", DIGITS, f"{D}{{3}}0(?:'?s)(?![A-Za-z0-9])", lambda match: f"{digits(match[0])}年代"),
    rule(
        "born after",
        DIGITS,
        f"(?<first>{D}[05])(?:(?<to>[-/、和与及]){SP}(?<last>{D}[05]))?"
        f"(?={SP}[后後])(?<later>(?={SP}[后後][来來面边邊退续續天悔果再]))?",
        _read_born_after,
    ),
)

_TIMES = (
    rule(
        "length of a recording",
        DIGITS,
        f"(?<=(?:时长|時長|用时|用時|片长|片長|全长|耗时|倒计时|倒計時|倒数|计时|計時|剩余时间|还剩|還剩|剩余|配速)[为為是约：:]?{SP}){_CLOCK}{END}",
        _read_length,
    ),
    rule("times", DIGITS, f"(?<first>{_CLOCK})(?<to>{TO})(?<last>{_CLOCK})(?!{D})", _read_clocks),
    rule(
        "half of the day",
        DIGITS,
        f"(?<hour>{D}{{1,2}})(?:{COLON}(?<minute>[0-5]{D}))?{SP}(?<half>[AaPp])(?:\\.[mM]\\.|[mM](?![A-Za-z]))",
        _read_half_day,
    ),
    # The 分 of 9:30分 is said already.
    rule("time", DIGITS, f"(?<clock>{_CLOCK}){END}(?:分(?![钟鐘]))?+", lambda match: _clock(match["clock"])),
    # 2点5 may go on as 2点50分; alone it is a decimal.
    rule(
        "two point",
        "2２",
        f"[2２](?=[点點]{D})(?<minutes>(?=[点點]{D}[0-9０-９分秒]))?",
        lambda match: None if match["minutes"] is not None else "二",
    ),
)

WHOLE: tuple[Reading, ...] = (*_DATES, *_TIMES)
BEFORE_HANZI: tuple[Reading, ...] = _YEARS
# Where nothing is counted: (1879-1955).
BARE: tuple[Reading, ...] = (
    # （618—907）, 杜甫（712—770）; a hyphen alone may stand between any two values.
    rule(
        "bare early years",
        DIGITS,
        f"(?<=[(（])(?:(?<first>[1-9]{D}{{2}})(?<to>[—–－])(?<last>[1-9]{D}{{2}})"
        f"|(?<first>[1-9]{D}{{2}})(?<to>{DASH})(?<last>1[0-4]{D}{{2}})"
        f"|(?<=[朝代帝宗祖王][(（])(?<first>[1-9]{D}{{2}})(?<to>{DASH})(?<last>[1-9]{D}{{2}}))(?=年?(?:[，,]|[)）](?!{SP}[A-Za-z%％℃])))",
        _read_bare_years,
    ),
    rule(
        "bare years",
        DIGITS,
        f"(?<first>1[5-9]{D}{{2}}|20{D}{{2}})(?<to>[-–—~～])(?<last>1[5-9]{D}{{2}}|20{D}{{2}}){END}",
        _read_bare_years,
    ),
)
