"""The scripts in `examples/` run as they are."""

from __future__ import annotations

import asyncio
import struct
import sys
from pathlib import Path

import pytest
from client.scripted_server import heard, serving

from cosyduplex.messages import ContextOpen

EXAMPLES = Path(__file__).parents[2] / "examples"


async def run(url: str, folder: Path, script: str, *arguments: str, stdin: bytes = b"") -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        str(EXAMPLES / script),
        "--url",
        url,
        *arguments,
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate(stdin)
    assert (process.returncode, stderr.decode()) == (0, "")
    return stdout.decode()


def text_of(wav: Path) -> str:
    data = wav.read_bytes()
    assert struct.unpack_from("<I", data, 40) == (len(data) - 44,)
    return heard(data[44:])


async def test_llm_tokens_are_spoken_while_they_are_written(tmp_path: Path) -> None:
    async with serving() as server:
        shown = await run(server.url, tmp_path, "llm_tokens.py")
    assert text_of(tmp_path / "answer.wav").endswith("thought of. 你好，世界。")
    assert shown.index("[first audio]") < shown.index("[all written]")


async def test_standard_input_is_spoken_without_asyncio(tmp_path: Path) -> None:
    async with serving() as server:
        await run(server.url, tmp_path, "blocking.py", "--out", "x.wav", stdin=b"one\ntwo\n")
    assert text_of(tmp_path / "x.wav") == "one\ntwo\n"


async def test_two_voices_speak_at_once(tmp_path: Path) -> None:
    async with serving() as server:
        shown = await run(server.url, tmp_path, "two_voices.py", "--voices", "anna", "bert")
        voices = [m.voice for m in server.peers[0].received if isinstance(m, ContextOpen)]
    assert sorted(voices) == ["anna", "bert"]
    assert text_of(tmp_path / "question.wav").startswith("Who speaks first")
    assert text_of(tmp_path / "answer.wav").startswith("Both do.")
    assert "anna: 1020 ms of audio" in shown


def our_examples() -> list[str]:
    """Those of our own client; the others run with the SDK that their first line names."""
    files = sorted(EXAMPLES.glob("*.py"))
    return [file.name for file in files if not file.read_text("utf-8").startswith("# client:")]


@pytest.mark.parametrize("script", our_examples())
async def test_no_example_needs_more_than_the_client(script: str, tmp_path: Path) -> None:
    """A client is installed without the server and its numpy."""
    program = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('numpy', 'cosyduplex_server', 'grpc', 'starlette'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "import runpy\n"
        f"runpy.run_path({str(EXAMPLES / script)!r})\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await process.communicate()
    assert (process.returncode, stderr.decode()) == (0, "")
