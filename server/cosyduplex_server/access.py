"""Who may call: keys, tokens, web origins and host names; the same rules for HTTP and WebSocket."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

import orjson

from cosyduplex.errors import ErrorCode
from cosyduplex_server.config import Config, is_loopback
from cosyduplex_server.errors import Failure

TOKEN_LIFETIME_S = 60
SCOPES = ("speak", "read")
_TOKEN_PREFIX = "cdt1."


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling.

    Attributes:
        id: stands for the key, and does not give it away; "anonymous" where no keys are set.
        scopes: what it may do.
        has_key: it presented a key itself, not a token made from one.
    """

    id: str
    scopes: frozenset[str] = frozenset(SCOPES)
    has_key: bool = False


ANONYMOUS = Principal("anonymous")


class Gatekeeper:
    """Decides on every request and upgrade.

    Args:
        config: keys, open doors, allowed origins and hosts.
        time_s: seconds since the epoch, for the life of tokens.
    """

    def __init__(self, config: Config, time_s: Callable[[], float]) -> None:
        self._keys = {_key_id(key): key.encode() for key in config.all_keys()}
        self._open_doors = frozenset(config.open_door)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in config.allow_origin)
        self._hosts = frozenset(host.lower() for host in (*config.allow_host, config.host))
        self._time_s = time_s

    @property
    def has_keys(self) -> bool:
        """Whether callers need a key."""
        return bool(self._keys)

    # --- web origins and host names

    def check_address(self, host: str | None, origin: str | None, local_ip: str | None) -> None:
        """Refuses foreign pages (cross-site WebSockets) and foreign names (DNS rebinding).

        Args:
            host: the `Host` header.
            origin: the `Origin` header, where a browser sent one.
            local_ip: the address of this end of the connection: a `Host` that is this very address
                cannot be a rebound name.

        Raises:
            Failure: `forbidden_origin`.
        """
        if host is None or not self._host_allowed(_host_name(host), local_ip):
            raise Failure(
                ErrorCode.FORBIDDEN_ORIGIN,
                "this host name is not one the server answers to",
                "Use the server's own address, or start it with --allow-host NAME.",
            )
        if origin is not None and not self.origin_allowed(origin, host):
            raise Failure(
                ErrorCode.FORBIDDEN_ORIGIN,
                "pages of this origin may not call this server",
                "Start the server with --allow-origin ORIGIN.",
            )

    def _host_allowed(self, name: str, local_ip: str | None) -> bool:
        return is_loopback(name) or name in self._hosts or (local_ip is not None and _same_ip(name, local_ip))

    def origin_allowed(self, origin: str, host: str) -> bool:
        """Whether pages of this origin may call: the server's own, or one that was allowed."""
        origin = origin.rstrip("/").lower()
        if origin in self._origins or "*" in self._origins:
            return True
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https"):
            return False
        default = 443 if parts.scheme == "https" else 80
        return _with_port(parts.netloc, default) == _with_port(host.lower(), default)

    def is_foreign_origin_allowed(self, origin: str) -> bool:
        """Whether the answer needs CORS headers for this origin."""
        return "*" in self._origins or origin.rstrip("/").lower() in self._origins

    # --- keys and tokens

    def identify(self, credential: str | None, door: str, scope: str) -> Principal:
        """Finds out who presents a credential.

        Raises:
            Failure: `unauthorized`; the text says whether nothing, or nothing valid, was presented.
        """
        if not self._keys:
            return ANONYMOUS
        if credential:
            principal = self._by_key(credential) or self._by_token(credential)
            if principal is not None and scope in principal.scopes:
                return principal
        if door in self._open_doors:
            return ANONYMOUS
        problem = "the API key or token is not valid" if credential else "an API key or token is needed"
        raise Failure(ErrorCode.UNAUTHORIZED, problem)

    def _by_key(self, credential: str) -> Principal | None:
        presented = credential.encode("utf-8", "surrogatepass")
        # Every key is compared, in constant time each, so that timing tells nothing.
        matches = [key_id for key_id, key in self._keys.items() if hmac.compare_digest(key, presented)]
        return Principal(matches[0], has_key=True) if matches else None

    def _by_token(self, token: str) -> Principal | None:
        prefix, _, rest = token.partition(".")
        body, _, signature = rest.partition(".")
        if prefix + "." != _TOKEN_PREFIX:
            return None
        try:
            claims = orjson.loads(_unbase64(body))
            key_id, expires_s, scopes = claims["key"], claims["exp"], frozenset(claims["scopes"])
            presented = _unbase64(signature)
        except (ValueError, KeyError, TypeError, binascii.Error):
            return None
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        if key is None or not hmac.compare_digest(_sign(key, body), presented):
            return None
        return Principal(key_id, scopes) if self._time_s() < expires_s else None

    def make_token(self, principal: Principal, scopes: Iterable[str]) -> tuple[str, int]:
        """Makes a token that lasts 60 s; any gateway with the same keys takes it.

        Returns:
            The token and the seconds it lasts.

        Raises:
            Failure: the caller has no key of its own.
        """
        if not principal.has_key:
            raise Failure(
                ErrorCode.UNAUTHORIZED,
                "a client token is made from an API key",
                "Start the server with --api-key, and present that key.",
            )
        claims = {
            "key": principal.id,
            "exp": int(self._time_s()) + TOKEN_LIFETIME_S,
            "scopes": sorted(set(scopes)),
        }
        body = _base64(orjson.dumps(claims))
        signature = _base64(_sign(self._keys[principal.id], body))
        return f"{_TOKEN_PREFIX}{body}.{signature}", TOKEN_LIFETIME_S


def credential_of(
    headers: Mapping[str, str],
    subprotocols: Iterable[str] = (),
    query: Mapping[str, str] = MappingProxyType({}),
    query_names: Iterable[str] = (),
) -> str | None:
    """Finds the key or token where the clients of the various doors put it.

    Args:
        headers: names in lower case.
        subprotocols: of a WebSocket upgrade; browsers cannot set headers, so a page offers
            `["duplex.v1", "token", KEY]`.
        query: of the request.
        query_names: those of its parameters that may hold it.
    """
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "token") and value.strip():
        return value.strip()
    for name in ("x-api-key", "xi-api-key"):
        if headers.get(name):
            return headers[name]
    offered = list(subprotocols)
    for marker, key in itertools.pairwise(offered):
        if marker.lower() in ("token", "bearer"):
            return key
    return next((query[name] for name in query_names if query.get(name)), None)


def _key_id(key: str) -> str:
    return hashlib.sha256(b"cosyduplex key " + key.encode()).hexdigest()[:16]


def _sign(key: bytes, body: str) -> bytes:
    return hmac.digest(key, b"cosyduplex token " + body.encode(), "sha256")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _host_name(host: str) -> str:
    """`name:port` or `[::1]:port` without the port and the brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _with_port(netloc: str, default: int) -> str:
    has_port = netloc.rpartition(":")[2].isdigit()
    return netloc if has_port else f"{netloc}:{default}"


def _same_ip(name: str, local_ip: str) -> bool:
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(local_ip.partition("%")[0])
    except ValueError:
        return False
