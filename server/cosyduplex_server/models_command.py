"""`cosyduplex models`: which checkpoints there are, and whether one can be used."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from cosyduplex_server.engine.cosyvoice.checkpoint import PartReport
    from cosyduplex_server.engine.cosyvoice.files import CheckpointError, CheckpointFiles
    from cosyduplex_server.models.config import ModelConfig

_USAGE_ERROR, _ENGINE_ERROR = 2, 3
_ENGINE_MODULES = ("torch", "tokenizers", "onnxruntime")


@dataclass(frozen=True, slots=True)
class OfficialModel:
    """A released model.

    Attributes:
        name: what it is called.
        hugging_face: its repository there.
        model_scope: its repository there.
        gigabytes: of its `llm.pt`, `flow.pt` and `hift.pt`.
        speaks: whether this version speaks with it.
    """

    name: str
    hugging_face: str
    model_scope: str
    gigabytes: float
    speaks: bool


OFFICIAL_MODELS: Final = (
    OfficialModel("CosyVoice2-0.5B", "FunAudioLLM/CosyVoice2-0.5B", "iic/CosyVoice2-0.5B", 2.6, True),
    OfficialModel(
        "Fun-CosyVoice3-0.5B",
        "FunAudioLLM/Fun-CosyVoice3-0.5B-2512",
        "FunAudioLLM/Fun-CosyVoice3-0.5B-2512",
        3.4,
        False,
    ),
)


def add_actions(models: argparse.ArgumentParser) -> None:
    """The actions of the command."""
    actions = models.add_subparsers(required=True, metavar="ACTION")

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        action.set_defaults(run=run)
        return action

    listing = add("list", _list, "Says which checkpoint is configured, and how to get the official ones.")
    listing.add_argument("--config", metavar="FILE.toml", help="read options from this file")
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    check = add("check", _check, "Says whether a checkpoint is complete, fits together and can be used.")
    check.add_argument("folder", metavar="DIR", help="in the official layout")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    fetch = add("fetch", _fetch, "Downloads an official model (not in this version).")
    fetch.add_argument("name", metavar="NAME", help="as `cosyduplex models list` has it")


# --- list --------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> int:
    from cosyduplex_server import config
    from cosyduplex_server.errors import ConfigError

    try:
        folder = config.load({"config": arguments.config} if arguments.config else {}).model_dir
    except ConfigError as exc:
        return _complain(str(exc), _USAGE_ERROR)
    state = None if folder is None else _state(folder)
    if arguments.json:
        official = [asdict(model) for model in OFFICIAL_MODELS]
        _print_json({"configured": folder, "state": state, "official": official})
        return 0
    if folder is None:
        print("No checkpoint is configured: give `serve --model-dir DIR`, or set COSYDUPLEX_MODEL_DIR.")
    else:
        print(f"Configured: {folder}\n    {state}")
    print("\nOfficial models (nothing is downloaded by itself):\n")
    for model in OFFICIAL_MODELS:
        speaks = "" if model.speaks else ", which this version does not speak with"
        print(f"{model.name}: {model.gigabytes} GB of weights{speaks}")
        print(f"    https://huggingface.co/{model.hugging_face}")
        print(f"    https://modelscope.cn/models/{model.model_scope}")
        print(f"    hf download {model.hugging_face} --local-dir {model.name}\n")
    print("Then: cosyduplex models check DIR")
    return 0


def _state(folder: str) -> str:
    from cosyduplex_server.engine.cosyvoice.files import CheckpointError, find_checkpoint

    try:
        files = find_checkpoint(folder)
    except CheckpointError as exc:
        return str(exc)
    return f"CosyVoice{files.generation}; `cosyduplex models check {folder}` reads it all"


# --- fetch -------------------------------------------------------------------------------------------


def _fetch(arguments: argparse.Namespace) -> int:
    model = next((model for model in OFFICIAL_MODELS if model.name == arguments.name), None)
    if model is None:
        known = ", ".join(model.name for model in OFFICIAL_MODELS)
        return _complain(f"there is no official model {arguments.name!r}; there are {known}", _USAGE_ERROR)
    command = f"hf download {model.hugging_face} --local-dir {model.name}"
    return _complain(f"`models fetch` is not in this version; use `{command}`", _USAGE_ERROR)


# --- check -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: a file, or what else.
        level: `ok`; `missing` is something it speaks without; `broken` keeps it from speaking.
        detail: what was found.
        solution: what to do, where something is to be done.
    """

    name: str
    level: Literal["ok", "missing", "broken"]
    detail: str
    solution: str = ""

    @property
    def mark(self) -> str:
        """A sign for the terminal."""
        return {"ok": "✓", "missing": "–", "broken": "✗"}[self.level]


def _check(arguments: argparse.Namespace) -> int:
    from cosyduplex_server.engine.cosyvoice.files import CheckpointError, fingerprint, list_files

    about: dict[str, object] = {"folder": arguments.folder, "generation": None, "fingerprint": None}
    findings: list[Finding] = []

    def found(finding: Finding) -> None:
        findings.append(finding)
        if not arguments.json:
            _print_finding(finding)

    try:
        files = list_files(arguments.folder)
        about |= {"generation": files.generation, "fingerprint": fingerprint(files)}
    except CheckpointError as exc:
        found(_broken(arguments.folder, exc))
    else:
        for finding in _examine(files):
            found(finding)
    broken = [finding for finding in findings if finding.level == "broken"]
    if arguments.json:
        shown = [asdict(finding) for finding in findings]
        _print_json({**about, "usable": not broken, "findings": shown})
    if broken:
        where = "" if broken[0].name == arguments.folder else f"{arguments.folder}: "
        more = f" ({len(broken) - 1} more)" if len(broken) > 1 else ""
        first = f"{broken[0].name}: {broken[0].detail}; {broken[0].solution}"
        return _complain(f"{where}{first}{more}", _ENGINE_ERROR)
    if not arguments.json:
        print(f"\nCosyVoice{files.generation}, {about['fingerprint']}: can be used")
        print(f"    cosyduplex serve --model-dir {arguments.folder}")
    return 0


def _examine(files: CheckpointFiles) -> Iterator[Finding]:
    """Looks at a checkpoint whose files are there."""
    from cosyduplex_server.engine.cosyvoice.files import SPOKEN_GENERATIONS, CheckpointError
    from cosyduplex_server.engine.cosyvoice.hyperparameters import read_config

    config = None
    try:
        config = read_config(files)
    except CheckpointError as exc:
        yield _broken(files.yaml.name, exc)
    else:
        yield Finding(files.yaml.name, "ok", _sizes(config))
    lacking = [name for name in _ENGINE_MODULES if importlib.util.find_spec(name) is None]
    if lacking:
        detail = f"{', '.join(lacking)} not installed: nothing can be spoken, and nothing more was looked at"
        yield Finding("Python packages", "broken", detail, "pip install 'cosyduplex[cosyvoice]'")
    else:
        yield from _tensors(files, config)
        if config is not None:
            yield _tokenizer(files, config)
            yield from _voices(files, config)
    for missing in files.missing:
        yield Finding(missing.file, "missing", f"{missing.problem}; {missing.effect}")
    if files.generation not in SPOKEN_GENERATIONS:
        detail = (
            f"this version does not speak with CosyVoice{files.generation} yet, and only looks at its files"
        )
        yield Finding(files.yaml.name, "broken", detail, f"take {OFFICIAL_MODELS[0].name} to speak")


def _tensors(files: CheckpointFiles, config: ModelConfig | None) -> Iterator[Finding]:
    from cosyduplex_server.engine.cosyvoice.checkpoint import check_part

    for path in (files.lm, files.flow, files.vocoder):
        part = check_part(path, files, config)
        if part.error is not None:
            yield _broken(part.file, part.error)
        else:
            yield Finding(part.file, "ok", _contents(part))


def _contents(part: PartReport) -> str:
    numbers = f"{part.num_tensors} tensors, {part.num_values / 1e6:.1f} M numbers ({part.dtype})"
    shapes = "every shape as configured" if part.shapes_checked else "shapes were not compared"
    return f"{numbers}, {shapes}"


def _tokenizer(files: CheckpointFiles, config: ModelConfig) -> Finding:
    from cosyduplex_server.engine.cosyvoice.tokenizer import TextTokenizer, TokenizerError

    name = files.tokenizer_dir.name
    try:
        tokenizer = TextTokenizer.load(files.tokenizer_dir, files.generation)
    except TokenizerError as exc:
        return Finding(name, "broken", str(exc), "download the folder again")
    if tokenizer.num_ids > config.lm.text_vocab:
        detail = f"makes ids up to {tokenizer.num_ids - 1}, and llm.pt knows {config.lm.text_vocab}"
        return Finding(name, "broken", detail, "take every file from one download of one model")
    return Finding(name, "ok", f"{tokenizer.num_ids} text tokens")


def _voices(files: CheckpointFiles, config: ModelConfig) -> Iterator[Finding]:
    from cosyduplex_server.engine.cosyvoice.checkpoint import read_speakers
    from cosyduplex_server.engine.cosyvoice.files import CheckpointError
    from cosyduplex_server.engine.cosyvoice.prompt import PromptEncoder

    if files.speakers is not None:
        try:
            speakers, odd = read_speakers(files.speakers, config)
        except CheckpointError as exc:
            yield _broken(files.speakers.name, exc)
        else:
            names = ", ".join(list(speakers)[:8]) + (", …" if len(speakers) > 8 else "")
            yield Finding(files.speakers.name, "ok", f"{len(speakers)} voices{names and ': '}{names}")
            for name, problem in odd.items():
                yield Finding(files.speakers.name, "missing", f"{name}: {problem}; this voice is left out")
    if files.campplus is None or files.speech_tokenizer is None:
        return
    encoder = PromptEncoder(
        files.campplus,
        files.speech_tokenizer,
        mel_fmax_hz=config.prompt_mel_fmax_hz,
        num_speech_tokens=config.lm.speech_tokens,
    )
    names = f"{files.campplus.name}, {files.speech_tokenizer.name}"
    try:
        encoder.open()
    except CheckpointError as exc:
        detail = f"{exc.problem}: no new voices can be added; saved ones speak"
        yield Finding(names, "missing", detail, exc.solution)
    else:
        yield Finding(names, "ok", "new voices can be added")


def _sizes(config: ModelConfig) -> str:
    lm = config.lm
    return (
        f"CosyVoice{config.generation}: speech LM of {lm.num_layers} layers of {lm.hidden}, "
        f"{lm.speech_tokens} speech tokens, {lm.text_vocab} text tokens"
    )


def _broken(name: str, error: CheckpointError) -> Finding:
    """What an error says, under the name of the file it is about, which `name` is for when it says none."""
    file, colon, problem = error.problem.partition(": ")
    if file == name or (colon and Path(file).suffix in (".yaml", ".json", ".pt", ".txt")):
        return Finding(file, "broken", problem, error.solution)
    return Finding(name, "broken", error.problem.removeprefix(f"{name}: "), error.solution)


def _print_finding(finding: Finding) -> None:
    print(f"{finding.mark} {finding.name}: {finding.detail}")
    if finding.solution:
        print(f"    {finding.solution}")


def _print_json(content: object) -> None:
    print(json.dumps(content, ensure_ascii=False, indent=2))


def _complain(message: str, exit_code: int) -> int:
    print(f"cosyduplex: {message}", file=sys.stderr)
    return exit_code
