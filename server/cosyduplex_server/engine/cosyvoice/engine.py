"""CosyVoice as the engine of a worker: the event loop's side, and the thread that runs the models."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Final

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.cosyvoice.blocks import BlockAllocator, OutOfBlocks, SlotAllocator
from cosyduplex_server.engine.cosyvoice.plan import TextPlan, TextStart
from cosyduplex_server.engine.cosyvoice.prefixes import Prefixes
from cosyduplex_server.engine.cosyvoice.request import FlowStep, Manner, Memory, Request
from cosyduplex_server.engine.cosyvoice.runner import (
    FIRST_FLOW_BLOCK,
    FIRST_LM_BLOCK,
    FIRST_SLOT,
    FlowFrames,
    Runner,
    VocoderWork,
)
from cosyduplex_server.engine.cosyvoice.scheduler import choose_flow, choose_lm
from cosyduplex_server.engine.cosyvoice.tokenizer import TextTokenizer
from cosyduplex_server.engine.cosyvoice.voice import Mode, resolve
from cosyduplex_server.engine.cosyvoice.voice_book import VoiceBook
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.outbox import Outbox
from cosyduplex_server.errors import Failure

logger = logging.getLogger(__name__)

PARAMETERS: Final = ("speed", "volume", "emotion", "instruct", "dialect", "seed")
_SEED_BITS: Final = 63

Command = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user chose.

    Attributes:
        slots: contexts at a time.
        text_start: see `TextPlan`.
        start_tokens: see `TextPlan`.
        upstream_end: ends utterances as upstream does, see `Runner.last_chunk_in_full`.
    """

    slots: int
    text_start: TextStart = "clause"
    start_tokens: int = 8
    upstream_end: bool = False


class CosyVoiceEngine:
    """A checkpoint's voices. All contexts share the models; each has its state to itself.

    Args:
        runner: the models.
        tokenizer: of their text.
        book: the voices.
        description: what this engine is, but for its voices.
        options: what a user chose.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: TextTokenizer,
        book: VoiceBook,
        description: link.Description,
        options: Options,
    ) -> None:
        self._tokenizer = tokenizer
        self._book = book
        self._config = runner.config.lm
        self._options = options
        self._description = description
        self._loop = EngineLoop(runner, options)
        self._thread = threading.Thread(target=self._loop.run, name="cosyvoice", daemon=True)
        self._thread.start()

    @property
    def description(self) -> link.Description:
        """The model, its voices, and what does not work."""
        description = link.Description()
        description.CopyFrom(self._description)
        description.voices.extend(self._book.describe())
        return description

    @property
    def state(self) -> EngineLoop:
        """What the models' thread holds, for tests and figures; read it only while nothing is spoken."""
        return self._loop

    def open(self, request: link.Open, outbox: Outbox) -> CosyVoiceRequest:
        """Begins a context.

        Raises:
            Failure: `unknown_voice`, or `bad_request` for an instruction that is too long.
        """
        conditioning = resolve(
            self._book.get(request.voice),
            tokenizer=self._tokenizer,
            config=self._config,
            instruct=request.instruct,
            emotion=request.emotion,
            dialect=request.dialect,
            language=request.language,
        )
        for note in conditioning.notes:
            outbox.emit(link.Event(note=link.Note(text=note)))
        seed = request.seed if request.HasField("seed") else random.getrandbits(_SEED_BITS)
        manner = Manner(
            conditioning=conditioning,
            speed=request.speed,
            volume=request.volume,
            seed=seed % (1 << _SEED_BITS),
        )
        # Between speech tokens CosyVoice2 would begin to speak in the middle of an instruction.
        in_turns = self._config.generation == 3 or conditioning.mode is not Mode.INSTRUCT
        plan = TextPlan(
            self._tokenizer,
            self._options.text_start if in_turns else "sentence",
            start_tokens=self._options.start_tokens,
        )
        return CosyVoiceRequest(self._loop, manner, plan, outbox, request.credit_samples)

    def add_voice(self, prompt: link.VoicePrompt) -> link.VoiceAdded:
        """Makes a voice of a recording; takes a second or more.

        Raises:
            Failure: no voice can be made of it.
        """
        return self._book.add(prompt)

    def remove_voice(self, voice_id: str) -> None:
        """Forgets a voice; contexts that speak with it go on.

        Raises:
            Failure: it is one of the model's own.
        """
        self._book.remove(voice_id)

    @property
    def gpu_memory_bytes(self) -> int:
        """Memory of the GPU that this process holds; 0 on a CPU."""
        return self._loop.runner.gpu_memory_bytes

    async def aclose(self) -> None:
        """Ends the thread."""
        self._loop.stop()
        await asyncio.to_thread(self._thread.join)


class CosyVoiceRequest:
    """One context, seen from the event loop: posts everything to the models' thread."""

    def __init__(
        self, loop: EngineLoop, manner: Manner, plan: TextPlan, outbox: Outbox, credit_samples: int
    ) -> None:
        self._loop = loop
        self._request = loop.new_request(manner, plan, outbox, credit_samples)
        loop.post(lambda: loop.add(self._request))

    def append(self, segment: int, text: str, closes: bool) -> None:
        """Takes more text; it may be spoken before its segment closes."""
        self._command(lambda: self._request.append(segment, text, closes))

    def flush(self, number: int) -> None:
        """Answered once everything before is spoken."""
        self._command(lambda: self._request.flush(number))

    def finish(self) -> None:
        """Done once everything before is spoken."""
        self._command(self._request.finish)

    def cancel(self) -> None:
        """Stops before the next step of the models, and gives everything back."""
        self._loop.post(lambda: self._loop.drop(self._request))

    def progress(self, sent_samples: int, credit_samples: int) -> None:
        """Goes on when there is credit."""
        self._command(lambda: self._request.allow(credit_samples))

    def _command(self, command: Command) -> None:
        self._loop.post(lambda: self._loop.command(self._request, command))


class EngineLoop:
    """The models' thread: obeys commands, and between them does one step after another.

    Args:
        runner: the models.
        options: what a user chose.
    """

    def __init__(self, runner: Runner, options: Options) -> None:
        self.runner = runner
        self._options = options
        self._inbox: SimpleQueue[Command | None] = SimpleQueue()
        self._requests: dict[Request, None] = {}  # in the order they came
        memory = runner.memory
        flow_blocks = BlockAllocator(memory.num_flow_blocks, FIRST_FLOW_BLOCK)
        slots = SlotAllocator(memory.num_slots, FIRST_SLOT)
        self.memory = Memory(
            lm_blocks=BlockAllocator(memory.num_lm_blocks, FIRST_LM_BLOCK),
            flow_blocks=flow_blocks,
            slots=slots,
            prefixes=Prefixes(runner, flow_blocks, slots, max_kept=memory.num_prefixes),
        )

    # --- from any thread

    @property
    def num_requests(self) -> int:
        """Contexts that live."""
        return len(self._requests)

    @property
    def requests(self) -> tuple[Request, ...]:
        """Contexts that live, in the order they came."""
        return tuple(self._requests)

    def new_request(self, manner: Manner, plan: TextPlan, outbox: Outbox, credit_samples: int) -> Request:
        """A context that `add` takes in."""
        return Request(
            manner,
            plan,
            self.runner.config.lm,
            self.memory,
            self.runner.new_vocoder,
            outbox,
            credit_samples,
        )

    def post(self, command: Command) -> None:
        """Lets the thread do this before its next step."""
        self._inbox.put(command)

    def stop(self) -> None:
        """Ends the thread after the step it is in."""
        self._inbox.put(None)

    # --- on the thread

    def run(self) -> None:
        """Works until it is stopped."""
        busy = False
        while True:
            try:
                command = self._inbox.get(block=not busy)
            except Empty:
                busy = self._step()
                continue
            if command is None:
                return
            command()
            busy = True

    def add(self, request: Request) -> None:
        """Takes a context in."""
        self._requests[request] = None

    def command(self, request: Request, command: Command) -> None:
        """Obeys a command of a context that still lives."""
        if not request.closed:
            self._guard([request], command)

    def drop(self, request: Request) -> None:
        """Forgets a context."""
        request.close()
        self._requests.pop(request, None)

    def _step(self) -> bool:
        """One batch of each kind that is due; whether there was any."""
        spoken = choose_flow(self._requests)
        if spoken:
            self._guard(spoken, lambda: self._speak(spoken))
        drawing = choose_lm(self._requests)
        if drawing:
            self._guard(drawing, lambda: self._draw(drawing))
        return bool(spoken or drawing)

    def _guard(self, requests: Sequence[Request], work: Command) -> None:
        """The edge of the thread: what goes wrong ends the contexts concerned and no other."""
        try:
            work()
        except Exception as error:  # noqa: BLE001
            self._fail(requests, error)
        for request in requests:
            if request.closed:
                self._requests.pop(request, None)

    def _fail(self, requests: Sequence[Request], error: Exception) -> None:
        fatal = self.runner.is_fatal(error)
        for request in tuple(self._requests) if fatal else requests:
            request.outbox.fail(_as_failure(error))
            self.drop(request)
        if fatal:
            # The device takes no more work from this process; the supervisor starts another.
            logger.critical("the device has failed, this worker ends", exc_info=error)
            os.kill(os.getpid(), signal.SIGTERM)

    def _draw(self, requests: Sequence[Request]) -> None:
        began_s = perf_counter()
        works = []
        taken = []
        for request in requests:
            try:
                works.append(request.lm_work())
                taken.append(request)
            except OutOfBlocks as error:
                self._fail([request], error)
        tokens = self.runner.step_lm(works) if works else []
        self._account(taken, "llm", began_s)
        for request, token in zip(taken, tokens, strict=True):
            self._guard([request], partial(request.take_token, token))

    def _speak(self, requests: Sequence[Request]) -> None:
        began_s = perf_counter()
        steps: list[FlowStep] = []
        for request in requests:
            try:
                steps.append(request.flow_step(self.runner.begin_flow))
            except OutOfBlocks as error:
                self._fail([request], error)
        works = [step.work for step in steps if step.work is not None]
        mels = iter(self.runner.step_flow(works) if works else [])
        frames = [None if step.work is None else next(mels) for step in steps]
        if self._options.upstream_end:
            frames = [self._upstream_end(step, mel) for step, mel in zip(steps, frames, strict=True)]
        for step in steps:
            step.request.took_chunk(step)
        self.runner.wait()
        self._account([step.request for step in steps], "flow", began_s)
        began_s = perf_counter()
        audio = self.runner.vocode(
            [
                VocoderWork(step.request.vocoder, mel, step.final, step.request.manner.volume)
                for step, mel in zip(steps, frames, strict=True)
            ]
        )
        self._account([step.request for step in steps], "vocoder", began_s)
        for step, pcm in zip(steps, audio, strict=True):
            self._guard([step.request], partial(step.request.took_audio, pcm, final=step.final))

    def _upstream_end(self, step: FlowStep, mel_FC: FlowFrames | None) -> FlowFrames | None:
        if mel_FC is None or step.work is None or not step.work.chunk.is_last:
            return mel_FC
        tokens = step.request.flow_tokens
        return self.runner.last_chunk_in_full(tokens, step.work.prompt, len(mel_FC))

    def _account(self, requests: Sequence[Request], stage: str, began_s: float) -> None:
        for request in requests:
            request.stage_seconds[stage] += (perf_counter() - began_s) / len(requests)


def _as_failure(error: Exception) -> BaseException:
    if isinstance(error, OutOfBlocks):
        return Failure(ErrorCode.OVER_CAPACITY, "The engine has no memory left for this context.")
    return error
