"""The Triton door: KServe's v2 protocol over gRPC, with the models `cloudsway_tts` and `cosyvoice2`."""
