"""The voices a worker knows: those of its checkpoint and those that were added."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.cosyvoice.features import FeaturesMismatch, PromptFeatures
from cosyduplex_server.engine.cosyvoice.prompt import read_wav
from cosyduplex_server.engine.cosyvoice.voice import DEFAULT_FIRST_HOP_TOKENS, Voice
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.errors import Failure

logger = logging.getLogger(__name__)

DEFAULT_ID: Final = "default"
# 30 s of the fastest speech are about 300 characters.
MAX_TRANSCRIPT_CHARS: Final = 1000


class Encoder(Protocol):
    """Makes features of recordings; `PromptEncoder` is one."""

    @property
    def fingerprint(self) -> str:
        """Tells its features from another's."""

    @property
    def num_speech_tokens(self) -> int:
        """Every speech token is below it."""

    def encode(self, pcm: NDArray[np.float32], rate_hz: int) -> PromptFeatures:
        """Makes the features of a recording."""


class VoiceBook:
    """Voices by id. Every method may be called from any thread; a voice once got stays good.

    Args:
        own: the checkpoint's voices, in their order.
        encoder: makes new ones; None where the checkpoint has no networks for it.
        first_hop_tokens: how short the first hop shall be, see `voice.trim`.
    """

    def __init__(
        self,
        own: Iterable[Voice],
        encoder: Encoder | None,
        *,
        first_hop_tokens: int = DEFAULT_FIRST_HOP_TOKENS,
    ) -> None:
        self._first_hop_tokens = first_hop_tokens
        self._encoder = encoder
        self._own: Mapping[str, Voice] = {voice.id: voice.trimmed(first_hop_tokens) for voice in own}
        self._added: Mapping[str, Voice] = {}  # replaced as a whole, so that readers need no lock
        self._lock = Lock()

    @property
    def can_add(self) -> bool:
        """Whether `add` works."""
        return self._encoder is not None

    @property
    def voices(self) -> tuple[Voice, ...]:
        """All voices, the default one first.

        That is the one called "default"; else the checkpoint's first with a recording to continue, its first,
        the first that was added.
        """
        voices = tuple({**self._own, **self._added}.values())
        own = tuple(voice for voice in voices if voice.id in self._own)
        called_so = (voice for voice in voices if voice.id == DEFAULT_ID)
        with_prompt = (voice for voice in own if voice.flow_tokens)
        default = next((voice for choice in (called_so, with_prompt, own, voices) for voice in choice), None)
        return voices if default is None else (default, *(voice for voice in voices if voice is not default))

    def get(self, id: str) -> Voice:
        """The voice of that id; the default one for "".

        Raises:
            Failure: `unknown_voice`.
        """
        if id == "":
            voice = next(iter(self.voices), None)
            if voice is None:
                raise Failure(
                    ErrorCode.UNKNOWN_VOICE, "This model has no voice yet.", "Add one from a recording."
                )
            return voice
        voice = self._added.get(id) or self._own.get(id)
        if voice is None:
            raise Failure(ErrorCode.UNKNOWN_VOICE, f"The engine has no voice {id!r}.")
        return voice

    def describe(self) -> list[link.Voice]:
        """All voices, as the worker tells of them; the default one first."""
        return [
            link.Voice(id=voice.id, name=voice.name, language=voice.language, labels=dict(voice.labels))
            for voice in self.voices
        ]

    def add(self, prompt: link.VoicePrompt) -> link.VoiceAdded:
        """Makes a voice of a recording, or of its features where they are this model's, and keeps it.

        A voice of the same id is replaced; one of the checkpoint's own comes back when this one is removed.
        Takes a second or more where features have to be made.

        Raises:
            Failure: `bad_reference_audio`; `bad_request` for an impossible transcript or a model that cannot
                make voices.
            CheckpointError: one of the model's files is not what it should be.
        """
        encoder = self._encoder
        if encoder is None:
            raise Failure(ErrorCode.BAD_REQUEST, "This model lacks the files to make voices of recordings.")
        if len(prompt.text) > MAX_TRANSCRIPT_CHARS:
            raise Failure(
                ErrorCode.BAD_REQUEST,
                f"A transcript has at most {MAX_TRANSCRIPT_CHARS:,} characters: it is what a recording of "
                "30 s says.",
            )
        features = _features(prompt, encoder)
        voice = Voice.from_features(
            features,
            id=prompt.id,
            name=prompt.name or prompt.id,
            language=prompt.language,
            text=prompt.text,
            labels=prompt.labels,
        ).trimmed(self._first_hop_tokens)
        with self._lock:
            self._added = {**self._added, voice.id: voice}
        return link.VoiceAdded(
            features=features.to_bytes(encoder.fingerprint), figures=voice.figures(), notes=voice.notes
        )

    def remove(self, id: str) -> None:
        """Forgets a voice if it was added; contexts that speak with it go on."""
        with self._lock:
            self._added = {key: voice for key, voice in self._added.items() if key != id}


def _features(prompt: link.VoicePrompt, encoder: Encoder) -> PromptFeatures:
    """What was kept of a voice, or else made of its recording."""
    if prompt.features:
        try:
            return PromptFeatures.from_bytes(prompt.features, encoder.fingerprint, encoder.num_speech_tokens)
        except FeaturesMismatch as mismatch:
            logger.info("voice %s is made again: %s", prompt.id, mismatch)
    pcm, rate_hz = read_wav(prompt.audio)
    return encoder.encode(pcm, rate_hz)
