"""Memory is reserved for the longest speech and taken as speech is made."""

from __future__ import annotations

import os

import torch
from cosyvoice_server.serving import memory_kb

from cosyduplex_server.models.kv_cache import PagedKV


def test_a_block_takes_its_own_size_however_much_is_reserved():
    layers, heads, rows, width = 64, 4, 50, 64
    kv = PagedKV(
        num_layers=layers,
        num_blocks=500,
        num_heads=heads,
        block_rows=rows,
        head_dim=width,
        dtype=torch.float32,
        device="cpu",
    )
    k = v = torch.ones(1, heads, rows, width)
    block = torch.tensor([250])
    before_kb = memory_kb(os.getpid())
    for layer in range(layers):
        kv.write_blocks(layer, block, k, v)
    # Its pieces lie apart and end within pages; with pages of 2 MB they would take a gigabyte.
    assert memory_kb(os.getpid()) - before_kb < 4 * kv.block_bytes / 1024
    assert torch.equal(kv.gather(layers - 1, block[None])[0], k)
