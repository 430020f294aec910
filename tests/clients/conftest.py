"""What every suite of real clients shares: servers, engines, and the record of what worked."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Keeps these tests out of a run that did not start here: its environment lacks the SDKs."""
    return None if config.rootpath == HERE else True


# --- servers


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Any]:
    """One server with the embedded voice for all tests; use `server`."""
    from servers import Server

    with tempfile.TemporaryDirectory(prefix="cdx-", dir="/tmp") as folder:
        server = Server(Path(folder), "--engine", "espeak", "--voice-processes", "2")
        yield server
        server.close()


@pytest.fixture
def server(shared_server: Any) -> Iterator[Any]:
    """A server with the embedded voice; a test that leaves a context behind in it fails."""
    yield shared_server
    shared_server.wait_until_idle()


@pytest.fixture
def scripted_server() -> Iterator[Callable[..., Any]]:
    """Starts a server whose engine follows a script: `scripted_server("--api-key", "k", ms_per_char=40)`.

    Each context of it is a tone of its own; `hearing.tones_hz` tells them apart.
    """
    from servers import ScriptedWorker, Server

    started: list[Any] = []
    # Not pytest's own folder: a socket's path may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="cdx-", dir="/tmp") as root:

        def start(*options: str, **script: Any) -> Server:
            folder = Path(root, str(len(started)))
            folder.mkdir()
            started.append(ScriptedWorker(folder, script))
            started.append(Server(folder, "--workers", started[-1].address, *options))
            return started[-1]

        yield start
        for process in reversed(started):
            process.close()


@pytest.fixture
def trusted(server: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server's `https` URL, which every client of this process trusts for the length of a test."""
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca_file))
    return server.tls_url


# --- the door matrix


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option by which a run says what it proved."""
    parser.addoption("--doors", metavar="FILE", help="write what each client got to work, for matrix.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives each test the rows that it stands for; they travel with its report."""
    for item in items:
        for mark in item.iter_markers("door"):
            item.user_properties.append(("door", _row(mark, item)))


def _row(mark: pytest.Mark, item: pytest.Item) -> dict[str, str]:
    """The door, client, version and feature of a mark; `{x}` in the feature is the test's parameter x.

    Raises:
        pytest.UsageError: the client is no distribution that is installed here.
    """
    (door,) = mark.args
    client, feature = mark.kwargs["client"], mark.kwargs["feature"]
    parameters = getattr(item, "callspec", None)
    try:
        version = metadata.version(client)
    except metadata.PackageNotFoundError:
        raise pytest.UsageError(f"{item.nodeid}: no distribution is named {client!r}") from None
    feature = feature.format(**parameters.params) if parameters else feature
    return {"door": door, "client": client, "version": version, "feature": feature}


class DoorRecord:
    """Collects the rows of a whole run, of every process of it, and writes them at its end."""

    def __init__(self, file: Path, *, is_whole: bool) -> None:
        self._file = file
        self._is_whole = is_whole
        self._rows: dict[tuple[str, ...], dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Takes down how one test went."""
        if report.when == "call" or not report.passed:
            for name, row in report.user_properties:
                if name == "door":
                    known = self._rows.setdefault(tuple(row.values()), {**row, "passed": True})
                    known["passed"] &= report.passed

    def pytest_sessionfinish(self) -> None:
        """Writes the file."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        record = {"is_whole": self._is_whole, "rows": list(self._rows.values())}
        self._file.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Starts the record, in the process that hears of every test."""
    file = config.getoption("--doors", None)
    if file is not None and not hasattr(config, "workerinput"):
        option = config.option
        is_whole = not (option.keyword or option.markexpr or option.deselect)
        is_whole &= [config.invocation_params.dir / name for name in config.args] == [HERE]
        config.pluginmanager.register(DoorRecord(config.invocation_params.dir / file, is_whole=is_whole))
