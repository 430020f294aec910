"""The HTTP routes, and who may call them."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.error
import urllib.request
from typing import Any

import pytest
import yaml
from native_client import NativeClient
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from cosyduplex.messages import Error, Ping, SessionStart, SessionStarted

KEY = "a-key-for-tests"


def fetch(
    url: str, *, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, Any, Any]:
    """Status, body (parsed when JSON) and headers of a request; header names with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, data=body, headers=named)
    insecure = ssl._create_unverified_context()
    try:
        with urllib.request.urlopen(request, context=insecure, timeout=10) as answer:
            status, data, got = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as exc:
        with exc:
            status, data, got = exc.code, exc.read(), exc.headers
    is_json = "json" in got.get("content-type", "")
    return status, json.loads(data) if is_json else data.decode(), got


@pytest.fixture(scope="module")
def server(voice_server):
    return voice_server


def test_health_and_readiness(server):
    assert fetch(server.url + "/healthz")[:2] == (200, {"status": "alive"})
    assert fetch(server.url + "/readyz")[:2] == (200, {"status": "ready"})


def test_info_says_what_the_server_can_do(server):
    status, info, _ = fetch(server.url + "/v1/info")
    assert status == 200
    assert info["engine"] == "espeak-ng"
    assert info["engine_reason"] == "it was asked for"
    assert {codec["encoding"] for codec in info["codecs"]} == {"pcm_s16le", "opus"}
    assert info["limits"]["max_text_chars"] == 100_000
    assert info["exact_marks"] is True


def test_voices_are_one_superset_for_every_client(server):
    _, body, _ = fetch(server.url + "/v1/voices")
    assert len(body["voices"]) >= 4
    for voice in body["voices"]:
        assert voice["id"] == voice["voice_id"]
        assert set(voice) >= {"name", "language", "labels"}
    assert {voice["language"].partition("-")[0] for voice in body["voices"]} >= {"en", "zh"}


def test_models_answer_in_the_callers_own_form(server):
    _, openai, _ = fetch(server.url + "/v1/models")
    assert openai["object"] == "list"
    assert openai["data"][0]["object"] == "model"
    _, elevenlabs, _ = fetch(server.url + "/v1/models", xi_api_key="any")
    assert elevenlabs[0]["model_id"] == openai["data"][0]["id"]


def test_the_pages_that_describe_the_doors_are_read_off_the_code(server):
    _, openapi, _ = fetch(server.url + "/openapi.json")
    assert set(openapi["paths"]) >= {"/v1/info", "/v1/voices", "/v1/tokens", "/metrics", "/healthz"}
    _, page, _ = fetch(server.url + "/asyncapi.yaml")
    asyncapi = yaml.safe_load(page)
    messages = {m["name"]: m for m in asyncapi["components"]["messages"].values()}
    assert {"session.start", "text.append", "context.cancelled", "audio frame"} <= set(messages)
    speed = messages["session.start"]["payload"]["properties"]["speech"]["properties"]["speed"]
    assert (speed["minimum"], speed["maximum"]) == (0.5, 2.0)


async def test_metrics_count_what_was_spoken(fake_server):
    from cosyduplex.messages import ContextDone, Feedback, FlowOptions, Pong, TextAppend, TextEnd

    server = fake_server()
    async with await NativeClient.open(
        server.ws_url, SessionStart(flow=FlowOptions(max_ahead_ms=0))
    ) as client:
        await client.send(TextAppend(text="Twelve chars"), TextEnd(), Feedback(score=5))
        await client.until(ContextDone)
        await client.send(Ping())
        await client.until(Pong)
        page = (await asyncio.to_thread(fetch, server.url + "/metrics"))[1]
    for line in (
        "cosyduplex_sessions 1.0",
        "cosyduplex_contexts 0.0",
        'cosyduplex_requests_total{door="duplex",outcome="done"} 1.0',
        "cosyduplex_characters_total 12.0",
        "cosyduplex_audio_seconds_total 0.72",
        "cosyduplex_feedback_score_sum 5.0",
        'cosyduplex_engine_slots{state="free"} 8.0',
        "cosyduplex_full 0.0",
        'cosyduplex_ttfa_seconds_count{door="duplex"} 1.0',
        'cosyduplex_underruns_total{cause="compute"} 0.0',
    ):
        assert line in page


def test_being_full_is_a_header_and_not_unreadiness(fake_server):
    server = fake_server("--max-sessions", "1", slots=1)
    assert "x-cosyduplex-full" not in fetch(server.url + "/readyz")[2]

    async def fill() -> None:
        async with await NativeClient.open(server.ws_url, SessionStart()):
            status, _, headers = await asyncio.to_thread(fetch, server.url + "/readyz")
            assert (status, headers["x-cosyduplex-full"]) == (200, "1")

    asyncio.run(fill())


@pytest.mark.parametrize(("path", "method", "status"), [("/nothing", "GET", 404), ("/v1/voices", "PUT", 405)])
def test_a_wrong_path_or_method_is_told_in_json(server, path, method, status):
    got, body, _ = fetch(server.url + path, method=method)
    assert got == status
    assert set(body) == {"error", "message", "solution"}


# --- web origins and host names


@pytest.mark.parametrize("path", ["/healthz", "/v1/info", "/v1/voices", "/metrics", "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},
        {"Host": "rebound.example:1"},
        {"Origin": "null"},
    ],
)
def test_foreign_pages_and_foreign_names_are_refused_everywhere(server, path, headers):
    status, body, got = fetch(server.url + path, **headers)
    assert (status, body["error"]) == (403, "forbidden_origin")
    assert "access-control-allow-origin" not in got


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}]
)
async def test_foreign_pages_and_foreign_names_cannot_upgrade(server, headers):
    origin = headers.get("Origin")
    with pytest.raises(InvalidStatus) as refused:
        if origin:
            await connect(server.ws_url, origin=origin)
        else:
            await connect(f"ws://evil.example:{server.port}/v1/duplex", host="127.0.0.1", port=server.port)
    assert refused.value.response.status_code == 403
    assert json.loads(refused.value.response.body)["error"] == "forbidden_origin"


def test_the_servers_own_pages_may_call(server):
    host = f"localhost:{server.port}"
    assert fetch(server.url + "/v1/info", Host=host, Origin=f"http://{host}")[0] == 200


def test_allowed_origins_get_cors_headers(start_server):
    server = start_server("--allow-origin", "https://app.example", "--allow-host", "tts.example")
    status, _, headers = fetch(server.url + "/v1/info", Origin="https://app.example", Host="tts.example")
    assert (status, headers["access-control-allow-origin"]) == (200, "https://app.example")
    status, _, headers = fetch(server.url + "/v1/tokens", method="OPTIONS", Origin="https://app.example")
    assert status == 204
    assert "authorization" in headers["access-control-allow-headers"]
    assert fetch(server.url + "/v1/info", Origin="https://app.example.evil.example")[0] == 403


async def test_a_path_without_a_socket_is_not_found(server):
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{server.port}/v1/nothing")
    assert refused.value.response.status_code == 404


# --- keys and tokens


@pytest.fixture(scope="module")
def locked_server():
    from conftest import ServerProcess

    server = ServerProcess("--api-key", KEY, "--open-door", "voices")
    yield server
    server.close()


def test_without_a_key_only_health_and_open_doors_answer(locked_server):
    url = locked_server.url
    assert fetch(url + "/healthz")[0] == fetch(url + "/readyz")[0] == fetch(url + "/v1/voices")[0] == 200
    for path in ("/v1/info", "/v1/models", "/metrics", "/openapi.json", "/asyncapi.yaml", "/nothing"):
        status, body, _ = fetch(url + path)
        assert (status, body["error"]) == (401, "unauthorized"), path


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"Token {KEY}"},
        {"X_API_Key": KEY},
        {"xi_api_key": KEY},
    ],
)
def test_a_key_is_found_where_each_client_puts_it(locked_server, headers):
    assert fetch(locked_server.url + "/v1/info", **headers)[0] == 200
    wrong = {name: value.replace(KEY, "wrong") for name, value in headers.items()}
    assert fetch(locked_server.url + "/v1/info", **wrong)[0] == 401


async def test_a_socket_with_a_wrong_key_is_refused_at_the_door(locked_server):
    with pytest.raises(InvalidStatus) as refused:
        await connect(locked_server.ws_url, additional_headers={"Authorization": "Bearer wrong"})
    assert refused.value.response.status_code == 401


async def test_the_first_message_may_bring_the_key(locked_server):
    async with await NativeClient.open(locked_server.ws_url, SessionStart(token=KEY)):
        pass
    for first in (SessionStart(token="wrong"), SessionStart(), Ping()):
        async with await NativeClient.open(locked_server.ws_url) as client:
            await client.send(first)
            assert (await client.until_closed())[0] == 1008
            assert client.messages(SessionStarted) == []
            assert [error.code for error in client.messages(Error)] == ["unauthorized"]


async def test_garbage_first_without_a_key_starts_nothing(locked_server):
    async with await NativeClient.open(locked_server.ws_url) as client:
        await client.socket.send("?")
        assert (await client.until_closed())[0] == 1008
        assert client.messages(SessionStarted) == []


async def test_a_page_brings_its_token_as_a_subprotocol(locked_server):
    token = fetch(locked_server.url + "/v1/tokens", method="POST", X_API_Key=KEY)[1]["token"]
    async with await NativeClient.open(
        locked_server.ws_url, SessionStart(), subprotocols=["duplex.v1", "token", token]
    ) as client:
        assert client.socket.subprotocol == "duplex.v1"


async def test_tokens_have_scopes_and_cannot_make_tokens(locked_server):
    url = locked_server.url
    status, body, _ = fetch(url + "/v1/tokens", method="POST", X_API_Key=KEY, body=b'{"scopes": ["read"]}')
    assert (status, body["scopes"], body["expires_in"]) == (200, ["read"], 60)
    assert fetch(url + "/v1/info", X_API_Key=body["token"])[0] == 200
    assert fetch(url + "/v1/tokens", method="POST", X_API_Key=body["token"])[0] == 401
    with pytest.raises(InvalidStatus):
        await connect(locked_server.ws_url, additional_headers={"X-API-Key": body["token"]})
    assert fetch(url + "/v1/info", X_API_Key=body["token"][:-4] + "AAAA")[0] == 401
    for wrong in (b"{", b'{"scopes": []}', b'{"scopes": ["everything"]}', b"[]", b'{"scopes": [{}]}'):
        assert fetch(url + "/v1/tokens", method="POST", X_API_Key=KEY, body=wrong)[0] == 400


def test_without_keys_there_is_nothing_to_make_a_token_from(server):
    assert fetch(server.url + "/v1/tokens", method="POST", X_API_Key="any")[0] == 401


# --- TLS


async def test_the_secure_port_serves_the_same_doors(start_server):
    server = start_server("--tls-port", "18443", "--tls-cert", "auto")
    secure_url = next(url for url in server.urls if url.startswith("https"))
    assert fetch(secure_url + "/v1/info")[0] == 200
    context = ssl._create_unverified_context()
    async with await NativeClient.open(
        secure_url.replace("https", "wss") + "/v1/duplex", SessionStart(), ssl=context
    ):
        pass
    assert fetch(server.url + "/v1/info")[0] == 200


def test_small_writes_leave_at_once():
    """Nagle's algorithm is off on every accepted socket."""
    import socket

    from cosyduplex_server.app import _bind

    async def accept() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        class Peer(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                raw = transport.get_extra_info("socket")
                accepted.set_result(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        server = await asyncio.get_running_loop().create_server(Peer, sock=_bind("127.0.0.1", 0, "port"))
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            try:
                return await accepted
            finally:
                writer.close()
                await writer.wait_closed()

    assert asyncio.run(accept()) != 0
