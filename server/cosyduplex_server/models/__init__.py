"""CosyVoice's networks: modules of PyTorch that know neither sessions, nor queues, nor files.

State between calls is data that comes in as an argument: `kv_cache.PagedKV` and the `*Cache` of each model,
allocated once, in which a sequence is a slot number and a row of block numbers.
"""
