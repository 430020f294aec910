"""`POST /api/v1/services/audio/tts/customization`: voices made of recordings, in this server's own store."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from cosyduplex.containers import WavWriter
from cosyduplex.errors import ErrorCode
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.dashscope.errors import new_request_id, refuse
from cosyduplex_bridges.dashscope.fields import Fields, bad_field
from cosyduplex_bridges.dashscope.http import read_json
from cosyduplex_bridges.dashscope.parameters import DOOR
from cosyduplex_bridges.fetch import fetch_audio
from cosyduplex_server.access import Principal
from cosyduplex_server.audio.reference import MAX_S, Recording, read_recording
from cosyduplex_server.engine.voice_sync import Standing
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import Door, json_response, read_body
from cosyduplex_server.schema import Operation
from cosyduplex_server.voice_store import (
    MAX_ID_CHARS,
    MAX_TEXT_CHARS,
    NewVoice,
    StoredVoice,
    VoiceDamaged,
    VoiceExists,
)

log = logging.getLogger(__name__)

PATH: Final = "/api/v1/services/audio/tts/customization"
# Ten megabytes in base64, and what stands around them.
MAX_BODY_BYTES: Final = 14 * 1024 * 1024
_UPLOAD_TIMEOUT_S: Final = 60.0
_QWEN_MODEL: Final = "qwen-voice-enrollment"
_PREFIX: Final = re.compile(r"[0-9a-z]{1,10}")
_QWEN_NAME: Final = re.compile(r"[0-9A-Za-z_]{1,16}")
_MODEL: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}")
_RANDOM_CHARS: Final = 32
# Fewer would let two voices of a name meet.
_LEAST_RANDOM_CHARS: Final = 12
_LEAST_PROMPT_S: Final = 3.0
_WAV_HEADER_BYTES: Final = 44
_MAX_PAGE: Final = 1000
# The labels by which this door knows the voices it added.
_MODEL_LABEL: Final = "target_model"
_PREFIX_LABEL: Final = "prefix"
_STATUS: Final = {
    Standing.USABLE: "OK",
    Standing.PREPARING: "DEPLOYING",
    Standing.UNUSABLE: "UNDEPLOYED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentInput:
    """`action` says which of the others are read."""

    action: str
    target_model: str | None = None
    prefix: str | None = None
    url: str | None = None
    voice_id: str | None = None
    language_hints: list[str] | None = None
    page_index: int = 0
    page_size: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """A DashScope request of `voice-enrollment` or `qwen-voice-enrollment`."""

    model: str
    input: EnrolmentInput


def door(bridge: Bridge) -> Door:
    """The route."""

    async def answer(gateway: Gateway, request: Request) -> Response:
        _check_key(gateway, request.state.principal)
        async with gateway.enrolments:
            body = await read_body(request, MAX_BODY_BYTES, _UPLOAD_TIMEOUT_S)
            fields = Fields(await asyncio.to_thread(read_json, body), "body")
            is_qwen = fields.text("model") == _QWEN_MODEL
            service = _Enrolment(gateway, request.state.principal)
            output = await service.obey(fields.part("input"), is_qwen=is_qwen)
        return json_response({"output": output, "usage": {"count": 1}, "request_id": new_request_id()})

    operation = Operation(
        method="POST",
        path=PATH,
        summary="DashScope: adds, lists, changes and removes voices made of recordings",
        body=EnrolmentRequest,
    )
    return Door(DOOR, operation, answer, refuse)


def _check_key(gateway: Gateway, principal: Principal) -> None:
    """Whoever changes what others hear has a key itself, where there are keys."""
    if gateway.gatekeeper.has_keys and not principal.has_key:
        raise Failure(
            ErrorCode.UNAUTHORIZED,
            "voices are added and removed with an API key",
            "Present a key itself: a client token, or an open door, is not enough.",
        )


class _Enrolment:
    """What one caller may do with the voices of the store."""

    def __init__(self, gateway: Gateway, principal: Principal) -> None:
        self._gateway = gateway
        self._principal = principal

    async def obey(self, given: Fields, *, is_qwen: bool) -> dict[str, Any]:
        """Does what `action` says, and returns what to answer."""
        actions: dict[str, Callable[[Fields], Awaitable[dict[str, Any]]]] = {
            "create_voice": self._create,
            "list_voice": self._list,
            "query_voice": self._query,
            "update_voice": self._update,
            "delete_voice": self._delete,
        }
        if is_qwen:
            actions = {
                "create": self._create_for_qwen,
                "list": self._list_for_qwen,
                "delete": self._delete_for_qwen,
            }
        action = actions.get(given.required_text("action"))
        if action is None:
            raise bad_field(f"input.action must be one of {', '.join(actions)}")
        await self._gateway.voices.refresh()
        return await action(given)

    # --- CosyVoice

    async def _create(self, given: Fields) -> dict[str, Any]:
        prefix = given.required_text("prefix")
        if _PREFIX.fullmatch(prefix) is None:
            raise bad_field("input.prefix must have 1 to 10 digits and lower-case letters")
        model = self._model(given)
        most_s = given.number("max_prompt_audio_length", MAX_S, _LEAST_PROMPT_S, MAX_S)
        recording = await self._recording(given.required_text("url"), most_s)
        voice = await self._add(model, prefix, f"{model}-{prefix}-", recording, "", _language(given))
        output: dict[str, Any] = {"voice_id": voice.id}
        if given.flag("enable_preprocess"):
            output["warnings"] = ["the recording is taken as it is: enable_preprocess does nothing"]
        return output

    async def _list(self, given: Fields) -> dict[str, Any]:
        return {"voice_list": [self._shown(voice) for voice in self._page(given)]}

    async def _query(self, given: Fields) -> dict[str, Any]:
        voice = self._voice(given.required_text("voice_id"))
        shown = self._shown(voice)
        del shown["voice_id"]
        return {**shown, "target_model": voice.labels.get(_MODEL_LABEL, ""), "resource_link": ""}

    async def _update(self, given: Fields) -> dict[str, Any]:
        voice = self._voice(given.required_text("voice_id"))
        recording = await self._recording(given.required_text("url"))
        try:
            old = await asyncio.to_thread(self._gateway.voices.store.prompt_wav, voice)
        except VoiceDamaged:
            old = b""
        await self._gateway.voices.remove(voice.id)
        new = _copy(voice, recording, text="")
        try:
            await self._put(new)
        except Failure:
            if old:
                await self._put(_copy(voice, await asyncio.to_thread(read_recording, old), voice.text))
            raise
        return {}

    async def _delete(self, given: Fields) -> dict[str, Any]:
        await self._remove(given.required_text("voice_id"))
        return {}

    # --- Qwen

    async def _create_for_qwen(self, given: Fields) -> dict[str, Any]:
        name = given.required_text("preferred_name")
        if _QWEN_NAME.fullmatch(name) is None:
            raise bad_field("input.preferred_name must have 1 to 16 digits, letters and underscores")
        model = self._model(given)
        text = given.text("text").strip()
        if len(text) > MAX_TEXT_CHARS:
            raise Failure(ErrorCode.TEXT_TOO_LONG, f"input.text may have {MAX_TEXT_CHARS} characters")
        recording = await self._recording(_qwen_audio(given))
        language = given.text("language")
        voice = await self._add(model, name, f"qwen-tts-vc-{name}-voice-", recording, text, language)
        return {"voice": voice.id, "target_model": model}

    async def _list_for_qwen(self, given: Fields) -> dict[str, Any]:
        voices = [
            {
                "voice": voice.id,
                "gmt_create": _time(voice),
                "target_model": voice.labels.get(_MODEL_LABEL, ""),
            }
            for voice in self._page(given)
        ]
        page = {"page_index": given.whole("page_index", 0, 0, _MAX_PAGE)}
        return {"voice_list": voices, **page, "total_count": len(self._enrolled(""))}

    async def _delete_for_qwen(self, given: Fields) -> dict[str, Any]:
        await self._remove(given.required_text("voice"))
        return {}

    # --- both

    def _model(self, given: Fields) -> str:
        model = given.required_text("target_model")
        if _MODEL.fullmatch(model) is None or len(model) > MAX_ID_CHARS:
            raise bad_field("input.target_model must be the name of a model")
        return model

    async def _recording(self, url: str, most_s: float = MAX_S) -> Recording:
        data = await fetch_audio(url, frozenset(self._gateway.config.fetch_host))
        recording = await asyncio.to_thread(read_recording, data)
        return await asyncio.to_thread(_cut, recording, most_s)

    async def _add(
        self, model: str, prefix: str, id_stem: str, recording: Recording, text: str, language: str
    ) -> StoredVoice:
        room = MAX_ID_CHARS - len(id_stem)
        if room < _LEAST_RANDOM_CHARS:
            raise bad_field("input.target_model is too long for the id of a voice")
        new = NewVoice(
            id=id_stem + secrets.token_hex(_RANDOM_CHARS // 2)[:room],
            name=prefix,
            language=language if _LANGUAGE.fullmatch(language) else "",
            text=text,
            labels={_MODEL_LABEL: model, _PREFIX_LABEL: prefix},
            recording=recording,
        )
        return await self._put(new)

    async def _put(self, new: NewVoice) -> StoredVoice:
        try:
            voice = await self._gateway.voices.add(new)
        except VoiceExists:
            raise Failure(ErrorCode.BAD_REQUEST, "this voice is being changed by somebody else") from None
        log.info(
            "voice added",
            extra={"voice": voice.id, "by": self._principal.id, "sha256": voice.sha256, "door": DOOR},
        )
        return voice

    async def _remove(self, voice_id: str) -> None:
        self._voice(voice_id)
        await self._gateway.voices.remove(voice_id)
        log.info("voice removed", extra={"voice": voice_id, "by": self._principal.id, "door": DOOR})

    def _voice(self, voice_id: str) -> StoredVoice:
        voice = self._gateway.voices.store.voices.get(voice_id)
        if voice is None:
            raise Failure(
                ErrorCode.UNKNOWN_VOICE, "no voice of that id was added", "Ask for the list of voices."
            )
        return voice

    def _enrolled(self, prefix: str) -> list[StoredVoice]:
        """The voices this door added, newest first."""
        voices = self._gateway.voices.store.voices.values()
        found = [
            voice
            for voice in voices
            if _MODEL_LABEL in voice.labels and prefix in ("", voice.labels.get(_PREFIX_LABEL))
        ]
        return found[::-1]

    def _page(self, given: Fields) -> list[StoredVoice]:
        size = given.whole("page_size", 10, 1, _MAX_PAGE)
        start = size * given.whole("page_index", 0, 0, _MAX_PAGE)
        return self._enrolled(given.text("prefix"))[start : start + size]

    def _shown(self, voice: StoredVoice) -> dict[str, Any]:
        return {
            "voice_id": voice.id,
            "gmt_create": _time(voice),
            "gmt_modified": _time(voice),
            "status": _STATUS[self._gateway.voices.standing(voice)[0]],
        }


def _copy(voice: StoredVoice, recording: Recording, text: str) -> NewVoice:
    return NewVoice(
        id=voice.id,
        name=voice.name,
        language=voice.language,
        text=text,
        labels=voice.labels,
        recording=recording,
    )


def _language(given: Fields) -> str:
    return next(iter(given.strings("language_hints")), "")


def _qwen_audio(given: Fields) -> str:
    """A URL: the vendor's documents show `{"data": "data:…"}`, and a string is as good."""
    if given.has_object("audio"):
        return given.part("audio").required_text("data")
    return given.required_text("audio")


def _cut(recording: Recording, seconds: float) -> Recording:
    """The beginning of a recording, at most so long."""
    if recording.duration_s <= seconds:
        return recording
    file = io.BytesIO()
    num_bytes = 2 * int(seconds * recording.sample_rate_hz)
    with WavWriter(file, recording.sample_rate_hz) as writer:
        writer.write(recording.wav[_WAV_HEADER_BYTES : _WAV_HEADER_BYTES + num_bytes])
    return read_recording(file.getvalue())


def _time(voice: StoredVoice) -> str:
    return voice.created[:19].replace("T", " ")
