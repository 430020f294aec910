import io
import math
import wave

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.cosyvoice.files import CheckpointError
from cosyduplex_server.engine.cosyvoice.prompt import PromptEncoder, read_wav
from cosyduplex_server.errors import Failure

NUM_SPEECH_TOKENS = 200


def write_model(path, nodes, inputs, output, weights=(), output_type=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(output, output_type, None)],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


def write_speaker_encoder(path, channels=192, scale=1.0, input_name="input"):
    """The mean over time, seen from 192 sides."""
    sides = np.random.default_rng(1).standard_normal((80, channels)).astype(np.float32) * np.float32(scale)
    nodes = [
        helper.make_node("ReduceMax", [input_name], ["loudest"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["loudest", "sides"], ["output"]),
    ]
    write_model(path, nodes, [(input_name, TensorProto.FLOAT, [1, "T", 80])], "output", [("sides", sides)])


def write_speech_tokenizer(path, stride=4, highest=NUM_SPEECH_TOKENS - 1, whole=True, dropped=0):
    """A token for every four frames: how loud they are, from 0 to `highest`; the last ones are `dropped`."""
    kind = TensorProto.INT64 if whole else TensorProto.FLOAT
    nodes = [
        helper.make_node("MaxPool", ["feats"], ["pooled"], kernel_shape=[stride], strides=[stride]),
        helper.make_node("ReduceMax", ["pooled"], ["loud"], axes=[1], keepdims=0),
        helper.make_node("Sigmoid", ["loud"], ["share"]),
        helper.make_node("Mul", ["share", "highest"], ["level"]),
        helper.make_node("Cast", ["level"], ["all"], to=kind),
        helper.make_node("Slice", ["all", "first", "end", "axis"], ["indices"]),
        helper.make_node("Identity", ["feats_length"], ["length"]),
    ]
    write_model(
        path,
        nodes,
        [("feats", TensorProto.FLOAT, [1, 128, "T"]), ("feats_length", TensorProto.INT32, [1])],
        "indices",
        [
            ("highest", np.array(highest, np.float32)),
            ("first", np.array([0], np.int64)),
            ("end", np.array([-dropped or 9999], np.int64)),
            ("axis", np.array([1], np.int64)),
        ],
        kind,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_speaker_encoder(folder / "campplus.onnx")
    write_speech_tokenizer(folder / "speech_tokenizer_v2.onnx")
    return folder


def encoder_of(campplus, tokenizer, mel_fmax_hz=8000.0):
    return PromptEncoder(campplus, tokenizer, mel_fmax_hz=mel_fmax_hz, num_speech_tokens=NUM_SPEECH_TOKENS)


@pytest.fixture(scope="module")
def encoder(folder):
    return encoder_of(folder / "campplus.onnx", folder / "speech_tokenizer_v2.onnx")


def voice_like(seconds, rate_hz):
    """A buzz with a slow swell: `seconds` of it."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    buzz = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))
    return (0.2 * buzz * (1 + np.sin(2 * np.pi * 1.5 * t)) / 2).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 24_000, 44_100, 48_000])
def test_tokens_and_mel_of_a_recording_end_together(encoder, rate_hz):
    features = encoder.encode(voice_like(3.48, rate_hz), rate_hz)
    assert len(features.speech_tokens) == 87
    assert features.mel.shape == (174, 80)
    assert features.embedding.shape == (192,)
    assert features.seconds == pytest.approx(3.48, abs=1e-4)


@pytest.mark.parametrize("seconds", [1.0, 1.019, 1.03, 2.5, 3.333])
def test_an_odd_length_is_cut_to_whole_tokens_of_both(encoder, seconds):
    features = encoder.encode(voice_like(seconds, 24_000), 24_000)
    tokens = len(features.speech_tokens)
    assert features.mel.shape == (2 * tokens, 80)
    assert tokens == math.floor(seconds * 25)


def test_the_shorter_of_tokens_and_mel_decides_and_both_keep_their_beginning(tmp_path, encoder):
    shorter = broken(tmp_path, tokenizer=lambda path: write_speech_tokenizer(path, dropped=3))
    features = shorter.encode(voice_like(10, 24_000), 24_000)
    assert len(features.speech_tokens) == 247
    whole = encoder.encode(voice_like(10, 24_000), 24_000)
    assert features.speech_tokens == whole.speech_tokens[:247]
    assert torch.equal(features.mel, whole.mel[:494])


def test_the_same_recording_has_the_same_features_at_every_rate(encoder):
    one, other = (encoder.encode(voice_like(2, rate), rate) for rate in (24_000, 48_000))
    torch.testing.assert_close(one.mel[5:-5, :60], other.mel[5:-5, :60], atol=0.05, rtol=0)
    agreeing = sum(a == b for a, b in zip(one.speech_tokens, other.speech_tokens, strict=True))
    assert agreeing >= 48


def test_the_mel_ends_where_the_model_wants(folder):
    paths = folder / "campplus.onnx", folder / "speech_tokenizer_v2.onnx"
    pcm = voice_like(1.5, 24_000)
    low, high = (encoder_of(*paths, fmax_hz).encode(pcm, 24_000).mel for fmax_hz in (8000.0, None))
    assert not torch.equal(low, high)


@pytest.mark.parametrize(
    ("pcm", "rate_hz", "message"),
    [
        (voice_like(30.1, 16_000), 16_000, "30.1 s long"),
        (voice_like(0.9, 24_000), 24_000, "0.9 s long"),
        (np.zeros(0, np.float32), 24_000, "0.0 s long"),
        (voice_like(2, 8000), 8000, "8000 samples a second"),
        (np.zeros(400_000, np.float32), 200_000, "200000 samples a second"),
        (np.full(48_000, np.nan, np.float32), 24_000, "no numbers"),
        (np.full(48_000, 0.0005, np.float32), 24_000, "silent"),
    ],
)
def test_a_recording_that_makes_no_voice_is_refused(encoder, pcm, rate_hz, message):
    with pytest.raises(Failure, match=message) as refusal:
        encoder.encode(pcm, rate_hz)
    assert refusal.value.code is ErrorCode.BAD_REFERENCE_AUDIO


def test_a_recording_of_30_seconds_is_taken(encoder):
    assert len(encoder.encode(voice_like(30, 16_000), 16_000).speech_tokens) == 750


def test_the_networks_are_opened_when_they_are_needed(tmp_path):
    encoder = encoder_of(tmp_path / "campplus.onnx", tmp_path / "speech_tokenizer_v2.onnx")
    with pytest.raises(CheckpointError, match=r"^campplus\.onnx: is missing"):
        encoder.open()


def broken(tmp_path, *, campplus=write_speaker_encoder, tokenizer=write_speech_tokenizer):
    paths = tmp_path / "campplus.onnx", tmp_path / "speech_tokenizer_v2.onnx"
    campplus(paths[0])
    tokenizer(paths[1])
    return encoder_of(*paths)


def truncated(path):
    write_speaker_encoder(path)
    path.write_bytes(path.read_bytes()[:-1000])


def nonsense(path):
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"campplus": truncated}, "campplus.onnx: is damaged"),
        ({"campplus": nonsense}, "campplus.onnx: is damaged"),
        ({"campplus": lambda path: path.touch()}, "campplus.onnx: "),
        ({"tokenizer": nonsense}, "speech_tokenizer_v2.onnx: is damaged"),
        (
            {"campplus": lambda path: write_speaker_encoder(path, input_name="x")},
            "campplus.onnx: takes x, not input",
        ),
        (
            {"tokenizer": write_speaker_encoder},
            "speech_tokenizer_v2.onnx: takes input, not feats and feats_length",
        ),
    ],
)
def test_a_file_that_is_no_such_network_is_told_when_it_is_opened(tmp_path, parts, message):
    with pytest.raises(CheckpointError) as error:
        broken(tmp_path, **parts).open()
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"channels": 191}, "gives float32 of 1x191"),
        ({"scale": math.inf}, "gives a speaker vector that is not finite"),
    ],
)
def test_a_speaker_encoder_that_gives_no_speaker_vector_is_named(tmp_path, fault, message):
    encoder = broken(tmp_path, campplus=lambda path: write_speaker_encoder(path, **fault))
    with pytest.raises(CheckpointError) as error:
        encoder.encode(voice_like(2, 24_000), 24_000)
    assert str(error.value).startswith(f"campplus.onnx: {message}")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"stride": 2}, "gives 100 speech tokens for 200 frames, not about 50"),
        ({"stride": 8}, "gives 25 speech tokens for 200 frames, not about 50"),
        ({"highest": 999}, "gives speech tokens outside 0 to 199"),
        ({"highest": -50}, "gives speech tokens outside 0 to 199"),
        ({"whole": False}, "gives float32 for speech tokens"),
    ],
)
def test_a_speech_tokenizer_that_gives_no_speech_tokens_is_named(tmp_path, fault, message):
    encoder = broken(tmp_path, tokenizer=lambda path: write_speech_tokenizer(path, **fault))
    with pytest.raises(CheckpointError) as error:
        encoder.encode(voice_like(2, 24_000), 24_000)
    assert str(error.value).startswith(f"speech_tokenizer_v2.onnx: {message}")


def test_the_highest_speech_token_is_one_below_their_number(folder, encoder):
    pcm = voice_like(2, 24_000)
    highest = max(encoder.encode(pcm, 24_000).speech_tokens)
    paths = folder / "campplus.onnx", folder / "speech_tokenizer_v2.onnx"
    PromptEncoder(*paths, mel_fmax_hz=8000.0, num_speech_tokens=highest + 1).encode(pcm, 24_000)
    with pytest.raises(CheckpointError, match="outside"):
        PromptEncoder(*paths, mel_fmax_hz=8000.0, num_speech_tokens=highest).encode(pcm, 24_000)


def test_a_network_for_other_inputs_is_named(tmp_path):
    def narrow(path):
        node = helper.make_node("ReduceMax", ["input"], ["output"], axes=[1], keepdims=0)
        write_model(path, [node], [("input", TensorProto.FLOAT, [1, "T", 40])], "output")

    encoder = broken(tmp_path, campplus=narrow)
    with pytest.raises(CheckpointError, match=r"^campplus\.onnx: does not take what it is given"):
        encoder.encode(voice_like(2, 24_000), 24_000)


def test_the_fingerprint_is_that_of_the_files_and_of_the_mel(tmp_path, folder, encoder):
    same = encoder_of(folder / "campplus.onnx", folder / "speech_tokenizer_v2.onnx")
    assert same.fingerprint == encoder.fingerprint
    other_mel = encoder_of(folder / "campplus.onnx", folder / "speech_tokenizer_v2.onnx", None)
    retrained = broken(tmp_path, campplus=lambda path: write_speaker_encoder(path, scale=1.001))
    assert len({encoder.fingerprint, other_mel.fingerprint, retrained.fingerprint}) == 3


def test_the_fingerprint_of_a_missing_file_is_an_error_that_names_it(tmp_path):
    encoder = encoder_of(tmp_path / "campplus.onnx", tmp_path / "speech_tokenizer_v2.onnx")
    with pytest.raises(CheckpointError, match=r"^campplus\.onnx: "):
        _ = encoder.fingerprint


def wav_file(samples, rate_hz=24_000, channels=1, width=2):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((channels, width, rate_hz, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def test_a_wav_file_is_read_as_numbers_from_minus_one_to_one():
    pcm, rate_hz = read_wav(wav_file(np.array([0, 16_384, -32_768, 32_767], "<i2"), 16_000))
    assert rate_hz == 16_000
    assert pcm.dtype == np.float32
    assert pcm.tolist() == [0, 0.5, -1, 32_767 / 32_768]


def test_the_channels_of_a_wav_file_are_averaged():
    pcm, _ = read_wav(wav_file(np.array([[16_384, 0], [-8192, -8192]], "<i2"), channels=2))
    assert pcm.tolist() == [0.25, -0.25]


def test_a_wav_file_cut_short_is_read_as_far_as_it_goes():
    whole = wav_file(np.arange(1000, dtype="<i2"))
    assert read_wav(whole[:-101])[0].size == 949


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (b"", "no recording"),
        (b"RIFF", "not a WAV file"),
        (b"ID3\x04" + bytes(100), "not a WAV file"),
        (wav_file(np.zeros(100, "u1"), width=1), "16 bit"),
    ],
)
def test_what_is_no_wav_file_is_refused(audio, message):
    with pytest.raises(Failure, match=message) as refusal:
        read_wav(audio)
    assert refusal.value.code is ErrorCode.BAD_REFERENCE_AUDIO
