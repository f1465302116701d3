"""When checkpoints are taken, and which of them are kept.

Owns the clock of it. A checkpoint is of a run between two rollouts. On-policy
algorithms collect long ones, so a snapshot of the last boundary stays in memory, ready
to be written when the run is paused, stopped or broken off in the middle; what came
after it happens again, the same, when the run resumes. Off-policy algorithms have large
replay buffers and short rollouts; they are only stopped at a boundary, and written as
they are. Deliberately doesn't know what a checkpoint consists of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from tetris_widget.config import ConfigError
from tetris_widget.run_directory import RunDirectory
from tetris_widget.training.callback import WebMetricsCallback
from tetris_widget.training.checkpoint import (
    CheckpointError,
    Snapshot,
    read_checkpoint,
    restore_generators,
    take_snapshot,
    write_checkpoint,
)

KEPT = 3
# Neither snapshots nor files may cost more than these shares of the time.
SNAPSHOT_SHARE = 0.0025
FILE_SHARE = 0.01
# A stop takes back this much at most, and a rollout.
MAX_SNAPSHOT_SECONDS = 1.0


class Checkpointer:
    """Takes checkpoints every `seconds`, and whenever it is asked to.

    Args:
        run: where they are written.
        model: that learns.
        reports: the run's callback, which counts, and calls `begin_rollout`.
        seconds: from one to the next; longer where they take long.
        extra: gives other plain values to be kept in a checkpoint.
        sync: puts every episode counted so far on disk; a checkpoint that counts more
            than are there would leave a gap. An OSError means that it cannot.
        resumed: what the run goes on from; None: it is new.

    Attributes:
        saved_timesteps: of the newest checkpoint on disk; None: there is none.
        is_steered: whether what happens after the last boundary happens otherwise when
            the run goes on from there (see `steer`).
    """

    def __init__(
        self,
        run: RunDirectory,
        model: BaseAlgorithm,
        reports: WebMetricsCallback,
        seconds: float,
        extra: Callable[[], dict[str, Any]],
        sync: Callable[[], None],
        resumed: Snapshot | None = None,
    ) -> None:
        self._run = run
        self._model = model
        self._reports = reports
        self._seconds = seconds
        self._extra = extra
        self._sync = sync
        self._resumed = resumed
        self._snapshot: Snapshot | None = None
        self._snapshot_due = 0.0
        # Whether the snapshot, as it is, is on disk.
        self._is_saved = resumed is not None
        # A new run has one at once: killed early, it can still be resumed.
        self._due = 0.0 if resumed is None else time.perf_counter() + seconds
        self.saved_timesteps = None if resumed is None else resumed.timesteps
        self.is_steered = False
        # Why nothing can be saved at present; None: all is well.
        self._failure: str | None = None

    def save(self) -> None:
        """Write the last boundary, unless it is on disk already."""
        if not self._keeps_snapshots:
            self._take()
        if self._snapshot is None or self._is_saved:
            return
        if self._write(self._run.checkpoint_file(self._snapshot.timesteps)):
            self.saved_timesteps = self._snapshot.timesteps
            self._is_saved = True
            self._prune()

    def save_end(self) -> None:
        """Write the run as it is when `learn` has returned by itself."""
        self._take()
        self.save()

    def save_after_failure(self) -> None:
        """Write the last boundary if it is still whole."""
        if self._keeps_snapshots:
            self.save()

    def steer(self) -> None:
        """Let the run go on from the last boundary with other plain values.

        Called when a person has changed what learning depends on: whoever resumes the
        run finds it as it was left.
        """
        if self._snapshot is not None:
            values = {**self._snapshot.values, "extra": self._extra()}
            self._snapshot = replace(self._snapshot, values=values)
        self._is_saved = False
        self.is_steered = self._keeps_snapshots

    def on_save_checkpoint(self, command: Mapping[str, Any]) -> None:
        """Write the last boundary under a name; it is kept until it is deleted.

        Raises:
            ValueError: the name is taken, or the disk takes nothing.
        """
        path = self._run.named_checkpoint_file(command["name"])
        if path.exists():
            raise ValueError(
                f"name: {path.stem!r} is there already; allowed: a new one"
            )
        if not self._keeps_snapshots:
            self._take()
        if self._snapshot is None:
            return
        if not self._write(path):
            raise ValueError(f"checkpoint {path.stem!r} is not saved: {self._failure}")
        timesteps = self._snapshot.timesteps
        text = f"checkpoint at {timesteps:,} timesteps saved as {path.stem!r}"
        self._reports.send("info", kind="note", text=text)

    def begin_rollout(self) -> None:
        """Take what is due: called at each boundary between two rollouts."""
        if self._resumed is not None:
            restore_generators(self._model, self._resumed)
            self._resumed = None
        now = time.perf_counter()
        is_due = now >= self._due
        if is_due or (self._keeps_snapshots and now >= self._snapshot_due):
            self._take()
        if is_due:
            self.save()
            spent = time.perf_counter() - now
            self._due = now + max(self._seconds, spent / FILE_SHARE)

    # Inside

    @property
    def _keeps_snapshots(self) -> bool:
        return not has_replay_buffer(self._model)

    def _take(self) -> None:
        before = time.perf_counter()
        if self._resumed is not None:
            # Asked for before the run has gone on: it is where it was.
            restore_generators(self._model, self._resumed)
        state = self._reports.get_state()
        self._snapshot = take_snapshot(self._model, state, self._extra())
        self._is_saved &= self._snapshot.timesteps == self.saved_timesteps
        self.is_steered = False
        spent = time.perf_counter() - before
        self._snapshot_due = before + min(spent / SNAPSHOT_SHARE, MAX_SNAPSHOT_SECONDS)

    def _write(self, path: Path) -> bool:
        assert self._snapshot is not None
        try:
            with self._reports.during("saving"):
                self._sync()
                write_checkpoint(path, self._model, self._snapshot)
        except OSError as error:
            was_well = self._failure is None
            self._failure = error.strerror or str(error)
            if was_well:
                self._reports.warn(f"could not save a checkpoint: {self._failure}")
            return False
        if self._failure is not None:
            self._reports.warn("saving checkpoints works again")
        self._failure = None
        return True

    def _prune(self) -> None:
        try:
            for path in self._run.checkpoints()[KEPT:]:
                path.unlink(missing_ok=True)
        except OSError as error:
            self._reports.warn(f"could not delete old checkpoints: {error.strerror}")


def has_replay_buffer(model: BaseAlgorithm) -> bool:
    """Return whether the algorithm learns from a replay buffer."""
    return getattr(model, "replay_buffer", None) is not None


def last_checkpoint(
    run: RunDirectory, name: str | None, warn: Callable[[str], None]
) -> tuple[Path, Snapshot]:
    """Return the newest checkpoint that is whole, or the named one.

    Args:
        run: whose.
        name: that a person gave it; None: the newest.
        warn: called with a sentence for each that is damaged.

    Raises:
        CheckpointError: there is none.
    """
    if name is not None:
        try:
            path = run.named_checkpoint(name)
        except ConfigError as error:
            raise CheckpointError(str(error)) from error
        return path, read_checkpoint(path)
    for path in run.checkpoints():
        try:
            return path, read_checkpoint(path)
        except (CheckpointError, OSError) as error:
            warn(f"{error}; going on from the checkpoint before it")
    raise CheckpointError(
        f"{run.path} has no checkpoint that can be read, so it cannot be resumed; "
        "start a new run with its configuration"
    )
