"""Blocks of code: what they are called aloud, and which indented lines are code."""

import re

from cosyduplex_server.text.runs import Language

# The first word behind a fence, and what it is called in both languages.
_NAMES = {
    "py": "Python",
    "python3": "Python",
    "js": "JavaScript",
    "javascript": "JavaScript",
    "jsx": "JavaScript",
    "ts": "TypeScript",
    "typescript": "TypeScript",
    "tsx": "TypeScript",
    "c++": "C plus plus",
    "cpp": "C plus plus",
    "cc": "C plus plus",
    "cs": "C sharp",
    "c#": "C sharp",
    "csharp": "C sharp",
    "f#": "F sharp",
    "golang": "Go",
    "rs": "Rust",
    "rb": "Ruby",
    "kt": "Kotlin",
    "objc": "Objective C",
    "objective-c": "Objective C",
    "sh": "shell",
    "shell": "shell",
    "console": "shell",
    "zsh": "shell",
    "bat": "batch",
    "ps1": "PowerShell",
    "powershell": "PowerShell",
    "html": "HTML",
    "xml": "XML",
    "svg": "SVG",
    "css": "CSS",
    "scss": "SCSS",
    "sql": "SQL",
    "json": "JSON",
    "jsonc": "JSON",
    "yml": "YAML",
    "yaml": "YAML",
    "toml": "TOML",
    "csv": "CSV",
    "md": "Markdown",
    "tex": "LaTeX",
    "latex": "LaTeX",
    "matlab": "MATLAB",
    "php": "PHP",
    "proto": "Protobuf",
    "dockerfile": "Docker",
}
_NOT_NAMED = frozenset(("", "text", "txt", "plaintext", "plain", "output", "code", "none"))
_NAME = re.compile(r"[A-Za-z][A-Za-z ]{0,19}")


def announcement(info: str, language: Language) -> str:
    """What is said in place of a block of code: "Code block in Python."

    Args:
        info: What stands behind the fence.
        language: Of the text around.
    """
    tag = (info.strip().strip("{}").lstrip(".").split(maxsplit=1) or [""])[0].partition("{")[0].lower()
    name = "" if tag in _NOT_NAMED else _NAMES.get(tag, tag.capitalize())
    if not _NAME.fullmatch(name):
        name = ""
    if language == "zh":
        return f"代码块，{name}。" if name else "代码块。"
    return f"Code block in {name}." if name else "Code block."


# --- Indented code

# An indented line is code only where it looks like it: writers also indent their paragraphs, and a paragraph
# that is lost is worse than code that is read.
CODE_LOOKAHEAD = 80
INDENTATION = re.compile(r" {4}| {0,3}\t")
_CODE_SIGN = re.compile(
    r"[;{}]\s*$|[\w)\]\"']\s*[-+*/%|&]?=\s*[\w(\[{\"']|[=-]>|::|</\w|/>|\w\(.*\)[;:]?\s*$"
    r"|^[)\]}]+[,;]?\s*$"
    r"|^(?:#include|import \w|from \w+ import|def \w|class \w+[(:]|function \w|const \w|let \w+ =|var \w"
    r"|return\b|public |private |static |SELECT |INSERT |UPDATE |\$ |sudo |pip3? |npm |npx |yarn |git |cd "
    r"|docker |curl |apt(?:-get)? |(?:if|for|while|elif|with) .*:\s*$|else:|try:|(?:if|for|while) ?\("
    r"|//|/\*|<\w+[ >])"
)
_PROSE_SIGN = re.compile(
    r"[\u3000-\u3003\u3400-\u9fff\uff0c\uff1a]|[a-z]{2}[,.!?] [A-Za-z]{2}|[A-Za-z]{2}[.!?][\"”']?\s*$"
)


def looks_like_code(line: str) -> bool:
    """Whether the beginning of an indented line, or all of it, is code rather than words."""
    return _CODE_SIGN.search(line) is not None and _PROSE_SIGN.search(line) is None
