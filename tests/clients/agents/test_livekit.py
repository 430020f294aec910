"""LiveKit Agents' own plugins: a turn, and a turn that is interrupted. One plugin alone: `-k cartesia`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from hearing import Sound, assert_speech, raw, tones_hz
from livekit.agents import APIError, tts
from livekit.plugins import cartesia as cartesia_plugin
from livekit.plugins import deepgram as deepgram_plugin
from livekit.plugins import elevenlabs as elevenlabs_plugin
from livekit.plugins import openai as openai_plugin
from servers import Server
from writer import Writer

RATE_HZ = 24000
FIRST = "This answer is a long one, and nobody will ever hear the end of it, because somebody speaks up."
SECOND = "All right, this is another answer."


def cartesia(server: Server, session: aiohttp.ClientSession) -> tts.TTS:
    return cartesia_plugin.TTS(
        api_key="any",
        base_url=server.url,
        http_session=session,
        voice="71a7ad14-091c-4e8e-a314-022ece01c121",
    )


def elevenlabs(server: Server, session: aiohttp.ClientSession) -> tts.TTS:
    return elevenlabs_plugin.TTS(
        api_key="any",
        base_url=f"{server.url}/v1",
        http_session=session,
        voice_id="21m00Tcm4TlvDq8ikWAM",
        encoding="pcm_24000",
    )


def deepgram(server: Server, session: aiohttp.ClientSession) -> tts.TTS:
    return deepgram_plugin.TTS(
        api_key="any", base_url=f"{server.url}/v1/speak", http_session=session, model="aura-2-andromeda-en"
    )


def flux(server: Server, session: aiohttp.ClientSession) -> tts.TTS:
    return deepgram_plugin.TTSv2(
        api_key="any", base_url=f"{server.url}/v2/speak", http_session=session, model="flux-alexis-en"
    )


def openai(server: Server, session: aiohttp.ClientSession) -> tts.TTS:
    return openai_plugin.TTS(api_key="any", base_url=f"{server.url}/v1", voice="alloy")


DOORS = {
    cartesia: ("Cartesia", "livekit-plugins-cartesia", ""),
    elevenlabs: ("ElevenLabs", "livekit-plugins-elevenlabs", ""),
    deepgram: ("Deepgram", "livekit-plugins-deepgram", "/v1/speak: "),
    flux: ("Deepgram", "livekit-plugins-deepgram", "/v2/speak: "),
    openai: ("OpenAI", "livekit-plugins-openai", ""),
}


def each_plugin(feature: str) -> Callable[[Any], Any]:
    """Runs a test for every plugin, each a row of its own door's table."""
    return pytest.mark.parametrize(
        "plugin",
        [
            pytest.param(
                plugin,
                id=plugin.__name__,
                marks=pytest.mark.door(door, client=client, feature=f"{where}{feature}"),
            )
            for plugin, (door, client, where) in DOORS.items()
        ],
    )


@asynccontextmanager
async def voice(plugin: Any, server: Server) -> AsyncIterator[tts.TTS]:
    """The plugin, for an agent that has nothing but a voice."""
    async with aiohttp.ClientSession() as session:
        one = plugin(server, session)
        try:
            # One request a sentence where the vendor's API takes no text in pieces, as an AgentSession does.
            yield one if one.capabilities.streaming else tts.StreamAdapter(tts=one)
        finally:
            await one.aclose()


def sound_of(frames: list[Any]) -> Sound:
    assert {(frame.sample_rate, frame.num_channels) for frame in frames} <= {(RATE_HZ, 1)}
    return raw(b"".join(bytes(frame.data) for frame in frames), RATE_HZ)


async def turn(one: tts.TTS, text: str) -> Sound:
    """A whole turn, its text put in word by word."""
    async with one.stream() as stream:
        for word in text.split():
            stream.push_text(f"{word} ")
        stream.end_input()
        return sound_of([event.frame async for event in stream])


@each_plugin("turns")
async def test_turns_are_spoken_one_after_another(plugin: Any, server: Server) -> None:
    async with voice(plugin, server) as one:
        for text in (SECOND, FIRST):
            assert_speech(await turn(one, text), text)


@each_plugin("audio before the last text")
async def test_the_first_audio_comes_before_the_last_text(plugin: Any, server: Server) -> None:
    writer = Writer()
    async with voice(plugin, server) as one, one.stream() as stream:

        async def write() -> None:
            async for piece in writer:
                stream.push_text(piece)
            stream.end_input()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            frames = []
            async for event in stream:
                frames.append(event.frame)
                writer.heard.set()
    assert_speech(sound_of(frames), writer.text)


@each_plugin("interruption")
async def test_after_an_interruption_nothing_of_the_old_turn_is_heard(
    plugin: Any, scripted_server: Callable[..., Server]
) -> None:
    server = scripted_server(realtime_factor=0.5, voices=["en-f", "en-m"])
    async with voice(plugin, server) as one:
        async with one.stream() as stream:
            for word in FIRST.split():
                stream.push_text(f"{word} ")
            stream.end_input()
            before = sound_of([(await anext(stream)).frame])
        after = await turn(one, SECOND)
        assert after.seconds > 1
        assert tones_hz(before).isdisjoint(tones_hz(after))
        # Whoever was interrupted is gone, whether its plugin says so or hangs up.
        await asyncio.to_thread(server.wait_until_idle)


@pytest.mark.parametrize("plugin", [cartesia, elevenlabs, openai], ids=lambda plugin: plugin.__name__)
async def test_a_failure_is_told_as_one(plugin: Any, scripted_server: Callable[..., Server]) -> None:
    server = scripted_server(voices=["en-f"], refuse_open="engine_failed")
    async with voice(plugin, server) as one:
        with pytest.raises(APIError):
            await turn(one, SECOND)
