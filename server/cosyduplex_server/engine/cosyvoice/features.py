"""What the networks need of a recording, and how it is kept beside it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cosyduplex_server.models.config import FRAMES_PER_TOKEN, MEL_CHANNELS, SPEAKER_CHANNELS

_FORMAT: Final = "cosyduplex.voice.1"


class FeaturesMismatch(Exception):
    """Stored features that are damaged, or another model's: make them again from the recording."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptFeatures:
    """What the networks need of a recording; tokens and mel end at the same instant.

    Attributes:
        speech_tokens: n of them, 25 a second.
        mel: float32, (2n, 80).
        embedding: float32, (192,), as the speaker encoder gives it.
        seconds: how long the recording was.
    """

    speech_tokens: tuple[int, ...]
    mel: Tensor
    embedding: Tensor
    seconds: float

    def to_bytes(self, model: str) -> bytes:
        """The features as a safetensors file that tells which `model` made them."""
        tensors = {
            "speech_tokens": torch.tensor(self.speech_tokens, dtype=torch.int32),
            "mel": self.mel.contiguous(),
            "embedding": self.embedding.contiguous(),
        }
        described = {"format": _FORMAT, "model": model, "seconds": self.seconds}
        return save(tensors, {"voice": json.dumps(described)})

    @classmethod
    def from_bytes(cls, blob: bytes, model: str, num_speech_tokens: int) -> PromptFeatures:
        """The features that `to_bytes` wrote.

        Raises:
            FeaturesMismatch: another model or version wrote them, or they are damaged.
        """
        try:
            tensors = load(blob)
            described = _description(blob)
        except (SafetensorError, ValueError, LookupError) as error:
            raise FeaturesMismatch("the stored features cannot be read") from error
        if described.get("format") != _FORMAT or described.get("model") != model:
            raise FeaturesMismatch("the stored features were made by another model or version")
        seconds = described.get("seconds")
        if not isinstance(seconds, float) or not _fit(tensors, num_speech_tokens):
            raise FeaturesMismatch("the stored features have wrong sizes or values")
        return cls(
            speech_tokens=tuple(tensors["speech_tokens"].tolist()),
            mel=tensors["mel"],
            embedding=tensors["embedding"],
            seconds=seconds,
        )


def _description(blob: bytes) -> dict[str, Any]:
    """What `to_bytes` wrote of the features; safetensors begins with a JSON object's length, then that."""
    (length,) = struct.unpack_from("<Q", blob)
    described = json.loads(json.loads(blob[8 : 8 + length])["__metadata__"]["voice"])
    if not isinstance(described, dict):
        raise ValueError("not an object")
    return described


def _fit(tensors: Mapping[str, Tensor], num_speech_tokens: int) -> bool:
    if tensors.keys() != {"speech_tokens", "mel", "embedding"}:
        return False
    tokens, mel, embedding = tensors["speech_tokens"], tensors["mel"], tensors["embedding"]
    return bool(
        (tokens.dtype, mel.dtype, embedding.dtype) == (torch.int32, torch.float32, torch.float32)
        and tokens.ndim == 1
        and tokens.numel() > 0
        and mel.shape == (tokens.numel() * FRAMES_PER_TOKEN, MEL_CHANNELS)
        and embedding.shape == (SPEAKER_CHANNELS,)
        and tokens.min() >= 0
        and tokens.max() < num_speech_tokens
        and mel.isfinite().all()
        and embedding.isfinite().all()
    )
