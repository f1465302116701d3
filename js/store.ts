// What the browser knows of a run: applies updates, notices gaps, asks for what is
// missing. Knows nothing of the DOM, and nothing of how messages travel.

import type {
  Demo,
  Frame,
  Library,
  Note,
  Status,
  Tail,
  Update,
  View,
} from "./protocol";

export const MAX_NOTES = 200;
export const MAX_FRAMES = 120;
/** A running panel that has heard nothing for so long asks. */
export const SILENCE_MS = 500;
/** After a command it asks for so long: what was asked for may take its time. */
export const AFTERWARDS_MS = 30_000;
/** An unanswered question is asked again after so long. */
export const ANSWER_MS = 3000;
/** Where no board has been pushed for so long, those of answers are shown. */
export const UNPUSHED_MS = 1000;

export interface Series {
  epoch: number;
  x: number[];
  lo: number[];
  hi: number[];
  mean: number[];
}

const BUSY = new Set(["starting", "running", "pausing", "stopping"]);

export class Store {
  status: Status | null = null;
  notes: Note[] = [];
  series = new Map<string, Series>();
  library: Library | null = null;
  private demo: Demo[] = [];
  /** Of each model on show, the newest move. */
  private shown = new Map<number, Frame>();
  private shownAt = -Infinity;
  frames: Frame[] = [];
  framesView: View | null = null;
  /** What a view that opens later, or while paused, begins with. */
  lastFrame: Frame | null = null;
  /** Grows with every change of a series, so that charts know when to redraw. */
  version = 0;
  seq = 0;
  /** Grows when another run takes the place of one that was shown. */
  runs = 0;
  private runId: string | null = null;
  private heardAt = 0;
  private actedAt = -Infinity;
  private pushedAt = -Infinity;
  private askedAt: number | null = null;
  private unansweredSince: number | null = null;

  /** `ask(since)` requests everything after `since`; false: it could not be sent. */
  constructor(
    private readonly ask: (since: number) => boolean,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Applies an update; one that leaves a gap is answered by a sync instead. */
  apply(update: Update): void {
    this.heardAt = this.now();
    this.unansweredSince = null;
    if (update.sync) this.askedAt = null;
    this.status = update.status;
    if (update.runId !== this.runId) this.reset(update.runId);
    this.addFrames(update);
    this.addDemo(update);
    if (update.since > this.seq) {
      this.sync();
      return;
    }
    if (update.seq < this.seq && !update.sync) return;
    if (update.since === 0) {
      this.series.clear();
      this.notes = [];
      this.version += 1;
    }
    this.library = update.library ?? this.library;
    for (const tail of update.tails) this.addTail(tail);
    this.addNotes(update.notes);
    this.seq = Math.max(this.seq, update.seq);
  }

  /** To be called now and then: where something runs and nothing is heard, it asks. */
  tick(): void {
    const runs = this.status === null || BUSY.has(this.status.state);
    const follows = this.now() - this.actedAt < AFTERWARDS_MS;
    const moves = runs || Boolean(this.library?.boards.length);
    const frozen = this.now() - this.heardAt > SILENCE_MS;
    // A kernel that is busy for long is no trouble to who only waits for an effect.
    if (frozen && (moves || follows)) this.sync(moves);
  }

  /** To be called when a command was taken: its effect may never be pushed. */
  follow(): void {
    this.actedAt = this.now();
  }

  /** Whether nothing has come for `ms` since a question, however often it was asked. */
  isUnansweredFor(ms: number): boolean {
    return this.unansweredSince !== null && this.now() - this.unansweredSince > ms;
  }

  /**
   * Asks for all that is missing; at most one question is under way. `counts`: whether
   * silence is then a sign that something is wrong.
   */
  sync(counts = true): void {
    if (this.askedAt !== null && this.now() - this.askedAt <= ANSWER_MS) return;
    if (!this.ask(this.seq)) return;
    this.askedAt = this.now();
    if (counts) this.unansweredSince ??= this.askedAt;
  }

  /** Takes the frames that have arrived since the last call. */
  takeFrames(): Frame[] {
    const taken = this.frames;
    this.frames = [];
    return taken;
  }

  /** Takes the moves of models on show that have arrived since the last call. */
  takeDemo(): Demo[] {
    const taken = this.demo;
    this.demo = [];
    return taken;
  }

  private reset(runId: string | null): void {
    // The first run heard of may be the one whose last frame is held already.
    if (this.runId !== null) {
      this.lastFrame = null;
      this.runs += 1;
    }
    this.runId = runId;
    this.series.clear();
    this.frames = [];
    this.version += 1;
  }

  private addFrames(update: Update): void {
    const newest = update.frames.at(-1);
    if (!newest || !this.isNews(update, this.pushedAt, this.lastFrame, newest)) return;
    if (!update.sync) this.pushedAt = this.now();
    this.framesView = update.view;
    this.lastFrame = newest;
    this.frames.push(...update.frames);
    this.frames.splice(0, this.frames.length - MAX_FRAMES);
  }

  private addDemo(update: Update): void {
    for (const moves of update.demo) {
      const newest = moves.frames.at(-1)!;
      const last = this.shown.get(moves.board) ?? null;
      if (!this.isNews(update, this.shownAt, last, newest)) continue;
      if (!update.sync) this.shownAt = this.now();
      this.shown.set(moves.board, newest);
      this.demo.push(moves);
    }
  }

  /** Whether boards were pushed, or are an answer's that a host doesn't let through. */
  private isNews(
    { sync }: Update,
    pushedAt: number,
    last: Frame | null,
    newest: Frame,
  ) {
    const isPushed = this.now() - pushedAt <= UNPUSHED_MS;
    return !sync || (!isPushed && !isSameMove(last, newest));
  }

  private addNotes(notes: Note[]): void {
    const last = this.notes.at(-1)?.seq ?? 0;
    for (const note of notes) {
      if (note.seq <= last) continue;
      if (note.id < note.seq) {
        this.notes = this.notes.filter((one) => one.id !== note.id);
      }
      this.notes.push(note);
    }
    this.notes.splice(0, this.notes.length - MAX_NOTES);
  }

  private addTail(tail: Tail): void {
    if (tail.start === 0 && tail.columns[0].length === 0) {
      this.series.delete(tail.name);
      this.version += 1;
      return;
    }
    let held = this.series.get(tail.name);
    if (!held || held.epoch !== tail.epoch) {
      if (tail.start > 0) {
        // Its beginning was missed.
        this.seq = 0;
        this.sync();
        return;
      }
      held = { epoch: tail.epoch, x: [], lo: [], hi: [], mean: [] };
      this.series.set(tail.name, held);
    }
    const [x, lo, hi, mean] = tail.columns;
    for (const [column, added] of [
      [held.x, x],
      [held.lo, lo],
      [held.hi, hi],
      [held.mean, mean],
    ] as const) {
      column.length = Math.min(column.length, tail.start);
      for (const value of added) column.push(value);
    }
    this.version += 1;
  }
}

const MOVED = ["pieces", "lines", "piece", "rotation", "column", "row"] as const;

function isSameMove(one: Frame | null, other: Frame): boolean {
  return (
    one !== null &&
    MOVED.every((name) => one[name] === other[name]) &&
    one.cells.every((cell, i) => cell === other.cells[i])
  );
}
