/**
 * Keeps a session with the server: connects, finds out what the server can do, comes back after a loss.
 *
 * Events: `state`; `session` when one has started; `draining` when it is about to end; `notice` with a
 * warning of the server. States:
 *   connecting · ready · waiting (lost, trying again) · asleep (idle, wakes when needed) ·
 *   locked (needs a key)
 */

import { ApiError } from './api.js';
import { Session } from './connection.js';

const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 5000;
const JITTER = 0.2;

export class Link extends EventTarget {
  #api;
  #choose;
  #delayMs = FIRST_DELAY_MS;
  #timer = 0;
  #attempt = 0;

  /**
   * @param {import('./api.js').Api} api
   * @param {(info: object) => object} choose the fields of `session.start`, given `/v1/info`
   */
  constructor(api, choose) {
    super();
    this.#api = api;
    this.#choose = choose;
    this.state = 'connecting';
    this.failure = null; // {code, message} of the last loss, where the server gave a reason
    this.info = null;
    this.voices = [];
    this.session = null;
    this.started = null; // the server's `session.started`
  }

  /** Begins anew, at once, whatever the state. */
  async connect() {
    clearTimeout(this.#timer);
    this.#attempt += 1;
    const attempt = this.#attempt;
    this.#dropSession();
    this.#enter('connecting');
    let token;
    try {
      await this.#api.ready(); // before its engine is there, a server has no voices to show
      this.info = await this.#api.info();
      [this.voices, token] = await Promise.all([this.#api.voices(), this.#api.token()]);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (attempt === this.#attempt) this.#lose(error);
      return;
    }
    if (attempt === this.#attempt) this.#open(token, attempt);
  }

  /** Tries with another key. */
  setKey(key) {
    this.#api.key = key;
    this.connect();
  }

  /** Connects if nobody has needed a session for a while. */
  wake() {
    if (this.state === 'asleep') this.connect();
  }

  #open(token, attempt) {
    const isCurrent = () => attempt === this.#attempt;
    this.session = new Session({
      url: this.#api.socketUrl,
      token,
      start: this.#choose(this.info),
      handlers: {
        started: (message) => isCurrent() && this.#start(message),
        notice: (message) => isCurrent() && this.#notice(message),
        draining: () => isCurrent() && this.dispatchEvent(new Event('draining')),
        closed: (end) => isCurrent() && this.#closed(end),
      },
    });
  }

  #start(message) {
    this.started = message;
    this.failure = null;
    this.#delayMs = FIRST_DELAY_MS;
    this.#enter('ready');
    this.dispatchEvent(new Event('session'));
  }

  #notice(message) {
    this.dispatchEvent(new CustomEvent('notice', { detail: message }));
  }

  #closed({ reason, error }) {
    this.session = null;
    if (reason === 'idle') this.#enter('asleep');
    else if (error) this.#lose(error);
    else this.#retry(null);
  }

  /** Sorts out why there is no session: a key is missing, the server said no, or nobody is there. */
  #lose(error) {
    if (error.code === 'unauthorized') {
      this.failure = this.#api.key ? error : null;
      this.#enter('locked');
    } else {
      this.#retry(error.code === 'unreachable' ? null : error);
    }
  }

  #retry(failure) {
    this.failure = failure;
    this.#enter('waiting');
    const delayMs = this.#delayMs * (1 + JITTER * (2 * Math.random() - 1));
    this.#delayMs = Math.min(2 * this.#delayMs, MAX_DELAY_MS);
    this.#timer = setTimeout(() => this.connect(), delayMs);
  }

  #dropSession() {
    const session = this.session;
    this.session = this.started = null;
    session?.close();
  }

  #enter(state) {
    this.state = state;
    this.dispatchEvent(new Event('state'));
  }
}
