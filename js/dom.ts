// Elements, made in one line. Knows nothing of what they are for.

/** A new element of a class. */
export function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  className = "",
): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}

/** A new button of a name. */
export function button(name: string): HTMLButtonElement {
  const made = element("button");
  made.type = "button";
  made.textContent = name;
  return made;
}

/** Writes a text that is not there already: what is read aloud is read once. */
export function setText(target: Element, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}
