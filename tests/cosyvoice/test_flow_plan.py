from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.engine.cosyvoice.flow_plan import BEYOND_END, Chunk, FlowSequence, num_prefix_chunks


def run(prompt: list[int], tokens: list[int], pulls: list[int]) -> tuple[list[Chunk], FlowSequence]:
    """Feeds the tokens in pieces and takes every chunk as soon as it is ready."""
    sequence, chunks, at = FlowSequence(prompt), [], 0

    def take() -> None:
        while sequence.is_ready:
            chunks.append(sequence.peek())
            sequence.advance()

    for pull in [*pulls, len(tokens)]:
        for token in tokens[at : at + pull]:
            sequence.append(token)
        at += pull
        take()
    sequence.end()
    take()
    return chunks, sequence


lengths = st.integers(0, 130)


@given(prompt=lengths, generated=lengths, pulls=st.lists(st.integers(0, 40), max_size=6))
def test_chunks_tile_the_tokens_however_they_come(prompt, generated, pulls) -> None:
    prompt_tokens, tokens = list(range(prompt)), list(range(1000, 1000 + generated))
    chunks, sequence = run(prompt_tokens, tokens, pulls)
    first = num_prefix_chunks(prompt)
    if not generated:
        assert not chunks
    else:
        everything = [token for chunk in chunks for token in chunk.tokens]
        assert everything == [*prompt_tokens, *tokens][25 * first :]
        assert [chunk.index for chunk in chunks] == list(range(first, first + len(chunks)))
        assert all(len(chunk.tokens) == 25 for chunk in chunks[:-1])
        assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert sum(2 * len(chunk.tokens) - chunk.num_prompt_frames for chunk in chunks) == 2 * generated
    assert sequence.is_done


@given(prompt=lengths, generated=lengths, pulls=st.lists(st.integers(0, 40), max_size=6))
def test_a_chunk_sees_the_three_tokens_after_it_or_that_there_are_none(prompt, generated, pulls) -> None:
    prompt_tokens, tokens = list(range(prompt)), list(range(1000, 1000 + generated))
    chunks, _ = run(prompt_tokens, tokens, pulls)
    everything = [*prompt_tokens, *tokens, *[BEYOND_END] * 3]
    for chunk in chunks:
        stop = 25 * chunk.index + len(chunk.tokens)
        assert chunk.lookahead == tuple(everything[stop : stop + 3])


def test_the_first_chunk_needs_what_the_prompt_leaves_of_the_grid_and_three_more() -> None:
    for prompt, needed in ((0, 28), (15, 13), (25, 28), (40, 13), (46, 7), (87, 16)):
        sequence = FlowSequence(list(range(prompt)))
        tokens, frames = 0, 0
        while not frames:
            sequence.append(0)
            tokens += 1
            if sequence.is_ready:
                chunk = sequence.peek()
                frames = 2 * len(chunk.tokens) - chunk.num_prompt_frames
                sequence.advance()
        assert tokens == needed, prompt


def test_the_voice_alone_makes_every_chunk_whose_look_ahead_lies_in_the_prompt() -> None:
    assert [num_prefix_chunks(n) for n in (0, 25, 27, 28, 30, 52, 53, 87)] == [0, 0, 0, 1, 1, 1, 2, 3]


def test_a_long_sequence_asks_for_its_end_long_before_it_can_take_no_more() -> None:
    sequence = FlowSequence(list(range(40)))
    asked_at = None
    while not sequence.must_restart:
        sequence.append(0)
        while sequence.is_ready:
            sequence.advance()
        if sequence.wants_restart and asked_at is None:
            asked_at = sequence.num_tokens
    assert asked_at == 6000
    assert 14_800 < 2 * sequence.num_tokens < 15_000


@given(
    prompt=st.integers(0, 60),
    generated=st.integers(1, 130),
    more=st.integers(0, 60),
    chunks=st.integers(0, 5),
)
def test_a_sequence_that_is_split_loses_and_doubles_no_token(prompt, generated, more, chunks) -> None:
    sequence = FlowSequence(list(range(prompt)))
    heard = []

    def take(sequence: FlowSequence, most: int) -> None:
        while sequence.is_ready and most:
            chunk = sequence.peek()
            heard.extend(chunk.tokens[chunk.num_prompt_frames // 2 :])
            sequence.advance()
            most -= 1

    for token in range(1000, 1000 + generated):
        sequence.append(token)
    take(sequence, chunks)
    rest = sequence.split()
    assert sequence.is_done
    for token in range(1000 + generated, 1000 + generated + more):
        rest.append(token)
    rest.end()
    take(rest, -1)
    assert heard == list(range(1000, 1000 + generated + more))
