/** Small steps that every view takes. */

/** Returns the element of this id, which the page must have. */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

/** Makes an element with a class and text. */
export function make(name, className = '', text = '') {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** Puts the strings into the page: `data-text`, `data-label`, `data-placeholder`, `data-title`. */
export function translate(root, language, t) {
  document.documentElement.lang = language;
  for (const element of root.querySelectorAll('[data-text]')) element.textContent = t(element.dataset.text);
  for (const [name, attribute] of [
    ['label', 'aria-label'],
    ['placeholder', 'placeholder'],
    ['title', 'title'],
  ]) {
    for (const element of root.querySelectorAll(`[data-${name}]`)) {
      element.setAttribute(attribute, t(element.dataset[name]));
    }
  }
}
