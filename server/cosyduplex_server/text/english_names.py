"""English readings of versions and of names with digits in them."""

from __future__ import annotations

import regex

from cosyduplex_server.text.english_codes import spell_out
from cosyduplex_server.text.english_form import DIGITS, LETTERS, WORD_END, WORD_START, one_of, reading
from cosyduplex_server.text.english_numbers import decade, label, ordinal, plural_of_tens, spell, year

Match = regex.Match[str]

_PARTS = regex.compile(r"[0-9]+(?:\.[0-9]+)+|[0-9]+|[^\W\d_]+|[^\w]|_")
_CHANGES = regex.compile("[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])")
_NO_LETTER_OR_DIGIT = regex.compile("[^0-9A-Za-z]")
_POINT = regex.compile(r"\.(?=[0-9])")
_SUFFIXES = frozenset(("st", "nd", "rd", "th"))
_BEFORE_YEARS = frozenset("mid pre post late early Mid Pre Post Late Early".split())
_SIGNS = {"-": "", "_": "", ".": "dot", "+": "plus"}
# With more changes between letters and digits it is no name any more.
_MOST_CHANGES = 3


def name_words(written: str) -> str:
    """Letters, digits and the signs between them, the digits as one says them: "GPT four o"."""
    parts = _PARTS.findall(written)
    said: list[str] = []
    at = 0
    while at < len(parts):
        part, after = parts[at], parts[at + 1] if at + 1 < len(parts) else ""
        if part[0].isdigit():
            words, num_parts = _digits(part, after, parts[at - 2] if at > 1 else "")
            said.append(words)
            at += num_parts
            continue
        if after[:1].isdigit():
            if part == "-" and at and parts[at - 1][0].isdigit():
                said[-1] += ","  # "Llama-3.1-8B" is not 3.18
            if part == ".":
                part = "-"  # "H.264"
        said.append(_SIGNS.get(part, part))
        at += 1
    return " ".join(filter(None, said))


def _digits(part: str, after: str, before: str) -> tuple[str, int]:
    """What is said of digits in a name, and how many of its parts that takes."""
    if "." in part:
        return _version(part), 1
    if after in _SUFFIXES:
        return ordinal(int(part)), 2
    if after == "s" and part[-1] == "0" and len(part) in (2, 4):
        return plural_of_tens(int(part)) if len(part) == 2 else decade(int(part)), 2
    is_year = len(part) == 4 and before in _BEFORE_YEARS
    return year(int(part)) if is_year else label(part), 1


def _version(digits: str) -> str:
    """Numbers with points between; a number with a zero in front digit by digit."""
    return " point ".join(map(label, digits.split(".")))


def _named(match: Match) -> str:
    changes = _CHANGES.findall(match[0])
    if len(changes) > _MOST_CHANGES:
        return spell_out(_NO_LETTER_OR_DIGIT.sub("", match[0]))
    return name_words(match[0])


# --- Versions

_SOFTWARE = (
    "Python Node Node.js PyTorch TensorFlow CUDA Java PHP Ruby Go Rust Ubuntu Debian Fedora iOS iPadOS "
    "Android macOS Windows Linux kernel Kernel version Version versions Versions release Release Chrome "
    "Firefox Safari Django Rails Swift Kotlin Angular React Vue PostgreSQL Postgres MySQL Redis Docker "
    "Kubernetes Git GCC Clang LLVM Unity Blender Bluetooth USB HDMI TLS SSL HTTP OpenGL Vulkan DirectX "
    "ECMAScript TypeScript Terraform Elasticsearch Spark Kafka Scala Perl Lua .NET"
).split()
_TAIL = r"(?P<tail>[-+_.]?[A-Za-z](?>[A-Za-z0-9]{0,40})(?:[-.+_](?>[A-Za-z0-9]{1,40})){0,5})?"
_VERSION_END = rf"{_TAIL}{WORD_END}(?!\.[0-9])"


def _version_words(match: Match) -> str:
    tail = _POINT.sub("-", (match["tail"] or "").lstrip("-+_."))
    return f"{_version(match['n'])} {name_words(tail)}".rstrip()


def _marked_version(match: Match) -> str:
    is_letter = match["v"] == "V" and "." not in match["n"]
    return f"{'V' if is_letter else 'version'} {_version_words(match)}"


_VERSIONS = (
    reading(
        "version",
        "vV",
        rf"{WORD_START}(?P<v>[vV])\.? ?(?P<n>(?>[0-9]{{1,8}})(?:\.(?>[0-9]{{1,8}})){{0,4}}){_VERSION_END}",
        _marked_version,
    ),
    reading(
        "version without a v",
        DIGITS,
        rf"(?P<n>(?>[0-9]{{1,8}})(?:\.(?>[0-9]{{1,8}})){{2,4}}){_VERSION_END}",
        _version_words,
    ),
    reading(
        "version of software",
        DIGITS,
        rf"(?<=\b{one_of(_SOFTWARE)} )(?P<n>(?>[0-9]{{1,8}})\.(?>[0-9]{{1,8}})){_VERSION_END}",
        _version_words,
    ),
)

# --- Names

_LANGUAGES = {
    "C#": "C sharp",
    "F#": "F sharp",
    "C++": "C plus plus",
    "G++": "G plus plus",
    "g++": "G plus plus",
}
_FORMULAS = {
    written: formula
    for formula in "CO2 H2O H2O2 CH4 NO2 O2 N2O H2SO4".split()
    for written in (formula, formula.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")))
}
# Not from within another name.
_START = rf"{WORD_START}(?<![A-Za-z][-_])"
_REST = rf"(?:(?:[-_]|\.(?=[0-9])|(?<=[0-9])\.)(?>[A-Za-z0-9]{{1,40}})){{0,8}}{WORD_END}"

_NAMES = (
    reading(
        "programming language",
        "CFGg",
        rf"{WORD_START}{one_of(_LANGUAGES)}{WORD_END}",
        lambda match: _LANGUAGES[match[0]],
    ),
    reading(
        "chemical formula",
        "CHNO",
        rf"{WORD_START}{one_of(_FORMULAS)}{WORD_END}",
        lambda match: " ".join(spell(char) if char.isdigit() else char for char in _FORMULAS[match[0]]),
    ),
    reading(
        "between businesses",
        "BCDGMOP",
        rf"{WORD_START}(?P<from>[BCDGMOP])2(?P<to>[BCGMOP]){WORD_END}",
        lambda match: f"{match['from']} to {match['to']}",
    ),
    reading(
        "name with digits",
        LETTERS,
        rf"{_START}(?=[A-Za-z]{{1,40}}+(?:[-_][A-Za-z]{{1,40}}+){{0,5}}[-._]?[0-9])(?>[A-Za-z0-9]{{1,40}}){_REST}",
        _named,
    ),
    reading(
        "number with letters",
        DIGITS,
        rf"{_START}[0-9]{{1,6}}(?!x[0-9])[A-Za-z](?>[A-Za-z0-9]{{0,40}}){_REST}",
        _named,
    ),
    reading(
        "name with underscores",
        LETTERS | {"_"},
        rf"{WORD_START}(?<!\w[.-])_{{0,2}}(?>[A-Za-z]{{1,40}})(?:_{{1,2}}(?>[A-Za-z0-9]{{1,40}})){{1,12}}_{{0,2}}{WORD_END}",
        lambda match: name_words(match[0]),
    ),
    reading(
        "hashtag",
        "#",
        rf"(?<![\w&/])#(?P<tag>[A-Za-z](?>[A-Za-z0-9_]{{0,62}})){WORD_END}",
        lambda match: f"hashtag {name_words(match['tag'])}",
    ),
)

NAMES = (*_VERSIONS, *_NAMES)
