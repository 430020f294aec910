"""What all sessions of one server share."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import Limits, SpeechOptions
from cosyduplex_server.access import Gatekeeper
from cosyduplex_server.collector import Collector
from cosyduplex_server.config import Config
from cosyduplex_server.dialect import SocketSession
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.pool import WorkerPool
from cosyduplex_server.engine.supervisor import Supervisor
from cosyduplex_server.engine.voice_sync import Standing, VoiceSync
from cosyduplex_server.errors import Failure
from cosyduplex_server.metrics import Metrics
from cosyduplex_server.pacing import Ticker
from cosyduplex_server.utterance import Utterance, UtteranceOptions
from cosyduplex_server.voice_store import StoredVoice

# Uploads read and decoded at a time; each may hold some 40 MB for a moment.
_MAX_ENROLMENTS = 4
# Speech options an engine may or may not know; the rest of them mean nothing when left at their default.
_OPTIONAL_PARAMETERS = ("speed", "pitch", "volume", "emotion", "instruct", "dialect", "seed")


class Gateway:
    """The shared parts, and who is connected.

    Attributes:
        voices: the added ones.
        enrolments: taken by whoever reads a recording.
        sessions: the open ones.
        utterances: the open ones of doors other than the native one.
        draining: the server is going away: running contexts finish, nothing new begins.
        supervisor: keeps the workers of this machine, where there are any.
        engine_reason: why this engine speaks and not another.
    """

    def __init__(
        self,
        config: Config,
        pool: WorkerPool,
        voices: VoiceSync,
        gatekeeper: Gatekeeper,
        metrics: Metrics,
        engine_reason: str,
    ) -> None:
        self.config = config
        self.limits: Limits = config.limits
        self.pool = pool
        self.voices = voices
        self.enrolments = asyncio.Semaphore(_MAX_ENROLMENTS)
        self.gatekeeper = gatekeeper
        self.metrics = metrics
        self.sessions: set[SocketSession] = set()
        self.utterances: set[Utterance] = set()
        self.collector = Collector()
        self.draining = False
        self.supervisor: Supervisor | None = None
        self._restarts_counted = 0
        self.engine_reason = engine_reason
        self.ticker = Ticker(asyncio.get_running_loop())
        self.encode_pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="encode")
        self._nobody_left = asyncio.Event()
        self._nobody_left.set()

    @staticmethod
    def new_id() -> str:
        """An id nobody can guess."""
        return secrets.token_urlsafe(12)

    # --- what the engine can do

    @property
    def engine_name(self) -> str:
        """The engine and its version."""
        description = self.pool.description
        return f"{description.engine} {description.engine_version}".strip()

    @property
    def num_voices(self) -> int:
        """How many voices `GET /v1/voices` lists."""
        return len(self.all_voices)

    @property
    def all_voices(self) -> list[link.Voice | StoredVoice]:
        """Every voice: the engine's, then the added ones."""
        built_in = self.pool.description.voices
        ids = {voice.id for voice in built_in}
        return [*built_in, *(voice for voice in self.voices.store.voices.values() if voice.id not in ids)]

    def voice_id(self, asked: str | None) -> str:
        """The voice that is asked for: the engine's first, else the first added one, when none is named.

        Raises:
            Failure: `unknown_voice`.
        """
        voices = [voice.id for voice in self.all_voices]
        if asked is None:
            return voices[0] if voices else ""
        if self.pool.description.engine and asked not in voices and not self.voices.is_guest(asked):
            known = f", as {', '.join(voices[:8])}" if voices else "; there is none yet"
            raise Failure(
                ErrorCode.UNKNOWN_VOICE,
                "there is no voice of that name",
                f"Choose one of the voices listed by GET /v1/voices{known}.",
            )
        return asked

    def engine_voice(self, asked: str) -> tuple[str, str, str]:
        """The voice to ask of the engine, now that a context begins to speak.

        Returns:
            Its id, empty for the engine's own choice; a language for the case that none was asked for; and
            what to tell the listener when an added voice cannot speak, so that another does.

        Raises:
            Failure: the voice was removed, or is not ready.
        """
        built_in = self.pool.description.voices
        if any(voice.id == asked for voice in built_in) or (built_in and not asked):
            return asked, "", ""
        voice = self.voices.find(asked or self.voice_id(None))
        if voice is None:
            return self.voice_id(asked or None), "", ""
        standing, reason = self.voices.standing(voice)
        if standing is Standing.USABLE:
            return voice.id, "", ""
        if standing is Standing.PREPARING:
            raise Failure(
                ErrorCode.ENGINE_UNAVAILABLE,
                "this voice is still being prepared",
                "Try again in a few seconds.",
                retry_after_ms=2000,
            )
        called = "reference recording" if self.voices.is_guest(voice.id) else f"voice {voice.id}"
        warning = f"the {called} cannot be spoken ({reason}): the default voice speaks instead"
        return "", self.spoken_language(voice.language), warning

    def voice_language(self, asked: str) -> str:
        """The language of the voice that speaks when `asked` is asked for; empty where it is not known."""
        built_in = self.pool.description.voices
        spoken = next((voice for voice in built_in if voice.id == asked or not asked), None)
        voice = spoken or self.voices.find(asked or self.voice_id(None))
        return voice.language if voice else ""

    def not_honoured(self, speech: SpeechOptions, language: str | None) -> tuple[str, ...]:
        """One sentence for each option that was given and that the engine does not know."""
        known = self.pool.description.parameters
        speech = self.manner(speech, language)
        unknown = [
            name for name in _OPTIONAL_PARAMETERS if getattr(speech, name) is not None and name not in known
        ]
        if language and language != "auto" and not self.spoken_language(language):
            unknown.append("this language")
        return tuple(f"{name} is not known to {self.engine_name} and was ignored" for name in unknown)

    def spoken_language(self, asked: str) -> str:
        """The language as the engine knows it; empty where it speaks none such, or is to find out."""
        primary = _primary(asked)
        primary = {"cmn": "zh", "yue": "zh", "auto": ""}.get(primary, primary)
        spoken = {voice.language.partition("-")[0] for voice in self.pool.description.voices}
        # A saved voice may not say what it speaks.
        return primary if primary in spoken or "" in spoken else ""

    @staticmethod
    def manner(speech: SpeechOptions, language: str | None) -> SpeechOptions:
        """How to speak where a language was asked for that engines know as a dialect of another."""
        if _primary(language or "") == "yue" and speech.dialect is None:
            return dataclasses.replace(speech, dialect="cantonese")
        return speech

    @property
    def is_full(self) -> bool:
        """Whether a new context or session would be refused now."""
        return self.pool.is_full or len(self.sessions) >= self.config.max_sessions

    def observe(self) -> None:
        """Brings the gauges up to date that are read off elsewhere."""
        slots = self.pool.slots
        for state in ("free", "busy", "lost"):
            self.metrics.engine_slots.labels(state).set(getattr(slots, state))
        self.metrics.full.set(self.is_full)
        self.metrics.gpu_memory.set(self.pool.gpu_memory_bytes)
        if self.supervisor is not None:
            self.metrics.engine_restarts.inc(self.supervisor.restarts - self._restarts_counted)
            self._restarts_counted = self.supervisor.restarts

    # --- sessions

    def admit(self, session: SocketSession) -> bool:
        """Counts a session in, where there is room for one more; `run_session` counts it out."""
        if len(self.sessions) >= self.config.max_sessions:
            return False
        self.sessions.add(session)
        self._nobody_left.clear()
        self.metrics.sessions.inc()
        return True

    async def run_session(self, session: SocketSession, on_ready: Callable[[], None]) -> None:
        """Runs a session that was admitted until it is over."""
        try:
            await session.run(on_ready)
        finally:
            self.sessions.discard(session)
            self.metrics.sessions.dec()
            self.collector.session_ended(len(self.sessions))
            self._note_who_left()

    def open_utterance(self, door: str, options: UtteranceOptions, context_id: str = "") -> Utterance:
        """Begins an utterance of a door.

        Raises:
            Failure: it cannot be spoken so, or the server is going away.
        """
        if self.draining:
            raise Failure(
                ErrorCode.ENGINE_UNAVAILABLE,
                "the server is going away",
                "Connect again.",
                retry_after_ms=1000,
            )
        utterance = Utterance(self, door, options, context_id)
        self.utterances.add(utterance)
        self._nobody_left.clear()
        return utterance

    def utterance_ended(self, utterance: Utterance) -> None:
        """Counts an utterance out."""
        self.utterances.discard(utterance)
        self._note_who_left()

    def _note_who_left(self) -> None:
        if not self.sessions and not self.utterances:
            self._nobody_left.set()

    async def drain(self, timeout_s: float) -> None:
        """Lets running contexts finish, then ends every session."""
        self.draining = True
        for session in tuple(self.sessions):
            session.drain(round(timeout_s * 1000))
        try:
            async with asyncio.timeout(timeout_s):
                await self._nobody_left.wait()
        except TimeoutError:
            for session in tuple(self.sessions):
                session.end_drained()
            for utterance in tuple(self.utterances):
                utterance.abort(Failure(ErrorCode.ENGINE_UNAVAILABLE, "the server is going away"))
        await self._nobody_left.wait()

    def close(self) -> None:
        """Frees the threads."""
        self.encode_pool.shutdown(wait=False, cancel_futures=True)


def _primary(language: str) -> str:
    """The first part of a language tag."""
    return language.lower().partition("-")[0].partition("_")[0]
