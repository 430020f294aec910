"""Writes small checkpoints in the official layout, with random weights.

`python tests/cosyvoice/tiny_checkpoint.py DIR` makes a directory that `cosyduplex models check DIR` calls
complete: every file the server reads, the official names of all tensors, and small sizes. What it speaks is
noise, but always the same noise for the same seed.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor

from cosyduplex_server.models.config import (
    MEL_CHANNELS,
    SPEAKER_CHANNELS,
    DiTConfig,
    FlowConfig,
    FlowEncoderConfig,
    Generation,
    ModelConfig,
    SpeechLMConfig,
    UNetConfig,
    VocoderConfig,
)

Shapes = dict[str, tuple[int, ...]]

END_LOGIT: Final = 4.5
"""The logits of speech deviate by two from 0: once it may end, an utterance does within some ten tokens."""
NEVER_LOGIT: Final = -30.0
SFT_SPEAKER, SAVED_SPEAKER = "英文女", "tiny-saved"

# --- sizes -------------------------------------------------------------------------------------------


def tiny_config(generation: Generation) -> ModelConfig:
    """Sizes that a CPU speaks with faster than real time."""
    special_rows = 3 if generation == 2 else 200
    lm = SpeechLMConfig(
        generation=generation,
        hidden=128,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        mlp_hidden=256,
        text_vocab=1024,
        speech_tokens=200,
        special_rows=special_rows,
    )
    unet = UNetConfig(
        channels=64, num_heads=2, head_dim=64, blocks_per_stage=1, num_mid_stages=2, time_hidden=256
    )
    encoder = FlowEncoderConfig(width=64, num_heads=2, mlp_hidden=128, num_layers=2)
    flow = FlowConfig(
        speech_tokens=200, token_width=64, prelookahead_hidden=64, encoder=encoder, estimator=unet
    )
    if generation == 3:
        dit = DiTConfig(width=128, depth=2, num_heads=2)
        flow = FlowConfig(
            generation=3, speech_tokens=200, token_width=MEL_CHANNELS, prelookahead_hidden=96, estimator=dit
        )
    return ModelConfig(
        generation=generation,
        lm=lm,
        flow=flow,
        vocoder=VocoderConfig(generation=generation, channels=64, f0_channels=64),
        prompt_mel_fmax_hz=8000.0 if generation == 2 else None,
    )


def full_config(generation: Generation) -> ModelConfig:
    """The sizes of the released models."""
    config = ModelConfig(
        generation=generation,
        lm=SpeechLMConfig(generation=generation, special_rows=3 if generation == 2 else 200),
        flow=FlowConfig(),
        vocoder=VocoderConfig(generation=generation),
        prompt_mel_fmax_hz=8000.0 if generation == 2 else None,
    )
    if generation == 2:
        return config
    flow = FlowConfig(generation=3, token_width=MEL_CHANNELS, prelookahead_hidden=1024, estimator=DiTConfig())
    return replace(config, flow=flow)


# --- names and shapes of the official state dicts ----------------------------------------------------


def lm_shapes(config: SpeechLMConfig) -> Shapes:
    """The tensors of `llm.pt`."""
    hidden, body = config.hidden, "llm.model.model"
    q_width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes: Shapes = {"llm_embedding.weight": (2, hidden)} if config.generation == 2 else {}
    shapes[f"{body}.embed_tokens.weight"] = (config.text_vocab, hidden)
    for index in range(config.num_layers):
        layer = f"{body}.layers.{index}"
        for name, width in (("q", q_width), ("k", kv_width), ("v", kv_width)):
            _linear(shapes, f"{layer}.self_attn.{name}_proj", hidden, width)
        _linear(shapes, f"{layer}.self_attn.o_proj", q_width, hidden, bias=False)
        _linear(shapes, f"{layer}.mlp.gate_proj", hidden, config.mlp_hidden, bias=False)
        _linear(shapes, f"{layer}.mlp.up_proj", hidden, config.mlp_hidden, bias=False)
        _linear(shapes, f"{layer}.mlp.down_proj", config.mlp_hidden, hidden, bias=False)
        shapes[f"{layer}.input_layernorm.weight"] = (hidden,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (hidden,)
    shapes[f"{body}.norm.weight"] = (hidden,)
    shapes["llm.model.lm_head.weight"] = (config.text_vocab, hidden)
    _linear(shapes, "llm_decoder", hidden, config.speech_rows, bias=config.generation == 2)
    shapes["speech_embedding.weight"] = (config.speech_rows, hidden)
    return shapes


def flow_shapes(config: FlowConfig) -> Shapes:
    """The tensors of `flow.pt`."""
    shapes: Shapes = {"input_embedding.weight": (config.speech_tokens, config.token_width)}
    _linear(shapes, "spk_embed_affine_layer", SPEAKER_CHANNELS, MEL_CHANNELS)
    if isinstance(config.estimator, DiTConfig):
        lookahead, width = "pre_lookahead_layer", config.token_width
        _conv(shapes, f"{lookahead}.conv1", width, config.prelookahead_hidden, 4)
        _conv(shapes, f"{lookahead}.conv2", config.prelookahead_hidden, width, 3)
        _dit(shapes, config.estimator)
    else:
        _encoder(shapes, config)
        _linear(shapes, "encoder_proj", config.encoder.width, MEL_CHANNELS)
        _unet(shapes, config.estimator)
    return shapes


def vocoder_shapes(config: VocoderConfig) -> Shapes:
    """The tensors of `hift.pt`."""
    shapes: Shapes = {}
    newer = config.generation == 3
    channels, bins = config.channels, config.n_fft + 2
    _linear(shapes, "m_source.l_linear", config.num_harmonics + 1, 1)
    _normed_conv(shapes, "conv_pre", MEL_CHANNELS, channels, 5 if newer else 7)
    for index, kernel in enumerate(config.upsample_kernels):
        # CosyVoice2's are transposed: their first dimension is the input.
        wide, narrow = channels >> index, channels >> index + 1
        _normed_conv(shapes, f"ups.{index}", *((wide, narrow) if newer else (narrow, wide)), kernel)
        shapes[f"ups.{index}.bias"] = (narrow,)
        stride = math.prod(config.upsample_rates[index + 1 :])
        _conv(shapes, f"source_downs.{index}", bins, narrow, 1 if stride == 1 else 2 * stride)
        _resblock(shapes, f"source_resblocks.{index}", narrow, config.source_kernels[index], config)
        for branch, size in enumerate(config.resblock_kernels):
            number = index * len(config.resblock_kernels) + branch
            _resblock(shapes, f"resblocks.{number}", narrow, size, config)
    _normed_conv(shapes, "conv_post", channels >> len(config.upsample_kernels), bins, 7)
    for layer in range(5):
        inputs = config.f0_channels if layer else MEL_CHANNELS
        kernel = 4 if newer and not layer else 3
        _normed_conv(shapes, f"f0_predictor.condnet.{2 * layer}", inputs, config.f0_channels, kernel)
    _linear(shapes, "f0_predictor.classifier", config.f0_channels, 1)
    return shapes


def _linear(shapes: Shapes, name: str, inputs: int, outputs: int, *, bias: bool = True) -> None:
    shapes[f"{name}.weight"] = (outputs, inputs)
    if bias:
        shapes[f"{name}.bias"] = (outputs,)


def _conv(shapes: Shapes, name: str, inputs: int, outputs: int, kernel: int) -> None:
    shapes[f"{name}.weight"] = (outputs, inputs, kernel)
    shapes[f"{name}.bias"] = (outputs,)


def _norm(shapes: Shapes, name: str, width: int) -> None:
    shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)


def _normed_conv(shapes: Shapes, name: str, inputs: int, outputs: int, kernel: int) -> None:
    shapes[f"{name}.bias"] = (outputs,)
    shapes[f"{name}.parametrizations.weight.original0"] = (outputs, 1, 1)
    shapes[f"{name}.parametrizations.weight.original1"] = (outputs, inputs, kernel)


def _resblock(shapes: Shapes, name: str, channels: int, kernel: int, config: VocoderConfig) -> None:
    for index in range(len(config.resblock_dilations)):
        for number in (1, 2):
            _normed_conv(shapes, f"{name}.convs{number}.{index}", channels, channels, kernel)
            shapes[f"{name}.activations{number}.{index}.alpha"] = (channels,)


def _encoder(shapes: Shapes, config: FlowConfig) -> None:
    width = config.encoder.width
    for part, inputs in (("embed", config.token_width), ("up_embed", width)):
        _linear(shapes, f"encoder.{part}.out.0", inputs, width)
        _norm(shapes, f"encoder.{part}.out.1", width)
    _norm(shapes, "encoder.after_norm", width)
    _conv(shapes, "encoder.pre_lookahead_layer.conv1", width, config.prelookahead_hidden, 4)
    _conv(shapes, "encoder.pre_lookahead_layer.conv2", config.prelookahead_hidden, width, 3)
    _conv(shapes, "encoder.up_layer.conv", width, width, 5)
    counts = (("encoders", config.encoder.num_layers), ("up_encoders", config.encoder.num_up_layers))
    for stack, count in counts:
        for index in range(count):
            _encoder_layer(shapes, f"encoder.{stack}.{index}", config.encoder)


def _encoder_layer(shapes: Shapes, layer: str, config: FlowEncoderConfig) -> None:
    for name in ("pos_bias_u", "pos_bias_v"):
        shapes[f"{layer}.self_attn.{name}"] = (config.num_heads, config.head_dim)
    for name in ("q", "k", "v", "out"):
        _linear(shapes, f"{layer}.self_attn.linear_{name}", config.width, config.width)
    _linear(shapes, f"{layer}.self_attn.linear_pos", config.width, config.width, bias=False)
    _linear(shapes, f"{layer}.feed_forward.w_1", config.width, config.mlp_hidden)
    _linear(shapes, f"{layer}.feed_forward.w_2", config.mlp_hidden, config.width)
    _norm(shapes, f"{layer}.norm_ff", config.width)
    _norm(shapes, f"{layer}.norm_mha", config.width)


def _unet(shapes: Shapes, config: UNetConfig) -> None:
    body, width = "decoder.estimator", config.channels
    _linear(shapes, f"{body}.time_mlp.linear_1", 4 * MEL_CHANNELS, config.time_hidden)
    _linear(shapes, f"{body}.time_mlp.linear_2", config.time_hidden, config.time_hidden)
    _unet_stage(shapes, f"{body}.down_blocks.0", 4 * MEL_CHANNELS, config)
    _conv(shapes, f"{body}.down_blocks.0.2", width, width, 3)
    for index in range(config.num_mid_stages):
        _unet_stage(shapes, f"{body}.mid_blocks.{index}", width, config)
    _unet_stage(shapes, f"{body}.up_blocks.0", 2 * width, config)
    _conv(shapes, f"{body}.up_blocks.0.2", width, width, 3)
    _conv(shapes, f"{body}.final_block.block.0", width, width, 3)
    _norm(shapes, f"{body}.final_block.block.2", width)
    _conv(shapes, f"{body}.final_proj", width, MEL_CHANNELS, 1)


def _unet_stage(shapes: Shapes, stage: str, inputs: int, config: UNetConfig) -> None:
    width, inner = config.channels, config.num_heads * config.head_dim
    _linear(shapes, f"{stage}.0.mlp.1", config.time_hidden, width)
    for number, size in ((1, inputs), (2, width)):
        _conv(shapes, f"{stage}.0.block{number}.block.0", size, width, 3)
        _norm(shapes, f"{stage}.0.block{number}.block.2", width)
    _conv(shapes, f"{stage}.0.res_conv", inputs, width, 1)
    for index in range(config.blocks_per_stage):
        block = f"{stage}.1.{index}"
        for name in ("q", "k", "v"):
            _linear(shapes, f"{block}.attn1.to_{name}", width, inner, bias=False)
        _linear(shapes, f"{block}.attn1.to_out.0", inner, width)
        _linear(shapes, f"{block}.ff.net.0.proj", width, width * config.mlp_factor)
        _linear(shapes, f"{block}.ff.net.2", width * config.mlp_factor, width)
        _norm(shapes, f"{block}.norm1", width)
        _norm(shapes, f"{block}.norm3", width)


def _dit(shapes: Shapes, config: DiTConfig) -> None:
    body, width, inner = "decoder.estimator", config.width, config.num_heads * config.head_dim
    _linear(shapes, f"{body}.time_embed.time_mlp.0", config.time_width, width)
    _linear(shapes, f"{body}.time_embed.time_mlp.2", width, width)
    _linear(shapes, f"{body}.input_embed.proj", 4 * MEL_CHANNELS, width)
    for number in (1, 2):
        name = f"{body}.input_embed.conv_pos_embed.conv{number}.0"
        _conv(shapes, name, width // config.conv_groups, width, config.conv_kernel)
    shapes[f"{body}.rotary_embed.inv_freq"] = (config.head_dim // 2,)
    for index in range(config.depth):
        block = f"{body}.transformer_blocks.{index}"
        _linear(shapes, f"{block}.attn_norm.linear", width, 6 * width)
        for name in ("q", "k", "v"):
            _linear(shapes, f"{block}.attn.to_{name}", width, inner)
        _linear(shapes, f"{block}.attn.to_out.0", inner, width)
        _linear(shapes, f"{block}.ff.ff.0.0", width, width * config.mlp_factor)
        _linear(shapes, f"{block}.ff.ff.2", width * config.mlp_factor, width)
    _linear(shapes, f"{body}.norm_out.linear", width, 2 * width)
    _linear(shapes, f"{body}.proj_out", width, MEL_CHANNELS)


# --- random weights ----------------------------------------------------------------------------------


def random_tensors(shapes: Shapes, generator: torch.Generator) -> dict[str, Tensor]:
    """Tensors that keep signals at about their size on the way through the network."""
    tensors = {key: _random(key, shape, generator) for key, shape in shapes.items()}
    for key in tensors:
        if key.endswith("original0"):  # the norm as it is, so that folding changes nothing
            direction = tensors[key[:-1] + "1"]
            tensors[key] = torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True)
    return tensors


def _random(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    last = key.rpartition(".")[2]
    if last == "inv_freq":
        return 10_000.0 ** -(torch.arange(shape[0]) / shape[0])
    if last in ("alpha", "original0") or (last == "weight" and len(shape) == 1):
        return torch.ones(shape)
    if len(shape) == 1 or "pos_bias" in last:
        return 0.02 * torch.randn(shape, generator=generator)
    scale = 1.0 if "embed" in key and len(shape) == 2 and "time" not in key and "proj" not in key else None
    if scale is None:
        scale = 1 / math.sqrt(math.prod(shape[1:]))
    return scale * torch.randn(shape, generator=generator)


def lm_tensors(config: SpeechLMConfig, generator: torch.Generator, end_logit: float) -> dict[str, Tensor]:
    """A speech LM that ends: `end_logit` is for that, speech deviates by 2, no other special id comes."""
    tensors = random_tensors(lm_shapes(config), generator)
    tensors["llm.model.lm_head.weight"] = tensors["llm.model.model.embed_tokens.weight"]  # tied, as released
    head = tensors["llm_decoder.weight"]
    head *= 2
    specials = range(config.speech_tokens, config.speech_rows)
    wanted = torch.tensor([end_logit if token == config.eos else NEVER_LOGIT for token in specials])
    head[specials.start :] = 0
    if config.generation == 2:
        tensors["llm_decoder.bias"][specials.start :] = wanted
        return tensors
    # There is no bias: channel 0 is the same for every row and every layer leaves it alone.
    for key, tensor in tensors.items():
        if key.endswith(("o_proj.weight", "down_proj.weight")):
            tensor[0] = 0
        elif "embed" in key:
            tensor[:, 0] = _CONSTANT
    head[:, 0] = 0
    # Measured: each layer adds 0.7 to the mean square of the channels, which begins at 1.
    rms = math.sqrt(1 + 0.7 * config.num_layers + _CONSTANT**2 / config.hidden)
    head[specials.start :, 0] = wanted * rms / _CONSTANT
    return tensors


_CONSTANT: Final = 8.0


def vocoder_tensors(config: VocoderConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """A vocoder with a voice of about 150 Hz, neither silent nor clipped."""
    tensors = random_tensors(vocoder_shapes(config), generator)
    tensors["f0_predictor.classifier.weight"] *= 30
    tensors["f0_predictor.classifier.bias"] += 150
    # The magnitude of a spectrum is an exponential: without these it fills the range or is nothing.
    for key, tensor in tensors.items():
        if key.endswith("original0"):
            tensor *= 0.2 if "convs2" in key else 0.5 if key.startswith("conv_") else 1
    tensors["conv_post.bias"][: config.n_fft // 2 + 1] = 1.2
    return tensors


# --- text --------------------------------------------------------------------------------------------

# Qwen2's way to cut a text before its pairs are merged.
_QWEN2_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_SAMPLE_TEXT = (
    "Hello world. The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
    "This is a test of the speech that is made while the text is being written.",
    "你好，世界。今天天气很好，我们一起去公园吧。",
    "收到好友从远方寄来的生日礼物，那份意外的惊喜让我很开心。",
    "语音合成系统把文字变成声音，声音和文字一起到来。",
)
_NUM_PLAIN_TOKENS: Final = 480
_CONTROL_TOKENS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def write_tokenizer(folder: Path, config: SpeechLMConfig) -> Tokenizer:
    """Writes Qwen2's files with a small vocabulary; returns the tokenizer, which knows no special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_CUT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=_NUM_PLAIN_TOKENS,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SAMPLE_TEXT, trainer)
    tokenizer.model.save(str(folder))
    first = tokenizer.get_vocab_size()
    added = {
        str(first + index): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for index, token in enumerate(_CONTROL_TOKENS)
    }
    tokenizer_config = {
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": list(_CONTROL_TOKENS[1:]),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": _CONTROL_TOKENS[0],
        "errors": "replace",
        "model_max_length": 32768,
        "pad_token": _CONTROL_TOKENS[0],
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    _write_json(folder / "tokenizer_config.json", tokenizer_config)
    qwen_config = {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "eos_token_id": first,
        "hidden_act": "silu",
        "hidden_size": config.hidden,
        "initializer_range": 0.02,
        "intermediate_size": config.mlp_hidden,
        "max_position_embeddings": 32768,
        "max_window_layers": config.num_layers,
        "model_type": "qwen2",
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "num_key_value_heads": config.num_kv_heads,
        "rms_norm_eps": config.rms_eps,
        "rope_theta": config.rope_theta,
        "sliding_window": 32768,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "vocab_size": config.text_vocab,
    }
    if config.head_dim * config.num_heads != config.hidden:
        qwen_config["head_dim"] = config.head_dim
    _write_json(folder / "config.json", qwen_config)
    return tokenizer


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# --- the YAML ----------------------------------------------------------------------------------------


def yaml_text(config: ModelConfig) -> str:
    """The numbers as a HyperPyYAML program of the official structure."""
    name = "Qwen2LM" if config.generation == 2 else "CosyVoice3LM"
    return (
        _HEAD.format(lm=config.lm, lm_class=name)
        + _flow_yaml(config.flow)
        + _vocoder_yaml(config.vocoder)
        + _tail(config)
    )


_HEAD = """\
__set_seed1: !apply:random.seed [1986]
__set_seed2: !apply:torch.manual_seed [1986]

sample_rate: 24000
llm_input_size: {lm.hidden}
llm_output_size: {lm.hidden}
spk_embed_dim: 192
qwen_pretrain_path: ''
token_frame_rate: 25
token_mel_ratio: 2

chunk_size: 25 # in tokens
num_decoding_left_chunks: -1

llm: !new:cosyvoice.llm.llm.{lm_class}
    llm_input_size: !ref <llm_input_size>
    llm_output_size: !ref <llm_output_size>
    speech_token_size: {lm.speech_tokens}
    mix_ratio: [{lm.text_block}, {lm.speech_block}]
    llm: !new:cosyvoice.llm.llm.Qwen2Encoder
        pretrain_path: !ref <qwen_pretrain_path>
    sampling: !name:cosyvoice.utils.common.ras_sampling
        top_p: {lm.top_p}
        top_k: {lm.top_k}
        win_size: {lm.ras_window}
        tau_r: {lm.ras_tau}

"""
_FLOW = """\
flow: !new:cosyvoice.flow.flow.{flow_class}
    input_size: {flow.token_width}
    output_size: 80
    spk_embed_dim: !ref <spk_embed_dim>
    output_type: 'mel'
    vocab_size: {flow.speech_tokens}
    input_frame_rate: !ref <token_frame_rate>
    token_mel_ratio: !ref <token_mel_ratio>
    pre_lookahead_len: 3
{encoder}
    decoder: !new:cosyvoice.flow.flow_matching.CausalConditionalCFM
        in_channels: 240
        n_spks: 1
        spk_emb_dim: 80
        cfm_params: !new:omegaconf.DictConfig
            content:
                sigma_min: 1e-06
                solver: 'euler'
                t_scheduler: 'cosine'
                inference_cfg_rate: {flow.guidance}
{estimator}
            static_chunk_size: !ref <chunk_size> * <token_mel_ratio>
            num_decoding_left_chunks: !ref <num_decoding_left_chunks>

"""
_ENCODER = """\
    encoder: !new:cosyvoice.transformer.upsample_encoder.UpsampleConformerEncoder
        output_size: {encoder.width}
        attention_heads: {encoder.num_heads}
        linear_units: {encoder.mlp_hidden}
        num_blocks: {encoder.num_layers}
        normalize_before: True
        input_layer: 'linear'
        pos_enc_layer_type: 'rel_pos_espnet'
        selfattention_layer_type: 'rel_selfattn'
        input_size: {flow.token_width}
        use_cnn_module: False
        macaron_style: False
        static_chunk_size: !ref <chunk_size>"""
_UNET = """\
        estimator: !new:cosyvoice.flow.decoder.CausalConditionalDecoder
            in_channels: 320
            out_channels: 80
            channels: [{unet.channels}]
            dropout: 0.0
            attention_head_dim: {unet.head_dim}
            n_blocks: {unet.blocks_per_stage}
            num_mid_blocks: {unet.num_mid_stages}
            num_heads: {unet.num_heads}
            act_fn: 'gelu'"""
_LOOKAHEAD = """\
    pre_lookahead_layer: !new:cosyvoice.transformer.upsample_encoder.PreLookaheadLayer
        in_channels: {flow.token_width}
        channels: {flow.prelookahead_hidden}
        pre_lookahead_len: 3"""
_DIT = """\
        estimator: !new:cosyvoice.flow.DiT.dit.DiT
            dim: {dit.width}
            depth: {dit.depth}
            heads: {dit.num_heads}
            dim_head: {dit.head_dim}
            ff_mult: {dit.mlp_factor}
            mel_dim: 80
            mu_dim: 80
            spk_dim: 80
            out_channels: 80"""
_VOCODER = """\
hift: !new:cosyvoice.hifigan.generator.{vocoder_class}
    in_channels: 80
    base_channels: {vocoder.channels}
    nb_harmonics: {vocoder.num_harmonics}
    sampling_rate: !ref <sample_rate>
    nsf_alpha: {vocoder.sine_amplitude}
    nsf_sigma: {vocoder.noise_std}
    nsf_voiced_threshold: {vocoder.voiced_hz}
    upsample_rates: {rates}
    upsample_kernel_sizes: {kernels}
    istft_params:
        n_fft: {vocoder.n_fft}
        hop_len: {vocoder.stft_hop}
    resblock_kernel_sizes: {block_kernels}
    resblock_dilation_sizes: {block_dilations}
    source_resblock_kernel_sizes: {source_kernels}
    source_resblock_dilation_sizes: {source_dilations}
    lrelu_slope: {vocoder.leaky_slope}
    audio_limit: {vocoder.audio_limit}{more}
    f0_predictor: !new:cosyvoice.hifigan.f0_predictor.{pitch_class}
        num_class: 1
        in_channels: 80
        cond_channels: {vocoder.f0_channels}

"""
_TAIL = """\
get_tokenizer: !name:cosyvoice.tokenizer.tokenizer.get_qwen_tokenizer
    token_path: !ref <qwen_pretrain_path>
    skip_special_tokens: True{version}
allowed_special: 'all'
feat_extractor: !name:matcha.utils.audio.mel_spectrogram
    n_fft: 1920
    num_mels: 80
    sampling_rate: !ref <sample_rate>
    hop_size: 480
    win_size: 1920
    fmin: 0
    fmax: {fmax}
    center: False
compute_fbank: !name:cosyvoice.dataset.processor.compute_fbank
    feat_extractor: !ref <feat_extractor>
data_pipeline: [
    !ref <compute_fbank>,
]
"""


def _flow_yaml(flow: FlowConfig) -> str:
    if isinstance(flow.estimator, DiTConfig):
        name, encoder = "CausalMaskedDiffWithDiT", _LOOKAHEAD.format(flow=flow)
        estimator = _DIT.format(dit=flow.estimator)
    else:
        name, encoder = "CausalMaskedDiffWithXvec", _ENCODER.format(flow=flow, encoder=flow.encoder)
        estimator = _UNET.format(unet=flow.estimator)
    return _FLOW.format(flow=flow, flow_class=name, encoder=encoder, estimator=estimator)


def _vocoder_yaml(vocoder: VocoderConfig) -> str:
    newer = vocoder.generation == 3
    dilations = list(vocoder.resblock_dilations)
    return _VOCODER.format(
        vocoder=vocoder,
        vocoder_class="CausalHiFTGenerator" if newer else "HiFTGenerator",
        pitch_class="CausalConvRNNF0Predictor" if newer else "ConvRNNF0Predictor",
        rates=list(vocoder.upsample_rates),
        kernels=list(vocoder.upsample_kernels),
        block_kernels=list(vocoder.resblock_kernels),
        block_dilations=[dilations] * len(vocoder.resblock_kernels),
        source_kernels=list(vocoder.source_kernels),
        source_dilations=[dilations] * len(vocoder.source_kernels),
        more="\n    conv_pre_look_right: 4" if newer else "",
    )


def _tail(config: ModelConfig) -> str:
    version = "\n    version: cosyvoice3" if config.generation == 3 else ""
    fmax = "null" if config.prompt_mel_fmax_hz is None else f"{config.prompt_mel_fmax_hz:g}"
    return _TAIL.format(version=version, fmax=fmax)


# --- the networks that listen ------------------------------------------------------------------------


def write_campplus(path: Path, rng: np.random.Generator) -> None:
    """A speaker encoder: how much each of the 80 channels varies, projected to 192 numbers."""
    weight = rng.standard_normal((80, SPEAKER_CHANNELS)).astype(np.float32) / 80**0.5
    nodes = [
        helper.make_node("Abs", ["input"], ["size"]),
        helper.make_node("ReduceMean", ["size"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["output"]),
    ]
    _write_onnx(
        path,
        nodes,
        inputs=[helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", "T", 80])],
        outputs=[helper.make_tensor_value_info("output", TensorProto.FLOAT, ["B", SPEAKER_CHANNELS])],
        constants={"weight": weight},
    )


def write_speech_tokenizer(path: Path, num_tokens: int, rng: np.random.Generator) -> None:
    """A speech tokenizer: means of four frames, projected to one angle whose sine is quantised."""
    weight = 4 * rng.standard_normal((1, 1, 128)).astype(np.float32) / 128**0.5
    constants = {
        "weight": weight,
        "zero": np.array([0], np.int64),
        "time_axis": np.array([2], np.int64),
        "channel_axis": np.array([1], np.int64),
        "one": np.array(1, np.float32),
        "half_range": np.array((num_tokens - 1) / 2, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["feats_length"], ["length"], to=TensorProto.INT64),
        helper.make_node("Slice", ["feats", "zero", "length", "time_axis"], ["heard"]),
        helper.make_node("AveragePool", ["heard"], ["pooled"], kernel_shape=[4], strides=[4], ceil_mode=1),
        helper.make_node("MatMul", ["weight", "pooled"], ["angle"]),
        helper.make_node("Sin", ["angle"], ["sine"]),
        helper.make_node("Add", ["sine", "one"], ["positive"]),
        helper.make_node("Mul", ["positive", "half_range"], ["level"]),
        helper.make_node("Round", ["level"], ["rounded"]),
        helper.make_node("Squeeze", ["rounded", "channel_axis"], ["row"]),
        helper.make_node("Cast", ["row"], ["indices"], to=TensorProto.INT32),
    ]
    _write_onnx(
        path,
        nodes,
        inputs=[
            helper.make_tensor_value_info("feats", TensorProto.FLOAT, [1, 128, "T"]),
            helper.make_tensor_value_info("feats_length", TensorProto.INT32, [1]),
        ],
        outputs=[helper.make_tensor_value_info("indices", TensorProto.INT32, [1, "N"])],
        constants=constants,
    )


def _write_onnx(
    path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]
) -> None:
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initializers)
    # Old enough for every onnxruntime that is asked for.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


# --- voices ------------------------------------------------------------------------------------------


def saved_speaker(tokenizer: Tokenizer, config: ModelConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """An entry of `spk2info.pt` as saving a zero-shot voice makes it."""
    num_tokens = 38  # not a whole number of chunks
    ids = tokenizer.encode("收到好友从远方寄来的生日礼物。").ids
    tokens = torch.randint(config.lm.speech_tokens, (1, num_tokens), generator=generator, dtype=torch.int32)
    mel = -4 + 1.5 * torch.randn(1, 2 * num_tokens, MEL_CHANNELS, generator=generator)
    embedding = torch.randn(1, SPEAKER_CHANNELS, generator=generator)
    return {
        "prompt_text": torch.tensor([ids], dtype=torch.int32),
        "prompt_text_len": torch.tensor([len(ids)], dtype=torch.int32),
        "llm_prompt_speech_token": tokens,
        "llm_prompt_speech_token_len": torch.tensor([num_tokens], dtype=torch.int32),
        "flow_prompt_speech_token": tokens,
        "flow_prompt_speech_token_len": torch.tensor([num_tokens], dtype=torch.int32),
        "prompt_speech_feat": mel,
        "prompt_speech_feat_len": torch.tensor([2 * num_tokens], dtype=torch.int32),
        "llm_embedding": embedding,
        "flow_embedding": embedding,
    }


# --- all of it ---------------------------------------------------------------------------------------


def write_tiny_checkpoint(
    folder: Path,
    *,
    generation: Generation = 2,
    seed: int = 0,
    config: ModelConfig | None = None,
    end_logit: float = END_LOGIT,
    tensors: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> Path:
    """Writes a complete checkpoint and returns its folder.

    Args:
        folder: where; it is made when it does not exist.
        seed: of all that is random.
        config: other sizes than `tiny_config`'s; its `end_of_prompt` follows from the vocabulary.
        end_logit: of the end of speech: a higher one makes utterances shorter.
        tensors: other tensors than random ones, by the name of their file.
    """
    config = config or tiny_config(generation)
    assert config.generation == generation
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    blank = folder / "CosyVoice-BlankEN"
    blank.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(blank, config.lm)
    (folder / f"cosyvoice{generation}.yaml").write_text(yaml_text(config), encoding="utf-8")
    parts: dict[str, Callable[[], Mapping[str, Tensor]]] = {
        "llm.pt": lambda: lm_tensors(config.lm, generator, end_logit),
        "flow.pt": lambda: random_tensors(flow_shapes(config.flow), generator),
        "hift.pt": lambda: vocoder_tensors(config.vocoder, generator),
    }
    for name, make in parts.items():
        torch.save(dict(tensors[name]) if tensors and name in tensors else dict(make()), folder / name)
    speakers = {
        SFT_SPEAKER: {"embedding": torch.randn(1, SPEAKER_CHANNELS, generator=generator)},
        SAVED_SPEAKER: saved_speaker(tokenizer, config, generator),
    }
    torch.save(speakers, folder / "spk2info.pt")
    write_campplus(folder / "campplus.onnx", rng)
    name = f"speech_tokenizer_v{generation}.onnx"
    write_speech_tokenizer(folder / name, config.lm.speech_tokens, rng)
    return folder


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Writes a checkpoint with random weights.")
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--generation", type=int, choices=[2, 3], default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--sizes", choices=["tiny", "full"], default="tiny", help="full: those of the release, 3 GB (tiny)"
    )
    parser.add_argument(
        "--end-logit", type=float, default=END_LOGIT, help=f"of the end of speech ({END_LOGIT})"
    )
    options = parser.parse_args()
    make = {"tiny": tiny_config, "full": full_config}[options.sizes]
    write_tiny_checkpoint(
        options.folder,
        generation=options.generation,
        seed=options.seed,
        config=make(options.generation),
        end_logit=options.end_logit,
    )
    print(options.folder)


if __name__ == "__main__":
    main()
