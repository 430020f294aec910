"""How long each door takes to the first audio, against the native one in the same rounds.

One listener, one sentence at a time, the embedded voice at 24 kHz, PCM where the dialect has it; the connection
is open before the clock starts wherever clients keep theirs open.

    .venv/bin/python benchmarks/door_first_audio.py --json benchmarks/results/door_first_audio.json
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import queue
import random
import shlex
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
from websockets.sync.client import ClientConnection, connect

from cosyduplex_bridges.grpc_stubs import cosyvoice_pb2, cosyvoice_pb2_grpc, kserve_pb2, kserve_pb2_grpc

TEXT = "The quick brown fox jumps over the lazy dog near the river bank."
VOICE = "en-f"
Once = Callable[[], float]
"""Speaks once and returns the seconds to the first audio; what follows has been read to its end."""


@contextmanager
def serving() -> Iterator[dict[str, Any]]:
    """A server with every door, in a process of its own."""
    command = [sys.executable, "-m", "cosyduplex_server", "serve", "--port", "0", "--log-format", "json"]
    command += ["--log-level", "error", "--triton-grpc-port", "18001", "--cosyvoice-grpc-port", "15000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


class Socket:
    """A WebSocket dialect: what is sent to speak, what is audio, what is the end."""

    def __init__(
        self,
        socket: ClientConnection,
        opening: Callable[[], list[dict[str, Any]]],
        speak: Callable[[], list[dict[str, Any]]],
        is_audio: Callable[[Any], bool],
        is_end: Callable[[Any], bool],
        is_ready: Callable[[Any], bool] | None = None,
    ) -> None:
        self.socket, self.opening, self.speak = socket, opening, speak
        self.is_audio, self.is_end, self.is_ready = is_audio, is_end, is_ready

    def _next(self) -> Any:
        message = self.socket.recv(timeout=20)
        return message if isinstance(message, bytes) else json.loads(message)

    def __call__(self) -> float:
        """Speaks once."""
        for message in self.opening():
            self.socket.send(json.dumps(message))
        while self.is_ready is not None and not self.is_ready(self._next()):
            pass
        began = time.perf_counter()
        for message in self.speak():
            self.socket.send(json.dumps(message))
        while not self.is_audio(message := self._next()):
            pass
        took = time.perf_counter() - began
        while not self.is_end(message):
            message = self._next()
        return took


class Http:
    """An HTTP door on a connection that is kept open."""

    def __init__(
        self, netloc: str, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        self.connection = http.client.HTTPConnection(netloc, timeout=20)
        self.path, self.body = path, json.dumps(body)
        self.headers = {"content-type": "application/json", **(headers or {})}

    def __call__(self) -> float:
        """Speaks once."""
        began = time.perf_counter()
        self.connection.request("POST", self.path, self.body, self.headers)
        response = self.connection.getresponse()
        assert response.status == 200, (self.path, response.status, response.read())
        assert response.read1(65536), self.path
        took = time.perf_counter() - began
        response.read()
        return took


def native(url: str) -> Socket:
    """The native protocol."""
    socket = connect(f"{url}/v1/duplex", legacy=True)
    socket.send(
        json.dumps(
            {
                "type": "session.start",
                "voice": VOICE,
                "audio": {"encoding": "pcm_s16le", "sample_rate": 24000},
                "flow": {"max_ahead_ms": 0},
            }
        )
    )
    socket.recv()
    return Socket(
        socket,
        list,
        lambda: [{"type": "text.append", "text": TEXT}, {"type": "text.end"}],
        lambda message: isinstance(message, bytes),
        lambda message: isinstance(message, dict) and message["type"] == "context.done",
    )


def dashscope(url: str) -> Socket:
    """DashScope's duplex socket, one task after another."""
    task = {"id": ""}

    def header(action: str) -> dict[str, Any]:
        return {"action": action, "task_id": task["id"], "streaming": "duplex"}

    def opening() -> list[dict[str, Any]]:
        task["id"] = uuid.uuid4().hex
        parameters = {"voice": VOICE, "format": "pcm", "sample_rate": 24000}
        payload = {
            "model": "cosyvoice-v2",
            "task_group": "audio",
            "task": "tts",
            "function": "SpeechSynthesizer",
            "input": {},
        }
        return [{"header": header("run-task"), "payload": payload | {"parameters": parameters}}]

    def speak() -> list[dict[str, Any]]:
        return [
            {"header": header("continue-task"), "payload": {"input": {"text": TEXT}}},
            {"header": header("finish-task"), "payload": {"input": {}}},
        ]

    def event(name: str) -> Callable[[Any], bool]:
        return lambda message: isinstance(message, dict) and message["header"]["event"] == name

    return Socket(
        connect(f"{url}/api-ws/v1/inference", legacy=True),
        opening,
        speak,
        lambda message: isinstance(message, bytes),
        event("task-finished"),
        event("task-started"),
    )


def cartesia(url: str) -> Socket:
    """Cartesia's socket, a context at a time."""
    output = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24000}

    def speak() -> list[dict[str, Any]]:
        return [
            {
                "context_id": uuid.uuid4().hex,
                "model_id": "sonic-3",
                "transcript": TEXT,
                "voice": {"mode": "id", "id": VOICE},
                "output_format": output,
                "continue": False,
            }
        ]

    return Socket(
        connect(f"{url}/tts/websocket", legacy=True),
        list,
        speak,
        lambda message: message["type"] == "chunk",
        lambda message: message["type"] == "done",
    )


def elevenlabs(url: str) -> Socket:
    """ElevenLabs' socket of many contexts."""
    context = {"id": ""}

    def opening() -> list[dict[str, Any]]:
        context["id"] = uuid.uuid4().hex
        return [{"text": " ", "context_id": context["id"]}]

    def speak() -> list[dict[str, Any]]:
        return [
            {"text": TEXT + " ", "context_id": context["id"], "flush": True},
            {"context_id": context["id"], "close_context": True},
        ]

    path = f"/v1/text-to-speech/{VOICE}/multi-stream-input?output_format=pcm_24000"
    return Socket(
        connect(url + path, legacy=True),
        opening,
        speak,
        lambda message: bool(message.get("audio")),
        lambda message: message.get("isFinal") is True,
    )


def deepgram(url: str, path: str) -> Socket:
    """Deepgram's sockets: a flush ends a turn."""
    return Socket(
        connect(url + path, legacy=True),
        list,
        lambda: [{"type": "Speak", "text": TEXT}, {"type": "Flush"}],
        lambda message: isinstance(message, bytes),
        lambda message: isinstance(message, dict) and message["type"] == "Flushed",
    )


def realtime(url: str) -> Socket:
    """DashScope's realtime socket in commit mode."""
    socket = connect(f"{url}/api-ws/v1/realtime?model=qwen3-tts-flash-realtime", legacy=True)
    session = {"voice": VOICE, "mode": "commit", "response_format": "pcm", "sample_rate": 24000}
    socket.send(json.dumps({"type": "session.update", "session": session}))
    return Socket(
        socket,
        list,
        lambda: [{"type": "input_text_buffer.append", "text": TEXT}, {"type": "input_text_buffer.commit"}],
        lambda message: message["type"] == "response.audio.delta",
        lambda message: message["type"] == "response.done",
    )


def triton(channel: grpc.Channel) -> Once:
    """One stream that stays open, as the SDK's does; one request after another."""
    requests: queue.SimpleQueue[kserve_pb2.ModelInferRequest] = queue.SimpleQueue()
    responses = kserve_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(requests.get, None))

    def once() -> float:
        request = kserve_pb2.ModelInferRequest(model_name="cloudsway_tts", id=uuid.uuid4().hex)
        for name, value in (("voice_id", VOICE), ("text", TEXT)):
            contents = request.inputs.add(name=name, datatype="BYTES", shape=[1]).contents
            contents.bytes_contents.append(value.encode())
        rate = request.inputs.add(name="sample_rate", datatype="INT32", shape=[1]).contents
        rate.int_contents.append(24000)
        began, took = time.perf_counter(), 0.0
        requests.put(request)
        for response in responses:
            assert not response.error_message, response.error_message
            data = response.infer_response.raw_output_contents[0][4:]
            if data == b"%END%":
                break
            if not took and len(data) > 44:  # more than the header
                took = time.perf_counter() - began
        return took

    return once


def cosyvoice(channel: grpc.Channel) -> Once:
    """Upstream's service."""
    stub = cosyvoice_pb2_grpc.CosyVoiceStub(channel)

    def once() -> float:
        request = cosyvoice_pb2.Request(sft_request=cosyvoice_pb2.sftRequest(spk_id=VOICE, tts_text=TEXT))
        began = time.perf_counter()
        took = 0.0
        for response in stub.Inference(request):
            if not took and response.tts_audio:
                took = time.perf_counter() - began
        return took

    return once


def doors(ready: dict[str, Any], stack: ExitStack) -> dict[str, Once]:
    """Every door, ready to speak."""
    netloc = ready["urls"][0].partition("//")[2]
    url = f"ws://{netloc}"
    channels = [stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}")) for port in (18001, 15000)]
    speech = {"input": TEXT, "voice": VOICE, "model": "tts-1", "response_format": "pcm"}
    voice = {"mode": "id", "id": VOICE}
    output = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24000}
    found: dict[str, Once] = {
        "native": native(url),
        "openai": Http(netloc, "/v1/audio/speech", speech),
        "rest /tts": Http(netloc, "/tts", {"mode": "sft", "text": TEXT, "speaker_id": VOICE}),
        "workflow": Http(
            netloc, "/stream-audio", {"Text": TEXT, "VoiceId": VOICE, "SampleRate": 24000, "ExtendData": "{}"}
        ),
        "cosyvoice http": Http(
            netloc,
            f"/inference_sft?tts_text={'%20'.join(TEXT.split())}&spk_id={VOICE}",
            {},
            {"content-type": "application/x-www-form-urlencoded"},
        ),
        "cosyvoice grpc": cosyvoice(channels[1]),
        "triton": triton(channels[0]),
        "dashscope duplex": dashscope(url),
        "dashscope realtime": realtime(url),
        "elevenlabs http": Http(
            netloc,
            f"/v1/text-to-speech/{VOICE}/stream?output_format=pcm_24000",
            {"text": TEXT, "model_id": "eleven_flash_v2_5"},
        ),
        "elevenlabs multi": elevenlabs(url),
        "cartesia socket": cartesia(url),
        "cartesia bytes": Http(
            netloc,
            "/tts/bytes",
            {"transcript": TEXT, "model_id": "sonic-3", "voice": voice, "output_format": output},
        ),
        "deepgram v1": deepgram(url, f"/v1/speak?model={VOICE}&encoding=linear16&sample_rate=24000"),
        "deepgram v2": deepgram(url, f"/v2/speak?model={VOICE}&encoding=linear16&sample_rate=24000"),
        "deepgram rest": Http(
            netloc,
            f"/v1/speak?model={VOICE}&encoding=linear16&sample_rate=24000&container=none",
            {"text": TEXT},
        ),
    }
    return found


def main() -> None:
    """Prints the table, and keeps the figures where `--json` says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", help="doors to look at, native always among them")
    arguments = parser.parse_args()
    with serving() as ready, ExitStack() as stack:
        everyone = doors(ready, stack)
        chosen = {
            name: once
            for name, once in everyone.items()
            if not arguments.only or name in ("native", *arguments.only)
        }
        for once in chosen.values():
            once()
        took: dict[str, list[float]] = {name: [] for name in chosen}
        for number in range(arguments.rounds):
            # In another order each time: what one door leaves behind is not always the same one's.
            for name in random.Random(number).sample(list(chosen), len(chosen)):
                took[name].append(chosen[name]())
    base = statistics.median(took["native"])
    rows = {
        name: {
            "ms": round(statistics.median(each) * 1000, 2),
            "ratio": round(statistics.median(each) / base, 3),
        }
        for name, each in took.items()
    }
    for name, row in rows.items():
        print(f"{name:20} {row['ms']:7.2f} ms  {row['ratio']:.2f} x native")
    if arguments.json:
        command = shlex.join(["benchmarks/door_first_audio.py", *sys.argv[1:]])
        machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        arguments.json.write_text(
            json.dumps(
                {"command": command, "machine": machine, "rounds": arguments.rounds, "doors": rows}, indent=1
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
