"""What lines begin with in Markdown: headings, lists, quotes, code, tables, definitions.

Look-ahead, in characters: indentation 64 (it has no sound), a list number 12, a definition or task box 60,
the word behind a fence 64, an indented line that may be code 80, a line of symbols alone 80, the head of a
table 400, front matter 45 at the start of the text and then 66 a line. A row of a table waits for nothing:
its cells are read as they come, each after its header.
"""

import re
from typing import Literal

import regex

from cosyduplex_server.text.code_blocks import CODE_LOOKAHEAD, INDENTATION, announcement, looks_like_code
from cosyduplex_server.text.marks import CLAUSE_END, SENTENCE_END
from cosyduplex_server.text.plain import PlainText
from cosyduplex_server.text.runs import CJK_CHAR, Language, Run, last_language, spread
from cosyduplex_server.text.tables import Table, TableHead, find_head, introduce

BLANK = re.compile(r"[^\S\n]+")
_INDENT_LIMIT = 64
_RULE = re.compile("[-:=–—]{1,3}")
_DASHES = frozenset("-–—")
_BULLETS = frozenset("•‣◦●▪■◆·")
_DIGITS = re.compile("[0-9]{1,9}")
_FENCE_LINE = re.compile(r"[ \t>]{0,64}(`{1,64}|~{1,64})?[ \t]{0,64}")
_LONGEST_RUN = 64  # backticks
_INFO_LIMIT = 64  # characters after ``` among which a closing backtick makes it inline code
_FIRST_CELL_LIMIT = 80  # of a row without a border in front, in a table that is left out
_INFO_IN_LINE = regex.compile(r"[ \t]{0,4}[\w+#.-]{0,20}[ \t]{0,4}\n")

_LINE_BRACKET = regex.compile(
    r"(?P<box>\[[ xX]\])|\[!(?P<callout>[A-Za-z]{3,12})\]|(?P<definition>\[(?:\^[^\[\]\s]{1,32}\]:"
    r"|[^\[\]\s^!]{1,32}\]:[ \t]{0,8}<?(?:[a-z][a-z0-9+.-]{1,15}:|www\.|\.{0,2}/|#)))"
)
_SYMBOLS = re.compile(r"[^\w`~$\\<\n]{1,80}")
_FEWEST_SYMBOLS = 3
_SYMBOLS_LIMIT = 80

_FRONT_MATTER = regex.compile(r"---[ \t]{0,4}\n(?=[A-Za-z_][\w-]{0,31}:[ \t\n])")
_YAML_LINE = re.compile(r"\s+\S|[\"']?[\w.-]+[\"']?\s*:(?:\s|$)|- |#")
_YAML_LOOKAHEAD = 66

_STOPPED = frozenset(f"{SENTENCE_END}{CLAUSE_END}!?.,;:~～ ")


class Blocks(PlainText):
    """Reads lines by what they begin with; the words of a line are prose.

    Args:
        language: Of the words it adds itself; None: of the letter before them.
        code: "announce" says that a block of code is left out.
        tables: "read" makes a sentence of a row, "skip" leaves tables out.
    """

    def __init__(
        self, language: Language | None, *, code: Literal["skip", "announce"], tables: Literal["read", "skip"]
    ) -> None:
        super().__init__(language)
        self._announces_code = code == "announce"
        self._reads_tables = tables == "read"
        self._mode = self._text_start
        self._line_mode = self._line_begin  # what reads the line after the one that is passed over
        self._line_spoken = False
        self._line_blank = True
        self._after_blank = True  # the line before is blank
        self._in_list = False
        self._in_heading = False
        self._fence = ""
        self._table: Table | None = None
        self._no_table = False  # this line is known to be no head of one
        self._cell: int | None = None  # offset of a cell border that nothing has been spoken after
        self._cell_header = ""
        self._blank: int | None = None  # offset of blanks in a cell that something may follow

    @property
    def held_from(self) -> int | None:
        silent = self._mode in (
            self._rest_of_line,
            self._fence_line,
            self._indented_code,
            self._front_matter,
        )
        return None if silent else super().held_from

    def _enter_prose(self) -> bool:
        self._mode = self._prose
        return True

    def _pass_line(self, end: int) -> bool:
        """Leaves the rest of the line out."""
        self._mode = self._rest_of_line
        return self._skip(end)

    def _rest_of_line(self) -> bool:
        newline = self._text.find("\n", self._at)
        if newline < 0:
            return self._skip(len(self._text))
        self._after_blank = False
        self._line_blank = True
        self._mode = self._line_mode
        return self._skip(newline + 1)

    # --- Where a line begins

    def _text_start(self) -> bool:
        begun = _FRONT_MATTER.match(self._text, self._at, partial=True)
        if begun is None or (begun.partial and self._final):
            self._mode = self._line_begin
            return True
        if begun.partial:
            return False
        self._mode = self._front_matter
        return self._skip(begun.end())

    def _front_matter(self) -> bool:
        """At the start of a line that is read only if it is not YAML."""
        newline = self._text.find("\n", self._at)
        end = newline if newline >= 0 else len(self._text)
        if newline < 0 and end - self._at < _YAML_LOOKAHEAD and not self._final:
            return False
        line = self._text[self._at : min(end, self._at + _YAML_LOOKAHEAD)]
        if line.rstrip() in ("---", "..."):
            self._line_mode = self._line_begin
            return self._pass_line(self._at)
        if not _YAML_LINE.match(line):
            self._mode = self._line_begin
            return True
        self._line_mode = self._front_matter
        return self._pass_line(self._at)

    def _line_begin(self) -> bool:
        """Before the indentation of a line."""
        blank = BLANK.match(self._text, self._at, self._at + _INDENT_LIMIT)
        end = blank.end() if blank else self._at
        if end == len(self._text) and end < self._at + _INDENT_LIMIT and not self._final:
            return False
        is_code = self._begins_indented_code(end)
        if is_code is None:
            return False
        if is_code:
            self._announce_code("", self._at, end)
            self._line_mode = self._indented_code
            return self._pass_line(end)
        if self._text[end : end + 1] == "\n":
            self._table = None
        elif end == self._at:
            self._in_list = False
        self._mode = self._after_indentation
        return self._skip(end)

    def _begins_indented_code(self, end: int) -> bool | None:
        if not self._after_blank or self._in_list or not INDENTATION.match(self._text, self._at):
            return False
        if self._text[end : end + 1] in ("", "\n"):
            return False
        newline = self._text.find("\n", end, end + CODE_LOOKAHEAD)
        if newline < 0 and len(self._text) - end < CODE_LOOKAHEAD and not self._final:
            return None
        return looks_like_code(self._text[end : newline if newline >= 0 else end + CODE_LOOKAHEAD])

    def _indented_code(self) -> bool:
        """At the start of a line: does the block of indented code go on?"""
        blank = BLANK.match(self._text, self._at)
        end = blank.end() if blank else self._at
        if end == len(self._text) and not self._final:
            return False
        if self._text[end : end + 1] in ("", "\n") or INDENTATION.match(self._text, self._at):
            return self._pass_line(end)
        self._mode = self._line_begin
        return True

    def _after_indentation(self) -> bool:
        """Leaves out a line of nothing but symbols: a rule, a frame, a drawing."""
        symbols = _SYMBOLS.match(self._text, self._at)
        if symbols is None:
            self._mode = self._line_start
            return True
        end = symbols.end()
        full = end == self._at + _SYMBOLS_LIMIT
        if end == len(self._text) and not full and not self._final:
            return False
        self._mode = self._line_start
        nothing_else = full or self._text[end : end + 1] in ("", "\n")
        if nothing_else and len("".join(symbols[0].split())) >= _FEWEST_SYMBOLS:
            self._line_blank = False
            self._mode = self._prose
            return self._skip(end)
        return True

    def _line_start(self) -> bool:
        """Before the first word of a line: quotes, bullets, headings, rules, fences."""
        char = self._text[self._at]
        if char == "\n":
            return self._enter_prose()
        if blank := BLANK.match(self._text, self._at):
            return self._speak(blank.end())
        self._line_blank = False
        if self._table is not None:
            return self._row_start(char)
        if char == "|":
            return self._cell_border()
        if char == ">":
            return self._skip(self._at + 1)
        if char in _BULLETS:
            self._in_list = True
            return self._skip(self._at + 1)
        if char in "*+":
            return self._bullet()
        if char == "#":
            return self._heading()
        if char in "`~":
            return self._fence_or_code(char)
        if char == "[":
            return self._line_bracket()
        if _DIGITS.match(char):
            return self._list_number()
        return self._cell_start()

    def _cell_start(self) -> bool:
        """Before the first word of a line or cell: |---|, ---, ===, and the bullet -."""
        if blank := BLANK.match(self._text, self._at):
            return self._speak(blank.end())
        rule = _RULE.match(self._text, self._at)
        if rule is None:
            return self._enter_prose()
        if len(rule[0]) == 3:
            return self._skip(rule.end())
        follower = self._peek(rule.end())
        if follower is None:
            return False
        if not _DASHES.isdisjoint(rule[0]) and (not follower or follower.isspace() or follower == "|"):
            self._in_list = True
            return self._skip(rule.end())
        return self._enter_prose()

    def _bullet(self) -> bool:
        follower = self._peek(self._at + 1)
        if follower is None:
            return False
        if not follower or follower.isspace():
            self._in_list = True
            return self._skip(self._at + 1)
        return self._enter_prose()

    def _list_number(self) -> bool:
        """A number is said: it tells how far the list has come."""
        digits = _DIGITS.match(self._text, self._at)
        assert digits is not None
        mark = self._peek(digits.end())
        follower = self._peek(digits.end() + 1) if mark else mark
        if mark is None or (mark in ".)" and follower is None):
            return False
        if mark and mark in ".)" and (not follower or follower.isspace()):
            self._in_list = True
            return self._speak(digits.end() + 1)
        return self._enter_prose()

    def _heading(self) -> bool:
        end = self._run_end("#", 7)
        follower = None if end is None else self._peek(end)
        if end is None or follower is None:
            return False
        # "##标题" is a heading too, "#tag" is not.
        if not follower or follower.isspace() or end > self._at + 1:
            self._in_heading = True
            return self._skip(end)
        return self._enter_prose()

    def _line_bracket(self) -> bool:
        """A task's box, a callout, the definition of a link or footnote."""
        found = _LINE_BRACKET.match(self._text, self._at, partial=True)
        if found is None or (found.partial and self._final):
            return self._enter_prose()
        if found.partial:
            return False
        if found["definition"]:
            self._line_mode = self._line_begin
            return self._pass_line(found.end())
        if found["callout"]:
            start = self._at + 2
            self._speak_instead(
                found["callout"].capitalize(), self._offsets[start : start + len(found["callout"])]
            )
            return self._skip(found.end())
        follower = self._peek(found.end())
        if follower is None:
            return False
        return self._enter_prose() if follower and not follower.isspace() else self._skip(found.end())

    def _break_line(self, end: int) -> None:
        offset = self._offsets[self._at]
        if self._table:
            if self._table.in_row and self._line_spoken:
                self._end_sentence(offset)
            self._table.end_row()
        self._emit("\n", [offset])
        self._skip(end)
        self._cell = self._gap = self._blank = None
        self._after_blank = self._line_blank
        self._line_blank = True
        self._line_spoken = self._in_heading = self._no_table = False
        self._mode = self._line_begin

    def _end_of_flush(self) -> None:
        if self._table and self._table.in_row and self._cell is not None and self._line_spoken:
            self._end_sentence(self._cell)
            self._line_spoken = False

    def _end_sentence(self, offset: int) -> None:
        if self._spoken in _STOPPED:
            return
        self._emit("。" if self._row_is_chinese() else ".", [offset])

    def _row_is_chinese(self) -> bool:
        """Whether the punctuation of this row is Chinese: by its headers, its name or its last letter."""
        table = self._table
        return (table is not None and (table.is_chinese or table.chinese_name)) or last_language(
            self._said()
        ) == "zh"

    # --- Speaking

    def _speak(self, end: int) -> bool:
        if self._table:
            return self._speak_in_row(end)
        # A border's comma brings its own space.
        if self._cell is not None and (blank := BLANK.match(self._text, self._at, end)):
            self._skip(blank.end())
        return super()._speak(end) if end > self._at else True

    def _speak_in_row(self, end: int) -> bool:
        """Speaks without the blanks at the ends of the cell."""
        piece = self._text[self._at : end]
        lead = len(piece) - len(piece.lstrip())
        tail = len(piece.rstrip())
        if lead and self._blank is None:
            self._blank = self._offsets[self._at]
        if lead < len(piece):
            self._skip(self._at + lead)
            super()._speak(end - len(piece) + tail)
            if tail < len(piece):
                self._blank = self._offsets[self._at]
        return self._skip(end)

    def _speak_instead(self, words: str, source: list[int]) -> None:
        """Says words in place of the characters at the offsets `source`."""
        self._join(words)
        self._emit(words, spread(len(words), source))

    def _join(self, piece: str) -> None:
        if piece.isspace():
            self._gap = None
            return
        had_spoken, self._line_spoken = self._line_spoken, True
        if self._cell is not None:
            self._introduce_cell(piece, had_spoken)
        elif self._blank is not None:
            self._emit(" ", [self._blank])
            self._gap = None
        else:
            super()._join(piece)
        self._blank = None

    def _introduce_cell(self, piece: str, had_spoken: bool) -> None:
        assert self._cell is not None
        lead = self._cell_header
        if had_spoken:
            # A number takes the comma of the text before it.
            chinese = CJK_CHAR.match((lead or piece)[0]) or self._row_is_chinese()
            lead = ("，" if chinese else ", ") + lead
        if lead:
            self._emit(lead, [self._cell] * len(lead))
        self._cell = self._gap = None
        self._cell_header = ""

    # --- Code

    def _fence_or_code(self, char: str) -> bool:
        end = self._run_end(char, _LONGEST_RUN)
        if end is None:
            return False
        if end - self._at < 3:
            return self._enter_prose()
        info = self._text[end : end + _INFO_LIMIT]
        line, newline, _ = info.partition("\n")
        if char == "`" and "`" in line:
            return self._enter_prose()
        if not newline and len(info) < _INFO_LIMIT and not self._final:
            return False
        return self._open_fence(end, line)

    def _open_fence(self, end: int, info: str) -> bool:
        self._fence = self._text[self._at : end]
        self._announce_code(info, self._at, end)
        self._line_mode = self._fence_line
        return self._pass_line(end)

    def _fence_in_line(self, end: int) -> bool | None:
        """Whether backticks up to `end` within a line open a block of code, None when it is not certain."""
        info = _INFO_IN_LINE.match(self._text, end, partial=True)
        if info is None or (info.partial and self._final):
            return False
        return None if info.partial else True

    def _announce_code(self, info: str, start: int, end: int) -> None:
        if self._announces_code:
            words = announcement(info, self._language()) + "\n"
            source = self._offsets[start:end]
            self._emit(words, spread(len(words), source))
            self._cell = self._gap = self._blank = None

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
        return self._pass_line(self._at)

    # --- Tables

    def _row_start(self, char: str) -> bool:
        assert self._table is not None
        if char == ">":
            return self._skip(self._at + 1)
        if char != "|" and (self._table.bordered or char == "#"):
            self._table = None
            return True
        if not self._reads_tables:
            return self._skip_row(char)
        if char == "|":
            return self._border(self._at + 1, leads=True)
        return self._cell_start()

    def _skip_row(self, char: str) -> bool:
        if char != "|":
            line, newline, _ = self._text[self._at : self._at + _FIRST_CELL_LIMIT].partition("\n")
            if "|" not in line:
                if not newline and len(line) < _FIRST_CELL_LIMIT and not self._final:
                    return False
                self._table = None
                return True
        self._line_mode = self._line_begin
        return self._pass_line(self._at)

    def _cell_border(self) -> bool:
        """A "|" outside code: of a table that is being read, or perhaps of the head of one."""
        if self._table is None and not self._no_table:
            leads = not self._line_spoken
            head = find_head(self._text, self._at, bordered=leads, final=self._final)
            if head is None:
                return False
            if isinstance(head, TableHead) and (head.read_with_headers or not self._reads_tables):
                return self._open_table(head, bordered=leads)
            self._no_table = True
        return self._border(self._at + 1, leads=False)

    def _open_table(self, head: TableHead, *, bordered: bool) -> bool:
        headers = [self._plain(cell) for cell in head.cells] if self._reads_tables else []
        self._table = Table(headers, bordered)
        self._mode = self._prose
        return self._skip(head.end)

    def _plain(self, cell: str) -> str:
        """A header as it is said."""
        reader = type(self)(self._fixed_language, code="skip", tables="skip")
        reader._mode = reader._prose
        said = reader.read(Run(cell, list(range(len(cell)))), final=True).text
        return " ".join(said.split()).rstrip(":：")

    def _border(self, end: int, *, leads: bool) -> bool:
        if self._table:
            self._table.border(leads=leads)
            if self._table.column == 1:
                self._table.chinese_name = self._line_spoken and last_language(self._said()) == "zh"
            self._cell = self._offsets[self._at]
            self._cell_header = introduce(self._table.header, chinese=self._row_is_chinese())
        elif self._line_spoken and self._cell is None:
            self._cell = self._offsets[self._at]
        self._blank = None
        self._skip(end)
        self._mode = self._cell_start
        return True
