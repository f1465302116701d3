// What the tests share. Not part of the bundle.

import type { Status } from "./protocol";

/** A run under way. */
export const STATUS: Status = {
  state: "running",
  reason: null,
  detail: null,
  timesteps: 100,
  total_timesteps: 1000,
  elapsed: 11,
  remaining: 99,
  fps: 10,
  episodes: 1204,
  best_lines: null,
  best_eval: null,
  target_lines: null,
  not_responding: null,
  view: "watch",
  speed: 0.5,
  pace: 1000,
  watch_cost: null,
  evaluation_cost: null,
  evaluation_games: 20,
  run_dir: "runs/one",
  rows: 20,
  columns: 10,
  training_rows: 20,
  can_resume: false,
  more_timesteps: 1000,
  marks: [],
};
