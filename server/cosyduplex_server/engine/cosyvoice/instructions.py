"""Emotions and dialects as the instructions the models were trained with.

CosyVoice2's are those of its paper (its table of natural-language instructions) and its README; CosyVoice3's
are those its code lists. A model may read an instruction it was not trained with aloud instead of following
it, which is why a name that is not here is not made into one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.cosyvoice.tokenizer import END_OF_PROMPT
from cosyduplex_server.errors import Failure
from cosyduplex_server.models.config import Generation

SYSTEM_PROMPT: Final = "You are a helpful assistant."
"""What CosyVoice3's prompt text begins with."""
MAX_INSTRUCTION_CHARS: Final = 500

CHINESE: Final = "zh"
_PUNCTUATION: Final = "。，！？、.,!?"


@dataclass(frozen=True, slots=True)
class Manner:
    """A way to speak: the word each generation knows for it, None where it knows none."""

    names: frozenset[str]
    v2: str | None
    v3: str | None

    def word(self, generation: Generation) -> str | None:
        return self.v2 if generation == 2 else self.v3


def _manner(names: str, v2: str | None, v3: str | None) -> Manner:
    words = (word for word in (v2, v3) if word is not None)
    return Manner(frozenset({*names.split(), *words}), v2, v3)


EMOTIONS: Final = (
    _manner("happy happiness joy", "高兴", "开心"),
    _manner("sad sadness", "悲伤", "伤心"),
    _manner("angry anger", "愤怒", "生气"),
    _manner("surprised surprise", "惊讶", None),
    _manner("fearful fear scared", "恐惧", None),
    _manner("disgusted disgust", "厌恶", None),
    _manner("calm", "冷静", None),
    _manner("serious", "严肃", None),
)
DIALECTS: Final = (
    _manner("cantonese guangdong yue 广东", "粤语", "广东话"),
    _manner("sichuan sichuanese 四川", "四川话", "四川话"),
    _manner("shanghai shanghainese wu 上海", "上海话", "上海话"),
    _manner("tianjin 天津", "天津话", "天津话"),
    _manner("henan zhengzhou 河南", "郑州话", "河南话"),
    _manner("hunan changsha 湖南", "长沙话", "湖南话"),
    _manner("hubei wuhan 湖北", "武汉话", "湖北话"),
    _manner("dongbei northeastern 东北", None, "东北话"),
    _manner("gansu 甘肃", None, "甘肃话"),
    _manner("guizhou 贵州", None, "贵州话"),
    _manner("jiangxi 江西", None, "江西话"),
    _manner("minnan hokkien 闽南", None, "闽南话"),
    _manner("ningxia 宁夏", None, "宁夏话"),
    _manner("shanxi 山西", None, "山西话"),
    _manner("shaanxi 陕西", None, "陕西话"),
    _manner("shandong 山东", None, "山东话"),
    _manner("yunnan 云南", None, "云南话"),
)
# What a voice does when it is told nothing.
_PLAIN: Final = frozenset({"", "neutral", "none", "default", "mandarin", "putonghua", "普通话", "standard"})


@dataclass(frozen=True, slots=True)
class Instruction:
    """How to speak, in words.

    Attributes:
        text: for the model, without any mark; "" when there is nothing to say.
        notes: a sentence for each wish that is not in it.
    """

    text: str
    notes: tuple[str, ...]


def instruction(
    generation: Generation, *, instruct: str, emotion: str, dialect: str, language: str = ""
) -> Instruction:
    """One instruction of a client's own, an emotion and a dialect, each of which may be "".

    A client's own comes first, as it is but for upstream's marks around it. The phrases are the Chinese ones
    of the training, whatever language is spoken; dialects are of Chinese, and left out where `language` is
    known to be another.

    Raises:
        Failure: `bad_request`, the client's own is longer than 500 characters.
    """
    if len(instruct) > MAX_INSTRUCTION_CHARS:
        raise Failure(
            ErrorCode.BAD_REQUEST, f"An instruction has at most {MAX_INSTRUCTION_CHARS:,} characters."
        )
    own, _, behind = instruct.partition(END_OF_PROMPT)
    wishes = [own.strip().removeprefix(SYSTEM_PROMPT).strip()]
    notes = [f"What follows {END_OF_PROMPT} in an instruction is not used."] if behind.strip() else []
    for kind, name, manners, sentence in (
        ("dialect", dialect, DIALECTS, "用{}说这句话" if generation == 2 else "请用{}表达。"),
        (
            "emotion",
            emotion,
            EMOTIONS,
            "你能用{}的情感说吗？" if generation == 2 else "请非常{}地说一句话。",
        ),
    ):
        wanted = name.strip().lower()
        if wanted in _PLAIN:
            continue
        if kind == "dialect" and language not in ("", CHINESE):
            notes.append(
                f"The dialect {name[:40]!r} is one of Chinese: it is not used where {language} is spoken."
            )
            continue
        word = next((manner.word(generation) for manner in manners if wanted in manner.names), None)
        if word is None:
            notes.append(
                f"CosyVoice{generation} was not trained with the {kind} {name[:40]!r}: it is not used."
            )
        else:
            wishes.append(sentence.format(word))
    return Instruction(_sentences([wish for wish in wishes if wish]), tuple(notes))


def _sentences(wishes: list[str]) -> str:
    closed = [wish if wish[-1] in _PUNCTUATION else f"{wish}。" for wish in wishes[:-1]]
    return "".join([*closed, *wishes[-1:]])
