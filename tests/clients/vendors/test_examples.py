"""The examples of `examples/` that name this environment in their first line run as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hearing import assert_speech, decoded
from servers import ROOT, Server

ENVIRONMENT = "# client: vendors\n"


def examples() -> list[Path]:
    files = sorted((ROOT / "examples").glob("*.py"))
    return [file for file in files if file.read_text(encoding="utf-8").startswith(ENVIRONMENT)]


@pytest.mark.parametrize("example", examples(), ids=lambda path: path.name)
def test_an_example_writes_a_file_of_speech(example: Path, server: Server, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, example],
        cwd=tmp_path,
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    (file,) = tmp_path.iterdir()
    assert_speech(decoded(file.read_bytes()))


@pytest.mark.parametrize("example", examples(), ids=lambda path: path.name)
def test_an_example_is_short(example: Path) -> None:
    lines = example.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line and not line.startswith("#")]) <= 30
