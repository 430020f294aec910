"""The vocoder over pieces: whatever the pieces are, the samples are those of the whole."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, pairwise

import pytest
import torch
import torch.nn.functional as F
from cosyvoice.conftest import load_golden, tiny_vocoder_config
from cosyvoice.host_sync import NoHostSync
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosyduplex_server.models.vocoder import PITCH_REACH_FRAMES, Vocoder
from cosyduplex_server.models.vocoder_stream import VocoderState, VocoderStream
from cosyduplex_server.models.vocoder_timing import frames_at_speed, samples_ready
from cosyduplex_server.models.weights_vocoder import load_vocoder

HOP = 480


class GivenPitch(Vocoder):
    """Reads the pitch off each frame by itself, so that windows cannot change it."""

    def f0(self, mel_BTC: Tensor) -> Tensor:
        voiced_BT = mel_BTC[..., 1] > -1.5
        return (150 + 50 * torch.tanh(mel_BTC[..., 0])) * voiced_BT


class SourceAlone(GivenPitch):
    """Gives out the source itself."""

    def decode(self, mel_BTC: Tensor, source_BN: Tensor) -> Tensor:
        return source_BN


class FramesAlone(SourceAlone):
    """Gives out each frame's third channel, 480 times."""

    def source(
        self, f0_BT: Tensor, phase_B: Tensor, begins_B: Tensor, noise_BN: Tensor | None = None
    ) -> Tensor:
        return f0_BT

    def decode(self, mel_BTC: Tensor, source_BN: Tensor) -> Tensor:
        return mel_BTC[..., 2].repeat_interleave(HOP, dim=1)


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return load_vocoder(load_golden("hift_v2"), tiny_vocoder_config(2))


@pytest.fixture(scope="module")
def variant(vocoder: Vocoder) -> Callable[[type[Vocoder]], Vocoder]:
    @cache
    def build(kind: type[Vocoder]) -> Vocoder:
        other = kind(vocoder.config).requires_grad_(False)
        other.load_state_dict(vocoder.state_dict())
        return other

    return build


@pytest.fixture(scope="module")
def mel_TC() -> Tensor:
    """Six seconds from the golden flow."""
    mel_BCT: Tensor = load_golden("flow_v2_golden")["offline.mel_nostream"]
    return mel_BCT[0].T.contiguous()


def smooth_mel(frames: int, seed: int) -> Tensor:
    """Frames that change as slowly as speech does."""
    noise = torch.randn(1, 80, frames + 8, generator=torch.Generator().manual_seed(seed))
    return (F.avg_pool1d(noise, 9, 1) * 4.5 - 2)[0].T.contiguous()


def speak(
    vocoder: Vocoder,
    mel_TC: Tensor,
    sizes: Sequence[int],
    *,
    context: int = 8,
    noise: bool = True,
    seed: int = 5,
    speed: float = 1.0,
) -> Tensor:
    """The samples of an utterance pushed in pieces of these sizes; the rest comes with the last push."""
    stream = VocoderStream(vocoder, num_slots=2, left_frames=context, right_frames=context, noise=noise)
    state = VocoderState(slot=1, seed=seed, speed=speed)
    ends = [end for end in accumulate(sizes) if end < len(mel_TC)]
    wavs = []
    for begin, end in pairwise([0, *ends, len(mel_TC)]):
        wavs += stream.push([state], [mel_TC[begin:end]], [end == len(mel_TC)])
    return torch.cat(wavs)


def worst(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


pieces = st.lists(st.integers(1, 100), max_size=40)

# --- chunked = whole ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("context", "tolerance", "num_examples"), [(8, 3e-4, 8), (16, 1e-5, 4)])
def test_any_pieces_give_the_whole_for_a_given_pitch(
    variant: Callable[[type[Vocoder]], Vocoder],
    mel_TC: Tensor,
    context: int,
    tolerance: float,
    num_examples: int,
) -> None:
    vocoder, mel_TC = variant(GivenPitch), mel_TC[:110]
    whole_N = speak(vocoder, mel_TC, [])

    @settings(max_examples=num_examples, deadline=None)
    @example(sizes=[1] * 24)
    @example(sizes=[3, 7, 2, 40, 1, 8, 40])
    @given(sizes=pieces)
    def check(sizes: list[int]) -> None:
        assert worst(speak(vocoder, mel_TC, sizes, context=context), whole_N) < tolerance

    check()


def test_a_predicted_pitch_moves_little_while_the_frames_after_it_are_unknown(
    vocoder: Vocoder, mel_TC: Tensor
) -> None:
    mel_TC = mel_TC[:150]
    whole_N = speak(vocoder, mel_TC, [])
    # The golden flow's frames are as unlike each other as frames can be: see docs/decisions/0010.
    assert worst(speak(vocoder, mel_TC, [25] * 12), whole_N) < 8e-3
    # With 16 frames nothing that is given out depends on them; what is left is the rounding of the pitch.
    assert worst(speak(vocoder, mel_TC, [25] * 12, context=16), whole_N) < 1e-3


def test_one_push_is_the_model_alone(vocoder: Vocoder, mel_TC: Tensor) -> None:
    assert torch.equal(speak(vocoder, mel_TC, [], noise=False), vocoder(mel_TC[None])[0])


@pytest.mark.parametrize("frames", [1, 2, 8, 9, 15])
def test_utterances_shorter_than_the_context_are_whole(
    variant: Callable[[type[Vocoder]], Vocoder], mel_TC: Tensor, frames: int
) -> None:
    vocoder, mel_TC = variant(GivenPitch), mel_TC[:frames]
    assert worst(speak(vocoder, mel_TC, [1] * frames), speak(vocoder, mel_TC, [])) < 3e-4
    assert len(speak(vocoder, mel_TC, [4])) == frames * HOP


def test_an_utterance_without_frames_gives_no_samples(vocoder: Vocoder) -> None:
    stream = VocoderStream(vocoder, num_slots=1)
    (wav_N,) = stream.push([VocoderState(slot=0, seed=0)], [torch.zeros(0, 80)], [True])
    assert wav_N.shape == (0,)


def test_an_empty_final_push_gives_out_what_was_withheld(
    variant: Callable[[type[Vocoder]], Vocoder], mel_TC: Tensor
) -> None:
    vocoder = variant(GivenPitch)
    stream, state = VocoderStream(vocoder, num_slots=1), VocoderState(slot=0, seed=5)
    wavs = [stream.push([state], [mel_TC[:50]], [False])[0]]
    wavs.append(stream.push([state], [mel_TC[:0]], [False])[0])
    wavs.append(stream.push([state], [mel_TC[:0]], [True])[0])
    assert [len(wav) // HOP for wav in wavs] == [42, 0, 8]
    assert worst(torch.cat(wavs), speak(vocoder, mel_TC[:50], [])) < 3e-4


# --- seams -------------------------------------------------------------------------------------------


def spectral_steps(wav_N: Tensor) -> Tensor:
    """How far each 10 ms spectrum is from the one before, in dB, every 5 ms; step i lies around 5 * i ms."""
    spectra = torch.stft(wav_N, 240, 120, window=torch.hann_window(240), return_complex=True).abs()
    level = 20 * torch.log10(spectra + 1e-4)
    return (level[:, 2:] - level[:, :-2]).square().mean(0).sqrt()


def near(seams: Sequence[int], num_steps: int) -> Tensor:
    """Which steps look at something within 20 ms of a seam (in samples)."""
    at_ms = 5.0 * torch.arange(1, num_steps + 1)
    return (at_ms[:, None] - torch.tensor(seams) / 24).abs().min(dim=1).values <= 20


def excess_db(wav_N: Tensor, seams: Sequence[int]) -> float:
    """By how many standard errors the steps near seams are larger than those elsewhere."""
    steps = spectral_steps(wav_N)
    at_seam = near(seams, len(steps))
    inside, outside = steps[at_seam], steps[~at_seam]
    return ((inside.mean() - outside.mean()) / (outside.std() / len(inside) ** 0.5)).item()


def test_no_seam_shows_in_the_spectrum(vocoder: Vocoder) -> None:
    mel_TC, size = smooth_mel(400, seed=1), 19
    seams = [frame * HOP for frame in range(size - 8, 400 - 8, size)]
    whole_N, chunked_N = speak(vocoder, mel_TC, []), speak(vocoder, mel_TC, [size] * 30)
    assert excess_db(chunked_N, seams) < 2
    # Against the same places of the whole, which have no seam: not a hundredth of a decibel more.
    steps, at_seam = spectral_steps(chunked_N), near(seams, len(spectral_steps(chunked_N)))
    assert (steps - spectral_steps(whole_N))[at_seam].mean().abs() < 0.01
    # The statistic sees seams where there are some: pieces spoken as utterances of their own.
    apart_N = torch.cat([speak(vocoder, piece, []) for piece in mel_TC.split(size)])
    assert excess_db(apart_N, list(range(size * HOP, 400 * HOP, size * HOP))) > 4


def test_what_lies_beyond_the_edge_enters_no_kept_pitch_or_phase(vocoder: Vocoder) -> None:
    """What a stream keeps after 60 frames is what the longer mel gives there, though it saw no more."""
    mel_TC = smooth_mel(80, seed=2)
    stream = VocoderStream(vocoder, num_slots=1)
    state = VocoderState(slot=0, seed=0)
    stream.push([state], [mel_TC[:60]], [False])
    first = 60 - 8 - 8
    f0_BT = vocoder.f0(mel_TC[None])
    settled = 60 - PITCH_REACH_FRAMES - first
    assert worst(stream._f0[:, :settled], f0_BT[:, first : first + settled]) < 1e-3
    phase_BT = vocoder.phases(f0_BT, torch.zeros(1, dtype=torch.float64))
    assert worst(stream._phase, phase_BT[:, first - 1]) < 1e-5


# --- source, phase, noise ----------------------------------------------------------------------------


def test_source_goes_on_over_ten_thousand_frames(variant: Callable[[type[Vocoder]], Vocoder]) -> None:
    vocoder = variant(SourceAlone)
    vocoder.harmonics.num_harmonics = 1  # the time that nine take is not needed
    vocoder.harmonics.mix = torch.nn.Linear(1, 1, bias=False).requires_grad_(False)
    vocoder.harmonics.mix.weight.fill_(1.0)
    mel_TC = torch.zeros(10_000, 80)
    mel_TC[:, 0] = torch.linspace(-2, 2, 10_000).sin()
    chunked_N = speak(vocoder, mel_TC, [487] * 25, noise=False)
    assert worst(chunked_N, speak(vocoder, mel_TC, [], noise=False)) < 1e-6
    # At most 200 Hz: no step is larger than the steepest sine's.
    assert chunked_N.atanh().diff().abs().max() < 0.1 * 2 * torch.pi * 200 / 24_000


def test_noise_is_the_same_for_any_pieces(variant: Callable[[type[Vocoder]], Vocoder]) -> None:
    vocoder, silent_TC = variant(SourceAlone), torch.full((70, 80), -9.0)
    whole_N = speak(vocoder, silent_TC, [])
    assert whole_N.std() > 0.01
    for sizes in ([1] * 70, [9, 20, 3, 30], [50]):
        assert torch.equal(speak(vocoder, silent_TC, sizes), whole_N)


def test_noise_of_two_seeds_has_nothing_in_common(variant: Callable[[type[Vocoder]], Vocoder]) -> None:
    vocoder, silent_TC = variant(SourceAlone), torch.full((100, 80), -9.0)
    noises = torch.stack([speak(vocoder, silent_TC, [], seed=seed) for seed in (0, 1, 2, -7)])
    common = torch.corrcoef(noises) - torch.eye(4)
    assert common.abs().max() < 5 / (100 * HOP) ** 0.5


# --- batches -----------------------------------------------------------------------------------------


def test_utterances_of_a_batch_sound_as_alone(
    variant: Callable[[type[Vocoder]], Vocoder], mel_TC: Tensor
) -> None:
    vocoder = variant(GivenPitch)
    mels = [mel_TC[:120], mel_TC[60:200], mel_TC[150:290], mel_TC[20:100]]
    speeds = [1.0, 1.0, 1.0, 1.25]
    plans = [[30, 30, 30, 30], [30, 30, 50, 30], [30, 30, 30, 50], [30, 30, 20]]
    stream = VocoderStream(vocoder, num_slots=6)
    states = [VocoderState(slot=5 - i, seed=i, speed=speeds[i]) for i in range(4)]
    wavs: list[list[Tensor]] = [[], [], [], []]
    for turn in range(4):
        rows = [i for i in range(4) if turn < len(plans[i])]
        begins = {i: sum(plans[i][:turn]) for i in rows}
        mel_parts = [mels[i][begins[i] : begins[i] + plans[i][turn]] for i in rows]
        final = [turn == len(plans[i]) - 1 for i in rows]
        for i, wav_N in zip(rows, stream.push([states[i] for i in rows], mel_parts, final), strict=True):
            wavs[i].append(wav_N)
    for i in range(4):
        alone_N = speak(vocoder, mels[i], plans[i], seed=i, speed=speeds[i])
        assert worst(torch.cat(wavs[i]), alone_N) < 1e-5


def test_a_slot_begins_anew_with_a_new_state(vocoder: Vocoder, mel_TC: Tensor) -> None:
    stream = VocoderStream(vocoder, num_slots=1)
    stream.push([VocoderState(slot=0, seed=1)], [mel_TC[:90]], [False])  # cancelled: no final push
    state, wavs = VocoderState(slot=0, seed=5), []
    for begin in range(100, 200, 25):
        wavs += stream.push([state], [mel_TC[begin : begin + 25]], [begin == 175])
    assert torch.equal(torch.cat(wavs), speak(vocoder, mel_TC[100:200], [25] * 4))


# --- speed -------------------------------------------------------------------------------------------

speeds = st.floats(0.5, 2.0)


@settings(max_examples=30, deadline=None)
@example(sizes=[1] * 40, speed=2.0)
@example(sizes=[1] * 40, speed=0.5)
@example(sizes=[15, 1, 1, 1], speed=1.9)
@given(sizes=pieces, speed=speeds)
def test_frames_at_a_speed_do_not_depend_on_the_pieces(
    variant: Callable[[type[Vocoder]], Vocoder], sizes: list[int], speed: float
) -> None:
    vocoder = variant(FramesAlone)
    mel_TC = torch.randn(120, 80, generator=torch.Generator().manual_seed(0))
    whole_N = speak(vocoder, mel_TC, [], speed=speed, noise=False)
    assert torch.equal(speak(vocoder, mel_TC, sizes, speed=speed, noise=False), whole_N)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 1.5, 2.0])
def test_frames_at_a_speed_are_those_of_a_linear_interpolation(
    variant: Callable[[type[Vocoder]], Vocoder], speed: float
) -> None:
    mel_TC = torch.randn(120, 80, generator=torch.Generator().manual_seed(0))
    frames = speak(variant(FramesAlone), mel_TC, [7] * 20, noise=False, speed=speed)[::HOP]
    expected = F.interpolate(mel_TC.T[None], size=int(120 / speed), mode="linear")
    assert worst(frames, expected[0, 2]) < 1e-4  # torch reckons positions in float32


def test_speed_one_touches_nothing(variant: Callable[[type[Vocoder]], Vocoder]) -> None:
    mel_TC = torch.randn(50, 80, generator=torch.Generator().manual_seed(0))
    frames = speak(variant(FramesAlone), mel_TC, [7] * 20, noise=False, speed=1.0)[::HOP]
    assert torch.equal(frames, mel_TC[:, 2])


@pytest.mark.parametrize("speed", [0.7, 1.3])
def test_pieces_at_a_speed_give_the_whole_without_a_click(
    variant: Callable[[type[Vocoder]], Vocoder], mel_TC: Tensor, speed: float
) -> None:
    vocoder, size, mel_TC = variant(GivenPitch), 20, mel_TC[:200]
    whole_N = speak(vocoder, mel_TC, [], speed=speed)
    chunked_N = speak(vocoder, mel_TC, [size] * 20, speed=speed)
    assert worst(chunked_N, whole_N) < 3e-4
    jumps = chunked_N.diff().abs()
    seams = [samples_ready(made, final=False, speed=speed) for made in range(size, 200, size)]
    assert max(jumps[seam - 1].item() for seam in seams if seam) <= jumps.quantile(0.999).item()


# --- arithmetic --------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(sizes=pieces, speed=st.one_of(st.just(1.0), speeds), context=st.integers(6, 16))
def test_samples_come_exactly_as_announced(
    variant: Callable[[type[Vocoder]], Vocoder], sizes: list[int], speed: float, context: int
) -> None:
    stream = VocoderStream(
        variant(FramesAlone), num_slots=1, left_frames=context, right_frames=context, noise=False
    )
    state = VocoderState(slot=0, seed=0, speed=speed)
    mel_TC = torch.zeros(100, 80)
    made = given_out = 0
    for index, size in enumerate([*sizes, 0]):
        final = index == len(sizes)
        made += size
        given_out += len(stream.push([state], [mel_TC[:size]], [final])[0])
        assert given_out == samples_ready(made, final=final, speed=speed, right_frames=context)


@given(total=st.integers(0, 100_000), speed=speeds)
def test_speech_lasts_as_long_as_the_speed_says(total: int, speed: float) -> None:
    frames = frames_at_speed(total, final=True, speed=speed)
    assert total / speed - 1 < frames <= total / speed
    before = frames_at_speed(total, final=False, speed=speed)
    assert before <= frames
    assert before <= frames_at_speed(total + 1, final=False, speed=speed)
    assert before >= (total - 1) / speed - 1


# --- how it runs -------------------------------------------------------------------------------------


def test_bf16_streams_as_it_speaks_whole(mel_TC: Tensor) -> None:
    half = load_vocoder(load_golden("hift_v2"), tiny_vocoder_config(2), dtype=torch.bfloat16)
    whole_N, chunked_N = speak(half, mel_TC[:90], []), speak(half, mel_TC[:90], [30] * 3)
    assert 20 * torch.log10((chunked_N - whole_N).norm() / whole_N.norm()) < -30


def test_a_push_does_not_wait_for_the_device(vocoder: Vocoder, mel_TC: Tensor) -> None:
    stream, state = VocoderStream(vocoder, num_slots=1), VocoderState(slot=0, seed=0, speed=1.25)
    with NoHostSync():
        stream.push([state], [mel_TC[:40]], [False])
        stream.push([state], [mel_TC[40:60]], [True])
