"""Speech that goes on in another flow sequence: what is heard, what is held, and where the noise stands.

The limits are those of minutes; here they are lowered to seconds.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import pairwise
from types import ModuleType

import pytest
import torch
from cosyvoice.speaking import SAVED, SFT, Context, Heard, settled, start
from cosyvoice.tiny_checkpoint import write_tiny_checkpoint
from torch import Tensor

from cosyduplex_server.engine.cosyvoice import flow_plan, request
from cosyduplex_server.engine.cosyvoice.engine import CosyVoiceEngine
from cosyduplex_server.engine.cosyvoice.runner import FlowWork
from cosyduplex_server.models.config import CHUNK_FRAMES, FRAMES_PER_TOKEN

SENTENCE = "Hello there, this is it."
TEXTS = [SENTENCE] * 3
PROMPT_TOKENS = {SAVED: 38, SFT: 0}
LIMIT_FRAMES = FRAMES_PER_TOKEN * (PROMPT_TOKENS[SAVED] + 30)  # a sentence has some 50 tokens
RESTART = (flow_plan, "RESTART_FRAMES", LIMIT_FRAMES)
OVERLONG = (flow_plan, "MAX_FRAMES", LIMIT_FRAMES + CHUNK_FRAMES)
NOISE_FRAMES = 200

voices = pytest.mark.parametrize("voice", [SAVED, SFT])


@dataclass(eq=False)
class Recorder:
    """What the flow was asked for, and what it made, one context at a time.

    Args:
        engine: whose.
        change: what is asked in place of a piece of work.
    """

    engine: CosyVoiceEngine
    change: Callable[[FlowWork], FlowWork] = lambda work: work
    works: list[FlowWork] = field(default_factory=list)
    mels: list[Tensor] = field(default_factory=list)
    most_blocks: int = 0
    heard: Heard = field(default_factory=Heard)

    async def say(self, texts: Sequence[str], voice: str) -> Recorder:
        """Speaks all of it; everything has been given back then."""
        state = self.engine.state
        step_flow, memory = state.runner.step_flow, state.memory

        def held() -> tuple[int, int, int]:
            prefixes = memory.prefixes
            return (
                memory.flow_blocks.num_held - prefixes.num_blocks,
                memory.slots.num_held - prefixes.num_slots,
                memory.lm_blocks.num_held,
            )

        def record(batch: Sequence[FlowWork]) -> list[Tensor]:
            batch = [self.change(work) for work in batch]
            mels = step_flow(batch)
            for work, mel_FC in zip(batch, mels, strict=True):
                if len(mel_FC):  # the others are the voice's own
                    self.works.append(work)
                    self.mels.append(mel_FC)
            self.most_blocks = max(self.most_blocks, held()[0])
            return mels

        before = held()

        state.runner.step_flow = record  # type: ignore[method-assign]
        try:
            self.heard = await Context(self.engine, voice=voice).say(*texts).end()
            await settled(self.engine)
        finally:
            state.runner.step_flow = step_flow  # type: ignore[method-assign]
        assert self.heard.kinds[-1] == "done"
        assert held() == before
        return self

    @property
    def tokens(self) -> list[int]:
        return [
            token
            for work in self.works
            for token in work.chunk.tokens[work.chunk.num_prompt_frames // FRAMES_PER_TOKEN :]
        ]

    @property
    def mel_FC(self) -> Tensor:
        return torch.cat(self.mels)

    @property
    def seams(self) -> list[int]:
        """Frames with which a new sequence begins."""
        ends = torch.tensor([len(mel) for mel in self.mels]).cumsum(0).tolist()
        later = zip(pairwise(self.works), ends[:-1], strict=True)
        return [end for (before, after), end in later if after.chunk.index <= before.chunk.index]


def noise_anew(work: FlowWork) -> FlowWork:
    return replace(work, noise_frame=work.chunk.index * CHUNK_FRAMES)


class Recordings:
    """The same speech in several ways, each spoken when it is first asked for."""

    def __init__(self, engine: CosyVoiceEngine) -> None:
        self._engine = engine
        self.whole = cache(lambda voice=SAVED: self._say(voice=voice))
        self.broken = cache(lambda voice=SAVED: self._say(RESTART, voice=voice))
        self.anew = cache(lambda: self._say(RESTART, change=noise_anew))
        self.overlong = cache(lambda: self._say(OVERLONG))
        self.first_sentence = cache(lambda: self._say(texts=TEXTS[:1]))
        self.little_noise = cache(lambda: self._say((request, "MAX_FRAMES", NOISE_FRAMES)))

    def short_of_memory(self) -> Recorder:
        """With memory for five chunks."""
        with self._memory_for(5):
            return self._say()

    def three_together(self, num_blocks: int) -> list[Heard]:
        """One sentence three times at once, with memory for so many chunks in all."""
        self.first_sentence()  # the voice has been computed

        async def speak() -> list[Heard]:
            gate = threading.Event()
            self._engine.state.post(partial(gate.wait, 30))
            contexts = [Context(self._engine).say(*TEXTS[:1]) for _ in range(3)]
            gate.set()
            heard = await asyncio.gather(*(context.end() for context in contexts))
            await settled(self._engine)
            return heard

        with self._memory_for(num_blocks):
            return asyncio.run(speak())

    @contextmanager
    def _memory_for(self, num_blocks: int) -> Iterator[None]:
        blocks = self._engine.state.memory.flow_blocks
        spare = [blocks.allocate() for _ in range(blocks.num_free - num_blocks)]
        try:
            yield
        finally:
            blocks.release(spare)

    def _say(
        self,
        *limits: tuple[ModuleType, str, int],
        voice: str = SAVED,
        texts: Sequence[str] = TEXTS,
        change: Callable[[FlowWork], FlowWork] = lambda work: work,
    ) -> Recorder:
        with pytest.MonkeyPatch.context() as patch:
            for limit in limits:
                patch.setattr(*limit)
            return asyncio.run(Recorder(self._engine, change).say(texts, voice))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Iterator[Recordings]:
    engine = start(write_tiny_checkpoint(tmp_path_factory.mktemp("model")), slots=2)
    yield Recordings(engine)
    asyncio.run(engine.aclose())


@voices
def test_long_speech_goes_on_in_new_sequences_and_nothing_is_lost(recordings, voice) -> None:
    whole, broken = recordings.whole(voice), recordings.broken(voice)
    assert not whole.seams
    assert len(broken.seams) == {SAVED: 2, SFT: 1}[voice]
    assert broken.tokens == whole.tokens
    assert len(broken.mel_FC) == len(whole.mel_FC) == FRAMES_PER_TOKEN * len(whole.tokens)
    assert len(broken.heard.pcm) == len(whole.heard.pcm) == 2 * 480 * len(whole.mel_FC)
    assert broken.heard.segments == whole.heard.segments == [0, 1, 2]
    assert len(broken.heard.words) == len(whole.heard.words) == 15


def test_a_new_sequence_begins_at_the_end_of_a_sentence(recordings) -> None:
    assert recordings.broken().seams[0] == len(recordings.first_sentence().mel_FC)


def test_before_a_seam_only_the_chunk_that_ends_there_knows_of_it(recordings) -> None:
    whole, broken = recordings.whole(), recordings.broken()
    first_end = next(place for place, work in enumerate(broken.works) if work.chunk.is_last)
    assert first_end > 0
    for ours, theirs in zip(broken.mels[:first_end], whole.mels, strict=False):
        assert torch.equal(ours, theirs)
    assert not torch.equal(broken.mels[first_end], whole.mels[first_end])


def test_what_was_said_before_a_seam_takes_no_memory_after_it(recordings) -> None:
    whole, broken = recordings.whole(), recordings.broken()
    prompt_blocks = flow_plan.num_prefix_chunks(PROMPT_TOKENS[SAVED])
    for recorder in (whole, broken):
        assert recorder.most_blocks == max(len(work.table) for work in recorder.works) + 1 - prompt_blocks
    assert broken.most_blocks <= whole.most_blocks / 2


def test_speech_without_an_end_goes_on_in_another_sequence_too(recordings) -> None:
    whole, overlong = recordings.whole(), recordings.overlong()
    assert overlong.seams[0] < len(recordings.first_sentence().mel_FC)
    assert overlong.tokens == whole.tokens
    assert len(overlong.heard.pcm) == len(whole.heard.pcm)
    for work in overlong.works:
        end = CHUNK_FRAMES * work.chunk.index + FRAMES_PER_TOKEN * len(work.chunk.tokens)
        assert end <= LIMIT_FRAMES + CHUNK_FRAMES


@voices
def test_the_noise_goes_on_where_it_was(recordings, voice) -> None:
    broken = recordings.broken(voice)
    frame = FRAMES_PER_TOKEN * PROMPT_TOKENS[voice]
    for work, mel_FC in zip(broken.works, broken.mels, strict=True):
        assert work.noise_frame + work.chunk.num_prompt_frames == frame
        frame += len(mel_FC)


def test_where_the_noise_goes_on_the_speech_is_nearer_to_one_without_a_seam(recordings) -> None:
    whole, broken, anew = recordings.whole(), recordings.broken(), recordings.anew()
    assert anew.seams == broken.seams
    for seam in broken.seams:
        for count in (10, 100):
            near, far = (rms((each.mel_FC - whole.mel_FC)[seam : seam + count]) for each in (broken, anew))
            assert 0 < near < far / 2


def test_a_sequence_that_is_cut_for_memory_goes_on_in_the_same_noise(recordings) -> None:
    whole, cut, anew = recordings.whole(), recordings.short_of_memory(), recordings.anew()
    first = cut.seams[0]
    assert cut.tokens == whole.tokens
    assert len(cut.heard.pcm) == len(whole.heard.pcm)
    assert torch.equal(cut.mel_FC[:first], whole.mel_FC[:first])
    far = rms((anew.mel_FC - whole.mel_FC)[anew.seams[0] :])
    for seam in cut.seams:
        assert 0 < rms((cut.mel_FC - whole.mel_FC)[seam : seam + CHUNK_FRAMES]) < far / 2


@pytest.mark.parametrize("num_blocks", [3, 4, 5])
def test_contexts_that_are_cut_in_the_middle_of_a_batch_go_on_beside_the_others(
    recordings, num_blocks
) -> None:
    """Cut, a last short chunk becomes a whole one: it does not fit its batch any more."""
    for heard in recordings.three_together(num_blocks):
        assert heard.error in (None, "over_capacity")
        if heard.error is None:
            assert len(heard.pcm) == len(recordings.first_sentence().heard.pcm)


def test_where_the_noise_ends_it_begins_again(recordings) -> None:
    recorder = recordings.little_noise()
    frames = [work.noise_frame for work in recorder.works]
    assert recorder.tokens == recordings.whole().tokens
    assert len(recorder.mel_FC) > NOISE_FRAMES
    assert all(0 <= frame <= NOISE_FRAMES - CHUNK_FRAMES for frame in frames)
    assert any(after < before for before, after in pairwise(frames))


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
