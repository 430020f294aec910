"""The rules of a session that are more than one step of a table."""

import dataclasses
import json
from typing import Any

import pytest

from cosyduplex import wire
from cosyduplex.connection import (
    CONTEXT_INDEXES,
    MAX_REMEMBERED_FAILURES,
    SEQ_MODULUS,
    ClientConnection,
    Received,
    ServerConnection,
    Violation,
)
from cosyduplex.errors import ErrorCode, LocalProtocolError, NotAMessage, RemoteProtocolError
from cosyduplex.messages import (
    CLIENT_MESSAGES,
    AudioFrame,
    ClientMessage,
    ContextCancel,
    ContextCancelled,
    ContextDone,
    ContextFlushed,
    ContextOpen,
    ContextStarted,
    Error,
    Feedback,
    Limits,
    NegotiatedAudio,
    Ping,
    PlaybackReport,
    Pong,
    ServerMessage,
    SessionEnd,
    SessionEnded,
    SessionStart,
    SessionStarted,
    TextAppend,
    TextEnd,
    TextFlush,
    Warning,
)
from cosyduplex.states import ContextState
from cosyduplex.testing import ConnectionPair

STARTED = SessionStarted(
    session_id="s",
    resume_token="r",
    resume_window_ms=0,
    resumed=False,
    last_n=0,
    first_seq=1,
    audio=NegotiatedAudio(encoding="pcm_s16le", sample_rate=24000, frame_ms=20),
    voice="v",
    engine="e",
    limits=Limits(),
)


def started(context_id: str, index: int) -> ContextStarted:
    return ContextStarted(context_id=context_id, context_index=index)


def done(context_id: str, index: int) -> ContextDone:
    return ContextDone(
        context_id=context_id,
        context_index=index,
        audio_ms=0,
        characters=0,
        ttfa_ms=None,
        ttfa_enough_ms=None,
        underruns=0,
    )


def cancelled(context_id: str, index: int) -> ContextCancelled:
    return ContextCancelled(
        context_id=context_id, context_index=index, sent_ms=0, spoken_chars=0, estimated=True
    )


def failed(context_id: str | None, index: int | None, ends: Any = "context") -> Error:
    return Error(
        code=ErrorCode.ENGINE_FAILED,
        message="m",
        solution="s",
        retryable=True,
        context_id=context_id,
        context_index=index,
        ends=ends,
    )


class Server:
    """A server core that is talked to without a client core, as by any client in the field."""

    def __init__(self) -> None:
        self.core = ServerConnection()

    def hears(self, message: ClientMessage) -> list[Received | Violation]:
        return self.core.receive_text(wire.encode_message(message))

    def opens(self, context_id: str) -> int:
        """Opens a context and starts it; returns its index."""
        received = self.hears(ContextOpen(context_id=context_id))[-1]
        assert isinstance(received, Received)
        assert received.index is not None
        assert received.opens
        self.core.send(started(context_id, received.index))
        return received.index

    def finishes(self, context_id: str) -> int:
        """Opens a context and brings it to its end; returns its index."""
        index = self.opens(context_id)
        self.hears(TextEnd(context_id=context_id))
        self.core.send(done(context_id, index))
        return index

    def fails(self, context_id: str) -> None:
        """Opens a context and ends it by an error."""
        index = self.opens(context_id)
        self.core.send(failed(context_id, index))


@pytest.fixture
def server() -> Server:
    server = Server()
    server.hears(SessionStart())
    return server


def exchange(pair: ConnectionPair, *messages: ClientMessage | ServerMessage) -> None:
    """Says one thing after another, each from its side, and delivers it."""
    for message in messages:
        if type(message) in CLIENT_MESSAGES:
            pair.client_sends(message)
            pair.deliver_to_server()
        else:
            pair.server_sends(message)
            pair.deliver_to_client()


# --- the first message


@pytest.mark.parametrize(
    "first",
    [
        ContextOpen(),
        TextAppend(text="Hi"),
        ContextCancel(),
        PlaybackReport(played_ms=0),
        Feedback(score=1),
        Ping(t=1),
        SessionEnd(),
    ],
    ids=lambda message: message.type,
)
def test_any_first_message_starts_the_session_with_defaults(first: ClientMessage) -> None:
    server = Server()
    begins, then = server.hears(first)
    assert begins == Received(SessionStart())
    assert isinstance(then, Received)
    assert then.message == first
    assert [item.message for item in server.hears(Ping()) if isinstance(item, Received)] == [Ping()]


@pytest.mark.parametrize(
    "first", [b"nonsense", b"[]", b'{"type":"nonsense"}', b'{"type":"session.start","marks":1}']
)
def test_a_first_message_that_is_wrong_starts_the_session_and_is_refused(first: bytes) -> None:
    begins, refused = Server().core.receive_text(first)
    assert begins == Received(SessionStart())
    assert isinstance(refused, Violation)
    assert refused.close_code is None


def test_a_first_message_that_is_binary_starts_the_session_and_is_refused() -> None:
    begins, refused = Server().core.receive_binary()
    assert begins == Received(SessionStart())
    assert isinstance(refused, Violation)


def test_a_first_message_about_nothing_that_is_open_starts_the_session_and_is_refused() -> None:
    begins, refused = Server().hears(TextEnd())
    assert begins == Received(SessionStart())
    assert isinstance(refused, Violation)


def test_a_session_start_is_taken_as_it_is() -> None:
    start = SessionStart(voice="v", marks=True)
    assert Server().hears(start) == [Received(start)]


@pytest.mark.parametrize("first", [SessionStart(), Ping()])
def test_a_second_session_start_is_a_bad_request_that_ends_nothing(first: ClientMessage) -> None:
    server = Server()
    server.hears(first)
    server.opens("a")
    [refused] = server.hears(SessionStart())
    assert isinstance(refused, Violation)
    assert refused.error.code is ErrorCode.BAD_REQUEST
    assert refused.close_code is None
    assert server.core.context_state("a") is ContextState.OPEN
    assert server.hears(Ping()) == [Received(Ping())]


def test_a_client_starts_its_session_once_and_first() -> None:
    client = ClientConnection()
    client.send(SessionStart())
    with pytest.raises(LocalProtocolError):
        client.send(SessionStart())
    client = ClientConnection()
    client.send(Ping())
    with pytest.raises(LocalProtocolError):
        client.send(SessionStart())


# --- malformed messages


MALFORMED = [b"nonsense", b"[]", None, b"", b"1"]  # None is binary


def _hears_malformed(core: ServerConnection, data: bytes | None) -> int | None:
    refused = (core.receive_binary() if data is None else core.receive_text(data))[-1]
    assert isinstance(refused, Violation)
    assert isinstance(refused.error, NotAMessage)
    return refused.close_code


def test_the_fifth_malformed_message_in_a_row_closes_with_1003(server: Server) -> None:
    assert [_hears_malformed(server.core, data) for data in MALFORMED] == [None, None, None, None, 1003]


@pytest.mark.parametrize(
    "good",
    [
        b'{"type":"ping"}',
        b'{"type":"text.append","text":"Hi"}',
        b'{"type":"text.end"}',
        b'{"type":"text.append"}',
        b'{"type":"nonsense"}',
        b"{}",
    ],
)
def test_any_object_breaks_the_row_of_malformed_messages(server: Server, good: bytes) -> None:
    for _ in range(3):
        assert [_hears_malformed(server.core, data) for data in MALFORMED[:4]] == [None] * 4
        server.core.receive_text(good)


def test_wrong_objects_close_nothing_however_many(server: Server) -> None:
    for _ in range(20):
        [refused] = server.core.receive_text(b'{"type":"text.append"}')
        assert isinstance(refused, Violation)
        assert refused.close_code is None


def test_text_that_is_not_utf_8_closes_with_1007(server: Server) -> None:
    [refused] = server.core.receive_text(b'{"type":"ping","t":"\xff"}')
    assert isinstance(refused, Violation)
    assert refused.close_code == 1007


def test_a_malformed_message_leaves_contexts_as_they_are(server: Server) -> None:
    index = server.opens("a")
    server.core.receive_binary()
    server.core.receive_text(b"nonsense")
    assert server.hears(TextAppend(context_id="a", text="x")) == [
        Received(TextAppend(context_id="a", text="x"), index)
    ]


# --- the client's numbers


def test_a_repeated_number_is_ignored_and_changes_nothing(server: Server) -> None:
    append = TextAppend(context_id="a", text="Hi", n=1)
    opened = server.hears(append)
    server.core.send(started("a", 0))
    end = TextEnd(context_id="a", n=2)
    assert [*opened, *server.hears(end)] == [Received(append, 0, opens=True), Received(end, 0)]
    for repeated in (
        append,
        end,
        ContextCancel(context_id="a", n=2),
        ContextCancel(n=1),
        ContextOpen(context_id="b", n=2),
    ):
        assert server.hears(repeated) == []
    assert server.core.context_state("a") is ContextState.ENDING
    assert server.core.context_state("b") is ContextState.FREE
    assert server.core.last_n == 2


def test_numbers_may_be_left_out_and_may_jump(server: Server) -> None:
    server.opens("a")
    taken = [TextAppend(context_id="a", text="x", n=n) for n in (5, None, 6, 1000, None)]
    assert [item for message in taken for item in server.hears(message)] == [
        Received(message, 0) for message in taken
    ]
    assert server.core.last_n == 1000


def test_a_client_numbers_what_is_about_contexts_and_nothing_else() -> None:
    client = ClientConnection()
    sent = [
        client.send(message)
        for message in (
            SessionStart(),
            TextAppend(text="a"),
            Ping(),
            TextFlush(),
            PlaybackReport(played_ms=0),
            TextEnd(),
            ContextCancel(),
        )
    ]
    assert [json.loads(data).get("n") for data in sent] == [None, 1, None, 2, None, 3, 4]


# --- ends of contexts


def test_text_for_a_failed_context_is_dropped_until_it_is_opened_again(server: Server) -> None:
    server.fails("a")
    for message in (TextAppend(context_id="a", text="x"), TextFlush(context_id="a"), TextEnd(context_id="a")):
        assert server.hears(message) == []
    assert server.core.live_contexts == 0
    assert server.opens("a") == 1
    assert server.hears(TextAppend(context_id="a", text="x")) == [
        Received(TextAppend(context_id="a", text="x"), 1)
    ]


@pytest.mark.parametrize("cancel", [ContextCancel(context_id="a"), ContextCancel()])
def test_a_cancel_frees_the_id_of_a_failed_context(server: Server, cancel: ContextCancel) -> None:
    server.fails("a")
    server.hears(cancel)
    assert server.core.context_state("a") is ContextState.FREE
    [received] = server.hears(TextAppend(context_id="a", text="x"))
    assert isinstance(received, Received)
    assert received.opens


@pytest.mark.parametrize("cancel", [ContextCancel(context_id="a"), ContextCancel()])
def test_a_cancel_that_crosses_a_failure_leaves_both_sides_with_a_free_id(cancel: ContextCancel) -> None:
    pair = ConnectionPair()
    exchange(pair, TextAppend(context_id="a", text="x"), started("a", 0))
    pair.server_sends(failed("a", 0))
    pair.client_sends(cancel)
    pair.client_sends(TextAppend(context_id="a", text="y"))
    pair.deliver_to_server()
    [opened] = pair.deliver_to_server()
    assert isinstance(opened, Received)
    assert opened.opens
    assert opened.index == 1
    assert pair.deliver_to_client().generation == 1
    pair.server_sends(started("a", 1))
    assert pair.deliver_to_client().generation == 2


def test_a_client_does_not_write_to_a_context_it_knows_to_have_failed() -> None:
    pair = ConnectionPair()
    exchange(pair, TextAppend(context_id="a", text="x"), started("a", 0), failed("a", 0))
    assert pair.client.generation_of("a") is None
    for message in (TextAppend(context_id="a", text="x"), TextFlush(context_id="a"), TextEnd(context_id="a")):
        with pytest.raises(LocalProtocolError):
            pair.client.send(message)
    exchange(pair, ContextOpen(context_id="a"), started("a", 1))
    assert pair.client.generation_of("a") == 2


def test_a_failed_context_that_was_opened_again_is_not_held_against_its_id(server: Server) -> None:
    server.fails("a")
    index = server.opens("a")
    server.hears(ContextCancel(context_id="a"))
    server.core.send(cancelled("a", index))
    assert server.core.context_state("a") is ContextState.FREE


@pytest.mark.parametrize("how", ["cancelled", "cancelled after failing", "failed after a cancel", "done"])
def test_a_client_keeps_nothing_of_ids_that_are_free_again(how: str) -> None:
    pair = ConnectionPair()
    for index in range(20):
        context_id = f"context-{index}"
        cancel = ContextCancel(context_id=context_id)
        exchange(pair, TextAppend(context_id=context_id, text="x"), started(context_id, index))
        if how == "cancelled":
            exchange(pair, cancel, cancelled(context_id, index))
        elif how == "cancelled after failing":
            exchange(pair, failed(context_id, index), cancel)
        elif how == "failed after a cancel":
            pair.server_sends(failed(context_id, index))
            exchange(pair, cancel)
            pair.deliver_to_client()
        else:
            exchange(pair, TextEnd(context_id=context_id), done(context_id, index))
    assert not pair.client._mine


def test_failures_are_remembered_up_to_a_limit(server: Server) -> None:
    for number in range(MAX_REMEMBERED_FAILURES + 1):
        server.fails(str(number))
    assert server.core.context_state("0") is ContextState.FREE
    assert server.core.context_state("1") is ContextState.FAILED
    assert server.core.context_state(str(MAX_REMEMBERED_FAILURES)) is ContextState.FAILED


def test_a_cancel_of_what_never_existed_is_ignored(server: Server) -> None:
    assert server.hears(ContextCancel(context_id="a")) == []
    index = server.opens("a")
    server.hears(ContextCancel(context_id="a"))
    server.core.send(cancelled("a", index))
    assert server.hears(ContextCancel(context_id="a")) == []
    assert server.core.live_contexts == 0


def test_a_cancel_without_an_id_is_left_to_the_session(server: Server) -> None:
    indexes = [server.opens("a"), server.opens("b"), server.finishes("c")]
    assert server.hears(ContextCancel(played_ms=7)) == [Received(ContextCancel(played_ms=7))]
    assert server.core.live_contexts == 2
    for context_id, index in zip("abc", indexes, strict=True):
        server.core.cancel(index)
        server.core.send(cancelled(context_id, index))
    assert server.core.live_contexts == 0
    assert all(server.core.context_state(context_id) is ContextState.FREE for context_id in "abc")


def test_a_context_that_is_done_can_be_cancelled_once() -> None:
    pair = ConnectionPair()
    exchange(
        pair,
        TextAppend(context_id="a", text="x"),
        started("a", 0),
        TextEnd(context_id="a"),
        done("a", 0),
    )
    pair.client_sends(ContextCancel(context_id="a"))
    [received] = pair.deliver_to_server()
    assert isinstance(received, Received)
    assert received.index == 0
    pair.server_sends(cancelled("a", 0))
    assert pair.deliver_to_client().generation == 1
    pair.client_sends(ContextCancel(context_id="a"))
    assert pair.deliver_to_server() == []


def test_a_context_done_and_forgotten_is_not_cancelled(server: Server) -> None:
    server.core.forget(server.finishes("a"))
    assert server.hears(ContextCancel(context_id="a")) == []


def test_a_live_context_is_not_forgotten(server: Server) -> None:
    index = server.opens("a")
    server.core.forget(index)
    assert server.core.context_state("a") is ContextState.OPEN


def test_the_same_id_may_be_used_again_while_the_done_one_can_be_cancelled() -> None:
    pair = ConnectionPair()
    exchange(pair, TextAppend(context_id="a", text="x"), started("a", 0), TextEnd(context_id="a"))
    exchange(pair, done("a", 0), TextAppend(context_id="a", text="y"), started("a", 1))
    pair.client_sends(ContextCancel())
    assert pair.deliver_to_server() == [Received(ContextCancel(n=4))]
    for index in (0, 1):
        pair.server.cancel(index)
        pair.server_sends(cancelled("a", index))
    assert [pair.deliver_to_client().generation for _ in range(2)] == [1, 2]


def test_a_cancel_by_id_is_about_the_last_context_of_that_id(server: Server) -> None:
    server.finishes("a")
    server.opens("a")
    [received] = server.hears(ContextCancel(context_id="a"))
    assert isinstance(received, Received)
    assert received.index == 1
    server.core.send(cancelled("a", 1))
    # The done one keeps its index, but its id has come to mean the other.
    assert server.hears(ContextCancel(context_id="a")) == []


def test_forgetting_the_done_one_leaves_the_new_context_of_its_id_alone(server: Server) -> None:
    old, new = server.finishes("a"), server.opens("a")
    server.core.forget(old)
    assert server.hears(TextFlush(context_id="a")) == [Received(TextFlush(context_id="a"), new)]


def test_a_done_that_crosses_a_cancel_is_followed_by_its_answer() -> None:
    pair = ConnectionPair()
    exchange(pair, TextAppend(context_id="a", text="x"), started("a", 0), TextEnd(context_id="a"))
    pair.server_sends_frame(0, 0, b"xx", last=True)
    pair.server_sends(done("a", 0))
    pair.client_sends(ContextCancel(context_id="a"))
    pair.client_sends(TextAppend(context_id="a", text="y"))
    pair.deliver_to_server()
    pair.server_sends(cancelled("a", 0))
    pair.deliver_to_server()
    pair.server_sends(started("a", 1))
    events = [pair.deliver_to_client() for _ in range(4)]
    assert [(type(event.message), event.generation) for event in events] == [
        (AudioFrame, 1),
        (ContextDone, 1),
        (ContextCancelled, 1),
        (ContextStarted, 2),
    ]
    assert events[0].stale
    assert not events[-1].stale


def test_a_flush_that_crosses_done_is_refused_and_ends_nothing() -> None:
    pair = ConnectionPair()
    exchange(pair, TextAppend(context_id="a", text="x"), started("a", 0), TextEnd(context_id="a"))
    pair.server_sends(done("a", 0))
    pair.client_sends(TextFlush(context_id="a"))
    [refused] = pair.deliver_to_server()
    assert isinstance(refused, Violation)
    assert refused.close_code is None
    assert pair.server.context_state("a") is ContextState.DONE


def test_text_after_the_end_of_text_is_a_bad_request_that_ends_nothing(server: Server) -> None:
    server.opens("a")
    server.hears(TextEnd(context_id="a"))
    for message in (
        TextAppend(context_id="a", text="x"),
        TextEnd(context_id="a"),
        ContextOpen(context_id="a"),
    ):
        [refused] = server.hears(message)
        assert isinstance(refused, Violation)
        assert refused.error.code is ErrorCode.BAD_REQUEST
        assert "has ended" in str(refused.error)
    assert server.core.context_state("a") is ContextState.ENDING


def test_the_end_of_the_session_ends_the_text_of_open_contexts(server: Server) -> None:
    opened, ending, finished = server.opens("a"), server.opens("b"), server.finishes("c")
    server.hears(TextEnd(context_id="b"))
    assert server.hears(SessionEnd()) == [Received(SessionEnd())]
    for index in (opened, ending, finished):
        server.core.end_text(index)
    server.core.send(done("a", opened))
    server.core.send(done("b", ending))
    assert server.core.live_contexts == 0


# --- audio


def test_flags_of_audio_frames_set_themselves(server: Server) -> None:
    index = server.opens("a")
    frames = [wire.decode_frame(server.core.send_frame(index, pts, b"xx", last=pts == 2)) for pts in range(3)]
    assert [(frame.first, frame.last, frame.seq, frame.pts) for frame in frames] == [
        (True, False, 1, 0),
        (False, False, 2, 1),
        (False, True, 3, 2),
    ]
    assert {frame.context_index for frame in frames} == {index}


def test_no_audio_follows_the_last_flag(server: Server) -> None:
    index = server.opens("a")
    server.core.send_frame(index, 0, b"xx", last=True)
    with pytest.raises(LocalProtocolError):
        server.core.send_frame(index, 1, b"xx")
    assert server.core.last_seq == 1


def test_a_client_refuses_audio_after_the_last_flag() -> None:
    pair = ConnectionPair()
    exchange(pair, TextAppend(context_id="a", text="x"), started("a", 0))
    pair.server_sends_frame(0, 0, b"xx", last=True)
    pair.deliver_to_client()
    with pytest.raises(RemoteProtocolError):
        pair.client.receive_binary(wire.encode_frame(AudioFrame(0, 2, 1, b"xx")))


def test_there_is_no_audio_for_an_index_that_never_was(server: Server) -> None:
    with pytest.raises(LocalProtocolError):
        server.core.send_frame(0, 0, b"xx")
    with pytest.raises(RemoteProtocolError):
        ClientConnection().receive_binary(wire.encode_frame(AudioFrame(0, 1, 0, b"xx")))


def test_frame_numbers_wrap_to_one_since_none_is_zero() -> None:
    pair = ConnectionPair()
    exchange(pair, TextAppend(context_id="a", text="x"), started("a", 0))
    pair.server.last_seq = pair.client.last_seq = SEQ_MODULUS - 3
    seqs = []
    for pts in range(4):
        pair.server_sends_frame(0, pts, b"xx")
        frame = pair.deliver_to_client().message
        assert isinstance(frame, AudioFrame)
        seqs.append(frame.seq)
    assert seqs == [SEQ_MODULUS - 2, SEQ_MODULUS - 1, 1, 2]


def test_the_position_of_a_frame_wraps(server: Server) -> None:
    index = server.opens("a")
    frame = wire.decode_frame(server.core.send_frame(index, SEQ_MODULUS + 480, b"xx"))
    assert frame.pts == 480


@pytest.mark.parametrize("seq", [0, 2, 7])
def test_a_client_refuses_a_frame_out_of_turn_unless_it_says_so(seq: int) -> None:
    for gap in (False, True):
        pair = ConnectionPair()
        exchange(pair, TextAppend(context_id="a", text="x"), started("a", 0))
        data = wire.encode_frame(AudioFrame(0, seq, 0, b"xx", gap=gap))
        if gap:
            pair.client.receive_binary(data)
            assert pair.client.last_seq == seq
        else:
            with pytest.raises(RemoteProtocolError, match=f"frame {seq} follows frame 0"):
                pair.client.receive_binary(data)


# --- indexes


def test_indexes_wrap_and_skip_contexts_that_are_live_or_can_be_cancelled(server: Server) -> None:
    live, kept, forgotten = server.opens("live"), server.finishes("kept"), server.finishes("forgotten")
    assert (live, kept, forgotten) == (0, 1, 2)
    server.core.forget(forgotten)
    opening, cancel = (
        wire.encode_message(TextAppend(text="x")),
        wire.encode_message(ContextCancel(context_id="default")),
    )
    indexes = []
    for _ in range(CONTEXT_INDEXES):
        [received] = server.core.receive_text(opening)
        assert isinstance(received, Received)
        assert received.index is not None
        indexes.append(received.index)
        server.core.send(started("default", received.index))
        server.core.receive_text(cancel)
        server.core.send(cancelled("default", received.index))
    assert indexes == [*range(3, CONTEXT_INDEXES), 2, 3, 4]


def test_a_client_takes_the_index_of_a_done_context_for_a_new_one() -> None:
    pair = ConnectionPair()
    exchange(pair, TextAppend(context_id="a", text="x"), started("a", 0), TextEnd(context_id="a"))
    exchange(pair, done("a", 0), TextAppend(context_id="b", text="x"))
    event = pair.client.receive_text(
        wire.encode_message(dataclasses.replace(started("b", 0), ev=pair.client.last_ev + 1))
    )
    assert (event.context_id, event.generation) == ("b", 2)


def test_a_client_refuses_an_index_that_is_in_use() -> None:
    pair = ConnectionPair()
    exchange(
        pair, TextAppend(context_id="a", text="x"), started("a", 0), TextAppend(context_id="b", text="x")
    )
    with pytest.raises(RemoteProtocolError, match="in use"):
        pair.client.receive_text(
            wire.encode_message(dataclasses.replace(started("b", 0), ev=pair.client.last_ev + 1))
        )


# --- numbers of messages, and whom they name


def test_messages_after_session_started_are_numbered_from_one(server: Server) -> None:
    core = server.core
    numbers = [json.loads(core.send(message)).get("ev") for message in (STARTED, Pong(), Pong())]
    assert numbers == [None, 1, 2]
    assert core.last_ev == 2


@pytest.mark.parametrize("ev", [0, 1, 3, -1])
def test_a_client_refuses_a_message_out_of_turn(ev: int) -> None:
    client = ClientConnection()
    client.receive_text(wire.encode_message(STARTED))
    client.receive_text(wire.encode_message(Pong(ev=1)))
    with pytest.raises(RemoteProtocolError):
        client.receive_text(wire.encode_message(Pong(ev=ev)))


def test_an_error_or_warning_about_a_live_context_carries_its_index(server: Server) -> None:
    index = server.opens("b") + server.opens("a")
    server.hears(TextEnd(context_id="a"))
    warning = Warning(code=ErrorCode.UNSUPPORTED_PARAMETER, message="m", context_id="a")
    for message in (failed("a", None, "none"), warning):
        assert json.loads(server.core.send(message))["context_index"] == index
    assert server.core.context_state("a") is ContextState.ENDING


def test_an_error_about_an_id_that_is_not_live_carries_no_index(server: Server) -> None:
    server.finishes("done")
    server.hears(ContextOpen(context_id="opening"))
    for context_id in ("done", "opening", "unknown", None):
        assert "context_index" not in json.loads(server.core.send(failed(context_id, None, "none")))


def test_an_error_that_ends_nothing_ends_nothing() -> None:
    pair = ConnectionPair()
    exchange(pair, TextAppend(context_id="a", text="x"), started("a", 0))
    pair.server_sends(failed("a", 0, "none"))
    event = pair.deliver_to_client()
    assert (event.context_id, event.generation) == ("a", 1)
    assert pair.client.generation_of("a") == 1
    exchange(pair, TextEnd(context_id="a"), done("a", 0))


def test_an_ending_error_ends_a_context_that_lives(server: Server) -> None:
    with pytest.raises(LocalProtocolError):
        server.core.send(failed(None, None))
    with pytest.raises(LocalProtocolError):
        server.core.send(failed("a", None))
    server.opens("a")
    server.core.send(failed("a", None))
    assert server.core.context_state("a") is ContextState.FAILED


def test_a_client_refuses_a_message_whose_id_and_index_disagree() -> None:
    pair = ConnectionPair()
    exchange(pair, TextAppend(context_id="a", text="x"), started("a", 0))
    with pytest.raises(RemoteProtocolError):
        pair.client.receive_text(
            wire.encode_message(ContextFlushed(ev=2, context_id="b", context_index=0, audio_ms=0))
        )


def test_a_client_refuses_a_context_it_did_not_open() -> None:
    with pytest.raises(RemoteProtocolError, match="not opened"):
        ClientConnection().receive_text(wire.encode_message(dataclasses.replace(started("a", 0), ev=1)))


def test_what_comes_for_a_context_cancelled_here_is_stale() -> None:
    pair = ConnectionPair()
    exchange(pair, TextAppend(context_id="a", text="x"))
    pair.server_sends(started("a", 0))
    pair.server_sends_frame(0, 0, b"xx")
    pair.deliver_to_client()
    assert not pair.deliver_to_client().stale
    pair.server_sends_frame(0, 1, b"xx")
    pair.client_sends(ContextCancel(context_id="a"))
    assert pair.client.generation_of("a") is None
    assert pair.deliver_to_client().stale


def test_an_id_is_free_as_soon_as_it_is_cancelled() -> None:
    pair = ConnectionPair()
    for _ in range(3):
        pair.client_sends(TextAppend(context_id="a", text="x"))
        pair.client_sends(ContextCancel(context_id="a"))
    for index in range(3):
        pair.deliver_to_server()
        pair.server_sends(started("a", index))
        pair.deliver_to_server()
        pair.server_sends(cancelled("a", index))
    events = [pair.deliver_to_client() for _ in range(6)]
    assert [event.generation for event in events] == [1, 1, 2, 2, 3, 3]


# --- the end of the session


ENDED = SessionEnded(reason="ended", audio_ms=0, characters=0)


def test_nothing_is_said_or_taken_after_session_ended() -> None:
    pair = ConnectionPair()
    exchange(pair, SessionStart(), STARTED, SessionEnd(), ENDED)
    with pytest.raises(LocalProtocolError):
        pair.client.send(Ping())
    for message in (Pong(), STARTED, ENDED):
        with pytest.raises(LocalProtocolError):
            pair.server.send(message)
    with pytest.raises(LocalProtocolError):
        pair.server.send_frame(0, 0, b"")
    for data in (b'{"type":"ping"}', b"nonsense", b"\xff", wire.encode_message(TextAppend(text="x"))):
        assert pair.server.receive_text(data) == []
    assert pair.server.receive_binary() == []
    for message in (Pong(ev=2), STARTED):
        with pytest.raises(RemoteProtocolError, match="after the end of the session"):
            pair.client.receive_text(wire.encode_message(message))
    with pytest.raises(RemoteProtocolError, match="after the end of the session"):
        pair.client.receive_binary(wire.encode_frame(AudioFrame(0, 1, 0, b"")))


def test_a_session_does_not_end_before_its_contexts() -> None:
    pair = ConnectionPair()
    exchange(pair, TextAppend(context_id="a", text="x"), started("a", 0))
    with pytest.raises(LocalProtocolError):
        pair.server.send(ENDED)
    with pytest.raises(RemoteProtocolError, match="before the end"):
        pair.client.receive_text(wire.encode_message(dataclasses.replace(ENDED, ev=2)))


def test_text_goes_on_for_other_contexts_after_one_has_failed(server: Server) -> None:
    server.opens("b")
    server.fails("a")
    assert server.hears(TextAppend(context_id="b", text="x")) == [
        Received(TextAppend(context_id="b", text="x"), 0)
    ]
