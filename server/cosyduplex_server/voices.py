"""The voices of a server, or of its folder while no server runs, for the command line."""

from __future__ import annotations

import asyncio
import http.client
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

DEFAULT_URL = "http://127.0.0.1:8765"
# A voice is made while the caller waits, at the worst on a busy machine without a GPU.
_ADD_TIMEOUT_S = 150.0
_TIMEOUT_S = 10.0


class FetchError(Exception):
    """What was asked for was not done; the text says why."""


class VoicePlace(Protocol):
    """Where voices are kept. What is returned is what `GET /v1/voices/{id}` answers."""

    @property
    def note(self) -> str:
        """What the user should know about this place, or the empty string."""

    def add(self, fields: Mapping[str, str], audio: bytes) -> dict[str, Any]:
        """Adds a voice.

        Raises:
            FetchError: it is refused.
        """

    def show(self, name: str) -> dict[str, Any]:
        """The voice of this id, or the only one of this name.

        Raises:
            FetchError: there is none, or there are several.
        """

    def remove(self, name: str) -> str:
        """Removes a voice, found as by `show`, and returns its id.

        Raises:
            FetchError: there is none, or it cannot be removed.
        """


def open_place(
    url: str | None, api_key: str | None, folder: str | None, usual_folder: str | None
) -> VoicePlace:
    """Where the commands work: the server or the folder that was named, else a server on this machine, else
    the folder such a server would use.

    Args:
        url: a server.
        api_key: its key.
        folder: a folder that was named for this command.
        usual_folder: the one that is configured for servers.

    Raises:
        FetchError: the folder cannot be read.
    """
    if folder is not None:
        return FolderVoices(Path(folder), "")
    if url is not None:
        return ServerVoices(url, api_key)
    if _is_alive(DEFAULT_URL):
        return ServerVoices(DEFAULT_URL, api_key)
    from cosyduplex_server.voice_store import default_voices_dir

    place = Path(usual_folder) if usual_folder else default_voices_dir()
    return FolderVoices(
        place,
        f"no server answers at {DEFAULT_URL} (`cosyduplex serve` starts one, --url names another): "
        f"worked on the folder {place}",
    )


# --- a server ----------------------------------------------------------------------------------------


async def fetch_voices(url: str, api_key: str | None) -> dict[str, Any]:
    """Asks a server for `GET /v1/voices`.

    Raises:
        FetchError: it cannot be reached, or refuses.
    """
    return await asyncio.to_thread(ServerVoices(url, api_key).list)


@dataclass(frozen=True, slots=True)
class ServerVoices:
    """The voices of a running server."""

    url: str
    api_key: str | None
    note: str = ""

    def list(self) -> dict[str, Any]:
        """All of them.

        Raises:
            FetchError: the server cannot be reached, or refuses.
        """
        return self._ask("GET", "/v1/voices")

    def add(self, fields: Mapping[str, str], audio: bytes) -> dict[str, Any]:
        """Adds a voice."""
        body, content_type = _form(fields, audio)
        return self._ask("POST", "/v1/voices", body, content_type)

    def show(self, name: str) -> dict[str, Any]:
        """The voice of this id or name."""
        return self._ask("GET", _path(self._find(name)))

    def remove(self, name: str) -> str:
        """Removes a voice."""
        voice_id = self._find(name)
        self._ask("DELETE", _path(voice_id))
        return voice_id

    def _find(self, name: str) -> str:
        voices = self.list()["voices"]
        return _only({str(voice["id"]): str(voice["name"]) for voice in voices}, name)

    def _ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> dict[str, Any]:
        url = self.url.rstrip("/") + path
        if not url.startswith(("http://", "https://")):
            raise FetchError("the URL must begin with http:// or https://")
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        if content_type:
            headers["Content-Type"] = content_type
        request = urllib.request.Request(url, body, headers, method=method)
        try:
            timeout_s = _TIMEOUT_S if body is None else _ADD_TIMEOUT_S
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                found: dict[str, Any] = orjson.loads(answer.read())
                return found
        except urllib.error.HTTPError as exc:
            raise FetchError(_reason(exc)) from None
        except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as exc:
            raise FetchError(f"{url} does not answer as a server would: {exc}") from None


def _path(voice_id: str) -> str:
    # Dots too: a path that is `..` is another path to whatever stands between here and the server.
    return "/v1/voices/" + urllib.parse.quote(voice_id, safe="").replace(".", "%2E")


def _form(fields: Mapping[str, str], audio: bytes) -> tuple[bytes, str]:
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
    parts = [(head % (name, "")).encode() + value.encode() + b"\r\n" for name, value in fields.items()]
    parts.append((head % ("audio", '; filename="audio"')).encode() + audio + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _reason(error: urllib.error.HTTPError) -> str:
    with error:
        try:
            body = orjson.loads(error.read())
            return f"{body['error']}: {body['message']} — {body['solution']}"
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return f"the server answered {error.code}"


def _is_alive(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/healthz", timeout=2) as answer:
            return b'"alive"' in answer.read(1000)
    except (OSError, http.client.HTTPException):
        return False


# --- a folder ----------------------------------------------------------------------------------------


class FolderVoices:
    """The added voices of a folder that servers read; what is added is prepared when one starts.

    Raises:
        FetchError: the folder cannot be read.
    """

    def __init__(self, folder: Path, note: str) -> None:
        from cosyduplex_server.voice_store import VoiceStore

        self.note = note
        self._store = VoiceStore(folder)
        try:
            self._store.open()
        except OSError as exc:
            raise FetchError(f"the folder {folder} cannot be read: {exc.strerror}") from None

    def add(self, fields: Mapping[str, str], audio: bytes) -> dict[str, Any]:
        """Adds a voice."""
        from cosyduplex_server.errors import Failure
        from cosyduplex_server.voice_store import VoiceExists, check_new_voice

        try:
            voice = self._store.add(check_new_voice(fields, audio))
        except Failure as failure:
            body = failure.as_http()[1]
            raise FetchError(f"{body['error']}: {body['message']} — {body['solution']}") from None
        except VoiceExists:
            raise FetchError(
                "bad_request: there is a voice of that id already — choose another, or remove it first"
            ) from None
        except OSError as exc:
            raise self._not_written(exc) from None
        return self.show(voice.id)

    def show(self, name: str) -> dict[str, Any]:
        """The voice of this id or name."""
        voice = self._store.voices[self._find(name)]
        return {
            "id": voice.id,
            "voice_id": voice.id,
            "name": voice.name,
            "language": voice.language,
            "labels": {**voice.labels, "source": "cloned"},
            "category": "cloned",
            "text": voice.text,
            "consent": voice.consent,
            "created": voice.created,
            "sha256": voice.sha256,
            "figures": dict(voice.figures),
        }

    def remove(self, name: str) -> str:
        """Removes a voice."""
        voice_id = self._find(name)
        try:
            self._store.remove(voice_id)
        except OSError as exc:
            raise self._not_written(exc) from None
        return voice_id

    def _find(self, name: str) -> str:
        return _only({voice.id: voice.name for voice in self._store.voices.values()}, name)

    def _not_written(self, error: OSError) -> FetchError:
        return FetchError(f"the folder {self._store.folder} cannot be written: {error.strerror}")


def _only(names: Mapping[str, str], wanted: str) -> str:
    """The id that was meant: that very one, or the one voice of that name."""
    if wanted in names:
        return wanted
    found = [voice_id for voice_id, name in names.items() if name == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        raise FetchError(f"several voices are called {wanted}: say which by its id, as {', '.join(found)}")
    raise FetchError(f"unknown_voice: there is no voice {wanted} — see `cosyduplex voices list`")
