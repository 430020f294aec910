"""What a context says for words and phrases of its own."""

from __future__ import annotations

from collections.abc import Mapping

from cosyduplex_server.text.rulebook import NONE, WAIT
from cosyduplex_server.text.runs import is_spaced_word_char
from cosyduplex_server.text.speakable import Speakable


class Pronunciations:
    """A context's own words: what is said in place of what is written.

    The longest entry wins. One that begins or ends with a letter of a spaced script stands there as a whole
    word. Only an entry without capitals is found whatever the case.
    """

    def __init__(self, entries: Mapping[str, str]) -> None:
        self._by_first: dict[str, list[tuple[str, str, bool]]] = {}
        for key, value in sorted(entries.items(), key=lambda entry: (-len(entry[0]), entry[0])):
            any_case = key == key.lower()
            for first in {key[0], key[0].upper()} if any_case else {key[0]}:
                self._by_first.setdefault(first, []).append((key, value, any_case))
        for found in self._by_first.values():
            found.sort(key=lambda entry: (-len(entry[0]), entry[2]))

    @property
    def firsts(self) -> frozenset[str]:
        """The characters an entry may begin with."""
        return frozenset(first for first in self._by_first if len(first) == 1)

    def judge(self, text: str, at: int, *, final: bool) -> tuple[int, str]:
        """Where the entry at `at` ends and what to say for it, or NONE or WAIT; as `Rules.judge`."""
        for key, value, any_case in self._by_first.get(text[at], ()):
            if is_spaced_word_char(key[0]) and at and is_spaced_word_char(text[at - 1]):
                continue
            stop = at + len(key)
            written = text[at:stop]
            if any_case:
                written = written.lower()
            if not key.startswith(written):
                continue
            word_ends = is_spaced_word_char(key[-1])
            if stop + word_ends > len(text) and not final:
                return WAIT, ""
            if stop > len(text) or (word_ends and is_spaced_word_char(text[stop : stop + 1])):
                continue
            return stop, _sayable(value)
        return NONE, ""


def _sayable(value: str) -> str:
    """An entry's value without what has no sound or steers a model."""
    return " ".join(Speakable("plain").read(value, 0, final=True).text.split())
