"""What is no message at all is told apart from a message that is wrong, and large ones are read."""

import json

import pytest

from cosyduplex import wire
from cosyduplex.errors import NotAMessage, NotUtf8, RemoteProtocolError
from cosyduplex.messages import Ping, Pong, SessionStart, TextAppend

DEEP = 100_000
HUGE = "1" + "0" * 5000

NOT_JSON = {
    "nothing": b"",
    "blanks": b" \r\n\t",
    "NUL": b"\x00",
    "NUL after a message": b'{"type":"ping"}\x00',
    "NUL in a string": b'{"type":"ping","t":"\x00"}',
    "a line feed in a string": b'{"type":"ping","t":"\n"}',
    "a word": b"hello",
    "a byte order mark": b'\xef\xbb\xbf{"type":"ping"}',
    "UTF-16": '{"type":"ping"}'.encode("utf-16-le"),
    "two messages": b'{"type":"ping"}{"type":"ping"}',
    "two lines": b'{"type":"ping"}\n{"type":"ping"}',
    "half a message": b'{"type":"pi',
    "single quotes": b"{'type':'ping'}",
    "a comment": b'{"type":"ping"} // hi',
    "a comma at the end": b'{"type":"ping",}',
    "a key without quotes": b'{type:"ping"}',
    "half an escape": b'{"type":"ping","t":"\\u12"}',
    "an escape of nothing": b'{"type":"ping","t":"\\x41"}',
    "NaN": b'{"type":"ping","t":NaN}',
    "Infinity": b'{"type":"ping","t":Infinity}',
    "-Infinity": b'{"type":"ping","t":-Infinity}',
    "a float beyond all": b'{"type":"ping","t":1e999}',
    "a whole number beyond all": b'{"type":"ping","t":' + HUGE.encode() + b"}",
    "a number with a leading zero": b'{"type":"ping","t":01}',
    "deep arrays, never closed": b"[" * DEEP,
    "deep arrays": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep arrays in a field": b'{"type":"ping","t":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "a wall of backslashes": b'{"type":"ping","t":"' + b"\\" * DEEP,
    "a wall of surrogates": b'{"type":"ping","t":"' + b"\\ud800" * DEEP,
}
NOT_AN_OBJECT = {
    "null": b"null",
    "true": b"true",
    "a number": b"1",
    "a string": b'"text.append"',
    "an array": b"[]",
    "an array of messages": b'[{"type":"ping"}]',
    "a lone surrogate": b'"\\ud83d"',
}
NOT_UTF_8 = {
    "a lone continuation byte": b"\x80",
    "Latin-1": b'{"type":"ping","t":"\xe9"}',
    "cut short": b'{"type":"ping","t":"\xe4\xbd',
    "overlong": b'{"type":"ping","t":"\xc0\xaf"}',
    "a surrogate in bytes": b'{"type":"ping","t":"\xed\xa0\xbd"}',
    "beyond Unicode": b'{"type":"ping","t":"\xf5\x80\x80\x80"}',
    "UTF-16 with its mark": '{"type":"ping"}'.encode("utf-16"),
    "beside an escaped surrogate": b'{"type":"ping","t":"\\ud83d\xff"}',
    "an Opus packet": bytes(range(248, 256)),
}


def _with_a_surrogate(data: bytes) -> bytes:
    """The same, read by the slower decoder."""
    return data.replace(b'{"type":"ping"', b'{"x":"\\ud83d","type":"ping"')


@pytest.mark.parametrize("data", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_not_a_message(data: bytes) -> None:
    for form in (data, _with_a_surrogate(data)):
        with pytest.raises(NotAMessage):
            wire.decode_client_message(form)
        with pytest.raises(NotAMessage):
            wire.decode_server_message(form)


@pytest.mark.parametrize("data", NOT_AN_OBJECT.values(), ids=NOT_AN_OBJECT)
def test_what_is_not_an_object_is_not_a_message(data: bytes) -> None:
    with pytest.raises(NotAMessage, match="object"):
        wire.decode_client_message(data)


@pytest.mark.parametrize("data", NOT_UTF_8.values(), ids=NOT_UTF_8)
def test_what_is_not_utf_8_is_told_apart(data: bytes) -> None:
    with pytest.raises(NotUtf8):
        wire.decode_client_message(data)


def test_a_string_with_a_raw_surrogate_means_what_its_escape_means() -> None:
    raw, escaped = '{"type":"ping","t":"\ud83d"}', b'{"type":"ping","t":"\\ud83d"}'
    assert wire.decode_client_message(raw) == wire.decode_client_message(escaped)


@pytest.mark.parametrize("number", ["1e999", "-1e999", HUGE, "NaN", "1e300", "-1e300", "9" * 400])
@pytest.mark.parametrize("field", ["speech", "flow", "audio"])
@pytest.mark.parametrize("voice", ["v", r"\ud83d"])
def test_a_number_beyond_all_is_refused_wherever_it_stands(number: str, field: str, voice: str) -> None:
    name = {"speech": "speed", "flow": "max_ahead_ms", "audio": "sample_rate"}[field]
    data = f'{{"type":"session.start","voice":"{voice}","{field}":{{"{name}":{number}}}}}'
    if field == "audio" and number.endswith("1e300"):  # which rates there are is for the negotiation
        assert isinstance(wire.decode_client_message(data), SessionStart)
        return
    with pytest.raises(RemoteProtocolError):
        wire.decode_client_message(data)


def test_of_a_key_given_twice_the_last_counts() -> None:
    for extra in ("", r',"x":"\ud83d"'):
        data = f'{{"type":"ping","text":"a","type":"text.append","text":"b"{extra}}}'
        assert wire.decode_client_message(data) == TextAppend(text="b")


@pytest.mark.parametrize("text", ["x" * 900_000, "你" * 300_000, "😀" * 225_000, "\x01" * 150_000])
def test_a_message_of_900_kb_is_read(text: str) -> None:
    data = wire.encode_message(TextAppend(text=text))
    assert 900_000 < len(data) < 901_000
    assert wire.decode_client_message(data) == TextAppend(text=text)


def test_a_large_message_of_lone_surrogates_is_read() -> None:
    text = "\ud83d你" * 100_000
    assert wire.decode_client_message(wire.encode_message(TextAppend(text=text))) == TextAppend(text=text)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_what_is_echoed_is_nested_no_deeper_than_can_be_echoed(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    for extra in ("", r',"x":"\ud83d"'):
        at_the_limit, beyond = (
            f'{{"type":"ping","t":{opening * levels}1{closing * levels}{extra}}}'
            for levels in (wire.MAX_ECHO_LEVELS - 1, wire.MAX_ECHO_LEVELS)
        )
        ping = wire.decode_client_message(at_the_limit)
        assert isinstance(ping, Ping)
        assert wire.decode_server_message(wire.encode_message(Pong(t=ping.t))) == Pong(t=ping.t)
        with pytest.raises(RemoteProtocolError, match=r"ping: t must be nested no deeper"):
            wire.decode_client_message(beyond)


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", "9" * 300])
def test_a_huge_number_is_echoed_to_the_precision_of_a_float(number: str) -> None:
    for extra in ("", r',"x":"\ud83d"'):
        ping = wire.decode_client_message(f'{{"type":"ping","t":{number}{extra}}}')
        assert isinstance(ping, Ping)
        assert ping.t == float(number)
        assert json.loads(wire.encode_message(Pong(t=ping.t)))["t"] == float(number)


@pytest.mark.parametrize("length", range(12))
def test_a_frame_shorter_than_its_header_is_refused(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match="shorter"):
        wire.decode_frame(b"\x01" * length)


@pytest.mark.parametrize("kind", [0, 2, ord("{"), 255])
def test_a_frame_of_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"kind of binary message: {kind}$"):
        wire.decode_frame(bytes([kind]) + bytes(11))


def test_flags_of_the_future_are_ignored() -> None:
    frame = wire.decode_frame(b"\x01\xf9" + bytes(10))
    assert (frame.first, frame.last, frame.gap) == (True, False, False)
