"""The same client for programs without asyncio."""

from __future__ import annotations

import concurrent.futures
import itertools
import signal
import threading
from collections.abc import Iterator

import pytest
from client.scripted_server import Peer, heard, pcm_of, refusal, serving_in_thread

import cosyduplex.client
import cosyduplex.sync
from cosyduplex.client import ConnectError, ContextError, SessionClosed
from cosyduplex.messages import (
    AudioFrame,
    ContextCancel,
    ContextDone,
    ContextOpen,
    Feedback,
    PlaybackReport,
    SessionEnd,
    SpeechOptions,
    TextAppend,
    Warning,
)


def letters(context) -> str:
    return heard(b"".join(event.payload for event in context if isinstance(event, AudioFrame)))


def interrupt() -> None:
    """As Ctrl-C does."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def test_both_faces_have_the_same_names() -> None:
    for name in ("Session", "Context"):
        faces = (getattr(module, name) for module in (cosyduplex.client, cosyduplex.sync))
        asynchronous, blocking = ({n for n in dir(face) if not n.startswith("_")} for face in faces)
        assert asynchronous - blocking <= {"aclose"}
        assert blocking <= asynchronous | {"result"}


@pytest.mark.parametrize("tokens", ["abc", ["a", "b", "c"], iter("abc")])
def test_speaks_what_any_iterable_yields(tokens) -> None:
    with serving_in_thread() as server, cosyduplex.sync.connect(server.url) as session:
        assert session.started.voice == "test"
        assert heard(b"".join(session.speak(tokens))) == "abc"


def test_audio_comes_before_the_last_token_is_written() -> None:
    has_heard = threading.Event()

    def tokens() -> Iterator[str]:
        yield "first"
        has_heard.wait()
        yield "second"

    with serving_in_thread() as server, cosyduplex.sync.connect(server.url) as session:
        spoken = []
        for audio in session.speak(tokens()):
            spoken.append(audio)
            has_heard.set()
        assert heard(b"".join(spoken)) == "firstsecond"


def test_contexts_are_used_from_several_threads() -> None:
    texts = [character * 50 for character in "abcdef"]
    with (
        serving_in_thread() as server,
        cosyduplex.sync.connect(server.url) as session,
        concurrent.futures.ThreadPoolExecutor(2 * len(texts)) as pool,
    ):
        contexts = [session.context() for _ in texts]
        listening = [pool.submit(letters, context) for context in contexts]
        feeding = [pool.submit(c.feed, iter(text)) for c, text in zip(contexts, texts, strict=True)]
        assert [future.result() for future in feeding] == [None] * len(texts)
        assert [future.result() for future in listening] == texts
        assert all(isinstance(context.result, ContextDone) for context in contexts)


def test_a_context_speaks_flushes_and_ends_by_hand() -> None:
    with serving_in_thread() as server, cosyduplex.sync.connect(server.url) as session:
        context = session.context("c", voice="anna", speech=SpeechOptions(speed=2))
        context.append("a")
        context.flush()
        context.end()
        assert [event.type if hasattr(event, "type") else "audio" for event in context] == [
            "audio",
            "context.flushed",
            "context.done",
        ]
        assert [type(event) for event in session.context().speak("xy")] == [
            AudioFrame,
            AudioFrame,
            ContextDone,
        ]


def test_a_cancel_ends_a_listener_in_another_thread() -> None:
    with (
        serving_in_thread() as server,
        cosyduplex.sync.connect(server.url) as session,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        context = session.context()
        context.append("ab")
        listening = pool.submit(letters, context)
        session.ping()
        assert context.cancel(played_ms=20).spoken_chars == 2
        assert "ab".startswith(listening.result())
        other = session.context()
        other.append("x")
        assert [result.context_id for result in session.cancel()] == [other.id]


def test_leaving_a_speech_cancels_it() -> None:
    with serving_in_thread() as server, cosyduplex.sync.connect(server.url) as session:
        for audio in session.speak(itertools.repeat("a")):
            assert audio == pcm_of("a")
            break
        session.ping()
        assert any(isinstance(m, ContextCancel) for m in server.peers[0].received)


def test_what_the_tokens_raise_is_raised_in_the_listening_thread() -> None:
    def broken() -> Iterator[str]:
        yield "a"
        raise ZeroDivisionError

    with serving_in_thread() as server, cosyduplex.sync.connect(server.url) as session:
        with pytest.raises(ZeroDivisionError):
            list(session.speak(broken()))
        with pytest.raises(ZeroDivisionError):
            session.context().feed(broken())
        assert heard(b"".join(session.speak("on"))) == "on"


def test_a_context_that_failed_raises_in_the_listening_thread() -> None:
    async def full(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.fail("context", context_id="c", index=0)
        await peer.until_end()
        await peer.end()

    with serving_in_thread(full) as server, cosyduplex.sync.connect(server.url) as session:
        context = session.context("c")
        context.append("a")
        with pytest.raises(ContextError, match="over_capacity"):
            letters(context)


def test_a_socket_that_dies_ends_every_waiting_thread() -> None:
    async def dying(peer: Peer) -> None:
        await peer.begin()
        await peer.expect(ContextOpen)
        await peer.expect(TextAppend)
        peer.socket.transport.abort()

    with (
        serving_in_thread(dying) as server,
        cosyduplex.sync.connect(server.url) as session,
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
        contexts = [session.context() for _ in range(3)]
        listening = [pool.submit(letters, context) for context in contexts]
        events = pool.submit(lambda: list(session.events()))
        contexts[0].append("a")
        for future in listening:
            with pytest.raises(SessionClosed):
                future.result()
        assert events.result() == []


def test_leaving_the_block_ends_other_threads_and_later_calls() -> None:
    with serving_in_thread() as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        with cosyduplex.sync.connect(server.url) as session:
            context = session.context()
            context.append("a")
            waiting = pool.submit(letters, context)
            session.ping()
        with pytest.raises(SessionClosed):
            waiting.result()
        for call in (session.ping, context.end, session.context, lambda: letters(context)):
            with pytest.raises(SessionClosed, match="closed by this side"):
                call()
        assert list(session.events()) == []
        assert isinstance(server.peers[0].received[-1], SessionEnd)
        assert not [t for t in threading.enumerate() if t.name == "cosyduplex session"]


@pytest.mark.parametrize("waits_for", ["audio", "speech", "tokens"])
def test_an_interrupt_while_waiting_leaves_the_session_usable(waits_for: str) -> None:
    def tokens() -> Iterator[str]:
        yield "a"
        threading.Event().wait()

    with serving_in_thread() as server, cosyduplex.sync.connect(server.url) as session:
        context = session.context("c")
        timer = threading.Timer(0.1, interrupt)
        waiting = {
            "audio": lambda: letters(context),
            "speech": lambda: list(session.speak(tokens(), context_id="c")),
            "tokens": lambda: context.feed(tokens()),
        }[waits_for]
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            waiting()
        timer.join()
        assert heard(b"".join(session.speak("on"))) == "on"


def test_an_interrupt_in_the_block_closes_the_session() -> None:
    with serving_in_thread() as server:
        with pytest.raises(KeyboardInterrupt), cosyduplex.sync.connect(server.url):
            raise KeyboardInterrupt
        assert isinstance(server.peers[0].received[-1], SessionEnd)


def test_a_refused_handshake_is_raised_in_the_calling_thread() -> None:
    with serving_in_thread() as server:
        server.refusal = refusal(401, "unauthorized", "no key", "Send one.")
        with (
            pytest.raises(ConnectError, match="unauthorized: no key — Send one"),
            cosyduplex.sync.connect(server.url),
        ):
            pass
    assert not [t for t in threading.enumerate() if t.name == "cosyduplex session"]


def test_reports_feedback_and_events_pass() -> None:
    async def warning(peer: Peer) -> None:
        await peer.begin()
        await peer.send(Warning(code="rate_limited", message="slower"))
        await peer.until_end()
        await peer.end()

    with serving_in_thread(warning) as server:
        with cosyduplex.sync.connect(server.url) as session:
            assert next(session.events()).message == "slower"
            session.report_playback("c", played_ms=20)
            session.feedback("c", 3)
        kinds = [type(message) for message in server.peers[0].received]
        assert kinds[1:] == [PlaybackReport, Feedback, SessionEnd]
