"""The generator: one process, one event loop, one ticker for all that is written.

Every session is a socket and the text it has in hand. Text that is due is written by one ticker for all
sessions; what comes is counted where it is read. Nothing else happens per token or per frame.
"""

from __future__ import annotations

import asyncio
import math
import resource
import ssl
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from cosyduplex.messages import AudioOptions, FlowOptions, SessionStart
from cosyduplex.wire import FRAME_HEADER, encode_message
from cosyduplex_server.bench.arrivals import SessionPlan, plan_sessions, plan_turn
from cosyduplex_server.bench.connection import NO_CLOSE_FRAME, ClientSocket, HandshakeRefused, frame
from cosyduplex_server.bench.probe import OwnLoad
from cosyduplex_server.bench.settings import SLOT_MS, Settings
from cosyduplex_server.bench.turn import Outcome, StreamFormat, Turn, TurnResult

TICK_S = 0.005
CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
# A server that says nothing for so long to somebody who waits for audio has lost them.
SILENCE_TIMEOUT_S = 30.0
# From the end of an answer to the next one.
PAUSE_S = 0.5
# Sockets for the probes, and whatever else is open.
SPARE_FILES = 64

_SESSION_END = frame(b'{"type":"session.end"}')
_HEADER_BYTES = FRAME_HEADER.size


@dataclass(frozen=True, slots=True)
class Second:
    """One second of the campaign, for its course over time."""

    at_s: float
    sessions: int
    speaking: int
    audio_s: float
    stalls: int
    errors: int
    loop_lag_ms: float


class Campaign:
    """All sessions of one run, and what came of them.

    Attributes:
        results: of the texts that have ended.
        errors: by code: the server's own, `close_N`, `connect_failed`, `connection_lost`, `silence`.
        audio_s: received, in texts that have ended.
        stalls: of listeners without a jitter buffer, in texts that have ended.
        sessions_begun: sessions that were started by the server.
        late_frames: frames of a context that had ended.
        frames: frames received.
        bytes_received: over all sockets that are closed.
        bytes_sent: the same.
        lags_s: how late each tick of the event loop was.
        course: second by second.
        own_load: the generator's own.
        open: the sessions that are connected.
        is_stopped: it was ended before its time.
    """

    def __init__(self, settings: Settings, api_key: str | None) -> None:
        self.settings = settings
        self.results: list[TurnResult] = []
        self.errors: Counter[str] = Counter()
        self.audio_s = 0.0
        self.stalls = 0
        self.sessions_begun = 0
        self.late_frames = 0
        self.frames = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.lags_s = array("f")
        self.course: list[Second] = []
        self.own_load = OwnLoad()
        self.open: dict[Session, None] = {}
        self.is_stopped = False
        self._api_key = api_key
        self._url = urlsplit(settings.url)
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._ended_s: float | None = None
        self._opener: asyncio.Task[None] | None = None
        self._lag_s = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first session, until the end of the last."""
        return (self._ended_s or self._loop.time()) - self._began_s

    @property
    def takes_new_texts(self) -> bool:
        """Whether a session that has nothing to say begins another text."""
        settings = self.settings
        if self.is_stopped or settings.is_open_loop or settings.duration_s is None:
            return False
        return self.elapsed_s < settings.duration_s

    async def run(self, on_second: Callable[[Campaign], None]) -> None:
        """Runs every session to its end.

        Args:
            on_second: called once a second.
        """
        _allow_open_files(self.settings)
        self._began_s = self._loop.time()
        async with asyncio.TaskGroup() as tasks:
            ticker = tasks.create_task(self._tick(on_second), name="bench ticker")
            async with asyncio.TaskGroup() as sessions:
                self._opener = sessions.create_task(self._open_sessions(sessions), name="bench arrivals")
            ticker.cancel()
        self._ended_s = self._loop.time()

    def stop(self) -> None:
        """Ends the campaign now; what is in hand is cut off."""
        self.is_stopped = True
        if self._opener is not None:
            self._opener.cancel()
        for session in tuple(self.open):
            session.cut()

    async def _open_sessions(self, tasks: asyncio.TaskGroup) -> None:
        for plan in plan_sessions(self.settings):
            await asyncio.sleep(self._began_s + plan.start_s - self._loop.time())
            tasks.create_task(Session(self, plan).run(), name=f"bench session {plan.number}")

    def add(self, result: TurnResult) -> None:
        """Takes what came of a text."""
        self.results.append(result)
        self.audio_s += result.audio_s
        self.stalls += len(result.playbacks[0].stalls)

    async def connect(self, session: Session) -> ClientSocket:
        """Opens a session's socket.

        Raises:
            OSError: nobody answers.
            HandshakeRefused: somebody says no.
        """
        url = self._url
        is_secure = url.scheme == "https"
        port = url.port or (443 if is_secure else 80)
        path = url.path.rstrip("/") + "/v1/duplex"
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, socket = await self._loop.create_connection(
                lambda: ClientSocket(session, url.netloc, path, self._api_key),
                url.hostname or "",
                port,
                ssl=ssl.create_default_context() if is_secure else None,
            )
            try:
                await socket.opened
            except asyncio.CancelledError:
                socket.abort()
                raise
        return socket

    # --- time

    async def _tick(self, on_second: Callable[[Campaign], None]) -> None:
        due_s = second_s = self._loop.time()
        while True:
            due_s += TICK_S
            await asyncio.sleep(due_s - self._loop.time())
            now_s = self._loop.time()
            self.lags_s.append(now_s - due_s)
            self._lag_s = max(self._lag_s, now_s - due_s)
            for session in tuple(self.open):
                if session.wake_s <= now_s:
                    session.act(now_s)
            if now_s - second_s >= 1:
                second_s = now_s
                self._close_second(now_s)
                on_second(self)
            due_s = max(due_s, now_s - TICK_S)  # what was missed is not made up for by a burst

    def _close_second(self, now_s: float) -> None:
        for session in tuple(self.open):
            session.check_silence(now_s)
        self.course.append(
            Second(
                at_s=round(self.elapsed_s, 3),
                sessions=len(self.open),
                speaking=sum(session.turn is not None for session in self.open),
                audio_s=round(self.audio_s, 3),
                stalls=self.stalls,
                errors=self.errors.total(),
                loop_lag_ms=round(self._lag_s * 1000, 2),
            )
        )
        self._lag_s = 0.0


class Session:
    """One socket that says one text after another.

    Attributes:
        turn: the text in hand.
        wake_s: when it has something to write; infinity while it waits for the server.
    """

    def __init__(self, campaign: Campaign, plan: SessionPlan) -> None:
        self.turn: Turn | None = None
        self.wake_s = math.inf
        self._campaign = campaign
        self._plan = plan
        self._socket: ClientSocket
        self._audio: StreamFormat
        self._num_turns = 0
        self._last_s = 0.0  # when anything last went either way
        self._is_over = False

    async def run(self) -> None:
        """Connects, speaks, and returns once the socket is gone."""
        campaign = self._campaign
        try:
            self._socket = await campaign.connect(self)
        except HandshakeRefused as refusal:
            campaign.errors[refusal.code] += 1
            return
        except OSError:  # TimeoutError among them
            campaign.errors["connect_failed"] += 1
            return
        campaign.open[self] = None
        self._last_s = asyncio.get_running_loop().time()
        self._socket.write(frame(self._start_message()))
        if campaign.is_stopped:
            self.cut()
        await self._socket.closed
        campaign.open.pop(self, None)
        campaign.bytes_received += self._socket.bytes_received
        campaign.bytes_sent += self._socket.bytes_sent

    def _start_message(self) -> bytes:
        settings = self._campaign.settings
        return encode_message(
            SessionStart(
                voice=self._plan.voice,
                audio=AudioOptions(
                    encoding=settings.codec, sample_rate=settings.sample_rate_hz, frame_ms=SLOT_MS
                ),
                flow=FlowOptions(max_ahead_ms=settings.max_ahead_ms),
                marks=True,
            )
        )

    # --- out

    def act(self, now_s: float) -> None:
        """Writes what is due."""
        if self.turn is None:
            if self._num_turns and not self._campaign.takes_new_texts:
                self._leave(now_s)
                return
            self._begin_turn(now_s)
        assert self.turn is not None
        frames = self.turn.write_due(now_s)
        self.wake_s = self.turn.wake_s
        if frames:
            self._last_s = now_s
            self._socket.write(frames)

    def _begin_turn(self, now_s: float) -> None:
        plan = plan_turn(self._campaign.settings, self._plan.number, self._num_turns)
        self.turn = Turn(plan, f"turn-{self._num_turns}", self._audio, now_s)
        self._num_turns += 1

    def _leave(self, now_s: float) -> None:
        self._is_over, self.wake_s, self._last_s = True, math.inf, now_s
        self._socket.write(_SESSION_END)

    # --- in

    def on_binary(self, message: memoryview, now_s: float) -> None:
        """Counts a frame."""
        self._last_s = now_s
        self._campaign.frames += 1
        turn = self.turn
        if turn is None or turn.index != message[2] << 8 | message[3]:
            self._campaign.late_frames += 1
            return
        turn.on_audio(len(message) - _HEADER_BYTES, now_s)
        self.wake_s = turn.wake_s

    def on_text(self, message: bytes, now_s: float) -> None:
        """Takes a message."""
        self._last_s = now_s
        fields = orjson.loads(message)
        kind = fields["type"]
        if kind == "session.started":
            self._on_started(fields, now_s)
        elif kind == "error":
            self._on_error(fields, now_s)
        elif self.turn is None:
            return
        elif kind == "context.started":
            self.turn.index = fields["context_index"]
        elif fields.get("context_index") != self.turn.index:
            return
        elif kind == "marks":
            self.turn.on_marks(fields["words"])
        elif kind == "context.done" and self.turn.on_done(fields):
            self._end_turn("done", now_s)
        elif kind == "context.cancelled":
            self._end_turn("cancelled", now_s)

    def _on_started(self, fields: dict[str, Any], now_s: float) -> None:
        audio = fields["audio"]
        self._campaign.sessions_begun += 1
        self._audio = StreamFormat(
            is_opus=audio["encoding"] == "opus",
            sample_rate_hz=audio["sample_rate"],
            frame_samples=audio["sample_rate"] * audio["frame_ms"] // 1000,
            pre_skip=audio.get("pre_skip") or 0,
        )
        self.wake_s = now_s

    def _on_error(self, fields: dict[str, Any], now_s: float) -> None:
        self._campaign.errors[fields["code"]] += 1
        if fields["ends"] == "session":
            self._end("failed", now_s)
        elif fields["ends"] == "context" and self.turn and fields["context_index"] == self.turn.index:
            self._end_turn("failed", now_s)
            self.wake_s = now_s + max(PAUSE_S, (fields.get("retry_after_ms") or 0) / 1000)

    def _end_turn(self, outcome: Outcome, now_s: float) -> None:
        turn, self.turn = self.turn, None
        if turn is None:
            return
        self._campaign.add(turn.end(outcome, now_s))
        if outcome != "done":
            self.wake_s = now_s + PAUSE_S
        elif self._campaign.settings.measures_speed:
            self.wake_s = now_s
        else:  # nobody speaks again before the listener has heard the end
            self.wake_s = max(now_s, turn.heard_at_s()) + PAUSE_S

    def on_closed(self, close_code: int, now_s: float) -> None:
        """The socket is gone."""
        if not self._is_over:
            lost = close_code == NO_CLOSE_FRAME
            self._campaign.errors["connection_lost" if lost else f"close_{close_code}"] += 1
        self._end("failed", now_s)

    def check_silence(self, now_s: float) -> None:
        """Gives up on a server that says nothing any more."""
        if self._is_over:
            if now_s - self._last_s > CLOSE_TIMEOUT_S:
                self._socket.abort()
        elif self.wake_s == math.inf and now_s - self._last_s > SILENCE_TIMEOUT_S:
            self._campaign.errors["silence"] += 1
            self._end("failed", now_s)
            self._socket.abort()

    def cut(self) -> None:
        """Ends it now."""
        self._end("cut", asyncio.get_running_loop().time())
        self._socket.abort()

    def _end(self, outcome: Outcome, now_s: float) -> None:
        """Nothing more is said in this session."""
        self._end_turn(outcome, now_s)
        self._is_over, self.wake_s = True, math.inf


def _allow_open_files(settings: Settings) -> None:
    """Raises the soft limit on open files, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = (settings.sessions or 10_000) + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
