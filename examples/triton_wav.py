# client: vendors
# NVIDIA's tritonclient at the model cloudsway_tts: a WAV file, written while it is being made.
import os
import queue

import numpy as np
import tritonclient.grpc as triton


def tensor(name, value, datatype="BYTES", dtype=np.object_):
    made = triton.InferInput(name, [1], datatype)
    made.set_data_from_numpy(np.array([value], dtype))
    return made


answers = queue.Queue()
url = os.environ.get("COSYDUPLEX_TRITON", "127.0.0.1:8001")
with triton.InferenceServerClient(url) as client, open("triton_wav.wav", "wb") as file:
    client.start_stream(lambda result, error: answers.put(error or result))
    texts = tensor("voice_id", "reference"), tensor("language", "zh"), tensor("text", "你好，世界。")
    key = tensor("api_key", os.environ.get("COSYDUPLEX_API_KEY", ""))
    client.async_stream_infer("cloudsway_tts", [*texts, tensor("sample_rate", 16000, "INT32", np.int32), key])
    while (chunk := answers.get().as_numpy("wav_output")[0]) != b"%END%":
        file.write(chunk)
