"""Recordings by URL: from named hosts, from public addresses, within ten seconds and ten megabytes."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cosyduplex.errors import ErrorCode
from cosyduplex_bridges.fetch import MAX_BYTES, Address, Network, fetch_audio, is_public
from cosyduplex_server.errors import Failure

HOST = "voices.example"
ALLOWED = frozenset({HOST})
RECORDING = bytes(range(256)) * 300

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Web:
    """A host on loopback that the tests' network finds under every name."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[bytes] = []
        self.resolved: list[str] = []
        self.done = asyncio.Event()
        self._servers: list[asyncio.Server] = []

    async def serve(self, answer: bytes | Answer, tls: ssl.SSLContext | None = None) -> None:
        """Answers every request so, and closes."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                else:
                    await answer(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()
                self.done.set()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
        self._servers.append(server)
        self.port = server.sockets[0].getsockname()[1]

    def url(self, path: str = "/a.wav", scheme: str = "http", host: str = HOST) -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def network(self, *, timeout_s: float = 10, tls: ssl.SSLContext | None = None) -> Network:
        async def resolve(host: str, port: int) -> list[Address]:
            self.resolved.append(host)
            return [ipaddress.ip_address("127.0.0.1")]

        return Network(resolve, lambda address: address.is_loopback, tls, timeout_s)

    async def fetch(self, path: str = "/a.wav", *, timeout_s: float = 10) -> bytes:
        return await fetch_audio(self.url(path), ALLOWED, self.network(timeout_s=timeout_s))

    async def close(self) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    web = Web()
    yield web
    await web.close()


def ok(body: bytes, *headers: str) -> bytes:
    head = "\r\n".join(("HTTP/1.1 200 OK", *(headers or (f"Content-Length: {len(body)}",)), "", ""))
    return head.encode() + body


def chunked(body: bytes) -> bytes:
    parts = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


async def refusal(fetching: Awaitable[bytes]) -> Failure:
    with pytest.raises(Failure) as caught:
        await fetching
    failure = caught.value
    assert failure.solution
    assert "127.0.0.1" not in failure.message
    return failure


# --- data: ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "data:audio/wav;base64," + base64.b64encode(RECORDING).decode(),
        "DATA:audio/wav;codecs=1;BASE64," + base64.b64encode(RECORDING).decode(),
        "data:;base64," + base64.b64encode(RECORDING).decode().rstrip("="),
        "data:audio/wav;base64," + quote(base64.b64encode(RECORDING).decode()),
        "data:audio/wav;base64," + base64.encodebytes(RECORDING).decode(),
        "data:audio/wav," + quote(RECORDING),
    ],
)
async def test_a_data_url_is_read_whatever_its_form(url: str) -> None:
    assert await fetch_audio(url, frozenset()) == RECORDING


@pytest.mark.parametrize(
    "url", ["data:audio/wav;base64", "data:;base64,!!!!", "data:;base64,AAAAA", "data:,ä"]
)
async def test_a_broken_data_url_is_a_bad_request(url: str) -> None:
    assert (await refusal(fetch_audio(url, frozenset()))).code is ErrorCode.BAD_REQUEST


@pytest.mark.parametrize(
    "url",
    [
        "data:;base64," + base64.b64encode(bytes(MAX_BYTES + 1)).decode(),
        "data:," + "a" * (MAX_BYTES + 1),
        "data:," + "a" * (4 * MAX_BYTES),
    ],
    ids=["base64", "plain", "longer than could be"],
)
async def test_a_data_url_over_the_limit_is_refused(url: str) -> None:
    assert (await refusal(fetch_audio(url, frozenset()))).code is ErrorCode.BAD_REFERENCE_AUDIO


async def test_a_data_url_at_the_limit_is_read() -> None:
    url = "data:;base64," + base64.b64encode(bytes(MAX_BYTES)).decode()
    assert len(await fetch_audio(url, frozenset())) == MAX_BYTES


# --- what may be fetched -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.wav",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://voices.example/a.wav",
        "gopher://voices.example/",
        "http:voices.example",
        "http:///a.wav",
        "http://other.example/a.wav",
        "http://voices.example.other.example/a.wav",
        "http://voices.example@other.example/a.wav",
        "http://user:password@voices.example/a.wav",
        "http://voices.example\\@other.example/a.wav",
        "http://voices.example./a.wav",
        "http://127.0.0.1/a.wav",
        "http://[::1]/a.wav",
        "http://[::1/a.wav",
        "http://voices.example:99999/a.wav",
        "http://voices.example:x/a.wav",
        "http://voices.example/a b",
        "http://voices.example/\r\nX: y",
        "http://voices.example/ä",
        "http://voices.example/" + "a" * 10_000,
        "\ud83d",
    ],
)
async def test_any_other_url_is_a_bad_request_and_nobody_is_asked(web: Web, url: str) -> None:
    failure = await refusal(fetch_audio(url, ALLOWED, web.network()))
    assert failure.code is ErrorCode.BAD_REQUEST
    assert web.resolved == []


async def test_no_host_is_allowed_unless_it_is_named(web: Web) -> None:
    failure = await refusal(fetch_audio(f"https://{HOST}/a.wav", frozenset(), web.network()))
    assert failure.code is ErrorCode.BAD_REQUEST
    assert "--fetch-host" in (failure.solution or "")


PRIVATE = """127.0.0.1 127.8.8.8 0.0.0.0 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1
    239.1.1.1 255.255.255.255 240.0.0.1 198.18.0.1 192.0.2.1 ::1 :: fe80::1 fe80::1%eth0 fc00::1 fec0::1
    ff02::1 ff0e::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1
    64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 2002:7f00:1:: 2001:0:7f00:1:: 2001:db8::1""".split()


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_inside_a_network_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::ffff:127.0.0.1"], ["8.8.8.8", "10.0.0.1"], []])
async def test_a_name_with_an_address_inside_is_refused_before_anything_is_sent(
    web: Web, addresses: list[str]
) -> None:
    async def resolve(host: str, port: int) -> list[Address]:
        return [ipaddress.ip_address(address) for address in addresses]

    await web.serve(ok(RECORDING))
    failure = await refusal(fetch_audio(web.url(), ALLOWED, Network(resolve)))
    assert failure.code is ErrorCode.BAD_REQUEST
    assert web.requests == []


async def test_by_itself_loopback_is_refused(web: Web) -> None:
    await web.serve(ok(RECORDING))
    failure = await refusal(fetch_audio(web.url(host="localhost"), frozenset({"localhost"})))
    assert failure.code is ErrorCode.BAD_REQUEST
    assert web.requests == []


async def test_a_host_that_has_no_address_is_told() -> None:
    async def resolve(host: str, port: int) -> list[Address]:
        raise OSError(-2, "Name or service not known")

    failure = await refusal(fetch_audio(f"http://{HOST}/a.wav", ALLOWED, Network(resolve)))
    assert failure.code is ErrorCode.BAD_REFERENCE_AUDIO


# --- over HTTP -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        ok(RECORDING),
        ok(RECORDING, "Connection: close"),
        ok(chunked(RECORDING), "Transfer-Encoding: chunked"),
        b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + ok(RECORDING),
        b"HTTP/1.0 200 OK\r\n\r\n" + RECORDING,
    ],
    ids=["of known length", "to the end", "in chunks", "after a note", "as HTTP/1.0"],
)
async def test_a_recording_is_fetched(web: Web, answer: bytes) -> None:
    await web.serve(answer)
    assert await web.fetch() == RECORDING


async def test_the_name_is_resolved_once_and_the_request_names_it(web: Web) -> None:
    await web.serve(ok(RECORDING))
    await web.fetch("/a%20b.wav?key=1&x=%2F#part")
    assert web.resolved == [HOST]
    assert web.requests[0].startswith(b"GET /a%20b.wav?key=1&x=%2F HTTP/1.1\r\n")
    assert f"\r\nHost: {HOST}:{web.port}\r\n".encode() in web.requests[0]


async def test_names_of_hosts_have_no_case(web: Web) -> None:
    await web.serve(ok(RECORDING))
    url = web.url(host="Voices.EXAMPLE")
    assert await fetch_audio(url, frozenset({"VOICES.example"}), web.network()) == RECORDING


async def test_the_next_address_is_tried_when_one_cannot_be_reached(web: Web) -> None:
    async def resolve(host: str, port: int) -> list[Address]:
        return [ipaddress.ip_address(address) for address in ("127.0.0.9", "127.0.0.1")]

    await web.serve(ok(RECORDING))
    network = Network(resolve, lambda address: address.is_loopback)
    assert await fetch_audio(web.url(), ALLOWED, network) == RECORDING


async def test_a_redirect_is_not_followed(web: Web) -> None:
    await web.serve(
        b"HTTP/1.1 302 Found\r\nLocation: http://voices.example/b.wav\r\nContent-Length: 0\r\n\r\n"
    )
    failure = await refusal(web.fetch())
    assert failure.code is ErrorCode.BAD_REFERENCE_AUDIO
    assert "redirect" in failure.message
    assert len(web.requests) == 1


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oh", "206 Partial Content", "204 No Content"])
async def test_what_is_not_the_file_is_refused(web: Web, status: str) -> None:
    await web.serve(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
    failure = await refusal(web.fetch())
    assert failure.code is ErrorCode.BAD_REFERENCE_AUDIO
    assert status[:3] in failure.message


@pytest.mark.parametrize(
    "answer",
    [
        ok(RECORDING, f"Content-Length: {len(RECORDING) + 1}"),
        ok(RECORDING, f"Content-Length: {len(RECORDING) - 1}", "Connection: close"),
        ok(RECORDING, "Content-Length: 1", f"Content-Length: {len(RECORDING)}"),
        ok(RECORDING, "Content-Length: -1"),
        ok(chunked(RECORDING)[:-5], "Transfer-Encoding: chunked"),
        ok(b"zz\r\n", "Transfer-Encoding: chunked"),
        ok(RECORDING, "Content-Encoding: gzip", f"Content-Length: {len(RECORDING)}"),
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"220 mail.example ESMTP\r\n",
        b"",
    ],
    ids=[
        "short",
        "long",
        "two",
        "negative",
        "cut",
        "no chunk",
        "compressed",
        "half a head",
        "mail",
        "nothing",
    ],
)
async def test_an_answer_that_is_not_whole_is_refused(web: Web, answer: bytes) -> None:
    await web.serve(answer)
    assert (await refusal(web.fetch())).code is ErrorCode.BAD_REFERENCE_AUDIO


async def test_a_file_that_says_it_is_too_large_is_not_read(web: Web) -> None:
    async def announce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"", f"Content-Length: {MAX_BYTES + 1}"))
        assert await reader.read() == b""

    await web.serve(announce)
    failure = await refusal(web.fetch())
    assert failure.code is ErrorCode.BAD_REFERENCE_AUDIO
    assert "10 MiB" in failure.message


@pytest.mark.parametrize("header", ["Connection: close", "Transfer-Encoding: chunked"])
async def test_a_file_that_turns_out_too_large_is_not_read_to_its_end(web: Web, header: str) -> None:
    async def send_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"", header))
        part = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        while True:
            writer.write(part)
            await writer.drain()

    await web.serve(send_without_end)
    failure = await refusal(web.fetch())
    assert failure.code is ErrorCode.BAD_REFERENCE_AUDIO
    await web.done.wait()


async def test_headers_without_end_are_not_read(web: Web) -> None:
    async def send_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
            await writer.drain()

    await web.serve(send_headers)
    assert (await refusal(web.fetch())).code is ErrorCode.BAD_REFERENCE_AUDIO
    await web.done.wait()


async def test_a_slow_drip_ends_when_the_time_is_up(web: Web) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"", "Content-Length: 100000"))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    await web.serve(drip)
    failure = await refusal(web.fetch(timeout_s=0.3))
    assert failure.code is ErrorCode.BAD_REFERENCE_AUDIO
    assert "0.3 s" in failure.message
    await web.done.wait()
    assert Network().timeout_s == 10


async def test_a_host_that_says_nothing_ends_when_the_time_is_up(web: Web) -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""

    await web.serve(listen)
    assert (await refusal(web.fetch(timeout_s=0.2))).code is ErrorCode.BAD_REFERENCE_AUDIO


async def test_a_name_that_is_not_resolved_ends_when_the_time_is_up() -> None:
    async def resolve(host: str, port: int) -> list[Address]:
        await asyncio.Event().wait()
        return []

    network = Network(resolve, timeout_s=0.1)
    assert (
        await refusal(fetch_audio(f"http://{HOST}/", ALLOWED, network))
    ).code is ErrorCode.BAD_REFERENCE_AUDIO


async def test_a_host_where_nobody_listens_is_told(web: Web) -> None:
    await web.serve(b"")
    await web.close()
    failure = await refusal(web.fetch())
    assert failure.code is ErrorCode.BAD_REFERENCE_AUDIO


async def test_cancelling_closes_the_connection(web: Web) -> None:
    asked = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()

    await web.serve(listen)
    fetching = asyncio.create_task(web.fetch())
    await asked.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    await web.done.wait()


# --- over TLS ------------------------------------------------------------------------------------------


def server_context(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for `name`, and one that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    file = folder / "server.pem"
    file.write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(file)
    return serving, ssl.create_default_context(cadata=pem.decode())


async def test_over_tls_the_certificate_is_that_of_the_name(web: Web, tmp_path: Path) -> None:
    serving, trusting = server_context(tmp_path, HOST)
    await web.serve(ok(RECORDING), serving)
    fetched = await fetch_audio(web.url(scheme="https"), ALLOWED, web.network(tls=trusting))
    assert fetched == RECORDING


async def test_a_certificate_of_another_name_is_refused(web: Web, tmp_path: Path) -> None:
    serving, trusting = server_context(tmp_path, "other.example")
    await web.serve(ok(RECORDING), serving)
    failure = await refusal(fetch_audio(web.url(scheme="https"), ALLOWED, web.network(tls=trusting)))
    assert failure.code is ErrorCode.BAD_REFERENCE_AUDIO
    assert "certificate" in failure.message
    assert web.requests == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(web: Web, tmp_path: Path) -> None:
    serving, _ = server_context(tmp_path, HOST)
    await web.serve(ok(RECORDING), serving)
    failure = await refusal(fetch_audio(web.url(scheme="https"), ALLOWED, web.network()))
    assert failure.code is ErrorCode.BAD_REFERENCE_AUDIO
    assert web.requests == []
