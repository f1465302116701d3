// What each chart shows: its curves, their names and colours. Pure; knows nothing of
// how they are drawn.

import type { ChartOptions, Curve } from "./charts";

/** What people call a metric, and its sign where they turn it round. */
const METRICS: Record<string, { title: string; sign?: -1 }> = {
  "episode/length": { title: "Game length" },
  "speed/fps": { title: "Timesteps per second" },
  // The loss is what is minimised: the negative entropy.
  "train/entropy_loss": { title: "Entropy", sign: -1 },
  "train/loss": { title: "Loss" },
  "train/value_loss": { title: "Value loss" },
  "train/policy_gradient_loss": { title: "Policy loss" },
  "train/learning_rate": { title: "Learning rate" },
  "train/approx_kl": { title: "Approximate KL" },
  "train/clip_fraction": { title: "Clip fraction" },
  "train/explained_variance": { title: "Explained variance" },
};
export const DEFAULT_METRIC = "train/entropy_loss";
/** Series that have a chart of their own already. */
const CHARTED = /^(evaluation|running)\/|^episode\/(lines|reward)$/;

const BIG = 178;
const SMALL = 124;
const LINE = { kind: "line", column: "mean", smooth: true } as const;
const EDGE = { kind: "edge", colour: "--tw-accent" } as const;
const CLOUD = { kind: "points", colour: "--tw-cloud" } as const;

/** What a metric is called. */
export function titleOf(series: string): string {
  return METRICS[series]?.title ?? series.replace(/^train\//, "");
}

/** The series of which one can be chosen for the third chart. */
export function metricsOf(series: Iterable<string>): string[] {
  return [...series].filter((name) => !CHARTED.test(name)).sort();
}

export function linesChart(): ChartOptions {
  return {
    height: BIG,
    log: true,
    // Of less than a line there is nothing to tell apart.
    leastDecade: 0,
    showsGoal: true,
    smoothing: 0,
    curves: [
      { ...EDGE, series: "evaluation/lines", column: "hi" },
      { ...EDGE, series: "evaluation/lines", column: "lo" },
      { ...between("games", 3, 4), ...CLOUD, series: "episode/lines", column: "lo" },
      { ...CLOUD, series: "episode/lines", column: "hi" },
      { ...LINE, label: "training", series: "running/lines", colour: "--tw-muted" },
      {
        ...LINE,
        ...between("evaluation", 2, 1),
        series: "evaluation/lines",
        colour: "--tw-accent",
      },
    ],
    band: [1, 2],
  };
}

export function rewardChart(): ChartOptions {
  return {
    height: SMALL,
    log: false,
    smoothing: 0,
    curves: [
      { ...between("games", 1, 2), ...CLOUD, series: "episode/reward", column: "lo" },
      { ...CLOUD, series: "episode/reward", column: "hi" },
      { ...LINE, label: "mean", series: "running/reward", colour: "--tw-accent" },
    ],
  };
}

export function metricChart(series: string): ChartOptions {
  const sign = METRICS[series]?.sign ?? 1;
  const common = { series, sign } as const;
  return {
    height: SMALL,
    log: false,
    smoothing: 0,
    curves: [
      { ...EDGE, ...common, column: sign > 0 ? "lo" : "hi" },
      { ...EDGE, ...common, column: sign > 0 ? "hi" : "lo" },
      { ...LINE, ...between("mean", 1, 2), ...common, colour: "--tw-accent" },
    ],
    band: [2, 1],
  };
}

function between(label: string, low: number, high: number): Partial<Curve> {
  return { label, between: [low, high] };
}
