"""Recordings that a voice is made from: decoded, measured, and refused with what was measured.

Nothing is cut or made louder: the engine gets what was recorded, as one channel of 16-bit samples at the rate
of the recording.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from cosyduplex.errors import ErrorCode
from cosyduplex_server.errors import Failure

MAX_BYTES: Final = 10 * 1024 * 1024
MIN_S: Final = 1.0
MAX_S: Final = 30.0
MIN_RATE_HZ: Final = 16_000
MAX_RATE_HZ: Final = 192_000
MAX_CHANNELS: Final = 8
# Sound is what is louder than this in a window of 20 ms; speech in a quiet room lies 30 dB above it.
SOUND_DBFS: Final = -50.0
MIN_SOUND_S: Final = 1.0
_WINDOW_MS: Final = 20
# Clipped is a sample that, like both its neighbours, is near the end of the scale and does not move (but for
# rounding), or is past the end, as decoders of MP3 and Opus leave it. A loud voice touches the end of the
# scale; it does not stay there. With one sample in two hundred clipped it crackles, and so will its copy.
CLIPPED_AT: Final = 0.985
MAX_CLIPPED_SHARE: Final = 0.005
_STILL: Final = 1.5 / 32768
_SCALE_END: Final = 32767 / 32768

_BLOCK_FRAMES: Final = 65_536
_TAKEN: Final = frozenset({"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"})
_CONVERT: Final = "Convert it, as with `ffmpeg -i recording.m4a -ac 1 recording.wav`, and send the WAV file."
_NAMED: Final = "WAV, FLAC, Ogg (Vorbis or Opus) and MP3 are taken."


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A recording that a voice can be made from.

    Attributes:
        wav: a WAV file of one channel, 16 bit, at `sample_rate_hz`.
        duration_s: its length.
        sound_s: how much of it is louder than -50 dBFS.
        peak_dbfs: its loudest sample.
        clipped_share: of its samples.
    """

    wav: bytes
    sample_rate_hz: int
    duration_s: float
    sound_s: float
    peak_dbfs: float
    clipped_share: float

    @property
    def figures(self) -> dict[str, float]:
        """What was measured, for people to read."""
        return {
            "seconds": round(self.duration_s, 3),
            "sample_rate_hz": float(self.sample_rate_hz),
            "sound_seconds": round(self.sound_s, 2),
            "peak_dbfs": round(self.peak_dbfs, 1),
            "clipped_percent": round(100 * self.clipped_share, 3),
        }


def read_recording(data: bytes) -> Recording:
    """Decodes and measures what was uploaded.

    Raises:
        Failure: `bad_reference_audio`, with what was measured and what to do.
    """
    if not data:
        raise bad_audio("the recording is empty: 0 bytes came", "Send the audio file itself.")
    if len(data) > MAX_BYTES:
        raise too_many_bytes(len(data))
    _check_container(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_header(file)
            mono, rate_hz = _read_mono(file), file.samplerate
    except soundfile.SoundFileError:
        raise bad_audio(
            "the recording cannot be decoded: it is damaged, or of a kind that is not read here",
            _CONVERT,
        ) from None
    return _measured(mono, rate_hz)


def bad_audio(message: str, solution: str) -> Failure:
    """A `bad_reference_audio`."""
    return Failure(ErrorCode.BAD_REFERENCE_AUDIO, message, solution)


def too_many_bytes(num_bytes: int) -> Failure:
    """The refusal of a file over the limit, also for one that is not read at all."""
    return bad_audio(
        f"the recording has {num_bytes / 2**20:.1f} MiB; {MAX_BYTES // 2**20} MiB at most are read",
        "Send 3 to 30 seconds of it; a minute of one channel at 48 kHz has 5.5 MiB.",
    )


# --- what it is -----------------------------------------------------------------------------------------


def _check_container(data: bytes) -> None:
    """Lets those formats alone reach the decoder that are meant to, and names the common others."""
    if data[:4] in (b"RIFF", b"RIFX", b"RF64") and data[8:12] == b"WAVE":
        return
    if data[:4] in (b"fLaC", b"OggS") or data[:3] == b"ID3" or _is_mpeg_audio(data):
        return
    kind = _other_container(data)
    if kind is not None:
        raise bad_audio(f"the recording is {kind}, which is not read here. {_NAMED}", _CONVERT)
    raise bad_audio(f"this is not an audio file that is known here. {_NAMED}", _CONVERT)


def _is_mpeg_audio(data: bytes) -> bool:
    """Whether it begins with a frame of MPEG audio; layer 0 there is AAC."""
    return len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06 != 0


def _other_container(data: bytes) -> str | None:
    if data[4:8] == b"ftyp":
        return "an MP4 file (m4a, mp4, mov)"
    if data[:4] == b"\x1aE\xdf\xa3":
        return "a WebM or Matroska file"
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        return "an AAC stream"
    if data[:5] == b"#!AMR":
        return "an AMR file"
    if data[:4] == b"\x30\x26\xb2\x75":
        return "a Windows Media file"
    if data[:4] == b"FORM" and data[8:11] == b"AIF":
        return "an AIFF file"
    return None


def _check_header(file: soundfile.SoundFile) -> None:
    if file.format not in _TAKEN:
        raise bad_audio(f"the recording is a {file.format} file, which is not read here. {_NAMED}", _CONVERT)
    rate_hz = file.samplerate
    if rate_hz < MIN_RATE_HZ:
        raise bad_audio(
            f"the recording has {rate_hz} samples a second; at least {MIN_RATE_HZ} are needed",
            "Record at 24 kHz or more. Resampling an old file does not bring back what it lacks.",
        )
    if rate_hz > MAX_RATE_HZ or file.channels > MAX_CHANNELS:
        raise bad_audio(
            f"the recording has {file.channels} channels at {rate_hz} Hz; "
            f"{MAX_CHANNELS} channels and {MAX_RATE_HZ} Hz are read at most",
            _CONVERT,
        )
    _check_duration(file.frames / rate_hz)


def _check_duration(duration_s: float) -> None:
    if duration_s > MAX_S:
        raise bad_audio(
            f"the recording lasts {duration_s:.1f} s; {MAX_S:.0f} s at most are taken",
            "Cut out 3 to 15 seconds of clear speech, and send the text of that part.",
        )


def _read_mono(file: soundfile.SoundFile) -> NDArray[np.float32]:
    """All of it, mixed down block by block: a header may lie about the length, so that is held to, too."""
    most = int(MAX_S * file.samplerate)
    blocks: list[NDArray[np.float32]] = []
    num_frames = 0
    for block in file.blocks(blocksize=_BLOCK_FRAMES, dtype="float32", always_2d=True):
        num_frames += len(block)
        if num_frames > most:
            _check_duration(num_frames / file.samplerate)
        blocks.append(block.mean(axis=1, dtype=np.float32))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


# --- what can be heard in it ----------------------------------------------------------------------------


def _measured(mono: NDArray[np.float32], rate_hz: int) -> Recording:
    duration_s = len(mono) / rate_hz
    if duration_s < MIN_S:
        raise bad_audio(
            f"the recording lasts {duration_s:.2f} s; at least {MIN_S:.0f} s is needed",
            "Send 3 to 30 seconds of clear speech.",
        )
    if not np.isfinite(mono).all():
        raise bad_audio("the recording holds samples that are not numbers", _CONVERT)
    sound_s, loudest_dbfs = _sound(mono, rate_hz)
    if sound_s < MIN_SOUND_S:
        raise bad_audio(
            f"the recording is silent: {sound_s:.1f} s of {duration_s:.1f} s are louder than "
            f"{SOUND_DBFS:.0f} dBFS, and its loudest moment has {loudest_dbfs:.0f} dBFS; "
            f"at least {MIN_SOUND_S:.0f} s of sound is needed",
            "Record nearer to the microphone or with more gain; speech should peak at -12 to -3 dBFS.",
        )
    clipped_share = _clipped_share(mono)
    if clipped_share > MAX_CLIPPED_SHARE:
        raise bad_audio(
            f"the recording is clipped: {100 * clipped_share:.1f} % of its samples stand at the end of the "
            f"scale; {100 * MAX_CLIPPED_SHARE:g} % at most are taken",
            "Record again with less gain; making a clipped file quieter does not mend it.",
        )
    samples = np.clip(np.round(mono * 32768), -32768, 32767).astype("<i2")
    return Recording(
        wav=_wav(samples, rate_hz),
        sample_rate_hz=rate_hz,
        duration_s=duration_s,
        sound_s=sound_s,
        peak_dbfs=_dbfs(float(np.abs(mono).max())),
        clipped_share=clipped_share,
    )


def _sound(mono: NDArray[np.float32], rate_hz: int) -> tuple[float, float]:
    """How many seconds are louder than `SOUND_DBFS`, and the level of the loudest window."""
    window = rate_hz * _WINDOW_MS // 1000
    whole = (mono - mono.mean())[: len(mono) // window * window].reshape(-1, window)
    rms = np.sqrt(np.square(whole, dtype=np.float64).mean(axis=1))
    return float((rms > 10 ** (SOUND_DBFS / 20)).sum()) * _WINDOW_MS / 1000, _dbfs(float(rms.max()))


def _clipped_share(mono: NDArray[np.float32]) -> float:
    level = np.abs(mono)
    still = np.abs(np.diff(level)) <= _STILL
    stuck = (level[1:-1] >= CLIPPED_AT) & still[:-1] & still[1:]
    past_end = level > _SCALE_END
    return float((stuck | (past_end[:-2] & past_end[1:-1] & past_end[2:])).mean())


def _dbfs(level: float) -> float:
    return 20 * float(np.log10(max(level, 1e-5)))


def _wav(samples: NDArray[np.int16], rate_hz: int) -> bytes:
    data = samples.tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, rate_hz,
                       2 * rate_hz, 2, 16)  # fmt: skip
    return head + struct.pack("<4sI", b"data", len(data)) + data
