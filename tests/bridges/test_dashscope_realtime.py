"""Qwen's realtime socket, as its SDK uses it and as nobody should."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import av
import pytest
from bridges.conftest import Scripted
from bridges.sockets import DialectClient, Message, kind, seconds, tones_hz, wait_for_metric
from conftest import ServerProcess
from websockets.exceptions import InvalidStatus

PATH = "/api-ws/v1/realtime?model=qwen3-tts-flash-realtime"
RESPONSE = (
    "response.created",
    "response.output_item.added",
    "response.content_part.added",
    "response.audio.delta",
    "response.audio.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
)


def update(client: DialectClient, **session: Any) -> dict[str, Any]:
    """Changes the session and returns it as it is then."""
    client.say({"type": "session.update", "session": session})
    answer = client.until("session.updated")[-1]
    assert isinstance(answer, dict)
    session = answer["session"]
    return session


def append(text: str) -> dict[str, Any]:
    return {"type": "input_text_buffer.append", "event_id": "event_1", "text": text}


COMMIT = {"type": "input_text_buffer.commit"}
CANCEL = {"type": "response.cancel"}
FINISH = {"type": "session.finish"}


def deltas(messages: list[Message]) -> bytes:
    """The audio of some events."""
    return b"".join(
        base64.b64decode(message["delta"])
        for message in messages
        if isinstance(message, dict) and message["type"] == "response.audio.delta"
    )


def result(message: Message) -> dict[str, Any]:
    """What `response.done` says."""
    assert isinstance(message, dict)
    assert message["type"] == "response.done"
    response: dict[str, Any] = message["response"]
    return response


def error(message: Message) -> str:
    """What an error says."""
    assert isinstance(message, dict)
    assert message["type"] == "error", message
    return str(message["error"]["message"])


@pytest.fixture
def client(scripted: Scripted) -> Iterator[DialectClient]:
    """A session with an engine that hums, 60 ms a character."""
    with DialectClient(scripted.server, PATH) as client:
        assert kind(client.next()) == "session.created"
        yield client
    wait_for_metric(scripted.server, "cosyduplex_contexts", 0)


def test_a_session_is_greeted_and_tells_how_it_speaks(client: DialectClient) -> None:
    (created,) = client.messages
    assert isinstance(created, dict)
    session = created["session"]
    assert session.pop("id")
    assert session == {
        "object": "realtime.session",
        "mode": "server_commit",
        "model": "qwen3-tts-flash-realtime",
        "voice": "zh-f",
        "response_format": "pcm",
        "sample_rate": 24000,
    }
    assert update(client, voice="Cherry", sample_rate=16000, mode=None)["sample_rate"] == 16000
    updated = update(client, mode="commit")
    assert (updated["voice"], updated["sample_rate"], updated["mode"]) == ("Cherry", 16000, "commit")


def test_where_the_server_commits_audio_comes_before_the_last_text(client: DialectClient) -> None:
    client.say(append("A first sent"), append("ence. And "))
    client.until("response.audio.delta")
    client.say(append("a second."), FINISH)
    client.until("session.finished")
    assert client.closed()[0] == 1000
    assert seconds(deltas(client.messages)) == pytest.approx(30 * 0.06)


def test_a_response_has_its_whole_life_in_order(client: DialectClient) -> None:
    client.say(append("Some words."), COMMIT)
    messages = client.until("response.done")
    kinds = [kind(message) for message in messages]
    assert kinds[0] == "input_text_buffer.committed"
    assert tuple(dict.fromkeys(kinds[1:])) == RESPONSE
    created = messages[1]
    assert isinstance(created, dict)
    done = result(messages[-1])
    assert done["id"] == created["response"]["id"]
    assert (done["status"], done["usage"]) == ("completed", {"characters": 11})


def test_where_the_client_commits_each_commit_is_a_response_and_nothing_else_is_spoken(
    client: DialectClient,
) -> None:
    update(client, mode="commit")
    client.say(append("Ten chars."))
    assert client.stays_quiet()
    client.say(COMMIT, append("Four"), append("teen chars."), COMMIT)
    first, second = client.until("response.done"), client.until("response.done")
    assert seconds(deltas(first)) == pytest.approx(10 * 0.06)
    assert seconds(deltas(second)) == pytest.approx(15 * 0.06)
    assert result(first[-1])["id"] != result(second[-1])["id"]


def test_a_clear_forgets_what_waits_for_a_commit(client: DialectClient) -> None:
    update(client, mode="commit")
    client.say(append("Never said."), {"type": "input_text_buffer.clear"}, append("Said."), COMMIT)
    client.until("input_text_buffer.cleared")
    assert seconds(deltas(client.until("response.done"))) == pytest.approx(5 * 0.06)


def test_a_cancel_ends_the_response_at_once_and_the_next_one_is_whole(client: DialectClient) -> None:
    client.say(append("A sentence that nobody wants to hear to its end. " * 20))
    heard = deltas(client.until("response.audio.delta"))
    client.say(CANCEL, append("Next."), COMMIT)
    cancelled = client.until("response.done")
    assert result(cancelled[-1])["status"] == "cancelled"
    following = client.until("response.done")
    assert result(following[-1])["status"] == "completed"
    assert seconds(deltas(following)) == pytest.approx(5 * 0.06)
    assert not tones_hz(deltas(following)) & tones_hz(heard + deltas(cancelled))


def test_a_cancel_before_the_first_audio_is_answered_too(serve: Callable[..., Scripted]) -> None:
    with DialectClient(serve(first_audio_ms=60_000).server, PATH) as client:
        client.say(append("Some words."), COMMIT, CANCEL, CANCEL)
        assert result(client.until("response.done")[-1])["status"] == "cancelled"
        assert "no response" in error(client.next())


def test_a_pause_of_the_writer_ends_a_response_and_frees_the_engine(
    start_server: Callable[..., ServerProcess], start_worker: Callable[..., Any]
) -> None:
    prelude = "import cosyduplex_bridges.dashscope.realtime as realtime; realtime.PAUSE_S = 0.2"
    server = start_server("--workers", start_worker().address, prelude=prelude)
    with DialectClient(server, PATH) as client:
        client.say(append("no end of a sentence"))
        assert seconds(deltas(client.until("response.done"))) == pytest.approx(20 * 0.06)
        wait_for_metric(server, "cosyduplex_contexts", 0)
        client.say(append("Once more."))
        client.until("response.done")


def test_what_is_changed_holds_for_what_is_appended_later(client: DialectClient) -> None:
    update(client, response_format="pcm")
    client.say(append("In samples. "))
    client.until("response.audio.delta")
    client.say({"type": "session.update", "session": {"response_format": "mp3", "sample_rate": 22050}})
    client.say(append("In frames."), COMMIT)
    client.until("response.done")
    audio = deltas(client.until("response.done"))
    with av.open(io.BytesIO(audio)) as stream:
        assert stream.streams.audio[0].codec_context.name == "mp3float"


def test_what_the_session_asks_reaches_the_engine(client: DialectClient, scripted: Scripted) -> None:
    update(client, voice="en-f", speech_rate=0.5, instructions="Whisper.", language_type="English")
    client.say(append("So."), FINISH)
    client.until("session.finished")
    how = scripted.spoken.last()
    assert (how["voice"], how["speed"], how["instruct"], how["language"]) == ("en-f", 0.5, "Whisper.", "en")


def test_what_is_not_done_as_asked_is_told_with_the_response(client: DialectClient) -> None:
    update(client, pitch_rate=1.5, optimize_instructions=True)
    client.say(append("So."), COMMIT)
    warnings = " ".join(result(client.until("response.done")[-1])["warnings"])
    assert "pitch" in warnings
    assert "optimize_instructions" in warnings


def test_a_session_without_text_is_finished_at_once(client: DialectClient) -> None:
    client.say(append(""), FINISH)
    client.until("session.finished")
    assert client.closed()[0] == 1000


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("not JSON", "JSON"),
        ("[]", "object"),
        ({"type": 5}, "string"),
        ({}, "missing"),
        ({"type": "dance"}, "not known"),
        ({"type": "input_text_buffer.append", "text": ["a"]}, "string"),
        (COMMIT, "no text to commit"),
        (CANCEL, "no response to cancel"),
        ({"type": "session.update", "session": "x"}, "object"),
        ({"type": "session.update", "session": {"voice": "nobody-at-all"}}, "no voice"),
        ({"type": "session.update", "session": {"mode": "x"}}, "mode must be"),
        ({"type": "session.update", "session": {"sample_rate": 1}}, "sample_rate must be one of"),
        ({"type": "session.update", "session": {"response_format": "flac"}}, "pcm, wav, mp3"),
        ({"type": "session.update", "session": {"language_type": "Klingon"}}, "language_type"),
        ({"type": "session.update", "session": {"voice": "\ud800"}}, "no voice"),
        (b"binary", "binary"),
    ],
)
def test_a_mistake_is_an_error_and_ends_nothing(client: DialectClient, message: Any, told: str) -> None:
    client.say(message)
    assert told in error(client.next())
    client.say(append("Still here."), COMMIT)
    assert result(client.until("response.done")[-1])["status"] == "completed"


@pytest.mark.parametrize("mode", ["server_commit", "commit"])
def test_too_much_text_is_an_error(client: DialectClient, mode: str) -> None:
    update(client, mode=mode)
    client.say(append("a" * 150_000), append("a" * 150_000))
    assert "characters" in error(client.next())


def test_an_engine_that_fails_fails_the_response_and_the_session_goes_on(
    serve: Callable[..., Scripted],
) -> None:
    with DialectClient(serve(fail_after_ms=300).server, PATH) as client:
        client.say(append("A sentence that is too long for it."), COMMIT)
        assert result(client.until("response.done")[-1])["status"] == "failed"
        assert error(client.next())
        client.say(append("Hi."), COMMIT, FINISH)
        assert result(client.until("response.done")[-1])["status"] == "completed"
        client.until("session.finished")


def test_a_client_that_goes_away_frees_the_engine(scripted: Scripted) -> None:
    with DialectClient(scripted.server, PATH) as client:
        client.say(append("A sentence that nobody will hear to its end. " * 100))
        client.until("response.audio.delta")
    wait_for_metric(scripted.server, "cosyduplex_contexts", 0)


def test_a_wrong_key_refuses_the_handshake(serve: Callable[..., Scripted]) -> None:
    with pytest.raises(InvalidStatus) as refused:
        DialectClient(serve("--api-key", "secret").server, PATH)
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["code"] == "InvalidApiKey"
