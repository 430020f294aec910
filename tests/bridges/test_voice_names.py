"""A client of another server names a voice it knows, and one of ours speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cosyduplex.errors import ErrorCode
from cosyduplex_bridges.voice_names import DOORS, VoiceNames
from cosyduplex_espeak.voices import describe
from cosyduplex_server.errors import ConfigError, Failure

ESPEAK = tuple(describe("1.52", 24000, 4, mandarin=True).voices)
ENGLISH_ONLY = tuple(describe("1.51", 24000, 4, mandarin=False).voices)


@dataclass(frozen=True)
class AddedVoice:
    """As the voice store has them."""

    id: str
    language: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def shipped() -> VoiceNames:
    return VoiceNames.load(None)


def own_file(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text, encoding="utf-8")
    return path


# --- the shipped names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("door", "name", "voice"),
    [
        ("triton", "reference", None),
        ("triton", "infer_2_moan_1", "default"),
        ("workflow", "yourVoiceId", None),
        ("rest", "中文女", "zh-f"),
        ("cosyvoice", "中文女", "zh-f"),
        ("cosyvoice", "中文男", "zh-m"),
        ("cosyvoice", "英文女", "default"),
        ("cosyvoice", "英文男", "en-m"),
        ("cosyvoice", "粤语女", "zh-f"),
        ("dashscope", "longxiaochun", "zh-f"),
        ("dashscope", "longxiaochun_v2", "zh-f"),
        ("dashscope", "longanyang", "zh-m"),
        ("dashscope", "longwan", "zh-f"),
        ("dashscope", "longanhuan_v3.6", "zh-f"),
        ("dashscope", "Cherry", "zh-f"),
        ("dashscope", "Serena", "zh-f"),
        ("dashscope", "Ethan", "zh-m"),
        ("dashscope", "Chelsie", "zh-f"),
        ("elevenlabs", "Rachel", "default"),
        ("elevenlabs", "21m00Tcm4TlvDq8ikWAM", "default"),
        ("elevenlabs", "JBFqnCBsd6RMkjVDRZzb", "en-m"),
        ("elevenlabs", "Adam", "en-m"),
        ("elevenlabs", "bIHbv24MWmeRgasZH58o", "en-m"),
        ("cartesia", "f786b574-daa5-4673-aa0c-cbe3e8534c02", "default"),
        ("cartesia", "71a7ad14-091c-4e8e-a314-022ece01c121", "default"),
        ("cartesia", "a0e99841-438c-4a64-b679-ae501e7d6091", "en-m"),
        ("deepgram", "aura-2-thalia-en", "default"),
        ("deepgram", "aura-2-zeus-en", "en-m"),
        ("deepgram", "aura-asteria-en", "default"),
        ("deepgram", "flux-haley-en", "default"),
        ("deepgram", "flux-cole-en", "en-m"),
    ],
)
def test_a_documented_name_is_spoken_by_a_voice_like_it(
    shipped: VoiceNames, door: str, name: str, voice: str | None
) -> None:
    assert shipped.resolve(door, name, ESPEAK) == voice


def test_every_voice_of_openai_is_known(shipped: VoiceNames) -> None:
    names = "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse"
    ids = {voice.id for voice in ESPEAK}
    for name in names.split():
        assert shipped.resolve("openai", name, ESPEAK) in ids


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", [None, ""])
def test_without_a_name_the_default_voice_speaks(shipped: VoiceNames, door: str, name: str | None) -> None:
    assert shipped.resolve(door, name, ESPEAK) is None


@pytest.mark.parametrize("door", DOORS)
def test_every_voice_that_is_there_can_be_named_at_every_door(shipped: VoiceNames, door: str) -> None:
    for voice in ESPEAK:
        assert shipped.resolve(door, voice.id, ESPEAK) == voice.id


def test_a_voice_that_is_there_wins_over_a_name(shipped: VoiceNames) -> None:
    voices = [*ESPEAK, AddedVoice("alloy", "en")]
    assert shipped.resolve("openai", "alloy", voices) == "alloy"


def test_names_are_compared_without_regard_to_case_and_ids_are_not(shipped: VoiceNames) -> None:
    assert shipped.resolve("openai", "ALLOY", ESPEAK) == shipped.resolve("openai", "alloy", ESPEAK)
    assert shipped.resolve("dashscope", "cherry", ESPEAK) == "zh-f"
    with pytest.raises(Failure):
        shipped.resolve("openai", "ZH-F", ESPEAK)


@pytest.mark.parametrize(("door", "name"), [("openai", "nobody"), ("deepgram", "aura-2-nobody-en")])
def test_any_other_name_is_an_unknown_voice_and_some_names_are_told(
    shipped: VoiceNames, door: str, name: str
) -> None:
    with pytest.raises(Failure) as caught:
        shipped.resolve(door, name, ESPEAK)
    assert caught.value.code is ErrorCode.UNKNOWN_VOICE
    assert name not in caught.value.message
    solution = caught.value.solution or ""
    assert "zh-f" in solution or "en-f" in solution
    assert {"openai": "alloy", "deepgram": "flux-"}[door] in solution


def test_a_name_of_one_door_is_not_known_at_another(shipped: VoiceNames) -> None:
    with pytest.raises(Failure):
        shipped.resolve("openai", "longwan", ESPEAK)


# --- which voice is like it ----------------------------------------------------------------------------


def test_without_chinese_voices_one_of_the_same_gender_speaks(shipped: VoiceNames) -> None:
    assert shipped.resolve("rest", "中文男", ENGLISH_ONLY) == "en-m"


def test_a_voice_of_the_language_goes_before_one_of_the_gender(shipped: VoiceNames) -> None:
    voices = [AddedVoice("a", "en", {"gender": "male"}), AddedVoice("b", "zh-TW", {"gender": "female"})]
    assert shipped.resolve("rest", "中文男", voices) == "b"


def test_voices_of_unknown_language_and_gender_leave_the_default_one(shipped: VoiceNames) -> None:
    assert shipped.resolve("openai", "onyx", [AddedVoice("a"), AddedVoice("b")]) is None


def test_a_voice_that_also_speaks_the_language_will_do(shipped: VoiceNames) -> None:
    voices = [AddedVoice("a", "ja"), AddedVoice("b", "ja", {"languages": "ja, zh"})]
    assert shipped.resolve("rest", "中文女", voices) == "b"


@pytest.mark.parametrize("language", ["zh", "zh-CN", "ZH_tw", "cmn-Hans", "yue"])
def test_chinese_has_several_codes(shipped: VoiceNames, language: str) -> None:
    assert shipped.resolve("rest", "中文女", [AddedVoice("a", "en"), AddedVoice("b", language)]) == "b"


def test_while_there_are_no_voices_a_known_name_means_the_default_one_and_others_may_be_real(
    shipped: VoiceNames,
) -> None:
    assert shipped.resolve("openai", "alloy", []) is None
    assert shipped.resolve("openai", "somebody", []) == "somebody"


# --- an operator's file --------------------------------------------------------------------------------


def test_an_operators_names_go_over_the_shipped_ones(tmp_path: Path) -> None:
    text = '[openai]\nAlloy = "zh-m"\nboss = ["gone", "en-gb-m"]\n[any]\n"小明" = "lang:zh,male"\n'
    names = VoiceNames.load(own_file(tmp_path, text))
    assert names.resolve("openai", "alloy", ESPEAK) == "zh-m"
    assert names.resolve("openai", "boss", ESPEAK) == "en-gb-m"
    assert names.resolve("openai", "onyx", ESPEAK) == "en-m"
    assert names.resolve("triton", "小明", ESPEAK) == "zh-m"
    assert names.resolve("rest", "中文女", ESPEAK) == "zh-f"


def test_a_name_for_a_voice_that_is_gone_is_unknown_unless_another_is_given(tmp_path: Path) -> None:
    names = VoiceNames.load(own_file(tmp_path, '[rest]\na = "gone"\nb = ["gone", "default"]\n'))
    assert names.resolve("rest", "b", ESPEAK[1:]) is None
    with pytest.raises(Failure) as caught:
        names.resolve("rest", "a", ESPEAK)
    assert caught.value.code is ErrorCode.UNKNOWN_VOICE


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[openai]\nalloy = 3\n", "openai.'alloy'"),
        ("[openai]\nalloy = []\n", "openai.'alloy'"),
        ('[openai]\nalloy = ["a", 1]\n', "openai.'alloy'"),
        ('[openai]\nalloy = ""\n', "openai.'alloy'"),
        ('[openai]\nalloy = "lang:chinese"\n', "lang:chinese"),
        ('[openai]\nalloy = "lang:zh,child"\n', "lang:zh,child"),
        ('[openai]\n"" = "a"\n', "empty"),
        ('[openai]\nA = "a"\na = "b"\n', "openai.'a'"),
        ('[azure]\na = "b"\n', "'azure'"),
        ('openai = "a"\n', "openai"),
        ("[openai\n", "not valid TOML"),
    ],
)
def test_a_mistake_in_an_operators_file_is_told_with_its_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"voice_names: own\.toml") as caught:
        VoiceNames.load(own_file(tmp_path, text))
    assert told in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml cannot be read"):
        VoiceNames.load(tmp_path / "gone.toml")
    (tmp_path / "own.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        VoiceNames.load(tmp_path / "own.toml")
