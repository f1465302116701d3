// One view of a run: its DOM, drawn from the store once per animation frame. Knows
// nothing of messages: commands go to `send`.

import { Board } from "./board";
import { Chart, type ChartOptions, Zoom } from "./charts";
import { Controls, LABELS, STARTABLE } from "./controls";
import {
  DEFAULT_METRIC,
  linesChart,
  metricChart,
  metricsOf,
  rewardChart,
  titleOf,
} from "./curves";
import { element, Fact, setText } from "./dom";
import { amount, clock, end, isOpen, whole } from "./format";
import { Log } from "./log";
import { Models } from "./models";
import type { Command, Status } from "./protocol";
import type { Store } from "./store";
import { followTheme } from "./theme";

export class PanelView {
  private readonly root = element("section", "tetris-widget");
  private readonly status = element("span", "tw-status");
  private readonly detail = element("span", "tw-detail");
  private readonly progress = element("div", "tw-progress");
  private readonly bar = element("i", "");
  private readonly steps = new Fact();
  private readonly fps = new Fact();
  private readonly time = new Fact();
  private readonly lines = element("b", "");
  private readonly pieces = element("b", "");
  private readonly best = element("b", "");
  private readonly bestMean = element("b", "");
  private readonly bestNote = element("span", "tw-range");
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
  private readonly abouts = new Map<string, About>();
  /** What hovering over each chart reads. */
  private readonly readings = new Map<string, string | null>();
  private theme = 0;
  private turn = 0;
  private smoothing = 0.3;
  private metric = DEFAULT_METRIC;
  private metrics = "";
  private runs: number;
  private framesView: string | null = null;

  constructor(
    private readonly store: Store,
    send: (command: Command, file?: ArrayBuffer) => void,
    private readonly trouble: () => string | null,
  ) {
    // Not a count: a host loads this module anew for every panel of a page.
    const id = `tw-${Math.random().toString(36).slice(2)}`;
    this.runs = store.runs;
    this.controls = new Controls(send, `${id}-view`);
    const reduced = matchMedia("(prefers-reduced-motion: reduce)");
    this.board = new Board(this.canvas, this.next, () => reduced.matches);
    this.models = new Models(
      (job, file) => send({ command: "library", job }, file),
      `${id}-models`,
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
    this.followRun();
    if (this.framesView !== this.store.framesView) this.board.player.clear();
    this.framesView = this.store.framesView;
    this.board.player.push(frames);
  }

  /** Begins anew when another run takes the place of the one that was shown. */
  private followRun(): void {
    if (this.runs === this.store.runs) return;
    this.runs = this.store.runs;
    this.zoom.range = null;
    this.board.player.reset();
  }

  private onKey(event: KeyboardEvent): void {
    if (event.key === "Escape") {
      const { activeElement } = this.root.getRootNode() as Document;
      (activeElement as HTMLElement | null)?.blur();
      return; // the notebook takes over
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the host's
    // The notebook's own shortcuts (a, b, dd, …) must not act on keys meant for us.
    event.stopPropagation();
    const target = event.target as HTMLElement;
    // A radio is chosen by the arrows, and a slider has no use for Space.
    const usesSpace = target.closest(
      "button, input:not([type=radio], [type=range]), select, summary",
    );
    if (event.key === " " && !usesSpace) {
      event.preventDefault();
      // A key that is held down is one press.
      if (!event.repeat) this.controls.togglePause();
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
    // What most runs need: nothing moves when they begin.
    this.fps.reserve("*10,000*/s");
    this.time.reserve("0:00 · *0:00* left");
    facts.append(...[this.steps, this.fps, this.time].map((fact) => fact.element));
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
    model.append(this.bestMean, this.bestNote, this.bestRange);
    const confirmed = titled("Best model", model);
    confirmed.setAttribute("role", "group");
    confirmed.setAttribute("aria-label", "Best confirmed model");
    confirmed.title = CONFIRMED;
    side.append(
      titled("Next", this.next),
      titled("Lines", this.lines),
      titled("Pieces", this.pieces),
      titled("Best game", this.best),
      confirmed,
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
      this.buildChart(this.select, metricChart(DEFAULT_METRIC), "metric"),
    );
    this.select.setAttribute("aria-label", "Metric");
    this.select.addEventListener("change", () => {
      this.metric = this.select.value;
      this.showMetric();
    });
    this.smoothCharts();
    return charts;
  }

  private showMetric(): void {
    const chart = this.charts[2]!;
    const { log, smoothing } = chart.options;
    chart.options = { ...metricChart(this.select.value), log, smoothing };
  }

  private smoothCharts(): void {
    for (const chart of this.charts) {
      chart.options = { ...chart.options, smoothing: this.smoothing };
    }
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
    const about = new About();
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
    const heading = typeof title === "string" ? title : "Metric";
    const log = checkbox("log", `log: ${heading}`, options.log, (on) => {
      chart.options = { ...chart.options, log: on };
    });
    caption.append(head, about.element, log);
    if (name === "lines") caption.append(this.buildSmoothing());
    figure.append(caption, host);
    figure.dataset.name = name;
    figure.setAttribute("aria-label", heading);
    return figure;
  }

  private buildSmoothing(): HTMLElement {
    const label = element("label", "tw-tool");
    const range = element("input", "");
    const value = element("span", "tw-weight");
    Object.assign(range, { type: "range", min: "0", max: "0.95", step: "0.05" });
    range.value = String(this.smoothing);
    range.setAttribute("aria-label", "Smoothing");
    const show = () => setText(value, this.smoothing.toFixed(2));
    range.addEventListener("input", () => {
      this.smoothing = Number(range.value);
      this.smoothCharts();
      show();
    });
    show();
    label.append("smooth", range, value);
    return label;
  }

  private draw(): void {
    // Colours come from the host's page; outside of it there are none.
    if (!this.root.isConnected) return;
    const status = this.store.status;
    const trouble = this.trouble();
    const alive = trouble === null;
    this.root.classList.toggle("tw-gone", !alive);
    if (!status) {
      setText(this.status, LABELS.idle);
      setText(this.detail, trouble ?? "");
      return;
    }
    this.followRun();
    this.drawHeader(status, trouble);
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
    const games = status.episodes ? `each of ${whole(status.episodes)} games` : "";
    const metrics = this.select.options.length;
    const training = `training${where(status)}, mean of 100`;
    const keys: Record<string, Key[]> = {
      lines: [
        ["band", `${this.latestEvaluation()}, ${status.evaluation_games} games`],
        ["mean", training],
        ["cloud", "each game"],
      ],
      reward: [
        ["line", training],
        ["cloud", games || "each game"],
      ],
      metric: [["none", `one of ${metrics} metrics`]],
    };
    for (const [name, about] of this.abouts) {
      about.show(keys[name] ?? [], this.readings.get(name) ?? null);
    }
  }

  private latestEvaluation(): string {
    const held = this.store.series.get("evaluation/lines");
    const [lo, hi, mean] = [held?.lo.at(-1), held?.hi.at(-1), held?.mean.at(-1)];
    if (lo === undefined || hi === undefined || mean === undefined) return "evaluation";
    const said = (value: number) => (value < 1 ? end(value) : amount(value));
    if (isOpen(mean, hi)) return `evaluation at least ${said(lo)} (no game ended)`;
    return `evaluation ${amount(mean)} (95 %: ${said(lo)} to ${said(hi)})`;
  }

  private drawHeader(status: Status, trouble: string | null): void {
    setText(this.status, LABELS[status.state]);
    this.root.dataset.state = status.state;
    setText(this.detail, trouble ?? detailOf(status));
    this.detail.classList.toggle("tw-silent", Boolean(status.not_responding));
    this.detail.title = this.detail.textContent ?? "";
    const share = Math.min(1, status.timesteps / status.total_timesteps);
    this.bar.style.width = `${share * 100}%`;
    this.progress.setAttribute("aria-valuenow", String(Math.floor(share * 100)));
    const [done, total] = [whole(status.timesteps), whole(status.total_timesteps)];
    this.progress.setAttribute("aria-valuetext", `${done} / ${total} timesteps`);
    this.steps.reserve(`*${total}* / ${total} timesteps`);
    this.steps.set(`*${done}* / ${total} timesteps`);
    this.fps.set(`*${whole(status.fps)}*/s`);
    this.time.set(timeOf(status));
  }

  private drawGame(status: Status): void {
    const pace = status.view === "step" ? 60 : status.pace;
    const now = performance.now() / 1000;
    // The board stands still, in every view at the same move.
    if (status.state === "paused") this.board.player.settle();
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
    this.best.title = `of training's games${where(status)}`;
    const crowned = status.best_eval;
    let [mean, range] = ["–", ""];
    if (crowned && isOpen(crowned.mean, crowned.hi)) {
      [mean, range] = [`≥ ${end(crowned.lo)}`, "no game ended"];
    } else if (crowned) {
      mean = amount(crowned.mean);
      range = `${end(crowned.lo)} to ${end(crowned.hi)}`;
    }
    setText(this.bestMean, mean);
    setText(this.bestNote, crowned ? "confirmed" : "none yet");
    setText(this.bestRange, range);
  }

  private offerMetrics(): void {
    const found = metricsOf(this.store.series.keys());
    const names = found.length ? found : [this.metric];
    if (names.join() === this.metrics) return;
    this.metrics = names.join();
    const options = names.map((name) => {
      const option = document.createElement("option");
      option.value = name;
      option.textContent = titleOf(name);
      option.selected = name === this.metric;
      return option;
    });
    this.select.replaceChildren(...options);
    this.showMetric();
  }
}

const CONFIRMED =
  "Mean lines per game of the best model, confirmed in fresh games, and the 95 % " +
  "interval. A newer policy may have done better in the evaluation; it becomes the " +
  "best when fresh games confirm it.";

type Key = [kind: "band" | "line" | "mean" | "cloud" | "none", text: string];

/** What a chart shows: the legend, or what is under the pointer. */
class About {
  readonly element = element("span", "tw-about");
  private shown = "";

  show(keys: Key[], reading: string | null): void {
    const wanted = JSON.stringify(reading ?? keys);
    if (wanted === this.shown) return;
    this.shown = wanted;
    this.element.replaceChildren(
      ...(reading === null ? keys.map(([kind, text]) => keyOf(kind, text)) : [reading]),
    );
  }
}

function keyOf(kind: string, text: string): HTMLElement {
  const key = element("span", "tw-key");
  if (kind !== "none") key.append(element("i", `tw-key-${kind}`));
  key.append(text);
  return key;
}

/** " on 8 rows": the boards that are learned from, if they are low. */
function where({ training_rows: low, rows }: Status): string {
  return low < rows ? ` on ${low} rows` : "";
}

/** "0:11 · 0:13 left", or how long it took. */
export function timeOf(status: Status): string {
  const elapsed = clock(status.elapsed);
  if (STARTABLE.has(status.state)) return elapsed;
  const left = status.remaining === null ? "–:––" : clock(status.remaining);
  return `${elapsed} · *${left}* left`;
}

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

function titled(title: string, content: HTMLElement): HTMLElement {
  const box = element("div", "");
  const head = element("h4", "");
  head.textContent = title;
  box.append(head, content);
  return box;
}

function checkbox(
  text: string,
  name: string,
  checked: boolean,
  changed: (on: boolean) => void,
): HTMLElement {
  const label = element("label", "tw-tool");
  const input = element("input", "");
  input.type = "checkbox";
  input.checked = checked;
  input.setAttribute("aria-label", name);
  input.addEventListener("change", () => changed(input.checked));
  label.append(input, text);
  return label;
}
