"""The numbers of a checkpoint: every foreign one is named, and a YAML's tags do nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from cosyvoice.tiny_checkpoint import write_tiny_checkpoint

from cosyduplex_server.engine.cosyvoice.files import CheckpointError, list_files
from cosyduplex_server.engine.cosyvoice.hyperparameters import read_config
from cosyduplex_server.models.config import ModelConfig


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that tests leave as it is."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def complaint(folder: Path) -> str:
    """The one line of a refusal."""
    with pytest.raises(CheckpointError) as caught:
        config_of(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 250
    return text


def edit_yaml(folder: Path, old: str, new: str) -> None:
    path = folder / "cosyvoice2.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def config_of(folder: Path) -> ModelConfig:
    return read_config(list_files(folder))


@pytest.mark.parametrize(
    "line",
    [
        "x: !apply:os.system ['touch {trace}']",
        "x: !new:subprocess.Popen\n    args: [touch, '{trace}']",
        "x: !!python/object/apply:os.system ['touch {trace}']",
        "x: !!python/object/new:os.system ['touch {trace}']",
    ],
)
def test_a_yaml_runs_nothing(line: str, folder: Path) -> None:
    trace = folder / "it-ran"
    before = config_of(folder)
    path = folder / "cosyvoice2.yaml"
    text = line.format(trace=trace) + "\n" + path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    assert config_of(folder) == before
    assert not trace.exists()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("sample_rate: 24000", "sample_rate: 22050", "sample_rate is 22050, and this version knows 24000"),
        ("llm_input_size: 128", "llm_input_size: 896", "llm_input_size is 896, and this version knows 128"),
        ("Qwen2LM", "TransformerLM", "llm is '!new:cosyvoice.llm.llm.TransformerLM', not Qwen2LM"),
        ("flow: !new", "flows: !new", "flow is missing"),
        ("chunk_size: 25", "chunk_size: 50", "chunk_size is 50, and"),
        ("<chunk_size> * <token", "<chunk_size> * 4 # <token", "static_chunk_size is 100, and"),
        ("solver: 'euler'", "solver: midpoint", "solver is 'midpoint', and"),
        ("attention_heads: 2", "attention_heads: 3", "attention_heads is 3, which does not divide 64"),
        ("num_blocks: 2", "num_blocks: two", "num_blocks is 'two', not a whole number from 1"),
        ("num_blocks: 2", "num_blocks: 0", "num_blocks is 0, not a whole number"),
        ("num_blocks: 2", "num_blocks: True", "num_blocks is True, not a whole number"),
        ("top_p: 0.8", "top_p: .nan", "llm.sampling.top_p is nan, not a number from 0"),
        ("mix_ratio: [5, 15]", "mix_ratio: [5]", "llm.mix_ratio is [5], not a list of 2 whole numbers"),
        ("upsample_rates: [8, 5, 3]", "upsample_rates: [8, 8, 3]", "make 768 samples of a mel frame"),
        (
            "[[1, 3, 5], [1, 3, 5], [1, 3, 5]]",
            "[[1, 3, 5], [1, 3, 5], [1, 3, 7]]",
            "resblock_dilation_sizes is",
        ),
        ("vocab_size: 200", "vocab_size: 201", "flow.vocab_size is 201, llm.speech_token_size 200"),
        ("<sample_rate>", "<rate>", "refers to <rate>, which is missing"),
        ("sample_rate: 24000", "sample_rate: !ref <hift.sampling_rate>", "refers to itself"),
        ("<sample_rate>", "__import__('os')", "which this version does not follow"),
        ("fmax: 8000", "fmax: high", "feat_extractor.fmax is 'high', not a number"),
        ("llm:", "? [a\nllm:", "line "),
        ("llm:", "? {[1]: 2}\n: 3\nllm:", "unhashable"),
    ],
)
def test_a_foreign_number_is_named_with_file_and_key(old: str, new: str, expected: str, folder: Path) -> None:
    edit_yaml(folder, old, new)
    text = complaint(folder)
    assert text.startswith("cosyvoice2.yaml: ")
    assert expected in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model_type": "llama"}, "model_type is 'llama', and this version knows 'qwen2' only"),
        ({"hidden_size": 0}, "hidden_size is 0, not a whole number"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3, which does not divide 2 heads"),
        (
            {"rope_scaling": {"type": "yarn"}},
            "rope_scaling is {'type': 'yarn'}, and this version knows None only",
        ),
        ({"rms_norm_eps": -1}, "rms_norm_eps is -1, not a number from 0"),
        ({"vocab_size": 400}, "vocab_size is 400, and <|endofprompt|> has the id 483"),
    ],
)
def test_a_foreign_number_of_the_language_model_is_named(
    change: Mapping[str, object], expected: str, folder: Path
) -> None:
    path = folder / "CosyVoice-BlankEN" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    text = complaint(folder)
    assert f"CosyVoice-BlankEN/config.json: {expected}" in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"- a\n- b\n", "not a table of names and values"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"[" * 5000, "nested too deeply"),
        (b"a: &a [1]\nb: *c\n", "line 2: found undefined alias"),
        (b"a: 2001-99-99\n", "not YAML"),
        (b"#" * (2 << 20), "larger than 1 MiB"),
    ],
)
def test_a_yaml_that_is_none_is_named(content: bytes, expected: str, folder: Path) -> None:
    (folder / "cosyvoice2.yaml").write_bytes(content)
    text = complaint(folder)
    assert text.startswith("cosyvoice2.yaml: ")
    assert expected in text


def test_a_yaml_that_multiplies_itself_costs_nothing(folder: Path) -> None:
    lines = ["bomb0: &b0 [1, 2]"]
    lines += [f"bomb{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]" for i in range(1, 40)]
    lines += ["merge0: &m0 {a: 1}"]
    lines += [f"merge{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}" for i in range(1, 40)]
    edit_yaml(folder, "llm:", "\n".join(lines) + "\nllm:")
    edit_yaml(folder, "num_blocks: 2", "num_blocks: *b39")
    assert "num_blocks is [[" in complaint(folder)


def test_numbers_may_be_written_as_yaml_takes_for_text_and_by_reference(folder: Path) -> None:
    before = config_of(folder)
    edit_yaml(folder, "nsf_sigma: 0.003", "nsf_sigma: 3e-3")
    edit_yaml(folder, "base_channels: 64", "base_channels: !ref <hift.f0_predictor.cond_channels>")
    edit_yaml(
        folder,
        "nb_harmonics: 8",
        "nb_harmonics: !ref <hift[upsample_rates][0]>",
    )
    assert config_of(folder) == before


def test_what_the_yaml_does_not_say_keeps_the_usual_number(folder: Path) -> None:
    for line in (
        "    nsf_sigma: 0.003\n",
        "chunk_size: 25 # in tokens\n",
        "    fmax: 8000\n",
        "        top_k: 25\n",
    ):
        edit_yaml(folder, line, "")
    edit_yaml(folder, "<chunk_size> * <token_mel_ratio>", "<token_frame_rate> * <token_mel_ratio>")
    edit_yaml(folder, "        static_chunk_size: !ref <chunk_size>\n", "")
    config = config_of(folder)
    assert (config.vocoder.noise_std, config.lm.top_k, config.prompt_mel_fmax_hz) == (0.003, 25, 8000.0)
