"""`/v1/voices`: which voices there are, and how one is added and removed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeVar

import orjson
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from cosyduplex.errors import ErrorCode
from cosyduplex_server.access import Principal
from cosyduplex_server.audio.reference import MAX_BYTES, too_many_bytes
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.voice_sync import Standing
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.multipart import read_multipart
from cosyduplex_server.voice_store import NewVoice, StoredVoice, VoiceExists, check_new_voice

log = logging.getLogger(__name__)

# The file and the fields around it.
MAX_FORM_BYTES: Final = MAX_BYTES + 64 * 1024
MAX_FIELD_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 16
# Ten megabytes in this time are 1.3 Mbit/s.
UPLOAD_TIMEOUT_S: Final = 60.0
_FORM: Final = (
    "Send multipart/form-data with name, audio (a file), text and consent=true, as curl does with -F."
)

# --- answers -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceEntry:
    """One voice, in every client's words: `id` and `voice_id` are the same.

    `category` is "premade" or "cloned". A voice that is not `usable` is spoken by the default voice, or is
    still being prepared: `labels.state` says which.
    """

    id: str
    voice_id: str
    name: str
    language: str
    labels: dict[str, str]
    category: str = "premade"
    usable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceList:
    """Every voice, the engine's own before the added ones; the first is the default."""

    voices: list[VoiceEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceDetails(VoiceEntry):
    """One voice with all that is known of it; of the engine's own voices that is no more than the entry.

    `figures` are what was measured in the recording and what an engine said the voice costs, `notes` what it
    found worth saying; `warning` is there when the voice cannot be spoken as it is.
    """

    text: str = ""
    consent: bool = False
    created: str = ""
    sha256: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceForm:
    """A voice to be added: WAV, FLAC, Ogg (Vorbis, Opus) or MP3 of 1 to 30 s and what it says.

    `consent` must be true: the person who speaks in the recording has agreed. `id` is the name when left out;
    `labels` is a JSON object of strings.
    """

    name: str
    audio: bytes
    text: str
    consent: bool
    id: str | None = None
    language: str | None = None
    labels: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """The voice is gone; contexts that speak it go on to their end."""

    status: str = "ok"


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


Entry = TypeVar("Entry", bound=VoiceEntry)

# --- reading -----------------------------------------------------------------------------------------


async def list_voices(gateway: Gateway, request: Request) -> Response:
    """Answers `GET /v1/voices`."""
    await gateway.voices.refresh()
    built_in = {voice.id: voice for voice in gateway.pool.description.voices}
    entries: list[VoiceEntry] = [_built_in(voice, VoiceEntry) for voice in built_in.values()]
    entries += [
        VoiceEntry(**_added(gateway, voice)[0])
        for voice in gateway.voices.store.voices.values()
        if voice.id not in built_in
    ]
    return _json(VoiceList(voices=entries))


async def show_voice(gateway: Gateway, request: Request) -> Response:
    """Answers `GET /v1/voices/{id}`."""
    await gateway.voices.refresh()
    voice_id = request.path_params["id"]
    built_in = _find_built_in(gateway, voice_id)
    if built_in is not None:
        return _json(_built_in(built_in, VoiceDetails))
    voice = gateway.voices.store.voices.get(voice_id)
    if voice is None:
        raise _unknown()
    return _json(_details(gateway, voice))


def _find_built_in(gateway: Gateway, voice_id: str) -> link.Voice | None:
    return next((voice for voice in gateway.pool.description.voices if voice.id == voice_id), None)


def _built_in(voice: link.Voice, kind: type[Entry]) -> Entry:
    return kind(
        id=voice.id,
        voice_id=voice.id,
        name=voice.name,
        language=voice.language,
        labels=dict(voice.labels),
    )


def _added(gateway: Gateway, voice: StoredVoice) -> tuple[dict[str, Any], str]:
    """The fields of an added voice's entry, and why it cannot be spoken."""
    standing, reason = gateway.voices.standing(voice)
    fields = {
        "id": voice.id,
        "voice_id": voice.id,
        "name": voice.name,
        "language": voice.language,
        "labels": {**voice.labels, "source": "cloned", "state": standing.value},
        "category": "cloned",
        "usable": standing is Standing.USABLE,
    }
    return fields, reason


def _details(gateway: Gateway, voice: StoredVoice) -> dict[str, Any]:
    fields, reason = _added(gateway, voice)
    details = asdict(
        VoiceDetails(
            **fields,
            text=voice.text,
            consent=voice.consent,
            created=voice.created,
            sha256=voice.sha256,
            figures=dict(voice.figures),
            notes=gateway.voices.notes(voice),
            warning=_warning(gateway, voice, reason),
        )
    )
    if not details["warning"]:
        del details["warning"]
    return details


def _warning(gateway: Gateway, voice: StoredVoice, reason: str) -> str:
    match gateway.voices.standing(voice)[0]:
        case Standing.USABLE:
            return ""
        case Standing.PREPARING:
            return "the voice is still being prepared; contexts that ask for it now are refused for a moment"
        case Standing.UNUSABLE:
            return (
                f"the voice is kept, but cannot be spoken ({reason}); until it can, the default voice speaks "
                "in its place and the context gets a warning"
            )


def _unknown() -> Failure:
    return Failure(ErrorCode.UNKNOWN_VOICE, "there is no voice of that id")


# --- adding and removing -----------------------------------------------------------------------------


async def add_voice(gateway: Gateway, request: Request) -> Response:
    """Answers `POST /v1/voices`."""
    principal = _key_holder(gateway, request)
    async with gateway.enrolments:
        new = await _read_new_voice(request)
        try:
            if _find_built_in(gateway, new.id) is not None:
                raise VoiceExists(new.id)
            voice = await gateway.voices.add(new)
        except VoiceExists:
            failure = Failure(
                ErrorCode.BAD_REQUEST,
                "there is a voice of that id already",
                "Choose another id (or name), or remove that voice first with DELETE /v1/voices/{id}.",
            )
            return _json(failure.as_http()[1], 409)
    log.info("voice added", extra={"voice": voice.id, "by": principal.id, "sha256": voice.sha256})
    return _json(_details(gateway, voice), 201)


async def remove_voice(gateway: Gateway, request: Request) -> Response:
    """Answers `DELETE /v1/voices/{id}`."""
    principal = _key_holder(gateway, request)
    voice_id = request.path_params["id"]
    if await gateway.voices.remove(voice_id):
        log.info("voice removed", extra={"voice": voice_id, "by": principal.id})
        return _json(Removed())
    if _find_built_in(gateway, voice_id) is not None:
        raise Failure(
            ErrorCode.BAD_REQUEST,
            "this voice is the engine's own and cannot be removed",
            "Only voices with the category `cloned` can be.",
        )
    raise _unknown()


def _key_holder(gateway: Gateway, request: Request) -> Principal:
    """Who may change what others hear: a key itself, where there are keys. An open door opens reading alone.

    Raises:
        Failure: `unauthorized`.
    """
    principal: Principal = request.state.principal
    if gateway.gatekeeper.has_keys and not principal.has_key:
        raise Failure(
            ErrorCode.UNAUTHORIZED,
            "voices are added and removed with an API key",
            "Present a key itself: a client token, or an open door, is not enough.",
        )
    return principal


async def _read_new_voice(request: Request) -> NewVoice:
    form = await _read_form(request)
    try:
        upload = form.get("audio")
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        audio = await upload.read() if isinstance(upload, UploadFile) else None
    finally:
        await form.close()
    return await asyncio.to_thread(check_new_voice, fields, audio)


async def _read_form(request: Request) -> FormData:
    """The form, of which no more is read than may come.

    Raises:
        Failure: it is none, is too large, or did not come in time.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Failure(ErrorCode.BAD_REQUEST, "the body must be multipart/form-data", _FORM)
    return await read_multipart(
        request,
        max_bytes=MAX_FORM_BYTES,
        max_field_bytes=MAX_FIELD_BYTES,
        max_fields=MAX_FIELDS,
        timeout_s=UPLOAD_TIMEOUT_S,
        solution=_FORM,
        too_large=too_many_bytes,
    )
