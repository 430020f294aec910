"""The Triton door, as its clients meet it: KServe's messages over real gRPC."""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from bridges.conftest import Scripted
from bridges.grpc_calls import free_ports, loudest_hz, metric, speech_like, until_idle

from cosyduplex_bridges.grpc_stubs import health_pb2, kserve_pb2, kserve_pb2_grpc
from cosyduplex_bridges.grpc_stubs.health_pb2_grpc import HealthStub

END = b"%END%"
RATE_HZ = 16_000
MS_PER_CHAR = 60
Request = kserve_pb2.ModelInferRequest
Reply = kserve_pb2.ModelStreamInferResponse


class Door:
    """A server with a Triton port, and what it costs to reach it."""

    def __init__(self, scripted: Scripted, port: int) -> None:
        self.scripted = scripted
        self.http_port = scripted.port
        self.port = port

    @asynccontextmanager
    async def stub(self, *options: tuple[str, Any]) -> AsyncIterator[Any]:
        """The service's methods."""
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1), *options)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=options) as channel:
            yield kserve_pb2_grpc.GRPCInferenceServiceStub(channel)

    async def answers(self, *requests: Request, metadata: Any = None) -> list[Reply]:
        """All responses to a stream of these requests, which is then half-closed."""
        async with self.stub() as stub:
            return [reply async for reply in stub.ModelStreamInfer(iter(requests), metadata=metadata)]


@pytest.fixture(scope="module")
def serve_triton(serve: Callable[..., Scripted]) -> Callable[..., Door]:
    def start(*options: str, **script: Any) -> Door:
        (port,) = free_ports(1)
        return Door(serve("--triton-grpc-port", str(port), *options, **script), port)

    return start


@pytest.fixture(scope="module")
def door(serve_triton: Callable[..., Door]) -> Door:
    """Speaks at once; clones."""
    return serve_triton(clones=True, voices=["zh-f", "en-f"], slots=32)


@pytest.fixture(scope="module")
def slow_door(serve_triton: Callable[..., Door]) -> Door:
    """Speaks at five times real time, in chunks of 50 ms."""
    return serve_triton(realtime_factor=0.2, chunk_ms=50, voices=["en-f"], slots=3)


@pytest.fixture(scope="module")
def locked_door(serve_triton: Callable[..., Door]) -> Door:
    return serve_triton("--api-key", "secret", voices=["en-f"])


# --- requests


def tensor(name: str, value: Any, shape: Iterable[int] = (1,)) -> tuple[Any, bytes]:
    """An input and its raw content: BYTES of a str or bytes, INT32 of an int, FP32 of an array."""
    if isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        datatype, raw = "BYTES", struct.pack("<I", len(data)) + data
    elif isinstance(value, int):
        datatype, raw = "INT32", struct.pack("<i", value)
    else:
        datatype, raw, shape = "FP32", value.astype("<f4").tobytes(), value.shape
    return Request.InferInputTensor(name=name, datatype=datatype, shape=shape), raw


def ask(text: Any = None, request_id: str = "", model: str = "cloudsway_tts", **inputs: Any) -> Request:
    """A request with raw contents."""
    if text is not None:
        inputs["target_text" if model == "cosyvoice2" else "text"] = text
    tensors = [tensor(name, value) for name, value in inputs.items()]
    return Request(
        model_name=model,
        id=request_id,
        inputs=[each for each, _ in tensors],
        raw_input_contents=[raw for _, raw in tensors],
    )


def in_sequence(
    request: Request, sequence_id: int | str, *, start: bool = False, end: bool = False
) -> Request:
    if isinstance(sequence_id, str):
        request.parameters["sequence_id"].string_param = sequence_id
    else:
        request.parameters["sequence_id"].int64_param = sequence_id
    request.parameters["sequence_start"].bool_param = start
    request.parameters["sequence_end"].bool_param = end
    return request


def wanting_final(request: Request) -> Request:
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    return request


# --- responses


def element(reply: Reply) -> bytes:
    """The one element of `wav_output`."""
    assert not reply.error_message
    answer = reply.infer_response
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("wav_output", "BYTES", [1])
    (raw,) = answer.raw_output_contents
    assert struct.unpack_from("<I", raw)[0] == len(raw) - 4
    return raw[4:]


def pcm_of(elements: list[bytes], rate_hz: int = RATE_HZ) -> np.ndarray:
    """The samples of a WAV file in pieces with its end."""
    assert elements[-1] == END
    assert END not in elements[:-1]
    file = b"".join(elements[:-1])
    assert file.count(b"RIFF") == 1
    assert file[:4] == b"RIFF"
    assert file[8:16] == b"WAVEfmt "
    assert struct.unpack_from("<IHHIIHH", file, 16) == (16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    assert file[36:40] == b"data"
    return np.frombuffer(file[44:], "<i2")


async def rest(call: Any) -> list[Reply]:
    """What is left of a stream; reading one by one and iterating do not mix."""
    replies = []
    while (reply := await call.read()) is not grpc.aio.EOF:
        replies.append(reply)
    return replies


def seconds(text: str) -> float:
    return len(text) * MS_PER_CHAR / 1000


def assert_spoken(replies: list[Reply], text: str, rate_hz: int = RATE_HZ) -> None:
    samples = pcm_of([element(reply) for reply in replies], rate_hz)
    assert len(samples) == round(seconds(text) * rate_hz)
    assert np.abs(samples).max() > 1000


# --- whole utterances


async def test_a_request_is_answered_with_a_wav_file_in_pieces_and_its_end(door: Door) -> None:
    replies = await door.answers(ask("Hello there."))
    assert len(replies) > 3
    assert_spoken(replies, "Hello there.")
    assert {reply.infer_response.model_name for reply in replies} == {"cloudsway_tts"}


@pytest.mark.parametrize("rate_hz", [8000, 22050, 24000, 48000])
async def test_the_sample_rate_is_the_one_asked_for(door: Door, rate_hz: int) -> None:
    replies = await door.answers(ask("Ten chars.", sample_rate=rate_hz))
    assert_spoken(replies, "Ten chars.", rate_hz)


async def test_every_input_of_the_documentation_is_taken(door: Door) -> None:
    request = ask("你好，世界。", voice_id="reference", language="zh", sample_rate=16000, api_key="")
    request.outputs.add(name="wav_output")
    assert_spoken(await door.answers(request), "你好，世界。")


async def test_contents_in_the_message_say_the_same_as_raw_ones(door: Door) -> None:
    request = Request(model_name="cloudsway_tts", model_version="1")
    contents = kserve_pb2.InferTensorContents
    request.inputs.add(
        name="text", datatype="BYTES", shape=[1], contents=contents(bytes_contents=[b"Hello."])
    )
    request.inputs.add(
        name="sample_rate", datatype="INT32", shape=[1], contents=contents(int_contents=[8000])
    )
    assert_spoken(await door.answers(request), "Hello.", 8000)


async def test_shapes_may_have_the_dimension_of_a_batch(door: Door) -> None:
    request = ask("Hello.", sample_rate=8000)
    for each in request.inputs:
        each.shape.append(1)
    assert_spoken(await door.answers(request), "Hello.", 8000)


async def test_other_integers_are_taken_for_a_rate(door: Door) -> None:
    request = ask("Hello.")
    request.inputs.add(name="sample_rate", datatype="INT64", shape=[1])
    request.raw_input_contents.append(struct.pack("<q", 8000))
    assert_spoken(await door.answers(request), "Hello.", 8000)


async def test_a_lone_surrogate_is_spoken_as_nothing(door: Door) -> None:
    replies = await door.answers(ask(b"Hello\xed\xa0\x80 there."))
    assert_spoken(replies, "Hello there.")


async def test_text_without_a_word_is_an_empty_file(door: Door) -> None:
    assert len(pcm_of([element(reply) for reply in await door.answers(ask("\u200b"))])) == 0


async def test_requests_without_an_id_are_answered_one_after_another(door: Door) -> None:
    texts = ["One.", "Two and more.", "Three."]
    elements = [element(reply) for reply in await door.answers(*map(ask, texts))]
    for text in texts:
        size = elements.index(END) + 1
        assert len(pcm_of(elements[:size])) == seconds(text) * RATE_HZ
        elements = elements[size:]
    assert not elements


async def test_requests_of_different_ids_are_answered_at_the_same_time(slow_door: Door) -> None:
    replies = await slow_door.answers(
        ask("A rather long text of ten words or so.", "long"), ask("Hi.", "short")
    )
    ids = [reply.infer_response.id for reply in replies]
    assert ids.index("short") < len(ids) - 1 - ids[::-1].index("long")
    assert ids[-1] == "long"
    assert_spoken([reply for reply in replies if reply.infer_response.id == "short"], "Hi.")
    assert_spoken(
        [reply for reply in replies if reply.infer_response.id == "long"],
        "A rather long text of ten words or so.",
    )


async def test_the_empty_last_response_comes_only_when_asked_for(door: Door) -> None:
    def finals(replies: list[Reply]) -> list[bool]:
        return [reply.infer_response.parameters["triton_final_response"].bool_param for reply in replies]

    asked = await door.answers(wanting_final(ask("Hello.", "x")))
    assert finals(asked) == [False] * (len(asked) - 1) + [True]
    assert not asked[-1].infer_response.outputs
    assert asked[-1].infer_response.id == "x"
    assert_spoken(asked[:-1], "Hello.")
    plain = await door.answers(ask("Hello."))
    assert element(plain[-1]) == END
    assert finals(plain) == [False] * (len(plain) - 1) + [True]


async def test_what_is_not_honoured_is_told(door: Door) -> None:
    replies = await door.answers(ask("Hello.", colour="blue", language="tlh"))
    told = replies[0].infer_response.parameters["x-cosyduplex-warning"].string_param
    assert "colour" in told
    assert "language" in told
    assert "x-cosyduplex-warning" not in replies[1].infer_response.parameters


# --- text in pieces


async def pieces(*parts: Any, request_id: str = "", sequence_id: int | str = 7) -> list[Request]:
    last = len(parts) - 1
    return [
        in_sequence(ask(part, request_id), sequence_id, start=number == 0, end=number == last)
        for number, part in enumerate(parts)
    ]


async def test_a_sequence_is_heard_before_its_last_piece_is_written(door: Door) -> None:
    async with door.stub() as stub:
        call = stub.ModelStreamInfer()
        await call.write(in_sequence(ask("The first sentence is here. And", "a"), 7, start=True))
        first = await call.read()
        assert element(first).startswith(b"RIFF")
        assert first.infer_response.id == "a"
        assert first.infer_response.parameters["sequence_id"].int64_param == 7
        await call.write(in_sequence(ask(" now the second.", "b"), 7, end=True))
        await call.done_writing()
        replies = [first, *await rest(call)]
    assert_spoken(replies, "The first sentence is here.And now the second.")
    assert replies[-1].infer_response.id == "b"


async def test_a_piece_may_end_within_a_character(door: Door) -> None:
    data = "你好，世界。".encode()
    replies = await door.answers(*await pieces(data[:4], data[4:11], data[11:]))
    assert_spoken(replies, "你好，世界。")


async def test_a_sequence_may_have_a_name_and_be_of_one_request(door: Door) -> None:
    replies = await door.answers(in_sequence(ask("Hello."), "name", start=True, end=True))
    assert_spoken(replies, "Hello.")
    assert replies[0].infer_response.parameters["sequence_id"].string_param == "name"


async def test_sequences_of_different_ids_are_spoken_at_the_same_time(slow_door: Door) -> None:
    async with slow_door.stub() as stub:
        call = stub.ModelStreamInfer()
        for name in ("a", "b"):
            await call.write(in_sequence(ask("This is said now. ", name), name, start=True))
        seen = set()
        while seen != {"a", "b"}:
            seen.add((await call.read()).infer_response.id)
        for name in ("b", "a"):
            await call.write(in_sequence(ask(None, name), name, end=True))
        await call.done_writing()
        ends = [reply.infer_response.id for reply in await rest(call) if element(reply) == END]
    assert sorted(ends) == ["a", "b"]


async def test_sequences_without_ids_are_answered_one_after_another(door: Door) -> None:
    first, second = await pieces("One.", " Two.", sequence_id=1), await pieces("Three.", sequence_id=2)
    replies = await door.answers(first[0], *second, first[1])
    order = [reply.infer_response.parameters["sequence_id"].int64_param for reply in replies]
    assert order == sorted(order)
    assert_spoken([reply for reply, number in zip(replies, order, strict=True) if number == 2], "Three.")


async def test_half_closing_ends_a_sequence(door: Door) -> None:
    replies = await door.answers(in_sequence(ask("Not finished"), 7, start=True))
    assert_spoken(replies, "Not finished")


async def test_each_request_of_a_sequence_gets_its_empty_last_response(door: Door) -> None:
    requests = [wanting_final(request) for request in await pieces("One. ", "Two.")]
    requests[0].id, requests[1].id = "a", "b"
    replies = await door.answers(*requests)
    finals = [
        reply.infer_response.id
        for reply in replies
        if reply.infer_response.parameters["triton_final_response"].bool_param
    ]
    assert finals == ["a", "b"]
    assert element(replies[-2]) == END


async def test_a_sequence_that_is_not_in_order_is_refused_and_the_others_go_on(door: Door) -> None:
    requests = await pieces("One.", " Two.")
    again = in_sequence(ask("Again.", "x"), 7, start=True)
    unknown = in_sequence(ask("Who?", "y"), 8)
    replies = await door.answers(requests[0], again, unknown, requests[1])
    errors = {reply.infer_response.id: reply.error_message for reply in replies if reply.error_message}
    assert "started already" in errors["x"]
    assert "has not started" in errors["y"]
    assert_spoken([reply for reply in replies if not reply.error_message], "One.Two.")


async def test_what_follows_in_a_sequence_that_failed_is_dropped_with_it(door: Door) -> None:
    async with door.stub() as stub:
        call = stub.ModelStreamInfer()
        await call.write(in_sequence(ask("One. ", voice_id="nobody"), 7, start=True))
        assert (await call.read()).error_message.startswith("unknown_voice")
        await call.write(in_sequence(ask("Two. "), 7))
        await call.write(in_sequence(ask("Three.", voice_id="en-f"), 7, start=True, end=True))
        await call.done_writing()
        assert_spoken(await rest(call), "Three.")


async def test_a_sequence_that_nobody_goes_on_with_is_ended(serve_triton: Callable[..., Door]) -> None:
    door = serve_triton("--idle-s", "0.3", voices=["en-f"])
    async with door.stub() as stub:
        call = stub.ModelStreamInfer()
        await call.write(in_sequence(ask("Waiting. "), 7, start=True))
        while not (reply := await call.read()).error_message:
            pass
        assert reply.error_message.startswith("timeout")
        await call.write(ask("Hello."))
        await call.done_writing()
        assert_spoken(await rest(call), "Hello.")


# --- what goes wrong


def with_input(datatype: str, shape: list[int], raw: bytes, name: str = "text") -> Request:
    request = Request(model_name="cloudsway_tts", raw_input_contents=[raw])
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    return request


def in_shared_memory() -> Request:
    request = ask("Hello.")
    request.inputs[0].parameters["shared_memory_region"].string_param = "region"
    return request


def without_some_content() -> Request:
    request = ask("Hello.", sample_rate=8000)
    del request.raw_input_contents[1]
    return request


def named_twice() -> Request:
    request = ask("Hello.")
    request.MergeFrom(ask("Hello."))
    return request


def for_an_output(name: str) -> Request:
    request = ask("Hello.")
    request.outputs.add(name=name)
    return request


def with_a_parameter(name: str, **value: Any) -> Request:
    request = ask("Hello.")
    request.parameters[name].CopyFrom(kserve_pb2.InferParameter(**value))
    return request


BAD = {
    "no text": (ask(), "bad_request: input 'text' is missing"),
    "empty text": (ask(""), "bad_request: input 'text' is empty"),
    "a megabyte of text": (ask("x" * 1_000_000), "text_too_long"),
    "not UTF-8": (ask(b"\xff\xfe"), "bad_request: input 'text' is not UTF-8"),
    "unknown voice": (ask("Hello.", voice_id="nobody"), "unknown_voice"),
    "unsupported rate": (ask("Hello.", sample_rate=12345), "unsupported_format"),
    "negative rate": (ask("Hello.", sample_rate=-1), "unsupported_format"),
    "too short for its length": (with_input("BYTES", [1], b"\x05"), "bad_request"),
    "length beyond the data": (with_input("BYTES", [1], b"\xff\xff\xff\xffHello"), "bad_request"),
    "length short of the data": (with_input("BYTES", [1], b"\x01\0\0\0Hello"), "bad_request"),
    "text of integers": (with_input("INT32", [1], b"\1\0\0\0"), "bad_request: input 'text' is INT32"),
    "no datatype": (with_input("", [1], b"\1\0\0\0x"), "bad_request"),
    "negative shape": (with_input("BYTES", [-1], b"\1\0\0\0x"), "bad_request"),
    "two negative dimensions": (with_input("BYTES", [-1, -1], b"\1\0\0\0x"), "bad_request"),
    "huge shape": (with_input("BYTES", [2**62, 2**62], b"\1\0\0\0x"), "bad_request"),
    "no shape": (with_input("BYTES", [], b"\1\0\0\0x"), "bad_request"),
    "a thousand dimensions": (with_input("BYTES", [1] * 1000, b"\1\0\0\0x"), "bad_request"),
    "two elements": (with_input("BYTES", [2], b"\1\0\0\0x\1\0\0\0y"), "bad_request"),
    "a rate of two bytes": (with_input("INT32", [1], b"\1\0", "sample_rate"), "bad_request"),
    "a rate in text": (ask("Hello.", sample_rate="16000"), "bad_request: input 'sample_rate' is BYTES"),
    "shared memory": (in_shared_memory(), "bad_request"),
    "content missing": (without_some_content(), "bad_request"),
    "an input twice": (named_twice(), "bad_request"),
    "too many inputs": (ask("Hello.", **{f"i{n}": "x" for n in range(65)}), "bad_request"),
    "unknown output": (for_an_output("waveform"), "bad_request: model 'cloudsway_tts' has no output"),
    "a sequence of no kind": (with_a_parameter("sequence_id", bool_param=True), "bad_request"),
    "unknown model": (ask("Hello.", model="gpt"), "Request for unknown model: 'gpt' is not found"),
}


@pytest.mark.parametrize(("request_", "error"), BAD.values(), ids=BAD)
async def test_bad_input_is_told_in_band_and_the_stream_stays_usable(
    door: Door, request_: Request, error: str
) -> None:
    request_.id = "bad"
    replies = await door.answers(request_, ask("Hello.", "bad"))
    assert replies[0].error_message.startswith(error)
    assert replies[0].infer_response.id == "bad"
    assert "/" not in replies[0].error_message.replace("GET /v1/", "")
    assert_spoken(replies[1:], "Hello.")


async def test_an_error_is_followed_by_the_empty_last_response_that_was_asked_for(door: Door) -> None:
    replies = await door.answers(wanting_final(ask("", "a")), wanting_final(ask("x", "b", model="nope")))
    for name in ("a", "b"):
        error, final = (reply for reply in replies if reply.infer_response.id == name)
        assert error.error_message
        assert not error.infer_response.parameters["triton_final_response"].bool_param
        assert not final.error_message
        assert final.infer_response.parameters["triton_final_response"].bool_param


async def test_a_full_engine_refuses_in_band(slow_door: Door) -> None:
    replies = await slow_door.answers(*(ask("This takes a moment.", str(number)) for number in range(4)))
    errors = [reply.error_message for reply in replies if reply.error_message]
    assert len(errors) == 1
    assert errors[0].startswith("over_capacity")


async def test_a_failing_engine_ends_the_request_alone(serve_triton: Callable[..., Door]) -> None:
    door = serve_triton(fail_after_ms=300, voices=["en-f"])
    replies = await door.answers(ask("This breaks off.", "x"), ask("Hi.", "x"))
    error = next(number for number, reply in enumerate(replies) if reply.error_message)
    assert error > 0
    assert replies[error].error_message.startswith("engine_failed")
    assert_spoken(replies[error + 1 :], "Hi.")


# --- cancelling, and not reading


async def test_cancelling_the_stream_stops_the_synthesis(slow_door: Door) -> None:
    async with slow_door.stub() as stub:
        call = stub.ModelStreamInfer()
        await call.write(ask("This would take a long time. " * 100))
        await call.read()
        assert await metric(slow_door.http_port, "cosyduplex_contexts") == 1
        call.cancel()
        await until_idle(slow_door.http_port)
    assert_spoken(await slow_door.answers(ask("Hello.")), "Hello.")


async def test_a_client_that_reads_nothing_holds_up_nobody_and_is_dropped(
    serve_triton: Callable[..., Door],
) -> None:
    door = serve_triton("--write-timeout-s", "1", voices=["en-f"], slots=2)
    window = (("grpc.http2.lookahead_bytes", 4096), ("grpc.http2.bdp_probe", 0))
    async with door.stub(*window) as stub:
        call = stub.ModelStreamInfer()
        await call.write(ask("Nobody listens to this. " * 2000, sample_rate=48000))
        await call.read()
        for _ in range(3):
            assert_spoken(await door.answers(ask("Hello.")), "Hello.")
        assert await metric(door.http_port, "cosyduplex_contexts") == 1
        await until_idle(door.http_port)
        # 48 minutes were asked for.
        assert await metric(door.http_port, "cosyduplex_audio_seconds_total") < 60
        with pytest.raises(grpc.aio.AioRpcError):
            await rest(call)


async def test_a_stream_may_have_more_requests_than_are_kept_waiting(door: Door) -> None:
    large = [ask("x" * 4_000_000) for _ in range(12)]
    replies = await door.answers(*large, ask("Hello."))
    assert all(reply.error_message.startswith("text_too_long") for reply in replies[:12])
    assert_spoken(replies[12:], "Hello.")


async def test_a_stream_that_an_unfinished_sequence_holds_up_does_not_grow_for_ever(door: Door) -> None:
    large = [ask("x" * 4_000_000) for _ in range(12)]
    async with door.stub() as stub:
        call = stub.ModelStreamInfer()
        with pytest.raises(grpc.aio.AioRpcError):
            await call.write(in_sequence(ask("Not finished. "), 7, start=True))
            for request in large:
                await call.write(request)
            await rest(call)
    await until_idle(door.http_port)


async def test_noise_on_the_port_and_half_a_request_leave_it_usable(door: Door) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
    half = bytes([0, 0, 50, 1, 4, 0, 0, 0, 1]) + b"\x83\x86"
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 50, preface + half, preface[:20]):
        with socket.create_connection(("127.0.0.1", door.port)) as connection:
            connection.sendall(noise)
    assert_spoken(await door.answers(ask("Hello.")), "Hello.")


async def test_a_message_that_is_no_request_is_told_in_band(door: Door) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        call = stream(iter([b"\xff\xff\xff\xff", ask("Hello.").SerializeToString()]))
        replies = [Reply.FromString(data) async for data in call]
        assert replies[0].error_message.startswith("bad_request")
        assert_spoken(replies[1:], "Hello.")
        single = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await single(b"\xff")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# --- keys


async def test_the_key_may_be_in_the_tensor_or_in_the_metadata(locked_door: Door) -> None:
    assert_spoken(await locked_door.answers(ask("Hello.", api_key="secret")), "Hello.")
    for header in (("authorization", "Bearer secret"), ("x-api-key", "secret")):
        assert_spoken(await locked_door.answers(ask("Hello.", api_key=""), metadata=[header]), "Hello.")


@pytest.mark.parametrize("inputs", [{}, {"api_key": ""}, {"api_key": "wrong"}])
async def test_without_the_key_a_stream_is_refused_in_band(locked_door: Door, inputs: dict[str, str]) -> None:
    replies = await locked_door.answers(ask("Hello.", **inputs), ask("Hello.", api_key="secret"))
    assert replies[0].error_message.startswith("unauthorized")
    assert_spoken(replies[1:], "Hello.")


async def test_without_the_key_single_calls_are_refused_but_for_liveness(locked_door: Door) -> None:
    async with locked_door.stub() as stub:
        assert (await stub.ServerLive(kserve_pb2.ServerLiveRequest())).live
        assert (await stub.ServerReady(kserve_pb2.ServerReadyRequest())).ready
        for call, message in (
            (stub.ModelInfer, ask("Hello.", api_key="wrong")),
            (stub.ModelMetadata, kserve_pb2.ModelMetadataRequest(name="cloudsway_tts")),
            (stub.ModelStatistics, kserve_pb2.ModelStatisticsRequest()),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(message, metadata=(("authorization", "Bearer wrong"),))
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(grpc.aio.AioRpcError):
                await call(message)


async def test_an_open_door_needs_no_key(serve_triton: Callable[..., Door]) -> None:
    door = serve_triton("--api-key", "secret", "--open-door", "triton", voices=["en-f"])
    assert_spoken(await door.answers(ask("Hello.", api_key="wrong")), "Hello.")


# --- single calls


async def test_a_single_call_is_answered_with_a_whole_wav_file(door: Door) -> None:
    async with door.stub() as stub:
        answer = await stub.ModelInfer(ask("Hello.", "x", sample_rate=8000))
    assert answer.id == "x"
    file = answer.raw_output_contents[0][4:]
    assert struct.unpack_from("<I", file, 4)[0] == len(file) - 8
    assert len(file) - 44 == seconds("Hello.") * 8000 * 2


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ask("", ""), grpc.StatusCode.INVALID_ARGUMENT),
        (ask("Hello.", voice_id="nobody"), grpc.StatusCode.NOT_FOUND),
        (ask("Hello.", model="gpt"), grpc.StatusCode.NOT_FOUND),
        (in_sequence(ask("Hello."), 1, start=True), grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["empty", "voice", "model", "piece"],
)
async def test_a_single_call_that_cannot_be_done_has_a_status(
    door: Door, request_: Request, code: grpc.StatusCode
) -> None:
    async with door.stub() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ModelInfer(request_)
    assert refused.value.code() is code


async def test_the_server_tells_what_it_is_and_has(door: Door) -> None:
    async with door.stub() as stub:
        server = await stub.ServerMetadata(kserve_pb2.ServerMetadataRequest())
        assert server.name == "cosyduplex"
        index = await stub.RepositoryIndex(kserve_pb2.RepositoryIndexRequest())
        assert [(model.name, model.state) for model in index.models] == [
            ("cloudsway_tts", "READY"),
            ("cosyvoice2", "READY"),
        ]
        for name, ready in (("cloudsway_tts", True), ("gpt", False)):
            answer = await stub.ModelReady(kserve_pb2.ModelReadyRequest(name=name))
            assert answer.ready is ready
        about = await stub.ModelMetadata(kserve_pb2.ModelMetadataRequest(name="cloudsway_tts"))
        assert [(each.name, each.datatype) for each in about.inputs] == [
            ("voice_id", "BYTES"),
            ("language", "BYTES"),
            ("text", "BYTES"),
            ("sample_rate", "INT32"),
            ("api_key", "BYTES"),
        ]
        config = (await stub.ModelConfig(kserve_pb2.ModelConfigRequest(name="cosyvoice2"))).config
        assert config.model_transaction_policy.decoupled
        assert [each.optional for each in config.input] == [True, True, True, False]


async def test_statistics_count_what_was_spoken_and_what_failed(door: Door) -> None:
    async def statistics() -> Any:
        (answer,) = (
            await stub.ModelStatistics(kserve_pb2.ModelStatisticsRequest(name="cloudsway_tts"))
        ).model_stats
        return answer

    async with door.stub() as stub:
        before = await statistics()
        await door.answers(ask("Hello."), ask("Hello."), ask(""))
        after = await statistics()
    was, now = before.inference_stats, after.inference_stats
    assert after.inference_count - before.inference_count == 2
    assert now.success.count - was.success.count == 2
    assert now.fail.count - was.fail.count == 1
    assert after.last_inference > 1_700_000_000_000
    parts = sum(
        getattr(now, name).ns for name in ("queue", "compute_input", "compute_infer", "compute_output")
    )
    assert parts == pytest.approx(now.success.ns, rel=0.05)


async def test_calls_that_mean_nothing_here_are_unimplemented(door: Door) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        for name in ("TraceSetting", "LogSettings", "RepositoryModelLoad", "SystemSharedMemoryRegister"):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"")
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_probes_of_grpc_are_answered(door: Door) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        check: Any = HealthStub(channel).Check
        for service in ("", "inference.GRPCInferenceService"):
            answer = await check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError):
            await check(health_pb2.HealthCheckRequest(service="other"))


# --- the model with a recording


def waveform(replies: list[Reply]) -> np.ndarray:
    assert not any(reply.error_message for reply in replies)
    outputs = [output for reply in replies for output in reply.infer_response.outputs]
    assert {(output.name, output.datatype) for output in outputs} == {("waveform", "FP32")}
    raw = [each for reply in replies for each in reply.infer_response.raw_output_contents]
    assert [list(output.shape) for output in outputs] == [[len(each) // 4] for each in raw]
    return np.frombuffer(b"".join(raw), "<f4")


def recording_inputs(samples: np.ndarray | None = None, text: str = "What it says.") -> dict[str, Any]:
    samples = speech_like() if samples is None else samples
    return {
        "reference_wav": samples.reshape(1, -1),
        "reference_wav_len": len(samples),
        "reference_text": text,
    }


async def test_a_recording_that_comes_along_is_the_voice(door: Door) -> None:
    request = wanting_final(ask("Hello there.", "x", "cosyvoice2", **recording_inputs()))
    sound = waveform(await door.answers(request))
    assert len(sound) == seconds("Hello there.") * 24_000
    assert 0.01 < np.abs(sound).max() <= 1
    assert loudest_hz(sound, 24_000) > 1150  # a clone's tone, not one of the other voices'
    added = door.scripted.voices.last()
    assert (added["text"], added["source"]) == ("What it says.", "recording")


async def test_silence_behind_the_recording_is_no_part_of_it(door: Door) -> None:
    inputs = recording_inputs(text="Filled up.")
    padded = np.zeros((1, 50 * 16_000), np.float32)
    padded[0, : inputs["reference_wav_len"]] = inputs["reference_wav"]
    inputs["reference_wav"] = padded
    assert len(waveform(await door.answers(ask("Hello.", "", "cosyvoice2", **inputs))))


async def test_the_text_alone_is_spoken_by_the_default_voice(door: Door) -> None:
    sound = waveform(await door.answers(ask("Hello.", "", "cosyvoice2")))
    assert len(sound) == seconds("Hello.") * 24_000
    assert loudest_hz(sound, 24_000) < 1150


async def test_offline_clients_get_the_recording_s_voice_in_one_response(door: Door) -> None:
    async with door.stub() as stub:
        answer = await stub.ModelInfer(ask("Hello.", "5", "cosyvoice2", **recording_inputs()))
    assert answer.id == "5"
    assert len(waveform([Reply(infer_response=answer)])) == seconds("Hello.") * 24_000


def not_a_number() -> np.ndarray:
    samples = speech_like()
    samples[100] = np.nan
    return samples


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        (recording_inputs(not_a_number()), "bad_reference_audio"),
        (recording_inputs(speech_like() * np.float32(1e38)), "bad_reference_audio"),
        (recording_inputs(np.full(32_000, np.inf, np.float32)), "bad_reference_audio"),
        (recording_inputs(np.zeros(32_000, np.float32)), "bad_reference_audio"),
        (recording_inputs(speech_like(0.2)), "bad_reference_audio"),
        (recording_inputs(speech_like(40)), "bad_reference_audio"),
        (recording_inputs(np.zeros(0, np.float32)), "bad_reference_audio"),
        ({**recording_inputs(), "reference_wav_len": -1}, "bad_request"),
        ({**recording_inputs(), "reference_wav_len": 10**6}, "bad_request"),
        ({**recording_inputs(), "reference_wav": np.zeros((2, 4), np.float32)}, "bad_request"),
        ({**recording_inputs(), "reference_wav": "samples"}, "bad_request"),
        ({**recording_inputs(), "reference_text": b"\xff"}, "bad_request"),
    ],
    ids="nan loud infinite silent short long empty negative beyond stereo text utf8".split(),
)
async def test_a_bad_recording_is_told_in_band(door: Door, inputs: dict[str, Any], error: str) -> None:
    replies = await door.answers(ask("Hello.", "", "cosyvoice2", **inputs), ask("Hello."))
    assert replies[0].error_message.startswith(error)
    assert_spoken(replies[1:], "Hello.")


# --- ports, and the end


def test_a_port_that_was_named_and_is_taken_ends_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "cosyduplex_server", "serve", "--port", "0", "--engine", "espeak"]
        ports = ["--triton-grpc-port", str(port), "--cosyvoice-grpc-port", "0"]
        run = subprocess.run([*command, *ports], capture_output=True, text=True, timeout=30)
    assert run.returncode == 2
    assert run.stderr.splitlines() == [
        f"cosyduplex: triton_grpc_port {port} on 127.0.0.1 cannot be used (Address already in use): "
        "choose another with --triton-grpc-port"
    ]


@pytest.fixture
def usual_port_taken() -> Iterator[None]:
    try:
        with socket.create_server(("127.0.0.1", 8001)):
            yield
    except OSError:  # somebody else has taken it, which does as well
        yield


@pytest.mark.usefixtures("usual_port_taken")
def test_a_usual_port_that_is_taken_closes_the_door_alone(start_server: Callable[..., Any]) -> None:
    server = start_server("--engine", "espeak", "--voice-processes", "1", "--triton-grpc-port", "8001")
    assert "port 8001 cannot be used" in server.log()


async def test_a_server_that_ends_lets_what_is_spoken_finish(serve_triton: Callable[..., Door]) -> None:
    door = serve_triton(realtime_factor=0.2, voices=["en-f"])
    async with door.stub() as stub:
        call, idle = stub.ModelStreamInfer(), stub.ModelStreamInfer()
        await call.write(ask("This is heard to its end."))
        await idle.write(ask("Hi."))
        first = await call.read()
        door.scripted.server.process.send_signal(signal.SIGTERM)
        assert_spoken([first, *await rest(call)], "This is heard to its end.")
        assert_spoken(await rest(idle), "Hi.")
    assert await asyncio.to_thread(door.scripted.server.process.wait, 20) == 0
