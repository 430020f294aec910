"""Added voices on disk: one folder each, complete or not there at all.

    <voices-dir>/<hash of the id>/voice.json                     what it is
                                  prompt.wav                     the recording: mono, 16 bit
                                  features-<fingerprint>.safetensors   what an engine made of it

A voice is written beside its place and renamed into it, and renamed out of it before its files go, so whoever
reads finds whole voices alone, however a writer ended. That holds for several gateways on one folder, too:
`refresh` sees what the others did. Everything here blocks; the gateway calls it in threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from cosyduplex.errors import ErrorCode
from cosyduplex_server.audio.reference import Recording, read_recording
from cosyduplex_server.errors import Failure

log = logging.getLogger(__name__)

MAX_ID_CHARS: Final = 64
# Thirty seconds of fast speech have some 800 characters.
MAX_TEXT_CHARS: Final = 1000
MAX_LABELS: Final = 16
MAX_LABEL_CHARS: Final = 100
# What a writer left behind when it was killed; a living one is done long before.
_LEFTOVER_S: Final = 600.0
# A folder changed this recently may change again without its time showing it.
_SETTLED_S: Final = 1.0
_ENTRY: Final = re.compile(r"[0-9a-f]{32}")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*")
_YES: Final = frozenset({"true", "1", "yes", "on"})


class VoiceExists(Exception):
    """There is a voice of that id already."""


class VoiceDamaged(Exception):
    """The files of a voice are not what they should be; the text says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVoice:
    """A voice that may be added: every field was checked."""

    id: str
    name: str
    language: str
    text: str
    labels: Mapping[str, str]
    recording: Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVoice:
    """One added voice.

    Attributes:
        language: BCP 47, or empty: found out from what is to be said.
        text: what the recording says.
        consent: whoever added it said that the speaker agreed.
        created: when, in ISO 8601, UTC.
        sha256: of the recording.
        figures: what was measured in the recording, and what an engine said the voice costs.
    """

    id: str
    name: str
    language: str
    text: str
    labels: Mapping[str, str]
    consent: bool
    created: str
    sha256: str
    figures: Mapping[str, float]

    @property
    def edition(self) -> str:
        """Tells two voices apart that had the same id one after the other."""
        return f"{self.created} {self.sha256}"


# --- what a voice may be ---------------------------------------------------------------------------------


def check_new_voice(fields: Mapping[str, str], audio: bytes | None) -> NewVoice:
    """Checks what somebody sent to be added, the recording last.

    Args:
        fields: `name`, `text`, `consent`, and if wanted `id` (the name when left out), `language`, `labels`
            (a JSON object of strings).
        audio: the uploaded file; `None` when there was none.

    Raises:
        Failure: `bad_request`, `text_too_long` or `bad_reference_audio`.
    """
    name = _field(fields, "name")
    voice_id = fields.get("id") or name
    for called, value in (("name", name), ("id", voice_id)):
        if not (len(value) <= MAX_ID_CHARS and value.isprintable()):
            raise _bad_field(f"{called} must have 1 to {MAX_ID_CHARS} printable characters")
    if "/" in voice_id:
        raise _bad_field("id (the name, where no id is sent) must not contain `/`")
    if fields.get("consent", "").strip().lower() not in _YES:
        raise Failure(
            ErrorCode.BAD_REQUEST,
            "consent must be true: a voice is added only when the person who speaks in the recording "
            "has agreed to it",
            "Ask that person; then send consent=true.",
        )
    text = _field(fields, "text").strip()
    if len(text) > MAX_TEXT_CHARS:
        raise Failure(
            ErrorCode.TEXT_TOO_LONG,
            f"text has {len(text)} characters; {MAX_TEXT_CHARS} at most are taken",
            "Send exactly what the recording says.",
        )
    language = fields.get("language", "").strip()
    if language in ("auto", ""):
        language = ""
    elif not _LANGUAGE.fullmatch(language):
        raise _bad_field("language must be a language tag, as zh, en or pt-BR")
    labels = _labels(fields.get("labels", ""))
    if audio is None:
        raise _bad_field("audio is missing: it must be a file of the form")
    return NewVoice(
        id=voice_id,
        name=name,
        language=language,
        text=text,
        labels=labels,
        recording=read_recording(audio),
    )


def _field(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name)
    if value is None or not value.strip():
        raise _bad_field(f"{name} is missing")
    return value


def _labels(text: str) -> dict[str, str]:
    if not text.strip():
        return {}
    try:
        labels = orjson.loads(text)
    except ValueError:  # a lone surrogate, too
        labels = None
    if (
        not isinstance(labels, dict)
        or len(labels) > MAX_LABELS
        or not all(isinstance(value, str) for value in labels.values())
        or any(len(part) > MAX_LABEL_CHARS for pair in labels.items() for part in pair)
    ):
        raise _bad_field(
            f"labels must be a JSON object of {MAX_LABELS} strings at most, {MAX_LABEL_CHARS} characters each"
        )
    return labels


def _bad_field(message: str) -> Failure:
    return Failure(
        ErrorCode.BAD_REQUEST,
        message,
        "Send multipart/form-data with name, audio (a file), text, consent=true, and if wanted id, language, "
        "labels.",
    )


def default_voices_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Where voices are kept when nobody says where: in the user's data directory."""
    base = environment.get("XDG_DATA_HOME", "")
    home = Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~/.local/share"))
    return home / "cosyduplex" / "voices"


# --- the store -------------------------------------------------------------------------------------------


class VoiceStore:
    """The voices of one folder. Every method may be called from any thread.

    Args:
        folder: made when the first voice is added.
        time_s: seconds since the epoch.
    """

    def __init__(self, folder: Path, time_s: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._time_s = time_s
        self._lock = threading.Lock()
        self._voices: dict[str, StoredVoice] = {}
        self._seen: int | None = None
        self._stamps: dict[str, tuple[int, ...]] = {}  # of each entry, as it was last read
        self._entries: dict[str, StoredVoice] = {}  # by the name of its folder

    @property
    def voices(self) -> Mapping[str, StoredVoice]:
        """The voices by id, oldest first, as of the last change or `refresh`; replaced, never changed."""
        return self._voices

    def open(self) -> None:
        """Reads the folder and clears away what killed writers left there.

        Raises:
            OSError: the folder is there and cannot be read.
        """
        self.refresh()
        if not self.folder.is_dir():
            return
        now_s = self._time_s()
        for entry in self.folder.iterdir():
            with contextlib.suppress(OSError):
                if entry.name.startswith(".") and now_s - entry.stat().st_mtime > _LEFTOVER_S:
                    shutil.rmtree(entry, ignore_errors=True)

    def refresh(self) -> bool:
        """Takes in what other programs added and removed, and says whether that was anything.

        One look at the folder's time when nothing happened.

        Raises:
            OSError: the folder is there and cannot be read.
        """
        with self._lock:
            return self._refresh()

    def _refresh(self) -> bool:
        try:
            changed_ns = os.stat(self.folder).st_mtime_ns
        except FileNotFoundError:
            self._seen, names = None, []
        else:
            if changed_ns == self._seen:
                return False
            settled = self._time_s() - changed_ns / 1e9 > _SETTLED_S
            self._seen = changed_ns if settled else None
            names = [name for name in os.listdir(self.folder) if _ENTRY.fullmatch(name)]
        for name in [name for name in self._stamps if name not in names]:
            del self._stamps[name]
            self._entries.pop(name, None)
        for name in names:
            self._read_entry(name)
        return self._publish()

    def _read_entry(self, name: str) -> None:
        """Reads one voice, unless it is as it was; a broken one is skipped, and the log says so once."""
        try:
            stat = os.stat(self.folder / name / "voice.json")
            stamp: tuple[int, ...] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            stamp = ()
        if self._stamps.get(name) == stamp:
            return
        self._stamps[name] = stamp
        try:
            self._entries[name] = _read_voice(self.folder / name)
        except (VoiceDamaged, OSError) as error:
            self._entries.pop(name, None)
            reason = str(error) if isinstance(error, VoiceDamaged) else type(error).__name__
            log.warning("a stored voice is skipped", extra={"entry": name, "reason": reason})

    def _publish(self) -> bool:
        voices = sorted(self._entries.values(), key=lambda voice: (voice.created, voice.id))
        found = {voice.id: voice for voice in voices}
        if found == self._voices:
            return False
        self._voices = found
        return True

    def add(
        self,
        new: NewVoice,
        *,
        features: Mapping[str, bytes] | None = None,
        figures: Mapping[str, float] | None = None,
    ) -> StoredVoice:
        """Keeps a voice; once this returns it survives a loss of power.

        Args:
            new: the voice.
            features: what engines made of it, by fingerprint.
            figures: what they said it costs.

        Raises:
            VoiceExists: there is one of that id.
            OSError: it cannot be written.
        """
        voice = StoredVoice(
            id=new.id,
            name=new.name,
            language=new.language,
            text=new.text,
            labels=dict(new.labels),
            consent=True,
            created=datetime.fromtimestamp(self._time_s(), UTC).isoformat(timespec="microseconds"),
            sha256=hashlib.sha256(new.recording.wav).hexdigest(),
            figures={**new.recording.figures, **(figures or {})},
        )
        files = {"voice.json": _as_json(voice), "prompt.wav": new.recording.wav}
        files |= {_features_name(each): blob for each, blob in (features or {}).items()}
        if not self.folder.is_dir():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)  # recordings of people are nobody else's
        with self._lock:
            made = self._beside("new")
            made.mkdir()
            try:
                for name, content in files.items():
                    _write(made / name, content)
                _sync_folder(made)
                self._put_in_place(made, self.folder / entry_name(new.id))
            finally:
                shutil.rmtree(made, ignore_errors=True)
            _sync_folder(self.folder)
            self._seen = None
            self._refresh()
        return voice

    def _put_in_place(self, made: Path, place: Path) -> None:
        """Renames a voice to where it belongs, which fails when one is there; a broken one makes room."""
        try:
            os.rename(made, place)
            return
        except OSError:
            if not place.is_dir():
                raise
        try:
            _read_voice(place)
        except (VoiceDamaged, OSError):
            self._move_away(place)
            os.rename(made, place)
        else:
            raise VoiceExists(made.name)

    def remove(self, voice_id: str) -> bool:
        """Forgets a voice and deletes its files; says whether there was one.

        Raises:
            OSError: the folder cannot be changed.
        """
        with self._lock:
            try:
                self._move_away(self.folder / entry_name(voice_id))
            except FileNotFoundError:
                found = False
            else:
                found = True
                _sync_folder(self.folder)
            self._seen = None
            self._refresh()
        return found

    def _move_away(self, place: Path) -> None:
        gone = self._beside("gone")
        os.rename(place, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _beside(self, purpose: str) -> Path:
        return self.folder / f".{purpose}-{secrets.token_hex(8)}"

    def prompt_wav(self, voice: StoredVoice) -> bytes:
        """The recording of a voice.

        Raises:
            VoiceDamaged: it is gone, or not the one that was stored.
        """
        try:
            data = (self.folder / entry_name(voice.id) / "prompt.wav").read_bytes()
        except OSError:
            raise VoiceDamaged("its recording cannot be read") from None
        if hashlib.sha256(data).hexdigest() != voice.sha256:
            raise VoiceDamaged("its recording is not the one that was stored")
        return data

    def features(self, voice: StoredVoice, fingerprint: str) -> bytes | None:
        """What an engine of this fingerprint made of the voice, where that was kept."""
        try:
            return (self.folder / entry_name(voice.id) / _features_name(fingerprint)).read_bytes()
        except OSError:
            return None

    def keep_features(
        self, voice: StoredVoice, fingerprint: str, features: bytes, figures: Mapping[str, float]
    ) -> None:
        """Keeps what an engine made of a voice; nothing happens when the voice is no longer there.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            self._refresh()
            now = self._voices.get(voice.id)
            if now is None or now.edition != voice.edition:
                return
            place = self.folder / entry_name(voice.id)
            try:
                _replace(place, _features_name(fingerprint), features)
                if figures.items() - now.figures.items():
                    now = dataclasses.replace(now, figures={**now.figures, **figures})
                    _replace(place, "voice.json", _as_json(now))
            except FileNotFoundError:  # removed by another program at this moment
                return
            self._read_entry(place.name)
            self._publish()


def entry_name(voice_id: str) -> str:
    """The name of a voice's folder, whatever its id holds."""
    return hashlib.sha256(voice_id.encode()).hexdigest()[:32]


def _features_name(fingerprint: str) -> str:
    return f"features-{fingerprint}.safetensors"


def _as_json(voice: StoredVoice) -> bytes:
    fields = dataclasses.asdict(voice) | {"labels": dict(voice.labels), "figures": dict(voice.figures)}
    return orjson.dumps(fields, option=orjson.OPT_INDENT_2)


def _read_voice(place: Path) -> StoredVoice:
    try:
        fields = orjson.loads((place / "voice.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise VoiceDamaged("voice.json cannot be read") from None
    voice = _voice_of(fields)
    if entry_name(voice.id) != place.name:
        raise VoiceDamaged("the folder is not that of its id")
    try:
        if (place / "prompt.wav").stat().st_size <= 44:
            raise VoiceDamaged("prompt.wav is empty")
    except FileNotFoundError:
        raise VoiceDamaged("prompt.wav is missing") from None
    return voice


def _voice_of(fields: Any) -> StoredVoice:
    if not isinstance(fields, dict):
        raise VoiceDamaged("voice.json is not an object")
    texts = ("id", "name", "language", "text", "created", "sha256")
    if not all(isinstance(fields.get(name), str) for name in texts):
        raise VoiceDamaged(f"voice.json must have {', '.join(texts)} as strings")
    labels, figures = fields.get("labels", {}), fields.get("figures", {})
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise VoiceDamaged("the labels of voice.json are not strings")
    if not isinstance(figures, dict) or not all(isinstance(value, int | float) for value in figures.values()):
        raise VoiceDamaged("the figures of voice.json are not numbers")
    if fields.get("consent") is not True:
        raise VoiceDamaged("voice.json does not say that the speaker agreed")
    return StoredVoice(**{name: fields[name] for name in texts}, labels=labels, figures=figures, consent=True)


# --- files that are whole or not there -------------------------------------------------------------------

_numbers = itertools.count()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(folder: Path, name: str, content: bytes) -> None:
    made = folder / f".{name}-{os.getpid()}-{next(_numbers)}"
    try:
        _write(made, content)
        os.replace(made, folder / name)
    finally:
        made.unlink(missing_ok=True)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
