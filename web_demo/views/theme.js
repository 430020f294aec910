/** Light, dark, or as the system has it. */

import { byId } from './dom.js';

const THEMES = ['auto', 'light', 'dark'];
const LABELS = { auto: 'themeAuto', light: 'themeLight', dark: 'themeDark' };

export class ThemeView {
  #button = byId('theme');
  #preferences;
  #t;

  constructor(preferences, t) {
    this.#preferences = preferences;
    this.#t = t;
    this.#show();
    this.#button.addEventListener('click', () => {
      const next = (THEMES.indexOf(preferences.theme) + 1) % THEMES.length;
      preferences.theme = THEMES[next];
      this.#show();
    });
  }

  #show() {
    const { theme } = this.#preferences;
    document.documentElement.dataset.theme = theme;
    this.#button.title = this.#t(LABELS[theme]);
    this.#button.setAttribute('aria-label', this.#t(LABELS[theme]));
  }
}
