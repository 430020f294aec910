"""What a generation request asks for; the socket and the HTTP routes share its form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cosyduplex.errors import ERROR_KINDS, ErrorCode
from cosyduplex.messages import AudioOptions, SpeechOptions, TextOptions
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Codec, Encoder, make_encoder, nearest_bitrate, sample_rates_hz
from cosyduplex_server.errors import Failure
from cosyduplex_server.utterance import UtteranceOptions

DOOR: Final = "cartesia"

_RAW: Final = {
    "pcm_s16le": Codec.PCM,
    "pcm_f32le": Codec.F32LE,
    "pcm_mulaw": Codec.MULAW,
    "pcm_alaw": Codec.ALAW,
}
_IN_WAV: Final = {
    "pcm_s16le": Codec.WAV,
    "pcm_f32le": Codec.WAV_F32,
    "pcm_mulaw": Codec.WAV_MULAW,
    "pcm_alaw": Codec.WAV_ALAW,
}
# What the SDK asks for when its user does not.
_DEFAULT_FORMAT: Final = {"container": "raw", "encoding": "pcm_f32le", "sample_rate": 44100}
# The API's own words for a speed, before it took numbers.
_SPEEDS: Final = {"slowest": 0.6, "slow": 0.8, "normal": 1.0, "fast": 1.25, "fastest": 1.5}


@dataclass(frozen=True, slots=True)
class Generation:
    """How a context is spoken.

    Attributes:
        ignored: what was asked for and cannot be had here, a sentence each.
    """

    options: UtteranceOptions
    codec: Codec
    bitrate: int | None
    ignored: tuple[str, ...]

    def encoder(self) -> Encoder:
        """The encoder of one stream.

        Raises:
            Failure: `unsupported_format`.
        """
        rate_hz = self.options.audio.sample_rate
        assert rate_hz is not None
        return make_encoder(self.codec, rate_hz, bitrate=self.bitrate)


def read_generation(bridge: Bridge, message: dict[str, Any], *, socket: bool) -> Generation:
    """Reads all fields but the transcript.

    Args:
        bridge: what knows the voices.
        message: of a client.
        socket: audio is sent raw, and paced.

    Raises:
        Failure: `bad_request`, `unknown_voice` or `unsupported_format`.
    """
    codec, rate_hz, bitrate = _format(message.get("output_format") or _DEFAULT_FORMAT, socket=socket)
    speech, ignored = _speech(message)
    for name in ("add_phoneme_timestamps", "pronunciation_dict_id", "duration"):
        if message.get(name):
            ignored += (f"{name} has no effect on this server",)
    language = message.get("language") or message.get("locale")
    generation = Generation(
        UtteranceOptions(
            voice=bridge.voice(DOOR, _voice(message.get("voice"))),
            language=language if isinstance(language, str) else None,
            speech=speech,
            text=TextOptions(normalize=message.get("normalization") != "off"),
            audio=AudioOptions(sample_rate=rate_hz),
            marks=message.get("add_timestamps") is True,
            max_ahead_ms=bridge.gateway.config.dialect_max_ahead_ms if socket else 0,
        ),
        codec,
        bitrate,
        ignored,
    )
    generation.encoder()
    return generation


def transcript_of(message: dict[str, Any]) -> str:
    """The text to speak.

    Raises:
        Failure: it is none.
    """
    transcript = message.get("transcript", "")
    if not isinstance(transcript, str):
        raise Failure(ErrorCode.BAD_REQUEST, "transcript must be a string")
    return transcript


def error_body(failure: Failure) -> tuple[int, dict[str, Any]]:
    """A failure in the API's words: the status, and the fields of an error."""
    status, _ = failure.as_http()
    solution = failure.solution or ERROR_KINDS[failure.code].solution
    return status, {
        "error_code": str(failure.code),
        "title": str(failure.code).replace("_", " ").capitalize(),
        "message": f"{failure.message}. {solution}",
        "status_code": status,
    }


# --- its parts ---------------------------------------------------------------------------------------


def _format(asked: Any, *, socket: bool) -> tuple[Codec, int, int | None]:
    if not isinstance(asked, dict):
        raise Failure(ErrorCode.BAD_REQUEST, "output_format must be an object")
    container = asked.get("container") or "raw"
    rate_hz = asked.get("sample_rate")
    if isinstance(rate_hz, bool) or not isinstance(rate_hz, int):
        raise Failure(ErrorCode.BAD_REQUEST, "output_format.sample_rate must be a whole number")
    if container == "mp3" and not socket:
        _check_rate(Codec.MP3, rate_hz)
        bitrate = asked.get("bit_rate")
        wanted = bitrate if isinstance(bitrate, int) and not isinstance(bitrate, bool) else 128_000
        return Codec.MP3, rate_hz, nearest_bitrate(Codec.MP3, rate_hz, wanted)
    containers = {"raw": _RAW} if socket else {"raw": _RAW, "wav": _IN_WAV}
    if container not in containers:
        named = "raw" if socket else "raw, wav and mp3"
        raise Failure(ErrorCode.UNSUPPORTED_FORMAT, f"output_format.container can be {named}")
    codec = containers[container].get(asked.get("encoding") or "pcm_s16le")
    if codec is None:
        raise Failure(
            ErrorCode.UNSUPPORTED_FORMAT,
            f"output_format.encoding is not supported; choose one of {', '.join(_RAW)}",
        )
    _check_rate(codec, rate_hz)
    return codec, rate_hz, None


def _check_rate(codec: Codec, rate_hz: int) -> None:
    rates = sample_rates_hz(codec)
    if rate_hz not in rates:
        listed = ", ".join(map(str, rates))
        raise Failure(ErrorCode.UNSUPPORTED_FORMAT, f"output_format.sample_rate can be {listed}")


def _voice(asked: Any) -> str | None:
    """The name in `{"mode": "id", "id": …}`, `{"id": …}` or a bare string."""
    if isinstance(asked, dict):
        if "embedding" in asked:
            raise Failure(
                ErrorCode.BAD_REQUEST,
                "voices by embedding cannot be spoken here",
                "Name a voice by its id; POST /v1/voices makes one from a recording.",
            )
        asked = asked.get("id")
    if asked is not None and not isinstance(asked, str):
        raise Failure(ErrorCode.BAD_REQUEST, "voice must be an id, or an object with one")
    return asked or None


def _speech(message: dict[str, Any]) -> tuple[SpeechOptions, tuple[str, ...]]:
    config = message.get("generation_config") or {}
    if not isinstance(config, dict):
        raise Failure(ErrorCode.BAD_REQUEST, "generation_config must be an object")
    old = message.get("voice")
    controls = (
        old.get("__experimental_controls") or old.get("experimental_controls")
        if isinstance(old, dict)
        else None
    )
    controls = controls if isinstance(controls, dict) else {}
    ignored: tuple[str, ...] = ()
    speed = config.get("speed", message.get("speed") or controls.get("speed"))
    speed = _SPEEDS.get(speed, speed) if isinstance(speed, str) else speed
    emotion = config.get("emotion", controls.get("emotion"))
    if isinstance(emotion, list):
        ignored = ("only the first emotion is spoken",) if len(emotion) > 1 else ()
        emotion = emotion[0] if emotion else None
    name = emotion.partition(":")[0] if isinstance(emotion, str) else None
    return (
        SpeechOptions(
            speed=_number("speed", speed, 0.5, 2.0),
            volume=_number("volume", config.get("volume"), 0.0, 2.0),
            emotion=None if name in (None, "", "neutral") else name,
        ),
        ignored,
    )


def _number(name: str, value: Any, low: float, high: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Failure(ErrorCode.BAD_REQUEST, f"{name} must be a number from {low:g} to {high:g}")
    return float(value)
