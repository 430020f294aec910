"""The vocoder over utterances that arrive in pieces, several at a time.

New frames are decoded together with some before them, and some at the end are withheld until what follows
them is known. There is no cross-fade, since pitch, phase and noise simply go on: docs/decisions/0010 has the
measurements. What an utterance leaves behind between two pushes has a constant size and lies in slabs, a row
for each slot.

Legend: B utterances, T frames of a window, N samples, C mel channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from cosyduplex_server.models.config import MEL_CHANNELS, MEL_HOP_SAMPLES
from cosyduplex_server.models.counter_random import normal
from cosyduplex_server.models.vocoder import PITCH_REACH_FRAMES, Vocoder
from cosyduplex_server.models.vocoder_timing import (
    LEFT_FRAMES,
    MAX_SPEED,
    MIN_SPEED,
    RIGHT_FRAMES,
    frame_position,
    frames_at_speed,
)

NOISE_STREAM: Final = 0x5EED
"""Of `counter_random`: apart from the small numbers of the streams that draw tokens."""

_SPEED_TAIL_FRAMES: Final = 2  # made frames that the next frame at another speed may still lie between


@dataclass(slots=True, kw_only=True)
class VocoderState:
    """Where one utterance stands. A new one begins a new utterance, whatever its slot held before.

    Attributes:
        slot: its row of the slabs; no other living utterance has it.
        seed: of its noise, an int64.
        speed: 0.5 to 2; above 1 is faster.
        made_frames: mel frames pushed.
        frames: mel frames after the change of speed.
        emitted_frames: those whose samples were given out.
        ended: the final push was made.
    """

    slot: int
    seed: int
    speed: float = 1.0
    made_frames: int = 0
    frames: int = 0
    emitted_frames: int = 0
    ended: bool = False
    speed_tail_TC: Tensor | None = None

    def __post_init__(self) -> None:
        assert MIN_SPEED <= self.speed <= MAX_SPEED, self.speed


class VocoderStream:
    """Decodes pieces of mel into the samples of whole utterances.

    Args:
        vocoder: the model.
        num_slots: utterances that may be under way together.
        left_frames: frames decoded again before each window.
        right_frames: frames withheld until the frames after them are known; at least 6, so that what is given
            out has a pitch that no edge has touched.
        noise: False leaves the noise out of the source.
    """

    def __init__(
        self,
        vocoder: Vocoder,
        *,
        num_slots: int,
        left_frames: int = LEFT_FRAMES,
        right_frames: int = RIGHT_FRAMES,
        noise: bool = True,
    ) -> None:
        assert right_frames > PITCH_REACH_FRAMES
        assert left_frames + right_frames >= 2 * PITCH_REACH_FRAMES
        self.vocoder = vocoder
        self.left_frames = left_frames
        self.right_frames = right_frames
        self._noise = noise
        self._device = vocoder.harmonics.mix.weight.device
        kept = left_frames + right_frames
        self._mel = torch.zeros(num_slots, kept, MEL_CHANNELS, device=self._device)
        self._f0 = torch.zeros(num_slots, kept, device=self._device)
        # Of the fundamental, at the centre of the frame before the kept ones; in cycles.
        self._phase = torch.zeros(num_slots, dtype=torch.float64, device=self._device)

    @torch.inference_mode()
    def push(
        self, states: Sequence[VocoderState], mels_TC: Sequence[Tensor], final: Sequence[bool]
    ) -> list[Tensor]:
        """Takes new frames of each utterance and gives out the samples that are ready, float32 (N,) each.

        How many is `samples_ready(made_frames)` minus what was given out before. Utterances of equal shapes
        are decoded together.

        Args:
            states: one of each utterance, in different slots.
            mels_TC: their new frames, (T, 80); T may be 0.
            final: no more frames follow; all samples are given out, and the slot is free.
        """
        assert len({state.slot for state in states}) == len(states)
        assert not any(state.ended for state in states)
        groups: dict[tuple[int, int, bool], list[int]] = {}
        new_TC = list(map(_at_speed, states, mels_TC, final))
        for row, (state, mel_TC, last) in enumerate(zip(states, new_TC, final, strict=True)):
            groups.setdefault((self._held(state), len(mel_TC), last), []).append(row)
        wavs_N = [torch.zeros(0, device=self._device)] * len(states)
        for (held, _, last), rows in groups.items():
            wav_BN = self._push_group([states[r] for r in rows], [new_TC[r] for r in rows], held, last)
            for row, wav_N in zip(rows, wav_BN, strict=True):
                wavs_N[row] = wav_N
        return wavs_N

    def _held(self, state: VocoderState) -> int:
        """Frames of the utterance that are in the slabs: up to `left + right`, from the frame `_first`."""
        return state.frames - self._first(state)

    def _first(self, state: VocoderState) -> int:
        return max(0, state.emitted_frames - self.left_frames)

    def _push_group(
        self, states: Sequence[VocoderState], new_TC: Sequence[Tensor], held: int, last: bool
    ) -> Tensor:
        """One push of utterances that hold and get equally many frames; (B, N)."""
        frames = held + len(new_TC[0])  # of the window
        # In an utterance that holds so many, so many have been given out, whatever its length is.
        begin = max(0, held - self.right_frames)
        end = frames if last else max(begin, frames - self.right_frames)
        where = [[state.slot, state.seed, self._first(state)] for state in states]
        slots_B, seeds_B, first_B = torch.tensor(where, dtype=torch.int64).to(self._device).unbind(1)
        mel_BTC = torch.cat([self._mel[slots_B, :held], torch.stack(list(new_TC)).float()], dim=1)
        for state, mel_TC in zip(states, new_TC, strict=True):
            state.frames += len(mel_TC)
            state.emitted_frames += end - begin
            state.ended = last
        if begin == end:
            self._mel[slots_B, :frames] = mel_BTC
            return mel_BTC.new_zeros(len(states), 0)

        f0_BT = self._pitch(mel_BTC, slots_B, held, last)
        begins_B = first_B == 0
        phase_B = self._phase[slots_B].masked_fill(begins_B, 0.0)
        source_BN = self.vocoder.source(f0_BT, phase_B, begins_B, self._draw(seeds_B, first_B, frames))
        wav_BN = self.vocoder.decode(mel_BTC, source_BN)
        if not last:
            keep = max(0, end - self.left_frames)
            self._mel[slots_B, : frames - keep] = mel_BTC[:, keep:]
            self._f0[slots_B, : frames - keep] = f0_BT[:, keep:]
            if keep:  # without, the utterance's first frame is still in
                self._phase[slots_B] = self.vocoder.phases(f0_BT, phase_B)[:, keep - 1]
        return wav_BN[:, begin * MEL_HOP_SAMPLES : end * MEL_HOP_SAMPLES]

    def _pitch(self, mel_BTC: Tensor, slots_B: Tensor, held: int, last: bool) -> Tensor:
        """The window's pitch: as it was where it is settled, predicted for the rest.

        It is settled where the predictor saw all that it looks at. At the end of a window that is not final
        it did not: there it is shown the last frame again and again, and is asked anew next time. None of
        those frames is given out, and none enters a phase that is kept.
        """
        # Before the first samples went out nothing was predicted, and the window begins with the utterance.
        settled = held - PITCH_REACH_FRAMES if held > self.right_frames else 0
        if last:
            f0_BT = self.vocoder.f0(mel_BTC)
        else:
            beyond_BTC = mel_BTC[:, -1:].expand(-1, PITCH_REACH_FRAMES, -1)
            f0_BT = self.vocoder.f0(torch.cat([mel_BTC, beyond_BTC], dim=1))[:, :-PITCH_REACH_FRAMES]
        return torch.cat([self._f0[slots_B, :settled], f0_BT[:, settled:]], dim=1)

    def _draw(self, seeds_B: Tensor, first_B: Tensor, frames: int) -> Tensor | None:
        """The noise of a window: a function of seed and sample alone."""
        if not self._noise:
            return None
        sample_N = torch.arange(frames * MEL_HOP_SAMPLES, device=self._device)
        return normal(seeds_B[:, None], first_B[:, None] * MEL_HOP_SAMPLES + sample_N, NOISE_STREAM)


def _at_speed(state: VocoderState, mel_TC: Tensor, last: bool) -> Tensor:
    """The next frames of the utterance at its speed, on straight lines between the frames that were made."""
    before, total = state.made_frames, state.made_frames + len(mel_TC)
    state.made_frames = total
    if state.speed == 1.0:
        return mel_TC
    begin = frames_at_speed(before, final=False, speed=state.speed)
    end = frames_at_speed(total, final=last, speed=state.speed)
    if state.speed_tail_TC is not None:
        mel_TC = torch.cat([state.speed_tail_TC, mel_TC])
    state.speed_tail_TC = mel_TC[-_SPEED_TAIL_FRAMES:].clone()
    positions = [min(max(frame_position(i, state.speed), 0.0), total - 1.0) for i in range(begin, end)]
    first = total - len(mel_TC)
    low = [int(position) - first for position in positions]
    high = [min(index + 1, len(mel_TC) - 1) for index in low]
    weight_T1 = torch.tensor([p - int(p) for p in positions], dtype=torch.float32).to(mel_TC.device)[:, None]
    low_T, high_T = torch.tensor([low, high], dtype=torch.int64).to(mel_TC.device)
    return mel_TC[low_T] + weight_T1 * (mel_TC[high_T] - mel_TC[low_T])
