"""Strategies for messages, read off their field types, and a walk over every field with its place."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from hypothesis import strategies as st

from cosyduplex.messages import CLIENT_MESSAGES, SERVER_MESSAGES, Between, Entries, FlowOptions, Length

Strategy = st.SearchStrategy[Any]


def _as_json_can_say(text: str) -> str:
    """A high surrogate before a low one is one character in JSON, however it came about."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


CHARACTERS = st.one_of(
    st.characters(exclude_categories=()),
    st.sampled_from('\x00\x1f"\\/é你😀\u2028\ufeff\ud83d\ude00\ud800\udfff'),
)
TEXT = st.text(CHARACTERS, max_size=30).map(_as_json_can_say)
INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def values_of(hint: Any) -> Strategy:
    """Every value a field of this type may have."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _within(args[0], args[1])
    if origin in (types.UnionType, typing.Union):
        return st.one_of(st.none() if arg is types.NoneType else values_of(arg) for arg in args)
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(values_of(args[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values_of(args[0]), values_of(args[1]), max_size=3)
    if hint is FlowOptions:
        return st.builds(FlowOptions, max_ahead_ms=st.just(0) | st.integers(200, 600_000))
    if dataclasses.is_dataclass(hint):
        return instances_of(hint)
    if isinstance(hint, enum.EnumType):
        return st.sampled_from(list(hint))
    return {
        str: TEXT,
        bool: st.booleans(),
        int: INTEGERS,
        float: st.floats(allow_nan=False, allow_infinity=False),
        object: JSON_VALUES,
    }[hint]


def _within(base: Any, limit: Between | Length | Entries) -> Strategy:
    if isinstance(limit, Entries):
        return values_of(base)
    if isinstance(limit, Length):
        longest = min(limit.high, limit.low + 30)
        return st.text(CHARACTERS, min_size=limit.low, max_size=longest).map(_as_json_can_say)
    if base is int:
        return st.integers(int(limit.low), int(limit.high))
    return st.floats(limit.low, limit.high)


def instances_of(cls: Any) -> Strategy:
    """Every value of a dataclass, its defaults more often than chance would have them."""
    arguments = {}
    for field in fields_of(cls):
        values = values_of(field.hint)
        arguments[field.name] = st.just(field.default) | values if field.has_default else values
    return st.builds(cls, **arguments)


@dataclass(frozen=True)
class Field:
    """One field of a message or of a part of one.

    Attributes:
        path: where it stands, as errors name it.
        keys: the keys and positions that lead to it.
    """

    name: str
    hint: Any
    default: Any
    path: str
    keys: tuple[str | int, ...]

    @property
    def has_default(self) -> bool:
        return self.default is not dataclasses.MISSING

    @property
    def may_be_null(self) -> bool:
        return self.has_default or types.NoneType in typing.get_args(self.hint)

    @property
    def type(self) -> Any:
        """Its type without `None`."""
        if typing.get_origin(self.hint) in (types.UnionType, typing.Union):
            return next(arg for arg in typing.get_args(self.hint) if arg is not types.NoneType)
        return self.hint


def fields_of(cls: Any, path: str = "", keys: tuple[str | int, ...] = ()) -> list[Field]:
    """The fields of a dataclass itself."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return [
        Field(field.name, hints[field.name], field.default, path + field.name, (*keys, field.name))
        for field in dataclasses.fields(cls)
    ]


def all_fields_of(cls: Any, path: str = "", keys: tuple[str | int, ...] = ()) -> Iterator[Field]:
    """The fields of a dataclass and of everything within it; of an array, those of its first entry."""
    for field in fields_of(cls, path, keys):
        yield field
        inner = field.type
        if typing.get_origin(inner) is tuple:
            yield from all_fields_of(typing.get_args(inner)[0], f"{field.path}[0].", (*field.keys, 0))
        elif dataclasses.is_dataclass(inner):
            yield from all_fields_of(inner, f"{field.path}.", field.keys)


CLIENT = st.one_of([instances_of(cls) for cls in CLIENT_MESSAGES])
SERVER = st.one_of([instances_of(cls) for cls in SERVER_MESSAGES])
