"""The readings of both languages, and what is certain about them while text is still coming.

A reading is certain when no way through its pattern touches the end of what has come. `regex` tells that for
a pattern that is cut off; for one that is complete just there, the characters that may come are tried out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

import regex

from cosyduplex_server.text.reading import LONGEST_EXPRESSION, Reading
from cosyduplex_server.text.scripts import Script, script_of

WAIT, NONE = -1, 0

# The first characters of an expression are remembered with the readings that may begin so: few, for most
# words none, and each that must be tried costs about a microsecond.
_REMEMBERED_CHARS = 5
_MOST_REMEMBERED = 1 << 14  # of all rules together: some 4 MB
_TRIALS_TO_REMEMBER = 3  # what finding out about one rule costs

# A pattern that runs on, as on 256 letters and digits without a space, takes several times as long.
_CHARS_PER_WORK = 32

_ESCAPED_CHAR = re.compile(r"\\x([0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})")
_ANY_KIND = "0a A一\n"
_COMMON_HAN = re.compile("[\u4e00-\u9fa5]")
_SOME_HAN = "丂"  # stands for all that no pattern names


class _Rule:
    """A reading, and what its pattern can tell of text that has not all come."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.read = reading.read

    @cached_property
    def chars(self) -> str:
        """At least one character of each kind that the pattern tells apart."""
        source = self._reading.source
        escaped = (chr(int(next(filter(None, code.groups())), 16)) for code in _ESCAPED_CHAR.finditer(source))
        return "".join(dict.fromkeys((*_ANY_KIND, *escaped, *source)))

    @cached_property
    def pattern(self) -> regex.Pattern[str]:
        return self._reading.pattern

    @cached_property
    def _blind(self) -> regex.Pattern[str] | None:
        return _without_lookbehind(self.pattern)

    def warm(self) -> None:
        """Compiles what it needs."""
        self.may_begin_with("0")
        assert self.chars

    def may_begin_with(self, prefix: str) -> bool:
        """False when no text that begins with `prefix` is read so, whatever stands before it."""
        return self._blind is None or self._blind.match(prefix, partial=True) is not None

    def is_certain(self, text: str, at: int, match: regex.Match[str]) -> bool:
        """Whether no further text can change this match, which is not partial."""
        reaches = self.pattern.fullmatch(text, at, partial=True)
        if reaches is None:
            return True
        return not reaches.partial and not any(self._changes(text, at, match, char) for char in self.chars)

    def _changes(self, text: str, at: int, match: regex.Match[str], char: str) -> bool:
        longer = text + char
        if self.pattern.fullmatch(longer, at, partial=True):
            return True
        again = self.pattern.match(longer, at)
        return again is None or again.span() != match.span()


_PATTERN_PART = re.compile(
    r"\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|\(\?(?:<[=!]|[>!])|\(|\)(?:[*+?]|\{[\d,]*\})\+|\)", re.DOTALL
)


def _without_lookbehind(pattern: regex.Pattern[str]) -> regex.Pattern[str] | None:
    """The pattern with every lookbehind holding, so that it matches wherever the pattern may after some text.

    None where a lookbehind stands in a group that is not entered again: there holding more can match less. In
    a negative assertion it is left alone, where it holds less and so matches more.
    """
    source, copied, parts = pattern.pattern, 0, list[str]()
    groups: list[list[str | bool]] = []  # how each open group begins, and whether it holds more now
    for part in _PATTERN_PART.finditer(source):
        if part[0].startswith("("):
            groups.append([part[0], False])
            num_negative = sum(opened in ("(?!", "(?<!") for opened, _ in groups)
            if part[0] == "(?<=" and num_negative > 1:
                return None
            if part[0] == "(?<=" and not num_negative:
                parts += source[copied : part.end()], "|"
                copied = part.end()
                for group in groups:
                    group[1] = True
        elif part[0].startswith(")"):
            opened, holds_more = groups.pop()
            if holds_more and (opened == "(?>" or part[0] != ")"):
                return None
    return regex.compile("".join(parts) + source[copied:], pattern.flags) if parts else pattern


class _Memory:
    """What all rules remember of beginnings, bounded together: texts choose what is remembered."""

    def __init__(self) -> None:
        self._parts: list[dict[str, tuple[_Rule, ...]]] = []
        self._num_entries = 0

    def part(self) -> dict[str, tuple[_Rule, ...]]:
        """A part for the rules of one character."""
        self._parts.append({})
        return self._parts[-1]

    def make_room(self) -> None:
        """Counts an entry that is about to be made; forgets everything where there are too many."""
        if self._num_entries >= _MOST_REMEMBERED:
            for part in self._parts:
                part.clear()
            self._num_entries = 0
        self._num_entries += 1


class Rules:
    """What may begin with one character, the first that applies winning.

    Attributes:
        num_trials: Rules tried so far, and as much for long texts and other work.
    """

    def __init__(self, rules: Sequence[_Rule], memory: _Memory) -> None:
        self.num_trials = 0
        self._rules = tuple(rules)
        self._memory = memory
        self._remembered = memory.part()

    def warm(self) -> None:
        """Compiles the patterns."""
        for rule in self._rules:
            rule.warm()
        assert self._named

    def judge(self, text: str, at: int, *, final: bool) -> tuple[int, str]:
        """How what stands at `at` is read.

        Args:
            text: What has come, and what stands before the expression.
            at: Where it begins.
            final: Nothing more comes.

        Returns:
            Where it ends and the words in its place; or NONE or WAIT and no words.
        """
        end = min(len(text), at + LONGEST_EXPRESSION)
        is_cut = end < len(text)
        undecided = not (final or is_cut)
        work_of_trial = 1 + (end - at) // _CHARS_PER_WORK
        beginning = text[at : min(at + _REMEMBERED_CHARS, end)]
        for rule in self._that_may_begin_with(beginning if beginning.isascii() else self._kind(beginning)):
            self.num_trials += work_of_trial
            match = rule.pattern.match(text, at, end, partial=undecided)
            if match is None:
                continue
            if undecided and match.end() == end and not match.partial:
                self.num_trials += 2 * len(rule.chars)
            if undecided and (match.partial or not rule.is_certain(text, at, match)):
                return WAIT, ""
            words = rule.read(match)
            if words is not None:
                if is_cut and match.end() == end:
                    break
                return match.end(), words
        return NONE, ""

    @cached_property
    def _named(self) -> frozenset[str]:
        return frozenset[str]().union(*(rule.chars for rule in self._rules))

    def _kind(self, beginning: str) -> str:
        """What begins in the same way for every pattern."""
        return "".join(
            _SOME_HAN if char not in self._named and _COMMON_HAN.match(char) else char for char in beginning
        )

    def _that_may_begin_with(self, prefix: str) -> tuple[_Rule, ...]:
        rules = self._remembered.get(prefix)
        if rules is None:
            fewer = self._that_may_begin_with(prefix[:-1]) if len(prefix) > 1 else self._rules
            rules = tuple(rule for rule in fewer if rule.may_begin_with(prefix))
            self.num_trials += _TRIALS_TO_REMEMBER * len(fewer)
            self._memory.make_room()
            self._remembered[prefix] = rules
        return rules


class Rulebook:
    """Which rules apply where: by the language around an expression and its first character."""

    def __init__(self, *, english: tuple[Reading, ...], chinese: tuple[Reading, ...]) -> None:
        self._rules: dict[Script, dict[str, Rules]] = {"en": {}, "zh": {}, "": {}}
        english_rules = [(reading.first, _Rule(reading)) for reading in english]
        anywhere = [
            rule for rule, reading in zip(english_rules, english, strict=True) if reading.in_any_language
        ]
        chinese_rules = [(reading.first, _Rule(reading)) for reading in chinese]
        made: dict[tuple[_Rule, ...], Rules] = {}
        memory = _Memory()
        for char in frozenset[str]().union(*(first for first, _ in (*english_rules, *chinese_rules))):
            in_english = tuple(rule for first, rule in english_rules if char in first)
            in_chinese = tuple(rule for first, rule in chinese_rules if char in first)
            # An English name, month or address within Chinese is read as such where Chinese has no rule for
            # it; what begins with a Chinese character is Chinese anywhere.
            script = script_of(char)
            if script == "en":
                in_chinese = (
                    tuple(rule for first, rule in anywhere if char in first) + in_chinese + in_english
                )
            elif script == "zh":
                in_english = in_chinese
            scripts: tuple[tuple[Script, tuple[_Rule, ...]], ...] = (("en", in_english), ("zh", in_chinese))
            for of_script, rules in scripts:
                if rules:
                    self._rules[of_script][char] = made.get(rules) or made.setdefault(
                        rules, Rules(rules, memory)
                    )
        self.firsts = frozenset(self._rules["en"]) | frozenset(self._rules["zh"])

    def warm(self) -> None:
        """Compiles all patterns: half a second of work that is else done when each is first needed."""
        for of_script in self._rules.values():
            for rules in of_script.values():
                rules.warm()

    def at(self, char: str, script: Script) -> Rules | None:
        """The rules for what begins with `char` in text of this script."""
        return self._rules[script].get(char)
