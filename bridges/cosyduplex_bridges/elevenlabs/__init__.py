"""ElevenLabs: the sockets `stream-input` and `multi-stream-input`, and the HTTP routes for whole texts."""
