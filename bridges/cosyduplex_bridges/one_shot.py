"""One request, one text, one answer full of audio: what the plain HTTP doors have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from starlette.responses import Response

from cosyduplex.messages import PCM_SAMPLE_RATES_HZ, AudioOptions
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Codec, make_encoder
from cosyduplex_server.audio.reference import read_recording
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import SpeechResponse, answer_failure
from cosyduplex_server.utterance import Utterance, UtteranceOptions

# What the engines speak at, where none has said so yet.
_USUAL_RATE_HZ = 24000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A text, and the answer it is to become.

    Attributes:
        door: whose request it is.
        text: whole.
        options: how it is spoken; `audio` with its sample rate.
        codec: of the body.
        media_type: of the body; "" for the codec's own, None for no such header.
        headers: more of them.
        notes: a sentence for each wish that the door itself could not grant.
        whole: the client wants it in one piece.
        refuse: how the door tells a failure.
    """

    door: str
    text: str
    options: UtteranceOptions
    codec: Codec = Codec.PCM
    media_type: str | None = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    notes: Iterable[str] = ()
    whole: bool = False
    refuse: Callable[[Failure], Response] = answer_failure


Body = Callable[[Utterance, AsyncIterator[bytes]], AsyncIterator[bytes]]


def speak(
    bridge: Bridge, wanted: Wanted, resources: AsyncExitStack | None = None, body: Body | None = None
) -> SpeechResponse:
    """The answer that speaks a text.

    Args:
        bridge: the server's shared parts.
        wanted: what is asked for.
        resources: closed with the answer; taken over when this returns.
        body: wraps the audio's bytes into something else.

    Raises:
        Failure: it cannot be spoken so.
    """
    rate_hz = wanted.options.audio.sample_rate or _USUAL_RATE_HZ
    encoder = make_encoder(wanted.codec, rate_hz)
    utterance = bridge.gateway.open_utterance(wanted.door, wanted.options)
    try:
        utterance.warnings += wanted.notes
        utterance.append(wanted.text)
        utterance.end()
    except Failure:
        utterance.close()
        raise
    audio = bridge.audio(utterance, encoder)
    return SpeechResponse(
        utterance,
        audio if body is None else body(utterance, audio),
        media_type=encoder.media_type if wanted.media_type == "" else wanted.media_type,
        headers=wanted.headers,
        refuse=wanted.refuse,
        whole=wanted.whole,
        resources=None if resources is None else resources.pop_all(),
    )


async def voice_of_recording(
    gateway: Gateway, resources: AsyncExitStack, recording: bytes, text: str = ""
) -> str:
    """The voice of a recording that came with a request, for as long as `resources` are open.

    Args:
        gateway: whose voices they are.
        resources: of the answer.
        recording: a whole file.
        text: what it says; "" speaks with its timbre alone.

    Raises:
        Failure: nothing can be made of it.
    """
    async with gateway.enrolments:
        read = await asyncio.to_thread(read_recording, recording)
    return await resources.enter_async_context(gateway.voices.guest(read, text))


def engine_audio(gateway: Gateway) -> AudioOptions:
    """PCM at the engine's own rate, or at the usual one where doors do not have that."""
    engine_hz = gateway.pool.description.sample_rate_hz
    rate_hz = engine_hz if engine_hz in PCM_SAMPLE_RATES_HZ else _USUAL_RATE_HZ
    return AudioOptions(encoding="pcm_s16le", sample_rate=rate_hz)
