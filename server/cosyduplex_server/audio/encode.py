"""From engine audio to wire frames: one encoder per context, in the negotiated format.

Positions are in samples at the negotiated rate. A context's timeline begins with its first sample; with
Opus, codec delay comes before it and is dropped by the listener. `pts` and `num_samples` of the frames
of a context tile the timeline: each frame begins where the one before it ended, and together they
are as long as the audio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from cosyduplex_server.audio.opus import OpusEncoder, Profile
from cosyduplex_server.audio.resample import Resampler

_SAMPLE_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What a session negotiated; `profile` and `bitrate` concern Opus alone."""

    encoding: Literal["pcm_s16le", "opus"]
    sample_rate_hz: int
    frame_ms: int
    profile: Profile = "speech"
    bitrate: int | None = None

    @property
    def frame_samples(self) -> int:
        """Samples in a whole frame, rounded down (11025 and 22050 Hz have half samples in 10 ms)."""
        return self.sample_rate_hz * self.frame_ms // 1000


class EncodedFrame(NamedTuple):
    """One wire frame: where its audio begins, how much the listener gains from it, and its bytes."""

    pts: int
    num_samples: int
    payload: bytes


_new_frame = tuple.__new__


class ContextEncoder:
    """Turns one context's engine audio into frames; the frames do not depend on how it was cut.

    Not safe for two threads at once, but each call may run in any thread.

    Args:
        engine_hz: Sample rate of the pushed mono s16le audio.
        fmt: The negotiated format, already validated.

    Attributes:
        threaded: Whether a call is expensive enough to belong in a worker thread. Measured: 3 to 9 ms of
            CPU for a second of audio as Opus, 0.1 to 1 ms as PCM.

    Raises:
        OpusUnavailable: The format is Opus and the machine has none.
        ValueError: The format is none that can be made.
    """

    def __init__(self, engine_hz: int, fmt: AudioFormat) -> None:
        self._resampler = Resampler(engine_hz, fmt.sample_rate_hz)
        self._sample_rate_hz = fmt.sample_rate_hz
        self.threaded: bool = fmt.encoding == "opus"
        self._framer = _OpusFramer(fmt) if fmt.encoding == "opus" else _PcmFramer(fmt.frame_samples)

    @property
    def pre_skip(self) -> int:
        """Samples that the listener drops at the context's start; 0 for PCM."""
        return self._framer.pre_skip

    @property
    def num_samples(self) -> int:
        """The timeline's length so far: audio taken, and the silence that flushes put between."""
        return self._framer.num_samples

    @property
    def inserted_samples(self) -> int:
        """Silence that flushes put before whatever is pushed next: by so much its marks come later."""
        return self._framer.inserted_samples

    def to_ms(self, samples: int) -> int:
        """Returns samples at the negotiated rate as milliseconds, rounded to the nearest."""
        return (samples * 1000 + self._sample_rate_hz // 2) // self._sample_rate_hz

    def push(self, pcm: bytes) -> list[EncodedFrame]:
        """Takes the engine's next samples and returns the frames they complete.

        Raises:
            ValueError: `pcm` does not hold whole 16-bit samples.
        """
        return self._framer.add(self._resampler.process(pcm))

    def flush(self) -> list[EncodedFrame]:
        """Returns frames that make all that was pushed audible now; more may be pushed afterwards.

        PCM ends in a short frame. Opus can only send whole frames and delays them by `pre_skip`: both
        are filled with silence, which from then on is part of the timeline.
        """
        return self._framer.add(self._resampler.flush()) + self._framer.flush()

    def finish(self) -> list[EncodedFrame]:
        """Returns the last frames of the context, if any are due.

        As `flush`, but Opus's padding does not count: the last frame's `num_samples` ends where the
        audio does, and what a decoder gives beyond it is to be dropped.
        """
        return self._framer.add(self._resampler.finish()) + self._framer.finish()


class _PcmFramer:
    def __init__(self, frame_samples: int) -> None:
        self.pre_skip = 0
        self.inserted_samples = 0
        self._frame_bytes = frame_samples * _SAMPLE_BYTES
        self._pending = b""
        self._next_pts = 0

    @property
    def num_samples(self) -> int:
        return self._next_pts + len(self._pending) // _SAMPLE_BYTES

    def add(self, pcm: bytes) -> list[EncodedFrame]:
        pcm = self._pending + pcm
        frame_bytes, num_samples, pts = self._frame_bytes, self._frame_bytes // _SAMPLE_BYTES, self._next_pts
        whole = len(pcm) // frame_bytes
        self._pending = pcm[whole * frame_bytes :]
        self._next_pts += whole * num_samples
        # Fifty a second for every listener, so past the class's own, slower constructor.
        return [
            _new_frame(
                EncodedFrame,
                (
                    pts + number * num_samples,
                    num_samples,
                    pcm[number * frame_bytes : (number + 1) * frame_bytes],
                ),
            )
            for number in range(whole)
        ]

    def flush(self) -> list[EncodedFrame]:
        rest, self._pending = self._pending, b""
        return [self._frame(rest)] if rest else []

    def finish(self) -> list[EncodedFrame]:
        return self.flush()

    def _frame(self, payload: bytes) -> EncodedFrame:
        frame = EncodedFrame(self._next_pts, len(payload) // _SAMPLE_BYTES, payload)
        self._next_pts += frame.num_samples
        return frame


class _OpusFramer:
    """The codec's input is the timeline; k packets make it audible up to k * frame - pre_skip."""

    def __init__(self, fmt: AudioFormat) -> None:
        self._encoder = OpusEncoder(fmt.sample_rate_hz, fmt.frame_ms, fmt.profile, fmt.bitrate)
        self.pre_skip = self._encoder.pre_skip
        self.inserted_samples = 0
        self._pending = b""
        self._num_packets = 0
        self._next_pts = 0
        self._taken = 0  # the codec's input so far, silence included
        self._audio_end = 0  # where the last real audio in it ends

    @property
    def num_samples(self) -> int:
        return max(self._audio_end, self._next_pts)

    def add(self, pcm: bytes) -> list[EncodedFrame]:
        frames = self._encode(pcm)
        if pcm:
            self._audio_end = self._taken
        return frames

    def flush(self) -> list[EncodedFrame]:
        if self._audio_end <= self._next_pts:
            return []
        num_packets = -(-(self._audio_end + self.pre_skip) // self._encoder.frame_samples)
        silence = num_packets * self._encoder.frame_samples - self._taken
        self.inserted_samples += silence
        return self._encode(bytes(silence * _SAMPLE_BYTES))

    def finish(self) -> list[EncodedFrame]:
        frames = self.flush()
        if frames:
            surplus = self._next_pts - self._audio_end
            frames[-1] = frames[-1]._replace(num_samples=frames[-1].num_samples - surplus)
            self._next_pts = self._audio_end
        return frames

    def _encode(self, pcm: bytes) -> list[EncodedFrame]:
        self._taken += len(pcm) // _SAMPLE_BYTES
        whole, self._pending = _split(self._pending + pcm, self._encoder.frame_samples * _SAMPLE_BYTES)
        return [self._frame(frame_pcm) for frame_pcm in whole]

    def _frame(self, pcm: bytes) -> EncodedFrame:
        self._num_packets += 1
        end = self._num_packets * self._encoder.frame_samples - self.pre_skip
        frame = EncodedFrame(self._next_pts, end - self._next_pts, self._encoder.encode(pcm))
        self._next_pts = end
        return frame


def _split(pcm: bytes, frame_bytes: int) -> tuple[list[bytes], bytes]:
    """Returns the whole frames in `pcm`, and the rest."""
    whole_end = len(pcm) - len(pcm) % frame_bytes
    return [pcm[at : at + frame_bytes] for at in range(0, whole_end, frame_bytes)], pcm[whole_end:]
