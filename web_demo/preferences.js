/** What a person chose, kept in this browser where it lets us. */

const STORAGE_KEY = 'cosyduplex';
const DEFAULTS = { voice: '', codec: 'pcm_s16le/24000', speed: 1, live: true, theme: 'auto' };

/** Returns an object whose changes are kept. */
export function loadPreferences() {
  return new Proxy(
    { ...DEFAULTS, ...parse(read('localStorage')) },
    {
      set(values, name, value) {
        values[name] = value;
        write('localStorage', JSON.stringify(values));
        return true;
      },
    },
  );
}

/** Returns the key that was used in this tab before, or "". */
export function loadKey() {
  return read('sessionStorage') ?? '';
}

/** Keeps a key until the tab is closed. */
export function saveKey(key) {
  write('sessionStorage', key);
}

function read(storage) {
  try {
    return window[storage].getItem(STORAGE_KEY);
  } catch {
    return null; // storage is blocked
  }
}

function write(storage, value) {
  try {
    window[storage].setItem(STORAGE_KEY, value);
  } catch {
    // Storage is blocked or full: the choice holds until the page is left.
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {}; // written by something else
  }
}
