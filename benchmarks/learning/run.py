"""One run through the panel's own process, and the models that it called its best.

Owns the clock by which they are kept. Deliberately doesn't look into the files while
the run goes on: the cores that are measured have other things to do.
"""

from __future__ import annotations

import json
import os
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tetris_widget.config import TrainingConfig
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import METADATA_NAME, RunDirectory

CLOCKS = ("wall", "cpu")
LOOK_SECONDS = 0.02
START_SECONDS = 120.0


@dataclass(frozen=True)
class Kept:
    """A model that was the best from a moment on, or that a run ended with."""

    seconds: float
    path: Path

    def timesteps(self) -> int:
        """Return how many it had learned from."""
        with zipfile.ZipFile(self.path) as archive:
            metadata = json.loads(archive.read(METADATA_NAME))
        return int(metadata["timesteps"])


class Run:
    """A run that is trained to the end of a time, or of its timesteps.

    Args:
        config: what is trained.
        directory: where files may be put.
        clock: `wall`, or `cpu`, the learning thread's own (the contest for the best
            model has a second core, and is slowed as the rest).

    Attributes:
        seconds: how long it has learned, by the clock, from the first step.
        last: the model that it ended with.
    """

    def __init__(self, config: TrainingConfig, directory: Path, clock: str) -> None:
        self.seconds = 0.0
        self._config = config.replace(run_dir=str(directory / "runs"), view="headless")
        self._directory = directory
        self._clock = clock
        self._kept: list[Kept] = []
        self._seen: tuple[int, int] | None = None
        self._state = ""
        self._ready, self._running = threading.Event(), threading.Event()

    def train(self, seconds: float) -> None:
        """Train for so long, or until the timesteps are made.

        Raises:
            RuntimeError: the run has failed.
            TimeoutError: it has not begun.
        """
        manager = TrainingManager(self._listen)
        try:
            manager.prepare()
            self._await(self._ready)
            manager.start_training(self._config)
            status = manager.get_status()
            self._await(self._running)
            _check(manager)
            run = RunDirectory(status["run_dir"])
            self._follow(manager, run, psutil.Process(status["pid"]), seconds)
            manager.stop_training()
            _check(manager)
            self.last = self._link(run.last_model_file, "last")
        finally:
            manager.close()

    def best_at(self, seconds: float) -> Kept | None:
        """Return the model that was the best at a time."""
        kept = [one for one in self._kept if one.seconds <= seconds]
        return kept[-1] if kept else None

    def _follow(
        self,
        manager: TrainingManager,
        run: RunDirectory,
        worker: psutil.Process,
        seconds: float,
    ) -> None:
        is_wall = self._clock == "wall"
        began, used = time.perf_counter(), _main_thread_seconds(worker)
        while manager.is_running():
            wall = time.perf_counter() - began
            self.seconds = wall if is_wall else _main_thread_seconds(worker) - used
            self._keep(run.best_evaluated_model_file)
            if self.seconds >= seconds:
                return
            time.sleep(LOOK_SECONDS)

    def _keep(self, source: Path) -> None:
        """Keep the best model if it is a new one.

        A new one takes the old one's place as a new file, so that a second name for
        the old one is all that keeping it takes.
        """
        try:
            found = source.stat()
            seen = found.st_ino, found.st_mtime_ns
            if seen == self._seen:
                return
            kept = self._link(source, str(len(self._kept)))
        except FileNotFoundError:  # there is none yet
            return
        self._seen = seen
        self._kept.append(kept)

    def _link(self, source: Path, name: str) -> Kept:
        path = self._directory / f"{name}.zip"
        os.link(source, path)
        return Kept(self.seconds, path)

    def _await(self, event: threading.Event) -> None:
        if not event.wait(START_SECONDS):
            raise TimeoutError(
                f"the run has not begun; it is {self._state or 'silent'}"
            )

    def _listen(self, message: dict[str, Any]) -> None:
        if message["type"] == "status":
            self._state = message["state"]
            if self._state == "ready":
                self._ready.set()
            elif self._state not in ("idle", "warming", "starting"):
                self._running.set()


def _check(manager: TrainingManager) -> None:
    status = manager.get_status()
    if status["status"] == "failed":
        raise RuntimeError(f"the run failed: {status['reason']}")


def _main_thread_seconds(process: psutil.Process) -> float:
    """Return the CPU-seconds of the thread that learns."""
    for thread in process.threads():
        if thread.id == process.pid:
            return float(thread.user_time + thread.system_time)
    raise RuntimeError("a process without a main thread")
