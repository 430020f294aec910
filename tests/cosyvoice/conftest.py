import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the CosyVoice engine needs torch")
from safetensors.torch import load_file  # noqa: E402

from cosyduplex_server.models.config import (  # noqa: E402
    DiTConfig,
    FlowConfig,
    FlowEncoderConfig,
    Generation,
    SpeechLMConfig,
    UNetConfig,
    VocoderConfig,
)

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN_FOLDERS = [
    *([Path(os.environ["COSYDUPLEX_GOLDEN"])] if os.environ.get("COSYDUPLEX_GOLDEN") else []),
    REPOSITORY.parent / "shared" / "golden",
    REPOSITORY / "tests" / "golden",
]

torch.set_num_threads(1)


def golden_file(name: str) -> Path:
    """Where a golden file is; skips the test when it is nowhere."""
    for folder in GOLDEN_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"golden file {name} is not here (set COSYDUPLEX_GOLDEN)")


def load_golden(name: str) -> dict[str, Any]:
    """The tensors of a golden file, numbers with a fraction as float32 (float64 stays)."""
    tensors = load_file(golden_file(f"{name}.safetensors"))
    return {key: t.float() if t.dtype == torch.float16 else t for key, t in tensors.items()}


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, Any]]:
    return load_golden


@pytest.fixture(scope="session")
def golden_json() -> Callable[[str], Any]:
    return lambda name: json.loads(golden_file(f"{name}.json").read_text())


def tiny_lm_config(generation: Generation) -> SpeechLMConfig:
    """The sizes of the golden speech LM."""
    return SpeechLMConfig(
        generation=generation,
        hidden=128,
        num_layers=3,
        num_heads=2,
        num_kv_heads=1,
        mlp_hidden=256,
        text_vocab=512,
        speech_tokens=200,
        special_rows=3 if generation == 2 else 200,
        end_of_prompt=500,
    )


def tiny_flow_config(generation: Generation) -> FlowConfig:
    """The sizes of the golden flow."""
    if generation == 3:
        return FlowConfig(
            generation=3,
            speech_tokens=200,
            token_width=80,
            prelookahead_hidden=96,
            estimator=DiTConfig(width=128, depth=3, num_heads=2, mlp_factor=2),
        )
    return FlowConfig(
        speech_tokens=200,
        token_width=128,
        prelookahead_hidden=128,
        encoder=FlowEncoderConfig(width=128, num_heads=2, mlp_hidden=256, num_layers=2, num_up_layers=4),
        estimator=UNetConfig(
            channels=64, num_heads=2, blocks_per_stage=2, num_mid_stages=2, time_hidden=256, mlp_factor=4
        ),
    )


def tiny_vocoder_config(generation: Generation) -> VocoderConfig:
    """The sizes of the golden vocoder."""
    return VocoderConfig(generation=generation, channels=64, f0_channels=64)
