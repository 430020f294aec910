"""OpenAI's own SDK at `/v1/audio/speech`."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
import requests
from hearing import Sound, assert_speech, decoded, longest_silence_s, raw, tones_hz
from servers import Server

TEXT = "The first words are heard while the last ones are still being thought of."
RATE_HZ = 24000
NAMES = "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split()
# What the format is called to a decoder that cannot tell by looking, and in the answer's head.
CONTENT_TYPES = {
    "pcm": "audio/pcm",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "aac": "audio/aac",
}
FORMATS = tuple(CONTENT_TYPES)


def works(feature: str) -> pytest.MarkDecorator:
    return pytest.mark.door("OpenAI", client="openai", feature=feature)


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with connected(server) as client:
        yield client


def connected(server: Server, api_key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(api_key=api_key, base_url=f"{server.url}/v1", max_retries=0, timeout=30)


def sound_of(data: bytes, audio_format: str) -> Sound:
    return raw(data, RATE_HZ) if audio_format == "pcm" else decoded(data)


def spoken(client: openai.OpenAI, text: str = TEXT, **wishes: Any) -> Sound:
    """What the server says, by default in the format that needs no decoding."""
    wishes = {"model": "tts-1", "voice": "alloy", "response_format": "pcm", **wishes}
    return sound_of(client.audio.speech.create(input=text, **wishes).content, wishes["response_format"])


# --- formats


@works("{audio_format}")
@pytest.mark.parametrize("audio_format", FORMATS)
def test_every_format_is_speech_without_a_hole(client: openai.OpenAI, audio_format: Any) -> None:
    answer = client.audio.speech.create(
        model="tts-1", voice="alloy", input=TEXT, response_format=audio_format
    )
    assert answer.response.headers["content-type"].partition(";")[0] == CONTENT_TYPES[audio_format]
    sound = sound_of(answer.content, audio_format)
    assert_speech(sound, TEXT)
    assert longest_silence_s(sound) < 0.6


@works("mp3")
def test_without_a_format_it_is_mp3(client: openai.OpenAI) -> None:
    answer = client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input=TEXT)
    assert answer.response.headers["content-type"] == "audio/mpeg"
    assert_speech(decoded(answer.content, "mp3"), TEXT)


@works("Chinese")
def test_chinese_is_spoken(client: openai.OpenAI) -> None:
    text = "第一句话已经听见了，最后一句话还在想。"
    assert_speech(spoken(client, text), text)


@works("streamed")
@pytest.mark.parametrize("audio_format", FORMATS)
def test_the_first_bytes_come_while_the_rest_is_being_made(
    scripted_server: Callable[..., Server], audio_format: Any
) -> None:
    server = scripted_server(realtime_factor=0.2, voices=["en-f"])
    with (
        connected(server) as client,
        client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input=TEXT * 2, response_format=audio_format
        ) as answer,
    ):
        pieces = answer.iter_bytes()
        first = next(pieces)
        assert server.metrics()["cosyduplex_contexts"] == 1
        sound = sound_of(first + b"".join(pieces), audio_format)
    assert len(tones_hz(sound)) == 1
    assert sound.seconds > 8


@works("streamed to a file")
def test_the_sdk_writes_a_file_piece_by_piece(client: openai.OpenAI, tmp_path: Any) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=TEXT, response_format="wav"
    ) as answer:
        answer.stream_to_file(tmp_path / "x.wav")
    assert_speech(decoded((tmp_path / "x.wav").read_bytes()), TEXT)


# --- server-sent events


def events(client: openai.OpenAI, **wishes: Any) -> list[dict[str, Any]]:
    """The SDK has no classes for these: its users read lines."""
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input=TEXT, stream_format="sse", **wishes
    ) as answer:
        assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
        data = [
            line.removeprefix("data:").strip() for line in answer.iter_lines() if line.startswith("data:")
        ]
    return [json.loads(item) for item in data if item != "[DONE]"]


@works("SSE, {audio_format}")
@pytest.mark.parametrize("audio_format", FORMATS)
def test_events_carry_one_stream_and_then_the_usage(client: openai.OpenAI, audio_format: Any) -> None:
    *deltas, done = events(client, response_format=audio_format)
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
    sound = sound_of(b"".join(base64.b64decode(event["audio"]) for event in deltas), audio_format)
    assert_speech(sound, TEXT)


@works("SSE, mp3")
def test_events_without_a_format_carry_mp3(client: openai.OpenAI) -> None:
    *deltas, _ = events(client)
    assert_speech(decoded(b"".join(base64.b64decode(event["audio"]) for event in deltas), "mp3"), TEXT)


# --- voices and manner


@works("OpenAI's voice names")
@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_openais_is_a_voice(client: openai.OpenAI, name: str) -> None:
    assert_speech(spoken(client, "One moment, please.", voice=name), "One moment, please.")


@works("the server's own voices")
def test_the_servers_own_voices_are_voices(server: Server, client: openai.OpenAI) -> None:
    voice = server.get("/v1/voices")["voices"][0]["id"]
    assert_speech(spoken(client, voice=voice))
    assert_speech(spoken(client, voice={"id": voice}))


@works("unknown voice refused")
def test_an_unknown_voice_is_refused_and_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        spoken(client, voice="nobody-at-all")
    assert refused.value.status_code in (400, 404)
    assert (refused.value.code, refused.value.param) == ("unknown_voice", "voice")
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["message"]


@works("speed")
def test_speed_is_the_tempo(client: openai.OpenAI) -> None:
    slow, plain, fast = (spoken(client, speed=speed) for speed in (0.5, 1.0, 2.0))
    for sound in (slow, plain, fast):
        assert_speech(sound)
    assert slow.seconds > 1.5 * plain.seconds
    assert plain.seconds > 1.5 * fast.seconds


@works("speed")
@pytest.mark.parametrize("speed", [0.25, 4.0])
def test_the_whole_range_of_speed_is_taken(client: openai.OpenAI, speed: float) -> None:
    assert_speech(spoken(client, speed=speed))


@works("instructions")
def test_instructions_are_taken(client: openai.OpenAI) -> None:
    assert_speech(spoken(client, instructions="Speak in a cheerful tone."), TEXT)


# --- what is wrong


@works("bad input refused")
@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": "x" * 1_000_000}, "input"),
        ({"voice": None}, "voice"),
        ({"voice": 5}, "voice"),
        ({"response_format": "vox"}, "response_format"),
        ({"response_format": 5}, "response_format"),
        ({"speed": 0.1}, "speed"),
        ({"speed": 40}, "speed"),
        ({"speed": "fast"}, "speed"),
        ({"stream_format": "carrier pigeon"}, "stream_format"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_done_is_refused_with_the_name_of_it(
    client: openai.OpenAI, wrong: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        spoken(client, extra_body=wrong)
    assert refused.value.status_code in (400, 413, 422)
    assert refused.value.param == param
    assert refused.value.type
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["message"]


@works("bad input refused")
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff\xfe{}", b"\x00" * 1000])
def test_a_body_that_is_no_object_is_refused(server: Server, body: bytes) -> None:
    headers = {"content-type": "application/json", "authorization": "Bearer any"}
    answer = requests.post(f"{server.url}/v1/audio/speech", data=body, headers=headers, timeout=10)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) >= {"message", "type", "param", "code"}


@works("lone surrogates")
def test_half_a_character_is_spoken_as_nothing(server: Server) -> None:
    body = '{"model": "tts-1", "voice": "alloy", "response_format": "pcm", "input": "One \\ud83d two."}'
    headers = {"content-type": "application/json"}
    answer = requests.post(f"{server.url}/v1/audio/speech", data=body, headers=headers, timeout=10)
    assert answer.status_code == 200
    assert_speech(raw(answer.content, RATE_HZ), "One two.")


@works("keys")
def test_a_wrong_key_is_refused_and_the_right_one_taken(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server("--api-key", "the-right-one", voices=["en-f"])
    with connected(server, "a-wrong-one") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            spoken(client)
        assert refused.value.body
    with connected(server, "the-right-one") as client:
        assert spoken(client).seconds > 1


@works("models")
def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert next(model.object for model in client.models.list()) == "model"


# --- several at once, and none left


@works("several at once")
async def test_requests_at_once_never_mix(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server(realtime_factor=0.2, voices=["en-f"])
    async with openai.AsyncOpenAI(api_key="any", base_url=f"{server.url}/v1", max_retries=0) as client:

        async def speak(text: str) -> Sound:
            answer = await client.audio.speech.create(
                model="tts-1", voice="alloy", input=text, response_format="pcm"
            )
            return raw(answer.content, RATE_HZ)

        sounds = await asyncio.gather(*(speak(f"This is number {number}.") for number in range(6)))
    heard = [tones_hz(sound) for sound in sounds]
    assert [len(tones) for tones in heard] == [1] * 6
    assert len(set.union(*heard)) == 6


@works("stops when its client goes away")
def test_whoever_hangs_up_stops_the_synthesis(scripted_server: Callable[..., Server]) -> None:
    # A minute of speech that takes a minute to make.
    server = scripted_server(realtime_factor=1.0, voices=["en-f"])
    with (
        connected(server) as client,
        client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input="word " * 200, response_format="pcm"
        ) as answer,
    ):
        pieces = answer.iter_bytes()  # held: without it the SDK hangs up here
        next(pieces)
        assert server.metrics()["cosyduplex_contexts"] == 1
    server.wait_until_idle(within_s=10)
