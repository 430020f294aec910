"""Recordings for enrolment that are given by URL: `data:` URLs, and files of hosts the operator has named.

A name is resolved once, every address it has must be public, and the connection goes to that very address: a
name that points elsewhere a moment later changes nothing. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

import httptools

from cosyduplex.errors import ErrorCode
from cosyduplex_server.errors import Failure

MAX_BYTES: Final = 10 * 1024 * 1024
TIMEOUT_S: Final = 10.0
_MAX_URL_CHARS: Final = 8192
_MAX_HEAD_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 64 * 1024
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# Every octet of a `data:` URL may stand as three characters.
_MAX_DATA_URL_CHARS: Final = 3 * MAX_BYTES + 1024
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
_OTHER_WAY: Final = "Send the recording as a data: URL."

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]


async def resolve(host: str, port: int) -> Sequence[Address]:
    """Returns the addresses of a host, as this machine is told them.

    Raises:
        OSError: It has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(entry[4][0])) for entry in found]


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet; one that carries an IPv4 address is that one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    is_tunnel = address.sixtofour is not None or address.teredo is not None
    return address in _GLOBAL_UNICAST and address.is_global and not is_tunnel


@dataclass(frozen=True, slots=True)
class Network:
    """How the outside is reached; tests reach a server of their own with another.

    Attributes:
        resolve: Finds the addresses of a host.
        may_connect: Whether an address may be connected to.
        tls: Who is trusted; None for whom this machine trusts.
        timeout_s: For everything, from the name to the last byte.
    """

    resolve: Resolver = resolve
    may_connect: Callable[[Address], bool] = is_public
    tls: ssl.SSLContext | None = None
    timeout_s: float = TIMEOUT_S


async def fetch_audio(url: str, allowed_hosts: frozenset[str], network: Network | None = None) -> bytes:
    """Returns the file that a URL means.

    Args:
        url: A `data:` URL, or an http(s) one of an allowed host.
        allowed_hosts: Host names without a port.
        network: How the outside is reached; None for the usual way.

    Raises:
        Failure: `bad_request`: the URL is none, or may not be fetched; `bad_reference_audio`: it was fetched
            in vain.
    """
    scheme = url[:8].partition(":")[0].strip().lower()
    if scheme == "data":
        return await asyncio.to_thread(_read_data_url, url)
    target = _check_url(url, allowed_hosts)
    network = network or Network()
    try:
        async with asyncio.timeout(network.timeout_s):
            return await _download(target, network)
    except TimeoutError:
        raise _vain(
            f"the recording did not come within {network.timeout_s:g} s",
            "Use a faster host or a smaller file, or send the recording as a data: URL.",
        ) from None
    except ssl.SSLError:
        raise _vain(
            "the host of the recording has no certificate that is valid for its name",
            "Use a host with a valid certificate, or send the recording as a data: URL.",
        ) from None
    except (OSError, EOFError):
        raise _vain(
            "the host of the recording cannot be reached, or broke off",
            "Check the URL, or send the recording as a data: URL.",
        ) from None
    except httptools.HttpParserError:
        raise _vain("the host of the recording does not speak HTTP/1.1 as it should", _OTHER_WAY) from None


def _bad_url(message: str, solution: str = _OTHER_WAY) -> Failure:
    return Failure(ErrorCode.BAD_REQUEST, message, solution)


def _vain(message: str, solution: str) -> Failure:
    return Failure(ErrorCode.BAD_REFERENCE_AUDIO, message, solution)


def _too_large() -> Failure:
    return _vain(
        f"the recording has more than {MAX_BYTES // 2**20} MiB",
        "Send 3 to 30 seconds of it; a minute of one channel at 48 kHz has 5.5 MiB.",
    )


# --- data: (RFC 2397) ----------------------------------------------------------------------------------


def _read_data_url(url: str) -> bytes:
    if len(url) > _MAX_DATA_URL_CHARS:
        raise _too_large()
    head, comma, body = url.partition(",")
    if not comma:
        raise _bad_url("the data: URL has no comma", "Send it as data:audio/wav;base64,...")
    try:
        data = unquote_to_bytes(body.encode("ascii"))
    except UnicodeEncodeError:
        raise _bad_url("the data: URL holds other than ASCII characters", _BASE64) from None
    if head.rpartition(";")[2].strip().lower() == "base64":
        data = _from_base64(data)
    if len(data) > MAX_BYTES:
        raise _too_large()
    return data


_BASE64: Final = "Send it as data:audio/wav;base64,... with the alphabet of RFC 4648."


def _from_base64(text: bytes) -> bytes:
    text = b"".join(text.split()).rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise _bad_url("the data: URL does not hold base64", _BASE64) from None


# --- http and https ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Target:
    host: str
    port: int
    is_tls: bool
    request: bytes


def _check_url(url: str, allowed_hosts: frozenset[str]) -> _Target:
    if len(url) > _MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        raise _bad_url("the URL is too long or holds characters that must be percent-encoded")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _bad_url("this is not a URL") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise _bad_url("a recording is taken from a data:, http: or https: URL alone")
    if parts.username is not None or parts.password is not None:
        raise _bad_url("a URL with a user name is not fetched", "Use a signed URL, or a data: URL.")
    if parts.hostname not in {host.strip("[]").lower() for host in allowed_hosts}:
        raise _bad_url(
            "recordings are not fetched from this host",
            "Send the recording as a data: URL, or have the operator name the host with --fetch-host.",
        )
    if port is None:
        port = _DEFAULT_PORTS[parts.scheme]
    return _Target(parts.hostname, port, parts.scheme == "https", _request(parts))


def _request(parts: SplitResult) -> bytes:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "User-Agent: cosyduplex",
        "Accept: audio/*, application/octet-stream;q=0.9, */*;q=0.1",
        "Accept-Encoding: identity",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii")


async def _download(target: _Target, network: Network) -> bytes:
    reader, writer = await _connect(target, network)
    try:
        writer.write(target.request)
        await writer.drain()
        return await _read_answer(reader)
    finally:
        # Not closed politely: the far end must not hold us beyond the time it has.
        writer.transport.abort()


async def _connect(target: _Target, network: Network) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    addresses = await network.resolve(target.host, target.port)
    # All of them: else a name with one public address would make the others reachable by luck.
    if not addresses or not all(network.may_connect(address) for address in addresses):
        raise _bad_url("the host of the recording does not have a public address")
    tls = (network.tls or ssl.create_default_context()) if target.is_tls else None
    failed: OSError | None = None
    for address in dict.fromkeys(addresses):
        try:
            return await asyncio.open_connection(
                str(address), target.port, ssl=tls, server_hostname=target.host if tls else None
            )
        except ssl.SSLError:
            raise
        except OSError as error:
            failed = error
    assert failed is not None
    raise failed


async def _read_answer(reader: asyncio.StreamReader) -> bytes:
    answer = _Answer()
    while not answer.is_complete:
        data = await reader.read(_READ_BYTES)
        if data:
            answer.feed(data)
        elif answer.ends_with_connection:
            break
        else:
            raise EOFError
    return bytes(answer.body)


class _Answer:
    """An answer as it comes in, refused as soon as it can be; httptools calls the `on_` methods."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.is_complete = False
        self._parser = httptools.HttpResponseParser(self)
        self._refusal: Failure | None = None
        self._has_head = False
        self._head_bytes = 0
        self._headers: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> None:
        """Takes what came.

        Raises:
            Failure: It cannot be a recording.
            httptools.HttpParserError: It is not HTTP.
        """
        self._parser.feed_data(data)
        if not self._has_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                raise _vain("the host of the recording sends headers without end", _OTHER_WAY)
        if self._refusal is not None:
            raise self._refusal

    @property
    def ends_with_connection(self) -> bool:
        """Whether nothing but the end of the connection tells the end of the body."""
        return self._has_head and not {b"content-length", b"transfer-encoding"} & self._headers.keys()

    @property
    def _is_interim(self) -> bool:
        return 100 <= self._parser.get_status_code() < 200

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a header."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Refuses, before its body comes, what is no file or a file too large."""
        if self._is_interim:
            self._headers.clear()
            return
        self._has_head = True
        status = self._parser.get_status_code()
        declared = self._headers.get(b"content-length", b"")
        if 300 <= status < 400:
            self._refusal = _vain(
                "the URL of the recording redirects, which is not followed", "Give the URL it leads to."
            )
        elif status != 200:
            self._refusal = _vain(
                f"the host of the recording answers with status {status}",
                "Check the URL, and who may read it.",
            )
        elif self._headers.get(b"content-encoding", b"identity").lower() != b"identity":
            self._refusal = _vain("the host sends the recording compressed, though asked not to", _OTHER_WAY)
        elif declared.isdigit() and int(declared) > MAX_BYTES:
            self._refusal = _too_large()

    def on_body(self, data: bytes) -> None:
        """Keeps a part of the body."""
        self.body += data
        if len(self.body) > MAX_BYTES:
            self._refusal = self._refusal or _too_large()

    def on_message_complete(self) -> None:
        """All of it is here, unless it was a note that the answer follows."""
        self.is_complete = self._has_head
