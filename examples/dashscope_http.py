# client: vendors
# DashScope's HTTP SDK: a whole text, its audio by URL.
import os
import urllib.request

import dashscope
from dashscope.audio.http_tts.http_speech_synthesizer import HttpSpeechSynthesizer

dashscope.api_key = "local"
dashscope.base_http_api_url = os.environ["COSYDUPLEX_URL"] + "/api/v1"

result = HttpSpeechSynthesizer.call(
    model="cosyvoice-v3-flash", text="This is spoken and kept for ten minutes.", voice="longanyang"
)
urllib.request.urlretrieve(result.audio_url, "answer.wav")
