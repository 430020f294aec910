/** The server's HTTP side, as far as the page needs it. Addresses are relative to the page. */

/** The server said no, does not take work ("loading", "draining"), or did not answer ("unreachable"). */
export class ApiError extends Error {
  constructor(code, message, solution = '') {
    super(message);
    this.code = code;
    this.solution = solution;
  }
}

export class Api {
  #base;

  constructor(base) {
    this.#base = base;
    this.key = '';
  }

  /** The address of the native door. */
  get socketUrl() {
    const url = new URL('v1/duplex', this.#base);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    return url;
  }

  /** Resolves when the server takes work; fails with its state as the code where it does not yet. */
  async ready() {
    await this.#fetch('readyz');
  }

  async info() {
    return this.#fetch('v1/info');
  }

  async voices() {
    return (await this.#fetch('v1/voices')).voices;
  }

  /** A token for the socket: short-lived, and free of characters that a subprotocol may not have. */
  async token() {
    if (!this.key || this.key.startsWith('cdt1.')) return this.key;
    return (await this.#fetch('v1/tokens', { method: 'POST' })).token;
  }

  async #fetch(path, options = {}) {
    const headers = this.key ? { 'X-API-Key': encodeHeader(this.key) } : {};
    let answer;
    let body;
    try {
      answer = await fetch(new URL(path, this.#base), { ...options, headers, cache: 'no-store' });
      body = await answer.json();
    } catch (error) {
      throw new ApiError('unreachable', error.message);
    }
    if (!answer.ok) throw new ApiError(body.error ?? body.status, body.message ?? '', body.solution);
    return body;
  }
}

/** Header values are bytes: a pasted key with other characters must not throw, only be wrong. */
function encodeHeader(value) {
  return value.replace(/[^\x20-\x7e]/g, '?');
}
