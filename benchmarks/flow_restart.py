"""What is heard where a long utterance goes on in a new flow sequence, behind the voice's prompt alone.

The same speech tokens are spoken three ways: in one sequence; in two, the noise going on where it was; in two, the
noise beginning anew. Two kinds of seam: `split`, between two chunks, as when memory runs short (the chunks before it
have seen the tokens after it); and `end`, anywhere, as at the end of a sentence (the tokens before it have not).
`other noise, no seam` is one sequence with other noise from its first frame on: how much of a difference is noise.

Differences are to the one sequence, rms over the standard deviation of its mel. A jump is the rms of what changes from
one frame to the next, over the mean of all such changes. `steps` are how far each 10 ms spectrum of the audio is from
the one before it, in dB, 20 ms around the seam and elsewhere; `apart` is how far the audio's 10 ms spectra are from
those of the one sequence, in dB.

    .venv/bin/python benchmarks/flow_restart.py --json benchmarks/results/flow_restart.json

Weights: the golden flow's, and random ones of another size. Neither has learnt to listen to what was said before, so
with `--model-dir DIR` (and `--device cuda`) a released checkpoint is measured instead. Tokens are random: at a real
end of a sentence there is a pause, where a seam is heard less.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import torch
from random_models import random_lm, random_models, tiny_sizes
from safetensors.torch import load_file
from torch import Tensor
from vocoder_seams import spectral_steps

from cosyduplex_server.engine.cosyvoice.blocks import BlockAllocator, SlotAllocator
from cosyduplex_server.engine.cosyvoice.checkpoint import Checkpoint
from cosyduplex_server.engine.cosyvoice.flow_plan import FlowSequence
from cosyduplex_server.engine.cosyvoice.loading import load_models
from cosyduplex_server.engine.cosyvoice.prefixes import Prefix, Prefixes
from cosyduplex_server.engine.cosyvoice.runner import (
    FIRST_FLOW_BLOCK,
    FIRST_SLOT,
    FlowWork,
    Memory,
    Runner,
    VocoderWork,
)
from cosyduplex_server.engine.cosyvoice.voice import Voice
from cosyduplex_server.models.config import (
    CHUNK_FRAMES,
    CHUNK_TOKENS,
    FRAMES_PER_TOKEN,
    MEL_HOP_SAMPLES,
    SAMPLE_RATE_HZ,
    FlowConfig,
    FlowEncoderConfig,
    ModelConfig,
    UNetConfig,
    VocoderConfig,
)
from cosyduplex_server.models.flow import Flow
from cosyduplex_server.models.vocoder import Vocoder
from cosyduplex_server.models.weights import Source
from cosyduplex_server.models.weights_flow import flow_weights
from cosyduplex_server.models.weights_vocoder import load_vocoder

Seam = Literal["split", "end"]

PROMPT_TOKENS = 65  # what is left of a prompt of 3.5 s for a first hop of 10 tokens
FIRST_SEAM_CHUNK = 6  # generated chunks at least before a seam, the first of 10 tokens
TOKENS = 500
OTHER_NOISE_FRAMES = 7000
NEAR_SAMPLES = SAMPLE_RATE_HZ // 50
MAX_BLOCKS = 64
GOLDEN_SIZES = ModelConfig(
    generation=2,
    lm=tiny_sizes().lm,
    flow=FlowConfig(
        speech_tokens=200,
        token_width=128,
        prelookahead_hidden=128,
        encoder=FlowEncoderConfig(width=128, num_heads=2, mlp_hidden=256, num_layers=2, num_up_layers=4),
        estimator=UNetConfig(channels=64, num_heads=2, blocks_per_stage=2, num_mid_stages=2, time_hidden=256),
    ),
    vocoder=VocoderConfig(channels=64, f0_channels=64),
    prompt_mel_fmax_hz=8000.0,
)


# --- models ------------------------------------------------------------------------------------------


def golden_runner(folder: Path) -> tuple[Runner, Flow]:
    """The golden flow and vocoder; the speech LM is not used."""
    config, device = GOLDEN_SIZES, torch.device("cpu")
    flow = Flow(config.flow)
    tensors = {name: _floats(load_file(folder / f"{name}.safetensors")) for name in ("flow_v2", "hift_v2")}
    flow.load_state_dict(flow_weights(Source(tensors["flow_v2"], "flow.pt"), config.flow), assign=True)
    vocoder = load_vocoder(tensors["hift_v2"], config.vocoder)
    return _runner(config, flow.eval().requires_grad_(False), vocoder, device)


def random_runner(seed: int) -> tuple[Runner, Flow]:
    """Random weights at other sizes, with fewer solver steps."""
    sizes = tiny_sizes()
    config = replace(sizes, flow=replace(sizes.flow, num_steps=5, guidance=0.4))
    models = random_models(config, torch.float32, torch.device("cpu"), seed)
    return _runner(config, models.flow, models.vocoder, torch.device("cpu"))


def released_runner(folder: Path, device: torch.device) -> tuple[Runner, Flow]:
    """A released checkpoint, in float32."""
    models = load_models(Checkpoint(folder), torch.float32, device)
    return _runner(models.config, models.flow, models.vocoder, device)


def _runner(config: ModelConfig, flow: Flow, vocoder: Vocoder, device: torch.device) -> tuple[Runner, Flow]:
    config = replace(config, lm=tiny_sizes().lm)  # none is spoken with: the smallest will do
    lm = random_lm(config.lm, torch.float32, device, torch.Generator(device))
    memory = Memory(num_lm_blocks=2, num_slots=4, num_flow_blocks=MAX_BLOCKS, num_prefixes=1)
    return Runner(config, lm, flow, vocoder, memory), flow


def _floats(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.float() for key, tensor in tensors.items()}


# --- speaking ----------------------------------------------------------------------------------------


class Speaker:
    """A voice and a text drawn at random; the prompt's mel is what the flow itself makes of its tokens.

    Attributes:
        tokens: the text's.
    """

    def __init__(self, runner: Runner, flow: Flow, seed: int) -> None:
        self._runner = runner
        self._blocks = BlockAllocator(MAX_BLOCKS, FIRST_FLOW_BLOCK)
        slots = SlotAllocator(4, FIRST_SLOT)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(flow.config.speech_tokens, (PROMPT_TOKENS + TOKENS,), generator=generator)
        prompt, self.tokens = drawn[:PROMPT_TOKENS].tolist(), drawn[PROMPT_TOKENS:].tolist()
        embedding = torch.randn(192, generator=generator)
        device = flow.speaker.weight.device
        spk_B80 = flow.project_speaker(embedding[None].to(device))
        no_prompt = torch.zeros((1, 0, 80), device=device)
        row = torch.tensor([prompt], device=device)
        with torch.inference_mode():
            mel = flow.full(row, no_prompt, spk_B80, streaming=True, finalize=True)[0].cpu().clone()
        voice = Voice(
            id="drawn",
            name="drawn",
            language="",
            embedding=embedding,
            flow_mel=mel,
            flow_tokens=tuple(prompt),
        )
        self._prefix: Prefix = Prefixes(runner, self._blocks, slots, max_kept=1).use(voice)
        self._slot = slots.allocate()

    def speak(self, parts: Iterable[tuple[FlowSequence, int]]) -> list[Tensor]:
        """The mel of all sequences one after the other, by chunks; each with the frames its noise is ahead."""
        mels: list[Tensor] = []
        for sequence, noise_offset in parts:
            self._runner.begin_flow(self._slot, self._prefix.slot)
            table = self._blocks.share(self._prefix.blocks)
            while sequence.is_ready:
                chunk, block = sequence.peek(), self._blocks.allocate()
                noise_frame = chunk.index * CHUNK_FRAMES + noise_offset
                mels += self._runner.step_flow(
                    [FlowWork(chunk, self._prefix.prompt, self._slot, tuple(table), block, noise_frame)]
                )
                table.append(block)
                sequence.advance()
            self._blocks.release(table)
        return mels

    def whole(self, tokens: list[int], noise_offset: int = 0) -> list[Tensor]:
        """One sequence."""
        return self.speak([(self._sequence(tokens), noise_offset)])

    def broken(self, tokens: list[int], seam: Seam, at: int, *, goes_on: bool) -> list[Tensor]:
        """Two sequences, the second from token `at` on."""
        offset = FRAMES_PER_TOKEN * at if goes_on else 0
        if seam == "end":
            return self.speak([(self._sequence(tokens[:at]), 0), (self._sequence(tokens[at:]), offset)])
        first = self._sequence(tokens)
        while first.next_chunk * CHUNK_TOKENS < len(first.prompt) + at:
            first.advance()
        rest = first.split()
        assert rest.num_generated == len(tokens) - at
        # The chunks before the seam are those of one sequence: they are not computed again.
        return self.speak([(rest, offset)])

    def _sequence(self, tokens: list[int]) -> FlowSequence:
        sequence = FlowSequence(self._prefix.voice.flow_tokens)
        for token in tokens:
            sequence.append(token)
        sequence.end()
        return sequence

    def audio(self, mels: list[Tensor]) -> Tensor:
        """The samples of an utterance, -1 to 1."""
        state = self._runner.new_vocoder(self._slot, 0, 1.0)
        pcm = b""
        for place, mel_FC in enumerate(mels):
            pcm += self._runner.vocode([VocoderWork(state, mel_FC, place == len(mels) - 1, 1.0)])[0]
        return torch.frombuffer(bytearray(pcm), dtype=torch.int16).float() / 32768


# --- measuring ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Spoken:
    """Mel (F, 80) and its audio (N,)."""

    mel_FC: Tensor
    wav_N: Tensor

    @classmethod
    def of(cls, speaker: Speaker, mels: list[Tensor]) -> Spoken:
        return cls(torch.cat(mels).cpu(), speaker.audio(mels))


def seam_figures(broken: Spoken, whole: Spoken, frame: int) -> dict[str, float]:
    """One way to speak, against the one sequence; the seam stands before `frame`."""
    assert broken.mel_FC.shape == whole.mel_FC.shape
    difference_FC = broken.mel_FC - whole.mel_FC
    deviation = whole.mel_FC.std()

    def part(begin: int, end: int | None = None) -> float:
        return float(difference_FC[begin:end].square().mean().sqrt() / deviation)

    changes_F = broken.mel_FC.diff(dim=0).square().mean(1).sqrt()  # [i]: from frame i to i + 1
    steps = spectral_steps(broken.wav_N)  # [i]: around sample 120 * (i + 1)
    near = (torch.arange(1, len(steps) + 1) * 120 - frame * MEL_HOP_SAMPLES).abs() <= NEAR_SAMPLES
    apart = spectra_apart(broken.wav_N, whole.wav_N)
    at = 4 * frame  # spectra are 5 ms apart
    return {
        "last_10_frames_before": part(frame - 10, frame),
        "after": part(frame),
        "first_10_frames": part(frame, frame + 10),
        "after_2_s": part(frame + 100),
        "jump": float(changes_F[frame - 1] / changes_F.mean()),
        "steps_near_db": float(steps[near].mean()),
        "steps_elsewhere_db": float(steps[~near].mean()),
        "apart_200_ms_db": float(apart[at : at + 40].mean()),
        "apart_after_2_s_db": float(apart[at + 400 :].mean()),
    }


def spectra_apart(a_N: Tensor, b_N: Tensor) -> Tensor:
    """How far apart the 10 ms spectra of two signals are, every 5 ms, in dB."""
    window = torch.hann_window(240)
    a, b = (
        20 * torch.log10(torch.stft(wav_N, 240, 120, window=window, return_complex=True).abs() + 1e-4)
        for wav_N in (a_N, b_N)
    )
    return (a - b).square().mean(0).sqrt()


def measure(runner: Runner, flow: Flow, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """All ways at all seams; the mean over the seeds, and the worst jump."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for seed in seeds:
        speaker = Speaker(runner, flow, seed)
        tokens = speaker.tokens
        whole_mels = speaker.whole(tokens)
        whole = Spoken.of(speaker, whole_mels)
        other = Spoken.of(speaker, speaker.whole(tokens, OTHER_NOISE_FRAMES))
        num_before = FIRST_SEAM_CHUNK + seed % 8
        split_at = num_before * CHUNK_TOKENS - PROMPT_TOKENS % CHUNK_TOKENS
        seams: dict[Seam, int] = {"split": split_at, "end": split_at - 1 - 5 * seed % 24}
        for seam, at in seams.items():
            frame = FRAMES_PER_TOKEN * at
            ways = {"one sequence": whole, "other noise, no seam": other}
            for way, goes_on in (("noise goes on", True), ("noise begins anew", False)):
                mels = speaker.broken(tokens, seam, at, goes_on=goes_on)
                before = whole_mels[:num_before] if seam == "split" else []
                ways[way] = Spoken.of(speaker, [*before, *mels])
            for way, spoken in ways.items():
                found.setdefault((seam, way), []).append(seam_figures(spoken, whole, frame))
    return [
        {"seam": seam, "way": way}
        | {key: round(mean(row[key] for row in rows), 3) for key in rows[0]}
        | {"worst_jump": round(max(row["jump"] for row in rows), 3)}
        for (seam, way), rows in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--golden", type=Path, default=Path(__file__).parents[1] / "tests" / "golden")
    parser.add_argument("--model-dir", type=Path, help="a released checkpoint, measured instead")
    parser.add_argument("--device", default="cpu", help="with --model-dir")
    parser.add_argument("--seeds", type=int, default=16, help="voices and texts (16)")
    parser.add_argument("--json", type=Path, help="writes the figures here too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.model_dir:
        runners = {"released": released_runner(options.model_dir, torch.device(options.device))}
    else:
        runners = {"golden": golden_runner(options.golden), "random": random_runner(0)}
    result: dict[str, Any] = {
        "command": "benchmarks/flow_restart.py --json benchmarks/results/flow_restart.json",
        "torch": torch.__version__.partition("+")[0],
        "machine": platform.machine(),
        "seeds": options.seeds,
        "seconds": TOKENS // 25,
        "weights": {
            name: measure(runner, flow, range(options.seeds)) for name, (runner, flow) in runners.items()
        },
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
