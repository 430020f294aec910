"""What a user may choose about the engine; needs no PyTorch."""

from __future__ import annotations

import argparse
from typing import Final

PROG: Final = "cosyduplex worker --engine cosyvoice"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the engine's own options to a command line."""
    parser.add_argument("--model-dir", metavar="DIR", help="directory of a CosyVoice checkpoint")
    parser.add_argument("--device", default="auto", help="where CosyVoice runs: auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=("auto", "float32", "bfloat16"),
        help="of the weights; auto is bfloat16 on a GPU and float32 on a CPU",
    )
    parser.add_argument("--reduce-memory", action="store_true", help="smaller caches for CosyVoice")
    parser.add_argument("--threads", type=_count, metavar="N", help="CPU threads of the models")
    parser.add_argument(
        "--text-start",
        default="clause",
        choices=("clause", "interleave", "sentence"),
        help="how much of a sentence CosyVoice waits for before it begins to speak",
    )
    parser.add_argument(
        "--start-tokens",
        type=_count,
        default=8,
        metavar="N",
        help="text tokens after which `--text-start clause` does not wait for the clause to end",
    )
    parser.add_argument(
        "--first-hop-tokens",
        type=int,
        choices=range(5, 26),
        default=10,
        metavar="N",
        help="speech tokens in the first chunk of a voice with a recording, 5 to 25",
    )
    parser.add_argument(
        "--upstream-end",
        action="store_true",
        help="compute the whole utterance anew for its last chunk, as upstream does",
    )


def as_arguments(options: argparse.Namespace) -> list[str]:
    """The command line that `add_options` reads as these options."""
    arguments = ["--device", options.device, "--dtype", options.dtype, "--text-start", options.text_start]
    arguments += ["--start-tokens", str(options.start_tokens)]
    arguments += ["--first-hop-tokens", str(options.first_hop_tokens)]
    if options.model_dir is not None:
        arguments += ["--model-dir", options.model_dir]
    if options.threads is not None:
        arguments += ["--threads", str(options.threads)]
    arguments += ["--reduce-memory"] if options.reduce_memory else []
    return arguments + (["--upstream-end"] if options.upstream_end else [])


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
