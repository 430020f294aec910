"""`cosyduplex text`: what would be spoken of a text, one JSON object a line, as soon as it is certain."""

from __future__ import annotations

import argparse
import codecs
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import IO

from cosyduplex_server.text.front import Segment, TextFrontEnd
from cosyduplex_server.text.scripts import script_asked_for

_READ_BYTES = 1 << 16
_STDIN_FD = 0
_OK, _FAILED, _USAGE_ERROR = 0, 1, 2


def run(arguments: argparse.Namespace) -> int:
    """Prints the segments of what the options of `cosyduplex text` say; returns the exit code."""
    given = " ".join(arguments.text) if arguments.text else None
    if _not_utf8(given or "") or any(_not_utf8(key + value) for key, value in arguments.pronounce):
        return _complain("the command line is not UTF-8", _USAGE_ERROR)
    if script_asked_for(arguments.language) == "":
        return _complain(
            f"no numbers or dates are read out in the language {arguments.language!r}: "
            "give zh or en, or auto to find it out from the text",
            _USAGE_ERROR,
        )
    front = _front_end(arguments)
    arriving = _read_text(_STDIN_FD) if given is None else [given]
    try:
        show(front, _pieces(arriving, arguments.feed), sys.stdout.buffer)
    except UnreadableInput as exc:
        return _complain(str(exc), _FAILED)
    except BrokenPipeError:  # whoever read it has gone, and knows
        raise
    except OSError as exc:
        # Python would try once more what could not be written, and complain in its own way.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _complain(f"the output cannot be written ({exc.strerror})", _FAILED)
    return _OK


class UnreadableInput(Exception):
    """Standard input cannot be read."""


def show(front: TextFrontEnd, pieces: Iterable[str], output: IO[bytes]) -> None:
    """Writes a line for each segment, as soon as it is certain."""
    source = _Source()
    for piece in pieces:
        source.append(piece)
        front.append(piece)
        _show_certain(front, source, output)
        source.forget(front.appended_chars - front.pending_chars)
    front.end()
    _show_certain(front, source, output)


def _show_certain(front: TextFrontEnd, source: _Source, output: IO[bytes]) -> None:
    while (item := front.next()) is not None or front.busy:
        if isinstance(item, Segment):
            output.write(_line(item, source))
            output.flush()


def _line(segment: Segment, source: _Source) -> bytes:
    start, end = segment.source_start, segment.source_end
    found = {"spoken": segment.text, "source": source.take(start, end), "start": start, "end": end}
    return json.dumps(found, ensure_ascii=False).encode() + b"\n"


class _Source:
    """The appended text that has neither been shown nor is silent: a long one is not kept."""

    def __init__(self) -> None:
        self._text = ""
        self._start = 0

    def append(self, text: str) -> None:
        self._text += text

    def forget(self, end: int) -> None:
        """Nothing before `end` is asked for any more."""
        self._text = self._text[end - self._start :]
        self._start = end

    def take(self, start: int, end: int) -> str:
        return self._text[start - self._start : end - self._start]


def _front_end(arguments: argparse.Namespace) -> TextFrontEnd:
    return TextFrontEnd(
        markup=arguments.markup,
        language=arguments.language,
        normalize=arguments.normalize,
        pronunciations=dict(arguments.pronounce),
        code=arguments.code,
        tables=arguments.tables,
        emoji=arguments.emoji,
    )


def _pieces(arriving: Iterable[str], size: int | None) -> Iterator[str]:
    for text in arriving:
        if size is None:
            yield text
        else:
            yield from (text[at : at + size] for at in range(0, len(text), size))


def _read_text(fd: int) -> Iterator[str]:
    """What standard input holds, as it arrives; what is no UTF-8 becomes U+FFFD, which is silent."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        while data := os.read(fd, _READ_BYTES):
            yield decoder.decode(data)
    except OSError as exc:
        raise UnreadableInput(f"standard input cannot be read ({exc.strerror})") from exc
    yield decoder.decode(b"", final=True)


def _not_utf8(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def _complain(message: str, exit_code: int) -> int:
    print(f"cosyduplex: {message}", file=sys.stderr)
    return exit_code
