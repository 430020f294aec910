"""What a connection's query or a request's body asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import AudioOptions, SpeechOptions, TextOptions
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Codec, Encoder, make_encoder, nearest_bitrate
from cosyduplex_server.errors import Failure
from cosyduplex_server.utterance import UtteranceOptions

DOOR: Final = "elevenlabs"

_CODECS: Final = {
    "mp3": Codec.MP3,
    "pcm": Codec.PCM,
    "wav": Codec.WAV,
    "ulaw": Codec.MULAW,
    "alaw": Codec.ALAW,
    "opus": Codec.OPUS,
}
_FORMAT: Final = re.compile(rf"({'|'.join(_CODECS)})_([0-9]{{4,6}})(?:_([0-9]{{1,4}}))?")
_DEFAULT_FORMAT: Final = "mp3_44100_128"
_MAX_SEED: Final = 2**32 - 1
# What the API and the programs around it send; what lies outside of the engine's range is spoken at its end.
_SPEEDS: Final = (0.25, 4.0)
_SPOKEN_SPEEDS: Final = (0.5, 2.0)
# Wishes that mean something to the vendor's own models alone.
_MEANINGLESS: Final = (
    "previous_text",
    "next_text",
    "previous_request_ids",
    "next_request_ids",
    "pronunciation_dictionary_locators",
    "audio_effects",
)
_MEANINGLESS_OF_VOICE: Final = (
    "stability",
    "similarity_boost",
    "style",
    "use_speaker_boost",
    "clone_strength",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a connection or a request speaks.

    Attributes:
        voice: this server's.
        ignored: what was asked for and cannot be had here, a sentence each.
    """

    voice: str | None
    language: str | None
    normalize: bool | None
    seed: int | None
    codec: Codec
    sample_rate_hz: int
    bitrate: int | None
    ignored: tuple[str, ...]

    def options(self, bridge: Bridge, speed: float | None, *, paced: bool, marks: bool) -> UtteranceOptions:
        """The utterance they make."""
        return UtteranceOptions(
            voice=self.voice,
            language=self.language,
            speech=SpeechOptions(speed=speed, seed=self.seed),
            text=TextOptions(normalize=self.normalize),
            audio=AudioOptions(sample_rate=self.sample_rate_hz),
            marks=marks,
            max_ahead_ms=bridge.gateway.config.dialect_max_ahead_ms if paced else 0,
        )

    def encoder(self) -> Encoder:
        """The encoder of one stream.

        Raises:
            Failure: `unsupported_format`.
        """
        return make_encoder(self.codec, self.sample_rate_hz, bitrate=self.bitrate)


def read_settings(bridge: Bridge, voice_id: str, fields: Mapping[str, Any]) -> Settings:
    """Reads the fields that routes and sockets have in common.

    Args:
        bridge: what knows the voices.
        voice_id: of the path.
        fields: of the query, in which everything is a string, and of the body.

    Raises:
        Failure: `unknown_voice`, `unsupported_format` or `bad_request`.
    """
    codec, rate_hz, bitrate = _format(fields.get("output_format") or _DEFAULT_FORMAT)
    language = fields.get("language_code") or None
    if not isinstance(language, str | None):
        raise Failure(ErrorCode.BAD_REQUEST, "language_code must be a string")
    settings = Settings(
        voice=bridge.voice(DOOR, voice_id),
        language=language,
        normalize=_normalize(fields.get("apply_text_normalization")),
        seed=_seed(fields.get("seed")),
        codec=codec,
        sample_rate_hz=rate_hz,
        bitrate=bitrate,
        ignored=ignored(fields),
    )
    settings.encoder()
    return settings


def ignored(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each wish that has no effect here."""
    names = [name for name in _MEANINGLESS if fields.get(name)]
    if is_true(fields.get("enable_ssml_parsing")):
        names.append("enable_ssml_parsing")
    return tuple(f"{name} has no effect on this server" for name in names)


def is_true(value: Any) -> bool:
    """Whether a flag of the query or of JSON is set."""
    return value is True or (isinstance(value, str) and value.lower() in ("true", "1"))


def read_voice_settings(value: Any) -> tuple[float | None, tuple[str, ...]]:
    """The speed in `voice_settings`, and a sentence for each of the others that was given.

    Raises:
        Failure: `bad_request`.
    """
    if value is None:
        return None, ()
    if not isinstance(value, dict):
        raise Failure(ErrorCode.BAD_REQUEST, "voice_settings must be an object")
    notes = tuple(
        f"voice_settings.{name} has no effect on this server"
        for name in _MEANINGLESS_OF_VOICE
        if value.get(name) is not None
    )
    speed = value.get("speed")
    if speed is None:
        return None, notes
    low, high = _SPEEDS
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not low <= speed <= high:
        raise Failure(
            ErrorCode.BAD_REQUEST, f"voice_settings.speed must be a number from {low:g} to {high:g}"
        )
    spoken = min(max(float(speed), _SPOKEN_SPEEDS[0]), _SPOKEN_SPEEDS[1])
    if spoken != speed:
        notes += (f"voice_settings.speed is {spoken:g} here, not {speed:g}",)
    return spoken, notes


# --- its parts ---------------------------------------------------------------------------------------


def _format(asked: Any) -> tuple[Codec, int, int | None]:
    match = _FORMAT.fullmatch(asked) if isinstance(asked, str) else None
    if match is None:
        raise Failure(
            ErrorCode.UNSUPPORTED_FORMAT,
            "output_format is not known",
            "Name a codec, a sample rate and where it has one a bitrate, as mp3_44100_128 or pcm_24000.",
        )
    codec, rate_hz = _CODECS[match[1]], int(match[2])
    if match[3] is None:
        return codec, rate_hz, None
    make_encoder(codec, rate_hz)  # the rate first: bitrates depend on it
    return codec, rate_hz, nearest_bitrate(codec, rate_hz, 1000 * int(match[3]))


def _normalize(asked: Any) -> bool | None:
    if asked in (None, "", "auto", "on"):
        return None
    if asked != "off":
        raise Failure(ErrorCode.BAD_REQUEST, "apply_text_normalization must be auto, on or off")
    return False


def _seed(asked: Any) -> int | None:
    if asked in (None, ""):
        return None
    if isinstance(asked, str) and re.fullmatch("[0-9]{1,10}", asked):
        asked = int(asked)
    if isinstance(asked, bool) or not isinstance(asked, int) or not 0 <= asked <= _MAX_SEED:
        raise Failure(ErrorCode.BAD_REQUEST, f"seed must be a whole number from 0 to {_MAX_SEED}")
    return asked
