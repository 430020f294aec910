from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cosyvoice.conftest import load_golden, tiny_vocoder_config
from cosyvoice.host_sync import NoHostSync
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosyduplex_server.models.config import VocoderConfig
from cosyduplex_server.models.vocoder import HarmonicSource, ShortTransform, Vocoder
from cosyduplex_server.models.weights import WeightsError
from cosyduplex_server.models.weights_vocoder import load_vocoder

HOP = 480


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Tensor]:
    return load_golden("hift_v2")


@pytest.fixture(scope="module")
def vocoder(checkpoint: dict[str, Tensor]) -> Vocoder:
    return load_vocoder(checkpoint, tiny_vocoder_config(2))


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """Upstream's tensors for one mel of 60 frames; `mel` as (B, T, C), signals as (B, N)."""
    found = {
        key: t.squeeze(1) if t.dim() == 3 and t.shape[1] == 1 else t
        for key, t in load_golden("hift_v2_golden").items()
    }
    return found | {"mel": found["mel"].transpose(1, 2)}


def of_beginning(vocoder: Vocoder, f0_BT: Tensor, noise_BN: Tensor | None = None) -> Tensor:
    """The source of whole utterances."""
    phase_B = torch.zeros(len(f0_BT), dtype=torch.float64)
    return vocoder.source(f0_BT, phase_B, torch.ones(len(f0_BT), dtype=torch.bool), noise_BN)


def worst(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


# --- equal to upstream -------------------------------------------------------------------------------


def test_pitch_is_upstreams(vocoder: Vocoder, tensors: dict[str, Tensor]) -> None:
    assert worst(vocoder.f0(tensors["mel"]), tensors["f0"]) < 1e-3  # Hz


def test_harmonics_are_upstreams(vocoder: Vocoder, tensors: dict[str, Tensor]) -> None:
    begins_B = torch.ones(1, dtype=torch.bool)
    sines_BNK = vocoder.harmonics.sines(tensors["f0"], torch.zeros(1, dtype=torch.float64), begins_B)
    assert worst(sines_BNK[:, :2400], tensors["sine_nonoise_first2400"]) < 1e-4


def test_source_without_noise_is_upstreams(vocoder: Vocoder, tensors: dict[str, Tensor]) -> None:
    assert worst(of_beginning(vocoder, tensors["f0"]), tensors["source_nonoise"]) < 2e-3


def test_decoder_is_upstreams_for_any_source(vocoder: Vocoder, tensors: dict[str, Tensor]) -> None:
    assert worst(vocoder.decode(tensors["mel"], tensors["src_random"]), tensors["wav_src_random"]) < 1e-5


def test_source_spectrum_is_upstreams(vocoder: Vocoder, tensors: dict[str, Tensor]) -> None:
    real_BLC, imag_BLC = vocoder.decoder.stft.analyse(tensors["src_random"]).chunk(2, dim=2)
    assert worst(real_BLC.transpose(1, 2), tensors["src_random_stft_real"]) < 1e-6
    assert worst(imag_BLC.transpose(1, 2), tensors["src_random_stft_imag"]) < 1e-6


def test_samples_without_noise_are_upstreams(vocoder: Vocoder, tensors: dict[str, Tensor]) -> None:
    assert worst(vocoder(tensors["mel"]), tensors["wav_nonoise"]) < 5e-3


def test_samples_with_a_source_from_before_are_upstreams(
    vocoder: Vocoder, tensors: dict[str, Tensor]
) -> None:
    source_BN = of_beginning(vocoder, vocoder.f0(tensors["mel"]))
    source_BN[:, : tensors["cache_source"].shape[1]] = tensors["cache_source"]
    assert worst(vocoder.decode(tensors["mel"], source_BN), tensors["wav_cache_source"]) < 5e-3


def test_samples_with_upstreams_noise_are_upstreams(vocoder: Vocoder, tensors: dict[str, Tensor]) -> None:
    torch.manual_seed(123)
    torch.rand(1, 9)  # start phases, without effect
    draws_BNK = torch.randn_like(torch.empty(1, 9, 60 * HOP).transpose(1, 2))  # drawn in the order of memory
    weights_K = vocoder.harmonics.mix.weight[0]
    source_BN = of_beginning(vocoder, vocoder.f0(tensors["mel"]), draws_BNK @ weights_K / weights_K.norm())
    assert worst(source_BN, tensors["source_seed123"]) < 2e-3
    assert worst(vocoder.decode(tensors["mel"], source_BN), tensors["wav_seed123"]) < 5e-3


class UpstreamGlue:
    """Upstream's way from chunk to chunk: 8 frames decoded again, their source kept, a Hamming cross-fade."""

    def __init__(self, vocoder: Vocoder) -> None:
        self.vocoder = vocoder
        self.frames = 8
        self.fade_N = torch.from_numpy(np.hamming(2 * self.frames * HOP)).float()
        self.kept: tuple[Tensor, Tensor, Tensor] | None = None

    def push(self, mel_BTC: Tensor, final: bool) -> Tensor:
        n = self.frames * HOP
        if self.kept is not None:
            mel_BTC = torch.cat([self.kept[0], mel_BTC], dim=1)
        source_BN = of_beginning(self.vocoder, self.vocoder.f0(mel_BTC))
        if self.kept is not None:
            source_BN[:, :n] = self.kept[1]
        wav_BN = self.vocoder.decode(mel_BTC, source_BN)
        if self.kept is not None:
            wav_BN[:, :n] = wav_BN[:, :n] * self.fade_N[:n] + self.kept[2] * self.fade_N[n:]
        self.kept = (mel_BTC[:, -self.frames :], source_BN[:, -n:], wav_BN[:, -n:])
        return wav_BN if final else wav_BN[:, :-n]


def test_streams_through_upstreams_glue_are_upstreams(vocoder: Vocoder) -> None:
    flow, expected, glue = (
        load_golden("flow_v2_golden"),
        load_golden("token2wav_v2_golden"),
        UpstreamGlue(vocoder),
    )
    for call, key in enumerate(("chunk0.mel_new", "chunk1.mel_new", "final.mel_new_nostream")):
        wav_BN = glue.push(flow[key].transpose(1, 2), final=call == 2)
        assert worst(wav_BN, expected[f"stream.wav{call}"]) < 5e-3


@pytest.mark.parametrize(
    ("speed", "key"), [(1.0, "offline.wav_first72000"), (1.25, "offline_speed1.25.wav_first24000")]
)
def test_whole_utterances_are_upstreams(vocoder: Vocoder, speed: float, key: str) -> None:
    mel_BCT, expected_BN = (
        load_golden("flow_v2_golden")["offline.mel_nostream"],
        load_golden("token2wav_v2_golden")[key],
    )
    mel_BCT = F.interpolate(mel_BCT, size=int(mel_BCT.shape[2] / speed), mode="linear")
    assert worst(vocoder(mel_BCT.transpose(1, 2))[:, : expected_BN.shape[1]], expected_BN) < 5e-3


# --- the short transform -----------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(hops=st.integers(3, 80), rows=st.integers(1, 3), seed=st.integers(0, 2**31))
def test_short_transform_equals_torchs(hops: int, rows: int, seed: int) -> None:
    transform, window_W = ShortTransform(16, 4), torch.hann_window(16)
    random = torch.Generator().manual_seed(seed)
    signal_BN = torch.randn(rows, 4 * hops, generator=random)
    expected = torch.stft(signal_BN, 16, 4, window=window_W, return_complex=True)
    assert (
        worst(transform.analyse(signal_BN), torch.cat([expected.real, expected.imag], 1).transpose(1, 2))
        < 1e-5
    )
    spectrum = torch.complex(*torch.randn(2, rows, 9, hops + 1, generator=random))
    ours_BLC = torch.cat([spectrum.real, spectrum.imag], 1).transpose(1, 2)
    assert worst(transform.synthesise(ours_BLC), torch.istft(spectrum, 16, 4, window=window_W)) < 1e-5


# --- the source --------------------------------------------------------------------------------------


def test_phase_of_many_frames_is_exact() -> None:
    harmonics = HarmonicSource(VocoderConfig())
    f0_BT = 80 + 300 * torch.rand(1, 10_000, generator=torch.Generator().manual_seed(0))
    exact = Fraction(0)
    for hz in f0_BT[0].tolist():
        exact = (exact + Fraction(hz) / 50) % 1
    phase_B = torch.zeros(1, dtype=torch.float64)
    for piece_BT in f0_BT.split(37, dim=1):
        phase_B = harmonics.phases(piece_BT, phase_B)[:, -1]
    assert abs(phase_B.item() - float(exact)) < 1e-10  # cycles


def test_harmonics_above_the_sample_rate_fold_as_upstreams_do() -> None:
    harmonics = HarmonicSource(VocoderConfig())
    f0_BT = torch.tensor([[3000.0, 5000.0, 2900.0]])  # the ninth: more than a cycle per sample
    sines_BNK = harmonics.sines(f0_BT, torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.bool))
    per_sample_TK = (f0_BT[0, :, None].double() * torch.arange(1, 10) / 24_000) % 1
    centres_TK = (per_sample_TK * HOP).cumsum(0)
    position_N = ((torch.arange(3 * HOP, dtype=torch.float64) + 0.5) / HOP - 0.5).clamp(0, 2)
    low_N = position_N.long().clamp(max=1)
    phase_NK = torch.lerp(centres_TK[low_N], centres_TK[low_N + 1], (position_N - low_N)[:, None])
    assert worst(sines_BNK[0].double(), 0.1 * torch.sin(2 * torch.pi * phase_NK)) < 2e-5


def test_unvoiced_frames_carry_noise_alone_and_more_of_it() -> None:
    harmonics = HarmonicSource(VocoderConfig()).requires_grad_(False)
    harmonics.mix.bias.zero_()
    f0_BT = torch.tensor([[9.9] * 50 + [150.0] * 50])
    phase_B, begins_B = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.bool)
    noise_BN = torch.randn(1, 100 * HOP, generator=torch.Generator().manual_seed(1))
    with_noise_BN = harmonics(f0_BT, phase_B, begins_B, noise_BN).atanh()
    without_BN = harmonics(f0_BT, phase_B, begins_B).atanh()
    assert without_BN[:, : 50 * HOP].abs().max() == 0
    unvoiced_BN, voiced_BN = (with_noise_BN - without_BN).chunk(2, dim=1)
    width = harmonics.mix.weight.norm().item()
    assert unvoiced_BN.std().item() == pytest.approx(width * 0.1 / 3, rel=0.02)
    assert voiced_BN.std().item() == pytest.approx(width * 0.003, rel=0.02)


def test_one_draw_stands_for_a_draw_per_harmonic() -> None:
    harmonics = HarmonicSource(VocoderConfig()).requires_grad_(False)
    draws_NK = torch.randn(200_000, 9, generator=torch.Generator().manual_seed(2))
    mixed_N = harmonics.mix(draws_NK * 0.003).squeeze(1) - harmonics.mix.bias
    assert mixed_N.std().item() == pytest.approx(0.003 * harmonics.mix.weight.norm().item(), rel=0.01)


# --- how it runs -------------------------------------------------------------------------------------


def test_rows_of_a_batch_do_not_see_each_other(vocoder: Vocoder) -> None:
    mel_BTC = torch.randn(3, 40, 80, generator=torch.Generator().manual_seed(3))
    together_BN = vocoder(mel_BTC)
    for row in range(3):
        assert worst(vocoder(mel_BTC[row : row + 1]), together_BN[row : row + 1]) < 1e-4


def test_bf16_decoder_stays_close_and_leaves_pitch_and_source_alone(
    checkpoint: dict[str, Tensor], vocoder: Vocoder, tensors: dict[str, Tensor]
) -> None:
    half = load_vocoder(checkpoint, tiny_vocoder_config(2), dtype=torch.bfloat16)
    f0_BT = half.f0(tensors["mel"])
    assert torch.equal(f0_BT, vocoder.f0(tensors["mel"]))
    source_BN = of_beginning(half, f0_BT)
    assert torch.equal(source_BN, of_beginning(vocoder, f0_BT))
    full_BN = vocoder.decode(tensors["mel"], source_BN)
    half_BN = half.decode(tensors["mel"], source_BN)
    assert half_BN.dtype == torch.float32
    noise_db = 20 * torch.log10((half_BN - full_BN).norm() / full_BN.norm()).item()
    assert noise_db < -30


def test_nothing_waits_for_the_device(vocoder: Vocoder) -> None:
    mel_BTC, noise_BN = torch.zeros(2, 12, 80), torch.zeros(2, 12 * HOP)
    with NoHostSync():
        vocoder(mel_BTC, noise_BN)
        vocoder.phases(mel_BTC[:, :, 0], torch.zeros(2, dtype=torch.float64))


# --- checkpoints -------------------------------------------------------------------------------------


def test_older_weight_norm_names_and_a_wrappers_prefix_are_read(
    checkpoint: dict[str, Tensor], vocoder: Vocoder
) -> None:
    older = {"original0": "weight_g", "original1": "weight_v"}
    renamed = {}
    for key, tensor in checkpoint.items():
        name, _, last = key.rpartition(".parametrizations.weight.")
        renamed["generator." + (f"{name}.{older[last]}" if name else key)] = tensor
    other = load_vocoder(renamed, tiny_vocoder_config(2)).state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in vocoder.state_dict().items())


def test_released_checkpoint_has_the_tensors_that_are_asked_for(golden_json) -> None:
    table = golden_json("keys_cosyvoice2")["hift.pt"]
    tensors = {key: torch.ones(entry["shape"]) for key, entry in table.items()}
    loaded = load_vocoder(tensors, VocoderConfig())
    assert sum(p.numel() for p in loaded.parameters()) > 20_000_000


def test_a_checkpoint_that_does_not_fit_is_named(checkpoint: dict[str, Tensor]) -> None:
    config = tiny_vocoder_config(2)
    with pytest.raises(WeightsError, match=r"hift\.pt: conv_pre\.bias is missing"):
        load_vocoder({key: t for key, t in checkpoint.items() if key != "conv_pre.bias"}, config)
    with pytest.raises(WeightsError, match=r"hift\.pt: extra\.weight belongs to no part"):
        load_vocoder(checkpoint | {"extra.weight": torch.ones(1)}, config)
    with pytest.raises(WeightsError, match="not 128"):
        load_vocoder(checkpoint, replace(config, channels=128))
