/**
 * Plays tracks of samples one after another through an AudioWorklet, and knows how much was really heard.
 *
 * A track is one context's audio. Events of the player: `state` (sound is on or off), `position` (about
 * every 20 ms while something plays or waits).
 */

const PREBUFFER_MS = 150;
const FADE_MS = 10;
const STOP_TIMEOUT_MS = 50;

/** Returns why this browser cannot play here, as a key of the strings; null when it can. */
export function whyNoSound() {
  if (!window.isSecureContext) return 'insecure';
  if (!('AudioWorkletNode' in window)) return 'noWorklet';
  return null;
}

/** One context's audio, from its first sample to its end. */
class Track {
  #player;

  constructor(player, key, handlers) {
    this.key = key;
    this.handlers = handlers;
    this.#player = player;
    this.playedSamples = 0;
    this.bufferedSamples = 0;
    this.isOver = false;
  }

  /** Milliseconds of this track the listener has heard: played, less what is still on its way out. */
  get heardMs() {
    const heard = this.playedSamples - (this.isOver ? 0 : this.#player.latencySamples);
    return (Math.max(0, heard) * 1000) / this.#player.sampleRate;
  }

  get bufferedMs() {
    return (this.bufferedSamples * 1000) / this.#player.sampleRate;
  }

  /** Takes samples; they belong to the player from here on. */
  push(samples) {
    if (this.isOver) return;
    this.#player.post({ type: 'push', key: this.key, samples }, [samples.buffer]);
  }

  /** No more follows. What is beyond `totalSamples`, if given, is not played. */
  end(totalSamples) {
    this.#player.post({ type: 'end', key: this.key, totalSamples });
  }
}

export class Player extends EventTarget {
  #sampleRate;
  #context = null;
  #node = null;
  #starting = null;
  #waiting = []; // what is for the worklet, until there is one
  #tracks = new Map();
  #nextKey = 0;
  #onStopped = []; // the worklet answers stops in order

  /** @param {number} sampleRate of all tracks */
  constructor(sampleRate) {
    super();
    this.#sampleRate = sampleRate;
  }

  get sampleRate() {
    return this.#sampleRate;
  }

  /** Changes the rate of all tracks; those that are open are lost. */
  setSampleRate(sampleRate) {
    if (sampleRate === this.#sampleRate) return;
    this.#sampleRate = sampleRate;
    const wasUnlocked = this.#starting !== null;
    this.#context?.close();
    this.#tracks.clear();
    this.#context = this.#node = this.#starting = null;
    this.#waiting = [];
    if (wasUnlocked) this.unlock();
  }

  /** Whether sound comes out; browsers allow it only after a click or a key. */
  get isOn() {
    return this.#node !== null && this.#context.state === 'running';
  }

  /** Samples handed to the output that the listener has not heard yet. */
  get latencySamples() {
    if (!this.#context) return 0;
    const latency = this.#context.outputLatency || this.#context.baseLatency || 0;
    return Math.round(latency * this.#sampleRate);
  }

  /** Milliseconds of sound that wait to be played, over all tracks. */
  get bufferedMs() {
    let samples = 0;
    for (const track of this.#tracks.values()) samples += track.bufferedSamples;
    return (samples * 1000) / this.#sampleRate;
  }

  /** Turns the sound on; must be called from a click or a key press, and may be called again. */
  async unlock() {
    this.#starting ??= this.#start();
    await this.#starting;
    if (this.#context?.state !== 'running') await this.#context?.resume();
  }

  async #start() {
    if (navigator.audioSession) navigator.audioSession.type = 'playback'; // else iOS' mute switch silences it
    const context = new AudioContext({ sampleRate: this.#sampleRate, latencyHint: 'interactive' });
    this.#context = context;
    context.addEventListener('statechange', () => {
      if (context === this.#context) this.dispatchEvent(new Event('state'));
    });
    try {
      await context.audioWorklet.addModule(new URL('player-worklet.js', import.meta.url));
    } catch (error) {
      this.#starting = null; // the server was away: the next click tries again
      context.close();
      throw error;
    }
    if (context !== this.#context) return; // the rate has changed meanwhile
    this.#node = new AudioWorkletNode(context, 'player', {
      numberOfInputs: 0,
      outputChannelCount: [1],
      processorOptions: {
        prebufferSamples: Math.round((PREBUFFER_MS * this.#sampleRate) / 1000),
        fadeSamples: Math.round((FADE_MS * this.#sampleRate) / 1000),
      },
    });
    this.#node.port.onmessage = ({ data }) => this.#take(data);
    this.#node.connect(context.destination);
    for (const [message, transfer] of this.#waiting.splice(0)) this.#node.port.postMessage(message, transfer);
    this.dispatchEvent(new Event('state'));
  }

  /**
   * Queues a track behind those that are open.
   *
   * Handlers: `started()` with its first sample, `dry()` when it waits for samples in the middle,
   * `heard()` once its last sample has been heard; not for a track that is stopped.
   */
  open(handlers) {
    this.#nextKey += 1;
    const track = new Track(this, this.#nextKey, handlers);
    this.#tracks.set(track.key, track);
    this.post({ type: 'open', key: track.key });
    return track;
  }

  /** Silences tracks within one fade; resolves once their `playedSamples` are final. */
  async stop(tracks) {
    const live = tracks.filter((track) => !track.isOver);
    if (live.length === 0) return;
    const stopped = new Promise((resolve) => {
      this.#onStopped.push(resolve);
      setTimeout(resolve, STOP_TIMEOUT_MS); // a suspended worklet may not answer
    });
    this.post({ type: 'stop', keys: live.map(({ key }) => key) });
    await stopped;
    for (const track of live) this.#drop(track);
    this.dispatchEvent(new Event('position'));
  }

  /** Hands a message to the worklet, for tracks alone. */
  post(message, transfer = []) {
    if (this.#node) this.#node.port.postMessage(message, transfer);
    else this.#waiting.push([message, transfer]);
  }

  #take(message) {
    if (message.type === 'position') this.#takePositions(message.tracks);
    else if (message.type === 'stopped') this.#takeStopped(message.tracks);
    else if (message.type === 'finished') this.#takeFinished(message);
    else this.#tracks.get(message.key)?.handlers[message.type]();
  }

  #takePositions(positions) {
    for (const [key, played, buffered] of positions) {
      const track = this.#tracks.get(key);
      if (track) [track.playedSamples, track.bufferedSamples] = [played, buffered];
    }
    this.dispatchEvent(new Event('position'));
  }

  #takeStopped(positions) {
    for (const [key, played] of positions) {
      const track = this.#tracks.get(key);
      if (track) track.playedSamples = Math.max(0, played - this.latencySamples);
    }
    this.#onStopped.shift()?.();
  }

  #takeFinished({ key, played }) {
    const track = this.#tracks.get(key);
    if (!track) return;
    [track.playedSamples, track.bufferedSamples] = [played, 0];
    this.dispatchEvent(new Event('position'));
    setTimeout(() => {
      if (track.isOver) return;
      this.#drop(track);
      track.handlers.heard();
    }, (this.latencySamples * 1000) / this.#sampleRate);
  }

  #drop(track) {
    track.isOver = true;
    track.bufferedSamples = 0;
    this.#tracks.delete(track.key);
  }
}
