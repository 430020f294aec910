"""How contexts share the one thread of the library, in a process without the library: a scripted stand-in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cosyduplex.errors import ErrorCode
from cosyduplex_espeak.engine import MAX_AHEAD_S, EspeakEngine, EspeakRequest
from cosyduplex_espeak.library import OnAudio, Style, WordStart
from cosyduplex_espeak.synthesis import MAX_SEGMENT_S, Manner, SegmentOutput, speak
from cosyduplex_espeak.text import split_runs
from cosyduplex_espeak.voices import VOICES, choose, describe, reads_mandarin
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.outbox import Outbox
from cosyduplex_server.errors import Failure

RATE_HZ = 22050
BUFFER = 1323  # 60 ms


class StandIn:
    """Speaks `seconds` of noise for every text, in buffers of 60 ms, and remembers what it was asked."""

    version = "1.52.0"
    sample_rate_hz = RATE_HZ

    def __init__(self, seconds: float = 0.3) -> None:
        self.seconds = seconds
        self.spoken: list[str] = []
        self.threads: set[int] = set()
        self.num_buffers = 0
        self.error: Exception | None = None

    def speak(self, text: str, style: Style, on_audio: OnAudio) -> None:
        self.spoken.append(text)
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        starts = [WordStart(0, 0)]
        for _ in range(round(self.seconds * RATE_HZ / BUFFER)):
            self.num_buffers += 1
            if not on_audio(np.full(BUFFER, 4000, np.int16), starts):
                return
            starts = []


class Context:
    """A context of the engine and the events it emits."""

    def __init__(self, engine: EspeakEngine, **fields: object) -> None:
        self.outbox = Outbox(asyncio.get_running_loop(), credit_samples=1 << 40)
        opening = link.Open(speed=1.0, volume=1.0, **fields)
        self.request: EspeakRequest = engine.open(opening, self.outbox)

    async def until(self, kind: str) -> list[link.Event]:
        events: list[link.Event] = []
        while not events or events[-1].WhichOneof("event") != kind:
            events.append(await self.outbox.next_event())
        return events


@pytest.fixture
def library() -> StandIn:
    return StandIn()


@pytest.fixture
async def engine(library: StandIn) -> AsyncIterator[EspeakEngine]:
    engine = EspeakEngine(library, ThreadPoolExecutor(max_workers=1), slots=8, mandarin=True)
    yield engine
    await engine.aclose()


async def test_contexts_take_turns_segment_by_segment_on_one_thread(
    engine: EspeakEngine, library: StandIn
) -> None:
    contexts = [Context(engine) for _ in range(3)]
    for name, context in zip("abc", contexts, strict=True):
        for number in range(4):
            context.request.append(number, f"{name}{number}.", closes=True)
        context.request.finish()
    for context in contexts:
        events = await context.until("done")
        assert [event.segment_done.segment for event in events if event.HasField("segment_done")] == [
            0,
            1,
            2,
            3,
        ]
    assert library.spoken == [f"{name}{number}." for number in range(4) for name in "abc"]
    assert len(library.threads) == 1


async def test_a_context_far_ahead_of_its_listener_rests_until_audio_is_sent(
    engine: EspeakEngine, library: StandIn
) -> None:
    library.seconds = 3.0
    context = Context(engine)
    for number in range(20):
        context.request.append(number, "three seconds.", closes=True)
    enough = int(MAX_AHEAD_S / 3) + 1
    for _ in range(enough):
        await context.until("segment_done")
    context.request.append(20, "more.", closes=True)
    other = Context(engine)
    other.request.append(0, "other.", closes=True)
    await other.until("segment_done")
    assert library.spoken == ["three seconds."] * enough + ["other."]
    context.request.progress(4 * RATE_HZ, 1 << 40)
    await context.until("segment_done")
    assert library.spoken[-1] == "three seconds."


async def test_cancel_stops_a_segment_being_spoken_and_forgets_the_others(
    engine: EspeakEngine, library: StandIn
) -> None:
    library.seconds = MAX_SEGMENT_S - 1
    context = Context(engine)
    context.request.append(0, "first.", closes=True)
    context.request.append(1, "second.", closes=True)
    await context.until("audio")
    context.request.cancel()
    other = Context(engine)
    library.seconds = 0.3
    other.request.append(0, "other.", closes=True)
    await other.until("segment_done")
    assert library.spoken == ["first.", "other."]


def test_cancelled_synthesis_takes_not_one_buffer_more(library: StandIn) -> None:
    cancelled = threading.Event()
    events: list[link.Event] = []

    def emit(event: link.Event) -> None:
        events.append(event)
        cancelled.set()

    output = SegmentOutput(0, 0, RATE_HZ, emit)
    speak(library, split_runs("你好 hello", "en"), Manner(VOICES[0], 1.0, 0.0, 1.0), output, cancelled)
    assert library.num_buffers == 2
    assert len(events) == 1
    assert len(library.spoken) == 1


def test_the_first_sound_goes_out_at_once_and_then_200_ms_at_a_time(library: StandIn) -> None:
    library.seconds = 1.5
    sizes: list[int] = []

    def emit(event: link.Event) -> None:
        if event.HasField("audio"):
            sizes.append(len(event.audio.pcm) // 2)

    output = SegmentOutput(0, 0, RATE_HZ, emit)
    manner = Manner(VOICES[0], 1.0, 0.0, 1.0)
    speak(library, split_runs("hello", "en"), manner, output, threading.Event())
    assert sizes[0] == BUFFER
    assert all(RATE_HZ // 5 <= size < RATE_HZ // 5 + 2 * BUFFER for size in sizes[1:-1])
    assert sum(sizes) == output.position


async def test_a_segment_without_end_is_text_too_long(engine: EspeakEngine, library: StandIn) -> None:
    library.seconds = MAX_SEGMENT_S + 1
    context = Context(engine)
    context.request.append(0, "endless", closes=True)
    events = await context.until("error")
    assert events[-1].error.code == ErrorCode.TEXT_TOO_LONG
    sent = sum(len(event.audio.pcm) for event in events) // 2
    assert sent <= MAX_SEGMENT_S * RATE_HZ


async def test_a_library_that_fails_ends_only_that_context(
    engine: EspeakEngine, library: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    library.error = RuntimeError("espeak_Synth returned -1")
    context = Context(engine)
    context.request.append(0, "x", closes=True)
    assert (await context.until("error"))[-1].error.code == ErrorCode.ENGINE_FAILED
    assert "espeak_Synth" in caplog.text
    library.error = None
    other = Context(engine)
    other.request.append(0, "y", closes=True)
    await other.until("segment_done")


async def test_a_number_alone_is_read_in_the_language_spoken_last(
    engine: EspeakEngine, library: StandIn
) -> None:
    styles: list[str] = []
    speak_before = library.speak

    def speak_and_note(text: str, style: Style, on_audio: OnAudio) -> None:
        styles.append(style.voice)
        speak_before(text, style, on_audio)

    library.speak = speak_and_note  # type: ignore[method-assign]
    for language in ("auto", "en"):
        context = Context(engine, language=language)
        for number, text in enumerate(("你好。", "3.14")):
            context.request.append(number, text, closes=True)
        context.request.finish()
        await context.until("done")
    assert styles == ["cmn+f5", "cmn+f5", "cmn+f5", "en-us+f5"]


# --- A library that reads Mandarin as English -----------------------------------------------------------


def test_mandarin_is_known_by_its_tones() -> None:
    right = {"好": "X'Au214_|", "今天": "tS;'i55n_| th'iE55n_|"}
    english = {"好": "h'aU", "今天": "dZ'In w'0n t'iE@n w'0n"}
    assert reads_mandarin(lambda text, voice: right[text])
    assert not reads_mandarin(lambda text, voice: english[text])


async def test_without_mandarin_chinese_voices_are_gone_and_chinese_text_is_refused(library: StandIn) -> None:
    engine = EspeakEngine(library, ThreadPoolExecutor(max_workers=1), slots=1, mandarin=False)
    assert not any(voice.language.startswith("zh") for voice in engine.description.voices)
    assert any("Mandarin" in note for note in engine.description.notes)
    with pytest.raises(Failure) as failure:
        choose("zh-f", mandarin=False)
    assert failure.value.code == ErrorCode.UNKNOWN_VOICE
    context = Context(engine)
    context.request.append(0, "Hello 世界", closes=True)
    assert (await context.until("error"))[-1].error.code == ErrorCode.BAD_REQUEST
    assert library.spoken == []
    await engine.aclose()


def test_the_description_names_the_default_voice_first() -> None:
    description = describe("1.52.0", RATE_HZ, 4, mandarin=True)
    assert description.voices[0].id == "default"
    assert choose("", mandarin=True).id == "default"
    assert {voice.language for voice in description.voices} == {"en-US", "en-GB", "zh-CN"}
