"""`/v1/voices` of a server with the embedded voice, which clones none: who may add what, and what stays."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ServerProcess
from voices.enrolment import (
    GOOD_FIELDS,
    RECORDING,
    TEXT,
    VoicesClient,
    encoded,
    form,
    speech,
    wav_params,
)

from cosyduplex_server.voice_store import entry_name

KEY = "a-key-for-tests"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("voices")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    server = ServerProcess("--engine", "espeak", "--voice-processes", "1", "--voices-dir", str(folder))
    yield server
    log = server.log()
    server.close()
    assert "Traceback" not in log, log
    assert TEXT not in log


@pytest.fixture
def client(server: ServerProcess) -> Iterator[VoicesClient]:
    client = VoicesClient(server.port)
    yield client
    for voice in client.list().values():
        if voice["category"] == "cloned":
            client.remove(voice["id"])


def test_an_added_voice_is_answered_listed_shown_and_kept(client, folder):
    status, added = client.add(labels='{"accent": "Beijing"}')
    assert status == 201
    assert added["id"] == added["voice_id"] == added["name"] == "Anna"
    assert (added["language"], added["text"], added["consent"]) == ("zh", TEXT, True)
    assert added["labels"] == {"accent": "Beijing", "source": "cloned", "state": "unusable"}
    assert added["figures"]["seconds"] == 3
    listed = client.list()["Anna"]
    assert listed.items() <= added.items()
    assert client.show("Anna") == (200, added)
    assert wav_params((folder / entry_name("Anna") / "prompt.wav").read_bytes()) == (1, 2, 24_000, 3.0)


def test_the_engines_own_voices_come_first(client):
    client.add(name="AAA")
    voices = list(client.list().values())
    assert voices[-1]["id"] == "AAA"
    assert all(voice["usable"] and voice["category"] == "premade" for voice in voices[:-1])


def test_a_voice_that_cannot_be_spoken_comes_with_a_warning(client):
    status, added = client.add()
    assert (status, added["usable"]) == (201, False)
    assert "the default voice speaks" in added["warning"]


def test_info_and_the_ready_line_count_added_voices(server, client, start_server, folder):
    def count() -> int:
        with urllib.request.urlopen(server.url + "/v1/info") as answer:
            return json.loads(answer.read())["voices"]

    before = count()
    client.add()
    assert count() == before + 1 == len(client.list())
    again = start_server("--engine", "espeak", "--voice-processes", "1", "--voices-dir", str(folder))
    assert again.ready["voices"] == before + 1


@pytest.mark.parametrize(
    "voice_id", ["你好", "Ünï-cødé", "a b", "..", ".", "%41", "a?b#c", "😀", "x" * 64, "-", "\\"]
)
def test_any_printable_id_can_be_added_shown_and_removed(client, folder, voice_id):
    assert client.add(id=voice_id)[0] == 201
    assert client.list()[voice_id]["name"] == "Anna"
    assert client.show(voice_id)[1]["id"] == voice_id
    assert {entry.name for entry in folder.iterdir()} == {entry_name(voice_id)}
    assert client.remove(voice_id) == (200, {"status": "ok"})
    assert client.show(voice_id)[0] == 404


def test_a_taken_id_is_a_conflict(client):
    assert client.add()[0] == 201
    status, body = client.add(encoded(speech(pitch_hz=200)))
    assert (status, body["error"]) == (409, "bad_request")
    assert "already" in body["message"]
    built_in = next(iter(client.list()))
    assert client.add(id=built_in)[0] == 409


def test_of_many_who_add_one_id_at_once_one_succeeds(client):
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(client.add()[0])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] + [409] * 5
    assert "Anna" in client.list()


def test_unknown_voices_and_the_engines_own_cannot_be_removed(client):
    assert client.remove("nobody")[1]["error"] == "unknown_voice"
    assert client.show("nobody")[0] == 404
    built_in = next(iter(client.list()))
    status, body = client.remove(built_in)
    assert (status, body["error"]) == (400, "bad_request")
    assert built_in in client.list()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"name": ""}, "bad_request"),
        ({"text": ""}, "bad_request"),
        ({"consent": ""}, "bad_request"),
        ({"consent": "no"}, "bad_request"),
        ({"id": "a/b"}, "bad_request"),
        ({"id": "x" * 65}, "bad_request"),
        ({"language": "?"}, "bad_request"),
        ({"labels": "?"}, "bad_request"),
        ({"text": "x" * 5000}, "text_too_long"),
        ({"text": "x" * 50_000}, "bad_request"),
    ],
)
def test_a_field_that_cannot_be_is_refused(client, folder, fields, error):
    status, body = client.add(**fields)
    assert (body["error"], status) == (error, 413 if error == "text_too_long" else 400)
    assert set(body) == {"error", "message", "solution"}
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (b"", "empty"),
        (b"not audio" * 100, "not an audio file"),
        (b"\0\0\0\x20ftypM4A " + bytes(99), "m4a"),
        (encoded(speech(0.5)), "0.50 s"),
        (encoded(speech(31, 16_000), 16_000), "31.0 s"),
        (encoded(speech(3, 8000), 8000), "8000 samples a second"),
        (encoded(speech() * 0), "silent"),
        (encoded((speech() * 9).clip(-1, 1)), "clipped"),
        (bytes(10 * 2**20 + 1), "10.0 MiB"),
        (bytes(40 * 2**20), "40.0 MiB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_recording_no_voice_can_be_made_of_is_refused_with_what_was_measured(client, folder, audio, says):
    status, body = client.add(audio)
    assert (status, body["error"]) == (400, "bad_reference_audio")
    assert says in body["message"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{}", "application/json"),
        (b"name=a", "application/x-www-form-urlencoded"),
        (b"?", "multipart/form-data"),
        (b"?", "multipart/form-data; boundary=b"),
        (b"--b\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (b"--b", "multipart/form-data; boundary=b"),
        (form(GOOD_FIELDS, None)[0], form(GOOD_FIELDS, None)[1]["Content-Type"]),
        (b"", "multipart/form-data; boundary=b"),
    ],
)
def test_what_is_no_form_with_a_file_is_a_bad_request(client, body, content_type):
    status, answer = client.ask("POST", "/v1/voices", body, {"Content-Type": content_type})
    assert (status, answer["error"]) == (400, "bad_request")


def test_audio_that_is_no_file_and_two_files_are_bad_requests(client):
    body, headers = form({**GOOD_FIELDS, "audio": "text"}, None)
    assert client.ask("POST", "/v1/voices", body, headers)[1]["error"] == "bad_request"
    body, headers = form(GOOD_FIELDS)
    boundary = headers["Content-Type"].partition("=")[2].encode()
    part = body.split(b"--" + boundary)[-2]
    twice = body.removesuffix(b"--\r\n") + part + b"--" + boundary + b"--\r\n"
    assert client.ask("POST", "/v1/voices", twice, headers)[1]["error"] == "bad_request"


def test_a_body_of_unknown_length_is_read_no_further_than_it_may_go(client, server):
    body, headers = form(GOOD_FIELDS, RECORDING + bytes(11 * 2**20))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    pieces = (body[at : at + 100_000] for at in range(0, len(body), 100_000))
    connection.request("POST", "/v1/voices", pieces, headers, encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]) == (400, "bad_reference_audio")
    connection.close()
    body, headers = form(GOOD_FIELDS)
    connection.request("POST", "/v1/voices", iter([body[:999], body[999:]]), headers, encode_chunked=True)
    assert connection.getresponse().status == 201
    connection.close()


def test_an_upload_that_breaks_off_leaves_nothing(server, client, folder):
    body, headers = form(GOOD_FIELDS)
    with socket.create_connection(("127.0.0.1", server.port)) as half:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        half.sendall(f"POST /v1/voices HTTP/1.1\r\nHost: localhost\r\n{head}".encode())
        half.sendall(f"Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
    assert client.add(name="next")[0] == 201
    assert {entry.name for entry in folder.iterdir()} == {entry_name("next")}


def test_a_large_head_is_still_refused_and_a_large_body_behind_a_small_one_is_not(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
    for length in (60_000, 70_000, 300_000):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
            head = f"POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            raw.sendall(head.encode() + bytes(length))
            assert raw.recv(100).startswith(b"HTTP/1.1 404")


def test_the_page_of_the_routes_describes_them(client):
    _, page = client.ask("GET", "/openapi.json")
    adding = page["paths"]["/v1/voices"]["post"]
    schema = adding["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(schema["required"]) == {"name", "audio", "text", "consent"}
    assert set(adding["responses"]) == {"201", "default"}
    one = page["paths"]["/v1/voices/{id}"]
    assert set(one) == {"get", "delete"}
    assert one["get"]["parameters"][0]["name"] == "id"


# --- who may


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = str(tmp_path_factory.mktemp("locked"))
    options = ("--engine", "espeak", "--voice-processes", "1", "--voices-dir", folder)
    server = ServerProcess(*options, "--api-key", KEY, "--open-door", "voices")
    yield server
    server.close()


@pytest.mark.parametrize("header", ["X-API-Key", "xi-api-key", "Authorization"])
def test_with_a_key_voices_are_added_and_removed(locked, header):
    holder = VoicesClient(locked.port, {header: f"Bearer {KEY}" if header == "Authorization" else KEY})
    assert holder.add()[0] == 201
    assert holder.remove("Anna")[0] == 200


def test_an_open_door_opens_reading_alone(locked):
    anybody = VoicesClient(locked.port)
    assert anybody.list()
    assert anybody.show(next(iter(anybody.list())))[0] == 200
    assert anybody.add()[0] == anybody.remove("x")[0] == 401
    wrong = VoicesClient(locked.port, {"X-API-Key": "wrong"})
    assert wrong.add()[1]["error"] == "unauthorized"


def test_a_client_token_does_not_add_voices(locked):
    holder = VoicesClient(locked.port, {"X-API-Key": KEY})
    token = holder.ask("POST", "/v1/tokens")[1]["token"]
    with_token = VoicesClient(locked.port, {"X-API-Key": token})
    assert with_token.list()
    assert with_token.add()[0] == with_token.remove("x")[0] == 401


def test_a_closed_server_shows_no_voice_without_a_key(start_server, tmp_path):
    server = start_server(
        *("--engine", "espeak", "--voice-processes", "1"), "--api-key", KEY, "--voices-dir", str(tmp_path)
    )
    anybody = VoicesClient(server.port)
    assert anybody.show("x")[0] == anybody.ask("GET", "/v1/voices")[0] == 401


def test_foreign_pages_cannot_add_voices(server):
    page = VoicesClient(server.port, {"Origin": "https://evil.example"})
    assert page.add()[1]["error"] == "forbidden_origin"
    assert page.remove("x")[1]["error"] == "forbidden_origin"
