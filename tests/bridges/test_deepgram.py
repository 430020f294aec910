"""Deepgram's sockets and its route, as their clients use them and as nobody should."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bridges.sockets import (
    DialectClient,
    binary,
    kind,
    loudness,
    metric,
    seconds,
    tones_hz,
    wait_for_metric,
)
from conftest import ServerProcess
from websockets.exceptions import InvalidStatus

from cosyduplex_server.testing import tone_hz

V1 = "/v1/speak?model=aura-2-thalia-en&encoding=linear16&sample_rate=24000"
V2 = "/v2/speak?model=flux-alexis-en&encoding=linear16&sample_rate=24000"
FLUSH = {"type": "Flush"}


def speak(text: str) -> dict[str, Any]:
    return {"type": "Speak", "text": text}


@pytest.fixture
def v1(voice_server: ServerProcess) -> Iterator[DialectClient]:
    with DialectClient(voice_server, V1) as client:
        assert kind(client.next()) == "Metadata"
        yield client


@pytest.fixture
def v2(voice_server: ServerProcess) -> Iterator[DialectClient]:
    with DialectClient(voice_server, V2) as client:
        assert kind(client.next()) == "Connected"
        yield client


# --- Aura


def test_text_in_pieces_is_one_turn_and_its_flush_is_answered_after_its_last_audio(v1: DialectClient) -> None:
    for piece in ("Hel", "lo th", "ere. ", "How a", "re you?"):
        v1.say(speak(piece))
    v1.say(FLUSH)
    messages = v1.until("Flushed")
    assert messages[-1] == {"type": "Flushed", "sequence_id": 0}
    assert seconds(binary(messages)) > 0.8
    assert loudness(binary(messages)) > 0.01
    assert {kind(message) for message in messages} == {"audio", "Flushed"}
    assert v1.stays_quiet()


def test_the_first_audio_comes_before_the_last_text(v1: DialectClient) -> None:
    v1.say(speak("A first sentence is complete. And "))
    v1.until("audio")
    v1.say(speak("a second one follows."), FLUSH)
    v1.until("Flushed")


def test_each_flush_has_one_answer_also_where_there_is_nothing_to_flush(v1: DialectClient) -> None:
    v1.say(FLUSH, speak("One."), FLUSH, FLUSH, speak(""), FLUSH)
    v1.say({"type": "Close"})
    assert v1.closed() == (1000, "")
    answers = [message for message in v1.messages[1:] if isinstance(message, dict)]
    assert answers == [{"type": "Flushed", "sequence_id": number} for number in range(4)]
    assert kind(v1.messages[1]) == "Flushed"
    assert binary(v1.messages)


def test_after_cleared_no_audio_of_the_old_turn_comes_and_no_answer_to_its_flush(
    fake_server: Callable[..., ServerProcess],
) -> None:
    server = fake_server("--dialect-max-ahead-ms", "200", ms_per_char=100)
    with DialectClient(server, V1.replace("aura-2-thalia-en", "fake")) as client:
        client.say(speak("The old turn is long. " * 10), FLUSH)
        client.until("audio")
        client.say({"type": "Clear"}, speak("New."), FLUSH)
        client.until("Cleared")
        after = client.until("Flushed")
        assert after[-1] == {"type": "Flushed", "sequence_id": 1}
        assert tones_hz(binary(after)) == {round(tone_hz(1) / 10) * 10}


def test_closing_says_what_was_not_flushed_and_does_not_answer_a_flush_that_was_none(
    v1: DialectClient,
) -> None:
    v1.say(speak("Spoken to its end."), {"type": "Close"})
    assert v1.closed() == (1000, "")
    assert seconds(binary(v1.messages)) > 0.5
    assert [kind(message) for message in v1.messages if isinstance(message, dict)] == ["Metadata"]


def test_turns_are_sent_one_after_another(fake_server: Callable[..., ServerProcess]) -> None:
    server = fake_server(ms_per_char=20)
    with DialectClient(server, V1.replace("aura-2-thalia-en", "fake")) as client:
        client.say(speak("The first turn."), FLUSH, speak("The second turn."), FLUSH)
        for number in range(2):
            assert tones_hz(binary(client.until("Flushed"))) == {round(tone_hz(number) / 10) * 10}


@pytest.mark.parametrize(("encoding", "width"), [("mulaw", 1), ("alaw", 1), ("linear16", 2)])
def test_encodings_have_the_same_length(voice_server: ServerProcess, encoding: str, width: int) -> None:
    path = f"/v1/speak?model=en-f&encoding={encoding}&sample_rate=8000"
    with DialectClient(voice_server, path) as client:
        client.say(speak("The same words."), FLUSH)
        assert 0.6 < len(binary(client.until("Flushed"))) / 8000 / width < 2


def test_what_is_no_message_is_warned_of_and_ends_nothing(v1: DialectClient) -> None:
    v1.say("not json", "[]", {"type": "Sing"}, {"type": "Speak"}, {"type": "Speak", "text": 5}, b"\0\1")
    v1.say(speak("x" * 200_000), speak("Fine \ud83d."), FLUSH)
    messages = v1.until("Flushed")
    warnings = [message for message in messages if kind(message) == "Warning"]
    assert len(warnings) == 7
    for warning in warnings:
        assert isinstance(warning, dict)
        assert warning["code"] == warning["warn_code"]
        assert warning["description"] == warning["warn_msg"]
        assert "Traceback" not in warning["description"]
    assert binary(messages)


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("model=nobody", "voice"),
        ("model=en-f&encoding=ogg", "encoding"),
        ("model=en-f&sample_rate=12345", "12345"),
        ("model=en-f&sample_rate=x", "sample_rate"),
        ("model=en-f&speed=9", "speed"),
    ],
)
def test_a_query_that_cannot_be_honoured_refuses_the_handshake(
    voice_server: ServerProcess, query: str, complaint: str
) -> None:
    for path in ("/v1/speak", "/v2/speak"):
        with pytest.raises(InvalidStatus) as refused:
            DialectClient(voice_server, f"{path}?{query}")
        response = refused.value.response
        assert response.status_code == 400
        assert complaint in response.headers["dg-error"]
        assert complaint in json.loads(response.body)["err_msg"]


def test_a_wrong_key_refuses_the_handshake_and_a_page_may_offer_its_own_as_a_subprotocol(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server("--api-key", "secret")
    with pytest.raises(InvalidStatus) as refused:
        DialectClient(server, V1, additional_headers={"Authorization": "Token wrong"})
    assert refused.value.response.status_code == 401
    for right in (
        {"additional_headers": {"Authorization": "Token secret"}},
        {"subprotocols": ["token", "secret"]},
    ):
        with DialectClient(server, V1, **right) as client:
            assert kind(client.next()) == "Metadata"
    assert client.socket.subprotocol == "token"


def test_a_client_that_goes_away_frees_the_engine(fake_server: Callable[..., ServerProcess]) -> None:
    server = fake_server(ms_per_char=100, realtime_factor=1.0)
    client = DialectClient(server, V1.replace("aura-2-thalia-en", "fake"))
    client.say(speak("A long text that takes its time. " * 20), FLUSH)
    client.until("audio")
    assert metric(server, "cosyduplex_contexts") == 1
    client.socket.socket.close()
    wait_for_metric(server, "cosyduplex_contexts", 0)
    wait_for_metric(server, 'cosyduplex_engine_slots{state="busy"}', 0)


def test_an_engine_that_fails_is_told_of_before_the_close(fake_server: Callable[..., ServerProcess]) -> None:
    server = fake_server(fail_after_ms=300)
    with DialectClient(server, V1.replace("aura-2-thalia-en", "fake")) as client:
        client.say(speak("This will not be finished. " * 5), FLUSH)
        code, reason = client.closed()
        assert (code, reason) == (1011, "NET-0000")
        assert kind(client.messages[-1]) == "Error"


def test_a_server_that_goes_away_lets_a_turn_finish(fake_server: Callable[..., ServerProcess]) -> None:
    server = fake_server("--drain-timeout", "20", ms_per_char=40, realtime_factor=1.0)
    with DialectClient(server, V1.replace("aura-2-thalia-en", "fake")) as client:
        client.say(speak("Half a sentence is no sentence at all."), FLUSH)
        client.until("audio")
        server.process.terminate()
        code, _ = client.closed()
        assert code == 1001
        assert kind(client.messages[-1]) == "Flushed"


# --- Flux


def test_a_turn_has_a_name_a_start_its_figures_and_an_end(v2: DialectClient) -> None:
    v2.say(speak("Hello "), speak("there."), FLUSH)
    started, *audio, figures, flushed = v2.until("Flushed")
    assert isinstance(started, dict)
    assert isinstance(figures, dict)
    assert started["type"] == "SpeechStarted"
    assert figures["type"] == "SpeechMetadata"
    assert figures["input_character_count"] == 12
    assert figures["audio_duration_ms"] == pytest.approx(seconds(binary(audio)) * 1000, abs=1)
    assert flushed == {"type": "Flushed", "speech_id": started["speech_id"]}
    v2.say({"type": "Close"})
    assert v2.closed() == (1000, "")
    assert v2.messages[-1] == {
        "type": "SessionMetadata",
        "total_audio_duration_ms": figures["audio_duration_ms"],
        "total_input_character_count": 12,
        "total_billable_character_count": 12,
    }


def test_an_interruption_says_what_was_heard(fake_server: Callable[..., ServerProcess]) -> None:
    server = fake_server(ms_per_char=100)
    with DialectClient(server, V2.replace("flux-alexis-en", "fake")) as client:
        client.say(speak("One two three four five six."), FLUSH)
        client.until("Flushed")
        offset = {"type": "time_ms", "value": 1250}
        client.say({"type": "Interrupt", "playback_offset": offset})
        answer = client.until("SpeechInterrupted")[-1]
        assert isinstance(answer, dict)
        assert answer["audio_played_ms"] == 1250
        assert answer["text_spoken"] == "One two"
        assert answer["text_remaining"] == " three four five six."
        # The next turn begins where the listener stopped: there the offset counts from.
        client.say(speak("New words."), FLUSH)
        client.until("Flushed")
        client.say({"type": "Interrupt", "playback_offset": {"type": "time_ms", "value": 1600}})
        answer = client.until("SpeechInterrupted")[-1]
        assert isinstance(answer, dict)
        assert (answer["text_spoken"], answer["text_remaining"]) == ("New", " words.")


def test_an_interruption_stops_what_is_being_sent_and_the_next_turn_is_spoken(
    fake_server: Callable[..., ServerProcess],
) -> None:
    server = fake_server("--dialect-max-ahead-ms", "300", ms_per_char=100)
    with DialectClient(server, V2.replace("flux-alexis-en", "fake")) as client:
        client.say(speak("A turn of many words that is not heard out. " * 5), FLUSH)
        client.until("audio")
        client.say({"type": "Interrupt"})
        answer = client.until("SpeechInterrupted")[-1]
        assert isinstance(answer, dict)
        assert "text_spoken" not in answer  # nobody told what was played
        assert client.stays_quiet()
        client.say(speak("New."), FLUSH)
        after = client.until("Flushed")
        assert tones_hz(binary(after)) == {round(tone_hz(1) / 10) * 10}


def test_interruptions_that_make_no_sense_are_warned_of(v2: DialectClient) -> None:
    v2.say({"type": "Interrupt"}, {"type": "Interrupt", "playback_offset": "soon"}, FLUSH)
    warned, error, *rest = v2.until("Flushed")
    assert isinstance(warned, dict)
    assert warned["code"] == "NO_AUDIO_GENERATED"
    assert isinstance(error, dict)
    assert error["code"] == "DATA-0000"
    assert [kind(message) for message in rest] == ["Warning", "Flushed"]


def test_a_speed_is_configured_within_its_limits(v2: DialectClient) -> None:
    v2.say({"type": "Configure", "speed": 2}, {"type": "Configure", "speed": 9}, {"type": "Configure"})
    success, failure, nothing = (v2.next() for _ in range(3))
    assert success == {"type": "ConfigureSuccess", "applied": {"speed": 2.0}}
    assert isinstance(failure, dict)
    assert (failure["type"], failure["code"], failure["value"]) == (
        "ConfigureFailure",
        "SPEED_OUT_OF_RANGE",
        9,
    )
    assert nothing == {"type": "ConfigureSuccess", "applied": {}}
    v2.say(speak("These words are spoken fast."), FLUSH)
    fast = seconds(binary(v2.until("Flushed")))
    v2.say({"type": "Configure", "speed": 1})
    v2.until("ConfigureSuccess")
    v2.say(speak("These words are spoken fast."), FLUSH)
    assert seconds(binary(v2.until("Flushed"))) > 1.4 * fast


def test_text_without_a_sound_ends_its_turn_with_a_warning(v2: DialectClient) -> None:
    v2.say(speak("*** 🙂"), FLUSH)
    messages = v2.until("Flushed")
    assert [kind(message) for message in messages] == ["Warning", "SpeechMetadata", "Flushed"]


# --- the route


def post(server: ServerProcess, query: str, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", f"/v1/speak?{query}", body, headers)
    response = connection.getresponse()
    found = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return found


def test_the_route_answers_a_wav_or_bare_samples(voice_server: ServerProcess) -> None:
    body = json.dumps({"text": "Hello."}).encode()
    query = "model=aura-2-thalia-en&encoding=linear16&sample_rate=16000"
    status, headers, wav = post(voice_server, query, body)
    assert (status, headers["content-type"], wav[:4]) == (200, "audio/wav", b"RIFF")
    assert headers["dg-char-count"] == "6"
    _, _, bare = post(voice_server, query + "&container=none", body)
    assert bare[:4] != b"RIFF"
    assert seconds(bare, 16000) == pytest.approx(seconds(wav[44:], 16000), abs=0.1)
    status, headers, mp3 = post(voice_server, "model=aura-2-thalia-en", body)
    assert (status, headers["content-type"], mp3[0]) == (200, "audio/mpeg", 0xFF)


@pytest.mark.parametrize(
    ("query", "body", "code"),
    [
        ("model=en-f", b"", "BAD_REQUEST"),
        ("model=en-f", b"{}", "BAD_REQUEST"),
        ("model=en-f", b'{"text": 1}', "BAD_REQUEST"),
        ("model=en-f", b'{"text": "\xff"}', "BAD_REQUEST"),
        ("model=nobody", b'{"text": "x"}', "UNKNOWN_VOICE"),
        ("model=en-f&encoding=midi", b'{"text": "x"}', "UNSUPPORTED_FORMAT"),
        ("model=en-f", json.dumps({"text": "x" * 1_000_000}).encode(), "TEXT_TOO_LONG"),
        ("model=en-f", b" " * 3_000_000, "TEXT_TOO_LONG"),
    ],
)
def test_a_bad_request_to_the_route_has_the_vendors_form(
    voice_server: ServerProcess, query: str, body: bytes, code: str
) -> None:
    status, _, answer = post(voice_server, query, body)
    assert status in (400, 413)
    error = json.loads(answer)
    assert error["err_code"] == code
    assert error["err_msg"]
    assert error["request_id"]


def test_a_text_without_a_sound_is_an_empty_answer(voice_server: ServerProcess) -> None:
    status, _, answer = post(voice_server, "model=en-f&encoding=linear16&container=none", b'{"text": ""}')
    assert (status, answer) == (200, b"")
