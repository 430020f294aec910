"""Voices on disk: whole or not there, whoever writes and however it ends."""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from voices.enrolment import RECORDING, TEXT, encoded, speech, wav_params

from cosyduplex_server.audio.reference import read_recording
from cosyduplex_server.errors import Failure
from cosyduplex_server.voice_store import (
    NewVoice,
    VoiceDamaged,
    VoiceExists,
    VoiceStore,
    check_new_voice,
    default_voices_dir,
    entry_name,
)

SOUND = read_recording(RECORDING)
OTHER_SOUND = read_recording(encoded(speech(pitch_hz=200)))


def voice(voice_id: str = "anna", **fields: object) -> NewVoice:
    return NewVoice(
        **{
            "id": voice_id,
            "name": "Anna",
            "language": "zh",
            "text": TEXT,
            "labels": {"accent": "Beijing"},
            "recording": SOUND,
            **fields,
        }
    )


def reopened(store: VoiceStore) -> VoiceStore:
    again = VoiceStore(store.folder)
    again.open()
    return again


@pytest.fixture
def store(tmp_path: Path) -> VoiceStore:
    return VoiceStore(tmp_path / "voices")


def test_a_voice_is_there_after_a_restart_with_all_that_was_said_of_it(store):
    added = store.add(voice(), features={"f1": b"made"}, figures={"prompt_tokens": 75.0})
    again = reopened(store)
    assert again.voices == {"anna": added}
    assert (added.language, added.text, added.labels) == ("zh", TEXT, {"accent": "Beijing"})
    assert added.consent is True
    assert added.figures["prompt_tokens"] == 75
    assert added.figures["seconds"] == 3
    assert again.prompt_wav(added) == SOUND.wav
    assert (again.features(added, "f1"), again.features(added, "f2")) == (b"made", None)


def test_the_files_are_those_that_are_documented(store):
    store.add(voice("你好"), features={"f1": b"made"})
    (place,) = store.folder.iterdir()
    assert place.name == entry_name("你好")
    assert sorted(file.name for file in place.iterdir()) == [
        "features-f1.safetensors",
        "prompt.wav",
        "voice.json",
    ]
    fields = json.loads((place / "voice.json").read_text(encoding="utf-8"))
    assert set(fields) == {
        *("id", "name", "language", "text", "labels", "consent", "created", "sha256", "figures"),
    }
    assert wav_params((place / "prompt.wav").read_bytes()) == (1, 2, 24_000, 3.0)


def test_recordings_are_nobody_elses(store):
    store.add(voice())
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


printable = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" ", exclude_characters="/")
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(voice_id=printable.filter(lambda text: 1 <= len(text) <= 64 and text.isprintable()))
def test_any_printable_id_is_kept_inside_the_folder(tmp_path, voice_id):
    store = VoiceStore(tmp_path / "voices")
    store.add(voice(voice_id))
    assert all(entry.parent == store.folder for entry in store.folder.iterdir())
    assert list(reopened(store).voices) == [voice_id]
    assert store.remove(voice_id)
    assert list(store.folder.iterdir()) == []


def test_an_id_is_taken_once(store):
    store.add(voice())
    with pytest.raises(VoiceExists):
        store.add(voice(recording=OTHER_SOUND))
    assert store.prompt_wav(store.voices["anna"]) == SOUND.wav
    assert len(list(store.folder.iterdir())) == 1


def test_of_many_who_add_one_id_one_succeeds(tmp_path):
    stores = [VoiceStore(tmp_path) for _ in range(8)]
    outcomes: list[str] = []
    start = threading.Barrier(len(stores))

    def add(store: VoiceStore) -> None:
        start.wait()
        try:
            store.add(voice())
            outcomes.append("added")
        except VoiceExists:
            outcomes.append("exists")

    threads = [threading.Thread(target=add, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["added"] + ["exists"] * 7
    assert [entry.name for entry in tmp_path.iterdir()] == [entry_name("anna")]


def test_a_removed_voice_is_gone_and_its_id_is_free(store):
    first = store.add(voice())
    assert store.remove("anna") is True
    assert store.remove("anna") is False
    assert not reopened(store).voices
    second = store.add(voice())
    assert second.edition != first.edition


def test_what_another_program_does_is_seen(store):
    other = VoiceStore(store.folder)
    other.open()
    store.add(voice())
    assert other.refresh() is True
    assert list(other.voices) == ["anna"]
    store.remove("anna")
    store.add(voice(recording=OTHER_SOUND))
    assert other.refresh() is True
    assert other.prompt_wav(other.voices["anna"]) == OTHER_SOUND.wav
    assert other.refresh() is False
    store.remove("anna")
    other.refresh()
    assert not other.voices


def test_a_quiet_folder_is_not_read_again(store, monkeypatch):
    store.add(voice())
    past_s = store.folder.stat().st_mtime - 60
    os.utime(store.folder, (past_s, past_s))
    store.refresh()
    monkeypatch.setattr(os, "listdir", None)  # calling it would raise
    assert store.refresh() is False


def test_features_made_later_are_kept_with_their_figures(store):
    added = store.add(voice())
    store.keep_features(added, "f1", b"made", {"first_hop_tokens": 25.0})
    again = reopened(store)
    assert again.features(again.voices["anna"], "f1") == b"made"
    assert again.voices["anna"].figures["first_hop_tokens"] == 25
    assert again.voices["anna"].edition == added.edition


def test_features_of_a_voice_that_was_replaced_meanwhile_are_dropped(store):
    added = store.add(voice())
    other = VoiceStore(store.folder)
    other.open()
    other.remove("anna")
    other.add(voice(recording=OTHER_SOUND))
    store.keep_features(added, "f1", b"made of the first recording", {})
    assert other.features(other.voices["anna"], "f1") is None


# --- damage


def break_json(place: Path) -> None:
    (place / "voice.json").write_text("{")


def break_fields(place: Path) -> None:
    (place / "voice.json").write_text('{"id": "anna"}')


def break_consent(place: Path) -> None:
    fields = json.loads((place / "voice.json").read_text())
    (place / "voice.json").write_text(json.dumps({**fields, "consent": False}))


def break_id(place: Path) -> None:
    fields = json.loads((place / "voice.json").read_text())
    (place / "voice.json").write_text(json.dumps({**fields, "id": "eve"}))


def break_wav(place: Path) -> None:
    (place / "prompt.wav").write_bytes(b"")


def lose_wav(place: Path) -> None:
    (place / "prompt.wav").unlink()


def lose_all(place: Path) -> None:
    for file in place.iterdir():
        file.unlink()


DAMAGE = [break_json, break_fields, break_consent, break_id, break_wav, lose_wav, lose_all]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_broken_voice_is_skipped_with_one_line_and_makes_room(store, caplog, damage):
    store.add(voice())
    store.add(voice("bert"))
    damage(store.folder / entry_name("anna"))
    with caplog.at_level(logging.WARNING):
        again = reopened(store)
        again.refresh()
        again.refresh()
    assert list(again.voices) == ["bert"]
    assert len(caplog.records) == 1
    assert again.add(voice())
    assert set(reopened(store).voices) == {"anna", "bert"}


def test_what_is_not_a_voice_is_left_alone(store):
    store.add(voice())
    (store.folder / "notes.txt").write_text("mine")
    assert list(reopened(store).voices) == ["anna"]
    assert (store.folder / "notes.txt").exists()


def test_a_recording_that_was_exchanged_is_not_spoken(store):
    added = store.add(voice())
    (store.folder / entry_name("anna") / "prompt.wav").write_bytes(OTHER_SOUND.wav)
    with pytest.raises(VoiceDamaged):
        store.prompt_wav(added)


# --- a writer that is killed

# Each line of its input is a step: a copy of it acts on the store and is killed there.
WRITER = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from cosyduplex_server.audio.reference import Recording
    from cosyduplex_server.voice_store import NewVoice, VoiceStore

    folder, action = Path(sys.argv[1]), sys.argv[2]
    wav = (folder.parent / "sound.wav").read_bytes()
    sound = Recording(wav=wav, sample_rate_hz=24000, duration_s=3, sound_s=3, peak_dbfs=-6, clipped_share=0)

    def act():
        store = VoiceStore(folder)
        store.open()
        if action == "add":
            new = NewVoice(id="bert", name="Bert", language="", text="x", labels={}, recording=sound)
            store.add(new, features={"f1": b"made"})
        elif action == "remove":
            store.remove("anna")
        else:
            store.keep_features(store.voices["anna"], "f1", b"made anew", {"prompt_tokens": 1.0})

    def die_at(step):
        calls = 0
        def deadly(call):
            def run(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)
            return run
        for name in ("mkdir", "open", "fsync", "rename", "replace", "unlink", "rmdir"):
            setattr(os, name, deadly(getattr(os, name)))

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            die_at(int(line))
            act()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    """
)


@contextmanager
def writer(folder: Path, action: str) -> Iterator[Callable[[int], int]]:
    """A function that has a writer act on the folder, killed at a step, and returns its exit code."""
    (folder.parent / "sound.wav").write_bytes(SOUND.wav)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WRITER, str(folder), action],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None

        def act(step: int) -> int:
            print(step, file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield act
        process.stdin.close()


@pytest.mark.parametrize("action", ["add", "remove", "keep"])
def test_a_writer_killed_at_any_step_leaves_whole_voices(store, caplog, action):
    with writer(store.folder, action) as act:
        for step in range(1, 60):
            store.add(voice(), features={"f1": b"made"})
            ended = act(step)
            assert ended in (0, -signal.SIGKILL)
            again = reopened(store)
            for found in again.voices.values():
                assert again.prompt_wav(found) == SOUND.wav
                assert again.features(found, "f1") in (b"made", b"made anew")
            assert again.voices.keys() >= ({"anna"} if action != "remove" else set())
            for name in ("anna", "bert"):
                again.remove(name)
            if ended == 0:
                break
        else:
            pytest.fail("the writer never came to its end")
    assert step > 3
    assert not caplog.records


def test_what_killed_writers_left_is_cleared_away_when_it_is_old(store):
    store.add(voice())
    for name, age_s in ((".new-old", 3600), (".new-young", 0), (".gone-old", 3600)):
        (store.folder / name).mkdir()
        (store.folder / name / "prompt.wav").write_bytes(b"x")
        then_s = (store.folder / name).stat().st_mtime - age_s
        os.utime(store.folder / name, (then_s, then_s))
    reopened(store)
    assert {entry.name for entry in store.folder.iterdir()} == {entry_name("anna"), ".new-young"}


# --- what may be added


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": None}, "name is missing"),
        ({"name": "   "}, "name is missing"),
        ({"name": "x" * 65}, "name must have 1 to 64"),
        ({"name": "a\tb"}, "printable"),
        ({"id": "a/b"}, "`/`"),
        ({"name": "a/b"}, "`/`"),
        ({"id": "x" * 65}, "id must have 1 to 64"),
        ({"id": "a\u200bb"}, "printable"),
        ({"text": None}, "text is missing"),
        ({"text": " "}, "text is missing"),
        ({"consent": None}, "consent must be true"),
        ({"consent": "false"}, "consent must be true"),
        ({"consent": ""}, "consent must be true"),
        ({"language": "Chinese (Mandarin)"}, "language"),
        ({"labels": "[]"}, "labels"),
        ({"labels": '{"a": 1}'}, "labels"),
        ({"labels": "{"}, "labels"),
        ({"labels": json.dumps({str(n): "" for n in range(17)})}, "labels"),
    ],
)
def test_a_bad_field_is_named(fields, says):
    good = {"name": "Anna", "text": TEXT, "consent": "true"}
    sent = {name: value for name, value in {**good, **fields}.items() if value is not None}
    with pytest.raises(Failure) as refused:
        check_new_voice(sent, RECORDING)
    assert refused.value.code == "bad_request"
    assert says in refused.value.message


def test_a_name_may_have_a_slash_when_the_id_has_none():
    new = check_new_voice({"name": "He/she", "id": "they", "text": "x", "consent": "1"}, RECORDING)
    assert (new.id, new.name) == ("they", "He/she")


def test_the_id_is_the_name_when_none_is_sent():
    assert check_new_voice({"name": "中文女", "text": "x", "consent": "yes"}, RECORDING).id == "中文女"


def test_a_text_that_thirty_seconds_cannot_hold_is_refused():
    with pytest.raises(Failure) as refused:
        check_new_voice({"name": "a", "text": "x" * 1001, "consent": "true"}, RECORDING)
    assert refused.value.code == "text_too_long"


def test_without_a_file_there_is_no_voice():
    with pytest.raises(Failure, match="audio is missing"):
        check_new_voice({"name": "a", "text": "x", "consent": "true"}, None)


def test_voices_are_kept_in_the_users_data_directory(tmp_path):
    assert default_voices_dir({"XDG_DATA_HOME": str(tmp_path)}) == tmp_path / "cosyduplex" / "voices"
    assert default_voices_dir({}) == Path.home() / ".local/share/cosyduplex/voices"
    assert default_voices_dir({"XDG_DATA_HOME": "relative"}) == default_voices_dir({})
