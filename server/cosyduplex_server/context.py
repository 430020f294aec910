"""One context: its text, its engine request, its audio, its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cosyduplex.errors import ErrorCode
from cosyduplex.messages import (
    ContextCancelled,
    ContextDone,
    ContextFlushed,
    Marks,
    NegotiatedAudio,
    ServerMessage,
    SpeechOptions,
    TextOptions,
    Warning,
)
from cosyduplex_server.audio.encode import ContextEncoder, FrameRun
from cosyduplex_server.audio.negotiate import format_of
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.pool import EngineRefused, EngineStream, SpeakRequest
from cosyduplex_server.errors import Failure
from cosyduplex_server.pacing import PlaybackClock, refill_ms
from cosyduplex_server.text.front import FlushPoint, Segment, TextFrontEnd
from cosyduplex_server.transcript import Transcript

if TYPE_CHECKING:
    from cosyduplex_server.gateway import Gateway

log = logging.getLogger(__name__)

# Segments a worker may hold unspoken, the one that is being written among them. Two keep it busy across a
# segment's end; more would only make the text that a cancel throws away longer.
SEGMENTS_AHEAD = 3
# The number of a flush that nobody asked for and nobody is told of.
PAUSE = 2**32 - 1
# With as many whole segments it is busy for seconds: words of the next one would be heard no sooner for being
# sent one by one, and each such message costs the loop some 60 us.
BUSY_SEGMENTS = 2
# Audio a worker may have made that has not been sent: what one slow tick or a short stall needs.
ENGINE_AHEAD_MS = 4000
CREDIT_STEP_MS = 2000
# With less credit left than this an engine may rest: its next chunk has to fit. Below CREDIT_STEP_MS, so that
# a listener who has heard everything has always granted more.
LEAST_CREDIT_MS = 1500
# Frames in one write: 24 PCM frames of 20 ms at 24 kHz are 23 KB, a fair share of a socket's buffer.
FRAMES_A_TURN = 24
# A timer that is called this late tells that this process stood still, and not the engine.
STOOD_STILL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSettings:
    """How one context is spoken: the session's options with the context's own over them."""

    voice: str
    language: str
    speech: SpeechOptions
    text: TextOptions


@dataclass(slots=True)
class _Flushed:
    pass


@dataclass(slots=True)
class _Done:
    stage_seconds: dict[str, float]


class Outlet:
    """What a context needs of whoever opened it, which implements it.

    Attributes:
        door: the door it came through, as the metrics call it.
    """

    door: str
    audio: NegotiatedAudio
    max_ahead_ms: int

    def emit(self, message: ServerMessage) -> None:
        """Puts a message on its way."""
        raise NotImplementedError

    def emit_frames(self, context: Context, frames: FrameRun, duration_ms: float, *, last: bool) -> None:
        """Puts frames on their way; `last`: the last of them is the last of its context."""
        raise NotImplementedError

    def pump(self) -> None:
        """Something can be sent now."""
        raise NotImplementedError

    def spawn(self, context: Context, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a context's work in the session's task group."""
        raise NotImplementedError

    def ended(self, context: Context, outcome: str) -> None:
        """The context has sent its end."""
        raise NotImplementedError


class Context:
    """One utterance stream of a session.

    The session calls the verbs (`append`, `flush`, `end`, `cancel`) as messages come in, and `take` when
    the socket can take something. Text is pulled through the front end as the engine has room for it, so
    a long text costs nothing until it is due.
    """

    def __init__(
        self,
        context_id: str,
        index: int,
        settings: ContextSettings,
        outlet: Outlet,
        gateway: Gateway,
        marks: bool,
    ) -> None:
        self.context_id = context_id
        self.index = index
        self.playback = PlaybackClock()
        self._settings = settings
        self._outlet = outlet
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self._wants_marks = marks
        text = settings.text
        self._front = TextFrontEnd(
            markup=text.markup or "markdown",
            language=settings.language,
            voice_language=gateway.voice_language(settings.voice),
            normalize=text.normalize is not False,
            pronunciations=text.pronunciations,
            code=text.code or "skip",
            tables=text.tables or "read",
            emoji=text.emoji or "drop",
        )
        self._transcript = Transcript()
        self._stream: EngineStream | None = None
        self._task: asyncio.Task[None] | None = None
        self._pending: deque[FrameRun | Marks | _Flushed | _Done | Failure] = deque()
        self._segments_out = 0
        self._segment_open = False  # the last of them has not been closed
        self._answers_out = 0  # flushes, and the end, that the engine has yet to answer
        self._finish_sent = False
        self._ended = False
        self._flushes_after_end = 0
        self._broken = False
        self._closed = False
        self._credit_samples = 0
        self._received_samples = 0
        self._owing_since_s: float | None = None  # since when the engine has had something to say
        self._heard_s = 0.0  # when it last said something
        self._stall_timer: asyncio.TimerHandle | None = None
        self._come_back_s = 0.0  # before this the listener has no room for what waits
        self._pts = 0
        self._last_flag_sent = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_called = False
        self._speech_open = False  # the engine may wait for text before it speaks to the end
        self._feed_soon: asyncio.Handle | None = None
        self._first_text_s: float | None = None
        self._enough_text_s: float | None = None
        self._first_frame_s: float | None = None
        self._frames_since_s = 0.0  # when frames began to wait here
        self._last_segment_s = 0.0  # when the engine last had nothing to do and got something
        self.last_text_s = self._loop.time()

    # --- text in

    def append(self, text: str) -> None:
        """Takes text.

        Raises:
            Failure: `text_too_long`; nothing of it was taken and nothing ends.
        """
        limits = self._gateway.limits
        if len(text) > limits.max_text_chars:
            raise Failure(
                ErrorCode.TEXT_TOO_LONG, f"an append may have {limits.max_text_chars} characters at most"
            )
        if self._front.pending_chars + len(text) > limits.max_pending_chars:
            raise Failure(
                ErrorCode.TEXT_TOO_LONG,
                f"{self._front.pending_chars} characters of this context wait to be spoken already; "
                f"{limits.max_pending_chars} may wait",
                "Wait for marks or context.flushed before appending more.",
            )
        if self._broken:
            return
        self.last_text_s = self._loop.time()
        if self._first_text_s is None and text:
            self._first_text_s = self.last_text_s
        self._idle_called = False
        self._transcript.append(text)
        self._front.append(text)
        self._feed()

    def flush(self) -> None:
        """Speaks all that has been appended now."""
        if self._broken:
            return
        self.last_text_s = self._loop.time()
        if self._ended:  # the end speaks everything anyway: this is answered just before it
            if self._pending and isinstance(self._pending[-1], _Done):
                self._pending.insert(len(self._pending) - 1, _Flushed())
            else:
                self._flushes_after_end += 1
            return
        self._front.flush()
        self._feed()

    def end(self) -> None:
        """No more text follows."""
        if self._broken:
            return
        self._ended = True
        self._front.end()
        self._feed()

    def _feed(self) -> None:
        """Hands on what the front end is certain of, as far as the engine has room for it.

        What one call hands on of a segment is one message, so a fragment costs one at most.
        """
        self._feed_soon = None
        while not self._broken and not self._closed and self._segments_out < SEGMENTS_AHEAD:
            self._front.in_parts = self._takes_parts
            item = self._front.next()
            if isinstance(item, Segment):
                self._speak(item)
            elif isinstance(item, FlushPoint):
                self._flush_engine(item)
            else:
                self._after_last_certain()
                return

    @property
    def _takes_parts(self) -> bool:
        """Whether the engine that speaks, or would, wants the words of a segment before its end."""
        if self._closed_segments_out >= BUSY_SEGMENTS and not self._idle_called:
            return False
        if self._stream is None:
            return self._gateway.pool.streams_text(self._settings.voice)
        return self._stream.text_streaming

    def _after_last_certain(self) -> None:
        if self._front.exhausted:
            self._finish_engine()
        elif self._front.busy:
            self._feed_soon = self._feed_soon or self._loop.call_soon(self._feed)
        elif (self._front.pending_chars or self._speech_open) and not self._idle_called:
            self._arm_idle_timer()

    def _arm_idle_timer(self) -> None:
        if self._gateway.config.text_idle_ms and self._idle_timer is None:
            self._idle_timer = self._loop.call_at(self._text_idle_at(), self._on_text_idle)

    def _text_idle_at(self) -> float:
        return self.last_text_s + self._gateway.config.text_idle_ms / 1000

    def _on_text_idle(self) -> None:
        self._idle_timer = None
        if self._loop.time() < self._text_idle_at():  # more has come since: the pause begins anew
            self._arm_idle_timer()
            return
        # Whole words alone are released; what is left waits for more text, not for another time-out.
        self._idle_called = True
        self._front.idle()
        self._feed()
        self._close_speech()

    def _close_speech(self) -> None:
        """Has the end of a sentence spoken that the engine holds back until it knows how the text goes on."""
        if not self._speech_open or self._segment_open or self._segments_out >= SEGMENTS_AHEAD:
            return
        assert self._stream is not None
        self._speech_open = False
        self._answers_out += 1
        self._stream.flush(PAUSE)
        self._watch_engine()

    def _speak(self, segment: Segment) -> None:
        if self._stream is None and not self._open_engine():
            return
        assert self._stream is not None
        if self._enough_text_s is None:
            self._enough_text_s = self._loop.time()
        if self._closed_segments_out == 0:  # it may have waited for just this
            self._last_segment_s = self._loop.time()
        if self._segment_open:
            self._transcript.extend_segment(segment)
        else:
            self._segments_out += 1
            self._transcript.begin_segment(segment)
        self._segment_open = not segment.closes
        self._speech_open = self._stream.text_streaming
        self._stream.append(segment.index, segment.text, closes=segment.closes)
        self._watch_engine()

    def _flush_engine(self, point: FlushPoint) -> None:
        if self._stream is None:
            self._pending.append(_Flushed())
            self._outlet.pump()
        else:
            self._answers_out += 1
            self._speech_open = False
            self._stream.flush(point.number)
            self._watch_engine()

    def _finish_engine(self) -> None:
        if self._finish_sent:
            return
        self._finish_sent = True
        self._speech_open = False
        if self._stream is None:
            self._queue_done({})
            self._outlet.pump()
        else:
            self._answers_out += 1
            self._stream.finish()
            self._watch_engine()

    # --- the engine

    @property
    def _closed_segments_out(self) -> int:
        """Segments that the engine can speak to their end."""
        return self._segments_out - self._segment_open

    @property
    def _engine_owes(self) -> bool:
        """Whether the engine is to say something: it waits neither for text nor for the listener."""
        if self._stream is None or not (self._closed_segments_out or self._answers_out):
            return False
        credit_samples = self._credit_samples - self._received_samples
        return credit_samples * 1000 >= LEAST_CREDIT_MS * self._stream.sample_rate_hz

    def _watch_engine(self) -> None:
        """Notes whether the engine owes something now; called after whatever may change it.

        More text puts nothing off for an engine that is quiet: only what it says itself does.
        """
        if not self._engine_owes:
            self._owing_since_s = None
        elif self._owing_since_s is None:
            self._owing_since_s = self._loop.time()
            if self._stall_timer is None:
                self._arm_stall_timer()

    def _arm_stall_timer(self) -> None:
        if self._gateway.config.engine_stall_s:
            self._stall_timer = self._loop.call_at(self._stuck_at(), self._on_stall_timer)

    def _stuck_at(self) -> float:
        assert self._owing_since_s is not None
        return max(self._owing_since_s, self._heard_s) + self._gateway.config.engine_stall_s

    def _on_stall_timer(self) -> None:
        """Ends the context, and nothing else, of an engine that owes something and is quiet for too long."""
        assert self._stall_timer is not None
        due_s, self._stall_timer = self._stall_timer.when(), None
        if self._owing_since_s is None or self._broken:
            return
        now_s = self._loop.time()
        if now_s > due_s + STOOD_STILL_S:
            self._owing_since_s = now_s
        if now_s < self._stuck_at():
            self._arm_stall_timer()
        else:
            self._break_stuck()

    def _break_stuck(self) -> None:
        assert self._stream is not None
        stall_s = self._gateway.config.engine_stall_s
        log.warning("engine stuck", extra={"worker": self._stream.worker, "seconds": stall_s})
        self._break(
            Failure(
                ErrorCode.ENGINE_FAILED,
                f"the engine has text to speak and has said nothing for {stall_s:g} s",
            )
        )

    def _open_engine(self) -> bool:
        speech = self._settings.speech
        window = ENGINE_AHEAD_MS * (self._gateway.pool.description.sample_rate_hz or 24_000) // 1000
        try:
            voice, language, warning = self._gateway.engine_voice(self._settings.voice)
            self._stream = self._gateway.pool.open(
                SpeakRequest(
                    request_id=self._gateway.new_id(),
                    voice=_encodable(voice),
                    language=self._settings.language or language,
                    speed=1.0 if speech.speed is None else speech.speed,
                    pitch=speech.pitch or 0.0,
                    volume=1.0 if speech.volume is None else speech.volume,
                    emotion=_encodable(speech.emotion or ""),
                    instruct=_encodable(speech.instruct or ""),
                    dialect=_encodable(speech.dialect or ""),
                    seed=speech.seed,
                    credit_samples=window,
                )
            )
        except EngineRefused as exc:
            self._break(Failure(exc.code, exc.message, retry_after_ms=exc.retry_after_ms))
            return False
        except Failure as failure:
            self._break(failure)
            return False
        if warning:
            self._warn(warning)
        self._credit_samples = window
        encoder = ContextEncoder(self._stream.sample_rate_hz, format_of(self._outlet.audio))
        self._task = self._outlet.spawn(self, self._listen(self._stream, encoder))
        return True

    def _warn(self, message: str) -> None:
        self._outlet.emit(
            Warning(
                code=ErrorCode.UNSUPPORTED_PARAMETER,
                message=message,
                context_id=self.context_id,
                context_index=self.index,
            )
        )

    async def _listen(self, stream: EngineStream, encoder: ContextEncoder) -> None:
        """Turns the engine's events into what is to be sent, in their order."""
        async for event in stream:
            kind = event.WhichOneof("event")
            self._heard_s = self._loop.time()
            if kind == "audio":
                self._received_samples += len(event.audio.pcm) // 2
                self._queue(await self._encode(encoder, encoder.push, event.audio.pcm))
                self._check_length(encoder)
            elif kind == "marks":
                self._take_marks(event.marks, stream, encoder)
            elif kind == "note":
                self._warn(event.note.text)
            elif kind == "segment_done":
                self._segments_out -= 1
                self._transcript.end_segment(event.segment_done.segment)
                self._feed()
            elif kind == "flushed":
                self._answers_out -= 1
                self._queue(await self._encode(encoder, encoder.flush))
                if event.flushed.flush != PAUSE:
                    self._pending.append(_Flushed())
            elif kind == "done":
                self._segments_out = self._answers_out = 0
                self._segment_open = False
                self._queue(await self._encode(encoder, encoder.finish))
                self._queue_done(dict(event.done.stage_seconds))
            elif kind == "error":
                self._break(_failure_of(event.error))
            if self._closed or self._broken:
                return
            self._watch_engine()
            self._outlet.pump()

    def _queue(self, frames: FrameRun) -> None:
        if not len(frames):
            return
        if not self._pending:
            self._frames_since_s = self._loop.time()
        if self._pending and isinstance(waiting := self._pending[-1], FrameRun):
            waiting.extend(frames)
        else:
            self._pending.append(frames)

    def _queue_done(self, stage_seconds: dict[str, float]) -> None:
        self._pending.extend(_Flushed() for _ in range(self._flushes_after_end))
        self._pending.append(_Done(stage_seconds))

    async def _encode(self, encoder: ContextEncoder, step: Any, *args: bytes) -> FrameRun:
        """Runs one step of the encoder, Opus off the event loop, which a chunk of it would hold."""
        began_s = time.perf_counter()
        frames: FrameRun
        if encoder.threaded:
            frames = await self._loop.run_in_executor(self._gateway.encode_pool, step, *args)
        else:
            frames = step(*args)
        self._gateway.metrics.encode_stage.observe(time.perf_counter() - began_s)
        return frames

    def _take_marks(self, marks: link.Marks, stream: EngineStream, encoder: ContextEncoder) -> None:
        inserted_ms = encoder.to_ms(encoder.inserted_samples)
        words = []
        for word in marks.words:
            mark = self._transcript.mark(
                word.segment,
                word.char_start,
                word.char_end,
                word.sample_start * 1000 // stream.sample_rate_hz + inserted_ms,
                word.sample_end * 1000 // stream.sample_rate_hz + inserted_ms,
            )
            if mark is not None:
                words.append(mark)
        if words and self._wants_marks:
            self._pending.append(
                Marks(
                    context_id=self.context_id,
                    context_index=self.index,
                    words=tuple(words),
                    exact=stream.exact_marks,
                )
            )

    def _check_length(self, encoder: ContextEncoder) -> None:
        limit_s = self._gateway.limits.max_context_s
        if encoder.num_samples > limit_s * self._outlet.audio.sample_rate:
            self._break(
                Failure(
                    ErrorCode.TEXT_TOO_LONG,
                    f"a context may have {limit_s} seconds of audio",
                    "Begin a new context for what follows.",
                )
            )

    def _break(self, failure: Failure) -> None:
        """Stops the engine; what was made before is still sent, then the error that ends the context."""
        if self._broken or self._closed:
            return
        self._broken = True
        if self._stream is not None:
            self._stream.cancel()
        self._pending.append(failure)
        self._outlet.pump()

    def crash(self) -> None:
        """Ends the context after a mistake of ours."""
        self._break(Failure(ErrorCode.INTERNAL, "the server made a mistake while speaking this context"))

    # --- audio out

    def take(self, now_s: float) -> tuple[bool, float | None]:
        """Emits what may be sent now, up to a fair share.

        Returns:
            Whether anything was emitted, and when to come back for what waits for the listener.
        """
        if now_s < self._come_back_s:
            return False, self._come_back_s
        emitted = 0
        while self._pending and not self._closed and emitted < FRAMES_A_TURN:
            item = self._pending[0]
            if isinstance(item, FrameRun):
                num_frames, come_back_s = self._send_frames(item, FRAMES_A_TURN - emitted, now_s)
                emitted += num_frames
                if come_back_s is not None:
                    self._come_back_s = come_back_s
                    self._grant_credit()
                    return emitted > 0, come_back_s
            else:
                self._pending.popleft()
                self._send_item(item)
                emitted += 1
        if emitted and not self._closed:
            self._grant_credit()
        return emitted > 0, None

    def _send_frames(self, frames: FrameRun, most: int, now_s: float) -> tuple[int, float | None]:
        """Emits the frames that fit; returns how many, and when to come back for one that does not."""
        max_ahead_ms = self._outlet.max_ahead_ms
        ahead_ms = self.playback.ahead_ms(now_s)
        ms_per_sample = 1000 / self._outlet.audio.sample_rate
        num_frames, duration_ms, come_back_s = 0, 0.0, None
        for num_samples in frames.num_samples[:most]:
            next_ms = duration_ms + num_samples * ms_per_sample
            if max_ahead_ms and ahead_ms + next_ms > max_ahead_ms:
                wait_ms = ahead_ms + duration_ms + refill_ms(max_ahead_ms) - max_ahead_ms
                come_back_s = now_s + max(wait_ms, next_ms - duration_ms) / 1000
                break
            num_frames, duration_ms = num_frames + 1, next_ms
        if num_frames:
            if num_frames == len(frames):
                self._pending.popleft()
            else:
                frames = frames.split(num_frames)
            self._account(frames, duration_ms, now_s)
        return num_frames, come_back_s

    def _account(self, frames: FrameRun, duration_ms: float, now_s: float) -> None:
        if self._first_frame_s is None:
            self._first_frame_s = now_s
            self._observe_first_frame(now_s)
        dry_at_s = self.playback.dry_at_s
        if self.playback.send(duration_ms, now_s):
            self._gateway.metrics.underruns.labels(self._blame(dry_at_s)).inc()
        self._last_flag_sent = self._was_last_frame()
        self._pts = frames.end
        self._outlet.emit_frames(self, frames, duration_ms, last=self._last_flag_sent)

    def _blame(self, dry_at_s: float) -> str:
        """What was missing when the listener ran dry: a frame that lay here, the engine, or text."""
        if self._frames_since_s < dry_at_s:
            return "gateway"
        return "compute" if self._last_segment_s < dry_at_s else "text"

    def _was_last_frame(self) -> bool:
        """Whether everything up to the end of the context is known and no audio is left."""
        if not self._pending or not isinstance(self._pending[-1], _Done):
            return False
        return not any(isinstance(item, FrameRun) for item in self._pending)

    def _send_item(self, item: Marks | _Flushed | _Done | Failure) -> None:
        if isinstance(item, Marks):
            self._outlet.emit(item)
        elif isinstance(item, _Flushed):
            self._outlet.emit(
                ContextFlushed(context_id=self.context_id, context_index=self.index, audio_ms=self.sent_ms)
            )
        elif isinstance(item, _Done):
            self._send_done(item)
        elif isinstance(item, Failure):
            self.fail(item)

    def _send_done(self, done: _Done) -> None:
        if self._first_frame_s is not None and not self._last_flag_sent:
            self._outlet.emit_frames(self, FrameRun(self._pts, [0], [b""]), 0.0, last=True)
        self._close()
        self._observe_stages(done.stage_seconds)
        self._outlet.emit(
            ContextDone(
                context_id=self.context_id,
                context_index=self.index,
                audio_ms=self.sent_ms,
                characters=self._transcript.num_chars,
                ttfa_ms=self._since(self._first_text_s),
                ttfa_enough_ms=self._since(self._enough_text_s),
                underruns=self.playback.underruns,
            )
        )
        self._outlet.ended(self, "done")

    def _since(self, began_s: float | None) -> int | None:
        if began_s is None or self._first_frame_s is None:
            return None
        return round((self._first_frame_s - began_s) * 1000)

    def _grant_credit(self) -> None:
        """Lets the engine make more as audio leaves: rarely, in steps."""
        if self._stream is None:
            return
        rate_hz = self._stream.sample_rate_hz
        due = int((self.playback.sent_ms + ENGINE_AHEAD_MS) * rate_hz / 1000)
        if due - self._credit_samples >= CREDIT_STEP_MS * rate_hz // 1000:
            self._credit_samples = due
            self._stream.credit(due)
            self._watch_engine()

    def report(self, played_ms: int, underruns: int | None, now_s: float) -> None:
        """Takes the listener's own word for what it has heard."""
        self.playback.report(played_ms, underruns, now_s)
        self._come_back_s = 0.0

    # --- its end

    @property
    def sent_ms(self) -> int:
        """Audio handed to the socket."""
        return round(self.playback.sent_ms)

    @property
    def num_chars(self) -> int:
        """Code points appended."""
        return self._transcript.num_chars

    @property
    def is_silent(self) -> bool:
        """Nothing is being spoken and nothing waits to be sent.

        An engine that is quiet with nothing but a segment that is being written waits for its text.
        """
        if self._pending or self._closed_segments_out:
            return False
        return not self._segment_open or self._loop.time() - self._heard_s >= self._gateway.config.idle_s

    def is_heard(self, now_s: float) -> bool:
        """Whether the listener has heard all that was sent."""
        return self.playback.ahead_ms(now_s) <= 0

    def cancel(self, played_ms: int | None) -> None:
        """Stops everything and answers with how far the listener got; also after `context.done`."""
        was_live = not self._closed
        self._close()
        now_s = self._loop.time()
        played = self.playback.played_ms(now_s) if played_ms is None else min(played_ms, self.sent_ms)
        self._outlet.emit(
            ContextCancelled(
                context_id=self.context_id,
                context_index=self.index,
                sent_ms=self.sent_ms,
                spoken_chars=self._heard_chars(played, was_live=was_live),
                estimated=played_ms is None,
            )
        )
        if was_live:
            self._outlet.ended(self, "cancelled")

    def _heard_chars(self, played_ms: float, *, was_live: bool) -> int:
        if not was_live and played_ms >= self.sent_ms:
            return self._transcript.num_chars
        return self._transcript.heard_chars(played_ms)

    def fail(self, failure: Failure) -> None:
        """Ends the context with an error, now."""
        self._close()
        self._outlet.emit(failure.as_error("context", self.context_id, self.index))
        self._outlet.ended(self, str(failure.code))

    def drop(self) -> None:
        """Frees everything; the socket is gone and nobody is to be told."""
        if not self._closed:
            self._close()
            self._outlet.ended(self, "dropped")

    def _close(self) -> None:
        self._closed = True
        self._pending.clear()
        for handle in (self._idle_timer, self._feed_soon, self._stall_timer):
            if handle is not None:
                handle.cancel()
        if self._stream is not None:
            self._stream.cancel()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    # --- figures

    def _observe_first_frame(self, now_s: float) -> None:
        metrics = self._gateway.metrics
        if self._first_text_s is not None and self._enough_text_s is not None:
            metrics.ttfa.labels(self._outlet.door).observe(now_s - self._first_text_s)
            metrics.stage.labels("text").observe(self._enough_text_s - self._first_text_s)
        metrics.stage.labels("send").observe(now_s - self._frames_since_s)

    def _observe_stages(self, stage_seconds: dict[str, float]) -> None:
        metrics = self._gateway.metrics
        for stage, seconds in stage_seconds.items():
            metrics.stage.labels(stage).observe(seconds)
        if self.playback.sent_ms and stage_seconds:
            metrics.rtf.observe(sum(stage_seconds.values()) * 1000 / self.playback.sent_ms)
        if self._first_text_s is not None:
            metrics.total.labels(self._outlet.door).observe(self._loop.time() - self._first_text_s)


def _encodable(text: str) -> str:
    """The text without lone surrogates, which the link cannot carry."""
    return text.encode("utf-8", "replace").decode()


def _failure_of(error: link.Error) -> Failure:
    known = {str(code) for code in ErrorCode}
    code = ErrorCode(error.code) if error.code in known else ErrorCode.ENGINE_FAILED
    return Failure(code, error.message)
