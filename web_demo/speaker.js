/**
 * Brings a session and the player together: text goes out, audio comes back and is played, the server
 * is told what was heard.
 *
 * Events carry the utterance as `detail.utterance`: `begin`, `text` (`detail.added`), `words`
 * (`detail.words`), `progress`, `state` (also when a figure has changed), `discard` (it was replaced before
 * anything of it was heard).
 */

import { makeDecoder } from './decoders.js';
import { pieces } from './text.js';
import { FAILED, HEARD, SPEAKING, STOPPED, Utterance, WAITING } from './utterance.js';

const REPORT_INTERVAL_MS = 500;

/** An append may have 100,000 code points, a message 1 MiB. */
const MAX_APPEND_UNITS = 20_000;

/** One utterance being spoken: what its writer holds. */
class Speech {
  #speaker;
  #unflushed = false;

  constructor(speaker, utterance) {
    this.utterance = utterance;
    this.#speaker = speaker;
    this.context = null;
    this.track = null;
    this.decoder = null;
    this.flushesDue = 0;
    this.hasEnded = false;
  }

  get takesText() {
    return !this.utterance.isOver && this.context.takesText;
  }

  append(text) {
    for (const piece of pieces(text, MAX_APPEND_UNITS)) this.context.append(piece);
    this.#unflushed = true;
    this.#speaker.noteText(this, text);
  }

  /** Speak what has been appended, complete or not. */
  flush() {
    if (!this.#unflushed) return;
    this.#unflushed = false;
    this.flushesDue += 1;
    this.context.flush();
  }

  /** No more text follows. */
  end() {
    this.hasEnded = true;
    this.context.end();
  }

  /** Whether the server has all it needs, so that silence now would be nobody's wish. */
  get isOwedSound() {
    return this.hasEnded || this.flushesDue > 0;
  }
}

export class Speaker extends EventTarget {
  #player;
  #session = null;
  #audio = null;
  #now;
  #speeches = new Set(); // not over
  #reports = 0;

  /**
   * @param {import('./player.js').Player} player
   * @param {() => number} [now] milliseconds
   */
  constructor(player, now = () => performance.now()) {
    super();
    this.#player = player;
    this.#now = now;
    player.addEventListener('position', () => this.#follow());
  }

  /** Speaks through this session from here on. */
  use(session, audio) {
    this.#session = session;
    this.#audio = audio;
  }

  get isSpeaking() {
    return this.#speeches.size > 0;
  }

  /** Begins an utterance; its audio is played after that of those before it. */
  begin(options) {
    const utterance = new Utterance(options);
    const speech = new Speech(this, utterance);
    speech.context = this.#session.openContext(options, this.#contextHandlers(speech));
    speech.track = this.#player.open({
      started: () => this.#start(speech),
      dry: () => this.#runDry(speech),
      heard: () => this.#finish(speech, HEARD),
    });
    speech.decoder = makeDecoder(
      this.#audio,
      (samples) => {
        utterance.receivedMs += (samples.length * 1000) / this.#player.sampleRate;
        speech.track.push(samples);
      },
      (error) => this.#fail(speech, { message: error.message }),
    );
    this.#speeches.add(speech);
    this.#reports ||= setInterval(() => this.#reportAll(), REPORT_INTERVAL_MS);
    this.#emit('begin', utterance);
    return speech;
  }

  /** Silences everything within one fade and tells the server how far it was heard. */
  async stop(speeches = [...this.#speeches]) {
    const live = speeches.filter(({ utterance }) => !utterance.isOver);
    for (const speech of live) this.#settle(speech, STOPPED);
    await this.#player.stop(live.map(({ track }) => track));
    for (const { utterance, track, context } of live) {
      utterance.heardMs = track.heardMs;
      context.cancel(track.heardMs);
      this.#emit('progress', utterance);
    }
  }

  /** Stops an utterance that is about to be said differently. */
  replace(speech) {
    if (speech.utterance.heardEnd === 0) this.#emit('discard', speech.utterance);
    return this.stop([speech]);
  }

  /** Counts appended text, for a speech alone. */
  noteText({ utterance }, text) {
    utterance.firstTextAt ??= this.#now();
    utterance.text += text;
    this.#emit('text', utterance, { added: text });
  }

  // --- from the server

  #contextHandlers(speech) {
    const { utterance } = speech;
    return {
      frame: ({ payload }) => {
        utterance.numBytes += payload.byteLength;
        speech.decoder.decode(payload);
      },
      marks: (marks) => this.#emit('words', utterance, { words: utterance.addMarks(marks) }),
      flushed: () => {
        speech.flushesDue -= 1;
      },
      done: (message) => this.#takeDone(speech, message),
      cancelled: (message) => {
        utterance.spokenEnd = utterance.indexOf(message.spoken_chars);
        this.#emit('state', utterance);
      },
      failed: (error) => this.#endEarly(speech, error),
      warning: (warning) => this.dispatchEvent(new CustomEvent('notice', { detail: warning })),
      lost: () => this.#endEarly(speech, { code: 'lost' }),
    };
  }

  async #takeDone(speech, message) {
    const { utterance } = speech;
    utterance.audioMs = message.audio_ms;
    utterance.serverTtfaMs = message.ttfa_ms;
    utterance.serverEnoughMs = message.ttfa_enough_ms;
    this.#emit('state', utterance);
    await speech.decoder.finish();
    const padded = this.#audio.encoding === 'opus';
    speech.track.end(padded ? Math.round((message.audio_ms * this.#player.sampleRate) / 1000) : undefined);
  }

  /** No more comes, and that is a failure; what has come is still played. */
  async #endEarly(speech, failure) {
    if (speech.utterance.isOver) return;
    speech.utterance.failure = failure;
    this.#emit('state', speech.utterance);
    await speech.decoder.finish();
    speech.track.end();
  }

  // --- from the player

  #start(speech) {
    const { utterance } = speech;
    utterance.state = SPEAKING;
    utterance.firstSoundMs = this.#now() - utterance.firstTextAt;
    this.#emit('state', utterance);
    this.#report(speech);
  }

  #runDry(speech) {
    // While its writer may still go on, silence is a pause; once all the text is there it is an underrun.
    if (speech.isOwedSound) speech.utterance.underruns += 1;
    else speech.utterance.pauses += 1;
    this.#emit('state', speech.utterance);
    this.#report(speech);
  }

  #follow() {
    for (const { utterance, track } of this.#speeches) {
      if (utterance.state === WAITING || utterance.heardMs === track.heardMs) continue;
      utterance.heardMs = track.heardMs;
      this.#emit('progress', utterance);
    }
  }

  #reportAll() {
    for (const speech of this.#speeches) this.#report(speech);
  }

  #report({ utterance, track, context }) {
    context.report({
      playedMs: track.heardMs,
      bufferedMs: track.bufferedMs,
      underruns: utterance.underruns,
    });
  }

  // --- the end of an utterance

  #finish(speech, state) {
    speech.utterance.heardMs = speech.track.heardMs;
    if (speech.utterance.failure) state = FAILED;
    else this.#report(speech);
    this.#settle(speech, state);
  }

  #fail(speech, failure) {
    speech.utterance.failure = failure;
    this.stop([speech]);
    this.#settle(speech, FAILED);
  }

  #settle(speech, state) {
    speech.utterance.state = state;
    speech.decoder.close();
    this.#speeches.delete(speech);
    if (this.#speeches.size === 0) {
      clearInterval(this.#reports);
      this.#reports = 0;
    }
    this.#emit('state', speech.utterance);
  }

  #emit(type, utterance, more = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail: { utterance, ...more } }));
  }
}
