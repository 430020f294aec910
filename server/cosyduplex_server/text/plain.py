"""The reader of plain text, and the cursor that the reader of Markdown moves too."""

import re
from collections.abc import Callable

import regex

from cosyduplex_server.text.marks import must_part
from cosyduplex_server.text.runs import Language, Run, last_language

# Control tokens of language models: never spoken, in either markup.
_CONTROL_TOKEN = re.compile(r"<[|｜][^\n|｜<>]{0,64}[|｜]>")
_CONTROL_TOKEN_BEGUN = re.compile(r"<(?:[|｜](?:[^\n|｜<>]{0,64}[|｜]?)?)?\Z")
_MARK = re.compile(r"[<|｜\[(（【]")
# What models of speech make a sound for and others write as a play does: [laughter], (sighs), （笑）.
_SOUNDS = (
    "laugh|laughs|laughing|laughter|soft laugh|chuckles?|chuckling|giggles?|giggling"
    "|sigh|sighs|sighing|gasps?|gasping"
    "|cough|coughs|coughing|sob|sobs|sobbing|sniff|sniffs|sniffles|yawns?|yawning|groans?|groaning"
    "|whispers?|whispering|clears throat|clearing throat|throat clearing|inhales?|exhales?"
)
_BRACKETED_SOUNDS = (
    "breath|quick_breath|breathing|deep breath|noise|clucking|accent|hissing|lipsmack|mn|vocalized-noise"
    "|pause|long pause|short pause|silence|beat|music|applause|cheering|crying|cries"
    "|laughs softly|smiles?|smiling"
)
_HAN_SOUNDS = (
    "笑|大笑|微笑|苦笑|轻笑|笑声|偷笑|叹气|歎氣|叹息|咳嗽|清嗓子|停顿|停頓"
    "|沉默|掌声|掌聲|哭泣|哽咽|吸气|呼气|深呼吸|打哈欠"
)
_DIRECTION = regex.compile(
    rf"\[(?:{_SOUNDS}|{_BRACKETED_SOUNDS}|{_HAN_SOUNDS}|音乐|音樂|哭|小声)\](?!\()|\((?:{_SOUNDS}|{_HAN_SOUNDS})\)"
    rf"|（(?:{_HAN_SOUNDS})）|【(?:{_HAN_SOUNDS})】",
    regex.IGNORECASE,
)
_SAID_CHARS = 32


class PlainText:
    """Copies text but for control tokens.

    A reader is in one mode at a time. A mode takes a step at the cursor and answers whether it got anywhere;
    False means that the decision needs characters that have not come yet.

    Args:
        language: Of the words it may add itself; None: of the letter before them.
    """

    def __init__(self, language: Language | None) -> None:
        self._mode: Callable[[], bool] = self._prose
        self._text = ""
        self._offsets: list[int] = []
        self._at = 0
        self._final = False
        self._before = ""  # the character left of the cursor
        self._spoken = ""  # the last character handed on
        self._gap: int | None = None
        self._parts: list[str] = []
        self._part_offsets: list[int] = []
        self._said_before = ""  # the end of what earlier calls handed on
        self._fixed_language = language
        self._letters: Language | None = None  # of the last letter in the parts that have been looked at
        self._looked_at = 0

    @property
    def held_from(self) -> int | None:
        """Offset of the first character that waits for a decision."""
        return self._offsets[0] if self._offsets else None

    def read(self, run: Run, *, final: bool) -> Run:
        self._text += run.text
        self._offsets += run.offsets
        self._final = final
        self._parts, self._part_offsets = [], []
        while self._at < len(self._text) and self._mode():
            pass
        if final:
            self._end_of_flush()
        self._text = self._text[self._at :]
        del self._offsets[: self._at]
        self._at = 0
        return Run(self._take_parts(), self._part_offsets)

    def _take_parts(self) -> str:
        text = "".join(self._parts)
        if text:
            self._letters = last_language(text) or self._letters
            self._looked_at = 0
            self._said_before = (self._said_before + text)[-_SAID_CHARS:]
        return text

    def _end_of_flush(self) -> None:
        """The writer has flushed, and all has been decided."""

    # --- What has been said

    def _said(self) -> str:
        """The last characters handed on, 32 at most."""
        said = ""
        for part in reversed(self._parts):
            said = part[-_SAID_CHARS:] + said
            if len(said) >= _SAID_CHARS:
                return said[-_SAID_CHARS:]
        return (self._said_before + said)[-_SAID_CHARS:]

    def _language(self) -> Language:
        """Of what has been said last: the words that are added here are in it."""
        if self._fixed_language:
            return self._fixed_language
        self._letters = last_language("".join(self._parts[self._looked_at :])) or self._letters
        self._looked_at = len(self._parts)
        return self._letters or "en"

    # --- Steps

    def _prose(self) -> bool:
        mark = _MARK.search(self._text, self._at)
        end = mark.start() if mark else len(self._text)
        if end > self._at:
            return self._speak(end)
        if self._text[self._at] == "<":
            return self._angle()
        if self._text[self._at] in "|｜":
            return self._bar()
        return self._direction(lambda: self._speak(self._at + 1))

    def _angle(self) -> bool:
        return self._control_token() or self._literal_unless(_CONTROL_TOKEN_BEGUN)

    def _control_token(self) -> bool:
        token = _CONTROL_TOKEN.match(self._text, self._at)
        return token is not None and self._leave_gap(token.end())

    def _direction(self, otherwise: Callable[[], bool]) -> bool:
        """Leaves a stage direction out: [laughter], (sighs), （笑）."""
        found = _DIRECTION.match(self._text, self._at, partial=True)
        if found is None:
            return otherwise()
        may_be_label = self._text[self._at] == "[" and found.end() == len(self._text)
        if (found.partial or may_be_label) and not self._final:
            return False
        return otherwise() if found.partial else self._leave_gap(found.end())

    def _literal_unless(self, begun: re.Pattern[str]) -> bool:
        if not self._final and begun.match(self._text, self._at):
            return False
        return self._speak(self._at + 1)

    def _bar(self) -> bool:
        # Removing things must not put a control token together that was not there before.
        if self._spoken == "<":
            return self._skip(self._at + 1)
        return self._speak(self._at + 1)

    # --- The cursor

    def _peek(self, at: int) -> str | None:
        """The character at `at`; "" after the last of a flushed text, None when it has not come yet."""
        if at < len(self._text):
            return self._text[at]
        return "" if self._final else None

    def _run_end(self, char: str, longest: int) -> int | None:
        """Where the run of `char` at the cursor ends, None when it may go on; a run stops at `longest`."""
        end = self._at
        while end < len(self._text) and self._text[end] == char and end < self._at + longest:
            end += 1
        undecided = end == len(self._text) and end < self._at + longest and not self._final
        return None if undecided else end

    def _speak(self, end: int) -> bool:
        piece = self._text[self._at : end]
        self._join(piece)
        self._emit(piece, self._offsets[self._at : end])
        return self._skip(end)

    def _join(self, piece: str) -> None:
        """Keeps apart two words that a removed thing stood between."""
        if self._gap is not None and must_part(self._spoken, piece[0]):
            self._emit(" ", [self._gap])
        self._gap = None

    def _leave_gap(self, end: int) -> bool:
        self._gap = self._offsets[self._at]
        return self._skip(end)

    def _emit(self, piece: str, offsets: list[int]) -> None:
        self._parts.append(piece)
        self._part_offsets += offsets
        self._spoken = piece[-1]

    def _skip(self, end: int) -> bool:
        if end > self._at:
            self._before = self._text[end - 1]
        self._at = end
        return True
