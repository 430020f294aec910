/** Raw Opus packets to samples by WebCodecs, which gives 48 kHz whatever the packets were made from. */

const OUTPUT_HZ = 48000;
const CONFIG = { codec: 'opus', sampleRate: OUTPUT_HZ, numberOfChannels: 1 };

/** Returns why this browser cannot decode Opus, as a key of the strings; null when it can. */
export async function whyNoOpus() {
  if (!('AudioDecoder' in window)) return 'noWebCodecs';
  const { supported } = await AudioDecoder.isConfigSupported(CONFIG);
  return supported ? null : 'noOpusDecoder';
}

/** Decodes one context's packets and drops the codec's delay from their start. */
export class OpusDecoder {
  #decoder;
  #packetUs;
  #packets = 0;
  #toDrop;

  /**
   * @param {{sample_rate: number, frame_ms: number, pre_skip: number}} audio as negotiated
   * @param {(samples: Float32Array) => void} onSamples
   * @param {(error: DOMException) => void} onError
   */
  constructor(audio, onSamples, onError) {
    this.#packetUs = audio.frame_ms * 1000;
    this.#toDrop = Math.round((audio.pre_skip * OUTPUT_HZ) / audio.sample_rate);
    this.#decoder = new AudioDecoder({
      output: (data) => this.#take(data, onSamples),
      error: onError,
    });
    this.#decoder.configure(CONFIG);
  }

  decode(payload) {
    if (payload.byteLength === 0 || this.#decoder.state !== 'configured') return;
    const timestamp = this.#packets * this.#packetUs;
    this.#packets += 1;
    this.#decoder.decode(
      new EncodedAudioChunk({ type: 'key', timestamp, duration: this.#packetUs, data: payload }),
    );
  }

  /** Resolves when every sample has been handed out. */
  async finish() {
    if (this.#decoder.state !== 'configured') return;
    await this.#decoder.flush().catch(() => {}); // closed meanwhile, or failed: `onError` has been told
    this.close();
  }

  close() {
    if (this.#decoder.state !== 'closed') this.#decoder.close();
  }

  #take(data, onSamples) {
    const samples = new Float32Array(data.numberOfFrames);
    data.copyTo(samples, { planeIndex: 0, format: 'f32-planar' });
    data.close();
    const dropped = Math.min(this.#toDrop, samples.length);
    this.#toDrop -= dropped;
    if (dropped < samples.length) onSamples(samples.slice(dropped));
  }
}
