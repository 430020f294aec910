"""The voices of a server, for the command line."""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.request
from typing import Any

import orjson


class FetchError(Exception):
    """The server did not give its voices; the text says why."""


async def fetch_voices(url: str, api_key: str | None) -> dict[str, Any]:
    """Asks a server for `GET /v1/voices`.

    Raises:
        FetchError: it cannot be reached, or refuses.
    """
    return await asyncio.to_thread(_fetch, url.rstrip("/") + "/v1/voices", api_key)


def _fetch(url: str, api_key: str | None) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise FetchError("the URL must begin with http:// or https://")
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {api_key}"} if api_key else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            voices: dict[str, Any] = orjson.loads(answer.read())
            return voices
    except urllib.error.HTTPError as exc:
        raise FetchError(_reason(exc)) from None
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as exc:
        raise FetchError(f"{url} does not answer as a server would: {exc}") from None


def _reason(error: urllib.error.HTTPError) -> str:
    with error:
        try:
            body = orjson.loads(error.read())
            return f"{body['error']}: {body['message']} — {body['solution']}"
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return f"the server answered {error.code}"
