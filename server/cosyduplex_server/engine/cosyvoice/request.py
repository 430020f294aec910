"""One context inside the engine: what it has to say, how far it has come, and what memory it holds.

    plan (units of text) ─► a sequence of the speech LM each ─► utterance: flow, vocoder ─► events

An utterance is what sounds as one piece: all units up to a flush or the end. No tensors are touched here. The
engine's thread owns every request; the event loop only posts commands to it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from cosyduplex_server.engine.cosyvoice.blocks import BlockAllocator, OutOfBlocks, SlotAllocator
from cosyduplex_server.engine.cosyvoice.flow_plan import FlowSequence
from cosyduplex_server.engine.cosyvoice.interleave import Feed, Interleave, LengthPolicy
from cosyduplex_server.engine.cosyvoice.marks import EstimatedWord, MarkEstimator
from cosyduplex_server.engine.cosyvoice.plan import SegmentEnd, TextPlan, Unit
from cosyduplex_server.engine.cosyvoice.prefixes import Prefix, Prefixes
from cosyduplex_server.engine.cosyvoice.runner import LM_BLOCK_ROWS, MAX_LM_ROWS, FlowWork, LMWork
from cosyduplex_server.engine.cosyvoice.voice import Conditioning
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.outbox import FinishPoint, FlushPoint, Outbox
from cosyduplex_server.models.config import (
    CHUNK_FRAMES,
    FRAMES_PER_TOKEN,
    MAX_FRAMES,
    SAMPLE_RATE_HZ,
    TOKENS_PER_S,
    SpeechLMConfig,
)

SAMPLES_PER_TOKEN: Final = SAMPLE_RATE_HZ // TOKENS_PER_S
# The speech LM may be this far ahead of what the listener's credit allows: two chunks.
_LM_AHEAD_TOKENS: Final = 2 * TOKENS_PER_S
_SEED_BITS: Final = 63
_SEED_STEP: Final = 0x5851F42D4C957F2D  # of Knuth's generator: seeds of units differ in all their bits


@dataclass(frozen=True, slots=True)
class Memory:
    """What requests take from and give back to."""

    lm_blocks: BlockAllocator
    flow_blocks: BlockAllocator
    slots: SlotAllocator
    prefixes: Prefixes


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a context is spoken.

    Attributes:
        conditioning: the voice and what comes before the text.
        speed: 0.5 to 2.
        volume: gain, 0 to 2.
        seed: of everything random in it.
    """

    conditioning: Conditioning
    speed: float
    volume: float
    seed: int


@dataclass(slots=True, eq=False)
class LMSequence:
    """A unit of text in the speech LM.

    Attributes:
        unit: its text.
        machine: what is fed next.
        seed: of its draws.
        table: its blocks.
        num_rows: rows in the cache.
        num_draws: ids drawn.
        num_read: tokens of the unit that the machine has.
        feed: what is to be run now, None while text is missing.
        speech: tokens so far.
        has_all_text: the machine knows that no more text follows.
    """

    unit: Unit
    machine: Interleave
    seed: int
    table: list[int] = field(default_factory=list)
    num_rows: int = 0
    num_draws: int = 0
    num_read: int = 0
    feed: Feed | None = None
    speech: list[int] = field(default_factory=list)
    has_all_text: bool = False

    def read_text(self) -> None:
        """Hands the machine what has been added to the unit."""
        if self.num_read < len(self.unit.tokens):
            self.machine.append([token.id for token in self.unit.tokens[self.num_read :]])
            self.num_read = len(self.unit.tokens)
        if self.unit.closed and not self.has_all_text:
            self.has_all_text = True
            self.machine.end()
        if self.feed is None:
            self.feed = self.machine.next()


@dataclass(slots=True, eq=False)
class FlowRun:
    """One flow sequence and its blocks.

    Attributes:
        table: those it can see, the voice's first.
        num_shared: the voice's.
        next_block: takes the chunk that is being computed.
        begun: its slot stands where the voice's prompt ends.
        noise_offset: frames by which its noise is further on than its place. Speech that goes on in a new
            sequence goes on in the noise as well: the seam is then a third of what it is otherwise
            (`benchmarks/flow_restart.py`).
    """

    sequence: FlowSequence
    table: list[int] = field(default_factory=list)
    num_shared: int = 0
    next_block: int | None = None
    begun: bool = False
    noise_offset: int = 0

    def give_back(self, blocks: BlockAllocator) -> None:
        """Lets go of all blocks."""
        blocks.release(self.table)
        if self.next_block is not None:
            blocks.release([self.next_block])
        self.table.clear()
        self.next_block = None


@dataclass(slots=True, eq=False)
class Utterance:
    """What sounds as one piece.

    Attributes:
        vocoder: its state, the runner's.
        first_sample: where it begins in the context.
        runs: flow sequences, the one that is being computed first.
        num_tokens: speech tokens so far.
        num_samples: made so far.
        end: what ends it, once that is known.
    """

    vocoder: Any
    first_sample: int
    runs: deque[FlowRun]
    num_tokens: int = 0
    num_samples: int = 0
    end: FlushPoint | FinishPoint | None = None


@dataclass(frozen=True, slots=True)
class FlowStep:
    """The next thing flow and vocoder have to do for a request.

    Attributes:
        work: the chunk; None when only the vocoder's rest is due, or nothing yet.
        final: the utterance ends with it.
    """

    request: Request
    work: FlowWork | None
    final: bool


class Request:
    """One context.

    Args:
        manner: how it is spoken.
        plan: its text.
        config: of the speech LM.
        memory: where it takes slots and blocks.
        new_vocoder: makes the vocoder's state for a slot, a seed and a speed.
        outbox: takes events, in their order, and failures.
        credit_samples: how many samples it may make.

    Attributes:
        closed: it holds nothing any more.
        num_samples: made so far.
        stage_seconds: its share of the time the stages took.
    """

    def __init__(
        self,
        manner: Manner,
        plan: TextPlan,
        config: SpeechLMConfig,
        memory: Memory,
        new_vocoder: Callable[[int, int, float], Any],
        outbox: Outbox,
        credit_samples: int,
    ) -> None:
        self.manner = manner
        self.plan = plan
        self.closed = False
        self.stage_seconds = {"llm": 0.0, "flow": 0.0, "vocoder": 0.0}
        self._config = config
        self._memory = memory
        self._new_vocoder = new_vocoder
        self.outbox = outbox
        self._emit = outbox.emit
        self._credit_samples = credit_samples
        self._prefix: Prefix | None = None
        self._slot: int | None = None
        self._lm: LMSequence | None = None
        self._before: LMSequence | None = None  # of the unit before, for one that continues it
        self._utterance: Utterance | None = None
        self._num_utterances = 0
        self.num_samples = 0
        # Segments that end after so many tokens of the utterance.
        self._segment_ends: deque[tuple[int, int]] = deque()
        self._marks = MarkEstimator(samples_per_token=SAMPLES_PER_TOKEN / manner.speed)

    # --- commands

    def append(self, segment: int, text: str, closes: bool) -> None:
        """Takes more text."""
        self.plan.append(segment, text, closes)
        self._advance()

    def flush(self, number: int) -> None:
        """Everything taken so far is to be spoken to its end."""
        self.plan.flush(number)
        self._advance()

    def finish(self) -> None:
        """No more text follows."""
        self.plan.finish()
        self._advance()

    def allow(self, credit_samples: int) -> None:
        """Raises how many samples may be made."""
        self._credit_samples = credit_samples

    # --- the plan

    def _advance(self) -> None:
        """Goes on in the plan as far as can be."""
        self._take_plan()
        if self._segment_ends and self._waits_for_text:
            self._tell_segments_early()

    @property
    def _waits_for_text(self) -> bool:
        """What there is of text has become speech tokens, and they are too few for the next chunk."""
        utterance = self._utterance
        if utterance is None or utterance.end is not None:
            return False
        return (self._lm is None or self._lm.feed is None) and not self._run(utterance).sequence.is_ready

    def _tell_segments_early(self) -> None:
        """Tells segments, and their words, whose audio is still to come: more text may wait for their end."""
        utterance = self._utterance
        assert utterance is not None
        num_tokens, _ = self._segment_ends[-1]
        until = utterance.first_sample + math.ceil(self._samples(num_tokens)) + 1
        self._tell_words(until)
        for _, number in self._segment_ends:
            self._emit(link.Event(segment_done=link.SegmentDone(segment=number)))
        self._segment_ends.clear()

    def _take_plan(self) -> None:
        if self._lm is not None:
            self._lm.read_text()
            self._end_unit_if_done()
        while not self.closed and self._lm is None and self._may_begin():
            item = self.plan.next()
            if item is None:
                return
            self._obey(item)

    def _may_begin(self) -> bool:
        """Nothing is begun before an utterance that ends has been heard out."""
        return self._utterance is None or self._utterance.end is None

    def _obey(self, item: Unit | SegmentEnd | FlushPoint | FinishPoint) -> None:
        match item:
            case Unit():
                self._begin_unit(item)
            case SegmentEnd(number):
                if self._utterance is None:
                    self._emit(link.Event(segment_done=link.SegmentDone(segment=number)))
                else:
                    self._segment_ends.append((self._utterance.num_tokens, number))
            case FlushPoint() | FinishPoint():
                self._before = None
                if self._utterance is None:
                    self._tell_end(item)
                else:
                    self._utterance.end = item
                    self._utterance.runs[-1].sequence.end()

    def _begin_unit(self, unit: Unit) -> None:
        if not unit.continues:
            self._restart_if_long()
        conditioning = self.manner.conditioning
        prompt_text = conditioning.prompt_text_ids
        prompt_speech = conditioning.prompt_speech_tokens
        if unit.continues and self._before is not None:
            prompt_text = (*prompt_text, *self._before.unit.ids)
            prompt_speech = (*prompt_speech, *self._before.speech)
        room = MAX_LM_ROWS - len(prompt_text) - len(prompt_speech) - 2 * LM_BLOCK_ROWS
        machine = Interleave(
            self._config,
            prompt_text,
            prompt_speech,
            unit.mode,
            length=LengthPolicy(max_tokens=max(room // 2, LM_BLOCK_ROWS)),
        )
        seed = (self.manner.seed + (unit.number + 1) * _SEED_STEP) % (1 << _SEED_BITS)
        self._lm = LMSequence(unit, machine, seed)
        self._marks.begin_unit(unit)
        self._lm.read_text()
        self._end_unit_if_done()

    def _end_unit_if_done(self) -> None:
        if self._lm is None or not self._lm.machine.done:
            return
        lm, self._lm = self._lm, None
        self._memory.lm_blocks.release(lm.table)
        lm.table.clear()
        self._before = lm
        self._marks.end_unit()

    def _restart_if_long(self) -> None:
        """Between two sentences: what follows a long flow sequence goes into another."""
        if self._utterance is None:
            return
        run = self._utterance.runs[-1]
        if run.sequence.wants_restart:
            run.sequence.end()
            self._utterance.runs.append(self._next_run(run))

    # --- speech LM

    @property
    def waits_for_lm(self) -> bool:
        """A forward of the speech LM is due."""
        if self._lm is None or self._lm.feed is None:
            return False
        made = 0 if self._utterance is None else self._utterance.num_tokens
        before = self.num_samples if self._utterance is None else self._utterance.first_sample
        allowed = self._credit_samples - before + self._samples(_LM_AHEAD_TOKENS)
        return self._samples(made) < allowed

    def lm_work(self) -> LMWork:
        """The forward that is due.

        Raises:
            OutOfBlocks: there is no memory for it.
        """
        lm = self._lm
        assert lm is not None
        assert lm.feed is not None
        while len(lm.table) * LM_BLOCK_ROWS < lm.num_rows + len(lm.feed.rows):
            lm.table.append(self._memory.lm_blocks.allocate())
        return LMWork(
            rows=lm.feed.rows,
            position=lm.num_rows,
            table=tuple(lm.table),
            phase=lm.feed.phase,
            history=tuple(lm.machine.history),
            seed=lm.seed,
            step=lm.num_draws,
        )

    def take_token(self, drawn: int) -> None:
        """Takes what the speech LM drew."""
        lm = self._lm
        assert lm is not None
        assert lm.feed is not None
        lm.num_rows += len(lm.feed.rows)
        lm.num_draws += 1
        lm.feed = None
        token = lm.machine.take(drawn)
        if token is not None:
            lm.speech.append(token)
            self._speak(token)
            self._marks.add_speech(1)
        self._advance()

    def _speak(self, token: int) -> None:
        utterance = self._utterance or self._begin_utterance()
        utterance.num_tokens += 1
        run = utterance.runs[-1]
        if run.sequence.must_restart:
            run.sequence.end()
            run = self._next_run(run)
            utterance.runs.append(run)
        run.sequence.append(token)

    # --- flow and vocoder

    def _begin_utterance(self) -> Utterance:
        if self._prefix is None:
            self._prefix = self._memory.prefixes.use(self.manner.conditioning.voice)
        if self._slot is None:
            self._slot = self._memory.slots.allocate()
        self._num_utterances += 1
        seed = (self.manner.seed + self._num_utterances) % (1 << _SEED_BITS)
        self._utterance = Utterance(
            vocoder=self._new_vocoder(self._slot, seed, self.manner.speed),
            first_sample=self.num_samples,
            runs=deque([self._new_run()]),
        )
        return self._utterance

    def _new_run(self) -> FlowRun:
        return FlowRun(FlowSequence(self.manner.conditioning.voice.flow_tokens))

    def _next_run(self, before: FlowRun) -> FlowRun:
        run = self._new_run()
        run.noise_offset = before.noise_offset + FRAMES_PER_TOKEN * before.sequence.num_generated
        return run

    @property
    def waits_for_flow(self) -> bool:
        """A chunk can be computed, or the vocoder's rest is due, and the listener has credit for it."""
        utterance = self._utterance
        if utterance is None or self.num_samples >= self._credit_samples:
            return False
        sequence = self._run(utterance).sequence
        return sequence.is_ready or (utterance.end is not None and sequence.is_done)

    def _run(self, utterance: Utterance) -> FlowRun:
        """The flow sequence that is being computed; those before it are given back."""
        while len(utterance.runs) > 1 and utterance.runs[0].sequence.is_done:
            utterance.runs.popleft().give_back(self._memory.flow_blocks)
        return utterance.runs[0]

    @property
    def chunk_tokens(self) -> int:
        """Tokens of the chunk that is due; 0 when only the vocoder's rest is."""
        assert self._utterance is not None
        sequence = self._run(self._utterance).sequence
        return len(sequence.peek().tokens) if sequence.is_ready else 0

    @property
    def samples_ahead(self) -> int:
        """Samples made and not yet covered by what the listener took: the fewer, the more urgent."""
        return self.num_samples - self._credit_samples

    def flow_step(self, begin: Callable[[int, int | None], None]) -> FlowStep:
        """The chunk that is due.

        Args:
            begin: makes a slot that of a new sequence, or to go on from another's.

        Raises:
            OutOfBlocks: there is no memory for it.
        """
        utterance, slot, prefix = self._utterance, self._slot, self._prefix
        assert utterance is not None
        assert slot is not None
        assert prefix is not None
        run = self._run(utterance)
        if not run.sequence.is_ready:
            return FlowStep(self, None, final=True)
        expected = self.chunk_tokens
        if run.next_block is None:
            try:
                run.next_block = self._memory.prefixes.allocate_block()
            except OutOfBlocks:
                run = self._cut_memory(utterance, run)
                run.next_block = self._memory.prefixes.allocate_block()
        if not run.begun:
            begin(slot, prefix.slot)
            run.table = self._memory.flow_blocks.share(prefix.blocks)
            run.num_shared, run.begun = len(run.table), True
        chunk = run.sequence.peek()
        if len(chunk.tokens) != expected:
            # A short last chunk has become a whole one by the cut: it goes with the next batch.
            return FlowStep(self, None, final=False)
        noise_frame = (chunk.index * CHUNK_FRAMES + run.noise_offset) % (MAX_FRAMES - CHUNK_FRAMES + 1)
        work = FlowWork(chunk, prefix.prompt, slot, tuple(run.table), run.next_block, noise_frame)
        return FlowStep(self, work, final=chunk.is_last and self._ends_with(utterance, run))

    def _cut_memory(self, utterance: Utterance, run: FlowRun) -> FlowRun:
        """Lets the sequence go on without what it remembers of itself."""
        if len(run.table) == run.num_shared:
            raise OutOfBlocks
        rest = FlowRun(run.sequence.split())
        rest.noise_offset = run.noise_offset + FRAMES_PER_TOKEN * run.sequence.num_generated
        run.give_back(self._memory.flow_blocks)
        utterance.runs[0] = rest
        return rest

    @staticmethod
    def _ends_with(utterance: Utterance, run: FlowRun) -> bool:
        return utterance.end is not None and run is utterance.runs[-1]

    def took_chunk(self, step: FlowStep) -> None:
        """The chunk of `flow_step` has been computed."""
        if step.work is not None:
            assert self._utterance is not None
            run = self._utterance.runs[0]
            run.table.append(step.work.block)
            run.next_block = None
            run.sequence.advance()

    @property
    def flow_tokens(self) -> tuple[int, ...]:
        """All tokens of the flow sequence that is being computed, the voice's first."""
        assert self._utterance is not None
        return self._utterance.runs[0].sequence.all_tokens()

    @property
    def vocoder(self) -> Any:
        """The vocoder's state of this utterance."""
        assert self._utterance is not None
        return self._utterance.vocoder

    def took_audio(self, pcm: bytes, *, final: bool) -> None:
        """Samples of this utterance are ready: tells them, and what ends with them."""
        utterance = self._utterance
        assert utterance is not None
        num_samples = len(pcm) // 2
        self.num_samples += num_samples
        utterance.num_samples += num_samples
        self._tell_words(self.num_samples)
        if pcm:
            self._emit(link.Event(audio=link.Audio(pcm=pcm)))
        for number in self._ended_segments(utterance, final):
            self._emit(link.Event(segment_done=link.SegmentDone(segment=number)))
        if final:
            self._end_utterance(utterance)
        self._advance()

    def _tell_words(self, until: int) -> None:
        if words := self._marks.words_until(until):
            self._emit(link.Event(marks=link.Marks(words=[_word(word) for word in words])))

    def _ended_segments(self, utterance: Utterance, final: bool) -> Iterator[int]:
        while self._segment_ends:
            num_tokens, number = self._segment_ends[0]
            if not final and self._samples(num_tokens) > utterance.num_samples:
                return
            self._segment_ends.popleft()
            yield number

    def _end_utterance(self, utterance: Utterance) -> None:
        for run in utterance.runs:
            run.give_back(self._memory.flow_blocks)
        self._utterance = None
        assert utterance.end is not None
        self._tell_end(utterance.end)

    def _tell_end(self, end: FlushPoint | FinishPoint) -> None:
        if isinstance(end, FlushPoint):
            self._emit(link.Event(flushed=link.Flushed(flush=end.number)))
        else:
            self._emit(link.Event(done=link.Done(stage_seconds=self.stage_seconds)))
            self.close()

    def _samples(self, num_tokens: int) -> float:
        return num_tokens * SAMPLES_PER_TOKEN / self.manner.speed

    # --- its end

    def close(self) -> None:
        """Gives everything back; once is enough."""
        if self.closed:
            return
        self.closed = True
        if self._lm is not None:
            self._memory.lm_blocks.release(self._lm.table)
        if self._utterance is not None:
            for run in self._utterance.runs:
                run.give_back(self._memory.flow_blocks)
        if self._slot is not None:
            self._memory.slots.release(self._slot)
        if self._prefix is not None:
            self._memory.prefixes.leave(self._prefix)


def _word(word: EstimatedWord) -> link.Word:
    return link.Word(
        segment=word.segment,
        char_start=word.char_start,
        char_end=word.char_end,
        sample_start=word.sample_start,
        sample_end=word.sample_end,
    )
