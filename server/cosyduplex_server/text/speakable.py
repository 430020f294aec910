"""What a person would say of written text: markup, emoji and invisible characters fall away, offsets stay.

Text comes in any split; every decision is a function of the characters alone and looks a bounded way ahead.
What cannot be decided yet is held until the next character, or until the writer flushes. The result is a
stream of runs, each character with its offset in the appended text.

A few characters are replaced rather than copied: line breaks by "\\n", a table's cell border by a comma, a
block-level HTML tag by "\\n", a "[" between words and whatever silent thing stood between two words by " ".
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

# Written without spaces between words: Han, kana, bopomofo.
CJK = (
    "\u3005-\u3007\u3041-\u3096\u3099-\u30ff\u3105-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_CJK_CHAR = re.compile(f"[{CJK}]")


@dataclass(frozen=True, slots=True)
class Run:
    """Characters to speak and where each stands in the appended text."""

    text: str
    offsets: list[int]


def is_spaced_word_char(char: str) -> bool:
    """True for a letter or digit of a script that puts spaces between words."""
    return char.isalnum() and _CJK_CHAR.match(char) is None


def _would_merge(left: str, right: str) -> bool:
    return is_spaced_word_char(left) and is_spaced_word_char(right)


# --- Characters nobody says -----------------------------------------------------------------------------

_LINE_BREAKS = re.compile("[\r\x0b\x0c\x85\u2028\u2029]")
# Controls, soft hyphen, zero-width, bidi, lone surrogates, variation selectors, tags, specials.
_INVISIBLE = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufe00-\ufe0f\ufeff\ufff9-\uffff\U000e0000-\U000e0fff"
)
# Emoji and their parts, drawing characters, private use (icon fonts). The circled digits, the
# musical accidentals and the circle that Chinese writes for zero stand between these blocks and are spoken.
_PICTURES = (
    "\u20e3\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u2500-\u259f\u25aa\u25ab\u25b6\u25c0"
    "\u25fb-\u25fe\u2600-\u266c\u2670-\u2775\u2794-\u27bf\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d"
    "\ue000-\uf8ff\U0001f000-\U0001f0ff\U0001f10d-\U0001faff\U000f0000-\U0010ffff"
)
_SILENT = re.compile(f"([0-9#*]\ufe0f?\u20e3|[{_PICTURES}]+)|[{_INVISIBLE}]+")
_MAY_BE_KEYCAP = re.compile("[0-9#*]\ufe0f?\\Z")


class _SilentFilter:
    """Removes what has no sound in any markup; holds back at most a digit that may become a keycap."""

    def __init__(self) -> None:
        self._held = ""
        self._last = ""
        self._gap: int | None = None
        self._parts: list[str] = []
        self._offsets: list[int] = []

    @property
    def held_chars(self) -> int:
        return len(self._held)

    def read(self, text: str, start: int, *, final: bool) -> Run:
        """Reads what follows at offset `start`; `final` gives up what is held."""
        start -= len(self._held)
        text = self._held + text
        keycap = None if final else _MAY_BE_KEYCAP.search(text[-2:])
        self._held = keycap[0] if keycap else ""
        text = _LINE_BREAKS.sub("\n", text[: len(text) - len(self._held)])
        self._parts, self._offsets = [], []
        at = 0
        for silent in _SILENT.finditer(text):
            self._keep(text[at : silent.start()], start + at)
            if silent[1] and self._gap is None:
                self._gap = start + silent.start()
            at = silent.end()
        self._keep(text[at:], start + at)
        return Run("".join(self._parts), self._offsets)

    def _keep(self, text: str, start: int) -> None:
        if not text:
            return
        if self._gap is not None and _would_merge(self._last, text[0]):
            self._parts.append(" ")
            self._offsets.append(self._gap)
        self._gap = None
        self._parts.append(text)
        self._offsets += range(start, start + len(text))
        self._last = text[-1]


# --- Control tokens of language models: never spoken, in either markup -----------------------------------

_CONTROL_TOKEN = re.compile(r"<[|｜][^\n|｜<>]{0,64}[|｜]>")
_CONTROL_TOKEN_BEGUN = re.compile(r"<(?:[|｜](?:[^\n|｜<>]{0,64}[|｜]?)?)?\Z")
_PLAIN_MARK = re.compile("[<|｜]")


class _PlainText:
    """Copies text but for control tokens; the base of `_Markdown`.

    A reader is in one mode at a time. A mode takes a step at the cursor and answers whether it got anywhere;
    False means that the decision needs characters that have not come yet.
    """

    def __init__(self) -> None:
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
        self._text = self._text[self._at :]
        del self._offsets[: self._at]
        self._at = 0
        return Run("".join(self._parts), self._part_offsets)

    def _prose(self) -> bool:
        mark = _PLAIN_MARK.search(self._text, self._at)
        end = mark.start() if mark else len(self._text)
        if end > self._at:
            return self._speak(end)
        return self._angle() if self._text[self._at] == "<" else self._bar()

    def _angle(self) -> bool:
        return self._control_token() or self._literal_unless(_CONTROL_TOKEN_BEGUN)

    def _control_token(self) -> bool:
        token = _CONTROL_TOKEN.match(self._text, self._at)
        return token is not None and self._leave_gap(token.end())

    def _literal_unless(self, begun: re.Pattern[str]) -> bool:
        if not self._final and begun.match(self._text, self._at):
            return False
        return self._speak(self._at + 1)

    def _bar(self) -> bool:
        # Removing things must not put a control token together that was not there before.
        if self._spoken == "<":
            return self._skip(self._at + 1)
        return self._speak(self._at + 1)

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
        if self._gap is not None and _would_merge(self._spoken, piece[0]):
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


# --- Markdown and the HTML that models write into it -----------------------------------------------------

_BLOCK_TAGS = frozenset(
    "article aside blockquote br dd details div dl dt figure footer h1 h2 h3 h4 h5 h6 header hr li main ol p "
    "pre section summary table tbody tfoot thead tr ul".split()
)
_CELL_TAGS = frozenset(("td", "th"))
_INLINE_TAGS = frozenset(
    "a abbr audio b bdi bdo big body button center cite code col colgroup del dfn em figcaption font head "
    "html i img input ins kbd label link mark meta q s samp script small source span strike strong style sub "
    "sup svg time tt u var video wbr break emphasis phoneme prosody say-as speak voice".split()
)
_TAGS = _BLOCK_TAGS | _CELL_TAGS | _INLINE_TAGS

# "x<b and c>d" is no tag: one bare attribute (<details open>) is allowed, and only as the last.
_NAME = "[A-Za-z][A-Za-z0-9-]*"
_ATTRIBUTE = "[A-Za-z_:@][\\w:.-]*"
_VALUED = rf"(?:\s+{_ATTRIBUTE}\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>=`]+))*"
_TAG = re.compile(rf"</?({_NAME}){_VALUED}(?:\s+{_ATTRIBUTE})?\s*/?>")
_TAG_BEGUN = re.compile(
    rf"</?(?:({_NAME}){_VALUED}"
    rf"(?:\s+(?:{_ATTRIBUTE}(?:\s*=\s*(?:\"[^\"<>]*|'[^'<>]*|[^\s\"'<>=`]*))?)?)?\s*/?)?\Z"
)
_TAG_LIMIT = 400  # a longer tag is read as text

_THINK = re.compile(r"<\s{0,8}(/?)\s{0,8}think(?:ing)?(?:\s[^<>]{0,200})?(/?)>", re.IGNORECASE)
_THINK_BEGUN = re.compile(r"<\s{0,8}/?\s{0,8}([A-Za-z]*)(?:\s[^<>]{0,200})?/?\Z")
_THINK_END = re.compile(r"<\s{0,8}/\s{0,8}think(?:ing)?\s{0,8}>", re.IGNORECASE)
_COMMENT_BEGUN = re.compile(r"<(?:!-?)?\Z")
_COMMENT_END = re.compile("-->")
_LONGEST_END = 35  # characters of the longest end of a silent passage

_MARK = re.compile(r"[*_~`\[\]!<|｜\\\n]")
_CODE_MARK = re.compile("[`\n<|｜]")
_BLANK = re.compile(r"[^\S\n]+")
_RULE = re.compile("[-:=]{1,3}")
_BULLETS = frozenset("•‣◦●▪■◆·")
_BEFORE_IMAGE = frozenset(("", *" \t\n\u3000[(:："))
_TASK_BOX = re.compile(r"\[[ xX]\]")
_TASK_BOX_BEGUN = re.compile(r"\[[ xX]?\Z")
_DESTINATION_STOP = re.compile(r"[()\s]")
_TITLE_STOP = re.compile(r"[)\n]")
_FENCE_LINE = re.compile(r"[ \t>]{0,64}(`{1,64}|~{1,64})?[ \t]{0,64}")
_ESCAPABLE = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_LONGEST_RUN = 64  # backticks
_INFO_LIMIT = 64  # characters after ``` among which a closing backtick makes it inline code


class _Markdown(_PlainText):
    """Speaks what a reader of the rendered page would see; code blocks, URLs and thoughts are silent."""

    def __init__(self) -> None:
        super().__init__()
        self._mode = self._line_start
        self._cell: int | None = None  # offset of a cell border that nothing has been spoken after
        self._line_spoken = False
        self._emphasis_open = False
        self._strong_open = False
        self._code_ticks = 0
        self._fence = ""
        self._paren_depth = 0
        self._silence_end = _THINK_END
        self._marks: dict[str, Callable[[], bool]] = {
            "*": self._stars,
            "_": self._underscores,
            "~": self._tildes,
            "`": self._backticks,
            "[": self._open_bracket,
            "]": self._close_bracket,
            "!": self._exclamation,
            "<": self._angle,
            "|": self._cell_border,
            "｜": self._bar,
            "\\": self._backslash,
            "\n": self._line_end,
        }

    @property
    def held_from(self) -> int | None:
        silent = self._mode in (self._silence, self._fence_line)
        return None if silent else super().held_from

    def _speak(self, end: int) -> bool:
        # A border's comma stands right before the next word, whichever way the spaces came.
        if self._cell is not None and (blank := _BLANK.match(self._text, self._at, end)):
            super()._speak(blank.end())
        return super()._speak(end) if end > self._at else True

    def _join(self, piece: str) -> None:
        if piece.isspace():
            self._gap = None
            return
        self._line_spoken = True
        if self._cell is None:
            super()._join(piece)
            return
        comma = "，" if _CJK_CHAR.match(piece) else ", "
        self._emit(comma, [self._cell] * len(comma))
        self._cell = self._gap = None

    # --- lines

    def _line_start(self) -> bool:
        """Before the first word of a line: indentation, quotes, bullets, headings, rules, fences."""
        char = self._text[self._at]
        if blank := _BLANK.match(self._text, self._at):
            return self._speak(blank.end())
        if char == ">" or char in _BULLETS:
            return self._skip(self._at + 1)
        if char in "*+":
            return self._bullet()
        if char == "#":
            return self._heading()
        if char in "`~":
            return self._fence_or_code(char)
        if box := _TASK_BOX.match(self._text, self._at):
            return self._skip(box.end())
        if not self._final and _TASK_BOX_BEGUN.match(self._text, self._at):
            return False
        return self._cell_start()

    def _cell_start(self) -> bool:
        """Before the first word of a line or cell: |---|, ---, ===, and the bullet -."""
        if blank := _BLANK.match(self._text, self._at):
            return self._speak(blank.end())
        rule = _RULE.match(self._text, self._at)
        if rule is None:
            return self._enter_prose()
        if len(rule[0]) == 3:
            return self._skip(rule.end())
        follower = self._peek(rule.end())
        if follower is None:
            return False
        if "-" in rule[0] and (not follower or follower.isspace() or follower == "|"):
            return self._skip(rule.end())
        return self._enter_prose()

    def _bullet(self) -> bool:
        follower = self._peek(self._at + 1)
        if follower is None:
            return False
        if not follower or follower.isspace():
            return self._skip(self._at + 1)
        return self._enter_prose()

    def _heading(self) -> bool:
        end = self._run_end("#", 7)
        follower = None if end is None else self._peek(end)
        if end is None or follower is None:
            return False
        if not follower or follower.isspace() or end == self._at + 7:
            return self._skip(end)
        return self._enter_prose()

    def _line_end(self) -> bool:
        self._break_line(self._at + 1)
        return True

    def _break_line(self, end: int) -> None:
        self._emit("\n", [self._offsets[self._at]])
        self._skip(end)
        self._cell = self._gap = None
        self._line_spoken = self._emphasis_open = self._strong_open = False
        self._mode = self._line_start

    def _cell_border(self) -> bool:
        self._border(self._at + 1)
        return True

    def _border(self, end: int) -> None:
        if self._line_spoken and self._cell is None:
            self._cell = self._offsets[self._at]
        self._skip(end)
        self._mode = self._cell_start

    # --- words

    def _enter_prose(self) -> bool:
        self._mode = self._prose
        return True

    def _prose(self) -> bool:
        mark = _MARK.search(self._text, self._at)
        end = mark.start() if mark else len(self._text)
        return self._speak(end) if end > self._at else self._marks[self._text[self._at]]()

    def _stars(self) -> bool:
        end = self._run_end("*", 4)
        after = None if end is None else self._peek(end)
        if end is None or after is None:
            return False
        single = end == self._at + 1
        said = self._says_star(after) if single else self._says_stars(end, after)
        return self._speak(end) if said else self._skip(end)

    def _says_star(self, after: str) -> bool:
        """Follows emphasis: "2*3" and "a * b" are said, the stars of "*word*" are not."""
        before_word = bool(after) and not after.isspace()
        after_word = bool(self._before) and not self._before.isspace()
        if not before_word and not after_word:
            return True
        if self._before.isdigit() and after.isdigit():
            return True
        if self._emphasis_open and after_word:
            self._emphasis_open = False
            return False
        left = self._before in ")]" or is_spaced_word_char(self._before)
        right = after in "([" or is_spaced_word_char(after)
        if after_word and before_word and left and right:
            return True
        self._emphasis_open = before_word
        return False

    def _says_stars(self, end: int, after: str) -> bool:
        """Follows strong emphasis: only the power sign of "2**10" is said."""
        if end != self._at + 2:
            return False
        if after.isdigit() and is_spaced_word_char(self._before) and not self._strong_open:
            return True
        self._strong_open = not self._strong_open
        return False

    def _underscores(self) -> bool:
        end = self._run_end("_", 4)
        after = None if end is None else self._peek(end)
        if end is None or after is None:
            return False
        return self._speak(end) if _would_merge(self._before, after) else self._skip(end)

    def _tildes(self) -> bool:
        end = self._run_end("~", 2)
        if end is None:
            return False
        struck = end == self._at + 2 or self._before == "~"
        return self._skip(end) if struck else self._speak(end)

    def _exclamation(self) -> bool:
        # After a word it ends a sentence at once; after a space or a colon it may begin an image.
        if self._before not in _BEFORE_IMAGE:
            return self._speak(self._at + 1)
        after = self._peek(self._at + 1)
        if after is None:
            return False
        return self._skip(self._at + 1) if after == "[" else self._speak(self._at + 1)

    def _backslash(self) -> bool:
        after = self._peek(self._at + 1)
        if after is None:
            return False
        if after not in _ESCAPABLE and after != "\n":
            return self._speak(self._at + 1)
        self._skip(self._at + 1)
        if after == "\n":
            return True
        return self._bar() if after == "|" else self._speak(self._at + 1)

    # --- links

    def _open_bracket(self) -> bool:
        # A bracket has no sound, so a label need not wait for its "](": only words must not run together.
        if self._before == "]" or is_spaced_word_char(self._before):
            self._emit(" ", [self._offsets[self._at]])
        return self._skip(self._at + 1)

    def _close_bracket(self) -> bool:
        after = self._peek(self._at + 1)
        if after is None:
            return False
        if after != "(":
            return self._skip(self._at + 1)
        self._paren_depth = 1
        self._mode = self._destination
        return self._skip(self._at + 2)

    def _destination(self) -> bool:
        stop = _DESTINATION_STOP.search(self._text, self._at)
        if stop is None:
            return self._skip(len(self._text))
        if stop[0].isspace():
            self._skip(stop.start())
            self._mode = self._prose if stop[0] == "\n" else self._title
            return True
        self._paren_depth += 1 if stop[0] == "(" else -1
        if self._paren_depth == 0:
            self._mode = self._prose
        return self._skip(stop.end())

    def _title(self) -> bool:
        if blank := _BLANK.match(self._text, self._at):
            return self._skip(blank.end())
        self._mode = self._title_text if self._text[self._at] in "\"'()" else self._prose
        return True

    def _title_text(self) -> bool:
        stop = _TITLE_STOP.search(self._text, self._at)
        if stop is None:
            return self._skip(len(self._text))
        self._mode = self._prose
        return self._skip(stop.end() if stop[0] == ")" else stop.start())

    # --- code

    def _backticks(self) -> bool:
        end = self._run_end("`", _LONGEST_RUN)
        after = None if end is None else self._peek(end)
        if end is None or after is None:
            return False
        apostrophe = end == self._at + 1 and _would_merge(self._before, after)
        if not apostrophe:
            self._code_ticks = end - self._at
            self._mode = self._inline_code
        return self._skip(end)

    def _inline_code(self) -> bool:
        mark = _CODE_MARK.search(self._text, self._at)
        end = mark.start() if mark else len(self._text)
        if end > self._at:
            return self._speak(end)
        char = self._text[self._at]
        if char == "\n":
            return self._enter_prose()
        if char == "<":
            return super()._angle()
        if char != "`":
            return self._bar()
        return self._end_inline_code()

    def _end_inline_code(self) -> bool:
        run_end = self._run_end("`", self._code_ticks)
        if run_end is None:
            return False
        if run_end - self._at == self._code_ticks:
            self._mode = self._prose
        return self._skip(run_end)

    def _fence_or_code(self, char: str) -> bool:
        end = self._run_end(char, _LONGEST_RUN)
        if end is None:
            return False
        if end - self._at < 3:
            return self._enter_prose()
        if char == "`":
            info = self._text[end : end + _INFO_LIMIT]
            line, newline, _ = info.partition("\n")
            if "`" in line:
                return self._enter_prose()
            if not newline and len(info) < _INFO_LIMIT and not self._final:
                return False
        self._fence = self._text[self._at : end]
        self._mode = self._fenced
        return self._skip(end)

    def _fenced(self) -> bool:
        newline = self._text.find("\n", self._at)
        if newline < 0:
            return self._skip(len(self._text))
        self._mode = self._fence_line
        return self._skip(newline + 1)

    def _fence_line(self) -> bool:
        """At the start of a line of code: does it close the fence?"""
        line = _FENCE_LINE.match(self._text, self._at)
        assert line is not None
        follower = self._text[line.end() : line.end() + 1]
        closes = (line[1] or "").startswith(self._fence)
        if not follower and not (closes and self._final):
            return False
        if closes and follower in ("", "\n"):
            self._mode = self._prose
            return self._skip(line.end())
        self._mode = self._fenced
        return True

    # --- tags

    def _angle(self) -> bool:
        if self._control_token() or self._thought() or self._comment() or self._tag():
            return True
        if not self._final and self._may_become_tag():
            return False
        return self._speak(self._at + 1)

    def _thought(self) -> bool:
        tag = _THINK.match(self._text, self._at)
        if tag is None:
            return False
        if not tag[1] and not tag[2]:
            self._silence_end = _THINK_END
            self._mode = self._silence
        return self._leave_gap(tag.end())

    def _comment(self) -> bool:
        if not self._text.startswith("<!--", self._at):
            return False
        self._silence_end = _COMMENT_END
        self._mode = self._silence
        return self._leave_gap(self._at + 4)

    def _silence(self) -> bool:
        end = self._silence_end.search(self._text, self._at)
        if end is None:
            # The beginning of an end may be the last that has come.
            self._at = max(self._at, len(self._text) - _LONGEST_END + 1)
            return False
        self._mode = self._prose if self._line_spoken else self._line_start
        return self._skip(end.end())

    def _tag(self) -> bool:
        tag = _TAG.match(self._text, self._at, self._at + _TAG_LIMIT)
        name = tag[1].lower() if tag else ""
        if tag is None or name not in _TAGS:
            return False
        if name in _BLOCK_TAGS:
            self._break_line(tag.end())
        elif name in _CELL_TAGS:
            self._border(tag.end())
        else:
            self._skip(tag.end())
        return True

    def _may_become_tag(self) -> bool:
        if _CONTROL_TOKEN_BEGUN.match(self._text, self._at) or _COMMENT_BEGUN.match(self._text, self._at):
            return True
        if think := _THINK_BEGUN.match(self._text, self._at):
            word, whole = think[1].lower(), think.end(1) < len(self._text)
            if word in ("think", "thinking") if whole else "thinking".startswith(word):
                return True
        if len(self._text) - self._at >= _TAG_LIMIT:
            return False
        tag = _TAG_BEGUN.match(self._text, self._at)
        if tag is None or tag[1] is None:
            return tag is not None
        name = tag[1].lower()
        return name in _TAGS if tag.end(1) < len(self._text) else any(t.startswith(name) for t in _TAGS)


# --- The whole -------------------------------------------------------------------------------------------


class Speakable:
    """Appended text in, runs of what is to be spoken out."""

    def __init__(self, markup: Literal["markdown", "plain"]) -> None:
        self._filter = _SilentFilter()
        self._reader = _Markdown() if markup == "markdown" else _PlainText()

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
