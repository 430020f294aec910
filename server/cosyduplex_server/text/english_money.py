"""English readings of money."""

from __future__ import annotations

import regex

from cosyduplex_server.text.english_form import (
    ATTRIBUTIVE,
    DASH,
    DIGITS,
    NUMBER,
    SPACE,
    WORD_END,
    WORD_START,
    first_of,
    one_of,
    reading,
)
from cosyduplex_server.text.english_numbers import cardinal, integer, is_one, number
from cosyduplex_server.text.english_units import CODES, SCALES, SYMBOLS, Currency

Match = regex.Match[str]

_GLUED_SCALE = one_of(scale for scale in SCALES if len(scale) <= 3)
_SCALE = rf"(?:{_GLUED_SCALE}|[ -](?:thousand|million|billion|trillion)|[ ](?:bn|mn|tn))"
_SIGN = "[" + "".join(symbol for symbol in SYMBOLS if len(symbol) == 1) + "]"
_LETTERED_SIGN = one_of(symbol for symbol in SYMBOLS if len(symbol) > 1)
_SYMBOL = f"(?:{_SIGN}|{WORD_START}{_LETTERED_SIGN})"
_CODE = one_of(CODES)


def _scale(written: str | None) -> str:
    return SCALES[written.strip(" -")] if written else ""


def _has_cents(written: str, currency: Currency) -> bool:
    return bool(currency.cent) and written[-3:-2] == "."


def _amount(written: str, scale: str, currency: Currency, *, attributive: bool) -> str:
    if scale:
        return f"{number(written)} {scale} {currency.name(one=attributive)}"
    if not _has_cents(written, currency):
        return f"{number(written)} {currency.name(one=attributive or is_one(written))}"
    whole, cents = written[:-3] or "0", int(written[-2:])
    parts: list[str] = []
    if whole != "0" or not cents:
        parts.append(f"{integer(whole)} {currency.name(one=attributive or is_one(whole))}")
    if cents:
        parts.append(f"{cardinal(cents)} {currency.cent if attributive or cents == 1 else currency.cents}")
    return " and ".join(parts)


def _currency(match: Match) -> Currency:
    """Of an amount with a symbol, a code, or both: the code says more."""
    groups = match.groupdict()
    code = groups.get("code")
    return CODES[code.strip()] if code else SYMBOLS[match["symbol"]]


def _money(match: Match) -> str:
    attributive = match.groupdict().get("attributive") is not None
    return _amount(match["n"], _scale(match["scale"]), _currency(match), attributive=attributive)


def _money_range(match: Match) -> str:
    currency, attributive = _currency(match), match["attributive"] is not None
    low, low_scale = match["low"], _scale(match["low_scale"])
    to = _amount(match["n"], _scale(match["scale"]), currency, attributive=attributive)
    if _has_cents(low, currency) or _has_cents(match["n"], currency):
        return f"{_amount(low, low_scale, currency, attributive=attributive)} to {to}"
    return " ".join(filter(None, (number(low), low_scale, "to", to)))


_AMOUNT = rf"(?P<n>{NUMBER})(?P<scale>{_SCALE})?"

MONEY = (
    reading(
        "money range",
        first_of(SYMBOLS),
        rf"{ATTRIBUTIVE}(?P<symbol>{_SYMBOL}){SPACE}?(?P<low>{NUMBER})(?P<low_scale>{_SCALE})?"
        rf"(?:{DASH}{_SYMBOL}?|{SPACE}{DASH}{SPACE}{_SYMBOL}){_AMOUNT}{WORD_END}",
        _money_range,
    ),
    reading(
        "money",
        first_of(SYMBOLS),
        rf"{ATTRIBUTIVE}(?P<symbol>{_SYMBOL}){SPACE}?{_AMOUNT}{WORD_END}(?P<code>{SPACE}?{_CODE}{WORD_END})?",
        _money,
    ),
    reading(
        "money after its code",
        first_of(CODES),
        rf"{WORD_START}{ATTRIBUTIVE}(?P<code>{_CODE}){SPACE}?{_AMOUNT}{WORD_END}",
        _money,
    ),
    reading(
        "money before its code",
        DIGITS,
        rf"{ATTRIBUTIVE}{_AMOUNT}{SPACE}?(?P<code>{_CODE}){WORD_END}",
        _money,
    ),
    reading(
        "money before its sign",
        DIGITS,
        rf"{_AMOUNT}{SPACE}?(?P<symbol>[€£₽₹₩]){WORD_END}",
        _money,
    ),
    reading(
        "price per count",
        "/",
        r"(?<=[$€£][0-9][0-9.,]{0,12}[kKMB]?)/(?=[0-9])",
        lambda match: "per",
    ),
)
