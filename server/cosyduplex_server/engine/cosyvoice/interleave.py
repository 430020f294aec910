"""In what order text and speech become rows of the speech LM, and which of its outputs are speech.

Uni-stream, the whole text known: `sos, prompt text, text, task, prompt speech`, then speech.

Bi-stream, text and speech in turns, as the model was trained: `sos, (5 text, 15 speech) * k, fewer than 5
text, task, the rest of the speech`. After the 15th speech token of a block comes a fill, which is an output
only. The prompt is the beginning of that layout: its text before the text, its speech before the speech.
CosyVoice3 has the instruction, up to and with the end-of-prompt token, before the first block.

`compat` follows upstream's bi-stream to the letter instead, which departs from the layout; the departures are
named at `_next_compat`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from cosyduplex_server.models.config import SpeechLMConfig
from cosyduplex_server.models.phases import Phase

Mode = Literal["uni", "bi"]


class InterleaveError(ValueError):
    """The prompt does not fit the model, or (`compat` only) the model drew what upstream cannot take."""


@dataclass(frozen=True, slots=True)
class Feed:
    """One forward of the LM, after which one id is drawn.

    Attributes:
        rows: what is fed, in the numbering of `SpeechLMConfig.num_rows`.
        phase: which ids may be drawn after the last row.
        forced: the id that follows whatever the logits are (`compat` only); nothing is drawn then.
    """

    rows: tuple[int, ...]
    phase: Phase
    forced: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthPolicy:
    """How long the speech may be, in speech tokens for each text token.

    Attributes:
        min_ratio: shorter speech does not end.
        max_ratio: longer speech is cut off.
        max_tokens: no speech is longer, whatever its text; None: as long as the text allows.
    """

    min_ratio: float = 2.0
    max_ratio: float = 20.0
    max_tokens: int | None = None


DEFAULT_LENGTH: Final = LengthPolicy()


class Interleave:
    """The rows of one utterance and the meaning of its outputs; a pure function of its text.

        while not machine.done:
            feed = machine.next()            # None: more text is needed
            token = machine.take(sample(feed))  # None: not speech

    Neither the split into appends nor their moments change rows, phases or tokens (`compat`: each append is
    an item of upstream's text generator, of which one block at most is taken).

    Args:
        config: the model's sizes and special ids.
        prompt_text: ids of the prompt's text, before the text that is spoken.
        prompt_speech: speech tokens of the prompt.
        mode: "uni" waits for the end of the text, "bi" does not.
        length: how long the speech may be. `compat` bi-stream knows no limits and ignores it.
        compat: as upstream, errors included.

    Raises:
        InterleaveError: CosyVoice3's end-of-prompt token is not in the prompt text.

    Attributes:
        history: the last outputs, fills included, as many as the sampler's window holds.
        num_emitted: speech tokens so far.
        done: nothing more will be fed.
        hit_limit: it is done because the speech became too long.
    """

    def __init__(
        self,
        config: SpeechLMConfig,
        prompt_text: Sequence[int] = (),
        prompt_speech: Sequence[int] = (),
        mode: Mode = "bi",
        *,
        length: LengthPolicy = DEFAULT_LENGTH,
        compat: bool = False,
    ) -> None:
        self.history: deque[int] = deque(maxlen=config.ras_window)
        self.num_emitted = 0
        self.done = False
        self.hit_limit = False
        self._config = config
        self._mode = mode
        self._length = length
        self._compat = compat
        self._rows = [config.sos_row]  # not fed yet
        self._text = deque(prompt_text)  # not among the rows yet
        self._prompt_speech = deque(prompt_speech)  # likewise
        self._num_prompt_text = len(prompt_text)
        self._num_text = 0  # without the prompt's
        self._num_taken = 0  # text tokens that became rows
        self._uncounted = 0  # speech made before the first text that is not the prompt's
        self._ended = False
        self._in_tail = False  # all text and the task row have been fed
        self._left_in_block = 0  # speech tokens until the next text
        self._awaited: Feed | None = None
        # compat only
        self._items: deque[tuple[int, ...]] = deque()
        self._num_outputs = 0
        self._decoding = False
        self._next_fill = config.speech_block - len(prompt_speech) % config.speech_block
        if config.generation == 3 and not (compat and mode == "uni"):
            self._take_instruction()

    def append(self, ids: Sequence[int]) -> None:
        """Take more text."""
        assert not self._ended
        if not ids:
            return
        self._num_text += len(ids)
        if self._compat and self._mode == "bi":
            self._items.append(tuple(ids))
        else:
            self._text.extend(ids)

    def end(self) -> None:
        """No more text follows."""
        self._ended = True

    def next(self) -> Feed | None:
        """What to feed now; None while text is needed, and for good when it is `done`.

        Raises:
            InterleaveError: (`compat`) CosyVoice3's end-of-prompt token is in neither text.
        """
        assert self._awaited is None, "the last feed's output has not been taken"
        if self.done:
            return None
        if self._compat and self._mode == "bi":
            self._awaited = self._next_compat()
        elif (
            not self._num_text
        ):  # nothing is to be said yet; without a text at all the prompt is not read either
            self.done = self._ended
        elif self._mode == "bi":
            self._awaited = self._next_bi()
        elif self._ended:
            self._awaited = self._next_uni()
        return self._awaited

    def take(self, token: int) -> int | None:
        """Take the id drawn after the last feed (any, where it was forced); return it if it is speech.

        Raises:
            InterleaveError: (`compat`) upstream stops here with an error.
        """
        feed = self._awaited
        assert feed is not None, "nothing has been fed"
        self._awaited = None
        if feed.forced is not None:
            token = feed.forced
        if token >= self._config.speech_tokens:
            self._take_special(token)
            return None
        self._rows = [self._config.speech_row(token)]
        self._remember(token)
        self.num_emitted += 1
        if self._left_in_block:
            self._left_in_block -= 1
            if not self._left_in_block:
                # Nothing need be fed to learn that a fill follows: the token goes with the next text.
                self._remember(self._config.fill)
        return token

    # --- Uni-stream

    def _next_uni(self) -> Feed | None:
        if not self._in_tail:
            if self._compat and self._config.generation == 3:
                self._require_end_of_prompt(self._text)
            self._take_tail()
        return self._tail_feed(Phase.FREE, Phase.UPSTREAM_NO_EOS if self._compat else Phase.NO_EOS)

    # --- Bi-stream

    def _next_bi(self) -> Feed | None:
        if not self._in_tail:
            while not self._left_in_block:
                if len(self._text) >= self._config.text_block:
                    self._take_block()
                elif self._ended:
                    self._take_tail()
                    break
                else:
                    return None
        if self._in_tail:
            return self._tail_feed(Phase.END, Phase.NO_EOS)
        if self._length.max_tokens is not None and self.num_emitted >= self._length.max_tokens:
            self._stop_at_limit()
            return None
        return Feed(tuple(self._rows), Phase.STREAM)

    def _take_block(self) -> None:
        """Append a block's text, and what the prompt has of its speech."""
        self._take_text(self._config.text_block)
        self._left_in_block = self._config.speech_block - self._take_prompt_speech(self._config.speech_block)

    # --- The last part: all text has been taken

    def _take_tail(self) -> None:
        """Append what is left of the text, the task row, and what is left of the prompt's speech."""
        self._in_tail = True
        self._take_text(len(self._text))
        self._rows.append(self._config.task_row)
        self._take_prompt_speech(len(self._prompt_speech))

    def _tail_feed(self, phase: Phase, too_short: Phase) -> Feed | None:
        spoken = self.num_emitted - self._uncounted
        limit = int(self._length.max_ratio * self._num_text)
        most = self._length.max_tokens
        if spoken >= limit or (most is not None and self.num_emitted >= most):
            self._stop_at_limit()
            return None
        short = spoken < int(self._length.min_ratio * self._num_text)
        return Feed(tuple(self._rows), too_short if short else phase)

    def _stop_at_limit(self) -> None:
        self.done = self.hit_limit = True

    # --- What all have in common

    def _take_instruction(self) -> None:
        """Check CosyVoice3's instruction; in bi-stream it goes before the first block."""
        self._require_end_of_prompt(self._text)
        if self._mode == "bi":
            self._take_text(self._text.index(self._config.end_of_prompt) + 1)

    def _require_end_of_prompt(self, text: deque[int]) -> None:
        if self._config.end_of_prompt not in text:
            raise InterleaveError(
                f"CosyVoice3 needs the end-of-prompt token {self._config.end_of_prompt} in its prompt text"
            )

    def _take_text(self, count: int) -> None:
        if self._num_taken <= self._num_prompt_text < self._num_taken + count:
            self._uncounted = self.num_emitted
        self._num_taken += count
        self._rows += [self._text.popleft() for _ in range(count)]

    def _take_prompt_speech(self, count: int) -> int:
        count = min(count, len(self._prompt_speech))
        self._rows += [self._config.speech_row(self._prompt_speech.popleft()) for _ in range(count)]
        return count

    def _remember(self, token: int) -> None:
        self.history.append(token)
        self._num_outputs += 1

    def _take_special(self, token: int) -> None:
        if self._compat and self._mode == "bi":
            self._take_special_compat(token)
        elif self._in_tail:
            self.done = True
        else:
            # Phase.STREAM allows nothing but a fill. Whatever stands for it, the text left is still spoken.
            self._remember(self._config.fill)
            self._rows = []
            self._left_in_block = 0

    # --- Upstream's bi-stream

    def _next_compat(self) -> Feed | None:
        """Upstream's loop over its text generator.

        Where it departs from the trained layout: one
        block at most is taken for each item of text, what is left of the blocks goes before the task row; the
        last speech token before the end of the text is fed twice (Q5); prompt speech that found no text is
        dropped (Q8); a prompt of whole blocks gets no fill (Q8); CosyVoice3 without prompt speech speaks
        before it has read anything (Q7); nothing bounds the length (Q6).
        """
        while not self._decoding:
            if self._items:
                self._decoding = self._read_item(self._items.popleft())
            elif self._ended:
                self._in_tail = self._decoding = True
                self._take_text(len(self._text))
                self._rows.append(self._config.task_row)
            else:
                return None
        if self._in_tail:
            return Feed(tuple(self._rows), Phase.FREE)
        forced = self._config.fill if self._num_outputs == self._next_fill else None
        return Feed(tuple(self._rows), Phase.UPSTREAM_NO_EOS, forced)

    def _read_item(self, ids: tuple[int, ...]) -> bool:
        """Take an item of text; return whether there is something to feed."""
        block = self._config.text_block
        self._text.extend(ids)
        while self._prompt_speech and len(self._text) >= block:
            self._take_text(block)
            self._take_prompt_speech(self._config.speech_block)
        if self._prompt_speech:
            return False
        after_fill = bool(self.history) and self.history[-1] == self._config.fill
        if after_fill or (not self.history and len(self._rows) == 1):
            if len(self._text) < block:
                return False
            if after_fill:
                self._rows = []
            self._take_text(block)
        return True

    def _take_special_compat(self, token: int) -> None:
        if self._in_tail and token == self._config.eos:
            self.done = True
        elif not self._in_tail and token == self._config.fill:
            self._next_fill = self._num_outputs + self._config.speech_block + 1
            self._remember(token)
            self._decoding = False  # the rows stay, and are fed again if the text ends now (Q5)
        else:
            self.done = True
            raise InterleaveError(f"should not get token {token}")
