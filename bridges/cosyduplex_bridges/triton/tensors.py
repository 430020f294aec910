"""Tensors as KServe's protocol carries them: checked before a byte of them is believed."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cosyduplex_bridges.grpc_calls import bad_request
from cosyduplex_bridges.grpc_stubs import kserve_pb2 as kserve

# Each model here has five at most.
_MAX_INPUTS: Final = 64
_LENGTH: Final = struct.Struct("<I")
_INTEGERS: Final = {
    "INT8": ("<i1", "int_contents"),
    "INT16": ("<i2", "int_contents"),
    "INT32": ("<i4", "int_contents"),
    "INT64": ("<i8", "int64_contents"),
    "UINT8": ("<u1", "uint_contents"),
    "UINT16": ("<u2", "uint_contents"),
    "UINT32": ("<u4", "uint_contents"),
    "UINT64": ("<u8", "uint64_contents"),
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a model takes or gives.

    Attributes:
        name: as requests call it.
        datatype: `BYTES`, `INT32` or `FP32`.
        dims: its shape without a batch's dimension; -1 is any size.
        optional: a request may leave it out.
    """

    name: str
    datatype: str
    dims: tuple[int, ...] = (1,)
    optional: bool = True


class Inputs:
    """The input tensors of one request.

    Raises:
        Failure: `bad_request`: they are not what the request says they are.
    """

    def __init__(self, request: kserve.ModelInferRequest) -> None:
        raw = request.raw_input_contents
        if len(request.inputs) > _MAX_INPUTS:
            raise bad_request(f"there are {len(request.inputs)} inputs; {_MAX_INPUTS} are taken at most")
        if raw and len(raw) != len(request.inputs):
            raise bad_request(f"raw_input_contents has {len(raw)} items for {len(request.inputs)} inputs")
        self._tensors: dict[str, tuple[kserve.ModelInferRequest.InferInputTensor, bytes | None]] = {}
        for number, tensor in enumerate(request.inputs):
            if tensor.name in self._tensors:
                raise bad_request(f"input '{tensor.name}' is there twice")
            if "shared_memory_region" in tensor.parameters:
                raise bad_request(f"input '{tensor.name}' is in shared memory, which is not supported")
            self._tensors[tensor.name] = (tensor, raw[number] if raw else None)

    def others(self, known: Iterable[TensorSpec]) -> list[str]:
        """The names that a model does not know."""
        return sorted(self._tensors.keys() - {spec.name for spec in known})

    def blob(self, name: str) -> bytes | None:
        """The one element of a BYTES tensor; None where the tensor is missing.

        Raises:
            Failure: `bad_request`.
        """
        found = self._find(name, ("BYTES",), "BYTES")
        if found is None:
            return None
        tensor, raw = found
        self._check_scalar(tensor)
        if raw is None:
            if len(tensor.contents.bytes_contents) != 1:
                raise _wrong_size(name, 1, len(tensor.contents.bytes_contents))
            return tensor.contents.bytes_contents[0]
        if len(raw) < _LENGTH.size or _LENGTH.unpack_from(raw)[0] != len(raw) - _LENGTH.size:
            raise bad_request(
                f"input '{name}' is not one element: its length does not fit its {len(raw)} bytes"
            )
        return raw[_LENGTH.size :]

    def text(self, name: str) -> str:
        """The text in a BYTES tensor; empty where the tensor is missing.

        Raises:
            Failure: `bad_request`.
        """
        try:
            # A lone surrogate, as UTF-8 must not hold it, is spoken as nothing like on every other door.
            return (self.blob(name) or b"").decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise bad_request(f"input '{name}' is not UTF-8") from None

    def integer(self, name: str) -> int | None:
        """The one element of a tensor of whole numbers; None where the tensor is missing.

        Raises:
            Failure: `bad_request`.
        """
        found = self._find(name, tuple(_INTEGERS), "INT32")
        if found is None:
            return None
        tensor, raw = found
        self._check_scalar(tensor)
        dtype, field = _INTEGERS[tensor.datatype]
        if raw is None:
            contents = getattr(tensor.contents, field)
            if len(contents) != 1:
                raise _wrong_size(name, 1, len(contents))
            return int(contents[0])
        _check_bytes(name, raw, np.dtype(dtype).itemsize)
        return int(np.frombuffer(raw, dtype)[0])

    def floats(self, name: str) -> NDArray[np.float32] | None:
        """A tensor of FP32 in one dimension; None where the tensor is missing.

        Its shape may have leading ones. Takes a moment for a large one.

        Raises:
            Failure: `bad_request`.
        """
        found = self._find(name, ("FP32",), "FP32")
        if found is None:
            return None
        tensor, raw = found
        size = self._size(tensor)
        if size != tensor.shape[-1]:
            raise bad_request(f"input '{name}' has the shape {list(tensor.shape)}, not [N] or [1, N]")
        if raw is None:
            if len(tensor.contents.fp32_contents) != size:
                raise _wrong_size(name, size, len(tensor.contents.fp32_contents))
            return np.array(tensor.contents.fp32_contents, np.float32)
        _check_bytes(name, raw, 4 * size)
        return np.frombuffer(raw, "<f4")

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def _find(
        self, name: str, datatypes: tuple[str, ...], wanted: str
    ) -> tuple[kserve.ModelInferRequest.InferInputTensor, bytes | None] | None:
        found = self._tensors.get(name)
        if found is not None and found[0].datatype not in datatypes:
            raise bad_request(f"input '{name}' is {found[0].datatype or 'of no datatype'}, not {wanted}")
        return found

    def _check_scalar(self, tensor: kserve.ModelInferRequest.InferInputTensor) -> None:
        if self._size(tensor) != 1:
            raise bad_request(
                f"input '{tensor.name}' has the shape {list(tensor.shape)[:8]}, not [1] or [1, 1]"
            )

    def _size(self, tensor: kserve.ModelInferRequest.InferInputTensor) -> int:
        shape = tensor.shape
        if not 1 <= len(shape) <= 8 or min(shape) < 0:
            raise bad_request(f"input '{tensor.name}' has no shape that can be: {list(shape)[:8]}")
        return math.prod(shape)


def _check_bytes(name: str, raw: bytes, wanted: int) -> None:
    if len(raw) != wanted:
        raise bad_request(f"input '{name}' has {len(raw)} bytes; its shape and datatype make {wanted}")


def _wrong_size(name: str, wanted: int, given: int) -> Exception:
    return bad_request(f"input '{name}' has {given} elements in its contents; its shape makes {wanted}")


def pack_bytes(data: bytes) -> bytes:
    """A BYTES tensor of one element, as `raw_output_contents` has it."""
    return _LENGTH.pack(len(data)) + data
