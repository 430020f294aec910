"""Numbers that name something, in Chinese: telephones, rooms, cards, codes, models, formulas, addresses.

They are read digit by digit. Where numbers are dictated (telephones, rooms, cards, registration plates,
whatever a word such as 验证码 announces) one is 幺; in names of models, trains, flights and roads it is 一.
"""

from __future__ import annotations

import regex

from cosyduplex_server.text.chinese_arithmetic import read_group
from cosyduplex_server.text.chinese_numbers import ascii_form, cardinal, digits, number, roman, superscript
from cosyduplex_server.text.chinese_written import (
    DIGITS,
    END,
    GROUP,
    HAN,
    LATIN,
    LATIN_UNIT,
    SEPARATORS,
    SIGNS,
    SP,
    VARIABLE,
    D,
    Match,
    rule,
)
from cosyduplex_server.text.reading import Reading

_DIGITS = regex.compile(f"{D}+")


def _dictated(match: Match) -> str:
    return digits(match[0], one="幺")


def _one_by_one(match: Match) -> str:
    return digits(match[0])


def _dictated_in_groups(match: Match) -> str:
    """A telephone or card number, whose groups stay apart."""
    groups = _DIGITS.findall(match[0])
    words = " ".join(digits(group, one="幺") for group in groups)
    return f"加{words}" if match[0][0] in "+＋" else words


# --- Telephones, cards -----------------------------------------------------------------------------------

_GAP = "[- \u00a0]"
_MOBILE = f"[1１][3-9３-９]{D}"
_CALL = (
    "(?<=(?:打|撥打|拨打|拨|撥|叫|电话|電話|报警|報警|热线|熱線|致电|致電|呼叫|联系|聯繫|咨询|诈骗|号码|專線|专线|短信|客服)"
    f'[了过過通到是为為：:“"]{{0,2}}{SP})'
)
_EMERGENCY = "(?:110|112|114|119|120|122|999|911)"
_HELP = "(?:查号|报警|報警|急救|火警|救护|救護|指挥中心|接警|出警|民警|電話|电话|热线|平台|消防|中心)"
_HOTLINE = "(?:热线|熱線|客服|短信|政务|便民|服务热线|服務熱線|电话|電話|官网|App|APP|网站|網站)"

TELEPHONES: tuple[Reading, ...] = (
    rule(
        "mobile telephone abroad",
        "+＋",
        f"[+＋](?:86{_GAP}?{_MOBILE}{_GAP}?{D}{{4}}{_GAP}?{D}{{4}}|{D}{{1,3}}(?:{_GAP}\\(?{D}{{2,8}}\\)?){{2,4}})(?!{D})",
        _dictated_in_groups,
    ),
    rule(
        "area code in brackets", "(（", f"[(（]0{D}{{2,3}}[)）]{_GAP}?{D}{{7,8}}(?!{D})", _dictated_in_groups
    ),
    rule(
        "telephone in groups",
        DIGITS,
        f"(?:{_MOBILE}{_GAP}{D}{{4}}{_GAP}{D}{{4}}|(?:1-)?{D}{{3}}-{D}{{3}}-{D}{{4}}|86-{D}{{2,3}}-{D}{{7,8}}"
        f"|0{D}{{2,3}}{_GAP}{D}{{3,4}}{_GAP}?{D}{{4}}(?:-{D}{{1,6}})?"
        f"|[48]00{_GAP}{D}{{3,4}}{_GAP}?{D}{{3,4}})(?!{D})",
        _dictated_in_groups,
    ),
    rule(
        "card in groups", DIGITS, f"{D}{{4}}(?: {D}{{4}}){{2,4}}(?: {D}{{1,3}})?(?!{D})", _dictated_in_groups
    ),
    rule(
        "emergency numbers",
        DIGITS,
        f"{_EMERGENCY}(?:/{_EMERGENCY}){{1,4}}{END}",
        lambda match: "、".join(digits(part, one="幺") for part in match[0].split("/")),
    ),
)

# --- After a word that announces them --------------------------------------------------------------------

_CODE_WORDS = (
    "(?:号码|號碼|密码|密碼|验证码|驗證碼|校验码|代码|代碼|编码|編碼|编号|編號|邮编|郵編|邮政编码|取件码|提取码|取货码|兑换码|邀请码|会议号|"
    "激活码|优惠码|识别码|識別碼|授权码|条形码|身份证|身份證|护照[号號]?|護照號?|银行卡|税号|稅號|流水号|合同号|抖音号|快手号|"
    "口令|QQ群?[号號]?|微信[号號]?|账号|帳號|账户|賬戶|卡号|卡號|单号|單號|学号|學號|工号|工號|尾号|尾號|证号|證號|车牌号?|手机号?|手機號?|电话|電話|"
    "传真|傳真|客服|分机|分機|转接|房间号|房號|房号|座机|序列号|版本号|批号|股票代码|ID|SN)"
)
CODES_BY_CUE: tuple[Reading, ...] = (
    rule(
        "digits after the point, by their place",
        DIGITS,
        f"(?<=小[数數][点點]?[后後]的?(?:前|第)?[0-9一二两兩三四五六七八九十几幾]{{1,2}}位[数數]?字?[是为為：:]{SP}){D}{{1,40}}{END}",
        _one_by_one,
    ),
    rule(
        "digits by their place",
        DIGITS,
        f"(?<=[前后後末][0-9一二两兩三四五六七八九十几幾]{{1,2}}位(?:[数數]字?|号码|號碼)?[是为為：:]{SP}){D}{{1,20}}{END}",
        _dictated,
    ),
    rule(
        "announced code",
        DIGITS,
        f'(?<={_CODE_WORDS}[为為是：:]?[“"]?{SP})'
        f"(?:{D}{{1,4}}(?:-{D}{{1,6}}){{2,4}}+|{D}{{3,4}}(?:\\s{D}{{3,4}}){{1,5}}+|{D}{{3,40}}(?:-{D}{{2,20}}){{0,4}}+){END}",
        _dictated_in_groups,
    ),
)

_ROOM_WORD = (
    "(?:室|房间|房間|号房|號房|房|教室|会议室|會議室|包厢|包间|包廂|办公室|辦公室|宿舍|寝室|号病房|病房|寢室)"
)
ROOMS: tuple[Reading, ...] = (
    rule("room", DIGITS, f"{D}{{3,4}}(?={SP}{_ROOM_WORD})", _dictated),
    rule(
        "room after a building",
        DIGITS,
        f"(?<=(?:单元|單元|号楼|號樓|栋|棟|幢|座){SP}){D}{{3,4}}{END}",
        _dictated,
    ),
    rule(
        "line, road or hospital",
        DIGITS,
        f"(?<![A-Za-z]){D}{{3,4}}(?={SP}(?:路公交|路车|路電車|路电车|路线|路末班|路首班|路|显卡|显示卡|中学|国道|國道|省道|县道|医院|航班|次航班|次列车|高地|工程))",
        _one_by_one,
    ),
)

_NAMES = {
    "360": "安全|浏览器|公司|集团|手机卫士|搜索",
    "315": "晚会|打假|曝光|消费者",
    "404": "错误|页面|not",
    "500": "错误",
    "502": "错误|胶",
    "520": "情人|表白|告白|礼物|当天|快乐",
    "58": "同城|到家",
    "618": "大促|购物|活动|期间|促销|年中|战报|当天",
    "911": "事件|恐怖袭击|恐袭|调查",
    "985": "工程|高校|院校|大学|名校|学校|毕业|本科|硕士|研究生|[、/和或与]211",
    "211": "工程|高校|院校|大学|名校|学校|毕业|本科|硕士|研究生|[、/和或与]985",
    "996": "工作制|加班|模式|[，。、是]",
    "1024": "程序员",
    "1688": "网|平台|批发|采购",
}
_DICTATED_NAMES = frozenset(("211",))
_HTTP_BEFORE = f"(?<=(?:状态码|錯誤碼|错误码|错误|HTTP|代码|返回){SP})"

_DAY_WORD = "(?:妇女节|婦女節|劳动节|勞動節|儿童节|兒童節|国庆|國慶|假期|黄金周|事变|青年节|植树节)"

NAMED: tuple[Reading, ...] = (
    rule(
        "hexadecimal",
        "0",
        "0[xX](?<digits>[0-9A-Fa-f]{1,16})(?![A-Za-z0-9])",
        lambda match: (
            "零X" + "".join(digits(char) or f" {char.upper()} " for char in match["digits"]).rstrip()
        ),
    ),
    rule("lines of a picture", DIGITS, "(?:480|720|1080|1440|2160)(?=[pPi])", _one_by_one),
    rule(
        "985/211",
        DIGITS,
        f"(?:(?<first>985|211)(?<and>[/、和或与]))?(?:(?<=[/、和或与])|(?=[92]))(?<last>985|211)"
        f"(?={SP}(?:{_NAMES['985'].replace('|[、/和或与]211', '')}))",
        lambda match: (
            "、".join(
                digits(part, one="幺" if part in _DICTATED_NAMES else "一")
                for part in (match["first"], match["last"])
                if part
            )
            if match["and"] in (None, "/", "、")
            else f"{digits(match['first'], one='幺')}{match['and']}{digits(match['last'], one='幺')}"
        ),
    ),
    rule(
        "well-known name",
        DIGITS,
        "(?:" + "|".join(f"{name}(?={SP}(?:{after}))" for name, after in _NAMES.items()) + ")",
        lambda match: digits(match[0], one="幺" if match[0] in _DICTATED_NAMES else "一"),
    ),
    rule(
        "address of a machine",
        DIGITS,
        f"(?<host>{D}{{1,3}}(?:\\.{D}{{1,3}}){{3}})(?::(?<port>{D}{{2,5}}))?+{END}",
        lambda match: (
            "点".join(digits(part) for part in match["host"].split("."))
            + (f"冒号{digits(match['port'])}" if match["port"] else "")
        ),
    ),
    rule(
        "port",
        DIGITS,
        f"(?:(?<=端口[号號]?[是为為：:]{{0,2}}{SP}){D}{{2,5}}{END}|{D}{{3,5}}(?={SP}[号號]?端口))",
        _one_by_one,
    ),
    rule("number before the hash key", DIGITS, f"{D}{{3,12}}(?=[#＃](?![\\w]))", _dictated),
    rule("status code", DIGITS, f"{_HTTP_BEFORE}[1-5]{D}{{2}}{END}", _one_by_one),
    rule("aeroplane", DIGITS, f"(?<=(?:波音|空客|空中客车|保时捷){SP}){D}{{3}}{END}", _one_by_one),
    rule(
        "weapon",
        DIGITS,
        f"(?<=(?:歼|轰|运|直|东风|红旗|巨浪|鹰击|长剑)[-－–]?){D}{{2}}{END}(?!{SP}[吨人名])",
        _one_by_one,
    ),
    rule(
        "day with a name",
        DIGITS,
        f"(?<month>1[0-2]|[1-9])[·•・](?<day>{D}{{1,2}}){END}",
        lambda match: (
            ("十" if match["month"] == "10" else digits(match["month"]))
            + ("十一" if match["month"] == match["day"] == "11" else digits(match["day"]))
        ),
    ),
    rule(
        "day with a name, by its point",
        DIGITS,
        f"(?<month>[1-9]|1[0-2])\\.(?<day>{D}{{1,2}})(?={SP}{_DAY_WORD})",
        lambda match: ("十" if match["month"] == "10" else digits(match["month"])) + digits(match["day"]),
    ),
    rule(
        "shopping day", DIGITS, f"11\\.11(?={SP}(?:购物|購物|大促|活动|活動|促销|狂欢|电商|预售))", "双十一"
    ),
)

SERVICES: tuple[Reading, ...] = (
    rule("emergency number", DIGITS, f"(?:{_CALL}{_EMERGENCY}{END}|{_EMERGENCY}(?={SP}{_HELP}))", _dictated),
    rule(
        "another emergency number",
        DIGITS,
        f"(?<=1[12][0-9]{SP}(?:、|或者?|和|与){SP}){_EMERGENCY}{END}",
        _dictated,
    ),
    rule("public hotline", DIGITS, f"(?:{_CALL}12345{END}|12345(?={SP}{_HOTLINE}))", _one_by_one),
    rule(
        "service number",
        DIGITS,
        f"(?:{_CALL}{D}{{4,8}}{END}|{D}{{4,8}}(?={SP}{_HOTLINE})|(?:10086|10010|12306|12315|955{D}{{2}}|[48]00{D}{{7}}){END})",
        _dictated,
    ),
    rule("mobile telephone", DIGITS, f"{_MOBILE}{D}{{8}}{END}", _dictated),
    rule(
        "identity card",
        DIGITS,
        f"[1-9]{D}{{16}}[Xx](?![0-9A-Za-z])",
        lambda match: digits(match[0], one="幺") + "X",
    ),
    rule("card", DIGITS, f"{D}{{15,19}}{END}", _dictated),
    rule("share code", DIGITS, f"{D}{{6}}(?=\\.(?:SH|SZ|SS|BJ))", _one_by_one),
    rule("extension", DIGITS, f"(?<={D}{{3}}转){D}{{1,6}}{END}", _dictated),
    rule("landline by its zero", DIGITS, f"0{D}{{9,11}}{END}", _dictated),
)

# --- Models, versions ------------------------------------------------------------------------------------

_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼使警学港澳滬遼蘇贛陝閩貴粵瓊雲"


_ROUND = regex.compile("[1-9](?:00|000)")
_BETWEEN_NUMBERS = regex.compile(f"(?!\\.){SEPARATORS.pattern}")


def _model_number(written: str) -> str:
    """15 十五, 100 一百, 919 九一九, 007 零零七."""
    whole, point, fraction = written.partition(".")
    if whole[0] == "0" or (len(whole) > 2 and not _ROUND.fullmatch(whole)):
        words = digits(whole)
    else:
        words = cardinal(whole)
    return words + (f"点{digits(fraction)}" if point else "")


def _read_model(match: Match) -> str:
    written = ascii_form(match[0])
    if written.count(".") > 1:
        return read_group(written)
    parts = _BETWEEN_NUMBERS.split(written)
    words = _model_number(parts[0])
    for separator, part in zip(parts[1::2], parts[2::2], strict=True):
        words += {"/": "、", "-": " ", "~": "到", ",": "，"}.get(separator, " ") + _model_number(part)
    return words


# Trains, flights and parcels are dictated, models are not: G幺零二次, CA幺二三四; C919 is 九一九.
_AIRLINES = "(?:CA|MU|CZ|HU|ZH|MF|SC|HO|FM|KN|JD|EU|GS|PN|TV|CX|KA|CI|BR|SQ|JL|NH|KE|OZ|LH|AF|EK|UA|3U|9C|8L)"
_TRAINS = "(?:次|列车|列車|号列车|高铁|高鐵|动车|動車)"

DICTATED_AFTER_LETTERS: tuple[Reading, ...] = (
    rule(
        "train",
        DIGITS,
        f"(?<=(?<![A-Za-z])[GDCZTKYS])(?:{D}{{1,4}}(?={SP}(?:[/／、和或与][GDCZTKYS]{D}{{1,4}}{SP})?{_TRAINS})"
        f"|(?<=(?:车次|車次|列车|列車|高铁|高鐵|动车|動車|火车|火車|乘坐|搭乘|换乘|改乘|[坐乘])[是为為：:]?{SP}[GDCZTKYS]){D}{{1,4}}{END}(?!{SP}[路线線号號区區出口航]))",
        _dictated,
    ),
    rule(
        "flight",
        DIGITS,
        f"(?:(?<=(?<![A-Za-z0-9]){_AIRLINES}{SP})(?:{D}{{4}}|{D}{{3}}(?={SP}(?:次|航班|起飞|起飛)))"
        f"|(?<=航班[号號]?[是为為：:]?{SP}[A-Z0-9]{{2}}{SP}){D}{{3,4}}){END}",
        _dictated,
    ),
    rule(
        "parcel",
        DIGITS,
        f"(?<=(?<![A-Za-z])[A-Za-z]{{1,6}})(?:(?<=[A-Z]{{2,4}}){D}{{8,20}}{END}"
        f"|(?<={_CODE_WORDS}[是为為：:]?{SP}[A-Za-z]{{1,6}}){D}{{4,20}}{END})",
        _dictated,
    ),
)

MODELS: tuple[Reading, ...] = (
    rule(
        "plate",
        DIGITS,
        f"(?<=[{_PROVINCES}][A-HJ-NP-Z][·•. -]?[A-HJ-NP-Z0-9]{{0,5}}){D}{{1,6}}{END}",
        _dictated,
    ),
    rule(
        "two digits said one by one",
        DIGITS,
        f"(?:(?<=(?<![A-Za-z])K?N)95|(?<=(?<![A-Za-z])IP)[56]{D}){END}",
        _one_by_one,
    ),
    rule(
        "number of a standard",
        DIGITS,
        f"(?<=(?<![A-Za-z])(?:GB(?:/T)?|ISO|IEC|ISBN|DIN|RFC)[ :：]?){D}+(?:-{D}+){{0,5}}+{END}",
        lambda match: "杠".join(digits(part) for part in match[0].split("-")),
    ),
    rule(
        "domain of digits",
        DIGITS,
        f"(?<=[@.]){D}{{1,20}}(?=\\.[A-Za-z])|{D}{{3,12}}(?=\\.(?:com|cn|net|org))",
        _one_by_one,
    ),
    rule(
        "one on one",
        DIGITS,
        f"(?<first>{D}{{1,2}})-?on-?(?<last>{D}{{1,2}})(?!{D})",
        lambda match: f"{cardinal(match['first'])}对{cardinal(match['last'])}",
    ),
    rule(
        "English ordinal",
        DIGITS,
        f"(?<number>{D}{{1,4}})(?:st|nd|rd|th)(?![A-Za-z])",
        lambda match: f"第{cardinal(match['number'])}",
    ),
    rule(
        "number less than a variable",
        DIGITS,
        f"(?<={VARIABLE}[-–]){D}{{1,6}}(?![A-Za-z0-9.．_–-])",
        lambda match: cardinal(match[0]),
    ),
    rule("model", DIGITS, f"(?<=[A-Za-z][-–_./]?)(?<!{D}{SP}{LATIN_UNIT}[-–/]){GROUP}", _read_model),
)
MODELS_AFTER_SPACE: tuple[Reading, ...] = (
    rule(
        "model after its name",
        DIGITS,
        f"(?<=[A-Za-z][0-9]{{0,2}}[ \u00a0]|(?:天玑|骁龙|麒麟|酷睿|锐龙){SP}){D}{{3,8}}{END}",
        _read_model,
    ),
)

# --- What begins with a Latin letter ---------------------------------------------------------------------

_ELEMENT = "(?:Na|Mg|Al|Si|Cl|Ca|Mn|Fe|Cu|Zn|Ag|Ba|Ti|Li|Br|Pb|[HCNOSPK])"
_SUB = "[2-9₀-₉][0-9₀-₉]?"
_ELEMENT_PARTS = regex.compile(f"({_ELEMENT})((?:[0-9₀-₉]{{1,2}})?)")
_URL_CHARS = "A-Za-z0-9\\-._~:/?#@!$&'*+,;=%"
_URL_NAMES = {
    ".": "点",
    "/": "斜杠",
    "-": "杠",
    "_": "下划线",
    ":": "冒号",
    "~": "波浪线",
    "@": " at ",
    "+": "加",
}
_ADDRESS_PARTS = regex.compile("[A-Za-z]+|[0-9]+|.")
_LONGEST_PATH = 40  # characters of it that a listener is told


def _read_formula(match: Match) -> str:
    tokens = _ELEMENT_PARTS.findall(match[0])
    return " ".join(
        part
        for symbol, count in tokens
        for part in (symbol, cardinal(superscript(count)) if count else "")
        if part
    )


def _before_query(address: str) -> str:
    return address.partition("?")[0].partition("#")[0]


def _read_url(match: Match) -> str:
    host, slash, path = match["address"].partition("/")
    path = _before_query(slash + path).rstrip("/")
    host = _before_query(host)
    spoken = host + (path if len(path) <= _LONGEST_PATH and "%" not in path else "")
    return _spell_address(spoken)


def _spell_address(address: str) -> str:
    """Its letters as they are, its digits one by one, its marks by name."""
    tokens = _ADDRESS_PARTS.findall(address)
    return "".join(
        digits(token) if token.isdigit() else token if token.isalpha() else _URL_NAMES.get(token, " ")
        for token in tokens
    )


def _read_roman(match: Match) -> str | None:
    written = match["roman"]
    value = roman(written)
    return cardinal(str(value)) if value and set(written) != {"X"} else None


_ROMAN_NOUNS = "(?:世|型|期|级|級|类|類|度|区|卷|部|章)"
_ROMAN_CHARS = "ⅠⅡⅢⅣⅤⅥⅦⅧⅨⅩⅪⅫⅰⅱⅲⅳⅴⅵⅶⅷⅸⅹⅺⅻ"
_LABEL = "[A-Za-z0-9]"

MAIL: tuple[Reading, ...] = (
    rule(
        "mail address",
        LATIN | DIGITS,
        f"(?<![A-Za-z0-9])[A-Za-z0-9](?:[A-Za-z0-9_+-]|\\.(?!\\.)){{0,63}}+@{_LABEL}{{1,40}}+(?:[.-]{_LABEL}{{1,40}}+){{1,6}}",
        lambda match: _spell_address(match[0]),
    ),
)

LATIN_WORDS: tuple[Reading, ...] = (
    rule(
        "between businesses",
        "BCGOPM",
        "(?<![A-Za-z0-9])(?<from>[BCGOPM])2(?<to>[BCGOMP])(?![A-Za-z0-9])",
        lambda match: f"{match['from']} to {match['to']}",
    ),
    rule(
        "chemical formula",
        "NMASCFZABTLPHOK",
        f"(?<![A-Za-z0-9])(?:[HONC]l?[23₂₃](?![A-Za-z0-9₀-₉])|(?={_ELEMENT}*{_SUB}|{_ELEMENT}{_SUB}){_ELEMENT}(?:{_SUB})?(?:{_ELEMENT}(?:{_SUB})?){{1,3}})(?![A-Za-z0-9₀-₉.-])",
        _read_formula,
    ),
    rule(
        "numero",
        "N",
        f"(?<![A-Za-z])N[oO]\\.{SP}(?<number>{D}{{1,4}}){END}",
        lambda match: f"第{cardinal(match['number'])}",
    ),
    rule("version", "vV", f"(?<![A-Za-z0-9])[vV](?={D})", "V"),
    rule(
        "URL",
        "hHw",
        f"(?<![A-Za-z0-9])(?:[hH]ttps?://|www\\.)(?<=(?<www>www\\.)|//)(?<address>[{_URL_CHARS}]{{0,200}}[A-Za-z0-9/_=&#-])",
        lambda match: ("www点" if match["www"] else "") + _read_url(match),
    ),
    rule("ordinal in Roman", "IVX", f"(?<=第{SP})(?<roman>[IVX]{{1,7}})(?![A-Za-z0-9])", _read_roman),
    rule(
        "Roman before a noun",
        "IVX",
        f"(?<![A-Za-z0-9])(?<roman>I|[IVX]{{2,7}})(?={SP}{_ROMAN_NOUNS})",
        _read_roman,
    ),
    rule(
        "Roman after a name",
        "IVX",
        f"(?<={HAN})(?<roman>II|III|VII|VIII|XII|XIII)(?![A-Za-z0-9])",
        _read_roman,
    ),
    # What English would read in one piece; its numbers and marks are read in Chinese.
    rule(
        "word before a number or mark",
        LATIN,
        f"(?<![A-Za-z0-9])(?:(?:[A-Za-z]{{1,32}}-){{0,3}}[A-Za-z]{{1,32}}+(?=[-–_]?{D}|\\+)"
        f"|[A-Za-z](?=\\.{D})|(?!Ph\\.)[A-Za-z]{{2,32}}+(?=\\.[A-Za-z]))",
        lambda match: match[0].replace("-", " "),
    ),
    rule(
        "Roman numeral",
        _ROMAN_CHARS,
        f"[{_ROMAN_CHARS}]",
        lambda match: cardinal(str(_ROMAN_CHARS.index(match[0]) % 12 + 1)),
    ),
)

# --- Marks within addresses and names --------------------------------------------------------------------

_PER_BEFORE = (
    f"(?<={SIGNS}[0-9.,]{{1,12}}|{SIGNS}[-0-9.,~～至到]{{1,16}}[十百千]?[万萬亿億]|[米克斤吨升元块角里公时時天年月次人位度卡]"
    f"|[0-9]{SP}(?:kcal|kJ|kg|g|km|m|L|ml|h|s|GB|MB|kWh)|美元|欧元|英镑)"
)
_PATH_BEFORE = (
    "(?<=(?:\\.(?:com|cn|net|org|io|edu|gov|me|cc|ai|dev)|(?<![A-Za-z0-9])/[A-Za-z0-9_.-]{1,30})"
    "(?:/[A-Za-z0-9_.-]{1,30}){0,4})"
)

MARKS: tuple[Reading, ...] = (
    # Node.js, example.com, main.py; not e.g. or U.S. or an end.Start without its space.
    rule(
        "dot",
        ".",
        f"(?<={_LABEL}{{2}}|[-.@/_]{_LABEL})\\.(?=[a-z]{{2}}|[A-Z]{{2}}|[a-z](?<word>[a-z.])?)",
        lambda match: None if match["word"] == "." else "点",
    ),
    rule("dot before a number", ".", f"(?<=(?<![A-Za-z])[A-Za-z])\\.(?={D})", "点"),
    rule("dot before a name", ".", "(?<![A-Za-z0-9.．/])\\.(?=[A-Z]{2}|[a-z]{2})", "点"),
    rule(
        "decimal without its zero",
        ".",
        f"(?<![0-9A-Za-z.．])\\.(?<fraction>{D}{{1,20}})(?![0-9A-Za-z])",
        lambda match: number("0." + match["fraction"]),
    ),
    rule("at", "@", f"(?<={_LABEL})@(?={_LABEL})", " at "),
    rule("underscore", "_", f"(?<={_LABEL})_(?={_LABEL})", "下划线"),
    rule("per", "/／", f"{_PER_BEFORE}[/／](?={HAN}|㎡)", "每"),
    rule("slash in a path", "/", f"{_PATH_BEFORE}/(?=[\\w])", "斜杠"),
    rule("slash before a path", "/", "(?<![A-Za-z0-9/:<.])/(?=[a-z]{2}[A-Za-z0-9._-]{0,30}/)", "斜杠"),
    rule("slash between sizes", "/／", f"(?<=[0-9]{SP}[KMGT]B)[/／](?={D})", "，"),
    rule("slash between words", "/／", "(?<=[A-Za-z0-9])[/／](?=[A-Za-z])|(?<=[A-Za-z])[/／](?=[0-9])", " "),
    rule("slash between shares", "/／", f"(?<=[%％℃℉])[/／](?=[-+−]|{D}|{HAN})", "，"),
    rule("star key", "*", f"[*](?={D}{{2,6}}[#＃])", "星号"),
    rule("hash key behind a star", "#＃", f"(?<=[*]{D}{{2,20}})[#＃]", "井号"),
    rule("number sign", "#＃", f"(?<={D})[#＃](?=(?!键|鍵){HAN})", "号"),
    rule("hash key behind a number", "#＃", f"(?<={D})[#＃](?![\\w])", "井号"),
    rule("hash key", "#＃", "[#＃](?=键|鍵)", "井号"),
    rule("hash key by its name", "#＃", "[#＃](?=[号號])", "井"),
    rule("sharp", "#", "(?<=(?<![A-Za-z])[CF])#", " sharp"),
    rule("topic", "#＃", f"(?<![A-Za-z#])[#＃](?=[\\w])|(?<={HAN}|[。！？!?])[#＃](?!#)", ""),
    rule("slash between dates", "/／", f"(?<=[月日号號年周])[/／](?={D}{{1,4}}[月日号號年周])", "，"),
    rule("and or", "/／", "(?<=和)[/／](?=或)", ""),
    rule("slash between hanzi", "/／", f"(?<={HAN})[/／](?={HAN})", "，"),
    rule("interpunct in a plate", "·•", f"(?<=[{_PROVINCES}][A-HJ-NP-Z])[·•](?=[A-Z0-9])", ""),
    rule("and between letters", "&", f"(?<={_LABEL})&(?={_LABEL})", " and "),
)
