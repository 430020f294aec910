"""What may be drawn at a point of an utterance.

Plans name it, the sampler enforces it; needs no PyTorch.
"""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """Which ids beside the speech tokens may be drawn next; the values are rows of the sampler's masks."""

    FREE = 0
    """All of them: each ends an utterance whose whole text was known. Masks as much as upstream: nothing."""
    NO_EOS = 1
    """None: the utterance is shorter than its text allows."""
    STREAM = 2
    """The fill alone: more text may come."""
    END = 3
    """The end of speech alone: the last part of an interleave, after all its text."""
    UPSTREAM_NO_EOS = 4
    """All but the first, literally as upstream: in CosyVoice3 that one does not end the speech."""
