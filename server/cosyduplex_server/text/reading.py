"""How written expressions are read aloud: the form of a rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import regex


@dataclass(frozen=True, slots=True)
class Reading:
    """One kind of expression and how it is read.

    Whether more text could change what is read is found by matching partially: a pattern that is cut off by the
    end of the text, or ends there, is not certain. A complete match hides a partial one, so a pattern must not
    have an optional tail that text could still bring: "3" and "3.5" are two readings, the longer one first.

    Attributes:
        name: of the kind, for tests and `cosyduplex text --explain`.
        first: characters it may begin with.
        pattern: the expression, from its first character. The end of the text counts as a boundary.
        read: the words in its place; None: it is not of this kind after all, and the next reading is tried.
    """

    name: str
    first: frozenset[str]
    pattern: regex.Pattern[str]
    read: Callable[[regex.Match[str]], str | None]
