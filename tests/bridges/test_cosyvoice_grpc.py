"""Upstream CosyVoice's gRPC service, with the messages of its own client."""

from __future__ import annotations

import asyncio
import io
import signal
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import grpc
import numpy as np
import pytest
from bridges.conftest import Scripted
from bridges.grpc_calls import free_ports, loudest_hz, metric, speech_like, until_idle

from cosyduplex_bridges.grpc_stubs import cosyvoice_pb2
from cosyduplex_bridges.grpc_stubs.cosyvoice_pb2_grpc import CosyVoiceStub

MS_PER_CHAR = 60
MODEL_HZ = 24_000
Request = cosyvoice_pb2.Request


class Door:
    """A server with a CosyVoice port."""

    def __init__(self, scripted: Scripted, port: int) -> None:
        self.scripted = scripted
        self.http_port = scripted.port
        self.port = port

    @asynccontextmanager
    async def inference(self, *options: tuple[str, Any]) -> AsyncIterator[Any]:
        """The method."""
        options = (("grpc.use_local_subchannel_pool", 1), *options)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=options) as channel:
            yield CosyVoiceStub(channel).Inference

    async def spoken(self, request: Request, metadata: Any = None) -> tuple[np.ndarray, dict[str, str]]:
        """The samples, and the trailing metadata."""
        async with self.inference() as inference:
            call = inference(request, metadata=metadata)
            data = b"".join([response.tts_audio async for response in call])
            return np.frombuffer(data, "<i2"), dict(await call.trailing_metadata())

    async def refused(self, request: Request, metadata: Any = None) -> grpc.aio.AioRpcError:
        """The error that a request meets."""
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.spoken(request, metadata)
        return refused.value


@pytest.fixture(scope="module")
def serve_cosyvoice(serve: Callable[..., Scripted]) -> Callable[..., Door]:
    def start(*options: str, **script: Any) -> Door:
        (port,) = free_ports(1)
        return Door(serve("--cosyvoice-grpc-port", str(port), *options, **script), port)

    return start


@pytest.fixture(scope="module")
def door(serve_cosyvoice: Callable[..., Door]) -> Door:
    """Speaks at once, clones, and obeys instructions."""
    return serve_cosyvoice(clones=True, parameters=["instruct"], voices=["zh-f", "en-f"])


@pytest.fixture(scope="module")
def slow_door(serve_cosyvoice: Callable[..., Door]) -> Door:
    """Speaks at five times real time, one at a time, and knows no instruction."""
    return serve_cosyvoice(realtime_factor=0.2, chunk_ms=50, voices=["en-f"], slots=1)


def sft(text: str, voice: str = "中文女") -> Request:
    return Request(sft_request=cosyvoice_pb2.sftRequest(tts_text=text, spk_id=voice))


def prompt(seconds: float = 2.0, pitch_hz: float = 150.0) -> bytes:
    return (speech_like(seconds, pitch_hz=pitch_hz) * 32767).astype("<i2").tobytes()


def zero_shot(text: str, audio: bytes, said: str = "What it says.") -> Request:
    return Request(
        zero_shot_request=cosyvoice_pb2.zeroshotRequest(tts_text=text, prompt_text=said, prompt_audio=audio)
    )


def cross_lingual(text: str, audio: bytes) -> Request:
    return Request(cross_lingual_request=cosyvoice_pb2.crosslingualRequest(tts_text=text, prompt_audio=audio))


def instruct(text: str, instruction: str, voice: str = "en-f") -> Request:
    return Request(
        instruct_request=cosyvoice_pb2.instructRequest(tts_text=text, spk_id=voice, instruct_text=instruction)
    )


def seconds(text: str) -> float:
    return len(text) * MS_PER_CHAR / 1000


# --- the four kinds


async def test_a_voice_of_upstream_s_speaks_at_the_model_s_rate(door: Door) -> None:
    assert len((await door.spoken(sft("你好，世界。", "中文女")))[0])
    samples, metadata = await door.spoken(sft("你好，世界。", "en-f"))
    assert len(samples) == seconds("你好，世界。") * MODEL_HZ
    assert np.abs(samples).max() > 1000
    assert door.scripted.spoken.last()["voice"] == "en-f"
    assert "x-cosyduplex-warning" not in metadata


async def test_audio_comes_in_pieces_of_whole_samples(door: Door) -> None:
    async with door.inference() as inference:
        sizes = [len(response.tts_audio) async for response in inference(sft("Hello there."))]
    assert len(sizes) > 3
    assert not any(size % 2 for size in sizes)


async def test_a_recording_with_its_text_is_the_voice(door: Door) -> None:
    samples, _ = await door.spoken(zero_shot("Hello there.", prompt()))
    assert len(samples) == seconds("Hello there.") * MODEL_HZ
    assert loudest_hz(samples, MODEL_HZ) > 1150  # a clone's tone, not one of the other voices'
    assert door.scripted.voices.last()["text"] == "What it says."


async def test_a_recording_without_its_text_is_the_voice_in_any_language(door: Door) -> None:
    samples, _ = await door.spoken(cross_lingual("你好，世界。", prompt(pitch_hz=170)))
    assert loudest_hz(samples, MODEL_HZ) > 1150
    assert door.scripted.voices.last()["text"] == ""


async def test_a_wav_file_is_taken_where_samples_belong(door: Door) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setparams((1, 2, 24_000, 0, "NONE", ""))
        wav.writeframes((speech_like(2, 24_000, 190) * 32767).astype("<i2").tobytes())
    samples, _ = await door.spoken(cross_lingual("Hello.", file.getvalue()))
    assert loudest_hz(samples, MODEL_HZ) > 1150


async def test_an_instruction_reaches_the_engine(door: Door) -> None:
    samples, metadata = await door.spoken(instruct("Hello.", "Sadly.<|endofprompt|>"))
    assert len(samples) == seconds("Hello.") * MODEL_HZ
    spoken = door.scripted.spoken.last()
    assert (spoken["voice"], spoken["instruct"]) == ("en-f", "Sadly.")
    assert "x-cosyduplex-warning" not in metadata


async def test_the_marks_of_cosyvoice3_s_examples_are_not_spoken(door: Door) -> None:
    mark = "You are a helpful assistant.<|endofprompt|>"
    samples, _ = await door.spoken(zero_shot(f"{mark}Hello.", prompt(pitch_hz=210), f"{mark}Marked."))
    assert len(samples) == seconds("Hello.") * MODEL_HZ
    assert door.scripted.voices.last()["text"] == "Marked."


async def test_what_the_engine_cannot_do_is_told_in_trailing_metadata(slow_door: Door) -> None:
    _, metadata = await slow_door.spoken(instruct("Hi.", "Sadly."))
    assert "instruct" in unquote(metadata["x-cosyduplex-warning"])
    await until_idle(slow_door.http_port)
    _, metadata = await slow_door.spoken(cross_lingual("Hi.", prompt()))
    assert "default voice" in unquote(metadata["x-cosyduplex-warning"])


async def test_the_rate_is_the_operator_s_choice(serve_cosyvoice: Callable[..., Door]) -> None:
    door = serve_cosyvoice("--cosyvoice-rate", "22050", voices=["en-f"])
    samples, _ = await door.spoken(sft("Ten chars."))
    assert len(samples) == round(seconds("Ten chars.") * 22050)


# --- what goes wrong


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Request(), "INVALID_ARGUMENT"),
        (sft(""), "INVALID_ARGUMENT"),
        (sft(" \n"), "INVALID_ARGUMENT"),
        (sft("x" * 1_000_000), "INVALID_ARGUMENT"),
        (sft("Hello.", "nobody"), "NOT_FOUND"),
        (zero_shot("Hello.", b""), "INVALID_ARGUMENT"),
        (zero_shot("Hello.", b"\1\2\3"), "INVALID_ARGUMENT"),
        (zero_shot("Hello.", bytes(64_000)), "INVALID_ARGUMENT"),
        (cross_lingual("Hello.", prompt(40)), "INVALID_ARGUMENT"),
        (cross_lingual("Hello.", b"RIFF" + bytes(1000)), "INVALID_ARGUMENT"),
        (instruct("Hello.", "x" * 3000), "INVALID_ARGUMENT"),
        (cross_lingual("Hello.", bytes(21 * 1024 * 1024)), "RESOURCE_EXHAUSTED"),
    ],
    ids="kind empty blank long voice none odd silent minute riff instruction large".split(),
)
async def test_a_bad_request_has_a_status_and_a_reason(door: Door, request_: Request, status: str) -> None:
    error = await door.refused(request_)
    assert error.code() is grpc.StatusCode[status]
    assert error.details()
    samples, _ = await door.spoken(sft("Hello."))
    assert len(samples)


async def test_bytes_that_are_no_request_are_refused(door: Door) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        method = channel.unary_stream("/cosyvoice.CosyVoice/Inference")
        for data in (b"\xff\xff\xff", b"\x0a\x04\x12\x02\xff\xfe"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in method(data):
                    pass
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len((await door.spoken(sft("Hello.")))[0])


async def test_a_full_engine_is_resource_exhausted(slow_door: Door) -> None:
    async with slow_door.inference() as inference:
        call = inference(sft("This takes a moment, and more.", "en-f"))
        await call.read()
        error = await slow_door.refused(sft("Hi.", "en-f"))
        call.cancel()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    metadata = dict(error.trailing_metadata())
    assert metadata["x-cosyduplex-error"] == "over_capacity"
    assert int(metadata["x-cosyduplex-retry-after-ms"]) > 0
    await until_idle(slow_door.http_port)


async def test_an_engine_that_fails_on_the_way_is_a_status_behind_the_audio(
    serve_cosyvoice: Callable[..., Door],
) -> None:
    door = serve_cosyvoice(fail_after_ms=300, voices=["en-f"])
    async with door.inference() as inference:
        call = inference(sft("This breaks off.", "en-f"))
        assert (await call.read()).tts_audio
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            while await call.read() is not grpc.aio.EOF:
                pass
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert failed.value.details().startswith("engine_failed")


async def test_a_client_that_cancels_stops_the_engine(slow_door: Door) -> None:
    async with slow_door.inference() as inference:
        call = inference(sft("This would take a long time. " * 100, "en-f"))
        await call.read()
        assert await metric(slow_door.http_port, "cosyduplex_contexts") == 1
        call.cancel()
        await until_idle(slow_door.http_port)
    samples, _ = await slow_door.spoken(sft("Hi.", "en-f"))
    assert len(samples) == seconds("Hi.") * MODEL_HZ


async def test_a_client_that_reads_nothing_is_dropped(serve_cosyvoice: Callable[..., Door]) -> None:
    door = serve_cosyvoice("--write-timeout-s", "0.5", voices=["en-f"], slots=2)
    async with door.inference(("grpc.http2.lookahead_bytes", 4096), ("grpc.http2.bdp_probe", 0)) as inference:
        call = inference(sft("Nobody listens to this. " * 2000, "en-f"))
        await call.read()
        samples, _ = await door.spoken(sft("Hello.", "en-f"))
        assert len(samples) == seconds("Hello.") * MODEL_HZ
        await until_idle(door.http_port)
        assert await metric(door.http_port, "cosyduplex_audio_seconds_total") < 60
        with pytest.raises(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                pass


async def test_with_keys_a_call_needs_one_in_its_metadata(serve_cosyvoice: Callable[..., Door]) -> None:
    door = serve_cosyvoice("--api-key", "secret", voices=["en-f"])
    for metadata in (None, (("x-api-key", "wrong"),)):
        error = await door.refused(sft("Hello."), metadata)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    for metadata in ((("x-api-key", "secret"),), (("authorization", "Bearer secret"),)):
        samples, _ = await door.spoken(sft("Hello."), metadata)
        assert len(samples)


async def test_both_doors_may_have_one_port(serve: Callable[..., Scripted]) -> None:
    (port,) = free_ports(1)
    ports = ("--triton-grpc-port", str(port), "--cosyvoice-grpc-port", str(port))
    door = Door(serve(*ports, voices=["en-f"]), port)
    assert len((await door.spoken(sft("Hello.")))[0])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert await live(b"") == b"\x08\x01"


async def test_a_server_that_ends_lets_a_call_finish(serve_cosyvoice: Callable[..., Door]) -> None:
    door = serve_cosyvoice(realtime_factor=0.2, voices=["en-f"])
    text = "This is heard to its end."
    async with door.inference() as inference:
        call = inference(sft(text, "en-f"))
        data = (await call.read()).tts_audio
        door.scripted.server.process.send_signal(signal.SIGTERM)
        while (response := await call.read()) is not grpc.aio.EOF:
            data += response.tts_audio
    assert len(data) == seconds(text) * MODEL_HZ * 2
    assert await asyncio.to_thread(door.scripted.server.process.wait, 20) == 0
