"""The reader of Markdown: what stands between words in it, and the HTML that models write into it.

Look-ahead, in characters: a mark of emphasis the one behind it; a tag 400; a citation, a reference or an
address in angle brackets 70 (400 for a URL there); a stage direction 18; an entity 10; a face of symbols 17;
a formula as formulas.py says. Inline code, and the label of a link that begins as no stage direction does,
wait for nothing, which is why inline code is always read, however long it is.
"""

import html
import re
from collections.abc import Callable
from typing import Literal

import regex

from cosyduplex_server.text.blocks import BLANK, Blocks
from cosyduplex_server.text.formulas import Formula, find_formula, say_formula
from cosyduplex_server.text.runs import CJK, CJK_CHAR, Language, is_spaced_word_char, would_merge
from cosyduplex_server.text.silent import NO_MARKS, YES_MARKS, is_invisible, is_picture
from cosyduplex_server.text.tags import (
    BLOCK_TAGS,
    CELL_TAGS,
    COMMENT_END,
    LONGEST_END,
    THOUGHT_END,
    find_angled,
    find_silent_tag,
    find_tag,
    leaves_gap,
    may_become_tag,
)

_MARK = re.compile(rf"[*_~～〜`\[\]!<|｜\\\n$&=(（【◁/:;#¯\-{YES_MARKS}{NO_MARKS}]")
_CODE_MARK = re.compile("[`\n<|｜]")
_BEFORE_IMAGE = frozenset(("", *" \t\n\u3000[(:："))
_BEFORE_FACE = frozenset(("", *" \t\n\u3000"))
_DESTINATION_STOP = re.compile(r"[()\s]")
_DATA = "data:"  # an image within the text, however long
_DESTINATION_LIMIT = 400
_TITLE_STOP = re.compile(r"[)\n]")
_ESCAPABLE = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_LONGEST_RUN = 64  # backticks, dashes
_CLOSING_HASHES = regex.compile(r"#{1,6}[ \t]{0,16}\n")

# --- Brackets
_BRACKETED = regex.compile(
    r"(?P<token>\[(?:/?(?:INST|SYS|THINK|PAD|CLS|SEP|UNK|MASK|EOS|BOS|TOOL_CALLS|TOOL_RESULTS))\])"
    r"|(?P<citation>\[(?:\^[^\[\]\s]{1,32}|\d{1,3}(?::\d{1,3})?†[^\[\]\n]{0,64}"
    r"|\d{1,3}(?:[ ]?[,，、;–-][ ]?\d{1,3}){0,9})\])"
)
_SOURCE = regex.compile(r"【\d{1,3}(?::\d{1,3})?†[^【】\n]{0,64}】")
_REFERENCE = regex.compile(r"\]\[[^\[\]\n]{0,64}\]")
_NUMBER = re.compile(r"\d+")
# Behind these a number in brackets is an index, and numbers are a list.
_ARRAYS = frozenset(
    "array arrays arr list lists num nums args argv data dp matrix row rows item items index tuple tuples "
    "vector vectors 数组 列表 向量 序列 矩阵 元组".split()
)
_LISTED = _ARRAYS | frozenset(
    "set sets number numbers value values range ranges scale scales interval intervals rating ratings score "
    "scores input inputs output outputs sequence sequences coordinate coordinates is are be of return "
    "returns give gives become becomes get between 集合 区间 范围 是 为 得到 返回 输入 输出".split()
)
_LIST_SIGNS = frozenset("=:：∈(（,，+[")
_WORD_BEFORE = re.compile(rf"(?:[A-Za-z_][A-Za-z0-9_]*|[^{CJK}]|[{CJK}]{{1,2}})( ?)\Z")
_LAST_CHARS = 16

# --- Faces
_FACE_SIGNS = frozenset("^_▽ω∀д‿°´｀`・•◕⌒ಠ益ツᴗ﹏￣︶≧≦ᵔ♡☆★✧╯╰╥﹃◡ﾟ♥¯")
_FACE = regex.compile(
    r"[(（](?:[^\s()（）0-9A-Za-z\u4e00-\u9fff]{2,14}|([oOTtuUxXqQvV;>^])[_.wωo▽-]{1,3}\1[;~*]?)[)）]"
)
_SHRUG = regex.compile(r"¯\\{0,3}_\\?\(ツ\)\\?_/¯")
_SMILEY = regex.compile(r"[:;][-'^o]?(?:[)(DPp*]{1,3}|[/\\](?=[\s,.!?]))")

# --- The rest
_ENTITY = regex.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8}\d{0,2});")
_ADDRESS = re.compile(rf"[^\s<>*\"`|\\^{{}}()\[\]\u3000-\u303f\uff00-\uffef…{CJK}]+")
_AFTER_ANGLE = re.compile(r"[A-Za-z0-9/!?\s._%+-]")
_THOUGHT_TOKEN = regex.compile(r"◁(/?)think▷")
_THOUGHT_TOKEN_END = re.compile("◁/think▷")
_BRACKETED_THOUGHT_END = re.compile(r"\[/THINK\]")
_ENVIRONMENT = regex.compile(r"\\begin\{([A-Za-z]{1,16}\*?)\}")
_SOFT_PARTICLES = frozenset("的呀啊哦噢呢吧啦嘛哈嗯哟喔呐么了吗嘿嗨哇耶")
_AFTER_TILDE = frozenset("!！?？。.”\"'’)）…")
_VERDICTS: dict[Language, tuple[str, str]] = {"en": ("yes", "no"), "zh": ("是", "否")}


class Markdown(Blocks):
    """Speaks what a reader of the rendered page would see; code blocks, URLs and thoughts are silent."""

    def __init__(
        self, language: Language | None, *, code: Literal["skip", "announce"], tables: Literal["read", "skip"]
    ) -> None:
        super().__init__(language, code=code, tables=tables)
        self._emphasis_open = False
        self._strong_open = False
        self._highlight_open = False
        self._index_open = False  # the bracket that is open stands right behind a word
        self._code_ticks = 0
        self._paren_depth = 0
        self._destination_left: int | None = 0  # characters that may still belong to it; None: any number
        self._silence_end = THOUGHT_END
        self._marks: dict[str, Callable[[], bool]] = {
            "*": self._stars,
            "_": self._underscores,
            "~": self._tildes,
            "～": self._tildes,
            "〜": self._tildes,
            "`": self._backticks,
            "[": lambda: self._direction(self._open_bracket),
            "]": self._close_bracket,
            "!": self._exclamation,
            "<": self._angle,
            "|": self._cell_border,
            "｜": self._bar,
            "\\": self._backslash,
            "\n": self._line_end,
            "$": self._dollar,
            "&": self._ampersand,
            "=": self._equals,
            "(": lambda: self._direction(self._paren),
            "（": lambda: self._direction(self._paren),
            "【": lambda: self._direction(self._source),
            "◁": self._thought_token,
            "/": self._slash,
            ":": self._colon,
            ";": self._colon,
            "#": self._hashes,
            "-": self._hyphens,
            "¯": self._shrug,
            **dict.fromkeys(YES_MARKS + NO_MARKS, self._verdict),
        }

    @property
    def held_from(self) -> int | None:
        return None if self._mode == self._silence else super().held_from

    def _line_end(self) -> bool:
        self._break_line(self._at + 1)
        return True

    def _break_line(self, end: int) -> None:
        super()._break_line(end)
        self._emphasis_open = self._strong_open = self._highlight_open = self._index_open = False

    def _prose(self) -> bool:
        mark = _MARK.search(self._text, self._at)
        end = mark.start() if mark else len(self._text)
        return self._speak(end) if end > self._at else self._marks[self._text[self._at]]()

    def _say_char(self) -> bool:
        return self._speak(self._at + 1)

    # --- Emphasis

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
        return self._speak(end) if would_merge(self._before, after) else self._skip(end)

    def _equals(self) -> bool:
        """ "==marked==" is highlighted; "a == b" and "a === b" are said."""
        end = self._run_end("=", _LONGEST_RUN)
        after = None if end is None else self._peek(end)
        if end is None or after is None:
            return False
        length = end - self._at
        if length == 1:
            return self._speak(end)
        if length > 2:
            return self._speak(end) if length == 3 and after not in ("", "\n") else self._leave_gap(end)
        before_blank = not self._before or self._before.isspace()
        after_blank = not after or after.isspace()
        if self._highlight_open and not before_blank:
            self._highlight_open = False
            return self._skip(end)
        if not after_blank and (before_blank or not is_spaced_word_char(self._before)):
            self._highlight_open = True
            return self._skip(end)
        return self._speak(end)

    def _tildes(self) -> bool:
        """Strikes out, draws a word out (a pause), or stands between numbers (said)."""
        char = self._text[self._at]
        end = self._run_end(char, 4)
        after = None if end is None else self._peek(end)
        if end is None or after is None:
            return False
        length = end - self._at
        if char == "~" and (length == 2 or self._before == "~"):
            return self._skip(end)
        if not self._before.isalpha():
            closes = self._before in _AFTER_TILDE and self._before and not after.isalnum()
            return self._skip(end) if closes else self._speak(end)
        if after.isalnum():
            drawn_out = length > 2 or self._before in _SOFT_PARTICLES
            return self._pause(end) if drawn_out and not after.isdigit() else self._speak(end)
        if after and after != "\n" and after.isspace():
            return self._pause(end, blank_follows=True)
        return self._speak(end) if after == "/" else self._skip(end)

    def _pause(self, end: int, *, blank_follows: bool = False) -> bool:
        """A comma in place of what stands before `end`."""
        if self._cell is None:
            comma = "，" if CJK_CHAR.match(self._spoken) else "," if blank_follows else ", "
            self._emit(comma, [self._offsets[self._at]] * len(comma))
        return self._skip(end)

    def _hyphens(self) -> bool:
        """Two or more are a dash: "so -- he said", "-->"; "--flag" and "word-word" are said."""
        end = self._run_end("-", _LONGEST_RUN)
        if end is None:
            return False
        if end == self._at + 1:
            return self._speak(end)
        after = self._peek(end)
        if after is None:
            return False
        if end == self._at + 2 and after.isalnum():
            if not self._before or self._before.isspace():
                return self._speak(end)
            if after.isdigit() and self._before.isdigit():
                self._skip(self._at + 1)
                return self._speak(end)
        if self._spoken != "—":
            self._speak_instead("—", [self._offsets[self._at]])
        return self._skip(end + 1 if after == ">" else end)

    def _hashes(self) -> bool:
        """Those at the end of a heading close it."""
        end = self._run_end("#", 7)
        if end is None:
            return False
        if not self._in_heading or not self._before.isspace():
            return self._speak(end)
        closing = _CLOSING_HASHES.match(self._text, self._at, partial=True)
        if closing is not None and closing.partial and not self._final:
            return False
        return self._speak(end) if closing is None else self._skip(end)

    # --- Single characters

    def _exclamation(self) -> bool:
        # After a word it ends a sentence at once; after a space or a colon it may begin an image.
        if self._before not in _BEFORE_IMAGE:
            return self._say_char()
        after = self._peek(self._at + 1)
        if after is None:
            return False
        return self._skip(self._at + 1) if after == "[" else self._say_char()

    def _backslash(self) -> bool:
        after = self._peek(self._at + 1)
        if after is None:
            return False
        if after and after in "([":
            return self._escaped_bracket(after)
        if after == "b":
            return self._environment()
        if after not in _ESCAPABLE and after != "\n":
            return self._say_char()
        self._skip(self._at + 1)
        if after == "\n":
            return True
        return self._bar() if after == "|" else self._say_char()

    def _ampersand(self) -> bool:
        entity = _ENTITY.match(self._text, self._at, partial=True)
        if entity is not None and entity.partial and not self._final:
            return False
        char = html.unescape(entity[0]) if entity is not None and not entity.partial else ""
        if entity is None or not char or char == entity[0]:
            return self._say_char()
        if char.isspace():
            return self._space_instead(entity.end())
        if is_picture(char):
            return self._leave_gap(entity.end())
        if is_invisible(char):
            return self._skip(entity.end())
        if char[0] in "|｜" and self._spoken == "<":
            return self._skip(entity.end())
        self._join(char)
        self._emit(char, self._offsets[self._at : self._at + 1] * len(char))
        return self._skip(entity.end())

    def _space_instead(self, end: int) -> bool:
        if self._table:
            self._blank = self._offsets[self._at]
        elif self._cell is None:
            self._emit(" ", [self._offsets[self._at]])
        return self._skip(end)

    def _slash(self) -> bool:
        """The "//" of a URL: what follows is copied up to its end."""
        if self._before != ":":
            return self._say_char()
        after = self._peek(self._at + 1)
        if after is None:
            return False
        if after == "/":
            self._mode = self._address
            return self._speak(self._at + 2)
        return self._say_char()

    def _address(self) -> bool:
        address = _ADDRESS.match(self._text, self._at)
        return self._speak(address.end()) if address else self._enter_prose()

    def _verdict(self) -> bool:
        """✅ as the whole of a cell says yes; elsewhere it has no sound."""
        if not (self._table and self._table.in_row and self._cell is not None):
            return self._leave_gap(self._at + 1)
        blank = BLANK.match(self._text, self._at + 1)
        follower = self._peek(blank.end() if blank else self._at + 1)
        if follower is None:
            return False
        if follower not in ("", "\n", "|"):
            return self._leave_gap(self._at + 1)
        negative = self._text[self._at] in NO_MARKS
        self._speak_instead(_VERDICTS[self._language()][negative], [self._offsets[self._at]])
        return self._skip(self._at + 1)

    def _paren(self) -> bool:
        """A face made of symbols has no sound."""
        face = _FACE.match(self._text, self._at, partial=True)
        if face is not None and face.partial and not self._final:
            return False
        if face is None or face.partial or not (face[1] or _FACE_SIGNS.intersection(face[0])):
            return self._say_char()
        return self._leave_gap(face.end())

    def _shrug(self) -> bool:
        shrug = _SHRUG.match(self._text, self._at, partial=True)
        if shrug is not None and shrug.partial and not self._final:
            return False
        return self._say_char() if shrug is None or shrug.partial else self._leave_gap(shrug.end())

    def _colon(self) -> bool:
        """:-) between blanks has no sound."""
        if self._before not in _BEFORE_FACE:
            return self._say_char()
        smiley = _SMILEY.match(self._text, self._at, partial=True)
        if smiley is None or (smiley.partial and self._final):
            return self._say_char()
        after = None if smiley.partial else self._peek(smiley.end())
        if after is None:
            return False
        return self._say_char() if after.isalnum() else self._skip(smiley.end())

    # --- Links and citations

    def _open_bracket(self) -> bool:
        found = _BRACKETED.match(self._text, self._at, partial=True)
        if found is not None and found.partial and not self._final:
            return False
        if found is None or found.partial:
            return self._open_label()
        if found["token"]:
            if found["token"] == "[THINK]":
                return self._fall_silent(found.end(), _BRACKETED_THOUGHT_END)
            return self._leave_gap(found.end())
        return self._open_label() if self._is_index(found["citation"]) else self._citation(found.end())

    def _citation(self, end: int) -> bool:
        after = self._peek(end)
        if after is None:
            return False
        if after != "(":
            return self._leave_gap(end)
        self._leave_gap(end + 1)
        return self._enter_destination()

    def _is_index(self, written: str) -> bool:
        """Whether numbers in brackets are read: the index of an array, the elements of a list."""
        if written[1] == "^" or "†" in written:
            return False
        numbers = _NUMBER.findall(written)
        if "0" in numbers or (self._before == "]" and self._index_open):
            return True
        return self._follows_list_word() if len(numbers) > 1 else self._follows_array_name()

    def _follows_list_word(self) -> bool:
        said = self._said()[-_LAST_CHARS:].rstrip()
        if self._before == "[" or said[-1:] in _LIST_SIGNS:
            return True
        word = _WORD_BEFORE.search(said)
        return word is not None and (word[0].lower() in _LISTED or word[0][-1:] in _LISTED)

    def _follows_array_name(self) -> bool:
        """Behind "nums", "x", "my_list" or "=", a letter or name without a blank."""
        found = _WORD_BEFORE.search(self._said()[-_LAST_CHARS:])
        if found is None:
            return False
        name = found[0].removesuffix(" ")
        if name in _ARRAYS or name == "=":
            return True
        return not found[1] and ("_" in name or (len(name) == 1 and "a" <= name <= "z"))

    def _open_label(self) -> bool:
        # A bracket has no sound, so a label need not wait for its "](": only words must not run together.
        behind_word = is_spaced_word_char(self._before)
        if self._cell is None and (self._before == "]" or behind_word):
            self._emit(" ", [self._offsets[self._at]])
        self._index_open = behind_word or (self._before == "]" and self._index_open)
        return self._skip(self._at + 1)

    def _close_bracket(self) -> bool:
        after = self._peek(self._at + 1)
        if after is None:
            return False
        if after == "(":
            self._skip(self._at + 2)
            return self._enter_destination()
        if after == "[" and not self._index_open:
            reference = _REFERENCE.match(self._text, self._at, partial=True)
            if reference is not None and reference.partial and not self._final:
                return False
            if reference is not None and not reference.partial:
                return self._skip(reference.end())
        return self._skip(self._at + 1)

    def _enter_destination(self) -> bool:
        self._paren_depth = 1
        self._mode = self._destination_start
        return True

    def _destination_start(self) -> bool:
        start = self._text[self._at : self._at + len(_DATA)]
        if _DATA.startswith(start) and start != _DATA and not self._final:
            return False
        self._destination_left = None if start == _DATA else _DESTINATION_LIMIT
        self._mode = self._destination
        return True

    def _destination(self) -> bool:
        end = self._destination_end()
        stop = _DESTINATION_STOP.search(self._text, self._at, end)
        if stop is None:
            return self._pass_destination(end)
        if stop[0].isspace():
            self._pass_destination(stop.start())
            self._mode = self._prose if stop[0] == "\n" else self._title
            return True
        self._paren_depth += 1 if stop[0] == "(" else -1
        self._pass_destination(stop.end())
        if self._paren_depth == 0:
            self._mode = self._prose
        return True

    def _title(self) -> bool:
        if blank := BLANK.match(self._text, self._at):
            return self._skip(blank.end())
        self._mode = self._title_text if self._text[self._at] in "\"'()" else self._prose
        return True

    def _title_text(self) -> bool:
        end = self._destination_end()
        stop = _TITLE_STOP.search(self._text, self._at, end)
        if stop is None:
            return self._pass_destination(end)
        self._mode = self._prose
        return self._skip(stop.end() if stop[0] == ")" else stop.start())

    def _destination_end(self) -> int:
        """How far the silence may go for now."""
        left = self._destination_left
        return len(self._text) if left is None else min(len(self._text), self._at + left)

    def _pass_destination(self, end: int) -> bool:
        """Passes silently; what is not closed within the limit is text from there on."""
        if self._destination_left is not None:
            self._destination_left -= end - self._at
            if self._destination_left == 0:
                self._mode = self._prose
        return self._skip(end)

    def _source(self) -> bool:
        source = _SOURCE.match(self._text, self._at, partial=True)
        if source is not None and source.partial and not self._final:
            return False
        return self._say_char() if source is None or source.partial else self._leave_gap(source.end())

    # --- Code

    def _backticks(self) -> bool:
        end = self._run_end("`", _LONGEST_RUN)
        after = None if end is None else self._peek(end)
        if end is None or after is None:
            return False
        if end - self._at >= 3:
            opens_block = self._fence_in_line(end)
            if opens_block is None:
                return False
            if opens_block:
                self._break_line(self._at)
                self._line_blank = False
                return self._open_fence(end, self._text[end : self._text.index("\n", end)])
        apostrophe = end == self._at + 1 and would_merge(self._before, after)
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
        return self._end_inline_code() if char == "`" else self._bar()

    def _end_inline_code(self) -> bool:
        run_end = self._run_end("`", self._code_ticks)
        if run_end is None:
            return False
        if run_end - self._at == self._code_ticks:
            self._mode = self._prose
        return self._skip(run_end)

    # --- Formulas

    def _dollar(self) -> bool:
        if is_spaced_word_char(self._before):  # US$5
            return self._say_char()
        end = self._run_end("$", 2)
        if end is None:
            return False
        opener = self._text[self._at : end]
        formula = find_formula(self._text, self._at, opener, final=self._final)
        if formula is None:
            return False
        if isinstance(formula, Formula):
            return self._say_formula(formula)
        return self._say_char() if opener == "$" else self._skip(end)

    def _escaped_bracket(self, bracket: str) -> bool:
        formula = find_formula(self._text, self._at, f"\\{bracket}", final=self._final)
        if formula is None:
            return False
        if isinstance(formula, Formula):
            return self._say_formula(formula)
        self._skip(self._at + 1)
        return self._say_char()

    def _environment(self) -> bool:
        begun = _ENVIRONMENT.match(self._text, self._at, partial=True)
        if begun is None or (begun.partial and self._final):
            return self._say_char()
        if begun.partial:
            return False
        return self._say_formula(Formula(None, begun.end(), f"\\end{{{begun[1]}}}"))

    def _say_formula(self, formula: Formula) -> bool:
        words = say_formula(formula.tex, self._language())
        source = self._offsets[self._at : formula.end]
        if self._gap is None:
            self._gap = source[0]
        self._speak_instead(words, source)
        self._skip(formula.end)
        self._gap = source[-1]
        if formula.tex is None:
            self._silence_end = re.compile(rf"{re.escape(formula.closer)}|\n[ \t]{{0,8}}\n")
            self._mode = self._silence
        return True

    # --- Tags and silence

    def _angle(self) -> bool:
        after = self._peek(self._at + 1)
        if after is None:
            return False
        if not _AFTER_ANGLE.match(after):
            return super()._angle()
        if self._silent_tag() or self._comment() or self._tag():
            return True
        angled = None if after in "/ \t\n" else find_angled(self._text, self._at)
        if angled is not None and not angled.partial:
            return self._angled(angled)
        if not self._final and (angled is not None or may_become_tag(self._text, self._at)):
            return False
        return self._say_char()

    def _angled(self, found: "regex.Match[str]") -> bool:
        name = "bare" if found["bare"] else "address"
        if found[name]:
            start, end = found.span(name)
            self._skip(start)
            self._speak(end)
        return self._skip(found.end())

    def _silent_tag(self) -> bool:
        tag = find_silent_tag(self._text, self._at)
        if tag is None:
            return False
        if tag.until is None:
            return self._leave_gap(tag.end)
        if tag.is_code:
            self._announce_code("", self._at, tag.end)
        return self._fall_silent(tag.end, tag.until)

    def _comment(self) -> bool:
        return self._text.startswith("<!--", self._at) and self._fall_silent(self._at + 4, COMMENT_END)

    def _thought_token(self) -> bool:
        token = _THOUGHT_TOKEN.match(self._text, self._at, partial=True)
        if token is not None and token.partial and not self._final:
            return False
        if token is None or token.partial:
            return self._say_char()
        return (
            self._leave_gap(token.end()) if token[1] else self._fall_silent(token.end(), _THOUGHT_TOKEN_END)
        )

    def _fall_silent(self, start: int, end: re.Pattern[str]) -> bool:
        """Leaves out what stands from `start` to `end`, or to the end of the text without one."""
        self._silence_end = end
        self._mode = self._silence
        return self._leave_gap(start)

    def _silence(self) -> bool:
        end = self._silence_end.search(self._text, self._at)
        if end is None:
            # The beginning of an end may be the last that has come.
            self._at = max(self._at, len(self._text) - LONGEST_END + 1)
            return False
        self._mode = self._prose if self._line_spoken else self._line_start
        return self._skip(end.end())

    def _tag(self) -> bool:
        tag = find_tag(self._text, self._at)
        if tag is None:
            return False
        name, end = tag
        if name == "br" and self._table and self._table.in_row:
            return self._pause_in_cell(end)
        if name in BLOCK_TAGS:
            self._break_line(end)
            return True
        if name in CELL_TAGS:
            return self._border(end, leads=False)
        return self._leave_gap(end) if leaves_gap(name) else self._skip(end)

    def _pause_in_cell(self, end: int) -> bool:
        if self._cell is None and self._line_spoken:
            self._cell = self._offsets[self._at]
        return self._skip(end)
