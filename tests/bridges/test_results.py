"""What is handed over by URL: ten minutes, so many bytes, and only to who knows the id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cosyduplex.errors import ErrorCode
from cosyduplex_bridges.results import LIFETIME_S, MAX_BYTES, ResultStore
from cosyduplex_server.errors import Failure


class ManualClock:
    """A clock that goes forward when it is told to, and calls back then."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[asyncio.TimerHandle] = []
        self._loop = asyncio.new_event_loop()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        self.timers.append(asyncio.TimerHandle(when, callback, (), self._loop))
        return self.timers[-1]

    @property
    def waiting(self) -> list[asyncio.TimerHandle]:
        return [timer for timer in self.timers if not timer.cancelled()]

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.waiting if timer.when() <= end]:
            first = min(due, key=asyncio.TimerHandle.when)
            self.timers.remove(first)
            self.now = max(self.now, first.when())
            first._run()
        self.now = end

    def close(self) -> None:
        self._loop.close()


@pytest.fixture
def clock() -> ManualClock:
    clock = ManualClock()
    clock.close()
    return clock


def test_a_result_is_given_out_as_often_as_it_is_asked_for(clock: ManualClock) -> None:
    store = ResultStore(clock)
    result_id = store.put(b"audio", "audio/mpeg")
    for _ in range(2):
        result = store.get(result_id)
        assert result is not None
        assert (result.data, result.media_type, result.expires_at) == (b"audio", "audio/mpeg", 1600.0)


def test_ids_are_long_differ_and_fit_into_a_url(clock: ManualClock) -> None:
    store = ResultStore(clock)
    ids = {store.put(b"the same", "audio/wav") for _ in range(100)}
    assert len(ids) == 100
    assert all(len(result_id) >= 43 for result_id in ids)
    assert all(result_id.replace("-", "").replace("_", "").isalnum() for result_id in ids)


@pytest.mark.parametrize("result_id", ["", "0", "../../etc/passwd", "\ud83d", "a" * 10_000])
def test_an_id_that_was_never_given_out_has_no_result(clock: ManualClock, result_id: str) -> None:
    store = ResultStore(clock)
    store.put(b"audio", "audio/wav")
    assert store.get(result_id) is None


def test_results_last_ten_minutes_each(clock: ManualClock) -> None:
    store = ResultStore(clock)
    first = store.put(b"first", "audio/wav")
    clock.advance(400)
    second = store.put(b"second", "audio/wav")
    clock.advance(199.9)
    assert store.get(first) is not None
    clock.advance(0.1)
    assert store.get(first) is None
    assert store.get(second) is not None
    assert store.num_bytes == len(b"second")
    clock.advance(400)
    assert store.get(second) is None
    assert LIFETIME_S == 600


def test_what_has_expired_takes_no_memory_and_no_timer(clock: ManualClock) -> None:
    store = ResultStore(clock)
    for _ in range(50):
        store.put(b"x" * 1000, "audio/wav")
        clock.advance(1)
    assert len(clock.waiting) == 1
    clock.advance(600)
    assert store.num_bytes == 0
    assert clock.waiting == []


def test_a_late_timer_does_not_give_out_what_has_expired(clock: ManualClock) -> None:
    store = ResultStore(clock)
    result_id = store.put(b"audio", "audio/wav")
    clock.now += 600
    assert store.get(result_id) is None


def test_when_it_is_full_the_oldest_go_first(clock: ManualClock) -> None:
    store = ResultStore(clock, max_bytes=100)
    first, second, third = (store.put(b"x" * 40, "audio/wav") for _ in range(3))
    assert store.get(first) is None
    assert store.get(second) is not None
    assert store.get(third) is not None
    whole = store.put(b"y" * 100, "audio/wav")
    assert store.num_bytes == 100
    assert store.get(third) is None
    assert store.get(whole) is not None
    assert MAX_BYTES == 256 * 1024 * 1024


def test_the_timer_outlives_the_result_it_was_set_for(clock: ManualClock) -> None:
    store = ResultStore(clock, max_bytes=100)
    store.put(b"x" * 80, "audio/wav")
    clock.advance(10)
    second = store.put(b"y" * 80, "audio/wav")
    clock.advance(599)
    assert store.get(second) is not None
    clock.advance(1)
    assert store.num_bytes == 0


def test_a_result_larger_than_the_store_is_refused_and_pushes_nothing_out(clock: ManualClock) -> None:
    store = ResultStore(clock, max_bytes=100)
    kept = store.put(b"x" * 60, "audio/wav")
    with pytest.raises(Failure) as caught:
        store.put(b"y" * 101, "audio/wav")
    assert caught.value.code is ErrorCode.TEXT_TOO_LONG
    assert store.get(kept) is not None


def test_a_closed_store_has_forgotten_everything(clock: ManualClock) -> None:
    store = ResultStore(clock)
    result_id = store.put(b"audio", "audio/wav")
    store.close()
    assert store.get(result_id) is None
    assert store.num_bytes == 0
    assert clock.waiting == []


async def test_it_runs_on_the_event_loop() -> None:
    store = ResultStore(asyncio.get_running_loop(), lifetime_s=0.01)
    expired = asyncio.get_running_loop().create_future()
    store.put(b"audio", "audio/wav")
    asyncio.get_running_loop().call_later(0.05, expired.set_result, None)
    await expired
    assert store.num_bytes == 0
