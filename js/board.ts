// The board: plays moves at a pace, drawing the falling piece, its ghost and what is
// next. Knows frames and colours, nothing of messages.

import { cellsOf, PIECE_NAMES } from "./pieces";
import type { Frame } from "./protocol";
import { colour } from "./theme";

const CELL = 21;
const NEXT_CELL = 13;
const NEXT_SLOT = 40;
/** Beyond so much unplayed time the newest moves win. */
const MAX_LAG_SECONDS = 0.35;
/** More do not wait, for where nothing is drawn (a tab at the back) nothing is taken. */
export const MAX_QUEUED = 120;
/** Part of a move's time in which the piece falls; then it rests. */
const FALL_PART = 0.75;
/** Faster than this a falling piece is only a flicker: it is shown landed. */
const MAX_FALLING_PACE = 25;

/** The queue of moves, and which of them is on screen at a time. Pure. */
export class Player {
  private queue: Frame[] = [];
  private current: Frame | null = null;
  private since = 0;

  /** Adds moves that have arrived. */
  push(frames: Frame[]): void {
    this.queue.push(...frames);
    this.queue.splice(0, this.queue.length - MAX_QUEUED);
  }

  /** Forgets what was not yet played; the move on screen stays. */
  clear(): void {
    this.queue = [];
  }

  /** Shows the newest move, landed, and nothing after it. */
  settle(): void {
    this.current = this.queue.at(-1) ?? this.current;
    this.since = -Infinity;
    this.queue = [];
  }

  /** Begins with an empty board, as another run does. */
  reset(): void {
    this.queue = [];
    this.current = null;
  }

  /**
   * The move to draw at `now` (seconds) and how much of its time has passed (0 to 1),
   * at `pace` moves a second; null before the first one.
   */
  at(now: number, pace: number): { frame: Frame; progress: number } | null {
    const period = 1 / pace;
    const most = Math.max(2, Math.ceil(MAX_LAG_SECONDS * pace));
    if (this.queue.length > most) {
      this.queue.splice(0, this.queue.length - most);
      this.since = -Infinity;
    }
    while (this.queue.length && (!this.current || now - this.since >= period)) {
      const late = now - this.since - period;
      this.current = this.queue.shift() ?? null;
      this.since = late < period && late > 0 ? now - late : now;
    }
    if (!this.current) return null;
    const progress = Math.min(1, (now - this.since) / period);
    return { frame: this.current, progress };
  }
}

/** Sizes a canvas in CSS pixels for sharp lines; returns its context. */
export function fit(
  canvas: HTMLCanvasElement,
  width: number,
  height: number,
): CanvasRenderingContext2D | null {
  const ratio = devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.aspectRatio = `${width} / ${height}`;
    canvas.style.width = `${width}px`;
  }
  const context = canvas.getContext("2d");
  context?.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

export class Board {
  readonly player = new Player();
  private drawn = "";
  private drawnFrame: Frame | null = null;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly next: HTMLCanvasElement,
    private readonly reduced: () => boolean,
  ) {}

  /** Draws what is due; returns the move on screen, or null for an empty board. */
  draw(
    now: number,
    pace: number,
    rows: number,
    columns: number,
    theme: number,
  ): Frame | null {
    const due = this.player.at(now, pace);
    const frame = due?.frame ?? null;
    const falls = frame?.falls !== false && pace <= MAX_FALLING_PACE && !this.reduced();
    const fallen = due && falls ? Math.min(1, due.progress / FALL_PART) : 1;
    const height = frame ? Math.round(frame.row * fallen * fallen) : 0;
    const key = [height, rows, columns, theme, devicePixelRatio].join();
    if (key === this.drawn && frame === this.drawnFrame) return frame;
    this.drawn = key;
    this.drawnFrame = frame;
    this.drawBoard(frame, height, rows, columns);
    this.drawNext(frame?.next ?? []);
    return frame;
  }

  private drawBoard(
    frame: Frame | null,
    pieceRow: number,
    rows: number,
    columns: number,
  ): void {
    const [width, height] = [columns * CELL + 1, rows * CELL + 1];
    const context = fit(this.canvas, width, height);
    if (!context) return;
    context.fillStyle = colour(this.canvas, "--tw-raised");
    context.fillRect(0, 0, width, height);
    drawGrid(context, rows, columns, colour(this.canvas, "--tw-line"));
    if (!frame) return;
    const colours = PIECE_NAMES.map((name) => colour(this.canvas, `--tw-${name}`));
    // Of a cell that was there from the start nobody knows the piece.
    const unknown = colour(this.canvas, "--tw-muted");
    frame.cells.forEach((piece, i) => {
      const [row, column] = [Math.floor(i / columns), i % columns];
      if (piece) drawCell(context, column, row, CELL, colours[piece] ?? unknown);
    });
    const own = colours[frame.piece] ?? "";
    const shape = cellsOf(frame.piece, frame.rotation);
    for (const [i, j] of shape) {
      if (pieceRow < frame.row) {
        drawGhost(context, frame.column + j, frame.row + i, own);
      }
    }
    for (const [i, j] of shape) {
      drawCell(context, frame.column + j, pieceRow + i, CELL, own);
    }
  }

  private drawNext(pieces: number[]): void {
    const context = fit(this.next, 66, 3 * NEXT_SLOT);
    if (!context) return;
    context.clearRect(0, 0, 66, 3 * NEXT_SLOT);
    pieces.slice(0, 3).forEach((piece, slot) => {
      const own = colour(this.next, `--tw-${PIECE_NAMES[piece]}`);
      context.save();
      context.translate(0, slot * NEXT_SLOT);
      for (const [i, j] of cellsOf(piece, 0)) drawCell(context, j, i, NEXT_CELL, own);
      context.restore();
    });
  }
}

function drawGrid(
  context: CanvasRenderingContext2D,
  rows: number,
  columns: number,
  line: string,
): void {
  context.strokeStyle = line;
  context.lineWidth = 1;
  context.beginPath();
  for (let i = 0; i <= columns; i += 1) {
    context.moveTo(i * CELL + 0.5, 0);
    context.lineTo(i * CELL + 0.5, rows * CELL + 1);
  }
  for (let i = 0; i <= rows; i += 1) {
    context.moveTo(0, i * CELL + 0.5);
    context.lineTo(columns * CELL + 1, i * CELL + 0.5);
  }
  context.stroke();
}

function drawCell(
  context: CanvasRenderingContext2D,
  column: number,
  row: number,
  size: number,
  fill: string,
): void {
  const [x, y, s] = [column * size + 1, row * size + 1, size - 1];
  context.fillStyle = fill;
  context.fillRect(x, y, s, s);
  const bevel = Math.max(2, Math.round(size / 7));
  context.fillStyle = "rgba(255,255,255,.22)";
  context.fillRect(x, y, s, bevel);
  context.fillStyle = "rgba(0,0,0,.16)";
  context.fillRect(x, y + s - bevel, s, bevel);
}

function drawGhost(
  context: CanvasRenderingContext2D,
  column: number,
  row: number,
  line: string,
): void {
  context.strokeStyle = line;
  context.setLineDash([3, 2]);
  context.strokeRect(column * CELL + 2.5, row * CELL + 2.5, CELL - 4, CELL - 4);
  context.setLineDash([]);
}
