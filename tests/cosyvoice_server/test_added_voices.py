"""Voices made of recordings, from the upload to the speech."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cosyvoice_server.serving import CHINESE, ENGLISH, SAVED, UNPACED, Listener, ModelServer, same
from voices.enrolment import RECORDING, TEXT, VoicesClient, encoded, speech

from cosyduplex.messages import (
    ContextDone,
    ContextOpen,
    Error,
    TextAppend,
    TextEnd,
    Warning,
)

# Starting PyTorch takes seconds, on a busy machine many.
pytestmark = pytest.mark.timeout(180)

OTHER_RECORDING = encoded(speech(seconds=5.0, pitch_hz=210.0))


@pytest.fixture
def voices(server: ModelServer) -> VoicesClient:
    return VoicesClient(server.port)


async def test_a_recording_becomes_a_voice_that_speaks(server, listen, voices):
    status, added = voices.add(id="anna")
    try:
        assert status == 201
        assert (added["id"], added["usable"], added["category"]) == ("anna", True, "cloned")
        figures = added["figures"]
        # 3 s are 75 speech tokens, of which the flow drops as many as make its first hop 10.
        assert (figures["seconds"], figures["prompt_s"], figures["prompt_tokens"]) == (3, 3, 75)
        assert (figures["flow_prompt_tokens"], figures["first_hop_tokens"]) == (65, 10)
        assert (figures["first_packet_tokens"], figures["first_packet_ms"]) == (13, 240)
        assert "warning" not in added
        assert list(voices.list()) == [SAVED, "英文女", "anna"]
        client = await listen()
        await client.say(CHINESE, "added", voice="anna")
        await client.say(CHINESE, "again", voice="anna")
        await client.say(CHINESE, "default")
        assert client.messages(Warning) == []
        assert same(client.samples("added"), client.samples("again"))
        assert client.audio("added") != client.audio("default")
        assert "".join(word.text for word in client.words("added")) == re.sub(r"\W", "", CHINESE)
    finally:
        voices.remove("anna")


async def test_the_first_packet_comes_as_soon_as_was_said(listen, voices):
    _, added = voices.add(OTHER_RECORDING, id="bob", language="en")
    try:
        figures = added["figures"]
        client = await listen()
        await client.send(ContextOpen(voice="bob"), TextAppend(text=ENGLISH))
        await client.until_audio()
        await client.send(TextEnd())
        await client.until(ContextDone)
        # All of the first chunk is handed over at once, before the marks of the next.
        kinds = client.kinds()["default"]
        first = kinds[kinds.index("audio") : kinds.index("marks", kinds.index("audio"))]
        assert len(first) * 20 == pytest.approx(figures["first_packet_ms"], abs=20)
    finally:
        voices.remove("bob")


async def test_a_voice_that_is_removed_while_it_speaks_speaks_to_the_end(listen, voices):
    voices.add(id="carl")
    client = await listen()
    text = f"{ENGLISH} {CHINESE}"
    await client.say(text, "whole", voice="carl")
    await client.send(ContextOpen(context_id="cut", voice="carl"))
    await client.send(TextAppend(context_id="cut", text=text[:80]))
    await client.until_audio("cut")
    assert voices.remove("carl")[0] == 200
    await client.send(TextAppend(context_id="cut", text=text[80:]), TextEnd(context_id="cut"))
    await client.until(ContextDone, context_id="cut")
    assert same(client.samples("cut"), client.samples("whole"))
    await client.send(ContextOpen(context_id="late", voice="carl"), TextAppend(context_id="late", text="Hi."))
    error = await client.until(Error)
    assert (error.code, error.context_id) == ("unknown_voice", "late")


async def test_the_same_name_again_is_the_new_recording(listen, voices):
    client = await listen()
    voices.add(id="dora")
    await client.say(ENGLISH, "first", voice="dora")
    voices.remove("dora")
    voices.add(OTHER_RECORDING, id="dora")
    try:
        await client.say(ENGLISH, "second", voice="dora")
    finally:
        voices.remove("dora")
    assert client.audio("first") != client.audio("second")


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (encoded(speech(0.5)), "0.50 s"),
        (encoded(speech(3.0) * 1e-5), "silent"),
        (b"RIFF not a recording", ""),
    ],
    ids=["short", "silent", "noise"],
)
def test_what_is_no_recording_is_refused_and_nothing_is_kept(voices, audio, says):
    status, body = voices.add(audio, id="eve")
    assert (status, body["error"]) == (400, "bad_reference_audio")
    assert says in body["message"]
    assert "eve" not in voices.list()


def test_the_checkpoints_own_voices_cannot_be_replaced_or_removed(voices):
    assert voices.add(id=SAVED)[0] == 409
    assert voices.remove(SAVED)[0] == 400


async def test_voices_last_over_a_restart_and_are_not_made_again(checkpoint, tmp_path):
    options = ("--voices-dir", str(tmp_path / "voices"))
    first = ModelServer(checkpoint, *options)
    try:
        assert VoicesClient(first.port).add(id="小安", name="Anna")[0] == 201
        async with await Listener.open(first.ws_url, UNPACED) as client:
            await client.say(ENGLISH, voice="小安")
            before = client.samples()
    finally:
        first.close()
    features = [path for path in (tmp_path / "voices").rglob("*") if path.is_file()]
    made = {path: path.stat().st_mtime_ns for path in features}
    second = ModelServer(checkpoint, *options)
    try:
        assert VoicesClient(second.port).show("小安")[1]["usable"]
        async with await Listener.open(second.ws_url, UNPACED) as client:
            await client.say(ENGLISH, voice="小安")
            assert same(client.samples(), before)
        assert "is made again" not in second.log()
        assert {path: path.stat().st_mtime_ns for path in features} == made
    finally:
        second.close()


def test_the_commands_work_on_the_running_server(server, tmp_path: Path):
    recording = tmp_path / "me.wav"
    recording.write_bytes(RECORDING)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cosyduplex_server", *arguments, "--url", server.url],
            capture_output=True,
            text=True,
            timeout=50,
        )

    done = run("voices", "add", "Fred", "--audio", str(recording), "--text", TEXT, "--consent")
    assert (done.returncode, done.stderr) == (0, "")
    assert "first_packet_tokens: 13" in done.stdout
    assert json.loads(run("voices", "show", "Fred", "--json").stdout)["usable"]
    assert "Fred" in run("voices", "list").stdout
    out = tmp_path / "fred.wav"
    done = run("say", "--voice", "Fred", "--out", str(out), ENGLISH)
    assert (done.returncode, done.stderr) == (0, "")
    assert out.stat().st_size > 10_000
    assert run("voices", "remove", "Fred").stdout == "removed: Fred\n"
    done = run("say", "--voice", "Fred", "--out", str(out), ENGLISH)
    assert done.returncode == 1
    assert "unknown_voice" in done.stderr
