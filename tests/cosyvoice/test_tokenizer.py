import json
import unicodedata
from pathlib import Path

import pytest
from cosyvoice.small_tokenizer import small_bpe, small_tokenizer, write_official
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex_server.engine.cosyvoice.tokenizer import END_OF_PROMPT, TextTokenizer, TokenizerError

TEXTS = [
    "The weather is lovely today, so we're going.",
    "今天天气很好，我们一起去公园玩吧。",
    "我用 iPhone 打了 3 个电话，花了 12.5 元。",
    "  blanks \n\n and\tlines \r\n ",
    "café cafe\u0301 \u1e0d\u0301 한국어 ไทย ありがとう",
    "😀👍🏽 ✓ ℃",
    "",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_official(tmp_path)


def change(path: Path, **entries: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_the_library(text: str) -> None:
    assert small_tokenizer().encode(text) == small_bpe().encode(text).ids


@pytest.mark.parametrize("text", TEXTS)
def test_places_cover_the_text(text: str) -> None:
    tokens = small_tokenizer().tokens(text)
    assert [token.id for token in tokens] == small_tokenizer().encode(text)
    places = list(dict.fromkeys((token.start, token.end) for token in tokens))
    assert "".join(text[start:end] for start, end in places) == text


@given(st.text(max_size=30))
def test_any_text_is_covered_in_order(text: str) -> None:
    tokenizer = small_tokenizer()
    places = list(dict.fromkeys((token.start, token.end) for token in tokenizer.tokens(text)))
    assert "".join(text[start:end] for start, end in places) == text
    assert [token for word in tokenizer.words(text) for token in word] == tokenizer.tokens(text)


def test_a_character_of_several_tokens_is_the_place_of_all() -> None:
    tokens = small_tokenizer().tokens("龘龘")
    assert [(token.start, token.end) for token in tokens] == [(0, 1)] * 3 + [(1, 2)] * 3


def test_an_accent_belongs_to_its_letter() -> None:
    tokens = small_tokenizer().tokens("cafe\u0301!")
    assert unicodedata.normalize("NFC", "e\u0301") == "é"
    assert {(token.start, token.end) for token in tokens if token.start >= 3} == {(3, 5), (5, 6)}


def test_a_lone_surrogate_is_read_as_a_replacement_character() -> None:
    assert small_tokenizer().encode("a\ud800b") == small_tokenizer().encode("a\ufffdb")


def test_groups_are_words_with_their_blank() -> None:
    words = small_tokenizer().words("It's 12 today, 今天")
    text = "It's 12 today, 今天"
    assert [text[word[0].start : word[-1].end] for word in words] == [
        "It", "'s", " ", "1", "2", " today", ",", " 今天",
    ]  # fmt: skip


# --- Special tokens


def test_special_tokens_follow_the_vocabulary_in_order() -> None:
    tokenizer = small_tokenizer()
    first = small_bpe().get_vocab_size()
    marks = (
        "<|endoftext|><|im_start|><|im_end|><|endofprompt|>[breath]<strong></strong>[noise][laughter][cough]"
    )
    marks += (
        "[clucking][accent][quick_breath]<laughter></laughter>[hissing][sigh][vocalized-noise][lipsmack][mn]"
    )
    assert tokenizer.encode(marks, allow_special=True) == list(range(first, first + 20))
    assert tokenizer.end_of_prompt == first + 3
    assert tokenizer.num_ids == first + 20


def test_cosyvoice3_goes_on_with_sounds(folder: Path) -> None:
    tokenizer = TextTokenizer.load(folder, 3)
    first = small_bpe().get_vocab_size() + 20
    assert tokenizer.encode("<|endofsystem|>[AA][AA0][AA1][AA2][AE]", allow_special=True) == list(
        range(first, first + 6)
    )
    assert tokenizer.encode("[Z][ZH][a][ai][an][ang]", allow_special=True) == list(
        range(first + 83, first + 89)
    )
    assert tokenizer.encode("[ǘ][ǚ][ǜ]", allow_special=True) == list(range(first + 258, first + 261))
    assert tokenizer.num_ids == first + 261


def test_special_tokens_are_text_in_what_users_send() -> None:
    tokenizer = small_tokenizer()
    text = "好的<|endofprompt|>[breath]</strong><|im_end|>"
    ids = tokenizer.encode(text)
    assert ids == small_bpe().encode(text).ids
    assert max(ids) < small_bpe().get_vocab_size()
    allowed = tokenizer.encode(text, allow_special=True)
    assert len(allowed) == len(tokenizer.encode("好的")) + 4


def test_places_hold_across_special_tokens() -> None:
    text = f"好的{END_OF_PROMPT}hello"
    tokens = small_tokenizer().tokens(text, allow_special=True)
    mark = next(token for token in tokens if token.id == small_tokenizer().end_of_prompt)
    assert text[mark.start : mark.end] == END_OF_PROMPT
    assert tokens[-1].end == len(text)


def test_a_tag_the_vocabulary_knows_keeps_its_id(folder: Path) -> None:
    vocab = json.loads((folder / "vocab.json").read_text())
    (folder / "tokenizer_config.json").unlink()
    change(folder / "vocab.json", **{"[mn]": len(vocab)})
    tokenizer = TextTokenizer.load(folder, 2)
    assert tokenizer.encode("[mn]", allow_special=True) == [len(vocab)]
    assert tokenizer.num_ids == len(vocab) + 20


def test_the_real_vocabulary_gets_the_trained_id(tmp_path: Path) -> None:
    folder = write_official(tmp_path)
    vocab = json.loads((folder / "vocab.json").read_text())
    change(folder / "vocab.json", **{f"filler {n}": n for n in range(len(vocab), 151_643)})
    (folder / "tokenizer_config.json").write_text("{}")
    assert TextTokenizer.load(folder, 2).end_of_prompt == 151_646


# --- Files


def test_one_file_is_as_good_as_three(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    bpe = small_bpe()
    bpe.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    bpe.save(str(whole / "tokenizer.json"))
    expected, tokenizer = TextTokenizer.load(folder, 3), TextTokenizer.load(whole, 3)
    assert tokenizer.end_of_prompt == expected.end_of_prompt
    for text in (*TEXTS, "a[breath]b"):
        for allow_special in (True, False):
            assert tokenizer.tokens(text, allow_special) == expected.tokens(text, allow_special)


def test_a_missing_configuration_is_no_loss(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    assert TextTokenizer.load(folder, 2).end_of_prompt == small_tokenizer().end_of_prompt


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(TokenizerError, match=f"{name}: the file is missing") as caught:
        TextTokenizer.load(folder, 2)
    assert caught.value.path == folder / name


BROKEN = {
    "vocab.json": [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"a": "b"}', "the ids of the vocabulary"),
        ('{"a": [1]}', "the ids of the vocabulary"),
        ('{"a": 0, "b": 0}', "the ids of the vocabulary"),
        ('{"a": 0}', "255 of the 256 bytes"),
    ],
    "merges.txt": [("one two three", "not a merge of two")],
    "tokenizer_config.json": [
        ('{"added_tokens_decoder": 5}', "not understood"),
        ('{"added_tokens_decoder": {"5": {}}}', "not understood"),
        ('{"added_tokens_decoder": {"x": {"content": "a"}}}', "not understood"),
    ],
}


@pytest.mark.parametrize(
    ("name", "content", "reason"), [(name, *case) for name, cases in BROKEN.items() for case in cases]
)
def test_a_broken_file_is_named_with_the_reason(folder: Path, name: str, content: str, reason: str) -> None:
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(TokenizerError, match=f"^{name}: .*{reason}"):
        TextTokenizer.load(folder, 2)


def test_a_merge_of_what_is_no_token_is_told(folder: Path) -> None:
    (folder / "merges.txt").write_text("x 今天", encoding="utf-8")
    with pytest.raises(TokenizerError, match="the merge of 'x' and '今天' is not in the vocabulary"):
        TextTokenizer.load(folder, 2)


def test_bytes_that_are_no_text_are_told(folder: Path) -> None:
    (folder / "merges.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(TokenizerError, match="cannot be read"):
        TextTokenizer.load(folder, 2)


def test_added_tokens_must_have_the_next_ids(folder: Path) -> None:
    change(folder / "tokenizer_config.json", added_tokens_decoder={"9999": {"content": "<|endoftext|>"}})
    with pytest.raises(TokenizerError, match="has the id 9999"):
        TextTokenizer.load(folder, 2)


def test_another_added_token_before_the_specials_is_refused(folder: Path) -> None:
    first = small_bpe().get_vocab_size()
    change(folder / "tokenizer_config.json", added_tokens_decoder={str(first): {"content": "<|object|>"}})
    with pytest.raises(TokenizerError, match="instead of"):
        TextTokenizer.load(folder, 2)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"pre_tokenizer": {"type": "Whitespace"}}, "does not split text as Qwen2"),
        ({"pre_tokenizer": None}, "does not split text as Qwen2"),
        ({"model": {"type": "Unigram"}}, "Unigram, not BPE"),
        ({"model": {"type": "BPE"}}, "not understood"),
        ({"added_tokens": None}, "not understood"),
    ],
)
def test_another_kind_of_tokenizer_is_refused(
    tmp_path: Path, entries: dict[str, object], reason: str
) -> None:
    path = tmp_path / "tokenizer.json"
    small_bpe().save(str(path))
    change(path, **entries)
    with pytest.raises(TokenizerError, match=reason):
        TextTokenizer.load(tmp_path, 2)
