"""What lasts of a server's voices: over restarts, beside other servers, and when it is killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading

from voices.enrolment import VoicesClient, encoded, speech, wav_params

from cosyduplex_server.voice_store import VoiceStore, entry_name

ENGINE = ("--engine", "espeak", "--voice-processes", "1")


def test_a_restart_keeps_the_voices_and_skips_broken_ones(start_server, tmp_path):
    options = (*ENGINE, "--voices-dir", str(tmp_path / "new" / "voices"))
    first = start_server(*options)
    client = VoicesClient(first.port)
    added = client.add(id="你好")[1]
    client.add(name="broken")
    first.process.kill()
    first.process.wait()
    (tmp_path / "new" / "voices" / entry_name("broken") / "voice.json").write_text("{")
    second = start_server(*options)
    client = VoicesClient(second.port)
    assert client.show("你好") == (200, added)
    assert "broken" not in client.list()
    assert second.log().count("a stored voice is skipped") == 1
    assert client.add(name="broken")[0] == 201


def test_servers_on_one_folder_see_each_others_voices(start_server, tmp_path):
    first, second = (
        VoicesClient(start_server(*ENGINE, "--voices-dir", str(tmp_path)).port) for _ in range(2)
    )
    first.add()
    assert "Anna" in second.list()
    assert second.add()[0] == 409
    assert second.remove("Anna")[0] == 200
    assert first.show("Anna")[0] == 404


def test_a_server_killed_while_it_adds_leaves_whole_voices(start_server, tmp_path):
    long_recording = encoded(speech(30, 48_000), 48_000)
    server = start_server(*ENGINE, "--voices-dir", str(tmp_path))
    client = VoicesClient(server.port)
    added: list[str] = []

    def add_many() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            while client.add(long_recording, name=f"voice {len(added)}")[0] == 201:
                added.append(f"voice {len(added)}")

    thread = threading.Thread(target=add_many)
    thread.start()
    while len(added) < 2:
        thread.join(0.01)
    thread.join(0.03)
    server.process.kill()
    thread.join()
    store = VoiceStore(tmp_path)
    store.open()
    assert set(added) <= set(store.voices)
    for voice in store.voices.values():
        assert wav_params(store.prompt_wav(voice)) == (1, 2, 48_000, 30.0)


def test_a_named_folder_that_cannot_be_used_ends_the_start(tmp_path):
    (tmp_path / "voices").write_text("a file")
    command = [sys.executable, "-m", "cosyduplex_server", "serve", "--port", "0"]
    done = subprocess.run(
        [*command, "--voices-dir", str(tmp_path / "voices")], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (2, "cosyduplex: voices_dir cannot be used: File exists\n")


def test_the_usual_folder_may_be_unusable_until_it_is_needed(start_server, tmp_path):
    (tmp_path / "cosyduplex").write_text("a file")
    server = start_server(*ENGINE, environment={"XDG_DATA_HOME": str(tmp_path)})
    client = VoicesClient(server.port)
    status, body = client.add()
    assert (status, body["error"]) == (500, "internal")
    assert str(tmp_path) not in json.dumps(body)
    assert len(client.list()) > 1
