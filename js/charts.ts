// The charts: uPlot on the store's series. Knows which series belong together; nothing
// of messages.

import uPlot from "uplot";
import { short, whole } from "./format";
import type { Status } from "./protocol";
import type { Series, Store } from "./store";
import { colour } from "./theme";

const AXIS_HEIGHT = 22;
const AXIS_WIDTH = 44;
/** Least distance of two marks on the y axis. */
const TICK_SPACE = 18;
const FONT_SIZE = 11;
/** Values that differ by less, relatively, are drawn as one. */
const FLAT = 1e-9;
/** A drag that is shorter (pixels) is a click. */
const MIN_DRAG = 8;
/** Charts of one view share the crosshair; the zoom they share by `Zoom`. */
const SHARED_EVENTS = new Set(["mousemove", "mouseleave"]);

type Column = (number | null)[];

export interface Curve {
  /** What hovering calls its value; without one it is read as part of another. */
  label?: string;
  /** Indices (from 1) of the curves that bound this one, read along with it. */
  between?: [number, number];
  series: string;
  column: "mean" | "lo" | "hi";
  kind: "line" | "points" | "edge";
  colour: string;
  smooth?: boolean;
  /** -1: drawn with the other sign. */
  sign?: 1 | -1;
}

export interface ChartOptions {
  height: number;
  log: boolean;
  smoothing: number;
  /** Whether the run's goal, in lines per game, is a line in it. */
  showsGoal?: boolean;
  /** Where a log axis turns linear, down to zero: 10 to that power. Without it: where
   * the values ask for it. */
  leastDecade?: number;
  curves: Curve[];
  /** Indices (from 1) of the curves between which a band is filled. */
  band?: [number, number];
}

/** Exponential moving average, with TensorBoard's correction for the beginning. */
export function smooth(values: readonly (number | null)[], weight: number): Column {
  let [last, debias] = [0, 1];
  return values.map((value) => {
    if (value === null || weight <= 0) return value;
    last = last * weight + (1 - weight) * value;
    debias *= weight;
    return last / (1 - debias);
  });
}

/** One x for all: series have their own, ascending; uPlot wants them aligned. */
export function align(parts: { x: readonly number[]; y: Column }[]): uPlot.AlignedData {
  const distinct = [...new Set(parts.map((part) => part.x))];
  const xs = distinct.reduce(merge, []);
  const columns = parts.map(({ x, y }) => {
    const column: Column = new Array(xs.length).fill(null);
    let at = 0;
    x.forEach((value, i) => {
      while (xs[at]! < value) at += 1;
      column[at] = y[i] ?? null;
    });
    return column;
  });
  return [xs, ...columns] as uPlot.AlignedData;
}

/** The numbers of two ascending lists, each once, ascending. */
function merge(a: readonly number[], b: readonly number[]): number[] {
  const merged: number[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    const next = Math.min(a[i] ?? Infinity, b[j] ?? Infinity);
    if (merged.at(-1) !== next) merged.push(next);
    while (a[i] === next) i += 1;
    while (b[j] === next) j += 1;
  }
  return merged;
}

/** The part of the timesteps that the charts of one view show. */
export class Zoom {
  private static count = 0;
  readonly key = `tetris-widget-${++Zoom.count}`;
  /** null: all, from 0 to the present. */
  range: [number, number] | null = null;
}

const EMPTY: Series = { epoch: 0, x: [], lo: [], hi: [], mean: [] };

export class Chart {
  private plot: uPlot | null = null;
  private drawn = "";
  private leastDecade = 0;

  constructor(
    private readonly host: HTMLElement,
    private readonly store: Store,
    private readonly zoom: Zoom,
    private readonly say: (reading: string | null) => void,
    public options: ChartOptions,
  ) {}

  /** Draws if anything has changed since the last time; returns whether it has. */
  draw(theme: number): boolean {
    const width = this.host.clientWidth;
    if (!width) return false; // scrolled away, or not laid out yet
    const look = JSON.stringify([this.options, theme, this.marks.length > 0]);
    const [min, max] = this.range();
    const place = JSON.stringify([min, max, this.marks, this.goal]);
    const key = `${look}${width},${this.store.version},${place}`;
    if (key === this.drawn) return false;
    const data = this.data();
    const least = this.options.log
      ? (this.options.leastDecade ?? leastDecade(data.slice(1)))
      : NO_DECADE;
    const isNew =
      !this.plot || !this.drawn.startsWith(look) || least !== this.leastDecade;
    this.drawn = key;
    this.leastDecade = least;
    if (isNew) this.build(width, data);
    else if (this.plot) {
      if (this.plot.width !== width) {
        this.plot.setSize({ width, height: this.options.height });
      }
      this.plot.setData(data, false);
    }
    this.plot?.setScale("x", { min, max });
    this.host.dataset.timesteps = `${Math.round(min)}-${Math.round(max)}`;
    this.host.dataset.points = String(data[0].length);
    this.host.dataset.marks = this.marks.map((mark) => mark.join(" ")).join(", ");
    return true;
  }

  /** All charts end at the present, also those whose last game ended long ago. */
  private range(): [number, number] {
    return this.zoom.range ?? [0, Math.max(1, this.store.status?.timesteps ?? 0)];
  }

  private get marks(): Status["marks"] {
    return this.store.status?.marks ?? [];
  }

  private get goal(): number | null {
    return this.options.showsGoal ? (this.store.status?.target_lines ?? null) : null;
  }

  destroy(): void {
    this.plot?.destroy();
    this.plot = null;
  }

  private data(): uPlot.AlignedData {
    const { curves, smoothing } = this.options;
    return align(
      curves.map((curve) => {
        const series = this.store.series.get(curve.series) ?? EMPTY;
        const held = series[curve.column];
        const y = curve.sign === -1 ? held.map((value) => -value) : held;
        return { x: series.x, y: curve.smooth ? smooth(y, smoothing) : y };
      }),
    );
  }

  private build(width: number, data: uPlot.AlignedData): void {
    this.destroy();
    this.host.replaceChildren();
    this.plot = new uPlot(this.plotOptions(width), data, this.host);
  }

  private plotOptions(width: number): uPlot.Options {
    const { curves, band, height, log } = this.options;
    const least = this.leastDecade;
    const line = colour(this.host, "--tw-line");
    const muted = colour(this.host, "--tw-muted");
    const font = `${FONT_SIZE}px ${colour(this.host, "--tw-font")}`;
    const axis = { stroke: muted, font, ticks: { show: false } };
    return {
      width,
      height,
      // Above: room for marks; at the right: for half of a number.
      padding: [this.marks.length ? LABEL_HEIGHT + 2 : 8, 16, 0, 0],
      cursor: {
        sync: {
          key: this.zoom.key,
          filters: { pub: (type) => SHARED_EVENTS.has(type), sub: () => true },
        },
        drag: { x: true, y: false, dist: MIN_DRAG, setScale: false },
        bind: {
          dblclick: () => () => {
            this.zoom.range = null;
            return null;
          },
        },
        points: { size: 6 },
        // Each curve has points of its own: the nearest one is meant.
        hover: { skip: [null, undefined], prox: Number.POSITIVE_INFINITY },
      },
      legend: { show: false },
      scales: {
        x: { time: false },
        y: log
          ? {
              distr: 4,
              asinh: 10 ** least,
              range: (_u, lo, hi) => logRange(...withGoal(lo, hi, this.goal), least),
            }
          : { range: (_u, lo, hi) => pad(...withGoal(lo, hi, this.goal)) },
      },
      axes: [
        {
          ...axis,
          size: AXIS_HEIGHT,
          grid: { show: false },
          values: (_u, ticks) => ticks.map(short),
        },
        {
          ...axis,
          size: AXIS_WIDTH,
          space: TICK_SPACE,
          grid: { stroke: line, width: 1 },
          values: (_u, ticks) => ticks.map((t) => (t === null ? "" : short(t))),
          ...(log
            ? {
                splits: ({ scales: { y }, bbox }: uPlot) =>
                  thin(
                    decades(y!.min ?? 0, y!.max ?? 0, least),
                    Math.floor(bbox.height / devicePixelRatio / TICK_SPACE),
                  ),
                // uPlot's own takes it for granted that 1 and 10 are a decade apart.
                filter: (_u: uPlot, splits: number[]) => splits,
              }
            : {}),
        },
      ],
      series: [{}, ...curves.map((curve) => this.seriesOptions(curve))],
      ...(band
        ? { bands: [{ series: band, fill: colour(this.host, "--tw-band") }] }
        : {}),
      hooks: {
        setSelect: [(u) => this.onSelect(u)],
        draw: [(u) => this.drawMarks(u)],
        setCursor: [(u) => this.say(this.read(u))],
      },
    };
  }

  /** A dashed line wherever the learning was changed or resumed, and at the goal. */
  private drawMarks(plot: uPlot): void {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.font = `${FONT_SIZE * devicePixelRatio}px ${colour(this.host, "--tw-font")}`;
    ctx.lineWidth = devicePixelRatio;
    const right = bbox.left + bbox.width;
    const labels: Label[] = [];
    ctx.strokeStyle = colour(this.host, "--tw-warn");
    for (const [timesteps, name] of this.marks) {
      const x = plot.valToPos(timesteps, "x", true);
      if (x < bbox.left || x > right) continue;
      dash(ctx, x, bbox.top, x, bbox.top + bbox.height);
      const text = `▾ ${name}`;
      labels.push({ text, x, width: ctx.measureText(text).width });
    }
    const gap = GAP * devicePixelRatio;
    ctx.textAlign = "left";
    for (const { text, left, row } of placeLabels(labels, right, gap)) {
      const y = bbox.top + row * LABEL_HEIGHT * devicePixelRatio;
      this.write(ctx, text, left, y, "bottom"); // the first row is above the curves
    }
    if (this.goal !== null) {
      const y = plot.valToPos(this.goal, "y", true);
      ctx.strokeStyle = colour(this.host, "--tw-good");
      dash(ctx, bbox.left, y, right, y);
      this.write(ctx, "goal", bbox.left + gap, y - devicePixelRatio, "bottom");
    }
    ctx.restore();
  }

  /** Writes in the colour of the lines, legible on whatever is below. */
  private write(
    ctx: CanvasRenderingContext2D,
    text: string,
    x: number,
    y: number,
    baseline: CanvasTextBaseline,
  ): void {
    ctx.save();
    ctx.textBaseline = baseline;
    ctx.fillStyle = ctx.strokeStyle;
    ctx.strokeStyle = colour(this.host, "--tw-bg");
    ctx.lineWidth = 3 * devicePixelRatio;
    ctx.setLineDash([]);
    ctx.strokeText(text, x, y);
    ctx.fillText(text, x, y);
    ctx.restore();
  }

  /** The values under the pointer as a line of text; null: it is elsewhere. */
  private read(plot: uPlot): string | null {
    const { left, idxs } = plot.cursor;
    if (left === undefined || left < 0 || !idxs) return null;
    const value = (i: number) => plot.data[i]?.[idxs[i] ?? -1];
    const parts = this.options.curves.map((curve, i) =>
      curve.label ? reading(curve, value(i + 1), value) : "",
    );
    // The last curve is drawn on top, and said first.
    const said = parts.filter(Boolean).reverse();
    return [whole(plot.posToVal(left, "x")), ...said].join(" · ");
  }

  private onSelect(plot: uPlot): void {
    const { left, width } = plot.select;
    if (width <= 0) return;
    const from = Math.max(0, plot.posToVal(left, "x"));
    // Timesteps are whole: nothing is to be seen between two of them.
    this.zoom.range = [from, Math.max(plot.posToVal(left + width, "x"), from + 1)];
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  private seriesOptions(curve: Curve): uPlot.Series {
    const stroke = colour(this.host, curve.colour);
    const common: uPlot.Series = {
      spanGaps: true,
    };
    if (curve.kind === "points") {
      const points = { show: true, size: 2.5, fill: stroke, width: 0 };
      return { ...common, paths: () => null, points };
    }
    const width = curve.kind === "edge" ? 0 : 1.75;
    return { ...common, stroke, width, points: { show: false } };
  }
}

interface Label {
  text: string;
  /** Of the line that it belongs to. */
  x: number;
  width: number;
}

const GAP = 4;
const LABEL_ROWS = 3;
const LABEL_HEIGHT = 13;

/**
 * Where labels are written, given by ascending `x`: right of their lines, or left where
 * there is no room; below each other rather than over each other, else not at all.
 */
export function placeLabels(
  labels: readonly Label[],
  right: number,
  gap: number,
): { text: string; left: number; row: number }[] {
  const ends = new Array<number>(LABEL_ROWS).fill(-Infinity);
  return labels.flatMap(({ text, x, width }) => {
    const fits = x + gap + width <= right;
    const left = fits ? x + gap : x - gap - width;
    const row = ends.findIndex((end) => end + gap <= left);
    if (row < 0) return [];
    ends[row] = left + width;
    return [{ text, left, row }];
  });
}

function dash(
  ctx: CanvasRenderingContext2D,
  fromX: number,
  fromY: number,
  toX: number,
  toY: number,
): void {
  ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(fromX, fromY);
  ctx.lineTo(toX, toY);
  ctx.stroke();
}

type Value = number | null | undefined;

/** "evaluation 120 (80 to 200)", "games 3 to 9", "mean 4". */
export function reading(
  curve: Pick<Curve, "label" | "between" | "kind">,
  own: Value,
  value: (index: number) => Value,
): string {
  if (own === null || own === undefined) return "";
  const [low, high] = (curve.between ?? []).map(value);
  const isRange = typeof low === "number" && typeof high === "number" && low < high;
  const range = isRange ? `${short(low)} to ${short(high)}` : "";
  if (curve.kind === "points") return `${curve.label} ${range || short(own)}`;
  return `${curve.label} ${short(own)}${range ? ` (${range})` : ""}`;
}

type Bound = number | null;

/** The least and the greatest value that are shown: of the curves, or the goal. */
export function withGoal(lo: Bound, hi: Bound, goal: Bound): [Bound, Bound] {
  return goal === null ? [lo, hi] : [Math.min(lo ?? 0, goal), Math.max(hi ?? 0, goal)];
}

/** Decades that a log axis shows below that of the greatest value. */
const DECADES_BELOW = 3;
/** Of an axis without values. */
const NO_DECADE = 0;

/** Where a log axis of these values turns linear: 10 to the power that is returned. */
export function leastDecade(columns: readonly ArrayLike<Bound | undefined>[]): number {
  let most = 0;
  for (const column of columns) {
    for (let i = 0; i < column.length; i += 1) {
      most = Math.max(most, Math.abs(column[i] ?? 0));
    }
  }
  return most ? Math.floor(Math.log10(most)) - DECADES_BELOW : NO_DECADE;
}

/** The y range of a log axis, which has zero, and room for a decade at least. */
export function logRange(lo: Bound, hi: Bound, least: number): [number, number] {
  const room = 1.2;
  return [
    Math.min(0, (lo ?? 0) * room),
    Math.max((hi ?? 0) * room, (lo ?? 0) < 0 ? 0 : 10 ** (least + 1)),
  ];
}

/** The y range that shows `lo` to `hi` with some air. */
export function pad(lo: number | null, hi: number | null): [number, number] {
  if (lo === null || hi === null) return [0, 1];
  const size = Math.max(Math.abs(lo), Math.abs(hi));
  if (size === 0) return [0, 1];
  // A range of rounding errors has more marks than an array can hold.
  if (hi - lo <= size * FLAT) return [Math.min(0, lo * 1.2), Math.max(0, hi * 1.2)];
  const margin = (hi - lo) * 0.08;
  const isNearZero = lo >= 0 && lo <= (hi - lo) / 4;
  return [isNearZero ? 0 : lo - margin, hi + margin];
}

/** 0 and the powers of ten, from that of `least` on, between `min` and `max`. */
export function decades(min: number, max: number, least: number): number[] {
  const upTo = (limit: number) => {
    const count = Math.floor(Math.log10(limit) - least + ROUNDING) + 1;
    return Array.from({ length: Math.max(0, count) }, (_, i) => 10 ** (least + i));
  };
  const below = upTo(-min).map((mark) => -mark);
  return [...below.reverse(), 0, ...upTo(max)];
}

/** Of a log axis' marks as many as there is room for: 0, and the outermost. */
export function thin(marks: readonly number[], room: number): number[] {
  const step = Math.ceil(marks.length / Math.max(1, room));
  const last = marks.length - 1;
  return marks.filter((mark, i) => !mark || (mark > 0 ? last - i : i) % step === 0);
}

const ROUNDING = 1e-9;
