"""`WS /api-ws/v1/realtime`: Qwen's text-to-speech sessions, events in JSON both ways."""

from __future__ import annotations

import asyncio
import base64
import logging
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from cosyduplex.errors import ERROR_KINDS, ErrorCode
from cosyduplex.messages import ContextDone, ContextFlushed, SpeechOptions, TextOptions
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Encoder
from cosyduplex_bridges.dashscope.errors import error_code, error_message, refuse_handshake
from cosyduplex_bridges.dashscope.fields import Fields, bad_field, encodable
from cosyduplex_bridges.dashscope.parameters import (
    DOOR,
    AudioForm,
    audio_form,
    instruct,
    pitch,
    speed,
    volume,
)
from cosyduplex_bridges.dashscope.sentences import count_characters
from cosyduplex_server.access import Principal
from cosyduplex_server.dialect import Dialect, DialectSession, Socket, SocketDoor, Upgrade
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.utterance import Sound, Utterance, UtteranceOptions

log = logging.getLogger(__name__)

PATH: Final = "/api-ws/v1/realtime"
# In server_commit mode the server decides the cuts: a writer silent for so long has said it all.
PAUSE_S: Final = 3.0
_MODES: Final = ("server_commit", "commit")
_DEFAULT_RATE_HZ: Final = 24000
_LANGUAGES: Final = {
    "auto": None,
    "chinese": "zh",
    "english": "en",
    "german": "de",
    "italian": "it",
    "portuguese": "pt",
    "spanish": "es",
    "japanese": "ja",
    "korean": "ko",
    "french": "fr",
    "russian": "ru",
}


def door(bridge: Bridge) -> SocketDoor:
    """Where it is."""

    def open_session(
        gateway: Gateway, socket: Socket, upgrade: Upgrade, principal: Principal | None
    ) -> DialectSession:
        return DialectSession(
            gateway, socket, DOOR, upgrade, principal, lambda session: RealtimeDialect(session, bridge)
        )

    return SocketDoor(DOOR, PATH, open_session, refuse=refuse_handshake)


@dataclass(frozen=True, slots=True)
class _Settings:
    """How a session speaks.

    Attributes:
        waits_for_commit: nothing is spoken before the client commits it.
        voice: as the client is told.
        ignored: a sentence for each thing that is not done.
    """

    options: UtteranceOptions
    audio: AudioForm
    waits_for_commit: bool
    voice: str
    ignored: tuple[str, ...]


class _Speech:
    """An utterance that becomes one response for each commit, and one for what is left at its end."""

    def __init__(self, settings: _Settings, utterance: Utterance) -> None:
        self.settings = settings
        self.utterance = utterance
        self.encoder: Encoder = settings.audio.encoder()
        # Of each response that is not done; the last one takes more.
        self.characters: deque[int] = deque([0])

    def append(self, text: str) -> None:
        """Takes text.

        Raises:
            Failure: `text_too_long`.
        """
        self.utterance.append(text)
        self.characters[-1] += count_characters(text)

    def commit(self) -> None:
        """What was appended is a response."""
        self.utterance.flush()
        self.characters.append(0)

    @property
    def is_settled(self) -> bool:
        """Whether all of its text is done."""
        return list(self.characters) == [0]

    @property
    def warnings(self) -> list[str]:
        """A sentence for each thing that is not done as asked."""
        return [*self.settings.ignored, *self.utterance.warnings]


@dataclass(frozen=True, slots=True)
class _Response:
    id: str
    item_id: str
    speech: _Speech


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"


class RealtimeDialect(Dialect):
    """One session. Its responses follow one another, however fast the client commits."""

    def __init__(self, session: DialectSession, bridge: Bridge) -> None:
        super().__init__(session)
        self._bridge = bridge
        self._given: dict[str, Any] = {}
        self._settings = self._read_settings({})
        self._held: list[str] = []  # waits for a commit
        self._open: _Speech | None = None  # takes what is appended
        self._waiting: deque[_Speech] = deque()  # in the order in which they will be heard
        self._heard: _Speech | None = None
        self._response: _Response | None = None
        self._is_finishing = False
        self._pause: asyncio.TimerHandle | None = None

    def opened(self) -> None:
        """Greets, before the client has said anything."""
        self._send("session.created", session=self._shown)

    # --- in

    def receive(self, message: dict[str, Any]) -> None:
        """Obeys an event."""
        fields = Fields(message, "event")
        kind = fields.required_text("type")
        if self._is_finishing and kind not in ("response.cancel", "session.finish"):
            raise bad_field("the session has been finished")
        match kind:
            case "session.update":
                self._update(message.get("session"))
            case "input_text_buffer.append":
                self._append(fields.text("text"))
            case "input_text_buffer.commit":
                self._commit()
            case "input_text_buffer.clear":
                self._held.clear()
                self._send("input_text_buffer.cleared")
            case "response.cancel":
                self._cancel()
            case "session.finish":
                self._finish()
            case _:
                raise bad_field("this type of event is not known")

    def _update(self, given: Any) -> None:
        changed = {} if given is None else given
        if not isinstance(changed, dict):
            raise bad_field("session must be an object")
        merged = self._given | {name: value for name, value in changed.items() if value is not None}
        settings = self._read_settings(merged)
        settings.audio.encoder()  # what cannot be made is refused now
        self._end_speech()  # what came before is spoken as it was to be
        self._given, self._settings = merged, settings
        self._send("session.updated", session=self._shown)

    def _read_settings(self, given: dict[str, Any]) -> _Settings:
        fields = Fields(given, "session")
        mode = fields.text("mode", _MODES[0])
        if mode not in _MODES:
            raise bad_field(f"session.mode must be {' or '.join(_MODES)}")
        language = fields.text("language_type", "auto").lower()
        if language not in _LANGUAGES:
            raise bad_field(f"session.language_type must be one of {', '.join(_LANGUAGES)}")
        audio = audio_form(fields, "response_format", "pcm", "sample_rate", _DEFAULT_RATE_HZ)
        voice = self._bridge.voice(DOOR, fields.text("voice"))
        options = UtteranceOptions(
            voice=voice,
            language=_LANGUAGES[language],
            speech=SpeechOptions(
                speed=speed(fields, "speech_rate"),
                pitch=pitch(fields, "pitch_rate"),
                volume=volume(fields, "volume"),
                instruct=instruct(fields, "instructions"),
            ),
            text=TextOptions(normalize=fields.flag("enable_tn") if "enable_tn" in fields else None),
            audio=audio.options,
            max_ahead_ms=self.session.gateway.config.dialect_max_ahead_ms,
        )
        rewrites = fields.flag("optimize_instructions")
        return _Settings(
            options,
            audio,
            mode == "commit",
            fields.text("voice") or self.session.gateway.voice_id(None),
            ("instructions are taken as they are: optimize_instructions does nothing",) if rewrites else (),
        )

    @property
    def _shown(self) -> dict[str, Any]:
        """The session as the client is told it is; dashscope 2.0.2 reads its id without looking."""
        settings = self._settings
        return {
            "object": "realtime.session",
            "id": self.session.id,
            "mode": _MODES[settings.waits_for_commit],
            "model": encodable(self.session.upgrade.query.get("model", "")),
            "voice": encodable(settings.voice),
            "response_format": str(settings.audio.codec),
            "sample_rate": settings.audio.sample_rate_hz,
        }

    def _append(self, text: str) -> None:
        if not text:
            return
        if not self._settings.waits_for_commit:
            self._speech().append(text)
            self._stop_clock()
            self._pause = self.session.call_later(PAUSE_S, self._on_pause)
            return
        limit = self.session.gateway.limits.max_pending_chars
        if sum(map(len, self._held)) + len(text) > limit:
            raise Failure(ErrorCode.TEXT_TOO_LONG, f"{limit} characters may wait for a commit")
        self._held.append(text)

    def _on_pause(self) -> None:
        if self._open is not None and self._open.characters[-1]:
            self._open.commit()

    def _stop_clock(self) -> None:
        if self._pause is not None:
            self._pause.cancel()

    def _commit(self) -> None:
        if not self._held and (self._open is None or not self._open.characters[-1]):
            raise bad_field("there is no text to commit", "Append some first.")
        self._stop_clock()
        self._send("input_text_buffer.committed", item_id=_new_id("item"))
        self._speak_held()
        self._speech().commit()

    def _speak_held(self) -> None:
        held, self._held = self._held, []
        for text in held:
            self._speech().append(text)

    def _speech(self) -> _Speech:
        """The one that takes text."""
        if self._open is None or self._open.utterance.is_over:
            utterance = self.session.speak(self._settings.options)
            self._open = _Speech(self._settings, utterance)
            self._waiting.append(self._open)
            if self._heard is None and len(self._waiting) == 1:
                _ = self.session.spawn(self._tell())
        return self._open

    def _end_speech(self) -> None:
        self._stop_clock()
        if self._open is not None:
            self._open.utterance.end()
            self._open = None

    def _cancel(self) -> None:
        begun = [*([] if self._heard is None else [self._heard]), *self._waiting]
        # One that was cancelled a moment ago is still being let go of.
        dropped = [speech for speech in begun if not speech.utterance.is_cancelled]
        pending = next((speech for speech in dropped if not speech.is_settled), None)
        if self._response is None and pending is None:
            raise bad_field("there is no response to cancel")
        for speech in dropped:
            speech.utterance.cancel()
        self._waiting.clear()
        self._open = None
        if self._response is None:
            assert pending is not None
            self._begin_response(pending)
        self._end_response("cancelled")

    def _finish(self) -> None:
        self._is_finishing = True
        self._speak_held()
        self._end_speech()
        if self._heard is None and not self._waiting:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        self._send("session.finished")
        self.session.close(reason="finished")

    # --- out

    async def _tell(self) -> None:
        while self._waiting:
            self._heard = self._waiting.popleft()
            try:
                await self._tell_speech(self._heard)
            except Failure as failure:
                if self._response is not None:
                    self._end_response("failed")
                self.fail(failure)
            self._heard.utterance.close()
            if self._open is self._heard:
                self._open = None
            self._heard = None
        if self._is_finishing:
            self._say_goodbye()

    async def _tell_speech(self, speech: _Speech) -> None:
        async for event in speech.utterance:
            match event:
                case Sound():
                    await self._tell_audio(speech, await self._bridge.encode(speech.encoder, event.pcm))
                case ContextFlushed():
                    await self._tell_end(speech)
                    if speech.is_settled and self._open is speech:
                        self._end_speech()  # a session that is quiet holds no place in the engine
                case ContextDone() if not speech.is_settled:
                    await self._tell_end(speech)

    async def _tell_audio(self, speech: _Speech, data: bytes) -> None:
        await self.session.writable()
        if not data or speech.utterance.is_cancelled:
            return
        response = self._response or self._begin_response(speech)
        self._send_part(response, "response.audio.delta", delta=base64.b64encode(data).decode())

    async def _tell_end(self, speech: _Speech) -> None:
        """A response has been spoken; each is a whole stream of its format."""
        encoder, speech.encoder = speech.encoder, speech.settings.audio.encoder()
        if self._response is not None:
            await self._tell_audio(speech, await self._bridge.finish(encoder))
        if speech.utterance.is_cancelled:
            return
        if self._response is None:
            self._begin_response(speech)
        self._end_response("completed")
        speech.characters.popleft()
        if not speech.characters:
            speech.characters.append(0)

    def _begin_response(self, speech: _Speech) -> _Response:
        self._response = response = _Response(_new_id("resp"), _new_id("item"), speech)
        self._send("response.created", response=self._shown_response("in_progress"))
        self._send(
            "response.output_item.added",
            response_id=response.id,
            output_index=0,
            item=self._shown_item("in_progress"),
        )
        self._send_part(response, "response.content_part.added", part={"type": "audio", "text": ""})
        return response

    def _end_response(self, status: str) -> None:
        response = self._response
        assert response is not None
        self._send_part(response, "response.audio.done")
        self._send_part(response, "response.content_part.done", part={"type": "audio", "text": ""})
        item = self._shown_item("completed" if status == "completed" else "incomplete")
        self._send("response.output_item.done", response_id=response.id, output_index=0, item=item)
        shown = self._shown_response(status) | {
            "output": [item],
            "usage": {"characters": response.speech.characters[0]},
        }
        if warnings := response.speech.warnings:
            shown["warnings"] = warnings
            log.info("not done as asked", extra={"door": DOOR, "warnings": warnings})
        self._send("response.done", response=shown)
        self._response = None

    def _shown_response(self, status: str) -> dict[str, Any]:
        assert self._response is not None
        return {
            "id": self._response.id,
            "object": "realtime.response",
            "status": status,
            "voice": encodable(self._response.speech.settings.voice),
            "output": [],
        }

    def _shown_item(self, status: str) -> dict[str, Any]:
        assert self._response is not None
        return {
            "id": self._response.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [{"type": "audio", "text": ""}],
        }

    def _send_part(self, response: _Response, kind: str, **fields: Any) -> None:
        place = {"response_id": response.id, "item_id": response.item_id}
        self._send(kind, **place, output_index=0, content_index=0, **fields)

    def _send(self, kind: str, **fields: Any) -> None:
        self.session.send({"event_id": _new_id("event"), "type": kind, **fields})

    def fail(self, failure: Failure) -> None:
        """Tells of it; the session goes on, unless whoever calls closes it."""
        mistake = ERROR_KINDS[failure.code].http_status < 500
        self._send(
            "error",
            error={
                "type": "invalid_request_error" if mistake else "server_error",
                "code": error_code(failure),
                "message": error_message(failure),
                "param": None,
            },
        )
