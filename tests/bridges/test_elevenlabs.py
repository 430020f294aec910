"""ElevenLabs' socket `stream-input`, as its SDK uses it and as nobody should."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bridges.conftest import Scripted
from bridges.elevenlabs_client import END, INIT, RATE_HZ, ElevenLabsClient, aligned, audio
from bridges.http_calls import call
from bridges.sockets import loudness, seconds, wait_for_metric
from conftest import ServerProcess
from websockets.exceptions import InvalidStatus

TEXT = "The first words are heard, while the last ones are still being thought of. "


@pytest.fixture
def client(voice_server: ServerProcess) -> Iterator[ElevenLabsClient]:
    with ElevenLabsClient(voice_server, "stream-input") as client:
        yield client


@pytest.fixture(scope="module")
def locked(serve: Callable[..., Scripted]) -> Scripted:
    return serve("--api-key", "the-right-one", voices=["en-f"])


def error_of(client: ElevenLabsClient) -> dict[str, Any]:
    code, reason = client.closed()
    message = client.objects[-1]
    assert set(message) == {"message", "error", "code"}
    assert code == message["code"]
    assert reason
    return message


# --- speaking


def test_text_in_pieces_is_spoken_and_then_the_socket_closes(client: ElevenLabsClient) -> None:
    client.say({**INIT, "voice_settings": None, "generation_config": {"chunk_length_schedule": [50]}})
    for piece in ("Hel", "lo th", "ere. ", "How a", "re you?"):
        client.say({"text": piece, "try_trigger_generation": True})
    client.say(END)
    assert client.closed() == (1000, "")
    assert client.objects[-1]["isFinal"] is True
    assert not client.objects[-1]["audio"]
    assert 0.8 < seconds(audio(client.objects)) < 4
    assert loudness(audio(client.objects)) > 0.01


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_the_split_of_the_text_changes_nothing(client: ElevenLabsClient, size: int) -> None:
    client.say(INIT)
    for at in range(0, len(TEXT), size):
        client.say({"text": TEXT[at : at + size]})
    client.say(END)
    client.closed()
    assert aligned(client.objects) == TEXT
    with ElevenLabsClient(client.server, "stream-input") as whole:
        whole.say({"text": TEXT}, END)
        whole.closed()
        assert seconds(audio(whole.objects)) == pytest.approx(seconds(audio(client.objects)), abs=0.1)


def test_the_first_audio_comes_before_the_last_text(client: ElevenLabsClient) -> None:
    client.say(INIT, {"text": "A first sentence is complete. And "})
    client.until_audio()
    client.say({"text": "a second one follows."}, END)
    assert client.closed() == (1000, "")


def test_a_flush_is_spoken_while_the_socket_stays_open(client: ElevenLabsClient) -> None:
    client.say(INIT, {"text": "No sentence ends here", "flush": True})
    while "here" not in aligned(client.objects):
        client.next()
    client.say({"text": " but here."}, END)
    client.closed()
    assert aligned(client.objects) == "No sentence ends here but here."


def test_auto_mode_speaks_each_sentence_at_once(voice_server: ServerProcess) -> None:
    with ElevenLabsClient(voice_server, "stream-input", auto_mode="true") as client:
        client.say(INIT, {"text": "It is 3 o'clock."})
        while "o'clock." not in aligned(client.objects):
            client.next()


def test_a_text_without_a_word_ends_without_audio(client: ElevenLabsClient) -> None:
    client.say(INIT, END)
    assert client.closed() == (1000, "")
    assert not audio(client.objects)
    assert client.objects[-1]["isFinal"] is True


def test_a_connection_says_nothing_before_its_text(client: ElevenLabsClient) -> None:
    client.say(INIT, INIT, INIT)
    assert client.stays_quiet()


def test_speed_and_seed_and_language_reach_the_engine(scripted: Scripted) -> None:
    query = {"seed": 7, "language_code": "en", "apply_text_normalization": "off"}
    with ElevenLabsClient(scripted.server, "stream-input", voice="en-f", **query) as client:
        client.say({**INIT, "voice_settings": {"speed": 1.2, "stability": 0.5}}, {"text": "Quick."}, END)
        assert client.closed() == (1000, "")
    spoken = scripted.spoken.last()
    assert spoken["speed"] == pytest.approx(1.2)
    assert spoken["language"] == "en"


def test_settings_of_a_later_message_do_not_end_it(client: ElevenLabsClient) -> None:
    client.say(INIT, {"text": "One. ", "voice_settings": {"speed": 1.2}, "generator_config": None}, END)
    assert client.closed() == (1000, "")


@pytest.mark.parametrize(
    ("output_format", "bytes_per_s"),
    [
        ("pcm_8000", 16000),
        ("pcm_22050", 44100),
        ("pcm_48000", 96000),
        ("wav_16000", 32000),
        ("ulaw_8000", 8000),
        ("alaw_8000", 8000),
        ("mp3_22050_32", 4000),
        ("mp3_24000_48", 6000),
        ("mp3_44100_192", 24000),
        ("opus_48000_64", 8000),
    ],
)
def test_formats_have_their_rates(scripted: Scripted, output_format: str, bytes_per_s: int) -> None:
    with ElevenLabsClient(
        scripted.server, "stream-input", voice="en-f", output_format=output_format
    ) as client:
        client.say(INIT, {"text": TEXT}, END)
        assert client.closed() == (1000, "")
        spoken_s = len(TEXT.strip()) * 0.06
        assert len(audio(client.objects)) == pytest.approx(bytes_per_s * spoken_s, rel=0.15)
        assert aligned(client.objects) == TEXT


def test_without_a_format_it_is_mp3(scripted: Scripted) -> None:
    with ElevenLabsClient(scripted.server, "stream-input", voice="en-f", output_format="") as client:
        client.say({"text": TEXT}, END)
        client.closed()
        assert audio(client.objects)[:2] in (b"\xff\xfb", b"\xff\xfa")


# --- times


def check_times(messages: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Where each character begins in the whole audio; passes what is sound."""
    begin_ms, told = 0, []
    for message in messages:
        length_ms = round(1000 * seconds(audio([message]), RATE_HZ))
        alignment = message["alignment"]
        assert alignment == message["normalizedAlignment"]
        if alignment is not None:
            starts, durations = alignment["charStartTimesMs"], alignment["charDurationsMs"]
            assert alignment["charsStartTimesMs"] == starts
            assert alignment["charsDurationsMs"] == durations
            assert len(alignment["chars"]) == len(starts) == len(durations) > 0
            assert all(start >= 0 for start in (*starts, *durations))
            pairs = itertools.pairwise(starts)
            assert all(
                start + duration == later for (start, later), duration in zip(pairs, durations, strict=False)
            )
            assert abs(starts[-1] + durations[-1] - length_ms) <= 1
            told += [(char, begin_ms + start) for char, start in zip(alignment["chars"], starts, strict=True)]
        begin_ms += length_ms
    return told


def test_times_begin_anew_in_every_message_and_fill_its_audio(client: ElevenLabsClient) -> None:
    client.say(INIT, {"text": TEXT * 2}, END)
    client.closed()
    *messages, _ = client.objects
    told = check_times(messages)
    assert "".join(char for char, _ in told) == TEXT * 2
    assert len([message for message in messages if message["alignment"]]) > 5


def test_a_character_is_told_when_it_is_heard(scripted: Scripted) -> None:
    text = "Every character sounds for the same time."
    with ElevenLabsClient(scripted.server, "stream-input", voice="en-f") as client:
        client.say(INIT, {"text": text}, END)
        client.closed()
        *messages, _ = client.objects
    for at, (char, start_ms) in enumerate(check_times(messages)):
        assert char == text[at]
        # What stands between two words is told with the second one, whose audio comes 100 ms at a time.
        assert start_ms == pytest.approx(60 * at, abs=100 if char == " " else 2)


@pytest.mark.parametrize(
    "text",
    [
        'Two  blanks, a\ttab\nand (a "quote") - **bold**, 12.5 km for $5!',
        "第一句话已经听见了，最后一句话还在想。",
        "… 😀 — ?! ",
        "Trailing.   \n\n ",
        "https://example.com/a?b=c is silent or not",
    ],
)
def test_every_character_is_told_once(client: ElevenLabsClient, text: str) -> None:
    client.say(INIT)
    for at in range(0, len(text), 2):
        client.say({"text": text[at : at + 2]})
    client.say(END)
    client.closed()
    assert aligned(client.objects) == text


def test_half_a_character_is_told_as_one_that_can_be_sent(client: ElevenLabsClient) -> None:
    client.say(INIT, '{"text": "One \\ud83d"}', '{"text": "\\ude00 two \\udc00. "}', END)
    assert client.closed() == (1000, "")
    assert aligned(client.objects) in ("One 😀 two ?. ", "One ?? two ?. ")


# --- what is wrong


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        b"\x00",
        {"text": 5},
        {"text": " ", "voice_settings": 5},
        {"text": " ", "voice_settings": {"speed": "fast"}},
        {"text": " ", "voice_settings": {"speed": 9}},
    ],
    ids=str,
)
def test_what_is_no_message_ends_it_with_the_reason(client: ElevenLabsClient, message: Any) -> None:
    client.say(message)
    assert error_of(client)["error"] == "invalid_input_message"
    assert client.objects[-1]["code"] == 1008


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"voice": "nobody"}, "voice_not_found"),
        ({"output_format": "pcm_12345"}, "invalid_output_format"),
        ({"output_format": "mp3_44101_128"}, "invalid_output_format"),
        ({"output_format": "vox"}, "invalid_output_format"),
        ({"seed": "-1"}, "invalid_input_message"),
        ({"apply_text_normalization": "maybe"}, "invalid_input_message"),
        ({"inactivity_timeout": "181"}, "invalid_input_message"),
        ({"inactivity_timeout": "x"}, "invalid_input_message"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["stream-input", "multi-stream-input"])
def test_a_wrong_query_is_told_by_a_message(
    voice_server: ServerProcess, kind: str, query: Any, error: str
) -> None:
    with ElevenLabsClient(voice_server, kind, **query) as client:
        assert error_of(client)["error"] == error


def test_a_megabyte_of_text_is_refused(client: ElevenLabsClient) -> None:
    client.say({"text": "word " * 200_000})
    assert error_of(client)["error"] == "max_character_limit_exceeded"


def test_text_after_the_end_is_not_spoken(client: ElevenLabsClient) -> None:
    client.say({"text": "One. "}, END, {"text": "Two. "}, END)
    assert client.closed() == (1000, "")
    assert aligned(client.objects) == "One. "


def test_silence_ends_it_in_the_words_of_the_api(voice_server: ServerProcess) -> None:
    with ElevenLabsClient(voice_server, "stream-input", inactivity_timeout=1) as client:
        client.say(INIT, {"text": "One. "})
        error = error_of(client)
        assert (error["error"], error["code"]) == ("input_timeout_exceeded", 1008)
        assert "within the timeout of 1 seconds" in error["message"]
        assert audio(client.objects)


def test_whoever_is_still_being_spoken_to_is_not_silent(serve: Callable[..., Scripted]) -> None:
    server = serve("--dialect-max-ahead-ms", "200", voices=["en-f"]).server
    text = "This takes more than two seconds of time. "
    with ElevenLabsClient(server, "stream-input", voice="en-f", inactivity_timeout=1) as client:
        client.say({"text": text, "flush": True})
        assert error_of(client)["error"] == "input_timeout_exceeded"
        assert seconds(audio(client.objects)) > 2.3


def test_a_failing_engine_is_told_and_ends_it(serve: Callable[..., Scripted]) -> None:
    server = serve(voices=["en-f"], fail_after_ms=300).server
    with ElevenLabsClient(server, "stream-input", voice="en-f") as client:
        client.say({"text": TEXT}, END)
        error = error_of(client)
        assert (error["error"], error["code"]) == ("internal_server_error", 1011)


# --- who may


def test_a_wrong_key_is_refused_in_the_handshake(locked: Scripted) -> None:
    with pytest.raises(InvalidStatus) as refused:
        ElevenLabsClient(locked.server, "stream-input", voice="en-f", headers={"xi-api-key": "wrong"})
    assert refused.value.response.status_code == 401
    body = refused.value.response.body
    assert body is not None
    assert json.loads(body)["detail"]["status"] == "invalid_api_key"


@pytest.mark.parametrize("place", ["xi-api-key", "authorization", "xi_api_key"])
@pytest.mark.parametrize("kind", ["stream-input", "multi-stream-input"])
def test_a_key_may_be_in_the_first_message(locked: Scripted, kind: str, place: str) -> None:
    value = "Bearer the-right-one" if place == "authorization" else "the-right-one"
    with ElevenLabsClient(locked.server, kind, voice="en-f") as client:
        client.say({**INIT, place: value}, {"text": "One. ", "flush": True})
        client.until_audio()


@pytest.mark.parametrize("kind", ["stream-input", "multi-stream-input"])
@pytest.mark.parametrize("key", [{}, {"xi-api-key": "wrong"}], ids=["none", "wrong"])
def test_without_the_right_key_in_it_nothing_is_spoken(
    locked: Scripted, kind: str, key: dict[str, str]
) -> None:
    with ElevenLabsClient(locked.server, kind, voice="en-f") as client:
        client.say({**INIT, **key})
        assert error_of(client)["error"] == "invalid_api_key"


@pytest.mark.parametrize("name", ["single_use_token", "authorization"])
def test_a_token_may_be_in_the_query(locked: Scripted, name: str) -> None:
    answer = call(locked.port, "POST", "/v1/tokens", {}, {"xi-api-key": "the-right-one"})
    query = {name: answer.json["token"]}
    with ElevenLabsClient(locked.server, "stream-input", voice="en-f", **query) as client:
        client.say({"text": "One. "}, END)
        assert client.closed() == (1000, "")


# --- clients that go away


def test_whoever_hangs_up_frees_the_engine(serve: Callable[..., Scripted]) -> None:
    server = serve(voices=["en-f"], realtime_factor=1.0).server
    with ElevenLabsClient(server, "stream-input", voice="en-f") as client:
        client.say({"text": TEXT * 20})
        client.until_audio()
        wait_for_metric(server, "cosyduplex_contexts", 1)
    wait_for_metric(server, "cosyduplex_contexts", 0)


def test_whoever_writes_and_does_not_read_is_still_read(client: ElevenLabsClient) -> None:
    """The SDK reads one message for each that it writes, and waits 10 ms for it at most."""
    client.say(*({"text": letter} for letter in TEXT * 2), *([{"text": " "}] * 200), END)
    assert client.closed() == (1000, "")
    assert aligned(client.objects) == TEXT * 2 + " " * 200
