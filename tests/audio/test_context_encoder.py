import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosyduplex_server.audio import opus
from cosyduplex_server.audio.encode import AudioFormat, ContextEncoder, EncodedFrame
from cosyduplex_server.audio.opus import OpusDecoder, OpusUnavailable
from cosyduplex_server.audio.resample import Resampler

ENGINE_HZ = 24000
PCM_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
OPUS_RATES_HZ = (8000, 12000, 16000, 24000, 48000)
OPUS_FORMATS = [
    AudioFormat("opus", rate, frame_ms, profile)
    for rate in OPUS_RATES_HZ
    for frame_ms, profile in ((10, "speech"), (20, "narrow"), (20, "speech"), (60, "narrow"))
]
ALL_FORMATS = [AudioFormat("pcm_s16le", rate, 20) for rate in PCM_RATES_HZ] + OPUS_FORMATS

Signal = npt.NDArray[np.float64]


def noise(num_samples: int) -> bytes:
    return np.random.default_rng(num_samples).integers(-9000, 9000, num_samples).astype("<i2").tobytes()


def samples(pcm: bytes) -> Signal:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def resampled(pcm: bytes, out_hz: int) -> bytes:
    resampler = Resampler(ENGINE_HZ, out_hz)
    return resampler.process(pcm) + resampler.finish()


def heard(frames: list[EncodedFrame], fmt: AudioFormat, pre_skip: int) -> Signal:
    """What a listener plays who decodes every packet and drops the first `pre_skip` samples."""
    decoder = OpusDecoder(fmt.sample_rate_hz)
    pcm = b"".join(decoder.decode(frame.payload, fmt.frame_samples) for frame in frames)
    return samples(pcm)[pre_skip:]


def alignment(out: Signal, reference: Signal, sample_rate_hz: int) -> tuple[float, float]:
    """By how many ms `out` comes late, and how like the reference it is then (1: the same).

    Between 700 and 2500 Hz, where the voip application neither shifts phases (its high-pass does
    below) nor saves bits.
    """
    band = np.fft.rfftfreq(len(reference), 1 / sample_rate_hz)
    keep = (band > 700) & (band < 2500)
    a, b = np.fft.rfft(out[: len(reference)]) * keep, np.fft.rfft(reference) * keep
    correlation = np.fft.irfft(a * b.conj(), len(reference))
    peak = int(np.argmax(correlation))
    late = peak if peak < len(reference) / 2 else peak - len(reference)
    energy = np.sum(np.fft.irfft(a, len(reference)) ** 2) * np.sum(np.fft.irfft(b, len(reference)) ** 2)
    return late * 1000 / sample_rate_hz, float(correlation[peak] / np.sqrt(energy))


def assert_tiles_the_timeline(frames: list[EncodedFrame], encoder: ContextEncoder) -> None:
    ends = [0] + [frame.pts + frame.num_samples for frame in frames]
    assert [frame.pts for frame in frames] == ends[:-1]
    assert all(frame.num_samples > 0 for frame in frames)
    assert ends[-1] == encoder.num_samples


@pytest.mark.parametrize("engine_hz", [22050, 24000])
@pytest.mark.parametrize("rate_hz", PCM_RATES_HZ)
@pytest.mark.parametrize("frame_ms", [10, 20, 60])
def test_pcm_frames_hold_the_resampled_audio_and_nothing_else(engine_hz, rate_hz, frame_ms) -> None:
    pcm = noise(10_007)
    encoder = ContextEncoder(engine_hz, AudioFormat("pcm_s16le", rate_hz, frame_ms))
    frames = [*encoder.push(pcm), *encoder.finish()]
    resampler = Resampler(engine_hz, rate_hz)
    assert b"".join(frame.payload for frame in frames) == resampler.process(pcm) + resampler.finish()
    assert {frame.num_samples for frame in frames[:-1]} == {rate_hz * frame_ms // 1000}
    assert all(len(frame.payload) == 2 * frame.num_samples for frame in frames)
    assert_tiles_the_timeline(frames, encoder)
    assert encoder.num_samples == round(10_007 * rate_hz / engine_hz)
    assert encoder.pre_skip == 0


@given(
    fmt=st.sampled_from(ALL_FORMATS),
    num_samples=st.integers(0, 6000),
    cuts=st.lists(st.integers(0, 6000), max_size=8),
)
@settings(max_examples=120, deadline=None)
def test_any_chunking_gives_the_same_frames(fmt, num_samples, cuts) -> None:
    pcm = noise(num_samples)
    whole, chunked = ContextEncoder(22050, fmt), ContextEncoder(22050, fmt)
    expected = [*whole.push(pcm), *whole.finish()]
    edges = [0, *sorted(min(cut, num_samples) for cut in cuts), num_samples]
    frames = [
        frame for start, end in itertools.pairwise(edges) for frame in chunked.push(pcm[2 * start : 2 * end])
    ]
    assert [*frames, *chunked.finish()] == expected
    assert chunked.num_samples == whole.num_samples


@pytest.mark.parametrize("fmt", OPUS_FORMATS, ids=str)
def test_a_decoder_that_drops_pre_skip_hears_the_whole_audio_unshifted(fmt, speechlike) -> None:
    pcm = speechlike(ENGINE_HZ, 1.2345)
    encoder = ContextEncoder(ENGINE_HZ, fmt)
    frames = [*encoder.push(pcm), *encoder.finish()]
    reference = samples(resampled(pcm, fmt.sample_rate_hz))
    out = heard(frames, fmt, encoder.pre_skip)
    assert encoder.num_samples == len(reference)
    assert len(out) >= encoder.num_samples
    tail = fmt.sample_rate_hz // 10
    for part in (slice(None), slice(len(reference) - tail, len(reference))):
        late_ms, likeness = alignment(out[part], reference[part], fmt.sample_rate_hz)
        assert abs(late_ms) <= 0.1
        assert likeness > 0.9


@pytest.mark.parametrize("fmt", OPUS_FORMATS, ids=str)
def test_opus_pts_count_from_after_the_dropped_samples(fmt) -> None:
    encoder = ContextEncoder(ENGINE_HZ, fmt)
    frames = [*encoder.push(noise(12_346)), *encoder.finish()]
    assert [frame.pts for frame in frames] == [
        max(0, k * fmt.frame_samples - encoder.pre_skip) for k in range(len(frames))
    ]
    assert {frame.num_samples for frame in frames[1:-1]} == {fmt.frame_samples}
    assert_tiles_the_timeline(frames, encoder)
    assert encoder.num_samples == round(12_346 * fmt.sample_rate_hz / ENGINE_HZ)


def test_audio_shorter_than_a_frame_is_one_packet_of_its_own_length() -> None:
    fmt = AudioFormat("opus", 24000, 20)
    encoder = ContextEncoder(ENGINE_HZ, fmt)
    assert list(encoder.push(noise(100))) == []
    [frame] = encoder.finish()
    assert (frame.pts, frame.num_samples) == (0, 100)


def test_audio_whose_end_the_last_whole_packet_cannot_reach_gets_one_more() -> None:
    fmt = AudioFormat("opus", 24000, 20)
    encoder = ContextEncoder(ENGINE_HZ, fmt)
    assert len(encoder.push(noise(960))) == 2
    [last] = encoder.finish()
    assert (last.pts, last.num_samples) == (960 - encoder.pre_skip, encoder.pre_skip)


@pytest.mark.parametrize("fmt", ALL_FORMATS, ids=str)
def test_a_context_without_audio_has_no_frames(fmt) -> None:
    encoder = ContextEncoder(ENGINE_HZ, fmt)
    assert [*encoder.push(b""), *encoder.flush(), *encoder.finish()] == []
    assert encoder.num_samples == 0


@pytest.mark.parametrize("rate_hz", PCM_RATES_HZ)
def test_a_pcm_flush_sends_all_that_was_pushed_and_adds_nothing(rate_hz) -> None:
    fmt = AudioFormat("pcm_s16le", rate_hz, 20)
    first, second = noise(5003), noise(7001)
    encoder = ContextEncoder(ENGINE_HZ, fmt)
    flushed = [*encoder.push(first), *encoder.flush()]
    assert b"".join(frame.payload for frame in flushed) == resampled(first, rate_hz)
    assert list(encoder.flush()) == []
    assert encoder.inserted_samples == 0
    frames = [*flushed, *encoder.push(second), *encoder.finish()]
    assert_tiles_the_timeline(frames, encoder)
    assert encoder.num_samples == len(resampled(first + second, rate_hz)) // 2


@pytest.mark.parametrize("fmt", OPUS_FORMATS, ids=str)
def test_after_an_opus_flush_all_that_was_pushed_can_be_heard(fmt, speechlike) -> None:
    pcm = speechlike(ENGINE_HZ, 0.777)
    encoder = ContextEncoder(ENGINE_HZ, fmt)
    frames = [*encoder.push(pcm), *encoder.flush()]
    reference = samples(resampled(pcm, fmt.sample_rate_hz))
    out = heard(frames, fmt, encoder.pre_skip)
    assert len(out) == encoder.num_samples >= len(reference)
    tail = slice(len(reference) - fmt.sample_rate_hz // 10, len(reference))
    late_ms, likeness = alignment(out[tail], reference[tail], fmt.sample_rate_hz)
    assert abs(late_ms) <= 0.1
    assert likeness > 0.9
    assert_tiles_the_timeline(frames, encoder)


@pytest.mark.parametrize("fmt", OPUS_FORMATS, ids=str)
def test_audio_after_an_opus_flush_is_heard_after_the_silence_told(fmt, speechlike) -> None:
    pcm = speechlike(ENGINE_HZ, 1.6)
    first, second = pcm[: 2 * 17_003], pcm[2 * 17_003 :]
    encoder = ContextEncoder(ENGINE_HZ, fmt)
    frames = [*encoder.push(first), *encoder.flush()]
    begin = round(17_003 * fmt.sample_rate_hz / ENGINE_HZ) + encoder.inserted_samples
    frames += [*encoder.push(second), *encoder.finish()]
    reference = samples(resampled(second, fmt.sample_rate_hz))
    out = heard(frames, fmt, encoder.pre_skip)
    assert encoder.inserted_samples > 0
    assert encoder.num_samples == pytest.approx(begin + len(reference), abs=1)
    late_ms, likeness = alignment(out[begin : begin + len(reference)], reference, fmt.sample_rate_hz)
    assert abs(late_ms) <= 0.1
    assert likeness > 0.9
    assert_tiles_the_timeline(frames, encoder)


def test_an_opus_flush_inserts_less_than_a_frame_and_the_codecs_delay() -> None:
    fmt = AudioFormat("opus", 24000, 20)
    for num_samples in range(1, 1000, 7):
        encoder = ContextEncoder(ENGINE_HZ, fmt)
        encoder.push(noise(num_samples))
        encoder.flush()
        assert encoder.pre_skip <= encoder.inserted_samples < fmt.frame_samples + encoder.pre_skip


def test_a_flush_or_an_end_with_nothing_new_gives_nothing() -> None:
    encoder = ContextEncoder(ENGINE_HZ, AudioFormat("opus", 16000, 20))
    encoder.push(noise(5000))
    assert list(encoder.flush())
    length = encoder.num_samples
    assert [*encoder.flush(), *encoder.finish()] == []
    assert encoder.num_samples == length


# Fewer than 16 samples may be none at the lower rate: then nothing has come since a flush.
@given(
    fmt=st.sampled_from(
        [AudioFormat("opus", 8000, 20), AudioFormat("opus", 24000, 10), AudioFormat("pcm_s16le", 11025, 20)]
    ),
    steps=st.lists(st.one_of(st.just("flush"), st.just(0), st.integers(16, 1500)), max_size=10),
)
@settings(max_examples=150, deadline=None)
def test_frames_tile_the_timeline_whatever_is_pushed_and_flushed(fmt, steps) -> None:
    encoder = ContextEncoder(ENGINE_HZ, fmt)
    frames: list[EncodedFrame] = []
    pushed = 0
    for step in steps:
        if step == "flush":
            frames += encoder.flush()
            sent = frames[-1].pts + frames[-1].num_samples if frames else 0
            assert sent == encoder.num_samples
        else:
            pushed += step
            frames += encoder.push(noise(step))
    inserted = encoder.inserted_samples
    nothing_since_flush = not steps or steps[-1] == "flush" or steps[-1] == 0
    frames += encoder.finish()
    assert_tiles_the_timeline(frames, encoder)
    real = round(pushed * fmt.sample_rate_hz / ENGINE_HZ)
    if nothing_since_flush:
        assert real - 1 <= encoder.num_samples <= real + inserted + 1
    else:
        assert abs(encoder.num_samples - real - inserted) <= 1


@pytest.mark.parametrize(("fmt", "threaded"), [(ALL_FORMATS[0], False), (OPUS_FORMATS[0], True)], ids=str)
def test_only_opus_asks_for_a_worker_thread(fmt, threaded) -> None:
    assert ContextEncoder(ENGINE_HZ, fmt).threaded is threaded


def test_samples_become_the_nearest_millisecond() -> None:
    encoder = ContextEncoder(ENGINE_HZ, AudioFormat("pcm_s16le", 22050, 20))
    assert [encoder.to_ms(n) for n in (0, 11, 12, 22050, 33075)] == [0, 0, 1, 1000, 1500]


def test_contexts_encoded_in_parallel_threads_give_the_frames_they_give_alone(speechlike) -> None:
    pcm = speechlike(ENGINE_HZ, 0.5)

    def encode(fmt: AudioFormat) -> list[EncodedFrame]:
        encoder = ContextEncoder(ENGINE_HZ, fmt)
        frames = [frame for at in range(0, len(pcm), 3000) for frame in encoder.push(pcm[at : at + 3000])]
        return [*frames, *encoder.finish()]

    alone = [encode(fmt) for fmt in ALL_FORMATS]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(encode, ALL_FORMATS)) == alone


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        ContextEncoder(ENGINE_HZ, AudioFormat("pcm_s16le", 24000, 20)).push(b"abc")


def test_without_the_library_opus_is_refused_and_pcm_goes_on(monkeypatch) -> None:
    opus._codec.cache_clear()
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(OpusUnavailable, match="libopus0"):
        ContextEncoder(ENGINE_HZ, AudioFormat("opus", 24000, 20))
    encoder = ContextEncoder(ENGINE_HZ, AudioFormat("pcm_s16le", 24000, 20))
    assert len(encoder.push(noise(480))) == 1
