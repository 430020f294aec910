"""One text of one session while it runs, and what is kept of it afterwards."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from cosyduplex_server.bench.arrivals import TurnPlan
from cosyduplex_server.bench.connection import frame
from cosyduplex_server.bench.listener import Listener, Stall
from cosyduplex_server.bench.settings import JITTER_BUFFERS_MS, SLOT_MS
from cosyduplex_server.bench.stalls import Blame, Words, Writing, blame, text_holes

# "cut": the campaign ended first.
Outcome = Literal["done", "cancelled", "failed", "cut"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFormat:
    """What a session negotiated, as far as counting needs it."""

    is_opus: bool
    sample_rate_hz: int
    frame_samples: int
    pre_skip: int


@dataclass(frozen=True, slots=True)
class Playback:
    """What one listener heard of a stream.

    Attributes:
        heard_slots: slots that were played.
        stalls: the holes, in order.
    """

    heard_slots: int
    stalls: Sequence[Stall]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResult:
    """What is kept of a text.

    Attributes:
        outcome: how it ended.
        began_s: its first text was written.
        ended_s: its end came.
        ttfa_text_s: first text written to the first whole slot of audio; None without audio.
        text_wait_s: of that, how long the server waited for enough text; None where it did not say.
        first_audio_ms: audio that came in one read with the first slot.
        audio_s: audio received.
        num_chars: characters written.
        stop_audio_s: cancel written to the last frame of it, 0 when none came; None without a cancel.
        stop_ack_s: cancel written to the server's answer.
        playbacks: one for each of `JITTER_BUFFERS_MS`.
        blames: who is to blame for the holes of each.
    """

    outcome: Outcome
    began_s: float
    ended_s: float
    ttfa_text_s: float | None
    text_wait_s: float | None
    first_audio_ms: float
    audio_s: float
    num_chars: int
    stop_audio_s: float | None
    stop_ack_s: float | None
    playbacks: tuple[Playback, ...]
    writing: Writing
    words: Words
    server_underruns: int | None

    def blames(self, *, in_parts: bool = False) -> tuple[Blame, ...]:
        """Who is to blame for the holes of each listener; `in_parts` as for `text_holes`."""
        waited_for_text = text_holes(self.playbacks[0].stalls, self.writing, self.words, in_parts=in_parts)
        return tuple(
            blame(playback.stalls, waited_for_text, self.server_underruns) for playback in self.playbacks
        )


_NOTHING_WRITTEN = Writing((), (), None)
_NO_WORDS = Words((), ())


class Turn:
    """A text being written, its audio being heard.

    Attributes:
        wake_s: when something is to be written next; infinity while nothing is.
        index: the context's index; None before the server has given one.
    """

    def __init__(self, plan: TurnPlan, context_id: str, audio: StreamFormat, now_s: float) -> None:
        self.wake_s = now_s
        self.index: int | None = None
        self._plan = plan
        self._name = orjson.dumps(context_id)
        self._audio = audio
        self._began_s = now_s
        self._written_s = array("d")
        self._ended_s: float | None = None
        self._listeners = tuple(
            Listener(ms / 1000, SLOT_MS, audio.sample_rate_hz, audio.pre_skip) for ms in JITTER_BUFFERS_MS
        )
        self._first_audio_s: float | None = None
        self._first_audio_samples = 0
        self._last_frame_s = 0.0
        self._cancel_at_s = math.inf
        self._cancelled_s: float | None = None
        self._done: dict[str, Any] | None = None
        self._word_end_ms = array("d")
        self._word_char_end = array("l")

    # --- out

    def write_due(self, now_s: float) -> bytes:
        """What is due by now, as frames to be written at once; sets when it is due next."""
        if self._cancelled_s is not None:
            self.wake_s = math.inf
            return b""
        if now_s >= self._cancel_at_s:
            return self._cancel(now_s)
        frames = []
        at, due_s, pieces = len(self._written_s), self._plan.due_s, self._plan.pieces
        while at < len(pieces) and self._began_s + due_s[at] <= now_s:
            frames.append(self._append(pieces[at]))
            self._written_s.append(now_s)
            at += 1
        if at == len(pieces) and self._ended_s is None:
            self._ended_s = now_s
            frames.append(frame(b'{"type":"text.end","context_id":%b}' % self._name))
        next_s = self._began_s + due_s[at] if at < len(pieces) else math.inf
        self.wake_s = min(next_s, self._cancel_at_s)
        return b"".join(frames)

    def _append(self, piece: str) -> bytes:
        return frame(b'{"type":"text.append","context_id":%b,"text":%b}' % (self._name, orjson.dumps(piece)))

    def _cancel(self, now_s: float) -> bytes:
        self._cancelled_s, self.wake_s = now_s, math.inf
        played_ms = int(self._listeners[0].played_ms(now_s))
        return frame(b'{"type":"context.cancel","context_id":%b,"played_ms":%d}' % (self._name, played_ms))

    # --- in

    def on_audio(self, num_bytes: int, now_s: float) -> None:
        """Takes a frame with so many bytes of payload."""
        self._last_frame_s = now_s
        if self._cancelled_s is not None or num_bytes == 0:
            return
        num_samples = self._audio.frame_samples if self._audio.is_opus else num_bytes >> 1
        for listener in self._listeners:
            listener.receive(num_samples, now_s)
        if self._first_audio_s is None:
            if self._listeners[0].has_begun:
                self._begin_hearing(now_s)
        elif now_s == self._first_audio_s:
            self._first_audio_samples = self._listeners[0].num_samples

    def _begin_hearing(self, now_s: float) -> None:
        self._first_audio_s = now_s
        self._first_audio_samples = self._listeners[0].num_samples
        if self._plan.cancel_after_s is not None:
            self._cancel_at_s = now_s + self._plan.cancel_after_s
            self.wake_s = min(self.wake_s, self._cancel_at_s)

    def on_marks(self, words: list[dict[str, Any]]) -> None:
        """Takes the times of words."""
        for word in words:
            self._word_end_ms.append(word["end_ms"])
            self._word_char_end.append(word["char_end"])

    def on_done(self, done: dict[str, Any]) -> bool:
        """Takes `context.done`; returns whether that is the end.

        Done is sent, not heard: what has come already may still be interrupted.
        """
        self._done = done
        return self._cancelled_s is None and self._cancel_at_s >= self.heard_at_s()

    # --- end

    def heard_at_s(self) -> float:
        """When a listener without a jitter buffer will have heard all of it."""
        return self._listeners[0].heard_at_s

    def end(self, outcome: Outcome, now_s: float) -> TurnResult:
        """Closes the books."""
        done = self._done
        playbacks = tuple(
            Playback(self._end_hearing(listener, now_s), listener.stalls) for listener in self._listeners
        )
        # What explains a hole is large and kept only where there is one.
        has_stalls = any(playback.stalls for playback in playbacks)
        writing = Writing(self._plan.pieces, self._written_s, self._ended_s)
        words = Words(self._word_end_ms, self._word_char_end)
        return TurnResult(
            outcome=outcome,
            began_s=self._began_s,
            ended_s=now_s,
            ttfa_text_s=None if self._first_audio_s is None else self._first_audio_s - self._began_s,
            text_wait_s=_text_wait_s(done),
            first_audio_ms=self._first_audio_samples * 1000 / self._audio.sample_rate_hz,
            audio_s=self._audio_s(done),
            num_chars=sum(map(len, self._plan.pieces[: len(self._written_s)])),
            stop_audio_s=self._since_cancel(self._last_frame_s) if outcome == "cancelled" else None,
            stop_ack_s=self._since_cancel(now_s) if outcome == "cancelled" else None,
            playbacks=playbacks,
            writing=writing if has_stalls else _NOTHING_WRITTEN,
            words=words if has_stalls else _NO_WORDS,
            server_underruns=None if done is None else done["underruns"],
        )

    def _end_hearing(self, listener: Listener, now_s: float) -> int:
        if self._cancelled_s is not None:
            return listener.stop(self._cancelled_s)
        return listener.stop(now_s) if self._done is None else listener.finish()

    def _audio_s(self, done: dict[str, Any] | None) -> float:
        if done is not None:
            return float(done["audio_ms"]) / 1000
        return self._listeners[0].num_samples / self._audio.sample_rate_hz

    def _since_cancel(self, at_s: float) -> float:
        assert self._cancelled_s is not None
        return max(0.0, at_s - self._cancelled_s)


def _text_wait_s(done: dict[str, Any] | None) -> float | None:
    """How long the server had text, but not enough of it, by its own clock."""
    if done is None or done["ttfa_ms"] is None or done["ttfa_enough_ms"] is None:
        return None
    return float(done["ttfa_ms"] - done["ttfa_enough_ms"]) / 1000
