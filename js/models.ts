// The library below the panel: models by name, what can be done with them, and those
// on show. Knows entries and jobs, nothing of how they travel.

import { Board } from "./board";
import { button, element, setText } from "./dom";
import { partsOf } from "./files";
import { amount, end, isOpen, short, whole } from "./format";
import type { Demo, Entry, Job, Library, Status } from "./protocol";

const MAX_CHOSEN = 2;
const WHICH: [string, string][] = [
  ["current", "Current model"],
  ["best_eval", "Best model"],
  ["best", "Best game"],
];
type Key = Exclude<keyof Entry, "lower" | "upper">;
const COLUMNS: [Key, string][] = [
  ["name", "Name"],
  ["mean_lines", "Lines per game"],
  ["best_lines", "Best game"],
  ["timesteps", "Timesteps"],
  ["algorithm", "Algorithm"],
  ["saved_at", "Saved"],
  ["notes", "Notes"],
];

export interface Order {
  key: Key;
  isDescending: boolean;
}

/** The models in an order; what is not known comes last. */
export function sorted(entries: readonly Entry[], order: Order): Entry[] {
  const sign = order.isDescending ? -1 : 1;
  return [...entries].sort((one, other) => {
    const [a, b] = [one[order.key], other[order.key]];
    if (a === null || b === null) return Number(a === null) - Number(b === null);
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
  });
}

/** "120 (80 to 200)", or "≥ 3.4 M" where no game has ended. */
export function linesText({ mean_lines: mean, lower, upper }: Entry): string {
  if (mean === null) return "–";
  if (lower === null || upper === null) return amount(mean);
  if (isOpen(mean, upper)) return `≥ ${end(lower)}`;
  return `${amount(mean)} (${end(lower)} to ${end(upper)})`;
}

/** Seconds since 1970 as "2026-11-23 09:15", where the person is. */
export function dateText(seconds: number): string {
  const date = new Date(seconds * 1000);
  const local = new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 16).replace("T", " ");
}

function cellText(entry: Entry, key: Key): string {
  if (key === "mean_lines") return linesText(entry);
  const value = entry[key];
  if (value === null) return "–";
  if (key === "saved_at") return dateText(Number(value));
  return typeof value === "number" ? whole(value) : value;
}

export class Models {
  readonly element = element("section", "tw-models");
  private readonly fold = button("");
  private readonly count = element("span", "tw-count");
  private readonly body = element("div", "tw-models-body");
  private readonly form = element("form", "tw-form");
  private readonly name = field("Name");
  private readonly notes = field("Notes");
  private readonly which = element("select");
  private readonly save = button("Save model");
  private readonly told = element("p", "tw-told");
  private readonly text = element("span");
  private readonly undo = button("Undo");
  private readonly watch = button("Watch");
  private readonly train = button("New run");
  private readonly share = button("Export");
  private readonly rename = button("Rename");
  private readonly remove = button("Delete");
  private readonly take = button("Import…");
  private readonly file = element("input");
  private readonly head = element("tr");
  private readonly rows = element("tbody");
  private readonly empty = element("p", "tw-empty");
  private readonly demo: Show;
  private order: Order = { key: "saved_at", isDescending: true };
  private library: Library | null = null;
  private chosen: string[] = [];
  private edited: string | null = null;
  /** A model whose row gets the focus when it is there. */
  private awaited: string | null = null;
  /** A chosen model's new name, which may be refused. */
  private renamed: { from: string; to: string } | null = null;
  /** Whether models on show were asked for here, not in another view. */
  private hasAsked = false;
  private drawn = "";
  private canStart = false;
  private alive = false;

  /** `send` carries out a job, with a file where it needs one. */
  constructor(
    private readonly send: (job: Job, file?: ArrayBuffer) => void,
    id: string,
    reduced: () => boolean,
  ) {
    this.demo = new Show(reduced, () => this.send({ do: "end_demo" }));
    this.element.setAttribute("aria-label", "Model library");
    this.fold.className = "tw-fold";
    this.fold.append(element("i", "tw-chevron"), "Models", this.count);
    this.fold.setAttribute("aria-expanded", "false");
    this.fold.setAttribute("aria-controls", id);
    this.fold.addEventListener("click", () => this.toggle());
    this.body.id = id;
    this.body.hidden = true;
    this.told.setAttribute("aria-live", "polite");
    this.undo.hidden = true;
    this.undo.addEventListener("click", () => {
      const name = this.library?.told?.undo;
      if (name) this.send({ do: "restore", name });
      this.awaited = name ?? null;
    });
    this.told.append(this.text, this.undo);
    this.body.append(
      this.buildForm(),
      this.told,
      this.buildActions(),
      this.buildTable(),
      this.demo.element,
    );
    this.element.append(this.fold, this.body);
  }

  /** Shows the library as it is now; what has not changed stays untouched. */
  update(library: Library | null, status: Status, alive: boolean): void {
    this.canStart = ["idle", "finished", "stopped", "failed"].includes(status.state);
    this.alive = alive;
    if (library !== this.library) {
      this.library = library;
      const names = new Set(library?.entries.map((entry) => entry.name));
      this.followRename(names);
      this.chosen = this.chosen.filter((name) => names.has(name));
      this.showTold();
      const boards = library?.boards ?? [];
      if (this.demo.show(boards, this.hasAsked)) this.hasAsked = false;
      if (library?.told?.level === "error") {
        this.hasAsked = false;
        this.renamed = null;
      }
    }
    this.name.input.placeholder = `at ${short(status.timesteps)} timesteps`;
    this.save.disabled = !alive || status.run_dir === null;
    this.showActions();
    // Not while a name is being written.
    const key = JSON.stringify([library?.entries, this.order, this.chosen]);
    if (key !== this.drawn && this.edited === null) {
      this.drawn = key;
      this.showRows();
    }
  }

  /** Takes moves of the models on show. */
  push(moves: readonly Demo[]): void {
    this.demo.push(moves);
  }

  /** Draws the models on show. */
  draw(now: number, pace: number, theme: number): void {
    if (!this.body.hidden) this.demo.draw(now, pace, theme);
  }

  /** Keeps a model chosen that has its new name by now. */
  private followRename(names: ReadonlySet<string>): void {
    if (!this.renamed) return;
    const { from, to } = this.renamed;
    if (names.has(from) || !names.has(to)) return;
    this.chosen = this.chosen.map((name) => (name === from ? to : name));
    this.renamed = null;
  }

  private toggle(): void {
    this.body.hidden = !this.body.hidden;
    this.fold.setAttribute("aria-expanded", String(!this.body.hidden));
    if (this.body.hidden && this.library?.boards.length) this.send({ do: "end_demo" });
  }

  private buildForm(): HTMLElement {
    for (const [value, text] of WHICH) {
      const option = element("option");
      Object.assign(option, { value, textContent: text });
      this.which.append(option);
    }
    this.which.setAttribute("aria-label", "Which model");
    this.save.type = "submit";
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      const { input } = this.name;
      const name = input.value || input.placeholder;
      const notes = this.notes.input.value;
      this.send({ do: "save", name, which: this.which.value, notes });
      input.value = "";
    });
    this.form.append(this.which, this.name.label, this.notes.label, this.save);
    return this.form;
  }

  private buildActions(): HTMLElement {
    const bar = element("div", "tw-actions");
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "Chosen models");
    this.train.title = "begin a new run with this model";
    this.watch.addEventListener("click", () => {
      this.hasAsked = true;
      this.send({ do: "demo", names: [...this.chosen] });
    });
    this.train.addEventListener("click", () => this.ask("train"));
    this.share.addEventListener("click", () => this.ask("export"));
    this.remove.addEventListener("click", () => this.ask("delete"));
    this.rename.addEventListener("click", () => this.edit());
    Object.assign(this.file, { type: "file", accept: ".zip", hidden: true });
    this.file.setAttribute("aria-label", "Model file");
    this.file.addEventListener("change", () => void this.upload());
    this.take.addEventListener("click", () => this.file.click());
    bar.append(this.watch, this.train, this.share, this.rename, this.remove);
    bar.append(this.take, this.file);
    return bar;
  }

  private buildTable(): HTMLElement {
    const table = element("table");
    const head = element("thead");
    this.head.append(element("th"));
    for (const [key, title] of COLUMNS) {
      const cell = element("th", `tw-${key}`);
      cell.scope = "col";
      const sort = button(title);
      sort.addEventListener("click", () => this.sortBy(key));
      cell.append(sort);
      this.head.append(cell);
    }
    head.append(this.head);
    table.setAttribute("aria-label", "Models");
    table.append(head, this.rows);
    this.empty.textContent = "No models yet: save one above, or import one.";
    const scroll = element("div", "tw-table");
    scroll.append(table, this.empty);
    return scroll;
  }

  private sortBy(key: Key): void {
    const isText = ["name", "algorithm", "notes"].includes(key);
    const isSame = this.order.key === key;
    this.order = { key, isDescending: isSame ? !this.order.isDescending : !isText };
  }

  private showTold(): void {
    const told = this.library?.told;
    setText(this.text, told?.text ?? "");
    this.told.dataset.level = told?.level ?? "info";
    // Its button is of no use now: the focus goes to the one that is.
    const hadFocus = (this.element.getRootNode() as Document).activeElement;
    this.undo.hidden = !told?.undo;
    if (told?.undo && hadFocus === this.remove) this.undo.focus();
    setText(this.count, this.library ? String(this.library.entries.length) : "");
  }

  /** Says what cannot be asked for, until the library says something else. */
  private refuse(text: string): void {
    setText(this.text, text);
    this.told.dataset.level = "error";
    this.undo.hidden = true;
  }

  private showActions(): void {
    const count = this.chosen.length;
    setText(this.watch, count === MAX_CHOSEN ? "Watch both" : "Watch");
    this.watch.disabled = !this.alive || count === 0;
    this.train.disabled = !this.alive || count !== 1 || !this.canStart;
    for (const one of [this.share, this.rename, this.remove]) {
      one.disabled = !this.alive || count !== 1;
    }
    this.take.disabled = !this.alive;
  }

  private showRows(): void {
    const focused = (this.rows.getRootNode() as Document).activeElement;
    const name = this.rows.contains(focused)
      ? (focused as HTMLInputElement).value
      : null;
    const entries = sorted(this.library?.entries ?? [], this.order);
    this.rows.replaceChildren(...entries.map((entry) => this.buildRow(entry)));
    this.empty.hidden = entries.length > 0;
    this.rows.closest("table")!.hidden = entries.length === 0;
    [...this.head.cells].slice(1).forEach((cell, i) => {
      const isSorted = COLUMNS[i]![0] === this.order.key;
      const direction = this.order.isDescending ? "descending" : "ascending";
      cell.setAttribute("aria-sort", isSorted ? direction : "none");
    });
    const focus = this.boxOf(name ?? this.awaited ?? "");
    focus?.focus();
    if (focus?.value === this.awaited) this.awaited = null;
  }

  private buildRow(entry: Entry): HTMLElement {
    const row = element("tr");
    const box = element("input");
    box.type = "checkbox";
    box.value = entry.name;
    box.checked = this.chosen.includes(entry.name);
    box.setAttribute("aria-label", entry.name);
    box.addEventListener("change", () => this.choose(entry.name, box.checked));
    row.classList.toggle("tw-chosen", box.checked);
    row.addEventListener("click", (event) => {
      if (!(event.target as HTMLElement).closest("input")) box.click();
    });
    const first = element("td");
    first.append(box);
    row.append(first);
    for (const [key] of COLUMNS) {
      const cell = element("td", `tw-${key}`);
      cell.textContent = cellText(entry, key);
      cell.title = key === "name" || key === "notes" ? cell.textContent : "";
      row.append(cell);
    }
    return row;
  }

  private boxOf(name: string): HTMLInputElement | undefined {
    return [...this.rows.querySelectorAll("input")].find((one) => one.value === name);
  }

  private choose(name: string, isChosen: boolean): void {
    this.renamed = null;
    const others = this.chosen.filter((one) => one !== name);
    // A third takes the place of the first.
    this.chosen = isChosen ? [...others, name].slice(-MAX_CHOSEN) : others;
  }

  private ask(what: "train" | "export" | "delete"): void {
    const [name] = this.chosen;
    this.renamed = null;
    if (name !== undefined) this.send({ do: what, name });
  }

  /** Puts fields in the place of a model's name and notes. */
  private edit(): void {
    const [name] = this.chosen;
    const entry = this.library?.entries.find((one) => one.name === name);
    const row = entry && this.boxOf(entry.name)?.closest("tr");
    if (!row) return;
    this.edited = entry.name;
    const fields = [
      ["name", "New name"],
      ["notes", "New notes"],
    ] as const;
    const inputs = fields.map(([key, title]) => {
      const input = element("input");
      input.value = entry[key] ?? "";
      input.setAttribute("aria-label", title);
      input.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== "Escape") return;
        event.stopPropagation(); // it leaves the field, not the panel
        event.preventDefault(); // nor does it press the button that gets the focus
        this.endEdit(entry, event.key === "Enter" ? inputs : null);
        this.rename.focus();
      });
      row.querySelector(`.tw-${key}`)!.replaceChildren(input);
      return input;
    });
    row.addEventListener("focusout", (event) => {
      const next = event.relatedTarget as Node | null;
      if (!row.contains(next)) this.endEdit(entry, inputs);
    });
    inputs[0]!.focus();
    inputs[0]!.select();
  }

  private endEdit(entry: Entry, inputs: HTMLInputElement[] | null): void {
    if (this.edited !== entry.name) return;
    this.edited = null;
    this.drawn = ""; // the fields go
    if (!inputs) return;
    const [name, notes] = inputs.map((input) => input.value) as [string, string];
    if (notes !== (entry.notes ?? "")) {
      this.send({ do: "notes", name: entry.name, notes });
    }
    if (name !== entry.name) {
      this.send({ do: "rename", name: entry.name, new_name: name });
      this.renamed = { from: entry.name, to: name };
    }
  }

  private async upload(): Promise<void> {
    const [file] = this.file.files ?? [];
    this.file.value = ""; // the same file can be chosen again
    if (!file) return;
    const name = this.name.input.value || file.name.replace(/\.zip$/i, "");
    if (!file.size) {
      this.refuse(`${file.name}: 0 bytes; allowed: a model's .zip file`);
      return;
    }
    let parts: ArrayBuffer[];
    try {
      parts = partsOf(await file.arrayBuffer());
    } catch (error) {
      this.refuse(`${file.name} cannot be read: ${(error as Error).message}`);
      return;
    }
    parts.forEach((data, part) => {
      const job = { do: "import", name, file: file.name, part, parts: parts.length };
      this.send(job as Job, data);
    });
    this.name.input.value = "";
  }
}

/** Models that play: one board each, side by side. */
class Show {
  readonly element = element("div", "tw-show");
  private readonly stands = element("div", "tw-stands");
  private stage: Stand[] = [];
  private shown = "";

  constructor(
    private readonly reduced: () => boolean,
    end: () => void,
  ) {
    const close = button("End demo");
    close.addEventListener("click", end);
    const about = element("span", "tw-about");
    about.textContent = "at the pace of Speed; training goes on by itself";
    const bar = element("div", "tw-actions");
    bar.append(close, about);
    this.element.hidden = true;
    this.element.append(bar, this.stands);
  }

  /** Shows other models, or none; returns whether there are others. */
  show(boards: Library["boards"], isWanted: boolean): boolean {
    const key = JSON.stringify(boards);
    if (key === this.shown) return false;
    this.shown = key;
    this.element.hidden = boards.length === 0;
    this.stage = boards.map((board) => new Stand(board, this.reduced));
    this.stands.replaceChildren(...this.stage.map((one) => one.element));
    // In the view that asked: another one must not scroll by itself.
    if (boards.length && isWanted) this.element.scrollIntoView({ block: "nearest" });
    return boards.length > 0;
  }

  push(moves: readonly Demo[]): void {
    for (const { board, frames } of moves) this.stage[board]?.board.player.push(frames);
  }

  draw(now: number, pace: number, theme: number): void {
    for (const one of this.stage) one.draw(now, pace, theme);
  }
}

class Stand {
  readonly element = element("figure", "tw-stand");
  readonly board: Board;
  private readonly canvas = element("canvas", "tw-board");
  private readonly game = element("span", "tw-count");
  private readonly facts = element("span", "tw-count");

  constructor(
    private readonly shown: Library["boards"][number],
    reduced: () => boolean,
  ) {
    const next = element("canvas", "tw-next");
    next.setAttribute("aria-hidden", "true");
    this.canvas.setAttribute("role", "img");
    this.board = new Board(this.canvas, next, reduced);
    const caption = element("figcaption");
    const name = element("b");
    name.textContent = shown.name;
    caption.append(name, this.game, this.facts);
    const boards = element("div", "tw-game");
    boards.append(this.canvas, next);
    this.element.append(caption, boards);
  }

  draw(now: number, pace: number, theme: number): void {
    const { rows, columns, name } = this.shown;
    const frame = this.board.draw(now, pace, rows, columns, theme);
    if (!frame) return;
    const facts = `${whole(frame.lines)} lines, ${whole(frame.pieces)} pieces`;
    setText(this.game, `game ${frame.game}`);
    setText(this.facts, facts);
    const label = `${name}: ${facts}`;
    if (this.canvas.getAttribute("aria-label") !== label) {
      this.canvas.setAttribute("aria-label", label);
    }
  }
}

function field(name: string): { label: HTMLElement; input: HTMLInputElement } {
  const label = element("label", "tw-field");
  const input = element("input");
  input.type = "text";
  input.autocomplete = "off";
  label.append(name, input);
  return { label, input };
}
