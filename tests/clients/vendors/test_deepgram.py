"""Deepgram's own SDK at both sockets and at the route."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import deepgram
import pytest
from deepgram.core.api_error import ApiError
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from deepgram.speak.v1.types import SpeakV1Text
from deepgram.speak.v2.types import SpeakV2Interrupt, SpeakV2InterruptPlaybackOffset, SpeakV2Speak
from hearing import assert_speech, decoded, longest_silence_s, raw, tones_hz
from servers import Server
from websockets.exceptions import InvalidStatus
from writer import Writer

RATE_HZ = 24000
TEXT = "The first words are heard while the last ones are still being thought of."


def works(feature: str) -> pytest.MarkDecorator:
    return pytest.mark.door("Deepgram", client="deepgram-sdk", feature=feature)


def environment(server: Server) -> DeepgramClientEnvironment:
    return DeepgramClientEnvironment(
        base=server.url, production=server.ws_url, agent=server.ws_url, agent_rest=server.url
    )


def connected(server: Server, api_key: str = "any") -> deepgram.DeepgramClient:
    return deepgram.DeepgramClient(api_key=api_key, environment=environment(server))


class Listener:
    """Takes down what a socket says, in a thread of its own, as the SDK wants it."""

    def __init__(self, socket: Any) -> None:
        self.messages: list[Any] = []
        self.news = threading.Condition()
        socket.on(EventType.MESSAGE, self._take)
        threading.Thread(target=socket.start_listening, daemon=True).start()

    def _take(self, message: Any) -> None:
        with self.news:
            self.messages.append(message)
            self.news.notify_all()

    def wait(self, wanted: Callable[[list[Any]], bool]) -> None:
        with self.news:
            assert self.news.wait_for(lambda: wanted(self.messages), 20), self.kinds()[-10:]

    def wait_for(self, kind: str, count: int = 1) -> None:
        self.wait(lambda messages: self.kinds().count(kind) >= count)

    def kinds(self) -> list[str]:
        return [kind(message) for message in self.messages]

    def audio(self, begin: int = 0, end: int | None = None) -> bytes:
        return b"".join(message for message in self.messages[begin:end] if isinstance(message, bytes))


def kind(message: Any) -> str:
    return "audio" if isinstance(message, bytes) else str(message.type)


@contextmanager
def aura(
    server: Server, model: str = "aura-2-thalia-en", encoding: str = "linear16", rate_hz: int = RATE_HZ
) -> Iterator[tuple[Any, Listener]]:
    client = connected(server)
    with client.speak.v1.connect(model=model, encoding=encoding, sample_rate=rate_hz) as socket:
        yield socket, Listener(socket)


@contextmanager
def flux(server: Server, model: str = "flux-alexis-en") -> Iterator[tuple[Any, Listener]]:
    with connected(server).speak.v2.connect(model=model, encoding="linear16", sample_rate=RATE_HZ) as socket:
        yield socket, Listener(socket)


# --- /v1/speak


@works("/v1/speak: text while it is written")
def test_the_first_audio_comes_before_the_last_text(server: Server) -> None:
    with aura(server) as (socket, listener):
        writer = Writer()
        for piece in writer:
            socket.send_text(SpeakV1Text(text=piece))
            if "audio" in listener.kinds():
                writer.heard.set()
        socket.send_flush()
        listener.wait_for("Flushed")
        assert listener.kinds()[0] == "Metadata"
        assert listener.kinds().count("Flushed") == 1
        assert_speech(raw(listener.audio(), RATE_HZ), writer.text)
        socket.send_close()


@works("/v1/speak: {encoding}")
@pytest.mark.parametrize(
    ("encoding", "decoder", "rate_hz"),
    [
        ("linear16", "pcm_s16le", 8000),
        ("linear16", "pcm_s16le", 48000),
        ("mulaw", "pcm_mulaw", 8000),
        ("alaw", "pcm_alaw", 8000),
    ],
)
def test_every_encoding_is_speech(server: Server, encoding: str, decoder: str, rate_hz: int) -> None:
    with aura(server, encoding=encoding, rate_hz=rate_hz) as (socket, listener):
        socket.send_text(SpeakV1Text(text=TEXT))
        socket.send_flush()
        listener.wait_for("Flushed")
        sound = raw(listener.audio(), rate_hz, decoder)
        assert_speech(sound, TEXT)
        assert longest_silence_s(sound) < 0.6


@works("/v1/speak: Clear")
def test_after_cleared_nothing_of_the_old_turn_is_heard(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server("--dialect-max-ahead-ms", "300", voices=["en-f"], ms_per_char=80)
    with aura(server, "en-f") as (socket, listener):
        socket.send_text(SpeakV1Text(text="This turn is dropped before its end. " * 5))
        socket.send_flush()
        listener.wait_for("audio")
        socket.send_clear()
        socket.send_text(SpeakV1Text(text="A new turn is heard."))
        socket.send_flush()
        listener.wait_for("Flushed")
        cleared = listener.kinds().index("Cleared")
        old, new = (listener.audio(*part) for part in ((0, cleared), (cleared, None)))
        assert tones_hz(raw(old, RATE_HZ)).isdisjoint(tones_hz(raw(new, RATE_HZ)))
        assert len(tones_hz(raw(new, RATE_HZ))) == 1


@works("/v1/speak: several turns on a socket")
def test_turns_follow_one_another(server: Server) -> None:
    with aura(server) as (socket, listener):
        for turn in range(3):
            socket.send_text(SpeakV1Text(text=f"This is turn number {turn}."))
            socket.send_flush()
        listener.wait_for("Flushed", 3)
        ends = [at for at, name in enumerate(listener.kinds()) if name == "Flushed"]
        for begin, end in zip([0, *ends], ends, strict=False):
            assert_speech(raw(listener.audio(begin, end), RATE_HZ), "This is turn number 1.")


@works("/v1/speak: asyncio")
async def test_the_asyncio_client_is_served(server: Server) -> None:
    client = deepgram.AsyncDeepgramClient(api_key="any", environment=environment(server))
    audio, flushed = [], asyncio.Event()

    async def take(message: Any) -> None:
        if isinstance(message, bytes):
            audio.append(message)
        elif message.type == "Flushed":
            flushed.set()

    async with client.speak.v1.connect(
        model="aura-2-thalia-en", encoding="linear16", sample_rate=RATE_HZ
    ) as socket:
        socket.on(EventType.MESSAGE, take)
        listening = asyncio.create_task(socket.start_listening())
        await socket.send_text(SpeakV1Text(text=TEXT))
        await socket.send_flush()
        await asyncio.wait_for(flushed.wait(), 20)
        await socket.send_close()
        await listening
    assert_speech(raw(b"".join(audio), RATE_HZ), TEXT)


@works("/v1/speak: errors")
def test_a_voice_that_is_none_and_a_wrong_key_are_refused(
    server: Server, scripted_server: Callable[..., Server]
) -> None:
    with pytest.raises(InvalidStatus) as unknown, aura(server, "aura-2-nobody-en"):
        pass
    assert unknown.value.response.status_code == 400
    locked = scripted_server("--api-key", "secret")
    with pytest.raises(InvalidStatus) as refused, aura(locked, "fake"):
        pass
    assert refused.value.response.status_code == 401


# --- /v2/speak


@works("/v2/speak: text while it is written")
def test_a_turn_of_flux_is_heard_while_it_is_written(server: Server) -> None:
    with flux(server) as (socket, listener):
        writer = Writer()
        for piece in writer:
            socket.send_speak(SpeakV2Speak(text=piece))
            if "audio" in listener.kinds():
                writer.heard.set()
        socket.send_flush()
        listener.wait_for("Flushed")
        kinds = [name for name in listener.kinds() if name != "audio"]
        assert kinds == ["Connected", "SpeechStarted", "SpeechMetadata", "Flushed"]
        metadata = next(message for message in listener.messages if kind(message) == "SpeechMetadata")
        assert metadata.input_character_count == len(writer.text)
        assert metadata.audio_duration_ms == pytest.approx(len(listener.audio()) / 48, abs=1)
        socket.send_close()
        listener.wait_for("SessionMetadata")


@works("/v2/speak: Interrupt, with what was heard")
def test_an_interruption_tells_spoken_from_unspoken(server: Server) -> None:
    with flux(server) as (socket, listener):
        socket.send_speak(SpeakV2Speak(text=TEXT))
        socket.send_flush()
        listener.wait_for("Flushed")
        socket.send_interrupt(
            SpeakV2Interrupt(playback_offset=SpeakV2InterruptPlaybackOffset(type="time_ms", value=1200))
        )
        listener.wait_for("SpeechInterrupted")
        answer = next(message for message in listener.messages if kind(message) == "SpeechInterrupted")
        assert answer.audio_played_ms == 1200
        assert answer.text_spoken + answer.text_remaining == TEXT
        assert 5 < len(answer.text_spoken) < len(TEXT) - 20
        ended = len(listener.messages)
        socket.send_speak(SpeakV2Speak(text="Another turn is heard."))
        socket.send_flush()
        listener.wait(lambda messages: "Flushed" in map(kind, messages[ended:]))
        assert_speech(raw(listener.audio(ended), RATE_HZ), "Another turn is heard.")


# --- the route


@works("POST /v1/speak: {encoding}")
@pytest.mark.parametrize("encoding", ["mp3", "linear16", "opus", "flac", "aac"])
def test_the_route_makes_every_kind_of_file(server: Server, encoding: str) -> None:
    pieces = connected(server).speak.v1.audio.generate(text=TEXT, model="aura-2-thalia-en", encoding=encoding)
    assert_speech(decoded(b"".join(pieces)), TEXT)


@works("POST /v1/speak: errors")
def test_the_route_refuses_in_the_vendors_words(server: Server) -> None:
    with pytest.raises(ApiError) as refused:
        b"".join(connected(server).speak.v1.audio.generate(text=TEXT, model="aura-2-nobody-en"))
    assert refused.value.status_code == 400
    assert refused.value.body["err_code"] == "UNKNOWN_VOICE"
