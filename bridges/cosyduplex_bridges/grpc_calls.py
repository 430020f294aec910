"""What every gRPC call here shares: who calls, how failures and warnings are told, and writes that end."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import quote

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from cosyduplex.errors import ERROR_KINDS, ErrorCode
from cosyduplex_server.access import Principal, credential_of
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import WARNING_HEADER

log = logging.getLogger(__name__)

Call = grpc.aio.ServicerContext[Any, Any]

ERROR_METADATA: Final = "x-cosyduplex-error"
RETRY_METADATA: Final = "x-cosyduplex-retry-after-ms"
# A head of metadata may have 8 KiB, by most clients' settings.
_MAX_WARNING_CHARS: Final = 1000
_MAX_DETAILS_CHARS: Final = 1000

STATUS: Final = {
    ErrorCode.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.FORBIDDEN_ORIGIN: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.UNKNOWN_VOICE: grpc.StatusCode.NOT_FOUND,
    ErrorCode.UNSUPPORTED_FORMAT: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.UNSUPPORTED_PARAMETER: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.TEXT_TOO_LONG: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.BAD_REFERENCE_AUDIO: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.OVER_CAPACITY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.ENGINE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.ENGINE_FAILED: grpc.StatusCode.INTERNAL,
    ErrorCode.RESUME_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorCode.INTERNAL: grpc.StatusCode.INTERNAL,
}


_Service = TypeVar("_Service")
_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class ForeignFailure(Failure):
    """A failure in the words of the protocol, which its clients' users search for.

    Args:
        status: the gRPC status.
        details: what happened.
    """

    def __init__(self, status: grpc.StatusCode, details: str) -> None:
        super().__init__(ErrorCode.BAD_REQUEST, details)
        self.status = status


class NotReading(Exception):
    """The client has taken nothing for too long, or is gone."""


class Undecodable:
    """What a handler gets in place of a message that is none."""


def add_service(server: grpc.aio.Server, descriptor: ServiceDescriptor, service: object) -> None:
    """Has a server answer the calls of a service with the methods of `service` that have their names.

    What cannot be decoded comes to the methods as `Undecodable`: gRPC's own handlers log a traceback of it.
    """
    makers: dict[tuple[bool, bool], Callable[..., Any]] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    handlers = {
        method.name: makers[method.client_streaming, method.server_streaming](
            getattr(service, method.name),
            request_deserializer=_tolerant(GetMessageClass(method.input_type)),
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
        for method in descriptor.methods
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(descriptor.full_name, handlers),))


def _tolerant(message_class: type[Message]) -> Callable[[bytes], Message | Undecodable]:
    def decode(data: bytes) -> Message | Undecodable:
        try:
            return message_class.FromString(data)
        except DecodeError:
            return Undecodable()

    return decode


def undecodable() -> Failure:
    """The failure of an `Undecodable`."""
    return bad_request("the message is not the one that this call takes, or holds text that is not UTF-8")


def bad_request(message: str, solution: str | None = None) -> Failure:
    """A `bad_request`."""
    return Failure(ErrorCode.BAD_REQUEST, message, solution)


def credential(call: Call) -> str | None:
    """The key or token in a call's metadata."""
    metadata = call.invocation_metadata() or ()
    return credential_of({name: value for name, value in metadata if isinstance(value, str)})


def identify(gateway: Gateway, door: str, scope: str, offered: Iterable[str | None]) -> Principal:
    """Finds out who calls, by the first credential offered that is good.

    Raises:
        Failure: `unauthorized`.
    """
    given: list[str | None] = [each for each in offered if each] or [None]
    for each in given[:-1]:
        try:
            return gateway.gatekeeper.identify(each, door, scope)
        except Failure:
            continue
    return gateway.gatekeeper.identify(given[-1], door, scope)


def explain(failure: Failure) -> str:
    """The failure in one line: its code, what happened, what to do."""
    if isinstance(failure, ForeignFailure):
        return _encodable(failure.message)
    solution = failure.solution or ERROR_KINDS[failure.code].solution
    return _encodable(f"{failure.code}: {failure.message.rstrip('.')}. {solution}")


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:_MAX_DETAILS_CHARS]


async def refuse(call: Call, failure: Failure) -> NoReturn:
    """Ends a call with a failure's status."""
    metadata = [(ERROR_METADATA, str(failure.code))]
    if failure.retry_after_ms is not None:
        metadata.append((RETRY_METADATA, str(failure.retry_after_ms)))
    status = failure.status if isinstance(failure, ForeignFailure) else STATUS[failure.code]
    await call.abort(status, explain(failure), tuple(metadata))
    raise AssertionError("abort returned")


def answers(
    method: Callable[[_Service, _Request, Call], Awaitable[_Answer]],
) -> Callable[[_Service, _Request, Call], Awaitable[_Answer]]:
    """The edge of a call: what goes wrong inside becomes its status."""

    @functools.wraps(method)
    async def answer(service: _Service, request: _Request, context: Call) -> _Answer:
        try:
            if isinstance(request, Undecodable):
                raise undecodable()
            with crashes_as_failures():
                return await method(service, request, context)
        except Failure as exc:
            failure = exc
        except NotReading:
            log.warning("a gRPC client reads nothing: its call is ended")
            failure = Failure(ErrorCode.TIMEOUT, "nothing was read for too long")
        try:
            await refuse(context, failure)
        except grpc.aio.InternalError:  # the status had no room before the client went away
            raise asyncio.CancelledError from None

    return answer


@contextmanager
def crashes_as_failures() -> Iterator[None]:
    """The edge of a call, or of one utterance of a stream: a mistake of ours ends it and nothing else.

    Raises:
        Failure: what was raised inside, or `internal` for a mistake.
    """
    try:
        yield
    except (Failure, NotReading):
        raise
    except Exception:
        log.exception("gRPC call crashed")
        raise Failure(ErrorCode.INTERNAL, "something went wrong in the server") from None


def warn(call: Call, warnings: Iterable[str]) -> None:
    """Puts warnings into the call's trailing metadata, which is ASCII: what is not is percent-encoded."""
    told = " · ".join(warnings)[:_MAX_WARNING_CHARS]
    if told:
        value = quote(told, safe=" ,.;:!?'\"()[]{}/<>=@&+*-_", errors="replace")
        call.set_trailing_metadata(((WARNING_HEADER, value),))


async def write(call: Call, message: Any, timeout_s: float) -> None:
    """Writes a message once the client has room for it.

    Raises:
        NotReading: it has had none for `timeout_s`, or is gone.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await call.write(message)
    except (TimeoutError, grpc.aio.InternalError):
        raise NotReading from None
