/**
 * The audio thread's part of the player: a ring buffer for each track, played one after another.
 *
 * It counts the samples that really went to the output, and says when a track ran dry. It never plays a
 * step: when it must stop before the sound does, it fades out over the samples it has, and fades in again.
 * One file without imports, since not every browser imports modules into a worklet.
 */

const POSITION_INTERVAL_S = 0.02;

/** Samples in order; grows when they come faster than they go. */
class SampleRing {
  #samples;
  #start = 0;

  constructor(capacity) {
    this.#samples = new Float32Array(capacity);
    this.length = 0;
  }

  push(samples) {
    if (this.length + samples.length > this.#samples.length) this.#grow(this.length + samples.length);
    const at = (this.#start + this.length) % this.#samples.length;
    const head = samples.subarray(0, this.#samples.length - at);
    this.#samples.set(head, at);
    this.#samples.set(samples.subarray(head.length), 0);
    this.length += samples.length;
  }

  /** Moves the oldest samples to `out`, which must not be longer than what is here. */
  pull(out) {
    const head = this.#samples.subarray(this.#start, this.#start + out.length);
    out.set(head);
    out.set(this.#samples.subarray(0, out.length - head.length), head.length);
    this.#start = (this.#start + out.length) % this.#samples.length;
    this.length -= out.length;
  }

  /** Forgets the newest samples. */
  dropLast(count) {
    this.length -= Math.min(count, this.length);
  }

  #grow(needed) {
    const kept = new Float32Array(this.length);
    this.pull(kept);
    this.#samples = new Float32Array(Math.max(needed, 2 * this.#samples.length));
    this.#samples.set(kept);
    this.#start = 0;
    this.length = kept.length;
  }
}

/** One context's audio. */
class Track {
  constructor(key) {
    this.key = key;
    this.ring = new SampleRing(4 * sampleRate);
    this.isEnded = false; // all of it is in the ring
    this.isPlaying = false;
    this.hasStarted = false;
    this.played = 0;
    this.waited = 0; // samples of silence since something has been waiting in the ring
    this.fadedIn = Infinity; // samples since a fade-in began
  }
}

class PlayerProcessor extends AudioWorkletProcessor {
  #prebuffer;
  #fade;
  #tracks = [];
  #tail = null; // samples that fade out: {track, samples, at}
  #sincePosition = 0;

  constructor({ processorOptions }) {
    super();
    this.#prebuffer = processorOptions.prebufferSamples;
    this.#fade = processorOptions.fadeSamples;
    this.port.onmessage = ({ data }) => this.#obey(data);
  }

  // --- from the page

  #obey(message) {
    if (message.type === 'open') {
      this.#tracks.push(new Track(message.key));
      return;
    }
    if (message.type === 'stop') {
      this.#stop(message.keys);
      return;
    }
    const track = this.#tracks.find(({ key }) => key === message.key);
    if (!track) return; // stopped while this was on its way
    if (message.type === 'push') track.ring.push(message.samples);
    else this.#end(track, message.totalSamples);
  }

  /** No more follows; what is beyond `totalSamples` is a codec's padding. */
  #end(track, totalSamples) {
    track.isEnded = true;
    const surplus = track.played + this.#tailLeft(track) + track.ring.length - totalSamples;
    if (surplus > 0) track.ring.dropLast(surplus);
  }

  /** Answers at once, so that the server can be told; the sound is gone after the fade. */
  #stop(keys) {
    const stopped = [];
    for (const track of this.#tracks.filter(({ key }) => keys.includes(key))) {
      if (track.isPlaying) this.#fadeOut(track, Math.min(this.#fade, track.ring.length));
      stopped.push([track.key, track.played + this.#tailLeft(track)]);
    }
    this.#tracks = this.#tracks.filter(({ key }) => !keys.includes(key));
    this.port.postMessage({ type: 'stopped', tracks: stopped });
  }

  #tailLeft(track) {
    return this.#tail?.track === track ? this.#tail.samples.length - this.#tail.at : 0;
  }

  #fadeOut(track, count) {
    const samples = new Float32Array(count);
    track.ring.pull(samples);
    const length = Math.min(this.#fade, count);
    for (let i = 0; i < length; i += 1) samples[count - length + i] *= 1 - (i + 1) / length;
    this.#tail = { track, samples, at: 0 };
    track.isPlaying = false;
    track.waited = 0;
    track.fadedIn = 0;
  }

  // --- to the loudspeaker

  process(inputs, outputs) {
    const out = outputs[0][0];
    let at = this.#playTail(out, 0);
    while (at < out.length && this.#tracks.length > 0) {
      const track = this.#tracks[0];
      if (!track.isPlaying && !this.#starts(track, out.length - at)) break;
      at = this.#play(track, out, at);
      if (track.isEnded && track.ring.length === 0 && !this.#tail) this.#finish(track);
    }
    this.#report(out.length);
    return true;
  }

  #starts(track, quantum) {
    if (track.ring.length > 0) track.waited += quantum;
    const isReady = track.ring.length >= this.#prebuffer || track.waited >= this.#prebuffer;
    if (!isReady && !track.isEnded) return false;
    track.isPlaying = true;
    if (!track.hasStarted && track.ring.length > 0) {
      track.hasStarted = true;
      this.port.postMessage({ type: 'started', key: track.key });
    }
    return true;
  }

  #play(track, out, at) {
    const wanted = out.length - at;
    // A fade needs samples, so the last ones before a dry spell are kept for it.
    if (!track.isEnded && track.ring.length < wanted + this.#fade) {
      this.#fadeOut(track, track.ring.length);
      this.port.postMessage({ type: 'dry', key: track.key });
      return this.#playTail(out, at);
    }
    const target = out.subarray(at, at + Math.min(wanted, track.ring.length));
    track.ring.pull(target);
    for (let i = 0; track.fadedIn < this.#fade && i < target.length; i += 1) {
      target[i] *= track.fadedIn / this.#fade;
      track.fadedIn += 1;
    }
    track.played += target.length;
    return at + target.length;
  }

  #playTail(out, at) {
    if (!this.#tail) return at;
    const { track, samples, at: from } = this.#tail;
    const part = samples.subarray(from, from + out.length - at);
    out.set(part, at);
    this.#tail.at += part.length;
    track.played += part.length;
    if (this.#tail.at === samples.length) this.#tail = null;
    return at + part.length;
  }

  #finish(track) {
    this.#tracks.shift();
    this.port.postMessage({ type: 'finished', key: track.key, played: track.played });
  }

  #report(quantum) {
    this.#sincePosition += quantum;
    if (this.#tracks.length === 0 || this.#sincePosition < POSITION_INTERVAL_S * sampleRate) return;
    this.#sincePosition = 0;
    const tracks = this.#tracks.map(({ key, played, ring }) => [key, played, ring.length]);
    this.port.postMessage({ type: 'position', tracks });
  }
}

registerProcessor('player', PlayerProcessor);
