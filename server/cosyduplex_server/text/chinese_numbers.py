"""Chinese words for numbers that are written in digits.

Every function takes what was written, full-width or not, and returns hanzi.
"""

from decimal import Decimal

# Written full-width, or with one of Unicode's many dashes.
_ASCII = str.maketrans("０１２３４５６７８９．，：∶／％＋－−–—～∼〜＝×✕⁺⁻", "0123456789.,::/%+----~~~=xx+-")
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻₀₁₂₃₄₅₆₇₈₉", "0123456789+-0123456789")

_DIGITS = "零一二三四五六七八九"
_LONGEST_CARDINAL = 16  # digits: up to 千万亿
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50}


def ascii_form(written: str) -> str:
    """The same with ASCII digits, marks and dashes."""
    return written.translate(_ASCII)


def digits(written: str, *, one: str = "一") -> str:
    """Digit by digit; `one` is "幺" where numbers are dictated."""
    names = _DIGITS.replace("一", one)
    return "".join(names[int(char)] for char in ascii_form(written) if char.isdigit())


def cardinal(written: str) -> str:
    """An integer: 12 十二, 10050 一万零五十, 22000 两万二千; digit by digit beyond 16 digits."""
    plain = ascii_form(written).replace(",", "").lstrip("0") or "0"
    if len(plain) > _LONGEST_CARDINAL:
        return digits(plain)
    words = _words(int(plain), leading=True)
    return words[1:] if words.startswith("一十") else words


def _words(value: int, *, leading: bool) -> str:
    """Zero is "零"; a two that a long number begins with is "两" before 千, 万 and 亿."""
    if value < 10_000:
        return _below_ten_thousand(value, leading=leading)
    size, unit = (10**8, "亿") if value >= 10**8 else (10**4, "万")
    head, tail = divmod(value, size)
    words = ("两" if leading and head == 2 else _words(head, leading=leading)) + unit
    if not tail:
        return words
    return words + ("零" if tail < size // 10 else "") + _words(tail, leading=False)


def _below_ten_thousand(value: int, *, leading: bool) -> str:
    if value < 10:
        return _DIGITS[value]
    words, gap = "", False
    for size, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // size % 10
        if not digit:
            gap = bool(words)
            continue
        two = leading and digit == 2 and size == 1000
        words += ("零" if gap else "") + ("两" if two else _DIGITS[digit]) + unit
        gap = False
    return words


def number(written: str) -> str:
    """An integer or a decimal: 3.14 三点一四, 1,234.5 一千二百三十四点五, .5 零点五."""
    whole, point, fraction = ascii_form(written).replace(",", "").partition(".")
    return cardinal(whole) + (f"点{digits(fraction)}" if point else "")


def counted(written: str) -> str:
    """A number of things: as `number`, but 2 is 两."""
    words = number(written)
    return "两" if words == "二" else words


def signed(written: str) -> str:
    """A number with its sign, if it has one: -5 负五, +5 正五."""
    plain = ascii_form(written)
    sign = {"-": "负", "+": "正"}.get(plain[0], "")
    return sign + number(plain.lstrip("+-"))


def scaled(written: str, factor: int) -> str:
    """The number times `factor`, in 万 or 亿 where it has as many: 1.5 times 10**9 is 十五亿."""
    value = Decimal(ascii_form(written).replace(",", "")) * factor
    for size, unit in ((10**8, "亿"), (10**4, "万")):
        if value >= size:
            return counted(_shortest(value / size)) + unit
    return counted(_shortest(value))


def _shortest(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def superscript(written: str) -> str:
    """Superscript or subscript digits as ordinary ones."""
    return written.translate(_SUPERSCRIPT)


def power(exponent: str) -> str:
    """What follows the base: 2 的平方, 3 的立方, -6 的负六次方."""
    if exponent in ("2", "3"):
        return "的平方" if exponent == "2" else "的立方"
    return f"的{signed(exponent) if exponent.lstrip('+-').isdigit() else exponent}次方"


def roman(written: str) -> int | None:
    """The value of a Roman numeral below 90; None when it is none in its usual form."""
    values = [_ROMAN[char] for char in written.upper()]
    pairs = zip(values, [*values[1:], 0], strict=True)
    value = sum(-this if this < after else this for this, after in pairs)
    return value if 0 < value < 90 and _to_roman(value) == written.upper() else None


def _to_roman(value: int) -> str:
    words = ""
    for size, letters in ((50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")):
        words += letters * (value // size)
        value %= size
    return words
