"""A field that is wrong, out of range or missing is refused by its name."""

import enum
import json
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from wire import message_strategies as ms
from wire.message_strategies import Field

from cosyduplex import messages as m
from cosyduplex import wire
from cosyduplex.errors import ErrorCode, NotAMessage, RemoteProtocolError

# One valid message of each type, with every part that has fields of its own.
VALID: dict[type[Any], dict[str, Any]] = {
    m.SessionStart: {
        "audio": {},
        "speech": {},
        "text": {},
        "flow": {},
        "resume": {"session_id": "s", "resume_token": "r"},
    },
    m.ContextOpen: {"speech": {}, "text": {}},
    m.TextAppend: {"text": "Hi"},
    m.TextFlush: {},
    m.TextEnd: {},
    m.ContextCancel: {},
    m.PlaybackReport: {"played_ms": 0},
    m.Feedback: {"score": 3},
    m.Ping: {},
    m.SessionEnd: {},
    m.SessionStarted: {
        "session_id": "s",
        "resume_token": "r",
        "resume_window_ms": 0,
        "resumed": False,
        "last_n": 0,
        "first_seq": 1,
        "audio": {"encoding": "opus", "sample_rate": 24000, "frame_ms": 20},
        "voice": "v",
        "engine": "e",
        "limits": {},
        "warnings": [{"code": "timeout", "message": "w"}],
    },
    m.ContextStarted: {"context_id": "a", "context_index": 0},
    m.Marks: {
        "context_id": "a",
        "context_index": 0,
        "words": [{"text": "w", "start_ms": 0, "end_ms": 1, "char_start": 0, "char_end": 1}],
        "exact": True,
    },
    m.ContextFlushed: {"context_id": "a", "context_index": 0, "audio_ms": 0},
    m.ContextDone: {
        "context_id": "a",
        "context_index": 0,
        "audio_ms": 0,
        "characters": 0,
        "ttfa_ms": None,
        "ttfa_enough_ms": None,
        "underruns": 0,
    },
    m.ContextCancelled: {
        "context_id": "a",
        "context_index": 0,
        "sent_ms": 0,
        "spoken_chars": 0,
        "estimated": False,
    },
    m.Warning: {"code": "timeout", "message": "w"},
    m.Error: {"code": "timeout", "message": "w", "solution": "s", "retryable": True, "ends": "none"},
    m.Pong: {},
    m.SessionDraining: {"deadline_ms": 0, "resume": False},
    m.SessionEnded: {"reason": "idle", "audio_ms": 0, "characters": 0},
}
FIELDS = [(cls, field) for cls in VALID for field in ms.all_fields_of(cls)]

WRONG_TYPES: dict[Any, list[Any]] = {
    str: [1, 1.5, True, [], {}, ["a"]],
    bool: [0, 1, "true", "", [], {}],
    int: ["1", "", 1.5, True, [], {}, -0.25],
    float: ["1", True, False, [], {}],
}


def _wrong_types(hint: Any) -> list[Any]:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return _wrong_types(typing.get_args(hint)[0])
    if origin is Literal or isinstance(hint, enum.EnumType):
        return ["nonsense", "", 1, True, [], {}]
    if origin is tuple:
        return ["x", 1, True, {}]
    if hint is object:
        return []
    return WRONG_TYPES.get(hint, ["x", 1, True, []])


def _out_of_range(hint: Any) -> list[Any]:
    if typing.get_origin(hint) is not Annotated:
        return []
    base, limit = typing.get_args(hint)
    if isinstance(limit, m.Entries):
        return [{str(number): "x" for number in range(limit.most + 1)}]
    if isinstance(limit, m.Length):
        return ["x" * (limit.high + 1)] + ([""] if limit.low else [])
    step = 1 if base is int else 0.001
    return [limit.low - step, limit.high + step, 1e300, -1e300]


def _at_the_limits(hint: Any) -> list[Any]:
    if typing.get_origin(hint) is not Annotated:
        return []
    limit = typing.get_args(hint)[1]
    if isinstance(limit, m.Entries):
        return [{}, {str(number): "x" for number in range(limit.most)}]
    if isinstance(limit, m.Length):
        return ["x" * limit.low, "x" * limit.high, "😀" * limit.high, "\ud800" * limit.high]
    return [limit.low, limit.high]


def _cases(values: Callable[[Any], list[Any]]) -> list[Any]:
    return [
        pytest.param(cls, field, value, id=f"{cls.type}:{field.path}={ascii(value)[:20]}")
        for cls, field in FIELDS
        for value in values(field.type)
    ]


def _with(cls: type[Any], field: Field, value: Any) -> str:
    """A valid message but for this value at that place; `...` leaves the field out."""
    message = json.loads(json.dumps({"type": cls.type, **VALID[cls]}))
    place = message
    for key in field.keys[:-1]:
        place = place[key]
    if value is ...:
        place.pop(field.name, None)
    else:
        place[field.name] = value
    return json.dumps(message)


def _decode(cls: type[Any], data: str) -> Any:
    decode = wire.decode_client_message if cls in m.CLIENT_MESSAGES else wire.decode_server_message
    return decode(data)


def _refused(cls: type[Any], data: str) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        _decode(cls, data)
    assert not isinstance(caught.value, NotAMessage)
    assert caught.value.code is ErrorCode.BAD_REQUEST
    return str(caught.value)


def test_every_type_has_a_valid_example() -> None:
    assert set(VALID) == {*m.CLIENT_MESSAGES, *m.SERVER_MESSAGES}
    for cls, fields in VALID.items():
        assert type(_decode(cls, json.dumps({"type": cls.type, **fields}))) is cls


@pytest.mark.parametrize(("cls", "field", "value"), _cases(_wrong_types))
def test_a_field_of_the_wrong_type_is_named(cls: type[Any], field: Field, value: Any) -> None:
    said = _refused(cls, _with(cls, field, value))
    assert said.startswith(f"{cls.type}: {field.path} ")


@pytest.mark.parametrize(("cls", "field", "value"), _cases(_out_of_range))
def test_a_field_out_of_range_is_named(cls: type[Any], field: Field, value: Any) -> None:
    said = _refused(cls, _with(cls, field, value))
    assert said.startswith(f"{cls.type}: {field.path} must ")


@pytest.mark.parametrize(("cls", "field", "value"), _cases(_at_the_limits))
def test_a_field_at_its_limits_is_taken(cls: type[Any], field: Field, value: Any) -> None:
    item = _decode(cls, _with(cls, field, value))
    for key in field.keys:
        item = item[key] if isinstance(key, int) else getattr(item, key)
    assert item == value


@pytest.mark.parametrize(
    ("cls", "field"),
    [
        pytest.param(cls, field, id=f"{cls.type}:{field.path}")
        for cls, field in FIELDS
        if not field.may_be_null
    ],
)
def test_a_required_field_that_is_missing_or_null_is_named(cls: type[Any], field: Field) -> None:
    for value in (..., None):
        assert _refused(cls, _with(cls, field, value)) == f"{cls.type}: {field.path} is missing"


@pytest.mark.parametrize(
    ("cls", "field"),
    [pytest.param(cls, field, id=f"{cls.type}:{field.path}") for cls, field in FIELDS if field.may_be_null],
)
def test_any_other_field_may_be_missing_or_null(cls: type[Any], field: Field) -> None:
    assert _decode(cls, _with(cls, field, ...)) == _decode(cls, _with(cls, field, None))


@pytest.mark.parametrize("max_ahead_ms", [-1, 1, 199, 600_001])
def test_max_ahead_ms_is_zero_or_within_its_range(max_ahead_ms: int) -> None:
    flow = json.dumps({"type": "session.start", "flow": {"max_ahead_ms": max_ahead_ms}})
    assert _refused(m.SessionStart, flow).startswith("session.start: flow.max_ahead_ms must be 0 or ")


@pytest.mark.parametrize("max_ahead_ms", [0, 200, 600_000])
def test_max_ahead_ms_at_its_limits_is_taken(max_ahead_ms: int) -> None:
    start = _decode(
        m.SessionStart, json.dumps({"type": "session.start", "flow": {"max_ahead_ms": max_ahead_ms}})
    )
    assert start.flow.max_ahead_ms == max_ahead_ms


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_wrong_entry_of_an_array_is_named_by_its_position(position: int) -> None:
    words: list[Any] = [*VALID[m.Marks]["words"]] * 3
    words[position] = 5
    data = json.dumps({"type": "marks", **VALID[m.Marks], "words": words})
    assert _refused(m.Marks, data) == f"marks: words[{position}] must be an object"


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"": "x"}, 'pronunciations: the key "" must have 1 to 64 characters'),
        ({"k" * 65: "x"}, f'pronunciations: the key "{"k" * 40}\\u2026" must have 1 to 64 characters'),
        ({"a": "x", "k": "x" * 129}, 'pronunciations["k"] must have 0 to 128 characters'),
        ({"k": 1}, 'pronunciations["k"] must be a string'),
        ({"k": ["x"]}, 'pronunciations["k"] must be a string'),
    ],
)
def test_a_wrong_entry_of_an_object_is_named_by_its_key(entries: dict[str, Any], said: str) -> None:
    data = json.dumps({"type": "context.open", "text": {"pronunciations": entries}})
    assert _refused(m.ContextOpen, data) == f"context.open: text.{said}"


def test_entries_at_their_limits_are_taken_and_null_is_none() -> None:
    entries = {"k" * 64: "x" * 128, "e": "", "\ud83d": "\ud83d"}
    data = json.dumps({"type": "context.open", "text": {"pronunciations": {**entries, "n": None}}})
    assert _decode(m.ContextOpen, data).text.pronunciations == entries


@pytest.mark.parametrize("context_id", ["a", "a" * 128, "\ud83d"])
def test_an_error_about_a_field_names_the_context_that_was_named(context_id: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        wire.decode_client_message(json.dumps({"type": "text.append", "context_id": context_id, "text": 1}))
    assert caught.value.context_id == context_id


@pytest.mark.parametrize("context_id", ["a" * 129, 1, None, ["a"]])
def test_an_error_about_a_field_names_no_context_that_cannot_be(context_id: object) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        wire.decode_client_message(json.dumps({"type": "text.append", "context_id": context_id, "text": 1}))
    assert caught.value.context_id is None


@pytest.mark.parametrize("name", [None, 1, True, [], {}, ["text.end"], ...])
def test_a_type_that_is_no_string_is_refused(name: object) -> None:
    data = json.dumps({} if name is ... else {"type": name})
    assert _refused(m.TextEnd, data) == 'a message needs a "type" that is a string'


@pytest.mark.parametrize("name", ["", "text.end ", "TEXT.END", "context.done", "x" * 1000, "\x00\n\ud83d😀"])
def test_a_type_that_no_client_sends_is_refused_and_repeated_in_short(name: str) -> None:
    said = _refused(m.TextEnd, json.dumps({"type": name}))
    assert said.startswith("unknown type of message: ")
    assert len(said) < 300
    assert said.isascii()
    assert said.isprintable()


@pytest.mark.parametrize("cls", m.CLIENT_MESSAGES)
def test_a_server_sends_no_message_of_a_client(cls: type[Any]) -> None:
    data = json.dumps({"type": cls.type, **VALID[cls]})
    with pytest.raises(RemoteProtocolError, match="unknown type"):
        wire.decode_server_message(data)
