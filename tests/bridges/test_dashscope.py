"""DashScope's duplex socket, as its SDK uses it and as nobody should."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import av
import pytest
from bridges.conftest import Scripted
from bridges.sockets import DialectClient, Message, binary, seconds, tones_hz, wait_for_metric
from conftest import ServerProcess
from websockets.exceptions import InvalidStatus

PATH = "/api-ws/v1/inference"
PARAMETERS = {"voice": "longanyang", "format": "pcm", "sample_rate": 24000, "text_type": "PlainText"}


class Task:
    """One task of a socket."""

    def __init__(self, client: DialectClient, **parameters: Any) -> None:
        self.client = client
        self.id = uuid.uuid4().hex
        self.send("run-task", {"input": {}, "parameters": {**PARAMETERS, **parameters}}, model="cosyvoice-v3")

    def send(self, action: str, payload: Any, **more: Any) -> None:
        """Sends a message with these fields in its payload."""
        header = {"action": action, "task_id": self.id, "streaming": "duplex"}
        self.client.say({"header": header, "payload": {**payload, **more}})

    def write(self, *pieces: str) -> None:
        """Appends text."""
        for piece in pieces:
            self.send("continue-task", {"input": {"text": piece}})

    def flush(self) -> None:
        """Has it spoken."""
        self.send("continue-task", {"input": {"flush": True}})

    def finish(self, **directive: str) -> None:
        """No more text."""
        self.send("finish-task", {"input": directive})

    def until(self, *events: str) -> list[Message]:
        """The messages up to one of these events."""
        return self.client.until(lambda message: event(message) in events)


def event(message: Message) -> str:
    """What a message is: its event, or what a result is of, or "audio"."""
    if isinstance(message, bytes):
        return "audio"
    output = message["payload"].get("output", {})
    return str(output.get("type") or message["header"]["event"])


def kind(message: Message) -> str:
    """A message's event."""
    return "audio" if isinstance(message, bytes) else str(message["header"]["event"])


def spoken(task: Task) -> list[Message]:
    """All messages of a task that ends well."""
    task.finish()
    messages = task.until("task-finished", "task-failed")
    assert event(messages[-1]) == "task-finished", messages[-1]
    return messages


def failure(messages: list[Message]) -> tuple[str, str]:
    """Code and text of the failure that ends them."""
    assert isinstance(messages[-1], dict)
    header = messages[-1]["header"]
    assert header["event"] == "task-failed", messages[-1]
    return header["error_code"], header["error_message"]


@pytest.fixture
def client(voice_server: ServerProcess) -> Iterator[DialectClient]:
    """A socket to the embedded voice."""
    with DialectClient(voice_server, PATH) as client:
        yield client


@pytest.fixture
def tones(scripted: Scripted) -> Iterator[DialectClient]:
    """A socket to an engine that hums, 60 ms a character."""
    with DialectClient(scripted.server, PATH) as client:
        yield client
    wait_for_metric(scripted.server, "cosyduplex_contexts", 0)


# --- a task


def test_a_task_is_started_at_once_and_speaks_before_its_last_text(client: DialectClient) -> None:
    task = Task(client)
    started = client.next()
    assert started == {
        "header": {"task_id": task.id, "event": "task-started", "attributes": {}},
        "payload": {},
    }
    task.write("A fir", "st sente", "nce is comp", "lete. And ")
    task.until("audio")
    task.write("a second one follows.")
    audio = binary(spoken(task)) + binary(client.messages)
    assert seconds(audio) > 1


def test_a_task_is_started_while_the_engine_is_full(serve: Callable[..., Scripted]) -> None:
    scripted = serve(slots=1, realtime_factor=1.0)
    with DialectClient(scripted.server, PATH) as first, DialectClient(scripted.server, PATH) as second:
        busy = Task(first)
        busy.write("This sentence is being spoken for as long as it takes.")
        busy.until("audio")
        waiting = Task(second)
        assert event(second.next()) == "task-started"
        waiting.finish(directive="cancel")
        waiting.until("task-finished")


def test_each_audio_frame_has_its_result_before_it_and_each_result_of_synthesis_its_frame(
    tones: DialectClient,
) -> None:
    task = Task(tones)
    task.write("One sentence. And another one.")
    kinds = [event(message) for message in spoken(task)]
    for at, kind in enumerate(kinds):
        if kind == "audio":
            assert kinds[at - 1] == "sentence-synthesis"
        if kind == "sentence-synthesis":
            assert kinds[at + 1] == "audio"


def test_sentences_begin_and_end_around_their_own_audio(tones: DialectClient) -> None:
    task = Task(tones, word_timestamp_enabled=True)
    task.write("One tw", "o. Thr", "ee 世界。", "End")
    lengths: list[float] = []
    ends: list[dict[str, Any]] = []
    for message in spoken(task):
        match event(message):
            case "sentence-begin":
                lengths.append(0)
            case "audio":
                lengths[-1] += seconds(binary([message]))
            case "sentence-end":
                assert isinstance(message, dict)
                ends.append(message["payload"])
    texts = [end["output"]["original_text"] for end in ends]
    assert texts == ["One two.", "Three 世界。", "End"]
    assert [end["output"]["sentence"]["index"] for end in ends] == [0, 1, 2]
    # 60 ms a character that is spoken; the space between two sentences is not.
    assert lengths == pytest.approx([8 * 0.06, 9 * 0.06, 3 * 0.06], abs=0.001)
    assert [end["usage"]["characters"] for end in ends] == [9, 20, 23]
    words = ends[1]["output"]["sentence"]["words"]
    assert words[0] == {"text": "Three", "begin_index": 0, "end_index": 5, "begin_time": 0, "end_time": 300}
    assert words[1]["text"] == "世"
    assert (words[1]["begin_index"], words[1]["begin_time"]) == (6, 360)


def test_a_sentence_that_is_being_written_begins_with_what_is_known_and_ends_whole(
    serve: Callable[..., Scripted],
) -> None:
    with DialectClient(serve(text_streaming=True).server, PATH) as client:
        task = Task(client, word_timestamp_enabled=True)
        task.write("The beginning of a sen")
        begin = task.until("sentence-begin")[-1]
        task.write("tence. And one more.")
        ends = [message for message in spoken(task) if event(message) == "sentence-end"]
    assert isinstance(begin, dict)
    known = begin["payload"]["output"]["original_text"]
    assert known
    assert "The beginning of a sentence.".startswith(known)
    outputs = [end["payload"]["output"] for end in ends if isinstance(end, dict)]
    assert [output["original_text"] for output in outputs] == [
        "The beginning of a sentence.",
        "And one more.",
    ]
    assert [output["sentence"]["words"][0]["begin_time"] for output in outputs] == [0, 0]


def test_words_have_no_times_unless_they_are_asked_for(tones: DialectClient) -> None:
    task = Task(tones)
    task.write("One two.")
    ends = [message for message in spoken(task) if event(message) == "sentence-end"]
    assert isinstance(ends[0], dict)
    assert ends[0]["payload"]["output"]["sentence"]["words"] == []


def test_a_flush_speaks_what_is_there_and_the_task_goes_on(tones: DialectClient) -> None:
    task = Task(tones)
    task.write("no end of a sentence")
    task.flush()
    flushed = task.until("sentence-end")
    assert seconds(binary(flushed)) == pytest.approx(20 * 0.06)
    task.write(" and more")
    rest = spoken(task)
    assert seconds(binary(rest)) == pytest.approx(8 * 0.06)
    assert event(rest[0]) == "sentence-begin"


def test_tasks_follow_one_another_on_a_socket(tones: DialectClient) -> None:
    heard = []
    for text in ("First.", "Second."):
        task = Task(tones)
        task.write(text)
        messages = spoken(task)
        assert {message["header"]["task_id"] for message in messages if isinstance(message, dict)} == {
            task.id
        }
        heard.append(tones_hz(binary(messages)))
    assert all(len(tones) == 1 for tones in heard)
    assert heard[0] != heard[1]


def test_a_cancel_finishes_the_task_at_once_and_nothing_of_it_follows(tones: DialectClient) -> None:
    task = Task(tones)
    task.write("A very long sentence that nobody wants to hear to its end. " * 20)
    task.until("audio")
    task.finish(directive="cancel")
    task.until("task-finished")
    task.finish(directive="cancel")  # twice, as it happens when both sides end it at once
    following = Task(tones)
    following.write("Next.")
    messages = spoken(following)
    assert seconds(binary(messages)) == pytest.approx(5 * 0.06)
    assert all(
        message["header"]["task_id"] == following.id for message in messages if isinstance(message, dict)
    )


def test_a_task_without_text_is_finished_without_audio(tones: DialectClient) -> None:
    task = Task(tones, format="wav")
    task.write("", " \n ", "")
    messages = spoken(task)
    assert [event(message) for message in messages] == ["task-started", "task-finished"]
    assert isinstance(messages[-1], dict)
    assert messages[-1]["payload"]["output"] == {"sentence": {"words": []}}


def test_the_older_one_way_form_brings_its_text_with_the_task(tones: DialectClient) -> None:
    header = {"action": "run-task", "task_id": "a-b", "streaming": "out"}
    parameters = {"format": "pcm", "sample_rate": 24000, "word_timestamp_enabled": True}
    payload = {"model": "sambert", "input": {"text": "All. Of it."}, "parameters": parameters}
    tones.say({"header": header, "payload": payload})
    messages = tones.until(lambda message: kind(message) in ("task-finished", "task-failed"))
    assert seconds(binary(messages)) == pytest.approx(10 * 0.06)
    results = [message for message in messages if kind(message) == "result-generated"]
    assert [result["payload"]["output"] for result in results if isinstance(result, dict)] == [
        {
            "sentence": {
                "begin_time": 0,
                "end_time": 240,
                "words": [{"text": "All.", "begin_time": 0, "end_time": 240}],
            }
        },
        {
            "sentence": {
                "begin_time": 240,
                "end_time": 600,
                "words": [
                    {"text": "Of", "begin_time": 240, "end_time": 360},
                    {"text": "it.", "begin_time": 420, "end_time": 600},
                ],
            }
        },
    ]


def test_lone_surrogates_are_spoken_as_nothing_and_never_sent_back(tones: DialectClient) -> None:
    task = Task(tones, word_timestamp_enabled=True)
    head = json.dumps({"action": "continue-task", "task_id": task.id})
    tones.say(f'{{"header": {head}, "payload": {{"input": {{"text": "Hi \\ud800 you."}}}}}}')
    messages = spoken(task)
    end = next(message for message in messages if event(message) == "sentence-end")
    assert isinstance(end, dict)
    assert end["payload"]["output"]["original_text"] == "Hi \ufffd you."


# --- parameters


@pytest.mark.parametrize(
    ("asked", "codec", "rate_hz"),
    [
        ({"format": "Default", "sample_rate": 0}, "mp3float", 22050),
        ({"format": "mp3", "sample_rate": 48000}, "mp3float", 48000),
        ({"format": "wav", "sample_rate": 16000}, "pcm_s16le", 16000),
        ({"format": "opus", "sample_rate": 24000, "bit_rate": 48}, "opus", 48000),
        ({"format": "opus", "sample_rate": 22050}, "opus", 48000),
    ],
)
def test_every_format_is_one_stream_of_the_rate_that_was_asked_for(
    tones: DialectClient, asked: dict[str, Any], codec: str, rate_hz: int
) -> None:
    task = Task(tones, **asked)
    task.write("A sentence of forty characters, or more. Then another.")
    audio = binary(spoken(task))
    with av.open(io.BytesIO(audio)) as stream:
        (track,) = stream.streams.audio
        assert (track.codec_context.name, track.rate) == (codec, rate_hz)
        num_samples = sum(frame.samples for frame in stream.decode(track))
    assert num_samples / rate_hz == pytest.approx(53 * 0.06, abs=0.1)


def test_a_stream_is_ended_also_where_its_last_text_was_flushed(tones: DialectClient) -> None:
    task = Task(tones, format="opus")
    task.write("All of it.")
    task.flush()
    task.until("sentence-end")
    last_page = binary(spoken(task)).rpartition(b"OggS")[2]
    is_end_of_stream = last_page[1] & 4
    assert is_end_of_stream


def test_what_the_parameters_ask_reaches_the_engine(tones: DialectClient, scripted: Scripted) -> None:
    task = Task(
        tones, rate=1.5, pitch=2.0, volume=25, seed=7, instruction="Be happy.", language_hints=["en", "zh"]
    )
    task.write("So.")
    spoken(task)
    how = scripted.spoken.last()
    assert (how["speed"], how["instruct"], how["language"]) == (1.5, "Be happy.", "en")
    task = Task(tones)
    task.write("So.")
    messages = spoken(task)
    assert isinstance(messages[0], dict)
    assert messages[0]["header"]["attributes"] == {}


def test_a_hot_fix_is_said_in_place_of_its_word_and_the_text_stays_as_it_was_written(
    tones: DialectClient,
) -> None:
    hot_fix = {"pronunciation": [{"IBM": "I B M"}], "replace": [{"草地": "草弟弟弟"}]}
    task = Task(tones, hot_fix=hot_fix, word_timestamp_enabled=True)
    task.write("IB", "M 草地")
    messages = spoken(task)
    assert seconds(binary(messages)) == pytest.approx(10 * 0.06)
    end = next(message for message in messages if event(message) == "sentence-end")
    assert isinstance(end, dict)
    assert end["payload"]["output"]["original_text"] == "IBM 草地"


@pytest.mark.parametrize(("filters", "num_chars"), [({}, 4), ({"enable_markdown_filter": False}, 8)])
def test_markdown_is_read_as_a_page_shows_it_unless_that_is_switched_off(
    tones: DialectClient, filters: dict[str, Any], num_chars: int
) -> None:
    task = Task(tones, **filters)
    task.write("**bold**")
    assert seconds(binary(spoken(task))) == pytest.approx(num_chars * 0.06)


def test_what_is_not_done_as_asked_is_told(tones: DialectClient) -> None:
    task = Task(tones, pitch=2.0, phoneme_timestamp_enabled=True)
    (started,) = task.until("task-started")
    assert isinstance(started, dict)
    told = " ".join(started["header"]["attributes"]["warnings"])
    assert "pitch" in told
    assert "phonemes" in told
    spoken(task)


@pytest.mark.parametrize(
    ("text", "num_chars"),
    [
        ("Plain text, 1 < 2.", 18),
        ('<speak>Hello &amp; <break time="1s"/>you.</speak>', 12),
        ("<b>not SSML</b>", 15),
    ],
)
def test_ssml_may_be_enabled_for_plain_text_and_its_tags_are_not_read(
    tones: DialectClient, text: str, num_chars: int
) -> None:
    task = Task(tones, enable_ssml=True)
    task.write(text)
    messages = spoken(task)
    assert isinstance(messages[-1], dict)
    assert messages[-1]["payload"]["usage"]["characters"] == num_chars


# --- what fails


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"voice": "nobody-at-all"}, "no voice of that name"),
        ({"voice": None}, "voice is missing"),
        ({"voice": 5}, "voice must be a string"),
        ({"format": "flac"}, "pcm, wav, mp3 or opus"),
        ({"sample_rate": 12345}, "sample_rate must be one of"),
        ({"sample_rate": "24000"}, "sample_rate must be a number"),
        ({"rate": 3}, "rate must be from 0.5 to 2"),
        ({"pitch": 0.1}, "pitch must be from"),
        ({"volume": 101}, "volume must be from 0 to 100"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"language_hints": "zh"}, "list of strings"),
        ({"enable_ssml": "yes"}, "true or false"),
        ({"hot_fix": {"replace": [{"a": 1}]}}, "objects of strings"),
        ({"hot_fix": []}, "must be an object"),
    ],
)
def test_a_task_that_cannot_be_run_fails_with_its_reason_and_the_socket_closes(
    tones: DialectClient, parameters: dict[str, Any], told: str
) -> None:
    task = Task(tones, **parameters)
    code, text = failure(task.until("task-failed", "task-started"))
    assert code == "InvalidParameter"
    assert told in text
    assert tones.closed()[0] == 1000
    assert isinstance(tones.messages[-1], dict)
    assert tones.messages[-1]["header"]["task_id"] == task.id


@pytest.mark.parametrize(
    "message",
    [
        "not JSON",
        "[]",
        "{}",
        b"binary",
        '{"header": null}',
        '{"header": {"action": "run-task"}}',
        '{"header": {"action": "run-task", "task_id": 5}}',
        '{"header": {"action": "dance", "task_id": "a"}}',
        '{"header": {"action": "run-task", "task_id": "a"}, "payload": "text"}',
        '{"header": {"action": "continue-task", "task_id": "a"}, "payload": {"input": {"text": "x"}}}',
        '{"header": {"action": "finish-task", "task_id": "a"}}',
        '{"header": {"action": "run-task", "task_id": "\\udc00"}}',
    ],
)
def test_what_is_no_message_fails_and_closes(tones: DialectClient, message: str | bytes) -> None:
    tones.say(message)
    assert failure([tones.next()])[0] == "InvalidParameter"
    tones.closed()


@pytest.mark.parametrize("payload", [{"input": {"text": 5}}, {"input": "x"}, {"input": {"flush": 1}}])
def test_wrong_types_end_a_running_task_with_its_failure(
    tones: DialectClient, payload: dict[str, Any]
) -> None:
    task = Task(tones)
    task.write("Some text that is being spoken. " * 20)
    task.until("audio")
    task.send("continue-task", payload)
    assert failure(task.until("task-failed"))[0] == "InvalidParameter"
    tones.closed()


def test_a_second_task_at_a_time_and_a_foreign_id_fail(scripted: Scripted) -> None:
    for action in ("run-task", "continue-task", "finish-task"):
        with DialectClient(scripted.server, PATH) as client:
            task = Task(client)
            header = {"action": action, "task_id": "another"}
            client.say({"header": header, "payload": {"input": {}, "parameters": PARAMETERS}})
            messages = task.until("task-failed")
            failure(messages)
            assert isinstance(messages[-1], dict)
            assert messages[-1]["header"]["task_id"] == task.id
            client.closed()


def test_text_after_the_end_fails(tones: DialectClient) -> None:
    task = Task(tones)
    task.write("A long text. " * 100)
    task.finish()
    task.write("More.")
    assert "no more text" in failure(task.until("task-failed"))[1]


@pytest.mark.parametrize("text", ["a" * 900_000, "字" * 900_000])
def test_too_much_text_fails_before_the_socket_closes(tones: DialectClient, text: str) -> None:
    task = Task(tones)
    task.write(text)
    assert failure(task.until("task-failed"))[0] == "InvalidParameter"
    assert tones.closed()[0] in (1000, 1009)


def test_an_engine_that_fails_ends_the_task_with_its_failure(serve: Callable[..., Scripted]) -> None:
    scripted = serve(fail_after_ms=300)
    with DialectClient(scripted.server, PATH) as client:
        task = Task(client)
        task.write("A sentence that is too long for this engine.")
        messages = task.until("task-failed", "task-finished")
        assert failure(messages)[0] == "InternalError"
        assert seconds(binary(messages)) == pytest.approx(0.3)
        client.closed()


def test_a_task_whose_writer_is_silent_for_too_long_fails(
    start_server: Callable[..., ServerProcess], start_worker: Callable[..., Any]
) -> None:
    prelude = "import cosyduplex_bridges.dashscope.duplex as duplex; duplex.TEXT_GAP_S = 0.3"
    server = start_server("--workers", start_worker(realtime_factor=1.0).address, prelude=prelude)
    with DialectClient(server, PATH) as client:
        task = Task(client)
        task.write("Hello.")
        code, text = failure(task.until("task-failed"))
        assert code == "RequestTimeOut"
        assert text.startswith("request timeout after")
    with DialectClient(server, PATH) as client:
        task = Task(client)
        task.write("No text is awaited any more.")
        assert seconds(binary(spoken(task))) > 1


def test_a_server_that_goes_away_fails_its_tasks_before_it_closes(serve: Callable[..., Scripted]) -> None:
    scripted = serve("--drain-timeout", "0.3", realtime_factor=1.0)
    with DialectClient(scripted.server, PATH) as client:
        task = Task(client)
        task.write("A sentence that is being spoken for longer than the server waits. " * 5)
        task.until("audio")
        scripted.server.process.terminate()
        assert failure(task.until("task-failed", "task-finished"))[0] == "ServiceUnavailable"
        client.closed()


def test_a_client_that_goes_away_frees_the_engine(tones: DialectClient, scripted: Scripted) -> None:
    task = Task(tones)
    task.write("A very long sentence that nobody will hear to its end. " * 200)
    task.until("audio")
    tones.socket.close()
    wait_for_metric(scripted.server, "cosyduplex_contexts", 0)


def test_a_client_that_stops_reading_is_dropped_and_its_engine_freed(serve: Callable[..., Scripted]) -> None:
    scripted = serve("--write-timeout-s", "0.5", "--dialect-max-ahead-ms", "0")
    with DialectClient(scripted.server, PATH, max_queue=1, close_timeout=0.1) as client:
        task = Task(client)
        task.write("A story so long that no buffer between here and there holds all of it. " * 1000)
        task.until("audio")
        wait_for_metric(scripted.server, "cosyduplex_sessions", 0, within_s=20)
        wait_for_metric(scripted.server, "cosyduplex_contexts", 0)


# --- who may


def test_a_wrong_key_refuses_the_handshake_in_the_vendors_form(serve: Callable[..., Scripted]) -> None:
    scripted = serve("--api-key", "secret")
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(InvalidStatus) as refused:
            DialectClient(scripted.server, PATH, additional_headers=headers)
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body)["code"] == "InvalidApiKey"
    key = {"Authorization": "bearer secret"}
    # Old samples end the path with a slash, and the SDK's library sends the origin of the server itself.
    origin = scripted.server.url
    with DialectClient(scripted.server, PATH + "/", additional_headers=key, origin=origin) as client:
        task = Task(client)
        task.write("Hello.")
        spoken(task)
