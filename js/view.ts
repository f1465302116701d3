// One view of a run: its DOM, drawn from the store once per animation frame. Knows
// nothing of messages: commands go to `send`.

import { Board } from "./board";
import { Chart, type ChartOptions, Zoom } from "./charts";
import { Controls, LABELS, STARTABLE } from "./controls";
import { element, setText } from "./dom";
import { amount, clock, short, whole } from "./format";
import { Log } from "./log";
import { Models } from "./models";
import type { Command, Status } from "./protocol";
import type { Store } from "./store";
import { followTheme } from "./theme";

const CLOUD_LO = { column: "lo", kind: "points", colour: "--tw-cloud" } as const;
const CLOUD_HI = { ...CLOUD_LO, column: "hi" } as const;
const LINE = { kind: "line", smooth: true } as const;
/** Series that have a chart of their own already. */
const CHARTED = /^(evaluation|running)\/|^episode\/(lines|reward)$/;
const DEFAULT_METRIC = "train/entropy_loss";
const PRETTY: Record<string, string> = {
  "episode/length": "Game length",
  "speed/fps": "Timesteps per second",
  "train/entropy_loss": "Entropy loss",
  "train/loss": "Loss",
  "train/value_loss": "Value loss",
  "train/policy_gradient_loss": "Policy loss",
  "train/learning_rate": "Learning rate",
  "train/approx_kl": "Approximate KL",
  "train/clip_fraction": "Clip fraction",
  "train/explained_variance": "Explained variance",
};
let views = 0;

export class PanelView {
  private readonly root = element("section", "tetris-widget");
  private readonly status = element("span", "tw-status");
  private readonly detail = element("span", "tw-detail");
  private readonly progress = element("div", "tw-progress");
  private readonly bar = element("i", "");
  private readonly steps = element("span", "tw-steps");
  private readonly fps = element("span", "tw-fps");
  private readonly time = element("span", "tw-clock");
  private readonly lines = element("b", "");
  private readonly pieces = element("b", "");
  private readonly best = element("b", "");
  private readonly bestMean = element("b", "");
  private readonly bestRange = element("span", "tw-range");
  private readonly select = element("select", "");
  private readonly canvas = element("canvas", "tw-board");
  private readonly next = element("canvas", "tw-next");
  private readonly controls: Controls;
  private readonly log = new Log();
  readonly models: Models;
  private readonly board: Board;
  private readonly charts: Chart[] = [];
  private readonly zoom = new Zoom();
  private readonly abouts = new Map<string, HTMLElement>();
  /** What hovering over each chart reads. */
  private readonly readings = new Map<string, string | null>();
  private theme = 0;
  private turn = 0;
  private smoothing = 0.3;
  private metric = DEFAULT_METRIC;
  private framesView: string | null = null;

  constructor(
    private readonly store: Store,
    send: (command: Command, file?: ArrayBuffer) => void,
    private readonly isAlive: () => boolean,
  ) {
    views += 1;
    this.controls = new Controls(send, `tw-view-${views}`);
    const reduced = matchMedia("(prefers-reduced-motion: reduce)");
    this.board = new Board(this.canvas, this.next, () => reduced.matches);
    this.models = new Models(
      (job, file) => send({ command: "library", job }, file),
      `tw-models-${views}`,
      () => reduced.matches,
    );
  }

  /** Builds the DOM in `host` and draws until `signal` aborts. */
  mount(host: HTMLElement, signal: AbortSignal): void {
    this.build();
    host.append(this.root);
    if (this.store.lastFrame) this.push([this.store.lastFrame]);
    followTheme(
      this.root,
      () => {
        this.theme += 1;
      },
      signal,
    );
    this.root.addEventListener("keydown", (event) => this.onKey(event), { signal });
    let request = 0;
    const loop = () => {
      // First: a frame that fails must not be the last one.
      request = requestAnimationFrame(loop);
      this.draw();
    };
    loop();
    signal.addEventListener("abort", () => {
      cancelAnimationFrame(request);
      for (const chart of this.charts) chart.destroy();
      this.root.remove();
    });
  }

  /** Takes frames that have arrived (every view plays its own). */
  push(frames: Parameters<Board["player"]["push"]>[0]): void {
    if (this.framesView !== this.store.framesView) this.board.player.clear();
    this.framesView = this.store.framesView;
    this.board.player.push(frames);
  }

  private onKey(event: KeyboardEvent): void {
    if (event.key === "Escape") {
      (document.activeElement as HTMLElement | null)?.blur();
      return; // the notebook takes over
    }
    // The notebook's own shortcuts (a, b, dd, …) must not act on keys meant for us.
    event.stopPropagation();
    const target = event.target as HTMLElement;
    const usesSpace = target.closest("button, input, select, summary");
    if (event.key === " " && !usesSpace) {
      event.preventDefault();
      this.controls.togglePause();
    }
  }

  private build(): void {
    this.root.tabIndex = 0;
    this.root.setAttribute("aria-label", "Tetris training");
    this.status.setAttribute("role", "status");
    this.progress.setAttribute("role", "progressbar");
    this.progress.setAttribute("aria-label", "Timesteps");
    this.progress.setAttribute("aria-valuemin", "0");
    this.progress.setAttribute("aria-valuemax", "100");
    this.progress.append(this.bar);
    this.canvas.setAttribute("role", "img");
    const facts = element("div", "tw-facts");
    facts.append(this.steps, this.fps, this.time);
    const header = element("header", "tw-header");
    const middle = element("div", "tw-middle");
    middle.append(this.progress, this.detail);
    header.append(this.status, middle, facts);
    const main = element("div", "tw-main");
    main.append(this.buildGame(), this.buildCharts());
    this.root.append(header, this.controls.element, main, this.log.element);
    this.root.append(this.models.element);
  }

  private buildGame(): HTMLElement {
    const side = element("div", "tw-side");
    const model = element("div");
    model.append(this.bestMean, this.bestRange);
    model.title = "mean lines per game of the best model, and its 95 % interval";
    side.append(
      titled("Next", this.next),
      titled("Lines", this.lines),
      titled("Pieces", this.pieces),
      titled("Best game", this.best),
      titled("Best model", model),
    );
    this.next.setAttribute("aria-hidden", "true");
    const game = element("div", "tw-game");
    game.append(this.canvas, side);
    return game;
  }

  private buildCharts(): HTMLElement {
    const charts = element("div", "tw-charts");
    charts.append(
      this.buildChart("Lines per game", linesChart(), "lines"),
      this.buildChart("Reward per game", rewardChart(), "reward"),
      this.buildChart(this.select, selectedChart(DEFAULT_METRIC), "metric"),
    );
    this.select.setAttribute("aria-label", "Metric");
    this.select.addEventListener("change", () => {
      this.metric = this.select.value;
      const chart = this.charts[2]!;
      chart.options = { ...selectedChart(this.select.value), ...this.kept(chart) };
    });
    return charts;
  }

  private kept(chart: Chart): Pick<ChartOptions, "log" | "smoothing"> {
    return { log: chart.options.log, smoothing: this.smoothing };
  }

  private buildChart(
    title: string | HTMLElement,
    options: ChartOptions,
    name: string,
  ): HTMLElement {
    const figure = element("figure", "tw-figure");
    const caption = element("figcaption", "");
    const head = element("b", "");
    head.append(title);
    const about = element("span", "tw-about");
    this.abouts.set(name, about);
    const host = element("div", "tw-chart");
    host.style.minHeight = `${options.height}px`;
    const chart = new Chart(
      host,
      this.store,
      this.zoom,
      (reading) => {
        this.readings.set(name, reading);
      },
      options,
    );
    this.charts.push(chart);
    const log = checkbox("log", options.log, (on) => {
      chart.options = { ...chart.options, log: on };
    });
    caption.append(head, about, log);
    if (name === "lines") caption.append(this.buildSmoothing());
    figure.append(caption, host);
    figure.setAttribute("aria-label", typeof title === "string" ? title : "Metric");
    return figure;
  }

  private buildSmoothing(): HTMLElement {
    const label = element("label", "tw-tool");
    const range = element("input", "");
    Object.assign(range, { type: "range", min: "0", max: "0.95", step: "0.05" });
    range.value = String(this.smoothing);
    range.setAttribute("aria-label", "Smoothing");
    range.addEventListener("input", () => {
      this.smoothing = Number(range.value);
      for (const chart of this.charts) {
        chart.options = { ...chart.options, smoothing: this.smoothing };
      }
    });
    label.append("smooth", range);
    return label;
  }

  private draw(): void {
    // Colours come from the host's page; outside of it there are none.
    if (!this.root.isConnected) return;
    const status = this.store.status;
    const alive = this.isAlive();
    this.root.classList.toggle("tw-gone", !alive);
    if (!status) {
      setText(this.status, LABELS.idle);
      setText(this.detail, alive ? "" : GONE);
      return;
    }
    this.drawHeader(status, alive);
    this.controls.update(status, alive);
    this.drawGame(status);
    this.offerMetrics();
    this.drawCharts();
    this.log.update(this.store.notes);
    this.drawAbouts(status);
    this.models.update(this.store.library, status, alive);
    this.models.draw(performance.now() / 1000, status.pace, this.theme);
  }

  /** At most one a frame, in turn: all at once would make the board stutter. */
  private drawCharts(): void {
    for (let i = 0; i < this.charts.length; i += 1) {
      const chart = this.charts[this.turn % this.charts.length]!;
      this.turn += 1;
      if (chart.draw(this.theme)) return;
    }
  }

  private drawAbouts(status: Status): void {
    const texts: Record<string, string> = {
      lines: `${this.latestEvaluation()}, ${status.evaluation_games} games`,
      reward: "training, running mean of 100",
    };
    for (const [name, about] of this.abouts) {
      setText(about, this.readings.get(name) ?? texts[name] ?? "");
    }
  }

  private latestEvaluation(): string {
    const held = this.store.series.get("evaluation/lines");
    const [lo, hi, mean] = [held?.lo.at(-1), held?.hi.at(-1), held?.mean.at(-1)];
    if (lo === undefined || hi === undefined || mean === undefined) return "evaluation";
    return `evaluation ${amount(mean)} (${amount(lo)} to ${amount(hi)})`;
  }

  private drawHeader(status: Status, alive: boolean): void {
    setText(this.status, LABELS[status.state]);
    this.root.dataset.state = status.state;
    setText(this.detail, alive ? detailOf(status) : GONE);
    this.detail.classList.toggle("tw-silent", Boolean(status.not_responding));
    this.detail.title = this.detail.textContent ?? "";
    const share = Math.min(1, status.timesteps / status.total_timesteps);
    this.bar.style.width = `${share * 100}%`;
    this.progress.setAttribute("aria-valuenow", String(Math.floor(share * 100)));
    const total = `${whole(status.timesteps)} / ${whole(status.total_timesteps)}`;
    this.progress.setAttribute("aria-valuetext", `${total} timesteps`);
    setText(this.steps, `${total} timesteps`);
    this.steps.style.minWidth = `${2 * whole(status.total_timesteps).length + 11}ch`;
    setText(this.fps, `${whole(status.fps)}/s`);
    const left = status.remaining === null ? "–:––" : clock(status.remaining);
    setText(this.time, `${clock(status.elapsed)} · ${left} left`);
  }

  private drawGame(status: Status): void {
    const pace = status.view === "step" ? 60 : status.pace;
    const now = performance.now() / 1000;
    if (status.state === "paused" && this.board.player.isWaiting) {
      this.board.player.clear(); // the board stands still
    }
    const { rows, columns } = status;
    const frame = this.board.draw(now, pace, rows, columns, this.theme);
    const [lines, pieces] = [whole(frame?.lines ?? 0), whole(frame?.pieces ?? 0)];
    const label = `Tetris board, ${lines} lines, ${pieces} pieces`;
    if (this.canvas.getAttribute("aria-label") !== label) {
      this.canvas.setAttribute("aria-label", label);
    }
    setText(this.lines, lines);
    setText(this.pieces, pieces);
    setText(this.best, status.best_lines === null ? "–" : whole(status.best_lines));
    const crowned = status.best_eval;
    setText(this.bestMean, crowned ? amount(crowned.mean) : "–");
    const range = crowned ? `${short(crowned.lo)} to ${short(crowned.hi)}` : "";
    setText(this.bestRange, range);
  }

  private offerMetrics(): void {
    const names = [...this.store.series.keys()].filter((name) => !CHARTED.test(name));
    if (names.length === this.select.options.length) return;
    const chosen = this.metric;
    const options = names.sort().map((name) => {
      const option = document.createElement("option");
      option.value = name;
      option.textContent = PRETTY[name] ?? name.replace(/^train\//, "");
      option.selected = name === chosen;
      return option;
    });
    this.select.replaceChildren(...options);
    const chart = this.charts[2]!;
    chart.options = { ...selectedChart(this.select.value), ...this.kept(chart) };
  }
}

const GONE = "The kernel was restarted: use TrainingPanel.attach()";

/** What is to be said of a status beside its one word. */
export function detailOf(status: Status): string {
  const silent = status.not_responding;
  if (silent) {
    return `not responding for ${Math.round(silent.seconds)} s (${silent.phase})`;
  }
  if (STARTABLE.has(status.state) && status.reason) return status.reason;
  if (status.detail) return status.detail;
  const goal = status.target_lines;
  return goal ? `goal: ${goal.toLocaleString("en-US")} lines per game` : "";
}

function linesChart(): ChartOptions {
  return {
    height: 190,
    log: true,
    showsGoal: true,
    smoothing: 0.3,
    curves: [
      { series: "evaluation/lines", column: "hi", ...EDGE },
      { series: "evaluation/lines", column: "lo", ...EDGE },
      { label: "games", between: [3, 4], series: "episode/lines", ...CLOUD_LO },
      { series: "episode/lines", ...CLOUD_HI },
      {
        label: "training",
        series: "running/lines",
        column: "mean",
        colour: "--tw-muted",
        ...LINE,
      },
      {
        label: "evaluation",
        between: [2, 1],
        series: "evaluation/lines",
        column: "mean",
        colour: "--tw-accent",
        ...LINE,
      },
    ],
    band: [1, 2],
  };
}

const EDGE = { kind: "edge", colour: "--tw-accent" } as const;

function rewardChart(): ChartOptions {
  return {
    height: 132,
    log: false,
    smoothing: 0.3,
    curves: [
      { label: "games", between: [1, 2], series: "episode/reward", ...CLOUD_LO },
      { series: "episode/reward", ...CLOUD_HI },
      {
        label: "mean",
        series: "running/reward",
        column: "mean",
        colour: "--tw-accent",
        ...LINE,
      },
    ],
  };
}

function selectedChart(series: string): ChartOptions {
  return {
    height: 132,
    log: false,
    smoothing: 0.3,
    curves: [
      { series, column: "lo", ...EDGE },
      { series, column: "hi", ...EDGE },
      {
        label: "mean",
        between: [1, 2],
        series,
        column: "mean",
        colour: "--tw-accent",
        ...LINE,
      },
    ],
    band: [2, 1],
  };
}

function titled(title: string, content: HTMLElement): HTMLElement {
  const box = element("div", "");
  const head = element("h4", "");
  head.textContent = title;
  box.append(head, content);
  return box;
}

function checkbox(
  name: string,
  checked: boolean,
  changed: (on: boolean) => void,
): HTMLElement {
  const label = element("label", "tw-tool");
  const input = element("input", "");
  input.type = "checkbox";
  input.checked = checked;
  input.addEventListener("change", () => changed(input.checked));
  label.append(input, name);
  return label;
}
