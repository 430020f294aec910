"""Upstream CosyVoice's gRPC service: one request, and its audio as it is made."""

from __future__ import annotations

import struct
from contextlib import AsyncExitStack
from typing import Final

from cosyduplex.messages import AudioOptions, SpeechOptions
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Codec, make_encoder
from cosyduplex_bridges.emotions import split_prompt
from cosyduplex_bridges.grpc_calls import Call, answers, bad_request, credential, identify, warn, write
from cosyduplex_bridges.grpc_stubs import cosyvoice_pb2 as cosyvoice
from cosyduplex_bridges.one_shot import engine_audio, voice_of_recording
from cosyduplex_server.audio.reference import bad_audio
from cosyduplex_server.utterance import UtteranceOptions

DOOR: Final = "cosyvoice"
_PROMPT_HZ: Final = 16_000
_MAX_INSTRUCT_CHARS: Final = 2000


class CosyVoiceService:
    """Answers upstream's clients.

    Args:
        bridge: what the doors share.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._gateway = bridge.gateway

    @answers
    async def Inference(self, request: cosyvoice.Request, context: Call) -> None:
        """Speaks; the client gets s16le samples."""
        identify(self._gateway, DOOR, "speak", (credential(context),))
        instruction, text = split_prompt(_text(request))
        async with AsyncExitStack() as resources:
            voice = await self._voice(request, resources)
            speech = SpeechOptions(instruct=_own_instruction(request) or instruction or None)
            options = UtteranceOptions(voice=voice, speech=speech, audio=self._audio)
            utterance = resources.enter_context(self._gateway.open_utterance(DOOR, options))
            utterance.append(text)
            utterance.end()
            encoder = make_encoder(Codec.PCM, utterance.sample_rate_hz)
            timeout_s = self._gateway.config.write_timeout_s
            async for data in self._bridge.audio(utterance, encoder):
                await write(context, cosyvoice.Response(tts_audio=data), timeout_s)
        warn(context, utterance.warnings)

    async def _voice(self, request: cosyvoice.Request, resources: AsyncExitStack) -> str | None:
        match request.WhichOneof("RequestPayload"):
            case "zero_shot_request":
                audio = request.zero_shot_request.prompt_audio
                said = split_prompt(request.zero_shot_request.prompt_text)[1]
            case "cross_lingual_request":
                audio, said = request.cross_lingual_request.prompt_audio, ""
            case "instruct_request":
                return self._bridge.voice(DOOR, request.instruct_request.spk_id or None)
            case _:
                return self._bridge.voice(DOOR, request.sft_request.spk_id or None)
        return await voice_of_recording(self._gateway, resources, _wav(audio), said)

    @property
    def _audio(self) -> AudioOptions:
        """Upstream's client takes 22050 Hz for granted, and upstream's newer models give 24000."""
        rate_hz = self._gateway.config.cosyvoice_rate
        return (
            AudioOptions(encoding="pcm_s16le", sample_rate=rate_hz)
            if rate_hz
            else engine_audio(self._gateway)
        )


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


def _own_instruction(request: cosyvoice.Request) -> str:
    """The instruction without the marks of CosyVoice3's examples; "" for none."""
    text = request.instruct_request.instruct_text
    if len(text) > _MAX_INSTRUCT_CHARS:
        raise bad_request(f"instruct_text may have {_MAX_INSTRUCT_CHARS} characters at most")
    before, behind = split_prompt(text)
    return before or behind


def _wav(audio: bytes) -> bytes:
    """The recording in `prompt_audio` as a file; some send one, though there shall be samples alone."""
    if not audio or audio[:4] == b"RIFF":
        return audio
    if len(audio) % 2:
        raise bad_audio(
            f"prompt_audio has {len(audio)} bytes, which are not whole 16-bit samples",
            "Send mono s16le samples at 16 kHz.",
        )
    form = struct.pack("<HHIIHH", 1, 1, _PROMPT_HZ, 2 * _PROMPT_HZ, 2, 16)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(audio)) + audio
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
