# client: vendors
# DashScope's Qwen realtime SDK: a session that speaks what is appended.
import base64
import os
import threading

from dashscope.audio.qwen_tts_realtime import QwenTtsRealtime, QwenTtsRealtimeCallback

finished = threading.Event()
with open("answer.mp3", "wb") as file:

    class Out(QwenTtsRealtimeCallback):
        def on_event(self, event: dict) -> None:
            if event["type"] == "response.audio.delta":
                file.write(base64.b64decode(event["delta"]))
            if event["type"] == "session.finished":
                finished.set()

    url = os.environ["COSYDUPLEX_WS_URL"] + "/api-ws/v1/realtime"
    tts = QwenTtsRealtime(model="qwen3-tts-flash-realtime", callback=Out(), url=url)
    tts.connect()
    tts.update_session(voice="Cherry", audio_format="mp3")
    tts.append_text("The first words are heard while ")
    tts.append_text("the last ones are being written.")
    tts.finish()
    finished.wait(30)
