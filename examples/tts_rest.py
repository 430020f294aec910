# client: vendors
# The REST guide's `POST /tts`: PCM as it is made, its rate in a header.
import os
import wave

import requests

url = os.environ.get("COSYDUPLEX_URL", "http://127.0.0.1:8765")
body = {"text": "今天天气真好，我们出去走走吧。", "mode": "sft", "speaker_id": "中文女", "speed": 1.1}
with (
    requests.post(f"{url}/tts", json=body, stream=True, timeout=30) as answer,
    wave.open("tts_rest.wav", "wb") as file,
):
    answer.raise_for_status()
    file.setparams((1, 2, int(answer.headers["X-Sample-Rate"]), 0, "NONE", ""))
    for piece in answer.iter_content(None):
        file.writeframes(piece)
