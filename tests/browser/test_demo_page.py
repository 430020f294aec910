"""The demo page, used as a person would, in a real browser."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cosyduplex_server.audio.opus import OpusDecoder

KEY = "key with spaces/and+signs="
IMAGES = Path(__file__).parents[2] / "docs" / "images"
FADE_MS = 10
LONG_TEXT = "A long sentence that goes on and on without any comma so that it is one piece of sound"


def without_gaps(attempt, went_well=lambda demo: True):
    """What an attempt returns; one more attempt where a busy machine let the player run dry."""
    demo = attempt()
    return demo if demo.gaps == 0 and went_well(demo) else attempt()


def stop_time_s(demo):
    """From the click on Stop to the end of the last sample that was not silence, as heard and as made."""
    clicked = demo.page.evaluate("__seen.stopClicks[0]")
    return demo.before.sound_end_s - clicked["heardAt"], demo.before.sound_end_s - clicked["renderedAt"]


def with_sound_on(open_demo, server, codec=None):
    """The page of a new visitor who has turned the sound on, everything played being recorded."""
    demo = open_demo(server.url, tap=True)
    demo.wait_ready()
    if codec:
        demo.page.select_option("#codec", codec)
        demo.wait_ready()
    demo.turn_sound_on()
    return demo


# --- what is played


@pytest.mark.parametrize("sample_rate_hz", [24000, 48000])
def test_typed_text_is_spoken_sample_for_sample(counting_server, open_demo, sample_rate_hz):
    text = "Nothing is lost and nothing is said twice"

    def attempt():
        demo = with_sound_on(open_demo, counting_server, f"pcm_s16le/{sample_rate_hz}")
        demo.say(text)
        demo.wait_utterance("heard")
        return demo

    demo = without_gaps(attempt)
    sent = demo.pcm()
    assert len(sent) == sample_rate_hz // 1000 * 40 * len(text)
    if sample_rate_hz == 24000:  # else it was resampled on the way
        np.testing.assert_array_equal(sent, np.arange(len(sent)) % 32768)

    played = demo.played()
    assert played.sample_rate_hz == sample_rate_hz
    np.testing.assert_array_equal(played.sound * 32768, np.trim_zeros(sent))
    assert demo.console == []
    assert demo.sent("playback.report")[-1]["played_ms"] == 40 * len(text)
    assert [message["text"] for message in demo.sent("text.append")][:2] == ["Nothing ", "is "]


@pytest.mark.parametrize("sample_rate_hz", [24000, 48000])
def test_opus_is_played_without_a_gap_or_a_shift(voice_server, open_demo, sample_rate_hz):
    def attempt():
        demo = with_sound_on(open_demo, voice_server, f"opus/{sample_rate_hz}")
        demo.say("Packets become sound again")
        demo.wait_utterance("heard")
        return demo

    demo = without_gaps(attempt)
    audio = demo.received("session.started")[-1]["audio"]
    assert (audio["encoding"], audio["sample_rate"]) == ("opus", sample_rate_hz)
    decoder = OpusDecoder(48000)
    pcm = b"".join(decoder.decode(frame.payload, 960) for frame in demo.frames() if frame.payload)
    reference = np.frombuffer(pcm, "<i2")[audio["pre_skip"] * 48000 // sample_rate_hz :]
    reference = reference[: demo.received("context.done")[0]["audio_ms"] * 48] / 32768

    played = demo.played()
    assert played.sample_rate_hz == 48000
    start = best_place_of(reference, played.samples)
    difference = played.samples[start : start + len(reference)] - reference
    assert np.abs(difference).max() < 1.5 / 32768  # the reference is rounded to 16 bits
    assert not played.samples[:start].any()
    assert not played.samples[start + len(reference) :].any()
    assert demo.console == []


def best_place_of(piece, samples):
    """Where in the samples the piece fits best."""
    size = len(piece) + len(samples)
    match = np.fft.irfft(np.conj(np.fft.rfft(piece, size)) * np.fft.rfft(samples, size), size)
    return int(np.argmax(match[: len(samples)]))


def test_utterances_wait_for_those_before_them(counting_server, open_demo):
    def attempt():
        demo = with_sound_on(open_demo, counting_server)
        demo.say("This is first and long enough")
        demo.say("then that")
        demo.wait_utterance("heard", 1)
        return demo

    demo = without_gaps(attempt)
    both = np.concatenate([demo.pcm(0), demo.pcm(1)])
    np.testing.assert_array_equal(demo.played().sound * 32768, np.trim_zeros(both))


# --- stopping


def test_stop_is_silence_within_60_ms_and_only_new_text_is_heard_after_it(counting_server, open_demo):
    def attempt():
        demo = with_sound_on(open_demo, counting_server)
        demo.say(LONG_TEXT)
        demo.wait_utterance("speaking")
        demo.page.wait_for_timeout(300)
        demo.page.click("#stop")
        demo.page.wait_for_selector("text=stopped after")
        demo.page.wait_for_timeout(300)
        demo.before = demo.played()
        demo.say("Only this")
        demo.wait_utterance("heard", 1)
        return demo

    demo = without_gaps(attempt, lambda demo: max(stop_time_s(demo)) <= 0.060)
    assert max(stop_time_s(demo)) <= 0.060

    sound = demo.before.sound
    sent = np.trim_zeros(demo.pcm(), "f") / 32768
    fade = FADE_MS * 24
    whole = int(np.argmax(sound != sent[: len(sound)].astype(np.float32)))
    assert fade - 3 <= len(sound) - whole <= fade  # a faded end is 0, and so may be samples before it
    ramp = 1 - np.arange(1, len(sound) - whole + 1) / fade
    np.testing.assert_allclose(sound[whole:], sent[whole : len(sound)] * ramp, atol=1e-6)

    cancel = demo.sent("context.cancel")[0]
    assert 0 <= len(sound) / 24 - cancel["played_ms"] < 150  # less by what was still on its way out
    answer = demo.received("context.cancelled")[0]
    assert answer["estimated"] is False
    how_far = f"stopped after {answer['spoken_chars']} of {len(LONG_TEXT)} characters"
    assert demo.page.locator(".status").first.inner_text() == how_far
    assert demo.page.inner_text(".until-stop") == LONG_TEXT[: answer["spoken_chars"]]

    after = demo.played().samples[len(demo.before.samples) :]
    np.testing.assert_array_equal(np.trim_zeros(after) * 32768, np.trim_zeros(demo.pcm(1)))
    assert demo.console == []


# --- marks


def test_words_light_up_in_order_as_they_are_heard(voice_server, open_demo):
    text = "Hi 👋🏽 there 你好 𠮷 世界 done"
    demo = open_demo(voice_server.url)
    demo.wait_ready()
    demo.turn_sound_on()
    demo.paste(text)
    demo.page.keyboard.press("Enter")
    demo.wait_utterance("speaking")
    assert "done" not in demo.page.evaluate("__seen.lit")
    demo.wait_utterance("heard")
    lit = demo.page.evaluate("__seen.lit")
    marked = [word["text"] for marks in demo.received("marks") for word in marks["words"]]
    assert lit == marked
    assert lit[:2] == ["Hi", "there"]
    assert lit[-1] == "done"
    assert {"你", "好", "世", "界"} <= set(lit)
    assert demo.page.inner_text(".said") == text
    assert demo.console == []


# --- typing


def test_the_word_under_the_fingers_waits_for_its_end(counting_server, open_demo):
    demo = open_demo(counting_server.url)
    demo.wait_ready()
    demo.type("one two thr")
    assert [message["text"] for message in demo.sent("text.append")] == ["one ", "two "]
    demo.page.keyboard.press("Backspace")
    demo.type("ree ")
    demo.wait_sent("text.append", text="three ")
    demo.type("fo")
    demo.wait_sent("text.flush")
    assert "".join(message["text"] for message in demo.sent("text.append")) == "one two three fo"
    assert demo.sent("context.cancel") == []
    assert demo.console == []


def test_what_was_sent_and_not_heard_can_still_be_changed(fake_server, open_demo):
    demo = open_demo(fake_server(first_audio_ms=1500, ms_per_char=20).url)
    demo.wait_ready()
    demo.type("I like cats, and ")
    for _ in range(len("cats, and ")):
        demo.page.keyboard.press("Backspace")
    demo.say("dogs.")
    demo.wait_utterance("heard")
    opened = [message["context_id"] for message in demo.sent("context.open")]
    assert len(opened) == 2
    assert [message["context_id"] for message in demo.sent("context.cancel")] == opened[:1]
    appended = [m["text"] for m in demo.sent("text.append") if m["context_id"] == opened[1]]
    assert "".join(appended) == "I like dogs."
    assert demo.page.locator(".utterance").count() == 1
    assert demo.page.inner_text(".said") == "I like dogs."
    assert demo.console == []


def test_a_writer_who_went_away_keeps_nothing_open(voice_server, open_demo):
    demo = open_demo(voice_server.url)
    log = demo.page.evaluate(
        """async () => {
            const { TypedText } = await import('/demo/typing.js');
            const log = [];
            const begin = () => ({
                takesText: true,
                utterance: { text: '', heardEnd: 0 },
                append(text) { this.utterance.text += text; log.push(text); },
                flush: () => log.push('flush'),
                end: () => log.push('end'),
            });
            const typed = new TypedText({ begin, replace: () => log.push('replace'), isReady: () => true });
            typed.change('so far ');
            typed.change('so far so');
            typed.pause();
            typed.rest();
            typed.change('so far so good ');
            typed.change('so so good '); // heard before, so it stays said
            typed.change('so so bad ');
            log.push(typed.abandon());
            return log;
        }"""
    )
    assert log == ["so far ", "so", "flush", "end", " good ", "replace", "bad "]


def test_pasted_text_can_wait_for_the_button(counting_server, open_demo):
    demo = open_demo(counting_server.url)
    demo.wait_ready()
    demo.page.uncheck("#live")
    emoji = "👩‍👩‍👧 " * 5000
    demo.paste(emoji)
    assert demo.sent("text.append") == []
    demo.page.click("#speak")
    demo.wait_sent("text.end")
    pieces = [message["text"] for message in demo.sent("text.append")]
    assert len(pieces) > 1
    assert "".join(pieces) == emoji
    for piece in pieces:
        piece.encode()  # a lone surrogate cannot be
    assert demo.page.input_value("#text") == ""
    assert demo.console == []


def test_voice_and_speed_go_with_the_next_text(voice_server, open_demo):
    demo = open_demo(voice_server.url)
    demo.wait_ready()
    assert demo.page.locator("#voice option").count() >= 4
    demo.page.select_option("#voice", "zh-f")
    demo.page.locator("#speed").fill("1.5")
    demo.say("好")
    demo.wait_sent("text.end")
    opened = demo.sent("context.open")[0]
    assert (opened["voice"], opened["speech"]) == ("zh-f", {"speed": 1.5})


def test_a_fragment_of_text_never_ends_in_half_a_character(voice_server, open_demo):
    demo = open_demo(voice_server.url)
    found = demo.page.evaluate(
        """async () => {
            const text = await import('/demo/text.js');
            const cursor = new text.CodePointCursor();
            const mixed = 'a😀b你𠮷';
            return {
                pieces: text.pieces('😀😀😀', 3),
                count: text.countCodePoints(mixed + '\\ud83d'),
                offsets: [0, 1, 2, 3, 4, 5, 9, 1].map((offset) => cursor.indexOf(mixed, offset)),
                complete: ['', 'word', 'two words', 'two words ', '你好', '你好 wor', '3.14', '好😀']
                    .map((value) => text.completeEnd(value)),
            };
        }"""
    )
    assert found == {
        "pieces": ["😀", "😀", "😀"],
        "count": 6,
        "offsets": [0, 1, 3, 4, 5, 7, 7, 1],
        "complete": [0, 0, 4, 10, 2, 3, 0, 1],
    }


def test_an_edit_stops_only_what_has_not_been_heard(voice_server, open_demo):
    cases = {
        ("one two ", "one two three", 8, 0): (8, False),  # more text
        ("one two thr", "one two th", 8, 0): (8, False),  # nothing sent is touched
        ("one two ", "one to ", 8, 3): (3, True),  # sent, not heard: anew from what was heard
        ("one two ", "on two ", 8, 4): (7, False),  # heard already: cannot be unsaid
        ("one two three ", "one 2 three ", 14, 6): (4, True),  # in the middle of it
        ("one two ", "", 8, 8): (0, False),  # all heard, then deleted
        ("a😀", "a😁", 3, 0): (0, True),  # differs in the second half of a pair
    }
    demo = open_demo(voice_server.url)
    plans = demo.page.evaluate(
        """async (cases) => {
            const { planEdit } = await import('/demo/text.js');
            return cases.map((args) => planEdit(...args));
        }""",
        [list(case) for case in cases],
    )
    found = {case: (plan["sent"], plan["restart"]) for case, plan in zip(cases, plans, strict=True)}
    assert found == cases


# --- what can be in the way


def test_no_sound_before_a_gesture_and_a_prompt_for_it(voice_server, open_demo):
    demo = open_demo(voice_server.url)
    demo.wait_ready()
    assert demo.page.is_visible("#sound")
    assert demo.page.evaluate("__seen.audioContexts") == 0
    demo.page.keyboard.press("a")
    demo.page.wait_for_selector("#sound", state="hidden")
    assert demo.page.evaluate("__seen.context.state") == "running"
    assert demo.console == []


def test_a_server_that_goes_away_is_said_and_come_back_to(start_server, open_demo):
    first = start_server("--voice-processes", "1")
    demo = open_demo(first.url)
    demo.wait_ready()
    demo.type("before ")
    demo.wait_utterance("speaking")
    first.terminate()  # it lets the page finish, and the page does
    demo.page.wait_for_selector("text=The server does not answer")
    demo.wait_utterance("heard")
    demo.say("and after")
    assert demo.page.input_value("#text") == "before and after"
    start_server("--port", str(first.port), "--voice-processes", "1")
    demo.wait_ready()
    assert demo.page.is_hidden("#lost")
    demo.wait_utterance("heard", 1)
    assert demo.page.locator(".said").nth(1).inner_text().strip() == "and after"


def test_a_server_that_is_still_loading_is_waited_for(voice_server, open_demo):
    loading_once = """
        const fetchReally = window.fetch;
        window.fetch = () => {
            window.fetch = fetchReally;
            return Promise.resolve(Response.json({ status: 'loading' }, { status: 503 }));
        };
    """
    demo = open_demo(voice_server.url, before=loading_once)
    demo.page.wait_for_selector("text=still loading its voice")
    demo.wait_ready()
    assert demo.page.is_hidden("#lost")


def test_speech_that_was_cut_off_says_so_and_can_be_said_again(fake_server, open_demo):
    server = fake_server(realtime_factor=0.9)
    demo = open_demo(server.url)
    demo.wait_ready()
    demo.say(LONG_TEXT)
    demo.wait_utterance("speaking")
    server.process.kill()
    demo.wait_utterance("failed")
    assert demo.page.inner_text(".status") == "not spoken to the end: the connection was lost"
    assert demo.page.is_visible(".again")


def test_a_locked_server_asks_for_a_key_and_then_speaks(start_server, open_demo):
    server = start_server("--api-key", KEY, "--open-door", "demo", "--voice-processes", "1")
    demo = open_demo(server.url)
    demo.wait_link("locked")
    assert demo.page.is_visible("text=This server asks for a key.")
    demo.page.fill("#key", "not this one")
    demo.page.keyboard.press("Enter")
    demo.page.wait_for_selector("text=The server did not take this key.")
    demo.page.fill("#key", KEY)
    demo.page.keyboard.press("Enter")
    demo.wait_ready()
    demo.say("Open")
    demo.wait_utterance("heard")
    protocols = demo.page.evaluate("__seen.sent.at(0).protocols")
    assert protocols[:2] == ["duplex.v1", "token"]
    assert KEY not in protocols


def test_an_idle_session_rests_and_wakes_when_something_is_typed(start_server, open_demo):
    server = start_server("--idle-s", "1", "--voice-processes", "1")
    demo = open_demo(server.url)
    demo.wait_link("asleep")
    demo.say("Good morning")
    demo.wait_utterance("heard")
    assert demo.page.locator(".utterance").count() == 1
    assert demo.console == []


def test_a_page_that_is_not_secure_says_what_to_do(start_server, open_demo):
    server = start_server("--allow-host", "plain.test", "--voice-processes", "1")
    demo = open_demo(f"http://plain.test:{server.port}/")
    assert demo.page.evaluate("window.isSecureContext") is False
    demo.page.wait_for_selector("text=browsers play streamed sound only on secure pages")
    assert demo.page.is_disabled("#text")


def test_a_codec_that_does_not_work_here_is_grey_and_says_why(voice_server, open_demo):
    demo = open_demo(voice_server.url, before="delete window.AudioDecoder")
    demo.wait_ready()
    option = demo.page.locator('#codec option[value="opus/24000"]')
    assert option.is_disabled()
    assert option.inner_text() == "Opus 24 kHz (this browser has no WebCodecs)"


def test_an_error_of_the_server_is_shown_where_it_happened(fake_server, open_demo):
    demo = open_demo(fake_server(refuse_open="over_capacity").url)
    demo.wait_ready()
    demo.say("Is there room?")
    demo.wait_utterance("failed")
    assert "not spoken to the end: The script refuses" in demo.page.inner_text(".status")
    assert demo.page.is_visible("text=Say again")


def test_a_server_that_breaks_the_protocol_is_left(voice_server, open_demo):
    demo = open_demo(voice_server.url)
    ends = demo.page.evaluate(
        """async () => {
            const { Session } = await import('/demo/connection.js');
            const started = { type: 'context.started', ev: 1, context_id: 'c1', context_index: 7 };
            const frame = (kind, index, seq) => {
                const view = new DataView(new ArrayBuffer(14));
                view.setUint8(0, kind);
                view.setUint16(2, index);
                view.setUint32(4, seq);
                return view.buffer;
            };
            const done = { type: 'context.done', ev: 2, context_id: 'c1', context_index: 7 };
            const flows = {
                'all is well': [started, frame(1, 7, 1), frame(1, 7, 2), done],
                'an event is missing': [{ ...started, ev: 2 }],
                'a frame is missing': [started, frame(1, 7, 2)],
                'a frame of nobody': [started, frame(1, 8, 1)],
                'a frame of another kind': [started, frame(2, 7, 1)],
                'a short frame': [started, new ArrayBuffer(3)],
                'audio after the end': [started, done, frame(1, 7, 1)],
                'not JSON': ['{'],
            };
            const found = {};
            for (const [name, messages] of Object.entries(flows)) {
                const socket = new EventTarget();
                socket.close = (code) => (found[name] = code);
                socket.send = () => {};
                window.WebSocket = function () { return socket; };
                found[name] = 'open';
                const nothing = () => {};
                const handlers = { frame: nothing, done: nothing, lost: nothing };
                const ends = { started: nothing, closed: nothing };
                const session = new Session({ url: '', start: {}, handlers: ends });
                session.openContext({}, handlers);
                for (const message of messages) {
                    const isText = !(message instanceof ArrayBuffer) && typeof message !== 'string';
                    const data = isText ? JSON.stringify(message) : message;
                    socket.dispatchEvent(new MessageEvent('message', { data }));
                }
            }
            return found;
        }"""
    )
    assert ends.pop("all is well") == "open"
    assert set(ends.values()) == {4002}
    assert len(ends) == 7


# --- how it looks and handles


def test_a_phone_needs_no_scrolling_sideways_and_reaches_everything(voice_server, open_demo):
    for width in (320, 390):
        demo = open_demo(
            voice_server.url, viewport={"width": width, "height": 720}, is_mobile=True, has_touch=True
        )
        demo.wait_ready()
        demo.page.tap("#sound")
        demo.page.tap("#settings summary")
        assert demo.page.evaluate("document.documentElement.scrollWidth") == width
        for name in ("theme", "voice", "codec", "speed", "text", "speak", "stop"):
            box = demo.page.locator(f"#{name}").bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            if name in ("speak", "stop", "theme", "voice", "codec"):
                assert box["height"] >= 40, name


def test_everything_can_be_done_with_the_keyboard(voice_server, open_demo):
    demo = open_demo(voice_server.url)
    demo.wait_ready()
    demo.type("hello")
    reached = set()
    demo.page.evaluate("document.activeElement.blur()")
    for _ in range(20):
        demo.page.keyboard.press("Tab")
        reached.add(demo.page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached >= {"theme", "text", "live", "speak", "SUMMARY", "voice", "codec", "speed"}


def test_the_theme_can_be_chosen_and_is_kept(voice_server, open_demo):
    demo = open_demo(voice_server.url, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = demo.page.evaluate(background)
    demo.page.click("#theme")
    light = demo.page.evaluate(background)
    assert sum(map(int, light[4:-1].split(","))) > sum(map(int, dark[4:-1].split(",")))
    demo.page.reload()
    demo.wait_ready()
    assert demo.page.evaluate(background) == light


def test_the_page_speaks_chinese_to_a_chinese_browser(voice_server, open_demo):
    demo = open_demo(voice_server.url, locale="zh-CN")
    demo.wait_ready()
    assert demo.page.inner_text("#connection-label") == "已连接"
    assert demo.page.get_attribute("html", "lang") == "zh-CN"


def test_both_languages_say_the_same_things(voice_server, open_demo):
    demo = open_demo(voice_server.url)
    tables = demo.page.evaluate(
        """async () => {
            const { stringsFor } = await import('/demo/strings.js');
            const source = await (await fetch('/demo/strings.js')).text();
            const keys = [...source.matchAll(/^  (\\w+):/gm)].map(([, key]) => key);
            return ['en', 'zh-TW'].map((tag) => {
                const { t } = stringsFor(['fr', tag]);
                return keys.map((key) => [key, t(key)]);
            });
        }"""
    )
    assert tables[0] != tables[1]
    keys = [key for key, _ in tables[0]]
    assert all(keys.count(key) == 2 for key in keys)


@pytest.mark.skipif(not os.environ.get("COSYDUPLEX_SCREENSHOTS"), reason="COSYDUPLEX_SCREENSHOTS is not set")
@pytest.mark.parametrize(
    ("name", "visitor"),
    [
        ("desktop", {"color_scheme": "light"}),
        ("dark", {"color_scheme": "dark"}),
        (
            "phone",
            {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
        ),
    ],
)
def test_screenshots_for_the_readme(voice_server, open_demo, name, visitor):
    demo = open_demo(voice_server.url, device_scale_factor=2, **visitor)
    demo.wait_ready()
    demo.turn_sound_on()
    demo.say("Text goes in while a language model is still writing it, and speech comes out.")
    demo.page.wait_for_selector('.word.lit:text-is("writing")')
    demo.page.click("#stop")
    demo.page.wait_for_selector("text=stopped after")
    demo.paste("Interrupt it whenever you like: it knows how far you have heard. ")
    demo.page.mouse.move(0, 0)
    demo.page.wait_for_selector('.word.lit:text-is("knows")')
    demo.page.wait_for_timeout(250)
    IMAGES.mkdir(parents=True, exist_ok=True)
    demo.page.screenshot(path=IMAGES / f"demo-{name}.png")
