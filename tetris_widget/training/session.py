"""One run: a model, its environments, and everything that happens beside the learning.

Owns how evaluation and the watched game share the training thread, and what each may
cost. Deliberately doesn't know processes: any queues and Events will do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from tetris_widget.config import (
    TrainingConfig,
    check_reward,
    check_speed,
    check_view,
    moves_per_second,
)
from tetris_widget.envs import TetrisVecEnv
from tetris_widget.ipc import Pulse
from tetris_widget.run_directory import RunDirectory, read_metadata, to_jsonable
from tetris_widget.training.best import copy_parameters, save_model, take_parameters
from tetris_widget.training.callback import (
    MAX_EPISODES_KEPT,
    RETRY_SECONDS,
    StopTraining,
    WebMetricsCallback,
)
from tetris_widget.training.checkpoint import (
    Snapshot,
    reports_of,
    restore,
)
from tetris_widget.training.checkpointer import (
    Checkpointer,
    has_replay_buffer,
    last_checkpoint,
)
from tetris_widget.training.contest import (
    Contest,
    ContestThread,
    Standing,
    Verdict,
    has_second_core,
)
from tetris_widget.training.display import watched_game
from tetris_widget.training.environments import build_env
from tetris_widget.training.evaluation import Evaluation, Evaluator, Player
from tetris_widget.training.optimizer import ParameterAverage
from tetris_widget.training.policies import build_model
from tetris_widget.training.record import Recorder
from tetris_widget.training.writer import Writer

# A policy's parameters, and the timesteps that it had learned from.
Candidate = tuple[dict[str, Any], int]

# An evaluation runs in slices so short that nobody notices them.
EVALUATION_SLICE_SECONDS = 0.004
EVALUATION_SPACING_SECONDS = 0.5
# Granted at the start, so that the first point does not wait for its budget, and given
# back within so many seconds.
ADVANCE_SECONDS = 0.03
ADVANCED_FOR_SECONDS = 5.0
# How often the policy is averaged, and entered in the contest for the best model; less
# often where that, or saving a best one, would take more than these shares of the time.
AVERAGE_SPACING_SECONDS = 0.05
OFFER_SPACING_SECONDS = 0.25
OFFER_BUDGET = 0.01
# How long who is being confirmed at the end of a run, and then each of its last
# policies, may play to become the best.
SETTLING_SECONDS = 4.0
SAVE_BUDGET = 0.02
# In its beginning a run has several best games a second, and the last one counts.
BEST_SHARE = 0.01
WATCH_COST_WINDOW_SECONDS = 3.0
# The watched game may take this share of the training's time.
WATCH_BUDGET = 0.03
# From so many lines per game on, tenths of one are noise.
MANY_LINES = 100


class TrainingSession:
    """A run that can be steered by commands and Events, and reports to a queue.

    Args:
        config: of the run.
        run: where it is kept; the caller is its only writer.
        metrics_queue: takes what is reported; `keep()` hands it to the operating
            system, `sync()` puts it on disk for good.
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
        self._env = build_env(config)
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
        self._writer = Writer()
        self._callback.store = self._writer.put
        self._callback.best_share = BEST_SHARE
        self._callback.on_pause.append(self._writer.flush)
        self._callback.on_episodes.append(metrics_queue.keep)
        self._callback.raise_on_stop = True
        self._callback.acts_between_rollouts = has_replay_buffer(self._model)
        watch = _Watch(config, self._model, self._callback)
        self._callback.background.append(watch.tick)
        self._callback.handlers["set_mode"] = watch.on_set_mode
        self._callback.handlers["set_view"] = watch.on_set_view
        self._callback.handlers["set_speed"] = watch.on_set_speed
        self._contest = _Contest(config, run, self._model, self._callback, watch.tick)
        self._evaluation = _Evaluation(
            config, self._model, self._callback, self._contest
        )
        self._is_evaluated = config.evaluation and config.env_id is None
        if self._is_evaluated:
            self._callback.background.append(self._evaluation.tick)
        self._resumed = None if resume is None else self._go_on(resume)
        self._callback.between_rollouts.append(self._record_games)
        if resume is None and config.initial_model is not None:
            take_parameters(self._model, Path(config.initial_model))
        self._checkpointer = Checkpointer(
            run,
            self._model,
            self._callback,
            config.checkpoint_seconds,
            self._get_state,
            self._sync,
            self._resumed,
        )
        self._callback.between_rollouts.append(self._checkpointer.begin_rollout)
        self._callback.on_pause.append(self._checkpointer.save)
        save = self._checkpointer.on_save_checkpoint
        self._callback.handlers["save_checkpoint"] = save
        self._callback.handlers["save_model"] = self._on_save_model
        self._callback.handlers["set_reward"] = self._on_set_reward
        if config.env_id is not None:
            text = (
                f"{config.env_id}: no board is shown and no game evaluated, as of ours"
            )
            self._callback.send("info", kind="note", text=text)
        if config.learned_rows < config.rows:
            text = (
                f"learns from games of {config.learned_rows} rows, which end sooner "
                f"and tell more; evaluates, and is watched, in games of {config.rows}"
            )
            self._callback.send("info", kind="note", text=text)

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
        if self._is_evaluated:
            self._contest.open()
        try:
            self._learn(left)
            # `learn` returns alike for the end and for a stop.
            has_stopped = self._callback.has_stopped
            if has_stopped:
                self._contest.close()
            outcome = "stopped" if has_stopped else "finished"
            self._keep_end(outcome)
            if self._is_evaluated and not has_stopped:
                self._contest.settle(self._evaluation.reached)
        except BaseException:
            self._checkpointer.save_after_failure()
            raise
        finally:
            try:
                self._contest.close()
            finally:
                self._callback.store_best()
                self._writer.flush()
        return outcome

    def _keep_end(self, outcome: str) -> None:
        """Write the run as it is now that it has learned."""
        if self._callback.has_stopped or self.goal is not None:
            self._checkpointer.save()  # in the middle of a rollout
            self._tell_what_happens_again()
        else:
            self._checkpointer.save_end()
        self._save_last_model(outcome)

    def _sync(self) -> None:
        """Put on disk, for good, what a checkpoint counts on."""
        self._callback.store_best()
        self._writer.flush()
        self._metrics_queue.sync()

    def _learn(self, timesteps: int) -> None:
        try:
            self._model.learn(
                timesteps,
                callback=self._callback,
                reset_num_timesteps=self._resumed is None,
            )
        except StopTraining:
            self._callback.on_training_end()

    def _tell_what_happens_again(self) -> None:
        """Say how far the run is kept, if a stop in mid-rollout has taken some back."""
        kept, reached = self._checkpointer.saved_timesteps, self._model.num_timesteps
        if kept is not None and kept < reached:
            how = "with the new reward" if self._checkpointer.is_steered else "the same"
            text = (
                f"kept until timestep {kept:,}; the {reached - kept:,} after it happen "
                f"again, {how}, when the run is resumed"
            )
            self._callback.send("info", kind="note", text=text)

    def _record_games(self) -> None:
        """Begin to record, once the env is where the run begins or goes on."""
        if self._callback.recorder is None and self._config.is_benchmark:
            assert isinstance(self._env, TetrisVecEnv)
            self._callback.recorder = Recorder(self._env)

    def _get_state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside the model and the environments."""
        state: dict[str, Any] = {"evaluation": self._evaluation.get_state()}
        if self._config.env_id is None:
            state["reward"] = self._env.get_attr("reward")[0]
        return state

    def _on_set_reward(self, command: Mapping[str, Any]) -> None:
        if self._config.env_id is not None:
            raise ValueError(f"reward: {self._config.env_id} has its own")
        reward = check_reward(command["reward"])
        self._env.set_attr("reward", reward)
        self._checkpointer.steer()
        weights = ", ".join(f"{name} × {weight:g}" for name, weight in reward.items())
        text = f"Reward: {weights}"
        self._callback.send("info", kind="note", text=text, mark="reward")

    def _go_on(self, resume: Mapping[str, Any]) -> Snapshot:
        """Make the run what it was at a checkpoint."""
        path, snapshot = last_checkpoint(
            self._run, resume["checkpoint"], self._callback.warn
        )
        restore(self._model, snapshot)
        reports = reports_of(snapshot)
        self._callback.set_state(reports)
        extra = snapshot.values["extra"]
        self._evaluation.set_state(extra["evaluation"], reports["elapsed"])
        if "reward" in extra:
            self._env.set_attr("reward", extra["reward"])
        self._record_games()
        if self._callback.recorder is not None and reports["recording"]:
            self._callback.recorder.set_state(reports["recording"])
        named = None if resume["checkpoint"] is None else path
        self._run.rewind(snapshot.timesteps, reports["episode_count"], named)
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
        self._game = watched_game(config) if config.env_id is None else None
        self._view: str = "headless"
        self._period = 1.0
        self._due = 0.0
        self._spent = 0.0
        self._since = time.perf_counter()
        self._set_view(config.view)
        self.on_set_speed({"speed": config.speed})

    def tick(self) -> None:
        """Play the next move if it is due."""
        if self._view != "watch" or self._game is None:
            return
        now = time.perf_counter()
        if now < self._due:
            return
        self._callback.send_frame(self._game.move(self._model), view="watch")
        spent = time.perf_counter() - now
        # Moves that were missed (a long update) are not made up for, and a policy that
        # thinks long moves less often.
        self._due = max(self._due + self._period, now, now + spent / WATCH_BUDGET)
        self._spent += spent
        self._measure(now)

    def on_set_view(self, command: Mapping[str, Any]) -> None:
        """Change what is shown."""
        self._set_view(check_view(command["view"]))

    def on_set_mode(self, command: Mapping[str, Any]) -> None:
        """Show env 0's own steps, or nothing."""
        self._set_view("step" if command["visual"] else "headless")
        self._callback.set_mode(command)

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

    Attributes:
        reached: the policy that has reached the run's goal; None: none has.
    """

    def __init__(
        self,
        config: TrainingConfig,
        model: BaseAlgorithm,
        callback: WebMetricsCallback,
        contest: _Contest,
    ) -> None:
        self._config = config
        self._model = model
        self._callback = callback
        self._contest = contest
        self._evaluator = Evaluator(config)
        self._spent = 0.0
        self._due = 0.0
        self._timesteps = 0
        self._is_contests_turn = False
        self._evaluated: Candidate | None = None
        self.reached: Candidate | None = None

    def get_state(self) -> dict[str, Any]:
        """Return what goes on after a resume; an evaluation under way begins anew."""
        return {
            "seed": self._evaluator.seed,
            "max_pieces": self._evaluator.max_pieces,
            "spent": self._spent,
            "budget": self._budget,
        }

    def set_state(self, state: Mapping[str, Any], elapsed: float) -> None:
        """Go on where `get_state` was called, `elapsed` seconds after the beginning.

        With another budget than then, neither time saved nor time owed counts.
        """
        self._evaluator.seed = state["seed"]
        limit = self._config.evaluation_max_pieces
        self._evaluator.max_pieces = min(state["max_pieces"], limit)
        is_same = state.get("budget", self._budget) == self._budget
        self._spent = state["spent"] if is_same else self._budget * elapsed

    @property
    def _budget(self) -> float:
        """Its share of the time."""
        return self._config.evaluation_budget if self._config.evaluation else 0.0

    def tick(self) -> None:
        """Go on with the evaluation for a slice, if the budget allows it."""
        elapsed = self._callback.elapsed
        before = time.perf_counter()
        self._contest.tick(elapsed)
        left = max(0.0, 1.0 - elapsed / ADVANCED_FOR_SECONDS)
        if self._spent > self._budget * elapsed + ADVANCE_SECONDS * left:
            self._spent += time.perf_counter() - before
            return
        # Without a core of its own, the contest has every other slice.
        self._is_contests_turn = not self._is_contests_turn
        result = None
        if self._is_contests_turn and not self._contest.has_own_core:
            self._contest.work(EVALUATION_SLICE_SECONDS)
        elif self._evaluator.is_busy or elapsed >= self._due:
            result = self._advance(elapsed)
        self._spent += time.perf_counter() - before
        if result is not None:
            self._report(result, elapsed)

    def _advance(self, elapsed: float) -> Evaluation | None:
        if not self._evaluator.is_busy:
            self._due = elapsed + EVALUATION_SPACING_SECONDS
            self._evaluator.begin(self._model)
            self._timesteps = self._model.num_timesteps
            if self._config.target_lines is not None:
                parameters = copy_parameters(self._model.get_parameters())
                self._evaluated = parameters, self._timesteps
        with self._callback.during("evaluation"):
            return self._evaluator.advance(EVALUATION_SLICE_SECONDS)

    def _report(self, result: Evaluation, elapsed: float) -> None:
        told = asdict(result) | {"timesteps": self._timesteps}
        told["cost"] = self._spent / max(elapsed, 1.0)
        self._callback.send("evaluation", **told)
        target = self._config.target_lines
        if target is not None and result.mean_lines >= target:
            self.reached = self._evaluated
            self._callback.goal = f"reached {target:,.15g} lines per game"


class _Contest:
    """Enters the policies of the run in a contest, and keeps the best in `best_eval/`.

    Candidates are the policy of the moment and, by turns, the average of the latest:
    where learning goes to and fro, that is nearer to where it goes.

    Args:
        config: of the run.
        run: where the best one is kept.
        model: that learns.
        callback: is told of the best one.
        meanwhile: called every few milliseconds after the learning, while `settle`
            plays.
    """

    def __init__(
        self,
        config: TrainingConfig,
        run: RunDirectory,
        model: BaseAlgorithm,
        callback: WebMetricsCallback,
        meanwhile: Callable[[], None],
    ) -> None:
        self._config = config
        self._path = run.best_evaluated_model_file
        self._model = model
        self._callback = callback
        self._meanwhile = meanwhile
        # Another run, or this one before it resumed, may have left a better one here.
        saved = read_metadata(self._path) or {}
        self._contest = Contest(config, _standing(saved), saved.get("lower") or 0.0)
        self._average = ParameterAverage()
        self._is_averages_turn = False
        self._thread: ContestThread | None = None
        self._average_due = 0.0
        self._offer_due = 0.0
        self._save_due = 0.0
        # Who is the best, but a disk has refused it.
        self._refused: Verdict | None = None

    @property
    def has_own_core(self) -> bool:
        """Whether it needs no time of the training's."""
        return self._thread is not None

    def open(self) -> None:
        """Begin; on a core of its own, where there is one."""
        if has_second_core():
            self._thread = ContestThread(self._contest)

    def close(self) -> None:
        """End what goes on beside the training; save who has just become the best."""
        thread, self._thread = self._thread, None
        try:
            if thread is not None:
                thread.close()
        finally:
            self._save_winner()

    def _save_winner(self) -> None:
        winner = self._winner()
        if winner is not None:
            self._save(winner)

    def _winner(self) -> Verdict | None:
        """Return who is to be saved: a new best one, or one that a disk has refused."""
        return self._contest.take_verdict() or self._refused

    def settle(self, reached: Candidate | None) -> None:
        """End, but give the last policies the time that it takes to become the best.

        Args:
            reached: the one that has reached the run's goal; None: the run has ended
                without, and it is those of its last moment.
        """
        self.close()
        text = "the last policies play for the best model"
        self._callback.send("status", state="running", reason=None, detail=text)
        self._contest.go_on()
        self._settle_one()  # who was being confirmed
        for candidate in self._last_ones() if reached is None else [reached]:
            self._contest.begin_last(Player(self._model, candidate[0]), candidate)
            self._settle_one()

    def _settle_one(self) -> None:
        until = self._callback.elapsed + SETTLING_SECONDS  # pauses do not count
        while (
            self._contest.is_undecided
            and self._callback.attend()
            and self._callback.elapsed < until
        ):
            self.work(EVALUATION_SLICE_SECONDS)
            self._meanwhile()
        self._save_winner()

    def _last_ones(self) -> list[Candidate]:
        """Return the policy as it is, and the average of the latest."""
        self._average.add(self._model.policy, self._model.num_timesteps)
        return [self._candidate(is_average) for is_average in (False, True)]

    def _candidate(self, is_average: bool) -> Candidate:
        parameters = copy_parameters(self._model.get_parameters())
        if is_average:
            parameters["policy"] = self._average.state()
        return parameters, self._model.num_timesteps

    def tick(self, elapsed: float) -> None:
        """Enter a new candidate if it is time; save a new best one."""
        if self._thread is not None:
            self._thread.call()
        if elapsed >= self._average_due:
            self._average_due = elapsed + AVERAGE_SPACING_SECONDS
            self._average.add(self._model.policy, self._model.num_timesteps)
        if elapsed >= self._offer_due and self._contest.wants_more:
            before = time.perf_counter()
            self._offer()
            cost = time.perf_counter() - before
            spacing = max(OFFER_SPACING_SECONDS, cost / OFFER_BUDGET)
            self._offer_due = elapsed + spacing
        winner = self._winner() if elapsed >= self._save_due else None
        if winner is not None:
            before = time.perf_counter()
            self._save(winner)
            self._save_due = elapsed + (time.perf_counter() - before) / SAVE_BUDGET
            if self._refused is not None:
                self._save_due = max(self._save_due, elapsed + RETRY_SECONDS)

    def work(self, seconds: float) -> None:
        """Go on with the games on the training's own time."""
        with self._callback.during("evaluation"):
            self._contest.work(seconds)

    def _offer(self) -> None:
        candidate = self._candidate(self._is_averages_turn)
        self._is_averages_turn = not self._is_averages_turn
        self._contest.offer(Player(self._model, candidate[0]), candidate)

    def _save(self, verdict: Verdict) -> None:
        parameters, timesteps = verdict.candidate
        result = verdict.evaluation
        metadata = to_jsonable(
            {
                **asdict(result),
                "seed": verdict.seed,
                "standing": asdict(verdict.standing),
                "timesteps": timesteps,
                "elapsed": self._callback.elapsed,
                "algorithm": type(self._model).__name__,
                "saved_at": time.time(),
            }
        )
        try:
            with self._callback.during("saving"):
                save_model(self._model, self._path, metadata, parameters)
        except OSError as error:
            reason = error.strerror or error
            if self._refused is None:
                text = f"could not save the best evaluated model: {reason}"
                self._callback.warn(text)
            self._refused = verdict
            return
        if self._refused is not None:
            self._callback.warn("saving the best evaluated model works again")
        self._refused = None
        self._callback.send(
            "info",
            kind="best_eval",
            text=f"best so far: {_tell(result)}, saved to best_eval/",
            mean_lines=result.mean_lines,
            lower=result.lower,
            upper=result.upper,
            games=result.games,
            capped=result.capped,
        )


def _standing(saved: Mapping[str, Any]) -> Standing | None:
    """Return how a best model that was saved stood in the contest, if that is known."""
    found = saved.get("standing")
    names = [field.name for field in fields(Standing)]
    if not isinstance(found, Mapping) or set(found) != set(names):
        return None
    return Standing(**{name: int(found[name]) for name in names})


def _tell(result: Evaluation) -> str:
    digits = ",.0f" if result.lower >= MANY_LINES else ",.1f"
    lower = format(result.lower, digits)
    if result.capped:
        return (
            f"at least {lower} lines per game, for none of "
            f"{result.games:,} fresh games has ended"
        )
    mean, upper = format(result.mean_lines, digits), format(result.upper, digits)
    return f"{mean} lines per game ({lower} to {upper}) in {result.games:,} fresh games"
