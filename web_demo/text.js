/**
 * Offsets and cuts in text: the protocol counts code points, JavaScript counts UTF-16 units.
 * Pure functions and one small cursor; nothing here knows the page or the socket.
 */

/** A unit of CJK text is complete as soon as it is there; everything else ends at white space. */
const STANDS_ALONE = /[\s\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]|[\u{20000}-\u{323af}]/u;

const SENTENCE_END = /[.!?;:…。！？；：]["'”’)\]」』）]*$/u;

const isHighSurrogate = (unit) => unit >= 0xd800 && unit <= 0xdbff;
const isLowSurrogate = (unit) => unit >= 0xdc00 && unit <= 0xdfff;

/** Returns `index`, or one less where it would cut a surrogate pair in two. */
export function wholeIndex(text, index) {
  const cutsPair =
    index > 0 &&
    index < text.length &&
    isHighSurrogate(text.charCodeAt(index - 1)) &&
    isLowSurrogate(text.charCodeAt(index));
  return cutsPair ? index - 1 : index;
}

/** Returns the text in pieces of at most `maxUnits`, no surrogate pair cut. */
export function pieces(text, maxUnits) {
  const found = [];
  for (let at = 0; at < text.length; ) {
    const end = wholeIndex(text, Math.min(at + maxUnits, text.length));
    found.push(text.slice(at, end));
    at = end;
  }
  return found;
}

/** Returns how many code points the text has; a lone surrogate counts one. */
export function countCodePoints(text) {
  let count = 0;
  for (let at = 0; at < text.length; count += 1) at += text.codePointAt(at) > 0xffff ? 2 : 1;
  return count;
}

/** Finds UTF-16 indexes of code point offsets in a text that only grows; cheap when they come in order. */
export class CodePointCursor {
  #offset = 0;
  #index = 0;

  /** Returns the UTF-16 index of a code point offset, at most the text's length. */
  indexOf(text, offset) {
    if (offset < this.#offset) this.#offset = this.#index = 0;
    while (this.#offset < offset && this.#index < text.length) {
      this.#index += text.codePointAt(this.#index) > 0xffff ? 2 : 1;
      this.#offset += 1;
    }
    return this.#index;
  }
}

/** Returns where the complete words end; what follows is a word that is still being written. */
export function completeEnd(text) {
  let end = text.length;
  while (end > 0) {
    const start = wholeIndex(text, end - 1);
    if (STANDS_ALONE.test(text.slice(start, end))) return end;
    end = start;
  }
  return 0;
}

/** Returns whether the text ends as a sentence or clause does. */
export function endsSentence(text) {
  return SENTENCE_END.test(text.trimEnd());
}

/**
 * Decides what an edit means for text that is being spoken while it is written.
 *
 * What has been heard cannot be unsaid, so a change in it alters nothing. A change in text that was sent and
 * not heard yet means: stop, and speak anew from there.
 *
 * @param {string} before the text as it was
 * @param {string} after the text as it is
 * @param {number} sent how much of `before` was sent
 * @param {number} heard how much of `before` was heard
 * @returns {{sent: number, restart: boolean}} how much of `after` counts as sent, and whether what is
 *     being spoken must be cancelled first
 */
export function planEdit(before, after, sent, heard) {
  const shorter = Math.min(before.length, after.length);
  let start = 0;
  while (start < shorter && before[start] === after[start]) start += 1;
  start = Math.min(wholeIndex(before, start), wholeIndex(after, start));
  if (start >= sent) return { sent, restart: false };

  let same = 0;
  while (same < shorter - start && before.at(-1 - same) === after.at(-1 - same)) same += 1;
  const end = before.length - same;
  const shift = after.length - before.length;
  if (end <= Math.min(heard, sent)) return { sent: wholeIndex(after, sent + shift), restart: false };
  if (heard >= sent) return { sent: start, restart: false };
  return { sent: wholeIndex(after, Math.min(heard, start)), restart: true };
}
