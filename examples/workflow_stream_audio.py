# client: vendors
# What a real-time workflow of Intelligent Media Services sends: a form; back comes PCM at the rate it names.
import json
import os
import wave

import requests

url = os.environ.get("COSYDUPLEX_URL", "http://127.0.0.1:8765")
form = {
    "Text": "您好，请问有什么可以帮您？",
    "SampleRate": 48000,
    "Token": os.environ.get("COSYDUPLEX_API_KEY", ""),
    "ExtendData": json.dumps({"InstanceId": "1", "ChannelId": "1", "SentenceId": 1, "Emotion": "happy"}),
}
with (
    requests.post(f"{url}/stream-audio", data=form, stream=True, timeout=30) as answer,
    wave.open("workflow_stream_audio.wav", "wb") as file,
):
    answer.raise_for_status()
    file.setparams((1, 2, 48000, 0, "NONE", ""))
    for piece in answer.iter_content(None):
        file.writeframes(piece)
