"""`cosyduplex say` and `models check` with a checkpoint, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
import wave

import pytest
from cosyvoice_server.serving import CHINESE, ENGLISH, SFT


def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cosyduplex_server", *arguments],
        capture_output=True,
        text=True,
        input=text,
        timeout=50,
    )


def test_say_writes_what_it_is_told(server, tmp_path):
    out = tmp_path / "a.wav"
    done = run(
        "say", "--url", server.url, "--voice", SFT, "--out", str(out), "--marks", f"{ENGLISH} {CHINESE}"
    )
    assert (done.returncode, done.stderr) == (0, "")
    marks = [json.loads(line) for line in done.stdout.splitlines()]
    assert marks[0]["text"] == "Hello"
    assert not marks[0]["exact"]
    with wave.open(str(out)) as wav:
        assert wav.getframerate() == 24_000
        assert wav.getnframes() / 24 >= marks[-1]["end_ms"]


def test_say_speaks_standard_input_while_it_is_written(server):
    command = [sys.executable, "-m", "cosyduplex_server", "say", "--url", server.url, "--out", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"one two three four five six seven eight nine ten eleven twelve ")
        process.stdin.flush()
        assert len(process.stdout.read(960)) == 960  # and the text goes on
        rest, _ = process.communicate(b"and so on.")
    assert process.returncode == 0
    assert len(rest) > 48_000


@pytest.mark.opus
def test_say_writes_opus(server, tmp_path):
    out = tmp_path / "a.opus"
    assert run("say", "--url", server.url, "--out", str(out), text=ENGLISH).returncode == 0
    assert out.read_bytes().startswith(b"OggS")


def test_say_names_the_voices_there_are(server, tmp_path):
    done = run("say", "--url", server.url, "--voice", "nobody", "--out", str(tmp_path / "a.wav"), "Hello.")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert SFT in done.stderr


def test_models_check_says_what_serve_would_speak_with(checkpoint):
    done = run("models", "check", str(checkpoint))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"cosyduplex serve --model-dir {checkpoint}" in done.stdout
