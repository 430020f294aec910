"""The demo page in a real browser, with what it sends, receives and plays recorded."""

from __future__ import annotations

import base64
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FakeWorker, ServerProcess
from numpy.typing import NDArray

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("COSYDUPLEX_CHROMIUM") or shutil.which("chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A name that is not loopback: pages of it are no secure context.
    "--host-resolver-rules=MAP plain.test 127.0.0.1",
)
WAIT_MS = 15_000


@dataclass(frozen=True, slots=True)
class Frame:
    """One audio frame as the page got it."""

    context_index: int
    pts: int
    payload: bytes


class Demo:
    """The demo page, opened.

    Attributes:
        page: Playwright's page.
        console: what the browser's console got, and errors of the page.
    """

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.console: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.console.append(f"exception: {error}"))
        page.add_init_script(path=HERE / "recorder.js")
        page.goto(url)

    # --- what a person does

    def wait_ready(self) -> None:
        """Waits until the page is connected."""
        self.wait_link("ready")

    def wait_link(self, state: str) -> None:
        """Waits until the connection stands like this."""
        self.page.wait_for_selector(f'#connection[data-state="{state}"]')

    def turn_sound_on(self) -> None:
        """Clicks the button and waits for the sound."""
        self.page.click("#sound")
        self.page.wait_for_selector("#sound", state="hidden")

    def type(self, text: str, delay_ms: float = 5) -> None:
        """Types into the box."""
        self.page.focus("#text")
        self.page.keyboard.type(text, delay=delay_ms)

    def paste(self, text: str) -> None:
        """Puts text into the box in one go."""
        self.page.focus("#text")
        self.page.keyboard.insert_text(text)

    def say(self, text: str) -> None:
        """Types and presses Enter."""
        self.type(text)
        self.page.keyboard.press("Enter")

    def wait_utterance(self, state: str, number: int = 0) -> None:
        """Waits until the `number`-th utterance on the page stands like this."""
        self.page.wait_for_selector(f'.utterance:nth-of-type({number + 1})[data-state="{state}"]')

    # --- what was recorded

    def sent(self, kind: str) -> list[dict[str, Any]]:
        """Messages of a type that the page sent."""
        messages = self.page.evaluate("__seen.sent")
        return [message for message in messages if message.get("type") == kind]

    def received(self, kind: str) -> list[dict[str, Any]]:
        """Messages of a type that it got."""
        messages = self.page.evaluate("__seen.received.filter(({type}) => type !== 'audio')")
        return [message for message in messages if message["type"] == kind]

    def wait_sent(self, kind: str, **fields: Any) -> None:
        """Waits until the page has sent a message of a type with these fields."""
        for _ in range(WAIT_MS // 50):
            if any(fields.items() <= message.items() for message in self.sent(kind)):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"no {kind} with {fields} was sent")

    def frames(self, context_index: int = 0) -> list[Frame]:
        """The audio frames of one context."""
        data = self.page.evaluate(
            "__seen.received.filter(({type}) => type === 'audio').map(({base64}) => base64)"
        )
        frames = []
        for raw in map(base64.b64decode, data):
            _, _, index, _, pts = struct.unpack_from("!BBHII", raw)
            if index == context_index:
                frames.append(Frame(index, pts, raw[12:]))
        return frames

    def pcm(self, context_index: int = 0) -> NDArray[np.int16]:
        """The samples of one context that came over the socket."""
        payload = b"".join(frame.payload for frame in self.frames(context_index))
        return np.frombuffer(payload, "<i2")

    def played(self) -> Played:
        """What the loudspeaker has got so far."""
        self.page.wait_for_timeout(150)  # the tap reports in blocks
        got = self.page.evaluate("__played()")
        samples = np.frombuffer(base64.b64decode(got["base64"]), "<f4")
        return Played(samples, got["startFrame"], round(got["sampleRate"]))

    @property
    def gaps(self) -> int:
        """How often the sound stopped for want of samples."""
        underruns = self.page.inner_text("#underruns")
        return int(underruns) + int(self.page.inner_text("#pauses") != "")


@dataclass(frozen=True, slots=True)
class Played:
    """Samples the loudspeaker got."""

    samples: NDArray[np.float32]
    start_frame: int
    sample_rate_hz: int

    @property
    def sound(self) -> NDArray[np.float32]:
        """From the first to the last sample that is not silence."""
        loud = np.flatnonzero(self.samples)
        return self.samples[loud[0] : loud[-1] + 1]

    @property
    def sound_end_s(self) -> float:
        """When the last sample that is not silence was due, on the audio clock."""
        return float(self.start_frame + np.flatnonzero(self.samples)[-1] + 1) / self.sample_rate_hz


@pytest.fixture(scope="module")
def counting_server() -> Iterator[ServerProcess]:
    """A server whose n-th sample has the value n modulo 32768, 40 ms of them for each character."""
    with tempfile.TemporaryDirectory(prefix="cdx-", dir="/tmp") as folder:
        worker = FakeWorker(Path(folder), signal="counter", ms_per_char=40)
        server = ServerProcess("--workers", worker.address)
        yield server
        server.close()
        worker.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as api:
        launched = api.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture
def open_demo(browser: Any) -> Iterator[Callable[..., Demo]]:
    """Opens the demo of a server, each time as a new visitor.

    `tap` records what reaches the loudspeaker; its module comes from nowhere, so the page's content security
    policy is off then. `before` is JavaScript that runs first.
    """
    contexts: list[Any] = []

    def open_page(url: str, *, tap: bool = False, before: str = "", **visitor: Any) -> Demo:
        settings = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US", **visitor}
        contexts.append(browser.new_context(bypass_csp=tap, **settings))
        page = contexts[-1].new_page()
        source = (HERE / "tap_worklet.js").read_text() if tap else None
        page.add_init_script(f"window.__tapSource = {json.dumps(source)}; {before}")
        return Demo(page, url)

    yield open_page
    for context in contexts:
        context.close()
