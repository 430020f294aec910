"""A recording made into what the networks need of a voice: speech tokens, mel spectrogram, speaker vector.

Two networks listen to it, both ONNX files beside the checkpoint, run on the CPU. They are opened when the
first voice is made: a server that only speaks saves their half gigabyte.
"""

from __future__ import annotations

import hashlib
import io
import os
import wave
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors
from torch import Tensor

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.cosyvoice.features import PromptFeatures
from cosyduplex_server.engine.cosyvoice.files import CheckpointError, unreadable
from cosyduplex_server.errors import Failure
from cosyduplex_server.models.config import FRAMES_PER_TOKEN, SAMPLE_RATE_HZ, SPEAKER_CHANNELS
from cosyduplex_server.models.frontend import (
    SPEECH_RATE_HZ,
    prompt_mel,
    resample,
    speaker_fbank,
    whisper_log_mel,
)

MIN_PROMPT_S: Final = 1.0
MAX_PROMPT_S: Final = 30.0  # the speech tokenizer has met no longer one
MIN_RATE_HZ: Final = 16_000
MAX_RATE_HZ: Final = 192_000
SILENCE: Final = 1e-3
"""A recording whose loudest sample is below this holds no speech."""
MAX_THREADS: Final = 4

_SPECTRA_PER_TOKEN: Final = 4
# The networks round differently at a recording's end; more than this, and tokens and mel drift apart.
_MAX_TOKENS_ASTRAY: Final = 4
_FINGERPRINT_PIECES: Final = 16
_FINGERPRINT_PIECE_BYTES: Final = 65_536

# onnxruntime's errors have no base class of their own.
_ONNX_ERRORS: Final = (
    onnx_errors.Fail,
    onnx_errors.InvalidArgument,
    onnx_errors.InvalidGraph,
    onnx_errors.InvalidProtobuf,
    onnx_errors.NoModel,
    onnx_errors.NoSuchFile,
    onnx_errors.NotImplemented,
    onnx_errors.RuntimeException,
)


class PromptEncoder:
    """Makes features of recordings, from any thread.

    Args:
        campplus_path: the speaker encoder.
        speech_tokenizer_path: the speech tokenizer.
        mel_fmax_hz: where the highest mel channel of a prompt ends; None: at half the sample rate.
        num_speech_tokens: every speech token is below it.
    """

    def __init__(
        self,
        campplus_path: Path,
        speech_tokenizer_path: Path,
        *,
        mel_fmax_hz: float | None,
        num_speech_tokens: int,
    ) -> None:
        self._speaker = _OnnxModel(campplus_path, {"input"})
        self._tokenizer = _OnnxModel(speech_tokenizer_path, {"feats", "feats_length"})
        self._mel_fmax_hz = mel_fmax_hz
        self.num_speech_tokens = num_speech_tokens

    @cached_property
    def fingerprint(self) -> str:
        """Tells features of this encoder from others; reads a megabyte of each file.

        Raises:
            CheckpointError: a file cannot be read.
        """
        parts = (self._speaker.fingerprint(), self._tokenizer.fingerprint(), str(self._mel_fmax_hz))
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

    def open(self) -> None:
        """Opens both networks now, where the first `encode` would.

        Raises:
            CheckpointError: a file is missing, damaged, or something else than it should be.
        """
        self._speaker.open()
        self._tokenizer.open()

    def encode(self, pcm: NDArray[np.float32], rate_hz: int) -> PromptFeatures:
        """Makes the features of a recording.

        Args:
            pcm: one channel, from -1 to 1.
            rate_hz: its rate.

        Raises:
            Failure: `bad_reference_audio`; the message says what is wrong with the recording.
            CheckpointError: a network cannot be opened, or gives what it should not.
        """
        _check_recording(pcm, rate_hz)
        wav = torch.from_numpy(np.ascontiguousarray(pcm))
        wav16 = resample(wav, rate_hz, SPEECH_RATE_HZ)
        mel = prompt_mel(resample(wav, rate_hz, SAMPLE_RATE_HZ), self._mel_fmax_hz)
        tokens = self._speech_tokens(whisper_log_mel(wav16))
        length = min(mel.shape[0] // FRAMES_PER_TOKEN, len(tokens))
        return PromptFeatures(
            speech_tokens=tuple(tokens[:length]),
            mel=mel[: length * FRAMES_PER_TOKEN].clone(),
            embedding=self._embedding(speaker_fbank(wav16)),
            seconds=pcm.size / rate_hz,
        )

    def _speech_tokens(self, log_mel_CT: Tensor) -> list[int]:
        model, frames = self._tokenizer, log_mel_CT.shape[1]
        output = model.run({"feats": log_mel_CT[None].numpy(), "feats_length": np.array([frames], np.int32)})
        if output.dtype.kind not in "iu":
            raise model.error(f"gives {output.dtype} for speech tokens, not whole numbers")
        tokens: list[int] = output.reshape(-1).tolist()
        expected = frames // _SPECTRA_PER_TOKEN
        if abs(len(tokens) - expected) > _MAX_TOKENS_ASTRAY:
            raise model.error(f"gives {len(tokens)} speech tokens for {frames} frames, not about {expected}")
        if min(tokens) < 0 or max(tokens) >= self.num_speech_tokens:
            raise model.error(f"gives speech tokens outside 0 to {self.num_speech_tokens - 1}")
        return tokens

    def _embedding(self, fbank_TC: Tensor) -> Tensor:
        model = self._speaker
        output = model.run({"input": fbank_TC[None].numpy()})
        if output.dtype.kind != "f" or output.size != SPEAKER_CHANNELS:
            shape = "x".join(map(str, output.shape))
            raise model.error(f"gives {output.dtype} of {shape}, not a vector of {SPEAKER_CHANNELS} numbers")
        if not np.isfinite(output).all():
            raise model.error("gives a speaker vector that is not finite")
        return torch.from_numpy(output.reshape(-1).astype(np.float32))


class _OnnxModel:
    """An ONNX file, opened once, by whichever thread comes first."""

    def __init__(self, path: Path, inputs: set[str]) -> None:
        self._path = path
        self._inputs = inputs
        self._lock = Lock()
        self._session: onnxruntime.InferenceSession | None = None

    def error(
        self, problem: str, solution: str = "take the file that came with this model"
    ) -> CheckpointError:
        return CheckpointError(f"{self._path.name}: {problem}", solution)

    def open(self) -> onnxruntime.InferenceSession:
        with self._lock:
            if self._session is None:
                self._session = self._open()
            return self._session

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """The first output."""
        session = self.open()
        try:
            output: NDArray[Any] = session.run([session.get_outputs()[0].name], dict(inputs))[0]
        except _ONNX_ERRORS as error:
            raise self.error(f"does not take what it is given: {_one_line(error)}") from error
        return output

    def fingerprint(self) -> str:
        """A hash of the file's length and of pieces from all over it."""
        digest = hashlib.blake2b(digest_size=16)
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                digest.update(size.to_bytes(8, "little"))
                for piece in range(_FINGERPRINT_PIECES):
                    file.seek(size * piece // _FINGERPRINT_PIECES)
                    digest.update(file.read(_FINGERPRINT_PIECE_BYTES))
        except OSError as error:
            raise unreadable(self._path, error) from None
        return digest.hexdigest()

    def _open(self) -> onnxruntime.InferenceSession:
        if not self._path.is_file():
            raise self.error("is missing", "download the model again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = min(MAX_THREADS, os.cpu_count() or 1)
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # voices are made seldom: give the memory back in between
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(
                os.fspath(self._path), options, providers=["CPUExecutionProvider"]
            )
        except _ONNX_ERRORS as error:
            raise self.error("is damaged, or no ONNX file", "download it again") from error
        inputs = {node.name for node in session.get_inputs()}
        if inputs != self._inputs:
            raise self.error(f"takes {_listed(inputs)}, not {_listed(self._inputs)}")
        return session


def read_wav(audio: bytes) -> tuple[NDArray[np.float32], int]:
    """The samples of a 16-bit WAV file, from -1 to 1, its channels averaged; and their rate.

    Raises:
        Failure: `bad_reference_audio`.
    """
    if not audio:
        raise _bad_recording("There is no recording.")
    try:
        with wave.open(io.BytesIO(audio)) as file:
            channels, width, rate_hz = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise _bad_recording("The recording is not a WAV file.") from error
    if width != 2:
        raise _bad_recording("The recording is not a WAV file of 16 bit.")
    whole = len(data) - len(data) % (width * channels)
    samples = np.frombuffer(data[:whole], "<i2").reshape(-1, channels)
    return samples.mean(1, dtype=np.float32) / np.float32(32768), rate_hz


def _check_recording(pcm: NDArray[np.float32], rate_hz: int) -> None:
    assert pcm.ndim == 1
    assert pcm.dtype == np.float32
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise _bad_recording(f"The recording has {rate_hz} samples a second; it takes 16,000 to 192,000.")
    seconds = pcm.size / rate_hz
    if not MIN_PROMPT_S <= seconds <= MAX_PROMPT_S:
        raise _bad_recording(
            f"The recording is {seconds:.1f} s long; it takes {MIN_PROMPT_S:g} to {MAX_PROMPT_S:g} s."
        )
    if not np.isfinite(pcm).all():
        raise _bad_recording("The recording has samples that are no numbers.")
    if np.abs(pcm).max() < SILENCE:
        raise _bad_recording("The recording is silent.")


def _bad_recording(message: str) -> Failure:
    return Failure(ErrorCode.BAD_REFERENCE_AUDIO, message)


def _listed(names: set[str]) -> str:
    return " and ".join(sorted(names)) or "nothing"


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
