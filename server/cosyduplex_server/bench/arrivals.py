"""Who comes when and says what at which pace; the same seed gives the same campaign."""

from __future__ import annotations

import itertools
import math
import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cosyduplex_server.bench.settings import Settings
from cosyduplex_server.bench.texts import sample_seconds, sample_text, split_tokens

# Closed loop: so many begin each second, or the campaign would measure one herd of handshakes.
_BEGIN_PER_S = 50
# Spread of the pause between two tokens, as sigma of a log-normal around 1 / pace.
_JITTER_SIGMA = 0.4
# Networks and servers of models hold tokens back and deliver a handful at once.
_BURST_SHARE = 0.05
_BURST_TOKENS = (2, 8)
# Nobody interrupts the first syllable, or what is nearly over.
_CANCEL_FROM, _CANCEL_TO = 0.05, 0.8


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """One session: when it connects (from the campaign's beginning) and in which voice it speaks."""

    number: int
    start_s: float
    voice: str | None


@dataclass(frozen=True, slots=True)
class TurnPlan:
    """One text.

    Attributes:
        pieces: the text as it is written.
        due_s: when each piece is written, from the first one on.
        cancel_after_s: it is interrupted so long after its first audio; None lets it be heard to its end.
    """

    pieces: Sequence[str]
    due_s: array[float]
    cancel_after_s: float | None

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.pieces)


def plan_sessions(settings: Settings) -> Iterator[SessionPlan]:
    """The sessions, in the order of their beginning."""
    starts = random.Random(f"{settings.seed} arrivals")
    choice = random.Random(f"{settings.seed} voices")
    for number in itertools.count() if settings.sessions is None else range(settings.sessions):
        if settings.arrivals_per_s is None:
            start_s = number / _BEGIN_PER_S
        else:
            start_s = starts.expovariate(settings.arrivals_per_s) + (start_s if number else 0.0)
        if settings.duration_s is not None and start_s >= settings.duration_s:
            return
        yield SessionPlan(number, start_s, _zipf_choice(choice, settings.voices))


def _zipf_choice(rng: random.Random, voices: Sequence[str]) -> str | None:
    """The k-th voice is chosen with a probability in proportion to 1/k."""
    if not voices:
        return None
    return rng.choices(voices, [1 / rank for rank in range(1, len(voices) + 1)])[0]


def plan_turn(settings: Settings, session: int, turn: int) -> TurnPlan:
    """The `turn`-th text of a session."""
    rng = random.Random(f"{settings.seed} session {session} turn {turn}")
    seconds = sample_seconds(rng, *settings.text_seconds)
    languages: tuple[Literal["en", "zh"], ...]
    languages = ("en", "zh") if settings.language == "both" else (settings.language,)
    text = sample_text(rng, seconds, rng.choice(languages))
    cancelled = rng.random() < settings.cancel_share
    cancel_after_s = seconds * rng.uniform(_CANCEL_FROM, _CANCEL_TO) if cancelled else None
    if settings.tokens_per_s == 0:
        return TurnPlan([text], array("d", [0.0]), cancel_after_s)
    pieces = split_tokens(text)
    return TurnPlan(pieces, pace(rng, len(pieces), settings.tokens_per_s), cancel_after_s)


def pace(rng: random.Random, num_tokens: int, tokens_per_s: float) -> array[float]:
    """When each token is written: the first at once, the others with jitter, some of them in bursts.

    A burst holds tokens back until the last of it is due, so that the pace is kept on the whole.
    """
    mu = -math.log(tokens_per_s) - _JITTER_SIGMA**2 / 2  # the mean pause is 1 / tokens_per_s
    due_s = array("d", [0.0])
    for _ in range(num_tokens - 1):
        due_s.append(due_s[-1] + rng.lognormvariate(mu, _JITTER_SIGMA))
    at = 1
    while at < num_tokens:
        length = rng.randint(*_BURST_TOKENS) if rng.random() < _BURST_SHARE else 1
        end = min(at + length, num_tokens)
        due_s[at:end] = array("d", [due_s[end - 1]] * (end - at))
        at = end
    return due_s
