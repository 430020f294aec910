"""What other servers' clients say about the manner of speaking, as this server's own words for it.

Which of them a model was trained with is the engine's to know: `docs/emotions.md` has its table.
"""

from __future__ import annotations

from typing import Final

_END_OF_PROMPT: Final = "<|endofprompt|>"
_SYSTEM_PROMPT: Final = "You are a helpful assistant."
# What a voice does when it is told nothing: no wish, so that no engine has to say that it lacks it.
_PLAIN_EMOTIONS: Final = frozenset({"", "neutral", "none", "default", "natural", "自然"})
_PLAIN_DIALECTS: Final = frozenset({"", "none", "default", "standard", "mandarin", "putonghua", "普通话"})
MAX_NAME_CHARS: Final = 64


def emotion_of(name: str | None) -> str | None:
    """The emotion to ask for; None where the name means none."""
    return _wish(name, _PLAIN_EMOTIONS)


def dialect_of(name: str | None) -> str | None:
    """The dialect to ask for; None where the name means the standard language."""
    return _wish(name, _PLAIN_DIALECTS)


def _wish(name: str | None, plain: frozenset[str]) -> str | None:
    wish = (name or "").strip()
    return None if wish.lower() in plain else wish[:MAX_NAME_CHARS]


def split_prompt(text: str) -> tuple[str, str]:
    """Parts the instruction that CosyVoice's own clients put before a text from the text itself.

    CosyVoice3's examples send `You are a helpful assistant.<|endofprompt|>` before what is to be spoken and
    before what a recording says, with or without an instruction in it.

    Returns:
        The instruction, "" for none, and the text.
    """
    before, mark, behind = text.partition(_END_OF_PROMPT)
    if not mark:
        return "", text
    return before.strip().removeprefix(_SYSTEM_PROMPT).strip(), behind
