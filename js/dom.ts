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

/** A text whose *starred* parts are bold; it keeps the room of its longest so far. */
export class Fact {
  readonly element = element("span", "tw-fact");
  private readonly text = element("span");
  private readonly room = element("span", "tw-room");
  private shown = "";
  private longest = "";

  constructor() {
    this.room.ariaHidden = "true";
    this.element.append(this.text, this.room);
  }

  /** Keeps room for a text that is not there yet. */
  reserve(text: string): void {
    if (text.length <= this.longest.length) return;
    this.longest = text;
    write(this.room, text);
  }

  set(text: string): void {
    if (text === this.shown) return;
    this.shown = text;
    this.reserve(text);
    write(this.text, text);
  }
}

function write(target: Element, text: string): void {
  const parts = text.split("*").map((part, i) => {
    if (i % 2 === 0) return part;
    const bold = element("b");
    bold.textContent = part;
    return bold;
  });
  target.replaceChildren(...parts);
}
