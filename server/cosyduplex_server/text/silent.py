"""What has no sound in any markup: control and invisible characters, pictures; and emoji, named on request.

Some of what is drawn is read in either case: a digit on a keycap, which numbers the line that it begins, and
the stars of a rating. Letters and digits of full width become ordinary ones.

Look-ahead: a digit waits that may become a keycap, the colour of a terminal for its end (26 characters at
most), drawn stars for the last of them (10 at most), a full-width comma behind a digit for the next
character. Where emoji are named, one waits for the character after it (its skin, what it is joined to: 28
code points at most). A rating or a named emoji before the first letter of a text waits for that letter, 16
characters at most: the letter tells the language.
"""

import re
from collections.abc import Sequence

from cosyduplex_server.text.emoji import emoji_name
from cosyduplex_server.text.marks import must_part
from cosyduplex_server.text.runs import (
    Language,
    Run,
    first_language,
    last_language,
    spread,
    would_merge,
)

# Controls, soft hyphen, zero-width, bidi, lone surrogates, variation selectors, tags, specials.
_INVISIBLE = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufe00-\ufe0f\ufeff\ufff9-\uffff\U000e0000-\U000e0fff"
)
# Emoji and their parts, drawing characters, private use (icon fonts). The circled digits, the
# musical accidentals and the circle that Chinese writes for zero stand between these blocks and are spoken.
_PICTURES = (
    "\u20e3\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u2500-\u259f\u25aa\u25ab\u25b6\u25c0"
    "\u25fb-\u25fe\u2600-\u266c\u2670-\u2775\u2794-\u27bf\u2139\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d"
    "\ue000-\uf8ff\U0001f000-\U0001f0ff\U0001f10d-\U0001faff\U000f0000-\U0010ffff"
)
_KEYCAP = "[0-9#*]\ufe0f?\u20e3"
_NUMBERED_KEYCAP = "[0-9]\ufe0f?\u20e3|\U0001f51f"
_FULL_STARS, _EMPTY_STARS = "★⭐🌟✭✮", "☆✩"
_STARS = f"[{_FULL_STARS}{_EMPTY_STARS}]\ufe0f?"
_MOST_STARS = 10
# What colours the text of a terminal.
_ESCAPE = "\x1b\\[[0-9;:?]{0,24}[A-Za-z]"
_SILENT = re.compile(
    f"(?P<number>{_NUMBERED_KEYCAP})|(?P<stars>(?:{_STARS}){{1,{_MOST_STARS}}})"
    f"|(?P<pictures>{_KEYCAP}|(?:(?!{_STARS}|\U0001f51f)[{_PICTURES}])+)|(?:{_ESCAPE}|[{_INVISIBLE}])+"
)
_INVISIBLE_CHAR = re.compile(f"[{_INVISIBLE}]")
_PICTURE = re.compile(f"[{_PICTURES}]")
_LINE_BREAKS = re.compile("[\r\x0b\x0c\x85\u2028\u2029]")
# What may go on as a keycap or as the colour of a terminal.
_UNDECIDED = re.compile("(?:[0-9#*]\ufe0f?|\x1b(?:\\[[0-9;:?]{0,24})?)\\Z")
_UNDECIDED_CHARS = 26
_RATED = re.compile(
    "[:：][ \u00a0]?\\Z|(?:指数|指數|评分|評分|评级|星级|推荐度|难度|[Rr]ating|[Rr]ated) ?\\Z"
)
_LAST_CHARS = 12
# Letters and digits of full width, and the comma between such digits.
_WIDE = re.compile("[０-９Ａ-Ｚａ-ｚ]")
_WIDE_COMMA = re.compile("(?<=[０-９])，(?=[０-９])")
_NARROW = {
    wide: wide - 0xFEE0 for wide in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))
}
_WIDE_DIGITS = frozenset("０１２３４５６７８９")
_BEFORE_WORDS = " \t\u00a0\u3000*#>-_"

# A cell that is only one of these says yes or no: `Markdown` reads them, elsewhere they are silent there.
YES_MARKS = "✅✔✓☑"
NO_MARKS = "❌✖✗✘❎"
_VERDICTS = re.compile(f"[{YES_MARKS}{NO_MARKS}]")

# The citation of a chat product: "\ue200cite\ue202turn0search1\ue201".
_TOKEN_OPEN, _TOKEN_CLOSE = "\ue200", "\ue201"
_TOKEN_BODY = re.compile("[^\ue201\n\r]*")
_TOKEN_LIMIT = 200

# --- Naming
_SKIN = "\U0001f3fb-\U0001f3ff"
_REGIONAL = "\U0001f1e6-\U0001f1ff"
_ONE = f"[{_PICTURES}](?:\ufe0f|\ufe0e)?[{_SKIN}]?"
_EMOJI = re.compile(
    f"{_KEYCAP}|[{_REGIONAL}]{{2}}|{_ONE}(?:\u200d{_ONE}){{0,4}}[\U000e0020-\U000e007f]{{0,8}}"
)
_LANGUAGE_LOOKAHEAD = 16
_BREAKS: dict[Language, tuple[str, str]] = {"en": (", ", ". "), "zh": ("，", "。")}
_SENTENCE_ENDED = frozenset(".!?。！？…~～")
_BLANKS = " \t\u00a0\u3000"
_BLANK = re.compile(f"[{_BLANKS}]*")
_OPENING = frozenset("([{\"'“‘（【「『《〈")


def is_invisible(char: str) -> bool:
    """True for what neither has a sound nor parts words."""
    return _INVISIBLE_CHAR.match(char) is not None


def is_picture(char: str) -> bool:
    """True for what has no sound and parts words."""
    return _PICTURE.match(char) is not None


class SilentFilter:
    """Removes what has no sound; the first of the two readers that text passes.

    Args:
        keep_verdicts: Leave ✅ and ❌ for the reader of tables.
        language: Of the words it adds; None: of the nearest letter.
    """

    def __init__(self, *, keep_verdicts: bool, language: Language | None = None) -> None:
        self._keep_verdicts = keep_verdicts
        self._fixed = language
        self._letters: Language | None = None  # what the last letter is read as
        self._held = ""
        self._last = ""
        self._kept = ""  # the last characters kept, as they were written
        self._before_words = True  # nothing but blanks and marks of Markdown in this line
        self._gap: int | None = None
        self._after_return = False
        self._token_chars: int | None = None  # read of a citation token
        self._parts: list[str] = []
        self._offsets: list[int] = []

    @property
    def held_chars(self) -> int:
        return len(self._held)

    def read(self, text: str, start: int, *, final: bool) -> Run:
        """Reads what follows at offset `start`; `final` gives up what is held."""
        if self._after_return or "\r" in text:
            text = self._one_break_for_two(text)
        if self._held:
            start -= len(self._held)
            text = self._held + text
        stop = len(text) - (0 if final else self._undecided_chars(text))
        self._parts, self._offsets = [], []
        self._held = text[self._pass_over(text, stop, start, final) :]
        return Run("".join(self._parts), self._offsets)

    def _undecided_chars(self, text: str) -> int:
        """How many of the last characters may be part of something that has not all come."""
        if text.endswith("，"):
            return int((self._kept + text)[-2:-1] in _WIDE_DIGITS)
        undecided = _UNDECIDED.search(text[-_UNDECIDED_CHARS:])
        return len(undecided[0]) if undecided else 0

    def _one_break_for_two(self, text: str) -> str:
        # "\r\n" is one line break; the second character goes without a change of offsets.
        if self._after_return and text.startswith("\n"):
            text = "\x00" + text[1:]
        if text:
            self._after_return = text[-1] == "\r"
        return text.replace("\r\n", "\n\x00")

    def _pass_over(self, text: str, stop: int, start: int, final: bool) -> int:
        """Reads to `stop` and says where it got to."""
        at = self._end_of_token(text, 0) if self._token_chars is not None else 0
        while silent := _SILENT.search(text, at, stop):
            self._keep(text[at : silent.start()], start + at)
            at = silent.end()
            certain = True
            if silent["number"]:
                self._number(silent["number"], start + silent.start())
            elif silent["stars"]:
                at, certain = self._stars(silent, text, start, final)
            elif silent["pictures"]:
                at, certain = self._pictures(silent, text, start, final)
            if not certain:
                return at
        self._keep(text[at:stop], start + at)
        return max(at, stop)

    def _number(self, keycap: str, offset: int) -> None:
        """Says the number of a keycap, with the full stop of a list's number where it begins a line."""
        number = keycap[0] if keycap[0].isdigit() else "10"
        words = number + ". " if self._before_words else number
        self._before_words = False
        offsets = range(offset, offset + len(keycap))
        self._say(words, spread(len(words), list(offsets)))
        self._leave_gap(offsets[-1])

    def _stars(self, stars: re.Match[str], text: str, start: int, final: bool) -> tuple[int, bool]:
        """Says how many of the stars of a rating are full: "4 star", "4星"; others are pictures."""
        at, end = stars.span()
        drawn = stars[0].replace("\ufe0f", "")
        if end == len(text) and len(drawn) < _MOST_STARS and not final:
            return at, False
        full = len(drawn.rstrip(_EMPTY_STARS))
        after_label = _RATED.search(self._kept) is not None
        in_order = full and not set(drawn[:full]) & set(_EMPTY_STARS)
        if not in_order or (full == len(drawn) and not after_label and drawn != "★★★★★"):
            return self._pictures(stars, text, start, final)
        language = self._language(text, end, final)
        if language is None:
            return at, False
        words = f"{full}星"
        if language == "en":
            words = f"{full} stars" if after_label and full > 1 else f"{full} star"
        if would_merge(self._last, words[0]):
            words = " " + words
        self._say(words, spread(len(words), list(range(start + at, start + end))))
        self._leave_gap(start + end - 1)
        return end, True

    def _language(self, text: str, end: int, final: bool) -> Language | None:
        """Of the nearest letter before `end`, else of one soon after; None when it has not come yet."""
        known = self._fixed or self._letters or first_language(text[end : end + _LANGUAGE_LOOKAHEAD])
        return known or ("en" if final or len(text) - end >= _LANGUAGE_LOOKAHEAD else None)

    def _pictures(self, pictures: re.Match[str], text: str, start: int, final: bool) -> tuple[int, bool]:
        """Passes pictures: how far, and False when the character after the text may change the next one."""
        at, end = pictures.span()
        token = text.find(_TOKEN_OPEN, at, end)
        if self._keep_verdicts:
            for verdict in _VERDICTS.finditer(text, at, end if token < 0 else token):
                self._keep(verdict[0], start + verdict.start())
                at = verdict.end()
        if end > at:
            self._leave_gap(start + at)
        return (end if token < 0 else self._open_token(text, token + 1)), True

    def _open_token(self, text: str, at: int) -> int:
        self._token_chars = 0
        return self._end_of_token(text, at)

    def _end_of_token(self, text: str, at: int) -> int:
        """How far the silence goes of a citation token that was opened before `at`."""
        assert self._token_chars is not None
        body = _TOKEN_BODY.match(text, at, at + _TOKEN_LIMIT - self._token_chars)
        assert body is not None
        self._token_chars += body.end() - at
        if body.end() < len(text) or self._token_chars == _TOKEN_LIMIT:
            self._token_chars = None
        return body.end()

    def _leave_gap(self, offset: int) -> None:
        if self._gap is None:
            self._gap = offset

    def _keep(self, text: str, start: int) -> None:
        if not text:
            return
        self._letters = last_language(text) or self._letters
        before, self._kept = self._kept, (self._kept + text)[-_LAST_CHARS:]
        text = _LINE_BREAKS.sub("\n", text)
        line_at = text.rfind("\n") + 1
        self._before_words = (self._before_words or line_at > 0) and not text[line_at:].strip(_BEFORE_WORDS)
        if _WIDE.search(text) or "，" in text:
            text = _WIDE_COMMA.sub(",", before[-1:] + text)[len(before[-1:]) :].translate(_NARROW)
        self._say(text, range(start, start + len(text)))

    def _say(self, text: str, offsets: Sequence[int]) -> None:
        if self._gap is not None and must_part(self._last, text[0]):
            self._emit(" ", [self._gap])
        self._gap = None
        self._emit(text, offsets)

    def _emit(self, text: str, offsets: Sequence[int]) -> None:
        self._parts.append(text)
        self._offsets += offsets
        self._last = text[-1]


class NamingFilter(SilentFilter):
    """Says the names of emoji in place of dropping them, once where one is repeated."""

    def __init__(self, language: Language | None) -> None:
        super().__init__(keep_verdicts=False, language=language)
        self._named = ""  # the name that only blanks have been kept after
        self._break = ""  # what stands between it and a word
        self._blank_at: int | None = None  # of the first blank after it
        self._visible = "\n"  # the last character that is no blank

    def _pictures(self, pictures: re.Match[str], text: str, start: int, final: bool) -> tuple[int, bool]:
        at = pictures.start()
        while at < pictures.end():
            if text[at] == _TOKEN_OPEN:
                self._leave_gap(start + at)
                return self._open_token(text, at + 1), True
            emoji = _EMOJI.match(text, at)
            assert emoji is not None
            end = emoji.end()
            goes_on = end == len(text) or (end == len(text) - 1 and text[end] == "\u200d")
            language = self._language(text, end, final)
            if (goes_on and not final) or language is None:
                return at, False
            name = emoji_name(emoji[0], language)
            if name is None or name == self._named:
                self._leave_gap(start + at)
            else:
                self._name(name, language, list(range(start + at, start + end)))
            at = end
        return at, True

    def _say(self, text: str, offsets: Sequence[int]) -> None:
        if self._named:
            self._end_name(text[0], offsets[0])
        super()._say(text, offsets)

    def _name(self, name: str, language: Language, offsets: list[int]) -> None:
        pause, stop = _BREAKS[language]
        ended = self._visible in _SENTENCE_ENDED
        words = name
        if self._visible.isalnum():
            words = pause + words
        elif self._blank_at is not None or (language == "en" and ended and self._last == self._visible):
            words = " " + words
        self._gap = self._blank_at = None
        self._emit(words, spread(len(words), offsets))
        self._named, self._break, self._visible = name, stop if ended else pause, name[-1]

    def _keep(self, text: str, start: int) -> None:
        if self._named:
            blank = _BLANK.match(text)
            assert blank is not None
            if blank.end() and self._blank_at is None:
                self._blank_at = start
            text = text[blank.end() :]
            start += blank.end()
        visible = text.rstrip(_BLANKS)
        if visible:
            self._visible = visible[-1]
        super()._keep(text, start)

    def _end_name(self, follower: str, start: int) -> None:
        if follower.isalnum() or follower in _OPENING:
            self._gap = None
            at = start if self._blank_at is None else self._blank_at
            self._emit(self._break, [at] * len(self._break))
        elif self._blank_at is not None:
            self._emit(" ", [self._blank_at])
        self._named = self._break = ""
        self._blank_at = None
