"""One run: a model, its environments, and everything that happens beside the learning.

Owns how evaluation and the watched game share the training thread, and what each may
cost. Deliberately doesn't know processes: any queues and Events will do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args

from stable_baselines3.common.base_class import BaseAlgorithm

from tetris_widget.config import TrainingConfig, View, check_speed, moves_per_second
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.run_directory import RunDirectory
from tetris_widget.training.best import save_model
from tetris_widget.training.callback import StopTraining, WebMetricsCallback
from tetris_widget.training.display import DisplayGame
from tetris_widget.training.evaluation import Evaluator
from tetris_widget.training.policies import build_model

# An evaluation runs in slices so short that nobody notices them.
EVALUATION_SLICE_SECONDS = 0.004
EVALUATION_SPACING_SECONDS = 0.5
# Granted at the start, so that the first point does not wait for its budget.
EVALUATION_ADVANCE_SECONDS = 0.03
WATCH_COST_WINDOW_SECONDS = 3.0


class TrainingSession:
    """A run that can be steered by commands and Events, and reports to a queue."""

    def __init__(
        self,
        config: TrainingConfig,
        run: RunDirectory,
        metrics_queue: Any,
        command_queue: Any,
        pause_event: Any,
        stop_event: Any,
    ) -> None:
        self._config = config
        self._run = run
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
        self._callback.raise_on_stop = True
        watch = _Watch(config, self._model, self._callback)
        self._callback.background.append(watch.tick)
        self._callback.handlers["set_view"] = watch.on_set_view
        self._callback.handlers["set_speed"] = watch.on_set_speed
        if config.evaluation:
            evaluation = _Evaluation(config, self._model, self._callback)
            self._callback.background.append(evaluation.tick)

    def train(self) -> str:
        """Train until the end or a stop; return `finished` or `stopped`."""
        total = self._config.total_timesteps
        try:
            self._model.learn(total, callback=self._callback)
        except StopTraining:
            self._callback.on_training_end()
        # `learn` returns alike for the end and for a stop; the count tells.
        outcome = "finished" if self._model.num_timesteps >= total else "stopped"
        self._save_last_model(outcome)
        return outcome

    def _save_last_model(self, outcome: str) -> None:
        metadata = {"timesteps": self._model.num_timesteps, "outcome": outcome}
        try:
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
    """Evaluates the current policy over and over, within its share of the time."""

    def __init__(
        self,
        config: TrainingConfig,
        model: BaseAlgorithm,
        callback: WebMetricsCallback,
    ) -> None:
        self._budget = config.evaluation_budget
        self._model = model
        self._callback = callback
        self._evaluator = Evaluator(config)
        self._spent = 0.0
        self._due = 0.0
        self._timesteps = 0

    def tick(self) -> None:
        """Go on with the evaluation for a slice, if the budget allows it."""
        elapsed = self._callback.elapsed
        if self._spent > self._budget * elapsed + EVALUATION_ADVANCE_SECONDS:
            return
        if not self._evaluator.is_busy and elapsed < self._due:
            return
        before = time.perf_counter()
        if not self._evaluator.is_busy:
            self._evaluator.begin(self._model)
            self._timesteps = self._model.num_timesteps
            self._due = elapsed + EVALUATION_SPACING_SECONDS
        result = self._evaluator.advance(EVALUATION_SLICE_SECONDS)
        self._spent += time.perf_counter() - before
        if result is not None:
            fields = asdict(result) | {"timesteps": self._timesteps}
            fields["cost"] = self._spent / max(elapsed, 1.0)
            self._callback.send("evaluation", **fields)
