"""The HTTP routes, their answers, and the one check in front of all of them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal
from urllib.parse import parse_qsl

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import cosyduplex
from cosyduplex.errors import ErrorCode
from cosyduplex.messages import (
    FRAME_DURATIONS_MS,
    OPUS_SAMPLE_RATES_HZ,
    PCM_SAMPLE_RATES_HZ,
    PROTOCOL,
    Limits,
)
from cosyduplex_server import demo, voice_routes
from cosyduplex_server.access import SCOPES, Principal, credential_of
from cosyduplex_server.audio.opus import opus_available
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway
from cosyduplex_server.routes import Door, answer_failure, json_response, read_body
from cosyduplex_server.schema import Operation, asyncapi, openapi

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024

# --- answers -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """One encoding and its rates."""

    encoding: str
    sample_rates: tuple[int, ...]
    frame_ms: tuple[int, ...]
    profiles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What this server is and what it can do."""

    version: str
    protocol: str
    engine: str
    engine_version: str
    engine_reason: str
    model: str
    device: str
    sample_rate: int
    voices: int
    exact_marks: bool
    text_streaming: bool
    speech_parameters: list[str]
    limits: Limits
    codecs: list[Codec]
    doors: list[str]
    needs_key: bool
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What the token may be used for."""

    scopes: list[Literal["speak", "read"]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A client token: good for connecting within `expires_in` seconds."""

    token: str
    expires_in: int
    scopes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One word."""

    status: str


# --- the check in front ------------------------------------------------------------------------------


class Guard:
    """Host, Origin, key and CORS for every HTTP request, before any route runs."""

    def __init__(self, app: ASGIApp, gateway: Gateway, doors: list[tuple[Route, Door]]) -> None:
        self._app = app
        self._gateway = gateway
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the request through, or answers it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        door = self._door_of(scope)
        origin = headers.get("origin")
        try:
            local_ip = scope["server"][0] if scope.get("server") else None
            self._gateway.gatekeeper.check_address(headers.get("host"), origin, local_ip)
        except Failure as failure:
            await _refuse(door, failure)(scope, receive, send)
            return
        if origin is not None and self._gateway.gatekeeper.is_foreign_origin_allowed(origin):
            send = _with_cors(send, origin)
            if scope["method"] == "OPTIONS":
                await Response(status_code=204)(scope, receive, send)
                return
        try:
            scope["state"]["principal"] = self._identify(door, headers, scope["query_string"])
        except Failure as failure:
            await _refuse(door, failure)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _door_of(self, scope: Scope) -> Door | None:
        """The door at the request's path: the one of its method, else any."""
        matches = [(route.matches(scope)[0], door) for route, door in self._doors]
        return next((door for match, door in matches if match is Match.FULL), None) or next(
            (door for match, door in matches if match is Match.PARTIAL), None
        )

    def _identify(self, door: Door | None, headers: Headers, query: bytes) -> Principal | None:
        gatekeeper = self._gateway.gatekeeper
        if door is None:
            return gatekeeper.identify(credential_of(headers), "", "read")
        if not door.operation.needs_key:
            return None
        parameters = dict(parse_qsl(query.decode("latin-1"))) if door.query_credentials else {}
        credential = credential_of(headers, (), parameters, door.query_credentials)
        is_open = door.name in self._gateway.config.open_door or not gatekeeper.has_keys
        if credential is None and door.credential_inside and not is_open:
            return None
        return gatekeeper.identify(credential, door.name, door.scope)


def _refuse(door: Door | None, failure: Failure) -> Response:
    return (answer_failure if door is None else door.refuse)(failure)


def _with_cors(send: Send, origin: str) -> Send:
    async def send_with_cors(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["access-control-allow-origin"] = origin
            headers["access-control-allow-headers"] = "authorization, content-type, x-api-key, xi-api-key"
            headers["access-control-allow-methods"] = "GET, POST, DELETE"
            headers["access-control-max-age"] = "600"
            headers.add_vary_header("origin")
        await send(message)

    return send_with_cors


# --- routes ------------------------------------------------------------------------------------------


async def _healthz(gateway: Gateway, request: Request) -> Response:
    return json_response(Status(status="alive"))


async def _readyz(gateway: Gateway, request: Request) -> Response:
    headers = {"x-cosyduplex-full": "1"} if gateway.is_full else None
    if gateway.draining:
        return json_response(Status(status="draining"), 503, headers)
    if not gateway.pool.ready:
        return json_response(Status(status="loading"), 503, headers)
    return json_response(Status(status="ready"), 200, headers)


async def _metrics(gateway: Gateway, request: Request) -> Response:
    gateway.observe()
    return Response(generate_latest(gateway.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _models(gateway: Gateway, request: Request) -> Response:
    description = gateway.pool.description
    name = description.model or description.engine
    if "xi-api-key" in request.headers:
        languages = sorted({voice.language for voice in description.voices})
        return json_response(
            [
                {
                    "model_id": name,
                    "name": name,
                    "can_do_text_to_speech": True,
                    "can_do_voice_conversion": False,
                    "can_use_style": False,
                    "can_use_speaker_boost": False,
                    "serves_pro_voices": False,
                    "languages": [{"language_id": code, "name": code} for code in languages],
                    "maximum_text_length_per_request": gateway.limits.max_text_chars,
                }
            ]
        )
    return json_response(
        {
            "object": "list",
            "data": [{"id": name, "object": "model", "created": 0, "owned_by": description.engine}],
        }
    )


async def _info(gateway: Gateway, request: Request) -> Response:
    description = gateway.pool.description
    codecs = [
        Codec(encoding="pcm_s16le", sample_rates=PCM_SAMPLE_RATES_HZ, frame_ms=FRAME_DURATIONS_MS),
    ]
    if opus_available() is not None:
        codecs.append(
            Codec(
                encoding="opus",
                sample_rates=OPUS_SAMPLE_RATES_HZ,
                frame_ms=FRAME_DURATIONS_MS,
                profiles=("speech", "narrow"),
            )
        )
    return json_response(
        Info(
            version=cosyduplex.__version__,
            protocol=PROTOCOL,
            engine=description.engine,
            engine_version=description.engine_version,
            engine_reason=gateway.engine_reason,
            model=description.model,
            device=description.device,
            sample_rate=description.sample_rate_hz,
            voices=gateway.num_voices,
            exact_marks=description.exact_marks,
            text_streaming=description.text_streaming,
            speech_parameters=list(description.parameters),
            limits=gateway.limits,
            codecs=codecs,
            doors=sorted(request.app.state.door_names),
            needs_key=gateway.gatekeeper.has_keys,
            notes=list(description.notes),
        )
    )


async def _tokens(gateway: Gateway, request: Request) -> Response:
    principal: Principal = request.state.principal
    scopes = _scopes_asked(await read_body(request, MAX_BODY_BYTES))
    token, lifetime_s = gateway.gatekeeper.make_token(principal, scopes)
    return json_response(Token(token=token, expires_in=lifetime_s, scopes=sorted(scopes)))


def _scopes_asked(body: bytes) -> list[str]:
    if not body.strip():
        return list(SCOPES)
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Failure(ErrorCode.BAD_REQUEST, "the body must be JSON") from None
    scopes = asked.get("scopes", list(SCOPES)) if isinstance(asked, dict) else None
    if not isinstance(scopes, list) or not scopes or any(scope not in SCOPES for scope in scopes):
        raise Failure(ErrorCode.BAD_REQUEST, f"scopes must be a list of {' and '.join(SCOPES)}")
    return scopes


async def _openapi(gateway: Gateway, request: Request) -> Response:
    return Response(_openapi_page(request.app.state.operations), media_type="application/json")


@cache
def _openapi_page(operations: tuple[Operation, ...]) -> bytes:
    return orjson.dumps(openapi(operations))


@cache
def _asyncapi_page() -> bytes:
    return asyncapi().encode()


async def _asyncapi(gateway: Gateway, request: Request) -> Response:
    return Response(_asyncapi_page(), media_type="application/yaml")


def _get(path: str, summary: str, **details: Any) -> Operation:
    return Operation(method="GET", path=path, summary=summary, **details)


DOORS: tuple[Door, ...] = (
    Door("info", _get("/v1/info", "What this server is and can do", answer=Info), _info),
    Door(
        "voices",
        _get("/v1/voices", "Every voice", answer=voice_routes.VoiceList),
        voice_routes.list_voices,
    ),
    Door(
        "voices",
        Operation(
            method="POST",
            path="/v1/voices",
            summary="Adds a voice made from a recording",
            body=voice_routes.VoiceForm,
            body_type="multipart/form-data",
            answer=voice_routes.VoiceDetails,
            status=201,
        ),
        voice_routes.add_voice,
    ),
    Door(
        "voices",
        _get("/v1/voices/{id}", "One voice", answer=voice_routes.VoiceDetails),
        voice_routes.show_voice,
    ),
    Door(
        "voices",
        Operation(
            method="DELETE",
            path="/v1/voices/{id}",
            summary="Removes an added voice",
            answer=voice_routes.Removed,
        ),
        voice_routes.remove_voice,
    ),
    Door("models", _get("/v1/models", "Every model, as OpenAI or ElevenLabs list them"), _models),
    Door(
        "tokens",
        Operation(
            method="POST",
            path="/v1/tokens",
            summary="A short-lived token for a client that must not hold the key",
            body=TokenRequest,
            answer=Token,
        ),
        _tokens,
    ),
    Door("health", _get("/healthz", "Whether it is alive", answer=Status, needs_key=False), _healthz),
    Door("health", _get("/readyz", "Whether it takes work", answer=Status, needs_key=False), _readyz),
    Door("metrics", _get("/metrics", "Prometheus metrics", media_type="text/plain"), _metrics),
    Door("openapi", _get("/openapi.json", "This page"), _openapi),
    Door(
        "asyncapi",
        _get("/asyncapi.yaml", "The native protocol", media_type="application/yaml"),
        _asyncapi,
    ),
    Door("demo", _get("/", "The web demo", media_type="text/html"), demo.serve),
)

# What the demo's page loads; not worth a place on the OpenAPI page.
DEMO_ASSETS = tuple(
    Door("demo", _get(path, "A file of the web demo"), demo.serve) for path in demo.FILES if path != "/"
)


def make_app(
    gateway: Gateway, bridges: tuple[Door, ...] = (), other_doors: frozenset[str] = frozenset()
) -> Starlette:
    """The ASGI application behind the HTTP side of the port.

    Args:
        gateway: what all sessions share.
        bridges: doors beside the server's own.
        other_doors: the names of those that are not HTTP.
    """
    doors = [
        (Route(door.operation.path, _endpoint(gateway, door), methods=[door.operation.method]), door)
        for door in (*DOORS, *bridges, *DEMO_ASSETS)
    ]
    app = Starlette(
        routes=[route for route, _ in doors],
        middleware=[Middleware(Guard, gateway=gateway, doors=doors)],
        exception_handlers={HTTPException: _on_http_error, Exception: _on_crash},
    )
    app.state.door_names = {door.name for _, door in doors} | other_doors
    app.state.operations = tuple(door.operation for door in (*DOORS, *bridges))
    return app


def _endpoint(gateway: Gateway, door: Door) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await door.handler(gateway, request)
        except Failure as failure:
            return door.refuse(failure)

    return endpoint


async def _on_http_error(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    if status == 405:
        failure = Failure(ErrorCode.BAD_REQUEST, "this path does not take that method", "See /openapi.json.")
    else:
        failure = Failure(ErrorCode.BAD_REQUEST, "there is nothing at this path", "See /openapi.json.")
    headers = dict(exc.headers or {}) if isinstance(exc, HTTPException) else None
    return json_response(failure.as_http()[1], status, headers)


async def _on_crash(request: Request, exc: Exception) -> Response:
    log.error("request crashed", exc_info=exc, extra={"path": request.url.path})
    return answer_failure(Failure(ErrorCode.INTERNAL, "the server made a mistake"))
