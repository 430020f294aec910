"""NVIDIA's own client: the documented script, asyncio, and upstream CosyVoice's benchmark."""

from __future__ import annotations

import queue
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from hearing import Sound, assert_speech, decoded, longest_silence_s, raw, tones_hz
from servers import Server
from tritonclient.utils import InferenceServerException

MODEL = "cloudsway_tts"
TEXT = "The first words are heard while the last ones are still being thought of."
END = b"%END%"
OUTPUTS = [triton.InferRequestedOutput("wav_output")]


def works(feature: str) -> pytest.MarkDecorator:
    return pytest.mark.door("Triton", client="tritonclient", feature=feature)


class UserData:
    """What the documented callback fills."""

    def __init__(self) -> None:
        self._completed_requests: queue.Queue[Any] = queue.Queue()

    def get(self) -> Any:
        """The next response.

        Raises:
            InferenceServerException: it is an error.
        """
        result = self._completed_requests.get(timeout=30)
        if isinstance(result, Exception):
            raise result
        return result

    def wav(self) -> bytes:
        """The responses up to the end, written one after another."""
        chunks = []
        while (chunk := self.get().as_numpy("wav_output")[0]) != END:
            chunks.append(chunk)
        return b"".join(chunks)


def callback(user_data: UserData, result: Any, error: Any) -> None:
    if error:
        user_data._completed_requests.put(error)
    else:
        user_data._completed_requests.put(result)


def tensor(name: str, value: Any, datatype: str = "BYTES") -> triton.InferInput:
    made = triton.InferInput(name, [1], datatype)
    made.set_data_from_numpy(np.array([value], np.object_ if datatype == "BYTES" else np.int32))
    return made


def inputs(text: str = TEXT, **others: str) -> list[triton.InferInput]:
    return [tensor("text", text), *(tensor(name, value) for name, value in others.items())]


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(url=server.triton) as client:
        yield client


# --- the script of the document


@works("streamed WAV")
def test_the_documented_script_writes_a_wav_file(server: Server, tmp_path: Path) -> None:
    asked = [
        tensor("voice_id", "reference"),
        tensor("text", "这是文本"),
        tensor("language", "zh"),
        tensor("sample_rate", 16000, "INT32"),
        tensor("api_key", ""),
    ]
    user_data = UserData()
    output = tmp_path / "output.wav"
    with triton.InferenceServerClient(url=server.triton) as client:
        client.start_stream(callback=partial(callback, user_data))
        client.async_stream_infer(model_name=MODEL, inputs=asked, outputs=OUTPUTS)
        with output.open("wb") as f:
            while True:
                result = user_data._completed_requests.get(timeout=30)
                audio_chunk = result.as_numpy("wav_output")[0]
                if audio_chunk == b"%END%":
                    break
                f.write(audio_chunk)
    sound = decoded(output.read_bytes())
    assert sound.rate_hz == 16000
    assert_speech(sound, "这是文本")


@works("documented voices")
@pytest.mark.parametrize("voice", ["reference", "infer_2_moan_1"])
def test_the_documented_voices_speak(client: triton.InferenceServerClient, voice: str) -> None:
    user_data = UserData()
    client.start_stream(partial(callback, user_data))
    client.async_stream_infer(MODEL, inputs(voice_id=voice, language="en"))
    sound = decoded(user_data.wav())
    assert_speech(sound, TEXT)
    assert longest_silence_s(sound) < 0.6


@works("several requests on one stream")
def test_requests_on_one_stream_are_answered_in_their_order(client: triton.InferenceServerClient) -> None:
    texts = ["One.", "This is the second and longest of the three.", "Three."]
    user_data = UserData()
    client.start_stream(partial(callback, user_data))
    for text in texts:
        client.async_stream_infer(MODEL, inputs(text))
    lengths = [decoded(user_data.wav()).seconds for _ in texts]
    assert lengths[1] > lengths[0] + lengths[2]


@works("requests by id at the same time")
def test_requests_of_different_ids_are_told_apart(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server(realtime_factor=0.1, voices=["en-f"])
    user_data = UserData()
    sounds: dict[str, bytes] = {"a": b"", "b": b"", "c": b""}
    with triton.InferenceServerClient(server.triton) as client:
        client.start_stream(partial(callback, user_data))
        for name in sounds:
            client.async_stream_infer(MODEL, inputs("Each has a tone of its own."), request_id=name)
        ended = set()
        while ended != sounds.keys():
            result = user_data.get()
            chunk, name = result.as_numpy("wav_output")[0], result.get_response().id
            if chunk == END:
                ended.add(name)
            else:
                sounds[name] += chunk
    tones = [tones_hz(decoded(sound)) for sound in sounds.values()]
    assert all(len(tone) == 1 for tone in tones)
    assert len(set.union(*tones)) == 3


@works("text in pieces (sequences)")
def test_a_sequence_is_heard_before_its_last_piece_is_sent(client: triton.InferenceServerClient) -> None:
    user_data = UserData()
    client.start_stream(partial(callback, user_data))
    client.async_stream_infer(
        MODEL, inputs("The first sentence comes alone. "), sequence_id=7, sequence_start=True
    )
    head = user_data.get().as_numpy("wav_output")[0]
    assert head[:4] == b"RIFF"
    for word in ("The", " second", " follows."):
        client.async_stream_infer(MODEL, inputs(word), sequence_id=7, sequence_end=word == " follows.")
    assert_speech(decoded(head + user_data.wav()), "The first sentence comes alone. The second follows.")


@works("errors in band")
def test_after_an_error_the_stream_goes_on(client: triton.InferenceServerClient) -> None:
    user_data = UserData()
    client.start_stream(partial(callback, user_data))
    client.async_stream_infer(MODEL, inputs(voice_id="nobody"))
    with pytest.raises(InferenceServerException, match="unknown_voice"):
        user_data.get()
    client.async_stream_infer("gpt", inputs())
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'gpt' is not found"):
        user_data.get()
    client.async_stream_infer(MODEL, inputs())
    assert_speech(decoded(user_data.wav()), TEXT)


@works("stop of a stream")
def test_cancelling_the_stream_stops_the_synthesis(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server(realtime_factor=0.5, voices=["en-f"])
    user_data = UserData()
    with triton.InferenceServerClient(server.triton) as client:
        client.start_stream(partial(callback, user_data))
        client.async_stream_infer(MODEL, inputs("A long story. " * 200))
        user_data.get()
        client.stop_stream(cancel_requests=True)
        server.wait_until_idle()


@works("stop of a stream")
def test_closing_waits_for_nothing_that_was_answered(client: triton.InferenceServerClient) -> None:
    user_data = UserData()
    client.start_stream(partial(callback, user_data))
    client.async_stream_infer(MODEL, inputs())
    user_data.wav()
    client.stop_stream()  # joins the thread that reads
    client.start_stream(partial(callback, user_data))
    client.async_stream_infer(MODEL, inputs())
    assert_speech(decoded(user_data.wav()), TEXT)


@works("single call")
def test_a_single_call_gets_a_whole_file(client: triton.InferenceServerClient) -> None:
    answer = client.infer(MODEL, inputs(), request_id="x", outputs=OUTPUTS)
    assert_speech(decoded(answer.as_numpy("wav_output")[0]), TEXT)


@works("health, metadata, statistics")
def test_tools_see_a_server_with_two_models(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("gpt")
    assert "sequence" in client.get_server_metadata().extensions
    assert {model.name for model in client.get_model_repository_index().models} == {MODEL, "cosyvoice2"}
    assert [each.name for each in client.get_model_metadata(MODEL).outputs] == ["wav_output"]
    config = client.get_model_config(MODEL, as_json=True)["config"]
    assert config["model_transaction_policy"]["decoupled"] is True
    assert config["input"][2] == {"name": "text", "data_type": "TYPE_STRING", "dims": ["1"]}
    before = client.get_inference_statistics(MODEL).model_stats[0]
    client.infer(MODEL, inputs("Counted."))
    after = client.get_inference_statistics(MODEL).model_stats[0]
    assert after.inference_count == before.inference_count + 1
    assert after.inference_stats.success.ns > before.inference_stats.success.ns


@works("keys in the tensor and in metadata")
def test_a_key_may_be_in_the_tensor_or_in_a_header(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server("--api-key", "secret", voices=["en-f"])
    user_data = UserData()
    with triton.InferenceServerClient(server.triton) as client:
        assert client.is_server_live()
        client.start_stream(partial(callback, user_data))
        client.async_stream_infer(MODEL, inputs(api_key="wrong"))
        with pytest.raises(InferenceServerException, match="unauthorized"):
            user_data.get()
        client.async_stream_infer(MODEL, inputs(api_key="secret"))
        assert decoded(user_data.wav()).seconds > 1
        with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
            client.get_model_config(MODEL)
        assert client.get_model_config(MODEL, headers={"authorization": "Bearer secret"})
        client.stop_stream()
        client.start_stream(partial(callback, user_data), headers={"authorization": "Bearer secret"})
        client.async_stream_infer(MODEL, inputs(api_key=""))
        assert decoded(user_data.wav()).seconds > 1


# --- asyncio


@works("asyncio client")
async def test_the_asyncio_client_hears_the_same(server: Server) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": MODEL, "inputs": inputs(), "outputs": OUTPUTS}

    chunks = []
    async with triton_aio.InferenceServerClient(server.triton) as client:
        assert await client.is_model_ready(MODEL)
        async for result, error in client.stream_infer(requests()):
            assert error is None
            chunks.append(result.as_numpy("wav_output")[0])
    assert chunks.pop() == END
    assert_speech(decoded(b"".join(chunks)), TEXT)


# --- upstream CosyVoice's client


def recording() -> np.ndarray:
    at_s = np.arange(2 * 16000) / 16000
    return (0.3 * np.sin(2 * np.pi * 150 * at_s)).astype(np.float32)


def upstream_inputs(module: Any, samples: np.ndarray, text: str) -> list[Any]:
    """As upstream's client makes them: each with a leading 1."""
    values = [
        ("reference_wav", samples.reshape(1, -1), "FP32"),
        ("reference_wav_len", np.array([[len(samples)]], np.int32), "INT32"),
        ("reference_text", np.array([["What it says."]], np.object_), "BYTES"),
        ("target_text", np.array([[text]], np.object_), "BYTES"),
    ]
    made = []
    for name, value, datatype in values:
        made.append(module.InferInput(name, list(value.shape), datatype))
        made[-1].set_data_from_numpy(value)
    return made


def upstream_stream(client: triton.InferenceServerClient, asked: list[Any]) -> Sound:
    """As upstream's client ends: on the empty last response."""
    user_data = UserData()
    client.start_stream(callback=partial(callback, user_data))
    client.async_stream_infer(
        "cosyvoice2",
        asked,
        request_id=str(uuid.uuid4()),
        outputs=[triton.InferRequestedOutput("waveform")],
        enable_empty_final_response=True,
    )
    audios = []
    while True:
        result = user_data.get()
        if result.get_response().parameters["triton_final_response"].bool_param:
            break
        audios.append(result.as_numpy("waveform").reshape(-1))
    client.stop_stream()
    return raw(np.concatenate(audios).tobytes(), 24000, "pcm_f32le")


@works("cosyvoice2, streamed")
def test_upstream_s_streaming_client_hears_the_recording_s_voice(
    scripted_server: Callable[..., Server],
) -> None:
    server = scripted_server(clones=True, voices=["en-f"])
    with triton.InferenceServerClient(server.triton) as client:
        for _ in range(2):
            sound = upstream_stream(client, upstream_inputs(triton, recording(), TEXT))
            assert sound.seconds == pytest.approx(len(TEXT) * 0.06)
            (tone,) = tones_hz(sound)
            assert tone >= 1200  # a clone's


@works("cosyvoice2, text alone")
def test_upstream_s_client_with_a_speaker_of_the_server_s(client: triton.InferenceServerClient) -> None:
    asked = upstream_inputs(triton, recording(), TEXT)[-1:]
    sound = upstream_stream(client, asked)
    assert_speech(sound, TEXT)


@works("cosyvoice2, offline")
async def test_upstream_s_offline_client_gets_it_whole(scripted_server: Callable[..., Server]) -> None:
    server = scripted_server(clones=True, voices=["en-f"])
    padded = np.zeros(10 * 16000, np.float32)
    padded[: len(recording())] = recording()
    asked = upstream_inputs(triton_aio, padded, TEXT)
    asked[1].set_data_from_numpy(np.array([[len(recording())]], np.int32))
    async with triton_aio.InferenceServerClient(server.triton) as client:
        answer = await client.infer(
            "cosyvoice2",
            asked,
            request_id="100000000",
            outputs=[triton_aio.InferRequestedOutput("waveform")],
        )
    samples = answer.as_numpy("waveform").reshape(-1)
    assert len(samples) == pytest.approx(len(TEXT) * 0.06 * 24000)
    assert np.abs(samples).max() > 0.01


@works("streamed WAV")
def test_the_first_audio_is_there_while_the_rest_is_being_made(
    scripted_server: Callable[..., Server],
) -> None:
    server = scripted_server(realtime_factor=0.2, voices=["en-f"])
    user_data = UserData()
    with triton.InferenceServerClient(server.triton) as client:
        client.start_stream(partial(callback, user_data))
        client.async_stream_infer(MODEL, inputs(TEXT * 2))
        head = user_data.get().as_numpy("wav_output")[0]
        assert server.metrics()["cosyduplex_contexts"] == 1
        sound = decoded(head + user_data.wav())
    assert sound.seconds > 8
