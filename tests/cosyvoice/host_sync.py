"""A guard for tests: inside it, no operator may make the host wait for the device or read its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Each either returns a value of the device to Python or has an output whose shape depends on values,
# and so waits on CUDA. A copy to the CPU is looked for by its devices, below.
SYNCHRONISING: Final = frozenset(
    {
        "aten::_local_scalar_dense",  # .item(), int(), float(), bool(), .tolist() of a scalar
        "aten::item",
        "aten::is_nonzero",
        "aten::nonzero",
        "aten::nonzero_numpy",
        "aten::masked_select",
        "aten::argwhere",
        "aten::_unique2",
        "aten::unique_dim",
        "aten::unique_consecutive",
        "aten::unique_dim_consecutive",
        "aten::bincount",
        "aten::equal",
        "aten::allclose",
    }
)
_INDEXED: Final = frozenset({"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"})
_READINGS: Final = frozenset({Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__})


class HostSync(AssertionError):
    """An operator that makes the host wait was called where none may be."""


class NoHostSync(TorchDispatchMode):
    """Fails on every operator that reads values of a tensor into Python or copies between devices.

    Works on the CPU too, where nothing would really wait: so the property is tested on any machine.

    Raises:
        HostSync: at the call.
    """

    def __init__(self) -> None:
        super().__init__()
        self._readings = _NoReading()

    def __enter__(self) -> NoHostSync:
        self._readings.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._readings.__exit__(*error)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        reason = _waits(func, args, kwargs)
        if reason is not None:
            raise HostSync(f"{func} makes the host wait: {reason}")
        # In inference mode operators arrive before they are taken apart: their parts are looked at too.
        super().__enter__()
        try:
            result = func.decompose(*args, **kwargs)
        finally:
            super().__exit__(None, None, None)
        return func(*args, **kwargs) if result is NotImplemented else result


class _NoReading(TorchFunctionMode):
    """What never gets to the dispatcher for tensors of the CPU."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _READINGS:
            raise HostSync(f"Tensor.{func.__name__} makes the host wait: it reads values")
        return func(*args, **(kwargs or {}))


def _waits(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    name: str = func._schema.name
    if name in SYNCHRONISING:
        return "it reads values"
    if func is torch.ops.aten.repeat_interleave.Tensor and kwargs.get("output_size") is None:
        return "its output's shape depends on values (give output_size)"
    if name in _INDEXED and any(_is_mask(index) for index in args[1]):
        return "a boolean mask as an index is a nonzero()"
    tensors = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, Tensor)]
    if name == "aten::_to_copy" and tensors and kwargs.get("device") is not None:
        source, target = tensors[0].device, torch.device(kwargs["device"])
        if source.type != target.type:
            return f"a copy from {source} to {target}"
    if name in {"aten::copy_", "aten::_copy_from"} and tensors[0].device.type != tensors[1].device.type:
        return f"a copy from {tensors[1].device} to {tensors[0].device}"
    return None


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def synchronises(call: Callable[[], object]) -> bool:
    """Whether `call` does anything that the guard refuses."""
    try:
        with NoHostSync():
            call()
    except HostSync:
        return True
    return False
