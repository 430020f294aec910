"""Which speech tokens make the next chunk of the flow, counted; no tensors.

A flow sequence is the voice's prompt tokens and then generated ones. Its chunks of 25 tokens lie on a grid
that begins with the prompt; a chunk can be computed once the 3 tokens after it are known, or the end is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cosyduplex_server.models.config import CHUNK_FRAMES, CHUNK_TOKENS, LOOKAHEAD_TOKENS, MAX_FRAMES

BEYOND_END: Final = -1
"""A look-ahead place after the last token."""

# A sequence this long is ended at the next end of a sentence, so that it never meets the limit inside one.
RESTART_FRAMES: Final = 12_000


def num_prefix_chunks(num_prompt_tokens: int) -> int:
    """Chunks that depend on the prompt alone, look-ahead included."""
    return max(0, (num_prompt_tokens - LOOKAHEAD_TOKENS) // CHUNK_TOKENS)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk to compute.

    Attributes:
        index: its place on the grid.
        tokens: its tokens; 25, or fewer at the end of the sequence.
        lookahead: the three after them, `BEYOND_END` where there are none.
        num_prompt_frames: mel frames at its beginning that repeat the prompt and are nobody's audio.
        is_last: nothing of this sequence follows.
    """

    index: int
    tokens: tuple[int, ...]
    lookahead: tuple[int, ...]
    num_prompt_frames: int
    is_last: bool


@dataclass(slots=True)
class FlowSequence:
    """The tokens of one flow sequence, and how far they have been turned into chunks.

    Attributes:
        prompt: the voice's tokens.
        next_chunk: the first chunk that is still to be computed.
        ended: no token follows.
    """

    prompt: Sequence[int]
    next_chunk: int = 0
    ended: bool = False
    _tokens: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.next_chunk = num_prefix_chunks(len(self.prompt))

    @property
    def num_tokens(self) -> int:
        """Prompt and generated tokens so far."""
        return len(self.prompt) + len(self._tokens)

    @property
    def num_generated(self) -> int:
        """Generated tokens so far."""
        return len(self._tokens)

    @property
    def wants_restart(self) -> bool:
        """The next end of a sentence should be its end."""
        return 2 * self.num_tokens >= RESTART_FRAMES

    @property
    def must_restart(self) -> bool:
        """It can take no token more."""
        return 2 * self.num_tokens + CHUNK_FRAMES > MAX_FRAMES

    def append(self, token: int) -> None:
        """Adds a generated token."""
        assert not self.ended
        self._tokens.append(token)

    def end(self) -> None:
        """No token follows."""
        self.ended = True

    def split(self) -> FlowSequence:
        """Ends the sequence with the chunks it has, and returns a new one for the tokens after them.

        What was computed has seen the tokens after it, so nothing but the memory of it is cut off.
        """
        num_made = max(0, self.next_chunk * CHUNK_TOKENS - len(self.prompt))
        rest = FlowSequence(self.prompt, ended=self.ended, _tokens=self._tokens[num_made:])
        del self._tokens[num_made:]
        self.ended = True
        return rest

    @property
    def is_ready(self) -> bool:
        """A chunk can be computed now."""
        start = self.next_chunk * CHUNK_TOKENS
        if self.ended:
            return start < self.num_tokens and self.num_generated > 0
        return start + CHUNK_TOKENS + LOOKAHEAD_TOKENS <= self.num_tokens

    @property
    def is_done(self) -> bool:
        """Everything has been computed."""
        return self.ended and not self.is_ready

    def peek(self) -> Chunk:
        """The next chunk; `is_ready` must hold."""
        assert self.is_ready
        start = self.next_chunk * CHUNK_TOKENS
        stop = min(start + CHUNK_TOKENS, self.num_tokens)
        lookahead = self._slice(stop, min(stop + LOOKAHEAD_TOKENS, self.num_tokens))
        prompt_tokens = max(0, min(stop, len(self.prompt)) - start)
        return Chunk(
            index=self.next_chunk,
            tokens=self._slice(start, stop),
            lookahead=lookahead + (BEYOND_END,) * (LOOKAHEAD_TOKENS - len(lookahead)),
            num_prompt_frames=2 * prompt_tokens,
            is_last=self.ended and stop == self.num_tokens,
        )

    def advance(self) -> None:
        """The chunk that `peek` showed has been computed."""
        self.next_chunk += 1

    def all_tokens(self) -> tuple[int, ...]:
        """Prompt and generated tokens."""
        return (*self.prompt, *self._tokens)

    def _slice(self, start: int, stop: int) -> tuple[int, ...]:
        num_prompt = len(self.prompt)
        prompt = tuple(self.prompt[start : min(stop, num_prompt)])
        return prompt + tuple(self._tokens[max(0, start - num_prompt) : max(0, stop - num_prompt)])
