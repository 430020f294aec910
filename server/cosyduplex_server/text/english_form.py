"""What the patterns of English readings are made of."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable

import regex

from cosyduplex_server.text.reading import Reading

LETTERS = frozenset(string.ascii_letters)
DIGITS = frozenset(string.digits)

_LETTER = "A-Za-zÀ-ÖØ-öø-ɏ"
CAPITAL = "[A-ZÀ-ÖØ-Þ]"
WORD_START = rf"(?<![{_LETTER}0-9_])"
WORD_END = rf"(?![{_LETTER}0-9_])"
SPACE = "[ \u00a0\u2009\u202f]"
DASH = "[-\u2010\u2011\u2012\u2013]"

INTEGER = "(?>[0-9]{1,3}(?:,[0-9]{3}){1,6}(?![0-9])|[0-9]+)"
NUMBER = rf"(?>{INTEGER}(?:\.[0-9]+)?|\.[0-9]+)"
# What stands here describes a noun and keeps its unit in the singular: "a 5 km run".
ATTRIBUTIVE = r"(?:(?<=\b[Aa]n? )(?P<attributive>))?"


def reading(
    name: str, first: Iterable[str], pattern: str, read: Callable[[regex.Match[str]], str | None]
) -> Reading:
    """A reading from the source of its pattern."""
    return Reading(name, frozenset(first), pattern, read)


def first_of(words: Iterable[str]) -> frozenset[str]:
    """The characters that the words begin with."""
    return frozenset(word[0] for word in words)


class _Tree(dict[str, "_Tree"]):
    """What may follow a beginning; "" where a word may end."""


_END = _Tree({"": _Tree()})


def one_of(words: Iterable[str]) -> str:
    """A pattern for any of the words, the longest that stands there; shared beginnings are looked at once."""
    tree = _Tree()
    for word in words:
        node = tree
        for char in word:
            node = node.setdefault(char, _Tree())
        node[""] = _Tree()
    return _branches(tree)


def _branches(tree: _Tree) -> str:
    ends = [regex.escape(char) for char, after in tree.items() if char and after == _END]
    branches = [
        regex.escape(char) + _branches(after) for char, after in tree.items() if char and after != _END
    ]
    if ends:
        branches.append(ends[0] if len(ends) == 1 else f"[{''.join(ends)}]")
    if "" in tree:
        return f"(?:{'|'.join(branches)})?"
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


# --- Where the full stop of an abbreviation stays, because a sentence ends with it

# After "Inc." a capital may go on with the sentence; these words begin one.
_STARTERS = (
    "The This That These Those It Its He She We You They I In On At For From But And So A An If When While "
    "What Why How Who Where There Here His Her Their Our My Your As After Before However Then Now To With "
    "By Is Are Do Did Can Could Would Will Please Let Also Not No Yes All Some Most Many Each Since "
    "Although Because"
).split()
_QUOTE = "[\"“'‘(]?"
STOP = rf"(?P<stop>\.(?=\Z|\n|\s+{_QUOTE}{one_of(_STARTERS)}{WORD_END}))"
# After "p.m." and "etc." any capital does, but that of a day, a month or a zone.
_NAMES_OF_TIMES = (
    "Mon Tue Wed Thu Fri Sat Sun Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec Pacific Eastern Central "
    "Mountain Greenwich London Beijing Tokyo Paris Berlin"
).split()
STOP_BEFORE_CAPITAL = rf"(?P<stop>\.(?=\Z|\n|\s+{_QUOTE}(?!{one_of(_NAMES_OF_TIMES)}){CAPITAL}(?![A-Z])))"
