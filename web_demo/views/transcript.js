/** What was said, each word lit as it is heard. */

import { countCodePoints } from '../text.js';
import { FAILED, HEARD, SPEAKING, STOPPED, WAITING } from '../utterance.js';
import { byId, make } from './dom.js';

const FOLLOW_MARGIN_PX = 24;
const LABEL_CHARS = 40;

/** One utterance on the page. */
class Entry {
  #utterance;
  #tail = document.createTextNode(''); // text that no word has been found in yet
  #tailStart = 0;
  #words = []; // {startMs, nodes}: a word, and what stands between it and the one before it
  #lit = 0;
  #isRebuilt = false;
  #t;

  constructor(utterance, t, onAgain) {
    this.#utterance = utterance;
    this.#t = t;
    this.element = make('article', 'utterance');
    this.said = make('p', 'said');
    this.said.dir = 'auto';
    this.said.append(this.#tail);
    this.status = make('span', 'status');
    this.again = make('button', 'quiet again', t('again'));
    this.again.type = 'button';
    this.again.addEventListener('click', onAgain);
    const foot = make('footer');
    foot.append(this.status, this.again);
    this.element.append(this.said, foot);
    this.showState();
  }

  addText(added) {
    this.#tail.appendData(added);
  }

  addWords(words) {
    for (const { start, end, startMs } of words) {
      if (start < this.#tailStart) continue; // said again, as a number can be
      const text = this.#tail.data;
      const gap = text.slice(0, start - this.#tailStart);
      const word = make('span', 'word', text.slice(start - this.#tailStart, end - this.#tailStart));
      const nodes = gap.trim() ? [make('span', 'gap', gap), word] : [word];
      this.#tail.before(...(gap.trim() ? nodes : [gap, word]));
      this.#tail.data = text.slice(end - this.#tailStart);
      this.#tailStart = end;
      this.#words.push({ startMs, nodes });
    }
    this.showProgress();
  }

  /** Lights what has been heard; returns the word that is being heard where it is a new one. */
  showProgress() {
    const { heardMs, state } = this.#utterance;
    if (this.#isRebuilt || state === WAITING) return null;
    const before = this.#lit;
    while (this.#lit < this.#words.length && this.#words[this.#lit].startMs <= heardMs) {
      for (const node of this.#words[this.#lit].nodes) node.classList.add('lit');
      this.#words[this.#lit - 1]?.nodes.at(-1).classList.remove('now');
      this.#lit += 1;
    }
    if (this.#lit === before) return null;
    const word = this.#words[this.#lit - 1].nodes.at(-1);
    word.classList.toggle('now', state === SPEAKING);
    return word;
  }

  showState() {
    const { state } = this.#utterance;
    this.element.dataset.state = state;
    this.status.textContent = this.#describe();
    this.again.hidden = !this.#utterance.isOver;
    if (!this.#utterance.isOver) return;
    const label = Array.from(this.#utterance.text.trim()).slice(0, LABEL_CHARS).join('');
    this.again.setAttribute('aria-label', this.#t('againLabel', { text: label }));
    this.#words[this.#lit - 1]?.nodes.at(-1).classList.remove('now');
    if (state === STOPPED && this.#utterance.spokenEnd !== null) this.#showHowFar();
  }

  #showHowFar() {
    const { text, spokenEnd } = this.#utterance;
    this.#isRebuilt = true;
    const rest = text.slice(spokenEnd);
    const unsaid = rest.trimStart();
    this.said.replaceChildren(
      make('span', 'lit until-stop', text.slice(0, spokenEnd)),
      rest.slice(0, rest.length - unsaid.length),
      make('span', 'unsaid', unsaid),
    );
  }

  #describe() {
    const { state, failure, text, spokenEnd, heardMs } = this.#utterance;
    if (state === FAILED) {
      const message = failure.message ?? this.#t('connectionLost');
      return this.#t('stateFailed', { message });
    }
    if (state === STOPPED && spokenEnd !== null) {
      return this.#t('stoppedAfter', {
        spoken: countCodePoints(text.slice(0, spokenEnd)),
        all: countCodePoints(text),
      });
    }
    return this.#t(
      { [WAITING]: 'stateWaiting', [SPEAKING]: 'stateSpeaking', [HEARD]: 'stateHeard', [STOPPED]: 'stateStopped' }[
        state
      ],
      { seconds: (heardMs / 1000).toFixed(1) },
    );
  }
}

export class TranscriptView {
  #root = byId('transcript');
  #welcome = byId('welcome');
  #entries = new Map();
  #isFollowing = true;
  #t;
  #onAgain;

  /** @param {{onAgain: (utterance: object) => void}} actions */
  constructor(t, { onAgain }) {
    this.#t = t;
    this.#onAgain = onAgain;
    this.#root.addEventListener('scroll', () => {
      const { scrollTop, scrollHeight, clientHeight } = this.#root;
      this.#isFollowing = scrollHeight - scrollTop - clientHeight < FOLLOW_MARGIN_PX;
    });
  }

  add(utterance) {
    this.#welcome.hidden = true;
    const entry = new Entry(utterance, this.#t, () => this.#onAgain(utterance));
    this.#entries.set(utterance, entry);
    this.#root.append(entry.element);
    this.#toEnd();
  }

  remove(utterance) {
    this.#entries.get(utterance)?.element.remove();
    this.#entries.delete(utterance);
  }

  addText(utterance, added) {
    this.#entries.get(utterance)?.addText(added);
    if (this.#isFollowing) this.#toEnd();
  }

  addWords(utterance, words) {
    this.#entries.get(utterance)?.addWords(words);
  }

  showProgress(utterance) {
    const word = this.#entries.get(utterance)?.showProgress();
    if (word && !this.#isFollowing) return;
    if (word) this.#bringIntoView(word);
  }

  /** Shows an utterance's state; returns it in words. */
  showState(utterance) {
    const entry = this.#entries.get(utterance);
    entry?.showState();
    return entry?.status.textContent ?? '';
  }

  #toEnd() {
    this.#root.scrollTop = this.#root.scrollHeight;
  }

  #bringIntoView(word) {
    const view = this.#root.getBoundingClientRect();
    const place = word.getBoundingClientRect();
    if (place.bottom > view.bottom - FOLLOW_MARGIN_PX || place.top < view.top) {
      this.#root.scrollTop += place.bottom - view.bottom + view.height / 3;
    }
  }
}
