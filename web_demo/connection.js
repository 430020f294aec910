/**
 * `duplex.v1` over a WebSocket: one session, its contexts, and every rule a client can check.
 * Knows neither the page nor the loudspeaker: what arrives goes to the handlers that were given.
 */

const PROTOCOL = 'duplex.v1';
const HEADER_BYTES = 12;
const KIND_AUDIO = 1;
const FLAG_FIRST = 1;
const FLAG_LAST = 2;
const FLAG_GAP = 4;
const SEQ_MODULUS = 2 ** 32;

/** Close codes a page may choose lie between 4000 and 4999. */
const CLOSE_PROTOCOL_ERROR = 4002;

/** The server broke the protocol. */
export class ProtocolError extends Error {}

/**
 * Reads one binary message.
 * @param {ArrayBuffer} data
 */
export function parseFrame(data) {
  if (data.byteLength < HEADER_BYTES) throw new ProtocolError('a binary message is shorter than its header');
  const header = new DataView(data, 0, HEADER_BYTES);
  if (header.getUint8(0) !== KIND_AUDIO) throw new ProtocolError('a binary message of an unknown kind');
  const flags = header.getUint8(1);
  return {
    first: Boolean(flags & FLAG_FIRST),
    last: Boolean(flags & FLAG_LAST),
    gap: Boolean(flags & FLAG_GAP),
    contextIndex: header.getUint16(2),
    seq: header.getUint32(4),
    pts: header.getUint32(8),
    payload: new Uint8Array(data, HEADER_BYTES),
  };
}

/** Where a context stands, as this side knows it. */
const OPEN = 'open';
const ENDING = 'ending';
const CANCELLED = 'cancelled';
const OVER = 'over';

/**
 * One stream of text that is spoken. Made by `Session.openContext`; its handlers are called with
 * what the server says about it, and no more once it is cancelled, but for `cancelled` itself.
 */
class Context {
  #session;
  #handlers;
  #state = OPEN;
  #isDone = false;

  constructor(session, id, handlers) {
    this.id = id;
    this.#session = session;
    this.#handlers = handlers;
  }

  /** Whether text may still be appended. */
  get takesText() {
    return this.#state === OPEN;
  }

  append(text) {
    this.#session.send({ type: 'text.append', context_id: this.id, text });
  }

  /** Speak all that has been appended, complete or not. */
  flush() {
    this.#session.send({ type: 'text.flush', context_id: this.id });
  }

  /** No more text follows. */
  end() {
    this.#state = ENDING;
    this.#session.send({ type: 'text.end', context_id: this.id });
  }

  /** Barge-in; answered by the handler `cancelled`, also after `done`. */
  cancel(playedMs) {
    if (this.#state === CANCELLED || (this.#state === OVER && !this.#isDone)) return;
    this.#state = CANCELLED;
    this.#session.send({ type: 'context.cancel', context_id: this.id, played_ms: Math.round(playedMs) });
  }

  /** Tells the server what has been heard. */
  report({ playedMs, bufferedMs, underruns }) {
    this.#session.send({
      type: 'playback.report',
      context_id: this.id,
      played_ms: Math.round(playedMs),
      buffered_ms: Math.round(bufferedMs),
      underruns,
      last_seq: this.#session.lastSeq,
      last_ev: this.#session.lastEv,
    });
  }

  /** Takes a frame, for the session alone. */
  takeFrame(frame) {
    if (this.#state === CANCELLED) return;
    if (this.#state === OVER) throw new ProtocolError('audio after the end of its context');
    this.#handlers.frame(frame);
  }

  /** Takes a message, for the session alone; returns whether nothing more of the context follows. */
  takeMessage(message) {
    if (message.type === 'context.cancelled') {
      this.#state = OVER;
      this.#isDone = false;
      this.#handlers.cancelled(message);
      return true;
    }
    if (message.type === 'error' && message.ends === 'context') {
      this.#state = OVER;
      this.#handlers.failed(message);
      return true;
    }
    if (this.#state === CANCELLED) return false;
    if (message.type === 'context.done') {
      this.#state = OVER;
      this.#isDone = true;
      this.#handlers.done(message);
    } else if (message.type === 'marks') {
      this.#handlers.marks(message.words);
    } else if (message.type === 'context.flushed') {
      this.#handlers.flushed();
    } else if (message.type === 'warning' || message.type === 'error') {
      this.#handlers.warning(message);
    }
    return false;
  }

  /** The session is over and with it the context, for the session alone. */
  lose() {
    const wasLive = this.#state === OPEN || this.#state === ENDING;
    this.#state = OVER;
    this.#isDone = false;
    if (wasLive) this.#handlers.lost();
  }
}

/**
 * One session on one socket. What is sent before the socket is open waits for it.
 *
 * Handlers: `started(message)`, `notice(message)` for warnings and errors that end nothing,
 * `draining(message)`, `closed({code, reason, error})`: exactly once, and nothing after it.
 */
export class Session {
  #socket;
  #handlers;
  #contexts = new Map();
  #byIndex = new Map();
  #waiting = [];
  #opened = 0;
  #n = 0;
  #error = null;
  #endReason = null;
  #isClosed = false;

  /**
   * @param {object} options
   * @param {URL | string} options.url
   * @param {string} [options.token] goes as a subprotocol: a page cannot set headers
   * @param {object} options.start the fields of `session.start`
   * @param {object} options.handlers
   */
  constructor({ url, token, start, handlers }) {
    this.lastEv = 0;
    this.lastSeq = 0;
    this.#handlers = handlers;
    this.#socket = new WebSocket(url, token ? [PROTOCOL, 'token', token] : [PROTOCOL]);
    this.#socket.binaryType = 'arraybuffer';
    this.send({ type: 'session.start', ...start });
    this.#socket.addEventListener('open', () => this.#sendWaiting());
    this.#socket.addEventListener('message', (event) => this.#take(event.data));
    this.#socket.addEventListener('close', (event) => this.#close(event.code));
  }

  /** Opens a context; the options (`voice`, `language`, `speech`, `text`) override the session's. */
  openContext(options, handlers) {
    this.#opened += 1;
    const context = new Context(this, `c${this.#opened}`, handlers);
    this.#contexts.set(context.id, context);
    this.send({ type: 'context.open', context_id: context.id, ...options });
    return context;
  }

  /** Sends a message; those about contexts are numbered. */
  send(message) {
    if (this.#isClosed) return;
    if (message.type.startsWith('context.') || message.type.startsWith('text.')) {
      this.#n += 1;
      message = { ...message, n: this.#n };
    }
    const data = JSON.stringify(message);
    if (this.#socket.readyState === WebSocket.CONNECTING) this.#waiting.push(data);
    else this.#socket.send(data);
  }

  /** Ends the session at once; what is being spoken is lost. */
  close() {
    this.#socket.close(1000);
    this.#close(1000);
  }

  #sendWaiting() {
    for (const data of this.#waiting.splice(0)) this.#socket.send(data);
  }

  #take(data) {
    if (this.#isClosed) return;
    try {
      if (typeof data === 'string') this.#takeMessage(JSON.parse(data));
      else this.#takeFrame(parseFrame(data));
    } catch (error) {
      if (!(error instanceof ProtocolError || error instanceof SyntaxError)) throw error;
      this.#error = { code: 'protocol', message: error.message };
      this.#socket.close(CLOSE_PROTOCOL_ERROR);
      this.#close(CLOSE_PROTOCOL_ERROR);
    }
  }

  #takeFrame(frame) {
    if (frame.seq !== (this.lastSeq % (SEQ_MODULUS - 1)) + 1 && !frame.gap) {
      throw new ProtocolError(`frame ${frame.seq} follows frame ${this.lastSeq}`);
    }
    this.lastSeq = frame.seq;
    const context = this.#byIndex.get(frame.contextIndex);
    if (!context) throw new ProtocolError('audio for a context that is not live');
    context.takeFrame(frame);
  }

  #takeMessage(message) {
    if (message.type === 'session.started') {
      this.#handlers.started(message);
      return;
    }
    if (message.ev !== undefined) {
      if (message.ev !== this.lastEv + 1) {
        throw new ProtocolError(`event ${message.ev} follows event ${this.lastEv}`);
      }
      this.lastEv = message.ev;
    }
    if (message.context_index === undefined) this.#takeAboutSession(message);
    else this.#takeAboutContext(message);
  }

  #takeAboutSession(message) {
    if (message.type === 'error' && message.ends === 'session') this.#error = message;
    else if (message.type === 'session.ended') this.#endReason = message.reason;
    else if (message.type === 'session.draining') this.#handlers.draining(message);
    else if (message.type === 'error' || message.type === 'warning') this.#handlers.notice(message);
  }

  #takeAboutContext(message) {
    const context = this.#contexts.get(message.context_id);
    if (!context) throw new ProtocolError(`${message.type} for a context that is not live`);
    if (message.type === 'context.started') {
      this.#byIndex.set(message.context_index, context);
      return;
    }
    if (this.#byIndex.get(message.context_index) !== context) {
      throw new ProtocolError(`${message.type} with the index of another context`);
    }
    if (context.takeMessage(message)) {
      this.#contexts.delete(context.id);
      this.#byIndex.delete(message.context_index);
    }
  }

  #close(code) {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const context of this.#contexts.values()) context.lose();
    this.#handlers.closed({ code, reason: this.#endReason, error: this.#error });
  }
}
