"""What the server was told: command line over environment over file over default, read and checked once.

The fields of `Config` are the options: `max_sessions` is `--max-sessions`, `COSYDUPLEX_MAX_SESSIONS` and
the key `max_sessions` (or `max-sessions`) of the TOML file.
"""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cosyduplex.messages import Limits
from cosyduplex_server.errors import ConfigError

ENVIRONMENT_PREFIX = "COSYDUPLEX_"
DOORS = (
    "duplex",
    "info",
    "voices",
    "models",
    "metrics",
    "openapi",
    "asyncapi",
    "demo",
    "files",
    "triton",
    "cosyvoice",
    "workflow",
    "tts",
    "dashscope",
    "elevenlabs",
    "cartesia",
    "deepgram",
    "openai",
)


LATER = " (no effect in this version)"


def option(default: Any, help_text: str, *, metavar: str | None = None) -> Any:
    """One option: its default, what it does, and how its value is called in the help."""
    return dataclasses.field(default=default, metadata={"help": help_text, "metavar": metavar})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration of `serve`."""

    host: str = option("127.0.0.1", "address to listen on", metavar="ADDR")
    port: int = option(8765, "port for HTTP and WebSocket; 0 takes a free one", metavar="N")
    tls_port: int = option(0, "port for HTTPS and WSS beside the plain one; 0 is off", metavar="N")
    tls_cert: str | None = option(None, "certificate file, or `auto` for a self-signed one", metavar="F|auto")
    tls_key: str | None = option(None, "key file of the certificate", metavar="F")
    engine: Literal["auto", "espeak", "cosyvoice", "upstream"] = option("auto", "which engine speaks")
    model_dir: str | None = option(None, "directory of a CosyVoice checkpoint", metavar="DIR")
    cosyvoice_home: str | None = option(None, "checkout of upstream CosyVoice" + LATER, metavar="DIR")
    voices_dir: str | None = option(
        None, "where added voices are kept; else in the user's data directory", metavar="DIR"
    )
    device: str = option("auto", "where CosyVoice runs: auto, cpu, cuda or cuda:N", metavar="DEVICE")
    reduce_memory: bool = option(False, "smaller caches for CosyVoice, and shorter contexts in them")
    slots: int = option(
        0, "contexts an engine process speaks at a time; 0 leaves it to the engine", metavar="N"
    )
    text_start: Literal["clause", "interleave", "sentence"] = option(
        "clause", "how much of a sentence CosyVoice waits for before it begins to speak"
    )
    triton_grpc_port: int = option(8001, "port of the Triton door, gRPC; 0 is off", metavar="N")
    cosyvoice_grpc_port: int = option(50000, "port of the CosyVoice gRPC door; 0 is off", metavar="N")
    cosyvoice_rate: int = option(
        0, "sample rate of the CosyVoice doors, whose clients cannot be told; 0 is the model's", metavar="HZ"
    )
    voice_names: str | None = option(
        None, "TOML file of names that other servers' clients have for this one's voices", metavar="F"
    )
    fetch_host: tuple[str, ...] = option(
        (), "a host that enrolment may fetch a recording from; may be repeated", metavar="H"
    )
    dialect_max_ahead_ms: int = option(
        5000, "audio sent ahead of real time on the sockets of vendors' dialects; 0 is all", metavar="MS"
    )
    llm_base_url: str | None = option(None, "LLM of the demo's agent" + LATER, metavar="URL")
    llm_model: str | None = option(None, "its model" + LATER, metavar="M")
    workers: tuple[str, ...] = option(
        (), "engine workers that run already: unix:PATH or HOST:PORT", metavar="ADDR"
    )
    voice_processes: int = option(
        0, "processes of the embedded voice; 0 is one a core, four at most", metavar="N"
    )
    api_key: tuple[str, ...] = option((), "a key clients must present; may be repeated", metavar="KEY")
    api_keys_file: str | None = option(None, "file with one key a line, # begins a comment", metavar="F")
    insecure_no_auth: bool = option(False, "listen beyond loopback although there are no keys")
    open_door: tuple[str, ...] = option(
        (), f"a door that needs no key: {', '.join(DOORS)}; may be repeated", metavar="NAME"
    )
    allow_origin: tuple[str, ...] = option(
        (), "a web origin that may call, as https://app.example; may be repeated", metavar="O"
    )
    allow_host: tuple[str, ...] = option(
        (), "a host name clients may use to reach this server; may be repeated", metavar="H"
    )
    max_sessions: int = option(1000, "sessions at a time; one more is closed with 1013", metavar="N")
    max_contexts_per_session: int = option(16, "contexts at a time in one session", metavar="N")
    max_text_chars: int = option(100_000, "characters in one append", metavar="N")
    max_context_s: int = option(3600, "seconds of audio in one context", metavar="S")
    idle_s: float = option(300.0, "a session with no open context is ended after this long", metavar="S")
    first_message_s: float = option(10.0, "a socket that says nothing is closed after this long", metavar="S")
    text_idle_ms: int = option(
        700,
        "complete words are spoken when the writer pauses this long; 0 waits for a boundary",
        metavar="MS",
    )
    engine_stall_s: float = option(
        30.0,
        "a context whose engine has text to speak and says nothing for this long is ended; 0 is never",
        metavar="S",
    )
    ping_interval_s: float = option(
        10.0, "a silent peer is pinged this often, and dropped after twice", metavar="S"
    )
    write_timeout_s: float = option(20.0, "a client that reads nothing for this long is dropped", metavar="S")
    drain_timeout: float = option(30.0, "on SIGTERM running contexts have this long to finish", metavar="S")
    log_format: Literal["text", "json"] = option("text", "how log lines look")
    log_level: Literal["debug", "info", "warning", "error"] = option("info", "which log lines appear")

    def __post_init__(self) -> None:
        _check(self)

    @property
    def limits(self) -> Limits:
        """What `session.started` tells a client."""
        return Limits(
            max_text_chars=self.max_text_chars,
            max_contexts=self.max_contexts_per_session,
            max_context_s=self.max_context_s,
            idle_s=int(self.idle_s),
        )

    @property
    def without_effect(self) -> tuple[str, ...]:
        """Options that were set and do nothing in this version."""
        return tuple(
            field.name
            for field in dataclasses.fields(self)
            if str(field.metadata["help"]).endswith(LATER) and getattr(self, field.name) != field.default
        )

    def all_keys(self) -> tuple[str, ...]:
        """Every key, from the options and the file.

        Raises:
            ConfigError: the file cannot be read.
        """
        if self.api_keys_file is None:
            return self.api_key
        try:
            lines = Path(self.api_keys_file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"api_keys_file cannot be read: {_reason(exc)}") from None
        named = (line.strip() for line in lines)
        return self.api_key + tuple(line for line in named if line and not line.startswith("#"))


def _check(config: Config) -> None:
    for name in ("port", "tls_port", "triton_grpc_port", "cosyvoice_grpc_port"):
        if not 0 <= getattr(config, name) <= 65535:
            raise ConfigError(f"{name} must be from 0 to 65535")
    for name in ("max_sessions", "max_contexts_per_session", "max_text_chars", "max_context_s"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1")
    for name in ("idle_s", "first_message_s", "ping_interval_s", "write_timeout_s"):
        if getattr(config, name) <= 0:
            raise ConfigError(f"{name} must be more than 0")
    for name in ("voice_processes", "slots", "text_idle_ms", "engine_stall_s", "drain_timeout"):
        if getattr(config, name) < 0:
            raise ConfigError(f"{name} must not be negative")
    for door in config.open_door:
        if door not in DOORS:
            raise ConfigError(f"open_door: there is no door called {door!r}; there are {', '.join(DOORS)}")
    if config.tls_port and config.tls_cert is None:
        raise ConfigError("tls_port needs tls_cert (a file, or `auto` for a self-signed certificate)")
    if config.tls_cert not in (None, "auto") and config.tls_key is None:
        raise ConfigError("tls_cert needs tls_key")
    if not is_loopback(config.host) and not config.all_keys() and not config.insecure_no_auth:
        raise ConfigError(
            f"listening on {config.host} without keys would let anybody speak: "
            "set --api-key or --api-keys-file, or --insecure-no-auth if you mean it"
        )


def is_loopback(host: str) -> bool:
    """Whether a host, as in a URL without its port, can only be this machine."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


# --- from command line, environment and file ---------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--config` and one option per field; an option that is not given leaves no trace."""
    parser.add_argument("--config", metavar="FILE.toml", help="read options from this file")
    hints = typing.get_type_hints(Config)
    for field in dataclasses.fields(Config):
        flag = "--" + field.name.replace("_", "-")
        details: dict[str, Any] = {
            "dest": field.name,
            "default": argparse.SUPPRESS,
            "help": _help(field),
        }
        kind = _plain(hints[field.name])
        if kind is bool:
            parser.add_argument(flag, action="store_true", **details)
        elif typing.get_origin(kind) is Literal:
            parser.add_argument(flag, choices=typing.get_args(kind), **details)
        elif typing.get_origin(kind) is tuple:
            parser.add_argument(
                flag, action="extend", nargs="+", metavar=field.metadata["metavar"], **details
            )
        else:
            parser.add_argument(flag, type=kind, metavar=field.metadata["metavar"], **details)


def _help(field: dataclasses.Field[Any]) -> str:
    text = str(field.metadata["help"]).replace("%", "%%")
    if field.default in (None, (), False):
        return text
    return f"{text} (default {field.default})"


def load(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Config:
    """Joins the three sources.

    Args:
        flags: what the command line gave, by field name; `config` names the file.
        environment: where `COSYDUPLEX_…` is looked up.

    Raises:
        ConfigError: a value is not usable, or the file is not; the text names the option.
    """
    names = {field.name for field in dataclasses.fields(Config)}
    file = flags.get("config") or environment.get(ENVIRONMENT_PREFIX + "CONFIG")
    values: dict[str, Any] = _from_file(Path(file), names) if file else {}
    values |= _from_environment(environment, names)
    values |= {name: flags[name] for name in names if name in flags}
    hints = typing.get_type_hints(Config)
    return Config(**{name: _coerce(name, hints[name], value) for name, value in values.items()})


def _from_file(path: Path, names: set[str]) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path.name} cannot be read: {_reason(exc)}") from None
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path.name} is not valid TOML: {exc}") from None
    values = {key.replace("-", "_"): value for key, value in table.items()}
    for key in values:
        if key not in names:
            raise ConfigError(f"{path.name}: there is no option called {key!r}")
    return values


def _from_environment(environment: Mapping[str, str], names: set[str]) -> dict[str, Any]:
    found = {}
    for name in names:
        value = environment.get(ENVIRONMENT_PREFIX + name.upper())
        if value is not None:
            found[name] = value
    return found


def _plain(hint: Any) -> Any:
    """The type behind `X | None`."""
    if typing.get_origin(hint) is types.UnionType:
        return next(arg for arg in typing.get_args(hint) if arg is not types.NoneType)
    return hint


def _coerce(name: str, hint: Any, value: Any) -> Any:
    kind = _plain(hint)
    if typing.get_origin(kind) is tuple:
        items = value.replace(",", " ").split() if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise ConfigError(f"{name} must be a list of strings")
        return tuple(items)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise ConfigError(f"{name} must be one of {', '.join(typing.get_args(kind))}")
        return value
    if kind is bool:
        return _boolean(name, value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigError(f"{name} must be a {_CALLED[kind]}")
    if kind is str and not isinstance(value, str):
        raise ConfigError(f"{name} must be a {_CALLED[kind]}")
    if kind is int and isinstance(value, float):
        raise ConfigError(f"{name} must be a {_CALLED[kind]}")
    try:
        return kind(value)
    except ValueError:
        raise ConfigError(f"{name} must be a {_CALLED[kind]}, not {value!r}") from None


_CALLED = {int: "whole number", float: "number", str: "string"}
_BOOLEANS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def _boolean(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    raise ConfigError(f"{name} must be true or false")


def _reason(exc: Exception) -> str:
    return exc.strerror or "not readable" if isinstance(exc, OSError) else "not UTF-8"
