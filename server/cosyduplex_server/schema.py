"""JSON schemas, the OpenAPI page and the AsyncAPI page: all read off the code."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import types
import typing
from typing import Annotated, Any, Literal

import yaml

import cosyduplex
from cosyduplex.errors import ErrorCode
from cosyduplex.messages import CLIENT_MESSAGES, PROTOCOL, SERVER_MESSAGES, Between, Entries, Length

_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bytes: {"type": "string", "format": "binary"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    object: {},
    Any: {},
}


def schema_of(hint: Any) -> dict[str, Any]:
    """The JSON schema of a type of `messages.py` or of an HTTP answer."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        base, limit = typing.get_args(hint)[:2]
        return schema_of(base) | _limits(limit)
    if origin in (types.UnionType, typing.Union):
        options = [schema_of(arg) for arg in typing.get_args(hint) if arg is not types.NoneType]
        return options[0] if len(options) == 1 else {"anyOf": options}
    if origin is Literal:
        return {"enum": list(typing.get_args(hint))}
    if origin in (tuple, list):
        return {"type": "array", "items": schema_of(typing.get_args(hint)[0])}
    if origin is dict:
        keys, values = map(schema_of, typing.get_args(hint))
        named = {} if keys == {"type": "string"} else {"propertyNames": keys}
        return {"type": "object", "additionalProperties": values} | named
    if dataclasses.is_dataclass(hint):
        return _object(hint)
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return {"enum": [str(item.value) for item in hint]}
    return dict(_SCALARS[hint])


def _limits(limit: Between | Length | Entries) -> dict[str, Any]:
    if isinstance(limit, Entries):
        return {"maxProperties": limit.most}
    if isinstance(limit, Length):
        return {"minLength": limit.low, "maxLength": limit.high}
    return {"minimum": limit.low, "maximum": limit.high}


def _object(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    properties: dict[str, Any] = {}
    required = []
    kind = hints.pop("type", None)
    if kind is not None:
        properties["type"] = {"const": cls.type}
        required.append("type")
    for field in dataclasses.fields(cls):
        properties[field.name] = schema_of(hints[field.name])
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(field.name)
        elif isinstance(field.default, (str, int, float, bool)):
            properties[field.name]["default"] = field.default
    schema: dict[str, Any] = {"type": "object", "description": inspect.getdoc(cls), "properties": properties}
    return schema | ({"required": required} if required else {})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """What went wrong, and what to do about it."""

    error: ErrorCode
    message: str
    solution: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One HTTP route, as the OpenAPI page shows it."""

    method: str
    path: str
    summary: str
    answer: Any = None
    status: int = 200
    media_type: str = "application/json"
    body: Any = None
    body_type: str = "application/json"
    needs_key: bool = True


def openapi(operations: tuple[Operation, ...]) -> dict[str, Any]:
    """The OpenAPI 3.1 page of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _openapi_operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "CosyDuplex", "version": cosyduplex.__version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": {"Error": schema_of(ErrorBody)},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _openapi_operation(operation: Operation) -> dict[str, Any]:
    content = {} if operation.answer is None else {"schema": schema_of(operation.answer)}
    page: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {
            str(operation.status): {"description": "OK", "content": {operation.media_type: content}},
            "default": {
                "description": "An error",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if operation.body is not None:
        page["requestBody"] = {"content": {operation.body_type: {"schema": schema_of(operation.body)}}}
    if names := re.findall(r"{(\w+)}", operation.path):
        page["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if operation.needs_key:
        page["security"] = [{"bearer": []}, {"key": []}]
    return page


def asyncapi() -> str:
    """The AsyncAPI 3.0 page of the native protocol, as YAML."""
    messages = {cls.__name__: cls for cls in (*CLIENT_MESSAGES, *SERVER_MESSAGES)}
    frame = {
        "name": "audio frame",
        "contentType": "application/octet-stream",
        "summary": "12-byte header in network byte order (u8 kind=1, u8 flags, u16 context_index, u32 seq, "
        "u32 pts), then s16le mono samples or one Opus packet",
    }
    page = {
        "asyncapi": "3.0.0",
        "info": {"title": f"CosyDuplex {PROTOCOL}", "version": cosyduplex.__version__},
        "channels": {
            "duplex": {
                "address": "/v1/duplex",
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"} for name in (*messages, "AudioFrame")
                },
            }
        },
        "operations": {
            "clientSends": _operation("receive", CLIENT_MESSAGES),
            "serverSends": _operation("send", SERVER_MESSAGES, "AudioFrame"),
        },
        "components": {
            "messages": {
                name: {"name": cls.type, "summary": _summary(cls), "payload": schema_of(cls)}
                for name, cls in messages.items()
            }
            | {"AudioFrame": frame}
        },
    }
    return yaml.dump(page, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=110)


class _PlainDumper(yaml.SafeDumper):
    """YAML without anchors: the page is read by people."""

    def ignore_aliases(self, data: Any) -> bool:
        """Nothing is written as a reference to an earlier node."""
        return True


def _operation(action: str, classes: tuple[type[Any], ...], *more: str) -> dict[str, Any]:
    names = [cls.__name__ for cls in classes] + list(more)
    return {
        "action": action,
        "channel": {"$ref": "#/channels/duplex"},
        "messages": [{"$ref": f"#/channels/duplex/messages/{name}"} for name in names],
    }


def _summary(cls: type[Any]) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]
