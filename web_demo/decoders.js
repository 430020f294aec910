/** From frames' payloads to samples; the one for Opus is in a module of its own. */

import { OpusDecoder } from './opus-decoder.js';

const OPUS_OUTPUT_HZ = 48000;

class PcmDecoder {
  #onSamples;

  constructor(onSamples) {
    this.#onSamples = onSamples;
  }

  decode(payload) {
    const count = payload.byteLength >> 1;
    if (count === 0) return;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    const samples = new Float32Array(count);
    for (let i = 0; i < count; i += 1) samples[i] = view.getInt16(2 * i, true) / 32768;
    this.#onSamples(samples);
  }

  async finish() {}

  close() {}
}

/** Returns the rate at which decoded audio of this format must be played. */
export function playbackRate(audio) {
  return audio.encoding === 'opus' ? OPUS_OUTPUT_HZ : audio.sample_rate;
}

/** Makes a decoder for one context: `decode(payload)`, then `await finish()` or `close()`. */
export function makeDecoder(audio, onSamples, onError) {
  return audio.encoding === 'opus' ? new OpusDecoder(audio, onSamples, onError) : new PcmDecoder(onSamples);
}
