"""Added voices speak: as themselves where the engine clones, else as the default voice, with a warning."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeWorker, ServerProcess
from native_client import NativeClient
from voices.enrolment import RECORDING, TEXT, VoicesClient, encoded, speech

from cosyduplex.messages import (
    ContextDone,
    ContextOpen,
    ContextStarted,
    Error,
    FlowOptions,
    SessionStart,
    TextAppend,
    TextEnd,
    Warning,
)
from cosyduplex_server.audio.reference import read_recording
from cosyduplex_server.testing import cloned_tone_hz, tone_hz

Start = Callable[..., Any]
OTHER = encoded(speech(pitch_hz=200))
HEARD_HZ = cloned_tone_hz(read_recording(RECORDING).wav)


@pytest.fixture
def start_cloning(
    start_server: Start, start_worker: Start, tmp_path: Path
) -> Callable[..., tuple[ServerProcess, VoicesClient]]:
    """Starts a server with workers that clone; they tell `voice.log` what they are given."""

    def start(*options: str, workers: int = 1, **script: Any) -> tuple[ServerProcess, VoicesClient]:
        script = {"clones": True, "voice_log": str(tmp_path / "voice.log"), **script}
        addresses = [start_worker(**script).address for _ in range(workers)]
        server = start_server("--workers", *addresses, "--voices-dir", str(tmp_path / "voices"), *options)
        return server, VoicesClient(server.port)

    return start


@pytest.fixture
def given(tmp_path: Path) -> Callable[[], list[dict[str, str]]]:
    """What the workers were told of voices so far, oldest first."""

    def read() -> list[dict[str, str]]:
        log = tmp_path / "voice.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    return read


async def say(server: ServerProcess, voice: str | None, text: str = "Hello there.") -> NativeClient:
    """One context, spoken to its end."""
    client = await NativeClient.open(
        server.ws_url, SessionStart(voice=voice, flow=FlowOptions(max_ahead_ms=0))
    )
    async with client:
        await client.send(TextAppend(text=text), TextEnd())
        while not client.messages(ContextDone) and not client.messages(Error):
            await client.receive()
    return client


def pitch_hz(pcm: bytes, rate_hz: int = 24_000) -> float:
    samples = np.frombuffer(pcm, np.int16).astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    return float(np.argmax(spectrum)) * rate_hz / (8 * len(samples))


# --- at a worker that clones


async def test_a_voice_speaks_as_its_recording_at_once_and_after_a_restart(
    start_cloning, start_server, given
):
    server, client = start_cloning()
    status, added = client.add()
    assert (status, added["usable"], added["labels"]["state"]) == (201, True, "usable")
    assert "warning" not in added
    assert added["figures"]["prompt_tokens"] == 25 * len(TEXT)
    assert added["notes"] == [f"It sounds at {HEARD_HZ:g} Hz."]
    spoken = await say(server, "Anna")
    assert pitch_hz(spoken.audio()) == pytest.approx(HEARD_HZ, abs=2)
    assert not spoken.messages(Warning)
    assert given() == [{"added": "Anna", "source": "recording", "text": TEXT}]

    server.terminate()
    server, client = start_cloning()  # a new worker, too
    assert client.list()["Anna"]["usable"]
    assert client.show("Anna")[1]["figures"] == added["figures"]
    assert pitch_hz((await say(server, "Anna")).audio()) == pytest.approx(HEARD_HZ, abs=2)
    assert [event["source"] for event in given()] == ["recording", "features"]


async def test_features_that_another_model_made_are_made_anew(start_cloning, given):
    server, client = start_cloning(features="A")
    client.add()
    server.terminate()
    for _ in range(2):
        server, client = start_cloning(features="B")
        assert client.list()["Anna"]["usable"]
        server.terminate()
    assert [event["source"] for event in given()] == ["recording", "recording", "features"]


def test_a_voice_added_to_the_folder_while_no_server_ran_is_prepared_at_the_start(
    start_cloning, given, tmp_path
):
    store_voice(tmp_path / "voices", "offline")
    _, client = start_cloning()
    assert client.list()["offline"]["usable"]
    assert client.show("offline")[1]["figures"]["prompt_tokens"] == 25
    assert [event["source"] for event in given()] == ["recording"]


async def test_a_voice_that_another_program_adds_and_removes_reaches_the_workers(
    start_cloning, given, tmp_path
):
    server, _ = start_cloning()
    store = store_voice(tmp_path / "voices", "late")
    await until(lambda: [event.get("added") for event in given()] == ["late"])
    assert pitch_hz((await say(server, "late")).audio()) == pytest.approx(HEARD_HZ, abs=2)
    store.remove("late")
    await until(lambda: given()[-1] == {"removed": "late"})


async def test_workers_share_what_the_first_made(start_cloning, given):
    server, client = start_cloning(workers=3, slots=1)
    assert client.add()[1]["usable"]
    assert [event["source"] for event in given()] == ["recording", "features", "features"]
    clients = await asyncio.gather(
        *(say(server, "Anna", "A longer text, so that all speak at once.") for _ in "abc")
    )
    assert all(pitch_hz(each.audio()) == pytest.approx(HEARD_HZ, abs=2) for each in clients)


async def test_a_worker_that_starts_again_gets_every_voice_again(start_server, start_worker, tmp_path, given):
    script = {"clones": True, "voice_log": str(tmp_path / "voice.log")}
    worker: FakeWorker = start_worker(**script)
    server = start_server("--workers", worker.address, "--voices-dir", str(tmp_path / "voices"))
    client = VoicesClient(server.port)
    for name in ("Anna", "Bert"):
        client.add(name=name)
    worker.process.kill()
    worker.process.wait()
    Path(worker.address.removeprefix("unix:")).unlink()
    again = FakeWorker(Path(worker.address.removeprefix("unix:")).parent, **script)
    try:
        await until(lambda: len(given()) == 4)
        await until(lambda: client.list()["Bert"]["usable"])
        assert pitch_hz((await say(server, "Bert")).audio()) == pytest.approx(HEARD_HZ, abs=2)
    finally:
        again.close()
    assert [(event["added"], event["source"]) for event in given()] == [
        ("Anna", "recording"),
        ("Bert", "recording"),
        ("Anna", "features"),
        ("Bert", "features"),
    ]


async def test_removing_a_voice_lets_a_context_that_speaks_it_go_on(start_cloning, given):
    server, client = start_cloning(realtime_factor=0.3)
    client.add()
    start = SessionStart(voice="Anna", flow=FlowOptions(max_ahead_ms=0))
    async with await NativeClient.open(server.ws_url, start) as speaking:
        await speaking.send(TextAppend(text="A sentence that lasts for a while. " * 2), TextEnd())
        await speaking.until(ContextStarted)
        while not speaking.frames():
            await speaking.receive()
        assert (await asyncio.to_thread(client.remove, "Anna"))[0] == 200
        await until(lambda: given()[-1] == {"removed": "Anna"})
        done = await speaking.until(ContextDone)
        assert done.characters == 70
        assert pitch_hz(speaking.audio()) == pytest.approx(HEARD_HZ, abs=2)
        await speaking.send(ContextOpen(context_id="next", voice="Anna"))
        assert (await speaking.until(Error)).code == "unknown_voice"
    assert "Anna" not in client.list()


async def test_a_removed_id_may_be_given_to_another_recording(start_cloning):
    server, client = start_cloning()
    client.add()
    client.remove("Anna")
    assert client.add(OTHER)[0] == 201
    heard_hz = cloned_tone_hz(read_recording(OTHER).wav)
    assert heard_hz != HEARD_HZ
    await until(lambda: client.list()["Anna"]["usable"])
    assert pitch_hz((await say(server, "Anna")).audio()) == pytest.approx(heard_hz, abs=2)


def test_a_recording_the_engine_refuses_is_refused_and_not_kept(start_cloning, tmp_path):
    _, client = start_cloning(refuse_voice="bad_reference_audio", workers=2)
    status, body = client.add()
    assert (status, body["error"]) == (400, "bad_reference_audio")
    assert body["message"] == "The script refuses every recording."
    assert "Anna" not in client.list()
    assert not list((tmp_path / "voices").iterdir())


def test_what_one_worker_took_is_taken_back_when_another_refuses(start_server, start_worker, tmp_path, given):
    log = str(tmp_path / "voice.log")
    good = start_worker(clones=True, voice_log=log, model="one")
    bad = start_worker(clones=True, refuse_voice="engine_failed", model="two")
    server = start_server("--workers", good.address, bad.address, "--voices-dir", str(tmp_path / "voices"))
    status, body = VoicesClient(server.port).add()
    assert (status, body["error"]) == (500, "engine_failed")
    assert [set(event) - {"source", "text"} for event in given()] == [{"added"}, {"removed"}]
    assert not list((tmp_path / "voices").iterdir())


async def test_a_worker_that_is_gone_holds_nobody_up(start_server, start_worker, tmp_path):
    there, gone = (start_worker(clones=True) for _ in range(2))
    server = start_server("--workers", there.address, gone.address, "--voices-dir", str(tmp_path))
    gone.close()
    status, added = VoicesClient(server.port).add()
    assert (status, added["usable"]) == (201, True)


async def test_adding_the_same_id_twice_at_once_makes_it_once(start_cloning, given):
    _, client = start_cloning(clone_ms=300)
    answers = await asyncio.gather(*(asyncio.to_thread(client.add) for _ in range(4)))
    assert sorted(status for status, _ in answers) == [201, 409, 409, 409]
    assert len(given()) == 1


async def test_speech_goes_on_while_a_voice_is_made(start_cloning):
    server, client = start_cloning(clone_ms=1500)
    adding = asyncio.create_task(asyncio.to_thread(client.add))
    await asyncio.sleep(0.3)
    spoken = await say(server, None)
    assert not adding.done()
    assert spoken.messages(ContextDone)[0].ttfa_ms < 1000
    assert (await adding)[0] == 201


async def test_a_voice_that_is_still_being_prepared_is_refused_for_a_moment(start_cloning, tmp_path):
    server, client = start_cloning(clone_ms=2500)
    store_voice(tmp_path / "voices", "slow")
    await until(lambda: client.list().get("slow", {}).get("labels", {}).get("state") == "preparing")
    (error,) = (await say(server, "slow")).messages(Error)
    assert (error.code, error.retryable, error.ends) == ("engine_unavailable", True, "context")
    await until(lambda: client.list()["slow"]["usable"])
    assert pitch_hz((await say(server, "slow")).audio()) == pytest.approx(HEARD_HZ, abs=2)


async def test_the_first_added_voice_is_the_default_where_the_engine_has_none(start_cloning):
    server, client = start_cloning(voices=[])
    client.add()
    assert pitch_hz((await say(server, None)).audio()) == pytest.approx(HEARD_HZ, abs=2)


async def test_a_damaged_recording_leaves_the_voice_unusable_and_says_why(start_cloning, tmp_path):
    store_voice(tmp_path / "voices", "broken")
    (place,) = (tmp_path / "voices").iterdir()
    (place / "prompt.wav").write_bytes(OTHER)
    server, client = start_cloning()
    shown = client.show("broken")[1]
    assert not shown["usable"]
    assert "not the one that was stored" in shown["warning"]
    spoken = await say(server, "broken")
    assert pitch_hz(spoken.audio()) == pytest.approx(tone_hz(0), abs=2)
    assert len(spoken.messages(Warning)) == 1


# --- at a worker that does not


async def test_the_embedded_voice_speaks_in_place_of_an_added_one_and_says_so(start_server, tmp_path):
    server = start_server("--engine", "espeak", "--voice-processes", "1", "--voices-dir", str(tmp_path))
    client = VoicesClient(server.port)
    status, added = client.add()
    assert status == 201
    assert added["warning"]
    spoken = await say(server, "Anna", "你好，世界。")
    (warning,) = spoken.messages(Warning)
    assert (warning.code, warning.context_id) == ("unsupported_parameter", "default")
    assert "Anna" in warning.message
    assert "default voice" in warning.message
    kinds = spoken.kinds()["default"]
    assert kinds.index("warning") < kinds.index("audio")
    (done,) = spoken.messages(ContextDone)
    assert done.audio_ms > 500
    by_default = await say(server, None, "你好，世界。")
    # The embedded voice times a text a little differently after another one.
    assert done.audio_ms == pytest.approx(by_default.messages(ContextDone)[0].audio_ms, abs=50)


async def test_an_unknown_voice_stays_an_error_with_the_embedded_voice(start_server, tmp_path):
    server = start_server("--engine", "espeak", "--voice-processes", "1", "--voices-dir", str(tmp_path))
    async with await NativeClient.open(server.ws_url) as client:
        await client.send(SessionStart(voice="nobody"))
        await client.until_closed()
        assert [error.code for error in client.messages(Error)] == ["unknown_voice"]


def store_voice(folder: Path, name: str) -> Any:
    """Puts a voice into a folder behind the server's back; returns the store."""
    from cosyduplex_server.voice_store import VoiceStore, check_new_voice

    store = VoiceStore(folder)
    store.add(check_new_voice({"name": name, "text": "x", "consent": "true"}, RECORDING))
    return store


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)
