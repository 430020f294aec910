"""One utterance of a stream: from the request that begins it to the response that ends it."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Awaitable, Callable
from typing import Final

from cosyduplex.errors import ErrorCode
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.grpc_calls import bad_request, crashes_as_failures, identify
from cosyduplex_bridges.grpc_stubs import kserve_pb2 as kserve
from cosyduplex_bridges.triton.models import DOOR, Model, Speech
from cosyduplex_bridges.triton.replies import audio_reply, error_reply, final_reply, wants_final
from cosyduplex_bridges.triton.statistics import Stopwatch
from cosyduplex_bridges.triton.tensors import Inputs
from cosyduplex_server.errors import Failure
from cosyduplex_server.utterance import Utterance

Reply = kserve.ModelStreamInferResponse
# The message is made when it is this one's turn to be written.
Send = Callable[[Callable[[], Reply]], Awaitable[None]]

_Decoder: Final = codecs.getincrementaldecoder("utf-8")


def check_caller(bridge: Bridge, model: Model, inputs: Inputs, credential: str | None) -> None:
    """Refuses who has no key, in the metadata or in the model's own tensor.

    Raises:
        Failure: `unauthorized`, or the tensor is not one.
    """
    key = inputs.text(model.key_input) if model.key_input is not None else None
    identify(bridge.gateway, DOOR, "speak", (credential, key))


def spoken_text(model: Model, inputs: Inputs) -> str:
    """What a whole request wants spoken.

    Raises:
        Failure: `bad_request`.
    """
    if model.text_input not in inputs:
        raise bad_request(f"input '{model.text_input}' is missing")
    text = inputs.text(model.text_input)
    if not text.strip():
        raise bad_request(f"input '{model.text_input}' is empty")
    return text


def ignored(model: Model, inputs: Inputs) -> list[str]:
    """A sentence for each input that the model does not know."""
    return [f"input '{name}' is not known and was ignored" for name in inputs.others(model.inputs)]


class Speaking:
    """An utterance that a stream's client wants, with its text in one request or in a sequence of them.

    Its responses carry the id of the last request that belongs to it.

    Args:
        bridge: what the doors share.
        model: which one speaks.
        request: the first, and perhaps the only one.
        sequence_id: of its sequence; None for a whole utterance.
        credential: from the stream's metadata.
        send: writes to the stream.
        send_soon: the same, without waiting.
    """

    def __init__(
        self,
        bridge: Bridge,
        model: Model,
        request: kserve.ModelInferRequest,
        sequence_id: str | int | None,
        credential: str | None,
        send: Send,
        send_soon: Callable[[Callable[[], Reply]], None],
    ) -> None:
        self._bridge = bridge
        self._model = model
        self._first = request
        self._sequence_id = sequence_id
        self._credential = credential
        self._send = send
        self._send_soon = send_soon
        self._id = request.id
        self._wants_final = wants_final(request)
        self._watch = Stopwatch()
        self._utterance: Utterance | None = None
        self._pieces: list[str] = []
        self._num_waiting_chars = 0
        self._decoder = _Decoder("surrogatepass")
        self._told = 0
        self._timer: asyncio.TimerHandle | None = None
        self.has_all_text = sequence_id is None
        self.is_over = False
        if sequence_id is not None:
            self._watch_sequence()

    # --- a sequence's text

    def take(self, request: kserve.ModelInferRequest, *, last: bool) -> None:
        """Takes the next request of the sequence.

        Raises:
            Failure: nothing of this request was taken; the sequence goes on.
        """
        if request is not self._first:
            self._answer_to(request)
        if self.is_over:  # it failed: what was on its way belongs to it, and is dropped with it
            return
        self._watch_sequence()
        try:
            self._add(self._piece(request))
        finally:
            if last:
                self.end()

    def _answer_to(self, request: kserve.ModelInferRequest) -> None:
        if self._wants_final:
            before = self._id
            self._send_soon(lambda: Reply(infer_response=final_reply(self._model.name, before)))
        self._id = request.id
        self._wants_final = wants_final(request)
        if self.is_over and self._wants_final:
            self._wants_final = False
            self._send_soon(lambda: Reply(infer_response=final_reply(self._model.name, request.id)))

    def _piece(self, request: kserve.ModelInferRequest) -> str:
        data = Inputs(request).blob(self._model.text_input) or b""
        try:
            # A language model's tokens may end within a character.
            return self._decoder.decode(data)
        except UnicodeDecodeError:
            self._decoder.reset()
            raise bad_request(f"input '{self._model.text_input}' is not UTF-8") from None

    def _add(self, text: str) -> None:
        if self._utterance is not None:
            self._utterance.append(text)
            return
        limits = self._bridge.gateway.limits
        if self._num_waiting_chars + len(text) > limits.max_pending_chars:
            raise Failure(
                ErrorCode.TEXT_TOO_LONG, f"{limits.max_pending_chars} characters of a sequence may wait"
            )
        self._num_waiting_chars += len(text)
        self._pieces.append(text)

    def end(self) -> None:
        """No more text follows."""
        self.has_all_text = True
        self._stop_watching()
        if self._utterance is not None:
            self._utterance.end()

    def close(self) -> None:
        """Frees what is left of it."""
        self.is_over = True
        self._stop_watching()

    def _watch_sequence(self) -> None:
        self._stop_watching()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._bridge.gateway.config.idle_s, self._on_idle)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_idle(self) -> None:
        if self._utterance is None or not self._utterance.is_silent:
            self._watch_sequence()  # it is the client that waits
            return
        idle_s = self._bridge.gateway.config.idle_s
        self._utterance.abort(
            Failure(
                ErrorCode.TIMEOUT,
                f"sequence {self._sequence_id} got no request for {idle_s:g} s and was ended",
            )
        )

    # --- its audio

    async def run(self) -> None:
        """Speaks it; every failure is told to the client.

        Raises:
            NotReading: the client takes nothing.
        """
        self._watch.start()
        succeeded = False
        try:
            with crashes_as_failures():
                await self._speak()
            succeeded = True
        except Failure as failure:
            await self._fail(failure)
        finally:
            self.close()
            statistics = self._model.statistics
            (statistics.succeeded if succeeded else statistics.failed)(self._watch)

    async def _speak(self) -> None:
        inputs = Inputs(self._first)
        check_caller(self._bridge, self._model, inputs, self._credential)
        self._model.check_outputs(self._first)
        if self._sequence_id is None:
            self._pieces = [spoken_text(self._model, inputs)]
        async with self._model.open(inputs) as speech:
            self._watch.open()
            speech.utterance.warnings.extend(ignored(self._model, inputs))
            self._open(speech.utterance)
            await self._pass_on(speech)
        await self._finish(speech.utterance)

    def _open(self, utterance: Utterance) -> None:
        self._utterance = utterance
        for piece in self._pieces:
            utterance.append(piece)
        self._pieces.clear()
        if self.has_all_text:
            utterance.end()

    async def _pass_on(self, speech: Speech) -> None:
        async for data in self._bridge.audio(speech.utterance, speech.encoder):
            # Three samples may spell the end; that no client may mistake them, they come apart.
            for piece in (data[:2], data[2:]) if data == self._model.end else (data,):
                await self._send_audio(piece, speech.utterance)

    async def _finish(self, utterance: Utterance) -> None:
        if self._model.end is not None:
            await self._send_audio(self._model.end, utterance, final=not self._wants_final)
        if self._wants_final:
            await self._send(lambda: Reply(infer_response=final_reply(self._model.name, self._id)))

    async def _send_audio(self, data: bytes, utterance: Utterance, *, final: bool = False) -> None:
        def make() -> Reply:
            warnings = utterance.warnings[self._told :]
            self._told = len(utterance.warnings)
            reply = audio_reply(self._model, self._id, data, final=final, warnings=warnings)
            if isinstance(self._sequence_id, int):
                reply.parameters["sequence_id"].int64_param = self._sequence_id
            elif self._sequence_id is not None:
                reply.parameters["sequence_id"].string_param = self._sequence_id
            return Reply(infer_response=reply)

        before = self._watch.output_ns
        started = asyncio.get_running_loop().time()
        await self._send(make)
        waited_s = asyncio.get_running_loop().time() - started
        self._watch.output_ns = before + round(waited_s * 1e9)

    async def _fail(self, failure: Failure) -> None:
        self.close()
        final = self._wants_final
        await self._send(lambda: error_reply(self._model.name, self._id, failure, final=not final))
        if final:
            await self._send(lambda: Reply(infer_response=final_reply(self._model.name, self._id)))
            self._wants_final = False
