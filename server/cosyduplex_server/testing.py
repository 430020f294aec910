"""Stand-ins for tests, shipped with the server: an engine that follows a script, and a clock moved by hand.

`FakeEngine` is a whole engine behind the real link: run it in the test's own process with
`cosyduplex_server.engine.worker.WorkerServer(FakeEngine(FakeScript(…)))`, or as a process of its own with

    python -m cosyduplex_server.testing --listen unix:/tmp/fake.sock --script '{"ms_per_char": 40}'

Its audio is known beforehand to the sample, so a test can say exactly what must arrive. `WorkerStream` drives
one context of any worker over the link, without a gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import heapq
import itertools
import json
import os
import re
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import grpc
import numpy as np
from numpy.typing import NDArray

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.link import worker_pb2_grpc as link_grpc
from cosyduplex_server.engine.outbox import FinishPoint, FlushPoint, Outbox, Segment, SegmentQueue
from cosyduplex_server.engine.worker import EngineUnavailable
from cosyduplex_server.engine.worker_process import run_worker
from cosyduplex_server.errors import Failure

CRASH_EXIT_CODE: Final = 70

# A word is a Chinese character or whatever else stands between blanks.
_WORD: Final = re.compile(r"[㐀-鿿豈-﫿\U00020000-\U000323af]|[^\s㐀-鿿豈-﫿\U00020000-\U000323af]+")


@dataclass(frozen=True, slots=True)
class FakeScript:
    """How a `FakeEngine` behaves.

    Attributes:
        first_audio_ms: from a context's first segment to its first audio.
        realtime_factor: seconds of work per second of audio; 0 makes all of it at once.
        ms_per_char: each character of a segment, whatever it is, sounds this long.
        chunk_ms: the length of an audio chunk.
        sample_rate_hz: of the audio.
        signal: "tone": a sine of `tone_hz(n)` for the n-th context, counted from 0 in this process;
            "counter": sample i has the value i modulo 32768, so that a lost or doubled sample shows.
        slots: contexts at a time.
        text_streaming: it speaks the parts of a segment as they come, and does not wait for its end.
        voices: the ids it answers to; the first is the default.
        max_ahead_ms: it rests while this much audio waits to be sent.
        fail_after_ms: a context of which this much audio has been sent ends with `engine_failed`.
        crash_after_ms: … ends this process, with `CRASH_EXIT_CODE`.
        stall_after_ms: … says nothing more.
        model: what it says its model is.
        clones: it makes voices of recordings. One of it sounds as its recording decides, whatever the
            signal: a sine of `cloned_tone_hz(recording)`.
        clone_ms: making one from a recording takes this long.
        features: the kind of features it makes, and the only one it takes back.
        refuse_voice: no recording is good enough; this is the error code.
        voice_log: a file that gets one line of JSON for each voice added or removed.
        open_log: a file that gets one line of JSON for each context: how it is to be spoken.
        parameters: the speech options that it says it knows; none of them changes the tone.
        refuse_open: every context is refused with this error code.
        refuse_start: the engine does not start, with this message.
    """

    first_audio_ms: float = 0.0
    realtime_factor: float = 0.0
    ms_per_char: float = 60.0
    chunk_ms: float = 100.0
    sample_rate_hz: int = 24000
    signal: Literal["tone", "counter"] = "tone"
    slots: int = 8
    text_streaming: bool = False
    voices: tuple[str, ...] = ("fake",)
    max_ahead_ms: float = 10_000.0
    fail_after_ms: float | None = None
    crash_after_ms: float | None = None
    stall_after_ms: float | None = None
    model: str = "script"
    clones: bool = False
    clone_ms: float = 0.0
    features: str = "A"
    refuse_voice: str | None = None
    voice_log: str | None = None
    open_log: str | None = None
    parameters: tuple[str, ...] = ()
    refuse_open: str | None = None
    refuse_start: str | None = None

    @classmethod
    def from_json(cls, text: str) -> FakeScript:
        """The script written as a JSON object of its fields.

        Raises:
            ValueError: not an object, or a field that does not exist.
        """
        fields = json.loads(text)
        if not isinstance(fields, dict) or not fields.keys() <= {
            field.name for field in dataclasses.fields(cls)
        }:
            raise ValueError("the script must be an object of FakeScript's fields")
        for name in ("voices", "parameters"):
            if name in fields:
                fields[name] = tuple(fields[name])
        return cls(**fields)

    def samples(self, ms: float) -> int:
        """`ms` in samples."""
        return round(ms * self.sample_rate_hz / 1000)


def tone_hz(ordinal: int) -> float:
    """The frequency of the `ordinal`-th context's tone: 20 different ones, 40 Hz apart."""
    return 300.0 + 40.0 * (ordinal % 20)


def cloned_tone_hz(wav: bytes) -> float:
    """The frequency of the voice made of a recording: 40 different ones, 20 Hz apart, none of `tone_hz`."""
    return 1200.0 + 20.0 * (zlib.crc32(wav) % 40)


class FakeEngine:
    """An engine that follows a script. Time is the event loop's.

    Attributes:
        appends: the text that all contexts were given, in the order in which it came.
    """

    def __init__(self, script: FakeScript) -> None:
        self.script = script
        self._clones: dict[str, float] = {}
        self._ordinals = itertools.count()
        self.appends: list[link.Append] = []
        self._description = link.Description(
            engine="fake",
            engine_version="1",
            model=script.model,
            device="cpu",
            sample_rate_hz=script.sample_rate_hz,
            voices=[link.Voice(id=voice, name=voice, language="en") for voice in script.voices],
            exact_marks=True,
            parameters=script.parameters,
            slots=script.slots,
            text_streaming=script.text_streaming,
            clones_voices=script.clones,
        )

    @property
    def description(self) -> link.Description:
        """The script's voices, sample rate and slots."""
        return self._description

    def open(self, request: link.Open, outbox: Outbox) -> _FakeRequest:
        """Begin a context.

        Raises:
            Failure: the voice is not the script's, or the script refuses.
        """
        if self.script.open_log is not None:
            wishes = ("voice", "language", "speed", "emotion", "instruct", "dialect")
            _log_line(self.script.open_log, **{name: getattr(request, name) for name in wishes})
        if self.script.refuse_open is not None:
            raise Failure(ErrorCode(self.script.refuse_open), "The script refuses every context.")
        clone_hz = self._clones.get(request.voice)
        if clone_hz is None and request.voice and request.voice not in self.script.voices:
            raise Failure(ErrorCode.UNKNOWN_VOICE, f"There is no voice {request.voice!r}.")
        return _FakeRequest(self.script, next(self._ordinals), outbox, clone_hz, self.appends)

    def add_voice(self, prompt: link.VoicePrompt) -> link.VoiceAdded:
        """Make a voice, as a `CloningEngine` does: from its features where they are of the script's kind.

        Raises:
            Failure: there is neither a recording nor features that fit, or the script refuses.
        """
        mark = f"fake features {self.script.features} ".encode()
        fits = prompt.features.startswith(mark)
        if not fits:
            self._listen_to(prompt)
        tone = prompt.features[len(mark) :] if fits else str(cloned_tone_hz(prompt.audio)).encode()
        self._clones[prompt.id] = float(tone)
        self._log_voice(added=prompt.id, source="features" if fits else "recording", text=prompt.text)
        return link.VoiceAdded(
            features=mark + tone,
            figures={"prompt_tokens": 25.0 * len(prompt.text)},
            notes=[f"It sounds at {float(tone):g} Hz."],
        )

    def _listen_to(self, prompt: link.VoicePrompt) -> None:
        if not prompt.audio:
            raise Failure(ErrorCode.BAD_REFERENCE_AUDIO, "These features are not of this engine.")
        time.sleep(self.script.clone_ms / 1000)
        if self.script.refuse_voice is not None:
            raise Failure(ErrorCode(self.script.refuse_voice), "The script refuses every recording.")

    def remove_voice(self, voice_id: str) -> None:
        """Forget a voice."""
        self._clones.pop(voice_id, None)
        self._log_voice(removed=voice_id)

    def _log_voice(self, **fields: str) -> None:
        if self.script.voice_log is not None:
            _log_line(self.script.voice_log, **fields)

    @property
    def gpu_memory_bytes(self) -> int:
        """None."""
        return 0

    async def aclose(self) -> None:
        """Nothing to give back."""


def _log_line(path: str, **fields: object) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")


@dataclass(frozen=True, slots=True)
class _Part(Segment):
    """The next text of a segment."""

    closes: bool


class _PartQueue(SegmentQueue):
    """Hands out the parts of a segment one by one; a segment ends with the part that closes it."""

    def append(self, segment: int, text: str, closes: bool) -> None:
        """Take more text."""
        self._items.append(_Part(segment, text, closes))


class _FakeRequest:
    def __init__(
        self,
        script: FakeScript,
        ordinal: int,
        outbox: Outbox,
        clone_hz: float | None,
        appends: list[link.Append],
    ) -> None:
        self._script = script
        self._clone_hz = clone_hz
        self._tone_hz = tone_hz(ordinal) if clone_hz is None else clone_hz
        self._outbox = outbox
        self._appends = appends
        self._queue = _PartQueue() if script.text_streaming else SegmentQueue()
        self._begun_chars = 0  # of the segment whose parts are being spoken
        self._made_samples = 0
        self._sent_samples = 0
        fates = (
            ("fail", script.fail_after_ms),
            ("crash", script.crash_after_ms),
            ("stall", script.stall_after_ms),
        )
        self._fate_at, self._fate = min(
            ((script.samples(after_ms), fate) for fate, after_ms in fates if after_ms is not None),
            default=(sys.maxsize, "none"),
        )
        self._changed = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"fake context {ordinal}")
        self._task.add_done_callback(self._report)

    def append(self, segment: int, text: str, closes: bool) -> None:
        self._appends.append(link.Append(segment=segment, text=text, closes=closes))
        self._queue.append(segment, text, closes)
        self._changed.set()

    def flush(self, number: int) -> None:
        self._queue.flush(number)
        self._changed.set()

    def finish(self) -> None:
        self._queue.finish()
        self._changed.set()

    def cancel(self) -> None:
        self._task.cancel()

    def progress(self, sent_samples: int, credit_samples: int) -> None:
        self._sent_samples = sent_samples
        self._changed.set()

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._outbox.fail(error)

    async def _run(self) -> None:
        while True:
            while (item := self._queue.peek()) is None:
                await self._change()
            self._queue.pop()
            match item:
                case Segment():
                    await self._speak(item)
                case FlushPoint(number):
                    self._outbox.emit(link.Event(flushed=link.Flushed(flush=number)))
                case FinishPoint():
                    self._outbox.emit(link.Event(done=link.Done()))
                    return

    async def _speak(self, segment: Segment) -> None:
        start = self._made_samples
        end = start + self._position(len(segment.text))
        words = self._words(segment, start, self._begun_chars)
        if start == 0:
            await asyncio.sleep(self._script.first_audio_ms / 1000)
        while self._made_samples < end:
            await self._make(
                min(self._script.samples(self._script.chunk_ms), end - self._made_samples), words
            )
        if isinstance(segment, _Part) and not segment.closes:
            self._begun_chars += len(segment.text)
            return
        self._begun_chars = 0
        self._outbox.emit(link.Event(segment_done=link.SegmentDone(segment=segment.number)))

    async def _make(self, num_samples: int, words: list[link.Word]) -> None:
        while self._made_samples - self._sent_samples >= self._script.samples(self._script.max_ahead_ms):
            await self._change()
        num_samples = min(num_samples, self._fate_at - self._made_samples)
        await asyncio.sleep(num_samples / self._script.sample_rate_hz * self._script.realtime_factor)
        first, self._made_samples = self._made_samples, self._made_samples + num_samples
        begun = [word for word in words if first <= word.sample_start < self._made_samples]
        if begun:
            self._outbox.emit(link.Event(marks=link.Marks(words=begun)))
        if num_samples:
            pcm = self._signal(np.arange(first, self._made_samples)).tobytes()
            self._outbox.emit(link.Event(audio=link.Audio(pcm=pcm)))
        if self._made_samples == self._fate_at:
            await self._meet_fate()

    async def _meet_fate(self) -> None:
        while self._sent_samples < self._made_samples:
            await self._change()
        match self._fate:
            case "fail":
                raise Failure(ErrorCode.ENGINE_FAILED, "The script fails here.")
            case "crash":
                os._exit(CRASH_EXIT_CODE)
            case _:
                await asyncio.Event().wait()

    def _signal(self, positions: NDArray[np.int64]) -> NDArray[np.int16]:
        values: NDArray[np.generic]
        if self._script.signal == "counter" and self._clone_hz is None:
            values = positions % 32768
        else:
            phase = 2 * np.pi * self._tone_hz / self._script.sample_rate_hz * positions
            values = np.round(8000 * np.sin(phase))
        return values.astype(np.int16)

    def _words(self, segment: Segment, start: int, begun_chars: int) -> list[link.Word]:
        return [
            link.Word(
                segment=segment.number,
                char_start=begun_chars + found.start(),
                char_end=begun_chars + found.end(),
                sample_start=start + self._position(found.start()),
                sample_end=start + self._position(found.end()),
            )
            for found in _WORD.finditer(segment.text)
        ]

    def _position(self, chars: int) -> int:
        return self._script.samples(chars * self._script.ms_per_char)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class WorkerStream:
    """One context at a worker, driven by hand: commands are sent as asked, events taken one by one."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        stub = link_grpc.EngineWorkerStub(channel)  # type: ignore[no-untyped-call]
        self.call: grpc.aio.StreamStreamCall[link.Command, link.Event] = stub.Speak()
        self._audio: link.Event | None = None  # came with words, which go first

    async def open(self, *, credit_samples: int = 1 << 40, **fields: Any) -> None:
        """Send `open`, with credit without end unless told otherwise."""
        opening = {"speed": 1.0, "volume": 1.0, "credit_samples": credit_samples} | fields
        await self.call.write(link.Command(open=link.Open(**opening)))

    async def append(self, segment: int, text: str, closes: bool = True) -> None:
        """Send text."""
        await self.call.write(link.Command(append=link.Append(segment=segment, text=text, closes=closes)))

    async def flush(self, number: int) -> None:
        """Ask for `flushed`."""
        await self.call.write(link.Command(flush=link.Flush(flush=number)))

    async def finish(self) -> None:
        """Say that no more text follows."""
        await self.call.write(link.Command(finish=link.Finish()))

    async def cancel(self) -> None:
        """Send the `cancel` command; `call.cancel()` hangs up instead."""
        await self.call.write(link.Command(cancel=link.Cancel()))

    async def credit(self, samples: int) -> None:
        """Raise the credit."""
        await self.call.write(link.Command(credit=link.Credit(samples=samples)))

    async def next_event(self) -> link.Event | None:
        """The next event; None when the worker has ended the stream. After the last one it hangs up."""
        if self._audio is not None:
            audio, self._audio = self._audio, None
            return audio
        event = await self.call.read()
        if not isinstance(event, link.Event):
            return None
        if event.WhichOneof("event") in ("done", "error"):
            await self.call.done_writing()
        if event.HasField("audio") and event.audio.words:
            self._audio = event
            return link.Event(marks=link.Marks(words=event.audio.words))
        return event

    async def rest(self) -> Heard:
        """All events until the end of the stream."""
        events = []
        while (event := await self.next_event()) is not None:
            events.append(event)
        return Heard(tuple(events))

    async def speak(self, *segments: str, **fields: Any) -> Heard:
        """Open, send whole segments, finish, and return all that came."""
        await self.open(**fields)
        for number, text in enumerate(segments):
            await self.append(number, text)
        await self.finish()
        return await self.rest()


@dataclass(frozen=True, slots=True)
class Heard:
    """Events of one context."""

    events: tuple[link.Event, ...]

    @property
    def kinds(self) -> list[str]:
        """What came, in order: "audio", "marks", …"""
        return [str(event.WhichOneof("event")) for event in self.events]

    @property
    def pcm(self) -> NDArray[np.int16]:
        """All audio."""
        return np.frombuffer(b"".join(event.audio.pcm for event in self.events), np.int16)

    @property
    def words(self) -> list[link.Word]:
        """All marks."""
        return [word for event in self.events for word in event.marks.words]

    @property
    def error_code(self) -> str:
        """The code of the error at the end, or the empty string."""
        return self.events[-1].error.code if self.events else ""


class ManualClock:
    """A clock that stands until it is moved; it runs what falls due, in order."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._due: list[tuple[float, int, ManualTimer]] = []

    def time(self) -> float:
        """Now, in seconds."""
        return self._now

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> ManualTimer:
        """Call `callback(*args)` once the clock reaches `when`; within one instant in the order asked for."""
        timer = ManualTimer(callback, args)
        heapq.heappush(self._due, (when, next(self._order), timer))
        return timer

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> ManualTimer:
        """Call `callback(*args)` in `delay` seconds."""
        return self.call_at(self._now + delay, callback, *args)

    def advance(self, seconds: float) -> None:
        """Move on; each callback sees the clock at its own time, and may ask for more."""
        target = self._now + seconds
        while self._due and self._due[0][0] <= target:
            when, _, timer = heapq.heappop(self._due)
            self._now = max(self._now, when)
            timer.run()
        self._now = max(self._now, target)

    def spend(self, seconds: float) -> None:
        """Let a callback take that long: time goes on and nothing else runs."""
        self._now += seconds


class ManualTimer:
    """A callback asked of a `ManualClock`."""

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._callback: Callable[..., object] | None = callback
        self._args = args

    def cancel(self) -> None:
        """Do not call."""
        self._callback = None

    def run(self) -> None:
        """Call now, unless cancelled."""
        if self._callback is not None:
            self._callback(*self._args)


async def _start_fake(options: argparse.Namespace) -> FakeEngine:
    script: FakeScript = options.script
    if options.slots is not None:
        script = dataclasses.replace(script, slots=options.slots)
    if script.refuse_start is not None:
        raise EngineUnavailable(script.refuse_start)
    return FakeEngine(script)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a `FakeEngine` as a worker process."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--script", metavar="JSON", type=FakeScript.from_json, default=FakeScript())
    return run_worker(_start_fake, argv, prog="cosyduplex_server.testing", parents=[parser])


if __name__ == "__main__":
    sys.exit(main())
