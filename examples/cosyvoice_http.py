# client: vendors
# What upstream CosyVoice's HTTP client does: a form, sent with GET, and raw samples back. They say nothing of
# their rate: start the server with --cosyvoice-rate 22050 for clients that cannot be changed.
import os
import wave

import requests

url = os.environ.get("COSYDUPLEX_URL", "http://127.0.0.1:8765")
rate_hz = requests.get(f"{url}/v1/info", timeout=30).json()["sample_rate"]
form = {"tts_text": "收到好友从远方寄来的生日礼物。", "spk_id": "中文女"}
with (
    requests.get(f"{url}/inference_sft", data=form, stream=True, timeout=30) as answer,
    wave.open("cosyvoice_http.wav", "wb") as file,
):
    answer.raise_for_status()
    file.setparams((1, 2, rate_hz, 0, "NONE", ""))
    for piece in answer.iter_content(16000):
        file.writeframes(piece)
