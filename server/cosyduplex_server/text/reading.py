"""How written expressions are read aloud: the form of a rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import regex

# No expression is longer; a number or address that is goes to the voice as it is written.
LONGEST_EXPRESSION = 256
# How far back a lookbehind can see.
LEFT_CONTEXT = 64


@dataclass(frozen=True)
class Reading:
    """One kind of expression and how it is read.

    A reading is tried where one of its first characters stands, but neither at a Latin letter after a Latin
    letter nor at a digit after a digit (ASCII ones): an expression begins with a word or number, not within.
    What else a beginning needs, the pattern says by a lookbehind.

    Whether more text could change what is read is found by matching partially: as long as any way through the
    pattern, its lookaheads included, touches the end of what has come, it is held. So a pattern says all that
    an expression needs behind it (`(?![\\w.])`), and nothing else: each further character it looks at is one
    that a listener waits for.

    Patterns of one language are tried together: they name the groups they refer back to, (?P=name), and their
    flags, which they begin with, are of i, m, s and x.

    Attributes:
        name: of the kind, for tests and `cosyduplex text --explain`.
        first: characters it may begin with.
        source: the pattern of the expression, from its first character. The end of the text is a boundary.
        read: the words in its place; None: it is not of this kind after all, and the next reading is tried.
        in_any_language: it is read so among the letters of another language, too, before what that has.
    """

    name: str
    first: frozenset[str]
    source: str
    read: Callable[[regex.Match[str]], str | None]
    in_any_language: bool = False

    @cached_property
    def pattern(self) -> regex.Pattern[str]:
        """The pattern, compiled when it is first asked for: a millisecond each, and there are hundreds."""
        return regex.compile(self.source)
