"""Options: command line over environment over file over default, and a clear line for what cannot be used."""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys

import pytest

from cosyduplex_server.config import Config, add_options, load
from cosyduplex_server.errors import ConfigError


def parse(*argv: str) -> dict:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_options(parser)
    return vars(parser.parse_args(argv))


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text(
        'port = 1\nmax-sessions = 2\nidle_s = 3\nallow-origin = ["https://a"]\ninsecure-no-auth = true\n'
    )
    environment = {"COSYDUPLEX_PORT": "10", "COSYDUPLEX_MAX_SESSIONS": "20"}
    config = load(parse("--config", str(file), "--port", "100"), environment)
    assert (config.port, config.max_sessions, config.idle_s, config.drain_timeout) == (100, 20, 3.0, 30.0)
    assert config.allow_origin == ("https://a",)
    assert config.insecure_no_auth


def test_every_option_can_be_given_in_every_way():
    for field in dataclasses.fields(Config):
        flag = "--" + field.name.replace("_", "-")
        parser = argparse.ArgumentParser(allow_abbrev=False)
        add_options(parser)
        assert flag in parser.format_help()


def test_lists_may_be_repeated_or_given_at_once():
    assert load(parse("--api-key", "a", "b", "--api-key", "c"), {}).api_key == ("a", "b", "c")
    assert load({}, {"COSYDUPLEX_ALLOW_HOST": "a.example, b.example"}).allow_host == (
        "a.example",
        "b.example",
    )


def test_keys_are_read_from_a_file_too(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\nfirst\n\n  second  \n")
    assert load({"api_key": ["zero"], "api_keys_file": str(file)}, {}).all_keys() == (
        "zero",
        "first",
        "second",
    )


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"port": 70000}, "port"),
        ({"max_sessions": 0}, "max_sessions"),
        ({"idle_s": 0}, "idle_s"),
        ({"open_door": ["attic"]}, "no door"),
        ({"tls_port": 443}, "tls_cert"),
        ({"tls_cert": "cert.pem"}, "tls_key"),
        ({"host": "0.0.0.0"}, "insecure-no-auth"),
        ({"host": "tts.example"}, "insecure-no-auth"),
        ({"engine": "flute"}, "engine"),
        ({"port": "many"}, "whole number"),
        ({"port": 1.5}, "whole number"),
        ({"insecure_no_auth": "perhaps"}, "true or false"),
        ({"api_key": 5}, "list of strings"),
        ({"host": 5}, "string"),
        ({"api_keys_file": "/nowhere/keys", "host": "0.0.0.0"}, "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named(values, says):
    with pytest.raises(ConfigError, match=says):
        load(values, {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port = ", "not valid TOML"),
        ("colour = 1", "no option called 'colour'"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_bad_file_is_told_in_one_line_without_its_folder(tmp_path, text, says):
    file = tmp_path / "bad.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=says) as wrong:
        load({"config": str(file)}, {})
    assert str(tmp_path) not in str(wrong.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        load({"config": str(tmp_path / "missing.toml")}, {})


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cosyduplex_server", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)


@pytest.mark.parametrize(
    ("argv", "exit_code", "says"),
    [
        (["serve", "--host", "0.0.0.0"], 2, "without keys"),
        (["serve", "--port", "eight"], 2, "invalid int value"),
        (["serve", "--colour", "red"], 2, "unrecognized arguments"),
        (["serve", "--config", "missing.toml"], 2, "missing.toml cannot be read"),
        (["serve", "--engine", "cosyvoice", "--port", "0"], 3, "engine could not start"),
        (
            ["serve", "--tls-port", "1", "--tls-cert", "no.pem", "--tls-key", "no.pem", "--port", "0"],
            2,
            "tls_cert",
        ),
        (["serve", "--host", "no.such.host.invalid", "--insecure-no-auth"], 2, "no.such.host.invalid"),
        (["dance"], 2, "invalid choice"),
        ([], 2, "required"),
        (["voices", "list", "--url", "http://127.0.0.1:9"], 1, "does not answer"),
    ],
)
def test_each_failure_has_its_exit_code_and_one_clear_line(argv, exit_code, says):
    done = run(*argv)
    assert done.returncode == exit_code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told(voice_server):
    done = run("serve", "--port", str(voice_server.port))
    assert done.returncode == 2
    assert f"port {voice_server.port}" in done.stderr
    assert "--port" in done.stderr


def test_an_engine_that_cannot_start_exits_3(start_server):
    # A Python without the voice's library.
    code = (
        "import sys; sys.modules['espeakng_loader'] = None; import importlib.util as u; f = u.find_spec;"
        "u.find_spec = lambda n, *a: None if n == 'espeakng_loader' else f(n, *a);"
        "from cosyduplex_server.cli import main; sys.exit(main(['serve', '--port', '0']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=40, check=False
    )
    assert done.returncode == 3
    assert "pip install" in done.stderr


def test_voices_are_listed(voice_server):
    done = run("voices", "list", "--url", voice_server.url)
    assert done.returncode == 0
    assert "default" in done.stdout
    done = run("voices", "list", "--json", "--url", voice_server.url)
    assert '"voice_id"' in done.stdout


def test_doctor_says_what_works():
    done = run("doctor")
    assert done.returncode == 0, done.stdout
    assert "espeak-ng 1.52" in done.stdout
    assert "libopus" in done.stdout
