"""What the embedded voice really says, through the link: words, content, speed, pitch, level, ends."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.engine.link import worker_pb2_grpc as link_grpc
from cosyduplex_server.testing import Heard, WorkerStream

RATE_HZ = 22050
ENGLISH = "The quick brown fox jumps over the lazy dog near the river bank."
CHINESE = "今天天气很好，我们一起去公园散步。"
MIXED = "Hello 世界, this is 测试 text: 我用 Python 3 写了3个程序。"


async def speak(channel: grpc.aio.Channel, *segments: str, **fields: object) -> Heard:
    heard = await WorkerStream(channel).speak(*segments, **fields)
    assert heard.kinds[-1] == "done", heard.events[-1]
    assert heard.events[-1].done.samples == heard.pcm.size
    return heard


def features(pcm: NDArray[np.int16]) -> NDArray[np.float64]:
    """Log energy in 24 bands every 10 ms, without the level and without silence."""
    size, hop = 512, 220
    frames = np.lib.stride_tricks.sliding_window_view(pcm.astype(float), size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.unique(np.geomspace(3, size // 2, 25).astype(int))
    bands = np.log(np.add.reduceat(power, edges, axis=1) + 1e4)
    loud = bands[power.sum(axis=1) > 1e-4 * power.sum(axis=1).max()]
    return loud - loud.mean(axis=1, keepdims=True)


def distance(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    """How far apart two utterances are, per frame, whatever their tempo (dynamic time warping)."""
    a, b = features(one), features(other)
    cost = np.linalg.norm(a[:, None, :] - b[None, :, :], axis=2)
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    total[0, 0] = 0
    for i, row in enumerate(cost, start=1):
        for j, here in enumerate(row, start=1):
            total[i, j] = here + min(total[i - 1, j], total[i, j - 1], total[i - 1, j - 1])
    return float(total[-1, -1] / (len(a) + len(b)))


def fundamental_hz(pcm: NDArray[np.int16]) -> float:
    """The median fundamental frequency by autocorrelation."""
    found = []
    size = 1400
    for start in range(0, pcm.size - size, 600):
        frame = pcm[start : start + size] - pcm[start : start + size].mean()
        if np.sqrt((frame**2).mean()) < 800:
            continue
        correlation = np.fft.irfft(np.abs(np.fft.rfft(frame, 4096)) ** 2)[:size]
        correlation /= 1 - np.arange(size) / size * 0.999
        low, high = RATE_HZ // 700, RATE_HZ // 45
        near = np.flatnonzero(correlation[low:high] > 0.9 * correlation[low:high].max()) + low
        peaks = [lag for lag in near if correlation[lag] >= max(correlation[lag - 1], correlation[lag + 1])]
        if peaks:
            found.append(RATE_HZ / peaks[0])
    return float(np.median(found))


# --- Words and content ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ENGLISH, ENGLISH.rstrip(".").split()),
        (CHINESE, [character for character in CHINESE if character not in "，。"]),
        ("Hello 世界, this is 测试 text.", ["Hello", "世", "界", "this", "is", "测", "试", "text"]),
        ("It's 10:30: of the 3,456 items 5% cost $12.50!", None),
        ("银行行长是2026年的，价格是3.14元。", None),
        ("café 𝒳 naïve 𠀀字 “quoted” (so)", None),
    ],
)
async def test_marks_are_the_words_in_order_and_within_the_audio(
    channel: grpc.aio.Channel, text: str, words: list[str] | None
) -> None:
    heard = await speak(channel, "Before.", text)
    marks = [word for word in heard.words if word.segment == 1]
    if words is not None:
        assert [text[word.char_start : word.char_end] for word in marks] == words
    covered = {offset for word in marks for offset in range(word.char_start, word.char_end)}
    assert {offset for offset, character in enumerate(text) if character.isalnum()} <= covered
    position = max(word.sample_end for word in heard.words if word.segment == 0)
    for word in marks:
        assert position <= word.sample_start < word.sample_end <= heard.pcm.size
        position = word.sample_end


async def test_marks_arrive_before_the_audio_after_them_and_fall_on_sound(channel: grpc.aio.Channel) -> None:
    heard = await speak(channel, MIXED)
    sent = 0
    for event in heard.events:
        sent += len(event.audio.pcm) // 2
        for word in event.marks.words:
            # One message of 200 ms, two buffers of 60 ms.
            assert word.sample_end <= sent + RATE_HZ * 320 // 1000
    for word in heard.words:
        sound = heard.pcm[word.sample_start : word.sample_end].astype(float)
        assert np.sqrt((sound**2).mean()) > 500


async def test_word_times_are_where_the_words_sound(channel: grpc.aio.Channel) -> None:
    whole = await speak(channel, "Never say banana again.")
    banana = next(word for word in whole.words if word.char_start == len("Never say "))
    cut = whole.pcm[banana.sample_start : banana.sample_end]
    alone = (await speak(channel, "banana")).pcm
    other = (await speak(channel, "thistle")).pcm
    assert distance(cut, alone) < 0.7 * distance(cut, other)


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, MIXED])
async def test_the_same_text_sounds_the_same_and_another_does_not(
    channel: grpc.aio.Channel, text: str
) -> None:
    one, again, other = [
        (await speak(channel, said)).pcm
        for said in (text, text, "Completely different words, 完全不同的话。")
    ]
    assert distance(one, again) < 0.3 * distance(one, other)


async def test_english_inside_chinese_sounds_as_it_does_in_english(channel: grpc.aio.Channel) -> None:
    mixed = await speak(channel, "我喜欢 wonderful weather 今天。", voice="zh-f")
    first, last = (word for word in mixed.words if word.char_end - word.char_start > 1)
    cut = mixed.pcm[first.sample_start : last.sample_end]
    english = (await speak(channel, "wonderful weather,")).pcm
    other = (await speak(channel, "horrible programs,")).pcm
    assert distance(cut, english) < 0.5 * distance(cut, other)


async def test_hanzi_are_spoken_as_syllables_not_by_name(channel: grpc.aio.Channel) -> None:
    heard = await speak(channel, "你好世界今天天气")
    lengths_ms = [(word.sample_end - word.sample_start) * 1000 / RATE_HZ for word in heard.words]
    assert len(lengths_ms) == 8
    assert all(80 < length_ms < 600 for length_ms in lengths_ms)


async def test_a_switch_of_language_makes_no_sentence_pause(channel: grpc.aio.Channel) -> None:
    heard = await speak(channel, "Hello 世界 this is 测试 text")
    gaps = [
        after.sample_start - before.sample_end
        for before, after in zip(heard.words, heard.words[1:], strict=False)
    ]
    assert max(gaps) <= RATE_HZ * 60 // 1000


async def test_pauses_follow_the_punctuation(channel: grpc.aio.Channel) -> None:
    async def after(text: str) -> float:
        heard = await speak(channel, text)
        return (heard.pcm.size - heard.words[-1].sample_end) * 1000 / RATE_HZ

    sentence, clause, word = await after("So it is."), await after("So it is,"), await after("So it is")
    assert 200 <= sentence <= 350
    assert 100 <= clause <= 180
    assert word < 100


async def test_speech_begins_at_once(channel: grpc.aio.Channel) -> None:
    for text in ("“(Quoted)” words", ENGLISH, CHINESE):
        heard = await speak(channel, text)
        assert np.flatnonzero(np.abs(heard.pcm.astype(int)) > 300)[0] < RATE_HZ * 20 // 1000


# --- Speed, pitch, volume -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
async def test_speed_scales_the_duration(channel: grpc.aio.Channel, text: str) -> None:
    normal = (await speak(channel, text)).pcm.size
    assert (await speak(channel, text, speed=0.5)).pcm.size / normal == pytest.approx(2.0, rel=0.1)
    assert (await speak(channel, text, speed=2.0)).pcm.size / normal == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("voice", ["en-f", "en-m"])
@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
async def test_pitch_moves_the_fundamental(channel: grpc.aio.Channel, voice: str, text: str) -> None:
    normal = fundamental_hz((await speak(channel, text, voice=voice)).pcm)
    for semitones, reached in (
        (-12.0, (-12.0, -8.0)),
        (-5.0, (-6.5, -3.5)),
        (5.0, (3.5, 6.5)),
        (12.0, (9, 12)),
    ):
        moved = fundamental_hz((await speak(channel, text, voice=voice, pitch=semitones)).pcm)
        assert reached[0] <= 12 * np.log2(moved / normal) <= reached[1]


async def test_voices_differ_in_pitch_by_gender(channel: grpc.aio.Channel) -> None:
    female = fundamental_hz((await speak(channel, ENGLISH, voice="en-gb-f")).pcm)
    male = fundamental_hz((await speak(channel, ENGLISH, voice="en-gb-m")).pcm)
    assert female > 1.5 * male


@pytest.mark.parametrize("voice", ["default", "zh-m"])
async def test_no_voice_clips_at_any_volume(channel: grpc.aio.Channel, voice: str) -> None:
    loudness = []
    for volume in (0.5, 1.0, 2.0):
        pcm = (await speak(channel, "啊！大妈骂马吗，" + CHINESE + ENGLISH, voice=voice, volume=volume)).pcm
        assert np.abs(pcm.astype(int)).max() <= 32768 * 10 ** (-1 / 20)
        loudness.append(np.sqrt((pcm.astype(float) ** 2).mean()))
    assert loudness[1] / loudness[0] == pytest.approx(2.0, rel=0.1)
    assert 1.6 < loudness[2] / loudness[1] <= 2.0
    silent = await speak(channel, ENGLISH, voice=voice, volume=0.0)
    assert not silent.pcm.any()
    assert len(silent.words) == len(ENGLISH.split())


async def test_english_and_chinese_are_equally_loud(channel: grpc.aio.Channel) -> None:
    levels = []
    for text in (ENGLISH, CHINESE):
        pcm = (await speak(channel, text)).pcm.astype(float)
        levels.append(20 * np.log10(np.sqrt((pcm[np.abs(pcm) > 100] ** 2).mean()) / 32768))
    assert abs(levels[0] - levels[1]) < 2
    assert all(-22 < one < -16 for one in levels)


# --- Contexts, junk, refusals ---------------------------------------------------------------------------


async def test_many_contexts_at_once_each_get_their_own_words(channel: grpc.aio.Channel) -> None:
    texts = [ENGLISH, CHINESE, MIXED, "one two three", "四五六"] * 3
    alone = {text: (await speak(channel, text, text)).pcm.size for text in set(texts)}
    heard = await asyncio.gather(*(speak(channel, text, text) for text in texts))
    for text, one in zip(texts, heard, strict=True):
        assert [text[word.char_start : word.char_end] for word in one.words]
        assert one.pcm.size == pytest.approx(alone[text], rel=0.02)
        assert [event.segment_done.segment for event in one.events if event.HasField("segment_done")] == [
            0,
            1,
        ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "...",
        "\u200b",
        "\x00",
        "😀",
        "a" * 5000,
        "1" * 400,
        "[[h@'loU]]",
        "<speak>x</speak>",
        "\ufffd",
    ],
    ids=lambda text: repr(text[:10]),
)
async def test_junk_returns_and_the_next_context_is_unharmed(channel: grpc.aio.Channel, text: str) -> None:
    await speak(channel, text)
    assert len((await speak(channel, "fine now")).words) == 2


async def test_cancel_in_the_middle_of_a_long_segment_leaves_the_worker_free(
    channel: grpc.aio.Channel,
) -> None:
    stream = WorkerStream(channel)
    await stream.open(credit_samples=RATE_HZ)
    await stream.append(0, "好" * 1000)
    event = await stream.next_event()
    assert event is not None
    assert event.audio.pcm
    await stream.cancel()
    rest = await stream.rest()
    assert rest.events[-1].done.samples <= RATE_HZ
    watch = link_grpc.EngineWorkerStub(channel).Watch(link.WatchRequest())
    while (await watch.read()).busy:
        pass
    watch.cancel()


async def test_unknown_voices_and_languages_are_refused(channel: grpc.aio.Channel) -> None:
    heard = await WorkerStream(channel).speak("x", voice="nobody")
    assert heard.error_code == ErrorCode.UNKNOWN_VOICE
    heard = await WorkerStream(channel).speak("x", language="fr-FR")
    assert heard.error_code == ErrorCode.BAD_REQUEST
    for language in ("auto", "en", "en-GB", "zh", "zh-CN", "cmn"):
        assert (await speak(channel, "3", language=language)).pcm.size


async def test_it_describes_itself(channel: grpc.aio.Channel) -> None:
    description = await link_grpc.EngineWorkerStub(channel).Describe(link.DescribeRequest())
    assert description.engine == "espeak-ng"
    assert description.sample_rate_hz == RATE_HZ
    assert description.exact_marks
    assert list(description.parameters) == ["speed", "pitch", "volume"]
    for voice in description.voices:
        assert (await speak(channel, "Hi 你好", voice=voice.id)).pcm.size


# --- The library ----------------------------------------------------------------------------------------


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_phonemes_are_mandarin_and_neither_phoneme_input_nor_ssml_is_on() -> None:
    said = in_a_process(
        "import json\n"
        "from cosyduplex_espeak.library import Espeak\n"
        "espeak = Espeak()\n"
        "texts = [('好', 'cmn'), (\"[[h@'loU]]\", 'en-us'), ('<b>x</b>', 'en-us')]\n"
        "print(json.dumps([espeak.phonemes(text, voice) for text, voice in texts]))"
    )
    mandarin, brackets, markup = json.loads(said.stdout)
    assert mandarin.startswith("X'Au214")
    assert "'eItS" in brackets  # the letter h by its name
    assert "b'i:" in markup  # the letter b by its name


def test_it_works_from_a_data_path_longer_than_the_library_can_take(tmp_path: Path) -> None:
    said = in_a_process(
        "import cosyduplex_espeak.library as library\n"
        "from pathlib import Path\n"
        "path, data = library._locate()\n"
        f"folder = Path({str(tmp_path)!r}) / ('x' * 100) / ('y' * 100)\n"
        "folder.mkdir(parents=True)\n"
        "(folder / 'espeak-ng-data').symlink_to(data)\n"
        "library._locate = lambda: (path, str(folder / 'espeak-ng-data'))\n"
        "print(library.Espeak().phonemes('好', 'cmn'))"
    )
    assert said.stdout.startswith("X'Au214"), said.stderr


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("sys.modules['espeakng_loader'] = None", "needs espeak-ng"),
        ("sys.modules['grpc'] = None", "grpc is missing"),
        ("import cosyduplex_espeak.library as l; l.MINIMUM_VERSION = (9, 0)", "too old"),
        (
            "import cosyduplex_espeak.library as l; l._locate = lambda: ('/no/lib.so', '/no')",
            "cannot be loaded",
        ),
    ],
)
def test_without_the_library_it_ends_with_3_and_says_what_to_install(spoil: str, reason: str) -> None:
    said = in_a_process(
        f"import sys\n{spoil}\n"
        "from cosyduplex_espeak.__main__ import main\n"
        "sys.exit(main(['--listen', 'unix:/tmp/never.sock']))"
    )
    assert said.returncode == 3
    assert said.stdout == ""
    assert reason in said.stderr
    assert "pip install 'cosyduplex[voice]'" in said.stderr
    assert len(said.stderr.splitlines()) == 1
