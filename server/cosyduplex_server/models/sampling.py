"""Which speech token comes next: drawn from the nucleus, and from everything if that was a repeat.

Nothing here waits for the device. Legend: B sequences, V ids of the head, K candidates of the nucleus,
N either, W outputs remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from cosyduplex_server.models.config import SpeechLMConfig
from cosyduplex_server.models.counter_random import integers
from cosyduplex_server.models.phases import Phase

Draw = Callable[[Tensor, int, Tensor], Tensor]
"""`draw(probs_BN, number, wanted_B)` -> index_B: one index of each row in proportion to its entries.

`number` is 0 for the nucleus, 1 for the redraw; rows that are not wanted may get any index. The nucleus' rows
end in zeros where fewer than K candidates were kept.
"""

NOTHING: Final = -1
"""Fills a history that is shorter than the window."""

# Probabilities become whole numbers, whose running sums are exact in any order: no rounding of a parallel sum
# can ever choose an entry of probability 0. 31 bits each, so that their product has room in an int64.
_WEIGHT_BITS: Final = 31


class RasSampler(nn.Module):
    """Repetition-aware sampling of a batch, each sequence in its own phase."""

    masks: Tensor

    def __init__(self, config: SpeechLMConfig, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.top_p = config.top_p
        self.top_k = config.top_k
        self.window = config.ras_window
        self.max_repeats = config.ras_window * config.ras_tau
        self.register_buffer("masks", phase_masks(config).to(device), persistent=False)  # (phases, V)

    def forward(
        self,
        logits_BV: Tensor,
        history_BW: Tensor,
        phases_B: Tensor,
        seeds_B: Tensor,
        steps_B: Tensor,
        draw: Draw | None = None,
    ) -> Tensor:
        """The next ids (B,) int64, each a function of its own row alone.

        Args:
            logits_BV: float32.
            history_BW: the last outputs, fills included, in any order; `NOTHING` where there were fewer.
            phases_B: members of `Phase`, int64.
            seeds_B: each sequence's seed, int64.
            steps_B: how many draws the sequence has made, int64.
            draw: draws in the place of the numbers of `seeds_B` and `steps_B`.
        """
        if draw is None:
            draw = _SeededDraw(seeds_B, steps_B)
        scores_BV = self.scores(logits_BV, phases_B)
        probs_BK, ids_BK = nucleus(scores_BV.softmax(-1), self.top_p, self.top_k)
        wanted_B = torch.ones_like(phases_B, dtype=torch.bool)
        tokens_B1 = ids_BK.gather(1, draw(probs_BK, 0, wanted_B)[:, None])
        repeats_B = (history_BW == tokens_B1).sum(1) >= self.max_repeats
        others_BV = scores_BV.scatter(1, tokens_B1, -torch.inf).softmax(-1)
        return torch.where(repeats_B, draw(others_BV, 1, repeats_B), tokens_B1[:, 0])

    def scores(self, logits_BV: Tensor, phases_B: Tensor) -> Tensor:
        """Log-probabilities (B, V), minus infinity where the phase bans an id; float32."""
        return logits_BV.float().log_softmax(-1) + self.masks[phases_B]


def phase_masks(config: SpeechLMConfig) -> Tensor:
    """What each phase adds to the scores, (phases, V) float32: 0, or minus infinity where an id is banned."""
    special = set(config.stop_ids)
    banned = {
        Phase.FREE: set[int](),
        Phase.NO_EOS: special,
        Phase.STREAM: special - {config.fill},
        Phase.END: special - {config.eos},
        Phase.UPSTREAM_NO_EOS: {config.speech_tokens},
    }
    masks = torch.zeros(len(Phase), config.speech_rows)
    for phase in Phase:
        masks[phase, sorted(banned[phase])] = -torch.inf
    return masks


def nucleus(probs_BV: Tensor, top_p: float, top_k: int) -> tuple[Tensor, Tensor]:
    """The likeliest ids until their probabilities reach `top_p`, at most `top_k`.

    The entry that reaches `top_p` is kept. Of equal probabilities the lower id comes first.

    Returns:
        probs_BK: descending, not normalised, 0 where not kept.
        ids_BK: theirs.
    """
    V = probs_BV.shape[1]
    # A float32 that is not negative orders as its bits do; below them stands the id, reversed: no two keys
    # are equal, so a selection of K is stable and the vocabulary need not be sorted.
    id_bits = V.bit_length()
    reversed_ids_V = torch.arange(V - 1, -1, -1, device=probs_BV.device)
    keys_BV = (probs_BV.view(torch.int32).to(torch.int64) << id_bits) + reversed_ids_V
    ids_BK = V - 1 - (keys_BV.topk(min(top_k, V)).values & ((1 << id_bits) - 1))
    probs_BK = probs_BV.gather(1, ids_BK)
    before_BK = probs_BK.cumsum(1).roll(1, dims=1)
    before_BK[:, 0] = 0.0
    return probs_BK.where(before_BK < top_p, 0.0), ids_BK


class _SeededDraw:
    """Draws by inverting the distribution's running sum at a number of (seed, step, draw number)."""

    def __init__(self, seeds_B: Tensor, steps_B: Tensor) -> None:
        self._seeds_B = seeds_B
        self._steps_B = steps_B

    def __call__(self, probs_BN: Tensor, number: int, wanted_B: Tensor) -> Tensor:
        weights_BN = (probs_BN * 2.0**_WEIGHT_BITS).to(torch.int64)
        sums_BN = weights_BN.cumsum(1)
        ranks_B = integers(self._seeds_B, self._steps_B, number, _WEIGHT_BITS)
        targets_B = (ranks_B * sums_BN[:, -1]) >> _WEIGHT_BITS
        return (sums_BN <= targets_B[:, None]).sum(1)
