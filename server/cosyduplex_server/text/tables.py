"""Tables of Markdown: how a row is read as a sentence.

    | Name | Age | City  |
    |------|-----|-------|        "Ann, Age: 5, City: Paris."
    | Ann  | 5   | Paris |

The first column names the row, the others are read with their header; the header row itself is not read, nor
are empty cells. A table of one column is a list, and one of more than eight cannot be followed by ear with
its headers: their rows, the first included, are read cell by cell. Where rows begin without a border, the
first header has been said before anything shows that it heads a table.
"""

import re
from dataclasses import dataclass, field

from cosyduplex_server.text.runs import CJK_CHAR

# The header row, its line break and the row under it wait together, no more than this.
TABLE_LOOKAHEAD = 400
_MAX_COLUMNS = 8
# A longer header is read in the first row only: 40 letters are 2.5 s of speech in every row.
_SHORT_HEADER_CHARS = 40

_RULED = r"[ \t]*:?-+:?[ \t]*"
_UNDER_HEADER = re.compile(
    rf"[ \t>]{{0,16}}(?:\|{_RULED}(?:\|{_RULED})*\|?|{_RULED}(?:\|{_RULED})+\|?)[ \t]*"
)
_RULE_CHARS = re.compile(r"[ \t>|:-]*")
_BORDER = re.compile(r"(?<!\\)\|")


@dataclass(slots=True)
class Table:
    """A table that is being read, and where in it the reader is.

    Attributes:
        headers: Of the columns, without markup.
        bordered: Its rows begin with a border.
    """

    headers: list[str]
    bordered: bool
    row: int = 0
    column: int = field(default=0, init=False)
    in_row: bool = field(default=False, init=False)  # a border has been seen in this line
    chinese_name: bool = field(default=False, init=False)  # its first cell is

    def border(self, *, leads: bool) -> None:
        """Passes a border; `leads` when nothing stood before it in the line."""
        if not leads:
            self.column += 1
        self.in_row = True

    def end_row(self) -> None:
        self.row += self.in_row
        self.column = 0
        self.in_row = False
        self.chinese_name = False

    @property
    def is_chinese(self) -> bool:
        """Its rows have the punctuation of Chinese: one of its headers is."""
        return any(CJK_CHAR.search(header) for header in self.headers)

    @property
    def header(self) -> str:
        """What is said before the cell; "" for the row's name, and where the reader had it often enough."""
        header = self.headers[self.column] if 0 < self.column < len(self.headers) else ""
        return header if self.row == 0 or len(header) <= _SHORT_HEADER_CHARS else ""


def introduce(header: str, *, chinese: bool) -> str:
    """The header of a cell before the cell: "Age: ", "年龄："."""
    if not header:
        return ""
    if chinese and header[-1].isdigit():  # "iPhone 15：5" would be a ratio
        return f"{header}，"
    return f"{header}：" if chinese else f"{header}: "


def cells_of(line: str) -> list[str]:
    """The cells of a row, as they are written."""
    line = line.strip()
    cells = _BORDER.split(line)
    if line.startswith("|"):
        del cells[0]
    if cells and not cells[-1].strip():
        del cells[-1]
    return [cell.strip() for cell in cells]


@dataclass(frozen=True, slots=True)
class TableHead:
    """A header row and the row of dashes under it.

    Attributes:
        cells: Of the header row as it is written, from the cursor.
        end: Where the row of dashes ends, before its line break.
    """

    cells: list[str]
    end: int

    @property
    def read_with_headers(self) -> bool:
        return 2 <= len(self.cells) <= _MAX_COLUMNS


def find_head(text: str, at: int, *, bordered: bool, final: bool) -> TableHead | bool | None:
    """The head of the table whose first border is at `at`; False without one, None when it is not certain.

    Args:
        text: What is known.
        at: Of a border: the first character of the line but for blanks where `bordered`.
        bordered: The line begins with a border. Without it the first cell stands before `at`.
        final: No more text comes.
    """
    limit = at + TABLE_LOOKAHEAD
    line_end = text.find("\n", at, limit)
    if line_end < 0:
        return None if len(text) < limit and not final else False
    rules = _RULE_CHARS.match(text, line_end + 1, limit)
    assert rules is not None
    end = rules.end()
    if end == len(text) and end < limit and not final:
        return None
    if end == limit or (end < len(text) and text[end] != "\n"):
        return False
    under = _UNDER_HEADER.fullmatch(text, line_end + 1, end)
    if under is None:
        return False
    cells = cells_of(text[at:line_end])
    if not bordered:
        cells.insert(0, "")
    columns = len(cells_of(under[0].lstrip(" \t>")))
    return TableHead(cells, end) if len(cells) == columns else False
