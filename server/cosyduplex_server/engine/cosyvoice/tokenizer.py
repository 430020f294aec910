"""Text to the text tokens of the speech LM: Qwen2's byte-level BPE and the special tokens CosyVoice adds."""

from __future__ import annotations

import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from cosyduplex_server.models.config import Generation

END_OF_PROMPT: Final = "<|endofprompt|>"

# Where BPE must not merge: between matches of this.
_PRE_TOKEN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Qwen2 has as many tokens before the special ones; CosyVoice's models were trained with these ids.
_QWEN2_TOKENS: Final = 151_643
_QWEN2_END_OF_PROMPT: Final = 151_646

# A token gets the next free id in this order, unless the vocabulary knows it already.
_SPECIAL_TOKENS: Final = (
    "<|endoftext|> <|im_start|> <|im_end|> <|endofprompt|> [breath] <strong> </strong> [noise] [laughter] "
    "[cough] [clucking] [accent] [quick_breath] <laughter> </laughter> [hissing] [sigh] [vocalized-noise] "
    "[lipsmack] [mn]"
).split()

# CosyVoice3 goes on with sounds that can be spelt out: ARPABET, then parts of pinyin syllables, each in the
# order of their code points. The order is public; the ids were not checked against a released model.
_VOWELS: Final = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()
_CONSONANTS: Final = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()
_PINYIN: Final = """
    a ai an ang ao b c ch d e ei en eng f g h i ian in ing iu j k l m n o ong ou p q r s sh t u uang ue un uo
    w x y z zh
    ā āi ān āng āo ē ēi ēn ēng ī iā iān iāng iāo iē īn īng iōng iū ō ōng ōu ū uā uāi uān uāng uē uī ūn uō
    á ái án áng áo é éi én éng ér í iá ián iáng iáo ié ín íng ióng iú ó óng óu ú uá uái uán uáng ué uí ún uó ǘ
    ǎ ǎi ǎn ǎng ǎo ě ěi ěn ěng ěr ǐ iǎ iǎn iǎng iǎo iě ǐn ǐng iǒng iǔ ǒ ǒng ǒu ǔ uǎ uǎi uǎn uǎng uě uǐ ǔn uǒ ǚ
    à ài àn àng ào è èi èn èng èr ì ià iàn iàng iào iè ìn ìng iòng iù ò òng òu ù uà uài uàn uàng uè uì ùn uò ǜ
    vè
""".split()
_SPELLING: Final = [
    "<|endofsystem|>",
    *(
        f"[{sound}]"
        for sound in sorted([*_CONSONANTS, *(v + stress for v in _VOWELS for stress in ("", *"012"))])
    ),
    *(f"[{sound}]" for sound in sorted(_PINYIN)),
]

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class TokenizerError(Exception):
    """The files of a tokenizer are missing, broken, or not what CosyVoice was trained with."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name}: {reason}")
        self.path = path
        self.reason = reason


class TextToken(NamedTuple):
    """A token and the code points of the text it stands for; several share a character they are parts of."""

    id: int
    start: int
    end: int


class TextTokenizer:
    """Tokens of texts, with their places; may be used from any thread.

    Attributes:
        end_of_prompt: id of `<|endofprompt|>`.
        num_ids: all ids are below.
    """

    def __init__(self, plain: Tokenizer, special: Tokenizer) -> None:
        self._plain = plain
        self._special = special
        ids = special.get_vocab(with_added_tokens=True)
        self.end_of_prompt = ids[END_OF_PROMPT]
        self.num_ids = max(ids.values()) + 1

    @classmethod
    def load(cls, folder: Path, generation: Generation) -> Self:
        """The tokenizer of a model directory's `CosyVoice-BlankEN`.

        Reads `vocab.json` and `merges.txt`, with the added tokens of `tokenizer_config.json` where there is
        one; where there is no `vocab.json`, all of it from `tokenizer.json`.

        Raises:
            TokenizerError: a file cannot be used, or the ids would not be those of the model.
        """
        vocab, merges, added, path = _read(folder)
        _check_vocabulary(path, vocab, merges)
        model = models.BPE(vocab, merges)
        plain, special = _bpe(model), _bpe(model)
        for token, id_ in added:
            special.add_special_tokens([token])
            if special.token_to_id(token) != id_:
                raise TokenizerError(path, f"{token!r} has the id {id_}, which is not the next free one")
        special.add_special_tokens(_SPECIAL_TOKENS if generation == 2 else _SPECIAL_TOKENS + _SPELLING)
        tokenizer = cls(plain, special)
        _check_end_of_prompt(path, tokenizer.end_of_prompt, len(vocab))
        return tokenizer

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`.

        Args:
            text: any text; a lone surrogate is read as U+FFFD.
            allow_special: `<|endofprompt|>`, `[breath]` and the like are tokens of their own, for texts we
                write. Otherwise they are text like any other: what users send never controls the model.
        """
        return [token.id for token in self.tokens(text, allow_special)]

    def tokens(self, text: str, allow_special: bool = False) -> list[TextToken]:
        """As `encode`, with places: the first begins where the text begins, the last ends where it ends."""
        tokens, _ = _encode(self._special if allow_special else self._plain, text)
        return tokens

    def words(self, text: str) -> list[list[TextToken]]:
        """As `tokens`, in the groups BPE keeps apart: a word with its blank, a digit, punctuation."""
        tokens, words = _encode(self._plain, text)
        return [
            [token for token, _ in group]
            for _, group in groupby(zip(tokens, words, strict=True), key=lambda pair: pair[1])
        ]


def _encode(tokenizer: Tokenizer, text: str) -> tuple[list[TextToken], list[int | None]]:
    """The tokens, and of each the number of its group."""
    encoding = tokenizer.encode(_LONE_SURROGATE.sub("\ufffd", text), add_special_tokens=False)
    starts = [start for start, _ in encoding.offsets]
    # The library gives a character composed of two, e and its accent, the place of the first: it takes both.
    end, ends = len(text), [len(text)] * len(starts)
    for place in range(len(starts) - 2, -1, -1):
        if starts[place] < starts[place + 1]:
            end = starts[place + 1]
        ends[place] = end
    return list(map(TextToken, encoding.ids, starts, ends)), encoding.word_ids


def _read(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]], list[tuple[str, int]], Path]:
    """Vocabulary, merges, added tokens in the order of their ids, and the file they are from."""
    whole = folder / "tokenizer.json"
    path = folder / "vocab.json"
    if whole.is_file() and not path.is_file():
        return *_read_whole(whole), whole
    vocab = _read_json(path)
    merges = [
        _pair(folder / "merges.txt", line)
        for line in _read_text(folder / "merges.txt").split("\n")
        if line.strip() and not line.startswith("#version")
    ]
    added: list[tuple[str, int]] = []
    config = folder / "tokenizer_config.json"
    if config.is_file():
        try:
            entries = _read_json(config).get("added_tokens_decoder", {})
            added = sorted(((entry["content"], int(id_)) for id_, entry in entries.items()), key=_second)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise TokenizerError(config, "added_tokens_decoder is not understood") from error
    return vocab, merges, added, path


def _read_whole(path: Path) -> tuple[dict[str, int], list[tuple[str, str]], list[tuple[str, int]]]:
    whole = _read_json(path)
    if _PRE_TOKEN not in _regexes(whole.get("pre_tokenizer")):
        raise TokenizerError(path, "it does not split text as Qwen2's does")
    try:
        model = whole["model"]
        if model["type"] != "BPE":
            raise TokenizerError(path, f"the model is {model['type']}, not BPE")
        merges = [_pair(path, merge) for merge in model["merges"]]
        added = sorted(((entry["content"], entry["id"]) for entry in whole["added_tokens"]), key=_second)
        return model["vocab"], merges, added
    except (KeyError, TypeError) as error:
        raise TokenizerError(path, "the model is not understood") from error


def _second(entry: tuple[str, int]) -> int:
    return entry[1]


def _regexes(pre_tokenizer: Any) -> list[Any]:
    """The regular expressions of a pre-tokenizer or of the parts of one."""
    if not isinstance(pre_tokenizer, dict):
        return []
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return [part["pattern"].get("Regex") for part in parts if isinstance(part.get("pattern"), dict)]


def _pair(path: Path, merge: object) -> tuple[str, str]:
    """A merge: "left right", in newer files [left, right]."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) for part in parts):
        return parts[0], parts[1]
    raise TokenizerError(path, f"{merge!r} is not a merge of two tokens")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise TokenizerError(path, "the file is missing") from error
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(path, f"the file cannot be read ({error})") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise TokenizerError(path, f"it is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise TokenizerError(path, "it is not a JSON object")
    return content


def _check_vocabulary(path: Path, vocab: dict[str, int], merges: list[tuple[str, str]]) -> None:
    numbered = isinstance(vocab, dict) and all(isinstance(id_, int) for id_ in vocab.values())
    if not numbered or set(vocab.values()) != set(range(len(vocab))):
        raise TokenizerError(path, "the ids of the vocabulary are not 0, 1, 2, …")
    if missing := set(pre_tokenizers.ByteLevel.alphabet()) - vocab.keys():
        raise TokenizerError(path, f"{len(missing)} of the 256 bytes are no tokens")
    for left, right in merges:
        if left not in vocab or right not in vocab or left + right not in vocab:
            raise TokenizerError(path, f"the merge of {left!r} and {right!r} is not in the vocabulary")


def _check_end_of_prompt(path: Path, id_: int, num_tokens: int) -> None:
    expected = _QWEN2_END_OF_PROMPT if num_tokens >= _QWEN2_TOKENS else num_tokens + 3
    if id_ != expected:
        raise TokenizerError(path, f"{END_OF_PROMPT} would get the id {id_} instead of {expected}")


def _bpe(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PRE_TOKEN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer
