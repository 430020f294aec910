/**
 * Text that is spoken while it is typed: decides what of a text box is sent, and when.
 *
 * Complete words are sent at once; the word under the fingers waits for its end, a pause or Enter, so that
 * a slip of the finger is not spoken. What was sent and not yet heard can still be changed: then it is
 * stopped and said anew from there (see `planEdit`). Knows neither the page nor the socket.
 */

import { completeEnd, endsSentence, planEdit } from './text.js';

const PAUSE_MS = 1200;
const PAUSE_AFTER_SENTENCE_MS = 500;

export class TypedText {
  #begin;
  #replace;
  #isReady;
  #speech = null;
  #value = '';
  #sent = 0; // how much of the value was sent
  #isSettling = false; // sent text was changed: nothing goes out before a pause

  /**
   * @param {object} options
   * @param {() => object} options.begin begins an utterance and returns what holds it
   * @param {(speech: object) => void} options.replace stops one that will be said differently
   * @param {() => boolean} options.isReady whether anything can be sent now
   */
  constructor({ begin, replace, isReady }) {
    this.#begin = begin;
    this.#replace = replace;
    this.#isReady = isReady;
    this.isLive = true;
  }

  /** Whether something has been written that was not ended yet. */
  get isPending() {
    return this.#speech !== null || this.#value.trim() !== '';
  }

  /** How long to wait after the last change before `pause`. */
  get pauseMs() {
    return endsSentence(this.#value) ? PAUSE_AFTER_SENTENCE_MS : PAUSE_MS;
  }

  /** Takes the box's content after a change. */
  change(value) {
    this.#forgetIfOver();
    const { sent, restart } = planEdit(this.#value, value, this.#sent, this.#heard);
    this.#value = value;
    this.#sent = sent;
    if (restart) {
      this.#replace(this.#speech);
      this.#speech = null;
      this.#isSettling = true;
    }
    if (this.isLive && !this.#isSettling) this.#send(completeEnd(value));
  }

  /** The writer has paused: what is there is spoken. */
  pause() {
    this.#isSettling = false;
    if (!this.isLive) return;
    this.#send(this.#value.length);
    if (this.#speech?.takesText) this.#speech.flush();
  }

  /** All is written; returns whether it could be sent. The box is to be emptied then. */
  finish() {
    if (!this.#isReady()) return false;
    this.#isSettling = false;
    this.#send(this.#value.length);
    if (this.#speech?.takesText) this.#speech.end();
    this.#reset('');
    return true;
  }

  /** Nothing has been written for long, or nothing can be: ends what is being spoken; the box stays. */
  rest() {
    if (!this.#speech?.takesText) return;
    this.#send(this.#value.length);
    this.#speech.end();
    this.#speech = null;
  }

  /** Everything was stopped; returns what has not been sent, which stays in the box. */
  abandon() {
    this.#reset(this.#value.slice(this.#sent).trimStart());
    return this.#value;
  }

  #reset(value) {
    this.#value = value;
    this.#sent = 0;
    this.#speech = null;
    this.#isSettling = false;
  }

  /** The text of an utterance always ends where the sent part of the box does. */
  get #heard() {
    if (!this.#speech) return this.#sent;
    const { text, heardEnd } = this.#speech.utterance;
    return Math.max(0, heardEnd + this.#sent - text.length);
  }

  #forgetIfOver() {
    if (this.#speech && !this.#speech.takesText) this.#speech = null;
  }

  #send(end) {
    this.#forgetIfOver();
    const text = this.#value.slice(this.#sent, end);
    if (text === '' || !this.#isReady()) return;
    if (!this.#speech) {
      if (text.trim() === '') return; // a context of white space alone has no sound
      this.#speech = this.#begin();
    }
    this.#sent = end;
    this.#speech.append(text);
  }
}
