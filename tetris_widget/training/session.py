"""One run: a model, its environments, and everything that happens beside the learning.

Owns how evaluation and the watched game share the training thread, and what each may
cost. Deliberately doesn't know processes: any queues and Events will do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from stable_baselines3.common.base_class import BaseAlgorithm

from tetris_widget.config import TrainingConfig, View, check_speed, moves_per_second
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.ipc import Pulse
from tetris_widget.run_directory import RunDirectory, read_metadata, to_jsonable
from tetris_widget.training.best import save_model, take_parameters
from tetris_widget.training.callback import (
    MAX_EPISODES_KEPT,
    StopTraining,
    WebMetricsCallback,
)
from tetris_widget.training.checkpoint import (
    Snapshot,
    copy_parameters,
    reports_of,
    restore,
)
from tetris_widget.training.checkpointer import (
    Checkpointer,
    has_replay_buffer,
    last_checkpoint,
)
from tetris_widget.training.display import DisplayGame
from tetris_widget.training.evaluation import CONTEST_OFFSET, Evaluation, Evaluator
from tetris_widget.training.policies import build_model

# An evaluation runs in slices so short that nobody notices them.
EVALUATION_SLICE_SECONDS = 0.004
EVALUATION_SPACING_SECONDS = 0.5
# Granted at the start, so that the first point does not wait for its budget.
ADVANCE_SECONDS = 0.03
WATCH_COST_WINDOW_SECONDS = 3.0


class TrainingSession:
    """A run that can be steered by commands and Events, and reports to a queue.

    Args:
        config: of the run.
        run: where it is kept; the caller is its only writer.
        metrics_queue: takes what is reported; `sync()` puts it on disk.
        command_queue: gives commands.
        pause_event: set = run, cleared = pause.
        stop_event: set = stop.
        resume: go on from a checkpoint: the one that `checkpoint` names, or the newest
            (None); without `resume` the run is new.
        pulse: is told that the run is alive, and its phase.

    Raises:
        CheckpointError: there is no checkpoint to go on from.
    """

    def __init__(
        self,
        config: TrainingConfig,
        run: RunDirectory,
        metrics_queue: Any,
        command_queue: Any,
        pause_event: Any,
        stop_event: Any,
        resume: Mapping[str, Any] | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self._config = config
        self._run = run
        self._metrics_queue = metrics_queue
        self._env = TetrisVecEnv(
            config.n_envs,
            rows=config.rows,
            columns=config.columns,
            randomizer=config.randomizer,
            observation=config.observation,
            max_pieces=config.max_pieces,
            seed=config.seed,
        )
        self._model = build_model(config, self._env)
        self._callback = WebMetricsCallback(
            metrics_queue,
            command_queue,
            pause_event,
            stop_event,
            checkpoint_dir=run.path,
            update_freq=config.update_freq,
            board_update_freq=config.board_update_freq,
        )
        self._callback.pulse = pulse
        self._callback.raise_on_stop = True
        self._callback.acts_between_rollouts = has_replay_buffer(self._model)
        watch = _Watch(config, self._model, self._callback)
        self._callback.background.append(watch.tick)
        self._callback.handlers["set_view"] = watch.on_set_view
        self._callback.handlers["set_speed"] = watch.on_set_speed
        self._evaluation = _Evaluation(config, run, self._model, self._callback)
        if config.evaluation:
            self._callback.background.append(self._evaluation.tick)
        self._resumed = None if resume is None else self._go_on(resume)
        if resume is None and config.initial_model is not None:
            take_parameters(self._model, Path(config.initial_model))
        self._checkpointer = Checkpointer(
            run,
            self._model,
            self._callback,
            config.checkpoint_seconds,
            lambda: {"evaluation": self._evaluation.get_state()},
            metrics_queue.sync,
            self._resumed,
        )
        self._callback.between_rollouts.append(self._checkpointer.begin_rollout)
        self._callback.on_pause.append(self._checkpointer.save)
        save = self._checkpointer.on_save_checkpoint
        self._callback.handlers["save_checkpoint"] = save
        self._callback.handlers["save_model"] = self._on_save_model

    @property
    def progress(self) -> dict[str, Any]:
        """How far it is: `timesteps`, and `elapsed` seconds without pauses."""
        return {
            "timesteps": self._model.num_timesteps,
            "elapsed": self._callback.elapsed,
        }

    @property
    def goal(self) -> str | None:
        """What the run has reached, so that it ended before its last timestep."""
        return self._callback.goal

    def train(self) -> str:
        """Train until the end or a stop; return `finished` or `stopped`."""
        left = self._config.total_timesteps
        if self._resumed is not None:
            left -= self._resumed.timesteps
        try:
            self._model.learn(
                left,
                callback=self._callback,
                reset_num_timesteps=self._resumed is None,
            )
        except StopTraining:
            self._callback.on_training_end()
        except BaseException:
            self._checkpointer.save_after_failure()
            raise
        # `learn` returns alike for the end and for a stop.
        outcome = "stopped" if self._callback.has_stopped else "finished"
        if self._callback.has_stopped or self.goal is not None:
            self._checkpointer.save()  # in the middle of a rollout
        else:
            self._checkpointer.save_end()
        self._save_last_model(outcome)
        return outcome

    def _go_on(self, resume: Mapping[str, Any]) -> Snapshot:
        """Make the run what it was at a checkpoint."""
        path, snapshot = last_checkpoint(
            self._run, resume["checkpoint"], self._callback.warn
        )
        restore(self._model, snapshot)
        reports = reports_of(snapshot)
        self._callback.set_state(reports)
        self._evaluation.set_state(snapshot.values["extra"]["evaluation"])
        self._run.rewind(snapshot.timesteps, reports["episode_count"])
        episodes = self._run.episodes().tail(MAX_EPISODES_KEPT)
        self._callback.episode_rewards.extend(episodes["reward"].tolist())
        lines = episodes["lines"].dropna().astype(int)
        self._callback.episode_lines.extend(lines.tolist())
        for difference in snapshot.differences:
            self._callback.warn(f"resumed, but perhaps not bit for bit: {difference}")
        self._metrics_queue.put(
            {
                "type": "resume",
                "timesteps": snapshot.timesteps,
                "elapsed": reports["elapsed"],
                "episode": reports["episode_count"],
                "checkpoint": path.name,
                "is_exact": not snapshot.differences,
            }
        )
        return snapshot

    def _on_save_model(self, _: Mapping[str, Any]) -> None:
        """Save the model as it is now, and say so."""
        metadata = {
            "timesteps": self._model.num_timesteps,
            "best_lines": self._callback.best_lines,
            "saved_at": time.time(),
        }
        path = self._run.current_model_file
        text = f"the model of now is in checkpoints/{path.name}"
        is_saved = True
        try:
            save_model(self._model, path, metadata)
        except OSError as error:
            text = f"could not save the model of now: {error.strerror or error}"
            is_saved = False
        self._callback.send("info", kind="model", text=text, is_saved=is_saved)

    def _save_last_model(self, outcome: str) -> None:
        metadata = {"timesteps": self._model.num_timesteps, "outcome": outcome}
        try:
            with self._callback.during("saving"):
                save_model(self._model, self._run.last_model_file, metadata)
        except OSError as error:
            self._callback.warn(f"could not save the last model: {error.strerror}")


class _Watch:
    """Plays the watched game at its own pace, and measures what that costs."""

    def __init__(
        self,
        config: TrainingConfig,
        model: BaseAlgorithm,
        callback: WebMetricsCallback,
    ) -> None:
        self._model = model
        self._callback = callback
        self._game = DisplayGame(config)
        self._view: str = "headless"
        self._period = 1.0
        self._due = 0.0
        self._spent = 0.0
        self._since = time.perf_counter()
        self._set_view(config.view)
        self.on_set_speed({"speed": config.speed})

    def tick(self) -> None:
        """Play the next move if it is due."""
        if self._view != "watch":
            return
        now = time.perf_counter()
        if now < self._due:
            return
        # Moves that were missed (a long update) are not made up for.
        self._due = max(self._due + self._period, now)
        self._callback.send_frame(self._game.move(self._model), view="watch")
        self._spent += time.perf_counter() - now
        self._measure(now)

    def on_set_view(self, command: Mapping[str, Any]) -> None:
        """Change what is shown."""
        view = command["view"]
        if view not in get_args(View):
            allowed = ", ".join(get_args(View))
            raise ValueError(f"view: {view!r} is refused; allowed: {allowed}")
        self._set_view(view)

    def on_set_speed(self, command: Mapping[str, Any]) -> None:
        """Change the pace of the watched game and of the step view."""
        self._callback.set_speed(command)
        self._period = 1.0 / moves_per_second(check_speed(command["speed"]))
        self._due = 0.0

    def _set_view(self, view: str) -> None:
        self._view = view
        self._callback.visual_mode = view == "step"
        self._callback.watch_cost = None
        self._spent = 0.0
        self._since = time.perf_counter()

    def _measure(self, now: float) -> None:
        seconds = now - self._since
        if seconds >= WATCH_COST_WINDOW_SECONDS or self._callback.watch_cost is None:
            self._callback.watch_cost = self._spent / max(seconds, self._period)
        if seconds >= WATCH_COST_WINDOW_SECONDS:
            self._spent = 0.0
            self._since = now


class _Evaluation:
    """Evaluates the current policy over and over, within its share of the time.

    A policy that does better than the best so far is a candidate for `best_eval/`: it
    plays again, games that are the same for every candidate, and is saved if it does
    better than the best did in those.
    """

    def __init__(
        self,
        config: TrainingConfig,
        run: RunDirectory,
        model: BaseAlgorithm,
        callback: WebMetricsCallback,
    ) -> None:
        self._config = config
        self._path = run.best_evaluated_model_file
        self._model = model
        self._callback = callback
        self._evaluator = Evaluator(config)
        self._spent = 0.0
        self._due = 0.0
        self._timesteps = 0
        self._is_contest = False
        self._goal: str | None = None
        self._parameters: dict[str, Any] = {}
        # Another run may have left a better one here.
        saved = read_metadata(self._path) or {}
        self._best = float(saved.get("mean_lines", 0.0))

    def get_state(self) -> dict[str, Any]:
        """Return what goes on after a resume; an evaluation under way begins anew."""
        return {"seed": self._evaluator.seed, "spent": self._spent}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `get_state` was called."""
        self._evaluator.seed = state["seed"]
        self._spent = state["spent"]

    def tick(self) -> None:
        """Go on with the evaluation for a slice, if the budget allows it."""
        elapsed = self._callback.elapsed
        budget = self._config.evaluation_budget * elapsed + ADVANCE_SECONDS
        # There is no training left to be slowed once the goal is reached.
        if self._spent > budget and self._goal is None:
            return
        if not self._evaluator.is_busy and elapsed < self._due:
            return
        before = time.perf_counter()
        with self._callback.during("evaluation"):
            if not self._evaluator.is_busy:
                self._begin(elapsed)
            result = self._evaluator.advance(EVALUATION_SLICE_SECONDS)
        was_contest = self._is_contest
        if result is not None and was_contest:
            self._end_contest(result)
        self._spent += time.perf_counter() - before
        if result is not None and not was_contest:
            self._report(result, elapsed)
        if self._goal is not None and not self._is_contest:
            self._callback.goal = self._goal

    def _begin(self, elapsed: float) -> None:
        self._due = elapsed + EVALUATION_SPACING_SECONDS
        if self._is_contest:
            self._evaluator.begin_contest()
            return
        self._evaluator.begin(self._model)
        self._parameters = copy_parameters(self._model.get_parameters())
        self._timesteps = self._model.num_timesteps

    def _report(self, result: Evaluation, elapsed: float) -> None:
        fields = asdict(result) | {"timesteps": self._timesteps}
        fields["cost"] = self._spent / max(elapsed, 1.0)
        self._callback.send("evaluation", **fields)
        if result.mean_lines > self._best:
            self._is_contest = True
            self._due = 0.0
        target = self._config.target_lines
        if target is not None and result.mean_lines >= target:
            self._goal = f"reached {target:,.15g} lines per game"

    def _end_contest(self, result: Evaluation) -> None:
        self._is_contest = False
        if result.mean_lines <= self._best:
            return
        metadata = to_jsonable(
            {
                **asdict(result),
                "seed": (self._config.seed or 0) + CONTEST_OFFSET,
                "max_pieces": self._config.evaluation_max_pieces,
                "timesteps": self._timesteps,
                "algorithm": type(self._model).__name__,
                "saved_at": time.time(),
            }
        )
        try:
            with self._callback.during("saving"):
                save_model(self._model, self._path, metadata, self._parameters)
        except OSError as error:
            reason = error.strerror or error
            self._callback.warn(f"could not save the best evaluated model: {reason}")
            return
        self._best = result.mean_lines
        self._callback.send(
            "info",
            kind="best_eval",
            text=f"best evaluation: {result.mean_lines:,.1f} lines per game "
            f"({result.lower:,.1f} to {result.upper:,.1f}), saved to best_eval/",
            mean_lines=result.mean_lines,
            lower=result.lower,
            upper=result.upper,
        )
