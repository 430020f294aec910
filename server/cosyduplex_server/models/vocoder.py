"""HiFT, CosyVoice2's vocoder: mel frames to samples.

Three parts: a predictor of the pitch; a source, nine harmonics of that pitch and noise; a decoder that brings
mel and source to the rate of an STFT of 16 samples, stage by stage, and ends in its inverse. Nothing here
knows where in an utterance it is: what came before enters as the phase, and windows are cut elsewhere.

The pitch, the source, both STFTs and the exponential before the inverse one are float32 (phases float64)
whatever the decoder's dtype is.

Legend: B sequences, T mel frames, N samples (T * 480), K harmonics with the fundamental, S samples of a
frame, C channels, L frames of the STFT, W its window's samples, P the parts of a window of one hop, M hops,
H samples of a hop. A cycle is a phase of 2 pi.
"""

from __future__ import annotations

import math
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosyduplex_server.models.config import MEL_CHANNELS, MEL_HOP_SAMPLES, SAMPLE_RATE_HZ, VocoderConfig

PITCH_LAYERS: Final = 5
PITCH_REACH_FRAMES: Final = PITCH_LAYERS
"""A frame's pitch depends on so many mel frames on either side of it."""

_LAST_SLOPE: Final = 0.01  # before the last convolution; not the config's `leaky_slope`
_MAX_MAGNITUDE: Final = 100.0
_ALPHA_FLOOR: Final = 1e-9


class Vocoder(nn.Module):
    """Mel frames to samples at 24 kHz."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        assert config.generation == 2, "the causal vocoder of CosyVoice3 is another module"
        self.config = config
        self.pitch = PitchPredictor(config)
        self.harmonics = HarmonicSource(config)
        self.decoder = Decoder(config)

    def f0(self, mel_BTC: Tensor) -> Tensor:
        """The pitch of each frame in Hz, float32 (B, T); below `voiced_hz` the frame is unvoiced.

        `PITCH_REACH_FRAMES` at either end differ from what they would be inside a longer mel.
        """
        return cast(Tensor, self.pitch(mel_BTC))

    def phases(self, f0_BT: Tensor, phase_B: Tensor) -> Tensor:
        """The fundamental's phase at each frame's centre in cycles, float64 in [0, 1), (B, T).

        Args:
            f0_BT: Hz.
            phase_B: the phase at the centre of the frame before the first one; 0 where an utterance begins.
        """
        return self.harmonics.phases(f0_BT, phase_B)

    def source(
        self, f0_BT: Tensor, phase_B: Tensor, begins_B: Tensor, noise_BN: Tensor | None = None
    ) -> Tensor:
        """The excitation, float32 (B, N).

        Args:
            f0_BT: Hz.
            phase_B: as in `phases`.
            begins_B: bool: the first frame is the first of its utterance.
            noise_BN: standard normal draws; None for a source without noise.
        """
        return cast(Tensor, self.harmonics(f0_BT, phase_B, begins_B, noise_BN))

    def decode(self, mel_BTC: Tensor, source_BN: Tensor) -> Tensor:
        """Samples, float32 (B, N), within +-`audio_limit`."""
        return cast(Tensor, self.decoder(mel_BTC, source_BN))

    def forward(self, mel_BTC: Tensor, noise_BN: Tensor | None = None) -> Tensor:
        """Samples (B, N) of whole utterances."""
        f0_BT = self.f0(mel_BTC)
        phase_B = f0_BT.new_zeros(len(f0_BT), dtype=torch.float64)
        source_BN = self.source(f0_BT, phase_B, torch.ones_like(phase_B, dtype=torch.bool), noise_BN)
        return self.decode(mel_BTC, source_BN)


class PitchPredictor(nn.Module):
    """Mel frames to Hz: five convolutions, then a line."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        inputs = [MEL_CHANNELS] + [config.f0_channels] * (PITCH_LAYERS - 1)
        self.convs = nn.ModuleList(nn.Conv1d(width, config.f0_channels, 3, padding=1) for width in inputs)
        self.out = nn.Linear(config.f0_channels, 1)

    def forward(self, mel_BTC: Tensor) -> Tensor:
        x_BCT = mel_BTC.float().transpose(1, 2)
        for conv in self.convs:
            x_BCT = F.elu(conv(x_BCT))
        return cast(Tensor, self.out(x_BCT.transpose(1, 2)).squeeze(-1).abs())


class HarmonicSource(nn.Module):
    """Harmonics of the pitch and noise, mixed to one signal.

    From one frame's centre to the next the phase moves on by 480 samples at the later frame's pitch, along a
    straight line. It stands still before an utterance's first centre and after a window's last.
    """

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.num_harmonics = config.num_harmonics + 1
        self.amplitude = config.sine_amplitude
        self.voiced_hz = config.voiced_hz
        self.voiced_noise = config.noise_std
        self.unvoiced_noise = config.sine_amplitude / 3
        self.mix = nn.Linear(self.num_harmonics, 1)

    def phases(self, f0_BT: Tensor, phase_B: Tensor) -> Tensor:
        # Every harmonic's phase is a multiple of the fundamental's, since whole cycles do not count. Reduced
        # before the sum and after it, so that the sum keeps its digits however long the speech is.
        cycles_BT = (f0_BT.double() * (MEL_HOP_SAMPLES / SAMPLE_RATE_HZ)).remainder(1)
        return (phase_B[:, None] + cycles_BT.cumsum(1)).remainder(1)

    def sines(self, f0_BT: Tensor, phase_B: Tensor, begins_B: Tensor) -> Tensor:
        """The harmonics (B, N, K) before they are mixed; 0 where unvoiced."""
        harmonic_K = torch.arange(1, self.num_harmonics + 1, device=f0_BT.device)
        centre_BTK = (self.phases(f0_BT, phase_B)[..., None] * harmonic_K).remainder(1).float()
        per_sample_BTK = (f0_BT.double()[..., None] * harmonic_K / SAMPLE_RATE_HZ).remainder(1)
        cycles_BTK = (per_sample_BTK * MEL_HOP_SAMPLES).float()  # from the centre before to this one
        first_B1K = cycles_BTK[:, :1] * ~begins_B[:, None, None]
        before_BTK = torch.cat([first_B1K, cycles_BTK[:, 1:]], dim=1)
        after_BTK = torch.cat([cycles_BTK[:, 1:], torch.zeros_like(first_B1K)], dim=1)
        way_S1 = ((torch.arange(MEL_HOP_SAMPLES, device=f0_BT.device) + 0.5) / MEL_HOP_SAMPLES - 0.5)[:, None]
        half = MEL_HOP_SAMPLES // 2
        moved_BTSK = torch.cat(
            [before_BTK[:, :, None] * way_S1[:half], after_BTK[:, :, None] * way_S1[half:]], dim=2
        )
        phase_BTSK = moved_BTSK + centre_BTK[:, :, None]
        # Whole cycles go before 2 pi comes: the sine of a small argument is exact.
        sine_BTSK = torch.sin((phase_BTSK - phase_BTSK.round()) * (2 * math.pi)) * self.amplitude
        return (sine_BTSK * (f0_BT > self.voiced_hz)[:, :, None, None]).flatten(1, 2)

    def forward(
        self, f0_BT: Tensor, phase_B: Tensor, begins_B: Tensor, noise_BN: Tensor | None = None
    ) -> Tensor:
        mixed_BN = self.mix(self.sines(f0_BT, phase_B, begins_B)).squeeze(-1)
        if noise_BN is None:
            return cast(Tensor, mixed_BN.tanh())
        # By the definition every harmonic has a noise of its own and then they are mixed; a weighted sum of K
        # normal draws is one normal draw, as wide as the weights are long: the same for a ninth of the draws.
        voiced_BT = f0_BT > self.voiced_hz
        std_BT = torch.where(voiced_BT, self.voiced_noise, self.unvoiced_noise) * self.mix.weight.norm()
        return cast(Tensor, (mixed_BN + noise_BN * std_BT.repeat_interleave(MEL_HOP_SAMPLES, dim=1)).tanh())


class Decoder(nn.Module):
    """Mel and source to samples."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.stft = ShortTransform(config.n_fft, config.stft_hop)
        self.limit = config.audio_limit
        self.pre = nn.Conv1d(MEL_CHANNELS, config.channels, 7, padding=3)
        self.stages = nn.ModuleList(Stage(config, index) for index in range(len(config.upsample_rates)))
        last = config.channels // 2 ** len(config.upsample_rates)
        self.post = nn.Conv1d(last, config.n_fft + 2, 7, padding=3)

    def forward(self, mel_BTC: Tensor, source_BN: Tensor) -> Tensor:
        dtype = self.pre.weight.dtype
        spectrum_BCL = self.stft.analyse(source_BN).transpose(1, 2).to(dtype)
        x_BCT = self.pre(mel_BTC.transpose(1, 2).to(dtype))
        for stage in self.stages:
            x_BCT = stage(x_BCT, spectrum_BCL)  # the last one: (B, C, L)
        log_magnitude_BLC, turn_BLC = (
            self.post(F.leaky_relu(x_BCT, _LAST_SLOPE)).float().transpose(1, 2).chunk(2, dim=2)
        )
        magnitude_BLC, phase_BLC = log_magnitude_BLC.exp().clamp(max=_MAX_MAGNITUDE), turn_BLC.sin()
        spectrum_BLC = torch.cat([magnitude_BLC * phase_BLC.cos(), magnitude_BLC * phase_BLC.sin()], dim=2)
        return self.stft.synthesise(spectrum_BLC).clamp(-self.limit, self.limit)


class Stage(nn.Module):
    """Brings the mel's side up by one rate, adds the source's, takes the mean of three residual blocks."""

    def __init__(self, config: VocoderConfig, index: int) -> None:
        super().__init__()
        rate, kernel = config.upsample_rates[index], config.upsample_kernels[index]
        channels = config.channels // 2 ** (index + 1)
        last = index == len(config.upsample_rates) - 1
        stride = math.prod(config.upsample_rates[index + 1 :])
        self.slope = config.leaky_slope
        self.up = nn.ConvTranspose1d(2 * channels, channels, kernel, rate, padding=(kernel - rate) // 2)
        # An STFT with frames centred on its first and its last sample has one frame more than hops.
        self.align = nn.ReflectionPad1d((1, 0)) if last else nn.Identity()
        self.source_down = nn.Conv1d(
            config.n_fft + 2, channels, 1 if last else 2 * stride, stride, padding=stride // 2
        )
        self.source_block = ResidualBlock(channels, config.source_kernels[index], config.resblock_dilations)
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, size, config.resblock_dilations) for size in config.resblock_kernels
        )

    def forward(self, x_BCT: Tensor, spectrum_BCL: Tensor) -> Tensor:
        x_BCT = self.align(self.up(F.leaky_relu(x_BCT, self.slope)))
        x_BCT = x_BCT + self.source_block(self.source_down(spectrum_BCL))
        total_BCT = self.blocks[0](x_BCT)
        for block in list(self.blocks)[1:]:
            total_BCT = total_BCT + block(x_BCT)
        return cast(Tensor, total_BCT / len(self.blocks))


class ResidualBlock(nn.Module):
    """Pairs of convolutions, the first of each pair dilated, each pair added to what went in."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)
            for dilation in dilations
        )
        self.plain = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, padding=(kernel - 1) // 2) for _ in dilations
        )
        self.dilated_snakes = nn.ModuleList(Snake(channels) for _ in dilations)
        self.plain_snakes = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, x_BCT: Tensor) -> Tensor:
        for snake1, conv1, snake2, conv2 in zip(
            self.dilated_snakes, self.dilated, self.plain_snakes, self.plain, strict=True
        ):
            x_BCT = x_BCT + conv2(snake2(conv1(snake1(x_BCT))))
        return x_BCT


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha, an alpha for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x_BCT: Tensor) -> Tensor:
        alpha_C1 = self.alpha[:, None]
        return x_BCT + (x_BCT * alpha_C1).sin().square() / (alpha_C1 + _ALPHA_FLOOR)


class ShortTransform(nn.Module):
    """The STFT and its inverse as products with small matrices; equal to `torch.stft` and `torch.istft`.

    A window of 16 samples needs no FFT. Real parts come first, then imaginary parts. The window is a periodic
    Hann; the frames are centred, the signal is reflected at its ends.
    """

    analysis_WC: Tensor
    synthesis_CW: Tensor
    first_gain_H: Tensor
    last_gain_H: Tensor

    def __init__(self, size: int, hop: int) -> None:
        super().__init__()
        assert size == 4 * hop, "the overlapping windows add up to a constant only then"
        self.hop = hop
        self.reach = size // 2
        for name, tensor in short_transform_tensors(size, hop).items():
            self.register_buffer(name, tensor)

    def analyse(self, signal_BN: Tensor) -> Tensor:
        """(B, L, C), L one more than hops in N."""
        padded_BN = F.pad(signal_BN[:, None], (self.reach, self.reach), mode="reflect").squeeze(1)
        return padded_BN.unfold(1, 2 * self.reach, self.hop) @ self.analysis_WC

    def synthesise(self, spectrum_BLC: Tensor) -> Tensor:
        """(B, N), N one hop less than L."""
        frame_BLW = spectrum_BLC @ self.synthesis_CW
        B, L, W = frame_BLW.shape
        parts_BLPH = frame_BLW.view(B, L, W // self.hop, self.hop)
        # Hop m of the signal is part 3 of frame m - 1, part 2 of frame m, ... part 0 of frame m + 2.
        inner_BMH = F.pad(parts_BLPH[:, :, 3], (0, 0, 1, 0))[:, : L - 1] + parts_BLPH[:, : L - 1, 2]
        inner_BMH = inner_BMH + parts_BLPH[:, 1:, 1] + F.pad(parts_BLPH[:, 2:, 0], (0, 0, 0, 1))
        first_B1H, last_B1H = inner_BMH[:, :1] * self.first_gain_H, inner_BMH[:, -1:] * self.last_gain_H
        return torch.cat([first_B1H, inner_BMH[:, 1:-1], last_B1H], dim=1).flatten(1)


def short_transform_tensors(size: int, hop: int) -> dict[str, Tensor]:
    """The matrices of a `ShortTransform`, computed in float64."""
    window_W = torch.hann_window(size, periodic=True, dtype=torch.float64)
    bins = torch.arange(size // 2 + 1, dtype=torch.float64)
    angle_WC = torch.arange(size, dtype=torch.float64)[:, None] * bins * (2 * math.pi / size)
    analysis_WC = torch.cat([angle_WC.cos(), -angle_WC.sin()], dim=1) * window_W[:, None]
    # All bins but the first and the last stand for two of the full spectrum.
    twice_C = torch.full_like(bins, 2.0)
    twice_C[[0, -1]] = 1.0
    squares_PH = window_W.square().view(-1, hop)
    total_H = squares_PH.sum(0)
    synthesis_CW = torch.cat([angle_WC.cos() * twice_C, -angle_WC.sin() * twice_C], dim=1).T * window_W
    tensors = {
        "analysis_WC": analysis_WC,
        "synthesis_CW": synthesis_CW / size / total_H.repeat(size // hop),
        # At the ends one of the four overlapping windows is missing.
        "first_gain_H": total_H / (total_H - squares_PH[-1]),
        "last_gain_H": total_H / (total_H - squares_PH[0]),
    }
    return {name: tensor.float() for name, tensor in tensors.items()}
