# client: vendors
# Upstream CosyVoice's gRPC service, with stubs made from its .proto file on the spot.
import os
import sys
import tempfile
import wave
from pathlib import Path

import grpc
from grpc_tools import protoc

proto = Path(__file__).parents[1] / "bridges/cosyduplex_bridges/grpc_stubs/cosyvoice.proto"
sys.path.insert(0, stubs := tempfile.mkdtemp())
protoc.main(["", f"-I{proto.parent}", f"--python_out={stubs}", f"--grpc_python_out={stubs}", proto.name])
import cosyvoice_pb2  # noqa: E402
import cosyvoice_pb2_grpc  # noqa: E402

request = cosyvoice_pb2.Request()
request.sft_request.spk_id, request.sft_request.tts_text = "中文女", "你好，世界，很高兴认识你。"
metadata = [("x-api-key", os.environ.get("COSYDUPLEX_API_KEY", "none"))]
address = os.environ.get("COSYDUPLEX_COSYVOICE_GRPC", "127.0.0.1:50000")
with grpc.insecure_channel(address) as channel, wave.open("cosyvoice_grpc.wav", "wb") as file:
    # The rate of the model, which is CosyVoice2's here; the server's --cosyvoice-rate makes it another.
    file.setparams((1, 2, int(os.environ.get("COSYVOICE_RATE", "24000")), 0, "NONE", ""))
    for response in cosyvoice_pb2_grpc.CosyVoiceStub(channel).Inference(request, metadata=metadata):
        file.writeframes(response.tts_audio)
