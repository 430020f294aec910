"""What the tests of voices send: recordings made here, and forms as any HTTP client would build them."""

from __future__ import annotations

import http.client
import io
import json
import wave
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

TEXT = "希望你以后能够做的比我还好呦。"


def speech(seconds: float = 3.0, rate_hz: int = 24_000, *, pitch_hz: float = 120.0) -> NDArray[np.float64]:
    """A voice without words: harmonics that rise and fall, peaking at half of the scale."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * np.cumsum(pitch_hz * (1 + 0.05 * np.sin(2 * np.pi * 3 * t))) / rate_hz
    voice = sum(np.sin(k * phase + k * k) / k**0.7 for k in range(1, 20))
    voice = voice * (0.2 + 0.8 * np.abs(np.sin(2 * np.pi * 2 * t)))
    return np.asarray(0.5 * voice / np.abs(voice).max())


def encoded(
    samples: NDArray[Any], rate_hz: int = 24_000, form: str = "WAV", subtype: str | None = None
) -> bytes:
    """The samples as a file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=form, subtype=subtype)
    return file.getvalue()


def wav_params(data: bytes) -> tuple[int, int, int, float]:
    """Channels, bytes a sample, rate and seconds, as the standard library reads them."""
    with wave.open(io.BytesIO(data)) as wav:
        rate_hz = wav.getframerate()
        return wav.getnchannels(), wav.getsampwidth(), rate_hz, wav.getnframes() / rate_hz


RECORDING = encoded(speech())
GOOD_FIELDS = {"name": "Anna", "text": TEXT, "language": "zh", "consent": "true"}


def form(fields: dict[str, str], audio: bytes | None = RECORDING) -> tuple[bytes, dict[str, str]]:
    """A multipart body and its headers."""
    boundary = "between-two-fields"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    if audio is not None:
        head = 'Content-Disposition: form-data; name="audio"; filename="me.wav"\r\nContent-Type: audio/wav'
        parts.append(f"--{boundary}\r\n{head}\r\n\r\n".encode() + audio + b"\r\n")
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


@dataclass
class VoicesClient:
    """The voice routes of one server."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def add(self, audio: bytes | None = RECORDING, **fields: str) -> tuple[int, Any]:
        """POST a voice; fields that are given replace the good ones, empty ones are left out."""
        chosen = {name: value for name, value in {**GOOD_FIELDS, **fields}.items() if value}
        return self.ask("POST", "/v1/voices", *form(chosen, audio))

    def list(self) -> dict[str, Any]:
        """All voices by id."""
        status, body = self.ask("GET", "/v1/voices")
        assert status == 200
        return {voice["id"]: voice for voice in body["voices"]}

    def show(self, voice_id: str) -> tuple[int, Any]:
        """GET one voice."""
        return self.ask("GET", path_of(voice_id))

    def remove(self, voice_id: str) -> tuple[int, Any]:
        """DELETE a voice."""
        return self.ask("DELETE", path_of(voice_id))


def path_of(voice_id: str) -> str:
    """Its path, with everything escaped."""
    return "/v1/voices/" + "".join(f"%{byte:02X}" for byte in voice_id.encode())
