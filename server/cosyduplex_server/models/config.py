"""The sizes of the networks; the defaults are CosyVoice2-0.5B's.

Nothing here needs PyTorch. `engine/cosyvoice/checkpoint.py` reads these numbers from a model directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

SAMPLE_RATE_HZ: Final = 24_000
TOKENS_PER_S: Final = 25
MEL_CHANNELS: Final = 80
MEL_HOP_SAMPLES: Final = 480
FRAMES_PER_TOKEN: Final = 2
CHUNK_TOKENS: Final = 25
CHUNK_FRAMES: Final = CHUNK_TOKENS * FRAMES_PER_TOKEN
LOOKAHEAD_TOKENS: Final = 3
SPEAKER_CHANNELS: Final = 192
MAX_FRAMES: Final = 15_000
"""Mel frames of one flow sequence, prompt included: as long as its noise is."""

Generation = Literal[2, 3]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechLMConfig:
    """The speech language model: a Qwen2 body between a joint embedding and a head of speech tokens.

    Input rows are numbered in one space: text tokens first, then the rows of the speech embedding, then, for
    CosyVoice2, the two rows of `llm_embedding`.
    """

    generation: Generation = 2
    hidden: int = 896
    num_layers: int = 24
    num_heads: int = 14
    num_kv_heads: int = 2
    head_dim: int = 64
    mlp_hidden: int = 4864
    rope_theta: float = 1e6
    rms_eps: float = 1e-6
    text_vocab: int = 151_936
    speech_tokens: int = 6561  # S: ids from here on are special
    special_rows: int = 3  # rows of the speech embedding beyond S; V3: 200
    text_block: int = 5  # the interleave: so many text tokens,
    speech_block: int = 15  # then so many speech tokens
    top_p: float = 0.8
    top_k: int = 25
    ras_window: int = 10
    ras_tau: float = 0.1
    end_of_prompt: int = 151_646

    @property
    def speech_rows(self) -> int:
        """Rows of the speech embedding, and ids the head knows."""
        return self.speech_tokens + self.special_rows

    @property
    def num_rows(self) -> int:
        """Rows of the joint embedding."""
        return self.text_vocab + self.speech_rows + (2 if self.generation == 2 else 0)

    def speech_row(self, token: int) -> int:
        """The input row of a speech token."""
        return self.text_vocab + token

    @property
    def sos_row(self) -> int:
        """The input row that begins a sequence."""
        return self.text_vocab + (self.speech_rows if self.generation == 2 else self.speech_tokens)

    @property
    def task_row(self) -> int:
        """The input row "the text has ended, speak"."""
        return self.text_vocab + (self.speech_rows + 1 if self.generation == 2 else self.speech_tokens + 2)

    @property
    def eos(self) -> int:
        """The output id that ends the speech."""
        return self.speech_tokens + (0 if self.generation == 2 else 1)

    @property
    def fill(self) -> int:
        """The output id "give me the next block of text"; never an input."""
        return self.speech_tokens + (2 if self.generation == 2 else 3)

    @property
    def stop_ids(self) -> range:
        """Output ids that end an utterance whose whole text was known."""
        return range(self.speech_tokens, self.speech_rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEncoderConfig:
    """The conformer-like encoder of CosyVoice2's flow (V3 has only the look-ahead convolutions)."""

    width: int = 512
    num_heads: int = 8
    mlp_hidden: int = 2048
    num_layers: int = 6
    num_up_layers: int = 4

    @property
    def head_dim(self) -> int:
        return self.width // self.num_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """CosyVoice2's estimator: a U-Net that never changes its resolution."""

    channels: int = 256
    num_heads: int = 8
    head_dim: int = 64
    blocks_per_stage: int = 4
    num_mid_stages: int = 12
    time_hidden: int = 1024
    mlp_factor: int = 4

    @property
    def num_layers(self) -> int:
        """Attention layers altogether."""
        return (self.num_mid_stages + 2) * self.blocks_per_stage

    @property
    def tail_channels(self) -> int:
        """Input channels of all causal convolutions together."""
        first, up = 4 * MEL_CHANNELS, 2 * self.channels
        return first + up + (2 * self.num_mid_stages + 5) * self.channels


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTConfig:
    """CosyVoice3's estimator."""

    width: int = 1024
    depth: int = 22
    num_heads: int = 16
    head_dim: int = 64
    mlp_factor: int = 2
    conv_kernel: int = 31
    conv_groups: int = 16
    time_width: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowConfig:
    """Speech tokens to mel frames."""

    generation: Generation = 2
    speech_tokens: int = 6561
    token_width: int = 512  # of the token embedding; V3: 80
    prelookahead_hidden: int = 512  # V3: 1024
    encoder: FlowEncoderConfig = field(default_factory=FlowEncoderConfig)
    estimator: UNetConfig | DiTConfig = field(default_factory=UNetConfig)
    num_steps: int = 10
    guidance: float = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class VocoderConfig:
    """HiFT: mel frames to 24 kHz samples."""

    generation: Generation = 2
    channels: int = 512
    f0_channels: int = 512
    num_harmonics: int = 8  # beside the fundamental
    sine_amplitude: float = 0.1
    noise_std: float = 0.003
    voiced_hz: float = 10.0
    upsample_rates: tuple[int, ...] = (8, 5, 3)
    upsample_kernels: tuple[int, ...] = (16, 11, 7)
    source_kernels: tuple[int, ...] = (7, 7, 11)
    resblock_kernels: tuple[int, ...] = (3, 7, 11)
    resblock_dilations: tuple[int, ...] = (1, 3, 5)
    n_fft: int = 16
    stft_hop: int = 4
    leaky_slope: float = 0.1
    audio_limit: float = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A whole checkpoint."""

    generation: Generation
    lm: SpeechLMConfig
    flow: FlowConfig
    vocoder: VocoderConfig
    prompt_mel_fmax_hz: float | None  # of the prompt's mel: V2 8000, V3 None (half the sample rate)
