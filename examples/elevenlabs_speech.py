# client: vendors
"""ElevenLabs' SDK, pointed here: a text, and an MP3 that is written while it is being made."""

import os

from elevenlabs.client import ElevenLabs

url = os.environ.get("COSYDUPLEX_URL", "http://127.0.0.1:8765")
client = ElevenLabs(api_key="local", base_url=url)

with open("elevenlabs_speech.mp3", "wb") as file:
    for audio in client.text_to_speech.stream("JBFqnCBsd6RMkjVDRZzb", text="Heard while it is being made."):
        file.write(audio)
