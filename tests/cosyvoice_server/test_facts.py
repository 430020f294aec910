"""What the server says of itself and of its engine."""

from __future__ import annotations

import pytest
from cosyvoice_server.serving import CHINESE, ENGLISH, SAVED, SFT, SLOTS

from cosyduplex.messages import ContextDone, TextAppend, TextEnd


def test_info_says_what_speaks(server, checkpoint):
    info = server.json("/v1/info")
    assert info["engine"] == "cosyvoice2"
    assert info["engine_reason"] == "it was asked for"
    assert info["model"] == checkpoint.name
    assert (info["device"], info["sample_rate"]) == ("cpu", 24_000)
    assert info["text_streaming"]
    assert not info["exact_marks"]
    assert info["speech_parameters"] == ["speed", "volume", "emotion", "instruct", "dialect", "seed"]
    assert info["notes"] == ["Word times are estimated."]
    assert server.json("/v1/models")["data"][0]["id"] == checkpoint.name


def test_the_ready_line_says_the_same(server):
    assert server.ready["engine"].startswith("cosyvoice2 ")
    assert server.ready["reason"] == "it was asked for"
    assert server.ready["voices"] == 2


def test_nothing_of_it_names_a_folder(server, checkpoint):
    for path in ("/v1/info", "/v1/voices", "/v1/models"):
        assert str(checkpoint.parent) not in str(server.json(path))


def test_the_checkpoints_voices_are_listed(server):
    voices = {voice["id"]: voice for voice in server.json("/v1/voices")["voices"]}
    assert [voice_id for voice_id in voices if voices[voice_id]["category"] == "premade"] == [SAVED, SFT]
    assert (voices[SFT]["language"], voices[SFT]["labels"]) == ("en-US", {"gender": "female"})


async def test_metrics_tell_what_each_stage_took_and_who_speaks(server, listen):
    before = server.metrics()
    client = await listen()
    await client.say(ENGLISH)
    after = server.metrics()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    for stage in ("text", "llm", "flow", "vocoder", "encode", "send"):
        assert grown(f'cosyduplex_stage_seconds_count{{stage="{stage}"}}') >= 1
        assert 0 < grown(f'cosyduplex_stage_seconds_sum{{stage="{stage}"}}') < 60
    assert grown("cosyduplex_rtf_count") == 1
    assert grown("cosyduplex_audio_seconds_total") == pytest.approx(len(client.audio()) / 48_000)
    assert grown("cosyduplex_characters_total") == len(ENGLISH)
    await client.send(TextAppend(text=CHINESE * 5))
    await client.until_audio()
    assert server.slots() == (SLOTS - 1, 1)
    await client.send(TextEnd())
    await client.until(ContextDone)
    assert server.slots() == (SLOTS, 0)
