"""Who is in the next batch; plain numbers, no tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cosyduplex_server.engine.cosyvoice.request import Request

MAX_LM_BATCH: Final = 256
# A chunk of audio is a second of speech: a small batch keeps the others' first audio from waiting.
MAX_FLOW_BATCH: Final = 16


def choose_lm(requests: Iterable[Request]) -> list[Request]:
    """Contexts that draw their next token together."""
    return [request for request in requests if request.waits_for_lm][:MAX_LM_BATCH]


def choose_flow(requests: Iterable[Request]) -> list[Request]:
    """Contexts whose next chunk is computed together: those that hear silence soonest.

    Chunks of a batch are of one length; at the end of an utterance it may be any.
    """
    waiting = sorted(
        (request for request in requests if request.waits_for_flow),
        key=lambda request: request.samples_ahead,
    )
    if not waiting:
        return []
    length = waiting[0].chunk_tokens
    return [request for request in waiting if request.chunk_tokens == length][:MAX_FLOW_BATCH]
