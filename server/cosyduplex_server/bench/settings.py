"""What one campaign is: checked here, written into its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh", "both"]
Codec = Literal["pcm_s16le", "opus"]

# Modelled side by side: a player without a jitter buffer, with a lean one and with a usual one.
JITTER_BUFFERS_MS = (0, 60, 120)
SLOT_MS = 20


class SettingsError(ValueError):
    """A setting is outside its limits; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One campaign.

    Attributes:
        url: the server's HTTP address.
        sessions: at a time (closed loop), or in all (with `arrivals_per_s`); None is as many as arrive.
        arrivals_per_s: sessions begin as a Poisson process of this rate; None keeps `sessions` of them busy.
        duration_s: how long sessions or texts begin; None is one text for each session.
        tokens_per_s: the LLM's pace; 0 gives the whole text at once.
        text_seconds: shortest and longest text, in seconds of speech.
        language: of the texts.
        voices: by falling popularity; empty leaves the voice to the server.
        codec: of the audio.
        sample_rate_hz: of the audio.
        max_ahead_ms: how far ahead of playback the server may send; 0 is as fast as it is made.
        cancel_share: probability that a text is interrupted while it is spoken.
        seed: of everything that is drawn.

    Raises:
        SettingsError: a setting is outside its limits.
    """

    url: str
    sessions: int | None
    arrivals_per_s: float | None
    duration_s: float | None
    tokens_per_s: float
    text_seconds: tuple[float, float]
    language: Language
    voices: tuple[str, ...]
    codec: Codec
    sample_rate_hz: int
    max_ahead_ms: int
    cancel_share: float
    seed: int

    def __post_init__(self) -> None:
        low_s, high_s = self.text_seconds
        rules = (
            (self.sessions is None or self.sessions >= 1, "--sessions must be at least 1"),
            (self.sessions is not None or self.arrivals_per_s is not None, "--sessions is missing"),
            (
                self.arrivals_per_s is None or self.arrivals_per_s > 0,
                "--arrivals-per-second must be above 0",
            ),
            (
                self.sessions is not None or self.duration_s is not None,
                "--arrivals-per-second needs --sessions or --duration",
            ),
            (self.duration_s is None or self.duration_s > 0, "--duration must be above 0"),
            (self.tokens_per_s >= 0, "--tokens-per-second must not be below 0"),
            (0 < low_s <= high_s <= 3000, "--text-seconds must be from above 0 to 3000, the shorter first"),
            (
                self.max_ahead_ms == 0 or 200 <= self.max_ahead_ms <= 600_000,
                "--max-ahead-ms must be 0 or from 200 to 600000",
            ),
            (0 <= self.cancel_share <= 1, "--cancel-share must be from 0 to 1"),
        )
        for holds, complaint in rules:
            if not holds:
                raise SettingsError(complaint)

    @property
    def is_open_loop(self) -> bool:
        """Sessions arrive by themselves, however the server fares."""
        return self.arrivals_per_s is not None

    @property
    def measures_speed(self) -> bool:
        """Neither text nor audio is paced: the time a text takes is the server's alone."""
        return self.tokens_per_s == 0 and self.max_ahead_ms == 0
