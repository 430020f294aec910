# client: vendors
"""Deepgram's SDK, pointed here: text goes in while audio comes out."""

import os
import threading
import wave

from deepgram import DeepgramClient
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from deepgram.speak.v1.types import SpeakV1Text

http = os.environ.get("COSYDUPLEX_URL", "http://127.0.0.1:8765")
ws = http.replace("http", "ws", 1)
there = DeepgramClientEnvironment(base=http, production=ws, agent=ws, agent_rest=http)
audio, flushed = [], threading.Event()


def take(message):
    if isinstance(message, bytes):
        audio.append(message)
    elif message.type == "Flushed":
        flushed.set()


with DeepgramClient(api_key="local", environment=there).speak.v1.connect(
    model="aura-2-thalia-en", encoding="linear16", sample_rate=24000
) as socket:
    socket.on(EventType.MESSAGE, take)
    threading.Thread(target=socket.start_listening, daemon=True).start()
    for token in ("The first words ", "are heard while ", "the last ones are being ", "thought of."):
        socket.send_text(SpeakV1Text(text=token))
    socket.send_flush()
    flushed.wait(20)

with wave.open("deepgram.wav", "wb") as file:
    file.setparams((1, 2, 24000, 0, "NONE", ""))
    file.writeframes(b"".join(audio))
