"""One `ModelStreamInfer` call: which of its requests are spoken now, and which wait for their turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from cosyduplex.errors import ErrorCode
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.grpc_calls import (
    Call,
    NotReading,
    Undecodable,
    bad_request,
    credential,
    undecodable,
    write,
)
from cosyduplex_bridges.grpc_stubs import kserve_pb2 as kserve
from cosyduplex_bridges.triton.models import Model
from cosyduplex_bridges.triton.replies import error_reply, final_reply, wants_final
from cosyduplex_bridges.triton.speaking import Reply, Speaking
from cosyduplex_server.errors import Failure

Find = Callable[[str, str], Model]

# What waits on one stream; more is not read before there is room.
_MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
_REQUEST_BYTES: Final = 2048  # what a short request costs beside its content
_MAX_SEQUENCES: Final = 1000
_MAX_SEQUENCE_ID_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a request stands in its sequence."""

    sequence_id: str | int
    starts: bool
    ends: bool


def _place(request: kserve.ModelInferRequest) -> _Place | None:
    """Where it stands; None for a whole utterance.

    Raises:
        Failure: `bad_request`.
    """
    if "sequence_id" not in request.parameters:
        return None
    parameter = request.parameters["sequence_id"]
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in ("int64_param", "uint64_param", "string_param"):
        raise bad_request("parameter 'sequence_id' is neither a whole number nor a string")
    sequence_id: str | int = getattr(parameter, kind)
    if isinstance(sequence_id, int) and sequence_id >= 2**63:
        sequence_id = str(sequence_id)
    if isinstance(sequence_id, str) and len(sequence_id) > _MAX_SEQUENCE_ID_CHARS:
        raise bad_request(f"parameter 'sequence_id' has more than {_MAX_SEQUENCE_ID_CHARS} characters")
    if not sequence_id:
        return None
    return _Place(sequence_id, _flag(request, "sequence_start"), _flag(request, "sequence_end"))


def is_whole(request: kserve.ModelInferRequest) -> bool:
    """Whether a request is a whole utterance.

    Raises:
        Failure: `bad_request`.
    """
    place = _place(request)
    return place is None or (place.starts and place.ends)


def _flag(request: kserve.ModelInferRequest, name: str) -> bool:
    if name not in request.parameters:
        return False
    parameter = request.parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in ("bool_param", "int64_param"):
        raise bad_request(f"parameter '{name}' is not a bool")
    return bool(getattr(parameter, kind))


@dataclass(frozen=True, slots=True)
class _Turn:
    """Something to be answered when the requests of its id before it have been.

    Attributes:
        num_bytes: what it costs while it waits and runs.
        run: answers it.
    """

    num_bytes: int
    run: Callable[[], Coroutine[Any, Any, None]]


class Stream:
    """Speaks what one client asks for.

    Requests of one id, the empty one included, are answered one after another, since nothing else tells
    their responses apart; those of different ids at the same time.

    Args:
        bridge: what the doors share.
        find: the model of a name and version; raises `Failure`.
        call: the client's.
        closing: set when the server ends.
    """

    def __init__(self, bridge: Bridge, find: Find, call: Call, closing: asyncio.Event) -> None:
        self._bridge = bridge
        self._find = find
        self._call = call
        self._closing = closing
        self._credential = credential(call)
        self._writing = asyncio.Lock()
        self._lanes: dict[str, deque[_Turn]] = {}
        self._sequences: dict[tuple[str, str | int], Speaking] = {}
        self._at_once = asyncio.Semaphore(bridge.gateway.config.max_contexts_per_session)
        self._waiting_bytes = 0
        self._room = asyncio.Event()

    async def run(self, requests: AsyncIterator[kserve.ModelInferRequest | Undecodable]) -> None:
        """Answers until the client has no more requests, and all are answered.

        Raises:
            Failure: too much waits on the stream.
            NotReading: the client takes nothing.
        """
        try:
            async with asyncio.TaskGroup() as self._group:
                reading = self._group.create_task(self._read(requests), name="triton reading")
                closing = self._group.create_task(self._closing.wait(), name="triton closing")
                await asyncio.wait((reading, closing), return_when=asyncio.FIRST_COMPLETED)
                reading.cancel()
                closing.cancel()
                for sequence in self._sequences.values():
                    sequence.end()
        except* NotReading:
            raise NotReading from None
        except* _StreamFull as group:
            raise group.exceptions[0] from None
        finally:
            for sequence in self._sequences.values():
                sequence.close()

    # --- what comes in

    async def _read(self, requests: AsyncIterator[kserve.ModelInferRequest | Undecodable]) -> None:
        async for request in requests:
            if isinstance(request, Undecodable):
                nobody = kserve.ModelInferRequest()
                self._queue(nobody, self._refusal(nobody, undecodable()))
                continue
            try:
                self._take(request)
            except Failure as failure:
                self._queue(request, self._refusal(request, failure))
            await self._make_room()

    def _take(self, request: kserve.ModelInferRequest) -> None:
        model = self._find(request.model_name, request.model_version)
        place = _place(request)
        if place is None:
            self._queue(request, self._speaking(model, request, None).run)
            return
        key = (model.name, place.sequence_id)
        sequence = self._sequences.get(key)
        if place.starts and (sequence is None or sequence.is_over):
            self._begin_sequence(key, model, request)
        elif place.starts:
            raise bad_request(f"sequence {place.sequence_id} has started already")
        elif sequence is None:
            raise bad_request(
                f"sequence {place.sequence_id} has not started", "Set sequence_start on its first request."
            )
        self._add(key, request, last=place.ends)

    def _begin_sequence(
        self, key: tuple[str, str | int], model: Model, request: kserve.ModelInferRequest
    ) -> None:
        if len(self._sequences) >= _MAX_SEQUENCES:
            raise Failure(ErrorCode.RATE_LIMITED, f"{_MAX_SEQUENCES} sequences of this stream are unfinished")
        sequence = self._sequences[key] = self._speaking(model, request, key[1])
        self._queue(request, sequence.run)

    def _add(self, key: tuple[str, str | int], request: kserve.ModelInferRequest, *, last: bool) -> None:
        sequence = self._sequences[key]
        if last:
            del self._sequences[key]
        try:
            sequence.take(request, last=last)
        except Failure as failure:
            # The sequence goes on, so this cannot wait for its end.
            self._spawn(self._refusal(request, failure)())

    def _speaking(
        self, model: Model, request: kserve.ModelInferRequest, sequence_id: str | int | None
    ) -> Speaking:
        return Speaking(
            self._bridge, model, request, sequence_id, self._credential, self._send, self._send_soon
        )

    async def _make_room(self) -> None:
        while self._waiting_bytes > _MAX_WAITING_BYTES:
            if any(not sequence.is_over for sequence in self._sequences.values()):
                # Its next request may be behind this one, so to stop reading could be to stop for ever.
                raise _StreamFull(ErrorCode.RATE_LIMITED, "too many requests wait on this stream")
            self._room.clear()
            await self._room.wait()

    # --- whose turn it is

    def _queue(self, request: kserve.ModelInferRequest, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        turn = _Turn(request.ByteSize() + _REQUEST_BYTES, run)
        self._waiting_bytes += turn.num_bytes
        lane = self._lanes.get(request.id)
        if lane is None:
            lane = self._lanes[request.id] = deque()
            self._group.create_task(self._run_lane(request.id, lane), name="triton requests")
        lane.append(turn)

    async def _run_lane(self, request_id: str, lane: deque[_Turn]) -> None:
        while lane:
            turn = lane.popleft()
            async with self._at_once:
                await turn.run()
            self._release(turn.num_bytes)
        del self._lanes[request_id]

    def _release(self, num_bytes: int) -> None:
        self._waiting_bytes -= num_bytes
        self._room.set()

    # --- what goes out

    def _refusal(
        self, request: kserve.ModelInferRequest, failure: Failure
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        name, request_id, final = request.model_name, request.id, wants_final(request)

        async def refuse() -> None:
            await self._send(lambda: error_reply(name, request_id, failure, final=not final))
            if final:
                await self._send(lambda: Reply(infer_response=final_reply(name, request_id)))

        return refuse

    def _send_soon(self, make: Callable[[], Reply]) -> None:
        self._spawn(self._send(make))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._waiting_bytes += _REQUEST_BYTES
        task = self._group.create_task(work, name="triton reply")
        task.add_done_callback(lambda _: self._release(_REQUEST_BYTES))

    async def _send(self, make: Callable[[], Reply]) -> None:
        async with self._writing:
            await write(self._call, make(), self._bridge.gateway.config.write_timeout_s)


class _StreamFull(Failure):
    """What waits on a stream has no room any more, and the stream ends."""
