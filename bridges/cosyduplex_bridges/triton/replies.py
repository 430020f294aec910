"""The messages that a client of the Triton door gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cosyduplex_bridges.grpc_calls import explain
from cosyduplex_bridges.grpc_stubs import kserve_pb2 as kserve
from cosyduplex_bridges.triton.models import VERSION, Model
from cosyduplex_server.errors import Failure
from cosyduplex_server.routes import WARNING_HEADER

FINAL: Final = "triton_final_response"
WANTS_FINAL: Final = "triton_enable_empty_final_response"


def wants_final(request: kserve.ModelInferRequest) -> bool:
    """Whether the client ends on an empty last response; others crash on one without the output."""
    return request.parameters[WANTS_FINAL].bool_param if WANTS_FINAL in request.parameters else False


def audio_reply(
    model: Model, request_id: str, data: bytes, *, final: bool = False, warnings: Iterable[str] = ()
) -> kserve.ModelInferResponse:
    """A response with a piece of output."""
    shape, raw = model.pack(data)
    reply = kserve.ModelInferResponse(
        model_name=model.name,
        model_version=VERSION,
        id=request_id,
        outputs=[
            kserve.ModelInferResponse.InferOutputTensor(
                name=model.output.name, datatype=model.output.datatype, shape=shape
            )
        ],
        raw_output_contents=[raw],
    )
    reply.parameters[FINAL].bool_param = final
    if told := " · ".join(warnings):
        reply.parameters[WARNING_HEADER].string_param = told.encode("utf-8", "replace").decode()
    return reply


def final_reply(name: str, request_id: str) -> kserve.ModelInferResponse:
    """The empty last response to a request."""
    reply = kserve.ModelInferResponse(model_name=name, model_version=VERSION, id=request_id)
    reply.parameters[FINAL].bool_param = True
    return reply


def error_reply(
    name: str, request_id: str, failure: Failure, *, final: bool
) -> kserve.ModelStreamInferResponse:
    """A failure, with the id that tells the client which request it is about; the stream lives on."""
    about = kserve.ModelInferResponse(model_name=name, id=request_id)
    about.parameters[FINAL].bool_param = final
    return kserve.ModelStreamInferResponse(error_message=explain(failure), infer_response=about)
