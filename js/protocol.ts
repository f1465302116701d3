// The wire between kernel and browser: its types, and strict reading of what arrives.
// Knows nothing of drawing or of what is done with a message.

export type State =
  | "idle"
  | "starting"
  | "running"
  | "pausing"
  | "paused"
  | "stopping"
  | "finished"
  | "stopped"
  | "failed";
export type View = "headless" | "watch" | "step";

export interface Status {
  state: State;
  reason: string | null;
  detail: string | null;
  timesteps: number;
  total_timesteps: number;
  elapsed: number;
  remaining: number | null;
  fps: number;
  episodes: number;
  best_lines: number | null;
  /** The best confirmed model: its mean in fresh games, and the 95 % interval. */
  best_eval: { mean: number; lo: number; hi: number } | null;
  /** The run ends once an evaluation's mean is that high. */
  target_lines: number | null;
  /** For how long the process has said nothing, and what it was doing then. */
  not_responding: { seconds: number; phase: string } | null;
  view: View;
  speed: number;
  pace: number;
  /** Of the training's time, 0 to 1. */
  watch_cost: number | null;
  evaluation_cost: number | null;
  evaluation_games: number;
  run_dir: string | null;
  rows: number;
  columns: number;
  /** Of the games that are learned from. */
  training_rows: number;
  /** Whether the run has ended and can go on from a checkpoint. */
  can_resume: boolean;
  /** For how many timesteps a finished run goes on. */
  more_timesteps: number;
  /** Timesteps at which the learning was changed or resumed, and what to call it. */
  marks: [number, string][];
}

export interface Note {
  seq: number;
  /** The same as that of the earlier note that it replaces; else its own `seq`. */
  id: number;
  level: "info" | "good" | "warning" | "error";
  text: string;
  elapsed: number | null;
  detail: string | null;
}

/** Columns x, lo, hi, mean of the points from `start` on; older ones stay. Without any
 * points, from 0 on: the series is gone. */
export interface Tail {
  name: string;
  epoch: number;
  start: number;
  columns: [Float64Array, Float64Array, Float64Array, Float64Array];
}

/** One move of a game: the board before it, and where the piece lands, or is by now. */
export interface Frame {
  cells: Uint8Array;
  piece: number;
  rotation: number;
  column: number;
  row: number;
  next: number[];
  lines: number;
  pieces: number;
  over: boolean;
  /** false: each key is a move, and the piece is not to be seen falling to its row. */
  falls?: boolean;
  /** Of a model on show: which game it is. */
  game?: number;
}

/** A saved model, as far as it is known. */
export interface Entry {
  name: string;
  mean_lines: number | null;
  lower: number | null;
  upper: number | null;
  best_lines: number | null;
  timesteps: number | null;
  algorithm: string | null;
  /** Seconds since 1970. */
  saved_at: number | null;
  notes: string | null;
}

export interface Library {
  entries: Entry[];
  told: { level: "info" | "good" | "error"; text: string; undo: string | null } | null;
  /** The models on show. */
  boards: { name: string; rows: number; columns: number }[];
}

/** Moves of the models on show, by board. */
export interface Demo {
  board: number;
  frames: Frame[];
}

export interface Update {
  seq: number;
  since: number;
  runId: string | null;
  status: Status;
  notes: Note[];
  tails: Tail[];
  frames: Frame[];
  view: View | null;
  sync: boolean;
  /** null: as before. */
  library: Library | null;
  demo: Demo[];
}

/** What can be asked of the library. */
export type Job =
  | { do: "save"; name: string; which: string; notes: string }
  | { do: "rename"; name: string; new_name: string }
  | { do: "notes"; name: string; notes: string }
  | { do: "delete" | "restore" | "export" | "train"; name: string }
  | { do: "import"; name: string; file: string; part: number; parts: number }
  | { do: "demo"; names: string[] }
  | { do: "end_demo" };

export type Command =
  | { command: "library"; job: Job }
  | { command: "start" | "pause" | "resume" | "stop" }
  | { command: "set_view"; view: View }
  | { command: "set_speed"; speed: number };

// biome-ignore lint/suspicious/noExplicitAny: JSON from the other side, checked here
type Json = any;

/** Lab gives DataViews, Colab Uint8Arrays; either may start anywhere in its buffer. */
export function toBytes(buffer: DataView | Uint8Array | ArrayBuffer): Uint8Array {
  if (buffer instanceof ArrayBuffer) return new Uint8Array(buffer);
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

/** Reads an update; throws an Error that says what is wrong with it. */
export function parseUpdate(
  content: Json,
  buffers: readonly (DataView | Uint8Array | ArrayBuffer)[] = [],
): Update {
  if (typeof content?.seq !== "number" || typeof content.since !== "number") {
    throw new Error("an update without seq and since");
  }
  if (typeof content.status?.state !== "string") {
    throw new Error("an update without status");
  }
  const bytes = buffers.map(toBytes);
  const frames = content.frames ? parseFrames(content.frames, bytes) : [];
  return {
    seq: content.seq,
    since: content.since,
    runId: content.run_id ?? null,
    status: content.status,
    notes: content.messages ?? [],
    tails: (content.series ?? []).map((series: Json) => parseTail(series, bytes)),
    frames,
    view: content.frames?.view ?? null,
    sync: Boolean(content.sync),
    library: content.library ?? null,
    demo: (content.demo ?? []).map((block: Json) => ({
      board: block.board,
      frames: parseFrames(block, bytes),
    })),
  };
}

function take(bytes: Uint8Array[], index: number, length: number): Uint8Array {
  const found = bytes[index];
  if (!found || found.byteLength !== length) {
    throw new Error(`buffer ${index}: ${found?.byteLength} bytes instead of ${length}`);
  }
  return found;
}

function parseTail(series: Json, bytes: Uint8Array[]): Tail {
  const n = series.length;
  // A copy: a Float64Array must start at a multiple of eight bytes.
  const raw = take(bytes, series.buffer, n * 4 * 8).slice();
  const column = (i: number) => new Float64Array(raw.buffer, i * n * 8, n);
  return {
    name: series.name,
    epoch: series.epoch,
    start: series.start,
    columns: [column(0), column(1), column(2), column(3)],
  };
}

function parseFrames(frames: Json, bytes: Uint8Array[]): Frame[] {
  const size = frames.rows * frames.columns;
  const cells = take(bytes, frames.buffer, frames.count * size);
  return frames.moves.map((move: Json, i: number) => ({
    ...move,
    cells: cells.slice(i * size, (i + 1) * size),
  }));
}
