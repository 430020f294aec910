"""How many frames and samples a streaming vocoder has ready: arithmetic without tensors, for schedulers."""

from __future__ import annotations

import math
from typing import Final

from cosyduplex_server.models.config import MEL_HOP_SAMPLES

LEFT_FRAMES: Final = 8
RIGHT_FRAMES: Final = 8
"""Frames withheld until what follows them is known: 160 ms."""

MIN_SPEED: Final = 0.5
MAX_SPEED: Final = 2.0


def frame_position(frame: int, speed: float) -> float:
    """Where a frame of the mel at `speed` lies in the mel as it was made, in frames."""
    return (frame + 0.5) * speed - 0.5


def frames_at_speed(total_frames: int, *, final: bool, speed: float) -> int:
    """Frames that a mel of `total_frames` has at a speed; as the mel grows, the number never falls.

    Args:
        total_frames: frames made so far.
        final: no more follow. Before, a frame counts only if the made frames on both sides of it are there.
        speed: 0.5 to 2; above 1 is faster.
    """
    if speed == 1.0:
        return total_frames
    whole = int(total_frames / speed)
    if final or total_frames == 0:
        return whole
    ready = max(0, math.ceil((total_frames - 0.5) / speed - 0.5))
    # The division may be off by a rounding where a position falls on a frame.
    while ready > 0 and frame_position(ready - 1, speed) >= total_frames - 1:
        ready -= 1
    return min(ready, whole)


def samples_ready(
    total_frames: int, *, final: bool, speed: float = 1.0, right_frames: int = RIGHT_FRAMES
) -> int:
    """Samples, from the utterance's first, that can be given out once `total_frames` were pushed.

    Args:
        total_frames: mel frames made so far, before the change of speed.
        final: no more follow.
        speed: 0.5 to 2.
        right_frames: frames withheld while it is not final.
    """
    frames = frames_at_speed(total_frames, final=final, speed=speed)
    return MEL_HOP_SAMPLES * (frames if final else max(0, frames - right_frames))
