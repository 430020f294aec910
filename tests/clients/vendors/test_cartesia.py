"""Cartesia's own SDK at the socket and at the routes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cartesia
import pytest
from cartesia import AsyncCartesia, Cartesia
from hearing import assert_speech, decoded, longest_silence_s, raw, tones_hz
from servers import Server
from writer import Writer

RATE_HZ = 24000
TEXT = "The first words are heard while the last ones are still being thought of."
VOICE = {"mode": "id", "id": "694f9389-aac1-45b6-b726-9d9369183238"}
OUTPUT = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": RATE_HZ}


def works(feature: str) -> pytest.MarkDecorator:
    return pytest.mark.door("Cartesia", client="cartesia", feature=feature)


def connected(server: Server, api_key: str = "any") -> Cartesia:
    return Cartesia(api_key=api_key, base_url=server.url, websocket_base_url=server.ws_url, max_retries=0)


@contextmanager
def socket(server: Server) -> Iterator[Any]:
    with connected(server).tts.websocket_connect() as connection:
        yield connection


def context(connection: Any, **details: Any) -> Any:
    return connection.context(**{"model_id": "sonic-3", "voice": VOICE, "output_format": OUTPUT, **details})


def heard(events: Any) -> bytes:
    return b"".join(event.audio for event in events if event.type == "chunk")


@works("socket: text while it is written")
def test_the_first_audio_comes_before_the_last_text(server: Server) -> None:
    with socket(server) as connection:
        speaking, writer = context(connection), Writer()

        def write() -> None:
            for piece in writer:
                speaking.push(piece)
            speaking.no_more_inputs()

        thread = threading.Thread(target=write)
        thread.start()
        audio = b""
        for event in speaking.receive():
            if event.type == "chunk":
                writer.heard.set()
                audio += event.audio
        thread.join()
        assert_speech(raw(audio, RATE_HZ), writer.text)


@works("socket: {encoding}")
@pytest.mark.parametrize(
    ("encoding", "rate_hz"),
    [("pcm_s16le", 16000), ("pcm_f32le", 44100), ("pcm_mulaw", 8000), ("pcm_alaw", 8000)],
)
def test_every_encoding_is_speech(server: Server, encoding: str, rate_hz: int) -> None:
    with socket(server) as connection:
        output = {"container": "raw", "encoding": encoding, "sample_rate": rate_hz}
        speaking = context(connection, output_format=output)
        speaking.push(TEXT)
        speaking.no_more_inputs()
        sound = raw(heard(speaking.receive()), rate_hz, encoding)
        assert_speech(sound, TEXT)
        assert longest_silence_s(sound) < 0.6


@works("socket: word timestamps")
def test_words_have_times_that_run_on_through_the_context(server: Server) -> None:
    with socket(server) as connection:
        speaking = context(connection, add_timestamps=True)
        speaking.push(TEXT)
        speaking.no_more_inputs()
        times = [event.word_timestamps for event in speaking.receive() if event.type == "timestamps"]
        assert " ".join(word for each in times for word in each.words) == TEXT
        starts = [start for each in times for start in each.start]
        assert starts == sorted(starts)
        assert starts[-1] > 2


@works("socket: several contexts at once")
def test_contexts_never_mix(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server(ms_per_char=40, realtime_factor=0.2)
    with socket(server) as connection:
        speaking = [context(connection, voice={"mode": "id", "id": "fake"}) for _ in range(3)]
        for each in speaking:
            each.push("Each of the three says the same.")
            each.no_more_inputs()
        tones = [tones_hz(raw(heard(each.receive()), RATE_HZ)) for each in speaking]
        assert all(len(each) == 1 for each in tones)
        assert len(set.union(*tones)) == 3


@works("socket: cancel")
def test_a_cancelled_context_leaves_the_next_one_whole(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server("--dialect-max-ahead-ms", "300", ms_per_char=80)
    with socket(server) as connection:
        voice = {"mode": "id", "id": "fake"}
        first = context(connection, voice=voice)
        first.push("Nobody will hear this to its end. " * 5)
        next(iter(first.receive()))
        first.cancel()
        second = context(connection, voice=voice)
        second.push("This one is heard.")
        second.no_more_inputs()
        # The SDK hands on what was under way when the cancel was sent, whoever receives.
        chunks = [event for event in second.receive() if event.type == "chunk"]
        mine = [chunk for chunk in chunks if chunk.context_id == chunks[-1].context_id]
        assert chunks[-len(mine) :] == mine, "audio of the cancelled context after the next one's"
        sound = raw(heard(mine), RATE_HZ)
        assert len(tones_hz(sound)) == 1
        assert sound.seconds == pytest.approx(0.08 * 18, abs=0.02)


@works("socket: errors")
def test_a_voice_that_is_none_is_the_contexts_error(server: Server) -> None:
    with socket(server) as connection:
        speaking = context(connection, voice={"mode": "id", "id": "nobody"})
        speaking.push(TEXT)
        events = list(speaking.receive())
        assert events[-1].type == "error"
        assert events[-1].error_code == "unknown_voice"
        after = context(connection)
        after.push(TEXT)
        after.no_more_inputs()
        assert_speech(raw(heard(after.receive()), RATE_HZ), TEXT)


@works("socket: asyncio")
async def test_the_asyncio_client_is_served(server: Server) -> None:
    async with (
        AsyncCartesia(api_key="any", base_url=server.url, websocket_base_url=server.ws_url) as client,
        client.tts.websocket_connect() as connection,
    ):
        speaking = context(connection)
        await speaking.push(TEXT)
        await speaking.no_more_inputs()
        audio = b"".join([event.audio async for event in speaking.receive() if event.type == "chunk"])
    assert_speech(raw(audio, RATE_HZ), TEXT)


@works("POST /tts/bytes: {container}")
@pytest.mark.parametrize(
    ("container", "output"),
    [
        ("mp3", {"container": "mp3", "sample_rate": 44100, "bit_rate": 128000}),
        ("wav", {"container": "wav", "sample_rate": 44100, "encoding": "pcm_f32le"}),
        ("wav", {"container": "wav", "sample_rate": 8000, "encoding": "pcm_mulaw"}),
    ],
)
def test_the_route_of_bytes_makes_every_container(
    server: Server, container: str, output: dict[str, Any]
) -> None:
    answer = connected(server).tts.generate(
        model_id="sonic-3", transcript=TEXT, voice=VOICE, output_format=output
    )
    assert_speech(decoded(answer.read()), TEXT)


@works("POST /tts/sse")
def test_the_route_of_events_streams(server: Server) -> None:
    events = connected(server).tts.generate_sse(
        model_id="sonic-3", transcript=TEXT, voice=VOICE, output_format=OUTPUT, add_timestamps=True
    )
    kinds, audio = [], b""
    for event in events:
        kinds.append(event.type)
        audio += event.audio or b"" if event.type == "chunk" else b""
    assert_speech(raw(audio, RATE_HZ), TEXT)
    assert kinds[-1] == "done"
    assert "timestamps" in kinds


@works("routes: errors")
def test_the_routes_refuse_with_a_status(server: Server, scripted_server: Callable[..., Server]) -> None:
    wishes: dict[str, Any] = {"model_id": "sonic-3", "transcript": TEXT, "output_format": OUTPUT}
    with pytest.raises(cartesia.NotFoundError):
        connected(server).tts.generate(voice={"mode": "id", "id": "nobody"}, **wishes)
    locked = scripted_server("--api-key", "secret")
    with pytest.raises(cartesia.AuthenticationError):
        connected(locked, "wrong").tts.generate(voice=VOICE, **wishes)
