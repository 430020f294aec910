"""The bytes of every message and frame, written by hand from the specification."""

from typing import Any

import pytest

from cosyduplex import messages as m
from cosyduplex import wire
from cosyduplex.errors import ErrorCode

LAST_INTEGER = 2**53 - 1

CLIENT_GOLDEN: list[tuple[Any, bytes]] = [
    (
        m.SessionStart(),
        b'{"type":"session.start","audio":{},"speech":{},"text":{},"flow":{"max_ahead_ms":3000},"marks":false}',
    ),
    (
        m.SessionStart(
            token="k",
            voice="中文女",
            language="zh",
            audio=m.AudioOptions(
                encoding="opus", sample_rate=48000, frame_ms=20, profile="narrow", bitrate=24000
            ),
            speech=m.SpeechOptions(
                speed=1.5, pitch=-2.0, volume=0.5, emotion="happy", instruct="slowly", dialect="yue", seed=7
            ),
            text=m.TextOptions(
                normalize=False,
                markup="plain",
                pronunciations={"CosyVoice": "cozy voice", "嗯": ""},
                code="announce",
                tables="skip",
                emoji="name",
            ),
            flow=m.FlowOptions(max_ahead_ms=0),
            marks=True,
            resume=m.ResumeRequest(session_id="s", resume_token="r", last_seq=4294967295, last_ev=9),
        ),
        b'{"type":"session.start","token":"k","voice":"\xe4\xb8\xad\xe6\x96\x87\xe5\xa5\xb3","language":"zh",'
        b'"audio":{"encoding":"opus","sample_rate":48000,"frame_ms":20,"profile":"narrow","bitrate":24000},'
        b'"speech":{"speed":1.5,"pitch":-2.0,"volume":0.5,"emotion":"happy","instruct":"slowly",'
        b'"dialect":"yue","seed":7},"text":{"normalize":false,"markup":"plain",'
        b'"pronunciations":{"CosyVoice":"cozy voice","\xe5\x97\xaf":""},"code":"announce","tables":"skip",'
        b'"emoji":"name"},"flow":{"max_ahead_ms":0},'
        b'"marks":true,"resume":{"session_id":"s","resume_token":"r","last_seq":4294967295,"last_ev":9}}',
    ),
    (m.ContextOpen(), b'{"type":"context.open","context_id":"default","speech":{},"text":{}}'),
    (
        m.ContextOpen(
            context_id="a",
            voice="v",
            language="en",
            speech=m.SpeechOptions(speed=0.5),
            text=m.TextOptions(markup="markdown"),
            n=1,
        ),
        b'{"type":"context.open","context_id":"a","voice":"v","language":"en","speech":{"speed":0.5},'
        b'"text":{"markup":"markdown"},"n":1}',
    ),
    (m.TextAppend(text="Hi"), b'{"type":"text.append","context_id":"default","text":"Hi"}'),
    (
        m.TextAppend(context_id="a", text="你好\n", n=2),
        b'{"type":"text.append","context_id":"a","text":"\xe4\xbd\xa0\xe5\xa5\xbd\\n","n":2}',
    ),
    (
        m.TextAppend(text="\ud83d"),
        b'{"type":"text.append","context_id":"default","text":"\\ud83d"}',
    ),
    (m.TextFlush(), b'{"type":"text.flush","context_id":"default"}'),
    (m.TextFlush(context_id="a", n=3), b'{"type":"text.flush","context_id":"a","n":3}'),
    (m.TextEnd(), b'{"type":"text.end","context_id":"default"}'),
    (
        m.TextEnd(context_id="a", n=LAST_INTEGER),
        b'{"type":"text.end","context_id":"a","n":9007199254740991}',
    ),
    (m.ContextCancel(), b'{"type":"context.cancel"}'),
    (
        m.ContextCancel(context_id="a", played_ms=0, n=5),
        b'{"type":"context.cancel","context_id":"a","played_ms":0,"n":5}',
    ),
    (
        m.PlaybackReport(played_ms=100),
        b'{"type":"playback.report","context_id":"default","played_ms":100}',
    ),
    (
        m.PlaybackReport(context_id="a", played_ms=1, buffered_ms=2, underruns=3, last_seq=4, last_ev=5),
        b'{"type":"playback.report","context_id":"a","played_ms":1,"buffered_ms":2,"underruns":3,'
        b'"last_seq":4,"last_ev":5}',
    ),
    (m.Feedback(score=5), b'{"type":"feedback","context_id":"default","score":5}'),
    (
        m.Feedback(context_id="a", score=1, comment='"no"'),
        b'{"type":"feedback","context_id":"a","score":1,"comment":"\\"no\\""}',
    ),
    (m.Ping(), b'{"type":"ping"}'),
    (m.Ping(t=12.5), b'{"type":"ping","t":12.5}'),
    (m.Ping(t={"x": [1, None]}), b'{"type":"ping","t":{"x":[1,null]}}'),
    (m.SessionEnd(), b'{"type":"session.end"}'),
]

SERVER_GOLDEN: list[tuple[Any, bytes]] = [
    (
        m.SessionStarted(
            session_id="s",
            resume_token="r",
            resume_window_ms=0,
            resumed=False,
            last_n=0,
            first_seq=1,
            audio=m.NegotiatedAudio(encoding="pcm_s16le", sample_rate=24000, frame_ms=20),
            voice="v",
            engine="espeak",
            limits=m.Limits(),
        ),
        b'{"type":"session.started","session_id":"s","resume_token":"r","resume_window_ms":0,'
        b'"resumed":false,"last_n":0,"first_seq":1,'
        b'"audio":{"encoding":"pcm_s16le","sample_rate":24000,"frame_ms":20},"voice":"v","engine":"espeak",'
        b'"limits":{"max_message_bytes":1048576,"max_text_chars":100000,"max_pending_chars":200000,'
        b'"max_contexts":16,"max_context_s":3600,"idle_s":300,"replay_ms":30000},"warnings":[]}',
    ),
    (
        m.SessionStarted(
            session_id="s",
            resume_token="r",
            resume_window_ms=30000,
            resumed=True,
            last_n=4,
            first_seq=17,
            audio=m.NegotiatedAudio(
                encoding="opus",
                sample_rate=48000,
                frame_ms=20,
                profile="speech",
                bitrate=48000,
                pre_skip=312,
            ),
            voice="v",
            engine="cosyvoice",
            limits=m.Limits(
                max_message_bytes=1,
                max_text_chars=2,
                max_pending_chars=3,
                max_contexts=4,
                max_context_s=5,
                idle_s=6,
                replay_ms=7,
            ),
            warnings=(m.Notice(code=ErrorCode.UNSUPPORTED_PARAMETER, message="no seed"),),
        ),
        b'{"type":"session.started","session_id":"s","resume_token":"r","resume_window_ms":30000,'
        b'"resumed":true,"last_n":4,"first_seq":17,"audio":{"encoding":"opus","sample_rate":48000,'
        b'"frame_ms":20,"profile":"speech","bitrate":48000,"pre_skip":312},"voice":"v",'
        b'"engine":"cosyvoice","limits":{"max_message_bytes":1,"max_text_chars":2,"max_pending_chars":3,'
        b'"max_contexts":4,"max_context_s":5,"idle_s":6,"replay_ms":7},'
        b'"warnings":[{"code":"unsupported_parameter","message":"no seed"}]}',
    ),
    (
        m.ContextStarted(ev=1, context_id="a", context_index=0),
        b'{"type":"context.started","ev":1,"context_id":"a","context_index":0}',
    ),
    (
        m.Marks(
            ev=2,
            context_id="a",
            context_index=0,
            words=(
                m.WordMark(text="Hello", start_ms=0, end_ms=400, char_start=0, char_end=5),
                m.WordMark(text="世界", start_ms=400, end_ms=900, char_start=7, char_end=9),
            ),
            exact=True,
        ),
        b'{"type":"marks","ev":2,"context_id":"a","context_index":0,"words":['
        b'{"text":"Hello","start_ms":0,"end_ms":400,"char_start":0,"char_end":5},'
        b'{"text":"\xe4\xb8\x96\xe7\x95\x8c","start_ms":400,"end_ms":900,"char_start":7,"char_end":9}],'
        b'"exact":true}',
    ),
    (
        m.ContextFlushed(ev=3, context_id="a", context_index=0, audio_ms=900),
        b'{"type":"context.flushed","ev":3,"context_id":"a","context_index":0,"audio_ms":900}',
    ),
    (
        m.ContextDone(
            ev=4,
            context_id="a",
            context_index=0,
            audio_ms=900,
            characters=9,
            ttfa_ms=120,
            ttfa_enough_ms=80,
            underruns=0,
        ),
        b'{"type":"context.done","ev":4,"context_id":"a","context_index":0,"audio_ms":900,"characters":9,'
        b'"ttfa_ms":120,"ttfa_enough_ms":80,"underruns":0}',
    ),
    (
        m.ContextDone(
            ev=4,
            context_id="a",
            context_index=0,
            audio_ms=0,
            characters=0,
            ttfa_ms=None,
            ttfa_enough_ms=None,
            underruns=0,
        ),
        b'{"type":"context.done","ev":4,"context_id":"a","context_index":0,"audio_ms":0,"characters":0,'
        b'"ttfa_ms":null,"ttfa_enough_ms":null,"underruns":0}',
    ),
    (
        m.ContextCancelled(
            ev=5, context_id="a", context_index=65535, sent_ms=900, spoken_chars=5, estimated=True
        ),
        b'{"type":"context.cancelled","ev":5,"context_id":"a","context_index":65535,"sent_ms":900,'
        b'"spoken_chars":5,"estimated":true}',
    ),
    (
        m.Warning(ev=6, code=ErrorCode.UNSUPPORTED_PARAMETER, message="no pitch"),
        b'{"type":"warning","ev":6,"code":"unsupported_parameter","message":"no pitch"}',
    ),
    (
        m.Warning(
            ev=6, code=ErrorCode.UNSUPPORTED_PARAMETER, message="no pitch", context_id="a", context_index=0
        ),
        b'{"type":"warning","ev":6,"code":"unsupported_parameter","message":"no pitch","context_id":"a",'
        b'"context_index":0}',
    ),
    (
        m.Error(
            ev=7,
            code=ErrorCode.BAD_REQUEST,
            message="what?",
            solution="Say it.",
            retryable=False,
            ends="none",
        ),
        b'{"type":"error","ev":7,"code":"bad_request","message":"what?","solution":"Say it.",'
        b'"retryable":false,"ends":"none"}',
    ),
    (
        m.Error(
            ev=8,
            code=ErrorCode.OVER_CAPACITY,
            message="full",
            solution="Wait.",
            retryable=True,
            retry_after_ms=1000,
            context_id="a",
            context_index=3,
            ends="context",
        ),
        b'{"type":"error","ev":8,"code":"over_capacity","message":"full","solution":"Wait.",'
        b'"retryable":true,"retry_after_ms":1000,"context_id":"a","context_index":3,"ends":"context"}',
    ),
    (m.Pong(ev=9, t=12.5), b'{"type":"pong","ev":9,"t":12.5}'),
    (
        m.SessionDraining(ev=10, deadline_ms=30000, resume=False),
        b'{"type":"session.draining","ev":10,"deadline_ms":30000,"resume":false}',
    ),
    (
        m.SessionEnded(ev=11, reason="idle", audio_ms=900, characters=9),
        b'{"type":"session.ended","ev":11,"reason":"idle","audio_ms":900,"characters":9}',
    ),
]

FRAMES = [
    (m.AudioFrame(0, 1, 0, b"", first=True), b"\x01\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"),
    (
        m.AudioFrame(0x0102, 0x03040506, 0x0708090A, b"\x34\x12\xff\xff"),
        b"\x01\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x34\x12\xff\xff",
    ),
    (
        m.AudioFrame(65535, 4294967295, 4294967295, b"", last=True),
        b"\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ),
    (m.AudioFrame(1, 2, 480, b"\x00", gap=True), b"\x01\x04\x00\x01\x00\x00\x00\x02\x00\x00\x01\xe0\x00"),
    (
        m.AudioFrame(1, 2, 3, b"", first=True, last=True, gap=True),
        b"\x01\x07\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03",
    ),
]


@pytest.mark.parametrize(("message", "data"), CLIENT_GOLDEN, ids=[str(i) for i in range(len(CLIENT_GOLDEN))])
def test_a_client_message_has_these_bytes_and_reads_back(message: Any, data: bytes) -> None:
    assert wire.encode_message(message) == data
    assert wire.decode_client_message(data) == message


@pytest.mark.parametrize(("message", "data"), SERVER_GOLDEN, ids=[str(i) for i in range(len(SERVER_GOLDEN))])
def test_a_server_message_has_these_bytes_and_reads_back(message: Any, data: bytes) -> None:
    assert wire.encode_message(message) == data
    assert wire.decode_server_message(data) == message


def test_every_type_of_message_is_golden() -> None:
    assert {type(message) for message, _ in CLIENT_GOLDEN} == set(m.CLIENT_MESSAGES)
    assert {type(message) for message, _ in SERVER_GOLDEN} == set(m.SERVER_MESSAGES)


@pytest.mark.parametrize(("frame", "data"), FRAMES)
def test_a_frame_has_these_bytes_and_reads_back(frame: m.AudioFrame, data: bytes) -> None:
    assert wire.encode_frame(frame) == data
    assert wire.decode_frame(data) == frame


def test_the_least_a_client_may_send() -> None:
    assert wire.decode_client_message(b'{"type":"session.start"}') == m.SessionStart()
    assert wire.decode_client_message(b'{"type":"text.append","text":""}') == m.TextAppend(text="")
    assert wire.decode_client_message(' { "text" : "é" , "type" : "text.append" } ') == m.TextAppend(text="é")


def test_escaped_characters_are_the_same_as_plain_ones() -> None:
    escaped = rb'{"type":"text.append","text":"\u4f60\ud83d\ude00\u0000"}'
    assert wire.decode_client_message(escaped) == m.TextAppend(text="你😀\x00")


def test_a_lone_surrogate_is_one_character() -> None:
    message = wire.decode_client_message(rb'{"type":"text.append","text":"a\ud83db\uDE00"}')
    assert message == m.TextAppend(text="a\ud83db\ude00")


def test_a_whole_number_may_be_written_with_a_point() -> None:
    report = wire.decode_client_message(b'{"type":"playback.report","played_ms":1e3,"underruns":2.0}')
    assert report == m.PlaybackReport(played_ms=1000, underruns=2)
    assert isinstance(report, m.PlaybackReport)
    assert type(report.played_ms) is int
