"""HTML and what models write in its form: which tags there are and what becomes of their content."""

import re

import regex

BLOCK_TAGS = frozenset(
    "article aside blockquote br dd details div dl dt figure footer h1 h2 h3 h4 h5 h6 header hr li main ol p "
    "section summary table tbody tfoot thead tr ul".split()
)
CELL_TAGS = frozenset(("td", "th"))
# A pause stands for them.
_GAP_TAGS = frozenset(("break",))
_INLINE_TAGS = frozenset(
    "a abbr audio b bdi bdo big body button center cite code col colgroup del dfn em figcaption font form "
    "html i img input ins kbd label link mark meta option q s samp select small source span strike strong "
    "sub sup time tt u var video wbr emphasis lang phoneme prosody say-as speak voice "
    "bos eos pad unk mask start_of_turn end_of_turn sys "
    "answer response result output final final_answer user assistant system message step text content title "
    "question speech say sentence artifact antartifact".split()
)
_TAGS = BLOCK_TAGS | CELL_TAGS | _GAP_TAGS | _INLINE_TAGS
_VENDORS = ("mstts:", "amazon:", "google:")

# Their content is not for ears: thoughts of a model, calls of its tools, what a page does not show.
_THOUGHTS = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|inner_monologue"
_HIDDEN = (
    "script|style|svg|math|template|head|pre|tool_call|tool_calls|tool_response|function_call|function_calls|"
    "function_results"
)
# Models put spaces into the tags of their thoughts; "x < style and" must stay text.
_SILENT_TAG = re.compile(
    rf"<(?:\s{{0,8}}(/?)\s{{0,8}}(?:{_THOUGHTS})|(/?)({_HIDDEN}))(?:\s[^<>]{{0,200}})?(/?)>", re.IGNORECASE
)
_SILENT_TAG_BEGUN = re.compile(r"<(\s{0,8}/?\s{0,8})([A-Za-z_]*)(?:\s[^<>]{0,200})?/?\Z")
_THOUGHT_NAMES = tuple(_THOUGHTS.split("|"))
_SILENT_NAMES = (*_THOUGHT_NAMES, *_HIDDEN.split("|"))
THOUGHT_END = re.compile(rf"<\s{{0,8}}/\s{{0,8}}(?:{_THOUGHTS})\s{{0,8}}>", re.IGNORECASE)
_HIDDEN_ENDS = {
    name: re.compile(rf"<\s{{0,8}}/\s{{0,8}}{name}\s{{0,8}}>", re.IGNORECASE) for name in _HIDDEN.split("|")
}
COMMENT_END = re.compile("-->")
LONGEST_END = 48  # characters of the longest end of a silent passage
_COMMENT_BEGUN = re.compile(r"<(?:!-?)?\Z")

# "x<b and c>d" is no tag: one bare attribute (<details open>) is allowed, and only as the last.
_NAME = "[A-Za-z][A-Za-z0-9_:-]*"
_ATTRIBUTE = "[A-Za-z_:@][\\w:.-]*"
_VALUED = rf"(?:\s+{_ATTRIBUTE}\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>=`]+))*"
_TAG = re.compile(rf"</?({_NAME}){_VALUED}(?:\s+{_ATTRIBUTE})?\s*/?>")
_TAG_BEGUN = re.compile(
    rf"</?(?:({_NAME}){_VALUED}"
    rf"(?:\s+(?:{_ATTRIBUTE}(?:\s*=\s*(?:\"[^\"<>]*|'[^'<>]*|[^\s\"'<>=`]*))?)?)?\s*/?)?\Z"
)
TAG_LIMIT = 400  # a longer tag is read as text

_ANGLED = regex.compile(
    r"<(?:(?:(?:mailto|tel):(?P<bare>[^\s<>]{1,390})|(?P<address>(?:https?|ftp)://[^\s<>]{1,380}"
    r"|[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,253}))>|(?P<declaration>\?xml[^<>\n]{0,200}\?>|!doctype[^<>\n]{0,200}>))",
    regex.IGNORECASE,
)


class SilentTag:
    """A tag whose content is silent.

    Attributes:
        end: Where the tag ends.
        until: What ends the silence; None for a tag that opens none.
        is_code: The content is a block of code.
    """

    def __init__(self, found: re.Match[str]) -> None:
        hidden = (found[3] or "").lower()
        opens = not (found[1] or found[2] or found[4])
        self.end = found.end()
        self.until = (_HIDDEN_ENDS[hidden] if hidden else THOUGHT_END) if opens else None
        self.is_code = hidden == "pre"


def find_silent_tag(text: str, at: int) -> SilentTag | None:
    found = _SILENT_TAG.match(text, at)
    return SilentTag(found) if found else None


def find_angled(text: str, at: int) -> "regex.Match[str] | None":
    """An address in angle brackets or a declaration, whole or as far as it has come."""
    return _ANGLED.match(text, at, partial=True)


def find_tag(text: str, at: int) -> tuple[str, int] | None:
    """Name and end of a tag that is not shown: a known one, or any that closes."""
    tag = _TAG.match(text, at, at + TAG_LIMIT)
    if tag is None:
        return None
    name = tag[1].lower()
    known = name in _TAGS or name.startswith(_VENDORS) or text[at + 1] == "/"
    return (name, tag.end()) if known else None


def leaves_gap(name: str) -> bool:
    return name in _GAP_TAGS


def may_become_tag(text: str, at: int) -> bool:
    """Whether more characters may make a tag or comment of what stands at `at`."""
    if _COMMENT_BEGUN.match(text, at):
        return True
    if silent := _SILENT_TAG_BEGUN.match(text, at):
        word, whole = silent[2].lower(), silent.end(2) < len(text)
        names = _THOUGHT_NAMES if " " in silent[1] or "\n" in silent[1] else _SILENT_NAMES
        if word in names if whole else any(name.startswith(word) for name in names):
            return True
    if len(text) - at >= TAG_LIMIT:
        return False
    tag = _TAG_BEGUN.match(text, at)
    if tag is None or tag[1] is None:
        return tag is not None
    name = tag[1].lower()
    if text[at + 1] == "/" or name.startswith(_VENDORS):
        return True
    if tag.end(1) < len(text):
        return name in _TAGS
    return any(known.startswith(name) for known in (*_TAGS, *_VENDORS))
