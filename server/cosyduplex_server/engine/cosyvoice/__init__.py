"""The CosyVoice engine: its checkpoint, its voices, its requests, and the worker that runs them.

    text ─► plan (units of text tokens) ─► interleave (rows for the LM) ─► speech tokens
         ─► flow, a chunk of 25 tokens at a time ─► mel ─► vocoder ─► samples

Requests and the scheduler know no tensors; `runner` turns their batches into tensors and back.
"""
