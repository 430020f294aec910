"""Whatever either side can say arrives as it was said, however an honest peer writes it."""

import dataclasses
import json
import typing
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from wire import message_strategies as ms

from cosyduplex import wire
from cosyduplex.messages import CLIENT_MESSAGES, AudioFrame

UNKNOWN_NAMES = st.text(min_size=1, max_size=8).map(lambda name: f"x-{name}")
UNKNOWN_FIELDS = st.dictionaries(UNKNOWN_NAMES, ms.JSON_VALUES, max_size=2)
U16, U32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)


@given(ms.CLIENT)
def test_every_client_message_reads_back(message: Any) -> None:
    assert wire.decode_client_message(wire.encode_message(message)) == message


@given(ms.SERVER)
def test_every_server_message_reads_back(message: Any) -> None:
    assert wire.decode_server_message(wire.encode_message(message)) == message


@given(ms.CLIENT | ms.SERVER)
def test_a_message_on_the_wire_is_json_of_utf_8_with_its_type_first(message: Any) -> None:
    data = wire.encode_message(message)
    assert data.startswith(b'{"type":"' + type(message).type.encode() + b'"')
    data.decode("utf-8")
    json.loads(data, parse_constant=_refuse)


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@given(ms.CLIENT | ms.SERVER, st.data())
def test_unknown_fields_are_ignored_and_null_is_not_given(message: Any, data: st.DataObject) -> None:
    written = json.loads(wire.encode_message(message))
    _write_otherwise(written, message, data)
    decode = wire.decode_client_message if type(message) in CLIENT_MESSAGES else wire.decode_server_message
    assert decode(json.dumps(written, ensure_ascii=data.draw(st.booleans()))) == message


def _write_otherwise(written: dict[str, Any], value: Any, data: st.DataObject) -> None:
    """Says the same in other words: defaults as null, fields nobody knows, at every level."""
    for field in ms.fields_of(type(value)):
        item = getattr(value, field.name)
        if field.has_default and item == field.default and data.draw(st.booleans(), label=field.path):
            written[field.name] = None
        elif dataclasses.is_dataclass(item):
            _write_otherwise(written[field.name], item, data)
        elif typing.get_origin(field.type) is tuple:
            for entry, part in zip(written[field.name], item, strict=True):
                _write_otherwise(entry, part, data)
    written.update(data.draw(UNKNOWN_FIELDS))


@given(
    st.builds(
        AudioFrame,
        context_index=U16,
        seq=U32,
        pts=U32,
        payload=st.binary(max_size=40),
        first=st.booleans(),
        last=st.booleans(),
        gap=st.booleans(),
    )
)
def test_every_frame_reads_back(frame: AudioFrame) -> None:
    assert wire.decode_frame(wire.encode_frame(frame)) == frame
