"""`cosyduplex text`: one JSON object a line, as soon as it is certain, whatever the bytes are split into."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from text_corpus.corpus import cases, speak

START = "import sys\nfrom cosyduplex_server.cli import main\nsys.exit(main(sys.argv[1:]))"
COMMAND = [sys.executable, "-W", "error", "-c", START, "text"]


Finished = subprocess.CompletedProcess[bytes]


def run(*options: str | bytes, given: bytes = b"", code: str = START) -> Finished:
    command = [sys.executable, "-W", "error", "-c", code, "text", *options]
    return subprocess.run(command, input=given, capture_output=True, timeout=30)


def shown(*options: str, given: str | bytes = b"") -> list[dict[str, Any]]:
    """The lines of a run that went well."""
    result = run(*options, given=given.encode() if isinstance(given, str) else given)
    assert (result.returncode, result.stderr) == (0, b"")
    return [json.loads(line) for line in result.stdout.decode().splitlines()]


def spoken(*options: str, given: str | bytes = b"") -> list[str]:
    return [line["spoken"] for line in shown(*options, given=given)]


@contextmanager
def running(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command with a pipe at each end."""
    process = subprocess.Popen(
        [*COMMAND, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def write(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def next_line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line: dict[str, Any] = json.loads(process.stdout.readline())
    return line


def test_each_segment_is_a_line_with_its_place_in_the_text() -> None:
    text = "**Hello** 😀, world. Bye"
    assert shown(text) == [
        {"spoken": "Hello,", "source": "Hello** 😀,", "start": 2, "end": 12},
        {"spoken": "world.", "source": "world.", "start": 13, "end": 19},
        {"spoken": "Bye", "source": "Bye", "start": 20, "end": 23},
    ]


def test_the_words_of_the_command_line_are_one_text() -> None:
    assert spoken("Hello", "dear", "world") == ["Hello dear world"]


def test_standard_input_is_read_when_no_text_is_given() -> None:
    assert spoken(given="你好，世界。") == ["你好，", "世界。"]


def test_no_text_is_no_line() -> None:
    assert shown(given="") == []
    assert shown("") == []


def test_a_segment_is_shown_before_more_text_comes() -> None:
    with running() as process:
        write(process, "你好，世".encode())
        assert next_line(process)["spoken"] == "你好，"
        write(process, "界。".encode())
        assert next_line(process) == {"spoken": "世界。", "source": "世界。", "start": 3, "end": 6}
        write(process, b"Good bye")
        assert process.stdin is not None
        process.stdin.close()
        assert next_line(process)["spoken"] == "Good bye"
        assert process.wait(10) == 0


def test_a_character_in_two_reads_is_one_character() -> None:
    first, second = "好".encode()[:1], "好".encode()[1:]
    with running() as process:
        write(process, "你，".encode() + first)
        assert next_line(process)["spoken"] == "你，"
        write(process, second + "。".encode())
        assert next_line(process)["spoken"] == "好。"


@pytest.mark.parametrize("feed", ["1", "3", "1000"])
def test_pieces_of_any_size_show_the_same(feed: str) -> None:
    chosen = [case for case in cases() if not case.options][::40]
    text = "\n\n".join(case.source for case in chosen)
    text = text.replace("\r", "").replace("\x00", "")
    assert len(chosen) > 8
    assert shown("--feed", feed, given=text) == shown(given=text)


def test_the_command_shows_what_the_server_speaks() -> None:
    for case in [case for case in cases() if not case.options][::90]:
        lines = shown("--feed", "4", given=case.source)
        assert [(line["spoken"], line["start"], line["end"]) for line in lines] == [
            (segment.text, segment.source_start, segment.source_end) for segment in speak(case)
        ]
        assert all(line["source"] == case.source[line["start"] : line["end"]] for line in lines)


# --- Options


def test_numbers_are_read_unless_that_is_switched_off() -> None:
    assert spoken("I have 3.") == ["I have three."]
    assert spoken("--no-normalize", "I have 3.") == ["I have 3."]


def test_the_language_decides_where_the_text_does_not() -> None:
    assert spoken("--language", "en", "3") == ["three"]
    assert spoken("--language", "zh", "3") == ["三"]
    assert spoken("--language", "zh-CN", "3") == ["三"]


@pytest.mark.parametrize("language", ["xx", "fr", "chinese"])
def test_a_language_that_nothing_is_read_out_in_is_refused(language: str) -> None:
    result = run("--language", language, "3")
    assert (result.returncode, result.stdout) == (2, b"")
    (line,) = result.stderr.decode().splitlines()
    assert repr(language) in line
    assert all(known in line.split(": ")[-1] for known in ("zh", "en", "auto"))


def test_plain_text_keeps_its_signs() -> None:
    assert spoken("--markup", "plain", "**one** and `two`") == ["**one** and `two`"]


def test_code_is_skipped_or_announced() -> None:
    text = "Look.\n```python\nx = y\n```\nDone."
    assert spoken(given=text) == ["Look.", "Done."]
    assert spoken("--code", "announce", given=text) == ["Look.", "Code block in Python.", "Done."]


def test_tables_are_read_or_skipped() -> None:
    text = "Look.\n\n| a | b |\n|---|---|\n| c | d |\n\nDone."
    assert len(spoken(given=text)) > 2
    assert spoken("--tables", "skip", given=text) == ["Look.", "Done."]


def test_emoji_are_dropped_or_named() -> None:
    assert spoken("Nice 😀 day") == ["Nice day"]
    assert "grinning face" in " ".join(spoken("--emoji", "name", "Nice 😀 day"))


def test_words_are_pronounced_as_asked() -> None:
    options = ["--pronounce", "CosyVoice=cozy voice", "--pronounce", "nginx=engine x"]
    assert spoken(*options, "CosyVoice and nginx") == ["cozy voice and engine x"]


# --- What goes wrong


def test_bytes_that_are_no_utf8_are_silent() -> None:
    assert spoken(given=b"Good\xff \xc3day. \xe4\xbd") == ["Good day."]


def test_a_command_line_that_is_not_utf8_is_told() -> None:
    result = run(b"caf\xe9")
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == b"cosyduplex: the command line is not UTF-8\n"


@pytest.mark.parametrize(
    "options",
    [
        ("--feed", "0"),
        ("--feed", "x"),
        ("--markup", "rtf"),
        ("--pronounce", "no value"),
        ("--pronounce", "=x"),
    ],
)
def test_wrong_options_are_usage_errors(options: tuple[str, ...]) -> None:
    result = run(*options, "text")
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"Traceback" not in result.stderr


def test_a_reader_that_has_gone_ends_it_quietly() -> None:
    with running() as process:
        write(process, b"One. Two")
        assert next_line(process)["spoken"] == "One."
        assert process.stdout is not None
        process.stdout.close()
        write(process, b" three. Four. ")
        assert process.wait(10) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_ctrl_c_ends_it_quietly() -> None:
    with running() as process:
        write(process, b"One. Two")
        assert next_line(process)["spoken"] == "One."
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_standard_input_that_is_closed_is_told() -> None:
    closed = f"import os\nos.close(0)\n{START}"
    result = run(given=b"", code=closed)
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.startswith(b"cosyduplex: standard input cannot be read")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_is_told() -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run([*COMMAND, "text"], stdout=full, stderr=subprocess.PIPE, timeout=30)
    assert result.returncode == 1
    assert result.stderr == b"cosyduplex: the output cannot be written (No space left on device)\n"


def test_pieces_of_one_character_are_shown_while_the_pipe_is_open() -> None:
    with running("--feed", "1") as process:
        write(process, b"It is 3:30. The next")
        assert next_line(process) == {
            "spoken": "It is three thirty.",
            "source": "It is 3:30.",
            "start": 0,
            "end": 11,
        }
        write(process, "。".encode())
        assert next_line(process)["spoken"] == "The next。"


def test_control_characters_keep_their_place() -> None:
    assert shown(given=b"A\x00b.\x00 C\xff\xfed") == [
        {"spoken": "Ab.", "source": "A\x00b.", "start": 0, "end": 4},
        {"spoken": "Cd", "source": "C\ufffd\ufffdd", "start": 6, "end": 10},
    ]


def test_it_needs_neither_an_engine_nor_a_server() -> None:
    names = ("numpy", "torch", "grpc", "websockets", "starlette", "uvicorn", "yaml", "google")
    without = f"import sys\nsys.modules.update(dict.fromkeys({names!r}))\n{START}"
    result = run("It is 3:30.", code=without)
    assert (result.returncode, result.stderr) == (0, b"")
    assert json.loads(result.stdout)["start"] == 0
