"""From engine audio to wire frames: one encoder per context, in the negotiated format.

Positions are in samples at the negotiated rate. A context's timeline begins with its first sample; with
Opus, codec delay comes before it and is dropped by the listener. `pts` and `num_samples` of the frames
of a context tile the timeline: each frame begins where the one before it ended, and together they
are as long as the audio.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

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


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One wire frame: where its audio begins, how much the listener gains from it, and its bytes."""

    pts: int
    num_samples: int
    payload: bytes


class FrameRun:
    """Consecutive frames of one context, as few objects as can be.

    Hundreds of listeners have seconds of audio waiting: held frame by frame, the garbage collector walks tens
    of thousands of objects, and holds the event loop for tens of milliseconds meanwhile.

    Attributes:
        pts: Where the first frame begins.
        num_samples: How much the listener gains from each frame.
        payloads: Each frame's bytes.
    """

    __slots__ = ("num_samples", "payloads", "pts")

    def __init__(self, pts: int, num_samples: list[int], payloads: list[bytes]) -> None:
        self.pts = pts
        self.num_samples = num_samples
        self.payloads = payloads

    def __len__(self) -> int:
        return len(self.payloads)

    def __iter__(self) -> Iterator[EncodedFrame]:
        return map(EncodedFrame, self.positions(), self.num_samples, self.payloads)

    @property
    def end(self) -> int:
        """Where the frame after the last one begins."""
        return self.pts + sum(self.num_samples)

    def positions(self) -> Iterator[int]:
        """Where each frame begins, and where the next one would."""
        return accumulate(self.num_samples, initial=self.pts)

    def extend(self, more: FrameRun) -> None:
        """Adds the frames that follow."""
        self.num_samples += more.num_samples
        self.payloads += more.payloads

    def split(self, num_frames: int) -> FrameRun:
        """Takes the first frames away and returns them."""
        first = FrameRun(self.pts, self.num_samples[:num_frames], self.payloads[:num_frames])
        self.pts = first.end
        del self.num_samples[:num_frames], self.payloads[:num_frames]
        return first


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

    def push(self, pcm: bytes) -> FrameRun:
        """Takes the engine's next samples and returns the frames they complete.

        Raises:
            ValueError: `pcm` does not hold whole 16-bit samples.
        """
        return self._framer.add(self._resampler.process(pcm))

    def flush(self) -> FrameRun:
        """Returns frames that make all that was pushed audible now; more may be pushed afterwards.

        PCM ends in a short frame. Opus can only send whole frames and delays them by `pre_skip`: both
        are filled with silence, which from then on is part of the timeline.
        """
        frames = self._framer.add(self._resampler.flush())
        frames.extend(self._framer.flush())
        return frames

    def finish(self) -> FrameRun:
        """Returns the last frames of the context, if any are due.

        As `flush`, but Opus's padding does not count: the last frame's `num_samples` ends where the
        audio does, and what a decoder gives beyond it is to be dropped.
        """
        frames = self._framer.add(self._resampler.finish())
        frames.extend(self._framer.finish())
        return frames


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

    def add(self, pcm: bytes) -> FrameRun:
        payloads, self._pending = _split(self._pending + pcm, self._frame_bytes)
        return self._run(payloads, self._frame_bytes // _SAMPLE_BYTES)

    def flush(self) -> FrameRun:
        rest, self._pending = self._pending, b""
        return self._run([rest] if rest else [], len(rest) // _SAMPLE_BYTES)

    def finish(self) -> FrameRun:
        return self.flush()

    def _run(self, payloads: list[bytes], num_samples: int) -> FrameRun:
        pts = self._next_pts
        self._next_pts += len(payloads) * num_samples
        return FrameRun(pts, [num_samples] * len(payloads), payloads)


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

    def add(self, pcm: bytes) -> FrameRun:
        frames = self._encode(pcm)
        if pcm:
            self._audio_end = self._taken
        return frames

    def flush(self) -> FrameRun:
        if self._audio_end <= self._next_pts:
            return FrameRun(self._next_pts, [], [])
        num_packets = -(-(self._audio_end + self.pre_skip) // self._encoder.frame_samples)
        silence = num_packets * self._encoder.frame_samples - self._taken
        self.inserted_samples += silence
        return self._encode(bytes(silence * _SAMPLE_BYTES))

    def finish(self) -> FrameRun:
        frames = self.flush()
        if len(frames):
            frames.num_samples[-1] -= self._next_pts - self._audio_end
            self._next_pts = self._audio_end
        return frames

    def _encode(self, pcm: bytes) -> FrameRun:
        self._taken += len(pcm) // _SAMPLE_BYTES
        whole, self._pending = _split(self._pending + pcm, self._encoder.frame_samples * _SAMPLE_BYTES)
        frames = FrameRun(self._next_pts, [], [])
        for frame_pcm in whole:
            self._num_packets += 1
            end = self._num_packets * self._encoder.frame_samples - self.pre_skip
            frames.num_samples.append(end - self._next_pts)
            frames.payloads.append(self._encoder.encode(frame_pcm))
            self._next_pts = end
        return frames


def _split(pcm: bytes, frame_bytes: int) -> tuple[list[bytes], bytes]:
    """Returns the whole frames in `pcm`, and the rest."""
    whole_end = len(pcm) - len(pcm) % frame_bytes
    return [pcm[at : at + frame_bytes] for at in range(0, whole_end, frame_bytes)], pcm[whole_end:]
