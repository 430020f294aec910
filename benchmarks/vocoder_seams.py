"""What the vocoder's context buys: how far audio made in pieces is from the same audio made at once.

All deviations are from the decode of the whole mel, without noise, in dB below the rms of the audio. Three mels:
`flow` from the golden flow (frames unlike each other: the hardest), `smooth`, and `speech`, a synthetic voice
whose pitch a predictor of the real architecture was trained on here, since random weights know no pitch.

    .venv/bin/python benchmarks/vocoder_seams.py --golden ../shared/golden --json benchmarks/results/vocoder_seams.json

With `--checkpoint hift.pt` a released vocoder is measured on the synthetic voice instead of the tiny one.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from cosyduplex_server.models.config import VocoderConfig
from cosyduplex_server.models.frontend import prompt_mel
from cosyduplex_server.models.vocoder import PITCH_REACH_FRAMES, PitchPredictor, Vocoder
from cosyduplex_server.models.vocoder_stream import VocoderState, VocoderStream
from cosyduplex_server.models.weights_vocoder import load_vocoder

HOP, RATE_HZ, SEAM = 480, 24_000, 480  # samples; a seam's neighbourhood is 20 ms to either side
PUSH_FRAMES, FRAMES = 50, 600
TINY = VocoderConfig(channels=64, f0_channels=64)


# --- mels --------------------------------------------------------------------------------------------


def wander(random: torch.Generator, frames: int, step: int, low: float, high: float) -> Tensor:
    """A line through random points `step` frames apart."""
    points = torch.rand(1, 1, frames // step + 3, generator=random)
    line = F.interpolate(points, size=frames + 2 * step, mode="linear")[0, 0, step : step + frames]
    return low + (high - low) * line


def voice(seed: int, frames: int) -> tuple[Tensor, Tensor]:
    """Mel (T, 80) and pitch in Hz, 0 where unvoiced, of harmonics and noise through three moving formants."""
    random = torch.Generator().manual_seed(seed)
    base_hz = 90 * 2 ** (1.5 * torch.rand((), generator=random))
    pitch_T = base_hz * 2 ** (
        wander(random, frames, 12, -0.35, 0.35) + 0.01 * torch.randn(frames, generator=random)
    )
    voiced_T = wander(random, frames, 10, 0, 1) > 0.35
    samples = lambda line_T: F.interpolate(line_T[None, None].float(), size=frames * HOP, mode="linear")[0, 0]  # noqa: E731
    hz_N, voiced_N = samples(torch.where(voiced_T, pitch_T, base_hz)), samples(voiced_T)
    loud_N = samples(wander(random, frames, 6, -2.5, 0)).exp()
    places = [(300, 900, 90), (800, 2400, 130), (2200, 3300, 200)]
    formants = [(samples(wander(random, frames, 8, low, high)), width) for low, high, width in places]
    turns_N = (hz_N.double() / RATE_HZ).cumsum(0)
    sung_N = torch.zeros(frames * HOP)
    for k in range(1, 40):
        gain_N = 0.02 + sum(1 / (1 + ((k * hz_N - middle_N) / width) ** 2) for middle_N, width in formants)
        sung_N += gain_N * (k * hz_N < 7500) * torch.sin(2 * math.pi * (k * turns_N % 1)).float()
    noise_N = torch.randn(frames * HOP, generator=random)
    wav_N = (0.1 * sung_N * voiced_N + noise_N * (0.03 * (1 - voiced_N) + 0.002)) * loud_N
    return prompt_mel(wav_N.clamp(-1, 1), 8000.0).reshape(-1, 80)[:frames], pitch_T * voiced_T


def trained_pitch() -> tuple[PitchPredictor, float]:
    """A small predictor trained on 150 voices for 2500 steps, and its mean error in Hz on another."""
    mels, pitches = (
        torch.stack(part) for part in zip(*(voice(seed, 150) for seed in range(150)), strict=True)
    )
    torch.manual_seed(0)
    predictor = PitchPredictor(TINY)
    optimizer = torch.optim.Adam(predictor.parameters(), 2e-3)
    for step in range(2500):
        if step == 1700:
            optimizer.param_groups[0]["lr"] = 4e-4
        rows, begins = torch.randint(0, 150, (16,)), torch.randint(0, 120, (16,))
        at = begins[:, None] + torch.arange(30)
        loss = (predictor(mels[rows[:, None], at]) - pitches[rows[:, None], at]).abs().mean() / 100
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    predictor.requires_grad_(False)
    mel_TC, pitch_T = voice(1000, FRAMES)
    return predictor, (predictor(mel_TC[None])[0] - pitch_T).abs().mean().item()


# --- measurements ------------------------------------------------------------------------------------


class Whole:
    """A mel and its decode at once."""

    def __init__(self, vocoder: Vocoder, mel_TC: Tensor) -> None:
        self.vocoder, self.mel, self.frames = vocoder, mel_TC[None], len(mel_TC)
        self.start = torch.zeros(1, dtype=torch.float64)
        self.f0 = vocoder.f0(self.mel)
        self.phase = vocoder.phases(self.f0, self.start)
        self.source = vocoder.source(self.f0, self.start, torch.tensor([True]))
        self.wav = vocoder.decode(self.mel, self.source)
        self.rms = self.wav.square().mean().sqrt().item()

    def window(self, first: int, end: int, f0_BT: Tensor) -> Tensor:
        """The decode of some frames with a pitch of their own."""
        source_BN = self.vocoder.source(f0_BT, self.phase[:, first - 1], torch.tensor([False]))
        return self.vocoder.decode(self.mel[:, first:end], source_BN)

    def below(self, deviations: list[Tensor]) -> dict[str, float]:
        """Worst sample, and rms, of signals that should be 0."""
        everything = torch.cat([deviation.flatten() for deviation in deviations])
        return {
            "max": float(f"{everything.abs().max().item():.2g}"),
            "max_db": round(20 * math.log10(everything.abs().max().item() / self.rms + 1e-9), 1),
            "rms_db": round(20 * math.log10(everything.square().mean().sqrt().item() / self.rms + 1e-9), 1),
        }


def windows(whole: Whole) -> list[dict[str, Any]]:
    """Windows of 20 new frames with the whole's own pitch: what the decoder alone loses at its edges."""
    rows = []
    for left, right in [
        (4, 8),
        (6, 8),
        (8, 8),
        (16, 8),
        (8, 0),
        (8, 4),
        (8, 6),
        (8, 12),
        (12, 12),
        (8, 16),
        (16, 16),
    ]:
        deviations = []
        for new in range(40, whole.frames - 60, 20):
            first, end = new - left, new + 20 + right
            wav_BN = whole.window(first, end, whole.f0[:, first:end])[:, left * HOP : (left + 20) * HOP]
            deviations.append(wav_BN - whole.wav[:, new * HOP : (new + 20) * HOP])
        rows.append({"left": left, "right": right, **whole.below(deviations)})
    return rows


def wrong_sources(whole: Whole) -> list[dict[str, Any]]:
    """A source that is wrong (100 samples late) so many frames after the last sample that is given out."""
    rows = []
    for after in (0.0, 1.0, 2.5, 4.0, 6.0, 8.0, 10.5):
        deviations = []
        for end in range(40, whole.frames - 20, 20):
            source_BN = whole.source[:, (end - 20) * HOP : (end + 20) * HOP].clone()
            wrong = int((20 + after) * HOP)
            right_BN = whole.vocoder.decode(whole.mel[:, end - 20 : end + 20], source_BN)
            source_BN[:, wrong:] = source_BN[:, wrong:].roll(100, 1)
            wav_BN = whole.vocoder.decode(whole.mel[:, end - 20 : end + 20], source_BN)
            deviations.append((wav_BN - right_BN)[:, 19 * HOP : 20 * HOP])
        rows.append({"frames_after": after, **whole.below(deviations)})
    return rows


def edge_pitches(whole: Whole) -> list[dict[str, Any]]:
    """Ways to guess the pitch of the last five frames of a window, by what the last frame given out loses."""
    f0, reach = whole.vocoder.f0, PITCH_REACH_FRAMES
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "the whole's own (impossible)": lambda mel_BTC, known_BT: known_BT,
        "predicted, zeros beyond": lambda mel_BTC, known_BT: f0(mel_BTC),
        "predicted, last frame repeated": lambda mel_BTC, known_BT: f0(
            torch.cat([mel_BTC, mel_BTC[:, -1:].expand(-1, reach, -1)], 1)
        )[:, :-reach],
        "last settled pitch held": lambda mel_BTC, known_BT: known_BT[:, -reach - 1 : -reach].expand_as(
            known_BT
        ),
    }
    rows = []
    for right in (8, 10, 16):
        for name, guess in ways.items():
            deviations, errors = [], []
            for end in range(60, whole.frames - 20, 9):
                first, known_BT = end - 40, whole.f0[:, end - 40 : end]
                guess_BT = guess(whole.mel[:, first:end], known_BT)[:, -reach:]
                wav_BN = whole.window(first, end, torch.cat([known_BT[:, :-reach], guess_BT], dim=1))
                last = slice((39 - right) * HOP, (40 - right) * HOP)
                deviations.append(wav_BN[:, last] - whole.wav[:, first * HOP : end * HOP][:, last])
                errors.append((guess_BT - known_BT[:, -reach:]).abs().mean().item())
            error_hz = round(sum(errors) / len(errors), 2)
            rows.append({"right": right, "way": name, "error_hz": error_hz, **whole.below(deviations)})
    return rows


def streamed(whole: Whole, context: int) -> Tensor:
    """The product's way."""
    stream = VocoderStream(whole.vocoder, num_slots=1, left_frames=context, right_frames=context, noise=False)
    state, wavs = VocoderState(slot=0, seed=0), []
    for begin in range(0, whole.frames, PUSH_FRAMES):
        final = begin + PUSH_FRAMES >= whole.frames
        wavs += stream.push([state], [whole.mel[0, begin : begin + PUSH_FRAMES]], [final])
    return torch.cat(wavs)[None]


def cross_faded(whole: Whole) -> Tensor:
    """Upstream's way: 8 frames again, their source kept, the phase begun anew, a Hamming cross-fade."""
    n, wavs, kept = 8 * HOP, [], None
    fade_N = torch.hamming_window(2 * n, periodic=False)
    for begin in range(0, whole.frames, PUSH_FRAMES):
        mel_BTC = whole.mel[:, max(0, begin - 8) : begin + PUSH_FRAMES]
        source_BN = whole.vocoder.source(whole.vocoder.f0(mel_BTC), whole.start, torch.tensor([True]))
        if kept is not None:
            source_BN[:, :n] = kept[0]
        wav_BN = whole.vocoder.decode(mel_BTC, source_BN)
        if kept is not None:
            wav_BN[:, :n] = wav_BN[:, :n] * fade_N[:n] + kept[1] * fade_N[n:]
        kept = (source_BN[:, -n:], wav_BN[:, -n:])
        wavs.append(wav_BN if begin + PUSH_FRAMES >= whole.frames else wav_BN[:, :-n])
    return torch.cat(wavs, dim=1)


def streams(whole: Whole) -> list[dict[str, Any]]:
    """Whole utterances in pushes of a second, the pitch predicted as it comes.

    `step_db`: how far each 10 ms spectrum is from the one before it; where a seam is heard, it is larger there.
    Upstream's audio is another from the first seam on, since its phase begins anew: only its steps can be judged,
    at the end of each fade, where its source jumps.
    """
    rows = []
    pushes = torch.arange(PUSH_FRAMES, whole.frames, PUSH_FRAMES) * HOP
    for name, withheld in (
        ("8 frames, no fade", 8),
        ("16 frames, no fade", 16),
        ("upstream's cross-fade", 0),
    ):
        wav_BN = streamed(whole, withheld) if withheld else cross_faded(whole)
        distance_N = (
            (torch.arange(wav_BN.shape[1])[:, None] - (pushes - withheld * HOP)).abs().min(dim=1).values
        )
        near_N = distance_N <= SEAM
        row: dict[str, Any] = {"way": name, "num_seams": len(pushes)}
        if withheld:
            deviation_N = (wav_BN - whole.wav)[0]
            row["near_seams"] = whole.below([deviation_N[near_N]])
            row["elsewhere"] = whole.below([deviation_N[~near_N]])
        for audio, steps in (
            ("step_db", spectral_steps(wav_BN[0])),
            ("step_db_of_the_whole", spectral_steps(whole.wav[0])),
        ):
            near_steps = near_N[120 : 120 * (len(steps) + 1) : 120]
            means = steps[near_steps].mean().item(), steps[~near_steps].mean().item()
            row[audio] = {"near_seams": round(means[0], 2), "elsewhere": round(means[1], 2)}
        rows.append(row)
    return rows


def spectral_steps(wav_N: Tensor) -> Tensor:
    """The distance of the 10 ms spectra before and after each fifth millisecond, the first at 5 ms."""
    spectra = torch.stft(wav_N, 240, 120, window=torch.hann_window(240), return_complex=True).abs()
    level = 20 * torch.log10(spectra + 1e-4)
    return (level[:, 2:] - level[:, :-2]).square().mean(0).sqrt()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--golden", type=Path, help="folder with hift_v2 and flow_v2_golden.safetensors")
    parser.add_argument("--checkpoint", type=Path, help="a released hift.pt, measured instead")
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"torch": torch.__version__, "machine": platform.machine(), "mels": {}}
    if args.checkpoint:
        vocoder = load_vocoder(torch.load(args.checkpoint, weights_only=True), VocoderConfig())
        wholes = {"speech": (vocoder, voice(1000, FRAMES)[0])}
    elif args.golden:
        vocoder, spoken = (load_vocoder(load_golden(args.golden, "hift_v2"), TINY) for _ in range(2))
        spoken.pitch, result["trained_pitch_error_hz"] = trained_pitch()
        flow_BCT = load_golden(args.golden, "flow_v2_golden")["offline.mel_nostream"]
        noise_CT = torch.randn(1, 80, FRAMES + 8, generator=torch.Generator().manual_seed(1))
        wholes = {
            "flow": (vocoder, flow_BCT[0].T),
            "smooth": (vocoder, F.avg_pool1d(noise_CT, 9, 1)[0].T * 4.5 - 2),
            "speech": (spoken, voice(1000, FRAMES)[0]),
        }
    else:
        parser.error("one of --golden and --checkpoint is needed")
    with torch.inference_mode():
        for name, (model, mel_TC) in wholes.items():
            whole = Whole(model, mel_TC)
            result["mels"][name] = {
                "rms": round(whole.rms, 4),
                "windows": windows(whole),
                "wrong_sources": wrong_sources(whole),
                "edge_pitches": edge_pitches(whole),
                "streams": streams(whole),
            }
    text = json.dumps(result, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


def load_golden(folder: Path, name: str) -> dict[str, Tensor]:
    return {key: tensor.float() for key, tensor in load_file(folder / f"{name}.safetensors").items()}


if __name__ == "__main__":
    main()
