"""KServe's gRPC service, as far as a speech server has something to say to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import grpc

import cosyduplex
from cosyduplex.errors import ErrorCode
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.grpc_calls import (
    Call,
    ForeignFailure,
    Undecodable,
    answers,
    bad_request,
    credential,
    identify,
    warn,
)
from cosyduplex_bridges.grpc_stubs import kserve_pb2 as kserve
from cosyduplex_bridges.triton.models import DOOR, VERSION, CloudswayTts, CosyVoice2, Model
from cosyduplex_bridges.triton.replies import audio_reply
from cosyduplex_bridges.triton.speaking import check_caller, ignored, spoken_text
from cosyduplex_bridges.triton.statistics import Stopwatch
from cosyduplex_bridges.triton.stream import Stream, is_whole
from cosyduplex_bridges.triton.tensors import Inputs
from cosyduplex_server.errors import Failure
from cosyduplex_server.utterance import Sound, Utterance

EXTENSIONS: Final = ("sequence", "model_repository", "model_configuration", "parameters", "statistics")
# In one message: a quarter of an hour at 16 kHz. Streams have no such end.
_MAX_WHOLE_PCM_BYTES: Final = 32 * 1024 * 1024
_VERSIONS: Final = ("", VERSION)


class TritonService:
    """Answers Triton's clients.

    Args:
        bridge: what the doors share.
        closing: set when the server ends: streams then finish what they were asked for.
    """

    def __init__(self, bridge: Bridge, closing: asyncio.Event) -> None:
        self._bridge = bridge
        self._gateway = bridge.gateway
        self._closing = closing
        self._models: dict[str, Model] = {
            model.name: model for model in (CloudswayTts(bridge), CosyVoice2(bridge))
        }

    # --- the server; the first two are to gRPC what /healthz and /readyz are to HTTP, and need no key either

    @answers
    async def ServerLive(self, request: kserve.ServerLiveRequest, context: Call) -> kserve.ServerLiveResponse:
        """Whether it answers."""
        return kserve.ServerLiveResponse(live=True)

    @answers
    async def ServerReady(
        self, request: kserve.ServerReadyRequest, context: Call
    ) -> kserve.ServerReadyResponse:
        """Whether it takes work."""
        return kserve.ServerReadyResponse(ready=self._is_ready)

    @answers
    async def ServerMetadata(
        self, request: kserve.ServerMetadataRequest, context: Call
    ) -> kserve.ServerMetadataResponse:
        """What it is."""
        self._check_reader(context)
        return kserve.ServerMetadataResponse(
            name="cosyduplex", version=cosyduplex.__version__, extensions=EXTENSIONS
        )

    @answers
    async def RepositoryIndex(
        self, request: kserve.RepositoryIndexRequest, context: Call
    ) -> kserve.RepositoryIndexResponse:
        """Its models."""
        self._check_reader(context)
        state = "READY" if self._is_ready else "UNAVAILABLE"
        models = self._models if self._is_ready or not request.ready else ()
        index = kserve.RepositoryIndexResponse.ModelIndex
        return kserve.RepositoryIndexResponse(
            models=[index(name=name, version=VERSION, state=state) for name in models]
        )

    # --- a model

    @answers
    async def ModelReady(self, request: kserve.ModelReadyRequest, context: Call) -> kserve.ModelReadyResponse:
        """Whether a model takes work; one that is not there does not."""
        self._check_reader(context)
        known = request.name in self._models and request.version in _VERSIONS
        return kserve.ModelReadyResponse(ready=known and self._is_ready)

    @answers
    async def ModelMetadata(
        self, request: kserve.ModelMetadataRequest, context: Call
    ) -> kserve.ModelMetadataResponse:
        """What it takes and gives."""
        self._check_reader(context)
        return self._find(request.name, request.version).metadata

    @answers
    async def ModelConfig(
        self, request: kserve.ModelConfigRequest, context: Call
    ) -> kserve.ModelConfigResponse:
        """How it runs."""
        self._check_reader(context)
        return kserve.ModelConfigResponse(config=self._find(request.name, request.version).config)

    @answers
    async def ModelStatistics(
        self, request: kserve.ModelStatisticsRequest, context: Call
    ) -> kserve.ModelStatisticsResponse:
        """What it has done; of every model where none is named."""
        self._check_reader(context)
        one = request.name or request.version
        models = [self._find(request.name, request.version)] if one else self._models.values()
        return kserve.ModelStatisticsResponse(
            model_stats=[model.statistics.message(model.name, VERSION) for model in models]
        )

    # --- speech

    @answers
    async def ModelInfer(self, request: kserve.ModelInferRequest, context: Call) -> kserve.ModelInferResponse:
        """One utterance, whole. Triton itself refuses this for models that stream."""
        model = self._find(request.model_name, request.model_version)
        if not is_whole(request):
            raise bad_request("text in pieces needs a stream", "Call ModelStreamInfer.")
        watch = Stopwatch()
        succeeded = False
        watch.start()
        try:
            reply = await self._speak(model, request, watch, context)
            succeeded = True
        finally:
            (model.statistics.succeeded if succeeded else model.statistics.failed)(watch)
        return reply

    async def _speak(
        self, model: Model, request: kserve.ModelInferRequest, watch: Stopwatch, context: Call
    ) -> kserve.ModelInferResponse:
        inputs = Inputs(request)
        check_caller(self._bridge, model, inputs, credential(context))
        model.check_outputs(request)
        text = spoken_text(model, inputs)
        async with model.open(inputs) as speech:
            utterance = speech.utterance
            watch.open()
            utterance.warnings.extend(ignored(model, inputs))
            utterance.append(text)
            utterance.end()
            pcm = await _whole_pcm(utterance)
        warn(context, utterance.warnings)
        data = model.whole(pcm, utterance.sample_rate_hz)
        return audio_reply(model, request.id, data, final=True, warnings=utterance.warnings)

    @answers
    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[kserve.ModelInferRequest | Undecodable], context: Call
    ) -> None:
        """Any number of utterances, each answered as it is made."""
        await Stream(self._bridge, self._find, context, self._closing).run(request_iterator)

    # --- what they share

    @property
    def _is_ready(self) -> bool:
        return self._gateway.pool.ready and not self._gateway.draining

    def _check_reader(self, context: Call) -> None:
        identify(self._gateway, DOOR, "read", (credential(context),))

    def _find(self, name: str, version: str) -> Model:
        model = self._models.get(name)
        if model is None or version not in _VERSIONS:
            which = f"'{name[:100]}'" + (f" version {version[:20]}" if version else "")
            raise ForeignFailure(
                grpc.StatusCode.NOT_FOUND, f"Request for unknown model: {which} is not found"
            )
        return model


async def _whole_pcm(utterance: Utterance) -> bytes:
    pieces = []
    num_bytes = 0
    async for event in utterance:
        if isinstance(event, Sound):
            pieces.append(event.pcm)
            num_bytes += len(pieces[-1])
            if num_bytes > _MAX_WHOLE_PCM_BYTES:
                raise Failure(
                    ErrorCode.TEXT_TOO_LONG,
                    "this is too long for one response",
                    "Call ModelStreamInfer, which answers as it is made.",
                )
    return b"".join(pieces)
