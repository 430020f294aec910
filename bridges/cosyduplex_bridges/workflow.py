"""The workflow TTS standard of Intelligent Media Services: `POST /stream-audio`.

Its two documents disagree with each other and with themselves; what both may mean is taken.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from cosyduplex.errors import ErrorCode, RemoteProtocolError
from cosyduplex.messages import AudioOptions, SpeechOptions
from cosyduplex.wire import load_json
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.emotions import emotion_of
from cosyduplex_bridges.forms import Fields, read_fields, wrong
from cosyduplex_bridges.one_shot import Wanted, speak
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import Door
from cosyduplex_server.schema import Operation
from cosyduplex_server.utterance import UtteranceOptions

log = logging.getLogger(__name__)

_DOOR: Final = "workflow"
_PATH: Final = "/stream-audio"
_SAMPLE_RATES_HZ: Final = (8000, 16000, 24000, 48000)
# What the sample server takes when none is given.
_DEFAULT_RATE_HZ: Final = 48000
# The label of the documents' sample server, on PCM; the platform is known to take that.
_MEDIA_TYPE: Final = "audio/mpeg"
# The names of the fields, by how they are compared; one document's examples were translated with the rest.
_NAMES: Final = {
    "text": "Text",
    "teks": "Text",
    "voiceid": "VoiceId",
    "samplerate": "SampleRate",
    "token": "Token",
    "extenddata": "ExtendData",
    "emotion": "Emotion",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAudioRequest:
    """A text and how it is spoken; JSON, or a form of either kind with the same fields.

    `ExtendData` is JSON with `InstanceId`, `ChannelId`, `SentenceId`, `Emotion` (neutral, happy, sad) and
    `UserData`, or what was meant as such.
    """

    Text: str
    VoiceId: str | None = None
    SampleRate: int = _DEFAULT_RATE_HZ
    Token: str | None = None
    ExtendData: str | None = None


def http_doors(bridge: Bridge) -> tuple[Door, ...]:
    """The door `workflow`; the GET of it is for consoles that look whether somebody is there."""

    async def answer(gateway: Gateway, request: Request) -> Response:
        return await _answer(bridge, request)

    post = Operation(
        method="POST",
        path=_PATH,
        summary="Speaks a text, as the workflow TTS standard has it",
        body=StreamAudioRequest,
        media_type=_MEDIA_TYPE,
    )
    probe = Operation(method="GET", path=_PATH, summary="Says that it is there", media_type="text/plain")
    return (Door(_DOOR, post, answer, scope="speak", credential_inside=True), Door(_DOOR, probe, _probe))


async def _probe(gateway: Gateway, request: Request) -> Response:
    return Response("POST a form or JSON with Text and SampleRate here.\n", media_type="text/plain")


async def _answer(bridge: Bridge, request: Request) -> Response:
    gateway = bridge.gateway
    read = await read_fields(gateway, request, recording=False)
    fields = Fields({_NAMES.get(_folded(name), name): value for name, value in read.values.items()})
    if request.state.principal is None:
        gateway.gatekeeper.identify(fields.text("Token"), _DOOR, "speak")
    sample_rate_hz = _sample_rate_hz(fields.get("SampleRate"))
    extend_data = read_extend_data(fields.get("ExtendData"))
    voice = bridge.voice(_DOOR, fields.text("VoiceId"))
    text = fields.text("Text")
    if text is None:
        raise wrong("Text", "is needed")
    emotion = extend_data.get("Emotion") or fields.text("Emotion")
    log.debug(
        "workflow request",
        extra={name: extend_data.get(name, "") for name in ("InstanceId", "ChannelId", "SentenceId")},
    )
    wanted = Wanted(
        door=_DOOR,
        text=text,
        options=UtteranceOptions(
            voice=voice,
            speech=SpeechOptions(emotion=emotion_of(emotion)),
            audio=AudioOptions(encoding="pcm_s16le", sample_rate=sample_rate_hz),
        ),
        media_type=_MEDIA_TYPE,
    )
    return speak(bridge, wanted)


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _sample_rate_hz(value: Any) -> int:
    """The rate, in whatever form a form makes of it.

    Raises:
        Failure: it is none of the four.
    """
    if value is None or value == "":
        return _DEFAULT_RATE_HZ
    try:
        rate_hz = float(value) if isinstance(value, int | float | str) else 0.0
    except ValueError:
        rate_hz = 0.0
    if rate_hz not in _SAMPLE_RATES_HZ:
        choices = ", ".join(map(str, _SAMPLE_RATES_HZ))
        raise wrong("SampleRate", f"must be one of {choices}", ErrorCode.UNSUPPORTED_FORMAT)
    return int(rate_hz)


# --- ExtendData --------------------------------------------------------------------------------------

_EXTEND_NAMES: Final = ("InstanceId", "ChannelId", "SentenceId", "Emotion")
_MAX_VALUE_CHARS: Final = 256
# No more is looked through for what is not JSON.
_MAX_SCANNED_CHARS: Final = 64 * 1024
# A client's own data, which may have names of its own in it.
_USER_DATA: Final = re.compile(r"""UserData["'\s]*[:=]\s*["']?\{[^{}]*\}""", re.IGNORECASE)
_VALUES: Final = {
    name: re.compile(rf"""(?<![A-Za-z]){name}["'\s]*[:=]\s*["']?([^"',{{}}]*)""", re.IGNORECASE)
    for name in _EXTEND_NAMES
}


def read_extend_data(value: Any) -> dict[str, str]:
    """What `ExtendData` says of the request, however badly it is written; nothing of it is ever an error.

    The documents' own example is in single quotes, one of which is missing.
    """
    for _ in range(2):  # some write JSON into a JSON string
        if isinstance(value, str):
            try:
                value = load_json(value)
            except RemoteProtocolError:
                return _scanned(value)
    if not isinstance(value, dict):
        return {}
    by_name = {_folded(str(name)): item for name, item in value.items()}
    found = {name: by_name.get(name.lower()) for name in _EXTEND_NAMES}
    return {
        name: str(item)[:_MAX_VALUE_CHARS]
        for name, item in found.items()
        if isinstance(item, str | int | float)
    }


def _scanned(text: str) -> dict[str, str]:
    text = _USER_DATA.sub("", text[:_MAX_SCANNED_CHARS])
    found = {name: pattern.search(text) for name, pattern in _VALUES.items()}
    return {name: match[1].strip()[:_MAX_VALUE_CHARS] for name, match in found.items() if match}
