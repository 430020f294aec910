"""Whole campaigns against a server process with a scripted engine, in the words of the command line."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from cosyduplex_server.bench import plot
from cosyduplex_server.cli import main

SHORT = ("--text-seconds", "1-2", "--tokens-per-second", "50")


def bench(out: Path, url: str, *options: str) -> tuple[int, dict[str, Any]]:
    code = main(["bench", "--url", url, "--json", str(out), *options])
    return code, json.loads(out.read_text())


def test_a_campaign_is_measured_and_told(fake_server, tmp_path, capsys) -> None:
    server = fake_server(slots=50, voices=("anna", "ben"), ms_per_char=70)
    code, report = bench(
        tmp_path / "r.json",
        server.ws_url,
        "--sessions",
        "6",
        "--duration",
        "2",
        "--cancel-share",
        "0.5",
        "--max-ahead-ms",
        "500",
        *SHORT,
    )
    texts = report["texts"]

    assert code == 0
    assert report["schema"] == "cosyduplex.bench/1"
    assert report["errors"] == {}
    assert report["sessions"] == 6
    assert texts["begun"] > 6  # sessions are kept busy
    assert texts["done"] + texts["cancelled"] == texts["begun"]
    assert texts["cancelled"] > 0
    for name in ("ttfa_text_ms", "ttfa_enough_ms", "text_wait_ms", "first_audio_ms"):
        figures = report[name]
        assert figures["min"] <= figures["p50"] <= figures["p95"] <= figures["p99"] <= figures["max"], name
    assert report["ttfa_text_ms"]["count"] == texts["begun"]
    assert texts["done"] <= report["ttfa_enough_ms"]["count"] <= texts["begun"]
    assert report["ttfa_enough_ms"]["p50"] <= report["ttfa_text_ms"]["p50"]
    assert report["stop"]["acknowledged_ms"]["count"] == texts["cancelled"]
    assert report["stop"]["frames_after_end"] == 0
    assert [entry["jitter_buffer_ms"] for entry in report["playback"]] == [0, 60, 120]
    for entry in report["playback"]:
        missed = entry["underrun_slots"]
        assert entry["streams"] == texts["begun"]
        assert entry["slots"] * 0.02 <= report["audio_s"] + missed["all"] * 0.02 + 0.02 * entry["streams"]
        assert missed["unattributed"] == 0
        assert sum(missed[cause] for cause in ("text", "compute", "gateway")) == pytest.approx(
            missed["all"], abs=1
        )
    assert report["server_underruns"].keys() == {"text", "compute", "gateway"}
    assert report["rtf"] is None  # text and audio were paced
    # 24 kHz, two bytes a sample, and the headers.
    assert report["bytes_received"] > report["audio_s"] * 48_000
    assert report["server_cpu"]["cpu_s_per_audio_s"] > 0
    assert report["settings"]["voices"] == ["anna", "ben"]
    assert "ttfa_enough" in capsys.readouterr().out


def test_unpaced_text_and_audio_give_the_servers_own_speed(fake_server, tmp_path) -> None:
    server = fake_server(slots=50, ms_per_char=40, realtime_factor=0.1)
    options = ("--sessions", "3", "--tokens-per-second", "0", "--text-seconds", "3", "--codec", "opus")
    _, report = bench(tmp_path / "r.json", server.url, *options, "--server-pid", str(server.process.pid))

    assert report["settings"]["max_ahead_ms"] == 0
    assert report["rtf"]["count"] == 3
    # The script works 0.1 s for each second of audio; no server is faster than its engine.
    assert report["rtf"]["min"] >= 0.1
    assert report["audio_s"] == pytest.approx(report["characters"] * 0.04, rel=0.02)
    assert report["server_cpu"]["source"] == f"/proc/{server.process.pid}/stat"
    # A packet of Opus is far shorter than its samples.
    assert report["bytes_received"] < report["audio_s"] * 24_000


def test_a_full_engine_is_counted(fake_server, tmp_path) -> None:
    server = fake_server(slots=1, ms_per_char=40, realtime_factor=0.5)
    options = ("--arrivals-per-second", "50", "--sessions", "4", *SHORT)
    code, report = bench(tmp_path / "r.json", server.url, *options)

    assert code == 0
    assert report["sessions"] == 4
    assert report["errors"] == {"over_capacity": report["texts"]["failed"]}
    assert report["texts"]["done"] + report["texts"]["failed"] == 4
    assert report["texts"]["done"] >= 1


def test_a_full_server_is_counted(fake_server, tmp_path, capsys) -> None:
    server = fake_server("--max-sessions", "1")
    with connect(server.ws_url) as socket:
        socket.send('{"type": "session.start"}')
        assert "session.started" in str(socket.recv())
        code, report = bench(tmp_path / "r.json", server.url, "--sessions", "2")

    assert report["errors"] == {"over_capacity": 2}
    assert report["texts"]["begun"] == 0
    assert code == 1
    assert "nothing was measured" in capsys.readouterr().err


def test_a_server_that_dies_ends_the_campaign(fake_server, tmp_path) -> None:
    server = fake_server(slots=50, realtime_factor=0.9)
    killer = threading.Timer(1.0, server.process.kill)
    killer.start()
    options = ("--sessions", "5", "--duration", "60", "--text-seconds", "30", "--tokens-per-second", "20")
    _, report = bench(tmp_path / "r.json", server.url, *options)
    killer.join()

    assert report["errors"] == {"connection_lost": 5}
    assert report["texts"] == {"begun": 5, "done": 0, "cancelled": 0, "failed": 5, "cut": 0}
    assert report["elapsed_s"] < 30
    # Nobody was left to say whose fault the holes were, or what the server cost.
    assert report["server_underruns"] is None
    assert report["server_cpu"] is None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "ftp://127.0.0.1", "no such host", "http://[::", "h:99999"]
)
def test_a_wrong_url_is_one_clear_line(url: str, capsys) -> None:
    assert main(["bench", "--url", url]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("cosyduplex: ")
    assert output.err.count("\n") == 1


@pytest.mark.parametrize("options", [("--sessions", "0"), ("--arrivals-per-second", "1")])
def test_a_campaign_that_makes_no_sense_is_a_usage_error(options, capsys) -> None:
    assert main(["bench", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_report_that_cannot_be_written_is_known_before_the_campaign(capsys) -> None:
    assert main(["bench", "--json", "/no/such/folder/r.json"]) == 1
    assert "/no/such/folder/r.json" in capsys.readouterr().err


def test_the_key_does_not_get_into_the_report(start_server, start_worker, tmp_path, monkeypatch) -> None:
    worker = start_worker(slots=50, ms_per_char=20)
    server = start_server("--workers", worker.address, "--api-key", "s3cret-key")
    argv = ["bench", "--url", server.url, "--api-key", "s3cret-key", "--json", str(tmp_path / "r.json")]
    monkeypatch.setattr("sys.argv", ["cosyduplex", *argv])

    assert main([*argv, "--sessions", "2", "--text-seconds", "1"]) == 0
    assert "s3cret-key" not in (tmp_path / "r.json").read_text()


def test_without_matplotlib_there_is_no_plot_and_a_hint(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(plot.PlotUnavailable, match=r"cosyduplex\[bench\]"):
        plot.load_library()
