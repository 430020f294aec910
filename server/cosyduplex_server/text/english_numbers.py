"""Numbers as English words, the American way: "one hundred twenty three", without "and" and hyphens."""

import regex

_BELOW_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen".split()
)
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ("", " thousand", " million", " billion", " trillion", " quadrillion")
# Longer digit strings are read digit by digit.
_LONGEST_CARDINAL = 3 * len(_SCALES)
# Without commas, a number this long is a code of some kind, unless it is a round one.
_LONGEST_BARE_CARDINAL = 9

_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_DENOMINATORS = {2: ("half", "halves"), 4: ("quarter", "quarters")}
_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
_ROMAN = regex.compile("(?=[IVXLC])C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")


def spell(digits: str) -> str:
    """The digits one by one."""
    return " ".join(_BELOW_TWENTY[int(digit)] for digit in digits)


def spell_groups(digits: str) -> str:
    """The digits one by one, with a pause after every third or fourth of a long string."""
    groups: list[str] = []
    rest = digits
    while len(rest) > 5:
        size = 4 if len(rest) % 4 == 0 else 3  # 3-3-4, 3-4-4: as phone numbers are
        groups.append(rest[:size])
        rest = rest[size:]
    return ", ".join(map(spell, [*groups, rest]))


def _below_hundred(number: int) -> str:
    if number < 20:
        return _BELOW_TWENTY[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens] + (f" {_BELOW_TWENTY[ones]}" if ones else "")


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    if not hundreds:
        return _below_hundred(rest)
    return f"{_BELOW_TWENTY[hundreds]} hundred" + (f" {_below_hundred(rest)}" if rest else "")


def cardinal(number: int) -> str:
    """A count, up to hundreds of quadrillions; digit by digit beyond."""
    if number < 1000:
        return _below_thousand(number)
    if number >= 10**_LONGEST_CARDINAL:
        return spell(str(number))
    groups: list[str] = []
    for scale in _SCALES:
        number, group = divmod(number, 1000)
        if group:
            groups.append(_below_thousand(group) + scale)
    return " ".join(reversed(groups))


def integer(written: str) -> str:
    """Digits as they are written: a count, with or without commas, or digits where no count is written so."""
    digits = written.replace(",", "")
    if digits != written:
        return cardinal(int(digits))
    if len(digits) > 1 and digits[0] == "0":
        return spell_groups(digits)
    if len(digits) > _LONGEST_CARDINAL or (
        len(digits) > _LONGEST_BARE_CARDINAL and not digits.endswith("00000")
    ):
        return spell_groups(digits)
    return cardinal(int(digits))


def number(written: str) -> str:
    """An integer or a decimal: "1,234.56", ".5"."""
    whole, point, fraction = written.partition(".")
    if not point:
        return integer(whole)
    return f"{integer(whole)} point {spell(fraction)}" if whole else f"point {spell(fraction)}"


def is_one(written: str) -> bool:
    """Whether what is counted stands in the singular."""
    return written == "1"


def ordinal(number: int) -> str:
    """A place in an order: "twenty first"."""
    head, space, last = cardinal(number).rpartition(" ")
    if last in _ORDINALS:
        last = _ORDINALS[last]
    elif last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last += "th"
    return head + space + last


def plural_of_tens(number: int) -> str:
    """A decade: "nineties" of 90, "tens" of 10."""
    name = _below_hundred(number)
    return name[:-1] + "ies" if name.endswith("y") else name + "s"


def year(number: int) -> str:
    """A year of four digits: "nineteen eighty four", "two thousand five", "nineteen hundred"."""
    century, rest = divmod(number, 100)
    if century % 10 == 0 and rest < 10:
        return cardinal(number)
    return paired(str(number))


def decade(number: int) -> str:
    """The years from one that ends in zero: "nineteen nineties", "two thousands"."""
    century, tens = divmod(number, 100)
    return f"{cardinal(century)} {plural_of_tens(tens)}" if tens else f"{year(number)}s"


def paired(digits: str) -> str:
    """Three or four digits as the numbers of houses, flights and models are said: "seven forty seven"."""
    head, rest = int(digits[:-2]), int(digits[-2:])
    if len(digits) == 4 and digits[1:3] == "00":
        return cardinal(int(digits))
    if not rest:
        return f"{_below_hundred(head)} hundred"
    tail = f"oh {_BELOW_TWENTY[rest]}" if rest < 10 else _below_hundred(rest)
    return f"{_below_hundred(head)} {tail}"


def label(digits: str) -> str:
    """Digits that name, as in "H.264": short ones as a number, others in pairs or one by one."""
    if digits[0] == "0" and len(digits) > 1:
        return spell(digits)
    if len(digits) <= 2 or digits.endswith("000") or (len(digits) == 5 and digits.endswith("00")):
        return integer(digits)
    return paired(digits) if len(digits) <= 4 else spell_groups(digits)


def fraction(numerator: int, denominator: int) -> str | None:
    """A common fraction: "two thirds"; None where no one would say it so."""
    if denominator < 2 or (denominator > 20 and denominator not in (32, 64, 100, 1000)):
        return None
    one, many = _DENOMINATORS.get(denominator, (ordinal(denominator), ordinal(denominator) + "s"))
    return f"{cardinal(numerator)} {one if numerator == 1 else many}"


def power(exponent: str) -> str:
    """What is said after a base: "squared", "to the power of minus three"."""
    if exponent in ("2", "3"):
        return "squared" if exponent == "2" else "cubed"
    minus = exponent.startswith("-")
    word = exponent.removeprefix("-")
    word = number(word) if word[0].isdigit() else word
    return f"to the power of {'minus ' if minus else ''}{word}"


def roman(numeral: str) -> int | None:
    """The value of a Roman numeral up to 399; None when it is none."""
    if not _ROMAN.fullmatch(numeral):
        return None
    values = [_ROMAN_DIGITS[char] for char in numeral]
    following = [*values[1:], 0]
    return sum(-value if value < after else value for value, after in zip(values, following, strict=True))
