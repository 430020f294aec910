"""The speech LM against recorded runs of upstream, and against itself in other batches and cuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from cosyvoice.conftest import load_golden, tiny_lm_config
from cosyvoice.host_sync import NoHostSync
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cosyduplex_server.models.config import Generation, SpeechLMConfig
from cosyduplex_server.models.kv_cache import PagedKV
from cosyduplex_server.models.phases import Phase
from cosyduplex_server.models.sampling import NOTHING, RasSampler
from cosyduplex_server.models.speech_lm import SpeechLM, new_cache
from cosyduplex_server.models.weights import Source, WeightsError
from cosyduplex_server.models.weights_speech_lm import speech_lm_weights

BLOCK_ROWS = 16
UNI = ["uni_greedy", "uni_nospeech_greedy", "uni_ras_seed77"]
BI = [
    "bi_p0",
    "bi_p20",
    "bi_p30_fillfirst",
    "bi_p30_nofill",
    "bi_early_fill",
    "bi_text_short_of_prompt",
    "bi_pieces",
    "bi_eos_in_stream_error",
]
MAX_LENGTH_RATIOS = {"uni_greedy": 6, "uni_nospeech_greedy": 4, "uni_ras_seed77": 20}

both = pytest.mark.parametrize("generation", [2, 3])


@pytest.fixture(autouse=True)
def _inference() -> Any:
    with torch.inference_mode():
        yield


@cache
def speech_lm(generation: Generation, dtype: torch.dtype = torch.float32) -> SpeechLM:
    config = tiny_lm_config(generation)
    source = Source(load_golden(f"llm_v{generation}"), "llm.pt")
    model = SpeechLM(config)
    model.load_state_dict(speech_lm_weights(source, config, dtype), strict=True, assign=True)
    return model.eval()


def input_rows(config: SpeechLMConfig, labels: Sequence[str]) -> list[int]:
    """Recorded labels (T text, A speech, L upstream's `llm_embedding`) as rows of the joint embedding."""
    offsets = {"T": 0, "A": config.text_vocab, "L": config.text_vocab + config.speech_rows}
    return [offsets[label[0]] + int(label[1:]) for label in labels]


class OneSequence:
    """A sequence alone in a cache; its blocks are out of order."""

    def __init__(
        self, model: SpeechLM, kv: PagedKV | None = None, table: Sequence[int] | None = None
    ) -> None:
        self.model = model
        dtype = model.embedding.weight.dtype
        self.kv = kv or new_cache(model.config, 16, dtype, "cpu", BLOCK_ROWS)
        self.tables = torch.tensor([table or [*range(15, 8, -1), *range(1, 9), 0]])
        self.length = 0

    def run(self, rows: Sequence[int]) -> Tensor:
        """The hidden rows (T, C) of the next rows."""
        positions = torch.arange(self.length, self.length + len(rows))
        self.length += len(rows)
        return self.model(torch.tensor([rows]), positions[None], self.kv, self.tables)[0]

    def logits(self, rows: Sequence[int]) -> Tensor:
        """The scores (1, V) of what follows the rows."""
        return self.model.logits(self.run(rows)[-1:])


def random_rows(config: SpeechLMConfig, count: int, seed: int) -> list[int]:
    return torch.randint(config.num_rows, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


# Against upstream.


@both
def test_a_prefill_equals_upstreams(
    generation: Generation, golden: Callable[[str], Any], golden_json: Callable[[str], Any]
) -> None:
    model, recorded = speech_lm(generation), golden(f"llm_v{generation}_golden")
    rows = input_rows(model.config, golden_json(f"llm_v{generation}_trace")["uni_greedy"][0]["inp"])
    hidden = OneSequence(model).run(rows)
    assert torch.equal(model.embed(torch.tensor([rows])), recorded["prefill.embeds"])
    torch.testing.assert_close(hidden[None], recorded["prefill.hidden"], atol=2e-4, rtol=0)
    torch.testing.assert_close(model.logits(hidden)[None], recorded["prefill.logits"], atol=2e-4, rtol=0)


@both
@pytest.mark.parametrize("scenario", UNI)
def test_a_recorded_run_with_the_whole_text_gives_the_same_scores(
    generation: Generation,
    scenario: str,
    golden: Callable[[str], Any],
    golden_json: Callable[[str], Any],
) -> None:
    model, recorded = speech_lm(generation), golden(f"llm_v{generation}_golden")
    min_tokens = 2 * recorded[f"{scenario}.text"].shape[1]
    forwards = golden_json(f"llm_v{generation}_trace")[scenario]
    phases = [Phase.UPSTREAM_NO_EOS if i < min_tokens else Phase.FREE for i in range(len(forwards))]
    scores = replayed_scores(model, forwards, phases)
    torch.testing.assert_close(scores, recorded[f"{scenario}.scores"], atol=1e-3, rtol=0)


@both
@pytest.mark.parametrize("scenario", BI)
def test_a_recorded_run_with_streamed_text_gives_the_same_scores(
    generation: Generation,
    scenario: str,
    golden: Callable[[str], Any],
    golden_json: Callable[[str], Any],
) -> None:
    model, recorded = speech_lm(generation), golden(f"llm_v{generation}_golden")
    trace = golden_json(f"llm_v{generation}_trace")[scenario]
    drawn = trace["script"] or [*recorded[f"{scenario}.tokens"].tolist(), model.config.eos]
    phases = interleave_phases(
        model.config, trace["forwards"], drawn, recorded[f"{scenario}.prompt_speech"].shape[1]
    )
    scores = replayed_scores(model, trace["forwards"], phases)
    torch.testing.assert_close(scores, recorded[f"{scenario}.scores"], atol=1e-3, rtol=0)


def replayed_scores(model: SpeechLM, forwards: Sequence[Any], phases: Sequence[Phase | None]) -> Tensor:
    """What the sampler was given, (calls, V); None in `phases` is a forward it was not called for."""
    sampler, sequence, scores = RasSampler(model.config), OneSequence(model), []
    for forward, phase in zip(forwards, phases, strict=True):
        assert forward["past"] == sequence.length
        logits = sequence.logits(input_rows(model.config, forward["inp"]))
        if phase is not None:
            scores.append(sampler.scores(logits, torch.tensor([phase])))
    return torch.cat(scores)


def interleave_phases(
    config: SpeechLMConfig, forwards: Sequence[Any], drawn: Sequence[int], prompt_tokens: int
) -> list[Phase | None]:
    """Each forward's phase, None where the fill was forced; `drawn` is what the sampler answered."""
    ids = iter(drawn)
    phases: list[Phase | None] = []
    block = config.speech_block
    next_fill = (prompt_tokens // block + 1) * block - prompt_tokens
    ended = False
    for index, forward in enumerate(forwards):
        ended = ended or config.task_row in input_rows(config, forward["inp"])
        forced = not ended and index == next_fill
        phases.append(None if forced else Phase.FREE if ended else Phase.UPSTREAM_NO_EOS)
        if forced or next(ids) == config.fill:
            next_fill = index + block + 1
    assert next(ids, None) is None
    return phases


@both
@pytest.mark.parametrize("scenario", UNI)
def test_a_whole_utterance_is_upstreams_token_by_token(
    generation: Generation,
    scenario: str,
    golden: Callable[[str], Any],
    golden_json: Callable[[str], Any],
) -> None:
    model, recorded = speech_lm(generation), golden(f"llm_v{generation}_golden")
    text_tokens = recorded[f"{scenario}.text"].shape[1]
    prompt = input_rows(model.config, golden_json(f"llm_v{generation}_trace")[scenario][0]["inp"])
    draw = greedy if "greedy" in scenario else multinomial
    torch.manual_seed(77)
    tokens = speak(
        model, prompt, 2 * text_tokens, MAX_LENGTH_RATIOS[scenario] * text_tokens, draw, "ras" in scenario
    )
    assert tokens == recorded[f"{scenario}.tokens"].tolist()


def speak(
    model: SpeechLM,
    rows: Sequence[int],
    min_tokens: int,
    max_tokens: int,
    draw: Callable[[Tensor, int, Tensor], Tensor],
    remembers: bool,
) -> list[int]:
    config, sampler, sequence = model.config, RasSampler(model.config), OneSequence(model)
    tokens: list[int] = []
    zero = torch.zeros(1, dtype=torch.int64)
    for step in range(max_tokens):
        past = tokens[-config.ras_window :] if remembers else []
        history = torch.tensor([past + [NOTHING] * (config.ras_window - len(past))])
        phase = torch.tensor([Phase.UPSTREAM_NO_EOS if step < min_tokens else Phase.FREE])
        token = int(sampler(sequence.logits(rows), history, phase, zero, zero, draw))
        if token in config.stop_ids:
            break
        tokens.append(token)
        rows = [config.speech_row(token)]
    return tokens


def greedy(probs: Tensor, number: int, wanted: Tensor) -> Tensor:
    return probs.argmax(1)


def multinomial(probs: Tensor, number: int, wanted: Tensor) -> Tensor:
    """Upstream's draw: from what the nucleus kept, or from everything; no number is used if not wanted."""
    if not wanted.item():
        return torch.zeros(1, dtype=torch.int64)
    kept = probs[:, : int((probs > 0).sum())] if number == 0 else probs
    return kept[0].multinomial(1, replacement=True)


# Against itself.


@both
@pytest.mark.parametrize("seed", range(4))
def test_any_cut_of_the_rows_into_forwards_gives_the_same_hidden_rows(
    generation: Generation, seed: int
) -> None:
    model = speech_lm(generation)
    rows = random_rows(model.config, 75, seed=1)
    whole = OneSequence(model).run(rows)
    cuts = torch.randperm(74, generator=torch.Generator().manual_seed(seed))[: 3 + 10 * seed] + 1
    bounds = [0, *sorted(cuts.tolist()), 75]
    sequence = OneSequence(model)
    pieces = [sequence.run(rows[a:b]) for a, b in pairwise(bounds)]
    torch.testing.assert_close(torch.cat(pieces), whole, atol=1e-5, rtol=0)


@both
def test_a_ragged_batch_gives_each_sequence_what_it_gets_alone(generation: Generation) -> None:
    model = speech_lm(generation)
    lengths, new = [40, 3, 17, 0], [1, 6, 4, 9]
    totals = [a + b for a, b in zip(lengths, new, strict=True)]
    sequences = [random_rows(model.config, total, seed=i) for i, total in enumerate(totals)]
    kv = new_cache(model.config, 16, torch.float32, "cpu", BLOCK_ROWS)
    tables = [[5, 2, 9], [3, 0, 0], [7, 1, 0], [4, 0, 0], [8, 0, 0]]
    alone = []
    for rows, length, table in zip(sequences, lengths, tables, strict=False):
        if length:
            OneSequence(model, kv, table).run(rows[:length])
        alone.append(OneSequence(model).run(rows)[length:])
    rows, positions = [], []
    for sequence, length, count in zip(sequences, lengths, new, strict=True):
        places = [min(i, count - 1) for i in range(max(new))]
        rows.append([sequence[length + place] for place in places])
        positions.append([length + place for place in places])
    rows.append([0] * max(new))  # a place for no sequence
    positions.append([0] * max(new))
    hidden = model(torch.tensor(rows), torch.tensor(positions), kv, torch.tensor(tables))
    for index, count in enumerate(new):
        torch.testing.assert_close(hidden[index, :count], alone[index], atol=1e-5, rtol=0)
        torch.testing.assert_close(hidden[index, -1], alone[index][-1], atol=1e-5, rtol=0)


@both
def test_padding_leaves_in_the_cache_what_there_is_without_it(generation: Generation) -> None:
    model = speech_lm(generation)
    rows = random_rows(model.config, 20, seed=2)
    sequence, padded = OneSequence(model), OneSequence(model)
    sequence.run(rows)
    positions = torch.tensor([[*range(20), 19, 19, 19]])
    model(torch.tensor([[*rows, rows[-1], rows[-1], rows[-1]]]), positions, padded.kv, padded.tables)
    padded.length = 20
    more = random_rows(model.config, 5, seed=3)
    torch.testing.assert_close(padded.run(more), sequence.run(more), atol=1e-5, rtol=0)


@both
def test_sequences_that_share_the_blocks_of_a_prefix_are_as_if_each_had_its_own(
    generation: Generation,
) -> None:
    model = speech_lm(generation)
    prefix = random_rows(model.config, 2 * BLOCK_ROWS, seed=4)
    kv = new_cache(model.config, 8, torch.float32, "cpu", BLOCK_ROWS)
    OneSequence(model, kv, [3, 6]).run(prefix)
    branches = [random_rows(model.config, 12, seed=seed) for seed in (5, 6)]
    positions = torch.arange(2 * BLOCK_ROWS, 2 * BLOCK_ROWS + 12).expand(2, -1)
    hidden = model(torch.tensor(branches), positions, kv, torch.tensor([[3, 6, 1], [3, 6, 4]]))
    for index, branch in enumerate(branches):
        own = OneSequence(model).run(prefix + branch)[2 * BLOCK_ROWS :]
        torch.testing.assert_close(hidden[index], own, atol=1e-5, rtol=0)


@both
def test_rows_after_a_position_are_not_looked_at(generation: Generation) -> None:
    model = speech_lm(generation)
    rows = random_rows(model.config, 10, seed=7)
    fresh, used = OneSequence(model), OneSequence(model)
    used.run(random_rows(model.config, 100, seed=8))
    used.length = 0
    torch.testing.assert_close(used.run(rows), fresh.run(rows), atol=1e-6, rtol=0)


@both
def test_a_forward_writes_its_own_rows_and_no_others(generation: Generation) -> None:
    model = speech_lm(generation)
    kv = new_cache(model.config, 6, torch.float32, "cpu", BLOCK_ROWS)
    OneSequence(model, kv, [2, 4, 0]).run(random_rows(model.config, BLOCK_ROWS + 3, seed=9))
    for layer in range(model.config.num_layers):
        for values in kv.gather(layer, torch.arange(6)[None]):
            written = values[0].abs().sum((0, 2)).view(6, BLOCK_ROWS) > 0
            assert written.sum(1).tolist() == [0, 0, BLOCK_ROWS, 0, 3, 0]
            assert written[4, :3].all()


@pytest.mark.parametrize("block_rows", [1, 7, 64])
def test_the_size_of_the_blocks_changes_nothing(block_rows: int) -> None:
    model = speech_lm(2)
    rows = random_rows(model.config, 30, seed=10)
    num_blocks = -(-30 // block_rows) + 1
    kv = new_cache(model.config, num_blocks, torch.float32, "cpu", block_rows)
    hidden = OneSequence(model, kv, list(range(1, num_blocks))).run(rows)
    torch.testing.assert_close(hidden, OneSequence(model).run(rows), atol=1e-5, rtol=0)


def test_a_blocks_default_size_is_64_rows() -> None:
    kv = new_cache(tiny_lm_config(2), 3, torch.bfloat16, "cpu")
    assert kv.block_rows == 64
    assert kv.block_bytes == 3 * 2 * 64 * 64 * 2  # layers, keys and values, rows, channels, bytes


# Number types and what a step touches.


@both
def test_in_bfloat16_norms_and_logits_stay_float32(generation: Generation) -> None:
    model = speech_lm(generation, torch.bfloat16)
    outputs: list[tuple[torch.dtype, torch.dtype]] = []
    hooks = [
        norm.register_forward_hook(lambda _, x, y: outputs.append((x[0].dtype, y.dtype)))
        for name, norm in model.named_modules()
        if name.endswith("norm")
    ]
    logits = OneSequence(model).logits(random_rows(model.config, 30, seed=11))
    for hook in hooks:
        hook.remove()
    assert outputs == [(torch.bfloat16, torch.float32)] * (2 * model.config.num_layers + 1)
    assert logits.dtype == torch.float32
    kept = {name.split(".")[-2] for name, p in model.named_parameters() if p.dtype == torch.float32}
    assert kept == {"attention_norm", "mlp_norm", "norm", "head"}


@both
def test_bfloat16_is_near_float32(generation: Generation) -> None:
    rows = random_rows(tiny_lm_config(generation), 60, seed=12)
    exact = OneSequence(speech_lm(generation)).run(rows)
    rounded = OneSequence(speech_lm(generation, torch.bfloat16)).run(rows)
    assert (rounded - exact).pow(2).mean() < 0.02**2 * exact.pow(2).mean()


def test_rotary_angles_stay_exact_far_into_a_sequence_in_bfloat16() -> None:
    """Bfloat16 has no 4001: rounded positions would give neighbours the same angle."""
    model = speech_lm(2, torch.bfloat16)
    kv = new_cache(model.config, 65, torch.bfloat16, "cpu")
    tables = torch.arange(1, 65)[None]
    row = torch.tensor([[5, 5]])
    model(row, torch.tensor([[4000, 4001]]), kv, tables)
    keys, _ = kv.gather(0, tables)
    assert (keys[0, 0, 4000] - keys[0, 0, 4001]).abs().max() > 0.1 * keys[0, 0, 4000].abs().max()


@both
def test_prefill_and_step_do_not_wait_for_the_device(generation: Generation) -> None:
    model = speech_lm(generation)
    kv = new_cache(model.config, 4, torch.float32, "cpu", BLOCK_ROWS)
    tables = torch.tensor([[1, 2], [3, 0]])
    rows, positions = torch.ones(2, 5, dtype=torch.int64), torch.arange(5).expand(2, -1)
    step, next_position = rows[:, :1], torch.full((2, 1), 5)
    with NoHostSync():
        model.logits(model(rows, positions, kv, tables)[:, -1])
        model.logits(model(step, next_position, kv, tables)[:, -1])


WIDE_TEXT = 20_000


@cache
def with_many_text_rows(generation: Generation) -> SpeechLM:
    """A model whose text table is larger than anything else, in other proportions than the golden ones."""
    torch.manual_seed(0)
    return SpeechLM(
        SpeechLMConfig(
            generation=generation,
            hidden=32,
            num_layers=2,
            num_heads=6,
            num_kv_heads=2,
            head_dim=8,
            mlp_hidden=64,
            text_vocab=WIDE_TEXT,
            speech_tokens=50,
            special_rows=3 if generation == 2 else 200,
        )
    )


def checkpoint(config: SpeechLMConfig) -> dict[str, Tensor]:
    """A checkpoint as released, by name, of zeros."""
    hidden, width, kv_width = (
        config.hidden,
        config.num_heads * config.head_dim,
        config.num_kv_heads * config.head_dim,
    )
    shapes: dict[str, tuple[int, ...]] = {
        "llm.model.model.embed_tokens.weight": (config.text_vocab, hidden),
        "llm.model.lm_head.weight": (config.text_vocab, hidden),
        "llm.model.model.norm.weight": (hidden,),
        "speech_embedding.weight": (config.speech_rows, hidden),
        "llm_decoder.weight": (config.speech_rows, hidden),
    }
    if config.generation == 2:
        shapes |= {"llm_embedding.weight": (2, hidden), "llm_decoder.bias": (config.speech_rows,)}
    for index in range(config.num_layers):
        layer = f"llm.model.model.layers.{index}"
        for name, rows in {"q": width, "k": kv_width, "v": kv_width}.items():
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = (rows, hidden)
            shapes[f"{layer}.self_attn.{name}_proj.bias"] = (rows,)
        shapes |= {
            f"{layer}.self_attn.o_proj.weight": (hidden, width),
            f"{layer}.mlp.gate_proj.weight": (config.mlp_hidden, hidden),
            f"{layer}.mlp.up_proj.weight": (config.mlp_hidden, hidden),
            f"{layer}.mlp.down_proj.weight": (hidden, config.mlp_hidden),
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
        }
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


@both
def test_nothing_but_the_embedding_is_as_large_as_the_text_vocabulary(generation: Generation) -> None:
    model = with_many_text_rows(generation)
    weights = speech_lm_weights(Source(checkpoint(model.config), "llm.pt"), model.config)
    assert weights.keys() == model.state_dict().keys()
    table = WIDE_TEXT * model.config.hidden
    assert [name for name, tensor in weights.items() if tensor.numel() >= table] == ["embedding.weight"]


class _LargeReads(TorchDispatchMode):
    """Notes which operators see a tensor as large as the text's table."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.names: list[str] = []
        self.largest_output = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(isinstance(arg, Tensor) and arg.numel() >= self.size for arg in args):
            self.names.append(func._schema.name)
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.largest_output = max(self.largest_output, result.numel())
        return result


@both
def test_a_step_reads_of_the_embedding_only_its_rows(generation: Generation) -> None:
    model = with_many_text_rows(generation)
    table = WIDE_TEXT * model.config.hidden
    kv = new_cache(model.config, 2, torch.float32, "cpu")
    with _LargeReads(table) as reads:
        rows = torch.tensor([[3], [7]])
        model.logits(model(rows, torch.zeros_like(rows), kv, torch.tensor([[1], [1]])))
    assert reads.names == ["aten::embedding"]
    assert reads.largest_output < table


@both
def test_six_heads_on_two_keys_equal_keys_repeated_for_each(generation: Generation) -> None:
    """The golden models have one key head; this one's groups could be mixed up."""
    model = with_many_text_rows(generation)
    config = model.config
    rows = torch.randint(config.num_rows, (1, 9), generator=torch.Generator().manual_seed(13))
    hidden = model(
        rows, torch.arange(9)[None], new_cache(config, 2, torch.float32, "cpu"), torch.tensor([[1]])
    )
    torch.testing.assert_close(hidden, plain_forward(model, rows), atol=1e-5, rtol=0)


def plain_forward(model: SpeechLM, rows: Tensor) -> Tensor:
    """The same body without a cache, a head at a time."""
    config, state = model.config, model.state_dict()
    H, G, D, T = config.num_heads, config.num_kv_heads, config.head_dim, rows.shape[1]
    turns = torch.arange(T)[:, None] * config.rope_theta ** (-torch.arange(D // 2) * 2 / D)
    turn = torch.polar(torch.ones_like(turns), turns)

    def rotate(x: Tensor) -> Tensor:
        y = torch.complex(x[:, : D // 2], x[:, D // 2 :]) * turn
        return torch.cat([y.real, y.imag], 1)

    def norm(x: Tensor, name: str) -> Tensor:
        return x * (x.pow(2).mean(-1, keepdim=True) + config.rms_eps).rsqrt() * state[name]

    x = state["embedding.weight"][rows[0]]
    for i in range(config.num_layers):
        p = f"layers.{i}"
        y = norm(x, f"{p}.attention_norm.weight")
        qkv = y @ state[f"{p}.attention.qkv.weight"].T + state[f"{p}.attention.qkv.bias"]
        heads = qkv.split(D, dim=1)
        outputs = []
        for h in range(H):
            g = h // (H // G)
            scores = rotate(heads[h]) @ rotate(heads[H + g]).T / D**0.5
            scores = scores.masked_fill(torch.ones(T, T).triu(1) > 0, -torch.inf)
            outputs.append(scores.softmax(1) @ heads[H + G + g])
        x = x + torch.cat(outputs, 1) @ state[f"{p}.attention.out.weight"].T
        gate, up = (norm(x, f"{p}.mlp_norm.weight") @ state[f"{p}.mlp.gate_up.weight"].T).chunk(2, 1)
        x = x + (torch.sigmoid(gate) * gate * up) @ state[f"{p}.mlp.down.weight"].T
    return norm(x, "norm.weight")[None]


# The checkpoint.


@both
def test_a_checkpoint_without_a_text_head_is_read(generation: Generation) -> None:
    config = with_many_text_rows(generation).config
    tensors = checkpoint(config)
    del tensors["llm.model.lm_head.weight"]
    assert "head.weight" in speech_lm_weights(Source(tensors, "llm.pt"), config)


@both
def test_what_a_checkpoint_lacks_is_named(generation: Generation) -> None:
    config = with_many_text_rows(generation).config
    tensors = checkpoint(config)
    del tensors["llm.model.model.layers.1.self_attn.k_proj.bias"]
    with pytest.raises(WeightsError, match=r"llm\.pt: .*layers\.1\.self_attn\.k_proj\.bias is missing"):
        speech_lm_weights(Source(tensors, "llm.pt"), config)


def test_a_checkpoint_of_the_other_generation_is_refused() -> None:
    config = with_many_text_rows(3).config
    tensors = checkpoint(config) | {"llm_decoder.bias": torch.zeros(config.speech_rows)}
    with pytest.raises(WeightsError, match=r"llm_decoder\.bias belongs to no part"):
        speech_lm_weights(Source(tensors, "llm.pt"), config)
