"""Pipecat's own services: a turn, and a turn that is interrupted. One service alone: `-k cartesia`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hearing import Sound, assert_speech, raw, tones_hz
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.cartesia.tts import CartesiaTTSService
from pipecat.services.deepgram.flux.tts import DeepgramFluxTTSService
from pipecat.services.deepgram.tts import DeepgramTTSService
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.services.tts_service import TTSService
from pipecat.workers.runner import WorkerRunner
from servers import Server

RATE_HZ = 24000
FIRST = "This answer is a long one, and nobody will ever hear the end of it, because somebody speaks up."
SECOND = "All right, this is another answer."


def cartesia(server: Server) -> TTSService:
    return CartesiaTTSService(
        api_key="any",
        url=f"{server.ws_url}/tts/websocket",
        settings=CartesiaTTSService.Settings(voice="71a7ad14-091c-4e8e-a314-022ece01c121"),
    )


def elevenlabs(server: Server) -> TTSService:
    return ElevenLabsTTSService(
        api_key="any",
        url=server.ws_url,
        settings=ElevenLabsTTSService.Settings(voice="21m00Tcm4TlvDq8ikWAM"),
    )


def deepgram(server: Server) -> TTSService:
    return DeepgramTTSService(
        api_key="any",
        base_url=server.ws_url,
        settings=DeepgramTTSService.Settings(voice="aura-2-helena-en"),
    )


def flux(server: Server) -> TTSService:
    return DeepgramFluxTTSService(
        api_key="any",
        url=f"{server.ws_url}/v2/speak",
        settings=DeepgramFluxTTSService.Settings(model="flux-haven-en"),
    )


def openai(server: Server) -> TTSService:
    return OpenAITTSService(
        api_key="any",
        base_url=f"{server.url}/v1",
        settings=OpenAITTSService.Settings(voice="alloy"),
    )


DOORS = {
    cartesia: ("Cartesia", ""),
    elevenlabs: ("ElevenLabs", ""),
    deepgram: ("Deepgram", "/v1/speak: "),
    flux: ("Deepgram", "/v2/speak: "),
    openai: ("OpenAI", ""),
}


def each_service(feature: str) -> Callable[[Any], Any]:
    """Runs a test for every service, each a row of its own door's table."""
    return pytest.mark.parametrize(
        "service",
        [
            pytest.param(
                service,
                id=service.__name__,
                marks=pytest.mark.door(door, client="pipecat-ai", feature=f"{where}{feature}"),
            )
            for service, (door, where) in DOORS.items()
        ],
    )


def words(text: str) -> list[Frame]:
    return [LLMTextFrame(f"{word} ") for word in text.split()]


class Speaker(FrameProcessor):
    """Where an agent's sound comes out: takes down every frame."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.frames.put(frame)
        await self.push_frame(frame, direction)


class Agent:
    """An agent that has nothing but a voice."""

    def __init__(self, worker: PipelineWorker, speaker: Speaker) -> None:
        self._worker = worker
        self._speaker = speaker

    async def say(self, text: str) -> None:
        """Puts an LLM's whole answer in, word by word."""
        await self.begin(text)
        await self.end()

    async def begin(self, text: str) -> None:
        """Puts the beginning of an LLM's answer in."""
        await self._worker.queue_frames([LLMFullResponseStartFrame(), *words(text)])

    async def end(self, text: str = "") -> None:
        """Puts the rest of it in."""
        await self._worker.queue_frames([*words(text), LLMFullResponseEndFrame()])

    async def interrupt(self) -> None:
        """Lets the user speak up, and returns when the speaker knows it."""
        await self._worker.queue_frame(InterruptionFrame())
        await self.until(InterruptionFrame)

    async def until(self, kind: type[Frame]) -> list[Frame]:
        """Every frame up to and with the first of this kind."""
        frames: list[Frame] = []
        while not frames or not isinstance(frames[-1], kind):
            frames.append(await asyncio.wait_for(self._speaker.frames.get(), 20))
        return frames

    async def turn(self) -> Sound:
        """The sound up to the end of what is being said."""
        return sound_of(await self.until(TTSStoppedFrame))


def sound_of(frames: list[Frame]) -> Sound:
    audio = [frame for frame in frames if isinstance(frame, TTSAudioRawFrame)]
    assert {(frame.sample_rate, frame.num_channels) for frame in audio} <= {(RATE_HZ, 1)}
    return raw(b"".join(frame.audio for frame in audio), RATE_HZ)


@asynccontextmanager
async def agent(service: TTSService) -> AsyncIterator[Agent]:
    """An agent with this voice; ends without an error of its service."""
    speaker, started, errors = Speaker(), asyncio.Event(), []
    worker = PipelineWorker(
        Pipeline([service, speaker]),
        params=PipelineParams(audio_out_sample_rate=RATE_HZ),
        cancel_on_idle_timeout=False,
        enable_rtvi=False,
    )

    @worker.event_handler("on_pipeline_started")
    async def _(_worker: PipelineWorker, _frame: Frame) -> None:
        started.set()

    @worker.event_handler("on_pipeline_error")
    async def _(_worker: PipelineWorker, frame: ErrorFrame) -> None:
        errors.append(frame.error)

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        await asyncio.wait_for(started.wait(), 10)
        yield Agent(worker, speaker)
        await worker.queue_frame(EndFrame())
        await asyncio.wait_for(running, 15)
    finally:
        await runner.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert errors == []


@each_service("turns")
async def test_turns_are_spoken_one_after_another(service: Any, server: Server) -> None:
    async with agent(service(server)) as one:
        for text in (SECOND, FIRST):
            await one.say(text)
            assert_speech(await one.turn(), text)


@each_service("audio before the last text")
async def test_the_first_sentence_is_heard_before_the_last_is_written(service: Any, server: Server) -> None:
    async with agent(service(server)) as one:
        await one.begin(f"{FIRST} And")
        await one.until(TTSAudioRawFrame)
        await one.end("that is that.")
        assert (await one.turn()).seconds > 1


@each_service("interruption")
async def test_after_an_interruption_nothing_of_the_old_turn_is_heard(
    service: Any, scripted_server: Callable[..., Server]
) -> None:
    server = scripted_server(realtime_factor=0.5, voices=["en-f", "en-m"])
    async with agent(service(server)) as one:
        await one.say(FIRST)
        before = sound_of(await one.until(TTSAudioRawFrame))
        await one.interrupt()
        await one.say(SECOND)
        after = await one.turn()
        assert after.seconds > 1
        assert tones_hz(before).isdisjoint(tones_hz(after))
    server.wait_until_idle()


@pytest.mark.parametrize("service", [cartesia, elevenlabs], ids=lambda service: service.__name__)
async def test_the_words_are_told_in_order(service: Any, server: Server) -> None:
    async with agent(service(server)) as one:
        await one.say(FIRST)
        frames = await one.until(TTSStoppedFrame)
    told = [frame.text.strip(" ,.") for frame in frames if isinstance(frame, TTSTextFrame)]
    assert [word for word in told if word] == [word.strip(",.") for word in FIRST.split()]
