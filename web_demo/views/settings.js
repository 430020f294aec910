/** Voice, codec and speed: what there is, what of it works here, what is chosen. */

import { byId, make } from './dom.js';

const CODECS = [
  { encoding: 'pcm_s16le', sample_rate: 24000 },
  { encoding: 'pcm_s16le', sample_rate: 48000 },
  { encoding: 'opus', sample_rate: 24000, profile: 'speech' },
  { encoding: 'opus', sample_rate: 48000, profile: 'speech' },
];

const keyOf = ({ encoding, sample_rate }) => `${encoding}/${sample_rate}`;

/** Returns the codec's name, as "Opus 24 kHz". */
export function nameOfCodec({ encoding, sample_rate }, t) {
  return t(encoding === 'opus' ? 'codecOpus' : 'codecPcm', { rate: sample_rate / 1000 });
}

export class SettingsView {
  #voice = byId('voice');
  #codec = byId('codec');
  #speed = byId('speed');
  #speedValue = byId('speed-value');
  #notes = byId('engine-notes');
  #panel = byId('settings');
  #preferences;
  #browserLacksOpus;
  #t;

  /**
   * @param {string | null} browserLacksOpus why, as a key of the strings
   * @param {{onCodec: () => void}} actions
   */
  constructor(preferences, browserLacksOpus, t, { onCodec }) {
    this.#preferences = preferences;
    this.#browserLacksOpus = browserLacksOpus;
    this.#t = t;
    this.#speed.value = preferences.speed;
    this.#showSpeed();
    this.#voice.addEventListener('change', () => (preferences.voice = this.#voice.value));
    this.#speed.addEventListener('input', () => {
      preferences.speed = this.#speed.valueAsNumber;
      this.#showSpeed();
    });
    this.#codec.addEventListener('change', () => {
      preferences.codec = this.#codec.value;
      onCodec();
    });
    this.#voice.title = this.#speed.title = t('appliesNext');
    this.#showCodecs(null);
    this.#closeOnPhones();
  }

  /** The audio to ask for: the chosen one, or the first where it does not work. */
  audioFor(info) {
    const chosen = CODECS.find((codec) => keyOf(codec) === this.#preferences.codec);
    return chosen && !this.#whyNot(chosen, info) ? chosen : CODECS[0];
  }

  /** What the next utterance is asked for with. */
  get speechOptions() {
    const options = this.#voice.value ? { voice: this.#voice.value } : {};
    if (!this.#speed.disabled && this.#speed.valueAsNumber !== 1) {
      options.speech = { speed: this.#speed.valueAsNumber };
    }
    return options;
  }

  /** Shows what the server has. */
  show(info, voices) {
    const groups = Map.groupBy(voices, ({ language }) => language);
    this.#voice.replaceChildren(
      ...[...groups].map(([language, members]) => {
        const group = make('optgroup');
        group.label = nameOfLanguage(language);
        group.append(...members.map(({ id, name }) => new Option(name, id)));
        return group;
      }),
    );
    if (voices.some(({ id }) => id === this.#preferences.voice)) this.#voice.value = this.#preferences.voice;
    this.#speed.disabled = !info.speech_parameters.includes('speed');
    if (this.#speed.disabled) this.#speed.title = this.#t('speedUnknown');
    this.#notes.textContent = info.notes[0] ?? '';
    this.#showCodecs(info);
  }

  #showCodecs(info) {
    this.#codec.replaceChildren(
      ...CODECS.map((codec) => {
        const name = nameOfCodec(codec, this.#t);
        const reason = this.#whyNot(codec, info);
        const option = new Option(reason ? `${name} (${this.#t(reason)})` : name, keyOf(codec));
        option.disabled = reason !== null;
        return option;
      }),
    );
    this.#codec.value = keyOf(this.audioFor(info));
  }

  #whyNot({ encoding }, info) {
    if (encoding === 'opus' && this.#browserLacksOpus) return this.#browserLacksOpus;
    const isServed = !info || info.codecs.some((codec) => codec.encoding === encoding);
    return isServed ? null : 'serverNoOpus';
  }

  #showSpeed() {
    this.#speedValue.textContent = `${this.#speed.valueAsNumber.toFixed(2)}×`;
  }

  #closeOnPhones() {
    const isNarrow = window.matchMedia('(max-width: 60rem)');
    const follow = () => (this.#panel.open = !isNarrow.matches);
    isNarrow.addEventListener('change', follow);
    follow();
  }
}

function nameOfLanguage(tag) {
  try {
    return new Intl.DisplayNames([document.documentElement.lang], { type: 'language' }).of(tag);
  } catch {
    return tag; // not a language tag
  }
}
