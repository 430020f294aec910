"""A small tokenizer in the official layout, for tests of text."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from cosyduplex_server.engine.cosyvoice.tokenizer import TextTokenizer

PRE_TOKEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = [
    "今天天气很好，我们一起去公园玩吧。今天我们去公园，天气很好。我们一起玩，好吗？",
    "好的，没问题！我今天给你说一个故事：从前有一座山，山里有一座庙。",
    "The weather is lovely today, so we are going to the park together. It's a nice day, isn't it?",
    "Of course, I'll tell you a story: once upon a time there was a mountain in the north of the world.",
    "我用 iPhone 打了 3 个电话，花了 12.5 元。”他说。",
]

CHINESE_WORDS = (
    "今天 天气 很 好 ， 。 ？ ： 我们 一起 去 公园 玩 吧 吗 的 没 问题 给 你 说 一个 故事 从前 有 一座 山"
).split()


def small_bpe(vocab_size: int = 600) -> Tokenizer:
    """A byte-level BPE that knows the English of a few sentences, and of their Chinese the words."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKEN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator([*CORPUS[2:4] * 4, *CHINESE_WORDS * 8], trainer)
    return bpe


def write_official(folder: Path, bpe: Tokenizer | None = None) -> Path:
    """`vocab.json`, `merges.txt` and `tokenizer_config.json`, as `CosyVoice-BlankEN` has them."""
    model = json.loads((bpe or small_bpe()).to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    first = len(model["vocab"])
    added = {
        str(first + number): {"content": content, "special": True}
        for number, content in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    }
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": added}), encoding="utf-8"
    )
    return folder


@cache
def small_tokenizer() -> TextTokenizer:
    """The tokenizer of those files."""
    with TemporaryDirectory() as folder:
        return TextTokenizer.load(write_official(Path(folder)), 2)
