"""Both ends of a session say whatever they may, while what the other said is still under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cosyduplex import connection
from cosyduplex.connection import SEQ_MODULUS, Received, ServerEvent, Violation
from cosyduplex.errors import ErrorCode, LocalProtocolError
from cosyduplex.messages import (
    AudioFrame,
    ClientMessage,
    ContextCancel,
    ContextCancelled,
    ContextDone,
    ContextFlushed,
    ContextOpen,
    ContextStarted,
    Error,
    Limits,
    Marks,
    NegotiatedAudio,
    Ping,
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
    WordMark,
)
from cosyduplex.states import LIVE, ContextState
from cosyduplex.testing import ConnectionPair

SAMPLES = 4
MAX_DONE_KEPT = 2
FEW_INDEXES = 3 + MAX_DONE_KEPT + 1  # three ids live, the done ones, and one over while another is made
# What a client may want to say; what brings contexts to their ends stands here more often.
CLIENT_SAYS: list[ClientMessage] = [
    *(ContextOpen(context_id=context_id) for context_id in "abc"),
    *(TextAppend(context_id=context_id, text="x") for context_id in "abcabc"),
    *(TextFlush(context_id=context_id) for context_id in "abc"),
    *(TextEnd(context_id=context_id) for context_id in "abcabcabc"),
    *(ContextCancel(context_id=context_id) for context_id in "abc"),
    ContextCancel(),
    Ping(t=1),
]
STEPS = {
    "client_speaks": 8,
    "client_may_not_say": 1,
    "client_ends_the_session": 1,
    "server_acts": 10,
    "server_forgets": 1,
    "client_is_heard": 6,
    "server_is_heard": 6,
}
HABITS = {
    "prompt": STEPS,
    "deaf client": STEPS | {"server_is_heard": 1},
    "deaf server": STEPS | {"client_is_heard": 1},
    "both deaf": STEPS | {"client_is_heard": 2, "server_is_heard": 2},
}


@dataclass
class Speaking:
    """A context as a server keeps it, from its opening to its end; done ones while a cancel is answered.

    Attributes:
        opening: which opening of its id it is, from 1; said in every payload and mark.
    """

    context_id: str
    index: int
    opening: int
    pts: int = 0
    words: int = 0
    due_flushes: int = 0
    text_ended: bool = False
    has_last: bool = False

    @property
    def token(self) -> str:
        return f"{self.context_id}{self.opening}"


class Server:
    """A server as small as can be that does what the real one does, and obeys at once."""

    def __init__(self, pair: ConnectionPair) -> None:
        self.pair = pair
        self.live: dict[int, Speaking] = {}
        self.done: dict[int, Speaking] = {}
        self.openings: dict[str, int] = {}
        self.ending = False
        self.ended = False

    def obey(self, event: Received | Violation) -> None:
        if isinstance(event, Violation):
            self._refuse(event)
            return
        message = event.message
        if event.opens:
            assert event.index is not None
            assert isinstance(message, ContextOpen | TextAppend)
            self._open(message.context_id, event.index)
        elif event.index is not None:
            self._obey_about_context(message, event.index)
        else:
            self._obey_about_session(message)

    def _refuse(self, violation: Violation) -> None:
        """The one thing a lawful client is refused: a flush behind text.end that crossed context.done."""
        assert str(violation.error).startswith("text.flush")
        assert violation.close_code is None
        context_id = violation.error.context_id
        assert context_id is not None
        assert self.pair.server.context_state(context_id) in (ContextState.DONE, ContextState.FREE)
        self.say(
            Error(
                code=violation.error.code,
                message=str(violation.error),
                solution="",
                retryable=False,
                context_id=context_id,
                ends="none",
            )
        )

    def _open(self, context_id: str, index: int) -> None:
        assert index not in self.live
        assert index not in self.done
        assert all(context.context_id != context_id for context in self.live.values())
        self.openings[context_id] = self.openings.get(context_id, 0) + 1
        context = Speaking(context_id, index, self.openings[context_id])
        self.live[index] = context
        self.say(ContextStarted(context_id=context_id, context_index=index))
        if self.ending:
            self.fail(context)

    def _obey_about_context(self, message: ClientMessage, index: int) -> None:
        if isinstance(message, ContextCancel):
            self.cancel(index)
            return
        context = self.live[index]
        if isinstance(message, TextFlush):
            context.due_flushes += 1
        elif isinstance(message, TextEnd):
            assert not context.text_ended
            context.text_ended = True

    def _obey_about_session(self, message: ClientMessage) -> None:
        if isinstance(message, SessionStart):
            self.say(STARTED)
        elif isinstance(message, Ping):
            self.say(Pong(t=message.t))
        elif isinstance(message, SessionEnd):
            self.ending = True
            for index, context in self.live.items():
                self.pair.server.end_text(index)
                context.text_ended = True
        elif isinstance(message, ContextCancel):
            # Those of an odd index have been heard to their end.
            for index in [*self.live, *(index for index in self.done if index % 2 == 0)]:
                self.pair.server.cancel(index)
                self.cancel(index)

    def cancel(self, index: int) -> None:
        context = self.live.pop(index, None) or self.done.pop(index)
        self.say(
            ContextCancelled(
                context_id=context.context_id,
                context_index=index,
                sent_ms=context.pts,
                spoken_chars=0,
                estimated=True,
            )
        )

    def fail(self, context: Speaking) -> None:
        del self.live[context.index]
        self.say(failure(context, "context"))

    def finish(self, context: Speaking) -> None:
        while context.due_flushes:
            self.flushed(context)
        self.say(
            ContextDone(
                context_id=context.context_id,
                context_index=context.index,
                audio_ms=context.pts,
                characters=0,
                ttfa_ms=None,
                ttfa_enough_ms=None,
                underruns=0,
            )
        )
        self.done[context.index] = self.live.pop(context.index)
        if len(self.done) > MAX_DONE_KEPT:
            self.forget(next(iter(self.done)))

    def forget(self, index: int) -> None:
        self.pair.server.forget(index)
        del self.done[index]

    def flushed(self, context: Speaking) -> None:
        context.due_flushes -= 1
        self.say(
            ContextFlushed(context_id=context.context_id, context_index=context.index, audio_ms=context.pts)
        )

    def speak(self, context: Speaking, *, last: bool) -> None:
        self.pair.server_sends_frame(context.index, context.pts, context.token.encode(), last=last)
        context.pts += SAMPLES
        context.has_last = last

    def mark(self, context: Speaking) -> None:
        word = WordMark(
            text=context.token, start_ms=context.words, end_ms=context.words, char_start=0, char_end=0
        )
        context.words += 1
        self.say(Marks(context_id=context.context_id, context_index=context.index, words=(word,), exact=True))

    def end_session(self) -> None:
        self.ended = True
        self.say(SessionEnded(reason="ended", audio_ms=0, characters=0))

    def say(self, message: ServerMessage) -> None:
        self.pair.server_sends(message)


STARTED = SessionStarted(
    session_id="s",
    resume_token="r",
    resume_window_ms=0,
    resumed=False,
    last_n=0,
    first_seq=1,
    audio=NegotiatedAudio(encoding="pcm_s16le", sample_rate=8000, frame_ms=20),
    voice="v",
    engine="e",
    limits=Limits(),
)


def failure(context: Speaking, ends: Any) -> Error:
    return Error(
        code=ErrorCode.ENGINE_FAILED,
        message="m",
        solution="s",
        retryable=True,
        context_id=context.context_id,
        context_index=context.index,
        ends=ends,
    )


@dataclass
class Heard:
    """One context as the client opened it, and what came of it.

    Attributes:
        token: what its payloads must say.
        cancelled: this side has cancelled it.
        sure_flushes: those asked for before the end of the text; a later one may cross `context.done`.
        ends: the names of the ends that came.
    """

    context_id: str
    token: str
    cancelled: bool = False
    flushes: int = 0
    sure_flushes: int = 0
    flushed: int = 0
    started: bool = False
    pts: int = 0
    words: int = 0
    has_last: bool = False
    ends: list[str] = field(default_factory=list)

    def hear(self, event: ServerEvent) -> None:
        message = event.message
        assert event.context_id == self.context_id
        if isinstance(message, ContextStarted):
            assert not self.started
            self.started = True
        assert self.started
        if isinstance(message, ContextDone | ContextCancelled) or (
            isinstance(message, Error) and message.ends == "context"
        ):
            self._end(message)
            return
        assert not self.ends, f"{message} after the end"
        if isinstance(message, AudioFrame):
            self._hear_audio(message)
        elif isinstance(message, Marks):
            assert [(word.text, word.start_ms) for word in message.words] == [(self.token, self.words)]
            self.words += 1
        elif isinstance(message, ContextFlushed):
            self.flushed += 1
            assert self.flushed <= self.flushes
        if not isinstance(message, Error):
            assert event.stale is self.cancelled

    def _hear_audio(self, frame: AudioFrame) -> None:
        assert frame.payload.decode() == self.token
        assert not self.has_last
        assert frame.first is (self.pts == 0)
        assert frame.pts == self.pts
        self.pts += SAMPLES
        self.has_last = frame.last

    def _end(self, message: ContextDone | ContextCancelled | Error) -> None:
        self.ends.append(message.type)
        assert self.ends in (
            ["context.done"],
            ["context.cancelled"],
            ["error"],
            ["context.done", "context.cancelled"],
        )
        if self.ends == ["context.cancelled"]:
            assert self.cancelled
        if isinstance(message, ContextDone):
            assert self.cancelled or self.flushed >= self.sure_flushes


class RacingSides(RuleBasedStateMachine):
    """Two real cores, a client and a server that keep to the rules, and a wire that delivers at will."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = ConnectionPair()
        self.server = Server(self.pair)
        self.heard: list[Heard] = []  # by generation, from 1
        self.open: dict[str, Heard] = {}  # what text for an id goes to, as far as the client knows
        self.text_ended: set[str] = set()
        self.failed: set[str] = set()
        self.last_ev = 0
        self.is_over = False  # the client has heard session.ended
        self.last_seq = 0
        self.steps: list[str] = []
        self.patch = pytest.MonkeyPatch()

    @initialize(habit=st.sampled_from(sorted(HABITS)), wraps=st.booleans(), explicit=st.booleans())
    def begin(self, habit: str, wraps: bool, explicit: bool) -> None:
        """In some sessions a side is slow to hear, in some the numbers wrap soon."""
        self.steps = [step for step, weight in HABITS[habit].items() for _ in range(weight)]
        if wraps:
            self.patch.setattr(connection, "CONTEXT_INDEXES", FEW_INDEXES)
            self.pair.server.last_seq = self.last_seq = SEQ_MODULUS - 4
        if explicit:
            self.say(SessionStart())

    # One rule, since hypothesis leaves rules out of most runs, and a session without any of these is none.
    @rule(data=st.data())
    def someone_acts(self, data: st.DataObject) -> None:
        getattr(self, data.draw(st.sampled_from(self.steps)))(data)

    # --- the client

    def say(self, message: ClientMessage) -> None:
        self.pair.client_sends(message)

    def is_free(self, context_id: str) -> bool:
        return context_id not in self.open and context_id not in self.failed

    def takes_text(self, context_id: str) -> bool:
        return context_id in self.open and context_id not in self.text_ended

    def is_lawful(self, message: Any) -> bool:
        """What a client may say by what it knows; written from the specification, not from the tables."""
        context_id = getattr(message, "context_id", None)
        if isinstance(message, ContextOpen):
            return context_id not in self.open
        if isinstance(message, TextAppend):
            return self.takes_text(context_id) or self.is_free(context_id)
        if isinstance(message, TextFlush):
            return context_id in self.open
        if isinstance(message, TextEnd):
            return self.takes_text(context_id)
        return True

    def client_speaks(self, data: st.DataObject) -> None:
        lawful = [message for message in CLIENT_SAYS if self.is_lawful(message) and not self.is_over]
        if lawful:
            self._client_says(data.draw(st.sampled_from(lawful)))

    def client_may_not_say(self, data: st.DataObject) -> None:
        unlawful = [message for message in CLIENT_SAYS if self.is_over or not self.is_lawful(message)]
        if unlawful:
            before = self.pair.in_flight
            with pytest.raises(LocalProtocolError):
                self.say(data.draw(st.sampled_from(unlawful)))
            assert self.pair.in_flight == before

    def client_ends_the_session(self, data: st.DataObject) -> None:
        if not self.is_over and data.draw(st.integers(0, 5)) == 5:
            self._client_says(SessionEnd())

    def _client_says(self, message: Any) -> None:
        self.say(message)
        if isinstance(message, SessionEnd):
            self.text_ended.update(self.open)
        elif isinstance(message, ContextCancel):
            for context_id in "abc" if message.context_id is None else message.context_id:
                self._client_frees(context_id)
        elif isinstance(message, ContextOpen | TextAppend | TextFlush | TextEnd):
            self._client_says_to_context(message, message.context_id)

    def _client_says_to_context(self, message: Any, context_id: str) -> None:
        if context_id not in self.open:
            self._client_opens(context_id)
        if isinstance(message, TextFlush):
            self.open[context_id].flushes += 1
            self.open[context_id].sure_flushes += context_id not in self.text_ended
        elif isinstance(message, TextEnd):
            self.text_ended.add(context_id)

    def _client_opens(self, context_id: str) -> None:
        opening = 1 + sum(heard.context_id == context_id for heard in self.heard)
        self.open[context_id] = Heard(context_id, f"{context_id}{opening}")
        self.heard.append(self.open[context_id])
        self.failed.discard(context_id)
        assert self.pair.client.generation_of(context_id) == len(self.heard)

    def _client_frees(self, context_id: str) -> None:
        heard = self.open.pop(context_id, None)
        if heard is not None:
            heard.cancelled = True
        self.text_ended.discard(context_id)
        self.failed.discard(context_id)

    # --- the server

    def server_acts(self, data: st.DataObject) -> None:
        if self.server.ended:
            return
        if not self.server.live:
            if self.server.ending:
                self.server.end_session()
            return
        context = data.draw(st.sampled_from(list(self.server.live.values())))
        getattr(self, "_server_" + data.draw(st.sampled_from(self._server_may(context))))(context)

    def _server_may(self, context: Speaking) -> list[str]:
        may = ["marks", "fails", "warns", "objects"]
        may += ["speaks", "speaks", "speaks_last"] if not context.has_last else ["speaks_no_more"]
        may += ["has_flushed"] * 2 if context.due_flushes else []
        may += ["finishes"] * 3 if context.text_ended else []
        return may

    def _server_speaks(self, context: Speaking) -> None:
        self.server.speak(context, last=False)

    def _server_speaks_last(self, context: Speaking) -> None:
        self.server.speak(context, last=context.text_ended)

    def _server_speaks_no_more(self, context: Speaking) -> None:
        with pytest.raises(LocalProtocolError):
            self.server.speak(context, last=False)

    def _server_marks(self, context: Speaking) -> None:
        self.server.mark(context)

    def _server_has_flushed(self, context: Speaking) -> None:
        self.server.flushed(context)

    def _server_finishes(self, context: Speaking) -> None:
        self.server.finish(context)

    def _server_fails(self, context: Speaking) -> None:
        self.server.fail(context)

    def _server_objects(self, context: Speaking) -> None:
        self.server.say(failure(context, "none"))

    def _server_warns(self, context: Speaking) -> None:
        self.server.say(
            Warning(
                code=ErrorCode.UNSUPPORTED_PARAMETER,
                message="m",
                context_id=context.context_id,
                context_index=context.index,
            )
        )

    def server_forgets(self, data: st.DataObject) -> None:
        if self.server.done:
            self.server.forget(data.draw(st.sampled_from(list(self.server.done))))

    # --- the wire

    def client_is_heard(self, data: st.DataObject) -> None:
        self._deliver_to_server(data.draw(st.integers(0, self.pair.in_flight[0])))

    def server_is_heard(self, data: st.DataObject) -> None:
        self._deliver_to_client(data.draw(st.integers(0, self.pair.in_flight[1])))

    def _deliver_to_server(self, count: int) -> None:
        for _ in range(count):
            for event in self.pair.deliver_to_server():
                assert not self.server.ended
                self.server.obey(event)

    def _deliver_to_client(self, count: int) -> None:
        for _ in range(count):
            self._hear(self.pair.deliver_to_client())

    def _hear(self, event: ServerEvent) -> None:
        assert not self.is_over
        message = event.message
        if isinstance(message, AudioFrame):
            assert message.seq == (1 if self.last_seq == SEQ_MODULUS - 1 else self.last_seq + 1)
            self.last_seq = message.seq
        elif isinstance(message, SessionStarted):
            self.pair.client.last_seq = self.last_seq
        else:
            assert message.ev == self.last_ev + 1
            self.last_ev = message.ev
        self.is_over = isinstance(message, SessionEnded)
        if event.generation is not None:
            self._hear_of_context(self.heard[event.generation - 1], event)

    def _hear_of_context(self, heard: Heard, event: ServerEvent) -> None:
        heard.hear(event)
        if heard.ends and self.open.get(heard.context_id) is heard:
            del self.open[heard.context_id]
            self.text_ended.discard(heard.context_id)
            if heard.ends == ["error"]:
                self.failed.add(heard.context_id)

    # --- what is always so

    @invariant()
    def both_agree_on_what_is_live(self) -> None:
        core = self.pair.server
        assert core.live_contexts == len(self.server.live)
        for context in self.server.live.values():
            state = core.context_state(context.context_id)
            assert state is (ContextState.ENDING if context.text_ended else ContextState.OPEN)

    @invariant()
    def the_client_knows_what_is_open(self) -> None:
        for context_id in "abc":
            heard = self.open.get(context_id)
            generation = self.pair.client.generation_of(context_id)
            assert generation == (None if heard is None else self.heard.index(heard) + 1)

    def teardown(self) -> None:
        self.patch.undo()
        self._fall_silent()

    def _fall_silent(self) -> None:
        """Each context that was opened has had its one end, and nothing is left."""
        openings_were_lost = self.server.ended
        if not self.is_over:
            self.say(SessionEnd())
        self._deliver_to_server(self.pair.in_flight[0])
        for context in list(self.server.live.values()):
            self.server.finish(context)
        if not self.server.ended:
            self.server.end_session()
        self._deliver_to_client(self.pair.in_flight[1])
        assert self.is_over
        assert self.pair.in_flight == (0, 0)
        assert self.pair.server.live_contexts == 0
        assert not any(self.pair.server.context_state(context_id) in LIVE for context_id in "abc")
        answered = [heard for heard in self.heard if heard.started]
        assert answered == self.heard or openings_were_lost
        assert all(heard.ends for heard in answered)
        assert len(answered) == sum(self.server.openings.values())


TestRacingSides = RacingSides.TestCase
TestRacingSides.settings = settings(
    max_examples=120,
    stateful_step_count=120,
    deadline=None,
    report_multiple_bugs=False,
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
