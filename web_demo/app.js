/** Wires the page: who tells whom what. */

import { Api } from './api.js';
import { playbackRate } from './decoders.js';
import { Link } from './link.js';
import { whyNoOpus } from './opus-decoder.js';
import { Player, whyNoSound } from './player.js';
import { loadKey, loadPreferences, saveKey } from './preferences.js';
import { Speaker } from './speaker.js';
import { stringsFor } from './strings.js';
import { TypedText } from './typing.js';
import { byId, make, translate } from './views/dom.js';
import { ComposerView } from './views/composer.js';
import { MetersView } from './views/meters.js';
import { nameOfCodec, SettingsView } from './views/settings.js';
import { StatusView } from './views/status.js';
import { ThemeView } from './views/theme.js';
import { TranscriptView } from './views/transcript.js';

const MAX_AHEAD_MS = 3000;
const SAMPLES = [
  'Hello! I begin to speak while you are still typing.',
  '你好，很高兴认识你。今天想聊点什么？',
  'The train leaves at 7:45, platform 3. 请在三号站台上车 🚄, and mind the gap.',
];

async function main() {
  const { language, t } = stringsFor(navigator.languages);
  translate(document, language, t);
  const preferences = loadPreferences();
  new ThemeView(preferences, t);

  const api = new Api(document.baseURI);
  api.key = loadKey();
  const noSound = whyNoSound();
  const settings = new SettingsView(preferences, await whyNoOpus(), t, { onCodec: () => changeCodec() });
  const link = new Link(api, (info) => ({
    audio: settings.audioFor(info),
    flow: { max_ahead_ms: MAX_AHEAD_MS },
    marks: true,
  }));
  const player = new Player(playbackRate(settings.audioFor(null)));
  const speaker = new Speaker(player);
  const isReady = () => link.state === 'ready' && !noSound;
  const typed = new TypedText({
    begin: () => speaker.begin(settings.speechOptions),
    replace: (speech) => speaker.replace(speech),
    isReady,
  });

  const transcript = new TranscriptView(t, { onAgain: ({ text }) => say(text) });
  const meters = new MetersView(t);
  const composer = new ComposerView(typed, preferences, { onStop: stop, onChange: () => link.wake() });
  const status = new StatusView(t, {
    onTryNow: () => link.connect(),
    onKey: (key) => {
      saveKey(key);
      link.setKey(key);
    },
  });

  let toSay = null; // as soon as there is a session
  function say(text) {
    toSay = isReady() ? null : text;
    if (toSay) return link.wake();
    const speech = speaker.begin(settings.speechOptions);
    speech.append(text);
    speech.end();
  }

  function stop() {
    speaker.stop();
    composer.abandon();
  }

  function changeCodec() {
    stop();
    link.connect();
  }

  // --- the link

  link.addEventListener('state', () => status.showLink(link));
  link.addEventListener('notice', ({ detail }) => status.showRemark(detail));
  link.addEventListener('session', () => {
    const { audio } = link.started;
    settings.show(link.info, link.voices);
    meters.showFormat(nameOfCodec(audio, t));
    if (player.sampleRate !== playbackRate(audio)) {
      speaker.stop();
      player.setSampleRate(playbackRate(audio));
    }
    speaker.use(link.session, audio);
    composer.resume();
    if (toSay) say(toSay);
  });
  link.addEventListener('draining', () => typed.rest()); // what was typed is still spoken to its end
  window.addEventListener('online', () => link.state === 'waiting' && link.connect());

  // --- what is spoken

  let latest = null;
  speaker.addEventListener('begin', ({ detail: { utterance } }) => {
    latest = utterance;
    status.clearRemark();
    transcript.add(utterance);
    composer.showSpeaking(true);
  });
  speaker.addEventListener('text', ({ detail: { utterance, added } }) => transcript.addText(utterance, added));
  speaker.addEventListener('words', ({ detail: { utterance, words } }) => transcript.addWords(utterance, words));
  speaker.addEventListener('progress', ({ detail: { utterance } }) => transcript.showProgress(utterance));
  speaker.addEventListener('discard', ({ detail: { utterance } }) => transcript.remove(utterance));
  speaker.addEventListener('notice', ({ detail }) => status.showRemark(detail));
  speaker.addEventListener('state', ({ detail: { utterance } }) => {
    const described = transcript.showState(utterance);
    if (utterance.failure || utterance.spokenEnd !== null) status.announce(described);
    if (utterance === latest || utterance.state === 'speaking') meters.show(utterance);
    composer.showSpeaking(speaker.isSpeaking);
  });

  // --- sound

  player.addEventListener('position', () => {
    meters.showBuffer(player.bufferedMs, latest?.underruns ?? 0, performance.now());
  });
  let hasBeenOn = false;
  player.addEventListener('state', () => {
    hasBeenOn ||= player.isOn;
    showSound(hasBeenOn);
    status.showSuspended(hasBeenOn && !player.isOn);
  });
  function showSound(isOn) {
    byId('sound').hidden = isOn;
    byId('welcome-hint').textContent = t(isOn ? 'soundReady' : 'soundOffHint');
  }
  for (const sample of SAMPLES) {
    const chip = make('button', 'chip', sample);
    chip.type = 'button';
    chip.addEventListener('click', () => say(sample));
    byId('samples').append(chip);
  }

  if (noSound) {
    status.showBlocked(noSound);
    composer.disable();
    for (const id of ['sound', 'welcome-hint', 'samples']) byId(id).hidden = true;
  } else {
    // Any click or key will do, but only where the browser takes it as the person's own.
    const unlock = () => navigator.userActivation?.isActive !== false && player.unlock();
    for (const gesture of ['pointerdown', 'pointerup', 'keydown']) document.addEventListener(gesture, unlock);
    const hasKeyboard = window.matchMedia('(pointer: fine)').matches;
    byId('sound').addEventListener('click', () => hasKeyboard && composer.focus());
  }
  link.connect();
}

main();
