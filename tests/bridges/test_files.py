"""Results by URL."""

from __future__ import annotations

import pytest
from bridges.conftest import Scripted
from bridges.http_calls import call


@pytest.mark.parametrize("name", ["nothing", "a" * 500, "%2e%2e%2fetc", "\N{BULLET}".encode().hex()])
def test_a_result_that_is_not_there_is_not_found(scripted: Scripted, name: str) -> None:
    answer = call(scripted.port, "GET", f"/v1/files/{name}")
    assert answer.status == 404
    assert answer.json["error"] == "bad_request"


def test_a_result_is_what_was_kept_and_no_browser_guesses_at_it(scripted: Scripted) -> None:
    body = {"model": "m", "input": {"text": "Hello.", "voice": "longanyang", "format": "pcm"}}
    url = call(
        scripted.port, "POST", "/api/v1/services/audio/tts/SpeechSynthesizer", body
    ).json["output"]["audio"]["url"]
    file = call(scripted.port, "GET", url.removeprefix(scripted.server.url))
    assert (file.status, file.headers["content-type"]) == (200, "audio/pcm")
    assert len(file.body) == 2 * round(22050 * 6 * 0.06)
    assert file.headers["x-content-type-options"] == "nosniff"
    assert "no-store" in file.headers["cache-control"]
