"""Where the checkpoints' names end: a state dict's tensors, each taken once, its shape checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor


class WeightsError(Exception):
    """A checkpoint that does not fit; the message names the file and the key."""


class Source:
    """The tensors of one file.

    Args:
        tensors: the state dict.
        file: the file's name, for messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], file: str) -> None:
        self._tensors = dict(tensors)
        self._file = file

    def __contains__(self, key: str) -> bool:
        return key in self._tensors

    def take(self, key: str, *shape: int) -> Tensor:
        """Takes a tensor as float32.

        Raises:
            WeightsError: it is missing, or has another shape.
        """
        tensor = self._tensors.pop(key, None)
        if tensor is None:
            raise WeightsError(f"{self._file}: {key} is missing")
        if tuple(tensor.shape) != shape:
            raise WeightsError(f"{self._file}: {key} is {_shape(tensor.shape)}, not {_shape(shape)}")
        if not tensor.is_floating_point():
            raise WeightsError(f"{self._file}: {key} holds {tensor.dtype}, not numbers with a fraction")
        return tensor.to(torch.float32)

    def take_normed(self, name: str, *shape: int) -> Tensor:
        """Takes a weight-normed layer's weight, folded; a plain `name.weight` is taken as it is.

        The norm runs over all dimensions but the first. Both of PyTorch's ways to store it are read.
        """
        if f"{name}.weight" in self._tensors:
            return self.take(f"{name}.weight", *shape)
        new = f"{name}.parametrizations.weight.original0" in self._tensors
        magnitude_key = f"{name}.parametrizations.weight.original0" if new else f"{name}.weight_g"
        direction_key = f"{name}.parametrizations.weight.original1" if new else f"{name}.weight_v"
        magnitude = self.take(magnitude_key, shape[0], *(1 for _ in shape[1:]))
        direction = self.take(direction_key, *shape)
        norm: Tensor = torch.linalg.vector_norm(direction.flatten(1), dim=1).view_as(magnitude)
        return torch.mul(direction, magnitude / norm)

    def drop(self, wanted: Callable[[str], bool]) -> None:
        """Lets go of what is known and not used."""
        self._tensors = {key: tensor for key, tensor in self._tensors.items() if not wanted(key)}

    def finish(self) -> None:
        """Says that everything must have been taken.

        Raises:
            WeightsError: something is left that no part of the model knows.
        """
        if self._tensors:
            key = min(self._tensors)
            raise WeightsError(f"{self._file}: {key} belongs to no part of this model")


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors with every occurrence of `prefix` taken out of their keys."""
    return {key.replace(prefix, ""): tensor for key, tensor in tensors.items()}


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "a single number"
