"""Checkpoints in the official layout: what is read of a good one, and one clear line for every bad one."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from cosyvoice import tiny_checkpoint
from cosyvoice.tiny_checkpoint import (
    SAVED_SPEAKER,
    SFT_SPEAKER,
    flow_shapes,
    full_config,
    lm_shapes,
    tiny_config,
    vocoder_shapes,
    write_tiny_checkpoint,
    write_tokenizer,
    yaml_text,
)
from safetensors.torch import save_file
from torch import Tensor

from cosyduplex_server.engine.cosyvoice.checkpoint import (
    Checkpoint,
    PartReport,
    check_part,
    read_speakers,
    read_state_dict,
)
from cosyduplex_server.engine.cosyvoice.files import (
    CheckpointError,
    CheckpointFiles,
    find_checkpoint,
    fingerprint,
    list_files,
)
from cosyduplex_server.engine.cosyvoice.hyperparameters import read_config
from cosyduplex_server.engine.cosyvoice.speakers import SpeakerError, read_speaker
from cosyduplex_server.engine.cosyvoice.tokenizer import TextTokenizer
from cosyduplex_server.models.config import Generation, ModelConfig
from cosyduplex_server.models.weights import Source
from cosyduplex_server.models.weights_flow import flow_weights
from cosyduplex_server.models.weights_speech_lm import speech_lm_weights
from cosyduplex_server.models.weights_vocoder import vocoder_weights

both = pytest.mark.parametrize("generation", [2, 3])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that tests leave as it is."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def complaint(work: Callable[[], object]) -> str:
    """The one line of a refusal."""
    with pytest.raises(CheckpointError) as caught:
        work()
    text = str(caught.value)
    assert text == f"{caught.value.problem}; {caught.value.solution}"
    assert "\n" not in text
    assert len(text) < 250
    return text


def reports(folder: Path) -> list[PartReport]:
    """What a check of the tensors' names and shapes says."""
    checkpoint = Checkpoint(folder)
    files = checkpoint.files
    return [check_part(path, files, checkpoint.config) for path in (files.lm, files.flow, files.vocoder)]


def read(folder: Path, name: str) -> object:
    """Reads what one file holds."""
    checkpoint = Checkpoint(folder)
    parts = {
        "llm.pt": checkpoint.lm_tensors,
        "flow.pt": checkpoint.flow_tensors,
        "hift.pt": checkpoint.vocoder_tensors,
    }
    return checkpoint.speakers if name == "spk2info.pt" else parts[name]()


def with_end_of_prompt(config: ModelConfig, token: int) -> ModelConfig:
    return replace(config, lm=replace(config.lm, end_of_prompt=token))


# --- the tiny checkpoint is like a released one ------------------------------------------------------


@both
def test_names_and_shapes_are_the_official_ones(generation: Generation, golden_json: Any) -> None:
    official = golden_json(f"keys_cosyvoice{generation}")
    config = full_config(generation)
    ours = {
        "llm.pt": lm_shapes(config.lm),
        "flow.pt": flow_shapes(config.flow),
        "hift.pt": vocoder_shapes(config.vocoder),
    }
    for file, keys in official.items():
        assert ours[file] == {key: tuple(entry["shape"]) for key, entry in keys.items()}, file


def test_the_official_tensors_fit_the_full_size(golden_json: Any) -> None:
    official, config = golden_json("keys_cosyvoice2"), full_config(2)

    def source(file: str) -> Source:
        return Source({key: torch.empty(entry["shape"]) for key, entry in official[file].items()}, file)

    with torch.device("meta"):
        lm = speech_lm_weights(source("llm.pt"), config.lm)
        flow_weights(source("flow.pt"), config.flow)
        vocoder_weights(source("hift.pt"), config.vocoder)
    assert lm["embedding.weight"].shape == (config.lm.num_rows, 896)


@both
def test_the_sizes_written_are_the_sizes_read(generation: Generation, tmp_path: Path) -> None:
    files = list_files(write_tiny_checkpoint(tmp_path / "tiny", generation=generation))
    end_of_prompt = TextTokenizer.load(files.tokenizer_dir, generation).end_of_prompt
    assert read_config(files) == with_end_of_prompt(tiny_config(generation), end_of_prompt)


@both
def test_the_released_sizes_are_read(generation: Generation, tmp_path: Path) -> None:
    files = list_files(write_tiny_checkpoint(tmp_path / "full", generation=generation))
    files.yaml.write_text(yaml_text(full_config(generation)), encoding="utf-8")
    write_tokenizer(files.tokenizer_dir, full_config(generation).lm)
    added = {"151643": {"content": "<|endoftext|>"}, "151645": {"content": "<|im_end|>"}}
    text = json.dumps({"added_tokens_decoder": added})
    (files.tokenizer_dir / "tokenizer_config.json").write_text(text)
    assert read_config(files) == full_config(generation)


def test_a_checkpoint_is_the_same_for_the_same_seed(tiny: Path, tmp_path: Path) -> None:
    again = write_tiny_checkpoint(tmp_path / "again")
    names = sorted(path.relative_to(tiny) for path in tiny.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert len(names) == 11
    for name in names:
        assert (tiny / name).read_bytes() == (again / name).read_bytes(), name
    other = write_tiny_checkpoint(tmp_path / "other", seed=1)
    assert (tiny / "llm.pt").read_bytes() != (other / "llm.pt").read_bytes()
    assert sum(path.stat().st_size for path in tiny.rglob("*") if path.is_file()) < 20e6


def test_other_tensors_can_be_put_into_the_layout(tmp_path: Path) -> None:
    config = tiny_config(2)
    generator = torch.Generator().manual_seed(5)
    mine = tiny_checkpoint.vocoder_tensors(config.vocoder, generator)
    folder = write_tiny_checkpoint(tmp_path / "mine", tensors={"hift.pt": mine})
    read = Checkpoint(folder).vocoder_tensors()
    assert all(torch.equal(read[key], mine[key]) for key in mine)


def test_the_listening_networks_have_the_official_interface(tiny: Path) -> None:
    speaker = onnxruntime.InferenceSession(tiny / "campplus.onnx")
    tokenizer = onnxruntime.InferenceSession(tiny / "speech_tokenizer_v2.onnx")
    fbank = torch.randn(1, 129, 80).numpy()
    feats = torch.randn(1, 128, 130).numpy()
    (embedding,) = speaker.run(["output"], {"input": fbank})
    assert embedding.shape == (1, 192)
    length = torch.tensor([128], dtype=torch.int32).numpy()
    (tokens,) = tokenizer.run(["indices"], {"feats": feats, "feats_length": length})
    assert tokens.shape == (1, 32)
    assert 0 <= tokens.min() < tokens.max() < 200
    (shorter,) = tokenizer.run(["indices"], {"feats": feats[:, :, :64], "feats_length": length // 2})
    assert (shorter == tokens[:, :16]).all()


# --- what is read ------------------------------------------------------------------------------------


def test_a_checkpoint_is_read_whole(tiny: Path) -> None:
    checkpoint = Checkpoint(tiny)
    assert checkpoint.missing == ()
    assert checkpoint.tokenizer_dir == tiny / "CosyVoice-BlankEN"
    assert checkpoint.campplus == tiny / "campplus.onnx"
    assert checkpoint.speech_tokenizer == tiny / "speech_tokenizer_v2.onnx"
    assert [(report.file, report.shapes_checked, report.error) for report in reports(tiny)] == [
        ("llm.pt", True, None),
        ("flow.pt", True, None),
        ("hift.pt", True, None),
    ]
    config = checkpoint.config
    shapes = lm_shapes(config.lm), flow_shapes(config.flow), vocoder_shapes(config.vocoder)
    read = checkpoint.lm_tensors(), checkpoint.flow_tensors(), checkpoint.vocoder_tensors()
    for expected, tensors in zip(shapes, read, strict=True):
        assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == expected


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists what is mapped")
def test_tensors_are_mapped_and_not_copied(tiny: Path) -> None:
    maps = Path("/proc/self/maps")
    tensors = Checkpoint(tiny).flow_tensors()
    assert str(tiny / "flow.pt") in maps.read_text()
    del tensors
    assert str(tiny / "flow.pt") not in maps.read_text()


def test_a_vocoder_saved_from_its_training_wrapper_is_read(folder: Path) -> None:
    plain = Checkpoint(folder).vocoder_tensors()
    torch.save({f"generator.{key}": tensor.clone() for key, tensor in plain.items()}, folder / "hift.pt")
    assert Checkpoint(folder).vocoder_tensors().keys() == plain.keys()


def test_the_counters_of_a_training_snapshot_are_passed_over(folder: Path) -> None:
    tensors = dict(Checkpoint(folder).lm_tensors())
    torch.save({**tensors, "epoch": 7, "step": 120_000}, folder / "llm2.pt")
    (folder / "llm2.pt").replace(folder / "llm.pt")
    assert Checkpoint(folder).lm_tensors().keys() == tensors.keys()


def test_the_format_before_pytorch_1_6_is_read(folder: Path) -> None:
    tensors = {key: tensor.half() for key, tensor in Checkpoint(folder).flow_tensors().items()}
    torch.save(tensors, folder / "flow.pt", _use_new_zipfile_serialization=False)
    assert Checkpoint(folder).flow_tensors()["encoder_proj.weight"].dtype == torch.float16


def test_a_checkpoint_without_its_optional_files_says_what_it_cannot_do(folder: Path) -> None:
    for name in ("campplus.onnx", "speech_tokenizer_v2.onnx", "spk2info.pt"):
        (folder / name).unlink()
    checkpoint = Checkpoint(folder)
    assert (checkpoint.campplus, checkpoint.speech_tokenizer) == (None, None)
    assert checkpoint.speakers == checkpoint.odd_speakers == {}
    effects = {missing.file: missing.effect for missing in checkpoint.missing}
    assert "no new voices" in effects["campplus.onnx"]
    assert "no new voices" in effects["speech_tokenizer_v2.onnx"]
    assert "no voices of its own" in effects["spk2info.pt"]


def test_an_optional_file_that_is_something_else_counts_as_missing(folder: Path) -> None:
    (folder / "campplus.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    files = find_checkpoint(folder)
    assert files.campplus is None
    assert [(m.file, m.problem) for m in files.missing] == [
        ("campplus.onnx", "a git-lfs pointer, not the file itself")
    ]


def test_a_tokenizer_in_one_file_will_do(folder: Path) -> None:
    blank = folder / "CosyVoice-BlankEN"
    for name in ("vocab.json", "merges.txt"):
        (blank / name).unlink()
    (blank / "tokenizer.json").write_text("{}")
    assert find_checkpoint(folder).tokenizer_dir == blank


# --- fingerprints ------------------------------------------------------------------------------------


def test_a_checkpoint_has_the_same_fingerprint_wherever_it_lies(tiny: Path, folder: Path) -> None:
    (folder / "campplus.onnx").unlink()  # the voices made with it stay usable
    assert fingerprint(find_checkpoint(tiny)) == Checkpoint(folder).fingerprint
    assert re.fullmatch(r"[0-9a-f]{16}", Checkpoint(folder).fingerprint)


def test_one_other_number_in_the_weights_is_another_fingerprint(folder: Path) -> None:
    before = Checkpoint(folder).fingerprint
    tensors = {key: tensor.clone() for key, tensor in Checkpoint(folder).flow_tensors().items()}
    torch.save(tensors, folder / "flow.pt")
    saved_alike = Checkpoint(folder).fingerprint
    assert saved_alike == before
    tensors["decoder.estimator.mid_blocks.1.0.mlp.1.weight"][3, 5] += 1e-3
    torch.save(tensors, folder / "flow.pt")
    assert Checkpoint(folder).fingerprint != before


def test_other_numbers_in_the_yaml_are_another_fingerprint(folder: Path) -> None:
    before = Checkpoint(folder).fingerprint
    path = folder / "cosyvoice2.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("top_k: 25", "top_k: 24"), encoding="utf-8")
    assert Checkpoint(folder).fingerprint != before


# --- directories that are none -----------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere: no such directory; " in complaint(lambda: find_checkpoint(tmp_path / "nowhere"))


def test_a_folder_without_a_model_points_at_the_one_inside(folder: Path) -> None:
    text = complaint(lambda: find_checkpoint(folder.parent))
    assert "neither cosyvoice2.yaml nor cosyvoice3.yaml" in text
    assert text.endswith(f"perhaps {folder} is meant")


def test_a_model_of_the_first_generation(tmp_path: Path) -> None:
    (tmp_path / "cosyvoice.yaml").touch()
    assert "cosyvoice.yaml belongs to CosyVoice 1" in complaint(lambda: find_checkpoint(tmp_path))


def test_two_models_in_one_folder(folder: Path) -> None:
    shutil.copy(folder / "cosyvoice2.yaml", folder / "cosyvoice3.yaml")
    assert "both cosyvoice2.yaml and cosyvoice3.yaml" in complaint(lambda: find_checkpoint(folder))


def test_every_file_that_is_missing_is_named(folder: Path) -> None:
    (folder / "hift.pt").unlink()
    (folder / "CosyVoice-BlankEN" / "merges.txt").unlink()
    assert "hift.pt, CosyVoice-BlankEN/merges.txt missing" in complaint(lambda: find_checkpoint(folder))


def test_a_generation_without_networks_is_found_and_refused(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "three", generation=3)
    assert list_files(folder).generation == 3
    assert "cosyvoice3.yaml: this is CosyVoice3" in complaint(lambda: find_checkpoint(folder))


def test_nothing_of_pytorch_is_needed_to_find_a_checkpoint(tiny: Path) -> None:
    program = (
        "import sys\n"
        "from cosyduplex_server.engine.cosyvoice import files, hyperparameters\n"
        "from cosyduplex_server import cli\n"
        f"found = files.find_checkpoint({str(tiny)!r})\n"
        "hyperparameters.read_config(found), files.fingerprint(found), cli._parser()\n"
        "print([name for name in ('torch', 'tokenizers', 'onnxruntime', 'numpy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


# --- files that are something else -------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def archive_of(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"")

    return write


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2023316821\n")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "empty; download it again"),
    "cut short": (truncate, "cut short or damaged; download it again"),
    "git-lfs pointer": (pointer, "a git-lfs pointer, not the file itself; run `git lfs pull`"),
    "web page": (lambda path: path.write_text("\n<!DOCTYPE html><html>"), "a web page, not the file itself"),
    "error in JSON": (lambda path: path.write_text('{"Code": 404}'), "a JSON text"),
    "text": (lambda path: path.write_text("no such file"), "not a PyTorch state dict"),
    "safetensors": (lambda path: save_file({"a": torch.ones(3)}, path), "a safetensors file, not a PyTorch"),
    "TorchScript": (archive_of("model/constants.pkl"), "a TorchScript program"),
    "zip": (archive_of("notes.txt"), "a zip archive of something else"),
}


@pytest.mark.parametrize("case", SPOILT)
@pytest.mark.parametrize("name", ["llm.pt", "hift.pt"])
def test_a_file_that_is_something_else_is_named_before_pytorch_reads_it(
    case: str, name: str, folder: Path
) -> None:
    spoil, expected = SPOILT[case]
    spoil(folder / name)
    assert f"{name}: {expected}" in complaint(lambda: find_checkpoint(folder))


class RunsCode:
    """A pickle of it asks for a command to be run."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("name", ["llm.pt", "spk2info.pt"])
@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused(name: str, new_format: bool, folder: Path) -> None:
    trace = folder / "it-ran"
    content = {"a": torch.ones(2), "b": RunsCode(f"touch {trace}")}
    torch.save(content, folder / name, _use_new_zipfile_serialization=new_format)
    text = complaint(lambda: read(folder, name))
    assert text.startswith(f"{name}: asks to run code (posix.system), which is refused")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([torch.ones(2)], "llm.pt: holds a list, not a table of tensors"),
        ({"model": {"a": torch.ones(2)}}, "llm.pt: model is a dict, not a tensor"),
        ({"epoch": "seven"}, "llm.pt: epoch is a str, not a tensor"),
        ({7: torch.ones(2)}, "llm.pt: 7 is a Tensor, not a tensor"),
        ({}, "llm.pt: holds no tensors"),
        ({"a.weight": torch.ones(2)}, "llm.pt: a.weight belongs to no part of CosyVoice"),
    ],
)
def test_a_pickle_of_something_else_is_named(content: object, expected: str, folder: Path) -> None:
    torch.save(content, folder / "llm.pt")
    assert expected in complaint(lambda: read(folder, "llm.pt"))


def test_a_plain_pickle_is_no_state_dict(folder: Path) -> None:
    (folder / "flow.pt").write_bytes(pickle.dumps({"a": 1}))
    assert "flow.pt: damaged" in complaint(lambda: read(folder, "flow.pt"))


def test_the_old_format_cut_short_is_damaged(folder: Path) -> None:
    tensors = Checkpoint(folder).vocoder_tensors()
    torch.save(dict(tensors), folder / "old.pt", _use_new_zipfile_serialization=False)
    whole = (folder / "old.pt").read_bytes()
    for size in (60, 5000, len(whole) - 1):
        (folder / "hift.pt").write_bytes(whole[:size])
        assert "hift.pt: damaged; download it again" in complaint(lambda: read(folder, "hift.pt"))


@pytest.mark.parametrize("new_format", [True, False])
def test_any_damage_to_a_pickle_gives_one_line_or_a_state_dict(new_format: bool, tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    tensors = {f"layer.{i}.weight": torch.randn(3, 2) for i in range(4)}
    torch.save(tensors, path, _use_new_zipfile_serialization=new_format)
    good = path.read_bytes()
    dice = random.Random(20)
    refused = 0
    for _ in range(60):
        spoil_pickle(path, good, dice, new_format)
        with suppress(CheckpointError):
            read_state_dict(path)
            continue
        refused += 1
    assert refused > 20


def spoil_pickle(path: Path, good: bytes, dice: random.Random, new_format: bool) -> None:
    def spoilt(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(dice.randint(1, 3)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        return bytes(changed)

    if not new_format:
        path.write_bytes(spoilt(good[:600]) + good[600:])
        return
    path.write_bytes(good)
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, spoilt(data) if name.endswith("data.pkl") else data)


# --- files of another model --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("llm.pt", "llm.model.model.embed_tokens.weight"),
        ("flow.pt", "decoder.estimator.transformer_blocks.0"),
        ("hift.pt", "conv_pre.parametrizations.weight.original1"),
    ],
)
def test_a_file_of_another_generation_is_named(name: str, key: str, folder: Path, tmp_path: Path) -> None:
    newer = write_tiny_checkpoint(tmp_path / "newer", generation=3)
    shutil.copy(newer / name, folder / name)
    text = complaint(lambda: read(folder, name))
    assert text.startswith(f"{name}: {key}")
    assert "is of CosyVoice 3, cosyvoice2.yaml of CosyVoice 2" in text


def test_files_under_each_others_names(folder: Path) -> None:
    shutil.copy(folder / "flow.pt", folder / "llm.pt")
    text = complaint(lambda: read(folder, "llm.pt"))
    assert "llm.pt: holds the tensors of flow.pt (encoder.up_encoders.0" in text


@pytest.mark.parametrize(
    ("name", "key", "change", "expected"),
    [
        ("llm.pt", "llm_decoder.bias", None, "llm_decoder.bias is missing"),
        (
            "llm.pt",
            "speech_embedding.weight",
            torch.zeros(7, 128),
            "speech_embedding.weight is 7x128, not 203x128",
        ),
        (
            "flow.pt",
            "encoder_proj.bias",
            torch.zeros(80, dtype=torch.int64),
            "encoder_proj.bias holds torch.int64",
        ),
        ("flow.pt", "more.weight", torch.zeros(1), "more.weight belongs to no part of this model"),
        ("hift.pt", "ups.1.bias", torch.zeros(3), "ups.1.bias is 3, not 16"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    name: str, key: str, change: Tensor | None, expected: str, folder: Path
) -> None:
    tensors = {key: tensor.clone() for key, tensor in read_state_dict(folder / name).items()}
    tensors.pop(key, None)
    torch.save(tensors if change is None else {**tensors, key: change}, folder / name)
    checkpoint = Checkpoint(folder)
    report = check_part(folder / name, checkpoint.files, checkpoint.config)
    assert report.error is not None
    assert report.error.problem.startswith(f"{name}: {expected}")
    assert report.error.solution == "take every file from one download of one model"


# --- voices ------------------------------------------------------------------------------------------


def test_a_speaker_vector_alone_is_a_voice(tiny: Path) -> None:
    saved = torch.load(tiny / "spk2info.pt", weights_only=True)
    speaker = Checkpoint(tiny).speakers[SFT_SPEAKER]
    assert not speaker.has_prompt
    assert torch.equal(speaker.embedding, saved[SFT_SPEAKER]["embedding"][0])
    assert speaker.prompt_mel.shape == (0, 80)


def test_a_saved_zero_shot_voice_is_read(tiny: Path) -> None:
    saved = torch.load(tiny / "spk2info.pt", weights_only=True)[SAVED_SPEAKER]
    speaker = Checkpoint(tiny).speakers[SAVED_SPEAKER]
    assert speaker.has_prompt
    assert speaker.prompt_text == ""
    assert list(speaker.prompt_text_ids) == saved["prompt_text"][0].tolist()
    assert (
        speaker.lm_tokens.tolist()
        == speaker.flow_tokens.tolist()
        == saved["flow_prompt_speech_token"][0].tolist()
    )
    assert torch.equal(speaker.prompt_mel, saved["prompt_speech_feat"][0])
    assert torch.equal(speaker.embedding, saved["flow_embedding"][0])


def test_a_voice_of_the_triton_runtime_is_read(tiny: Path, tmp_path: Path) -> None:
    entry = {
        "prompt_text": "希望你过得比我还好呦。",
        "speech_token": torch.arange(30)[None],
        "speech_feat": torch.randn(1, 59, 80).half(),
        "embedding": torch.ones(1, 192),
    }
    torch.save({"001": entry}, tmp_path / "spk2info.pt")
    speakers, odd = read_speakers(tmp_path / "spk2info.pt", Checkpoint(tiny).config)
    speaker = speakers["001"]
    assert odd == {}
    assert (speaker.prompt_text, speaker.prompt_text_ids) == ("希望你过得比我还好呦。", ())
    assert speaker.flow_tokens.tolist() == speaker.lm_tokens.tolist() == list(range(29))
    assert (speaker.prompt_mel.shape, speaker.prompt_mel.dtype) == ((58, 80), torch.float32)


def test_what_stands_beyond_a_saved_length_is_left_off(tiny: Path) -> None:
    entry = dict(torch.load(tiny / "spk2info.pt", weights_only=True)[SAVED_SPEAKER])
    entry["flow_prompt_speech_token_len"] = torch.tensor([20], dtype=torch.int32)
    entry["prompt_text_len"] = torch.tensor([3], dtype=torch.int32)
    speaker = read_speaker(entry, Checkpoint(tiny).config)
    assert (len(speaker.flow_tokens), len(speaker.prompt_mel), len(speaker.prompt_text_ids)) == (20, 40, 3)


def test_voices_saved_on_a_gpu_are_read_without_one(folder: Path) -> None:
    path = folder / "spk2info.pt"
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            moved = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            assert (moved != data) == name.endswith("data.pkl")
            archive.writestr(name, moved)
    speakers = Checkpoint(folder).speakers
    assert [str(speaker.embedding.device) for speaker in speakers.values()] == ["cpu", "cpu"]


VECTOR = torch.ones(1, 192)
PROMPT = {"prompt_text": "a", "speech_token": torch.ones(1, 4, dtype=torch.int32), "embedding": VECTOR}
FEAT = torch.ones(1, 8, 80)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (VECTOR, "is of type Tensor, not a table"),
        ({}, "has no embedding and no prompt, only: nothing"),
        ({"tone": 3}, "has no embedding and no prompt, only: tone"),
        ({"embedding": torch.ones(1, 256)}, "embedding is 1x256, not 1x192"),
        ({"embedding": [1.0] * 192}, "embedding is of type list, not a tensor"),
        ({"embedding": VECTOR.int()}, "embedding holds torch.int32"),
        ({"embedding": VECTOR * torch.nan}, "embedding is not a direction"),
        ({"embedding": VECTOR * 0}, "embedding is not a direction"),
        ({**PROMPT, "speech_feat": FEAT[..., :40]}, "speech_feat is 1x8x40, not 1xTx80"),
        ({**PROMPT, "speech_feat": FEAT / 0}, "speech_feat holds numbers that are not finite"),
        ({**PROMPT, "speech_feat": FEAT[:, :0]}, "has a prompt without speech"),
        ({**PROMPT, "speech_feat": FEAT, "speech_feat_len": "8"}, "speech_feat_len is of type str"),
        ({**PROMPT, "speech_feat": FEAT, "speech_token": FEAT}, "speech_token holds torch.float32"),
        ({**PROMPT, "speech_feat": FEAT, "speech_token": torch.tensor([[200]])}, "not below 200"),
        ({**PROMPT, "speech_feat": FEAT, "speech_token": torch.tensor([[-1]])}, "ids from -1 to -1"),
        ({**PROMPT, "speech_feat": FEAT, "speech_token": torch.ones(2, 3).int()}, "not one row of ids"),
        ({**PROMPT, "speech_feat": FEAT, "prompt_text": 3}, "prompt_text is of type int, not text"),
        ({**PROMPT, "speech_feat": FEAT, "embedding": None}, "embedding is missing"),
    ],
)
def test_an_entry_that_is_no_voice_says_why(entry: object, expected: str) -> None:
    with pytest.raises(SpeakerError, match=re.escape(expected)):
        read_speaker(entry, tiny_config(2))


def test_voices_that_are_none_do_not_keep_the_others_out(folder: Path) -> None:
    torch.save({"good": {"embedding": VECTOR}, "bad": {"embedding": 1}, "": {}}, folder / "spk2info.pt")
    checkpoint = Checkpoint(folder)
    assert list(checkpoint.speakers) == ["good"]
    assert checkpoint.odd_speakers == {
        "bad": "embedding is of type int, not a tensor",
        "the empty key": "has no name",
    }


def test_a_damaged_file_of_voices_says_how_to_go_on_without(folder: Path) -> None:
    torch.save([1], folder / "spk2info.pt")
    text = complaint(lambda: Checkpoint(folder).speakers)
    assert text.startswith("spk2info.pt: holds a list, not a table of voices; ")
    assert text.endswith("or do without: remove spk2info.pt")


def test_the_files_of_a_checkpoint_are_a_plain_value(tiny: Path) -> None:
    assert isinstance(find_checkpoint(tiny), CheckpointFiles)
    assert find_checkpoint(tiny) == find_checkpoint(str(tiny))
