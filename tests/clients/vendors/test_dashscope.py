"""DashScope's own SDK at the duplex socket, the realtime socket, the routes and the enrolment."""

from __future__ import annotations

import base64
import io
import json
import threading
import urllib.request
import wave
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import dashscope
import numpy as np
import pytest
from dashscope.audio.http_tts.http_speech_synthesizer import HttpSpeechSynthesizer
from dashscope.audio.qwen_tts_realtime import QwenTtsRealtime, QwenTtsRealtimeCallback
from dashscope.audio.tts import SpeechSynthesizer as OneWay
from dashscope.audio.tts_v2 import (
    AudioFormat,
    ResultCallback,
    SpeechSynthesizer,
    SpeechSynthesizerObjectPool,
    VoiceEnrollmentException,
    VoiceEnrollmentService,
)
from dashscope.common.error import RequestFailure
from hearing import Sound, assert_speech, decoded, longest_silence_s, raw, tones_hz
from servers import Server
from writer import Writer

MODEL, VOICE = "cosyvoice-v3-flash", "longanyang"
PCM = AudioFormat.PCM_24000HZ_MONO_16BIT
RATE_HZ = 24000
TEXT = "The first words are heard while the last ones are still being thought of."
LONG = "Nobody wants to hear this sentence to its end, however long it goes on. " * 20


def works(feature: str) -> pytest.MarkDecorator:
    return pytest.mark.door("DashScope", client="dashscope", feature=feature)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Server]:
    """Points the SDK at a server for the length of a test."""

    def point(server: Server, api_key: str = "any") -> Server:
        monkeypatch.setattr(dashscope, "api_key", api_key)
        monkeypatch.setattr(dashscope, "base_websocket_api_url", f"{server.ws_url}/api-ws/v1/inference")
        monkeypatch.setattr(dashscope, "base_http_api_url", f"{server.url}/api/v1")
        return server

    return point


@pytest.fixture
def voice(server: Server, use: Callable[..., Server]) -> Server:
    """The SDK speaks with the embedded voice."""
    return use(server)


class Listener(ResultCallback):
    """Keeps everything that is told."""

    def __init__(self) -> None:
        self.audio = b""
        self.events: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.heard = threading.Event()
        self.over = threading.Event()

    def on_data(self, data: bytes) -> None:
        self.audio += data
        self.heard.set()

    def on_event(self, message: str) -> None:
        self.events.append(json.loads(message)["payload"])

    def on_error(self, message: str) -> None:
        self.errors.append(json.loads(message)["header"])
        self.over.set()

    def on_complete(self) -> None:
        self.over.set()

    @property
    def sound(self) -> Sound:
        return raw(self.audio, RATE_HZ)

    def sentences(self, kind: str) -> list[dict[str, Any]]:
        return [event["output"] for event in self.events if event["output"]["type"] == kind]


def synthesizer(callback: ResultCallback | None = None, **options: Any) -> SpeechSynthesizer:
    return SpeechSynthesizer(
        **{"model": MODEL, "voice": VOICE, "format": PCM, "callback": callback, **options}
    )


# --- duplex


@works("socket: text while it is written")
def test_the_first_audio_comes_before_the_last_text(voice: Server) -> None:
    listener, writer = Listener(), Writer()
    writer.heard = listener.heard
    tts = synthesizer(listener)
    for piece in writer:
        tts.streaming_call(piece)
    tts.streaming_complete(30_000)
    assert_speech(listener.sound, writer.text)
    assert longest_silence_s(listener.sound) < 1
    assert not listener.errors


@works("socket: blocking call, {form}")
@pytest.mark.parametrize(
    ("form", "rate_hz"),
    [
        ("DEFAULT", 22050),
        ("MP3_48000HZ_MONO_256KBPS", 48000),
        ("WAV_16000HZ_MONO_16BIT", 16000),
        ("PCM_22050HZ_MONO_16BIT", 22050),
        ("OGG_OPUS_24KHZ_MONO_32KBPS", 48000),
    ],
)
def test_a_blocking_call_returns_one_file(voice: Server, form: str, rate_hz: int) -> None:
    audio = synthesizer(format=AudioFormat[form]).call(TEXT)
    sound = raw(audio, rate_hz) if form.startswith("PCM") else decoded(audio)
    assert sound.rate_hz == rate_hz
    assert_speech(sound, TEXT)


@works("socket: sentences with the times of their words")
def test_each_sentence_has_its_words_with_times_from_its_own_start(voice: Server) -> None:
    listener = Listener()
    tts = synthesizer(listener, additional_params={"word_timestamp_enabled": True})
    for piece in ("One sen", "tence. 你", "好，世界！En", "d"):
        tts.streaming_call(piece)
    tts.streaming_complete(30_000)
    ends = listener.sentences("sentence-end")
    assert [end["original_text"] for end in ends] == ["One sentence.", "你好，世界！", "End"]
    for end in ends:
        words = end["sentence"]["words"]
        assert words[0]["begin_time"] < 200
        for word in words:
            text = end["original_text"][word["begin_index"] : word["end_index"]]
            assert text == word["text"]
            assert word["begin_time"] <= word["end_time"]
    assert len(listener.sentences("sentence-begin")) == 3


@works("socket: flush")
def test_a_flush_speaks_what_has_no_end_yet(voice: Server) -> None:
    listener = Listener()
    tts = synthesizer(listener)
    tts.streaming_call("no end of a sentence")
    tts.streaming_flush()
    assert listener.heard.wait(10)
    tts.streaming_call(" and the rest")
    tts.streaming_complete(30_000)
    assert len(listener.sentences("sentence-end")) == 2


@works("socket: cancel")
def test_after_a_cancel_no_audio_comes(scripted_server: Callable[..., Server], use: Any) -> None:
    server = use(scripted_server(realtime_factor=0.1))
    listener = Listener()
    tts = synthesizer(listener)
    tts.streaming_call(LONG)
    assert listener.heard.wait(10)
    tts.streaming_cancel()
    assert listener.over.is_set()
    heard = len(listener.audio)
    server.wait_until_idle()
    assert len(listener.audio) == heard
    assert not listener.errors


@works("socket: callback without waiting")
def test_a_call_with_a_callback_returns_at_once_and_is_told_the_end(voice: Server) -> None:
    listener = Listener()
    synthesizer(listener).call(TEXT, timeout_millis=30_000)
    assert listener.over.wait(20)
    assert_speech(listener.sound, TEXT)


@works("socket: object pool")
def test_objects_of_a_pool_speak_again_and_again(scripted_server: Callable[..., Server], use: Any) -> None:
    use(scripted_server())
    pool = SpeechSynthesizerObjectPool(max_size=2)
    heard = []
    try:
        for _ in range(3):
            listener = Listener()
            tts = pool.borrow_synthesizer(model=MODEL, voice=VOICE, format=PCM, callback=listener)
            tts.streaming_call("Once more.")
            tts.streaming_complete(20_000)
            pool.return_synthesizer(tts)
            heard.append(tones_hz(listener.sound))
    finally:
        pool.shutdown()
    assert [len(tones) for tones in heard] == [1, 1, 1]
    assert len(set.union(*heard)) == 3


@works("socket: several at once")
def test_tasks_at_once_never_mix(scripted_server: Callable[..., Server], use: Any) -> None:
    use(scripted_server(realtime_factor=0.2))
    listeners = [Listener() for _ in range(3)]
    speaking = [synthesizer(listener) for listener in listeners]
    for piece in ("Some words, ", "and some more. ", "The end."):
        for tts in speaking:
            tts.streaming_call(piece)
    for tts in speaking:
        tts.streaming_complete(20_000)
    heard = [tones_hz(listener.sound) for listener in listeners]
    assert [len(tones) for tones in heard] == [1, 1, 1]
    assert len(set.union(*heard)) == 3


def test_an_unknown_voice_is_the_sdks_own_error(voice: Server) -> None:
    with pytest.raises(RequestFailure) as failed:
        synthesizer(voice="nobody-at-all").call(TEXT)
    assert failed.value.name == "InvalidParameter"
    assert "no voice of that name" in failed.value.message
    listener = Listener()
    with pytest.raises(RequestFailure):
        synthesizer(listener, voice="nobody-at-all").streaming_call(TEXT)
    assert listener.over.is_set()
    assert listener.errors[0]["error_code"] == "InvalidParameter"


def test_an_engine_that_fails_is_told_and_nobody_waits(
    scripted_server: Callable[..., Server], use: Any
) -> None:
    use(scripted_server(fail_after_ms=200))
    with pytest.raises(RequestFailure):
        synthesizer().call(TEXT)
    listener = Listener()
    synthesizer(listener).call(TEXT)
    assert listener.over.wait(10)
    assert listener.errors[0]["error_code"] == "InternalError"


def test_more_text_than_a_message_may_have_is_told_and_nobody_waits(voice: Server) -> None:
    # The socket closes after the error: whichever of the two the SDK, still sending, sees first.
    for text in ("a" * 1_000_000, "字" * 1_000_000):
        with pytest.raises((RequestFailure, ConnectionError)):
            synthesizer().call(text)
        listener = Listener()
        with suppress(ConnectionError):
            synthesizer(listener).call(text)
        assert listener.over.wait(10)
        assert listener.errors[0]["error_code"] == "InvalidParameter"


def test_a_wrong_key_cannot_connect(scripted_server: Callable[..., Server], use: Any) -> None:
    server = scripted_server("--api-key", "secret")
    use(server, "wrong")
    with pytest.raises(TimeoutError, match="could not established"):
        synthesizer().call(TEXT)
    use(server, "secret")
    assert synthesizer().call("Hello.")


@works("socket: the older one-way client")
def test_the_older_client_speaks_too(voice: Server) -> None:
    result = OneWay.call(
        model="sambert-zhichu-v1", text=TEXT, format="wav", sample_rate=16000, word_timestamp_enabled=True
    )
    assert_speech(decoded(result.get_audio_data()), TEXT)
    (sentence,) = result.get_timestamps()
    assert sentence["words"][0]["text"] == "The"
    failed = OneWay.call(model="sambert-zhichu-v1", text=TEXT, format="flac")
    assert failed.get_response().code == "InvalidParameter"


# --- routes


@works("route: audio by URL")
def test_the_route_says_where_the_audio_is(voice: Server) -> None:
    result = HttpSpeechSynthesizer.call(model=MODEL, text=TEXT, voice=VOICE)
    with urllib.request.urlopen(result.audio_url, timeout=10) as answer:
        assert_speech(decoded(answer.read()), TEXT)


@works("route: events")
def test_the_route_streams_events_and_ends_with_the_whole(voice: Server) -> None:
    stream = HttpSpeechSynthesizer.call(
        model=MODEL, text=TEXT + TEXT, voice=VOICE, stream=True, audio_format="mp3", sample_rate=24000
    )
    *parts, last = stream
    assert len(parts) > 3
    assert b"".join(part.audio_data for part in parts) == last.audio_data
    assert last.audio_url
    assert_speech(decoded(last.audio_data), TEXT + TEXT)


def test_the_route_tells_of_an_unknown_voice(voice: Server) -> None:
    result = HttpSpeechSynthesizer.call(model=MODEL, text=TEXT, voice="nobody-at-all")
    assert (result.status_code, result.code) == (400, "InvalidParameter")
    with pytest.raises(RuntimeError, match="no voice of that name"):
        list(HttpSpeechSynthesizer.call(model=MODEL, text=TEXT, voice="nobody-at-all", stream=True))


@works("enrolment")
def test_a_voice_is_enrolled_spoken_and_deleted(
    scripted_server: Callable[..., Server], use: Any, tmp_path: Any
) -> None:
    use(scripted_server("--voices-dir", str(tmp_path / "voices"), clones=True))
    service = VoiceEnrollmentService()
    voice_id = service.create_voice(target_model=MODEL, prefix="mine", url=recording(220))
    assert voice_id.startswith(f"{MODEL}-mine-")
    assert [voice["voice_id"] for voice in service.list_voices(prefix="mine")] == [voice_id]
    assert service.query_voice(voice_id)["status"] == "OK"
    first = tones_hz(raw(synthesizer(voice=voice_id).call(TEXT), RATE_HZ))
    service.update_voice(voice_id, recording(330))
    second = tones_hz(raw(synthesizer(voice=voice_id).call(TEXT), RATE_HZ))
    assert first != second
    service.delete_voice(voice_id)
    with pytest.raises(VoiceEnrollmentException):
        service.query_voice(voice_id)
    with pytest.raises(VoiceEnrollmentException, match="fetch-host"):
        service.create_voice(target_model=MODEL, prefix="mine", url="http://127.0.0.1/recording.wav")


def recording(hz: float) -> str:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        wanted = 8000 * np.sin(2 * np.pi * hz * np.arange(4 * RATE_HZ) / RATE_HZ)
        writer.writeframes(wanted.astype("<i2").tobytes())
    return "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode()


# --- realtime


class RealtimeListener(QwenTtsRealtimeCallback):
    """Keeps everything that is told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.audio = b""
        self.heard = threading.Event()
        self.finished = threading.Event()
        self.num_done = 0
        self._changed = threading.Condition()

    def on_event(self, event: Any) -> None:
        with self._changed:
            self.events.append(event)
            self.num_done += event["type"] == "response.done"
            self._changed.notify_all()
        if event["type"] == "response.audio.delta":
            self.audio += base64.b64decode(event["delta"])
            self.heard.set()
        if event["type"] == "session.finished":
            self.finished.set()

    def wait_for_done(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.num_done >= count, 20)

    def statuses(self) -> list[str]:
        return [event["response"]["status"] for event in self.events if event["type"] == "response.done"]


@pytest.fixture
def realtime(voice: Server) -> Iterator[Callable[..., tuple[QwenTtsRealtime, RealtimeListener]]]:
    """Opens realtime sessions; they close with the test."""
    opened: list[QwenTtsRealtime] = []

    def connect(**session: Any) -> tuple[QwenTtsRealtime, RealtimeListener]:
        listener = RealtimeListener()
        tts = QwenTtsRealtime(
            model="qwen3-tts-flash-realtime", callback=listener, url=f"{voice.ws_url}/api-ws/v1/realtime"
        )
        tts.connect()
        opened.append(tts)
        tts.update_session(**{"voice": "Cherry", **session})
        return tts, listener

    yield connect
    for tts in opened:
        tts.close()
        tts.thread.join(10)


@works("realtime: server_commit")
def test_a_realtime_session_is_heard_before_its_last_text(realtime: Any) -> None:
    tts, listener = realtime(mode="server_commit")
    writer = Writer()
    writer.heard = listener.heard
    for piece in writer:
        tts.append_text(piece)
    tts.finish()
    assert listener.finished.wait(20)
    assert_speech(raw(listener.audio, RATE_HZ), writer.text)
    assert set(listener.statuses()) == {"completed"}


@works("realtime: commit, clear")
def test_a_realtime_session_speaks_what_is_committed(realtime: Any) -> None:
    tts, listener = realtime(mode="commit", language_type="English", volume=60)
    tts.append_text("This is never heard, and it would take a long time to say all of it.")
    tts.clear_appended_text()
    tts.append_text("This is heard.")
    tts.commit()
    tts.append_text("And so is this.")
    tts.commit()
    listener.wait_for_done(2)
    tts.finish()
    assert listener.finished.wait(20)
    assert_speech(raw(listener.audio, RATE_HZ), "This is heard. And so is this.")
    assert listener.statuses() == ["completed", "completed"]


@works("realtime: cancel")
def test_a_realtime_response_is_cancelled_and_the_session_goes_on(realtime: Any) -> None:
    tts, listener = realtime(mode="server_commit")
    tts.append_text(LONG)
    assert listener.heard.wait(20)
    tts.cancel_response()
    listener.wait_for_done(1)
    heard = len(listener.audio)
    tts.append_text("And now this.")
    tts.finish()
    assert listener.finished.wait(20)
    assert listener.statuses() == ["cancelled", "completed"]
    assert_speech(raw(listener.audio[heard:], RATE_HZ), "And now this.")
