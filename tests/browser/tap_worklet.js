// Passes sound on and reports it in blocks, with the frame each begins at.
const BLOCK_FRAMES = 2048;

class Tap extends AudioWorkletProcessor {
  #samples = new Float32Array(BLOCK_FRAMES);
  #length = 0;
  #frame = 0;

  process([input], [output]) {
    const samples = input[0];
    if (this.#length === 0) this.#frame = currentFrame;
    if (samples) {
      output[0].set(samples);
      this.#samples.set(samples, this.#length);
    } else {
      this.#samples.fill(0, this.#length, this.#length + output[0].length);
    }
    this.#length += output[0].length;
    if (this.#length === BLOCK_FRAMES) {
      this.port.postMessage({ frame: this.#frame, samples: this.#samples.slice() });
      this.#length = 0;
    }
    return true;
  }
}

registerProcessor('tap', Tap);
