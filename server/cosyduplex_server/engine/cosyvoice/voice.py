"""A voice: what the networks continue from, and how much of it each request uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from torch import Tensor

from cosyduplex_server.engine.cosyvoice.features import PromptFeatures
from cosyduplex_server.engine.cosyvoice.instructions import SYSTEM_PROMPT, instruction
from cosyduplex_server.engine.cosyvoice.speakers import Speaker
from cosyduplex_server.models.config import (
    CHUNK_TOKENS,
    FRAMES_PER_TOKEN,
    LOOKAHEAD_TOKENS,
    MEL_CHANNELS,
    SPEAKER_CHANNELS,
    TOKENS_PER_S,
    SpeechLMConfig,
)
from cosyduplex_server.models.vocoder_timing import RIGHT_FRAMES

HELD_BACK_FRAMES: Final = RIGHT_FRAMES
"""Mel frames that the vocoder keeps until it has heard what follows them."""
MIN_FIRST_HOP_TOKENS: Final = HELD_BACK_FRAMES // FRAMES_PER_TOKEN + 1
DEFAULT_FIRST_HOP_TOKENS: Final = 10
MIN_FLOW_PROMPT_TOKENS: Final = TOKENS_PER_S  # a voice is not recognised in less than a second of it
_MS_PER_FRAME: Final = 1000 // (TOKENS_PER_S * FRAMES_PER_TOKEN)
_SHORT_S: Final = 3.0
_LANGUAGE_WORDS: Final = {
    "中文": "zh-CN",
    "英文": "en-US",
    "日语": "ja-JP",
    "粤语": "yue-CN",
    "韩语": "ko-KR",
}
_GENDER_SIGNS: Final = {"女": "female", "男": "male"}


class Tokenizer(Protocol):
    """Makes the ids that the speech LM reads; `TextTokenizer` is one."""

    def encode(self, text: str, allow_special: bool = False) -> Sequence[int]:
        """The ids of `text`; `[laughter]`, `<|endofprompt|>` and the like are one each where allowed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Voice:
    """One voice; it does not change, so that requests may hold it while others replace it.

    Attributes:
        id: the name on the link.
        name: for people.
        language: BCP 47, what it speaks best; "" if unknown.
        prompt_text: what the recording says; "" if unknown.
        prompt_ids: the same as ids, where a saved voice has nothing else; used in place of `prompt_text`.
        lm_speech_tokens: of the recording; what the speech LM continues.
        flow_tokens: of the recording's last part; what the flow continues. P of them.
        flow_mel: their frames, float32, (2P, 80).
        embedding: float32, (192,).
        labels: for people.
        notes: one sentence each on what it cannot do.
    """

    id: str
    name: str
    language: str
    embedding: Tensor
    flow_mel: Tensor
    flow_tokens: tuple[int, ...] = ()
    lm_speech_tokens: tuple[int, ...] = ()
    prompt_text: str = ""
    prompt_ids: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.embedding.shape == (SPEAKER_CHANNELS,)
        assert self.flow_mel.shape == (len(self.flow_tokens) * FRAMES_PER_TOKEN, MEL_CHANNELS)

    @classmethod
    def from_features(
        cls,
        features: PromptFeatures,
        *,
        id: str,
        name: str,
        language: str,
        text: str,
        labels: Mapping[str, str],
    ) -> Voice:
        """The voice of a recording that says `text`."""
        return cls(
            id=id,
            name=name,
            language=language,
            embedding=features.embedding,
            flow_mel=features.mel,
            flow_tokens=features.speech_tokens,
            lm_speech_tokens=features.speech_tokens,
            prompt_text=text,
            labels=dict(labels),
            notes=_notes(features.seconds, text),
        )

    @classmethod
    def from_speaker(cls, id: str, speaker: Speaker) -> Voice:
        """A voice the checkpoint brings; its name tells the language and the gender, as upstream's do."""
        language = next((tag for word, tag in _LANGUAGE_WORDS.items() if id.startswith(word)), "")
        gender = next((word for sign, word in _GENDER_SIGNS.items() if id.endswith(sign)), None)
        return cls(
            id=id,
            name=id,
            language=language,
            embedding=speaker.embedding,
            flow_mel=speaker.prompt_mel,
            flow_tokens=tuple(speaker.flow_tokens.tolist()),
            lm_speech_tokens=tuple(speaker.lm_tokens.tolist()),
            prompt_text=speaker.prompt_text,
            prompt_ids=speaker.prompt_text_ids,
            labels={} if gender is None else {"gender": gender},
        )

    @property
    def has_transcript(self) -> bool:
        """Whether it is known what the recording says."""
        return bool(self.prompt_text.strip() or self.prompt_ids)

    def trimmed(self, first_hop_tokens: int) -> Voice:
        """The voice with the beginning of its flow prompt left out as `trim` says."""
        drop = trim(len(self.flow_tokens), first_hop_tokens)
        if drop == 0:
            return self
        return replace(
            self,
            flow_tokens=self.flow_tokens[drop:],
            flow_mel=self.flow_mel[drop * FRAMES_PER_TOKEN :].clone(),
        )

    def figures(self) -> dict[str, float]:
        """What it costs and how soon it begins, for whoever added it."""
        packet = first_packet(len(self.flow_tokens))
        return {
            "prompt_s": len(self.lm_speech_tokens) / TOKENS_PER_S,
            "prompt_tokens": len(self.lm_speech_tokens),
            "flow_prompt_tokens": len(self.flow_tokens),
            "first_hop_tokens": packet.tokens - LOOKAHEAD_TOKENS,
            "first_packet_tokens": packet.tokens,
            "first_packet_ms": packet.audio_ms,
        }


def trim(num_tokens: int, first_hop_tokens: int) -> int:
    """How many tokens to drop from the start of a flow prompt, so that the first hop is a short one.

    Chunks of 25 tokens are counted from the prompt's first token, so the first hop is what the prompt's last
    chunk lacks. Nothing is dropped where less than a second would remain: there the hop is as short as
    dropping can make it, or too short to be heard alone, which only a longer recording could change.

    Raises:
        ValueError: `first_hop_tokens` is not from 5 (the shortest that can be heard) to 25.
    """
    if not MIN_FIRST_HOP_TOKENS <= first_hop_tokens <= CHUNK_TOKENS:
        raise ValueError(f"the first hop must be {MIN_FIRST_HOP_TOKENS} to {CHUNK_TOKENS} tokens")
    drop = (num_tokens + first_hop_tokens) % CHUNK_TOKENS
    return drop if num_tokens - drop >= MIN_FLOW_PROMPT_TOKENS else 0


class FirstPacket(NamedTuple):
    """When a voice is first heard: after so many generated tokens, and for how long."""

    tokens: int
    audio_ms: int


def first_packet(num_tokens: int) -> FirstPacket:
    """The first audio after a flow prompt of `num_tokens`; without a prompt (0) the hop is a whole chunk."""
    hop = CHUNK_TOKENS - num_tokens % CHUNK_TOKENS
    if hop < MIN_FIRST_HOP_TOKENS:  # the vocoder keeps all of it
        hop += CHUNK_TOKENS
    frames = hop * FRAMES_PER_TOKEN - HELD_BACK_FRAMES
    return FirstPacket(hop + LOOKAHEAD_TOKENS, frames * _MS_PER_FRAME)


class Mode(StrEnum):
    """How a voice is used, in upstream's words."""

    SFT = "sft"
    ZERO_SHOT = "zero_shot"
    CROSS_LINGUAL = "cross_lingual"
    INSTRUCT = "instruct"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditioning:
    """What one context begins with.

    Attributes:
        mode: as which it was composed.
        voice: whose flow prompt and speaker vector the flow takes.
        prompt_text_ids: stand before the text's own ids at the speech LM.
        prompt_speech_tokens: what the speech LM continues.
        notes: one sentence for each wish that is not fulfilled.
    """

    mode: Mode
    voice: Voice
    prompt_text_ids: tuple[int, ...]
    prompt_speech_tokens: tuple[int, ...]
    notes: tuple[str, ...]


def resolve(
    voice: Voice,
    *,
    tokenizer: Tokenizer,
    config: SpeechLMConfig,
    instruct: str = "",
    emotion: str = "",
    dialect: str = "",
    language: str = "",
) -> Conditioning:
    """Composes a voice and a manner of speaking.

    Told how to speak, the LM gets the instruction in place of the recording, while the flow still continues
    the recording: a saved voice follows instructions as a new one does. Told nothing, the LM continues the
    recording where it is known what that says; otherwise only the flow does.

    CosyVoice3 wants its system prompt and the end-of-prompt mark before everything. They stand in the prompt
    text, also where upstream has its callers write them into the target: the LM reads the same ids, and the
    limits on the length of the speech follow the text that is spoken.

    Marks such as `[laughter]` count in a transcript, which belongs to the voice, and are plain text in an
    instruction, which comes with a request.

    Raises:
        Failure: `bad_request`, an instruction of more than 500 characters.
    """
    how = instruction(
        config.generation, instruct=instruct, emotion=emotion, dialect=dialect, language=language
    )
    speech: tuple[int, ...] = ()
    if how.text:
        mode = Mode.INSTRUCT
        text = how.text if config.generation == 2 else f"{SYSTEM_PROMPT} {how.text}"
        ids = (*tokenizer.encode(text), config.end_of_prompt)
    elif voice.has_transcript and voice.lm_speech_tokens:
        mode = Mode.ZERO_SHOT
        ids = _after_system_prompt(
            voice.prompt_ids or tuple(tokenizer.encode(voice.prompt_text, allow_special=True)),
            tokenizer,
            config,
        )
        speech = voice.lm_speech_tokens
    else:
        mode = Mode.CROSS_LINGUAL if voice.flow_tokens else Mode.SFT
        ids = _after_system_prompt((), tokenizer, config)
    return Conditioning(
        mode=mode, voice=voice, prompt_text_ids=ids, prompt_speech_tokens=speech, notes=how.notes
    )


def _after_system_prompt(
    ids: tuple[int, ...], tokenizer: Tokenizer, config: SpeechLMConfig
) -> tuple[int, ...]:
    if config.generation == 2 or config.end_of_prompt in ids:
        return ids
    return (*tokenizer.encode(SYSTEM_PROMPT), config.end_of_prompt, *ids)


def _notes(seconds: float, text: str) -> tuple[str, ...]:
    notes = []
    if not text.strip():
        notes.append(
            "Without a transcript the voice takes the timbre of the recording and less of its manner."
        )
    if seconds < _SHORT_S:
        notes.append("The recording is shorter than 3 s: the voice is less alike than it could be.")
    return tuple(notes)
