"""Stubs of a service, made from its .proto file as a client's author makes them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import grpc_tools
from grpc_tools import protoc

# Where protoc finds google/protobuf/*.proto.
_WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"


def stubs_of(proto: Path, folder: Path) -> tuple[ModuleType, ModuleType]:
    """Compiles `proto` into `folder`, and returns its modules of messages and of services.

    The server's own stubs are of no use here: they are made for its protobuf, the SDKs need an older one.
    """
    arguments = [
        f"-I{proto.parent}",
        f"-I{_WELL_KNOWN}",
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
    ]
    assert protoc.main(["protoc", *arguments, str(proto)]) == 0
    sys.path.insert(0, str(folder))
    try:
        name = f"{proto.stem}_pb2"
        return importlib.import_module(name), importlib.import_module(f"{name}_grpc")
    finally:
        sys.path.remove(str(folder))
