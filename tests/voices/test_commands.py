"""`cosyduplex voices`: on a running server, and on the folder while none runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from voices.enrolment import RECORDING, TEXT, VoicesClient, encoded, speech

from cosyduplex_server import voices
from cosyduplex_server.voice_store import VoiceStore

OFFLINE = "http://127.0.0.1:9"  # nobody listens on the port "discard"


@pytest.fixture
def recording(tmp_path: Path) -> str:
    path = tmp_path / "me.wav"
    path.write_bytes(RECORDING)
    return str(path)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COSYDUPLEX_")}
    return subprocess.run(
        [sys.executable, "-m", "cosyduplex_server", "voices", *arguments],
        capture_output=True,
        text=True,
        env={**kept, **environment},
        timeout=40,
    )


def test_on_a_server_a_voice_is_added_shown_listed_and_removed(start_server, tmp_path, recording):
    server = start_server(
        "--voices-dir", str(tmp_path / "voices"), "--api-key", "secret", "--voice-processes", "1"
    )
    at = ("--url", server.url, "--api-key", "secret")
    says = ("--audio", recording, "--text", TEXT, "--language", "zh", "--consent")
    done = run("add", "小 安", "--id", "a.n/n?a".replace("/", "-"), *says, *at)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("added: a.n-n?a\n")
    assert "warning: " in done.stdout
    assert "a.n-n?a" in run("list", *at).stdout
    done = run("show", "小 安", "--json", *at)
    shown = json.loads(done.stdout)
    assert (shown["name"], shown["text"], shown["figures"]["seconds"]) == ("小 安", TEXT, 3)
    assert run("remove", "a.n-n?a", *at).stdout == "removed: a.n-n?a\n"
    done = run("remove", "a.n-n?a", *at)
    assert (done.returncode, done.stdout) == (1, "")
    assert "unknown_voice" in done.stderr
    assert not list((tmp_path / "voices").iterdir())


def test_the_servers_refusals_are_told(start_server, tmp_path, recording):
    server = start_server(
        "--voices-dir", str(tmp_path / "voices"), "--api-key", "secret", "--voice-processes", "1"
    )
    short = tmp_path / "short.wav"
    short.write_bytes(encoded(speech(0.5)))
    environment = {"COSYDUPLEX_URL": server.url, "COSYDUPLEX_API_KEY": "secret"}
    done = run("add", "a", "--audio", str(short), "--text", "x", "--consent", **environment)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "bad_reference_audio: the recording lasts 0.50 s" in done.stderr
    done = run("add", "a", "--audio", recording, "--text", "x", "--consent", "--url", server.url)
    assert done.returncode == 1
    assert "unauthorized" in done.stderr


def test_on_a_folder_the_same_works_without_a_server(tmp_path, recording):
    folder = str(tmp_path / "voices")
    done = run("add", "Anna", "--audio", recording, "--text", TEXT, "--consent", "--voices-dir", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "added: Anna" in done.stdout
    assert json.loads(run("show", "Anna", "--json", "--voices-dir", folder).stdout)["text"] == TEXT
    done = run("add", "Anna", "--audio", recording, "--text", TEXT, "--consent", "--voices-dir", folder)
    assert done.returncode == 1
    assert "already" in done.stderr
    assert run("remove", "Anna", "--voices-dir", folder).returncode == 0
    assert run("show", "Anna", "--voices-dir", folder).returncode == 1


def test_what_was_added_without_a_server_is_there_when_one_starts(start_server, tmp_path, recording):
    folder = str(tmp_path / "voices")
    run("add", "Anna", "--audio", recording, "--text", TEXT, "--consent", "--voices-dir", folder)
    server = start_server("--voices-dir", folder, "--voice-processes", "1")
    assert VoicesClient(server.port).show("Anna")[1]["text"] == TEXT


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "a", "--audio", "RECORDING", "--text", "x"), "--consent"),
        (("add", "a", "--audio", "/nowhere.wav", "--text", "x", "--consent"), "cannot be read: No such file"),
        (("add", "a", "--audio", "/", "--text", "x", "--consent"), "cannot be read: Is a directory"),
        (("add", "a", "--audio", "RECORDING", "--text", "\udcff", "--consent"), "not UTF-8"),
        (("add", "a", "--audio", "RECORDING"), "--text"),
        (("show",), "NAME"),
        ((), "ACTION"),
    ],
)
def test_a_command_that_cannot_be_understood_ends_with_2(tmp_path, recording, arguments, says):
    done = run(
        *(recording if each == "RECORDING" else each for each in arguments), XDG_DATA_HOME=str(tmp_path)
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "cosyduplex").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "a", "--url", OFFLINE), "does not answer"),
        (("remove", "a", "--url", "ftp://x"), "http://"),
        (("add", "a/b", "--audio", "RECORDING", "--text", "x", "--consent"), "bad_request"),
        (("show", "nobody"), "there is no voice nobody"),
        (
            ("add", "a", "--audio", "RECORDING", "--text", "x", "--consent", "--voices-dir", "/dev/null/x"),
            "folder",
        ),
    ],
)
def test_what_cannot_be_done_ends_with_1_and_one_line(tmp_path, recording, arguments, says):
    chosen = [recording if each == "RECORDING" else each for each in arguments]
    place = (
        () if "--url" in arguments or "--voices-dir" in arguments else ("--voices-dir", str(tmp_path / "v"))
    )
    done = run(*chosen, *place)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert says in done.stderr


# --- where the commands work


class Answering:
    """A stand-in for `_is_alive`: which URL a server answers at."""

    def __init__(self, *urls: str) -> None:
        self.urls = urls

    def __call__(self, url: str) -> bool:
        return url in self.urls


@pytest.mark.parametrize(
    ("named", "alive", "where"),
    [
        ({"url": "http://a"}, (), "http://a"),
        ({"url": "http://a", "folder": "named"}, (), "named"),
        ({"usual_folder": "usual"}, (voices.DEFAULT_URL,), voices.DEFAULT_URL),
        ({"usual_folder": "usual"}, (), "usual"),
        ({}, (), "data/cosyduplex/voices"),
    ],
)
def test_a_named_place_goes_before_a_running_server_and_that_before_the_usual_folder(
    tmp_path, monkeypatch, named, alive, where
):
    monkeypatch.setattr(voices, "_is_alive", Answering(*alive))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    chosen: dict[str, Any] = {"url": None, "api_key": None, "folder": None, "usual_folder": None, **named}
    place = voices.open_place(**chosen)
    if where.startswith("http"):
        assert isinstance(place, voices.ServerVoices)
        assert (place.url, place.note) == (where, "")
        return
    place.add({"name": "Anna", "text": "x", "consent": "true"}, RECORDING)
    store = VoiceStore(tmp_path / where)
    store.open()
    assert list(store.voices) == ["Anna"]
    assert ("no server answers" in place.note) == ("folder" not in named)
    assert ("cosyduplex serve" in place.note) == ("folder" not in named)


def test_a_name_that_several_voices_have_is_not_guessed(tmp_path):
    place = voices.FolderVoices(tmp_path, "")
    for voice_id in ("a", "b"):
        place.add({"name": "Anna", "id": voice_id, "text": "x", "consent": "true"}, RECORDING)
    with pytest.raises(voices.FetchError, match="as a, b"):
        place.remove("Anna")
    assert place.remove("a") == "a"
    assert place.remove("Anna") == "b"
