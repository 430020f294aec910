"""A checkpoint's directory from outside: which files it has and whether they are what their names say.

Nothing here needs PyTorch, so that the gateway can decide on an engine.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cosyduplex_server.models.config import Generation

YAML_NAMES: Final[dict[Generation, str]] = {2: "cosyvoice2.yaml", 3: "cosyvoice3.yaml"}
LM_FILE, FLOW_FILE, VOCODER_FILE = "llm.pt", "flow.pt", "hift.pt"
TOKENIZER_FOLDER: Final = "CosyVoice-BlankEN"
SPEAKERS_FILE: Final = "spk2info.pt"
SPOKEN_GENERATIONS: Final[frozenset[Generation]] = frozenset({2})
"""The generations whose networks this version has."""

_WEIGHTS = (LM_FILE, FLOW_FILE, VOCODER_FILE)
_TOKENIZER_FILES = ("config.json", "vocab.json", "merges.txt")
_WHOLE_TOKENIZER_FILES = ("config.json", "tokenizer.json")
_HEAD_BYTES = 4096
_EDGE_BYTES = 1 << 16
# A safetensors file begins with the length of its JSON header; the format's own limit.
_MAX_SAFETENSORS_HEADER = 100_000_000


class CheckpointError(Exception):
    """A checkpoint that cannot be used: one line with the file, the key where there is one, and what to do.

    Attributes:
        problem: what is wrong, with the file's name.
        solution: what to do about it.
    """

    def __init__(self, problem: str, solution: str) -> None:
        super().__init__(f"{problem}; {solution}")
        self.problem = problem
        self.solution = solution


@dataclass(frozen=True, slots=True)
class Missing:
    """A file that a checkpoint speaks without.

    Attributes:
        file: its name.
        problem: "missing", or what is there instead.
        effect: what does not work without it, and what does.
    """

    file: str
    problem: str
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFiles:
    """The files of a checkpoint; those that are optional are None where they are missing."""

    folder: Path
    generation: Generation
    yaml: Path
    lm: Path
    flow: Path
    vocoder: Path
    tokenizer_dir: Path
    campplus: Path | None
    speech_tokenizer: Path | None
    speakers: Path | None
    missing: tuple[Missing, ...]

    @property
    def qwen_config(self) -> Path:
        """Where the sizes of the language model's body are."""
        return self.tokenizer_dir / "config.json"

    @property
    def name(self) -> str:
        """What people call this model: the directory's name."""
        return self.folder.resolve().name


def find_checkpoint(folder: str | Path) -> CheckpointFiles:
    """The files of a checkpoint that this version can speak with, as far as their names and ends show.

    Raises:
        CheckpointError: it cannot.
    """
    files = list_files(folder)
    if files.generation not in SPOKEN_GENERATIONS:
        raise CheckpointError(
            f"{files.yaml.name}: this is CosyVoice{files.generation}, and this version speaks with "
            f"{' and '.join(f'CosyVoice{known}' for known in sorted(SPOKEN_GENERATIONS))} only",
            "take CosyVoice2-0.5B (`cosyduplex models list` says where it is)",
        )
    return files


def list_files(folder: str | Path) -> CheckpointFiles:
    """The files of a checkpoint of any generation.

    Raises:
        CheckpointError: it is no such directory, something is missing that no speech can be made without, or
            a file is not what its name says.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "not a directory" if folder.exists() else "no such directory"
        raise CheckpointError(f"{folder}: {problem}", "name the directory that holds cosyvoice2.yaml")
    generation = _generation(folder)
    _require(folder, (*_WEIGHTS, *_tokenizer_names(folder)))
    missing: list[Missing] = []

    def optional(name: str, effect: str) -> Path | None:
        problem = _problem(folder / name)
        if problem is not None:
            missing.append(Missing(name, problem, effect))
        return folder / name if problem is None else None

    no_new_voices = "no new voices can be added; saved ones speak"
    return CheckpointFiles(
        folder=folder,
        generation=generation,
        yaml=folder / YAML_NAMES[generation],
        lm=folder / LM_FILE,
        flow=folder / FLOW_FILE,
        vocoder=folder / VOCODER_FILE,
        tokenizer_dir=folder / TOKENIZER_FOLDER,
        campplus=optional("campplus.onnx", no_new_voices),
        speech_tokenizer=optional(f"speech_tokenizer_v{generation}.onnx", no_new_voices),
        speakers=optional(SPEAKERS_FILE, "the model brings no voices of its own; added ones speak"),
        missing=tuple(missing),
    )


def fingerprint(files: CheckpointFiles) -> str:
    """Names a checkpoint's contents in 16 hex digits: what was computed with one is not used with another.

    A state dict's archive lists a checksum of every tensor at its end, so that two trainings of one model
    differ although neither their sizes nor their first bytes do; the weights themselves need not be read.

    Raises:
        CheckpointError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in (files.yaml, files.qwen_config, files.lm, files.flow, files.vocoder):
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest.update(f"{path.name} {size}\n".encode())
                digest.update(file.read(_EDGE_BYTES))
                file.seek(max(0, size - _EDGE_BYTES))
                digest.update(file.read())
        except OSError as exc:
            raise unreadable(path, exc) from None
        if path.name in _WEIGHTS and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    digest.update(f"{entry.filename} {entry.file_size} {entry.CRC}\n".encode())
    return digest.hexdigest()[:16]


def unreadable(path: Path, exc: OSError) -> CheckpointError:
    """The system's refusal to read a file, as an error of the checkpoint."""
    return CheckpointError(
        f"{path.name}: cannot be read: {exc.strerror or 'unknown reason'}",
        "check its permissions and the disk",
    )


def _generation(folder: Path) -> Generation:
    found: list[Generation] = [number for number, name in YAML_NAMES.items() if (folder / name).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(
            f"{folder}: holds both {' and '.join(YAML_NAMES.values())}", "keep the files of one model only"
        )
    if (folder / "cosyvoice.yaml").is_file():
        raise CheckpointError(
            f"{folder}: cosyvoice.yaml belongs to CosyVoice 1, which this server does not speak with",
            "take CosyVoice2-0.5B (`cosyduplex models list` says where it is)",
        )
    inside = sorted(path.parent for name in YAML_NAMES.values() for path in folder.glob(f"*/{name}"))
    hint = f"perhaps {inside[0]} is meant" if inside else "name the directory that holds cosyvoice2.yaml"
    raise CheckpointError(f"{folder}: neither {' nor '.join(YAML_NAMES.values())} is in it", hint)


def _tokenizer_names(folder: Path) -> list[str]:
    """The files of the tokenizer: as released, or all in one."""
    inside = folder / TOKENIZER_FOLDER
    whole = not (inside / "vocab.json").is_file() and (inside / "tokenizer.json").is_file()
    return [f"{TOKENIZER_FOLDER}/{name}" for name in (_WHOLE_TOKENIZER_FILES if whole else _TOKENIZER_FILES)]


def _require(folder: Path, names: tuple[str, ...]) -> None:
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise CheckpointError(f"{folder}: {', '.join(absent)} missing", "download the model again")
    for name in names:
        problem = _problem(folder / name)
        if problem is not None:
            raise CheckpointError(f"{name}: {problem}", _solution(problem))


_MISSING = "missing"
_LFS = "a git-lfs pointer, not the file itself"
_SAFETENSORS = "a safetensors file, not a PyTorch state dict"
_NO_PERMISSION = "cannot be read"


def _solution(problem: str) -> str:
    if problem == _LFS:
        return "run `git lfs pull` in the directory"
    if problem == _SAFETENSORS:
        return "only the official layout of `.pt` files is read: download the original model"
    if problem.startswith(_NO_PERMISSION):
        return "check its permissions and the disk"
    return "download it again"


def _problem(path: Path) -> str | None:
    """What is wrong with a file as far as its ends show, or None."""
    if not path.is_file():
        return _MISSING
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as exc:
        return f"{_NO_PERMISSION}: {exc.strerror or 'unknown reason'}"
    text = head.lstrip().lower()
    if not head:
        return "empty"
    if head.startswith(b"version https://git-lfs"):
        return _LFS
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not the file itself"
    if path.suffix in (".pt", ".onnx") and text.startswith((b"{", b"[")):
        return "a JSON text, most likely the error message of a download"
    return _problem_of_weights(path, head) if path.suffix == ".pt" else None


def _problem_of_weights(path: Path, head: bytes) -> str | None:
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _MAX_SAFETENSORS_HEADER:
        return _SAFETENSORS
    if head.startswith(b"\x80"):
        return None  # PyTorch's format until 1.5: only reading it all shows whether it is whole
    if not head.startswith(b"PK\x03\x04"):
        return "not a PyTorch state dict"
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        return "cut short or damaged"
    if "constants.pkl" in names:
        return "a TorchScript program, not a PyTorch state dict"
    return None if "data.pkl" in names else "a zip archive of something else, not a PyTorch state dict"
