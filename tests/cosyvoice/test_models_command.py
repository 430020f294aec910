"""`cosyduplex models`, as a user would call it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cosyvoice.tiny_checkpoint import SAVED_SPEAKER, SFT_SPEAKER, write_tiny_checkpoint

from cosyduplex_server import cli


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that tests leave as it is."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def cosyduplex(*arguments: object, prelude: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own."""
    code = f"{prelude}\nimport sys\nfrom cosyduplex_server.cli import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def in_process(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The command's exit code and what it wrote; for those that read tensors, which take long to start."""
    code = cli.main(list(map(str, arguments)))
    written = capsys.readouterr()
    return code, written.out, written.err


def refusal(run: subprocess.CompletedProcess[str], exit_code: int) -> str:
    """The one line on standard error."""
    assert run.returncode == exit_code, run
    (line,) = run.stderr.splitlines()
    assert line.startswith("cosyduplex: ")
    return line.removeprefix("cosyduplex: ")


# --- check -------------------------------------------------------------------------------------------


def test_check_of_a_complete_checkpoint(tiny: Path) -> None:
    run = cosyduplex("models", "check", tiny)
    assert (run.returncode, run.stderr) == (0, "")
    marks = {line.split(" ")[0] for line in run.stdout.splitlines() if line and line[0] in "✓–✗"}
    assert marks == {"✓"}
    for name in ("cosyvoice2.yaml", "llm.pt", "flow.pt", "hift.pt", "CosyVoice-BlankEN", "campplus.onnx"):
        assert f"✓ {name}" in run.stdout
    assert f"2 voices: {SFT_SPEAKER}, {SAVED_SPEAKER}" in run.stdout
    assert f"cosyduplex serve --model-dir {tiny}" in run.stdout


def test_check_as_json_says_the_same(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = in_process(capsys, "models", "check", tiny, "--json")
    answer = json.loads(out)
    assert (code, err, answer["usable"], answer["generation"]) == (0, "", True, 2)
    assert len(answer["fingerprint"]) == 16
    assert {finding["level"] for finding in answer["findings"]} == {"ok"}
    assert {"llm.pt", "flow.pt", "hift.pt"} < {finding["name"] for finding in answer["findings"]}


def test_check_without_the_optional_files_is_usable_and_says_what_is_lost(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "campplus.onnx").unlink()
    (folder / "spk2info.pt").unlink()
    code, out, err = in_process(capsys, "models", "check", folder)
    assert (code, err) == (0, "")
    assert "– campplus.onnx: missing; no new voices can be added; saved ones speak" in out
    assert "– spk2info.pt: missing; the model brings no voices of its own" in out


def test_check_opens_the_networks_that_listen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.truncate(folder / "campplus.onnx", 1000)
    code, out, _ = in_process(capsys, "models", "check", folder)
    assert code == 0
    (line,) = (line for line in out.splitlines() if line.startswith("– campplus.onnx"))
    assert "no new voices can be added; saved ones speak" in line


def test_check_names_a_voice_that_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"odd": {"embedding": torch.ones(1, 3)}}, folder / "spk2info.pt")
    code, out, _ = in_process(capsys, "models", "check", folder)
    assert code == 0
    assert "– spk2info.pt: odd: embedding is 1x3, not 1x192; this voice is left out" in out


def test_check_of_parts_that_do_not_fit_names_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lm = torch.load(folder / "llm.pt", weights_only=True)
    del lm["llm_decoder.bias"]
    torch.save(lm, folder / "llm.pt")
    torch.save({"a": 1}, folder / "spk2info.pt")
    shutil.copy(folder / "hift.pt", folder / "flow.pt")
    code, out, err = in_process(capsys, "models", "check", folder)
    assert code == 3
    assert "✗ llm.pt: llm_decoder.bias is missing\n" in out
    assert "✗ flow.pt: holds the tensors of hift.pt" in out
    assert "✓ hift.pt" in out
    assert "can be used" not in out
    assert err == (
        f"cosyduplex: {folder}: llm.pt: llm_decoder.bias is missing; "
        "take every file from one download of one model (1 more)\n"
    )


def test_check_of_foreign_numbers_still_looks_at_the_rest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = folder / "cosyvoice2.yaml"
    yaml.write_text(yaml.read_text(encoding="utf-8").replace("24000", "16000"), encoding="utf-8")
    code, out, err = in_process(capsys, "models", "check", folder, "--json")
    answer = json.loads(out)
    levels = {finding["name"]: finding["level"] for finding in answer["findings"]}
    assert (code, answer["usable"]) == (3, False)
    assert levels == {"cosyvoice2.yaml": "broken", "llm.pt": "ok", "flow.pt": "ok", "hift.pt": "ok"}
    assert "cosyvoice2.yaml: sample_rate is 16000, and this version knows 24000 only" in err


def test_check_names_the_file_of_the_language_models_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "CosyVoice-BlankEN" / "config.json").write_text("{")
    code, out, _ = in_process(capsys, "models", "check", folder)
    assert code == 3
    assert "✗ CosyVoice-BlankEN/config.json: not JSON\n" in out


def test_check_of_a_tokenizer_that_is_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "CosyVoice-BlankEN" / "merges.txt").write_text("one two three\n")
    code, out, _ = in_process(capsys, "models", "check", folder)
    assert code == 3
    assert "✗ CosyVoice-BlankEN: merges.txt: " in out


def test_check_of_a_generation_without_networks_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_checkpoint(tmp_path / "three", generation=3)
    code, out, err = in_process(capsys, "models", "check", folder)
    assert code == 3
    for name in ("cosyvoice3.yaml", "llm.pt", "flow.pt", "hift.pt"):
        assert f"✓ {name}" in out
    assert out.count("shapes were not compared") == 3
    assert "this version does not speak with CosyVoice3 yet" in err


def test_check_of_what_is_no_checkpoint(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert refusal(cosyduplex("models", "check", nowhere), 3).startswith(f"{nowhere}: no such directory; ")
    assert "neither cosyvoice2.yaml nor" in refusal(cosyduplex("models", "check", tmp_path), 3)


def test_check_of_a_spoilt_file_names_it_without_a_traceback(folder: Path) -> None:
    os.truncate(folder / "llm.pt", 100_000)
    run = cosyduplex("models", "check", folder, "--json")
    assert refusal(run, 3) == f"{folder}: llm.pt: cut short or damaged; download it again"
    (finding,) = json.loads(run.stdout)["findings"]
    assert finding == {
        "name": "llm.pt",
        "level": "broken",
        "detail": "cut short or damaged",
        "solution": "download it again",
    }


def test_check_without_the_engines_packages_looks_at_what_it_can(tiny: Path) -> None:
    hide = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "tokenizers"):
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Hidden())
import importlib.util
original = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in ("torch", "tokenizers") else original(name)
"""
    run = cosyduplex("models", "check", tiny, prelude=hide)
    assert "pip install 'cosyduplex[cosyvoice]'" in refusal(run, 3)
    assert "✓ cosyvoice2.yaml" in run.stdout
    assert "✗ Python packages: torch, tokenizers not installed" in run.stdout


# --- list and fetch ----------------------------------------------------------------------------------


def listed(**environment: str) -> dict[str, Any]:
    run = cosyduplex("models", "list", "--json", **environment)
    assert (run.returncode, run.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


def test_list_names_the_official_models_and_where_they_are() -> None:
    run = cosyduplex("models", "list")
    assert (run.returncode, run.stderr) == (0, "")
    assert "No checkpoint is configured" in run.stdout
    assert "https://huggingface.co/FunAudioLLM/CosyVoice2-0.5B" in run.stdout
    assert "https://modelscope.cn/models/iic/CosyVoice2-0.5B" in run.stdout
    (line,) = (line for line in run.stdout.splitlines() if line.startswith("Fun-CosyVoice3-0.5B: "))
    assert "which this version does not speak with" in line


def test_list_says_what_is_configured(tiny: Path, tmp_path: Path) -> None:
    assert listed()["configured"] is None
    good = listed(COSYDUPLEX_MODEL_DIR=str(tiny))
    assert good["configured"] == str(tiny)
    assert good["state"].startswith("CosyVoice2; ")
    bad = listed(COSYDUPLEX_MODEL_DIR=str(tmp_path))
    assert "neither cosyvoice2.yaml nor cosyvoice3.yaml" in bad["state"]


def test_list_reads_the_servers_configuration(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f'model_dir = "{tiny}"\n')
    run = cosyduplex("models", "list", "--config", file)
    assert f"Configured: {tiny}" in run.stdout
    file.write_text("model_dir = 3\n")
    assert "model_dir" in refusal(cosyduplex("models", "list", "--config", file), 2)


def test_fetch_says_that_it_is_not_there_and_what_to_do_instead() -> None:
    line = refusal(cosyduplex("models", "fetch", "CosyVoice2-0.5B"), 2)
    assert "not in this version" in line
    assert "hf download FunAudioLLM/CosyVoice2-0.5B --local-dir CosyVoice2-0.5B" in line
    assert "no official model 'Bark'" in refusal(cosyduplex("models", "fetch", "Bark"), 2)


def test_models_needs_an_action() -> None:
    run = cosyduplex("models")
    assert run.returncode == 2
    assert "ACTION" in run.stderr
