import io
import re
import threading
import wave
from dataclasses import replace

import numpy as np
import pytest
import torch
from cosyvoice.tiny_checkpoint import SAVED_SPEAKER, SFT_SPEAKER, write_tiny_checkpoint
from hypothesis import given
from hypothesis import strategies as st

from cosyduplex.errors import ErrorCode
from cosyduplex_server.engine.cosyvoice.checkpoint import read_speakers
from cosyduplex_server.engine.cosyvoice.features import FeaturesMismatch, PromptFeatures
from cosyduplex_server.engine.cosyvoice.files import list_files
from cosyduplex_server.engine.cosyvoice.flow_plan import FlowSequence
from cosyduplex_server.engine.cosyvoice.hyperparameters import read_config
from cosyduplex_server.engine.cosyvoice.instructions import instruction
from cosyduplex_server.engine.cosyvoice.prompt import PromptEncoder
from cosyduplex_server.engine.cosyvoice.speakers import Speaker, read_speaker
from cosyduplex_server.engine.cosyvoice.tokenizer import TextTokenizer
from cosyduplex_server.engine.cosyvoice.voice import (
    MIN_FLOW_PROMPT_TOKENS,
    FirstPacket,
    Mode,
    Voice,
    first_packet,
    resolve,
    trim,
)
from cosyduplex_server.engine.cosyvoice.voice_book import VoiceBook
from cosyduplex_server.engine.link import worker_pb2 as link
from cosyduplex_server.errors import Failure
from cosyduplex_server.models.config import FlowConfig, ModelConfig, SpeechLMConfig, VocoderConfig

NUM_SPEECH_TOKENS = 200
END = 151_646
V2 = SpeechLMConfig()
V3 = SpeechLMConfig(generation=3, special_rows=200)


class ToyTokenizer:
    """A character is its code point; marks are one id each, where they are allowed."""

    def encode(self, text, allow_special=False):
        marks = {"<|endofprompt|>": END, "[laughter]": 151_653} if allow_special else {}
        pieces = re.split(r"(<\|endofprompt\|>|\[laughter\])", text)
        return [id for piece in pieces for id in ([marks[piece]] if piece in marks else map(ord, piece))]


def ids(text):
    return tuple(map(ord, text))


def features(num_tokens=87, seed=0):
    random = torch.Generator().manual_seed(seed)
    return PromptFeatures(
        speech_tokens=tuple(torch.randint(0, NUM_SPEECH_TOKENS, (num_tokens,), generator=random).tolist()),
        mel=torch.randn(2 * num_tokens, 80, generator=random),
        embedding=torch.randn(192, generator=random),
        seconds=num_tokens / 25 + 0.5,
    )


def voice(num_tokens=87, text="希望你以后能够做的比我还好呦。", id="v"):
    return Voice.from_features(
        features(num_tokens), id=id, name="V", language="zh-CN", text=text, labels={"gender": "female"}
    )


def sft_voice(id="中文女"):
    no_tokens = torch.zeros(0, dtype=torch.int64)
    return Voice.from_speaker(id, Speaker(torch.ones(192), "", (), no_tokens, no_tokens, torch.zeros(0, 80)))


def compose(voice, config=V2, **manner):
    return resolve(voice, tokenizer=ToyTokenizer(), config=config, **manner)


# What a context begins with.


def test_a_recording_with_its_text_is_continued_by_both_networks():
    of = voice(text="你好。")
    begun = compose(of)
    assert begun.mode is Mode.ZERO_SHOT
    assert begun.prompt_text_ids == ids("你好。")
    assert begun.prompt_speech_tokens == of.lm_speech_tokens
    assert begun.voice is of
    assert begun.notes == ()


def test_marks_in_a_transcript_are_one_id_each():
    assert compose(voice(text="哈[laughter]")).prompt_text_ids == (ord("哈"), 151_653)


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_recording_without_its_text_is_continued_by_the_flow_alone(text):
    begun = compose(voice(text=text))
    assert begun.mode is Mode.CROSS_LINGUAL
    assert (begun.prompt_text_ids, begun.prompt_speech_tokens) == ((), ())
    assert len(begun.voice.flow_tokens) == 87


def test_a_speaker_vector_alone_gives_no_prompt_to_either_network():
    begun = compose(sft_voice())
    assert begun.mode is Mode.SFT
    assert (begun.prompt_text_ids, begun.prompt_speech_tokens, begun.voice.flow_tokens) == ((), (), ())


@pytest.mark.parametrize("of", [voice(), sft_voice()])
def test_an_instruction_takes_the_recordings_place_at_the_speech_lm_and_leaves_the_flows(of):
    begun = compose(of, instruct="用轻松的语气说")
    assert begun.mode is Mode.INSTRUCT
    assert begun.prompt_text_ids == (*ids("用轻松的语气说"), END)
    assert begun.prompt_speech_tokens == ()
    assert begun.voice is of


def test_marks_in_an_instruction_are_plain_text():
    assert compose(voice(), instruct="[laughter]").prompt_text_ids == (*ids("[laughter]"), END)


@pytest.mark.parametrize(
    "instruct",
    [
        "慢一点",
        "慢一点<|endofprompt|>",
        " 慢一点 <|endofprompt|>",
        "You are a helpful assistant. 慢一点<|endofprompt|>",
    ],
)
@pytest.mark.parametrize(
    ("config", "prompt"),
    [(V2, ids("慢一点")), (V3, ids("You are a helpful assistant. 慢一点"))],
)
def test_an_instruction_ends_with_its_mark_once_however_it_was_written(instruct, config, prompt):
    assert compose(voice(), config, instruct=instruct).prompt_text_ids == (*prompt, END)


def test_cosyvoice3_gets_its_system_prompt_before_a_transcript():
    begun = compose(voice(text="你好。"), V3)
    assert begun.prompt_text_ids == (*ids("You are a helpful assistant."), END, *ids("你好。"))
    assert begun.prompt_speech_tokens == begun.voice.lm_speech_tokens


def test_cosyvoice3_gets_its_system_prompt_alone_where_there_is_no_transcript():
    for of in (voice(text=""), sft_voice()):
        assert compose(of, V3).prompt_text_ids == (*ids("You are a helpful assistant."), END)


def test_a_transcript_with_upstreams_own_prefix_gets_no_second_one():
    begun = compose(voice(text="You are a helpful assistant.<|endofprompt|>你好。"), V3)
    assert begun.prompt_text_ids == (*ids("You are a helpful assistant."), END, *ids("你好。"))


def test_an_emotion_and_a_dialect_are_instructions():
    begun = compose(voice(), emotion="happy", dialect="sichuan")
    assert begun.mode is Mode.INSTRUCT
    assert begun.prompt_text_ids == (*ids("用四川话说这句话。你能用高兴的情感说吗？"), END)


def test_a_wish_the_model_does_not_know_leaves_the_voice_as_it_is_and_says_so():
    begun = compose(voice(), emotion="sarcastic")
    assert begun.mode is Mode.ZERO_SHOT
    assert begun.notes == ("CosyVoice2 was not trained with the emotion 'sarcastic': it is not used.",)


# Instructions.


@pytest.mark.parametrize(
    ("generation", "wishes", "text"),
    [
        (2, {"dialect": "Sichuan"}, "用四川话说这句话"),
        (2, {"dialect": "四川话"}, "用四川话说这句话"),
        (2, {"dialect": "cantonese"}, "用粤语说这句话"),
        (3, {"dialect": "粤语"}, "请用广东话表达。"),
        (3, {"dialect": "dongbei"}, "请用东北话表达。"),
        (2, {"emotion": "sad"}, "你能用悲伤的情感说吗？"),
        (3, {"emotion": "ANGRY"}, "请非常生气地说一句话。"),
        (2, {"emotion": "neutral", "dialect": "mandarin"}, ""),
        (2, {"instruct": "小声说", "emotion": "happy"}, "小声说。你能用高兴的情感说吗？"),
        (3, {"dialect": "shanghai", "emotion": "happy"}, "请用上海话表达。请非常开心地说一句话。"),
        (2, {"instruct": "  "}, ""),
    ],
)
def test_wishes_become_the_instructions_the_model_was_trained_with(generation, wishes, text):
    made = instruction(generation, **{"instruct": "", "emotion": "", "dialect": ""} | wishes)
    assert (made.text, made.notes) == (text, ())


@pytest.mark.parametrize(
    ("generation", "kind", "name"),
    [
        (2, "dialect", "klingon"),
        (2, "dialect", "东北话"),
        (3, "emotion", "calm"),
        (2, "emotion", "x" * 99),
    ],
)
def test_a_wish_a_model_was_not_trained_with_is_noted_and_not_used(generation, kind, name):
    made = instruction(generation, **{"instruct": "", "emotion": "", "dialect": "", kind: name})
    assert made.text == ""
    assert len(made.notes) == 1
    assert len(made.notes[0]) < 120


def test_text_behind_the_mark_of_an_instruction_is_left_out_and_noted():
    made = instruction(2, instruct="慢一点<|endofprompt|>今天天气", emotion="", dialect="")
    assert made.text == "慢一点"
    assert len(made.notes) == 1


def test_an_endless_instruction_is_refused():
    with pytest.raises(Failure, match="500 characters") as refusal:
        compose(voice(), instruct="慢" * 501)
    assert refusal.value.code is ErrorCode.BAD_REQUEST


# Voices of a checkpoint.

MODEL = ModelConfig(
    generation=2, lm=V2, flow=FlowConfig(), vocoder=VocoderConfig(), prompt_mel_fmax_hz=8000.0
)


def saved_entry(num_tokens=60, text_ids=(11, 12, 13)):
    tokens = torch.arange(num_tokens, dtype=torch.int32)[None]
    return {
        "prompt_text": torch.tensor([text_ids], dtype=torch.int32).reshape(1, -1),
        "prompt_text_len": torch.tensor([len(text_ids)], dtype=torch.int32),
        "llm_prompt_speech_token": tokens,
        "llm_prompt_speech_token_len": torch.tensor([num_tokens], dtype=torch.int32),
        "flow_prompt_speech_token": tokens,
        "flow_prompt_speech_token_len": torch.tensor([num_tokens], dtype=torch.int32),
        "prompt_speech_feat": torch.randn(1, 2 * num_tokens, 80),
        "prompt_speech_feat_len": torch.tensor([2 * num_tokens], dtype=torch.int32),
        "llm_embedding": torch.ones(1, 192),
        "flow_embedding": torch.full((1, 192), 2.0),
    }


def test_a_voice_saved_by_upstream_speaks_with_the_ids_it_was_saved_with():
    of = Voice.from_speaker("mine", read_speaker(saved_entry(), MODEL))
    begun = compose(of)
    assert begun.mode is Mode.ZERO_SHOT
    assert begun.prompt_text_ids == (11, 12, 13)
    assert begun.prompt_speech_tokens == tuple(range(60))
    assert of.flow_tokens == tuple(range(60))
    assert of.flow_mel.shape == (120, 80)
    assert of.embedding[0] == 2


def test_a_saved_voice_follows_an_instruction():
    of = Voice.from_speaker("mine", read_speaker(saved_entry(), MODEL))
    begun = compose(of, instruct="慢一点")
    assert begun.prompt_text_ids == (*ids("慢一点"), END)
    assert begun.prompt_speech_tokens == ()
    assert begun.voice.flow_tokens == tuple(range(60))


def test_a_voice_saved_without_a_transcript_is_continued_by_the_flow_alone():
    of = Voice.from_speaker("mine", read_speaker(saved_entry(text_ids=()), MODEL))
    assert compose(of).mode is Mode.CROSS_LINGUAL


def test_a_transcript_without_its_speech_is_not_given_to_the_speech_lm():
    entry = saved_entry() | {"llm_prompt_speech_token": torch.zeros(1, 0, dtype=torch.int32)}
    del entry["llm_prompt_speech_token_len"]
    begun = compose(Voice.from_speaker("mine", read_speaker(entry, MODEL)))
    assert begun.mode is Mode.CROSS_LINGUAL
    assert begun.prompt_text_ids == ()


def test_a_saved_cosyvoice3_voice_gets_the_system_prompt_it_lacks_and_no_second_one():
    plain = Voice.from_speaker("a", read_speaker(saved_entry(), MODEL))
    prefixed = Voice.from_speaker("b", read_speaker(saved_entry(text_ids=(7, END, 11)), MODEL))
    assert compose(plain, V3).prompt_text_ids == (*ids("You are a helpful assistant."), END, 11, 12, 13)
    assert compose(prefixed, V3).prompt_text_ids == (7, END, 11)


def test_a_voice_of_the_triton_runtime_speaks_with_its_text():
    entry = {
        "prompt_text": "你好。",
        "speech_token": torch.arange(61)[None],
        "speech_feat": torch.randn(1, 121, 80),
        "embedding": torch.ones(1, 192),
    }
    begun = compose(Voice.from_speaker("001", read_speaker(entry, MODEL)))
    assert begun.prompt_text_ids == ids("你好。")
    assert begun.prompt_speech_tokens == begun.voice.flow_tokens == tuple(range(60))


def test_a_voice_of_upstreams_own_tells_its_language_and_gender():
    of = Voice.from_speaker("中文女", read_speaker({"embedding": torch.ones(1, 192)}, MODEL))
    assert (of.language, of.labels) == ("zh-CN", {"gender": "female"})
    other = Voice.from_speaker("001", read_speaker({"embedding": torch.ones(192)}, MODEL))
    assert (other.language, other.labels) == ("", {})


# Trimming.


@pytest.mark.parametrize(
    ("num_tokens", "first_hop_tokens", "dropped"),
    [
        (87, 10, 22),
        (65, 10, 0),
        (66, 10, 1),
        (64, 10, 24),
        (40, 10, 0),
        (39, 10, 0),
        (49, 10, 9),
        (0, 10, 0),
        (30, 25, 5),
    ],
)
def test_the_flow_prompt_is_trimmed_to_a_short_first_hop(num_tokens, first_hop_tokens, dropped):
    assert trim(num_tokens, first_hop_tokens) == dropped


@given(num_tokens=st.integers(0, 760), first_hop_tokens=st.integers(5, 25))
def test_trimming_makes_the_first_packet_as_early_as_a_second_of_voice_allows(num_tokens, first_hop_tokens):
    dropped = trim(num_tokens, first_hop_tokens)
    kept = num_tokens - dropped
    assert 0 <= dropped < 25
    assert kept >= min(num_tokens, MIN_FLOW_PROMPT_TOKENS)
    if num_tokens >= 49:
        assert first_packet(kept).tokens == first_hop_tokens + 3
    within_reach = [first_packet(n) for n in range(MIN_FLOW_PROMPT_TOKENS, num_tokens + 1)]
    wanted = [packet.tokens for packet in within_reach if packet.tokens >= first_hop_tokens + 3]
    if num_tokens >= MIN_FLOW_PROMPT_TOKENS:
        assert first_packet(kept).tokens == min(wanted)
    else:
        assert dropped == 0


@pytest.mark.parametrize(
    ("num_tokens", "packet"),
    [
        (65, FirstPacket(13, 240)),
        (0, FirstPacket(28, 840)),
        (50, FirstPacket(28, 840)),
        (70, FirstPacket(8, 40)),
        (71, FirstPacket(32, 1000)),  # a hop of 4 tokens is all held back
        (74, FirstPacket(29, 880)),
    ],
)
def test_the_figures_of_the_first_packet(num_tokens, packet):
    assert first_packet(num_tokens) == packet


@given(num_tokens=st.integers(0, 120))
def test_the_figures_are_what_the_plan_of_the_flow_does(num_tokens):
    sequence = FlowSequence(range(num_tokens))
    heard = 0
    while heard <= 8:  # frames the vocoder holds back
        while not sequence.is_ready:
            sequence.append(1)
        chunk = sequence.peek()
        heard += 2 * len(chunk.tokens) - chunk.num_prompt_frames
        sequence.next_chunk += 1
    assert first_packet(num_tokens) == (sequence.num_generated, (heard - 8) * 20)


@pytest.mark.parametrize("first_hop_tokens", [0, 4, 26])
def test_a_first_hop_that_cannot_be_heard_is_refused(first_hop_tokens):
    with pytest.raises(ValueError, match="5 to 25"):
        trim(100, first_hop_tokens)


def test_a_trimmed_voice_keeps_the_end_of_its_flow_prompt_and_all_of_the_speech_lms():
    whole = voice(87)
    trimmed = whole.trimmed(10)
    assert trimmed.flow_tokens == whole.flow_tokens[22:]
    assert torch.equal(trimmed.flow_mel, whole.flow_mel[44:])
    assert trimmed.lm_speech_tokens == whole.lm_speech_tokens
    assert len(whole.flow_tokens) == 87


def test_the_figures_of_a_voice_say_what_it_costs():
    assert voice(87).trimmed(10).figures() == {
        "prompt_s": 3.48,
        "prompt_tokens": 87,
        "flow_prompt_tokens": 65,
        "first_hop_tokens": 10,
        "first_packet_tokens": 13,
        "first_packet_ms": 240,
    }


# Features, kept.


def test_features_come_back_as_they_were_kept():
    made = features()
    back = PromptFeatures.from_bytes(made.to_bytes("m1"), "m1", NUM_SPEECH_TOKENS)
    assert (back.speech_tokens, back.seconds) == (made.speech_tokens, made.seconds)
    assert torch.equal(back.mel, made.mel)
    assert torch.equal(back.embedding, made.embedding)


def test_features_of_another_model_are_refused():
    with pytest.raises(FeaturesMismatch, match="another model"):
        PromptFeatures.from_bytes(features().to_bytes("m1"), "m2", NUM_SPEECH_TOKENS)


def test_features_of_another_version_are_refused():
    blob = features().to_bytes("m1").replace(b"cosyduplex.voice.1", b"cosyduplex.voice.9")
    with pytest.raises(FeaturesMismatch, match="version"):
        PromptFeatures.from_bytes(blob, "m1", NUM_SPEECH_TOKENS)


def test_features_with_tokens_the_model_does_not_have_are_refused():
    with pytest.raises(FeaturesMismatch, match="sizes or values"):
        PromptFeatures.from_bytes(features().to_bytes("m1"), "m1", 150)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda blob: b"",
        lambda blob: b"hello",
        lambda blob: blob[:-1],
        lambda blob: blob[:40],
        lambda blob: blob.replace(b'"mel"', b'"lem"'),
        lambda blob: blob.replace(b"[174,80]", b"[80,174]"),
        lambda blob: blob.replace(b'"voice"', b'"other"'),
        lambda blob: blob.replace(b"3.98", b"null"),
    ],
)
def test_damaged_features_are_refused(spoil):
    blob = features().to_bytes("m1")
    assert spoil(blob) != blob
    with pytest.raises(FeaturesMismatch):
        PromptFeatures.from_bytes(spoil(blob), "m1", NUM_SPEECH_TOKENS)


@pytest.mark.parametrize("part", ["mel", "embedding"])
def test_features_that_are_no_numbers_are_refused(part):
    made = features()
    broken = replace(made, **{part: torch.full_like(getattr(made, part), torch.nan)})
    with pytest.raises(FeaturesMismatch, match="sizes or values"):
        PromptFeatures.from_bytes(broken.to_bytes("m1"), "m1", NUM_SPEECH_TOKENS)


@given(data=st.data())
def test_no_bytes_do_more_than_being_refused(data):
    blob = bytearray(features(25).to_bytes("m1"))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, 600))] = data.draw(st.integers(0, 255))
    try:
        back = PromptFeatures.from_bytes(bytes(blob), "m1", NUM_SPEECH_TOKENS)
    except FeaturesMismatch:
        return
    assert back.mel.shape == (50, 80)


# The voices of a worker.


class FakeEncoder:
    """Makes features as long as the recording, and counts how often."""

    num_speech_tokens = NUM_SPEECH_TOKENS

    def __init__(self, fingerprint="m1"):
        self.fingerprint = fingerprint
        self.made = 0

    def encode(self, pcm, rate_hz):
        self.made += 1
        return features(pcm.size * 25 // rate_hz, seed=self.made)


def recording(seconds=4):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(np.full(24_000 * seconds, 1000, "<i2").tobytes())
    return buffer.getvalue()


def prompt(id="ann", **fields):
    known = {"id": id, "name": "Ann", "language": "en", "text": "Hi.", "audio": recording()}
    return link.VoicePrompt(**known | fields)


def test_an_added_voice_can_be_spoken_and_says_what_it_costs():
    book = VoiceBook([], FakeEncoder())
    added = book.add(prompt(labels={"gender": "female"}))
    of = book.get("ann")
    assert (of.name, of.language, of.prompt_text, of.labels) == ("Ann", "en", "Hi.", {"gender": "female"})
    assert len(of.lm_speech_tokens) == 100
    assert len(of.flow_tokens) == 90
    assert added.figures["first_packet_ms"] == 240
    assert not added.HasField("error")
    assert list(added.notes) == []


def test_a_voice_without_a_name_is_called_by_its_id():
    book = VoiceBook([], FakeEncoder())
    book.add(prompt(name=""))
    assert book.get("ann").name == "ann"


def test_the_first_hop_is_the_servers_choice():
    book = VoiceBook([voice(100, id="own")], FakeEncoder(), first_hop_tokens=20)
    book.add(prompt())
    assert {len(book.get(id).flow_tokens) % 25 for id in ("own", "ann")} == {5}


def test_kept_features_save_making_them_again():
    first = VoiceBook([], FakeEncoder())
    added = first.add(prompt())
    encoder = FakeEncoder()
    second = VoiceBook([], encoder)
    again = second.add(prompt(features=added.features))
    assert encoder.made == 0
    assert again.features == added.features
    assert second.get("ann").lm_speech_tokens == first.get("ann").lm_speech_tokens


def test_a_transcript_comes_with_the_request_and_not_from_kept_features():
    encoder = FakeEncoder()
    book = VoiceBook([], encoder)
    kept = book.add(prompt()).features
    for text in ("Hello.", ""):
        book.add(prompt(features=kept, text=text))
        assert book.get("ann").prompt_text == text
    assert encoder.made == 1


@pytest.mark.parametrize("kept", [b"rubbish", features().to_bytes("m0")])
def test_features_of_another_model_are_made_again_from_the_recording(kept):
    encoder = FakeEncoder()
    added = VoiceBook([], encoder).add(prompt(features=kept))
    assert encoder.made == 1
    PromptFeatures.from_bytes(added.features, "m1", NUM_SPEECH_TOKENS)


def test_features_of_another_model_without_the_recording_are_refused():
    with pytest.raises(Failure, match="no recording") as refusal:
        VoiceBook([], FakeEncoder()).add(prompt(features=features().to_bytes("m0"), audio=b""))
    assert refusal.value.code is ErrorCode.BAD_REFERENCE_AUDIO


def test_a_voice_without_a_transcript_or_of_a_short_recording_has_a_note():
    book = VoiceBook([], FakeEncoder())
    assert len(book.add(prompt(text="")).notes) == 1
    assert len(book.add(prompt(text="", audio=recording(2))).notes) == 2


def test_an_impossible_transcript_is_refused():
    with pytest.raises(Failure, match="1,000 characters") as refusal:
        VoiceBook([], FakeEncoder()).add(prompt(text="x" * 1001))
    assert refusal.value.code is ErrorCode.BAD_REQUEST


def test_a_model_without_its_encoders_adds_no_voices_and_speaks_its_own():
    book = VoiceBook([voice(id="own")], None)
    assert not book.can_add
    with pytest.raises(Failure) as refusal:
        book.add(prompt())
    assert refusal.value.code is ErrorCode.BAD_REQUEST
    assert book.get("own").id == "own"


def test_an_unknown_voice_is_an_error_of_its_own():
    with pytest.raises(Failure, match="'bob'") as refusal:
        VoiceBook([voice()], None).get("bob")
    assert refusal.value.code is ErrorCode.UNKNOWN_VOICE


def test_a_model_without_any_voice_says_so():
    with pytest.raises(Failure, match="no voice yet") as refusal:
        VoiceBook([], FakeEncoder()).get("")
    assert refusal.value.code is ErrorCode.UNKNOWN_VOICE


@pytest.mark.parametrize(
    ("own", "added", "default"),
    [
        ([sft_voice("a"), voice(id="b"), voice(id="default")], [], "default"),
        ([sft_voice("a"), voice(id="b"), voice(id="c")], ["x"], "b"),
        ([sft_voice("a"), sft_voice("b")], ["x"], "a"),
        ([], ["x", "y"], "x"),
        ([voice(id="b")], ["default"], "default"),
    ],
)
def test_which_voice_is_the_default(own, added, default):
    book = VoiceBook(own, FakeEncoder())
    for id in added:
        book.add(prompt(id))
    assert book.get("").id == default
    described = book.describe()
    assert described[0].id == default
    assert sorted(of.id for of in described) == sorted([*(of.id for of in own), *added])


def test_a_removed_voice_is_unknown_while_a_context_that_has_it_keeps_it():
    book = VoiceBook([], FakeEncoder())
    book.add(prompt())
    held = book.get("ann")
    book.remove("ann")
    with pytest.raises(Failure):
        book.get("ann")
    book.remove("ann")
    assert compose(held).prompt_text_ids == ids("Hi.")


def test_an_added_voice_stands_before_the_models_own_until_it_is_removed():
    own = voice(65, id="ann")
    book = VoiceBook([own], FakeEncoder())
    book.add(prompt())
    assert book.get("ann").name == "Ann"
    assert [of.id for of in book.voices] == ["ann"]
    book.remove("ann")
    assert book.get("ann") is own
    book.remove("ann")
    assert book.get("ann") is own


def test_voices_added_at_once_from_several_threads_are_all_there():
    book = VoiceBook([], FakeEncoder())
    threads = [threading.Thread(target=book.add, args=(prompt(f"v{n}"),)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {of.id for of in book.voices} == {f"v{n}" for n in range(16)}


@pytest.mark.parametrize("generation", [2, 3])
def test_a_checkpoints_own_files_make_and_speak_voices(tmp_path, generation):
    files = list_files(write_tiny_checkpoint(tmp_path, generation=generation))
    tokenizer = TextTokenizer.load(files.tokenizer_dir, generation)
    config = read_config(files)
    lm = config.lm
    encoder = PromptEncoder(
        files.campplus,
        files.speech_tokenizer,
        mel_fmax_hz=config.prompt_mel_fmax_hz,
        num_speech_tokens=lm.speech_tokens,
    )
    speakers, _ = read_speakers(files.speakers, config)
    book = VoiceBook([Voice.from_speaker(id, speaker) for id, speaker in speakers.items()], encoder)
    book.add(prompt(text="Hi there."))
    modes = {}
    for of in book.voices:
        begun = resolve(of, tokenizer=tokenizer, config=lm)
        modes[of.id] = begun.mode
        assert (lm.end_of_prompt in begun.prompt_text_ids) == (generation == 3)
        assert all(0 <= token < lm.speech_tokens for token in begun.prompt_speech_tokens)
        told = resolve(of, tokenizer=tokenizer, config=lm, emotion="happy")
        assert told.prompt_text_ids[-1] == lm.end_of_prompt
        assert told.prompt_text_ids.count(lm.end_of_prompt) == 1
    assert modes == {SFT_SPEAKER: Mode.SFT, SAVED_SPEAKER: Mode.ZERO_SHOT, "ann": Mode.ZERO_SHOT}
