"""The CosyDuplex server: doors, sessions, text, audio and the link to the engine workers."""
