# client: vendors
# Text in pieces, as a language model writes it: one Triton sequence, heard before its last piece is sent.
import os
import queue

import numpy as np
import tritonclient.grpc as triton

answers = queue.Queue()
pieces = ["The first sentence ", "is complete. ", "The second ", "is still ", "being written."]
url = os.environ.get("COSYDUPLEX_TRITON", "127.0.0.1:8001")
with triton.InferenceServerClient(url) as client, open("triton_sequence.wav", "wb") as file:
    headers = {"authorization": f"Bearer {os.environ.get('COSYDUPLEX_API_KEY', 'none')}"}
    client.start_stream(lambda result, error: answers.put(error or result), headers=headers)
    for number, piece in enumerate(pieces, start=1):
        text = triton.InferInput("text", [1], "BYTES")
        text.set_data_from_numpy(np.array([piece], np.object_))
        place = {"sequence_start": number == 1, "sequence_end": number == len(pieces)}
        client.async_stream_infer("cloudsway_tts", [text], sequence_id=1, **place)
    while (chunk := answers.get().as_numpy("wav_output")[0]) != b"%END%":
        file.write(chunk)
