"""The store's voices at the workers: each worker that clones has every stored voice, or has said why not.

What a worker lacks is worked out, not remembered: one task per connected worker compares the voices it was
given with those of the store, and works off the difference. So a worker that starts again, a voice that
another program adds to the folder, and a failure half-way need no case of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import grpc
from grpc.aio import AioRpcError

from cosyduplex.errors import ERROR_KINDS, ErrorCode
from cosyduplex_server.audio.reference import Recording
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.link.worker_pb2_grpc import EngineWorkerStub
from cosyduplex_server.errors import Failure
from cosyduplex_server.voice_store import NewVoice, StoredVoice, VoiceDamaged, VoiceExists, VoiceStore

logger = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]

# Voices whose features are kept are ready in milliseconds; a worker that must make them anew does not keep
# everybody else waiting for longer than this.
FIRST_SUPPLY_S: Final = 10.0
# One voice from its recording, on a machine without a GPU that is busy with other things.
ADD_TIMEOUT_S: Final = 120.0
POLL_S: Final = 2.0
# Recordings of past requests that workers remember.
MAX_IDLE_GUESTS: Final = 16
_GONE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class Standing(Enum):
    """What can be done with a stored voice now."""

    USABLE = "usable"
    PREPARING = "preparing"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class _Given:
    """What came of handing one edition of a voice to a worker; `problem` is empty when it speaks it."""

    edition: str
    problem: str = ""
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Guest:
    """A voice of a recording that came with a request."""

    new: NewVoice
    voice: StoredVoice
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    num_users: int = 0

    @classmethod
    def of(cls, voice_id: str, recording: Recording, text: str, language: str) -> _Guest:
        common: dict[str, Any] = {
            "id": voice_id,
            "name": "reference recording",
            "language": language,
            "text": text,
            "labels": {},
        }
        # The id stands for what it is made of, so there is one edition of it.
        voice = StoredVoice(**common, consent=True, created="", sha256="", figures={})
        return cls(NewVoice(**common, recording=recording), voice)


class WorkerVoices:
    """The added voices of one worker, for as long as one connection to it lasts.

    Attributes:
        fingerprint: stands for what makes its features: the engine and the model.
        given: what came of each voice that was handed to it.
        supplied: it has been handed every voice there was when it connected.
    """

    def __init__(self, name: str, description: link.Description, stub: EngineWorkerStub) -> None:
        self.name = name
        self.fingerprint = _fingerprint(description)
        self.given: dict[str, _Given] = {}
        self.supplied = asyncio.Event()
        self._stub = stub

    def speaks(self, voice_id: str) -> bool:
        """Whether it can speak this added voice."""
        given = self.given.get(voice_id)
        return given is not None and not given.problem

    def has_tried(self, voice: StoredVoice) -> bool:
        """Whether it was handed this very voice, for good or ill."""
        given = self.given.get(voice.id)
        return given is not None and given.edition == voice.edition

    def record(self, voice: StoredVoice, answer: link.VoiceAdded) -> None:
        """Remembers what came of a voice."""
        problem = answer.error.message if answer.HasField("error") else ""
        self.given[voice.id] = _Given(voice.edition, problem, tuple(answer.notes))

    async def add(self, prompt: link.VoicePrompt) -> link.VoiceAdded:
        """Hands over a voice; whatever goes wrong at the worker is an answer with `error`.

        Raises:
            AioRpcError: the connection is gone.
        """
        call: Awaitable[link.VoiceAdded] = self._stub.AddVoice(prompt, timeout=ADD_TIMEOUT_S)
        try:
            return await call
        except AioRpcError as error:
            if error.code() in _GONE:
                raise
            logger.warning("%s could not take a voice: %s", self.name, error.code().name)
            late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            message = f"the engine {'took too long' if late else 'failed'} while preparing this voice"
            return link.VoiceAdded(error=link.Error(code=ErrorCode.ENGINE_FAILED, message=message))

    async def remove(self, voice_id: str) -> None:
        """Takes a voice away; contexts that speak it go on.

        Raises:
            AioRpcError: the connection is gone.
        """
        self.given.pop(voice_id, None)
        call: Awaitable[link.VoiceRemoved] = self._stub.RemoveVoice(
            link.VoiceId(id=voice_id), timeout=ADD_TIMEOUT_S
        )
        try:
            await call
        except AioRpcError as error:
            if error.code() in _GONE:
                raise
            logger.warning("%s could not forget a voice: %s", self.name, error.code().name)


class VoiceSync:
    """Keeps the workers' voices as the store has them; the one way for a gateway to add and remove voices.

    Must be used on one running event loop.

    Args:
        store: where voices are kept.
    """

    def __init__(self, store: VoiceStore) -> None:
        self.store = store
        self._workers: set[WorkerVoices] = set()
        self._adding: set[str] = set()
        self._guests: dict[str, _Guest] = {}  # the one that was used last stands last
        self._changed = asyncio.Event()
        # Several workers of one model want the same features: the first makes them for all.
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def standing(self, voice: StoredVoice) -> tuple[Standing, str]:
        """What can be done with a voice, and when it cannot be spoken, why."""
        if any(worker.speaks(voice.id) and worker.has_tried(voice) for worker in self._workers):
            return Standing.USABLE, ""
        if not self._workers:
            return Standing.UNUSABLE, "no engine that clones voices is running"
        for worker in self._workers:
            if not worker.has_tried(voice):
                return Standing.PREPARING, "it is still being prepared"
        return Standing.UNUSABLE, next(worker.given[voice.id].problem for worker in self._workers)

    def notes(self, voice: StoredVoice) -> list[str]:
        """What engines said of a voice while they took it."""
        given = [worker.given[voice.id] for worker in self._workers if worker.has_tried(voice)]
        return list(dict.fromkeys(note for each in given for note in each.notes))

    # --- adding and removing

    async def add(self, new: NewVoice) -> StoredVoice:
        """Has every connected worker take the voice, then keeps it.

        A worker that is gone meanwhile gets it when it is back.

        Raises:
            VoiceExists: there is one of that id, or one is being added.
            Failure: a worker refuses it (its code), or it cannot be kept. Nothing of it stays.
        """
        if new.id in self._adding:
            raise VoiceExists(new.id)
        self._adding.add(new.id)
        try:
            await self.refresh()
            if new.id in self.store.voices:
                raise VoiceExists(new.id)
            answers = await self._offer(new)
            features = {
                worker.fingerprint: answer.features for worker, answer in answers.items() if answer.features
            }
            figures = {name: value for answer in answers.values() for name, value in answer.figures.items()}
            try:
                voice = await asyncio.to_thread(self.store.add, new, features=features, figures=figures)
            except VoiceExists:
                # Another program was quicker. What it added goes to the workers in place of this one.
                for worker in answers:
                    worker.given.pop(new.id, None)
                await self.refresh()
                self._notify()
                raise
            except OSError as error:
                logger.error("a voice cannot be kept", extra={"reason": error.strerror})
                await self._take_back(new.id, answers)
                raise _cannot_keep() from None
        finally:
            self._adding.discard(new.id)
        for worker, answer in answers.items():
            worker.record(voice, answer)
        self._notify()
        return voice

    async def remove(self, voice_id: str) -> bool:
        """Forgets a voice here and at every worker; says whether there was one.

        Raises:
            Failure: the store cannot be written.
        """
        try:
            found = await asyncio.to_thread(self.store.remove, voice_id)
        except OSError as error:
            logger.error("a voice cannot be removed", extra={"reason": error.strerror})
            raise _cannot_keep() from None
        self._notify()
        return found

    async def refresh(self) -> None:
        """Takes in what other programs did to the folder."""
        try:
            changed = await asyncio.to_thread(self.store.refresh)
        except OSError as error:
            logger.warning("the voices cannot be read", extra={"reason": error.strerror})
            return
        if changed:
            self._notify()

    async def follow(self) -> None:
        """Looks for what other programs did, again and again; runs until it is cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.refresh()

    async def _offer(self, new: NewVoice) -> dict[WorkerVoices, link.VoiceAdded]:
        """Hands a voice to all workers: the recording to one of each model, what it made to the rest."""
        kinds: defaultdict[str, list[WorkerVoices]] = defaultdict(list)
        for worker in self._workers:
            kinds[worker.fingerprint].append(worker)
        found: dict[WorkerVoices, link.VoiceAdded] = {}
        await asyncio.gather(*(self._offer_to_kind(new, workers, found) for workers in kinds.values()))
        for answer in found.values():
            if answer.HasField("error"):
                await self._take_back(new.id, found)
                raise _failure_of(answer.error)
        return found

    async def _offer_to_kind(
        self, new: NewVoice, workers: list[WorkerVoices], found: dict[WorkerVoices, link.VoiceAdded]
    ) -> None:
        waiting = list(workers)
        features = b""
        while waiting and not features:
            answer = await self._offer_to(waiting.pop(), _prompt(new, audio=new.recording.wav), found)
            if answer is not None and answer.HasField("error"):
                return
            features = b"" if answer is None else answer.features
        prompt = _prompt(new, audio=new.recording.wav, features=features)
        await asyncio.gather(*(self._offer_to(worker, prompt, found) for worker in waiting))

    async def _offer_to(
        self, worker: WorkerVoices, prompt: link.VoicePrompt, found: dict[WorkerVoices, link.VoiceAdded]
    ) -> link.VoiceAdded | None:
        try:
            found[worker] = answer = await worker.add(prompt)
        except AioRpcError as error:
            logger.info("%s left while a voice was added: %s", worker.name, error.code().name)
            return None
        return answer

    async def _take_back(self, voice_id: str, answers: dict[WorkerVoices, link.VoiceAdded]) -> None:
        for worker, answer in answers.items():
            if not answer.HasField("error"):
                with contextlib.suppress(AioRpcError):
                    await worker.remove(voice_id)

    # --- guests

    def find(self, voice_id: str) -> StoredVoice | None:
        """The added voice or guest of that id."""
        guest = self._guests.get(voice_id)
        return guest.voice if guest is not None else self.store.voices.get(voice_id)

    def is_guest(self, voice_id: str) -> bool:
        """Whether it is a voice of a recording that came with a request."""
        return voice_id in self._guests

    @asynccontextmanager
    async def guest(self, recording: Recording, text: str = "", language: str = "") -> AsyncIterator[str]:
        """A voice for one request that brings its own recording, kept nowhere but in memory.

        The last ones are remembered, so that a client that sends its recording again does not wait again.

        Args:
            recording: who speaks.
            text: what the recording says; "" speaks with its timbre alone, in any language.
            language: of the recording.

        Yields:
            The id to speak with. Where no engine clones voices another voice speaks, and says so.

        Raises:
            Failure: an engine refuses the recording.
        """
        said = text.encode("utf-8", "replace")  # the link carries no half characters
        text = said.decode()
        digest = hashlib.sha256(b"\0".join((recording.wav, said, language.encode())))
        voice_id = f"guest/{digest.hexdigest()[:32]}"
        guest = self._guests.pop(voice_id, None) or _Guest.of(voice_id, recording, text, language)
        self._guests[voice_id] = guest
        guest.num_users += 1
        try:
            async with guest.lock:
                if not any(worker.speaks(voice_id) for worker in self._workers):
                    for worker, answer in (await self._offer(guest.new)).items():
                        worker.record(guest.voice, answer)
            yield voice_id
        finally:
            guest.num_users -= 1
            self._forget_guests()

    def _forget_guests(self) -> None:
        unused = [voice_id for voice_id, guest in self._guests.items() if not guest.num_users]
        for voice_id in unused[:-MAX_IDLE_GUESTS]:
            del self._guests[voice_id]
        if len(unused) > MAX_IDLE_GUESTS:
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # --- one worker

    @asynccontextmanager
    async def attended(
        self, name: str, description: link.Description, stub: EngineWorkerStub, spawn: Spawn
    ) -> AsyncIterator[WorkerVoices | None]:
        """Gives a worker the store's voices, and what changes of them, for as long as the block lasts.

        Entered once it has them all, or after 10 s. Yields `None` for a worker that clones no voices.
        """
        if not description.clones_voices:
            yield None
            return
        worker = WorkerVoices(name, description, stub)
        self._workers.add(worker)
        task = spawn(self._attend(worker), f"voices of {name}")
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_SUPPLY_S):
                    await worker.supplied.wait()
            yield worker
        finally:
            self._workers.discard(worker)
            task.cancel()

    async def _attend(self, worker: WorkerVoices) -> None:
        try:
            while True:
                changed = self._changed
                await self._settle(worker)
                worker.supplied.set()
                await changed.wait()
        except AioRpcError as error:
            # Nothing to do: the connection's own task sees it, too, and begins afresh.
            logger.info("no voices for %s any more: %s", worker.name, error.code().name)
        finally:
            worker.supplied.set()

    async def _settle(self, worker: WorkerVoices) -> None:
        for voice_id in tuple(worker.given.keys() - self.store.voices.keys() - self._guests.keys()):
            await worker.remove(voice_id)
        for voice in self.store.voices.values():
            if not worker.has_tried(voice):
                await self._give(worker, voice)

    async def _give(self, worker: WorkerVoices, voice: StoredVoice) -> None:
        features = await asyncio.to_thread(self.store.features, voice, worker.fingerprint)
        if features is not None and await self._give_features(worker, voice, features):
            return
        async with self._making[worker.fingerprint]:
            made_meanwhile = await asyncio.to_thread(self.store.features, voice, worker.fingerprint)
            if made_meanwhile not in (None, features) and await self._give_features(
                worker, voice, made_meanwhile
            ):
                return
            await self._give_recording(worker, voice)

    async def _give_features(self, worker: WorkerVoices, voice: StoredVoice, features: bytes) -> bool:
        answer = await worker.add(_prompt(voice, features=features))
        if answer.HasField("error"):
            return False
        worker.record(voice, answer)
        return True

    async def _give_recording(self, worker: WorkerVoices, voice: StoredVoice) -> None:
        try:
            audio = await asyncio.to_thread(self.store.prompt_wav, voice)
        except VoiceDamaged as error:
            answer = link.VoiceAdded(error=link.Error(message=str(error)))
        else:
            answer = await worker.add(_prompt(voice, audio=audio))
        worker.record(voice, answer)
        if answer.HasField("error"):
            logger.warning(
                "%s does not take a stored voice",
                worker.name,
                extra={"voice": voice.id, "reason": answer.error.message},
            )
            return
        if not answer.features:
            return
        try:
            await asyncio.to_thread(
                self.store.keep_features, voice, worker.fingerprint, answer.features, dict(answer.figures)
            )
        except OSError as error:
            logger.warning("what was made of a voice cannot be kept", extra={"reason": error.strerror})


def _fingerprint(description: link.Description) -> str:
    return hashlib.sha256(f"{description.engine}\n{description.model}".encode()).hexdigest()[:16]


def _prompt(voice: NewVoice | StoredVoice, *, audio: bytes = b"", features: bytes = b"") -> link.VoicePrompt:
    return link.VoicePrompt(
        id=voice.id,
        name=voice.name,
        language=voice.language,
        text=voice.text,
        audio=audio,
        features=features,
        labels=dict(voice.labels),
    )


def _failure_of(error: link.Error) -> Failure:
    code = ErrorCode(error.code) if error.code in set(map(str, ERROR_KINDS)) else ErrorCode.ENGINE_FAILED
    solution = "Add the voice again." if ERROR_KINDS[code].retryable else None
    return Failure(code, error.message, solution)


def _cannot_keep() -> Failure:
    return Failure(
        ErrorCode.INTERNAL,
        "the voices' folder cannot be written",
        "Look at the server's log: the disk may be full, or the folder belong to another user.",
    )
