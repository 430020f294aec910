"""The two models: what they take, how it is spoken, and the form in which it is given."""

from __future__ import annotations

import asyncio
import io
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from cosyduplex.containers import WavWriter
from cosyduplex.errors import ErrorCode
from cosyduplex.messages import AudioOptions
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.codecs import Codec, Encoder, make_encoder
from cosyduplex_bridges.emotions import split_prompt
from cosyduplex_bridges.grpc_calls import bad_request
from cosyduplex_bridges.grpc_stubs import kserve_pb2 as kserve
from cosyduplex_bridges.triton.statistics import Statistics
from cosyduplex_bridges.triton.tensors import Inputs, TensorSpec, pack_bytes
from cosyduplex_server.audio.reference import MAX_S, Recording, read_recording
from cosyduplex_server.errors import Failure
from cosyduplex_server.utterance import Utterance, UtteranceOptions

DOOR: Final = "triton"
VERSION: Final = "1"
_REFERENCE_HZ: Final = 16_000
_WAVEFORM_HZ: Final = 24_000
# By far more than the rates a tensor may ask for by mistake: the float scale ends at 1.
_MOST_LEVEL: Final = 2.0


@dataclass(frozen=True, slots=True)
class Speech:
    """An utterance that waits for its text, and the form its audio is given in."""

    utterance: Utterance
    encoder: Encoder


class Model(ABC):
    """One model of the door.

    Attributes:
        name: as requests call it.
        text_input: the tensor with what is to be spoken.
        key_input: the tensor that may hold the API key.
        inputs: every tensor that it takes.
        output: the tensor that it gives.
        end: the last element of the output; None where there is none.
    """

    name: str
    text_input: str
    key_input: str | None
    inputs: tuple[TensorSpec, ...]
    output: TensorSpec
    end: bytes | None

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self.statistics = Statistics()

    @abstractmethod
    def open(self, inputs: Inputs) -> AbstractAsyncContextManager[Speech]:
        """Opens the utterance that a request asks for, with no text in it yet.

        Raises:
            Failure: it cannot be spoken so.
        """

    @abstractmethod
    def pack(self, data: bytes) -> tuple[list[int], bytes]:
        """Shape and raw contents of the output that holds these bytes of the encoder's."""

    @abstractmethod
    def whole(self, pcm: bytes, sample_rate_hz: int) -> bytes:
        """All of an utterance, mono s16le, as bytes for `pack`."""

    def _begin(self, voice: str | None, language: str | None, rate_hz: int, codec: Codec) -> Speech:
        audio = AudioOptions(encoding="pcm_s16le", sample_rate=rate_hz)
        options = UtteranceOptions(voice=voice, language=language, audio=audio)
        utterance = self._bridge.gateway.open_utterance(DOOR, options)
        return Speech(utterance, make_encoder(codec, rate_hz))

    def check_outputs(self, request: kserve.ModelInferRequest) -> None:
        """Refuses a request for outputs that the model has not.

        Raises:
            Failure: `bad_request`.
        """
        for output in request.outputs:
            if output.name != self.output.name:
                raise bad_request(
                    f"model '{self.name}' has no output '{output.name}'", f"Ask for '{self.output.name}'."
                )

    @property
    def metadata(self) -> kserve.ModelMetadataResponse:
        """What `ModelMetadata` answers."""
        tensors = [
            kserve.ModelMetadataResponse.TensorMetadata(
                name=spec.name, datatype=spec.datatype, shape=spec.dims
            )
            for spec in (*self.inputs, self.output)
        ]
        return kserve.ModelMetadataResponse(
            name=self.name,
            versions=[VERSION],
            platform="cosyduplex",
            inputs=tensors[:-1],
            outputs=tensors[-1:],
        )

    @property
    def config(self) -> kserve.ModelConfig:
        """What `ModelConfig` answers."""
        types: dict[str, kserve.DataType] = {
            "BYTES": kserve.TYPE_STRING,
            "INT32": kserve.TYPE_INT32,
            "FP32": kserve.TYPE_FP32,
        }
        idle_us = round(self._bridge.gateway.config.idle_s * 1e6)
        return kserve.ModelConfig(
            name=self.name,
            backend="cosyduplex",
            input=[
                kserve.ModelInput(
                    name=spec.name, data_type=types[spec.datatype], dims=spec.dims, optional=spec.optional
                )
                for spec in self.inputs
            ],
            output=[
                kserve.ModelOutput(
                    name=self.output.name, data_type=types[self.output.datatype], dims=self.output.dims
                )
            ],
            sequence_batching=kserve.ModelSequenceBatching(max_sequence_idle_microseconds=idle_us),
            model_transaction_policy=kserve.ModelTransactionPolicy(decoupled=True),
        )


class CloudswayTts(Model):
    """A WAV file in pieces, then `%END%`."""

    name = "cloudsway_tts"
    text_input = "text"
    key_input = "api_key"
    inputs = (
        TensorSpec("voice_id", "BYTES"),
        TensorSpec("language", "BYTES"),
        TensorSpec("text", "BYTES", optional=False),
        TensorSpec("sample_rate", "INT32"),
        TensorSpec("api_key", "BYTES"),
    )
    output = TensorSpec("wav_output", "BYTES")
    end = b"%END%"

    @asynccontextmanager
    async def open(self, inputs: Inputs) -> AsyncIterator[Speech]:
        """Opens the utterance; yields it."""
        rate_hz = inputs.integer("sample_rate")
        rate_hz = _REFERENCE_HZ if rate_hz is None else rate_hz
        voice = self._bridge.voice(DOOR, inputs.text("voice_id") or None)
        speech = self._begin(voice, inputs.text("language") or None, rate_hz, Codec.WAV)
        with speech.utterance:
            yield speech

    def pack(self, data: bytes) -> tuple[list[int], bytes]:
        """One element."""
        return [1], pack_bytes(data)

    def whole(self, pcm: bytes, sample_rate_hz: int) -> bytes:
        """A WAV file that says its true length."""
        file = io.BytesIO()
        with WavWriter(file, sample_rate_hz) as writer:
            writer.write(pcm)
        return file.getvalue()


class CosyVoice2(Model):
    """Samples at 24 kHz, in the voice of a recording that comes along."""

    name = "cosyvoice2"
    text_input = "target_text"
    key_input = None
    inputs = (
        TensorSpec("reference_wav", "FP32", (-1,)),
        TensorSpec("reference_wav_len", "INT32"),
        TensorSpec("reference_text", "BYTES"),
        TensorSpec("target_text", "BYTES", optional=False),
    )
    output = TensorSpec("waveform", "FP32", (-1,))
    end = None

    @asynccontextmanager
    async def open(self, inputs: Inputs) -> AsyncIterator[Speech]:
        """Prepares the recording, where there is one, and opens the utterance; yields it."""
        said = split_prompt(inputs.text("reference_text"))[1]
        if "reference_wav" not in inputs:
            # Upstream's client sends the text alone when told to use the server's speaker.
            speech = self._begin(None, None, _WAVEFORM_HZ, Codec.F32LE)
            if said:
                speech.utterance.warnings.append("reference_text without reference_wav was ignored")
            with speech.utterance:
                yield speech
            return
        async with self._bridge.gateway.enrolments:
            recording = await asyncio.to_thread(_recording, inputs)
        async with self._bridge.gateway.voices.guest(recording, said) as voice:
            speech = self._begin(voice, None, _WAVEFORM_HZ, Codec.F32LE)
            with speech.utterance:
                yield speech

    def pack(self, data: bytes) -> tuple[list[int], bytes]:
        """As many elements as there are samples."""
        return [len(data) // 4], data

    def whole(self, pcm: bytes, sample_rate_hz: int) -> bytes:
        """All samples."""
        encoder = make_encoder(Codec.F32LE, sample_rate_hz)
        return encoder.encode(pcm) + encoder.finish()


def _recording(inputs: Inputs) -> Recording:
    """The recording in `reference_wav`, without the silence with which upstream's client fills it up."""
    samples = inputs.floats("reference_wav")
    assert samples is not None
    length = inputs.integer("reference_wav_len")
    if length is not None:
        if not 0 <= length <= len(samples):
            raise bad_request(f"reference_wav_len is {length}; reference_wav has {len(samples)} samples")
        samples = samples[:length]
    if len(samples) > MAX_S * _REFERENCE_HZ:
        raise Failure(
            ErrorCode.BAD_REFERENCE_AUDIO,
            f"reference_wav lasts {len(samples) / _REFERENCE_HZ:.1f} s; {MAX_S:.0f} s at most are taken",
        )
    return read_recording(_float_wav(samples))


def _float_wav(samples: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    clipped = np.clip(samples, -_MOST_LEVEL, _MOST_LEVEL)  # and what is not a number stays none
    soundfile.write(file, clipped, _REFERENCE_HZ, format="WAV", subtype="FLOAT")
    return file.getvalue()
