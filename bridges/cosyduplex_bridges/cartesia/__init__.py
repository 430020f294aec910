"""Cartesia: the socket `/tts/websocket`, `POST /tts/bytes` and `POST /tts/sse`."""
