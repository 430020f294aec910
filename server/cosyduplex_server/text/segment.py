"""Where a text may be cut so that the pieces can be spoken one after another.

A cut is made as soon as it is certain, and certain is what no later character can change: "。" at once, "."
only when the next character shows that it is no decimal point, no dot of an address and no abbreviation.
Lengths count characters, never time.

Words are certain before their segment's end is. They can go out as parts of it that end where a segment at
its limit might be cut: between words, or beside a CJK character. White space goes with the word after it, as
tokenizers have it, because at the end of a segment it falls away.
"""

import re
from dataclasses import dataclass

from cosyduplex_server.text.marks import CLAUSE_END, CLOSING, SENTENCE_END, complete_words_end
from cosyduplex_server.text.normalise import SpokenRun
from cosyduplex_server.text.runs import CJK

# A clause this long is spoken before its sentence ends: 36 letters or 12 CJK characters, about 2.5 s of
# speech; shorter ones lose their melody. The first is cut however short: first audio matters more.
CLAUSE_MIN_UNITS = 36
_UNITS_PER_CJK_CHAR = 3

_OPENING = "“‘([{（【「『《〈〔［｛«‹"
_DASHES = "：—―"  # in 3：2 and 2019—2020 no clause ends

_MARK = re.compile(f"[{SENTENCE_END}{CLAUSE_END}!?.．,;:–]")
# What may follow a cut directly and belongs to the text before it.
_GLUED = re.compile(f"[{re.escape(SENTENCE_END + CLAUSE_END + CLOSING)}!?.．,;:–~～]*")
_LEAD = re.compile(f"[\\s{re.escape(SENTENCE_END + CLAUSE_END)}!?,;:”’)\\]}}）】」』》〉〕］｝»›]*")
# Letters, digits and the symbols that have a name when read aloud.
_SPEAKABLE = re.compile(r"[^\W_]|[%‰$€£¥₩₹+=×÷±°&@]")
_CJK_CHAR = re.compile(f"[{CJK}]")
_LAST_BREAK = re.compile(
    f".+(?:\\s|(?<![{re.escape(_OPENING)}])(?=[{CJK}])|(?<=[{CJK}])[{re.escape(CLOSING)}{CLAUSE_END}]*)",
    re.DOTALL,
)
_ODD_SPACE = re.compile(r"[^\S ]|  ")
_SPACES = re.compile(r"\s+")
# What stood there has fallen away: an emoji, a cell's padding.
_SPACE_BEFORE_MARK = re.compile(r" (?=[，。！？；：、,]|[.!?;:](?: |\Z))")
# Whether the space before the mark is kept depends on what follows.
_UNDECIDED_SPACE = re.compile(r" [.!?;:]\Z")

# --- The full stop
_LAST_WORD = re.compile(rf"[^\s{CJK}{re.escape(_OPENING)}\"']*\Z")
_DOTTED_OR_INITIAL = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]|(?!I)[A-Z]")
_LIST_NUMBER = re.compile(r"\(?(?:\d{1,3}|[一二三四五六七八九十]{1,3}|[A-Za-z])")
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st mt gen col capt lt sgt rev hon gov sen rep pres messrs mme mlle jr sr ph.d "
    "vs cf ca approx esp incl viz al resp inc ltd co corp dept univ est fig figs eq vol pp ed eds "
    "jan feb mar apr jun jul aug sept oct nov dec z.b usw bzw".split()
)
_ADDRESS = re.compile(r"://|^www\.|[^\W_][.@][^\W_]")

_WAIT, _NO_CUT = -1, 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text to speak, or the next part of one.

    Attributes:
        index: Its number in the context, from 0.
        text: What is spoken: never empty, never only punctuation, but for the later parts of a segment; all
            of them joined are what the segment is as a whole.
        offsets: For each character of `text` the code point of the appended text it stands for, and one entry
            more: where the last one ends. The words of one expression may fall into two segments.
        closes: The segment is complete with this.
        ends: For each character that stands for several code points its offset, and where the last of them
            ends.
    """

    index: int
    text: str
    offsets: tuple[int, ...]
    closes: bool = True
    ends: tuple[tuple[int, int], ...] = ()

    @property
    def source_start(self) -> int:
        return self.offsets[0]

    @property
    def source_end(self) -> int:
        return self.offsets[-1]


class Segmenter:
    """Runs of speakable text in, segments out."""

    def __init__(self, max_segment_chars: int) -> None:
        self._max_chars = max_segment_chars
        self._text = ""  # from the first character of the next segment
        self._offsets: list[int] = []
        self._ends: dict[int, int] = {}  # of offsets that stand for several code points
        self._scanned = 0  # no cut is possible before here
        self._released = 0  # characters that have gone out as parts of the next segment
        self._last_fed = "\n"
        self._index = 0
        self._first = True
        self._glued = False

    @property
    def held_from(self) -> int | None:
        """Offset of the first character that has not been handed on."""
        return self._offsets[self._released] if self._released < len(self._offsets) else None

    def feed(self, run: SpokenRun) -> None:
        """Adds a run; white space shrinks to one space or line break."""
        if not run.text:
            return
        self._ends |= run.ends
        if not _ODD_SPACE.search(run.text) and not (run.text[0] == " " and self._last_fed in " \n"):
            self._append(run.text, run.offsets)
            return
        at = 0
        for spaces in _SPACES.finditer(run.text):
            self._append(run.text[at : spaces.start()], run.offsets[at : spaces.start()])
            self._append_spaces(spaces[0], run.offsets[spaces.start() : spaces.end()])
            at = spaces.end()
        self._append(run.text[at:], run.offsets[at:])

    def _append_spaces(self, spaces: str, offsets: list[int]) -> None:
        for char, offset in zip(spaces, offsets, strict=True):
            kept = "\n" if char == "\n" else " "
            if self._last_fed != "\n" and self._last_fed != kept:
                self._append(kept, [offset])

    def _append(self, text: str, offsets: list[int]) -> None:
        if text:
            self._text += text
            self._offsets += offsets
            self._last_fed = text[-1]

    def next(self, *, final: bool) -> Segment | None:
        """The next segment that is certain; with `final` all that is left, segment by segment."""
        while self._text:
            self._drop_lead()
            end = self._find_cut(final)
            if end is None:
                return None
            segment = self._cut(end)
            if segment:
                return segment
        return None

    def next_part(self) -> Segment | None:
        """The certain words of the segment that is not complete; asked when `next` has none."""
        # From the last released character, which a closing mark may follow.
        end = self._last_break(max(self._released - 1, 0), min(self._scanned, self._max_chars))
        while end > self._released and self._text[end - 1].isspace():
            end -= 1
        if end <= self._released:
            return None
        undecided = _UNDECIDED_SPACE.search(self._text, self._released, end)
        if undecided and not self._text.startswith(" ", end):
            end = undecided.start()
        return self._take_part(end)

    def next_words(self, *, in_parts: bool, word_complete: bool) -> Segment | None:
        """The complete words that wait: the writer has paused, and no certain segment is left.

        They are a segment of their own. With `in_parts` they are the next part of theirs, and close it only
        where they read as the end of a sentence: a speaker who was given half a sentence waits for the rest.

        Args:
            in_parts: The engine takes parts.
            word_complete: The last word is known to be complete, however it looks.
        """
        end = len(self._text) if word_complete else complete_words_end(self._text)
        if in_parts and not self._reads_as_sentence(end):
            return self._take_part(len(self._text[:end].rstrip()))
        return self._cut(end) if _SPEAKABLE.search(self._text, 0, end) else None

    def _reads_as_sentence(self, end: int) -> bool:
        """Whether the text before `end`, all there is, would be one if a line break came next."""
        if end < len(self._text) or self._scanned == end or self._text[self._scanned] not in "!?.．":
            return False
        return self._judge(self._scanned, final=True) != _NO_CUT

    def restart(self) -> None:
        """The next segment is a first one again: all before it has been flushed."""
        self._first = True
        self._glued = False

    def _drop_lead(self) -> None:
        if self._glued:
            glued = _GLUED.match(self._text)
            assert glued is not None
            self._glued = glued.end() == len(self._text)
            self._drop(glued.end())
        lead = _LEAD.match(self._text)
        assert lead is not None
        self._drop(lead.end())

    def _drop(self, end: int) -> None:
        if end:
            self._text = self._text[end:]
            del self._offsets[:end]
            if self._ends:
                self._ends = {offset: self._ends[offset] for offset in self._offsets if offset in self._ends}
            self._scanned = self._released = 0

    def _cut(self, end: int) -> Segment | None:
        """Takes the text before `end`; None when there is nothing to say in it."""
        segment = None
        if self._released or _SPEAKABLE.search(self._text, 0, end):
            segment = self._piece(end, closes=True)
            self._index += 1
            self._first = False
        self._drop(end)
        self._glued = True
        return segment

    def _take_part(self, end: int) -> Segment | None:
        """Takes the words before `end`, which stay here to judge what follows; None when there are none."""
        if end <= self._released or not (self._released or _SPEAKABLE.search(self._text, 0, end)):
            return None
        part = self._piece(end, closes=False)
        self._released = end
        return part

    def _piece(self, end: int, *, closes: bool) -> Segment:
        """What has not gone out of the text before `end`."""
        text = self._text[self._released : end].rstrip()
        stop = self._released + len(text)
        offsets = self._offsets[self._released : stop]
        for space in reversed([space.start() for space in _SPACE_BEFORE_MARK.finditer(text)]):
            del offsets[space]
        last = self._offsets[stop - 1]
        last_end = self._ends.get(last, last + 1)
        ends = tuple((at, self._ends[at]) for at in offsets if at in self._ends) if self._ends else ()
        text = _SPACE_BEFORE_MARK.sub("", text)
        return Segment(self._index, text, (*offsets, last_end), closes, ends)

    def _find_cut(self, final: bool) -> int | None:
        while True:
            mark = _MARK.search(self._text, self._scanned)
            at = mark.start() if mark else len(self._text)
            if at >= self._max_chars and len(self._text) > self._max_chars:
                return max(self._last_break(0, self._max_chars) or self._max_chars, self._released)
            if mark is None:
                self._scanned = at
                return at if final and at else None
            verdict = self._judge(at, final)
            self._scanned = at if verdict == _WAIT else at + 1
            if verdict == _WAIT:
                return None
            if verdict != _NO_CUT:
                # A pause may have released more than the certain words.
                return max(min(verdict, self._max_chars), self._released)

    def _last_break(self, start: int, limit: int) -> int:
        """The last end of a word after `start` and not after `limit`, with its white space; 0 without one."""
        after = self._text[limit : limit + 1]
        if after.isspace():
            return limit + 1
        if limit > start and _CJK_CHAR.match(after) and self._text[limit - 1] not in _OPENING:
            return limit
        found = _LAST_BREAK.match(self._text, start, limit)
        return found.end() if found else 0

    # --- Does a segment end at this mark? An end, _NO_CUT or _WAIT.

    def _judge(self, at: int, final: bool) -> int:
        char = self._text[at]
        if char in SENTENCE_END:
            return at + 1
        if char in "!?":
            return self._judge_exclamation(at, final)
        if char in ".．":
            return self._judge_stop(at, final)
        if char in CLAUSE_END:
            return self._judge_clause(at, final)
        return self._judge_comma(at, final)

    def _after(self, at: int, final: bool) -> str | None:
        """The character at `at`; a line break after the last of a final text, None when it has not come."""
        if at < len(self._text):
            return self._text[at]
        return "\n" if final else None

    def _judge_exclamation(self, at: int, final: bool) -> int:
        # A certain end but in "a != b" and https://example.org/?q=1.
        if at and self._text[at - 1] != " " and not _ADDRESS.search(self._last_word(at)):
            return at + 1
        after = self._after(at + 1, final)
        if after is None:
            return _WAIT
        ends = after.isspace() or after in CLOSING or after in "!?" or _CJK_CHAR.match(after)
        return at + 1 if ends else _NO_CUT

    def _judge_stop(self, at: int, final: bool) -> int:
        end = at + 1
        while self._text[end : end + 1] in (".", "．") and end < at + 3:
            end += 1
        if end == at + 3:
            return end
        after = self._after(end, final)
        if after is None:
            return _WAIT
        if not (after.isspace() or after in CLOSING or _CJK_CHAR.match(after)):
            return _NO_CUT
        return end if end > at + 1 else self._judge_single_stop(at, final)

    def _judge_single_stop(self, at: int, final: bool) -> int:
        word = self._last_word(at)
        if _LIST_NUMBER.fullmatch(self._text, 0, at):
            return _NO_CUT
        if _DOTTED_OR_INITIAL.fullmatch(word) or word.lower() in _ABBREVIATIONS:
            return _NO_CUT
        if word.lower() == "no":  # "No. 5", but "No. I will not."
            number = self._after(at + 2, final)
            if number is None:
                return _WAIT
            return _NO_CUT if number.isdigit() else at + 1
        return at + 1

    def _judge_comma(self, at: int, final: bool) -> int:
        """Before white space , ; : – end a clause; they do not in 1,000 or 12:30 or http://."""
        before = self._text[at - 1 : at]
        if self._text[at] == "–":
            if not before.isspace():
                return _NO_CUT
        elif _CJK_CHAR.match(before):
            return self._cut_clause(at)
        end = at + 1
        while self._text[end : end + 1] in CLOSING and end < min(at + 4, len(self._text)):
            end += 1
        after = self._after(end, final)
        if after is None:
            return _WAIT
        return self._cut_clause(at) if after.isspace() or _CJK_CHAR.match(after) else _NO_CUT

    def _judge_clause(self, at: int, final: bool) -> int:
        if self._text[at] in _DASHES and self._text[at - 1 : at].isdigit():
            after = self._after(at + 1, final)
            if after is None:
                return _WAIT
            if after.isdigit():
                return _NO_CUT
        if self._text[at] == "、" and _LIST_NUMBER.fullmatch(self._text, 0, at):
            return _NO_CUT
        return self._cut_clause(at)

    def _cut_clause(self, at: int) -> int:
        long_enough = self._first or self._units(at) >= CLAUSE_MIN_UNITS
        return at + 1 if long_enough or not _SPEAKABLE.search(self._text, 0, at) else _NO_CUT

    def _units(self, end: int) -> int:
        return end + (_UNITS_PER_CJK_CHAR - 1) * len(_CJK_CHAR.findall(self._text, 0, end))

    def _last_word(self, end: int) -> str:
        word = _LAST_WORD.search(self._text, self._text.rfind(" ", 0, end) + 1, end)
        assert word is not None
        return word[0]
