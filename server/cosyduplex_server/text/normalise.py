"""Written expressions in the words a person would read them with: numbers, dates, units, addresses.

The rules stand in english.py and chinese.py; here is how they are applied to a text that is still growing.
An expression is replaced as soon as no further character can change how it is read, and only what a rule is
still reading waits. Every decision depends on the characters alone, never on how they came.

The characters of a replacement share out the places of the expression, so that what is said can be led back
to what was written: the two words of "twenty three" stand for the two digits of "23".
"""

from __future__ import annotations

import copy
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cosyduplex_server.text.marks import complete_words_end
from cosyduplex_server.text.pronunciations import Pronunciations
from cosyduplex_server.text.reading import LEFT_CONTEXT
from cosyduplex_server.text.rulebook import NONE, WAIT, Rulebook
from cosyduplex_server.text.runs import Run, numbers_merge, spread, would_merge
from cosyduplex_server.text.scripts import (
    Script,
    is_introduced_in_english,
    list_number_of,
    script_after,
    script_asked_for,
    script_at,
    script_of,
    turns_chinese,
    turns_english,
)

# How far back a numeral in hanzi is looked for that a number would run together with.
_NUMERAL_CHARS = 4
# What finding out about a place costs beside its rules, where one rule costs 1.
_WORK_OF_PLACE = 3


@dataclass(frozen=True, slots=True)
class SpokenRun(Run):
    """A run of text as it is to be spoken.

    Attributes:
        ends: For each offset whose character stands for several code points, where the last of them ends.
    """

    ends: dict[int, int]


@functools.lru_cache(maxsize=64)
def _candidates(firsts: frozenset[str]) -> re.Pattern[str]:
    """Where an expression may begin."""
    letters = "".join(sorted(char for char in firsts if char.isascii() and char.isalpha()))
    digits = "".join(sorted(char for char in firsts if char.isascii() and char.isdigit()))
    others = "".join(sorted(firsts - {*letters, *digits}))
    kinds = (("(?<![A-Za-z])", letters), ("(?<![0-9])", digits), ("", others))
    return re.compile("|".join(f"{before}[{re.escape(chars)}]" for before, chars in kinds if chars) or "(?!)")


class Normaliser:
    """Runs of speakable text in, the same with expressions as words out.

    Args:
        rulebook: The readings; None reads nothing but the pronunciations.
        language: Of the text; "auto" to judge each expression by the letters next to it.
        voice_language: Of the voice, for an expression without letters near; "" is English.
        pronunciations: What to say for a word or phrase; said as it is.
    """

    def __init__(
        self,
        rulebook: Rulebook | None,
        *,
        language: str = "auto",
        voice_language: str = "",
        pronunciations: Mapping[str, str] | None = None,
    ) -> None:
        self._rulebook = rulebook
        self._pronunciations = Pronunciations(pronunciations) if pronunciations else None
        firsts = rulebook.firsts if rulebook else frozenset[str]()
        if self._pronunciations is not None:
            firsts |= self._pronunciations.firsts
        self._candidate = _candidates(firsts) if firsts else None
        self._asked = script_asked_for(language)
        spoken = script_asked_for(voice_language)
        self._otherwise: Script = "en" if spoken is None else spoken
        self._text = ""  # what is held, after what stood before it
        self._at = 0  # where it begins
        self._offsets: list[int] = []  # of what is held
        self._offset_before = -1  # of the character before it
        self._script: Script | None = None  # of the last letter before `_judged_to`
        self._judged_to = 0
        self._chinese_to = -1  # where the last expression that was read in Chinese ends
        self._list_script: Script | None = None  # of the numbers of the last list
        self._list_is_firm = False  # what stands in its items cannot change that
        self._last_said = ""  # the last character of a replacement that nothing has been copied after
        self._parts: list[str] = []
        self._part_offsets: list[int] = []
        self._ends: dict[int, int] = {}
        self._work = 0
        self._is_behind = False

    @property
    def held_from(self) -> int | None:
        """Offset of the first character that waits for a decision."""
        return self._offsets[0] if self._offsets else None

    @property
    def is_behind(self) -> bool:
        """True when a read has stopped for the work it was."""
        return self._is_behind

    @property
    def work(self) -> int:
        """Rules tried so far, and as much for other work: what takes the time, beside the text's length."""
        return self._work

    def read(self, run: Run, *, final: bool, max_work: float = math.inf) -> SpokenRun:
        """What `run` adds for certain.

        Args:
            run: The next characters.
            final: Nothing more comes, as at a flush: all that is left is read.
            max_work: After so much of it (see `work`) the rest is left to another read; see `is_behind`.
        """
        if self._candidate is None:
            return SpokenRun(run.text, run.offsets, {})
        self._text += run.text
        self._offsets += run.offsets
        spoken = self._read(final=final, max_work=max_work)
        if final and not self._is_behind:  # what comes next is a text of its own
            self._forget(len(self._text))
            self._last_said = ""
        return spoken

    def read_words(self) -> SpokenRun | None:
        """What is held, where it ends with a complete word: the writer has paused. None otherwise.

        An abbreviation that a name behind it would change, as the Dr. of a street and of a doctor, is none.
        """
        if not self._offsets or complete_words_end(self._text) < len(self._text):
            return None
        name = "Aa b" if self._text[-1].isspace() else " Aa b"
        if self._would_say("").rstrip(" .") != self._would_say(name).removesuffix(name).rstrip(" ."):
            return None
        return self._read(final=True, max_work=math.inf)

    def _would_say(self, more: str) -> str:
        """What is held, as it would be read with `more` behind it and nothing else."""
        trial = copy.copy(self)
        trial._text = self._text + more
        trial._offsets = self._offsets + [self._offsets[-1]] * len(more)
        return trial._read(final=True, max_work=math.inf).text

    def _read(self, *, final: bool, max_work: float) -> SpokenRun:
        self._parts, self._part_offsets, self._ends = [], [], {}
        begin = copied = at = self._at
        end = len(self._text)
        assert self._candidate is not None
        self._is_behind = False
        most_work = self._work + max_work
        while at < end:
            if self._work >= most_work:
                self._is_behind = True
                break
            candidate = self._candidate.search(self._text, at)
            if candidate is None:
                at = end
                break
            at = candidate.start()
            stop, words = self._judge(at, final)
            if stop == WAIT:
                break
            if stop == NONE:
                at += 1
                continue
            self._copy(copied, at, begin)
            self._replace(at, stop, words, begin)
            copied = at = stop
        self._copy(copied, at, begin)
        if at > begin:
            self._offset_before = self._offsets[at - begin - 1]
        del self._offsets[: at - begin]
        self._at = at
        self._note_script(at)
        self._forget(at - LEFT_CONTEXT)
        return SpokenRun("".join(self._parts), self._part_offsets, self._ends)

    def _forget(self, num_chars: int) -> None:
        """Lets go of text that has been read, rarely: each time copies what is left."""
        if num_chars > LEFT_CONTEXT or num_chars == len(self._text):
            self._text = self._text[num_chars:]
            self._at -= num_chars
            self._judged_to -= num_chars
            self._chinese_to -= num_chars

    def _copy(self, start: int, end: int, begin: int) -> None:
        if start == end:
            return
        if self._last_said and would_merge(self._last_said, self._text[start]):
            self._parts.append(" ")
            self._part_offsets.append(self._offsets[start - begin])
        self._last_said = ""
        self._parts.append(self._text[start:end])
        self._part_offsets += self._offsets[start - begin : end - begin]

    def _replace(self, start: int, end: int, words: str, begin: int) -> None:
        before = self._last_said or self._text[start - 1 : start]
        if not words:
            self._last_said = before
            return
        offsets = self._offsets[start - begin : end - begin]
        separator = " " if would_merge(before, words[0]) else ""
        if numbers_merge(self._text[max(0, start - _NUMERAL_CHARS) : start], words[:2]):
            separator = "，"
        if separator:
            self._parts.append(separator)
            self._part_offsets.append(offsets[0])
        self._parts.append(words)
        num_chars, num_words = len(offsets), len(words)
        self._part_offsets += spread(num_words, offsets)
        if num_words < num_chars:
            before_offset = self._offsets[start - begin - 1] if start > begin else self._offset_before
            for i in range(num_words):
                first = offsets[i * num_chars // num_words]
                last = offsets[(i + 1) * num_chars // num_words - 1]
                if last > first != before_offset:
                    self._ends[first] = last + 1
        self._last_said = words[-1]

    # --- What is read at a place: an end and words, NONE or WAIT

    def _judge(self, at: int, final: bool) -> tuple[int, str]:
        self._work += _WORK_OF_PLACE
        if self._pronunciations is not None:
            judged = self._pronunciations.judge(self._text, at, final=final)
            if judged[0] != NONE:
                return judged
        if self._rulebook is None:
            return NONE, ""
        if self._asked is not None:
            return self._judge_as(self._asked, at, final)
        self._note_script(at)
        list_number = list_number_of(self._text, at, final=final)
        if list_number is None:
            return WAIT, ""
        script, is_firm = self._script_at(at, list_number, final)
        if script is None:
            return WAIT, ""
        judged = self._judge_as(script if is_firm else "en", at, final)
        if not is_firm and judged[0] > NONE:
            judged, script = self._judge_by_what_follows(at, judged, script, final)
        elif not is_firm and script == "zh" and judged[0] == NONE:
            judged = self._judge_as(script, at, final)
        if judged[0] > NONE:
            if list_number == "1":
                self._list_script, self._list_is_firm = script, is_firm
            if script == "zh":  # its letters are no English ones: the g of 盐5g
                self._script, self._judged_to = script, judged[0]
                self._chinese_to = judged[0]
        return judged

    def _judge_as(self, script: Script, at: int, final: bool) -> tuple[int, str]:
        assert self._rulebook is not None
        rules = self._rulebook.at(self._text[at], script)
        if rules is None:
            return NONE, ""
        trials_before = rules.num_trials
        judged = rules.judge(self._text, at, final=final)
        self._work += rules.num_trials - trials_before
        return judged

    def _judge_by_what_follows(
        self, at: int, in_english: tuple[int, str], script: Script, final: bool
    ) -> tuple[tuple[int, str], Script]:
        """The reading in English or one in Chinese: as `script` has it, unless what follows denies it."""
        end = in_english[0]
        self._work += _WORK_OF_PLACE
        turns = (
            turns_chinese(self._text, at, end, final=final)
            if script == "en"
            else turns_english(self._text, end, final=final)
        )
        if turns is None:
            return (WAIT, ""), script
        if (script == "en") != turns:
            return in_english, "en"
        in_chinese = self._judge_as("zh", at, final)
        return (in_english, "en") if in_chinese[0] == NONE else (in_chinese, "zh")

    def _script_at(self, at: int, list_number: str, final: bool) -> tuple[Script | None, bool]:
        """The script of what stands at `at`, None while open; and whether what follows cannot change it."""
        if list_number not in ("", "1") and self._list_script is not None:
            return self._list_script, self._list_script != "en" or self._list_is_firm
        if list_number == "1" and self._script == "en" and is_introduced_in_english(self._text, at):
            return "en", True
        if self._script is None:
            script = script_after(self._text, at, final=final, otherwise=self._otherwise)
            return script, script != "en"
        return script_at(self._text, at, self._script, chinese_to=self._chinese_to)

    def _note_script(self, to: int) -> None:
        """Brings the script of the last letter up to `to`."""
        if self._asked is None:
            for i in range(to - 1, self._judged_to - 1, -1):
                script = script_of(self._text[i])
                if script is not None:
                    self._script = script
                    break
        self._judged_to = to
