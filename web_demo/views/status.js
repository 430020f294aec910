/** The connection, and everything that keeps the page from speaking, each with what to do about it. */

import { byId } from './dom.js';

export class StatusView {
  #pill = byId('connection');
  #label = byId('connection-label');
  #engine = byId('connection-engine');
  #lost = byId('lost');
  #lostText = byId('lost-text');
  #keyForm = byId('key-form');
  #keyPrompt = byId('key-prompt');
  #key = byId('key');
  #resumeSound = byId('resume-sound');
  #remark = byId('remark');
  #announcer = byId('announcer');
  #t;

  /** @param {{onTryNow: () => void, onKey: (key: string) => void}} actions */
  constructor(t, { onTryNow, onKey }) {
    this.#t = t;
    byId('try-now').addEventListener('click', onTryNow);
    this.#keyForm.addEventListener('submit', (event) => {
      event.preventDefault();
      onKey(this.#key.value.trim());
    });
  }

  /** Shows how the link stands. */
  showLink({ state, failure, started }) {
    this.#pill.dataset.state = state;
    this.#label.textContent = this.#t(state);
    this.#engine.textContent = started ? started.engine : '';
    if (state !== 'connecting') this.#showLost(state === 'waiting', failure);
    this.#showKeyForm(state === 'locked', failure);
  }

  #showLost(isLost, failure) {
    this.#lost.hidden = !isLost;
    if (!isLost) return;
    if (failure?.code === 'loading') this.#lostText.textContent = this.#t('loadingNotice');
    else if (failure?.message) this.#lostText.textContent = this.#t('refusedNotice', failure);
    else this.#lostText.textContent = this.#t('lostNotice');
  }

  #showKeyForm(isLocked, failure) {
    const wasHidden = this.#keyForm.hidden;
    this.#keyForm.hidden = !isLocked;
    if (!isLocked) return;
    this.#keyPrompt.textContent = this.#t(failure ? 'keyWrong' : 'keyPrompt');
    if (wasHidden) this.#key.focus();
  }

  /** Says that this page cannot play at all, and why. */
  showBlocked(reason) {
    byId('blocked').textContent = this.#t(reason);
    byId('blocked').hidden = false;
  }

  /** Asks for a click when the sound was on and is not any more. */
  showSuspended(isSuspended) {
    this.#resumeSound.hidden = !isSuspended;
  }

  /** Shows a warning of the server until the next one. */
  showRemark({ message, solution }) {
    this.#remark.textContent = [message, solution].filter(Boolean).join(' ');
    this.#remark.hidden = false;
  }

  clearRemark() {
    this.#remark.hidden = true;
  }

  /** Tells users of a screen reader what others see. */
  announce(text) {
    this.#announcer.textContent = text;
  }
}
