"""What a request of Deepgram's asks for in its query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import AudioOptions, SpeechOptions, TextOptions
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Codec, Encoder, make_encoder, nearest_bitrate
from cosyduplex_server.errors import Failure
from cosyduplex_server.utterance import UtteranceOptions

DOOR: Final = "deepgram"
MIN_SPEED: Final = 0.5
MAX_SPEED: Final = 2.0

_DEFAULT_RATES_HZ: Final = {
    "linear16": 24000,
    "mulaw": 8000,
    "alaw": 8000,
    "mp3": 22050,
    "opus": 48000,
    "flac": 24000,
    "aac": 22050,
}
_RAW: Final = {"linear16": Codec.PCM, "mulaw": Codec.MULAW, "alaw": Codec.ALAW}
_IN_WAV: Final = {"linear16": Codec.WAV, "mulaw": Codec.WAV_MULAW, "alaw": Codec.WAV_ALAW}
_FILES: Final = {"mp3": Codec.MP3, "opus": Codec.OPUS, "flac": Codec.FLAC, "aac": Codec.AAC}
_LANGUAGE: Final = re.compile(r"(?:aura|flux)-.*-([a-z]{2})")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a connection or a request speaks.

    Attributes:
        model: as it was asked for, to be echoed.
        voice: this server's.
        ignored: parameters that were given and mean nothing here.
    """

    model: str
    voice: str | None
    language: str | None
    codec: Codec
    sample_rate_hz: int
    bitrate: int | None
    speed: float | None
    ignored: tuple[str, ...]

    def options(self, bridge: Bridge, *, speed: float | None = None, paced: bool) -> UtteranceOptions:
        """The utterance they make."""
        return UtteranceOptions(
            voice=self.voice,
            language=self.language,
            speech=SpeechOptions(speed=self.speed if speed is None else speed),
            text=TextOptions(),
            audio=AudioOptions(sample_rate=self.sample_rate_hz),
            max_ahead_ms=bridge.gateway.config.dialect_max_ahead_ms if paced else 0,
        )

    def encoder(self) -> Encoder:
        """The encoder of one stream.

        Raises:
            Failure: `unsupported_format`.
        """
        return make_encoder(self.codec, self.sample_rate_hz, bitrate=self.bitrate)


def read_settings(bridge: Bridge, query: Mapping[str, str], *, rest: bool) -> Settings:
    """Reads the query, in which everything is a string.

    Args:
        bridge: what knows the voices.
        query: of the request.
        rest: a file is answered, which may be mp3, and is a WAV unless told otherwise.

    Raises:
        Failure: `unknown_voice`, `unsupported_format` or `bad_request`.
    """
    model = query.get("model", "")
    encoding = query.get("encoding") or ("mp3" if rest else "linear16")
    container = query.get("container") or ("wav" if rest else "none")
    codecs = (_FILES if rest else {}) | (_IN_WAV if rest and container == "wav" else _RAW)
    if encoding not in codecs:
        raise Failure(
            ErrorCode.UNSUPPORTED_FORMAT,
            f"encoding is not supported; choose one of {', '.join(codecs)}",
        )
    codec = codecs[encoding]
    rate_hz = _integer(query, "sample_rate", _DEFAULT_RATES_HZ[encoding])
    bitrate = _integer(query, "bit_rate", 0)
    settings = Settings(
        model=model,
        voice=bridge.voice(DOOR, model or None),
        language=match[1] if (match := _LANGUAGE.fullmatch(model)) else None,
        codec=codec,
        sample_rate_hz=rate_hz,
        bitrate=nearest_bitrate(codec, rate_hz, bitrate) if bitrate else None,
        speed=read_speed(query["speed"]) if query.get("speed") else None,
        ignored=tuple(name for name in ("expressivity",) if query.get(name) not in (None, "", "0")),
    )
    settings.encoder()
    return settings


def read_speed(value: object) -> float:
    """A speed from 0.5 to 2.

    Raises:
        Failure: `bad_request`.
    """
    try:
        speed = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        speed = 0.0
    if not MIN_SPEED <= speed <= MAX_SPEED:
        raise Failure(ErrorCode.BAD_REQUEST, f"speed must be a number from {MIN_SPEED} to {MAX_SPEED:g}")
    return speed


def _integer(query: Mapping[str, str], name: str, default: int) -> int:
    value = query.get(name)
    if not value:
        return default
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise Failure(ErrorCode.BAD_REQUEST, f"{name} must be a whole number")
    return int(value)
