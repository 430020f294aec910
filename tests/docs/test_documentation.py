"""What the documents say is what the code does: examples run, options exist, tables are complete."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cosyduplex import wire
from cosyduplex.errors import ERROR_KINDS, ErrorCode
from cosyduplex.messages import CLIENT_MESSAGES, SERVER_MESSAGES, AudioFrame, Limits
from cosyduplex.states import CLIENT, SERVER, ContextState
from cosyduplex_server import cli, http
from cosyduplex_server.config import DOORS, Config
from cosyduplex_server.metrics import Metrics

if TYPE_CHECKING:
    from conftest import ServerProcess

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
DEFAULT_ADDRESS = "127.0.0.1:8765"

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_blocks(path: Path, language: str = "[a-z]*") -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def prose_of(path: Path) -> str:
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def table_rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


# --- examples


def examples(language: str, *names: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{name} {number}")
        for name in names
        for number, block in enumerate(code_blocks(ROOT / name, language))
    ]


@pytest.mark.parametrize("program", examples("python", "README.md", "docs/client.md"))
def test_a_python_example_runs(program: str, voice_server: ServerProcess, tmp_path: Path) -> None:
    assert DEFAULT_ADDRESS in program
    here = program.replace(DEFAULT_ADDRESS, f"127.0.0.1:{voice_server.port}")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", here], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout or list(tmp_path.iterdir())
    assert all(seconds_of(file) > 1 for file in tmp_path.glob("*.wav"))


def seconds_of(file: Path) -> float:
    with wave.open(str(file)) as wav:
        return wav.getnframes() / wav.getframerate()


@pytest.mark.parametrize(
    "command", [line for line in "\n".join(code_blocks(READMES[0], "sh")).splitlines() if " --out " in line]
)
def test_a_command_that_writes_a_file_does_so(
    command: str, voice_server: ServerProcess, tmp_path: Path
) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["/bin/sh", "-ec", command.replace(DEFAULT_ADDRESS, f"127.0.0.1:{voice_server.port}")],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "COSYDUPLEX_URL": voice_server.url},
        check=True,
        timeout=50,
    )
    (file,) = tmp_path.glob("*.wav")
    assert seconds_of(file) > 1


def test_both_readmes_have_the_same_examples_and_endpoints() -> None:
    english, chinese = READMES
    assert code_blocks(english) == code_blocks(chinese)
    endpoint = r"`(?:GET|POST|WS) /[^`]*`"
    assert re.findall(endpoint, text_of("README.md")) == re.findall(endpoint, text_of("README.zh-CN.md"))


@pytest.mark.parametrize("path", [READMES[0], ROOT / "docs/protocol.md"], ids=lambda path: path.name)
def test_a_transcript_holds_messages_of_the_protocol(path: Path) -> None:
    known = {"→": CLIENT_MESSAGES, ">": CLIENT_MESSAGES, "←": SERVER_MESSAGES, "<": SERVER_MESSAGES}
    lines = re.findall(r'^([→←<>]) (\{"type":"([a-z.]+)".*)$', path.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) > 8
    for side, message, name in lines:
        assert name in {cls.type for cls in known[side]}
        if "…" in message:
            continue
        if known[side] is CLIENT_MESSAGES:
            wire.decode_client_message(message)
        else:
            wire.decode_server_message(message)


def test_the_frames_of_the_transcript_are_frames_of_the_protocol() -> None:
    frames = [
        wire.decode_frame(bytes.fromhex(header + start))
        for header, start in re.findall(
            r"^< \(binary\) ([0-9a-f]{24}) ([0-9a-f]+)…$", text_of("README.md"), re.M
        )
    ]
    assert [(frame.first, frame.last) for frame in frames] == [(True, False), (False, False), (False, True)]
    assert [frame.seq for frame in frames[:2]] == [1, 2]
    assert frames[1].pts == 480


def test_the_frame_of_the_specification_has_those_bytes() -> None:
    (fields,) = re.findall(r"`((?:[0-9a-f]+ ){4}[0-9a-f]+)`", text_of("docs/protocol.md"))
    frame = AudioFrame(context_index=0, seq=1, pts=0, payload=b"", first=True)
    assert wire.encode_frame(frame) == bytes.fromhex(fields)


# --- names


def all_parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from all_parsers(command)


@page
def test_every_option_that_is_named_exists(page: Path) -> None:
    known = {option for parser in all_parsers(cli._parser()) for option in parser._option_string_actions}
    worker = {"--exit-with-stdin"}  # of engine workers, which are programs of their own
    worker |= {"--seconds"}  # of the benchmarks
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page.read_text(encoding="utf-8")))
    assert named - known - worker == set()


@page
def test_every_command_that_is_named_exists(page: Path) -> None:
    commands = {name for parser in all_parsers(cli._parser()) for name in _commands_of(parser)}
    blocks = "\n".join([*code_blocks(page, "sh"), *re.findall(r"`(cosyduplex [^`]*)`", page.read_text())])
    assert set(re.findall(r"\bcosyduplex ([a-z]+)", blocks)) - commands == set()


def _commands_of(parser: argparse.ArgumentParser) -> set[str]:
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name for action in actions for name in action.choices}


@page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(file), f"{target}: no such heading"


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_decisions_are_all_listed() -> None:
    index = text_of("docs/decisions/README.md")
    for file in ROOT.glob("docs/decisions/0*.md"):
        assert f"({file.name})" in index
        text = file.read_text(encoding="utf-8")
        for part in ("**Context.**", "**Decision.**", "**Consequences.**", "**Considered.**"):
            assert part in text, f"{file.name} lacks {part}"


# --- the specification


def test_every_message_and_field_is_specified() -> None:
    code = " ".join(re.findall(r"`([^`]+)`", prose_of(ROOT / "docs/protocol.md")))
    words = set(re.findall(r"[a-z_]+", code))
    for cls in (*CLIENT_MESSAGES, *SERVER_MESSAGES):
        assert cls.type in code
        assert {field.name for field in dataclasses.fields(cls)} <= words, cls.type


def test_every_error_code_is_specified_with_its_status() -> None:
    rows = {row[0]: row[2:] for row in table_rows(text_of("docs/protocol.md")) if len(row) == 4}
    for code in ErrorCode:
        kind = ERROR_KINDS[code]
        assert rows[f"`{code}`"] == ["yes" if kind.retryable else "no", str(kind.http_status)], code


def test_every_limit_is_specified_with_its_default() -> None:
    rows = {row[0]: row[1] for row in table_rows(text_of("docs/protocol.md")) if len(row) == 3}
    for field in dataclasses.fields(Limits):
        assert re.match(rf"{field.default}\b", rows[f"`{field.name}`"]), field.name


def test_the_tables_of_the_specification_are_those_of_the_code() -> None:
    tables = list(table_rows(text_of("docs/protocol.md")))
    (columns,) = [row[1:] for row in tables if row[:2] == ["", "`context.open`"]]
    client = {row[0]: row[1:] for row in tables if len(row) == 6}
    server = {row[0]: row[1] for row in tables if len(row) == 2}
    for state in ContextState:
        allowed = {f"`{message.type}`": f"→ {after.name}" for message, after in CLIENT.get(state, {}).items()}
        cells = zip(columns, client.get(state.name, [""] * len(columns)), strict=True)
        assert {message: after for message, after in cells if after} == allowed
    for state, messages in SERVER.items():
        for message, after in messages.items():
            name = "audio" if message is AudioFrame else f"`{message.type}`"
            assert re.search(rf"{re.escape(name)}[^;]*→ {after.name}", server[state.name]), (state, name)


# --- configuration


def test_every_option_of_the_server_is_described_with_its_default() -> None:
    rows = {
        match[1]: row[1]
        for row in table_rows(text_of("docs/configuration.md"))
        if len(row) == 3 and (match := re.match(r"`--([a-z-]+)(?: [^`]*)?`$", row[0]))
    }
    fields = {field.name.replace("_", "-"): field.default for field in dataclasses.fields(Config)}
    defaults = {
        name: "–" if default in (None, ()) or default is False else f"`{default}`"
        for name, default in fields.items()
    }
    assert rows == defaults


def test_every_door_that_can_be_opened_is_named() -> None:
    (row,) = [
        row for row in table_rows(text_of("docs/configuration.md")) if row[0].startswith("`--open-door")
    ]
    assert set(re.findall(r"`([a-z]+)`", row[2])) == set(DOORS)


def test_every_route_is_listed() -> None:
    listed = set(re.findall(r"`(?:GET|POST) (/[^`]*)`", text_of("README.md")))
    assert listed == {door.operation.path for door in http.DOORS}


def test_every_metric_is_described() -> None:
    text = text_of("docs/configuration.md")
    for metric in Metrics().registry.collect():
        if metric.name.startswith("process_"):  # the Prometheus client's own
            continue
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        assert re.search(rf"`{name}[{{`]", text), name
