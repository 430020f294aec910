"""The chunks of voices' prompts, computed once and shared by all contexts that speak with them."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, field

from cosyduplex_server.engine.cosyvoice.blocks import BlockAllocator, OutOfBlocks, SlotAllocator
from cosyduplex_server.engine.cosyvoice.flow_plan import BEYOND_END, Chunk, num_prefix_chunks
from cosyduplex_server.engine.cosyvoice.runner import FlowPrompt, FlowWork, Runner
from cosyduplex_server.engine.cosyvoice.voice import Voice
from cosyduplex_server.models.config import CHUNK_FRAMES, CHUNK_TOKENS, LOOKAHEAD_TOKENS


@dataclass(slots=True, eq=False)
class Prefix:
    """One voice in the flow's memory.

    Attributes:
        voice: whose.
        prompt: the voice as the flow takes it.
        slot: where its sequence stands after its last chunk; None when it has no whole chunk.
        blocks: its chunks.
        num_users: contexts that began with it and live.
    """

    voice: Voice
    prompt: FlowPrompt
    slot: int | None = None
    blocks: list[int] = field(default_factory=list)
    num_users: int = 0


class Prefixes:
    """Prompts in the flow's memory, the least recently used given up when memory is short.

    Args:
        runner: computes them.
        blocks: the flow's.
        slots: the flow's.
        max_kept: voices at most that nobody is using.
    """

    def __init__(
        self, runner: Runner, blocks: BlockAllocator, slots: SlotAllocator, *, max_kept: int
    ) -> None:
        self._runner = runner
        self._blocks = blocks
        self._slots = slots
        self._max_kept = max_kept
        self._kept: OrderedDict[Voice, Prefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def num_blocks(self) -> int:
        """Blocks the prompts hold."""
        return sum(len(prefix.blocks) for prefix in self._kept.values())

    @property
    def num_slots(self) -> int:
        """Slots the prompts hold."""
        return sum(prefix.slot is not None for prefix in self._kept.values())

    def use(self, voice: Voice) -> Prefix:
        """The voice's prompt, computed if it is not kept; `leave` it in the end.

        Raises:
            OutOfBlocks: there is no memory for it.
        """
        prefix = self._kept.get(voice)
        if prefix is None:
            self._shrink(self._max_kept - 1)
            prefix = self._kept[voice] = self._compute(voice)
        self._kept.move_to_end(voice)
        prefix.num_users += 1
        return prefix

    def leave(self, prefix: Prefix) -> None:
        """One user less."""
        prefix.num_users -= 1

    def forget(self, voice: Voice) -> None:
        """Frees a voice that nobody will ask for again, unless it is in use."""
        prefix = self._kept.get(voice)
        if prefix is not None and not prefix.num_users:
            self._free(prefix)

    def give_up_one(self) -> bool:
        """Frees the least recently used prompt that nobody is using; False when there is none."""
        unused = next((prefix for prefix in self._kept.values() if not prefix.num_users), None)
        if unused is not None:
            self._free(unused)
        return unused is not None

    def _shrink(self, most: int) -> None:
        while len(self._kept) > most and self.give_up_one():
            pass

    def _free(self, prefix: Prefix) -> None:
        del self._kept[prefix.voice]
        self._blocks.release(prefix.blocks)
        if prefix.slot is not None:
            self._slots.release(prefix.slot)

    def _compute(self, voice: Voice) -> Prefix:
        prefix = Prefix(voice, self._runner.flow_prompt(voice.embedding, voice.flow_mel))
        num_chunks = num_prefix_chunks(len(voice.flow_tokens))
        if not num_chunks:
            return prefix
        with ExitStack() as undo:
            prefix.slot = self._slots.allocate()
            undo.callback(self._slots.release, prefix.slot)
            undo.callback(self._blocks.release, prefix.blocks)
            self._runner.begin_flow(prefix.slot)
            for index in range(num_chunks):
                prefix.blocks.append(self.allocate_block())
                work = FlowWork(
                    chunk=_prompt_chunk(voice.flow_tokens, index),
                    prompt=prefix.prompt,
                    slot=prefix.slot,
                    table=tuple(prefix.blocks[:-1]),
                    block=prefix.blocks[-1],
                    noise_frame=index * CHUNK_FRAMES,
                )
                self._runner.step_flow([work])
            undo.pop_all()
        return prefix

    def allocate_block(self) -> int:
        """A block; prompts nobody is using make room for it.

        Raises:
            OutOfBlocks: everything is in use.
        """
        while True:
            try:
                return self._blocks.allocate()
            except OutOfBlocks:
                if not self.give_up_one():
                    raise


def _prompt_chunk(tokens: tuple[int, ...], index: int) -> Chunk:
    stop = (index + 1) * CHUNK_TOKENS
    lookahead = tokens[stop : stop + LOOKAHEAD_TOKENS]
    assert len(lookahead) == LOOKAHEAD_TOKENS
    assert BEYOND_END not in lookahead
    return Chunk(
        index=index,
        tokens=tokens[stop - CHUNK_TOKENS : stop],
        lookahead=lookahead,
        num_prompt_frames=CHUNK_FRAMES,
        is_last=False,
    )
