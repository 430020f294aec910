/** What is spoken in one go: its text, its words' times, how far the listener is, how it ended. */

import { CodePointCursor } from './text.js';

/** States of an utterance. */
export const WAITING = 'waiting'; // nothing to be heard yet
export const SPEAKING = 'speaking';
export const HEARD = 'heard';
export const STOPPED = 'stopped';
export const FAILED = 'failed';

export class Utterance {
  #cursor = new CodePointCursor();

  constructor(options) {
    this.options = options; // voice and speech, as asked for
    this.state = WAITING;
    this.text = '';
    this.words = []; // {start, end, startMs}: UTF-16 indexes
    this.heardMs = 0;
    this.audioMs = null; // its whole length, once known
    this.failure = null; // {message, solution}
    this.spokenEnd = null; // how far a stopped one got, by the server's count
    this.underruns = 0;
    this.pauses = 0; // times it waited for its writer
    this.firstTextAt = null;
    this.firstSoundMs = null; // first text sent → first sample played
    this.serverTtfaMs = null;
    this.serverEnoughMs = null;
    this.numBytes = 0; // received, and
    this.receivedMs = 0; // how much sound they were
  }

  get isOver() {
    return this.state === HEARD || this.state === STOPPED || this.state === FAILED;
  }

  /** UTF-16 index of the end of the last word that has begun to be heard. */
  get heardEnd() {
    if (this.state === HEARD) return this.text.length;
    const next = this.words.findIndex(({ startMs }) => startMs > this.heardMs);
    const begun = next < 0 ? this.words.length : next;
    return this.heardMs > 0 && begun > 0 ? this.words[begun - 1].end : 0;
  }

  /** Turns marks into words of this text; returns the new ones. */
  addMarks(marks) {
    const added = marks.map((mark) => ({
      start: this.#cursor.indexOf(this.text, mark.char_start),
      end: this.#cursor.indexOf(this.text, mark.char_end),
      startMs: mark.start_ms,
    }));
    this.words.push(...added);
    return added;
  }

  /** UTF-16 index of a code point offset. */
  indexOf(offset) {
    return this.#cursor.indexOf(this.text, offset);
  }
}
