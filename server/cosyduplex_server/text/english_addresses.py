"""English readings of addresses of the internet, file names and paths."""

from __future__ import annotations

import regex

from cosyduplex_server.text.english_form import DIGITS, LETTERS, WORD_END, WORD_START, reading
from cosyduplex_server.text.english_names import name_words
from cosyduplex_server.text.english_numbers import label, spell

Match = regex.Match[str]

# --- Addresses

_SIGNS = {".": "dot", "-": "dash", "_": "underscore", "+": "plus", "@": "at", "/": "slash", "%": "percent"}
_SPELLED_DOMAINS = frozenset(
    "io ai cn de uk fr jp kr ru eu ca au ch nl es se nz hk tw sg br tv fm gg ly".split()
)
_TOP_DOMAINS = _SPELLED_DOMAINS | frozenset(
    "com org net edu gov mil int info biz dev app co xyz tech cloud online store site blog wiki".split()
)
# Of a longer path, or a part that is an identifier, a listener has nothing.
_LONGEST_PATH = 3
_LONGEST_PATH_PART = 24
_MOST_DIGITS_OF_PATH_PART = 4

# Not from within another one: "b.c" of "a.b.c".
_DOTTED = (
    rf"{WORD_START}(?<!\w[.@-])[A-Za-z0-9_](?>[A-Za-z0-9_-]{{0,62}})(?:\.(?>[A-Za-z0-9_-]{{1,62}})){{1,6}}"
)
_PARTS = regex.compile("[A-Za-z]+|[0-9]+|[^A-Za-z0-9]")
_FOUR_NUMBERS = regex.compile(r"[0-9]+(?:\.[0-9]+){3}")
_SCHEME = regex.compile("^[A-Za-z]+://")
_URL_CHAR = "[!#-;=?-Z_a-z~%]"


def address_words(written: str) -> str:
    """Something that is to be typed again: with its dashes and underscores."""
    said: list[str] = []
    for part in _PARTS.findall(written):
        if part.isdigit():
            said.append(label(part))
        else:
            said.append(_SIGNS.get(part, part if part.isalpha() else ""))
    return " ".join(filter(None, said))


def _host_words(host: str) -> str:
    host, _, port = host.partition(":")
    host = host.removeprefix("www.")
    if _FOUR_NUMBERS.fullmatch(host):
        said = " dot ".join(map(spell, host.split(".")))
    else:
        head, dot, top = host.rpartition(".")
        is_spelled = bool(dot) and top in _SPELLED_DOMAINS
        said = f"{address_words(head + dot)} {' '.join(top) if is_spelled else address_words(top)}".lstrip()
    return f"{said} port {label(port)}" if port.isdigit() else said


def _is_readable(part: str) -> bool:
    num_digits = sum(char.isdigit() for char in part)
    return len(part) <= _LONGEST_PATH_PART and num_digits <= _MOST_DIGITS_OF_PATH_PART and "%" not in part


def _url_words(address: str) -> str:
    """Host and the beginning of the path; what stands after "?" or "#" is not said."""
    address = _SCHEME.sub("", address).partition("?")[0].partition("#")[0]
    host, _, path = address.partition("/")
    said = [_host_words(host.rpartition("@")[2])]
    for part in list(filter(None, path.split("/")))[:_LONGEST_PATH]:
        if not _is_readable(part):
            break
        said.append(f"slash {address_words(part)}")
    return " ".join(said)


def _url(match: Match) -> str:
    """The marks of the sentence around it stay."""
    address = match[0].rstrip(".,:;!?)'*_")
    if "(" in address and match[0][len(address) :].startswith(")"):
        address += ")"
    return _url_words(address) + match[0][len(address) :]


def _domain(match: Match) -> str | None:
    host = match["host"]
    top = host.rpartition(".")[2]
    is_domain = (top.islower() or host.isupper()) and top.lower() in _TOP_DOMAINS and "_" not in host
    return _url(match) if is_domain else None


def _mail(match: Match) -> str:
    return f"{address_words(match['name'])} at {_host_words(match['host'])}"


_ADDRESSES = (
    reading(
        "web address",
        "hHfwW",
        rf"{WORD_START}(?:(?:[Hh]ttps?|HTTPS?|ftp|wss?|file)://|[Ww]ww\.){_URL_CHAR}{{1,240}}+",
        _url,
    ),
    reading(
        "e-mail address",
        LETTERS | DIGITS,
        rf"{WORD_START}(?<!\w[.%+-])(?:mailto:)?(?P<name>[A-Za-z0-9](?>[A-Za-z0-9_%+-]|\.(?!\.)){{0,63}})"
        rf"@(?P<host>[A-Za-z0-9-]{{1,63}}(?:\.[A-Za-z0-9-]{{1,63}}){{1,4}}){WORD_END}",
        _mail,
    ),
    reading(
        "domain",
        LETTERS | DIGITS,
        rf"(?P<host>{_DOTTED})(?::[0-9]{{2,5}}{WORD_END})?(?:/{_URL_CHAR}{{0,160}}+)?",
        _domain,
    ),
    reading(
        "local host",
        "l",
        rf"{WORD_START}localhost:[0-9]{{2,5}}{WORD_END}(?:/{_URL_CHAR}{{0,160}}+)?",
        _url,
    ),
    reading(
        "mention",
        "@",
        r"(?<![\w.])@(?P<name>[A-Za-z0-9_](?>[A-Za-z0-9_-]{0,62})(?:\.(?>[A-Za-z0-9_]{1,40})){0,4})",
        lambda match: f"at {address_words(match['name'])}",
    ),
    reading("at", "@", r"(?<=[\w.] )@(?= )|(?<=[0-9A-Za-z])@(?=[$€£]?[0-9])", lambda match: "at"),
)

# --- Files

_EXTENSIONS = frozenset(
    "py js ts jsx tsx json yaml yml toml ini cfg conf md rst txt csv tsv xml html htm css scss java class "
    "jar c h cc cpp hpp cs go rs rb php pl sh bash zsh bat ps1 sql db sqlite log pdf doc docx xls xlsx ppt "
    "pptx odt epub png jpg jpeg gif svg webp bmp ico tiff mp3 mp4 wav flac ogg m4a avi mov mkv webm zip tar "
    "gz tgz bz2 xz rar 7z exe dll so dmg iso apk deb rpm whl ipynb tex bib env lock proto onnx pt pth "
    "safetensors bin dat pkl npy npz gguf vue swift kt dart lua r jl ex exs erl hs ml scala gradle cmake mk "
    "patch diff bak tmp plist".split()
)
_ROOTS = {"/": "slash", "~": "tilde", ".": "dot", "..": "dot dot"}
_FILE_PARTS = regex.compile(r"\.|[^.]+")
_STEPS = regex.compile("/|~|[^/~]+")
_PATH_PART = r"[A-Za-z0-9_@-]{1,62}+(?:\.[A-Za-z0-9_-]{1,62}+){0,4}+"


def _file_words(written: str) -> str:
    """ "main dot py": underscores and hyphens are no more than spaces."""
    parts = ["dot" if part == "." else name_words(part) for part in _FILE_PARTS.findall(written)]
    return " ".join(filter(None, parts))


def _file(match: Match) -> str | None:
    extension = match[0].rpartition(".")[2]
    is_file = extension in _EXTENSIONS or (len(extension) > 2 and extension.lower() in _EXTENSIONS)
    return _file_words(match[0]) if is_file else None


def _path(match: Match) -> str:
    return " ".join(_ROOTS.get(part) or _file_words(part) for part in _STEPS.findall(match[0]))


def _relative_path(match: Match) -> str | None:
    """Words with slashes between are a path if there are many, or the last has an extension."""
    last = match[0].rpartition("/")[2]
    is_path = not last or match[0].count("/") > 2 or ("." in last and last.rpartition(".")[2] in _EXTENSIONS)
    return _path(match) if is_path else None


_FILES = (
    reading(
        "path",
        "/~.",
        rf"(?<![^\s(\[{{\"'“‘,;:=])(?:~|\.\.?)?/(?:\.?{_PATH_PART}/){{0,12}}\.?{_PATH_PART}/?(?![\w/])",
        _path,
    ),
    reading(
        "relative path",
        LETTERS,
        rf"{WORD_START}(?<!\w[./-])(?:{_PATH_PART}(?:/{_PATH_PART}){{1,12}}/?|[A-Za-z0-9_-]{{3,62}}+/)(?![\w/])",
        _relative_path,
    ),
    reading("file", LETTERS | DIGITS | {"_"}, rf"{_DOTTED}{WORD_END}", _file),
    reading(
        "hidden file",
        ".",
        r"(?<![\w.])\.[A-Za-z](?>[A-Za-z0-9_-]{1,62})(?:\.(?>[A-Za-z0-9_-]{1,62}))?(?!\w)",
        lambda match: _file_words(match[0]),
    ),
)

ADDRESSES = (*_ADDRESSES, *_FILES)
