from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count, islice, pairwise, repeat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.engine.cosyvoice.interleave import (
    Feed,
    Interleave,
    InterleaveError,
    LengthPolicy,
    Mode,
)
from cosyduplex_server.models.config import Generation, SpeechLMConfig
from cosyduplex_server.models.phases import Phase

BI_TRACES = [
    "bi_p0",
    "bi_p20",
    "bi_p30_fillfirst",
    "bi_p30_nofill",
    "bi_early_fill",
    "bi_text_short_of_prompt",
    "bi_pieces",
    "bi_eos_in_stream_error",
]
UNI_TRACES = ["uni_greedy", "uni_nospeech_greedy", "uni_ras_seed77"]

INSTRUCTION = [1, 2, 500]
PROMPT_TEXT: dict[Generation, list[int]] = {2: [], 3: INSTRUCTION}


def config(generation: Generation = 2) -> SpeechLMConfig:
    return SpeechLMConfig(
        generation=generation,
        text_vocab=512,
        speech_tokens=200,
        special_rows=3 if generation == 2 else 200,
        end_of_prompt=500,
    )


def row_of(label: str, sizes: SpeechLMConfig) -> int:
    """The joint row of a golden trace's label."""
    number = int(label[1:])
    return {
        "T": number,
        "A": sizes.speech_row(number),
        "L": sizes.task_row if number else sizes.sos_row,
    }[label[0]]


def drain(machine: Interleave, draws: Iterator[int], feeds: list[Feed]) -> list[int]:
    """Runs a machine until it waits or is done; returns the speech."""
    speech = []
    while (feed := machine.next()) is not None:
        feeds.append(feed)
        token = machine.take(-1 if feed.forced is not None else next(draws))
        if token is not None:
            speech.append(token)
    return speech


def honest(sizes: SpeechLMConfig, length: int = 40) -> Iterator[int]:
    """Draws what a phase allows whatever it is: speech tokens without repeats, then the end."""
    return chain((n % 97 for n in range(length)), repeat(sizes.eos))


def run(
    machine: Interleave, text: Iterable[int], draws: Iterator[int] | None = None
) -> tuple[list[Feed], list[int]]:
    """Feeds a whole text and runs the machine to its end."""
    feeds: list[Feed] = []
    draws = draws or honest(machine._config)
    machine.append(list(text))
    speech = drain(machine, draws, feeds)
    machine.end()
    speech += drain(machine, draws, feeds)
    return feeds, speech


def rows(feeds: list[Feed]) -> list[int]:
    return [row for feed in feeds for row in feed.rows]


def layout(
    sizes: SpeechLMConfig,
    prompt_text: list[int],
    prompt_speech: list[int],
    text: list[int],
    speech: list[int],
) -> list[int]:
    """The trained order, written down from the outside: the rows of a finished utterance."""
    instruction: list[int] = []
    if sizes.generation == 3:
        instruction, prompt_text = prompt_text[:3], prompt_text[3:]
    words = prompt_text + text
    sounds = [sizes.speech_row(token) for token in prompt_speech + speech]
    result = [sizes.sos_row, *instruction]
    for _ in range(len(words) // 5):
        result += words[:5] + sounds[:15]
        words, sounds = words[5:], sounds[15:]
    return [*result, *words, sizes.task_row, *sounds]


# --- As upstream ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", [2, 3])
@pytest.mark.parametrize("trace", BI_TRACES)
def test_compat_follows_upstreams_streams(
    golden: Callable[[str], dict[str, Any]],
    golden_json: Callable[[str], Any],
    generation: Generation,
    trace: str,
) -> None:
    tensors = golden(f"llm_v{generation}_golden")
    expected = golden_json(f"llm_v{generation}_trace")[trace]
    sizes = config(generation)
    forwards = [tuple(row_of(label, sizes) for label in forward["inp"]) for forward in expected["forwards"]]
    prompt_text, prompt_speech, text, pieces, tokens = (
        tensors[f"{trace}.{name}"].flatten().tolist()
        for name in ("prompt_text", "prompt_speech", "text", "pieces", "tokens")
    )
    draws = iter(expected["script"] or chain(tokens, [sizes.eos]))
    machine = Interleave(sizes, prompt_text, prompt_speech, "bi", compat=True)
    feeds: list[Feed] = []
    speech: list[int] = []
    events = []
    error = ""
    at = 0
    try:
        for size in pieces:
            events.append(["text", size, len(feeds)])
            machine.append(text[at : at + size])
            at += size
            while (feed := machine.next()) is not None:
                feeds.append(feed)
                token = machine.take(-1 if feed.forced is not None else next(draws))
                speech += [] if token is None else [token]
        events.append(["end", 0, len(feeds)])
        machine.end()
        speech += drain(machine, draws, feeds)
    except InterleaveError as raised:
        error = f"ValueError: {raised}"
    assert [feed.rows for feed in feeds] == forwards
    assert speech == tokens
    assert error == expected["error"]
    assert events[: len(expected["events"])] == expected["events"]
    assert sum(feed.forced is None for feed in feeds) == expected["n_sampler_calls"]
    assert machine.done
    past = [sum(len(feed.rows) for feed in feeds[:number]) for number in range(len(feeds))]
    assert past == [forward["past"] for forward in expected["forwards"]]


@pytest.mark.parametrize("generation", [2, 3])
@pytest.mark.parametrize("trace", UNI_TRACES)
@pytest.mark.parametrize("compat", [True, False])
def test_uni_stream_feeds_what_upstream_feeds(
    golden: Callable[[str], dict[str, Any]],
    golden_json: Callable[[str], Any],
    generation: Generation,
    trace: str,
    compat: bool,
) -> None:
    tensors = golden(f"llm_v{generation}_golden")
    sizes = config(generation)
    prompt_text, prompt_speech, text, tokens = (
        tensors[f"{trace}.{name}"].flatten().tolist()
        for name in ("prompt_text", "prompt_speech", "text", "tokens")
    )
    max_ratio = 4 if "nospeech" in trace else 6
    machine = Interleave(
        sizes, prompt_text, prompt_speech, "uni", length=LengthPolicy(max_ratio=max_ratio), compat=compat
    )
    feeds, speech = run(machine, text, chain(tokens, repeat(sizes.eos)))
    forwards = golden_json(f"llm_v{generation}_trace")[trace]
    assert [feed.rows for feed in feeds] == [
        tuple(row_of(label, sizes) for label in forward["inp"]) for forward in forwards
    ]
    assert speech == tokens
    assert machine.hit_limit == (len(tokens) == max_ratio * len(text))
    banned = Phase.UPSTREAM_NO_EOS if compat else Phase.NO_EOS
    assert [feed.phase for feed in feeds] == [
        banned if number < 2 * len(text) else Phase.FREE for number in range(len(feeds))
    ]


def test_compat_draws_a_whole_text_of_cosyvoice3_with_the_instruction_in_the_target() -> None:
    machine = Interleave(config(3), [], [], "uni", compat=True)
    feeds, _ = run(machine, [*INSTRUCTION, 7])
    assert feeds[0].rows[1:5] == (*INSTRUCTION, 7)


@pytest.mark.parametrize(("mode", "compat"), [("uni", False), ("bi", False), ("bi", True)])
def test_cosyvoice3_without_an_instruction_is_refused(mode: Mode, compat: bool) -> None:
    with pytest.raises(InterleaveError, match="end-of-prompt token 500"):
        Interleave(config(3), [1, 2, 3], [], mode, compat=compat)


def test_compat_refuses_cosyvoice3_without_an_instruction_in_either_text() -> None:
    machine = Interleave(config(3), [1, 2], [], "uni", compat=True)
    machine.append([3])
    machine.end()
    with pytest.raises(InterleaveError):
        machine.next()


# --- The trained layout --------------------------------------------------------------------------------

PROMPT_SPEECH_LENGTHS = [0, 1, 14, 15, 20, 30, 45, 87]


@pytest.mark.parametrize("generation", [2, 3])
@pytest.mark.parametrize("num_prompt_speech", PROMPT_SPEECH_LENGTHS)
@pytest.mark.parametrize("num_text", [1, 4, 5, 13, 40])
def test_the_rows_are_the_trained_layout(
    generation: Generation, num_prompt_speech: int, num_text: int
) -> None:
    sizes = config(generation)
    prompt_text = PROMPT_TEXT[generation] + list(range(10, 18))
    prompt_speech = [(7 * n) % 200 for n in range(num_prompt_speech)]
    text = list(range(100, 100 + num_text))
    machine = Interleave(sizes, prompt_text, prompt_speech)
    feeds, speech = run(machine, text, honest(sizes, 300))
    fed = speech if not machine.hit_limit else speech[:-1]  # the last one before a limit is not fed any more
    assert rows(feeds) == layout(sizes, prompt_text, prompt_speech, text, fed)


def test_a_prompt_of_twenty_leaves_ten_tokens_to_its_second_block() -> None:
    machine = Interleave(config(), list(range(8)), [0] * 20)
    feeds: list[Feed] = []
    machine.append([50])
    assert machine.next() is None
    machine.append([51])
    speech = drain(machine, honest(config()), feeds)
    assert len(feeds[0].rows) == 1 + 5 + 15 + 5 + 5
    assert len(speech) == 10
    assert {feed.phase for feed in feeds} == {Phase.STREAM}
    assert machine.history[-1] == config().fill


def test_no_forward_is_spent_on_a_fill() -> None:
    machine = Interleave(config())
    feeds, speech = run(machine, range(10), honest(config(), 30))
    assert [len(feed.rows) for feed in feeds] == [6] + [1] * 14 + [6] + [1] * 14 + [2]
    assert len(speech) == 30
    assert all(feed.forced is None for feed in feeds)


def test_a_fill_the_model_draws_ends_its_block() -> None:
    sizes = config()
    machine = Interleave(sizes)
    feeds, speech = run(
        machine, range(10), iter([1, 2, sizes.fill, 3, sizes.fill, *range(20, 40), sizes.eos])
    )
    assert [feed.rows for feed in feeds[:6]] == [
        (sizes.sos_row, 0, 1, 2, 3, 4),
        (sizes.speech_row(1),),
        (sizes.speech_row(2),),
        (5, 6, 7, 8, 9),
        (sizes.speech_row(3),),
        (sizes.task_row,),
    ]
    assert speech == [1, 2, 3, *range(20, 40)]


def test_the_window_of_the_sampler_counts_fills() -> None:
    sizes = config()
    machine = Interleave(sizes)
    machine.append(range(5))
    drain(machine, iter(range(15)), [])
    assert list(machine.history) == [6, 7, 8, 9, 10, 11, 12, 13, 14, sizes.fill]


@pytest.mark.parametrize("generation", [2, 3])
def test_nothing_is_fed_without_a_text(generation: Generation) -> None:
    for mode in ("uni", "bi"):
        machine = Interleave(config(generation), [*INSTRUCTION, *range(20)], [], mode)
        assert machine.next() is None
        machine.end()
        assert machine.next() is None
        assert machine.done
        assert not machine.hit_limit


# --- Upstream's defects, absent ------------------------------------------------------------------------


@pytest.mark.parametrize("generation", [2, 3])
def test_q3_an_end_of_speech_in_the_stream_loses_no_text(generation: Generation) -> None:
    sizes = config(generation)
    machine = Interleave(sizes, PROMPT_TEXT[generation])
    feeds, speech = run(machine, range(8), iter([1, 2, sizes.eos, *range(10, 60), sizes.eos]))
    assert [row for row in rows(feeds) if row < sizes.text_vocab] == [*PROMPT_TEXT[generation], *range(8)]
    assert speech == [1, 2, *range(10, 60)]
    assert machine.done


@pytest.mark.parametrize("generation", [2, 3])
@pytest.mark.parametrize("mode", ["uni", "bi"])
def test_q4_nothing_but_speech_may_be_drawn_before_the_minimum(generation: Generation, mode: Mode) -> None:
    machine = Interleave(config(generation), PROMPT_TEXT[generation], [5] * 3, mode)
    feeds, speech = run(machine, range(20, 24), honest(config(generation), 30))
    free = Phase.FREE if mode == "uni" else Phase.END
    assert [feed.phase for feed in feeds] == [Phase.NO_EOS] * 8 + [free] * 23
    assert len(speech) == 30


@pytest.mark.parametrize("generation", [2, 3])
def test_q4_a_stream_may_be_left_by_a_fill_alone(generation: Generation) -> None:
    machine = Interleave(config(generation), PROMPT_TEXT[generation])
    feeds, _ = run(machine, range(7), honest(config(generation), 30))
    assert [feed.phase for feed in feeds] == [Phase.STREAM] * 15 + [Phase.END] * 16


@pytest.mark.parametrize("generation", [2, 3])
def test_q4_any_special_id_ends_the_last_part(generation: Generation) -> None:
    sizes = config(generation)
    for special in (sizes.eos, sizes.fill, sizes.speech_rows - 1):
        machine = Interleave(sizes, PROMPT_TEXT[generation])
        _, speech = run(machine, range(3), iter([*range(10), special]))
        assert machine.done
        assert speech == list(range(10))
        assert not machine.hit_limit


def test_q5_no_row_is_fed_twice() -> None:
    machine = Interleave(config())
    feeds, speech = run(machine, range(13), honest(config(), 40))
    sounds = [row - 512 for row in rows(feeds) if 512 <= row < 712]
    assert sounds == speech


@pytest.mark.parametrize("mode", ["uni", "bi"])
def test_q6_a_model_that_never_ends_is_stopped(mode: Mode) -> None:
    machine = Interleave(config(), [], [], mode)
    _, speech = run(machine, range(7), (n % 200 for n in count()))
    assert len(speech) == 20 * 7
    assert machine.hit_limit


def test_an_absolute_limit_holds_while_text_still_comes() -> None:
    machine = Interleave(config(), length=LengthPolicy(max_tokens=20))
    machine.append(range(50))
    speech = drain(machine, (n % 200 for n in count()), [])
    assert len(speech) == 20
    assert machine.done
    assert machine.hit_limit


def test_q7_cosyvoice3_without_prompt_speech_reads_before_it_speaks() -> None:
    sizes = config(3)
    machine = Interleave(sizes, INSTRUCTION)
    machine.append([20, 21, 22, 23])
    assert machine.next() is None
    machine.append([24])
    assert machine.next() == Feed((sizes.sos_row, 1, 2, 500, 20, 21, 22, 23, 24), Phase.STREAM)


def test_q8_prompt_speech_that_found_no_text_comes_before_the_speech() -> None:
    sizes = config()
    machine = Interleave(sizes, range(4), range(100, 145))
    feeds, _ = run(machine, [10, 11, 12])
    sounds = [sizes.speech_row(token) for token in range(100, 145)]
    assert feeds[0].rows == (
        *(sizes.sos_row, 0, 1, 2, 3, 10),
        *sounds[:15],
        *(11, 12, sizes.task_row),
        *sounds[15:],
    )


def test_q8_a_prompt_of_whole_blocks_is_followed_by_text() -> None:
    machine = Interleave(config(), range(10), [3] * 30)
    machine.append(range(20, 24))
    assert machine.next() is None
    machine.append([24])
    feed = machine.next()
    assert feed is not None
    assert feed.rows[-5:] == (20, 21, 22, 23, 24)


def test_speech_for_an_instruction_among_the_text_does_not_count_against_the_limit() -> None:
    machine = Interleave(config(), range(40))
    _, speech = run(machine, [50], (n % 200 for n in count()))
    assert len(speech) == 8 * 15 + 20


# --- For any text, split and sampler -------------------------------------------------------------------

ids = st.lists(st.integers(20, 499), max_size=40)
machines = st.fixed_dictionaries(
    {
        "generation": st.sampled_from([2, 3]),
        "mode": st.sampled_from(["uni", "bi"]),
        "prompt_text": ids,
        "prompt_speech": st.lists(st.integers(0, 199), max_size=70),
    }
)


def build(drawn: dict[str, Any]) -> Interleave:
    return Interleave(
        config(drawn["generation"]), INSTRUCTION + drawn["prompt_text"], drawn["prompt_speech"], drawn["mode"]
    )


@given(machines, ids, st.lists(st.integers(0, 40)), st.lists(st.integers(0, 202), max_size=80))
def test_any_split_of_the_text_feeds_the_same(
    drawn: dict[str, Any], text: list[int], cuts: list[int], draws: list[int]
) -> None:
    def stream() -> Iterator[int]:
        return chain(draws, islice(count(), 500), repeat(200))

    whole, pieces = build(drawn), build(drawn)
    expected = run(whole, text, stream())
    feeds: list[Feed] = []
    speech: list[int] = []
    source = stream()
    bounds = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for start, end in pairwise(bounds):
        pieces.append(text[start:end])
        speech += drain(pieces, source, feeds)
    pieces.end()
    speech += drain(pieces, source, feeds)
    assert (feeds, speech) == expected
    assert pieces.history == whole.history
    assert pieces.hit_limit == whole.hit_limit


@given(machines, ids, st.lists(st.integers(0, 399), max_size=400), st.integers(0, 399))
def test_it_ends_for_any_sampler_and_feeds_everything_once(
    drawn: dict[str, Any], text: list[int], draws: list[int], forever: int
) -> None:
    machine = build(drawn)
    sizes = config(drawn["generation"])
    top = sizes.speech_rows - 1
    feeds, speech = run(machine, text, (min(token, top) for token in chain(draws, repeat(forever))))
    assert machine.done
    assert machine.next() is None
    if not text:
        assert not feeds
        return
    prompt = INSTRUCTION + drawn["prompt_text"]
    assert len(speech) <= 20 * len(text) + 3 * len(prompt)
    fed = rows(feeds)
    first_sound, end = sizes.speech_row(0), sizes.speech_row(sizes.speech_tokens)
    sounds = [row - first_sound for row in fed if first_sound <= row < end]
    everything = drawn["prompt_speech"] + speech
    assert sounds == everything[: len(sounds)]
    assert len(everything) - len(sounds) <= machine.hit_limit
    assert [row for row in fed if row < sizes.text_vocab] == prompt + text
    assert fed.count(sizes.sos_row) == fed.count(sizes.task_row) == 1


def test_how_much_text_a_prompt_of_three_and_a_half_seconds_wants_first() -> None:
    def wanted(num_prompt_text: int, num_prompt_speech: int, num_speech: int) -> int:
        machine = Interleave(config(), [1] * num_prompt_text, [1] * num_prompt_speech)
        speech: list[int] = []
        for number in count(1):
            machine.append([20])
            speech += drain(machine, (n % 97 for n in count()), [])
            if len(speech) >= num_speech:
                return number
        raise AssertionError

    assert wanted(12, 87, 1) == 18  # the figures of docs/decisions/0009-text-start.md
    assert wanted(12, 87, 16) == 23
    assert wanted(12 + 8, 87 + 40, 1) == 25


@given(machines, ids)
def test_the_waiting_time_of_a_prompt_is_what_its_blocks_need(drawn: dict[str, Any], text: list[int]) -> None:
    drawn["mode"] = "bi"
    machine = build(drawn)
    known = len(drawn["prompt_text"]) + (0 if drawn["generation"] == 3 else len(INSTRUCTION))
    needed = max(1, 5 * (len(drawn["prompt_speech"]) // 15 + 1) - known)
    for number, token in enumerate(text, start=1):
        machine.append([token])
        if machine.next() is not None:
            assert number == needed
            return
    assert len(text) < needed
