"""`cosyduplex say`: text in as it arrives, speech out to a file, to standard output or to the loudspeaker."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from cosyduplex.client import DEFAULT_URL, ContextError, CosyDuplexError, ServerError, Session, connect
from cosyduplex.containers import OggOpusWriter, WavWriter
from cosyduplex.messages import (
    AudioFrame,
    AudioOptions,
    ContextDone,
    Error,
    Marks,
    NegotiatedAudio,
    SpeechOptions,
    Warning,
)

LocalServer = Callable[[], AbstractAsyncContextManager[str]]

_READ_BYTES = 1 << 16
_PACED_MS, _UNPACED_MS = 3000, 0
_WAV, _OPUS = (".wav",), (".opus", ".ogg")


@dataclass(frozen=True, slots=True, kw_only=True)
class SayOptions:
    """What to say, and how.

    Attributes:
        text: what to say; None for standard input.
        out: a `.wav` or `.opus` file, `-` for raw samples on standard output, None for the loudspeaker.
        url: the server; None for one in this process.
        api_key: its key.
        voice: who speaks.
        language: of the text.
        speed: 1 = as trained.
        pitch: in semitones.
        volume: as gain.
        sample_rate: of the audio, in Hz.
        marks: print each word with its time, one JSON object a line.
        verbose: say how long it took even where standard error is no terminal.
    """

    text: str | None = None
    out: str | None = None
    url: str | None = None
    api_key: str | None = None
    voice: str | None = None
    language: str | None = None
    speed: float | None = None
    pitch: float | None = None
    volume: float | None = None
    sample_rate: int | None = None
    marks: bool = False
    verbose: bool = False


class SayError(ServerError):
    """What goes wrong on this side; `exit_code` is 2 for wrong usage, else 1."""

    exit_code = 1


class SayUsageError(SayError):
    """The options do not fit together."""

    exit_code = 2


async def say(
    options: SayOptions,
    *,
    local_server: LocalServer | None = None,
    stdin_fd: int = 0,
    stdout_fd: int = 1,
    stderr: TextIO | None = None,
) -> int:
    """Speaks and returns the exit code: 0, 1 = it failed, 2 = the options are wrong.

    What goes wrong is one line on standard error; a reader of standard output that has gone is none. When it
    is cancelled, as by Ctrl-C, the server stops and the file holds what was heard.

    Args:
        options: What to say, and how.
        local_server: Starts a server in this process and yields its URL; used when `options.url` is None.
        stdin_fd: Where the text comes from when `options.text` is None.
        stdout_fd: Where raw samples and marks go.
        stderr: Where errors and the summary go; standard error by default.
    """
    stderr = stderr or sys.stderr
    try:
        sink = _choose_sink(options, stdout_fd)
    except SayError as exc:
        print(exc, file=stderr)
        return exc.exit_code
    text = _TimedText(_read_text(stdin_fd) if options.text is None else [options.text])
    async with _server(options.url, local_server) as url:
        try:
            done = await _say_to(url, options, sink, text, stdout_fd, stderr)
        except BrokenPipeError:
            return 1
        except CosyDuplexError as exc:
            print(exc, file=stderr)
            return exc.exit_code if isinstance(exc, SayError) else 1
    if options.verbose or stderr.isatty():
        print(text.summary(done, sink.name), file=stderr)
    return 0


def _server(url: str | None, local_server: LocalServer | None) -> AbstractAsyncContextManager[str]:
    if url is None and local_server is not None:
        return local_server()
    return contextlib.nullcontext(url or DEFAULT_URL)


async def _say_to(
    url: str, options: SayOptions, sink: Sink, text: _TimedText, stdout_fd: int, stderr: TextIO
) -> ContextDone:
    async with contextlib.AsyncExitStack() as stack:
        session = await _open_session(options, url, sink, stack)
        await stack.enter_async_context(sink.opened(session.started.audio))
        done = await _speak(session, sink, text, stdout_fd, stderr)
        await sink.finish(done)
    return done


async def _open_session(
    options: SayOptions, url: str, sink: Sink, stack: contextlib.AsyncExitStack
) -> Session:
    connection = connect(
        url,
        voice=options.voice,
        language=options.language,
        audio=AudioOptions(encoding=sink.encoding, sample_rate=options.sample_rate),
        speech=SpeechOptions(speed=options.speed, pitch=options.pitch, volume=options.volume),
        max_ahead_ms=sink.max_ahead_ms,
        marks=options.marks,
        api_key=options.api_key,
    )
    try:
        return await stack.enter_async_context(connection)
    except ValueError as exc:  # a wish is outside its limits
        raise SayUsageError("bad_request", str(exc)) from exc


async def _speak(
    session: Session, sink: Sink, text: _TimedText, stdout_fd: int, stderr: TextIO
) -> ContextDone:
    context = session.context()
    async with contextlib.aclosing(context.speak(text)) as events:
        async for event in events:
            match event:
                case AudioFrame():
                    text.note_audio()
                    if event.payload:
                        await sink.write(event.payload)
                case Marks():
                    await _write_all(stdout_fd, _mark_lines(event))
                case Warning():
                    print(f"warning: {event.code}: {event.message}", file=stderr)
                case Error():
                    raise ContextError.from_message(event)
    assert isinstance(context.result, ContextDone)
    return context.result


def _mark_lines(marks: Marks) -> bytes:
    lines = (
        json.dumps({**dataclasses.asdict(word), "exact": marks.exact}, ensure_ascii=False) + "\n"
        for word in marks.words
    )
    # The escape of a lone surrogate is JSON's own.
    return "".join(lines).encode("utf-8", "backslashreplace")


# --- text --------------------------------------------------------------------------------------------


def _read_text(fd: int) -> Iterator[str]:
    """Yields what a terminal, a pipe or a file holds, as it arrives, whatever the bytes are split into."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        while data := os.read(fd, _READ_BYTES):
            yield decoder.decode(data)
    except OSError as exc:
        raise SayError("bad_request", f"standard input cannot be read ({exc.strerror})") from exc
    yield decoder.decode(b"", final=True)


class _TimedText:
    """The text, and when it came against when it was heard; iterated in a thread, since reading blocks."""

    def __init__(self, text: Iterable[str]) -> None:
        self._text = text
        self._first_text_s: float | None = None
        self._last_text_s = 0.0
        self._first_audio_s: float | None = None

    def __iter__(self) -> Iterator[str]:
        for piece in self._text:
            if piece:
                self._last_text_s = time.monotonic()
                if self._first_text_s is None:
                    self._first_text_s = self._last_text_s
            yield piece

    def note_audio(self) -> None:
        """Some audio has come."""
        if self._first_audio_s is None:
            self._first_audio_s = time.monotonic()

    def summary(self, done: ContextDone, name: str) -> str:
        """One line about how it went."""
        parts = []
        if self._first_audio_s is not None and self._first_text_s is not None:
            early = ", before the last text" if self._first_audio_s < self._last_text_s else ""
            parts.append(f"first audio after {self._first_audio_s - self._first_text_s:.2f} s{early}")
        return " · ".join([*parts, f"{done.audio_ms / 1000:.1f} s of audio", name])


# --- where the audio goes ----------------------------------------------------------------------------


class Sink(Protocol):
    """Takes the audio of one context."""

    name: str
    encoding: str
    max_ahead_ms: int

    def opened(self, audio: NegotiatedAudio) -> AbstractAsyncContextManager[None]:
        """Takes audio inside the block; what was taken is complete after it, however it is left."""

    async def write(self, payload: bytes) -> None:
        """Takes one frame."""

    async def finish(self, done: ContextDone) -> None:
        """Is told that all has been written; waits until it has been heard, where somebody listens."""


def _choose_sink(options: SayOptions, stdout_fd: int) -> Sink:
    if options.out is None:
        return _LoudspeakerSink(_find_player())
    if options.out == "-":
        if options.marks:
            raise SayUsageError(
                "bad_request", "samples and marks cannot share standard output", "Give --out a file."
            )
        return _PcmSink(stdout_fd)
    suffix = Path(options.out).suffix.lower()
    if suffix not in _WAV + _OPUS:
        raise SayUsageError(
            "unsupported_format",
            f"{options.out} is neither a .wav nor an .opus file",
            "Name it so, or use --out - for raw samples.",
        )
    return _FileSink(options.out, is_opus=suffix in _OPUS)


class _FileSink:
    """A WAV or Ogg Opus file, playable at any moment."""

    max_ahead_ms = _UNPACED_MS

    def __init__(self, path: str, *, is_opus: bool) -> None:
        self.name = path
        self.encoding = "opus" if is_opus else "pcm_s16le"

    @contextlib.asynccontextmanager
    async def opened(self, audio: NegotiatedAudio) -> AsyncIterator[None]:
        self._sample_rate_hz = audio.sample_rate
        self._total_samples: int | None = None
        with self._explained():
            self._file = open(self.name, "wb")  # noqa: ASYNC230, SIM115 (closed below)
        self._writer = self._begin(audio)
        try:
            yield
        finally:
            with self._explained(), self._file:
                self._complete()

    def _begin(self, audio: NegotiatedAudio) -> WavWriter | OggOpusWriter:
        if self.encoding == "opus":
            return OggOpusWriter(self._file, audio.sample_rate, audio.pre_skip or 0)
        return WavWriter(self._file, audio.sample_rate)

    async def write(self, payload: bytes) -> None:
        with self._explained():
            self._writer.write(payload)

    async def finish(self, done: ContextDone) -> None:
        self._total_samples = done.audio_ms * self._sample_rate_hz // 1000

    def _complete(self) -> None:
        if isinstance(self._writer, OggOpusWriter):
            self._writer.close(self._total_samples)
        else:
            self._writer.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise SayError("cannot_write", f"{self.name} cannot be written ({exc.strerror})") from exc


class _PcmSink:
    """Raw mono s16le samples on standard output."""

    name = "standard output"
    encoding = "pcm_s16le"
    max_ahead_ms = _UNPACED_MS

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @contextlib.asynccontextmanager
    async def opened(self, audio: NegotiatedAudio) -> AsyncIterator[None]:
        yield

    async def write(self, payload: bytes) -> None:
        await _write_all(self._fd, payload)

    async def finish(self, done: ContextDone) -> None:
        pass


async def _write_all(fd: int, data: bytes) -> None:
    """Writes to what may block for as long as its reader likes."""

    def write() -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]

    await asyncio.to_thread(write)


# Each plays raw mono s16le samples from its standard input. paplay comes first: it works with PipeWire too,
# while older releases of pw-cat cannot read raw samples.
_PLAYERS = {
    "paplay": "--raw --format=s16le --channels=1 --rate={rate}",
    "pw-cat": "--playback --raw --format=s16 --channels=1 --rate={rate} -",
    "aplay": "-q -t raw -f S16_LE -c 1 -r {rate} -",
    "ffplay": "-loglevel error -nodisp -autoexit -f s16le -sample_rate {rate} -i -",
    "play": "-q -t raw -e signed-integer -b 16 -L -c 1 -r {rate} -",
}
_ALTERNATIVE = "Write a file with --out FILE.wav."


def _find_player() -> str:
    for name in _PLAYERS:
        if shutil.which(name) is not None:
            return name
    names = ", ".join(_PLAYERS)
    raise SayUsageError("no_loudspeaker", f"no program to play sound is installed ({names})", _ALTERNATIVE)


class _LoudspeakerSink:
    """The loudspeaker, by a program that plays samples from its standard input."""

    name = "loudspeaker"
    encoding = "pcm_s16le"
    max_ahead_ms = _PACED_MS

    def __init__(self, player: str) -> None:
        self._player = player

    @contextlib.asynccontextmanager
    async def opened(self, audio: NegotiatedAudio) -> AsyncIterator[None]:
        arguments = _PLAYERS[self._player].format(rate=audio.sample_rate).split()
        with tempfile.TemporaryFile() as complaints:
            self._complaints = complaints
            self._process = await asyncio.create_subprocess_exec(
                self._player,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=complaints,
                start_new_session=True,  # Ctrl-C is for us: we stop it ourselves
            )
            try:
                yield
            finally:
                if self._process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        self._process.kill()
                    await self._process.wait()

    async def write(self, payload: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(payload)
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            await self._process.wait()
            raise self._failure() from None

    async def finish(self, done: ContextDone) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        if await self._process.wait() != 0:
            raise self._failure()

    def _failure(self) -> SayError:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no reason given")
        return SayError("no_loudspeaker", f"{self._player} failed ({last})", _ALTERNATIVE)
