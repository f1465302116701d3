"""Puts any Stable-Baselines3 `learn()` under control, and tells what it does.

Owns the order of things in a step: stop, commands, pause, stop, episodes, board,
metrics. Deliberately doesn't know processes, disks (but for the best model) or the
panel: any queues and Events with the standard methods will do.
"""

from __future__ import annotations

import contextlib
import json
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger

from tetris_widget.config import check_speed, is_number, step_delay
from tetris_widget.ipc import Pulse
from tetris_widget.run_directory import (
    RECORD_NAME,
    read_metadata,
    to_jsonable,
    write_atomically,
)
from tetris_widget.training.best import copy_parameters, model_zip, write_model

if TYPE_CHECKING:  # it loads numba, which other envs have no use for
    from tetris_widget.training.record import Recorder

Message = dict[str, Any]

# How long a paused or slowed run may take to notice a command or a stop.
SLICE_SECONDS = 0.02
# What is done in the background has no need to be asked at every step.
BACKGROUND_SECONDS = 0.01
# Episodes kept in `episode_rewards` and `episode_lines`; all are in the journal.
MAX_EPISODES_KEPT = 20_000
# Timesteps per second are measured over the last four to five of these.
FPS_SLICE_SECONDS = 0.5
FPS_SLICES = 5
# Between two attempts to save a best model, where the disk has refused one.
RETRY_SECONDS = 2.0
# Of a command's values, as they are reported: a message must stay small.
MAX_VALUES = 500


@dataclass(frozen=True)
class _Best:
    """A best model that is to be written: its files, and what is told of it."""

    parameters: Mapping[str, Any]
    metadata: Message
    record: Message | None
    told: Message


class StopTraining(BaseException):
    """Leaves `learn()` from inside a gradient update; not an error."""


class WebMetricsCallback(BaseCallback):
    """Controls a run by Events and commands, and reports it on a queue.

    Works for any number of envs, with any SB3 algorithm and any environment; lines and
    boards are reported where `infos` have `lines` and `frame`.

    Args:
        metrics_queue: takes dicts with `type`: `episode`, `metrics`, `board`, `status`,
            `info`, `error`, `command` (one that was carried out). Python numbers only.
        command_queue: gives dicts with `command`: `stop`, `set_mode` (`visual`),
            `set_speed` (`speed`).
        pause_event: set = run, cleared = pause; None: never pauses.
        stop_event: set = stop; None: stops by command only.
        checkpoint_dir: the best model is written to `best/model.zip` in it.
        update_freq: timesteps between two `metrics`.
        board_update_freq: timesteps between two `board`s, in visual mode.
        verbose: as in SB3.

    Attributes:
        visual_mode: whether env 0's own steps are shown, and slowed by `step_delay`.
        step_delay: seconds, `(1 - speed) * 0.1`.
        episode_count: finished episodes, of all envs.
        episode_rewards: their rewards (at least the last 20,000).
        episode_lines: their lines; an episode without lines adds nothing.
        best_lines: the most lines of a finished episode.
        raise_on_stop: leave a gradient update at once by `StopTraining`, which the
            caller of `learn()` must catch. False: stop at the next step.
        handlers: what each command does; more can be added.
        acts_between_rollouts: stop, commands and pause wait for the end of a rollout,
            which must be short, as an off-policy algorithm's are; what a checkpoint
            takes is only then in order. A stop leaves by `StopTraining`.
        has_stopped: whether a stop has ended the training.
        goal: what the training has reached, so that it ends as if by itself; or None.
        background: called every 10 ms or so while the run isn't paused.
        between_rollouts: called at the beginning of each rollout.
        on_pause: called at the beginning of each pause.
        on_episodes: called when all episodes that end with a step are reported.
        recorder: keeps the running games, for the best one to be played again.
        pulse: is told now and then that the run is alive, and its phase.
        store: has files written; at once, or on a thread (`writer.Writer.put`).
        best_share: of the time, at most, for making best models' files: one soon after
            another waits (`store_best`), and gives way to a better one. ∞: none waits.
    """

    def __init__(
        self,
        metrics_queue: Any,
        command_queue: Any,
        pause_event: Any = None,
        stop_event: Any = None,
        checkpoint_dir: str | Path = "./checkpoints",
        update_freq: int = 100,
        board_update_freq: int = 50,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.metrics_queue = metrics_queue
        self.command_queue = command_queue
        self.pause_event = pause_event
        self.stop_event = stop_event
        self.checkpoint_dir = Path(checkpoint_dir)
        self.update_freq = update_freq
        self.board_update_freq = board_update_freq
        self.visual_mode = False
        self.step_delay = 0.0
        self.episode_count = 0
        self.episode_rewards: list[float] = []
        self.episode_lines: list[int] = []
        self.best_lines = 0
        self.raise_on_stop = False
        self.watch_cost: float | None = None
        self.acts_between_rollouts = False
        self.has_stopped = False
        self.goal: str | None = None
        self.background: list[Callable[[], None]] = []
        self.between_rollouts: list[Callable[[], None]] = []
        self.on_pause: list[Callable[[], None]] = []
        self.on_episodes: list[Callable[[], None]] = []
        self.recorder: Recorder | None = None
        self.pulse: Pulse | None = None
        self.store: Callable[[Callable[[], None]], None] = _at_once
        self.best_share = math.inf
        self.handlers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "stop": self._on_stop_command,
            "set_mode": self.set_mode,
            "set_speed": self.set_speed,
        }
        self._stop_commanded = False
        self._metrics = _LatestMetrics()
        self._hooks: list[Any] = []
        self._original_rewards: Callable[[], Any] | None = None
        self._returns = np.zeros(0)
        self._steps = 0
        # Per env: `_steps` when its episode began.
        self._begun = np.zeros(0, dtype=np.int64)
        self._next_update = 0
        self._next_board = 0
        self._next_background = 0.0
        self._started_at = 0.0
        self._paused_seconds = 0.0
        self._fps_marks: deque[tuple[float, int]] = deque(maxlen=FPS_SLICES)
        self._resumed: Message | None = None
        self._best_lines_saved: int | None = None
        self._best_lines_written = 0
        self._best_due = 0.0
        self._best_waiting: _Best | None = None
        self._best_file_due = 0.0
        self._has_failed_to_save = False

    @property
    def elapsed(self) -> float:
        """Seconds since the training began, without pauses."""
        if not self._started_at:
            return 0.0
        return time.perf_counter() - self._started_at - self._paused_seconds

    def get_state(self) -> Message:
        """Return the counters as plain values, and per-env accumulators as arrays.

        `recording` are the running games' arrays; there are none without a recorder.
        """
        return {
            "episode_count": self.episode_count,
            "best_lines": self.best_lines,
            "next_update": self._next_update,
            "next_board": self._next_board,
            "elapsed": self.elapsed,
            "returns": self._returns.copy(),
            "lengths": self._steps - self._begun,
            "recording": {} if self.recorder is None else self.recorder.get_state(),
        }

    def set_state(self, state: Message) -> None:
        """Let the next `learn()` go on counting where `get_state` was called."""
        self._resumed = state

    # SB3's hooks

    def _on_training_start(self) -> None:
        env = self.training_env
        # VecNormalize has it.
        self._original_rewards = getattr(env, "get_original_reward", None)
        self._begin_episodes(env.num_envs)
        self._started_at = time.perf_counter()
        self._paused_seconds = 0.0
        self._next_update = self.num_timesteps + self.update_freq
        self._next_board = self.num_timesteps + self.board_update_freq
        self.has_stopped = False
        self._stop_commanded = False
        self._go_on()
        self._fps_marks.clear()
        self._fps_marks.append((self.elapsed, self.num_timesteps))
        logger: Logger = self.model.logger
        logger.output_formats.append(self._metrics)
        # No callback fires inside `train()`, which can take seconds; optimizers do.
        for optimizer in _optimizers(self.model.policy):
            hook = optimizer.register_step_post_hook(self._on_optimizer_step)
            self._hooks.append(hook)
        self._send_status("running")

    def _go_on(self) -> None:
        if self._resumed is None:
            return
        state, self._resumed = self._resumed, None
        self.episode_count = state["episode_count"]
        self.best_lines = state["best_lines"]
        # Sooner where the run is resumed with more of them.
        self._next_update = min(self._next_update, state["next_update"])
        self._next_board = min(self._next_board, state["next_board"])
        self._started_at -= state["elapsed"]
        self._returns[:] = state["returns"]
        self._begun[:] = self._steps - state["lengths"]
        self._best_lines_saved = self._read_best()

    def _begin_episodes(self, n_envs: int) -> None:
        self._returns = np.zeros(n_envs)
        self._steps = 0
        self._begun = np.zeros(n_envs, dtype=np.int64)

    def during(self, phase: str) -> contextlib.AbstractContextManager[None]:
        """Be in a phase of `ipc.PHASES` for some time, as the pulse tells it."""
        return (
            contextlib.nullcontext() if self.pulse is None else self.pulse.during(phase)
        )

    def _on_rollout_start(self) -> None:
        self._beat("rollout")
        if self.acts_between_rollouts and not self._control_point():
            raise StopTraining
        for work in self.between_rollouts:
            work()

    def _on_rollout_end(self) -> None:
        self._beat("update")

    def _on_step(self) -> bool:
        if not self.acts_between_rollouts and not self._control_point():
            return False
        if self.recorder is not None:
            self.recorder.add()
        self._add_rewards()
        if self.visual_mode and self.num_timesteps >= self._next_board:
            self._next_board = self.num_timesteps + self.board_update_freq
            self._send_board()
            self._sleep(self.step_delay)
        if self.num_timesteps >= self._next_update:
            self._next_update = self.num_timesteps + self.update_freq
            self._send_metrics()
        self._end_episodes()
        return True

    def _on_training_end(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._metrics in self.model.logger.output_formats:
            self.model.logger.output_formats.remove(self._metrics)
        self.store_best()
        self._send_metrics()

    def _on_optimizer_step(self, *_: Any) -> None:
        if self.acts_between_rollouts:
            return
        if not self._control_point() and self.raise_on_stop:
            raise StopTraining

    # Control

    def _control_point(self) -> bool:
        """Attend to what is asked, and to the background; return whether to go on."""
        if not self.attend():
            self.has_stopped = True
            return False
        now = time.perf_counter()
        if now >= self._next_background:
            self._next_background = now + BACKGROUND_SECONDS
            self._beat()
            if self._best_waiting is not None and now >= self._best_file_due:
                self.store_best()
            for work in self.background:
                work()
        return self.goal is None

    def attend(self) -> bool:
        """Stop? Commands. Pause. Stop? Return whether to go on."""
        if self.is_stop_asked():
            return False
        has_acted = self._process_commands()
        if self.pause_event is not None and not self.pause_event.is_set():
            self._wait_while_paused()
            has_acted = True
        # At nearly every step nothing has been asked, and nothing is asked twice.
        return not (has_acted and self.is_stop_asked())

    def _beat(self, phase: str | None = None) -> None:
        if self.pulse is not None:
            self.pulse.beat(phase)

    def is_stop_asked(self) -> bool:
        """Return whether the training is to stop at the next control point."""
        if self._stop_commanded:
            return True
        return self.stop_event is not None and bool(self.stop_event.is_set())

    def _wait_while_paused(self) -> None:
        since = time.perf_counter()
        self._send_metrics()
        self._send_status("paused")
        self.store_best()
        for work in self.on_pause:
            work()
        with self.during("paused"):
            while not self.pause_event.wait(SLICE_SECONDS) and not self.is_stop_asked():
                self._beat()
                self._process_commands()
        self._paused_seconds += time.perf_counter() - since
        if not self.is_stop_asked():
            self._send_status("running")

    def _process_commands(self) -> bool:
        """Carry out all commands that wait; return whether there were any."""
        has_acted = False
        while True:
            try:
                command = self.command_queue.get_nowait()
            except queue.Empty:
                return has_acted
            self._carry_out(command)
            has_acted = True

    def _carry_out(self, command: Any) -> None:
        name = command.get("command") if isinstance(command, Mapping) else None
        handler = self.handlers.get(name) if isinstance(name, str) else None
        try:
            if handler is None:
                allowed = ", ".join(self.handlers)
                raise ValueError(
                    f"unknown command {command!r:.200}; allowed: {allowed}"
                )
            handler(command)
        except (ValueError, KeyError, TypeError) as error:
            self.send("error", text=f"Command refused: {error}", traceback=None)
        else:
            self.send("command", command=name, values=_values(command))

    def _on_stop_command(self, command: Mapping[str, Any]) -> None:
        self._stop_commanded = True

    def set_mode(self, command: Mapping[str, Any]) -> None:
        """Show env 0's own steps or nothing (`command["visual"]`), and say so."""
        self.visual_mode = bool(command["visual"])
        mode = "visual" if self.visual_mode else "headless"
        self.send("info", kind="mode", text=f"Mode: {mode}")

    def set_speed(self, command: Mapping[str, Any]) -> None:
        """Slow the steps shown in visual mode by `(1 - command["speed"]) * 0.1` s."""
        self.step_delay = step_delay(check_speed(command["speed"]))

    def _sleep(self, seconds: float) -> None:
        """Sleep, but never past a stop or a pause."""
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            paused = self.pause_event is not None and not self.pause_event.is_set()
            if paused or self.is_stop_asked():
                return
            self._beat()
            time.sleep(min(left, SLICE_SECONDS))

    # Reports

    def _add_rewards(self) -> None:
        rewards = self.locals["rewards"]
        if self._original_rewards is not None:
            rewards = self._original_rewards()
        self._returns += rewards
        self._steps += 1

    def _end_episodes(self) -> None:
        """Count the episodes that end with this step; what they were is in `infos`."""
        dones = self.locals["dones"]
        if not np.count_nonzero(dones):  # the quickest that NumPy has
            return
        ended = np.flatnonzero(dones)
        if self.recorder is not None:
            self.recorder.end(ended)
        for env in ended.tolist():
            info = self.locals["infos"][env]
            self._on_episode_end(
                self._reward_of(info, env),
                _lines_in(info),
                length=self._steps - int(self._begun[env]),
                env=env,
            )
            self._returns[env] = 0.0
            self._begun[env] = self._steps
        for work in self.on_episodes:
            work()

    def _reward_of(self, info: Mapping[str, Any], env: int) -> float:
        """Return an episode's reward: what a Monitor says, or else what was seen."""
        monitored = info.get("episode")
        told: Any = monitored.get("r") if isinstance(monitored, Mapping) else None
        return float(told if is_number(told) else self._returns[env])

    def _on_episode_end(
        self, reward: float, lines: int | None, *, length: int = 0, env: int = 0
    ) -> None:
        self.episode_count += 1
        _append_bounded(self.episode_rewards, reward)
        self.send(
            "episode",
            episode=self.episode_count,
            env=env,
            reward=reward,
            lines=lines,
            length=length,
        )
        if lines is None:
            return
        _append_bounded(self.episode_lines, lines)
        if lines > self.best_lines:
            self.best_lines = lines
            # Another run, or this one before it resumed, may have left a better one.
            if self._best_lines_saved is None:
                self._best_lines_saved = self._read_best()
            if lines >= self._best_lines_saved:
                self._save_best_model(lines, reward, env)
            else:
                self.send(
                    "info",
                    kind="best",
                    text=f"{self._best_text(lines)}, best/ keeps its model of "
                    f"{self._best_lines_saved:,}",
                    best_lines=lines,
                    episode=self.episode_count,
                )
        elif self._is_owed(lines):
            self._save_best_model(lines, reward, env)

    def _is_owed(self, lines: int) -> bool:
        """Return whether a disk that refused a better game may take this one."""
        saved, waiting = self._best_lines_saved, self._best_waiting
        is_due = waiting is None and time.perf_counter() >= self._best_due
        return saved is not None and lines > saved and is_due

    @property
    def _best_model_file(self) -> Path:
        return self.checkpoint_dir / "best" / "model.zip"

    def _read_best(self) -> int:
        """Return the lines of the best game whose model is there; 0: there is none."""
        saved = read_metadata(self._best_model_file) or {}
        return int(saved.get("best_lines", 0))

    def _save_best_model(self, lines: int, reward: float, env: int = 0) -> None:
        metadata = to_jsonable(
            {
                "best_lines": lines,
                "reward": reward,
                "episode": self.episode_count,
                "timesteps": self.num_timesteps,
                "algorithm": type(self.model).__name__,
                "saved_at": time.time(),
            }
        )
        now = {"timesteps": self.num_timesteps, "elapsed": self.elapsed}
        self._best_lines_saved = lines
        # Copied at once: it is this very policy.
        self._best_waiting = _Best(
            copy_parameters(self.model.get_parameters()),
            metadata,
            None if self.recorder is None else self.recorder.game(env),
            {**now, "episode": self.episode_count, "text": self._best_text(lines)},
        )
        if time.perf_counter() >= self._best_file_due:
            self.store_best()

    def store_best(self) -> None:
        """Have a best model written that waits for its turn, if there is one."""
        best, self._best_waiting = self._best_waiting, None
        if best is None:
            return
        before = time.perf_counter()
        data = model_zip(self.model, best.metadata, best.parameters)
        self._best_file_due = before + (time.perf_counter() - before) / self.best_share
        write = self._write_best_model
        self.store(lambda: write(data, best.metadata, best.record, best.told))

    def _write_best_model(
        self, data: bytes, metadata: Message, record: Message | None, told: Message
    ) -> None:
        """Put a best model, and its game, on disk, and then say so."""
        path, lines = self._best_model_file, metadata["best_lines"]
        if lines < self._best_lines_written:
            return  # of a lesser game, taken while it seemed that the better one failed
        try:
            write_model(data, path, metadata)
            self._best_lines_written = lines
            self._write_record(metadata, record)
        except OSError as error:
            self._best_due = time.perf_counter() + RETRY_SECONDS
            # The model may be there, and only what belongs to it may not.
            self._best_lines_saved = self._read_best()
            if not self._has_failed_to_save:
                reason = error.strerror or error
                self.warn(f"could not save the best model: {reason}")
            self._has_failed_to_save = True
            return
        if self._has_failed_to_save:
            self.warn("saving the best model works again")
        self._has_failed_to_save = False
        # An earlier one may have failed since this one was taken.
        self._best_lines_saved = max(self._best_lines_saved or 0, lines)
        told["text"] += f", saved to best/{path.name}"
        self.send("info", kind="best", best_lines=lines, **told)

    def _write_record(self, metadata: Message, record: Message | None) -> None:
        """Keep the game beside the model; none rather than that of another best."""
        path = self._best_model_file.with_name(RECORD_NAME)
        if record is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, json.dumps({**metadata, **record}), sync=False)

    def _best_text(self, lines: int) -> str:
        what = "new best" if lines == self.best_lines else "best that could be saved"
        return f"{what}: {lines:,} lines in one game"

    def _send_board(self) -> None:
        frame = self.locals["infos"][0].get("frame")
        if not isinstance(frame, Mapping) or "cells" not in frame:
            return
        over = bool(self.locals["dones"][0])
        # Another environment's may be anything.
        with contextlib.suppress(TypeError, ValueError, OverflowError, RuntimeError):
            self.send_frame({**frame, "over": over}, view="step")

    def send_frame(self, frame: Mapping[str, Any], view: str) -> None:
        """Report one move of a game, `cells` as bytes, top row first."""
        boards = ("cells", "board")
        plain = {key: to_jsonable(v) for key, v in frame.items() if key not in boards}
        plain["cells"] = np.asarray(frame["cells"], dtype=np.uint8).tobytes()
        self.send("board", view=view, frames=[plain])

    def _send_metrics(self) -> None:
        self.send(
            "metrics",
            episodes=self.episode_count,
            fps=self._measure_fps(),
            watch_cost=self.watch_cost,
            values=to_jsonable(self._metrics.values),
        )

    def _measure_fps(self) -> float:
        """Timesteps per second of training, over about the last two seconds."""
        now = self.elapsed
        since, timesteps = self._fps_marks[0]
        if now - self._fps_marks[-1][0] >= FPS_SLICE_SECONDS:
            self._fps_marks.append((now, self.num_timesteps))
        return (self.num_timesteps - timesteps) / max(now - since, 1e-9)

    def _send_status(self, state: str) -> None:
        self.send("status", state=state, reason=None, detail=None)

    def warn(self, text: str) -> None:
        """Report something that went wrong without stopping the run."""
        self.send("info", kind="warning", text=text)

    def send(self, type_: str, **fields: Any) -> None:
        """Report a message of this type, with the timesteps and the seconds so far."""
        self.metrics_queue.put(
            {
                "type": type_,
                "timesteps": self.num_timesteps,
                "elapsed": self.elapsed,
                **fields,
            }
        )


class _LatestMetrics(KVWriter):
    """SB3's logger writes here; each key keeps its last value."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        for key, value in key_values.items():
            # `time/` counts pauses, and `rollout/` lags: both have better sources here.
            if isinstance(value, (int, float, np.number)) and key.startswith("train/"):
                self.values[key] = float(value)

    def close(self) -> None:
        """Nothing is open."""


def _values(command: Mapping[str, Any]) -> Message:
    """Return a command's values as they are reported: plain, and not too long."""
    values = {name: value for name, value in command.items() if name != "command"}
    text = json.dumps(to_jsonable(values), default=str)
    return (
        {"excerpt": text[:MAX_VALUES]} if len(text) > MAX_VALUES else json.loads(text)
    )


def _optimizers(policy: Any) -> list[torch.optim.Optimizer]:
    owners = (policy, getattr(policy, "actor", None), getattr(policy, "critic", None))
    found = [getattr(owner, "optimizer", None) for owner in owners]
    return [item for item in found if isinstance(item, torch.optim.Optimizer)]


def _at_once(job: Callable[[], None]) -> None:
    job()


def _lines_in(info: Mapping[str, Any]) -> int | None:
    """Return the lines of an episode; None where no number of them is said."""
    lines = info.get("lines")
    if isinstance(lines, (str, bytes, bool)):
        return None
    try:
        return int(lines)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None  # another environment's may be anything


def _append_bounded(values: list[Any], value: Any) -> None:
    values.append(value)
    if len(values) > 2 * MAX_EPISODES_KEPT:
        del values[:-MAX_EPISODES_KEPT]
