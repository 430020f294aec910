"""The web demo: a fixed table of static files, read once, answered with strict headers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from cosyduplex_server.gateway import Gateway

# Nothing inline, nothing from elsewhere; a page of this origin may open WebSockets to it ('self' holds for
# ws and wss too, CSP 3 section 6.7.2.8), and the AudioWorklet's module is a script.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Kept, and asked about every time: an update shows at the next load.
    "cache-control": "no-cache",
}

_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is served."""

    content: bytes
    content_type: str
    etag: str


def read_files(folder: Path) -> dict[str, StaticFile]:
    """Reads the demo: `index.html` is at `/`, everything else at `/demo/…`.

    Raises:
        FileNotFoundError: there is no `index.html` in the folder.
    """
    files = {"/": _read(folder / "index.html")}
    for path in sorted(folder.rglob("*")):
        if path.suffix in _CONTENT_TYPES and path.is_file() and path.name != "index.html":
            files[f"/demo/{path.relative_to(folder).as_posix()}"] = _read(path)
    return files


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    return StaticFile(content, _CONTENT_TYPES[path.suffix], f'"{digest}"')


def _folder() -> Path:
    """Beside this module in an installed wheel, else in the source tree."""
    installed = Path(__file__).parent / "web_demo"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "web_demo"


FILES = read_files(_folder())


async def serve(gateway: Gateway, request: Request) -> Response:
    """Answers with the file at the request's path, or with 304 where the browser has it."""
    file = FILES[request.url.path]
    headers = {**_HEADERS, "etag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, 200, headers, file.content_type)
