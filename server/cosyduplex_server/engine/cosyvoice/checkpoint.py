"""A checkpoint: its sizes, its tensors, the voices it brings.

`files.py` and `hyperparameters.py` do what needs no PyTorch; here the state dicts are read. They are data:
what a pickle wants to run is refused.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from cosyduplex_server.engine.cosyvoice import files as layout
from cosyduplex_server.engine.cosyvoice.files import (
    FLOW_FILE,
    LM_FILE,
    SPOKEN_GENERATIONS,
    VOCODER_FILE,
    CheckpointError,
    CheckpointFiles,
    Missing,
    find_checkpoint,
)
from cosyduplex_server.engine.cosyvoice.hyperparameters import read_config
from cosyduplex_server.engine.cosyvoice.speakers import Speaker, SpeakerError, read_speaker
from cosyduplex_server.models.config import ModelConfig
from cosyduplex_server.models.weights import Source, WeightsError, strip_prefix
from cosyduplex_server.models.weights_flow import flow_weights
from cosyduplex_server.models.weights_speech_lm import speech_lm_weights
from cosyduplex_server.models.weights_vocoder import WRAPPER, vocoder_weights

_AGAIN: Final = "download it again"
_ONE_DOWNLOAD: Final = "take every file from one download of one model"
# Counters that snapshots of a training have beside the tensors.
_COUNTERS: Final = frozenset({"epoch", "step"})
# What unpicklers raise over bytes that are none; a pickle's instructions can ask for anything.
_UNPICKLING_ERRORS: Final = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    ImportError,
    OverflowError,
    MemoryError,
    struct.error,
)


class Checkpoint:
    """A checkpoint that this version can speak with.

    Args:
        folder: where it is, in the official layout.

    Attributes:
        files: its files.
        config: its sizes.

    Raises:
        CheckpointError: it cannot be used, as far as shows without its tensors.
    """

    def __init__(self, folder: str | Path) -> None:
        self.files: CheckpointFiles = find_checkpoint(folder)
        self.config: ModelConfig = read_config(self.files)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.files.name

    @property
    def tokenizer_dir(self) -> Path:
        """Where the text tokenizer's files are."""
        return self.files.tokenizer_dir

    @property
    def campplus(self) -> Path | None:
        """The speaker encoder, when there is one."""
        return self.files.campplus

    @property
    def speech_tokenizer(self) -> Path | None:
        """The speech tokenizer, when there is one."""
        return self.files.speech_tokenizer

    @property
    def missing(self) -> tuple[Missing, ...]:
        """Files it speaks without."""
        return self.files.missing

    @cached_property
    def fingerprint(self) -> str:
        """Names its contents: see `files.fingerprint`."""
        return layout.fingerprint(self.files)

    def lm_tensors(self) -> dict[str, Tensor]:
        """The speech LM's tensors under their own names, on the CPU.

        They are parts of the mapped file: memory is used for what is touched, and given back when needed.

        Raises:
            CheckpointError: the file holds something else.
        """
        return read_part(self.files.lm, self.files)

    def flow_tensors(self) -> dict[str, Tensor]:
        """The flow's tensors; as `lm_tensors`."""
        return read_part(self.files.flow, self.files)

    def vocoder_tensors(self) -> dict[str, Tensor]:
        """The vocoder's tensors, without the prefix of a training wrapper; as `lm_tensors`."""
        return read_part(self.files.vocoder, self.files)

    @property
    def speakers(self) -> dict[str, Speaker]:
        """The voices it brings; none when their file is missing.

        Raises:
            CheckpointError: the file holds something else.
        """
        return self._speakers[0]

    @property
    def odd_speakers(self) -> dict[str, str]:
        """Entries among the voices that are none, with what is wrong with them.

        Raises:
            CheckpointError: the file holds something else.
        """
        return self._speakers[1]

    @cached_property
    def _speakers(self) -> tuple[dict[str, Speaker], dict[str, str]]:
        return ({}, {}) if self.files.speakers is None else read_speakers(self.files.speakers, self.config)


@dataclass(frozen=True, slots=True)
class PartReport:
    """What was found in one of the files of tensors.

    Attributes:
        file: its name.
        num_tensors: how many it holds.
        num_values: numbers in them, those of a shared tensor counted once.
        dtype: of most of them.
        shapes_checked: whether every name and shape was compared with the configuration.
        error: what does not fit, or None.
    """

    file: str
    num_tensors: int
    num_values: int
    dtype: str
    shapes_checked: bool
    error: CheckpointError | None


def check_part(path: Path, files: CheckpointFiles, config: ModelConfig | None) -> PartReport:
    """Compares every tensor's name and shape with the configuration; the numbers themselves are not read.

    Args:
        path: `files.lm`, `files.flow` or `files.vocoder`.
        config: None: only looks whether the file is the part and of the generation that it should be. So it
            is with a generation whose networks this version does not have.
    """
    if files.generation not in SPOKEN_GENERATIONS:
        config = None
    try:
        tensors = read_part(path, files)
    except CheckpointError as exc:
        return PartReport(path.name, 0, 0, "", shapes_checked=False, error=exc)
    error = None
    if config is not None:
        # On the device without memory: a check of the full model costs none.
        shapes = {key: torch.empty_like(tensor, device="meta") for key, tensor in tensors.items()}
        try:
            with torch.device("meta"):
                _converted(Source(shapes, path.name), path.name, config)
        except WeightsError as exc:
            error = CheckpointError(str(exc), _ONE_DOWNLOAD)
    places = {(t.untyped_storage().data_ptr(), t.storage_offset()): t.numel() for t in tensors.values()}
    dtypes = [str(t.dtype).removeprefix("torch.") for t in tensors.values()]
    return PartReport(
        file=path.name,
        num_tensors=len(tensors),
        num_values=sum(places.values()),
        dtype=max(sorted(set(dtypes)), key=dtypes.count),
        shapes_checked=config is not None,
        error=error,
    )


def _converted(source: Source, file: str, config: ModelConfig) -> dict[str, Tensor]:
    if file == LM_FILE:
        return speech_lm_weights(source, config.lm)
    if file == FLOW_FILE:
        return flow_weights(source, config.flow)
    assert file == VOCODER_FILE
    return vocoder_weights(source, config.vocoder)


# --- state dicts -------------------------------------------------------------------------------------


def read_part(path: Path, files: CheckpointFiles) -> dict[str, Tensor]:
    """The tensors of one of a checkpoint's three files.

    Raises:
        CheckpointError: it holds something else, or another part, or another generation's.
    """
    tensors = read_state_dict(path)
    if path.name == VOCODER_FILE:
        tensors = strip_prefix(tensors, WRAPPER)
    found = _identify(tensors)
    if found is None:
        key = min(tensors, default="")
        problem = f"{key} belongs to no part of CosyVoice" if key else "holds no tensors"
        raise CheckpointError(f"{path.name}: {problem}", _AGAIN)
    if found.file != path.name:
        raise CheckpointError(
            f"{path.name}: holds the tensors of {found.file} ({found.key})", "give both files their own names"
        )
    if found.generation != files.generation:
        raise CheckpointError(
            f"{path.name}: {found.key} is of CosyVoice {found.generation}, "
            f"{files.yaml.name} of CosyVoice {files.generation}",
            _ONE_DOWNLOAD,
        )
    return tensors


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pt` file, on the CPU; where its format allows, they are parts of the mapped file.

    Raises:
        CheckpointError: it is damaged, or holds anything but tensors.
    """
    content = _load(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path.name}: holds {_kind(content)}, not a table of tensors", _AGAIN)
    tensors = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            tensors[key] = value
        elif key not in _COUNTERS or not isinstance(value, int):
            problem = f"{path.name}: {_brief(key)} is {_kind(value)}, not a tensor"
            raise CheckpointError(problem, "only a plain state dict is read: download the original file")
    return tensors


def read_speakers(path: Path, config: ModelConfig) -> tuple[dict[str, Speaker], dict[str, str]]:
    """The voices of a `spk2info.pt`, and what is wrong with the entries that are none.

    Raises:
        CheckpointError: the file is damaged, or no table of voices.
    """
    content = _load(path)
    if not isinstance(content, Mapping):
        problem = f"{path.name}: holds {_kind(content)}, not a table of voices"
        raise CheckpointError(problem, f"download it again, or do without: remove {path.name}")
    speakers: dict[str, Speaker] = {}
    odd: dict[str, str] = {}
    for name, entry in content.items():
        try:
            if not isinstance(name, str) or not name:
                raise SpeakerError("has no name")
            speakers[name] = read_speaker(entry, config)
        except SpeakerError as exc:
            odd[_brief(name)] = str(exc)
    return speakers, odd


def _load(path: Path) -> object:
    """Unpickles tensors and plain values, and nothing else."""
    try:
        # Older pickles are warned about; they are read all the same.
        with warnings.catch_warnings(action="ignore"):
            content: object = torch.load(
                path, map_location="cpu", weights_only=True, mmap=_can_be_mapped(path)
            )
    except OSError as exc:
        raise layout.unreadable(path, exc) from None
    except _UNPICKLING_ERRORS as exc:
        wanted = re.search(r"GLOBAL (\S+)", str(exc))
        if wanted:
            problem = f"{path.name}: asks to run code ({wanted[1]}), which is refused"
            raise CheckpointError(problem, "take the file from the official download") from None
        raise CheckpointError(f"{path.name}: damaged", _AGAIN) from None
    return content


def _can_be_mapped(path: Path) -> bool:
    """Whether it has the format since PyTorch 1.6, an archive with the tensors as they are."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class _Part:
    """Which file of which generation some tensors are, and the key that tells."""

    file: str
    generation: int
    key: str


# What begins keys of one generation's part only; the first that fits tells.
_SIGNS: Final = (
    ("text_encoder.", LM_FILE, 1),
    ("llm_embedding.", LM_FILE, 2),
    ("llm.model.model.", LM_FILE, 3),
    ("length_regulator.", FLOW_FILE, 1),
    ("encoder.up_encoders.", FLOW_FILE, 2),
    ("decoder.estimator.transformer_blocks.", FLOW_FILE, 3),
)
_VOCODER_SIGN: Final = re.compile(r"conv_pre\.(weight|weight_v|parametrizations\.weight\.original1)")
# The first convolution looks ahead only in CosyVoice3, and is shorter there.
_VOCODER_GENERATIONS: Final = {7: 2, 5: 3}


def _identify(tensors: Mapping[str, Tensor]) -> _Part | None:
    for beginning, file, generation in _SIGNS:
        key = next((key for key in tensors if key.startswith(beginning)), None)
        if key is not None:
            return _Part(file, generation, key)
    key = next((key for key in tensors if _VOCODER_SIGN.fullmatch(key)), None)
    if key is None or not tensors[key].dim():
        return None
    kernel = tensors[key].shape[-1]
    return _Part(VOCODER_FILE, _VOCODER_GENERATIONS.get(kernel, 0), key)


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _brief(key: object) -> str:
    """A key as it may stand in one line of a message."""
    text = " ".join(str(key).split())[:80]
    return text or "the empty key"
