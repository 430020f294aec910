"""The instruments of these tests, tried on what they are to find."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import av
import matrix
import numpy as np
import pytest
from hearing import Sound, assert_speech, decoded, longest_silence_s, raw, tones_hz
from servers import Server
from stubs import stubs_of
from websockets.asyncio.client import connect
from writer import Writer

TEXT = "The first words are heard while the last ones are still being thought of."
RATE_HZ = 24000
HEADER_BYTES = 12


async def natively(server: Server, text: str) -> bytes:
    """What the native door says."""
    async with connect(f"{server.ws_url}/v1/duplex", max_size=None) as socket:
        await socket.send(json.dumps({"type": "session.start", "flow": {"max_ahead_ms": 0}}))
        await socket.send(json.dumps({"type": "text.append", "text": text}))
        await socket.send(json.dumps({"type": "text.end"}))
        pcm = b""
        async for message in socket:
            if isinstance(message, bytes):
                pcm += message[HEADER_BYTES:]
            elif json.loads(message)["type"] == "context.done":
                return pcm
    raise AssertionError("it was not done")


@pytest.fixture(scope="module")
def pcm(shared_server: Server) -> bytes:
    return asyncio.run(natively(shared_server, TEXT))


def test_speech_is_speech(pcm: bytes) -> None:
    sound = raw(pcm, RATE_HZ)
    assert_speech(sound, TEXT)
    assert longest_silence_s(sound) < 0.6


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pcm: pcm[1:-1],
        lambda pcm: np.frombuffer(pcm, "<i2").byteswap().tobytes(),
        lambda pcm: bytes(len(pcm)),
        lambda pcm: (np.frombuffer(pcm, "<i2") / np.float32(32768)).astype("<f4").tobytes(),
        lambda pcm: pcm[::2] + pcm[::2],
        lambda pcm: np.random.default_rng(1).bytes(len(pcm)),
        lambda pcm: pcm[: len(pcm) // 10],
        lambda pcm: pcm * 10,
    ],
    ids="half-samples swapped silence floats bytes noise beginning tenfold".split(),
)
def test_what_is_no_speech_of_that_text_is_not_taken_for_it(
    pcm: bytes, spoil: Callable[[bytes], bytes]
) -> None:
    spoilt = spoil(pcm)
    with pytest.raises(AssertionError):
        assert_speech(raw(spoilt[: len(spoilt) // 2 * 2], RATE_HZ), TEXT)


def test_a_hole_is_a_long_silence(pcm: bytes) -> None:
    half = len(pcm) // 4 * 2
    assert longest_silence_s(raw(pcm[:half] + bytes(RATE_HZ * 2) + pcm[half:], RATE_HZ)) >= 0.98


@pytest.mark.parametrize("law", ["pcm_mulaw", "pcm_alaw"])
def test_the_laws_are_heard(pcm: bytes, law: str) -> None:
    encoder = av.CodecContext.create(law, "w")
    encoder.sample_rate, encoder.layout, encoder.format = RATE_HZ, "mono", "s16"
    frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2").reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = RATE_HZ
    data = b"".join(bytes(packet) for packet in encoder.encode(frame))
    assert len(data) == len(pcm) // 2
    assert_speech(raw(data, RATE_HZ, law), TEXT)
    with pytest.raises(AssertionError):
        assert_speech(raw(pcm, RATE_HZ, law), TEXT)


def test_a_streamed_wav_is_decoded(pcm: bytes) -> None:
    endless = b"\xff\xff\xff\xff"
    form = b"WAVEfmt \x10\0\0\0\x01\0\x01\0" + np.array([RATE_HZ, 2 * RATE_HZ], "<u4").tobytes()
    wav = b"RIFF" + endless + form + b"\x02\0\x10\0data" + endless + pcm
    assert np.array_equal(decoded(wav).samples, raw(pcm, RATE_HZ).samples)


async def test_each_scripted_context_has_a_tone_of_its_own(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server(voices=["en-f"])
    sounds = [raw(await natively(server, TEXT), RATE_HZ) for _ in range(3)]
    assert [tones_hz(sound) for sound in sounds] == [{300}, {340}, {380}]
    mixed = Sound(np.concatenate([sound.samples for sound in sounds]), RATE_HZ)
    assert tones_hz(mixed) == {300, 340, 380}


def test_a_client_trusts_the_server_for_the_length_of_a_test(trusted: str) -> None:
    with urllib.request.urlopen(f"{trusted}/healthz", timeout=10) as answer:
        assert answer.status == 200


PROTO = """
syntax = "proto3";
package instrument;
message Note { string name = 1; }
service Orchestra { rpc Play(Note) returns (stream Note) {} }
"""


def test_stubs_are_made_from_a_proto_file(tmp_path: Path) -> None:
    proto = tmp_path / "instrument.proto"
    proto.write_text(PROTO)
    messages, services = stubs_of(proto, tmp_path)
    assert messages.Note.FromString(messages.Note(name="A").SerializeToString()).name == "A"
    assert services.OrchestraStub


def test_a_writer_who_is_not_heard_gives_up() -> None:
    with pytest.raises(AssertionError, match="nothing was heard"):
        list(Writer(pace_s=0, patience_s=0.1))


async def test_a_writer_who_is_heard_comes_to_an_end() -> None:
    writer = Writer("One. ", "Two.", pace_s=0)
    pieces = []
    async for piece in writer:
        pieces.append(piece)
        if len(pieces) == 10:
            writer.heard.set()
    assert "".join(pieces) == writer.text
    assert writer.text.endswith("One. Two.")


def test_the_page_says_who_passed_what() -> None:
    row = {"door": "A", "client": "x", "version": "1", "feature": "f", "passed": True}
    rows = [row, row | {"client": "y", "passed": False}, row | {"feature": "g|h"}]
    page = matrix.page(rows)
    assert page == matrix.page(rows[::-1])
    assert page.endswith(
        "## A\n\n|  | x 1 | y 1 |\n| --- | --- | --- |\n| f | yes | no |\n| g\\|h | yes |  |\n"
    )
