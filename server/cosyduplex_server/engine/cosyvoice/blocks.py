"""Which sequence holds which block of cache memory; the memory itself is `models.kv_cache.PagedKV`."""

from __future__ import annotations

from collections.abc import Iterable


class OutOfBlocks(Exception):
    """Every block is held by somebody."""


class BlockAllocator:
    """Numbers of blocks, each held by one or more holders.

    Args:
        num_blocks: blocks altogether.
        first: the first that may be held; those before it are padding and scratch.
    """

    def __init__(self, num_blocks: int, first: int) -> None:
        assert num_blocks > first
        self._free = list(range(num_blocks - 1, first - 1, -1))
        self._num_usable = len(self._free)
        self._holders = [0] * num_blocks

    @property
    def num_free(self) -> int:
        """Blocks nobody holds."""
        return len(self._free)

    @property
    def num_held(self) -> int:
        """Blocks somebody holds."""
        return self._num_usable - len(self._free)

    def allocate(self) -> int:
        """A block with one holder.

        Raises:
            OutOfBlocks: there is none.
        """
        if not self._free:
            raise OutOfBlocks
        block = self._free.pop()
        self._holders[block] = 1
        return block

    def share(self, blocks: Iterable[int]) -> list[int]:
        """One more holder for each of the blocks."""
        shared = list(blocks)
        for block in shared:
            assert self._holders[block] > 0
            self._holders[block] += 1
        return shared

    def release(self, blocks: Iterable[int]) -> None:
        """One holder less for each; a block without any is free again."""
        for block in blocks:
            assert self._holders[block] > 0
            self._holders[block] -= 1
            if not self._holders[block]:
                self._free.append(block)


class SlotAllocator:
    """Numbers of slots, each with one holder.

    Args:
        num_slots: slots altogether.
        first: the first that may be held.
    """

    def __init__(self, num_slots: int, first: int) -> None:
        self._free = list(range(num_slots - 1, first - 1, -1))
        self._num_usable = len(self._free)

    @property
    def num_held(self) -> int:
        """Slots somebody holds."""
        return self._num_usable - len(self._free)

    def allocate(self) -> int:
        """A slot of one's own.

        Raises:
            OutOfBlocks: there is none.
        """
        if not self._free:
            raise OutOfBlocks
        return self._free.pop()

    def release(self, slot: int) -> None:
        """Gives it back."""
        assert slot not in self._free
        self._free.append(slot)
