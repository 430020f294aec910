"""Flux: the socket `/v2/speak`, whose turns have names and whose interruptions say what was heard."""

from __future__ import annotations

from functools import partial
from typing import Any

from cosyduplex.errors import ERROR_KINDS, ErrorCode
from cosyduplex.messages import ContextCancelled
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.deepgram.aura import refuse_upgrade
from cosyduplex_bridges.deepgram.settings import DOOR, read_settings, read_speed
from cosyduplex_bridges.deepgram.turns import Turn, TurnDialect, close_code_of, text_of
from cosyduplex_server.access import Principal
from cosyduplex_server.dialect import DialectSession, Socket, SocketDoor, Upgrade
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway

_NO_CONTROLS = {"pronunciations_applied": 0, "breaks_applied": 0, "pronunciation_warnings": 0}


class Flux(TurnDialect):
    """One connection of `/v2/speak`."""

    _audio_ms = 0  # of turns that are over
    _characters = 0
    _interrupted_at_ms = -1
    _last: Turn | None = None  # the turn that was sent last to its end: it may still be heard

    def greet(self) -> None:
        """Sends `Connected`."""
        self.session.send(
            {
                "type": "Connected",
                "request_id": self.request_id,
                "model_name": self.settings.model,
                "model_version": self.bridge.gateway.engine_name,
                "model_uuids": [],
            }
        )

    def receive(self, message: dict[str, Any]) -> None:
        """Obeys a message."""
        match message.get("type"):
            case "Speak":
                if text := text_of(message):
                    self.speak(text)
            case "Flush":
                if self._open is None:
                    self.warn("NO_ACTIVE_SPEECH", "there is no text to flush")
                self.flush()
            case "Interrupt":
                self._interrupt(message.get("playback_offset"))
            case "Configure":
                self._configure(message)
            case "Close":
                self.close_when_done()
            case _:
                raise Failure(
                    ErrorCode.BAD_REQUEST,
                    "a message's type is Speak, Flush, Interrupt, Configure or Close",
                )

    def begin(self, turn: Turn) -> None:
        """Sends `SpeechStarted`."""
        self.session.send({"type": "SpeechStarted", "speech_id": turn.id})

    def done(self, turn: Turn) -> None:
        """Sends `SpeechMetadata` and `Flushed`; a flush without text is answered by `Flushed` alone."""
        self._last = turn
        if turn.utterance is not None:
            if not turn.sent_ms:
                self.warn("NO_SYNTHESIZABLE_TEXT", "the turn's text has no sound")
            self._count(turn)
            self.session.send({"type": "SpeechMetadata", **self._metadata(turn)})
        self.session.send({"type": "Flushed", "speech_id": turn.id})

    def bye(self) -> None:
        """Sends `SessionMetadata`."""
        self.session.send(
            {
                "type": "SessionMetadata",
                "total_audio_duration_ms": self._audio_ms,
                "total_input_character_count": self._characters,
                "total_billable_character_count": self._characters,
            }
        )

    def warn(self, code: str, description: str) -> None:
        """Sends a `Warning`."""
        self.session.send({"type": "Warning", "code": code, "description": description})

    def fail(self, failure: Failure) -> None:
        """Sends an `Error`; where only a message was not taken, the connection goes on."""
        solution = failure.solution or ERROR_KINDS[failure.code].solution
        description = f"{failure.message}. {solution}"
        self.session.send({"type": "Error", "code": close_code_of(failure)[1], "description": description})

    # --- interruptions

    def _interrupt(self, offset: Any) -> None:
        played_ms = _offset_ms(offset)
        turn = self._turn_at(played_ms)
        if turn is None or turn.utterance is None:
            self.warn("NO_AUDIO_GENERATED", "there is no speech to interrupt")
            return
        if played_ms is not None:
            if played_ms <= self._interrupted_at_ms:
                self.warn(
                    "INVALID_INTERRUPT_OFFSET", "playback_offset must grow from one Interrupt to the next"
                )
                return
            self._interrupted_at_ms = played_ms
        estimated_ms = turn.begin_ms + turn.utterance.played_ms
        heard = turn.utterance.cancel(None if played_ms is None else max(0, played_ms - turn.begin_ms))
        was_open = turn in self.unfinished
        answer = self._interrupted(turn, heard, told=played_ms is not None)
        # What was not heard is thrown away by the client: the next turn begins where it stopped.
        self.next_begin_ms = estimated_ms if played_ms is None else played_ms
        answer["audio_played_ms"] = self.next_begin_ms
        if was_open:
            self._count(turn)
        self.drop_turns()
        self._last = None
        self.session.send(answer)

    def _turn_at(self, played_ms: int | None) -> Turn | None:
        """The turn that the listener is in."""
        sounding = [turn for turn in self.unfinished if turn.utterance is not None and turn.sent_ms]
        if self._last is not None and self._last.utterance is not None:
            end_ms = self._last.begin_ms + self._last.sent_ms
            still_heard = played_ms < end_ms if played_ms is not None else not sounding
            if still_heard:
                return self._last
        return sounding[0] if sounding else next(iter(self.unfinished), None)

    def _interrupted(self, turn: Turn, heard: ContextCancelled, *, told: bool) -> dict[str, Any]:
        text = "".join(turn.text)
        answer: dict[str, Any] = {"type": "SpeechInterrupted"}
        if told:
            # A page's text may hold half a surrogate pair, which no JSON in UTF-8 can carry back.
            spoken, remaining = text[: heard.spoken_chars], text[heard.spoken_chars :]
            answer["text_spoken"] = spoken.encode("utf-8", "replace").decode()
            answer["text_remaining"] = remaining.encode("utf-8", "replace").decode()
        answer["metadata"] = self._metadata(turn)
        return answer

    def _metadata(self, turn: Turn) -> dict[str, Any]:
        num_chars = sum(map(len, turn.text))
        return {
            "speech_id": turn.id,
            "audio_duration_ms": turn.sent_ms,
            "input_character_count": num_chars,
            "billable_character_count": num_chars,
            "controls_applied": _NO_CONTROLS,
        }

    def _count(self, turn: Turn) -> None:
        self._audio_ms += turn.sent_ms
        self._characters += sum(map(len, turn.text))

    # --- settings

    def _configure(self, message: dict[str, Any]) -> None:
        value = message.get("speed")
        if value is None:
            self.session.send({"type": "ConfigureSuccess", "applied": {}})
            return
        try:
            self.speed = read_speed(value)
        except Failure as failure:
            refusal = {"type": "ConfigureFailure", "code": "SPEED_OUT_OF_RANGE", "field": "speed"}
            number = value if isinstance(value, int | float) else None
            self.session.send({**refusal, "value": number, "description": failure.message})
            return
        self.session.send({"type": "ConfigureSuccess", "applied": {"speed": self.speed}})


def _offset_ms(offset: Any) -> int | None:
    if offset is None:
        return None
    value = offset.get("value") if isinstance(offset, dict) else None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Failure(
            ErrorCode.BAD_REQUEST, 'playback_offset must be {"type": "time_ms", "value": milliseconds}'
        )
    return value


def socket_door(bridge: Bridge) -> SocketDoor:
    """The place of the socket."""

    def open_session(
        gateway: Gateway, socket: Socket, upgrade: Upgrade, principal: Principal | None
    ) -> DialectSession:
        if not upgrade.query.get("model"):
            raise Failure(ErrorCode.BAD_REQUEST, "the query must name a model", "Add ?model=flux-alexis-en.")
        settings = read_settings(bridge, upgrade.query, rest=False)
        dialect = partial(Flux, bridge=bridge, settings=settings)
        return DialectSession(gateway, socket, DOOR, upgrade, principal, dialect)

    return SocketDoor(DOOR, "/v2/speak", open_session, refuse=refuse_upgrade)
