"""Every message of `duplex.v1`, one frozen dataclass each.

Field types carry their limits (`Annotated[float, Between(0.5, 2.0)]`); `wire.py` reads them to decode and
check, and the server reads them to generate the AsyncAPI page. `None` means "not given".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from cosyduplex.errors import ErrorCode

PCM_SAMPLE_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
OPUS_SAMPLE_RATES_HZ = (8000, 12000, 16000, 24000, 48000)
FRAME_DURATIONS_MS = (10, 20, 40, 60)
DEFAULT_SAMPLE_RATE_HZ = 24000
DEFAULT_CONTEXT_ID = "default"
PROTOCOL = "duplex.v1"


@dataclass(frozen=True, slots=True)
class Between:
    """A number from `low` to `high`, both included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Length:
    """A string of `low` to `high` code points."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Entries:
    """An object of at most `most` entries."""

    most: int


ContextId = Annotated[str, Length(1, 128)]
VoiceId = Annotated[str, Length(1, 64)]
Number = Annotated[int, Between(1, 2**53 - 1)]
Milliseconds = Annotated[int, Between(0, 2**53 - 1)]
Pronunciations = Annotated[dict[Annotated[str, Length(1, 64)], Annotated[str, Length(0, 128)]], Entries(200)]

# --- parts -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioOptions:
    """The wire form of the audio a client asks for.

    The rates are checked by `negotiate_audio`, since what is not supported has a code of its own.
    """

    encoding: str | None = None
    sample_rate: int | None = None
    frame_ms: int | None = None
    profile: str | None = None
    bitrate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NegotiatedAudio:
    """The audio a session will get. `pre_skip`: samples the listener drops at each context's start."""

    encoding: Literal["pcm_s16le", "opus"]
    sample_rate: int
    frame_ms: int
    profile: Literal["speech", "narrow"] | None = None
    bitrate: int | None = None
    pre_skip: int | None = None

    @property
    def frame_samples(self) -> int:
        """Samples in one frame; a frame of 10 ms at 11025 or 22050 Hz is cut to whole samples."""
        return self.sample_rate * self.frame_ms // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechOptions:
    """How to speak. `speed` 1 = as trained, `pitch` in semitones, `volume` as gain."""

    speed: Annotated[float, Between(0.5, 2.0)] | None = None
    pitch: Annotated[float, Between(-12, 12)] | None = None
    volume: Annotated[float, Between(0, 2)] | None = None
    emotion: Annotated[str, Length(0, 64)] | None = None
    instruct: Annotated[str, Length(0, 2000)] | None = None
    dialect: Annotated[str, Length(0, 64)] | None = None
    seed: Annotated[int, Between(0, 2**53 - 1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions:
    """How to read the text: `normalize` numbers and units; what `markup` it is written in.

    `pronunciations` gives what to say for a word or phrase: `{"CosyVoice": "cozy voice"}`. `code` blocks,
    `tables` and `emoji` are left out or not.
    """

    normalize: bool | None = None
    markup: Literal["markdown", "plain"] | None = None
    pronunciations: Pronunciations | None = None
    code: Literal["skip", "announce"] | None = None
    tables: Literal["read", "skip"] | None = None
    emoji: Literal["drop", "name"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOptions:
    """Pacing: audio sent minus audio played stays within `max_ahead_ms`; 0 = as fast as it is made."""

    max_ahead_ms: int = 3000

    def __post_init__(self) -> None:
        if self.max_ahead_ms != 0 and not 200 <= self.max_ahead_ms <= 600_000:
            raise ValueError("max_ahead_ms must be 0 or from 200 to 600000")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRequest:
    """Which session to go on with, and what of it has arrived (0 = nothing)."""

    session_id: Annotated[str, Length(1, 128)]
    resume_token: Annotated[str, Length(1, 256)]
    last_seq: Annotated[int, Between(0, 2**32 - 1)] = 0
    last_ev: Annotated[int, Between(0, 2**53 - 1)] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a session may do; sent in `session.started`."""

    max_message_bytes: int = 1 << 20
    max_text_chars: int = 100_000
    max_pending_chars: int = 200_000
    max_contexts: int = 16
    max_context_s: int = 3600
    idle_s: int = 300
    replay_ms: int = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WordMark:
    """When a word is heard and where it stands in the text appended to its context (code points)."""

    text: str
    start_ms: int
    end_ms: int
    char_start: int
    char_end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One entry of `session.started.warnings`."""

    code: ErrorCode
    message: str


# --- client to server --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStart:
    """The first message: what the whole session is like. May be left out, then everything is default."""

    type: ClassVar[str] = "session.start"
    token: Annotated[str, Length(0, 4096)] | None = None
    voice: VoiceId | None = None
    language: Annotated[str, Length(0, 35)] | None = None
    audio: AudioOptions = AudioOptions()
    speech: SpeechOptions = SpeechOptions()
    text: TextOptions = TextOptions()
    flow: FlowOptions = FlowOptions()
    marks: bool = False
    resume: ResumeRequest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextOpen:
    """Opens a context; what is given overrides the session for this context alone."""

    type: ClassVar[str] = "context.open"
    context_id: ContextId = DEFAULT_CONTEXT_ID
    voice: VoiceId | None = None
    language: Annotated[str, Length(0, 35)] | None = None
    speech: SpeechOptions = SpeechOptions()
    text: TextOptions = TextOptions()
    n: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAppend:
    """More text, split anywhere; opens the context when it is new."""

    type: ClassVar[str] = "text.append"
    context_id: ContextId = DEFAULT_CONTEXT_ID
    text: str
    n: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFlush:
    """Speak all that has been appended now; answered by one `context.flushed`."""

    type: ClassVar[str] = "text.flush"
    context_id: ContextId = DEFAULT_CONTEXT_ID
    n: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEnd:
    """No more text follows."""

    type: ClassVar[str] = "text.end"
    context_id: ContextId = DEFAULT_CONTEXT_ID
    n: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextCancel:
    """Barge-in. Without an id: every context whose audio has not been heard to its end."""

    type: ClassVar[str] = "context.cancel"
    context_id: ContextId | None = None
    played_ms: Milliseconds | None = None
    n: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackReport:
    """What the listener has heard; what has arrived need not be kept."""

    type: ClassVar[str] = "playback.report"
    context_id: ContextId = DEFAULT_CONTEXT_ID
    played_ms: Milliseconds
    buffered_ms: Milliseconds | None = None
    underruns: Annotated[int, Between(0, 2**31 - 1)] | None = None
    last_seq: Annotated[int, Between(0, 2**32 - 1)] | None = None
    last_ev: Annotated[int, Between(0, 2**53 - 1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """How a person found it, 1 (bad) to 5 (good)."""

    type: ClassVar[str] = "feedback"
    context_id: ContextId = DEFAULT_CONTEXT_ID
    score: Annotated[int, Between(1, 5)]
    comment: Annotated[str, Length(0, 2000)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Answered by `pong` with the same `t`, whatever that is."""

    type: ClassVar[str] = "ping"
    t: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """Finish the open contexts, then close with 1000."""

    type: ClassVar[str] = "session.end"


ClientMessage = (
    SessionStart
    | ContextOpen
    | TextAppend
    | TextFlush
    | TextEnd
    | ContextCancel
    | PlaybackReport
    | Feedback
    | Ping
    | SessionEnd
)

# --- server to client --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted:
    """The session as it will be; the effective configuration is echoed."""

    type: ClassVar[str] = "session.started"
    session_id: str
    resume_token: str
    resume_window_ms: int
    resumed: bool
    last_n: int
    first_seq: int
    audio: NegotiatedAudio
    voice: str
    engine: str
    limits: Limits
    warnings: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextStarted:
    """A context is open; its audio will carry `context_index`."""

    type: ClassVar[str] = "context.started"
    ev: int = 0
    context_id: str
    context_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Words with their times. `exact`: measured, else estimated."""

    type: ClassVar[str] = "marks"
    ev: int = 0
    context_id: str
    context_index: int
    words: tuple[WordMark, ...]
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextFlushed:
    """All text up to one `text.flush` has been sent as audio."""

    type: ClassVar[str] = "context.flushed"
    ev: int = 0
    context_id: str
    context_index: int
    audio_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextDone:
    """Everything has been sent (not: heard). `ttfa_ms` is null for a context without audio."""

    type: ClassVar[str] = "context.done"
    ev: int = 0
    context_id: str
    context_index: int
    audio_ms: int
    characters: int
    ttfa_ms: int | None
    ttfa_enough_ms: int | None
    underruns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextCancelled:
    """Nothing more of this context follows. `spoken_chars`: how far into the text the listener got."""

    type: ClassVar[str] = "context.cancelled"
    ev: int = 0
    context_id: str
    context_index: int
    sent_ms: int
    spoken_chars: int
    estimated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Warning:
    """Something was not done as asked; nothing ends."""

    type: ClassVar[str] = "warning"
    ev: int = 0
    code: ErrorCode
    message: str
    context_id: str | None = None
    context_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """Something failed; `ends` says how much of it."""

    type: ClassVar[str] = "error"
    ev: int = 0
    code: ErrorCode
    message: str
    solution: str
    retryable: bool
    retry_after_ms: int | None = None
    context_id: str | None = None
    context_index: int | None = None
    ends: Literal["none", "context", "session"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """The answer to `ping`."""

    type: ClassVar[str] = "pong"
    ev: int = 0
    t: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDraining:
    """The server is going away; `resume`: whether the session will survive elsewhere."""

    type: ClassVar[str] = "session.draining"
    ev: int = 0
    deadline_ms: int
    resume: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded:
    """The last message of a session."""

    type: ClassVar[str] = "session.ended"
    ev: int = 0
    reason: Literal["ended", "idle", "draining", "failed"]
    audio_ms: int
    characters: int


ServerMessage = (
    SessionStarted
    | ContextStarted
    | Marks
    | ContextFlushed
    | ContextDone
    | ContextCancelled
    | Warning
    | Error
    | Pong
    | SessionDraining
    | SessionEnded
)

Message = ClientMessage | ServerMessage


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """One binary message: samples or one Opus packet of one context.

    Attributes:
        context_index: whose audio this is.
        seq: number of the frame in its session, from 1.
        pts: position of its first sample in the context, in samples at the negotiated rate.
        payload: mono s16le samples, or exactly one Opus packet; may be empty with `last`.
        first: the first frame of its context.
        last: the last frame of its context.
        gap: something before it was lost.
    """

    context_index: int
    seq: int
    pts: int
    payload: bytes = field(repr=False)
    first: bool = False
    last: bool = False
    gap: bool = False


CLIENT_MESSAGES: tuple[type[Any], ...] = ClientMessage.__args__
SERVER_MESSAGES: tuple[type[Any], ...] = ServerMessage.__args__
