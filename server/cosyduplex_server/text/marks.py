"""Punctuation by what it ends, and where a word has ended."""

import re

from cosyduplex_server.text.runs import CJK, is_spaced_word_char, would_merge

SENTENCE_END = "\n。！？；…｡‼⁇⁈⁉।॥؟۔"
CLAUSE_END = "，、：—―､؛،"
CLOSING = "\"'”’)]}）】」』》〉〕］｝»›"
_LATIN_ENDS = frozenset(".!?,;:")

_LAST_TOKEN = re.compile(rf"(?<![^\s{CJK}\u3000-\u303f])[^\s{CJK}\u3000-\u303f]*\Z")
_ENDED_WORD = re.compile(rf"[^\W\d_][{SENTENCE_END}{CLAUSE_END}!?.,;:–{re.escape(CLOSING)}]+\Z")


def complete_words_end(text: str) -> int:
    """Where the last complete word ends of a text that goes on; its length where it stops between words."""
    last = _LAST_TOKEN.search(text)
    assert last is not None
    return len(text) if _ENDED_WORD.search(last[0]) else last.start()


def must_part(left: str, right: str) -> bool:
    """Whether a space is needed between two characters that something silent stood between.

    Two words would run together, or a sentence and the next one.
    """
    return would_merge(left, right) or (left in _LATIN_ENDS and is_spaced_word_char(right))
