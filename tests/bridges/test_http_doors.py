"""What holds for every plain HTTP door alike: whoever calls, however badly, and however it ends."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from bridges.conftest import Scripted
from bridges.http_calls import Answer, call, hang_up_halfway, metrics, raw_request, wait_for

MINUTE = "word " * 200  # at 60 ms a character
KEY = "a-key-for-tests"


@dataclass(frozen=True, slots=True)
class Request:
    """A request that makes a door speak raw PCM.

    Attributes:
        code_of: finds the error's code in an answer.
    """

    door: str
    path: str
    text_field: str
    other_fields: dict[str, Any]
    code_of: Callable[[Answer], str]

    def body(self, text: str) -> bytes:
        """The request's body, in ASCII: what is not is escaped, lone surrogates as well."""
        return json.dumps({**self.other_fields, self.text_field: text}).encode()

    def send(self, port: int, text: str, headers: dict[str, str] | None = None) -> Answer:
        """Calls the door."""
        named = {"Content-Type": "application/json", **(headers or {})}
        return call(port, "POST", self.path, self.body(text), named)


REQUESTS = [
    Request(
        "openai",
        "/v1/audio/speech",
        "input",
        {"voice": "alloy", "response_format": "pcm"},
        lambda answer: answer.json["error"]["code"],
    ),
    Request("tts", "/tts", "text", {}, lambda answer: answer.json["error"]),
    Request("workflow", "/stream-audio", "Text", {"SampleRate": 24000}, lambda answer: answer.json["error"]),
    Request(
        "cosyvoice", "/inference_sft", "tts_text", {"spk_id": "中文女"}, lambda answer: answer.json["error"]
    ),
]
every_door = pytest.mark.parametrize("request_", REQUESTS, ids=[request.door for request in REQUESTS])


@pytest.fixture(scope="session")
def slow(share: Callable[..., Scripted]) -> Scripted:
    """An engine that needs a second for each second of speech."""
    return share(realtime_factor=1.0)


@pytest.fixture(scope="session")
def locked(share: Callable[..., Scripted]) -> Scripted:
    """A server with a key."""
    return share("--api-key", KEY)


# --- while it speaks


@every_door
def test_audio_comes_while_the_rest_is_being_made(slow: Scripted, request_: Request) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", slow.port, timeout=20)
    connection.request("POST", request_.path, request_.body(MINUTE), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.headers["transfer-encoding"] == "chunked"
    assert len(response.read1(65536)) > 0
    assert metrics(slow.port)["cosyduplex_contexts"] == 1
    connection.close()
    wait_for(lambda: metrics(slow.port)["cosyduplex_contexts"] == 0, "it goes on without a listener")


@every_door
def test_whoever_hangs_up_frees_the_engine(slow: Scripted, request_: Request) -> None:
    hang_up_halfway(slow.port, raw_request("POST", request_.path, request_.body(MINUTE)))
    wait_for(lambda: metrics(slow.port)["cosyduplex_contexts"] == 0, "it goes on without a listener")
    assert metrics(slow.port)['cosyduplex_engine_slots{state="free"}'] == 8


@every_door
def test_who_stops_reading_is_not_spoken_to_on_and_on(common: Scripted, request_: Request) -> None:
    # An hour of audio that is made at once, were there somebody to take it.
    before = common.server.memory_kb()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", common.port))
        client.sendall(raw_request("POST", request_.path, request_.body("word " * 12_000)))
        assert b"200 OK" in client.recv(4096)
        assert request_.send(common.port, "Others are heard.").status == 200
        assert metrics(common.port)["cosyduplex_contexts"] == 1
        # Of the 172 MB of that hour it holds what the sockets take, and a few seconds.
        assert common.server.memory_kb() - before < 40_000
    wait_for(lambda: metrics(common.port)["cosyduplex_contexts"] == 0, "it goes on without a listener")


@pytest.mark.parametrize("request_", REQUESTS[:2], ids=["openai", "tts"])
def test_whoever_hangs_up_before_all_is_made_frees_the_engine(slow: Scripted, request_: Request) -> None:
    whole = json.dumps({**request_.other_fields, request_.text_field: MINUTE, "stream": False}).encode()
    with socket.create_connection(("127.0.0.1", slow.port), timeout=20) as client:
        client.sendall(raw_request("POST", request_.path, whole))
        wait_for(lambda: metrics(slow.port)["cosyduplex_contexts"] == 1, "it did not begin")
    wait_for(lambda: metrics(slow.port)["cosyduplex_contexts"] == 0, "it goes on without a listener")


@every_door
def test_a_proxy_is_told_to_hold_nothing_back(common: Scripted, request_: Request) -> None:
    assert request_.send(common.port, "Hello.").headers["x-accel-buffering"] == "no"


@every_door
def test_requests_are_counted_by_door(common: Scripted, request_: Request) -> None:
    name = f'cosyduplex_requests_total{{door="{request_.door}",outcome="done"}}'
    before = metrics(common.port).get(name, 0)
    assert request_.send(common.port, "Count me.").status == 200
    assert metrics(common.port)[name] == before + 1


# --- what is wrong


@every_door
def test_the_key_is_asked_for_and_taken(locked: Scripted, request_: Request) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = request_.send(locked.port, "Hello.", headers)
        assert answer.status == 401
        assert request_.code_of(answer) in ("unauthorized", "invalid_api_key")
    for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}):
        assert request_.send(locked.port, "Hello.", headers).status == 200


def test_a_door_that_is_open_needs_no_key(share: Callable[..., Scripted]) -> None:
    names = [option for request in REQUESTS[:2] for option in ("--open-door", request.door)]
    server = share("--api-key", KEY, *names)
    for request in REQUESTS:
        expected = 200 if request in REQUESTS[:2] else 401
        assert request.send(server.port, "Hello.").status == expected, request.door


@every_door
def test_a_megabyte_of_text_is_refused(common: Scripted, request_: Request) -> None:
    answer = request_.send(common.port, "x" * 1_000_000)
    assert answer.status in (400, 413)
    assert request_.code_of(answer) == "text_too_long"


@every_door
def test_a_body_without_end_is_refused_before_it_has_come(common: Scripted, request_: Request) -> None:
    with socket.create_connection(("127.0.0.1", common.port), timeout=20) as client:
        head = f"POST {request_.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: 1000000000\r\n\r\n".encode())
        status = client.recv(4096).split()[1]
    assert status in (b"400", b"413")


@every_door
def test_half_a_character_is_spoken_as_nothing(common: Scripted, request_: Request) -> None:
    answer = request_.send(common.port, "One \ud83d two.")
    assert answer.status == 200
    assert len(answer.samples) > 0


@every_door
@pytest.mark.parametrize("value", [5, True, ["text"], {"a": 1}])
def test_a_text_that_is_none_is_refused(common: Scripted, request_: Request, value: Any) -> None:
    body = json.dumps({**request_.other_fields, request_.text_field: value})
    answer = call(common.port, "POST", request_.path, body, {"Content-Type": "application/json"})
    assert answer.status in (400, 422)


@every_door
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff\xfe{}", b"\x00" * 1000, b"{}"])
def test_a_body_that_says_nothing_is_refused(common: Scripted, request_: Request, body: bytes) -> None:
    answer = call(common.port, "POST", request_.path, body, {"Content-Type": "application/json"})
    assert answer.status in (400, 422)
    assert answer.json


@every_door
def test_half_a_request_leaves_nothing_behind(common: Scripted, request_: Request) -> None:
    whole = raw_request("POST", request_.path, request_.body("Never spoken."))
    with socket.create_connection(("127.0.0.1", common.port), timeout=20) as client:
        client.sendall(whole[:-10])
    assert request_.send(common.port, "Spoken.").status == 200
    assert metrics(common.port)["cosyduplex_contexts"] == 0


# --- when the engine fails


@every_door
def test_a_failure_before_the_first_audio_has_a_status(refusing: Scripted, request_: Request) -> None:
    answer = request_.send(refusing.port, "Hello.")
    assert answer.status == 503
    assert request_.code_of(answer) == "over_capacity"


@every_door
def test_a_failure_after_the_first_audio_breaks_the_body_off(failing: Scripted, request_: Request) -> None:
    with pytest.raises(http.client.IncompleteRead) as broken:
        request_.send(failing.port, MINUTE)
    assert len(broken.value.partial) >= 2 * 24 * 300


@pytest.fixture(scope="session")
def refusing(share: Callable[..., Scripted]) -> Scripted:
    """An engine that has no room."""
    return share(refuse_open="over_capacity")


@pytest.fixture(scope="session")
def failing(share: Callable[..., Scripted]) -> Scripted:
    """An engine that fails after 300 ms of audio."""
    return share(fail_after_ms=300)
