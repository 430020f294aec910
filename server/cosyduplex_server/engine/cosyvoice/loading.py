"""From a checkpoint to a runner: which device, which numbers, how much memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import torch
from torch import Tensor, nn

from cosyduplex_server.engine.cosyvoice.checkpoint import Checkpoint
from cosyduplex_server.engine.cosyvoice.files import CheckpointError
from cosyduplex_server.engine.cosyvoice.runner import LM_BLOCK_ROWS, MAX_LM_ROWS, Memory, Runner
from cosyduplex_server.engine.worker import EngineUnavailable
from cosyduplex_server.models.config import CHUNK_FRAMES, MAX_FRAMES, ModelConfig
from cosyduplex_server.models.flow import Flow
from cosyduplex_server.models.speech_lm import SpeechLM
from cosyduplex_server.models.vocoder import Vocoder
from cosyduplex_server.models.weights import Source, WeightsError
from cosyduplex_server.models.weights_flow import flow_weights
from cosyduplex_server.models.weights_speech_lm import speech_lm_weights
from cosyduplex_server.models.weights_vocoder import load_vocoder

logger = logging.getLogger(__name__)

# Voices whose prompts are kept computed.
PREFIX_SLOTS: Final = 32
# Of the memory that is free once the models are loaded.
_MEMORY_SHARE: Final = 0.85
_CPU_MEMORY_SHARE: Final = 0.5

DtypeName = Literal["auto", "float32", "bfloat16"]
_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Models:
    """The networks of a checkpoint, ready for inference."""

    config: ModelConfig
    lm: SpeechLM
    flow: Flow
    vocoder: Vocoder


def choose_device(name: str) -> torch.device:
    """The device a user named: auto, cpu, cuda or cuda:N.

    Raises:
        EngineUnavailable: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise EngineUnavailable(f"--device {name}: must be auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise EngineUnavailable(f"--device {name}: must be auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        found = torch.cuda.device_count()
        if (device.index or 0) >= found:
            raise EngineUnavailable(f"--device {name}: PyTorch {torch.__version__} sees {found} CUDA devices")
        return torch.device("cuda", device.index or 0)
    return device


def choose_dtype(name: DtypeName, device: torch.device) -> torch.dtype:
    """The weights' type: bfloat16 where the device computes in it, float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def load_models(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> Models:
    """Reads the networks, one file after the other.

    Raises:
        CheckpointError: a file holds something else than it should.
    """
    config = checkpoint.config
    if dtype is torch.float32:
        # Whoever asks for float32 on a GPU wants its precision; cuDNN would drop 13 of its 23 bits.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    try:
        lm = _load(
            lambda: SpeechLM(config.lm),
            speech_lm_weights(Source(checkpoint.lm_tensors(), "llm.pt"), config.lm, dtype),
            device,
        )
        flow = _load(
            lambda: Flow(config.flow),
            _all_to(dtype, flow_weights(Source(checkpoint.flow_tensors(), "flow.pt"), config.flow)),
            device,
        )
        vocoder = load_vocoder(checkpoint.vocoder_tensors(), config.vocoder, dtype=dtype, device=device)
    except WeightsError as exc:
        raise CheckpointError(str(exc), "llm.pt, flow.pt, hift.pt and the YAML must be of one model") from exc
    return Models(config, lm, flow, vocoder)


def _load(make: Callable[[], _Module], weights: Mapping[str, Tensor], device: torch.device) -> _Module:
    """A module with these weights; they are copied, so that no part of a file stays mapped."""
    with torch.device("meta"):
        module = make()
    module.load_state_dict(
        {key: tensor.to(device, copy=True) for key, tensor in weights.items()}, strict=True, assign=True
    )
    return module.eval().requires_grad_(False)


def _all_to(dtype: torch.dtype, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.to(dtype) for key, tensor in weights.items()}


def make_runner(models: Models, *, slots: int, reduce_memory: bool = False) -> Runner:
    """A runner with memory for `slots` contexts beside the voices' prompts.

    Raises:
        EngineUnavailable: the device has not even memory for one context.
    """
    device = models.lm.embedding.weight.device
    lm_blocks = 2 + slots * (MAX_LM_ROWS // LM_BLOCK_ROWS)
    block_bytes, _ = Runner.flow_bytes(models.flow)
    wanted = 2 + (slots + PREFIX_SLOTS) * (MAX_FRAMES // CHUNK_FRAMES)
    if reduce_memory:
        wanted = 2 + (slots + 4) * 60
    free = _free_bytes(device) - lm_blocks * Runner.lm_block_bytes(models.lm)
    affordable = int(free // block_bytes)
    if affordable < 2 + 20:
        raise EngineUnavailable(
            f"{device}: {max(0, free) / 2**30:.1f} GiB are left for the flow's memory; a context of 20 s "
            f"needs {20 * block_bytes / 2**30:.1f} GiB. Use fewer --slots or a larger device"
        )
    blocks = min(wanted, affordable)
    logger.info("memory for %d s of speech and prompts, %.1f MB a second", blocks - 2, block_bytes / 2**20)
    return Runner(
        models.config,
        models.lm,
        models.flow,
        models.vocoder,
        Memory(
            num_lm_blocks=lm_blocks,
            num_slots=1 + 2 * slots + PREFIX_SLOTS,
            num_flow_blocks=blocks,
            num_prefixes=PREFIX_SLOTS,
        ),
    )


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free * _MEMORY_SHARE
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _CPU_MEMORY_SHARE
