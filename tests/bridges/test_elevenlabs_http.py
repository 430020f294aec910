"""ElevenLabs' HTTP routes, as its SDK uses them and as nobody should."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from bridges.conftest import Scripted
from bridges.http_calls import MIB, Answer, call, hang_up_halfway, metrics, raw_request, wait_for
from bridges.sockets import seconds

PATH = "/v1/text-to-speech"
TEXT = "The first words are heard while the last ones are still being made."
TIMED = ("/with-timestamps", "/stream/with-timestamps")
ROUTES = ("", "/stream", *TIMED)
SPOKEN_S = len(TEXT) * 0.06


def speak(
    scripted: Scripted,
    route: str = "",
    query: str = "output_format=pcm_24000",
    voice: str = "en-f",
    **body: Any,
) -> Answer:
    return call(scripted.port, "POST", f"{PATH}/{voice}{route}?{query}", {"text": TEXT, **body})


def timed(answer: Answer) -> tuple[bytes, list[tuple[str, float, float]]]:
    """The audio, and when each character begins and ends."""
    audio = b""
    told: list[tuple[str, float, float]] = []
    for line in answer.body.splitlines():
        chunk = json.loads(line)
        audio += base64.b64decode(chunk["audio_base64"])
        if (alignment := chunk["alignment"]) is not None:
            assert chunk["normalized_alignment"] == alignment
            told += zip(
                alignment["characters"],
                alignment["character_start_times_seconds"],
                alignment["character_end_times_seconds"],
                strict=True,
            )
    return audio, told


@pytest.mark.parametrize("route", ["", "/stream"])
@pytest.mark.parametrize(
    ("output_format", "media_type", "bytes_per_s"),
    [
        ("pcm_24000", "audio/pcm", 48000),
        ("pcm_32000", "audio/pcm", 64000),
        ("wav_44100", "audio/wav", 88200),
        ("ulaw_8000", "audio/PCMU", 8000),
        ("mp3_44100_128", "audio/mpeg", 16000),
        ("opus_48000_32", "audio/ogg", 4000),
    ],
)
def test_a_text_is_spoken_in_the_format_asked_for(
    scripted: Scripted, route: str, output_format: str, media_type: str, bytes_per_s: int
) -> None:
    answer = speak(scripted, route, f"output_format={output_format}")
    assert answer.status == 200
    assert answer.headers["content-type"] == media_type
    assert len(answer.body) == pytest.approx(bytes_per_s * SPOKEN_S, rel=0.15)
    assert answer.headers["character-cost"] == str(len(TEXT))


def test_without_a_format_it_is_mp3(scripted: Scripted) -> None:
    answer = speak(scripted, query="")
    assert answer.headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize("route", TIMED)
def test_characters_have_their_times_from_the_start_of_all_audio(scripted: Scripted, route: str) -> None:
    audio, told = timed(speak(scripted, route))
    assert seconds(audio) == pytest.approx(SPOKEN_S, abs=0.01)
    assert "".join(char for char, _, _ in told) == TEXT
    for at, (char, start, end) in enumerate(told):
        # What stands between two words is told with the second one, whose audio comes 100 ms at a time.
        assert start == pytest.approx(0.06 * at, abs=0.1 if char == " " else 0.003)
        assert end > start
    assert all(end <= start for (_, _, end), (_, start, _) in itertools.pairwise(told))


def test_timed_audio_comes_in_lines(scripted: Scripted) -> None:
    answer = speak(scripted, "/stream/with-timestamps")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert len(answer.body.splitlines()) > 3
    assert len(speak(scripted, "/with-timestamps").body.splitlines()) == 1


def test_wishes_reach_the_engine(scripted: Scripted) -> None:
    answer = speak(scripted, voice_settings={"speed": 1.1, "stability": 0.3}, seed=9, previous_text="Before.")
    spoken = scripted.spoken.last()
    assert spoken["speed"] == pytest.approx(1.1)
    assert "voice_settings.stability has no effect" in answer.warning
    assert "previous_text has no effect" in answer.warning


def test_a_speed_beyond_the_engines_is_its_nearest_and_is_told(scripted: Scripted) -> None:
    answer = speak(scripted, voice_settings={"speed": 4.0})
    assert scripted.spoken.last()["speed"] == pytest.approx(2.0)
    assert "voice_settings.speed is 2 here, not 4" in answer.warning


def test_nulls_are_as_good_as_nothing(scripted: Scripted) -> None:
    fields = ("model_id", "language_code", "voice_settings", "seed", "apply_text_normalization", "next_text")
    nulls: dict[str, Any] = dict.fromkeys(fields)
    assert speak(scripted, **nulls).status == 200


# --- what is wrong


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("wrong", "status", "name"),
    [
        ({"text": ""}, 400, "input_text_empty"),
        ({"text": " \n"}, 400, "input_text_empty"),
        ({"text": None}, 422, "invalid_request"),
        ({"text": 5}, 422, "invalid_request"),
        ({"text": "x" * MIB}, 400, "max_character_limit_exceeded"),
        ({"voice_settings": []}, 422, "invalid_request"),
        ({"voice_settings": {"speed": 0.1}}, 422, "invalid_request"),
        ({"seed": 2**32}, 422, "invalid_request"),
        ({"seed": "x"}, 422, "invalid_request"),
        ({"language_code": 5}, 422, "invalid_request"),
        ({"apply_text_normalization": 1}, 422, "invalid_request"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_done_is_refused(
    scripted: Scripted, route: str, wrong: dict[str, Any], status: int, name: str
) -> None:
    answer = speak(scripted, route, **wrong)
    assert (answer.status, answer.json["detail"]["status"]) == (status, name)
    assert answer.json["detail"]["message"]


@pytest.mark.parametrize(
    ("voice", "query", "name"),
    [
        ("nobody", "", "voice_not_found"),
        ("en-f", "output_format=pcm_1", "invalid_output_format"),
        ("en-f", "output_format=flac_44100", "invalid_output_format"),
    ],
)
def test_an_unknown_voice_or_format_is_refused(scripted: Scripted, voice: str, query: str, name: str) -> None:
    answer = speak(scripted, "/stream", query, voice)
    assert (answer.status, answer.json["detail"]["status"]) == (400, name)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff\xfe{}", b"\x00" * 1000])
def test_a_body_that_is_no_object_is_refused(scripted: Scripted, body: bytes) -> None:
    answer = call(scripted.port, "POST", f"{PATH}/en-f", body)
    assert (answer.status, answer.json["detail"]["status"]) == (422, "invalid_request")


def test_half_a_character_is_spoken_as_nothing(scripted: Scripted) -> None:
    body = b'{"text": "One \\ud83d two."}'
    answer = call(scripted.port, "POST", f"{PATH}/en-f/with-timestamps?output_format=pcm_24000", body)
    assert "".join(answer.json["alignment"]["characters"]) == "One ? two."


def test_a_wrong_key_is_refused(serve: Callable[..., Scripted]) -> None:
    locked = serve("--api-key", "the-right-one", voices=["en-f"])
    for headers in ({}, {"xi-api-key": "wrong"}):
        answer = call(locked.port, "POST", f"{PATH}/en-f", {"text": TEXT}, headers)
        assert (answer.status, answer.json["detail"]["status"]) == (401, "invalid_api_key")
    answer = call(locked.port, "POST", f"{PATH}/en-f", {"text": TEXT}, {"xi-api-key": "the-right-one"})
    assert answer.status == 200


def test_a_busy_server_says_so_as_the_api_does(serve: Callable[..., Scripted]) -> None:
    busy = serve(voices=["en-f"], refuse_open="over_capacity")
    answer = speak(busy, "/stream")
    assert (answer.status, answer.json["detail"]["status"]) == (429, "system_busy")


def test_whoever_hangs_up_frees_the_engine(serve: Callable[..., Scripted]) -> None:
    slow = serve(voices=["en-f"], realtime_factor=1.0)
    body = json.dumps({"text": TEXT * 20}).encode()
    for route in ("/stream", "/stream/with-timestamps"):
        hang_up_halfway(slow.port, raw_request("POST", f"{PATH}/en-f{route}", body))
        wait_for(lambda: metrics(slow.port)["cosyduplex_contexts"] == 0, "the engine goes on")
