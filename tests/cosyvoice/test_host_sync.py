from collections.abc import Callable

import pytest
import torch
from cosyvoice.host_sync import HostSync, NoHostSync, synchronises

NUMBERS = torch.arange(6.0)
INDEX = torch.arange(3)

WAITS: dict[str, Callable[[], object]] = {
    "item": lambda: NUMBERS[0].item(),
    "truth": lambda: bool(NUMBERS[0] > 0),
    "tensor as a bound": lambda: NUMBERS[: INDEX[1]],
    "tensor as a size": lambda: torch.arange(INDEX[2]),
    "tensor as a fill": lambda: torch.full((2,), NUMBERS[0]),
    "list": lambda: NUMBERS.tolist(),
    "array": lambda: NUMBERS.numpy(),
    "to the CPU": lambda: NUMBERS.cpu(),
    "to another device": lambda: NUMBERS.to("meta"),
    "nonzero": lambda: NUMBERS.nonzero(),
    "where": lambda: torch.where(NUMBERS > 0),
    "mask as an index": lambda: NUMBERS[NUMBERS > 2],
    "masked write": lambda: NUMBERS.clone().__setitem__(NUMBERS > 2, torch.zeros(3)),
    "repeats by values": lambda: torch.repeat_interleave(NUMBERS, torch.ones(6, dtype=torch.int64)),
    "equal": lambda: torch.equal(NUMBERS, NUMBERS),
    "unique": lambda: torch.unique(NUMBERS),
}
DOES_NOT: dict[str, Callable[[], object]] = {
    "gather": lambda: NUMBERS.gather(0, INDEX),
    "index": lambda: NUMBERS[INDEX],
    "indexed write": lambda: NUMBERS.clone().__setitem__(INDEX, torch.zeros(3)),
    "masked fill": lambda: NUMBERS.masked_fill(NUMBERS > 2, 0.0),
    "three-way where": lambda: torch.where(NUMBERS > 2, NUMBERS, 0.0),
    "topk": lambda: NUMBERS.topk(2),
    "another type": lambda: NUMBERS.to(torch.bfloat16),
    "repeats by a number": lambda: torch.repeat_interleave(NUMBERS, 2),
}


@pytest.mark.parametrize("name", WAITS)
def test_what_makes_the_host_wait_is_refused(name: str) -> None:
    with torch.inference_mode():
        assert synchronises(WAITS[name])


@pytest.mark.parametrize("name", DOES_NOT)
def test_what_stays_on_the_device_is_let_through(name: str) -> None:
    with torch.inference_mode():
        assert not synchronises(DOES_NOT[name])


def test_the_guard_ends_with_its_block() -> None:
    with pytest.raises(HostSync), NoHostSync():
        NUMBERS.tolist()
    assert NUMBERS[1].item() == NUMBERS.tolist()[1] == 1.0
