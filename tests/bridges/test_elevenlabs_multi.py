"""ElevenLabs' socket `multi-stream-input`: contexts that come, go, are interrupted and never mix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bridges.conftest import Scripted
from bridges.elevenlabs_client import INIT, ElevenLabsClient, aligned, audio
from bridges.sockets import seconds, tones_hz, wait_for_metric
from conftest import ServerProcess

KIND = "multi-stream-input"
CLOSE_SOCKET = {"close_socket": True}
LONG = "This answer is a long one, and nobody will ever hear the end of it. " * 10


def to(context_id: str, text: str | None = None, **fields: Any) -> dict[str, Any]:
    said = {} if text is None else {"text": text}
    return {"context_id": context_id, **said, **fields}


def flush(context_id: str) -> dict[str, Any]:
    return to(context_id, flush=True)


def close(context_id: str) -> dict[str, Any]:
    return to(context_id, close_context=True)


@pytest.fixture
def client(voice_server: ServerProcess) -> Iterator[ElevenLabsClient]:
    with ElevenLabsClient(voice_server, KIND) as client:
        yield client


@pytest.fixture(scope="module")
def paced_server(serve: Callable[..., Scripted]) -> Scripted:
    """Audio is never more than 200 ms ahead of its listener."""
    return serve("--dialect-max-ahead-ms", "200", voices=["en-f"])


@pytest.fixture
def paced(paced_server: Scripted) -> Iterator[ElevenLabsClient]:
    with ElevenLabsClient(paced_server.server, KIND, voice="en-f") as client:
        yield client
    wait_for_metric(paced_server.server, "cosyduplex_contexts", 0)


# --- turns


def test_a_turn_ends_with_its_final_and_the_socket_stays(client: ElevenLabsClient) -> None:
    for turn in ("a", "b"):
        client.say(to(turn, " "), to(turn, "Hello "), to(turn, "there. "), flush(turn), close(turn))
        messages = client.until_final(turn)
        assert seconds(audio(messages)) > 0.4
        assert aligned(messages) == "Hello there. "
        assert {message["context_id"] for message in messages} == {turn}
    assert client.stays_quiet()


def test_the_first_audio_comes_before_the_last_text(client: ElevenLabsClient) -> None:
    client.say(to("a", " "), to("a", "A first sentence is complete. And "))
    client.until_audio()
    client.say(to("a", "a second one follows."), flush("a"), close("a"))
    client.until_final("a")


def test_a_flush_with_the_last_text_is_spoken_to_its_end(client: ElevenLabsClient) -> None:
    client.say(to("a", "Everything is heard", flush=True), close("a"))
    messages = client.until_final("a")
    assert aligned(messages) == "Everything is heard"
    assert seconds(audio(messages)) > 0.7


def test_contexts_never_mix(serve: Callable[..., Scripted]) -> None:
    server = serve(voices=["en-f"], realtime_factor=0.1).server
    with ElevenLabsClient(server, KIND, voice="en-f") as client:
        names = ("a", "b", "c")
        for piece in ("Some words ", "of one con", "text. "):
            client.say(*(to(name, piece) for name in names))
        for name in names:
            client.say(flush(name), close(name))
        client.say(CLOSE_SOCKET)
        assert client.closed() == (1000, "")
        heard = [
            tones_hz(audio(message for message in client.objects if message["contextId"] == name))
            for name in names
        ]
    assert [len(tones) for tones in heard] == [1, 1, 1]
    assert len(set.union(*heard)) == 3


def test_without_an_id_there_is_one_context(client: ElevenLabsClient) -> None:
    client.say(INIT, {"text": "Nobody named this. "}, {"flush": True}, {"close_context": True})
    messages = client.until_final("default")
    assert aligned(messages) == "Nobody named this. "


def test_ids_may_be_written_as_the_sdk_writes_them(client: ElevenLabsClient) -> None:
    client.say({"contextId": "x", "text": "Fine. ", "flush": True}, {"contextId": "x", "close_context": True})
    assert audio(client.until_final("x"))


def test_each_context_has_its_own_speed(scripted: Scripted) -> None:
    with ElevenLabsClient(scripted.server, KIND, voice="en-f") as client:
        for name, speed in (("a", 0.8), ("b", 1.2)):
            client.say(
                to(name, " ", voice_settings={"speed": speed}), to(name, "One. "), flush(name), close(name)
            )
            client.until_final(name)
            assert scripted.spoken.last()["speed"] == pytest.approx(speed)


# --- keep-alives


def test_empty_texts_open_nothing_and_end_nothing(client: ElevenLabsClient) -> None:
    client.say({"text": ""}, to("a", ""), close("never"), flush("never"))
    assert client.stays_quiet()
    client.say(to("a", "Half a sentence "), to("a", ""), {"text": ""}, to("a", "is whole. "))
    client.say(flush("a"), close("a"))
    assert aligned(client.until_final("a")) == "Half a sentence is whole. "


def test_a_silent_context_is_ended_and_the_others_are_not(voice_server: ServerProcess) -> None:
    with ElevenLabsClient(voice_server, KIND, inactivity_timeout=1) as client:
        client.say(to("a", "No more comes "))
        client.until_final("a")
        client.say(to("a", "And again. "), flush("a"), close("a"))
        client.until_final("a")


def test_a_silent_socket_is_closed_in_the_words_of_the_api(voice_server: ServerProcess) -> None:
    with ElevenLabsClient(voice_server, KIND, inactivity_timeout=1) as client:
        assert client.closed()[0] == 1008
        assert client.objects[-1]["error"] == "input_timeout_exceeded"


# --- interruptions


def test_an_interruption_is_answered_and_no_audio_follows(paced: ElevenLabsClient) -> None:
    paced.say(to("old", " "), to("old", LONG))
    paced.until_audio()
    paced.say(close("old"), to("new", "Another answer. "), flush("new"), close("new"))
    old = paced.until_final("old")
    assert seconds(audio(old)) < 3
    new = paced.until_final("new")
    assert len(tones_hz(audio(new))) == 1
    assert tones_hz(audio(new)).isdisjoint(tones_hz(audio(paced.objects[:1])))
    finals = [message["contextId"] for message in paced.objects if message["isFinal"]]
    assert finals == ["old", "new"]
    assert not audio(message for message in paced.objects[len(old) :] if message["contextId"] == "old")


def test_a_context_closed_twice_stops_although_it_was_flushed(paced: ElevenLabsClient) -> None:
    paced.say(to("a", LONG), flush("a"), close("a"))
    paced.until_audio()
    paced.say(to("a", ""), close("a"))
    assert seconds(audio(paced.until_final("a"))) < 3
    wait_for_metric(paced.server, "cosyduplex_contexts", 0)


def test_what_came_after_the_flush_is_not_spoken(paced: ElevenLabsClient) -> None:
    paced.say(to("a", "This is heard. ", flush=True), to("a", "This is not heard. "), close("a"))
    messages = paced.until_final("a")
    assert aligned(messages) == "This is heard. "
    assert seconds(audio(messages)) == pytest.approx(0.84, abs=0.1)


def test_an_id_is_free_as_soon_as_it_is_closed(paced: ElevenLabsClient) -> None:
    paced.say(to("a", "First. "), flush("a"), close("a"), to("a", "Second. "), flush("a"), close("a"))
    assert aligned(paced.until_final("a")) == "First. "
    assert aligned(paced.until_final("a")) == "Second. "


def test_closing_the_socket_says_all_that_was_said_first(paced: ElevenLabsClient) -> None:
    paced.say(to("a", "One sentence. "), to("b", "And half of"), CLOSE_SOCKET)
    assert paced.closed() == (1000, "")
    assert aligned(message for message in paced.objects if message["contextId"] == "a") == "One sentence. "
    assert aligned(message for message in paced.objects if message["contextId"] == "b") == "And half of"


def test_closing_a_quiet_socket_closes_it(client: ElevenLabsClient) -> None:
    client.say(CLOSE_SOCKET)
    assert client.closed() == (1000, "")


# --- what is wrong


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        b"\x00",
        to("", "x"),
        {"context_id": 5, "text": "x"},
        to("x" * 300, "x"),
        {"context_id": "a", "text": 5},
    ],
    ids=str,
)
def test_what_is_no_message_is_told_and_ends_nothing(client: ElevenLabsClient, message: Any) -> None:
    client.say(message)
    assert client.next()["error"] == "invalid_input_message"
    client.say(to("b", "Still there. "), flush("b"), close("b"))
    assert audio(client.until_final("b"))


def test_too_long_a_text_ends_its_context_alone(client: ElevenLabsClient) -> None:
    client.say(to("a", "x" * 200_000), to("b", "Still there. "), flush("b"), close("b"))
    error, final = client.until_final("a")
    assert (error["error"], final["isFinal"]) == ("max_character_limit_exceeded", True)
    assert audio(client.until_final("b"))


def test_too_many_contexts_are_refused_one_by_one(voice_server: ServerProcess) -> None:
    with ElevenLabsClient(voice_server, KIND) as client:
        client.say(*(to(str(number), "Wait ") for number in range(17)))
        while "error" not in (message := client.next()):
            pass
        assert (message["error"], message["contextId"]) == ("system_busy", "16")
        client.say(close("0"), to("17", "Now. "), flush("17"), close("17"))
        assert audio(client.until_final("17"))


def test_a_failing_engine_ends_its_context_alone(serve: Callable[..., Scripted]) -> None:
    server = serve(voices=["en-f"], fail_after_ms=500).server
    with ElevenLabsClient(server, KIND, voice="en-f") as client:
        client.say(to("a", "This one is too long. "), flush("a"), close("a"))
        *_, error, _ = client.until_final("a")
        assert (error["error"], error["code"]) == ("internal_server_error", 1011)
        client.say(to("b", "Short. "), flush("b"), close("b"))
        assert aligned(client.until_final("b")) == "Short. "


def test_whoever_hangs_up_frees_the_engine(serve: Callable[..., Scripted]) -> None:
    server = serve(voices=["en-f"], realtime_factor=1.0).server
    with ElevenLabsClient(server, KIND, voice="en-f") as client:
        client.say(to("a", LONG), to("b", LONG))
        client.until_audio()
        wait_for_metric(server, "cosyduplex_contexts", 2)
    wait_for_metric(server, "cosyduplex_contexts", 0)
