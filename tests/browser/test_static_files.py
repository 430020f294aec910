"""The demo's files over HTTP: headers, caching, and nothing but the demo."""

from __future__ import annotations

import http.client
import re

import pytest

KEY = "a-key-for-tests"


def get(server, path, method="GET", **headers):
    """Status, headers and body; nothing is normalised or decoded on the way."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def test_the_page_and_everything_it_names_is_there(voice_server):
    status, headers, body = get(voice_server, "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    names = set(re.findall(r'(?:src|href)="([^"]+)"', body.decode()))
    assert {"demo/app.js", "demo/style.css", "demo/icon.svg"} <= names
    for name in names:
        assert get(voice_server, f"/{name}")[0] == 200, name


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/demo/app.js", "text/javascript; charset=utf-8"),
        ("/demo/views/composer.js", "text/javascript; charset=utf-8"),
        ("/demo/player-worklet.js", "text/javascript; charset=utf-8"),
        ("/demo/style.css", "text/css; charset=utf-8"),
        ("/demo/icon.svg", "image/svg+xml"),
    ],
)
def test_each_file_has_its_type_and_the_strict_headers(voice_server, path, content_type):
    status, headers, _ = get(voice_server, path)
    assert (status, headers["content-type"]) == (200, content_type)
    assert headers["x-content-type-options"] == "nosniff"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_the_page_has_no_inline_script_or_style(voice_server):
    page = get(voice_server, "/")[2].decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)


def test_a_browser_that_has_the_file_gets_no_body(voice_server):
    _, headers, body = get(voice_server, "/demo/app.js")
    assert headers["cache-control"] == "no-cache"
    assert body
    status, headers_again, body = get(voice_server, "/demo/app.js", If_None_Match=headers["etag"])
    assert (status, body, headers_again["etag"]) == (304, b"", headers["etag"])
    assert get(voice_server, "/demo/app.js", If_None_Match='"another"')[0] == 200


def test_head_answers_without_a_body(voice_server):
    status, headers, body = get(voice_server, "/", method="HEAD")
    assert (status, body) == (200, b"")
    assert headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "path",
    [
        "/demo/",
        "/demo/README.md",
        "/demo/index.html",
        "/demo/../pyproject.toml",
        "/demo/%2e%2e/pyproject.toml",
        "/demo/..%2fpyproject.toml",
        "/demo/views/../../pyproject.toml",
        "/demo//etc/passwd",
        "/demo/app.js%00.svg",
        "/index.html",
    ],
)
def test_nothing_but_the_demo_can_be_had(voice_server, path):
    status, headers, _ = get(voice_server, path)
    assert (status, headers["content-type"]) == (404, "application/json")


def test_with_keys_the_page_is_a_door_that_must_be_opened(start_server):
    locked = start_server("--api-key", KEY)
    assert get(locked, "/")[0] == get(locked, "/demo/app.js")[0] == 401
    assert get(locked, "/", X_API_Key=KEY)[0] == 200
    opened = start_server("--api-key", KEY, "--open-door", "demo")
    assert get(opened, "/")[0] == get(opened, "/demo/app.js")[0] == 200
    assert get(opened, "/v1/info")[0] == 401


def test_foreign_pages_may_not_read_it(voice_server):
    assert get(voice_server, "/", Origin="https://evil.example")[0] == 403
