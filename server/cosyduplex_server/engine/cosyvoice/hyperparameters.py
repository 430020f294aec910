"""The numbers of a checkpoint: from the official YAML and Qwen2's `config.json` to `ModelConfig`.

The official YAML is a program for HyperPyYAML: its tags construct classes and call functions. Here a tag is a
name and nothing else; nothing is imported and nothing runs. No PyTorch either.

What the YAML does not say, because the original code says it, keeps our default. What it says and this
version cannot do otherwise (the sample rate, the chunk, …) must be what we do. Sizes are checked once more
against the tensors when these are read.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from cosyduplex_server.engine.cosyvoice.files import CheckpointError, CheckpointFiles, unreadable
from cosyduplex_server.models import config as ours
from cosyduplex_server.models.config import (
    DiTConfig,
    FlowConfig,
    FlowEncoderConfig,
    Generation,
    ModelConfig,
    SpeechLMConfig,
    UNetConfig,
    VocoderConfig,
)

_MAX_BYTES = 1 << 20
_MAX_SIZE = 1 << 20  # no size of a network is near it
_MAX_REFERENCES = 32
_FOREIGN: Final = "use the file of the original download, unchanged"

# A tag's last word by generation: which network the numbers are for.
_CLASSES: Final[dict[Generation, dict[str, str]]] = {
    2: {
        "llm": "Qwen2LM",
        "flow": "CausalMaskedDiffWithXvec",
        "flow.encoder": "UpsampleConformerEncoder",
        "flow.decoder.estimator": "CausalConditionalDecoder",
        "hift": "HiFTGenerator",
    },
    3: {
        "llm": "CosyVoice3LM",
        "flow": "CausalMaskedDiffWithDiT",
        "flow.decoder.estimator": "DiT",
        "hift": "CausalHiFTGenerator",
    },
}

# What this version does in one way only.
_FIXED: Final[dict[str, object]] = {
    "sample_rate": ours.SAMPLE_RATE_HZ,
    "spk_embed_dim": ours.SPEAKER_CHANNELS,
    "token_frame_rate": ours.TOKENS_PER_S,
    "token_mel_ratio": ours.FRAMES_PER_TOKEN,
    "chunk_size": ours.CHUNK_TOKENS,
    "flow.output_size": ours.MEL_CHANNELS,
    "flow.spk_embed_dim": ours.SPEAKER_CHANNELS,
    "flow.output_type": "mel",
    "flow.input_frame_rate": ours.TOKENS_PER_S,
    "flow.token_mel_ratio": ours.FRAMES_PER_TOKEN,
    "flow.pre_lookahead_len": ours.LOOKAHEAD_TOKENS,
    "flow.decoder.in_channels": 3 * ours.MEL_CHANNELS,
    "flow.decoder.spk_emb_dim": ours.MEL_CHANNELS,
    "flow.decoder.cfm_params.content.solver": "euler",
    "flow.decoder.cfm_params.content.t_scheduler": "cosine",
    "flow.decoder.estimator.out_channels": ours.MEL_CHANNELS,
    "flow.decoder.estimator.static_chunk_size": ours.CHUNK_FRAMES,
    "hift.in_channels": ours.MEL_CHANNELS,
    "hift.sampling_rate": ours.SAMPLE_RATE_HZ,
    "hift.f0_predictor.in_channels": ours.MEL_CHANNELS,
    "hift.f0_predictor.num_class": 1,
    "feat_extractor.n_fft": 4 * ours.MEL_HOP_SAMPLES,
    "feat_extractor.win_size": 4 * ours.MEL_HOP_SAMPLES,
    "feat_extractor.hop_size": ours.MEL_HOP_SAMPLES,
    "feat_extractor.num_mels": ours.MEL_CHANNELS,
    "feat_extractor.sampling_rate": ours.SAMPLE_RATE_HZ,
    "feat_extractor.fmin": 0,
    "feat_extractor.center": False,
}
_FIXED_OF: Final[dict[Generation, dict[str, object]]] = {
    2: {
        "flow.encoder.input_layer": "linear",
        "flow.encoder.pos_enc_layer_type": "rel_pos_espnet",
        "flow.encoder.selfattention_layer_type": "rel_selfattn",
        "flow.encoder.normalize_before": True,
        "flow.encoder.use_cnn_module": False,
        "flow.encoder.macaron_style": False,
        "flow.encoder.static_chunk_size": ours.CHUNK_TOKENS,
        "flow.decoder.estimator.in_channels": 4 * ours.MEL_CHANNELS,
        "flow.decoder.estimator.act_fn": "gelu",
    },
    3: {
        "flow.pre_lookahead_layer.pre_lookahead_len": ours.LOOKAHEAD_TOKENS,
        "flow.decoder.estimator.mel_dim": ours.MEL_CHANNELS,
        "flow.decoder.estimator.mu_dim": ours.MEL_CHANNELS,
        "flow.decoder.estimator.spk_dim": ours.MEL_CHANNELS,
        "hift.conv_pre_look_right": 4,
    },
}
_END_OF_PROMPT: Final = "<|endofprompt|>"


def read_config(files: CheckpointFiles) -> ModelConfig:
    """Reads the sizes of every network.

    Raises:
        CheckpointError: a file is not readable, or says something this version cannot do.
    """
    generation = files.generation
    table = Table(files.yaml.name, read_yaml(files.yaml))
    for path, name in _CLASSES[generation].items():
        table.must_be_class(path, name)
    for path, value in (_FIXED | _FIXED_OF[generation]).items():
        table.must_be(path, value)
    lm = _speech_lm(generation, table, files)
    flow = _flow_v2(table) if generation == 2 else _flow_v3(table)
    if flow.speech_tokens != lm.speech_tokens:
        raise table.error(
            "flow.vocab_size", f"is {flow.speech_tokens}, llm.speech_token_size {lm.speech_tokens}"
        )
    return ModelConfig(
        generation=generation,
        lm=lm,
        flow=flow,
        vocoder=_vocoder(generation, table),
        prompt_mel_fmax_hz=_fmax(generation, table),
    )


# --- what goes where ---------------------------------------------------------------------------------


def _speech_lm(generation: Generation, table: Table, files: CheckpointFiles) -> SpeechLMConfig:
    usual = SpeechLMConfig(generation=generation, special_rows=3 if generation == 2 else 200)
    qwen = Table(f"{files.tokenizer_dir.name}/config.json", _read_json(files.qwen_config))
    qwen.must_be("model_type", "qwen2")
    qwen.must_be("hidden_act", "silu")
    qwen.must_be("use_sliding_window", False)
    qwen.must_be("rope_scaling", None)
    qwen.must_be("rope_parameters.rope_type", "default")
    hidden = qwen.size("hidden_size", usual.hidden)
    for name in ("llm_input_size", "llm_output_size", "llm.llm_input_size", "llm.llm_output_size"):
        table.must_be(name, hidden)
    num_heads = qwen.size("num_attention_heads", usual.num_heads)
    num_kv_heads = qwen.size("num_key_value_heads", usual.num_kv_heads)
    if num_heads % num_kv_heads:
        raise qwen.error("num_key_value_heads", f"is {num_kv_heads}, which does not divide {num_heads} heads")
    head_dim = qwen.size("head_dim", hidden // num_heads)
    if head_dim % 2:
        raise qwen.error("head_dim", f"is {head_dim}, which rotary positions cannot halve")
    text_vocab = qwen.size("vocab_size", usual.text_vocab)
    end_of_prompt = _end_of_prompt(files.tokenizer_dir, usual.end_of_prompt)
    if end_of_prompt >= text_vocab:
        raise qwen.error("vocab_size", f"is {text_vocab}, and {_END_OF_PROMPT} has the id {end_of_prompt}")
    blocks = table.sizes("llm.mix_ratio", (usual.text_block, usual.speech_block), length=2)
    theta = qwen.number("rope_parameters.rope_theta", usual.rope_theta)
    return SpeechLMConfig(
        generation=generation,
        hidden=hidden,
        num_layers=qwen.size("num_hidden_layers", usual.num_layers),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        mlp_hidden=qwen.size("intermediate_size", usual.mlp_hidden),
        rope_theta=qwen.number("rope_theta", theta),
        rms_eps=qwen.number("rms_norm_eps", usual.rms_eps),
        text_vocab=text_vocab,
        speech_tokens=table.size("llm.speech_token_size", usual.speech_tokens),
        special_rows=usual.special_rows,
        text_block=blocks[0],
        speech_block=blocks[1],
        top_p=table.number("llm.sampling.top_p", usual.top_p),
        top_k=table.size("llm.sampling.top_k", usual.top_k),
        ras_window=table.size("llm.sampling.win_size", usual.ras_window),
        ras_tau=table.number("llm.sampling.tau_r", usual.ras_tau),
        end_of_prompt=end_of_prompt,
    )


def _flow_v2(table: Table) -> FlowConfig:
    usual, usual_encoder, usual_unet = FlowConfig(), FlowEncoderConfig(), UNetConfig()
    token_width = table.size("flow.input_size", usual.token_width)
    width = table.size("flow.encoder.output_size", usual_encoder.width)
    num_heads = table.size("flow.encoder.attention_heads", usual_encoder.num_heads)
    if width % num_heads:
        raise table.error("flow.encoder.attention_heads", f"is {num_heads}, which does not divide {width}")
    table.must_be("flow.encoder.input_size", token_width)
    (channels,) = table.sizes("flow.decoder.estimator.channels", (usual_unet.channels,), length=1)
    return FlowConfig(
        speech_tokens=table.size("flow.vocab_size", usual.speech_tokens),
        token_width=token_width,
        # Its output is added to its input, and its convolutions have one width.
        prelookahead_hidden=width,
        encoder=FlowEncoderConfig(
            width=width,
            num_heads=num_heads,
            mlp_hidden=table.size("flow.encoder.linear_units", usual_encoder.mlp_hidden),
            num_layers=table.size("flow.encoder.num_blocks", usual_encoder.num_layers),
        ),
        estimator=UNetConfig(
            channels=channels,
            num_heads=table.size("flow.decoder.estimator.num_heads", usual_unet.num_heads),
            head_dim=table.size("flow.decoder.estimator.attention_head_dim", usual_unet.head_dim),
            blocks_per_stage=table.size("flow.decoder.estimator.n_blocks", usual_unet.blocks_per_stage),
            num_mid_stages=table.size("flow.decoder.estimator.num_mid_blocks", usual_unet.num_mid_stages),
            time_hidden=4 * channels,
        ),
        guidance=table.number("flow.decoder.cfm_params.content.inference_cfg_rate", usual.guidance),
    )


def _flow_v3(table: Table) -> FlowConfig:
    usual = FlowConfig(generation=3, token_width=80, prelookahead_hidden=1024, estimator=DiTConfig())
    usual_dit = DiTConfig()
    token_width = table.size("flow.input_size", usual.token_width)
    # The tokens' embedding, doubled, is the estimator's mel-wide condition.
    table.must_be("flow.input_size", ours.MEL_CHANNELS)
    table.must_be("flow.pre_lookahead_layer.in_channels", token_width)
    return FlowConfig(
        generation=3,
        speech_tokens=table.size("flow.vocab_size", usual.speech_tokens),
        token_width=token_width,
        prelookahead_hidden=table.size("flow.pre_lookahead_layer.channels", usual.prelookahead_hidden),
        estimator=DiTConfig(
            width=table.size("flow.decoder.estimator.dim", usual_dit.width),
            depth=table.size("flow.decoder.estimator.depth", usual_dit.depth),
            num_heads=table.size("flow.decoder.estimator.heads", usual_dit.num_heads),
            head_dim=table.size("flow.decoder.estimator.dim_head", usual_dit.head_dim),
            mlp_factor=table.size("flow.decoder.estimator.ff_mult", usual_dit.mlp_factor),
        ),
        guidance=table.number("flow.decoder.cfm_params.content.inference_cfg_rate", usual.guidance),
    )


def _vocoder(generation: Generation, table: Table) -> VocoderConfig:
    usual = VocoderConfig(generation=generation)
    rates = table.sizes("hift.upsample_rates", usual.upsample_rates)
    kernels = table.sizes("hift.resblock_kernel_sizes", usual.resblock_kernels)
    source_kernels = table.sizes("hift.source_resblock_kernel_sizes", usual.source_kernels, length=len(rates))
    hop = table.size("hift.istft_params.hop_len", usual.stft_hop)
    if math.prod(rates) * hop != ours.MEL_HOP_SAMPLES:
        raise table.error(
            "hift.upsample_rates",
            f"make {math.prod(rates) * hop} samples of a mel frame, which must be {ours.MEL_HOP_SAMPLES}",
        )
    dilations = table.sizes("hift.resblock_dilation_sizes.0", usual.resblock_dilations)
    for name, count in (("resblock", len(kernels)), ("source_resblock", len(source_kernels))):
        table.must_be(f"hift.{name}_dilation_sizes", [list(dilations)] * count)
    return VocoderConfig(
        generation=generation,
        channels=table.size("hift.base_channels", usual.channels),
        f0_channels=table.size("hift.f0_predictor.cond_channels", usual.f0_channels),
        num_harmonics=table.size("hift.nb_harmonics", usual.num_harmonics),
        sine_amplitude=table.number("hift.nsf_alpha", usual.sine_amplitude),
        noise_std=table.number("hift.nsf_sigma", usual.noise_std),
        voiced_hz=table.number("hift.nsf_voiced_threshold", usual.voiced_hz),
        upsample_rates=rates,
        upsample_kernels=table.sizes("hift.upsample_kernel_sizes", usual.upsample_kernels, length=len(rates)),
        source_kernels=source_kernels,
        resblock_kernels=kernels,
        resblock_dilations=dilations,
        n_fft=table.size("hift.istft_params.n_fft", usual.n_fft),
        stft_hop=hop,
        leaky_slope=table.number("hift.lrelu_slope", usual.leaky_slope),
        audio_limit=table.number("hift.audio_limit", usual.audio_limit),
    )


def _fmax(generation: Generation, table: Table) -> float | None:
    path = "feat_extractor.fmax"
    if generation == 3 and table.has(path) and table.value(path) is None:
        return None
    usual = 8000.0 if generation == 2 else None
    if not table.has(path):
        return usual
    return None if table.value(path) is None else table.number(path, 0.0)


def _end_of_prompt(tokenizer_dir: Path, usual: int) -> int:
    """The id of the token that ends an instruction.

    CosyVoice adds its tokens after those the tokenizer's own configuration adds, this one first.
    """
    path = tokenizer_dir / "tokenizer_config.json"
    if not path.is_file():
        return usual
    table = Table(f"{tokenizer_dir.name}/{path.name}", _read_json(path))
    if not table.has("added_tokens_decoder"):
        return usual
    added = table.value("added_tokens_decoder")
    if not isinstance(added, dict) or not all(str(key).isdecimal() for key in added):
        raise table.error("added_tokens_decoder", "is not a table of token ids")
    for key, token in added.items():
        if isinstance(token, dict) and token.get("content") == _END_OF_PROMPT:
            return int(key)
    return max((int(key) for key in added), default=usual - 1) + 1


# --- reading -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class Tagged:
    """What a YAML tag was put on; the tag is a name here and does nothing."""

    tag: str
    value: object

    def __repr__(self) -> str:
        return self.tag


class _InertLoader(yaml.SafeLoader):
    """Builds plain data; a tag it does not know becomes `Tagged`."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leaves merge keys alone: no model has them, and nested ones can fill the memory."""


def _inert(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Tagged:
    if isinstance(node, yaml.MappingNode):
        return Tagged(tag, loader.construct_mapping(node, deep=True))
    if isinstance(node, yaml.SequenceNode):
        return Tagged(tag, loader.construct_sequence(node, deep=True))
    assert isinstance(node, yaml.ScalarNode)
    return Tagged(tag, loader.construct_scalar(node))


_InertLoader.add_multi_constructor(None, _inert)


def read_yaml(path: Path) -> object:
    """Reads a YAML file as data, whatever its tags say.

    Raises:
        CheckpointError: it cannot be read.
    """
    text = _read_text(path)
    try:
        return yaml.load(text, Loader=_InertLoader)
    except yaml.MarkedYAMLError as exc:
        line = f"line {exc.problem_mark.line + 1}: " if exc.problem_mark else ""
        raise CheckpointError(
            f"{path.name}: {line}{_one_line(exc.problem or 'not YAML')}", _FOREIGN
        ) from None
    except (yaml.YAMLError, ValueError, TypeError) as exc:  # a bad date; a key that cannot be one
        raise CheckpointError(f"{path.name}: not YAML: {_one_line(str(exc))}", _FOREIGN) from None
    except RecursionError:
        raise CheckpointError(f"{path.name}: nested too deeply", _FOREIGN) from None


def _read_json(path: Path) -> object:
    text = _read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path.parent.name}/{path.name}: not JSON", _FOREIGN) from None


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CheckpointError(f"{path.name}: larger than {_MAX_BYTES >> 20} MiB", _FOREIGN)
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CheckpointError(f"{path.name}: not text in UTF-8", _FOREIGN) from None
    except OSError as exc:
        raise unreadable(path, exc) from None


def _one_line(text: str) -> str:
    return " ".join(text.split())


class Table:
    """Nested data read by dotted paths; every complaint names the file and the path.

    A `!ref <name>` of the same table is followed, also a product of several (`!ref <chunk_size> * <ratio>`).
    """

    def __init__(self, file: str, root: object) -> None:
        self._file = file
        self._root = root
        if not isinstance(root, dict):
            raise CheckpointError(f"{file}: not a table of names and values", _FOREIGN)

    def error(self, path: str, problem: str) -> CheckpointError:
        """A complaint about one value."""
        return CheckpointError(f"{self._file}: {path} {problem}", _FOREIGN)

    def has(self, path: str) -> bool:
        """Whether the table says anything about it."""
        return self._find(path) is not _ABSENT

    def value(self, path: str) -> object:
        """The value, without its tag."""
        found = self._find(path)
        return found.value if isinstance(found, Tagged) else found

    def size(self, path: str, usual: int) -> int:
        """A whole number from 1; `usual` where the table is silent."""
        return self._size(path, self.value(path)) if self.has(path) else usual

    def sizes(self, path: str, usual: tuple[int, ...], *, length: int | None = None) -> tuple[int, ...]:
        """A list of whole numbers from 1."""
        if not self.has(path):
            return usual
        values = self.value(path)
        if not isinstance(values, list) or not values or (length is not None and len(values) != length):
            count = "" if length is None else f"{length} "
            raise self.error(path, f"is {_shown(values)}, not a list of {count}whole numbers")
        return tuple(self._size(path, value) for value in values)

    def number(self, path: str, usual: float) -> float:
        """A finite number from 0. `1e-6`, which YAML takes for text, is one too."""
        if not self.has(path):
            return usual
        value = self.value(path)
        try:
            number = float(value) if isinstance(value, (int, float, str)) else math.nan
        except ValueError:
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number) or number < 0:
            raise self.error(path, f"is {_shown(value)}, not a number from 0")
        return number

    def must_be(self, path: str, expected: object) -> None:
        """Checks a value that this version knows in one form only; silence is consent.

        Raises:
            CheckpointError: it is another.
        """
        if self.has(path) and (value := self._plain(path)) != expected:
            raise self.error(path, f"is {_shown(value)}, and this version knows {_shown(expected)} only")

    def must_be_class(self, path: str, name: str) -> None:
        """Checks the class a tag names, by its last word.

        Raises:
            CheckpointError: there is none, or another.
        """
        found = self._find(path)
        if found is _ABSENT:
            raise self.error(path, "is missing")
        tag = found.tag if isinstance(found, Tagged) else ""
        if re.split(r"[.:]", tag)[-1] != name:
            raise self.error(path, f"is {_shown(tag) if tag else 'without a class'}, not {name}")

    def _size(self, path: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_SIZE:
            raise self.error(path, f"is {_shown(value)}, not a whole number from 1")
        return value

    def _plain(self, path: str) -> object:
        value = self.value(path)
        return [self._follow(path, item, 0) for item in value] if isinstance(value, list) else value

    def _find(self, path: str, depth: int = 0) -> object:
        found: object = self._root
        for name in path.split("."):
            inside = found.value if isinstance(found, Tagged) else found
            if isinstance(inside, dict):
                found = inside.get(name, _ABSENT)
            elif isinstance(inside, list) and name.isdecimal():
                found = inside[int(name)] if int(name) < len(inside) else _ABSENT
            else:
                return _ABSENT
            found = self._follow(path, found, depth)
        return found

    def _follow(self, path: str, found: object, depth: int) -> object:
        if not isinstance(found, Tagged) or found.tag != "!ref":
            return found
        if depth > _MAX_REFERENCES:
            raise self.error(path, "refers to itself")
        factors = [part.strip() for part in str(found.value).split("*")]
        values = [self._factor(path, part, depth) for part in factors]
        if len(values) == 1:
            return values[0]
        numbers = [
            value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)
        ]
        if len(numbers) != len(values):
            raise self.error(path, f"refers to {_shown(found.value)}, which cannot be multiplied")
        return math.prod(numbers)

    def _factor(self, path: str, text: str, depth: int) -> object:
        if text.isdecimal():
            return int(text)
        if re.fullmatch(r"<[^<>]+>", text) is None:
            raise self.error(path, f"refers to {_shown(text)}, which this version does not follow")
        target = self._find(re.sub(r"\[([^\[\]]*)\]", r".\1", text[1:-1]), depth + 1)
        if target is _ABSENT:
            raise self.error(path, f"refers to {text}, which is missing")
        return target


class _Absent:
    """The place where a table says nothing."""


_ABSENT: Final = _Absent()
_MAX_SHOWN = 60
# YAML can make a small file a vast value: its full text must never be made.
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 3
_BRIEF.maxstring = _BRIEF.maxother = _MAX_SHOWN


def _shown(value: object) -> str:
    """A value as one short line of a message."""
    text = _one_line(_BRIEF.repr(value.value if isinstance(value, Tagged) else value))
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
