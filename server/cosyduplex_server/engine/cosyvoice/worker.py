"""The CosyVoice engine as a worker process: its options, and what it is made of."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import Final

import torch

import cosyduplex
from cosyduplex_server.engine.cosyvoice.checkpoint import Checkpoint
from cosyduplex_server.engine.cosyvoice.engine import PARAMETERS, CosyVoiceEngine, Options
from cosyduplex_server.engine.cosyvoice.files import CheckpointError
from cosyduplex_server.engine.cosyvoice.loading import choose_device, choose_dtype, load_models, make_runner
from cosyduplex_server.engine.cosyvoice.options import PROG, add_options
from cosyduplex_server.engine.cosyvoice.prompt import PromptEncoder
from cosyduplex_server.engine.cosyvoice.tokenizer import TextTokenizer, TokenizerError
from cosyduplex_server.engine.cosyvoice.voice import Voice
from cosyduplex_server.engine.cosyvoice.voice_book import VoiceBook
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.worker import EngineUnavailable
from cosyduplex_server.engine.worker_process import run_worker
from cosyduplex_server.models.config import SAMPLE_RATE_HZ

logger = logging.getLogger(__name__)

CPU_SLOTS: Final = 4
CUDA_SLOTS: Final = 16


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the worker, and returns its exit code."""
    return run_worker(_start, argv, prog=PROG, parents=[options_parser()])


def options_parser() -> argparse.ArgumentParser:
    """The engine's own options."""
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser)
    return parser


async def _start(options: argparse.Namespace) -> CosyVoiceEngine:
    return await asyncio.to_thread(make_engine, options)


def make_engine(options: argparse.Namespace) -> CosyVoiceEngine:
    """Loads everything; takes from a second to a minute.

    Raises:
        EngineUnavailable: it cannot be had, in one line.
    """
    if options.model_dir is None:
        raise EngineUnavailable("--model-dir DIR is missing: an official CosyVoice2 checkpoint")
    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    slots = options.slots or (CUDA_SLOTS if device.type == "cuda" else CPU_SLOTS)
    try:
        checkpoint = Checkpoint(options.model_dir)
        tokenizer = TextTokenizer.load(checkpoint.tokenizer_dir, checkpoint.config.generation)
        book = _make_book(checkpoint, options.first_hop_tokens)
        models = load_models(checkpoint, dtype, device)
    except (CheckpointError, TokenizerError) as error:
        raise EngineUnavailable(str(error)) from error
    except torch.OutOfMemoryError:
        raise EngineUnavailable(f"{device} has not enough memory for the models") from None
    if tokenizer.end_of_prompt != checkpoint.config.lm.end_of_prompt:
        raise EngineUnavailable(
            f"{checkpoint.tokenizer_dir.name}: <|endofprompt|> is token {tokenizer.end_of_prompt}, the model "
            f"was trained with {checkpoint.config.lm.end_of_prompt}; take the tokenizer that came with it"
        )
    runner = make_runner(models, slots=slots, reduce_memory=options.reduce_memory)
    runner.warm_up()
    return CosyVoiceEngine(
        runner,
        tokenizer,
        book,
        _describe(checkpoint, book, device, slots),
        Options(
            slots=slots,
            text_start=options.text_start,
            start_tokens=options.start_tokens,
            upstream_end=options.upstream_end,
        ),
    )


def _make_book(checkpoint: Checkpoint, first_hop_tokens: int) -> VoiceBook:
    for missing in checkpoint.missing:
        logger.warning("%s is %s: %s", missing.file, missing.problem, missing.effect)
    for name, reason in checkpoint.odd_speakers.items():
        logger.warning("the voice %s is left out: %s", name, reason)
    encoder = None
    if checkpoint.campplus is not None and checkpoint.speech_tokenizer is not None:
        encoder = PromptEncoder(
            checkpoint.campplus,
            checkpoint.speech_tokenizer,
            mel_fmax_hz=checkpoint.config.prompt_mel_fmax_hz,
            num_speech_tokens=checkpoint.config.flow.speech_tokens,
        )
    own = [Voice.from_speaker(name, speaker) for name, speaker in checkpoint.speakers.items()]
    return VoiceBook(own, encoder, first_hop_tokens=first_hop_tokens)


def _describe(checkpoint: Checkpoint, book: VoiceBook, device: torch.device, slots: int) -> link.Description:
    notes = ["Word times are estimated."]
    notes += [f"{missing.file} is {missing.problem}: {missing.effect}" for missing in checkpoint.missing]
    return link.Description(
        engine=f"cosyvoice{checkpoint.config.generation}",
        engine_version=cosyduplex.__version__,
        model=checkpoint.name,
        device=str(device),
        sample_rate_hz=SAMPLE_RATE_HZ,
        exact_marks=False,
        parameters=PARAMETERS,
        slots=slots,
        notes=notes,
        text_streaming=True,
        clones_voices=book.can_add,
    )


if __name__ == "__main__":
    sys.exit(main())
