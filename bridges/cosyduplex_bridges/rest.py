"""`POST /tts` of the REST guide: JSON in, PCM out."""

from __future__ import annotations

import base64
import binascii
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from cosyduplex.messages import SpeechOptions
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.emotions import dialect_of, emotion_of
from cosyduplex_bridges.forms import Fields, read_object, wrong
from cosyduplex_bridges.one_shot import Wanted, engine_audio, speak, voice_of_recording
from cosyduplex_server.audio.reference import MAX_BYTES, bad_audio, too_many_bytes
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import Door
from cosyduplex_server.schema import Operation
from cosyduplex_server.utterance import UtteranceOptions

_DOOR: Final = "tts"
_NAMES: Final = "rest"  # its table of voice names
_MODES: Final = ("sft", "zero_shot", "cross_lingual", "instruct")
_MAX_INSTRUCTION: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class TtsRequest:
    """A text and how it is spoken.

    `sft` speaks with a voice of this server. `zero_shot` speaks as in `reference_audio` (a file in base64,
    10 MB at most), of which `reference_text` is what it says. `cross_lingual` takes of it the timbre alone,
    for any language. `instruct` speaks with either as `instruct_text`, `emotion` and `dialect` say; without a
    recording `reference_text` is as good as `instruct_text`.
    """

    text: str
    mode: Literal["sft", "zero_shot", "cross_lingual", "instruct"] = "sft"
    speaker_id: str | None = None
    reference_audio: str | None = None
    reference_text: str | None = None
    instruct_text: str | None = None
    stream: bool = True
    speed: float = 1.0
    emotion: str | None = None
    dialect: str | None = None


def http_doors(bridge: Bridge) -> tuple[Door, ...]:
    """The door `tts`."""

    async def answer(gateway: Gateway, request: Request) -> Response:
        return await _speak(bridge, await read_object(gateway, request, recording=True))

    operation = Operation(
        method="POST",
        path="/tts",
        summary="Speaks a text, as the REST guide has it",
        body=TtsRequest,
        media_type="audio/pcm",
    )
    return (Door(_DOOR, operation, answer, scope="speak"),)


async def _speak(bridge: Bridge, fields: Fields) -> Response:
    mode = fields.choice("mode", _MODES, "sft")
    text = fields.required_text("text")
    instruction, notes = _instruction(fields, mode)
    speech = SpeechOptions(
        speed=fields.number("speed", 0.5, 2.0),
        emotion=emotion_of(fields.text("emotion")),
        dialect=dialect_of(fields.text("dialect")),
        instruct=instruction,
    )
    if mode == "instruct" and not (speech.emotion or speech.dialect or instruction):
        notes.append("mode instruct without instruct_text, emotion or dialect: spoken plainly")
    whole = not fields.flag("stream", True)
    audio = engine_audio(bridge.gateway)
    async with AsyncExitStack() as resources:
        voice = await _voice(bridge, fields, mode, resources, notes)
        wanted = Wanted(
            door=_DOOR,
            text=text,
            options=UtteranceOptions(voice=voice, speech=speech, audio=audio),
            headers={"X-Sample-Rate": str(audio.sample_rate), "X-Channels": "1"},
            notes=notes,
            whole=whole,
        )
        return speak(bridge, wanted, resources)


def _instruction(fields: Fields, mode: str) -> tuple[str | None, list[str]]:
    """How to speak, in the client's words, and what is to be said about that.

    The guide has no field for it. Upstream's is `instruct_text`; without a recording `reference_text` can be
    nothing else.
    """
    said = fields.text("instruct_text")
    if mode != "instruct":
        return None, ["instruct_text is for mode instruct and was ignored"] if said else []
    if not said and not fields.get("reference_audio"):
        said = fields.text("reference_text")
    if said and len(said) > _MAX_INSTRUCTION:
        raise wrong("instruct_text", f"may have {_MAX_INSTRUCTION} characters at most")
    return said or None, []


async def _voice(
    bridge: Bridge, fields: Fields, mode: str, resources: AsyncExitStack, notes: list[str]
) -> str | None:
    """The voice that the mode asks for, made of the recording where there is one."""
    encoded = fields.text("reference_audio")
    transcript = fields.text("reference_text")
    speaker = fields.text("speaker_id")
    if not encoded or mode == "sft":
        if mode in ("zero_shot", "cross_lingual") and not speaker:
            raise wrong("reference_audio", f"is needed in mode {mode}, or the speaker_id of an added voice")
        if encoded:
            notes.append("reference_audio is not for mode sft and was ignored")
        return bridge.voice(_NAMES, speaker)
    if mode == "zero_shot" and not transcript:
        raise wrong(
            "reference_text",
            "is needed in mode zero_shot: what the recording says. Mode cross_lingual needs none",
        )
    said = transcript if mode == "zero_shot" and transcript else ""
    return await voice_of_recording(bridge.gateway, resources, _decoded(encoded), said)


def _decoded(encoded: str) -> bytes:
    """The recording itself: no address of one, be it on the web or on this machine, is followed.

    Raises:
        Failure: `bad_reference_audio`.
    """
    head, comma, _ = encoded[:256].partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        encoded = encoded[len(head) + 1 :]
    if len(encoded) > (MAX_BYTES + 2) // 3 * 4 + 4096:  # line breaks
        raise too_many_bytes(len(encoded) * 3 // 4)
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise bad_audio(
            "reference_audio is not base64", "Send the file itself, in base64; URLs and paths are not read."
        ) from None
