"""English readings of digits that name rather than count: phone and card numbers, codes, hashes."""

from __future__ import annotations

import regex

from cosyduplex_server.text.english_form import DIGITS, LETTERS, WORD_END, WORD_START, one_of, reading
from cosyduplex_server.text.english_numbers import cardinal, integer, label, spell, spell_groups

Match = regex.Match[str]

_HEX = "[0-9A-Fa-f]"
_NO_LONGER = rf"{WORD_END}(?![-.,][0-9])"


def spell_out(written: str) -> str:
    """Letters and digits one by one."""
    return " ".join(spell(char) if char.isdigit() else char.upper() for char in written)


# --- Phone and card numbers: digit by digit, with a pause between groups

_FREE_CALLS = frozenset(("800", "900"))


_GROUPS = regex.compile("[0-9]+|[A-Z]{2,}")
_WORDS = regex.compile("[0-9A-Za-z]+")


def _group(written: str) -> str:
    if written.isalpha():
        return written.capitalize()
    return cardinal(int(written)) if written in _FREE_CALLS else spell_groups(written)


def _groups(match: Match) -> str:
    said = ", ".join(map(_group, _GROUPS.findall(match[0])))
    return f"plus {said}" if match[0].startswith("+") else said


def _short_phone(match: Match) -> str | None:
    """555-1234; but 500-1000 is a range."""
    return None if match["first"][-1] == match["last"][-1] == "0" else _groups(match)


_PHONES = (
    reading(
        "phone number",
        "+",
        r"(?<![\w+])\+[0-9]{1,3}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?[0-9]{2,5}(?:[ .-]?[0-9]{2,4}){1,4}"
        + _NO_LONGER,
        _groups,
    ),
    reading(
        "phone number",
        DIGITS | {"("},
        r"(?:1[-. ])?\([0-9]{3}\)[ -]?[0-9]{3}[-. ][0-9]{4}" + _NO_LONGER,
        _groups,
    ),
    reading(
        "phone number",
        DIGITS,
        r"(?:(?:1[-. ])?[0-9]{3}(?P<sep>[-. ])[0-9]{3}(?P=sep)[0-9]{4}"
        r"|[0-9]{2,4}-[0-9]{3,4}-[0-9]{4}|0[0-9]{2,3}-[0-9]{6,8}|[0-9]{3}-[0-9]{2}-[0-9]{4}"
        r"|1-8[0-9]{2}-[A-Z]{3}(?:-?[A-Z]{2,4}|-[0-9]{4}))" + _NO_LONGER,
        _groups,
    ),
    reading(
        "phone number",
        DIGITS,
        rf"(?P<first>[2-9][0-9]{{2}})-(?P<last>[0-9]{{4}}){WORD_END}(?![-.,/][0-9])",
        _short_phone,
    ),
    reading(
        "card number",
        DIGITS,
        r"(?:[0-9]{4}(?P<sep>[ -])[0-9]{4}(?:(?P=sep)[0-9]{4}){1,4}|[0-9]{4}[ -][0-9]{6}[ -][0-9]{5}"
        rf"|[0-9]{{3,4}}(?: [0-9]{{3,4}}){{1,4}} [0-9]{{4}}){WORD_END}(?![-.,/ ][0-9])",
        _groups,
    ),
    reading(
        "number to call",
        DIGITS,
        r"(?<=\b(?:[Cc]all|[Dd]ial|[Cc]alling|[Dd]ialing) )[0-9]{3,6}"
        rf"{WORD_END}(?![-.,:/][0-9])(?! [a-z]+s{WORD_END})",
        lambda match: spell_groups(match[0]),
    ),
)

# --- Codes

_CODE_WORDS = "code Code PIN pin ZIP zip OTP passcode Passcode password Password ID id".split()
# These need "number" or a sign behind: "order 2000 chairs" counts.
_NUMBERED = (
    "account order tracking confirmation reference serial invoice ticket case routing booking phone card "
    "member"
).split()
_NUMBERED += [word.capitalize() for word in _NUMBERED]
_BEFORE_CODE = (
    rf"\b(?:{one_of(_CODE_WORDS)}(?: is)?[:=]? ?#?"
    rf"|{one_of(_NUMBERED)}(?: (?:number|Number|[Nn]o\.|ID|id)(?: is)?:? ?#?| ?[:#] ?#?))"
)
_PAIRED = (
    "Boeing Airbus Route Highway Hwy Interstate flight Flight room Room suite Suite gate Gate bus Bus Area "
    "error Error HTTP status Status code Code RTX GTX RX Radeon GeForce Ryzen ISO RFC IEEE Porsche Peugeot "
    "Nokia apartment Apartment Apt channel Channel line Line"
).split()
_STREETS = (
    "St Ave Blvd Rd Dr Ln Ct Pl Hwy Pkwy Street Avenue Boulevard Road Drive Lane Court Place Highway "
    "Parkway Square Way"
).split()


def _has_both(written: str) -> bool:
    return any(char.isdigit() for char in written) and any(char.isalpha() for char in written)


def _spelled(match: Match) -> str:
    return ", ".join(map(spell_out, _WORDS.findall(match[0])))


def _hash(match: Match) -> str | None:
    is_hash = match[0].startswith("0x") or (7 <= len(match[0]) <= 64 and _has_both(match[0]))
    return spell_out(match[0]) if is_hash else None


def _color(match: Match) -> str | None:
    """#FF5733; but #123456 is a number and #cafe a word."""
    is_color = _has_both(match["hex"]) or match["hex"].lower() in ("fff", "ffffff")
    return f"hash {spell_out(match['hex'])}" if is_color else None


def _network_address(match: Match) -> str | None:
    parts = match.captures("part")
    if any(int(part) > 255 for part in parts):
        return None
    said = " dot ".join(map(spell, parts))
    if match["port"]:
        return f"{said} port {label(match['port'])}"
    return f"{said} slash {integer(match['mask'])}" if match["mask"] else said


_CODES = (
    reading(
        "code",
        DIGITS,
        rf"(?<={_BEFORE_CODE})[0-9]{{4,}}+{WORD_END}(?![-.,:/][0-9])",
        lambda match: spell_groups(match[0]),
    ),
    reading(
        "hardware address",
        DIGITS | LETTERS,
        rf"{WORD_START}{_HEX}{{2}}(?P<sep>[:-]){_HEX}{{2}}(?:(?P=sep){_HEX}{{2}}){{4,6}}{WORD_END}",
        _spelled,
    ),
    reading(
        "universal id",
        DIGITS | frozenset("abcdefABCDEF"),
        rf"{WORD_START}{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}{WORD_END}",
        _spelled,
    ),
    reading(
        "hash",
        DIGITS | frozenset("abcdef"),
        rf"{WORD_START}(?:0x{_HEX}{{1,40}}+|(?:[0-9]{{2,40}}+[a-f]|[a-f]{{1,40}}+[0-9])(?>[0-9a-f]{{1,62}})){WORD_END}",
        _hash,
    ),
    reading(
        "network address",
        DIGITS,
        r"(?P<part>[0-9]{1,3})(?:\.(?P<part>[0-9]{1,3})){3}(?:/(?P<mask>[0-9]{1,2})|:(?P<port>[0-9]{2,5}))?"
        rf"{WORD_END}(?![-./:]?[0-9])",
        _network_address,
    ),
    reading(
        "number of a thing",
        DIGITS,
        rf"(?<=\b(?:{one_of(_PAIRED)}|[Ff]light [A-Z]{{2}}) )[0-9]{{3,4}}(?:-[0-9]{{3}})?"
        rf"{WORD_END}(?![.,:/-][0-9])",
        lambda match: " ".join(map(label, match[0].split("-"))),
    ),
    reading(
        "postal code",
        DIGITS,
        rf"(?<=, [A-Z]{{2}} )[0-9]{{5}}(?:-[0-9]{{4}})?{WORD_END}",
        _groups,
    ),
    reading(
        "house number",
        DIGITS,
        rf"[0-9]{{3,4}}(?= (?:[NSEW]\.? )?(?:[A-Z][a-z]+ ){{1,2}}{one_of(_STREETS)}{WORD_END})",
        lambda match: label(match[0]),
    ),
    reading("color", "#", rf"#(?P<hex>{_HEX}{{6}}|{_HEX}{{3}}){WORD_END}", _color),
    reading("number sign", "#№", r"(?<![\w&])[#№] ?(?=[0-9])", lambda match: "number"),
)

CODES = (*_PHONES, *_CODES)
