"""What the speech LM is given of a text."""

from __future__ import annotations

from collections.abc import Iterable

from cosyvoice.small_tokenizer import small_tokenizer

from cosyduplex_server.engine.cosyvoice.plan import PlanItem, TextPlan, Unit
from cosyduplex_server.engine.outbox import FinishPoint


def planned_tokens(parts: Iterable[tuple[int, str, bool]]) -> list[tuple[int, list[int], bool, str]]:
    """The tokens of each unit, in order.

    Args:
        parts: The number of a segment, its text or the next part of it, and whether that closes it.
    """
    plan = TextPlan(small_tokenizer())
    for part in parts:
        plan.append(*part)
    plan.finish()
    items: list[PlanItem] = []
    while not isinstance(item := plan.next(), FinishPoint):
        assert item is not None
        items.append(item)
    return [(unit.segment, unit.ids, unit.continues, unit.mode) for unit in items if isinstance(unit, Unit)]
