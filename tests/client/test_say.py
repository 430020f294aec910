"""`cosyduplex say`: text as it arrives, to a file, standard output or the loudspeaker."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from client.scripted_server import FRAME_SAMPLES, Peer, heard, refusal, serving

from cosyduplex.messages import (
    ContextCancel,
    ContextOpen,
    ErrorCode,
    Marks,
    NegotiatedAudio,
    SpeechOptions,
    TextAppend,
    TextEnd,
    Warning,
    WordMark,
)
from cosyduplex_server.say import SayOptions, say

WAV_HEADER_BYTES = 44


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end; either may be closed by the test."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def wav_text(path: Path) -> str:
    data = path.read_bytes()
    assert data[:4] == b"RIFF"
    assert struct.unpack_from("<I", data, 40) == (len(data) - WAV_HEADER_BYTES,)
    return heard(data[WAV_HEADER_BYTES:])


async def run(server, stdin_fd: int = 0, stdout_fd: int = 1, **options) -> tuple[int, str]:
    stderr = io.StringIO()
    code = await say(
        SayOptions(url=server.url, **options), stdin_fd=stdin_fd, stdout_fd=stdout_fd, stderr=stderr
    )
    return code, stderr.getvalue()


async def test_a_text_becomes_a_wav_file_as_fast_as_it_is_made(tmp_path: Path) -> None:
    out = tmp_path / "x.wav"
    async with serving() as server:
        assert await run(
            server, text="abc", out=str(out), voice="anna", language="en", speed=1.5, sample_rate=24000
        ) == (0, "")
        start = server.peers[0].received[0]
    assert wav_text(out) == "abc"
    assert (start.voice, start.language, start.speech) == ("anna", "en", SpeechOptions(speed=1.5))
    assert (start.flow.max_ahead_ms, start.audio.sample_rate) == (0, 24000)


async def test_standard_input_is_spoken_while_it_is_written(pipe) -> None:
    """The rest of a character that was cut, and of the text, come after the first audio."""
    reading, writing = pipe
    heard_from, stdout = os.pipe()
    text = "Hé 世界".encode()
    async with serving() as server:
        saying = asyncio.create_task(run(server, reading, stdout, out="-", verbose=True))
        os.write(writing, text[:2])
        spoken = await asyncio.to_thread(os.read, heard_from, 1 << 16)
        assert heard(spoken) == "H"
        os.write(writing, text[2:])
        os.close(writing)
        code, line = await saying
    os.close(stdout)
    with open(heard_from, "rb") as rest:
        assert heard(rest.read()) == "é 世界"
    assert code == 0
    assert line.startswith("first audio after 0.")
    assert line.endswith(" s, before the last text · 0.1 s of audio · standard output\n")


async def test_a_regular_file_is_read_and_what_is_not_utf8_is_replaced(tmp_path: Path) -> None:
    source, out = tmp_path / "text", tmp_path / "x.wav"
    source.write_bytes(b"a\xffb\xe4")
    async with serving() as server:
        with source.open("rb") as file:
            assert await run(server, file.fileno(), out=str(out)) == (0, "")
    assert wav_text(out) == "a\ufffdb\ufffd"


async def test_a_terminal_is_read_until_its_end(tmp_path: Path) -> None:
    master, terminal = os.openpty()
    out = tmp_path / "x.wav"
    async with serving() as server:
        os.write(master, b"ab\n\x04")
        assert await run(server, terminal, out=str(out)) == (0, "")
    os.close(master)
    os.close(terminal)
    assert wav_text(out) == "ab\n"


async def test_no_text_is_an_empty_file(tmp_path: Path, pipe) -> None:
    os.close(pipe[1])
    out = tmp_path / "x.wav"
    async with serving() as server:
        assert await run(server, pipe[0], out=str(out)) == (0, "")
    assert wav_text(out) == ""


async def test_an_opus_file_ends_where_the_audio_does(tmp_path: Path) -> None:
    packet = bytes([0b0000_1000, 1, 2, 3])  # 20 ms of silk, one frame

    async def opus(peer: Peer) -> None:
        await peer.begin(
            NegotiatedAudio(
                encoding="opus", sample_rate=24000, frame_ms=20, profile="speech", bitrate=48000, pre_skip=156
            )
        )
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        for number in range(3):
            await peer.socket.send(peer.core.send_frame(0, number * FRAME_SAMPLES, packet, last=number == 2))
        await peer.expect(TextEnd)
        await peer.done("context-1", 0, frames=2)
        await peer.until_end()
        await peer.end()

    out = tmp_path / "x.opus"
    async with serving(opus) as server:
        assert await run(server, text="abc", out=str(out)) == (0, "")
        assert server.peers[0].received[0].audio.encoding == "opus"
    data = out.read_bytes()
    last_page = data[data.rindex(b"OggS") :]
    (granule,) = struct.unpack_from("<q", last_page, 6)
    assert data.count(packet) == 3
    assert granule == (156 + 40 * 24) * 2


async def test_raw_samples_go_to_standard_output(pipe) -> None:
    async with serving() as server:
        assert await run(server, stdout_fd=pipe[1], text="abc", out="-") == (0, "")
    assert heard(os.read(pipe[0], 1 << 16)) == "abc"


async def test_a_reader_that_has_gone_is_no_error_line(pipe) -> None:
    os.close(pipe[0])
    async with serving() as server:
        assert await run(server, stdout_fd=pipe[1], text="abc", out="-") == (1, "")


async def test_marks_are_json_lines_and_warnings_are_told(tmp_path: Path, pipe) -> None:
    words = tuple(
        WordMark(text=text, start_ms=n, end_ms=n + 1, char_start=n, char_end=n + 1)
        for n, text in enumerate(["世", "\udc80"])
    )

    async def marking(peer: Peer) -> None:
        assert (await peer.begin()).marks
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        await peer.send(Marks(context_id="context-1", context_index=0, words=words, exact=True))
        await peer.send(
            Warning(code=ErrorCode.UNSUPPORTED_PARAMETER, message="no pitch here", context_id="context-1")
        )
        await peer.expect(TextEnd)
        await peer.done("context-1", 0)
        await peer.until_end()
        await peer.end()

    async with serving(marking) as server:
        code, line = await run(
            server, stdout_fd=pipe[1], text="世\udc80", out=str(tmp_path / "x.wav"), marks=True
        )
    assert (code, line) == (0, "warning: unsupported_parameter: no pitch here\n")
    lines = [json.loads(line) for line in os.read(pipe[0], 1 << 16).splitlines()]
    assert lines == [
        {"text": "世", "start_ms": 0, "end_ms": 1, "char_start": 0, "char_end": 1, "exact": True},
        {"text": "\udc80", "start_ms": 1, "end_ms": 2, "char_start": 1, "char_end": 2, "exact": True},
    ]


async def test_an_interrupt_cancels_the_context_and_leaves_a_playable_file(tmp_path: Path, pipe) -> None:
    reading, writing = pipe
    out = tmp_path / "x.wav"
    async with serving() as server:
        saying = asyncio.create_task(run(server, reading, out=str(out)))
        os.write(writing, b"abc")
        while not (out.exists() and out.stat().st_size):
            os.write(writing, b"x" * 20)  # more than a buffer of audio
            await asyncio.sleep(0.001)
        saying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saying
        assert any(isinstance(m, ContextCancel) for m in server.peers[0].received)
    assert wav_text(out).startswith("abcxxx")


# --- what goes wrong


async def test_an_error_is_one_line(tmp_path: Path) -> None:
    async def full(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.speak(0, "ab")
        await peer.fail("context", context_id="context-1", index=0)
        await peer.until_end()
        await peer.end()

    out = tmp_path / "x.wav"
    async with serving(full) as server:
        code, line = await run(server, text="abc", out=str(out))
    assert (code, line) == (1, "over_capacity: too much is spoken — Wait.\n")
    assert wav_text(out) == "ab"


async def test_a_refusal_touches_neither_the_text_nor_the_file(tmp_path: Path, pipe) -> None:
    out = tmp_path / "x.wav"
    out.write_text("precious")
    os.write(pipe[1], b"text")
    async with serving() as server:
        server.refusal = refusal(401, "unauthorized", "no key", "Send one.")
        assert await run(server, pipe[0], out=str(out), api_key="k") == (
            1,
            "unauthorized: no key — Send one.\n",
        )
        assert server.headers["Authorization"] == "Bearer k"
    assert out.read_text() == "precious"
    assert os.read(pipe[0], 10) == b"text"


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        ({"out": "x.mp3"}, 2, "unsupported_format: x.mp3 is neither a .wav nor an .opus file"),
        ({"out": "-", "marks": True}, 2, "bad_request: samples and marks cannot share standard output"),
        ({"out": "x.wav", "speed": 9}, 2, "bad_request: session.start: speech.speed must be from 0.5 to 2"),
        ({"out": "/nowhere/x.wav"}, 1, "cannot_write: /nowhere/x.wav cannot be written (No such file"),
    ],
)
async def test_wrong_options_are_told_in_one_line(options, code: int, line: str) -> None:
    async with serving() as server:
        got, error = await run(server, text="a", **options)
    assert got == code
    assert error.startswith(line)
    assert error.count("\n") == 1


async def test_standard_input_that_cannot_be_read_is_told(tmp_path: Path, pipe) -> None:
    async with serving() as server:
        code, line = await run(server, pipe[1], out=str(tmp_path / "x.wav"))
    assert (code, line) == (1, "bad_request: standard input cannot be read (Bad file descriptor)\n")


async def test_without_a_url_a_server_is_started_for_the_moment(tmp_path: Path) -> None:
    is_stopped = False
    out = tmp_path / "x.wav"

    @contextlib.asynccontextmanager
    async def local_server():
        nonlocal is_stopped
        async with serving() as server:
            yield server.url
        is_stopped = True

    assert await say(SayOptions(text="abc", out=str(out)), local_server=local_server) == 0
    assert wav_text(out) == "abc"
    assert is_stopped
    stderr = io.StringIO()
    code = await say(SayOptions(text="abc", out=str(out), speed=9), local_server=local_server, stderr=stderr)
    assert (code, stderr.getvalue().count("\n")) == (2, 1)


# --- the loudspeaker


@pytest.fixture
def players(tmp_path: Path, monkeypatch) -> Path:
    """A folder that is all of PATH; programs are put into it by `install`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder: Path, name: str, program: str) -> None:
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{program}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


PLAY = (
    "open(os.environ['PLAYED'], 'wb').write(repr(sys.argv[1:]).encode() + b'\\n' + sys.stdin.buffer.read())"
)


@pytest.mark.parametrize("player", ["paplay", "pw-cat", "aplay", "ffplay", "play"])
async def test_the_loudspeaker_gets_the_samples_at_the_rate_of_the_session(
    player: str, players: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("PLAYED", str(tmp_path / "played"))
    install(players, player, PLAY)
    async with serving() as server:
        assert await run(server, text="abc") == (0, "")
        assert server.peers[0].received[0].flow.max_ahead_ms == 3000
    arguments, _, samples = (tmp_path / "played").read_bytes().partition(b"\n")
    assert b"24000" in arguments
    assert heard(samples) == "abc"


async def test_no_player_is_told_before_any_text_is_read(players: Path, pipe) -> None:
    os.write(pipe[1], b"text")
    async with serving() as server:
        code, line = await run(server, pipe[0])
        assert server.peers == []
    assert code == 2
    assert line.startswith("no_loudspeaker: no program to play sound is installed (paplay, pw-cat, aplay")
    assert line.endswith("Write a file with --out FILE.wav.\n")
    assert os.read(pipe[0], 10) == b"text"


@pytest.mark.parametrize(
    "program",
    ["sys.exit('ALSA\\nno such device\\n')", "sys.stdin.buffer.read(); sys.exit('ALSA\\nno such device\\n')"],
)
async def test_a_player_that_fails_is_told_with_its_own_words(program: str, players: Path) -> None:
    install(players, "aplay", program)
    async with serving() as server:
        code, line = await run(server, text="abc" * 1000)
    assert (code, line) == (
        1,
        "no_loudspeaker: aplay failed (no such device) — Write a file with --out FILE.wav.\n",
    )


async def test_an_interrupt_silences_the_player(players: Path, tmp_path: Path, monkeypatch, pipe) -> None:
    monkeypatch.setenv("PLAYED", str(tmp_path / "played"))
    install(players, "aplay", "open(os.environ['PLAYED'], 'w').write(str(os.getpid())); time.sleep(60)")
    async with serving() as server:
        saying = asyncio.create_task(run(server, pipe[0]))
        while not ((tmp_path / "played").exists() and (tmp_path / "played").read_text()):
            await asyncio.sleep(0.01)
        saying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saying
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "played").read_text()), 0)
