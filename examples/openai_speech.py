# client: vendors
# OpenAI's SDK: the same ten lines as at api.openai.com, and an MP3 that is written while it is being made.
import os

from openai import OpenAI

url = os.environ.get("COSYDUPLEX_URL", "http://127.0.0.1:8765")
client = OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("COSYDUPLEX_API_KEY", "none"))
with client.audio.speech.with_streaming_response.create(
    model="tts-1",
    voice="alloy",
    input="The first words are heard while the last ones are still being made.",
    speed=1.1,
) as speech:
    speech.stream_to_file("openai_speech.mp3")
