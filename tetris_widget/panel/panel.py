"""The panel: one object that shows a run, steers it, and hands out its numbers.

Owns the way from the training process to the browser and back. Everything that a button
does is a method. Deliberately doesn't know how training is done.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tetris_widget.config import (
    CHANGEABLE_ON_RESUME,
    ConfigError,
    TrainingConfig,
    check_reward,
    check_speed,
    check_view,
    moves_per_second,
)
from tetris_widget.history import MetricsHistory
from tetris_widget.library import ModelLibrary
from tetris_widget.manager import TrainingManager
from tetris_widget.panel.shelf import Shelf
from tetris_widget.panel.widget import (
    TrainingWidget,
    pack_frames,
    pack_series,
    take_frames,
)
from tetris_widget.run_directory import (
    TERMINAL,
    RunBusyError,
    RunDirectory,
    check_name,
    read_metadata,
    without_superseded,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from stable_baselines3.common.base_class import BaseAlgorithm

Message = dict[str, Any]
# Episodes, metrics and evaluations.
Tables: TypeAlias = "tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]"

PUSH_SECONDS = 0.1
# Boards kept for the next push: a second of the fastest watching.
MAX_FRAMES = 60
SNAPSHOT_POINTS = 500
SNAPSHOT_MESSAGES = 20
# It is large: after a state that it is made in has been shown, not before.
SNAPSHOT_DELAY_SECONDS = 0.5
# On the curves; older ones go.
MAX_MARKS = 100
# What an entry of the journal has to be shown, by its type.
ENTRY_FIELDS = {
    "info": ("kind", "text"),
    "error": ("text",),
    "resume": ("timesteps", "elapsed", "checkpoint"),
    "status": ("state",),
}
# A training process whose kernel has ended leaves within six seconds.
LEAVE_SECONDS = 8.0


class NoModelError(FileNotFoundError):
    """There is no saved model yet."""


class TrainingPanel:
    """A run of Tetris training, live in a notebook.

    Args:
        config: what to train; None: the default.
        library: where models are kept by name; None: the directory `models`.

    Attributes:
        library: the models that the panel lists.

    Example:
        panel = TrainingPanel(TrainingConfig())
        panel.display()
    """

    def __init__(
        self,
        config: TrainingConfig | None = None,
        library: ModelLibrary | str | Path | None = None,
    ) -> None:
        self.config = config or TrainingConfig()
        if not isinstance(library, ModelLibrary):
            library = ModelLibrary(library or "models")
        self.library = library
        self._lock = threading.RLock()
        self._history = MetricsHistory()
        self._frames: deque[Message] = deque(maxlen=MAX_FRAMES)
        self._last_frame: Message | None = None
        self._view: str = self.config.view
        self._speed = self.config.speed
        self._detail: str | None = None
        self._figures: Message = {}
        self._run: RunDirectory | None = None
        self._can_resume = False
        # Timesteps at which the learning was changed or resumed, and what to call it.
        self._marks: deque[tuple[int, str]] = deque(maxlen=MAX_MARKS)
        # What was asked for, and what the run under way, or the last one, has.
        self._asked = self._had = self.config
        self._best_eval: Message | None = None
        self._sent = 0
        self._sent_status: Message = {}
        self._wake = threading.Event()
        self._snapshot_due = math.inf
        self._is_closed = False
        self._manager = TrainingManager(self._on_message)
        self.widget = TrainingWidget(
            self._on_command, self._on_sync, self._refuse, config=self.config.to_dict()
        )
        self._shelf_seq = 0
        self._shelf = Shelf(self.library, self._on_shelf_change, self._send_file)
        self._update_snapshot()
        self._pump = threading.Thread(
            target=_pump, args=(self,), name="panel-pump", daemon=True
        )
        self._pump.start()
        _panels.add(self)

    @classmethod
    def attach(
        cls,
        run_dir: str | Path | None = None,
        library: ModelLibrary | str | Path | None = None,
    ) -> TrainingPanel:
        """Return a panel that shows a run from its directory, and can resume it.

        Args:
            run_dir: the run's directory; None: the latest one in `runs`.
            library: as for `TrainingPanel`.

        Raises:
            FileNotFoundError: there is no run.
            ConfigError: it is not the directory of a run.
            RunBusyError: a process still writes to it after some seconds, in which
                one whose kernel has ended leaves.
        """
        run = RunDirectory.latest() if run_dir is None else RunDirectory(run_dir)
        panel = cls(run.config(), library)
        try:
            panel._adopt(run)
        except BaseException:
            panel.close()
            raise
        return panel

    def _adopt(self, run: RunDirectory) -> None:
        deadline = time.monotonic() + LEAVE_SECONDS
        while True:
            try:
                self._manager.adopt(run)
                break
            except RunBusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(PUSH_SECONDS)
        with self._lock:
            self._run = run
            entries = without_superseded(run.journal())
            whole = [entry for entry in entries if _is_whole(entry)]
            for entry in whole:
                self._replay(entry)
            if lost := len(entries) - len(whole):
                text = f"{lost:,} entries of the journal are not whole, and left out"
                self._history.note("warning", text)
            self._load(_read_tables(run))
            self._offer_resume()
            # Not the journal's: a resume takes nothing back from `best_eval/`.
            self._best_eval = _interval(read_metadata(run.best_evaluated_model_file))
            self._update_snapshot()

    def _offer_resume(self) -> None:
        """Find out whether the run that has ended can go on; say what is in the way."""
        self._can_resume = False
        if self._run is None or not self._run.checkpoints():
            return
        try:
            self._run.check_resumable()
        except ConfigError as error:
            text = f"this run cannot be resumed: {error}"
            self._history.note("warning", text, self._elapsed())
        else:
            self._can_resume = True

    def _replay(self, entry: Message) -> None:
        """Take in an entry of the journal, as when it happened."""
        kind = entry["type"]
        if entry.get("timesteps") is not None:
            self._figures["timesteps"] = entry["timesteps"]
            self._figures["elapsed"] = entry.get("elapsed")
        if kind == "info":
            # Whoever asked for the model of a moment was answered then.
            if entry["kind"] != "model":
                self._on_info(entry)
        elif kind == "error":
            self._note_error(entry)
        elif kind == "resume":
            self._on_resume(entry)
        elif kind == "status" and entry["state"] in TERMINAL:
            self._note_end(entry)

    def _load(self, tables: Tables) -> None:
        """Show what was in the run directory's tables."""
        self._history.load(*tables)
        episodes = tables[0]
        if len(episodes):
            last = episodes.iloc[-1]
            if last["timesteps"] > (self._figures.get("timesteps") or 0):
                self._figures["timesteps"] = int(last["timesteps"])
                self._figures["elapsed"] = float(last["seconds"])

    # Showing

    def display(self) -> None:
        """Show the panel below this cell, and get a training process ready."""
        from IPython.display import display

        display(self)  # type: ignore[no-untyped-call]

    def _prepare(self) -> None:
        """Have a process wait for a run, in the place of that of any other panel.

        A cell that is run again makes a panel each time, and nobody closes the others.
        """
        with self._lock:
            is_over = self._is_closed or self.widget.is_over
            if is_over or self._manager.is_running():
                return
            self._manager.prepare(self.config)
        # Not under the lock: they have locks of their own.
        for panel in list(_panels):
            if panel is not self:
                panel._release()

    def _release(self) -> None:
        with self._lock:
            self._manager.release()
            if not self._manager.is_running():
                self._detail = None  # it may have been getting ready
            self._changed()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        self._prepare()
        bundle = self.widget._repr_mimebundle_(**kwargs)
        # The widget's own bundle stays whole: Colab's metadata is in it.
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None:
            data["text/plain"] = repr(self)
        return bundle

    def __repr__(self) -> str:
        status = self._status()
        parts = [
            f"TrainingPanel: {self.status}",
            f"{status['timesteps']:,} / {status['total_timesteps']:,} timesteps",
            f"{status['episodes']:,} episodes",
        ]
        if status["best_lines"] is not None:
            low = self._low_rows
            where = "" if low is None else f" (on {low} rows)"
            parts.append(f"best {status['best_lines']:,} lines{where}")
        return ", ".join(parts)

    @property
    def _low_rows(self) -> int | None:
        """The rows of the games that are learned from, where they are fewer."""
        rows = self._had.learned_rows
        return rows if rows < self._had.rows else None

    # Steering: what the buttons do

    def start(self, model: str | None = None) -> None:
        """Start a run, and return at once. Without effect while one is under way.

        Args:
            model: of the library's: the run begins with it, and with the configuration
                that it was trained with, but for what a resume may change.

        Raises:
            ValueError: there is no such model.
            ModelFileError: it is damaged, or would have to be trusted.
        """
        with self._lock:
            self._check_open()
            if self._manager.is_running():
                is_ending = self._state() == "stopping"
                text = "still stopping" if is_ending else "training runs already"
                self._history.note("info", text, self._elapsed())
                return self._changed()
            # Not the more, or the model, that an earlier run went on with.
            asked = self._asked if self.config is self._had else self.config
            config = asked if model is None else self._config_with(model, asked)
            config = config.replace(view=self._view, speed=self._speed)
            self._save_as_ended()
            if self._manager.start_training(config):
                self.config = self._had = config
                self._asked = asked
                self._history.clear()
                self._forget()
                self._run = RunDirectory(self._manager.get_status()["run_dir"])
                source = "" if model is None else f" with the model “{model}”"
                self._history.note("info", f"started{source}: {self._run.path}", 0.0)
            return self._changed()

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("this panel is closed: make another TrainingPanel")

    def _config_with(self, model: str, asked: TrainingConfig) -> TrainingConfig:
        kept = {name: getattr(asked, name) for name in CHANGEABLE_ON_RESUME}
        file = str(self.library.file(model))
        return self.library.config(model).replace(**kept, initial_model=file)

    def _forget(self) -> None:
        """Begin to show another run."""
        self._frames.clear()
        self._last_frame = None
        self._figures = {}
        self._best_eval = None
        self._detail = None
        self._marks.clear()
        self._can_resume = False

    def pause(self) -> None:
        """Pause, at the next step or optimizer step."""
        self._ask(self._manager.pause_training, "nothing to pause")

    def resume(self, checkpoint: str | None = None, **changes: Any) -> None:
        """Go on after a pause, or with a run that has ended, from its last checkpoint.

        A run that has finished goes on for as many timesteps again, without the goal
        that it has reached; from a checkpoint with a name, until the same end.

        Args:
            checkpoint: for a run that has ended: the name of another checkpoint. What
                came after it is kept in the run's directory `superseded`.
            **changes: of the configuration, for a run that has ended: for example
                `total_timesteps=5_000_000`.

        Raises:
            ValueError: there is no such checkpoint, or the run has not ended.
            ConfigError: a run cannot be resumed with these changes.
        """
        with self._lock:
            self._check_open()
            run = self._run
            if checkpoint is not None:
                self._check_checkpoint(checkpoint)
            # Not `_can_resume`: of an end that is so, but isn't told yet, too.
            elif self._manager.is_running() or run is None or not run.checkpoints():
                return self._ask(self._manager.resume_training, "nothing to resume")
            run = self._need_run()
            run.check_resumable()
            self._save_as_ended()
            changes = {"view": self._view, "speed": self._speed, **changes}
            if self._state() == "finished" and checkpoint is None:
                changes = {**self._longer(), **changes}
            config = run.config().for_resuming(changes)
            self._can_resume = not self._manager.start_training(
                config, resume=run, checkpoint=checkpoint
            )
            if not self._can_resume:
                self.config = self._had = config
                self._frames.clear()
            return self._changed()

    def _check_checkpoint(self, name: str) -> None:
        if self._manager.is_running():
            raise ValueError(f"checkpoint: {name!r}; the run has to be stopped first")
        self._need_run().named_checkpoint(name)

    def save_checkpoint(self, name: str) -> None:
        """Keep the run as it is now as a checkpoint of this name, and return at once.

        The panel says when it is there. `resume(checkpoint=name)` goes on from it.

        Raises:
            ValueError: no file can be called so.
        """
        name = check_name(name)

        def save() -> bool:
            self._manager.save_checkpoint(name)
            return self._manager.is_running()

        self._ask(save, "no run to save")

    def _longer(self) -> Message:
        """Return the changes with which a finished run goes on."""
        timesteps = self._figures.get("timesteps", 0)
        longer: Message = {"total_timesteps": timesteps + self._asked.total_timesteps}
        if self._manager.get_status()["reason"] is not None:  # it is the goal
            longer["target_lines"] = None
        return longer

    def save_model(self, name: str, which: str = "current", notes: str = "") -> None:
        """Keep a model of the run in the library, and return at once.

        The panel says when it is there.

        Args:
            name: of the model.
            which: `current` (as it is now), or one of `ModelLibrary.save`.
            notes: whatever helps to remember.

        Raises:
            ValueError: the name is taken, or none for a file.
            NoModelError: there is no run yet.
        """
        with self._lock:
            run = self._need_run()
            self.library.check_free(name)
            job = {"do": "save", "name": name, "which": which, "notes": notes}
            job["run_dir"] = str(run.path)
            if which != "current":
                self._shelf.request(job)
                return
            self._shelf.save_later(job)
            if self._manager.is_running():
                self._manager.save_model()
            else:
                self._save_as_ended()

    def _save_as_ended(self) -> None:
        """Save, as the model of now, the one that the run has ended with."""
        has_last = self._manager.get_status()["status"] != "failed"
        self._shelf.save_now("last" if has_last else "latest")

    def stop(self) -> None:
        """Stop the run, and return at once; what it learned is saved."""
        self._ask(self._manager.request_stop, "nothing to stop")

    def set_mode(self, visual: bool) -> None:
        """Show env 0's own steps, slowed (True), or nothing (False)."""
        self.set_view("step" if visual else "headless")

    def set_view(self, view: str) -> None:
        """Show nothing (`headless`), a game of its own (`watch`), or env 0 (`step`).

        Raises:
            ValueError: `view` is none of these.
        """
        check_view(view)
        with self._lock:
            self._view = view
            self._frames.clear()
            self._manager.set_view(view)
            self._changed()

    def set_speed(self, speed: float) -> None:
        """Set the pace of what is shown, clamped to 0.1–1.0.

        Raises:
            ValueError: `speed` is not a finite number.
        """
        with self._lock:
            self._speed = check_speed(speed)
            self._manager.set_speed(self._speed)
            self._shelf.set_speed(self._speed)
            self._changed()

    def set_reward(self, reward: Mapping[str, float]) -> None:
        """Change the weights of the reward's terms while the run goes on.

        The configuration keeps those that the next run begins with.

        Raises:
            ValueError: a term or a weight is not allowed; nothing is changed.
        """
        weights = check_reward(reward)
        self._ask(lambda: self._manager.set_reward(weights), "no run to reward")

    def close(self) -> None:
        """End the run and its process, and the widget."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._manager.close()
        self._shelf.close()
        self._wake.set()
        self._push()
        with self._lock:
            self._update_snapshot()
        self.widget.close()

    def __enter__(self) -> TrainingPanel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Numbers

    @property
    def status(self) -> str:
        """How it stands.

        One of Idle, Starting, Training, Pausing, Paused, Stopping, Finished, Stopped,
        Failed.
        """
        state = self._state()
        return "Training" if state == "running" else state.capitalize()

    @property
    def run_dir(self) -> str | None:
        """The directory of the run, or of the last one; None before the first."""
        return None if self._run is None else str(self._run.path)

    @property
    def episodes(self) -> pd.DataFrame:
        """Every finished episode of the run; see `RunDirectory.episodes`."""
        return self._need_run().episodes()

    @property
    def metrics(self) -> pd.DataFrame:
        """The metrics over time, about one row a second."""
        return self._need_run().metrics()

    @property
    def evaluations(self) -> pd.DataFrame:
        """The evaluations, with their 95 % intervals."""
        return self._need_run().evaluations()

    def plot(self) -> Figure:
        """Return a matplotlib Figure of the run, fit for a paper."""
        from tetris_widget.panel.figures import plot_run

        with self._lock:
            marks = list(self._marks)
        return plot_run(self.episodes, self.evaluations, marks, self._low_rows)

    def best_model(self) -> BaseAlgorithm:
        """Load the model that played the best game of the run so far.

        No code that came with the run is run: the model is made anew from the run's
        configuration and takes the weights. But one of another environment (`env_id`)
        is loaded by SB3, which runs whatever its file holds; call this only for such a
        run if you trust its maker.

        Its own environments are those of training, of `training_rows`: judge it in
        others with the run's `observation` and `action`, by default
        `TetrisVecEnv(100, randomizer="uniform", seed=1)`. For the model to cite, see
        `ModelLibrary.save`.

        Raises:
            NoModelError: there is no run yet, or no game of it has cleared a line.
            ConfigError: the run's configuration cannot be read.
            ValueError: the file is damaged, or holds more than weights.
        """
        run = self._need_run()
        path = run.best_model_file
        if not path.exists():
            if run.config().env_id is not None:
                raise NoModelError(
                    f"{path}: no game that its environment gives lines for has ended; "
                    f"how the run ended is in {run.last_model_file}"
                )
            raise NoModelError(f"{path}: no game of this run has cleared a line yet")
        from tetris_widget.training.policies import load_model

        # Not `self.config`, which may be the next run's already.
        return load_model(path, run.config())

    # Waiting

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no run is under way; return whether that is so.

        The kernel is busy meanwhile; `await panel.finished()` keeps it free.
        """
        has_ended = self._manager.wait(timeout)
        if has_ended:
            self._keep_end()
        return has_ended

    async def finished(self) -> str:
        """Wait, without blocking the kernel, until no run is under way.

        Returns:
            The status then.
        """
        while self._manager.is_running():
            await asyncio.sleep(PUSH_SECONDS)
        self._keep_end()
        return self.status

    # From the training process (on the manager's thread)

    def _on_message(self, message: Message) -> None:
        kind = message["type"]
        tables = None
        if kind == "resume" and self._run is not None:
            # Before the lock is taken: a long run takes a second to read.
            tables = _read_tables(self._run, message)
        with self._lock:
            if not self._is_of_this_run(message):
                return
            self._history.add(message)
            if kind == "board":
                self._add_frames(message)
            elif kind == "metrics":
                self._figures.update(message)
            elif kind == "evaluation":
                self._figures["evaluation_cost"] = message["cost"]
            elif kind == "status":
                self._on_status(message)
            elif kind == "info":
                self._on_info(message)
            elif kind == "error":
                self._note_error(message)
            elif kind == "resume":
                self._on_resume(message)
                if tables is not None:
                    self._load(tables)
        if kind in ("status", "error"):
            self._wake.set()

    def _is_of_this_run(self, message: Message) -> bool:
        """The end of a run may be told when the next has begun already."""
        run_id, run = message.get("run_id"), self._run
        return run_id is None or (run is not None and run_id == run.run_id)

    def _add_frames(self, message: Message) -> None:
        # Another environment's boards may be of any size, and drawn in any way.
        if message["view"] == self._view and self._had.env_id is None:
            rows, columns = self._had.rows, self._had.columns
            frames = message["frames"]
            self._frames.extend(_on_the_floor(one, rows, columns) for one in frames)

    def _on_status(self, message: Message) -> None:
        state = message["state"]
        self._detail = message["detail"]
        if message.get("timesteps") is not None:
            self._figures["timesteps"] = message["timesteps"]
            self._figures["elapsed"] = message["elapsed"]
        if state in TERMINAL:
            self._note_end(message)
            self._save_as_ended()
            self._offer_resume()
            if state != "failed":
                # The next Start is instant too.
                threading.Timer(PUSH_SECONDS, self._prepare).start()
        if state in (*TERMINAL, "paused"):
            self._snapshot_due = time.monotonic() + SNAPSHOT_DELAY_SECONDS
        elif state in ("starting", "running"):
            self._snapshot_due = math.inf

    def _note_end(self, message: Message) -> None:
        state, reason = message["state"], message.get("reason")
        level = {"failed": "error", "finished": "good"}.get(state, "info")
        text = f"{state}: {reason}" if reason else state
        self._history.note(level, text, self._elapsed())

    def _note_error(self, message: Message) -> None:
        self._history.note(
            "error", message["text"], message.get("elapsed"), message.get("traceback")
        )

    def _on_resume(self, message: Message) -> None:
        timesteps = message["timesteps"]
        # What came after the checkpoint has not happened.
        kept = [mark for mark in self._marks if mark[0] <= timesteps]
        self._marks = deque([*kept, (timesteps, "resumed")], maxlen=MAX_MARKS)
        self._figures |= {"timesteps": timesteps, "elapsed": message["elapsed"]}
        text = f"resumed at {timesteps:,} timesteps, from {message['checkpoint']}"
        self._history.note("info", text, message["elapsed"])

    def _on_info(self, message: Message) -> None:
        kind = message["kind"]
        if kind == "mode":
            return  # the controls show it
        if kind == "model":
            self._shelf.on_model_saved(message)
            return
        if kind == "best_eval":
            self._best_eval = _interval(message)
        if "mark" in message:
            self._marks.append((message.get("timesteps") or 0, message["mark"]))
        levels = {"best": "good", "best_eval": "good", "warning": "warning"}
        level = levels.get(kind, "info")
        # In its beginning a run has several bests a second.
        topic = kind if level == "good" else None
        self._history.note(level, message["text"], message.get("elapsed"), topic=topic)

    # From the browser (on any thread)

    def _on_command(self, message: Message) -> None:
        command = message["command"]
        if command == "set_view":
            self.set_view(message["view"])
        elif command == "set_speed":
            self.set_speed(message["speed"])
        elif command == "library":
            self._on_library_job(message["id"], message["job"])
        else:
            getattr(self, command)()

    def _on_library_job(self, identifier: Any, job: Message) -> None:
        """Carry out what was asked of the library; what is refused is said there."""
        try:
            if job["do"] == "train":
                self.start(job["name"])
            elif job["do"] == "save":
                self.save_model(job["name"], job["which"], job["notes"])
            elif job["do"] == "demo":
                self._shelf.request({**job, "speed": self._speed})
            else:
                self._shelf.request({**job, "id": identifier})
        except (ValueError, OSError) as error:
            self._shelf.tell("error", str(error))

    # From the library (on its threads)

    def _on_shelf_change(self, is_urgent: bool) -> None:
        with self._lock:
            self._shelf_seq = self._history.touch()
        if is_urgent:
            self._changed()

    def _send_file(self, identifier: Any, name: str, data: bytes) -> None:
        self.widget.send_update(
            {"type": "file", "id": identifier, "name": name}, [data]
        )

    def _on_sync(self, since: int) -> None:
        with self._lock:
            self._send(since, is_sync=True)

    def _refuse(self, text: str) -> None:
        with self._lock:
            self._history.note("error", text, self._elapsed())
            self._changed()

    # To the browser

    def _push(self) -> None:
        """Send what has changed since the last push, if anything has."""
        with self._lock:
            status = self._status()
            is_news = self._history.seq > self._sent or bool(self._frames)
            is_news = is_news or self._shelf.has_frames
            if is_news or status != self._sent_status:
                self._send(self._sent, is_sync=False)

    def _send(self, since: int, is_sync: bool) -> None:
        seq, tails, notes = self._history.since(since)
        buffers: list[bytes] = []
        update: Message = {
            "type": "update",
            "seq": seq,
            "since": since,
            "run_id": self._run.run_id if self._run else None,
            "status": self._status(),
            "messages": notes,
            "series": pack_series(tails, buffers),
            "frames": self._take_frames(buffers, is_sync),
            "library": self._shelf.shown() if since < self._shelf_seq else None,
            "demo": self._shelf.take_frames(buffers, is_sync),
            "sync": is_sync,
        }
        if not is_sync:
            self._sent = seq
            self._sent_status = update["status"]
        self.widget.send_update(update, buffers)

    def _take_frames(self, buffers: list[bytes], is_sync: bool) -> Message | None:
        """Pack the boards that are to be sent, see `take_frames`."""
        frames, self._last_frame = take_frames(self._frames, self._last_frame, is_sync)
        if not frames:
            return None
        size = self._had.rows, self._had.columns
        return pack_frames(self._view, *size, frames, buffers)

    def _status(self) -> Message:
        asked = self._manager.get_status()
        timesteps = int(self._figures.get("timesteps") or 0)
        elapsed = float(self._figures.get("elapsed") or 0.0)
        total = self._had.total_timesteps
        state = self._state()
        remaining = None
        if timesteps and state not in TERMINAL:
            remaining = elapsed / timesteps * max(total - timesteps, 0)
        return {
            "state": state,
            "reason": asked["reason"],
            "detail": self._detail,
            "timesteps": timesteps,
            "total_timesteps": total,
            "elapsed": elapsed,
            "remaining": remaining,
            "fps": float(self._figures.get("fps") or 0.0),
            "episodes": self._history.episodes,
            "best_lines": self._history.best_lines,
            "best_eval": self._best_eval,
            "target_lines": self._had.target_lines,
            "not_responding": _in_whole_seconds(asked["not_responding"]),
            "view": self._view,
            "speed": self._speed,
            "pace": moves_per_second(self._speed),
            "watch_cost": self._figures.get("watch_cost"),
            "evaluation_cost": self._figures.get("evaluation_cost"),
            "evaluation_games": self._had.evaluation_games,
            "run_dir": self.run_dir,
            "rows": self._had.rows,
            "columns": self._had.columns,
            "training_rows": self._had.learned_rows,
            "can_resume": self._can_resume,
            "more_timesteps": self._asked.total_timesteps,
            "marks": [list(mark) for mark in self._marks],
        }

    def _state(self) -> str:
        """Return the state that is shown: what is so, or what is on its way."""
        told = self._manager.get_status()
        asked, effective = told["status"], told["effective"]
        if asked == "paused" and effective in ("starting", "running"):
            return "pausing"
        return "stopping" if asked == "stopping" else str(effective)

    def _keep_end(self) -> None:
        """Keep a snapshot at once: the kernel may end when the cell has."""
        with self._lock:
            if self._run is not None:
                self._update_snapshot()

    def _tend_snapshot(self) -> None:
        """Make the snapshot, if it is time for it."""
        with self._lock:
            if time.monotonic() >= self._snapshot_due:
                self._update_snapshot()

    def _update_snapshot(self) -> None:
        """Keep in a trait what a saved notebook shows without a kernel."""
        self._snapshot_due = math.inf
        series = {}
        for name in self._history.names():
            series[name] = self._history.series(name, SNAPSHOT_POINTS).tolist()
        _, _, notes = self._history.since(0)
        snapshot: Message = {
            "status": self._status(),
            "series": series,
            "messages": notes[-SNAPSHOT_MESSAGES:],
        }
        if self._last_frame is not None:
            cells = list(self._last_frame["cells"])
            snapshot["frame"] = {**self._last_frame, "cells": cells}
        self.widget.keep(snapshot)

    def _ask(self, action: Any, otherwise: str) -> None:
        with self._lock:
            if not action():
                self._history.note("info", otherwise, self._elapsed())
            self._changed()

    def _changed(self) -> None:
        self._wake.set()

    def _elapsed(self) -> float | None:
        return self._figures.get("elapsed")

    def _need_run(self) -> RunDirectory:
        if self._run is None:
            raise NoModelError("no run yet: call start() or press Start")
        return self._run


def _in_whole_seconds(silence: Message | None) -> Message | None:
    """Return a silence that changes once a second, not with every look at it."""
    return silence and {**silence, "seconds": int(silence["seconds"])}


def _on_the_floor(frame: Message, rows: int, columns: int) -> Message:
    """Return a frame of a board that is as high as asked; training's may be lower."""
    above = rows - len(frame["cells"]) // columns
    if above <= 0:
        return frame
    cells = bytes(above * columns) + frame["cells"]
    return {**frame, "cells": cells, "row": frame["row"] + above}


def _is_whole(entry: Message) -> bool:
    """Return whether an entry of a journal has what is shown of its kind."""
    return all(name in entry for name in ENTRY_FIELDS.get(entry["type"], ()))


def _interval(facts: Message | None) -> Message | None:
    """Return the mean of an evaluation and its 95 % interval, as the panel shows it."""
    if facts is None or "mean_lines" not in facts:
        return None
    return {"mean": facts["mean_lines"], "lo": facts["lower"], "hi": facts["upper"]}


def _read_tables(run: RunDirectory, resume: Message | None = None) -> Tables:
    """Read a run's tables; up to the checkpoint only that it was resumed from."""
    episodes, metrics = run.episodes(), run.metrics()
    evaluations = run.evaluations()
    if resume is None:
        return episodes, metrics, evaluations
    # What came after is on its way as messages already.
    last = resume["timesteps"]
    return (
        episodes[episodes["episode"] <= resume["episode"]],
        metrics[metrics["timesteps"] <= last],
        evaluations[evaluations["timesteps"] <= last],
    )


# Of which only one has a process that waits for a run.
_panels: weakref.WeakSet[TrainingPanel] = weakref.WeakSet()


def _pump(panel: TrainingPanel) -> None:
    """Push at most ten times a second, at once when a state has changed."""
    while not panel._is_closed:
        is_urgent = panel._wake.wait(PUSH_SECONDS)
        panel._wake.clear()
        panel._push()
        panel._tend_snapshot()
        if is_urgent:
            time.sleep(PUSH_SECONDS / 3)  # ≤ 30 messages a second in all
