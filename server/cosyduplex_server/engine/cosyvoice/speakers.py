"""`spk2info.pt`: the voices a checkpoint brings, in the three shapes in which they are found.

1. `{"embedding"}`: a speaker vector alone.
2. A saved zero-shot voice: what the original's front end makes of a prompt, text included, as token ids.
3. `{"prompt_text", "speech_token", "speech_feat", "embedding"}`: as its Triton runtime has it, text as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from cosyduplex_server.models.config import FRAMES_PER_TOKEN, MEL_CHANNELS, SPEAKER_CHANNELS, ModelConfig

_SAVED_KEYS: Final = (
    "prompt_text",
    "llm_prompt_speech_token",
    "flow_prompt_speech_token",
    "prompt_speech_feat",
)
_TRITON_KEYS: Final = ("prompt_text", "speech_token", "speech_feat")


class SpeakerError(Exception):
    """An entry that is no voice; the message names the key."""


@dataclass(frozen=True, slots=True, eq=False)
class Speaker:
    """A voice from `spk2info.pt`, on the CPU; one without a prompt has empty ids, tokens and mel.

    Attributes:
        embedding: the speaker vector, float32 (192), not normalised.
        prompt_text: what the prompt says, where it was saved as text; "" else.
        prompt_text_ids: the same as ids of this checkpoint's tokenizer, where it was saved so.
        lm_tokens: the prompt's speech tokens for the speech LM, int64.
        flow_tokens: those for the flow, int64 (P).
        prompt_mel: float32 (2 P, 80).
    """

    embedding: Tensor
    prompt_text: str
    prompt_text_ids: tuple[int, ...]
    lm_tokens: Tensor
    flow_tokens: Tensor
    prompt_mel: Tensor

    @property
    def has_prompt(self) -> bool:
        """Whether there is speech to go on from, beside the speaker vector."""
        return len(self.flow_tokens) > 0


def read_speaker(entry: object, config: ModelConfig) -> Speaker:
    """Reads one entry, whichever shape it has.

    Raises:
        SpeakerError: it has none of the three, or a value does not fit the model.
    """
    if not isinstance(entry, Mapping):
        raise SpeakerError(f"is {_kind(entry)}, not a table")
    if all(key in entry for key in _SAVED_KEYS):
        return _saved(entry, config)
    if all(key in entry for key in _TRITON_KEYS):
        return _of_triton(entry, config)
    if "embedding" in entry:
        return Speaker(_vector(entry, "embedding"), "", (), _NO_TOKENS, _NO_TOKENS, _NO_MEL)
    keys = ", ".join(sorted(map(str, entry))[:6])
    raise SpeakerError(f"has no embedding and no prompt, only: {keys or 'nothing'}")


_NO_TOKENS: Final = torch.zeros(0, dtype=torch.int64)
_NO_MEL: Final = torch.zeros(0, MEL_CHANNELS)


def _saved(entry: Mapping[object, object], config: ModelConfig) -> Speaker:
    text_ids = _ids(entry, "prompt_text", config.lm.text_vocab)
    lm_tokens = _ids(entry, "llm_prompt_speech_token", config.lm.speech_tokens)
    flow_tokens, mel = _aligned(
        _ids(entry, "flow_prompt_speech_token", config.flow.speech_tokens), _mel(entry, "prompt_speech_feat")
    )
    # The language models of these generations take no speaker vector: the LM's is not needed.
    embedding = _vector(entry, "flow_embedding")
    return Speaker(embedding, "", tuple(text_ids.tolist()), lm_tokens, flow_tokens, mel)


def _of_triton(entry: Mapping[object, object], config: ModelConfig) -> Speaker:
    text = entry["prompt_text"]
    if not isinstance(text, str):
        raise SpeakerError(f"prompt_text is {_kind(text)}, not text")
    tokens, mel = _aligned(_ids(entry, "speech_token", config.lm.speech_tokens), _mel(entry, "speech_feat"))
    return Speaker(_vector(entry, "embedding"), text, (), tokens, tokens, mel)


def _aligned(tokens: Tensor, mel_TF: Tensor) -> tuple[Tensor, Tensor]:
    """Cuts both to what both have: two frames a token."""
    num = min(len(tokens), len(mel_TF) // FRAMES_PER_TOKEN)
    if not num:
        raise SpeakerError("has a prompt without speech")
    return tokens[:num].contiguous(), mel_TF[: num * FRAMES_PER_TOKEN].contiguous()


def _tensor(entry: Mapping[object, object], key: str, *, whole: bool) -> Tensor:
    value = entry.get(key)
    if not isinstance(value, Tensor):
        raise SpeakerError(f"{key} is missing" if value is None else f"{key} is {_kind(value)}, not a tensor")
    if whole == (value.is_floating_point() or value.is_complex()) or value.dtype == torch.bool:
        raise SpeakerError(f"{key} holds {value.dtype}")
    return value


def _vector(entry: Mapping[object, object], key: str) -> Tensor:
    """A speaker vector; the batch dimension of one is optional."""
    value = _tensor(entry, key, whole=False)
    if value.shape not in ((SPEAKER_CHANNELS,), (1, SPEAKER_CHANNELS)):
        raise SpeakerError(f"{key} is {_shape(value)}, not 1x{SPEAKER_CHANNELS}")
    vector = value.reshape(SPEAKER_CHANNELS).to(torch.float32, copy=True)
    if not bool(vector.isfinite().all()) or not bool(vector.any()):
        raise SpeakerError(f"{key} is not a direction")
    return vector


def _ids(entry: Mapping[object, object], key: str, count: int) -> Tensor:
    value = _tensor(entry, key, whole=True)
    if value.dim() not in (1, 2) or (value.dim() == 2 and len(value) != 1):
        raise SpeakerError(f"{key} is {_shape(value)}, not one row of ids")
    ids = _cut(entry, key, value.reshape(-1)).to(torch.int64, copy=True)
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < count:
        raise SpeakerError(f"{key} holds ids from {int(ids.min())} to {int(ids.max())}, not below {count}")
    return ids


def _mel(entry: Mapping[object, object], key: str) -> Tensor:
    value = _tensor(entry, key, whole=False)
    frames = value[0] if value.dim() == 3 and len(value) == 1 else value
    if frames.dim() != 2 or frames.shape[1] != MEL_CHANNELS:
        raise SpeakerError(f"{key} is {_shape(value)}, not 1xTx{MEL_CHANNELS}")
    mel = _cut(entry, key, frames).to(torch.float32, copy=True)
    if not bool(mel.isfinite().all()):
        raise SpeakerError(f"{key} holds numbers that are not finite")
    return mel


def _cut(entry: Mapping[object, object], key: str, value: Tensor) -> Tensor:
    """Leaves off what stands beyond the saved length, where one was saved."""
    length = entry.get(f"{key}_len")
    if length is None:
        return value
    if isinstance(length, Tensor) and length.numel() == 1 and not length.is_floating_point():
        return value[: max(0, int(length))]
    if isinstance(length, int):
        return value[: max(0, length)]
    raise SpeakerError(f"{key}_len is {_kind(length)}, not a length")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"
