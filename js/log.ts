// The messages: what happened, newest first; an error's traceback is folded.

import { clock } from "./format";
import type { Note } from "./protocol";

const SHOWN = 50;

export class Log {
  readonly element = document.createElement("div");
  private newest = 0;

  constructor() {
    this.element.className = "tw-log";
    this.element.setAttribute("role", "log");
    this.element.setAttribute("aria-label", "Messages");
    this.element.tabIndex = 0;
  }

  /** Shows the notes; those that are shown already stay untouched. */
  update(notes: readonly Note[]): void {
    const last = notes.at(-1)?.seq ?? 0;
    if (last === this.newest) return;
    if (last < this.newest) this.element.replaceChildren();
    const shown = last < this.newest ? 0 : this.newest;
    for (const note of notes) {
      if (note.seq <= shown) continue;
      this.element.querySelector(`[data-id="${note.id}"]`)?.remove();
      this.element.prepend(line(note));
    }
    while (this.element.childElementCount > SHOWN)
      this.element.lastElementChild?.remove();
    this.newest = last;
  }
}

function line(note: Note): HTMLElement {
  const row = document.createElement("div");
  row.className = `tw-note tw-${note.level}`;
  row.dataset.id = String(note.id);
  const time = document.createElement("span");
  time.className = "tw-time";
  time.textContent = note.elapsed === null ? "" : clock(note.elapsed);
  const text = document.createElement("span");
  // Of good news only what it is: "new best", "finished".
  const [head, ...rest] = note.level === "good" ? note.text.split(": ") : [note.text];
  const what = document.createElement("em");
  what.textContent = head!;
  text.append(what, ...rest.map((part) => `: ${part}`));
  row.append(time, text);
  if (note.detail) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = "Traceback";
    const trace = document.createElement("pre");
    trace.textContent = note.detail;
    details.append(summary, trace);
    row.append(details);
  }
  return row;
}
