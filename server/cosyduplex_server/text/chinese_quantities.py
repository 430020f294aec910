"""How much and how many in Chinese: counted things, percentages, measures, money.

A two that counts is 两 (两个, 两位, 两公里), a two that numbers is 二 (二月, 二楼, 二年级, 第二), and so is
the two within longer numbers (十二个, 二百, 二点五). The traditional small weight keeps it: 二两.
"""

from __future__ import annotations

from cosyduplex_server.text.chinese_arithmetic import read_plain
from cosyduplex_server.text.chinese_numbers import (
    ascii_form,
    cardinal,
    counted,
    digits,
    number,
    scaled,
)
from cosyduplex_server.text.chinese_units import CURRENCIES, LATIN_SCALES, LENGTHS, PER_UNITS, UNITS
from cosyduplex_server.text.chinese_written import (
    CODES,
    DIGITS,
    END,
    MINUS,
    NUM,
    POINT,
    SIGNS,
    SP,
    TO,
    D,
    Match,
    any_of,
    rule,
    to,
)
from cosyduplex_server.text.reading import Reading

_RANGE = f"(?<first>{NUM})(?:(?<to>{TO})(?<last>{NUM}))?+"


def _span(match: Match, *, things: bool = False) -> str:
    """A number, or from one to another."""
    say = counted if things else number
    words = say(match["first"])
    return words if match["to"] is None else f"{words}{to(match)}{say(match['last'])}"


# --- Counted things and numbered ones --------------------------------------------------------------------

# The first characters of measure words and units.
_MEASURES = (
    "个個箇位名人只隻件条條张張本台臺辆輛次年天周週秒分点點时時元块塊角毛米公厘毫千万萬亿億兆吨噸升斤克里裏种種类類项項家所座户戶"
    "头頭匹篇页頁部首场場倍成股亩畝把根支枝片颗顆粒盒瓶杯碗包袋箱桶筐罐套双雙对對副幅门門间間扇架艘列节節届屆起批群组組顿頓餐份"
    "封道题題句段局盘盤轮輪回遍趟步圈票样樣方侧側边邊端国國省市县縣岸校院者室房卷册冊胜勝负負平连連战戰球枚栋棟幢株棵朵滴束丝絲"
    "则則宗具尊记記拍针針剂劑折课課站度瓦伏赫帕字词詞行大小层層刻夜晚岁歲笔筆款磅码碼海英"
)
_COUNTED = f"(?={SP}[{_MEASURES}])"
# Two is a number here, although the first character alone is one that counts.
_NUMBERED = any_of(
    "年级 年級 年生 次元 次方 次函数 次函數 次型 分之 分法 分查找 分类 分類 分音符 人转 人轉 人世界 "
    "元一次 元二次 元论 元論 元函数 元函數 元运算 元方程 大爷 条杠 部制 房东 房東 战区 方面军 连长".split()
)
_FLOOR = f"(?<=(?:在|到|至|位于|住|去|上|往|负|負|地下|楼|樓|栋|棟|座|馆|館|厦|廈|心|场|場){SP})"

ORDINAL: tuple[Reading, ...] = (
    # 第2、3名 numbers both.
    rule(
        "ordinal",
        DIGITS,
        f"(?<=第{SP}|第{SP}{D}{{1,4}}{SP}[、，,和与與或及]{SP}|第{SP}{D}{{1,4}}{TO})"
        f"(?<first>{D}{{1,12}})(?:(?<to>{TO})(?<last>{D}{{1,12}}))?+{END}",
        _span,
    ),
    rule(
        "numbered",
        DIGITS,
        f"(?:(?<first>[2２])|(?<first>{D}{{1,3}})(?<to>{TO})(?<last>{D}{{1,3}}))(?={SP}{_NUMBERED})",
        _span,
    ),
    rule("two days of travel", "2２", f"[2２](?={SP}日[游遊])", "两"),
    # 2 栋 counts houses, 2栋305 and 花园2栋 number one.
    rule(
        "building",
        "2２",
        f"[2２](?={SP}[栋棟幢座]{SP}(?:{D}|[一二三四五六七八九十]|[A-Za-z]|单元|單元|门|門))"
        f"|(?<=(?:[号號园園苑府城村庄莊弄区區湾灣公寓厦廈]|在|住|到|去|位于){SP})[2２](?={SP}[栋棟幢](?!{SP}(?:楼|樓|房|别墅|大厦|大樓|建筑)))",
        "二",
    ),
    rule("floor", "2２", f"{_FLOOR}[2２](?={SP}[层層])", "二"),
)


def _read_counted(match: Match) -> str:
    return _span(match, things=True)


def _read_rest_of_price(match: Match) -> str:
    jiao, fen = digits(match[0][0]), digits(match[0][1:])
    return jiao if fen == "零" else jiao + fen


_SMALLER = f"(?:(?![大小])[{_MEASURES}]|cm|mm|m(?![A-Za-z])|[.．])"

# 小米14：3999元 is a name and a price, 步骤1：5分钟 a heading and a time; 比分3：2 is a ratio.
LABELS: tuple[Reading, ...] = (
    rule(
        "number of a label",
        DIGITS,
        f"{D}{{1,4}}(?=：(?![0０]{D})(?:{NUM}(?:{TO}{NUM})?{SP}(?:(?![分秒时點点比])[{_MEASURES}%％℃°]|分[钟鐘]|{any_of(UNITS)}(?![A-Za-z]))"
        f"|{D}{{4,12}}(?!{D})))",
        lambda match: read_plain(match[0]),
    ),
)

COUNTED: tuple[Reading, ...] = (
    rule(
        "height or hundredths",
        DIGITS,
        f"(?<=[0-9０-９]{SP}[米秒]){D}{{2}}{END}(?!{SP}{_SMALLER})",
        lambda match: digits(match[0]),
    ),
    rule(
        "rest of a price",
        DIGITS,
        f"(?<=[0-9０-９]{SP}[元块塊]){D}{{2}}{END}(?!{SP}{_SMALLER})",
        _read_rest_of_price,
    ),
    rule("discount", DIGITS, f"[1-9１-９]{POINT}?[1-9１-９](?={SP}折)", lambda match: digits(match[0])),
    rule("counted", DIGITS, f"{_RANGE}{_COUNTED}", _read_counted),
)

# --- Percentages and temperatures ------------------------------------------------------------------------

_PER = {"%": "百分之", "％": "百分之", "‰": "千分之", "‱": "万分之", "ppm": "百万分之"}


def _read_share(match: Match) -> str:
    of = _PER[match["of"]]
    if match["to"] is None:
        whole = of == "百分之" and ascii_form(match["first"]) == "100"
        return of + ("百" if whole else number(match["first"]))
    minus = "负" if match["minus"] else ""
    return f"{of}{number(match['first'])}{to(match)}{minus}{of}{number(match['last'])}"


def _read_temperature(match: Match) -> str:
    words = number(match["first"])
    if match["to"] is not None:
        words += to(match) + ("零下" if match["minus"] else "") + number(match["last"])
    return words + ("华氏度" if match["scale"][-1] in "F℉" else "摄氏度")


_DEGREES = "(?:℃|℉|[°˚º]\\s?[CFＣＦ](?![A-Za-z]))"

_POLES = {"N": "北纬", "S": "南纬", "E": "东经", "W": "西经"}


def _read_coordinate(match: Match) -> str:
    words = f"{_POLES[match['pole']]}{number(match['degrees'])}度"
    if match["minutes"]:
        words += f"{number(match['minutes'])}分"
    return words + (f"{number(match['seconds'])}秒" if match["seconds"] else "")


# -8/2℃ in a forecast: a day's lowest and highest.
DAILY_TEMPERATURES: tuple[Reading, ...] = (
    rule(
        "lowest and highest temperature",
        DIGITS,
        f"(?<first>{D}{{1,2}})(?<to>[/／])(?<minus>{MINUS})?(?<last>{D}{{1,2}}){SP}(?<scale>{_DEGREES})",
        _read_temperature,
    ),
)

SHARES: tuple[Reading, ...] = (
    rule(
        "coordinate",
        DIGITS,
        f"(?<degrees>{NUM})°(?:{SP}(?<minutes>{NUM})[′'](?:{SP}(?<seconds>{NUM})[″\"])?)?{SP}(?<pole>[NSEW])(?![A-Za-z])",
        _read_coordinate,
    ),
    rule(
        "share",
        DIGITS,
        f"(?<first>{NUM})(?:[%％‰]?(?<to>{TO})(?<minus>{MINUS})?(?<last>{NUM}))?{SP}(?<of>[%％‰‱]|ppm(?![A-Za-z]))",
        _read_share,
    ),
    rule(
        "temperature",
        DIGITS,
        f"(?<first>{NUM})(?:{SP}{_DEGREES}?(?<to>{TO})(?<minus>{MINUS})?(?<last>{NUM}))?{SP}(?<scale>{_DEGREES})",
        _read_temperature,
    ),
)

# --- Measures --------------------------------------------------------------------------------------------

_POWERS = {"2": "平方", "²": "平方", "3": "立方", "³": "立方"}
_POWER = "\\^?[23²³]"
_UNIT = f"(?:(?<length>{any_of(LENGTHS)})(?<power>{_POWER})?|(?<unit>{any_of(UNITS)}))"
_PER_UNIT = f"(?:(?<per_length>{any_of(LENGTHS)})(?<per_power>{_POWER})?|(?<per>{any_of(PER_UNITS)}))"


def _powered(length: str, exponent: str | None) -> str:
    return (_POWERS[exponent[-1]] if exponent else "") + LENGTHS[length]


def _per(match: Match) -> str:
    """每 and what the measure is per, if anything."""
    if match["per_length"]:
        return "每" + _powered(match["per_length"], match["per_power"])
    return "每" + PER_UNITS[match["per"]] if match["per"] else ""


def _read_measure(match: Match) -> str:
    amount = _span(match, things=True)
    unit = _powered(match["length"], match["power"]) if match["length"] else UNITS[match["unit"]]
    return amount + unit + _per(match)


def _read_length(match: Match) -> str:
    parts = ((match["hours"], "小时"), (match["minutes"], "分钟"), (match["seconds"], "秒"))
    return "".join(counted(value) + unit for value, unit in parts if value)


def _read_unit(match: Match) -> str:
    unit = _powered(match["length"], match["power"]) if match["length"] else UNITS[match["unit"]]
    return unit + _per(match)


MEASURES: tuple[Reading, ...] = (
    rule(
        "current",
        DIGITS,
        f"(?:(?<=电流[为是：:约达]{{0,2}}{SP})(?<first>{NUM})|(?<first>{D}{{1,4}}{POINT}{D}{{1,3}}))A(?![A-Za-z0-9])",
        lambda match: f"{counted(match['first'])}安",
    ),
    rule(
        "length of time in units",
        DIGITS,
        f"(?:(?<hours>{D}{{1,3}})h{SP})?(?<minutes>{D}{{1,3}})(?:min|m){SP}(?<seconds>{D}{{1,2}})s(?![A-Za-z0-9])"
        f"|(?<hours>{D}{{1,3}})h{SP}(?<minutes>{D}{{1,2}})(?:min|m)(?![A-Za-z0-9])",
        _read_length,
    ),
    # 体积（cm³）, 10³ cm³; a single letter there, （m）, may be anything.
    rule(
        "unit in brackets",
        {unit[0] for unit in UNITS},
        f"(?<=10[⁰¹²³⁴⁵⁶⁷⁸⁹]{{1,3}}{SP}){_UNIT}(?![A-Za-z0-9²³^/／])|(?<=[(（])(?!min[)）])(?:(?=[^/)）]{{2}}|./){_UNIT})(?:[/／]{_PER_UNIT})?(?=[)）])",
        _read_unit,
    ),
    rule(
        "mobile network",
        DIGITS,
        f"(?<generation>[2-6])g(?={SP}(?:网|網|手机|手機|时代|時代|基站|信号|技术|套餐|通信|商用|用户))",
        lambda match: cardinal(match["generation"]) + "G",
    ),
    # iPhone 5 s is a name, Pro Max 256GB and Ultra 120W a name and a measure.
    rule(
        "measure",
        DIGITS,
        f"(?:(?<![A-Za-z] )|(?=[0-9.,]{{1,10}}+(?:W|{SP}[A-Za-z]{{2}})))"
        f"{_RANGE}{SP}{_UNIT}(?:[/／]{_PER_UNIT})?(?![A-Za-z0-9²³^/／])",
        _read_measure,
    ),
    # "50kg/次": what it is per is said by a rule of its own.
    rule(
        "blood pressure",
        DIGITS,
        f"(?<high>{D}{{2,3}})[/／](?<low>{D}{{2,3}})(?:(?={SP}毫米汞柱)|{SP}(?<unit>mmHg))",
        lambda match: f"{number(match['high'])}、{number(match['low'])}{'毫米汞柱' if match['unit'] else ''}",
    ),
    rule(
        "price per measure",
        "/／",
        f"(?<=元|[美欧日港]元|英镑|[万亿])[/／]{_PER_UNIT}(?![A-Za-z0-9])",
        _per,
    ),
    rule(
        "measure per so many",
        "/／",
        f"(?<=[0-9]{SP}(?:kcal|kJ|mg|g|kg|mL|ml|L|元))[/／](?={D})",
        "每",
    ),
    rule(
        "measure per thing",
        DIGITS,
        f"{_RANGE}{SP}(?<unit>{any_of(UNITS)})(?=[/／])",
        lambda match: _span(match, things=True) + UNITS[match["unit"]],
    ),
)

# --- Money -----------------------------------------------------------------------------------------------

_SCALE = "(?<scale>(?:[十百千]?[万萬亿億]|万亿|萬億|千|百))"
_AMOUNT = f"{SP}(?<first>{NUM})(?:(?<to>{TO}){SIGNS}?(?<last>{NUM}))?"


def _yuan(written: str) -> str:
    """A price to the fen: 12.50 十二元五角, 12.05 十二元零五分, 0.99 九角九分."""
    whole, _, fraction = ascii_form(written).replace(",", "").partition(".")
    jiao, fen = fraction[0], fraction[1]
    words = f"{counted(whole)}元" if int(whole) or fraction == "00" else ""
    if jiao != "0":
        words += f"{counted(jiao)}角"
    elif fen != "0" and words:
        words += "零"
    return words + (f"{counted(fen)}分" if fen != "0" else "")


def _read_money(match: Match) -> str:
    currency = CURRENCIES[match["currency"]]
    scale, latin = match["scale"] or "", match["latin"]
    if latin:
        factor = LATIN_SCALES[latin]
        words = scaled(match["first"], factor)
        return words + (f"{to(match)}{scaled(match['last'], factor)}" if match["to"] else "") + currency
    if currency == "元" and not scale and not match["to"] and len(match["first"].partition(".")[2]) == 2:
        return _yuan(match["first"])
    return _span(match, things=True) + scale + currency


MONEY: tuple[Reading, ...] = (
    # 12.50元 is 十二点五元.
    rule(
        "price with an empty fen",
        DIGITS,
        f"(?<yuan>{D}{{1,3}}(?:,{D}{{3}})++|{D}{{1,9}}+)[.．](?:[0０]{{2}}|(?<jiao>[1-9１-９])[0０])(?={SP}[元块塊美])",
        lambda match: counted(match["yuan"]) + (f"点{digits(match['jiao'])}" if match["jiao"] else ""),
    ),
    rule(
        "money",
        "$＄¥￥€£₩₹₽฿" + "UHNACSRGEJ",
        f"(?<![A-Za-z])(?<currency>{CODES}|{SIGNS}){_AMOUNT}"
        f"(?:{SP}{_SCALE}|{SP}(?<latin>{any_of(LATIN_SCALES)})(?![A-Za-z0-9]))?(?:美元|美金|元|欧元|英镑|港元|港币)?",
        _read_money,
    ),
)
