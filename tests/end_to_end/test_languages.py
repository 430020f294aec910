"""A language that an engine knows as a dialect is asked for as one, and one it lacks is not kept quiet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ServerProcess
from native_client import NativeClient

from cosyduplex.messages import (
    ContextDone,
    ContextOpen,
    SessionStart,
    SessionStarted,
    SpeechOptions,
    TextAppend,
    TextEnd,
)


def said_of_dialects(client: NativeClient) -> list[str]:
    started = client.events[0].message
    assert isinstance(started, SessionStarted)
    return [warning.message for warning in started.warnings if "dialect" in warning.message]


@pytest.mark.parametrize(
    ("speech", "dialect"),
    [(SpeechOptions(), "cantonese"), (SpeechOptions(dialect="sichuan"), "sichuan")],
)
async def test_cantonese_is_a_dialect_to_the_engine(
    fake_server: Callable[..., ServerProcess], tmp_path: Path, speech: SpeechOptions, dialect: str
) -> None:
    told = tmp_path / "opened"
    server = fake_server(parameters=["dialect"], open_log=str(told))
    async with await NativeClient.open(server.ws_url, SessionStart(language="yue")) as client:
        assert not said_of_dialects(client)
        await client.send(ContextOpen(speech=speech), TextAppend(text="你好。"), TextEnd())
        await client.until(ContextDone)
    assert json.loads(told.read_text())["dialect"] == dialect


async def test_an_engine_without_dialects_says_so(fake_server: Callable[..., ServerProcess]) -> None:
    async with await NativeClient.open(fake_server().ws_url, SessionStart(language="yue")) as client:
        assert said_of_dialects(client)
