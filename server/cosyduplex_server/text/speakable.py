"""What a person would say of written text: markup, emoji and invisible characters fall away, offsets stay.

Text comes in any split; every decision is a function of the characters alone and looks a bounded way ahead.
What cannot be decided yet is held until the next character, or until the writer flushes. The result is a
stream of runs, each character with its offset in the appended text.

Text passes two readers. The first (silent.py) takes out what has no sound in any markup, the second
(plain.py, markdown.py) what a page would not show. A few characters are replaced rather than copied, with
offsets that share out what they stand for: line breaks by "\\n", a table's borders by commas and headers, a
formula by its words, two or more hyphens by a dash, an entity by its character, whatever silent thing stood
between two words by " ".
"""

from typing import Literal

from cosyduplex_server.text.markdown import Markdown
from cosyduplex_server.text.plain import PlainText
from cosyduplex_server.text.runs import CJK, Run, is_spaced_word_char, known_language
from cosyduplex_server.text.silent import NamingFilter, SilentFilter

__all__ = ["CJK", "Run", "Speakable", "is_spaced_word_char"]


class Speakable:
    """Appended text in, runs of what is to be spoken out.

    Args:
        markup: "markdown" removes what a rendered page would not show; "plain" only what has no sound.
        code: What becomes of a block of code: nothing, or a sentence that says it is one. Inline code is
            read in either case.
        tables: "read" makes a sentence of each row, "skip" leaves tables out.
        emoji: "name" says what an emoji shows, "drop" leaves it out.
        language: Of the words that are added, such as "Code block."; "auto", or a language without such
            words, goes by the letter before them.
    """

    def __init__(
        self,
        markup: Literal["markdown", "plain"],
        *,
        code: Literal["skip", "announce"] = "skip",
        tables: Literal["read", "skip"] = "read",
        emoji: Literal["drop", "name"] = "drop",
        language: str = "auto",
    ) -> None:
        known = known_language(language)
        is_markdown = markup == "markdown"
        self._filter = (
            NamingFilter(known)
            if emoji == "name"
            else SilentFilter(keep_verdicts=is_markdown, language=known)
        )
        self._reader = Markdown(known, code=code, tables=tables) if is_markdown else PlainText(known)

    def held_from(self, read_to: int) -> int:
        """Offset of the first character that waits for the next one, `read_to` when none does."""
        held = self._reader.held_from
        return read_to - self._filter.held_chars if held is None else held

    def read(self, text: str, start: int, *, final: bool = False) -> Run:
        """What `text`, appended at offset `start`, adds for certain.

        Args:
            text: The next characters.
            start: The offset of the first in the appended text.
            final: Decide everything now: the writer has flushed after these characters.
        """
        return self._reader.read(self._filter.read(text, start, final=final), final=final)
