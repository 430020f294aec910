"""Sums, fractions, ratios, ranges and the signs of mathematics in Chinese.

What stands between two numbers is read by what it stands there for: 5-3=2 五减三等于二, 5-10个 五到十个,
3-1战胜 三比一, 图3-2 图三杠二, 4-3-3 四三三.
"""

from __future__ import annotations

import regex

from cosyduplex_server.text.chinese_numbers import (
    ascii_form,
    cardinal,
    digits,
    number,
    power,
    signed,
    superscript,
)
from cosyduplex_server.text.chinese_written import (
    COLON,
    DIGITS,
    END,
    GROUP,
    HAN,
    INCOMPLETE,
    INCOMPLETE_AMOUNT,
    LATIN_UNIT,
    MINUS,
    NUM,
    SEPARATORS,
    SIGNS,
    SLASH,
    SP,
    TO,
    VARIABLE,
    D,
    Match,
    rule,
    to,
)
from cosyduplex_server.text.reading import Reading

_OPERATORS = {"+": "加", "-": "减", "x": "乘", "X": "乘", "*": "乘", "/": "除以", "÷": "除以"}
_OPERATOR = "[-−–－+＋×✕xX*÷/／]"


_TERM_PARTS = regex.compile("([-+xX*÷/]?)([0-9.,]+)(?:/([0-9.,]+))?")


def _read_sum(match: Match) -> str:
    """Term by term; 1/2+1/3 adds fractions, 10/4 divides."""
    terms = _TERM_PARTS.findall(ascii_form(match[0]).replace(" ", ""))
    single = len(terms) == 1
    words = ""
    for operator, first, divisor in terms:
        words += _OPERATORS.get(operator, "")
        if not divisor:
            words += number(first)
        elif single or "." in first + divisor or int(first) >= int(divisor):
            words += f"{number(first)}除以{number(divisor)}"
        else:
            words += f"{cardinal(divisor)}分之{cardinal(first)}"
    return words


def _read_scientific(match: Match) -> str:
    mantissa = ascii_form(match["mantissa"])
    base = "十" if mantissa == "1" else f"{number(mantissa)}乘十"
    return base + power(ascii_form(match["exponent"]).lstrip("+"))


SUMS: tuple[Reading, ...] = (
    rule(
        "sum",
        DIGITS,
        f"{NUM}(?:{SP}{_OPERATOR}{SP}{NUM}){{1,8}}+{SP}(?=[=＝≈]|[)）]{SP}[=＝≈×÷*/^²³])"
        f"|(?<=[×÷*/=＝]{SP}[(（]){NUM}(?:{SP}{_OPERATOR}{SP}{NUM}){{1,8}}+(?=[)）])",
        _read_sum,
    ),
    rule(
        "scientific",
        DIGITS,
        f"(?<![A-Za-z])(?<mantissa>{NUM})[eE](?<exponent>[-+−]?{D}{{1,3}})(?![A-Za-z0-9])",
        _read_scientific,
    ),
)

# --- Ratios and scores -----------------------------------------------------------------------------------

_RATIO_BEFORE = (
    "(?<=(?:比分|比例|比率|比值|配比|总分|總分|赔率|杠杆|宽高比|长宽比|纵横比|性别比|之比|兑换率|[生女灰水油粉糖盐肉价亏损床菌氮]比)"
    f"[为為是约約以达到：:]{{0,2}}{SP})"
)
_WON = (
    "(?:战胜|戰勝|击败|擊敗|领先|領先|落后|落後|获胜|獲勝|取胜|取勝|战平|戰平|逆转|逆轉|险胜|大胜|完胜|力克|轻取|横扫|橫掃|不敌|不敵|负于|"
    "惜败|胜出|告负|赢|贏|淘汰|晋级|的比例|的比分)"
)


def _read_ratio(match: Match) -> str:
    parts = ascii_form(match["ratio"]).replace("-", ":").split(":")
    return "比".join(number(part) for part in parts)


FIGURES: tuple[Reading, ...] = (
    rule(
        "figure number",
        DIGITS,
        f"(?<=(?:图|圖|表|式|例|习题|附录|练习|公式){SP})(?<first>{D}{{1,3}})[-–](?<last>{D}{{1,3}}){END}",
        lambda match: f"{cardinal(match['first'])}杠{cardinal(match['last'])}",
    ),
)
RATIOS_BY_CUE: tuple[Reading, ...] = (
    rule(
        "ratio by what is before",
        DIGITS,
        f"{_RATIO_BEFORE}(?<ratio>{NUM}(?:(?:{COLON}|[-–—]){NUM}){{1,2}}){END}",
        _read_ratio,
    ),
    rule(
        "further score",
        DIGITS,
        f"(?<=(?:比分|总分|總分)[為为是：:]{{0,2}}{SP}[-0-9–—:：∶、，,\\s()（）]{{1,48}}[、，,\\s(（])"
        f"(?<ratio>{D}{{1,3}}(?:{COLON}|[-–—]){D}{{1,3}}){END}",
        _read_ratio,
    ),
    rule("score", DIGITS, f"(?<ratio>{D}{{1,3}}(?:{COLON}|[-–—]){D}{{1,3}})(?={SP}{_WON})", _read_ratio),
)
RATIOS: tuple[Reading, ...] = (
    rule("ratio", DIGITS, f"(?<ratio>{NUM}(?:{COLON}{NUM}){{1,3}}){END}", _read_ratio),
)

# --- Fractions -------------------------------------------------------------------------------------------

_VULGAR = {
    char: f"{bottom}分之{top}"
    for char, top, bottom in zip(
        "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", "一一二一三一二三四一五一三五七", "二三三四四五五五五六六八八八八", strict=True
    )
}


def _fraction(top: str, bottom: str) -> str | None:
    return f"{cardinal(bottom)}分之{cardinal(top)}" if int(bottom) else None


def _read_mixed_number(match: Match) -> str | None:
    part = _VULGAR[match["vulgar"]] if match["vulgar"] else _fraction(match["top"], match["bottom"])
    return part and f"{cardinal(match['whole'])}又{part}"


FRACTIONS: tuple[Reading, ...] = (
    rule(
        "around the clock",
        DIGITS,
        f"(?:24{SLASH}7|7[/／xX×*]24){END}(?<hours>(?={SP}小[时時]))?",
        lambda match: "七乘二十四" + ("小时" if match["hours"] is None else ""),
    ),
    rule(
        "either day",
        DIGITS,
        f"(?<first>{D}{{1,2}}){SLASH}(?<last>{D}{{1,2}})(?={SP}[月日号號])",
        lambda match: f"{cardinal(match['first'])}、{cardinal(match['last'])}",
    ),
    rule(
        "mixed number",
        DIGITS,
        f"(?<whole>{D}{{1,3}})(?:{SP}(?<vulgar>[{''.join(_VULGAR)}])"
        f"|[ \u00a0](?<top>{D}{{1,2}}){SLASH}(?<bottom>{D}{{1,3}})(?!{D}))",
        _read_mixed_number,
    ),
    rule(
        "fraction",
        DIGITS,
        f"(?<top>{D}{{1,4}}){SLASH}(?<bottom>{D}{{1,4}}){END}",
        lambda match: _fraction(match["top"], match["bottom"]),
    ),
)
VULGAR: tuple[Reading, ...] = (
    rule("vulgar fraction", _VULGAR, f"[{''.join(_VULGAR)}]", lambda match: _VULGAR[match[0]]),
)

# --- Groups of digits that are nothing more particular ---------------------------------------------------

_LONGEST_NUMBER = 12  # digits: a longer one without commas is a code
_NAMES = {"-": "杠", "/": "斜杠", ".": "点", ":": "比", ",": "，", "~": "到", "·": "", "•": "", "T": "T"}
_RESOLUTIONS = "640 720 800 1024 1080 1280 1366 1440 1600 1920 2048 2160 2560 2880 3840 4096 7680".split()


def read_plain(written: str) -> str:
    """A number by itself; leading zeros and great length make it a code."""
    plain = ascii_form(written)
    code = plain.isdigit() and ((plain[0] == "0" and len(plain) > 1) or len(plain) > _LONGEST_NUMBER)
    return digits(plain) if code else number(plain)


def read_group(written: str) -> str:
    """Groups of digits and what parts them, name by name: 2.0.1 二点零点一, 3-2-1 三二一."""
    parts = SEPARATORS.split(ascii_form(written))
    numbers, separators = parts[::2], parts[1::2]
    if set(separators) == {"."}:
        address = len(numbers) == 4
        return "点".join(digits(part) if address or len(part) > 2 else read_plain(part) for part in numbers)
    silent = set(separators) == {"-"} and all(len(part) == 1 for part in numbers)
    words = read_plain(numbers[0])
    for separator, part in zip(separators, numbers[1:], strict=True):
        after_point = separator == "." and len(part) > 1
        words += ("" if silent else _NAMES[separator]) + (digits(part) if after_point else read_plain(part))
    return words


def _read_range(match: Match) -> str:
    first, last = match["first"], match["last"]
    # What falls is a score.
    between = "比" if first.isdigit() and last.isdigit() and int(first) > int(last) else to(match)
    return number(first) + between + number(last)


# The first of all: it holds a group of digits back until it is complete, and reads nothing.
HOLD: tuple[Reading, ...] = (
    rule("incomplete", DIGITS, INCOMPLETE, lambda _: None),
    rule("incomplete amount", "$＄¥￥€£₩₹₽฿UHNACSRGEJ", INCOMPLETE_AMOUNT, lambda _: None),
)
GROUPS: tuple[Reading, ...] = (
    rule(
        "resolution",
        DIGITS,
        f"(?<wide>{'|'.join(_RESOLUTIONS)}|(?<=分辨率[是为為达達：:]?{SP}){D}{{3,4}}){SP}[x×*]{SP}(?<high>[0-9]{{3,4}})(?!{D})",
        lambda match: f"{digits(match['wide'])}乘{digits(match['high'])}",
    ),
    rule("range", DIGITS, f"(?<first>{NUM})(?<to>[-−–—－~～∼〜])(?<last>{NUM}){END}", _read_range),
    rule("number", DIGITS, f"{NUM}{END}", lambda match: read_plain(match[0])),
    rule("groups", DIGITS, GROUP, lambda match: read_group(match[0])),
    rule("long code", DIGITS, f"{D}{{41,250}}+(?!{D})", lambda match: digits(match[0])),
)

# --- Signs -----------------------------------------------------------------------------------------------

_DEGREES = "(?:℃|℉|[°˚º]\\s?[CF]|度|摄氏|攝氏|华氏|華氏)"
_SOME = "[0-9０-９零一二两兩三四五六七八九十百千万半]"
_UNITS_BEFORE = (
    "[%％‰℃℉°万萬亿億千百元块塊角月日号號时時点點分秒年天周週岁歲"
    "米斤克升度里吨人次件个個级級层層楼页頁届集期倍折位名]"
)
# A minus sign stands behind a mark or a word that a value follows (变成了-5, 返回-1, 10的-6次方); behind
# any other hanzi it is the hyphen of a name (神舟-12).
_NEGATIVE_AFTER = (
    "(?:(?<![^\\s(（\\[【,，:：;；、。!！?？=＝≈<>＜＞≤≥*/×÷+±\"“'‘~～到至"
    "为為是约約达達从從在以于於低高降升减減加乘除值得取余餘剩和与與或及即负超涨漲跌亏虧仅僅只还還又再才就都也"
    "了着著过過成有没沒将將把令使让讓给給比用写寫填选選的]|[0-9²³)）]\\s|(?<![A-Za-z])[A-Za-z]\\s)"
    "|(?<=[整负負常系得总總余餘][数數]|[金余餘总總]额|返回|索引|下标|下標|输入|輸入|输出|輸出|算出|求出|得出|解出|减去|減去|加上|乘上|扣掉|[两兩二三]根|利润|利潤|营收|收益))"
)
_NUMBER_AHEAD = f"{NUM}(?:(?:{TO}|{SLASH}){MINUS}?{NUM})?"

_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
        "阿尔法 贝塔 伽马 德尔塔 艾普西隆 泽塔 伊塔 西塔 约塔 卡帕 兰姆达 缪 纽 克西 派 柔 西格玛 陶 "
        "宇普西隆 斐 希 普西 欧米伽 伽马 德尔塔 西塔 兰姆达 克西 派 西格玛 斐 普西 欧米伽".split(),
        strict=True,
    )
)
_UNKNOWN = "(?<=[0-9A-Za-zα-ω)）²³][<>＜＞]=? ?)[A-Za-zα-ω](?![A-Za-z>])"
_NAMED_SIGNS = {
    "∠": "角",
    "△": "三角形",
    "⊙": "圆",
    "⊥": "垂直于",
    "∥": "平行于",
    "∵": "因为",
    "∴": "所以",
    "∈": "属于",
    "∉": "不属于",
    "∪": "并",
    "∩": "交",
    "≡": "恒等于",
    "∝": "正比于",
}
_LETTER_OR_NUMBER = "[0-9０-９A-Za-z)）\\]²³%％℃!]"


SIGNS_BETWEEN: tuple[Reading, ...] = (
    # Before "to": 今年1月-5.2%
    rule("minus a share", "-−–－", f"(?<={HAN}){MINUS}(?={_NUMBER_AHEAD}[%％])", "负"),
    # 128号-3 is a house and its part.
    rule("part of a house", "-–", f"(?<={D}[号號])[-–](?={D}{{1,4}}(?!{D}|{SP}[号號日楼樓栋棟]))", ""),
    # 10%-20%, 11月21日-25日, 5km~10km, $5-$10, 周一-周五
    rule(
        "to",
        "-−–—－~～∼〜",
        f"(?<=(?:{_SOME}{SP}{HAN}{{0,2}}{_UNITS_BEFORE}|[0-9]{SP}{LATIN_UNIT}|{SIGNS}[0-9.,]{{1,12}})[ ]?)"
        f"(?<![-—][-—－])[-−–—－~～∼〜]{SP}(?=[-+−]?{SIGNS}?{D}|[一二三四五六七八九十两](?=[月日号年点周季])|(?:公元)?前{SP}{D})",
        "到",
    ),
    rule("to a wage", "-–~～", f"(?<=[0-9][kKwW])[-–~～](?={D}{{1,4}}[kKwW](?![A-Za-z]))", "到"),
    rule("to the next day", "-−–—－~～", f"(?<={D}{COLON}{D}{{2}}{SP})[-−–—－~～](?={HAN})", "到"),
    rule("to another quarter", "-–~", "(?<=(?<![A-Za-z])[A-Z][0-9]{1,2})[-–~](?=[A-Z][0-9])", "到"),
    rule(
        "to a weekday",
        "-–—~～",
        "(?<=(?:周|週|星期|礼拜)[一二三四五六])[-–—~～](?=周|週|星期|礼拜|[一二三四五六日天])",
        "到",
    ),
    rule(
        "below zero",
        "-−–－",
        f"(?<![0-9０-９A-Za-z)）%％℃]){MINUS}(?={_NUMBER_AHEAD}{SP}{_DEGREES})",
        "零下",
    ),
    rule(
        "minus",
        "-−–－",
        f"{_NEGATIVE_AFTER}{MINUS}(?={SIGNS}?{SP}{D}|\\.{D}|π|∞|[A-Za-z](?<word>[A-Za-z])?)",
        lambda match: None if match["word"] else "负",
    ),
    rule(
        "less",
        "-−–－",
        f"(?<={_LETTER_OR_NUMBER}\\s){MINUS}\\s(?=[0-9(（])|(?<=[0-9)）²³]){MINUS}"
        f"(?=[(（√π]|[A-Za-z](?<word>[A-Za-z.])?)",
        lambda match: None if match["word"] else "减",
    ),
    rule(
        "less in a term",
        "-−–－",
        f"(?<=(?<![A-Za-z])[A-Za-z]|[²³)）]){MINUS}(?={D}{{1,6}}{SP}[=＝<>≤≥)）])"
        f"|(?<={VARIABLE}){MINUS}(?={D}{{1,6}}(?![A-Za-z0-9.．_–-]))",
        "减",
    ),
    rule("hyphen after a number", "-–", "(?<=[0-9])[-–](?=[A-Za-z])", " "),
    rule("hyphen before a number", "-–", f"(?<=[A-Za-z])[-–](?={D})", " "),
    rule("silent hyphen", "-–", f"(?<={HAN}|[)）])[-–](?={D})", ""),
    rule("plus sign", "+＋", f"(?<![0-9０-９A-Za-z)）²³%％+℃'\"”]{SP})[+＋](?={SIGNS}?{D})", "正"),
    # Disney+, Apple TV+; Ctrl+C and 50+ are sums of a kind.
    rule("plus of a name", "+＋", "(?<=[A-Za-z]{2})[+＋](?![+＋])(?!\\s?[A-Za-z0-9(])", " plus"),
    rule("plus", "+＋", f"(?<={_LETTER_OR_NUMBER}{SP}|[A-Za-z]\\+|{HAN}{SP})[+＋]", "加"),
    rule("times", "×✕", f"(?<=[\\w)）²³%％]{SP})[×✕]{SP}(?=[-−\\w(（√])", "乘"),
    rule("times in digits", "xX*", f"(?<={D}{SP})(?<!(?<![0-9])0)[xX*]{SP}(?={D})", "乘"),
    rule("divided", "÷", f"÷{SP}", "除以"),
    rule("equals", "=＝", f"(?<=[^\\s=<>!＜＞＝]{SP})[=＝]{SP}(?=[-−+\\w(（√π$¥￥∠△⊙])", "等于"),
    rule("about", "≈≒", f"(?<=[\\w)）²³%％]{SP})[≈≒]{SP}", "约等于"),
    rule("roughly", "≈≒", f"[≈≒]{SP}", "约"),
    rule("roughly in digits", "~～∼", f"(?<![0-9０-９A-Za-z%％℃~～/]{SP})[~～∼](?={SIGNS}?{D})", "约"),
    rule("at most", "≤≦", f"[≤≦]{SP}", "小于等于"),
    rule("at least", "≥≧", f"[≥≧]{SP}", "大于等于"),
    rule("unequal", "≠", f"≠{SP}", "不等于"),
    rule(
        "at most in ASCII",
        "<＜",
        f"[<＜]=?{SP}(?=[-−]?{D}|{_UNKNOWN})",
        lambda match: "小于等于" if "=" in match[0] else "小于",
    ),
    rule(
        "at least in ASCII",
        ">＞",
        f"(?<![-=])[>＞]=?{SP}(?=[-−]?{D}|{_UNKNOWN})",
        lambda match: "大于等于" if "=" in match[0] else "大于",
    ),
    rule("step of a path", " >＞", f"(?<={HAN}|[”」】])[ ]?[>＞][ ]?(?={HAN}|[“「【])", "，"),
    rule("degrees", "°˚º", f"(?<={D})[°˚º]", "度"),
    rule(
        "minutes of arc", "′'", "(?<=[°˚º] ?[0-9.]{1,6})[′']|(?<=[0-9])′|(?<=[0-9])'(?=[0-5][0-9][\"″])", "分"
    ),
    rule("seconds of arc", '″"', "(?<=[′'] ?[0-9.]{1,8})[″\"]", "秒"),
    rule(
        "power",
        "^",
        "(?<=[0-9０-９A-Za-z)）])\\^\\(?(?<exponent>[-−]?[0-9]{1,40}|[a-z])\\)?",
        lambda match: power(ascii_form(match["exponent"])),
    ),
    rule(
        "power of two stars",
        "*",
        "(?<=[0-9A-Za-z)])\\*\\*(?<exponent>[0-9]{1,40})(?![0-9])",
        lambda match: power(match["exponent"]),
    ),
    rule(
        "power of ten",
        "⁰¹²³⁴⁵⁶⁷⁸⁹⁻",
        f"(?<=[×✕xX*·]{SP}10)⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]{{1,3}}",
        lambda match: f"的{signed(superscript(match[0]))}次方",
    ),
    rule(
        "superscript",
        "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ",
        "(?<=[0-9A-Za-zα-ωΑ-Ω)）])(?:⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}|ⁿ)",
        lambda match: power(superscript(match[0]).replace("ⁿ", "n")),
    ),
    rule("footnote", "¹²³⁴⁵⁶⁷⁸⁹", f"(?<={HAN}|[，。！？；”」』》])[⁰¹²³⁴⁵⁶⁷⁸⁹]{{1,3}}", ""),
    rule("subscript", "₀₁₂₃₄₅₆₇₈₉", "[₀₁₂₃₄₅₆₇₈₉]{1,4}", lambda match: digits(superscript(match[0]))),
    rule("to by an arrow", "→", f"(?<=[\\w)）]{SP})→{SP}(?=[\\w(（])", "到"),
    rule("and", "&＆", f"(?<={HAN}{SP})[&＆]{SP}(?={HAN})", "和"),
    rule(
        "Greek letter",
        _GREEK,
        f"(?<![\u0370-\u03ff])[{''.join(_GREEK)}](?![\u0370-\u03ff])",
        lambda match: _GREEK[match[0]],
    ),
    rule("plus or minus", "±", "±", "正负"),
    rule("root", "√", "√", "根号"),
    rule("rise", "↑", f"↑{SP}(?={SIGNS}?{D})|(?<=[0-9%％℃元点]{SP})↑", "上升"),
    rule("fall", "↓", f"↓{SP}(?={SIGNS}?{D})|(?<=[0-9%％℃元点]{SP})↓", "下降"),
    rule(
        "sign of geometry or logic",
        _NAMED_SIGNS,
        f"[{''.join(_NAMED_SIGNS)}]{SP}",
        lambda match: _NAMED_SIGNS[match[0][0]],
    ),
    rule("infinity", "∞", "∞", "无穷大"),
)
