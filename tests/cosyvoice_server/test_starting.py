"""What keeps the engine from starting: one clear line and the exit code 3, or another engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest
import torch
from cosyvoice.tiny_checkpoint import write_tiny_checkpoint
from cosyvoice_server.serving import ENGLISH, ENVIRONMENT, Listener, options

from cosyduplex.messages import ContextDone, TextAppend, TextEnd

# Starting PyTorch takes seconds, on a busy machine many.
pytestmark = pytest.mark.timeout(180)

Broken = Callable[[str], Path]

LFS_POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 2023316821
"""


@pytest.fixture
def broken(checkpoint: Path, tmp_path: Path) -> Broken:
    """Makes a checkpoint that cannot be used."""

    def make(how: str) -> Path:
        folder = tmp_path / "model"
        if how == "missing directory":
            return folder
        if how == "newer generation":
            return write_tiny_checkpoint(folder, generation=3)
        shutil.copytree(checkpoint, folder)
        lm = folder / "llm.pt"
        match how:
            case "truncated file":
                os.truncate(lm, lm.stat().st_size // 2)
            case "foreign file":
                shutil.copy(folder / "flow.pt", lm)
            case "git-lfs pointer":
                lm.write_text(LFS_POINTER)
            case "web page":
                lm.write_text("<!DOCTYPE html><html>404</html>")
            case "no tokenizer":
                shutil.rmtree(folder / "CosyVoice-BlankEN")
            case "missing key":
                tensors = torch.load(lm, weights_only=True)
                del tensors["speech_embedding.weight"]
                torch.save(tensors, lm)
            case "damaged voices":
                (folder / "spk2info.pt").write_text("garbage")
        return folder

    return make


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cosyduplex_server", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **ENVIRONMENT},
        timeout=50,
    )


# What shows without the models is told within a moment, the rest by the worker.
SAYS = {
    "missing directory": ("model: no such directory",),
    "newer generation": ("cosyvoice3.yaml", "CosyVoice2 only"),
    "truncated file": ("llm.pt: cut short or damaged",),
    "git-lfs pointer": ("llm.pt: a git-lfs pointer", "git lfs pull"),
    "web page": ("llm.pt: a web page",),
    "no tokenizer": ("CosyVoice-BlankEN/vocab.json", "missing"),
    "foreign file": ("llm.pt: holds the tensors of flow.pt",),
    "missing key": ("llm.pt: speech_embedding.weight is missing",),
}


@pytest.mark.parametrize("how", [how for how in SAYS if how != "missing key"])
def test_a_checkpoint_that_cannot_be_used_ends_the_start_with_one_line(broken, how):
    done = run("serve", "--port", "0", *options(broken(how)))
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr
    *log, last = done.stderr.splitlines()
    assert last.startswith("cosyduplex: the engine could not start: ")
    assert "cosyduplex worker" not in last
    for words in SAYS[how]:
        assert words in last
    # Before it are log lines alone, each with its time.
    assert all(re.match(r"\d\d:\d\d:\d\d (info|warning) ", line) for line in log)


def test_a_device_that_is_not_there_is_named(checkpoint):
    done = run("serve", "--port", "0", *options(checkpoint), "--device", "cuda:99")
    assert done.returncode == 3
    assert "cosyduplex: the engine could not start: --device cuda:99: PyTorch" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_directory_the_option_is_named():
    done = run("serve", "--port", "0", "--engine", "cosyvoice")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "--model-dir DIR" in done.stderr


@pytest.mark.parametrize("how", ["truncated file", "missing key"])
def test_a_worker_says_it_as_well(broken, how):
    done = run("worker", "--listen", "127.0.0.1:0", *options(broken(how)))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert SAYS[how][0] in done.stderr


@pytest.mark.parametrize("how", ["missing directory", "no tokenizer", "foreign file"])
async def test_when_left_to_choose_the_server_speaks_with_the_embedded_voice_and_says_why(
    start_server, broken, how
):
    folder = broken(how)
    server = start_server(
        "--engine", "auto", "--model-dir", str(folder), "--voice-processes", "1", environment=ENVIRONMENT
    )
    assert server.ready["engine"].startswith("espeak-ng ")
    reason = server.ready["reason"]
    assert reason.startswith("CosyVoice cannot be used: ")
    assert all(words.removeprefix("model") in reason for words in SAYS[how])
    async with await Listener.open(server.ws_url) as client:
        await client.send(TextAppend(text=ENGLISH), TextEnd())
        assert (await client.until(ContextDone)).audio_ms > 0
    info = get(server.url + "/v1/info")
    assert info["engine_reason"] == reason
    assert str(folder.parent) not in json.dumps(info)


def test_when_left_to_choose_a_usable_checkpoint_speaks(start_server, broken):
    folder = broken("damaged voices")
    server = start_server("--engine", "auto", "--model-dir", str(folder), environment=ENVIRONMENT)
    assert server.ready["engine"].startswith("cosyvoice2 ")
    assert server.ready["reason"] == "--model-dir holds a checkpoint"
    # What it does without is no secret: neither to its clients nor in its log.
    assert server.ready["voices"] == 0
    says = "spk2info.pt is not a PyTorch state dict: the model brings no voices of its own"
    assert says in server.log()
    assert any(note.startswith(says) for note in get(server.url + "/v1/info")["notes"])


def get(url: str) -> dict[str, object]:
    with urlopen(url, timeout=20) as answer:
        found: dict[str, object] = json.load(answer)
    return found
