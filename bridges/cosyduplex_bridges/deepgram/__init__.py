"""Deepgram: the sockets `/v1/speak` (Aura) and `/v2/speak` (Flux), and `POST /v1/speak`."""
