# client: vendors
"""Cartesia's SDK, pointed here: text goes in while audio comes out."""

import os
import threading
import wave

from cartesia import Cartesia

http = os.environ.get("COSYDUPLEX_URL", "http://127.0.0.1:8765")
client = Cartesia(api_key="local", websocket_base_url=http.replace("http", "ws", 1))
output = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24000}

with client.tts.websocket_connect() as socket, wave.open("cartesia.wav", "wb") as file:
    file.setparams((1, 2, 24000, 0, "NONE", ""))
    voice = {"mode": "id", "id": "694f9389-aac1-45b6-b726-9d9369183238"}
    context = socket.context(model_id="sonic-3", voice=voice, output_format=output)

    def write():
        for token in ("The first words ", "are heard while ", "the last ones are being ", "thought of."):
            context.push(token)
        context.no_more_inputs()

    threading.Thread(target=write).start()
    for event in context.receive():
        if event.type == "chunk":
            file.writeframes(event.audio)
