"""The speech LM's weights from a checkpoint's names to ours."""

from __future__ import annotations

import torch
from torch import Tensor

from cosyduplex_server.models.config import SpeechLMConfig
from cosyduplex_server.models.weights import Source

_BODY = "llm.model.model"
_TEXT_HEAD = "llm.model.lm_head.weight"


def speech_lm_weights(
    source: Source, config: SpeechLMConfig, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The state dict of `SpeechLM`; the text head, which speech never uses, is left out.

    Args:
        dtype: of the embedding and of the layers' matrices; norms and the head stay float32.

    Raises:
        WeightsError: something is missing, misshapen or unknown.
    """
    source.drop(lambda key: key == _TEXT_HEAD)
    weights = {
        "embedding.weight": _embedding(source, config).to(dtype),
        "norm.weight": source.take(f"{_BODY}.norm.weight", config.hidden),
        "head.weight": source.take("llm_decoder.weight", config.speech_rows, config.hidden),
    }
    if config.generation == 2:
        weights["head.bias"] = source.take("llm_decoder.bias", config.speech_rows)
    for index in range(config.num_layers):
        layer = _layer(source, f"{_BODY}.layers.{index}", config)
        weights |= {
            f"layers.{index}.{name}": tensor if "norm" in name else tensor.to(dtype)
            for name, tensor in layer.items()
        }
    source.finish()
    return weights


def _embedding(source: Source, config: SpeechLMConfig) -> Tensor:
    tables = [
        source.take(f"{_BODY}.embed_tokens.weight", config.text_vocab, config.hidden),
        source.take("speech_embedding.weight", config.speech_rows, config.hidden),
    ]
    if config.generation == 2:
        tables.append(source.take("llm_embedding.weight", 2, config.hidden))
    return torch.cat(tables)


def _layer(source: Source, name: str, config: SpeechLMConfig) -> dict[str, Tensor]:
    hidden, mlp = config.hidden, config.mlp_hidden
    q_width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    widths = {"q": q_width, "k": kv_width, "v": kv_width}
    return {
        "attention_norm.weight": source.take(f"{name}.input_layernorm.weight", hidden),
        "attention.qkv.weight": torch.cat(
            [source.take(f"{name}.self_attn.{x}_proj.weight", width, hidden) for x, width in widths.items()]
        ),
        "attention.qkv.bias": torch.cat(
            [source.take(f"{name}.self_attn.{x}_proj.bias", width) for x, width in widths.items()]
        ),
        "attention.out.weight": source.take(f"{name}.self_attn.o_proj.weight", hidden, q_width),
        "mlp_norm.weight": source.take(f"{name}.post_attention_layernorm.weight", hidden),
        "mlp.gate_up.weight": torch.cat(
            [source.take(f"{name}.mlp.{x}_proj.weight", mlp, hidden) for x in ("gate", "up")]
        ),
        "mlp.down.weight": source.take(f"{name}.mlp.down_proj.weight", hidden, mlp),
    }
