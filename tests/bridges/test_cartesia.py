"""Cartesia's socket and its routes, as their clients use them and as nobody should."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from bridges.sockets import DialectClient, Message, loudness, metric, seconds, tones_hz, wait_for_metric
from conftest import ServerProcess
from websockets.exceptions import InvalidStatus

from cosyduplex_server.testing import tone_hz

PATH = "/tts/websocket?cartesia_version=2025-04-16"
RAW = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24000}


def said(text: str, context_id: str = "a", **fields: Any) -> dict[str, Any]:
    return {
        "context_id": context_id,
        "model_id": "sonic-3",
        "transcript": text,
        "voice": {"mode": "id", "id": "default"},
        "output_format": RAW,
        "language": None,
        "continue": True,
        **fields,
    }


def last(text: str = "", context_id: str = "a", **fields: Any) -> dict[str, Any]:
    return said(text, context_id, **{"continue": False, **fields})


def of(context_id: str, *kinds: str) -> Callable[[Message], bool]:
    return lambda message: (
        isinstance(message, dict) and message["context_id"] == context_id and message["type"] in kinds
    )


def audio(messages: list[Message], context_id: str = "a") -> bytes:
    chunks = filter(of(context_id, "chunk"), messages)
    return b"".join(base64.b64decode(chunk["data"]) for chunk in chunks if isinstance(chunk, dict))


@pytest.fixture
def client(voice_server: ServerProcess) -> Iterator[DialectClient]:
    with DialectClient(voice_server, PATH) as client:
        yield client


@pytest.fixture
def scripted(fake_server: Callable[..., ServerProcess]) -> Iterator[Callable[..., DialectClient]]:
    clients: list[DialectClient] = []

    def connect(*options: str, **script: Any) -> DialectClient:
        clients.append(DialectClient(fake_server(*options, voices=["default"], **script), PATH))
        return clients[-1]

    yield connect
    for client in clients:
        client.socket.close()


# --- the socket


def test_transcripts_of_a_context_are_one_text_and_done_comes_once(client: DialectClient) -> None:
    client.say(said("Hel"), said("lo there. "), said("How are"), said(" you?"), last())
    messages = client.until("done")
    assert seconds(audio(messages)) > 0.8
    assert loudness(audio(messages)) > 0.01
    assert messages[-1] == {"type": "done", "context_id": "a", "status_code": 200, "done": True}
    for message in messages[:-1]:
        assert isinstance(message, dict)
        assert (message["type"], message["status_code"], message["done"]) == ("chunk", 206, False)
        assert message["context_id"] == "a"
    assert client.stays_quiet()


def test_the_first_audio_comes_before_the_last_text(client: DialectClient) -> None:
    client.say(said("A first sentence is complete. And "))
    client.until("chunk")
    client.say(last("a second one follows."))
    client.until("done")


def test_words_come_with_their_times_from_the_start_of_the_context(client: DialectClient) -> None:
    client.say(said("Hello, world. ", add_timestamps=True), last("你好，世界。", add_timestamps=True))
    messages = client.until("done")
    times = [message["word_timestamps"] for message in messages if kind_of(message) == "timestamps"]
    words = [word for each in times for word in each["words"]]
    assert words == ["Hello,", "world.", "你", "好", "，", "世", "界", "。"]
    starts = [start for each in times for start in each["start"]]
    ends = [end for each in times for end in each["end"]]
    assert starts == sorted(starts)
    assert all(start <= end for start, end in zip(starts, ends, strict=True))
    assert ends[-1] == pytest.approx(seconds(audio(messages)), abs=0.5)


def kind_of(message: Any) -> str:
    return str(message["type"])


def test_each_flush_is_answered_and_numbers_what_follows(client: DialectClient) -> None:
    client.say(said("One.", flush=True), said("Two.", flush=True), last("Three."))
    messages = client.until("done")
    flat = [(kind_of(message), message.get("flush_id")) for message in messages if isinstance(message, dict)]
    assert list(dict.fromkeys(flat)) == [
        ("chunk", 1),
        ("flush_done", 1),
        ("chunk", 2),
        ("flush_done", 2),
        ("chunk", 3),
        ("done", None),
    ]


def test_without_a_buffer_each_submission_is_spoken_and_answered(client: DialectClient) -> None:
    client.say(said("One sentence.", max_buffer_delay_ms=0))
    client.until("flush_done")
    client.say(last(" ", max_buffer_delay_ms=0))
    assert kind_of(client.until("done")[-1]) == "done"


def test_contexts_are_spoken_at_once_and_never_mix(scripted: Callable[..., DialectClient]) -> None:
    client = scripted(ms_per_char=40, chunk_ms=100, realtime_factor=1.0)
    texts = ["Anna is speaking here.", "Bert is speaking here.", "Carl is speaking here."]
    for number, text in enumerate(texts):
        client.say(last(text, f"context {number}"))
    ends: list[Message] = []
    while len(ends) < 3:
        ends.append(client.until("done")[-1])
    for number in range(3):
        pcm = audio(client.messages, f"context {number}")
        assert seconds(pcm) == pytest.approx(0.04 * len(texts[number]), abs=0.01)
        assert tones_hz(pcm) == {round(tone_hz(number) / 10) * 10}
    order = [message["context_id"] for message in client.messages if isinstance(message, dict)]
    assert order != sorted(order), "one after another, not at once"


def test_after_a_cancel_nothing_comes_of_that_context(scripted: Callable[..., DialectClient]) -> None:
    client = scripted("--dialect-max-ahead-ms", "300", ms_per_char=100)
    client.say(said("A long text that nobody wants to hear to its end. " * 5))
    client.until("chunk")
    client.say({"context_id": "a", "cancel": True}, {"context_id": "never there", "cancel": True})
    client.say(last("Short.", "b"))
    after = client.until(of("b", "done"))
    cancelled = next(at for at, message in enumerate(after) if of("b", "chunk")(message))
    assert not any(of("a", "chunk", "done", "error")(message) for message in after[cancelled:])
    assert tones_hz(audio(after, "b")) == {round(tone_hz(1) / 10) * 10}
    client.say(last("Again.", "a"))
    assert tones_hz(audio(client.until(of("a", "done")))) == {round(tone_hz(2) / 10) * 10}


def test_an_id_is_used_again_after_its_last_transcript_also_at_once(client: DialectClient) -> None:
    client.say(last("One."), last("Two."), said("Three "), last("is it."))
    for _ in range(3):
        assert audio(client.until("done"))
    assert client.stays_quiet()


@pytest.mark.parametrize(
    ("encoding", "width"), [("pcm_s16le", 2), ("pcm_f32le", 4), ("pcm_mulaw", 1), ("pcm_alaw", 1)]
)
def test_every_encoding_has_whole_samples(client: DialectClient, encoding: str, width: int) -> None:
    output = {"container": "raw", "encoding": encoding, "sample_rate": 44100}
    client.say(last("The same words.", output_format=output))
    messages = client.until("done")
    data = audio(messages)
    assert 0.6 < len(data) / width / 44100 < 2
    if encoding == "pcm_f32le":
        samples = np.frombuffer(data, "<f4")
        assert 0.05 < np.abs(samples).max() <= 1


def test_without_a_format_it_is_what_the_sdk_defaults_to(client: DialectClient) -> None:
    message = last("A word.")
    del message["output_format"]
    client.say(message)
    assert np.abs(np.frombuffer(audio(client.until("done")), "<f4")).max() <= 1


@pytest.mark.parametrize(
    "voice",
    [{"id": "default"}, "default", None, {"mode": "id", "id": "694f9389-aac1-45b6-b726-9d9369183238"}],
)
def test_a_voice_is_named_in_every_form(client: DialectClient, voice: Any) -> None:
    client.say(last("Yes.", voice=voice))
    assert audio(client.until("done"))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"voice": {"mode": "id", "id": "nobody"}}, "unknown_voice"),
        ({"voice": {"mode": "embedding", "embedding": [0.1]}}, "bad_request"),
        ({"voice": 7}, "bad_request"),
        ({"output_format": {**RAW, "sample_rate": 12345}}, "unsupported_format"),
        ({"output_format": {**RAW, "encoding": "pcm_s24le"}}, "unsupported_format"),
        ({"output_format": {**RAW, "container": "mp3"}}, "unsupported_format"),
        ({"output_format": "raw"}, "bad_request"),
        ({"output_format": {"container": "raw"}}, "bad_request"),
        ({"transcript": 7}, "bad_request"),
        ({"transcript": "x" * 200_000}, "text_too_long"),
        ({"generation_config": {"speed": 99}}, "bad_request"),
        ({"generation_config": "fast"}, "bad_request"),
    ],
)
def test_what_cannot_be_spoken_ends_its_context_and_no_other(
    client: DialectClient, wrong: dict[str, Any], complaint: str
) -> None:
    client.say(
        said("The other one goes on. ", "good"), last("Words.", "bad", **wrong), last("To its end.", "good")
    )
    messages = client.until(of("good", "done"))
    (error,) = filter(of("bad", "error"), messages)
    assert isinstance(error, dict)
    assert error["error_code"] == complaint
    assert error["done"] is True
    assert error["status_code"] >= 400
    assert error["message"] == error["error"]
    assert seconds(audio(messages, "good")) > 0.8


@pytest.mark.parametrize("message", ["no json", "[1]", b"\0", '{"transcript": "no id"}', '{"context_id": 5}'])
def test_a_message_without_a_context_has_an_error_with_an_empty_one(
    client: DialectClient, message: str | bytes
) -> None:
    client.say(message)
    error = client.next()
    assert isinstance(error, dict)
    assert (error["type"], error["context_id"], error["status_code"]) == ("error", "", 400)
    client.say(last("Fine \ud83d."))
    assert audio(client.until("done"))


def test_silent_text_is_done_without_audio(client: DialectClient) -> None:
    client.say(last(""), last(" ", "b"), last("***", "c"))
    found = [client.next() for _ in range(3)]
    assert sorted(message["context_id"] for message in found if isinstance(message, dict)) == ["a", "b", "c"]
    assert {kind_of(message) for message in found} == {"done"}


def test_a_wrong_key_refuses_the_handshake_and_a_page_may_put_its_own_in_the_query(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server("--api-key", "secret")
    for wrong in ("", "&api_key=wrong"):
        with pytest.raises(InvalidStatus) as refused:
            DialectClient(server, PATH + wrong)
        assert refused.value.response.status_code == 401
    for path, headers in (
        (PATH + "&access_token=secret", {}),
        (PATH, {"X-API-Key": "secret"}),
        (PATH, {"Authorization": "Bearer secret"}),
    ):
        with DialectClient(server, path, additional_headers=headers) as client:
            client.say(last("Yes."))
            assert audio(client.until("done"))


def test_a_client_that_goes_away_frees_the_engine(scripted: Callable[..., DialectClient]) -> None:
    client = scripted(ms_per_char=100, realtime_factor=1.0)
    client.say(said("A long text that takes its time. " * 20))
    client.until("chunk")
    client.socket.socket.close()
    server = client.server
    wait_for_metric(server, "cosyduplex_contexts", 0)
    assert metric(server, 'cosyduplex_requests_total{door="cartesia",outcome="dropped"}') == 1


def test_an_engine_that_fails_ends_the_context_with_an_error(scripted: Callable[..., DialectClient]) -> None:
    client = scripted(fail_after_ms=300)
    client.say(last("This will not be finished. " * 5))
    error = client.until("error")[-1]
    assert isinstance(error, dict)
    assert (error["error_code"], error["context_id"]) == ("engine_failed", "a")
    assert client.stays_quiet()


# --- the routes


def post(server: ServerProcess, path: str, body: bytes | dict[str, Any]) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", path, json.dumps(body).encode() if isinstance(body, dict) else body)
    response = connection.getresponse()
    found = response.status, response.getheader("content-type") or "", response.read()
    connection.close()
    return found


@pytest.mark.parametrize(
    ("output", "media_type", "magic"),
    [
        (RAW, "audio/pcm", b""),
        ({"container": "wav", "encoding": "pcm_f32le", "sample_rate": 22050}, "audio/wav", b"RIFF"),
        ({"container": "mp3", "sample_rate": 44100, "bit_rate": 128000}, "audio/mpeg", b"\xff"),
    ],
)
def test_the_route_of_bytes_streams_every_container(
    voice_server: ServerProcess, output: dict[str, Any], media_type: str, magic: bytes
) -> None:
    body = {
        "model_id": "sonic-3",
        "transcript": "Hello.",
        "voice": {"id": "default"},
        "output_format": output,
    }
    status, found, data = post(voice_server, "/tts/bytes", body)
    assert (status, found) == (200, media_type)
    assert data.startswith(magic)
    assert len(data) > 3000


def test_the_route_of_events_has_chunks_words_and_an_end(voice_server: ServerProcess) -> None:
    status, media_type, data = post(voice_server, "/tts/sse", said("Hello, world.", add_timestamps=True))
    assert (status, media_type.partition(";")[0]) == (200, "text/event-stream")
    events = [json.loads(block.partition("data: ")[2]) for block in data.decode().strip().split("\n\n")]
    assert [block.partition("\n")[0] for block in data.decode().strip().split("\n\n")] == [
        f"event: {event['type']}" for event in events
    ]
    assert events[-1] == {"type": "done", "context_id": "a", "status_code": 200, "done": True}
    assert {event["type"] for event in events} == {"chunk", "timestamps", "done"}
    assert seconds(audio(events)) > 0.5


@pytest.mark.parametrize("path", ["/tts/bytes", "/tts/sse"])
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_request"),
        (b"[]", "bad_request"),
        (b'{"transcript": "\xff"}', "bad_request"),
        (said("x", voice={"id": "nobody"}), "unknown_voice"),
        (said("x" * 1_000_000), "text_too_long"),
        (said("x", output_format={**RAW, "sample_rate": 1}), "unsupported_format"),
        (said("x", output_format={**RAW, "sample_rate": "24000"}), "bad_request"),
    ],
)
def test_a_bad_request_to_a_route_has_the_vendors_form(
    voice_server: ServerProcess, path: str, body: Any, code: str
) -> None:
    status, media_type, data = post(voice_server, path, body)
    error = json.loads(data)
    assert 400 <= status < 500
    assert media_type == "application/json"
    assert error["error_code"] == code
    assert {"title", "message", "request_id"} <= error.keys()
