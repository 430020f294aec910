/** The figures of what is being spoken: first sound, buffer, underruns, data rate. */

import { byId } from './dom.js';

const HISTORY_POINTS = 124;
const HISTORY_INTERVAL_MS = 80;
const FULL_SCALE_MS = 3500;

export class MetersView {
  #firstSound = byId('first-sound');
  #serverTtfa = byId('server-ttfa');
  #buffer = byId('buffer');
  #underruns = byId('underruns');
  #pauses = byId('pauses');
  #bitrate = byId('bitrate');
  #format = byId('format');
  #canvas = byId('buffer-history');
  #history = [];
  #lastPointAt = 0;
  #lastUnderruns = 0;
  #t;

  constructor(t) {
    this.#t = t;
    window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#draw());
  }

  /** Shows what audio the session has. */
  showFormat(name) {
    this.#format.textContent = name;
  }

  /** Shows the figures of one utterance. */
  show(utterance) {
    this.#firstSound.textContent = withUnit(utterance.firstSoundMs, 'ms');
    this.#serverTtfa.textContent = [
      utterance.serverTtfaMs !== null && this.#t('serverTtfa', { ms: utterance.serverTtfaMs }),
      utterance.serverEnoughMs !== null && this.#t('serverEnough', { ms: utterance.serverEnoughMs }),
    ]
      .filter(Boolean)
      .join(' · ');
    this.#underruns.textContent = String(utterance.underruns);
    this.#underruns.classList.toggle('bad', utterance.underruns > 0);
    this.#pauses.textContent = utterance.pauses > 0 ? this.#t('pauses', { n: utterance.pauses }) : '';
    const kilobits = (utterance.numBytes * 8) / utterance.receivedMs;
    this.#bitrate.textContent = utterance.receivedMs > 0 ? withUnit(kilobits, 'kb/s') : '–';
  }

  /** Shows the buffer as it is now, and as it has been. */
  showBuffer(bufferedMs, underruns, nowMs) {
    const isDue = nowMs - this.#lastPointAt >= HISTORY_INTERVAL_MS;
    if (!isDue && bufferedMs > 0 && underruns === this.#lastUnderruns) return;
    this.#buffer.textContent = withUnit(bufferedMs, 'ms');
    this.#history.push({ bufferedMs, ranDry: underruns > this.#lastUnderruns });
    if (this.#history.length > HISTORY_POINTS) this.#history.shift();
    this.#lastPointAt = nowMs;
    this.#lastUnderruns = underruns;
    this.#draw();
  }

  #draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = this.#canvas.clientWidth;
    const height = this.#canvas.clientHeight;
    this.#canvas.width = width * ratio;
    this.#canvas.height = height * ratio;
    const style = getComputedStyle(this.#canvas);
    const brush = this.#canvas.getContext('2d');
    brush.scale(ratio, ratio);
    const step = width / HISTORY_POINTS;
    this.#history.forEach(({ bufferedMs, ranDry }, i) => {
      const level = Math.max(1, Math.min(1, bufferedMs / FULL_SCALE_MS) * height);
      brush.fillStyle = ranDry ? style.getPropertyValue('--bad') : style.color;
      brush.fillRect(i * step, ranDry ? 0 : height - level, Math.max(1, step - 0.5), ranDry ? height : level);
    });
  }
}

function withUnit(value, unit) {
  return value === null ? '–' : `${Math.round(value).toLocaleString()} ${unit}`;
}
