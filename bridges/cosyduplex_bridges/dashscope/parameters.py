"""What DashScope's parameters ask of an utterance."""

from __future__ import annotations

import html
import math
import re
from dataclasses import dataclass
from typing import Final, Literal

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import AudioOptions, SpeechOptions, TextOptions
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Codec, Encoder, make_encoder, nearest_bitrate, sample_rates_hz
from cosyduplex_bridges.dashscope.fields import Fields, bad_field
from cosyduplex_server.errors import Failure
from cosyduplex_server.utterance import UtteranceOptions

DOOR: Final = "dashscope"

# dashscope 2.0.2 sends "Default" and 0 where its user named no format, who then gets MP3 at 22050 Hz.
_CODECS: Final = {
    "default": Codec.MP3,
    "mp3": Codec.MP3,
    "pcm": Codec.PCM,
    "wav": Codec.WAV,
    "opus": Codec.OPUS,
}
_DEFAULT_RATE_HZ: Final = 22050
_RATES_HZ: Final = (8000, 16000, 22050, 24000, 44100, 48000)
# Opus has no 22.05 and 44.1 kHz; its decoders play at 48 kHz whatever was coded.
_OPUS_RATES_HZ: Final = {22050: 24000, 44100: 48000}
_KBITS: Final = (6, 510)
_OPUS_KBITS: Final = 32
_SEMITONES: Final = 12
_MEDIUM_VOLUME: Final = 50
_MAX_SEED: Final = 65535
_MAX_INSTRUCTION_CHARS: Final = 2000
_MAX_LANGUAGE_CHARS: Final = 35
# The native protocol's limits on pronunciations.
_MAX_HOT_FIXES: Final = 200
_MAX_WORD_CHARS: Final = 64
_MAX_SPOKEN_CHARS: Final = 128

_NOT_MADE: Final = {
    "phoneme_timestamp_enabled": "times of phonemes are not made",
    "enable_aigc_tag": "no mark is put into the audio",
}
_SSML: Final = re.compile(r"\s*(<\?xml[^>]*>\s*)?<speak\b", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class AudioForm:
    """The stream that a client wants."""

    codec: Codec
    sample_rate_hz: int
    bitrate: int | None

    def encoder(self) -> Encoder:
        """A new encoder of it.

        Raises:
            Failure: `unsupported_format`.
        """
        return make_encoder(self.codec, self.sample_rate_hz, bitrate=self.bitrate)

    @property
    def options(self) -> AudioOptions:
        """What the engine's audio must be for the encoder."""
        return AudioOptions(encoding="pcm_s16le", sample_rate=self.sample_rate_hz)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a client wants its text spoken.

    Attributes:
        options: for the utterance.
        audio: the stream to make of it.
        word_times: words are told with their times.
        takes_ssml: what looks like SSML is not read aloud with its tags.
        ignored: a sentence for each thing that is not done.
    """

    options: UtteranceOptions
    audio: AudioForm
    word_times: bool
    takes_ssml: bool
    ignored: tuple[str, ...]


def read_parameters(bridge: Bridge, fields: Fields, max_ahead_ms: int, *, needs_voice: bool = True) -> Wanted:
    """What the parameters of a task, or of an HTTP request, ask for.

    Raises:
        Failure: a parameter means nothing, or cannot be had.
    """
    audio = audio_form(fields, "format", "Default", "sample_rate", _DEFAULT_RATE_HZ)
    pronunciations = _pronunciations(fields.part("hot_fix"))
    ignored = [sentence for name, sentence in _NOT_MADE.items() if fields.flag(name)]
    options = UtteranceOptions(
        voice=bridge.voice(DOOR, fields.required_text("voice") if needs_voice else fields.text("voice")),
        language=next(iter(fields.strings("language_hints")), "")[:_MAX_LANGUAGE_CHARS] or None,
        speech=SpeechOptions(
            speed=speed(fields, "rate"),
            pitch=pitch(fields, "pitch"),
            volume=volume(fields, "volume"),
            instruct=instruct(fields, "instruction"),
            # dashscope 2.0.2 always sends a seed, 0 where its user gave none.
            seed=fields.whole("seed", 0, 0, _MAX_SEED) or None,
        ),
        text=TextOptions(markup=_markup(fields), pronunciations=pronunciations or None),
        audio=audio.options,
        marks=True,
        max_ahead_ms=max_ahead_ms,
    )
    return Wanted(
        options, audio, fields.flag("word_timestamp_enabled"), fields.flag("enable_ssml"), tuple(ignored)
    )


def _markup(fields: Fields) -> Literal["markdown", "plain"] | None:
    if "enable_markdown_filter" not in fields:
        return None
    return "markdown" if fields.flag("enable_markdown_filter") else "plain"


def _pronunciations(hot_fix: Fields) -> dict[str, str]:
    """What to say for words: both of the vendor's kinds are that."""
    pairs = hot_fix.pairs("pronunciation") | hot_fix.pairs("replace")
    if len(pairs) > _MAX_HOT_FIXES or not all(
        0 < len(word) <= _MAX_WORD_CHARS and len(spoken) <= _MAX_SPOKEN_CHARS
        for word, spoken in pairs.items()
    ):
        raise bad_field(
            f"hot_fix may have {_MAX_HOT_FIXES} entries, of words of 1 to {_MAX_WORD_CHARS} characters "
            f"and {_MAX_SPOKEN_CHARS} to say for them"
        )
    return pairs


def audio_form(fields: Fields, name: str, default: str, rate_name: str, default_rate_hz: int) -> AudioForm:
    """The stream that the fields ask for.

    Raises:
        Failure: `unsupported_format`.
    """
    asked = fields.text(name) or default
    codec = _CODECS.get(asked.lower())
    if codec is None:
        raise Failure(
            ErrorCode.UNSUPPORTED_FORMAT,
            f"{name} must be pcm, wav, mp3 or opus",
            "Choose one of them; without it the audio is MP3.",
        )
    rate_hz = fields.whole(rate_name, 0, 0, 192_000) or default_rate_hz
    if rate_hz not in _RATES_HZ:
        raise Failure(
            ErrorCode.UNSUPPORTED_FORMAT,
            f"{rate_name} must be one of {', '.join(map(str, _RATES_HZ))}, not {rate_hz}",
        )
    if codec is Codec.OPUS:
        rate_hz = _OPUS_RATES_HZ.get(rate_hz, rate_hz)
    assert rate_hz in sample_rates_hz(codec)
    return AudioForm(codec, rate_hz, _bitrate(fields, codec, rate_hz))


def _bitrate(fields: Fields, codec: Codec, rate_hz: int) -> int | None:
    kbits = fields.whole("bit_rate", 0, 0, _KBITS[1])
    if codec is Codec.OPUS:
        kbits = kbits or _OPUS_KBITS
    return nearest_bitrate(codec, rate_hz, 1000 * kbits) if kbits else None


def speed(fields: Fields, name: str) -> float | None:
    """A rate; None where nothing is changed, so that engines that know none do not warn of it."""
    return _unless(1.0, fields.number(name, 1.0, 0.5, 2.0))


def pitch(fields: Fields, name: str) -> float | None:
    """A ratio of frequencies, as semitones."""
    return _unless(0.0, _SEMITONES * math.log2(fields.number(name, 1.0, 0.5, 2.0)))


def volume(fields: Fields, name: str) -> float | None:
    """0 to 100, as a gain: 50 is as spoken."""
    return _unless(1.0, fields.number(name, _MEDIUM_VOLUME, 0, 100) / _MEDIUM_VOLUME)


def instruct(fields: Fields, name: str) -> str | None:
    """How to speak, in words."""
    text = fields.text(name)
    if len(text) > _MAX_INSTRUCTION_CHARS:
        raise bad_field(f"{name} may have {_MAX_INSTRUCTION_CHARS} characters")
    return text or None


def _unless(default: float, value: float) -> float | None:
    return None if value == default else value


def without_tags(text: str) -> str | None:
    """The text of an SSML document; None for a text that is none.

    `call` of dashscope 2.0.2 says `enable_ssml` of plain text, too.
    """
    if _SSML.match(text) is None:
        return None
    return html.unescape(_TAG.sub("", text))
