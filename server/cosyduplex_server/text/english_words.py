"""English readings of abbreviations, Roman numerals and the signs between words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import regex

from cosyduplex_server.text.english_form import (
    CAPITAL,
    SPACE,
    STOP,
    STOP_BEFORE_CAPITAL,
    WORD_END,
    WORD_START,
    first_of,
    one_of,
    reading,
)
from cosyduplex_server.text.english_numbers import cardinal, ordinal, roman

Match = regex.Match[str]

# --- Abbreviations

_TITLES = {
    "Dr": "Doctor",
    "Mr": "Mister",
    "Mrs": "Missus",
    "Ms": "Ms",
    "Prof": "Professor",
    "St": "Saint",
    "Mt": "Mount",
    "Ft": "Fort",
    "Gen": "General",
    "Col": "Colonel",
    "Capt": "Captain",
    "Cpt": "Captain",
    "Cmdr": "Commander",
    "Lt": "Lieutenant",
    "Sgt": "Sergeant",
    "Maj": "Major",
    "Adm": "Admiral",
    "Rev": "Reverend",
    "Hon": "Honorable",
    "Gov": "Governor",
    "Sen": "Senator",
    "Rep": "Representative",
    "Pres": "President",
    "Supt": "Superintendent",
    "Messrs": "Messieurs",
}
# Also written without a full stop.
_OPEN_TITLES = {title: _TITLES[title] for title in ("Dr", "Mr", "Mrs", "Prof", "St", "Mt")}
_STREETS = {
    "St": "Street",
    "Dr": "Drive",
    "Ave": "Avenue",
    "Blvd": "Boulevard",
    "Rd": "Road",
    "Ln": "Lane",
    "Ct": "Court",
    "Pl": "Place",
    "Sq": "Square",
    "Hwy": "Highway",
    "Pkwy": "Parkway",
}
_LONG_STREETS = ("Ave", "Blvd", "Rd", "Hwy", "Pkwy")

# Their full stop ends no sentence.
_NEVER_LAST = {
    "e.g.": "for example",
    "i.e.": "that is",
    "eg.": "for example",
    "ie.": "that is",
    "E.g.": "For example",
    "I.e.": "That is",
    "vs.": "versus",
    "Vs.": "Versus",
    "v.s.": "versus",
    "cf.": "compare",
    "Cf.": "Compare",
    "approx.": "approximately",
    "Approx.": "Approximately",
    "ca.": "circa",
    "viz.": "namely",
    "incl.": "including",
    "excl.": "excluding",
    "resp.": "respectively",
    "esp.": "especially",
    "w/": "with",
    "w/o": "without",
    "b/c": "because",
    "c/o": "care of",
}
# Written with one more full stop, which may end the sentence.
_PERHAPS_LAST = {
    "Inc": "Incorporated",
    "Ltd": "Limited",
    "Corp": "Corporation",
    "Co": "Company",
    "Bros": "Brothers",
    "Jr": "Junior",
    "Sr": "Senior",
    "Esq": "Esquire",
    "dept": "department",
    "Dept": "Department",
    "govt": "government",
    "Govt": "Government",
    "Univ": "University",
    "Assn": "Association",
    "a.k.a": "also known as",
    "misc": "miscellaneous",
    "Misc": "Miscellaneous",
    "et al": "et al",
    "temp": "temperature",
    "avg": "average",
    "Avg": "Average",
    "max": "maximum",
    "Max": "Maximum",
    "min": "minimum",
    "Min": "Minimum",
    "tel": "telephone",
    "Tel": "Telephone",
    "ext": "extension",
    "Ext": "Extension",
    "est": "estimated",
    "vol": "volume",
    "Vol": "Volume",
    "fig": "figure",
    "Fig": "Figure",
}
_OFTEN_LAST = {"etc": "et cetera", "Etc": "Et cetera"}
_WORDS = {
    "vs": "versus",
    "aka": "also known as",
    "N/A": "not applicable",
    "n/a": "not applicable",
    "YoY": "year over year",
    "QoQ": "quarter over quarter",
}
_BEFORE_NUMBER = {
    "No": "number",
    "no": "number",
    "Nos": "numbers",
    "nos": "numbers",
    "Nr": "number",
    "Fig": "figure",
    "fig": "figure",
    "Figs": "figures",
    "figs": "figures",
    "Eq": "equation",
    "eq": "equation",
    "Eqs": "equations",
    "Sec": "section",
    "Ch": "chapter",
    "ch": "chapter",
    "Chap": "chapter",
    "chap": "chapter",
    "Vol": "volume",
    "vol": "volume",
    "Vols": "volumes",
    "pp": "pages",
    "p": "page",
    "pg": "page",
    "Art": "article",
    "Ex": "example",
    "Tab": "table",
    "Ref": "reference",
    "App": "appendix",
    "Apt": "apartment",
    "Ste": "suite",
    "Rm": "room",
    "Ext": "extension",
    "ext": "extension",
    "max": "maximum",
    "min": "minimum",
    "est": "established",
    "Est": "established",
    "ver": "version",
    "Ver": "version",
    "approx": "approximately",
    "par": "paragraph",
    "op": "opus",
    "Op": "opus",
}


def _expanded(words: dict[str, str]) -> Callable[[Match], str]:
    """Reads the abbreviation in the group `short`; its full stop stays where it ends a sentence."""
    return lambda match: words[match["short"]] + ("." if match["stop"] else "")


def _before_number(match: Match) -> str:
    words = _BEFORE_NUMBER[match["short"]]
    return words.capitalize() if match["short"][0].isupper() else words


_ABBREVIATIONS = (
    reading(
        "abbreviation before a number",
        first_of(_BEFORE_NUMBER),
        rf"{WORD_START}(?P<short>{one_of(_BEFORE_NUMBER)})\.{SPACE}?"
        rf"(?=(?:[A-Z]\.?)?[0-9]|(?<![Nn]o\.{SPACE}?)[IVX]+{WORD_END})",
        _before_number,
    ),
    reading("circa", "c", rf"{WORD_START}c\.(?= ?[1-9][0-9]{{2,3}}{WORD_END})", lambda match: "circa"),
    reading(
        "street",  # "Main St.", but "Hello St. John"; with a house number also "5 Main St. West"
        first_of(_STREETS),
        rf"{WORD_START}(?<=(?:{CAPITAL}[a-z]+|[0-9](?:st|nd|rd|th)) )(?P<short>{one_of(_STREETS)})"
        rf"(?:{STOP}|\.?(?!\.|{SPACE}{CAPITAL}[a-z]+)"
        rf"|(?<=\b[0-9]+ (?:[NSEW]\.? )?{CAPITAL}[a-z]+ {one_of(_STREETS)})\.?){WORD_END}",
        _expanded(_STREETS),
    ),
    reading(
        "title",
        first_of(_TITLES),
        rf"{WORD_START}(?P<short>{one_of(_TITLES)})\.(?={SPACE}?{CAPITAL})",
        lambda match: _TITLES[match["short"]],
    ),
    reading(
        "title without a stop",
        first_of(_OPEN_TITLES),
        rf"{WORD_START}(?P<short>{one_of(_OPEN_TITLES)})(?={SPACE}{CAPITAL}[a-z])",
        lambda match: _TITLES[match["short"]],
    ),
    reading(
        "street",
        first_of(_LONG_STREETS),
        rf"{WORD_START}(?P<short>{one_of(_LONG_STREETS)})(?:{STOP}|\.)",
        _expanded(_STREETS),
    ),
    reading(
        "abbreviation",
        first_of(_NEVER_LAST),
        rf"{WORD_START}(?<!/)(?P<short>{one_of(_NEVER_LAST)}){WORD_END}",
        lambda match: _NEVER_LAST[match["short"]],
    ),
    reading(
        "abbreviation",
        first_of(_PERHAPS_LAST),
        rf"{WORD_START}(?P<short>{one_of(_PERHAPS_LAST)})(?:{STOP}|\.){WORD_END}",
        _expanded(_PERHAPS_LAST),
    ),
    reading(
        "abbreviation",
        first_of(_OFTEN_LAST),
        rf"{WORD_START}(?P<short>{one_of(_OFTEN_LAST)})(?:{STOP_BEFORE_CAPITAL}|\.)",
        _expanded(_OFTEN_LAST),
    ),
    reading(
        "short word",
        first_of(_WORDS),
        rf"{WORD_START}(?<!/)(?P<short>{one_of(_WORDS)}){WORD_END}",
        lambda match: _WORDS[match["short"]],
    ),
    reading(
        "era",
        "ABC",
        rf"{WORD_START}(?:(?<=[0-9]s? )(?:AD|BCE|BC|CE)|AD(?= [0-9])){WORD_END}",
        lambda match: " ".join(match[0]),
    ),
)

# --- Roman numerals

# After these one letter may be a numeral, after the others it is a letter: "Group C".
_PARTS = (
    "Chapter Part Act Scene Book Volume Vol. Section Article Title Phase Stage Type Episode Canto Psalm "
    "Symphony Mark Vatican"
).split()
_PARTS += ["World War", "Super Bowl"]
_KINDS = (
    "Appendix Class Level Grade Tier Season Series Table Figure Division Schedule Sonata Opus WrestleMania "
    "Gen Generation Mk Unit Module Lesson Step Category Region Group Corps Legion Round chapter part act "
    "scene book volume section article phase stage type class level episode season"
).split()
_RULERS = (
    "king queen pope emperor empress tsar czar kaiser prince duke pharaoh sultan King Queen Pope Emperor "
    "Empress Tsar Czar Kaiser Prince Duke Pharaoh Sultan"
).split()
_RULER_NAMES = (
    "Henry Louis Charles George Edward Elizabeth William Richard James Philip Philippe Napoleon Benedict "
    "Pius Paul Francis Nicholas Alexander Frederick Wilhelm Ramses Ramesses Ptolemy Catherine Peter Mary "
    "Leo Gregory Innocent Clement Urban Sixtus Carlos Felipe Harald Gustav Haakon Olav Christian Albert "
    "Leopold Ivan Otto Darius Xerxes Artaxerxes Cleopatra Thutmose Amenhotep Umberto Emmanuel Franz Joseph "
    "Ferdinand Alfonso Afonso Pedro Margrethe Robert Theodosius Justinian Constantine Mehmed Murad Selim "
    "Julius Boniface Celestine Adrian Sigismund Casimir Stephen Bela"
).split()


def _regnal(match: Match) -> str | None:
    value = roman(match[0])
    return f"the {ordinal(value)}" if value else None


def _numeral(match: Match) -> str | None:
    value = roman(match[0])
    return cardinal(value) if value else None


# After any name: "Rocky II". No word and no initial looks like these.
_PLAIN_NUMERALS = "II III IV VI VII VIII IX XI XII XIII XIV XV XVI".split()
_ROMAN_END = rf"{WORD_END}(?![-.][A-Za-z0-9])"
# "Part I of it", but "the Part I like".
_FIRST = rf"I(?!{SPACE}[a-z])|I(?= (?:of|and|or|to|in|on|from|is|was){WORD_END})"

_ROMANS = (
    reading(
        "ruler",
        "IVX",
        rf"(?<=\b{one_of(_RULERS)} {CAPITAL}\p{{L}}{{1,15}} )[IVX]{{1,7}}{_ROMAN_END}",
        _regnal,
    ),
    reading(
        "ruler",
        "IVX",
        rf"(?<=\b{one_of(_RULER_NAMES)} )(?!I{WORD_END})[IVX]{{1,7}}{_ROMAN_END}",
        _regnal,
    ),
    reading(
        "Roman numeral",
        "IVXLC",
        rf"(?:(?<=\b(?:{one_of(_PARTS)}|{one_of(_KINDS)}) )[IVXLC]{{2,9}}|(?<=\b{one_of(_PARTS)} )[VX]"
        rf"|(?<=\bWorld War )I|(?<=\b{one_of(_PARTS)} )(?:{_FIRST})){_ROMAN_END}",
        _numeral,
    ),
    reading(
        "Roman numeral",
        "IVX",
        rf"(?<=\b{CAPITAL}[a-z]{{2,20}} ){one_of(_PLAIN_NUMERALS)}{_ROMAN_END}",
        _numeral,
    ),
)

ABBREVIATIONS = (*_ABBREVIATIONS, *_ROMANS)

# --- Keys

_KEYS = {"Ctrl": "Control", "Cmd": "Command", "Esc": "Escape", "Del": "Delete"}

KEYS = (
    replace(
        reading(
            "key",
            first_of(_KEYS),
            rf"{WORD_START}(?:Ctrl(?!\w)|{one_of(_KEYS)}(?= ?\+|(?<=\+ ?\w{{3}}){WORD_END}))",
            lambda match: _KEYS[match[0]],
        ),
        in_any_language=True,
    ),
)

# --- Signs between words

# Said with "or"; other words with a slash between them are only said one after the other.
_ALTERNATIVES = "yes/no he/she she/he his/her her/his him/her her/him true/false pass/fail".split()
_EITHER_SLASH = "|".join(
    rf"(?<=\b{left})/(?={right}\b)"
    for pair in _ALTERNATIVES
    for left, _, right in (pair.partition("/"), pair.capitalize().partition("/"))
)

BETWEEN_WORDS = (
    reading("and", "&", r"&(?:amp;|(?![a-z]{2,8};|#[0-9]))(?=\s|[\w(])", lambda match: "and"),
    reading("either", "/", _EITHER_SLASH, lambda match: "or"),
    reading("over", "/", r"(?<=(?<!\w)[a-z])/(?=[0-9])", lambda match: "over"),
    reading("slash between words", "/", r"(?<=[^\W\d_][.)’']?)/(?=[^\W\d_])", lambda match: ""),
    reading("slash between words", "/", r"(?<=[A-Z])/(?=[0-9])", lambda match: ""),
    reading("slash between words", "/", r"(?<=[^\W\d_] )/(?= [^\W\d_])", lambda match: ","),
    reading("section", "§", r"§§?", lambda match: "sections" if len(match[0]) > 1 else "section"),
    reading("paragraph", "¶", r"¶(?= ?[0-9])", lambda match: "paragraph"),
    reading("copyright", "©", "©(?= ?[0-9A-Z])", lambda match: "copyright"),
    reading("trademark", "®™", "[®™]", lambda match: ""),
)
