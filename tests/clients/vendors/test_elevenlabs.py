"""ElevenLabs' own SDK at the sockets and at the routes."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import elevenlabs
import pytest
from elevenlabs.core.api_error import ApiError
from elevenlabs.types import (
    CloseContext,
    CloseSocket,
    FlushContext,
    InitializeConnectionMulti,
    SendTextMulti,
    WebsocketTtsServerMessageMulti,
)
from hearing import Sound, assert_speech, decoded, longest_silence_s, raw, tones_hz
from servers import Server
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from writer import Writer

VOICE = "JBFqnCBsd6RMkjVDRZzb"
RATE_HZ = 24000
TEXT = "The first words are heard while the last ones are still being thought of."
FORMATS = (
    "pcm_16000",
    "pcm_24000",
    "mp3_22050_32",
    "mp3_44100_128",
    "ulaw_8000",
    "alaw_8000",
    "opus_48000_64",
)


def works(feature: str) -> pytest.MarkDecorator:
    return pytest.mark.door("ElevenLabs", client="elevenlabs", feature=feature)


def connected(url: str, api_key: str = "any") -> elevenlabs.ElevenLabs:
    return elevenlabs.ElevenLabs(api_key=api_key, base_url=url, timeout=30)


@pytest.fixture
def client(server: Server) -> elevenlabs.ElevenLabs:
    return connected(server.url)


@pytest.fixture
def secure(trusted: str) -> elevenlabs.ElevenLabs:
    """The SDK speaks to sockets with TLS alone, whatever its URL says."""
    return connected(trusted)


def sound_of(data: bytes, output_format: str) -> Sound:
    codec, rate_hz = output_format.split("_")[:2]
    if codec in ("mp3", "opus"):
        return decoded(data)
    encoding = {"pcm": "pcm_s16le", "ulaw": "pcm_mulaw", "alaw": "pcm_alaw"}[codec]
    return raw(data, int(rate_hz), encoding)


# --- convert_realtime


@works("convert_realtime, {output_format}")
@pytest.mark.parametrize("output_format", FORMATS)
def test_a_text_in_pieces_is_speech_without_a_hole(secure: elevenlabs.ElevenLabs, output_format: Any) -> None:
    pieces = (f"{word} " for word in TEXT.split())
    audio = secure.text_to_speech.convert_realtime(
        VOICE, text=pieces, model_id="eleven_flash_v2_5", output_format=output_format
    )
    sound = sound_of(b"".join(audio), output_format)
    assert_speech(sound, TEXT)
    assert longest_silence_s(sound) < 0.6


@works("audio before the last text")
def test_the_first_audio_comes_before_the_last_text(secure: elevenlabs.ElevenLabs) -> None:
    writer, heard = Writer(pace_s=0.05), bytearray()
    for piece in secure.text_to_speech.convert_realtime(VOICE, text=iter(writer), output_format="pcm_24000"):
        writer.heard.set()
        heard += piece
    assert_speech(raw(bytes(heard), RATE_HZ), writer.text)


@works("Chinese")
def test_chinese_is_spoken_which_the_sdk_holds_back_until_it_ends(secure: elevenlabs.ElevenLabs) -> None:
    text = "第一句话已经听见了，最后一句话还在想。"
    audio = secure.text_to_speech.convert_realtime(VOICE, text=iter(text), output_format="pcm_24000")
    assert_speech(raw(b"".join(audio), RATE_HZ), text)


@works("speed")
def test_speed_is_the_tempo(secure: elevenlabs.ElevenLabs) -> None:
    slow, fast = (
        b"".join(
            secure.text_to_speech.convert_realtime(
                VOICE,
                text=iter([TEXT]),
                output_format="pcm_24000",
                voice_settings=elevenlabs.VoiceSettings(speed=speed, stability=0.5),
            )
        )
        for speed in (0.7, 1.2)
    )
    assert len(slow) > 1.4 * len(fast)


@works("unknown voice refused")
def test_an_unknown_voice_is_an_error_of_the_api(secure: elevenlabs.ElevenLabs) -> None:
    with pytest.raises(ApiError) as refused:
        list(secure.text_to_speech.convert_realtime("nobody-at-all", text=iter([TEXT])))
    assert refused.value.status_code == 1008
    assert "voice" in str(refused.value.body)


@works("unsupported format refused")
def test_an_unknown_format_is_an_error_of_the_api(secure: elevenlabs.ElevenLabs) -> None:
    with pytest.raises(ApiError) as refused:
        list(secure.text_to_speech.convert_realtime(VOICE, text=iter([TEXT]), output_format="vox_1"))
    assert refused.value.status_code == 1008
    assert "output_format" in str(refused.value.body)


@works("keys")
def test_a_wrong_key_is_refused_and_the_right_one_taken(
    scripted_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted_server("--api-key", "the-right-one", voices=["en-f"])
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca_file))
    wrong, right = (connected(server.tls_url, key) for key in ("a-wrong-one", "the-right-one"))
    with pytest.raises(InvalidStatus) as refused:
        list(wrong.text_to_speech.convert_realtime(VOICE, text=iter([TEXT])))
    assert refused.value.response.status_code == 401
    with pytest.raises(ApiError) as unauthorized:
        list(wrong.text_to_speech.convert(VOICE, text=TEXT))
    assert unauthorized.value.status_code == 401
    audio = b"".join(right.text_to_speech.convert(VOICE, text=TEXT, output_format="pcm_24000"))
    assert raw(audio, RATE_HZ).seconds > 1
    audio = b"".join(
        right.text_to_speech.convert_realtime(VOICE, text=iter([TEXT]), output_format="pcm_24000")
    )
    assert raw(audio, RATE_HZ).seconds > 1


@works("failures told")
def test_a_failing_engine_is_an_error_of_the_api(
    scripted_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = scripted_server(voices=["en-f"], refuse_open="engine_failed")
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca_file))
    client = connected(server.tls_url)
    with pytest.raises(ApiError):
        list(client.text_to_speech.convert_realtime(VOICE, text=iter([TEXT])))
    with pytest.raises(ApiError) as failed:
        list(client.text_to_speech.convert(VOICE, text=TEXT))
    assert failed.value.status_code == 500


# --- the routes


@works("convert, {output_format}")
@pytest.mark.parametrize("output_format", FORMATS)
def test_a_text_is_converted(client: elevenlabs.ElevenLabs, output_format: Any) -> None:
    audio = b"".join(client.text_to_speech.convert(VOICE, text=TEXT, output_format=output_format))
    assert_speech(sound_of(audio, output_format), TEXT)


@works("stream")
def test_the_first_bytes_come_while_the_rest_is_being_made(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server(realtime_factor=0.2, voices=["en-f"])
    pieces = connected(server.url).text_to_speech.stream(VOICE, text=TEXT * 2, output_format="mp3_44100_128")
    first = next(pieces)
    assert server.metrics()["cosyduplex_contexts"] == 1
    assert decoded(first + b"".join(pieces)).seconds > 8


@works("stream, async")
async def test_the_asynchronous_client_streams(server: Server) -> None:
    client = elevenlabs.AsyncElevenLabs(api_key="any", base_url=server.url)
    audio = [piece async for piece in client.text_to_speech.stream(VOICE, text=TEXT)]
    assert_speech(decoded(b"".join(audio)), TEXT)


@works("times of characters")
def test_streamed_audio_has_the_times_of_its_characters(client: elevenlabs.ElevenLabs) -> None:
    chunks = list(client.text_to_speech.stream_with_timestamps(VOICE, text=TEXT, output_format="pcm_24000"))
    sound = raw(b"".join(base64.b64decode(chunk.audio_base_64) for chunk in chunks), RATE_HZ)
    assert_speech(sound, TEXT)
    alignments = [chunk.alignment for chunk in chunks if chunk.alignment is not None]
    assert "".join(char for alignment in alignments for char in alignment.characters) == TEXT
    starts = [start for alignment in alignments for start in alignment.character_start_times_seconds]
    assert starts == sorted(starts)
    assert 0.7 * sound.seconds < starts[-1] <= sound.seconds


@works("times of characters")
def test_whole_audio_has_the_times_of_its_characters(client: elevenlabs.ElevenLabs) -> None:
    whole = client.text_to_speech.convert_with_timestamps(VOICE, text=TEXT)
    assert_speech(decoded(base64.b64decode(whole.audio_base_64)), TEXT)
    assert whole.alignment is not None
    assert whole.normalized_alignment == whole.alignment
    assert "".join(whole.alignment.characters) == TEXT


@works("bad input refused")
@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"voice_id": "nobody-at-all"}, 400),
        ({"text": ""}, 400),
        ({"text": "x" * 1_000_000}, 400),
        ({"text": 5}, 422),
        ({"output_format": "vox"}, 400),
        ({"seed": -1}, 422),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_done_is_an_error_of_the_api(
    client: elevenlabs.ElevenLabs, wrong: dict[str, Any], status: int
) -> None:
    with pytest.raises(ApiError) as refused:
        list(client.text_to_speech.convert(**{"voice_id": VOICE, "text": TEXT, **wrong}))
    assert refused.value.status_code == status
    assert set(refused.value.body["detail"]) == {"status", "message"}


@works("voices")
def test_the_voices_are_listed(client: elevenlabs.ElevenLabs) -> None:
    voices = client.voices.get_all().voices
    assert {"en-f", "en-m"} <= {voice.voice_id for voice in voices}
    audio = client.text_to_speech.convert(voices[0].voice_id, text=TEXT)
    assert_speech(decoded(b"".join(audio)))


@works("models")
def test_the_models_are_listed(client: elevenlabs.ElevenLabs) -> None:
    assert client.models.list()[0].model_id


# --- multi-stream-input, for which the SDK has types alone


def works_multi(feature: str) -> pytest.MarkDecorator:
    return works(f"contexts: {feature}")


@asynccontextmanager
async def contexts(server: Server) -> AsyncIterator[ClientConnection]:
    url = f"{server.ws_url}/v1/text-to-speech/{VOICE}/multi-stream-input?output_format=pcm_{RATE_HZ}"
    async with connect(url, additional_headers={"xi-api-key": "any"}) as socket:
        yield socket


async def say(socket: ClientConnection, *messages: Any) -> None:
    for message in messages:
        await socket.send(message.json())


async def until_final(socket: ClientConnection, context_id: str) -> list[WebsocketTtsServerMessageMulti]:
    found: list[WebsocketTtsServerMessageMulti] = []
    async for data in socket:
        message = WebsocketTtsServerMessageMulti(**json.loads(data))
        if message.context_id == context_id:
            found.append(message)
            if json.loads(data)["isFinal"]:
                return found
    raise AssertionError("the socket was closed")


def heard(messages: list[WebsocketTtsServerMessageMulti]) -> Sound:
    return raw(b"".join(base64.b64decode(message.audio or "") for message in messages), RATE_HZ)


def pieces(context_id: str, text: str = TEXT) -> Iterator[Any]:
    yield InitializeConnectionMulti(text=" ", context_id=context_id)
    for at in range(0, len(text), 7):
        yield SendTextMulti(text=text[at : at + 7], context_id=context_id)


def end(context_id: str) -> tuple[Any, Any]:
    return (
        FlushContext(context_id=context_id, flush=True),
        CloseContext(context_id=context_id, close_context=True),
    )


@works_multi("turns")
async def test_contexts_follow_one_another(server: Server) -> None:
    async with contexts(server) as socket:
        for name in ("a", "b"):
            await say(socket, *pieces(name), *end(name))
            messages = await until_final(socket, name)
            assert_speech(heard(messages), TEXT)
            alignments = [message.alignment for message in messages if message.alignment is not None]
            assert "".join(char for one in alignments for char in one.chars or []) == TEXT
        await say(socket, CloseSocket(close_socket=True))
        await socket.wait_closed()
        assert socket.close_code == 1000


@works_multi("never mixed")
async def test_two_contexts_never_mix(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server(realtime_factor=0.1, voices=["en-f", "en-m"])
    async with contexts(server) as socket:
        for one, other in zip(pieces("a"), pieces("b"), strict=True):
            await say(socket, one, other)
        await say(socket, *end("a"), *end("b"), CloseSocket(close_socket=True))
        messages = [WebsocketTtsServerMessageMulti(**json.loads(data)) async for data in socket]
    tones = [
        tones_hz(heard([message for message in messages if message.context_id == name])) for name in "ab"
    ]
    assert [len(one) for one in tones] == [1, 1]
    assert tones[0].isdisjoint(tones[1])


@works_multi("interruption")
async def test_after_an_interruption_nothing_of_the_old_context_is_heard(
    scripted_server: Callable[..., Server],
) -> None:
    server = scripted_server(realtime_factor=0.5, voices=["en-f", "en-m"])
    async with contexts(server) as socket:
        await say(socket, *pieces("old", TEXT * 5))
        await socket.recv()
        await say(socket, CloseContext(context_id="old", close_context=True), *pieces("new"), *end("new"))
        await until_final(socket, "old")
        rest = []
        async for data in socket:
            rest.append(json.loads(data))
            if rest[-1]["isFinal"]:
                break
    assert {message["contextId"] for message in rest} == {"new"}
    server.wait_until_idle()
