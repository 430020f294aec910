"""Messages to JSON and back, frames to bytes and back: the only place that knows either.

Decoding follows the field types of `messages.py`. Unknown fields are ignored and `null` means "not given",
since clients in the field send both.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import struct
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import orjson

from cosyduplex.errors import NotAMessage, NotUtf8, RemoteProtocolError
from cosyduplex.messages import (
    CLIENT_MESSAGES,
    SERVER_MESSAGES,
    AudioFrame,
    Between,
    ClientMessage,
    Entries,
    Length,
    Message,
    ServerMessage,
)

FRAME_HEADER = struct.Struct("!BBHII")
FRAME_KIND_AUDIO = 1
FLAG_FIRST, FLAG_LAST, FLAG_GAP = 1, 2, 4

# orjson refuses the escape of a lone surrogate; the protocol takes it (it counts one character and is
# spoken as nothing), so such a message goes through the slower standard decoder.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")

# What is taken only to be echoed must be possible to encode: orjson stops at 254 levels, json at about 900.
MAX_ECHO_LEVELS = 100

# --- frames ------------------------------------------------------------------------------------------


def encode_frame(frame: AudioFrame) -> bytes:
    """Returns the 12-byte header in network byte order, then the payload."""
    flags = FLAG_FIRST * frame.first | FLAG_LAST * frame.last | FLAG_GAP * frame.gap
    header = FRAME_HEADER.pack(FRAME_KIND_AUDIO, flags, frame.context_index, frame.seq, frame.pts)
    return header + frame.payload


def decode_frame(data: bytes) -> AudioFrame:
    """Reads one binary message.

    Raises:
        RemoteProtocolError: it is shorter than a header or of an unknown kind.
    """
    if len(data) < FRAME_HEADER.size:
        raise RemoteProtocolError("binary message is shorter than its header")
    kind, flags, context_index, seq, pts = FRAME_HEADER.unpack_from(data)
    if kind != FRAME_KIND_AUDIO:
        raise RemoteProtocolError(f"unknown kind of binary message: {kind}")
    return AudioFrame(
        context_index=context_index,
        seq=seq,
        pts=pts,
        payload=bytes(data[FRAME_HEADER.size :]),
        first=bool(flags & FLAG_FIRST),
        last=bool(flags & FLAG_LAST),
        gap=bool(flags & FLAG_GAP),
    )


# --- messages out ------------------------------------------------------------------------------------


def encode_message(message: Message) -> bytes:
    """Returns the message as JSON in UTF-8; fields that are `None` are left out, except nullable results."""
    obj = {"type": message.type, **_to_obj(message)}
    try:
        return orjson.dumps(obj)
    except TypeError:  # a lone surrogate in a text slice: escape it
        return json.dumps(obj, separators=(",", ":")).encode("ascii")


@functools.cache
def _fields_out(cls: Any) -> tuple[tuple[str, bool], ...]:
    """Names of a dataclass' fields, and whether each is left out when `None`."""
    return tuple((f.name, f.default is None) for f in dataclasses.fields(cls))


def _to_obj(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        out = {}
        for name, optional in _fields_out(value.__class__):
            item = getattr(value, name)
            if item is None and optional:
                continue
            out[name] = item if isinstance(item, (str, int, float)) else _to_obj(item)
        return out
    if isinstance(value, tuple):
        return [_to_obj(item) for item in value]
    return value


# --- messages in -------------------------------------------------------------------------------------


def decode_client_message(data: bytes | str) -> ClientMessage:
    """Reads what a client sent.

    Raises:
        NotUtf8: the bytes are not UTF-8.
        NotAMessage: it is not a JSON object.
        RemoteProtocolError: it is an object, but not a message of the protocol; the text says which field.
    """
    return typing.cast(ClientMessage, _decode(data, _by_type(CLIENT_MESSAGES)))


def decode_server_message(data: bytes | str) -> ServerMessage:
    """Reads what a server sent; raises as `decode_client_message` does."""
    return typing.cast(ServerMessage, _decode(data, _by_type(SERVER_MESSAGES)))


@functools.cache
def _by_type(classes: tuple[type[Any], ...]) -> dict[str, type[Any]]:
    return {cls.type: cls for cls in classes}


def _decode(data: bytes | str, classes: dict[str, type[Any]]) -> Any:
    obj = load_json(data)
    if not isinstance(obj, dict):
        raise NotAMessage("a message must be a JSON object")
    name = obj.get("type")
    if not isinstance(name, str):
        raise RemoteProtocolError('a message needs a "type" that is a string')
    cls = classes.get(name)
    if cls is None:
        raise RemoteProtocolError(f"unknown type of message: {_short(name)}")
    try:
        return _parse_object(cls, obj, "")
    except _WrongField as exc:
        context_id = obj.get("context_id")
        named = context_id if isinstance(context_id, str) and len(context_id) <= 128 else None
        raise RemoteProtocolError(f"{name}: {exc}", context_id=named) from None


def load_json(data: bytes | str) -> Any:
    """Parses JSON that may hold lone surrogates, as pages make them where they cut strings.

    Raises:
        NotUtf8: it is not text.
        NotAMessage: it is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeDecodeError:
        raise NotUtf8("a text message must be UTF-8") from None
    if _SURROGATE.search(text):
        try:
            # Numbers go to orjson, so that they mean the same on both ways: none is infinite or huge.
            return json.loads(
                text, parse_int=orjson.loads, parse_float=orjson.loads, parse_constant=_refuse_constant
            )
        except (ValueError, RecursionError):
            pass
    raise NotAMessage("a message must be valid JSON, nested no deeper than 1000 levels")


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _short(text: str) -> str:
    """A name from outside, safe to repeat in a message: short, printable."""
    clipped = text[:40] + ("…" if len(text) > 40 else "")
    return json.dumps(clipped)


class _WrongField(Exception):
    pass


Parser = Callable[[Any, str], Any]


def _parse_object(cls: Any, obj: dict[str, Any], path: str) -> Any:
    values: dict[str, Any] = {}
    for name, parser, required in _fields_in(cls):
        item = obj.get(name)
        where = f"{path}{name}"
        if item is None:
            if required and name not in _nullable_results(cls):
                raise _WrongField(f"{where} is missing")
            if required:
                values[name] = None
            continue
        values[name] = parser(item, where)
    try:
        return cls(**values)
    except ValueError as exc:  # a rule between fields, said by the class itself
        raise _WrongField(f"{path}{exc}") from None


@functools.cache
def _fields_in(cls: Any) -> tuple[tuple[str, Parser, bool], ...]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(
        (field.name, _parser(hints[field.name]), field.default is dataclasses.MISSING)
        for field in dataclasses.fields(cls)
    )


@functools.cache
def _nullable_results(cls: Any) -> frozenset[str]:
    """Fields that must be sent and may be null, as `ttfa_ms` of a context without audio."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return frozenset(name for name, hint in hints.items() if types.NoneType in typing.get_args(hint))


def _parser(hint: Any) -> Parser:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        base, *limits = typing.get_args(hint)
        inner = _parser(base)
        return functools.partial(_limited, inner, limits[0])
    if origin in (types.UnionType, typing.Union):
        options = [arg for arg in typing.get_args(hint) if arg is not types.NoneType]
        return _parser(float if set(options) == {int, float} else options[0])
    if origin is Literal:
        return functools.partial(_literal, typing.get_args(hint))
    if origin is tuple:
        return functools.partial(_array, _parser(typing.get_args(hint)[0]))
    if origin is dict:
        key_hint, value_hint = typing.get_args(hint)
        return functools.partial(_mapping, _parser(key_hint), _parser(value_hint))
    if dataclasses.is_dataclass(hint):
        return functools.partial(_object, hint)
    return _SCALARS.get(hint) or functools.partial(_enum, hint)


def _limited(inner: Parser, limit: Between | Length | Entries, item: Any, where: str) -> Any:
    value = inner(item, where)
    if isinstance(limit, Entries):
        if len(value) > limit.most:
            raise _WrongField(f"{where} must have {limit.most} entries at most")
    elif isinstance(limit, Length):
        if not limit.low <= len(value) <= limit.high:
            raise _WrongField(f"{where} must have {limit.low} to {limit.high} characters")
    elif not limit.low <= value <= limit.high:
        raise _WrongField(f"{where} must be from {limit.low:g} to {limit.high:g}")
    return value


def _string(item: Any, where: str) -> str:
    if not isinstance(item, str):
        raise _WrongField(f"{where} must be a string")
    return item


def _boolean(item: Any, where: str) -> bool:
    if not isinstance(item, bool):
        raise _WrongField(f"{where} must be true or false")
    return item


def _integer(item: Any, where: str) -> int:
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    if isinstance(item, bool) or not isinstance(item, int):
        raise _WrongField(f"{where} must be a whole number")
    return item


def _number(item: Any, where: str) -> float | int:
    if isinstance(item, bool) or not isinstance(item, (int, float)):
        raise _WrongField(f"{where} must be a number")
    return item


def _anything(item: Any, where: str) -> Any:
    level = [item]
    for _ in range(MAX_ECHO_LEVELS):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return item
    raise _WrongField(f"{where} must be nested no deeper than {MAX_ECHO_LEVELS} levels")


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


_SCALARS: dict[Any, Parser] = {object: _anything, str: _string, bool: _boolean, int: _integer, float: _number}


def _literal(options: tuple[Any, ...], item: Any, where: str) -> Any:
    if item not in options or isinstance(item, bool) not in {isinstance(o, bool) for o in options}:
        raise _WrongField(f"{where} must be one of {', '.join(map(str, options))}")
    return item


def _enum(cls: Any, item: Any, where: str) -> Any:
    try:
        return cls(item)
    except ValueError:
        raise _WrongField(f"{where} is not a known value") from None


def _array(inner: Parser, item: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(item, list):
        raise _WrongField(f"{where} must be an array")
    return tuple(inner(entry, f"{where}[{i}]") for i, entry in enumerate(item))


def _mapping(key_parser: Parser, value_parser: Parser, item: Any, where: str) -> dict[Any, Any]:
    if not isinstance(item, dict):
        raise _WrongField(f"{where} must be an object")
    return {
        key_parser(key, f"{where}: the key {_short(key)}"): value_parser(value, f"{where}[{_short(key)}]")
        for key, value in item.items()
        if value is not None
    }


def _object(cls: Any, item: Any, where: str) -> Any:
    if not isinstance(item, dict):
        raise _WrongField(f"{where} must be an object")
    return _parse_object(cls, item, f"{where}.")
