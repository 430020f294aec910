"""Upstream CosyVoice's gRPC client: stubs of the .proto file, and requests as it sends them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from hearing import Sound, assert_speech, raw, tones_hz
from servers import ROOT, Server
from stubs import stubs_of

PROTO = ROOT / "bridges" / "cosyduplex_bridges" / "grpc_stubs" / "cosyvoice.proto"
TEXT = "你好，我是通义千问语音合成大模型，请问有什么可以帮您的吗？"


def works(feature: str) -> pytest.MarkDecorator:
    return pytest.mark.door("CosyVoice gRPC", client="grpcio", feature=feature)


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return stubs_of(PROTO, tmp_path_factory.mktemp("cosyvoice"))


class Client:
    """What upstream's client does with a request."""

    def __init__(self, address: str, stubs: tuple[Any, Any]) -> None:
        self.messages = stubs[0]
        self._channel = grpc.insecure_channel(address)
        self._stub = stubs[1].CosyVoiceStub(self._channel)

    def infer(self, request: Any) -> Any:
        """The responses."""
        return self._stub.Inference(request)

    def hear(self, request: Any, rate_hz: int) -> Sound:
        """All responses, joined as upstream's client joins them."""
        tts_audio = b""
        for response in self.infer(request):
            tts_audio += response.tts_audio
        return raw(np.frombuffer(tts_audio, dtype=np.int16).tobytes(), rate_hz)

    def close(self) -> None:
        """Hangs up."""
        self._channel.close()


@pytest.fixture
def connect(stubs: tuple[Any, Any]) -> Iterator[Callable[[Server], Client]]:
    clients: list[Client] = []

    def connect(server: Server) -> Client:
        clients.append(Client(server.cosyvoice, stubs))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def prompt_audio() -> bytes:
    """A recording as upstream's client sends one: 16 kHz, int16."""
    at_s = np.arange(2 * 16000) / 16000
    return (0.3 * np.sin(2 * np.pi * 150 * at_s) * 2**15).astype(np.int16).tobytes()


@works("sft")
def test_sft_speaks_with_upstream_s_speaker(server: Server, connect: Callable[[Server], Client]) -> None:
    client = connect(server)
    request = client.messages.Request()
    request.sft_request.spk_id = "中文女"
    request.sft_request.tts_text = TEXT
    rate_hz = server.get("/v1/info")["sample_rate"]
    assert_speech(client.hear(request, rate_hz), TEXT)


@works("instruct")
def test_instruct_speaks_and_tells_what_it_cannot_do(
    server: Server, connect: Callable[[Server], Client]
) -> None:
    client = connect(server)
    request = client.messages.Request()
    request.instruct_request.tts_text = "Hello."
    request.instruct_request.spk_id = "英文女"
    request.instruct_request.instruct_text = "Slowly."
    call = client.infer(request)
    assert b"".join(response.tts_audio for response in call)
    assert "instruct" in dict(call.trailing_metadata())["x-cosyduplex-warning"]


@works("zero_shot")
def test_zero_shot_speaks_as_the_recording(
    scripted_server: Callable[..., Server], connect: Callable[[Server], Client]
) -> None:
    client = connect(scripted_server(clones=True))
    request = client.messages.Request()
    request.zero_shot_request.tts_text = TEXT
    request.zero_shot_request.prompt_text = "希望你以后能够做的比我还好呦。"
    request.zero_shot_request.prompt_audio = prompt_audio()
    (tone,) = tones_hz(client.hear(request, 24000))
    assert tone >= 1200  # a clone's


@works("cross_lingual")
def test_cross_lingual_speaks_as_the_recording(
    scripted_server: Callable[..., Server], connect: Callable[[Server], Client]
) -> None:
    client = connect(scripted_server(clones=True))
    request = client.messages.Request()
    request.cross_lingual_request.tts_text = TEXT
    request.cross_lingual_request.prompt_audio = prompt_audio()
    (tone,) = tones_hz(client.hear(request, 24000))
    assert tone >= 1200


@works("at 22050 Hz, which the client takes for granted")
def test_the_rate_can_be_the_client_s(
    scripted_server: Callable[..., Server], connect: Callable[[Server], Client]
) -> None:
    client = connect(scripted_server("--cosyvoice-rate", "22050"))
    request = client.messages.Request()
    request.sft_request.tts_text = "Ten chars."
    assert client.hear(request, 22050).seconds == pytest.approx(0.6)


@works("cancel")
def test_cancelling_the_call_stops_the_synthesis(
    scripted_server: Callable[..., Server], connect: Callable[[Server], Client]
) -> None:
    server = scripted_server(realtime_factor=0.5)
    client = connect(server)
    request = client.messages.Request()
    request.sft_request.tts_text = "A long story. " * 200
    call = client.infer(request)
    next(call)
    call.cancel()
    server.wait_until_idle()


@works("errors as status")
def test_what_cannot_be_spoken_is_a_status(server: Server, connect: Callable[[Server], Client]) -> None:
    client = connect(server)
    request = client.messages.Request()
    request.sft_request.tts_text = TEXT
    request.sft_request.spk_id = "nobody"
    with pytest.raises(grpc.RpcError) as refused:
        list(client.infer(request))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
