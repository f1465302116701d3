"""Runs of a session in this process, for tests: stopped at a timestep, resumed.

`python -m tests.training.runs DIR…` resumes the runs in DIR… in a process of its own.
"""

from __future__ import annotations

import math
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tetris_widget.config import TrainingConfig
from tetris_widget.run_directory import RunDirectory
from tetris_widget.training.journal import Journal
from tetris_widget.training.session import TrainingSession

SMALL: dict[str, Any] = {
    "rows": 8,
    "columns": 5,
    "n_envs": 4,
    "n_steps": 16,
    "batch_size": 32,
    "max_pieces": 40,
    "evaluation_games": 4,
    "evaluation_max_pieces": 50,
    "view": "watch",
}


def small_preset(name: str, run_dir: Path) -> TrainingConfig:
    """A preset that is evaluated at once, and goes on until it is stopped."""
    return TrainingConfig.preset(
        name,
        rows=8,
        columns=6,
        total_timesteps=100_000_000,
        evaluation_games=2,
        evaluation_max_pieces=20,
        evaluation_budget=0.5,
        run_dir=str(run_dir),
    )


class Messages(queue.SimpleQueue[dict[str, Any]]):
    """A queue that writes the journal as it is filled, and keeps all."""

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self.all: list[dict[str, Any]] = []
        self._journal = Journal(run, self._warn)
        # The training's thread puts, and those of what it lets be done.
        self._turn = threading.Lock()

    def _warn(self, text: str) -> None:
        raise AssertionError(text)

    def put(self, item: dict[str, Any], *_: Any, **__: Any) -> None:
        with self._turn:
            self.all.append(item)
            self._journal.write([item])

    def keep(self) -> None:
        """All is on disk."""

    def sync(self) -> None:
        self._journal.sync()

    def close(self) -> None:
        self._journal.close()

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.all if message["type"] == kind]


class Commands(queue.SimpleQueue[dict[str, Any]]):
    """A queue that is looked into at every control point, and lets others look, too."""

    look: Callable[[], None] | None = None

    def get_nowait(self) -> dict[str, Any]:
        if self.look is not None:
            self.look()
        return super().get_nowait()


class Run:
    """A session on a run directory, with its ends in hand."""

    def __init__(
        self, config: TrainingConfig, run: RunDirectory, resume: Any = None
    ) -> None:
        self.run = run
        self.messages = Messages(run)
        self.commands = Commands()
        self.pause = threading.Event()
        self.pause.set()
        self.stop = threading.Event()
        self.session = TrainingSession(
            config, run, self.messages, self.commands, self.pause, self.stop, resume
        )
        self.callback = self.session._callback
        # So that what is told of best games depends on no clock.
        self.callback.best_share = math.inf

    def train(self, stop_at: int | None = None) -> str:
        """Train to the end, or until `stop_at` timesteps."""
        if stop_at is not None:
            self.commands.look = lambda: self._stop_at(stop_at)
        try:
            return self.session.train()
        finally:
            self.messages.close()

    def _stop_at(self, timesteps: int) -> None:
        if self.callback.num_timesteps >= timesteps:
            self.stop.set()


def new_run(config: TrainingConfig) -> Run:
    return Run(config, RunDirectory.create(config))


def resumed(path: Path, checkpoint: str | None = None, **changes: Any) -> Run:
    run = RunDirectory(path)
    config = run.config().for_resuming(changes)
    run.reopen(config)
    return Run(config, run, {"checkpoint": checkpoint})


if __name__ == "__main__":
    for directory in sys.argv[1:]:
        resumed(Path(directory)).train()
