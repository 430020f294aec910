"""Upstream CosyVoice's gRPC service: one request, and its audio as it is made."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import AudioOptions, SpeechOptions
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Codec, make_encoder
from cosyduplex_bridges.grpc_calls import Call, answers, bad_request, credential, identify, warn, write
from cosyduplex_bridges.grpc_stubs import cosyvoice_pb2 as cosyvoice
from cosyduplex_bridges.grpc_stubs import cosyvoice_pb2_grpc as cosyvoice_grpc
from cosyduplex_server.audio.reference import Recording, bad_audio, read_recording
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.utterance import Utterance, UtteranceOptions

DOOR: Final = "cosyvoice"
_PROMPT_HZ: Final = 16_000
_MAX_INSTRUCT_CHARS: Final = 2000


class CosyVoiceService(cosyvoice_grpc.CosyVoiceServicer):
    """Answers upstream's clients.

    Args:
        bridge: what the doors share.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._gateway = bridge.gateway

    async def Inference(self, request: cosyvoice.Request, context: Call) -> None:
        """Speaks; the client gets s16le samples."""
        await self._infer(request, context)

    @answers
    async def _infer(self, request: cosyvoice.Request, context: Call) -> None:
        identify(self._gateway, DOOR, "speak", (credential(context),))
        text = _text(request)
        async with self._open(request) as utterance:
            utterance.append(text)
            utterance.end()
            encoder = make_encoder(Codec.PCM, utterance.sample_rate_hz)
            timeout_s = self._gateway.config.write_timeout_s
            async for data in self._bridge.audio(utterance, encoder):
                await write(context, cosyvoice.Response(tts_audio=data), timeout_s)
        warn(context, utterance.warnings)

    @asynccontextmanager
    async def _open(self, request: cosyvoice.Request) -> AsyncIterator[Utterance]:
        match request.WhichOneof("RequestPayload"):
            case "sft_request":
                with self._begin(self._voice(request.sft_request.spk_id)) as utterance:
                    yield utterance
            case "instruct_request":
                asked = request.instruct_request
                speech = SpeechOptions(instruct=_instruct(asked.instruct_text))
                with self._begin(self._voice(asked.spk_id), speech) as utterance:
                    yield utterance
            case "zero_shot_request":
                prompt = request.zero_shot_request
                async with self._as_recorded(prompt.prompt_audio, prompt.prompt_text) as utterance:
                    yield utterance
            case _:
                async with self._as_recorded(request.cross_lingual_request.prompt_audio, "") as utterance:
                    yield utterance

    @asynccontextmanager
    async def _as_recorded(self, audio: bytes, text: str) -> AsyncIterator[Utterance]:
        async with self._gateway.enrolments:
            recording = await asyncio.to_thread(_recording, audio)
        async with self._gateway.voices.guest(recording, text) as voice:
            with self._begin(voice) as utterance:
                yield utterance

    def _voice(self, name: str) -> str | None:
        return self._bridge.voice(DOOR, name or None)

    def _begin(self, voice: str | None, speech: SpeechOptions | None = None) -> Utterance:
        audio = AudioOptions(encoding="pcm_s16le", sample_rate=_rate_hz(self._gateway))
        options = UtteranceOptions(voice=voice, speech=speech or SpeechOptions(), audio=audio)
        return self._gateway.open_utterance(DOOR, options)


def _rate_hz(gateway: Gateway) -> int:
    """The rate of the answers. Upstream's client takes 22050 for granted, its newer models give 24000."""
    rate_hz = gateway.config.cosyvoice_rate or gateway.pool.description.sample_rate_hz
    if not rate_hz:
        raise Failure(ErrorCode.ENGINE_UNAVAILABLE, "no engine is ready yet", retry_after_ms=1000)
    return rate_hz


def _text(request: cosyvoice.Request) -> str:
    kind = request.WhichOneof("RequestPayload")
    if kind is None:
        raise bad_request(
            "the request is of no kind",
            "Set sft_request, zero_shot_request, cross_lingual_request or instruct_request.",
        )
    text: str = getattr(request, kind).tts_text
    if not text.strip():
        raise bad_request("tts_text is empty")
    return text


def _instruct(text: str) -> str | None:
    if len(text) > _MAX_INSTRUCT_CHARS:
        raise bad_request(f"instruct_text may have {_MAX_INSTRUCT_CHARS} characters at most")
    return text or None


def _recording(audio: bytes) -> Recording:
    """The recording in `prompt_audio`: samples, or a WAV file from who has missed that there is no header."""
    if audio[:4] == b"RIFF":
        return read_recording(audio)
    if len(audio) % 2:
        raise bad_audio(
            f"prompt_audio has {len(audio)} bytes, which are not whole 16-bit samples",
            "Send mono s16le samples at 16 kHz.",
        )
    return read_recording(_wav(audio) if audio else b"")


def _wav(pcm: bytes) -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, _PROMPT_HZ, 2 * _PROMPT_HZ, 2, 16)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(pcm)) + pcm
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
