"""A server that speaks with a checkpoint, and clients that listen to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from conftest import ServerProcess
from native_client import NativeClient
from numpy.typing import NDArray

from cosyduplex.messages import (
    ContextDone,
    ContextOpen,
    Error,
    FlowOptions,
    Marks,
    SessionStart,
    SpeechOptions,
    TextAppend,
    TextEnd,
    WordMark,
)

SLOTS = 4
SAVED, SFT = "tiny-saved", "英文女"
ENGLISH = "Hello world, this is what a model says while it is still thinking."
SHORT = "Hello world, this is a test."
CHINESE = "你好，世界。今天天气很好，我们一起去公园吧。"
MIXED = "Hello 世界, 我用 Python 写了三个 programs 给你看。"
# One thread each: the models are tiny, and tests run beside each other.
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
UNPACED = SessionStart(flow=FlowOptions(max_ahead_ms=0), marks=True, speech=SpeechOptions(seed=5))


def options(checkpoint: Path) -> tuple[str, ...]:
    """What names the engine and its model."""
    return ("--engine", "cosyvoice", "--model-dir", str(checkpoint), "--device", "cpu")


class ModelServer(ServerProcess):
    """`cosyduplex serve` with a checkpoint, in a process of its own."""

    def __init__(self, checkpoint: Path, *more: str) -> None:
        super().__init__(*options(checkpoint), *more, environment=ENVIRONMENT)

    def json(self, path: str) -> Any:
        """What it answers to GET."""
        with urlopen(self.url + path, timeout=20) as answer:
            return json.load(answer)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels."""
        with urlopen(f"{self.url}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def slots(self) -> tuple[float, float]:
        """How many contexts there is room for, and how many there are."""
        metrics = self.metrics()
        free, busy = (metrics[f'cosyduplex_engine_slots{{state="{state}"}}'] for state in ("free", "busy"))
        return free, busy

    def worker(self) -> int:
        """The process id of its engine worker."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        children = [pid for thread in threads for pid in (thread / "children").read_text().split()]
        (pid,) = (pid for pid in children if b"cosyvoice" in Path(f"/proc/{pid}/cmdline").read_bytes())
        return int(pid)


def memory_kb(pid: int) -> int:
    """A process's resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


class Listener(NativeClient):
    """A client that hears what it is sent."""

    async def until(self, kind: type[Any], **fields: Any) -> Any:
        """As `NativeClient.until`; an error that was not waited for fails."""
        while True:
            message = (await self.receive()).message
            if isinstance(message, kind) and all(getattr(message, k) == v for k, v in fields.items()):
                return message
            assert not isinstance(message, Error), message

    async def say(self, text: str, context_id: str = "default", **opening: Any) -> ContextDone:
        """Has a whole text spoken to its end."""
        if opening:
            await self.send(ContextOpen(context_id=context_id, **opening))
        await self.send(TextAppend(context_id=context_id, text=text), TextEnd(context_id=context_id))
        return await self.until(ContextDone, context_id=context_id)

    async def write(self, text: str, context_id: str = "default", *, size: int = 3) -> None:
        """Sends a text a few characters at a time."""
        for at in range(0, len(text), size):
            await self.send(TextAppend(context_id=context_id, text=text[at : at + size]))

    async def until_audio(self, context_id: str = "default") -> None:
        """Reads up to the next audio of a context."""
        heard = len(self.frames(context_id))
        while len(self.frames(context_id)) == heard:
            await self.receive()

    def words(self, context_id: str = "default") -> list[WordMark]:
        """The marks of a context."""
        marks = (message for message in self.messages(Marks) if message.context_id == context_id)
        return [word for message in marks for word in message.words]

    def samples(self, context_id: str = "default") -> NDArray[np.float64]:
        """What was heard of a context, in units of 16 bit."""
        return np.frombuffer(self.audio(context_id), "<i2").astype(float)


def same(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether two sound alike: batches of another size round differently."""
    return len(a) == len(b) > 0 and bool(np.abs(a - b).max() <= 33)
