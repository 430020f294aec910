"""Every state meets every message: what the tables have is taken, what they lack refused, at both ends."""

import dataclasses
from typing import Any

import pytest

from cosyduplex import wire
from cosyduplex.connection import ClientConnection, Received, ServerEvent, Violation
from cosyduplex.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from cosyduplex.messages import (
    AudioFrame,
    ContextCancel,
    ContextCancelled,
    ContextDone,
    ContextFlushed,
    ContextOpen,
    ContextStarted,
    Error,
    Marks,
    TextAppend,
    TextEnd,
    TextFlush,
    Warning,
)
from cosyduplex.states import CLIENT, LIVE, SERVER, ContextState
from cosyduplex.testing import ConnectionPair

S = ContextState

SAID_BY_CLIENT: list[Any] = [
    ContextOpen(context_id="a"),
    TextAppend(context_id="a", text="Hi"),
    TextFlush(context_id="a"),
    TextEnd(context_id="a"),
    ContextCancel(context_id="a"),
]
FAILURE: dict[str, Any] = {
    "code": ErrorCode.ENGINE_FAILED,
    "message": "",
    "solution": "",
    "retryable": True,
    "context_id": "a",
    "context_index": 0,
}
DONE: dict[str, Any] = {
    "audio_ms": 0,
    "characters": 0,
    "ttfa_ms": None,
    "ttfa_enough_ms": None,
    "underruns": 0,
}
ABOUT_A: dict[str, Any] = {"context_id": "a", "context_index": 0}
SAID_BY_SERVER: list[Any] = [
    ContextStarted(**ABOUT_A),
    AudioFrame(context_index=0, seq=1, pts=0, payload=b""),
    Marks(**ABOUT_A, words=(), exact=True),
    ContextFlushed(**ABOUT_A, audio_ms=0),
    Warning(**ABOUT_A, code=ErrorCode.UNSUPPORTED_PARAMETER, message=""),
    ContextDone(**ABOUT_A, **DONE),
    ContextCancelled(**ABOUT_A, sent_ms=0, spoken_chars=0, estimated=True),
    Error(**FAILURE, ends="context"),
]


def pair_in(state: ContextState) -> ConnectionPair:
    """A pair whose context "a" of index 0 stands there at both ends, with nothing in flight."""
    pair = ConnectionPair()
    if state is S.FREE:
        return pair
    _say(pair, ContextOpen(context_id="a"))
    if state is S.OPENING:
        return pair
    _answer(pair, SAID_BY_SERVER[0])
    if state in (S.ENDING, S.DONE):
        _say(pair, TextEnd(context_id="a"))
    if state is S.DONE:
        _answer(pair, ContextDone(**ABOUT_A, **DONE))
    elif state is S.FAILED:
        _answer(pair, Error(**FAILURE, ends="context"))
    elif state is S.CANCELLING:
        _say(pair, ContextCancel(context_id="a"))
    assert pair.server.context_state("a") is state
    return pair


def _say(pair: ConnectionPair, message: Any) -> None:
    pair.client_sends(message)
    pair.deliver_to_server()


def _answer(pair: ConnectionPair, message: Any) -> None:
    pair.server_sends(message)
    pair.deliver_to_client()


def _name(item: Any) -> str:
    return item.name if isinstance(item, ContextState) else type(item).__name__


every_state = pytest.mark.parametrize("state", S, ids=_name)


@every_state
@pytest.mark.parametrize("message", SAID_BY_CLIENT, ids=_name)
def test_the_server_takes_what_the_clients_table_has(state: ContextState, message: Any) -> None:
    server = pair_in(state).server
    event = server.receive_text(wire.encode_message(message))
    after = CLIENT.get(state, {}).get(type(message))
    if after is None:
        [violation] = [item for item in event if not _begins(item)]
        assert isinstance(violation, Violation)
        assert violation.error.context_id == "a"
        assert violation.error.code is ErrorCode.BAD_REQUEST
        assert violation.close_code is None
        assert server.context_state("a") is state
    else:
        assert not any(isinstance(item, Violation) for item in event)
        assert server.context_state("a") is after


def _begins(item: Received | Violation) -> bool:
    """Whether it is the session's start, which whatever comes first stands for."""
    return isinstance(item, Received) and item.message.type == "session.start"


@every_state
@pytest.mark.parametrize("message", SAID_BY_CLIENT, ids=_name)
def test_the_client_says_what_its_table_has(state: ContextState, message: Any) -> None:
    pair = pair_in(state)
    # The client need not wait for answers: what it has opened is open, what it has cancelled is free.
    # Text for a failed context, which the server drops, is a mistake of whoever knows.
    row = CLIENT[{S.OPENING: S.OPEN, S.CANCELLING: S.FREE, S.DONE: S.FREE}.get(state, state)]
    if row.get(type(message), S.FAILED) is S.FAILED:
        with pytest.raises(LocalProtocolError):
            pair.client_sends(message)
        assert pair.in_flight == (0, 0)
    else:
        pair.client_sends(message)
        assert pair.in_flight == (1, 0)


@every_state
@pytest.mark.parametrize("message", SAID_BY_SERVER, ids=_name)
def test_the_server_says_what_its_table_has(state: ContextState, message: Any) -> None:
    pair = pair_in(state)
    after = SERVER.get(state, {}).get(type(message))
    numbers = (pair.server.last_ev, pair.server.last_seq)
    if after is None:
        with pytest.raises(LocalProtocolError):
            _send(pair, message)
        assert pair.in_flight == (0, 0)
        assert numbers == (pair.server.last_ev, pair.server.last_seq)
        assert pair.server.context_state("a") is state
    else:
        _send(pair, message)
        assert pair.in_flight == (0, 1)
        assert pair.server.context_state("a") is after


def _send(pair: ConnectionPair, message: Any) -> None:
    if isinstance(message, AudioFrame):
        pair.server_sends_frame(message.context_index, message.pts, message.payload)
    else:
        pair.server_sends(message)


# What the client takes where that differs from the server's row: a cancel may cross what the server had
# said before it, or, without an id, be about a context that is done.
ALSO_TAKEN: dict[ContextState, dict[type[Any], ContextState]] = {
    S.CANCELLING: SERVER[S.OPEN],
    S.DONE: SERVER[S.CANCELLING],
}


@every_state
@pytest.mark.parametrize("message", SAID_BY_SERVER, ids=_name)
def test_the_client_takes_what_the_servers_table_has(state: ContextState, message: Any) -> None:
    client = pair_in(state).client
    allowed = {**SERVER.get(state, {}), **ALSO_TAKEN.get(state, {})}
    if type(message) not in allowed:
        with pytest.raises(RemoteProtocolError):
            _receive(client, message)
        return
    event = _receive(client, message)
    assert (event.context_id, event.generation) == ("a", 1)


def _receive(client: ClientConnection, message: Any) -> ServerEvent:
    if isinstance(message, AudioFrame):
        return client.receive_binary(wire.encode_frame(message))
    numbered = dataclasses.replace(message, ev=client.last_ev + 1)
    return client.receive_text(wire.encode_message(numbered))


def test_a_context_has_no_way_out_but_its_three_ends() -> None:
    ways_out = {
        message for state in LIVE for message, after in SERVER.get(state, {}).items() if after not in LIVE
    }
    assert ways_out == {ContextDone, ContextCancelled, Error}
    assert all(after in LIVE for state in LIVE for after in CLIENT.get(state, {}).values())


@pytest.mark.parametrize("state", sorted(LIVE, key=lambda state: state.value), ids=_name)
def test_every_live_context_can_still_end(state: ContextState) -> None:
    reachable, frontier = {state}, [state]
    while frontier:
        here = frontier.pop()
        for after in (*SERVER.get(here, {}).values(), *CLIENT.get(here, {}).values()):
            if after not in reachable:
                reachable.add(after)
                frontier.append(after)
    assert reachable - LIVE


def test_audio_is_for_live_contexts_alone() -> None:
    taking = {state for state, row in SERVER.items() if AudioFrame in row}
    assert taking == {S.OPEN, S.ENDING}
    assert all(SERVER[state][AudioFrame] is state for state in taking)
