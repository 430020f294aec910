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
client = DeepgramClient(api_key="local", environment=there)

with (
    client.speak.v1.connect(model="en-f", encoding="linear16", sample_rate=24000) as socket,
    wave.open("deepgram.wav", "wb") as file,
):
    file.setparams((1, 2, 24000, 0, "NONE", ""))
    socket.on(EventType.MESSAGE, lambda message: isinstance(message, bytes) and file.writeframes(message))
    listening = threading.Thread(target=socket.start_listening)
    listening.start()
    for token in ("The first words ", "are heard while ", "the last ones are being ", "thought of."):
        socket.send_text(SpeakV1Text(text=token))
    socket.send_close()  # says what has not been spoken, and then the server closes
    listening.join()
