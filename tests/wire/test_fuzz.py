"""Nothing a peer sends makes the decoder do anything but answer: a message, or an error of the peer's."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from wire import message_strategies as ms

from cosyduplex import wire
from cosyduplex.connection import ClientConnection, Received, ServerConnection, Violation
from cosyduplex.errors import RemoteProtocolError
from cosyduplex.messages import CLIENT_MESSAGES, SERVER_MESSAGES, AudioFrame

MANY = settings(max_examples=1000, deadline=None)
SEQUENCES = settings(max_examples=150, deadline=None)

TYPES = [cls.type for cls in (*CLIENT_MESSAGES, *SERVER_MESSAGES)]
NAMES = sorted(
    {field.name for cls in (*CLIENT_MESSAGES, *SERVER_MESSAGES) for field in ms.all_fields_of(cls)}
)
NASTY_VALUES = ms.JSON_VALUES | st.sampled_from(
    [-1, 0, 2**31, 2**32, 2**53, 2**63, 2**64, 10**30, 1e308, -1e308, 0.1, "", "x" * 200, "default"]
)
PARTS = st.dictionaries(st.sampled_from(NAMES) | ms.TEXT, NASTY_VALUES, max_size=4)
OBJECTS = st.dictionaries(
    st.sampled_from(NAMES), NASTY_VALUES | PARTS | st.lists(PARTS, max_size=2), max_size=6
)
# What breaks decoders where it lands by chance.
SNIPPETS = st.sampled_from(
    [
        *(
            b'"',
            b"\\",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"\x00",
            b"\xff",
            b"\xed\xa0\x80",
            b"\xef\xbb\xbf",
        ),
        *(b"null", b"NaN", b"-Infinity", b"1e999", b"-0", b"1" * 400, b"\\ud83d", b"\\udc00", b"\\u0000"),
        *(b"[" * 2000, b"]" * 2000, b'{"a":' * 600, b'"type":', b'"context_id":', b"\xf0\x9f\x98\x80"),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid message that was damaged on the way."""
    data = bytearray(wire.encode_message(draw(ms.CLIENT | ms.SERVER)))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 8)))
        replacement = draw(SNIPPETS | st.binary(max_size=4) | st.just(bytes(data[begin:end]) * 2))
        data[begin:end] = replacement
    return bytes(data)


ANY_BYTES = st.binary(max_size=200) | st.text().map(str.encode) | mutated()


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """An object of a known type with fields that exist, and anything in them."""
    fields = draw(OBJECTS)
    text = json.dumps({**fields, "type": draw(st.sampled_from(TYPES))}, ensure_ascii=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")


def _decode_both_ways(data: bytes) -> None:
    for decode in (wire.decode_client_message, wire.decode_server_message):
        try:
            message: Any = decode(data)
        except RemoteProtocolError:
            continue
        assert decode(wire.encode_message(message)) == message  # what was taken can be said again


@MANY
@given(ANY_BYTES)
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    _decode_both_ways(data)


@settings(max_examples=500, deadline=None)
@given(objects())
def test_any_object_is_a_message_or_an_error(data: bytes) -> None:
    _decode_both_ways(data)


@given(st.text(st.characters(exclude_categories=())))
def test_any_string_is_a_message_or_an_error(text: str) -> None:
    for decode in (wire.decode_client_message, wire.decode_server_message):
        try:
            decode(text)
        except RemoteProtocolError:
            continue


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda data: b"\x01" + data))
def test_any_binary_is_a_frame_or_an_error(data: bytes) -> None:
    try:
        frame = wire.decode_frame(data)
    except RemoteProtocolError:
        return
    assert isinstance(frame, AudioFrame)
    assert frame.payload == data[12:]


@SEQUENCES
@given(st.lists(ANY_BYTES | objects() | st.none(), max_size=6))
def test_a_server_answers_whatever_a_client_sends(messages: list[bytes | None]) -> None:
    server = ServerConnection()
    for data in messages:  # None is a binary message
        for event in server.receive_binary() if data is None else server.receive_text(data):
            assert isinstance(event, Received | Violation)


@SEQUENCES
@given(st.lists(ANY_BYTES | objects(), max_size=6))
def test_a_client_blames_the_server_for_whatever_it_sends(messages: list[bytes]) -> None:
    client = ClientConnection()
    for data in messages:
        for receive in (client.receive_text, client.receive_binary):
            try:
                receive(data)
            except RemoteProtocolError:
                continue
