import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cosyduplex_server.engine.cosyvoice.blocks import BlockAllocator, OutOfBlocks, SlotAllocator

NUM_BLOCKS, FIRST = 9, 2


class Blocks(RuleBasedStateMachine):
    """Sequences that take blocks, share each other's and end, against a plain count of holders."""

    def __init__(self) -> None:
        super().__init__()
        self.allocator = BlockAllocator(NUM_BLOCKS, FIRST)
        self.tables: list[list[int]] = []

    @rule()
    def begin(self) -> None:
        self.tables.append([])

    @rule(which=st.integers(0, 20))
    def grow(self, which: int) -> None:
        if not self.tables:
            return
        held = {block for table in self.tables for block in table}
        if len(held) == NUM_BLOCKS - FIRST:
            with pytest.raises(OutOfBlocks):
                self.allocator.allocate()
            return
        block = self.allocator.allocate()
        assert block not in held
        assert FIRST <= block < NUM_BLOCKS
        self.tables[which % len(self.tables)].append(block)

    @rule(which=st.integers(0, 20))
    def fork(self, which: int) -> None:
        if self.tables:
            self.tables.append(self.allocator.share(self.tables[which % len(self.tables)]))

    @rule(which=st.integers(0, 20))
    def end(self, which: int) -> None:
        if self.tables:
            self.allocator.release(self.tables.pop(which % len(self.tables)))

    @invariant()
    def what_somebody_holds_is_not_free(self) -> None:
        held = {block for table in self.tables for block in table}
        assert self.allocator.num_held == len(held)
        assert self.allocator.num_free == NUM_BLOCKS - FIRST - len(held)


TestBlocks = Blocks.TestCase


@given(st.lists(st.booleans(), max_size=40))
def test_no_slot_has_two_holders_and_each_comes_back(takes: list[bool]) -> None:
    slots, held = SlotAllocator(6, 1), []
    for take in takes:
        if not take and held:
            slots.release(held.pop(0))
        elif take and len(held) == 5:
            with pytest.raises(OutOfBlocks):
                slots.allocate()
        elif take:
            held.append(slots.allocate())
        assert len(set(held)) == len(held) == slots.num_held
        assert all(1 <= slot < 6 for slot in held)
