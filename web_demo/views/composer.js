/** The text box and its buttons: tells what was typed, when the writer pauses, and what was pressed. */

import { byId } from './dom.js';

/** After so long without a letter the server need not keep the utterance open. */
const REST_MS = 20_000;

export class ComposerView {
  #form = byId('composer');
  #box = byId('text');
  #live = byId('live');
  #speak = byId('speak');
  #stop = byId('stop');
  #typed;
  #pauseTimer = 0;
  #isComposing = false;
  #isSubmitted = false; // before it could be sent

  /**
   * @param {import('../typing.js').TypedText} typed
   * @param {{onStop: () => void, onChange: () => void}} actions
   */
  constructor(typed, preferences, { onStop, onChange }) {
    this.#typed = typed;
    this.#live.checked = typed.isLive = preferences.live;
    this.#live.addEventListener('change', () => {
      preferences.live = typed.isLive = this.#live.checked;
      this.#take();
    });
    this.#box.addEventListener('input', () => {
      this.#isSubmitted = false;
      onChange();
      this.#take();
    });
    // While an input method composes, the box holds what is only a proposal.
    this.#box.addEventListener('compositionstart', () => (this.#isComposing = true));
    this.#box.addEventListener('compositionend', () => {
      this.#isComposing = false;
      this.#take();
    });
    this.#box.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#form.requestSubmit();
    });
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#finish();
    });
    this.#stop.addEventListener('click', onStop);
    document.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || event.isComposing || this.#stop.disabled) return;
      event.preventDefault();
      onStop();
    });
  }

  /** Shows whether there is something to stop. */
  showSpeaking(isSpeaking) {
    this.#stop.disabled = !isSpeaking;
  }

  /** Sends what waits, now that it can be sent. */
  resume() {
    if (this.#isSubmitted) this.#finish();
    else this.#take();
  }

  /** Takes no text: this page cannot speak. */
  disable() {
    this.#box.disabled = this.#live.disabled = true;
  }

  /** Everything was stopped: only what was not sent stays in the box. */
  abandon() {
    clearTimeout(this.#pauseTimer);
    this.#box.value = this.#typed.abandon();
    this.#showButtons();
  }

  focus() {
    this.#box.focus();
  }

  #take() {
    if (this.#isComposing) return;
    this.#typed.change(this.#box.value);
    clearTimeout(this.#pauseTimer);
    this.#pauseTimer = setTimeout(() => {
      this.#typed.pause();
      this.#pauseTimer = setTimeout(() => this.#typed.rest(), REST_MS);
    }, this.#typed.pauseMs);
    this.#showButtons();
  }

  #finish() {
    clearTimeout(this.#pauseTimer);
    this.#typed.change(this.#box.value);
    this.#isSubmitted = this.#typed.isPending && !this.#typed.finish();
    if (!this.#isSubmitted) this.#box.value = '';
    this.#showButtons();
  }

  #showButtons() {
    this.#speak.disabled = !this.#typed.isPending;
  }
}
