# client: vendors
# DashScope's CosyVoice SDK: text while it is written, audio while it is made.
import os

import dashscope
from dashscope.audio.tts_v2 import AudioFormat, ResultCallback, SpeechSynthesizer

dashscope.api_key = "local"
dashscope.base_websocket_api_url = os.environ["COSYDUPLEX_WS_URL"] + "/api-ws/v1/inference"

with open("answer.wav", "wb") as file:

    class Out(ResultCallback):
        def on_data(self, data: bytes) -> None:
            file.write(data)

    tts = SpeechSynthesizer(
        model="cosyvoice-v3-flash",
        voice="longanyang",
        format=AudioFormat.WAV_24000HZ_MONO_16BIT,
        callback=Out(),
    )
    for piece in ("The first words are ", "heard while the last ", "ones are being written."):
        tts.streaming_call(piece)
    tts.streaming_complete()
