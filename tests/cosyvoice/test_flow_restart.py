"""Speech that goes on in another flow sequence: what is heard, what is remembered, and where the noise stands.

The limits are those of minutes; here they are lowered to seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from cosyvoice.speaking import SAVED, SFT, Context, Heard, settled, start
from cosyvoice.tiny_checkpoint import write_tiny_checkpoint
from torch import Tensor

from cosyduplex_server.engine.cosyvoice import flow_plan, request
from cosyduplex_server.engine.cosyvoice.engine import CosyVoiceEngine
from cosyduplex_server.engine.cosyvoice.runner import FlowWork
from cosyduplex_server.models.config import CHUNK_FRAMES, FRAMES_PER_TOKEN

SENTENCE = "Hello world, this is what a model says while it is still thinking."
TEXTS = [SENTENCE] * 6
PROMPT_TOKENS = 38  # of the saved voice
FOUR_SECONDS = 2 * (PROMPT_TOKENS + 100)

voices = pytest.mark.parametrize("voice", [SAVED, SFT])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
async def engine(checkpoint) -> AsyncIterator[CosyVoiceEngine]:
    engine = start(checkpoint, slots=4)
    yield engine
    await engine.aclose()


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

    async def say(self, texts: Sequence[str], **opening: object) -> Heard:
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
            heard = await Context(self.engine, **opening).say(*texts).end()
            await settled(self.engine)
        finally:
            state.runner.step_flow = step_flow  # type: ignore[method-assign]
        assert heard.kinds[-1] == "done"
        assert held() == before
        return heard

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


async def uninterrupted(engine: CosyVoiceEngine, texts: Sequence[str], voice: str) -> tuple[Recorder, Heard]:
    recorder = Recorder(engine)
    heard = await recorder.say(texts, voice=voice)
    assert recorder.seams == []
    return recorder, heard


@voices
async def test_long_speech_goes_on_in_new_sequences_and_nothing_is_lost(engine, voice, monkeypatch) -> None:
    whole, heard_whole = await uninterrupted(engine, TEXTS, voice)
    monkeypatch.setattr(flow_plan, "RESTART_FRAMES", FOUR_SECONDS)
    broken = Recorder(engine)
    heard = await broken.say(TEXTS, voice=voice)
    assert len(broken.seams) >= 2
    assert broken.tokens == whole.tokens
    assert len(broken.mel_FC) == len(whole.mel_FC)
    assert len(heard.pcm) == len(heard_whole.pcm)
    assert heard.segments == heard_whole.segments == list(range(len(TEXTS)))
    assert [(word.sample_start, word.sample_end) for word in heard.words] == [
        (word.sample_start, word.sample_end) for word in heard_whole.words
    ]


async def test_a_new_sequence_begins_at_the_end_of_a_sentence(engine, monkeypatch) -> None:
    monkeypatch.setattr(flow_plan, "RESTART_FRAMES", FOUR_SECONDS)
    recorder, ends = Recorder(engine), []
    await recorder.say(TEXTS)
    for number in range(1, len(TEXTS)):  # the same seed says the same
        shorter = Recorder(engine)
        await shorter.say(TEXTS[:number])
        ends.append(len(shorter.mel_FC))
    assert set(recorder.seams) <= set(ends)


async def test_up_to_the_first_seam_only_its_last_chunk_knows_of_it(engine, monkeypatch) -> None:
    whole, _ = await uninterrupted(engine, TEXTS, SAVED)
    monkeypatch.setattr(flow_plan, "RESTART_FRAMES", FOUR_SECONDS)
    broken = Recorder(engine)
    await broken.say(TEXTS)
    same = broken.works.index(next(work for work in broken.works if work.chunk.is_last))
    for ours, theirs in zip(broken.mels[:same], whole.mels[:same], strict=True):
        assert torch.equal(ours, theirs)


async def test_what_was_said_before_a_seam_takes_no_memory_after_it(engine, monkeypatch) -> None:
    whole, _ = await uninterrupted(engine, TEXTS, SAVED)
    monkeypatch.setattr(flow_plan, "RESTART_FRAMES", FOUR_SECONDS)
    broken = Recorder(engine)
    await broken.say(TEXTS)
    prompt_blocks = flow_plan.num_prefix_chunks(PROMPT_TOKENS)
    assert whole.most_blocks == max(len(work.table) for work in whole.works) + 1 - prompt_blocks
    assert broken.most_blocks == max(len(work.table) for work in broken.works) + 1 - prompt_blocks
    assert broken.most_blocks < whole.most_blocks / 2


async def test_a_sentence_longer_than_a_sequence_goes_on_in_another(engine, monkeypatch) -> None:
    text = " ".join(["and on it goes"] * 25) + "."
    whole, heard_whole = await uninterrupted(engine, [text], SAVED)
    monkeypatch.setattr(flow_plan, "MAX_FRAMES", FOUR_SECONDS)
    broken = Recorder(engine)
    heard = await broken.say([text])
    assert len(broken.seams) >= 1
    assert broken.tokens == whole.tokens
    assert len(heard.pcm) == len(heard_whole.pcm)
    longest = max(
        FRAMES_PER_TOKEN * len(work.chunk.tokens) + work.chunk.index * CHUNK_FRAMES for work in broken.works
    )
    assert longest <= FOUR_SECONDS


@voices
async def test_the_noise_goes_on_where_it_was_and_so_does_the_speech(engine, voice, monkeypatch) -> None:
    whole, _ = await uninterrupted(engine, TEXTS, voice)
    monkeypatch.setattr(flow_plan, "RESTART_FRAMES", FOUR_SECONDS)
    goes_on, anew = Recorder(engine), Recorder(engine, noise_anew)
    await goes_on.say(TEXTS, voice=voice)
    await anew.say(TEXTS, voice=voice)
    prompt_frames = 0 if voice == SFT else FRAMES_PER_TOKEN * PROMPT_TOKENS
    made = 0
    for work, mel_FC in zip(goes_on.works, goes_on.mels, strict=True):
        assert work.noise_frame + work.chunk.num_prompt_frames == prompt_frames + made
        made += len(mel_FC)
    assert anew.seams == goes_on.seams
    for seam in goes_on.seams:
        for frames in (slice(seam, seam + 10), slice(seam, seam + 100)):
            near, far = (rms(each.mel_FC[frames] - whole.mel_FC[frames]) for each in (goes_on, anew))
            assert near < far / 2


async def test_the_noise_goes_on_when_memory_is_short(engine) -> None:
    whole, heard_whole = await uninterrupted(engine, TEXTS, SAVED)
    blocks = engine.state.memory.flow_blocks
    spare = [blocks.allocate() for _ in range(blocks.num_free - 5)]
    goes_on, anew = Recorder(engine), Recorder(engine, noise_anew)
    for recorder in (goes_on, anew):
        heard = await recorder.say(TEXTS)
        assert recorder.seams
        assert recorder.tokens == whole.tokens
        assert len(heard.pcm) == len(heard_whole.pcm)
    blocks.release(spare)
    first = goes_on.seams[0]
    assert torch.equal(goes_on.mel_FC[:first], whole.mel_FC[:first])
    for seam in goes_on.seams:
        near, far = (rms((each.mel_FC - whole.mel_FC)[seam : seam + 50]) for each in (goes_on, anew))
        assert near < far / 2


async def test_where_the_noise_ends_it_begins_again(engine, monkeypatch) -> None:
    monkeypatch.setattr(request, "MAX_FRAMES", 400)
    recorder = Recorder(engine)
    await recorder.say(TEXTS)
    frames = [work.noise_frame for work in recorder.works]
    assert all(0 <= frame <= 400 - CHUNK_FRAMES for frame in frames)
    assert len(recorder.mel_FC) > 400
    assert any(after < before for before, after in pairwise(frames))


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
