"""Writes what happens in a run to its directory, before anybody is told.

Owns the open files. A disk that is full or gone never stops the training: it is
reported once, and again when writing works again. Deliberately doesn't know how the
messages travel, nor how they are read back (`run_directory`).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from stable_baselines3.common.logger import CSVOutputFormat

from tetris_widget.run_directory import EPISODE_COLUMNS, RunDirectory, to_json

Message = dict[str, Any]
JOURNALLED = ("status", "info", "error", "evaluation", "command", "resume")
PROGRESS_SECONDS = 1.0


class Journal:
    """The writer of one run directory.

    Args:
        run: where to write.
        warn: called with a sentence when writing fails, and when it works again.
    """

    def __init__(self, run: RunDirectory, warn: Callable[[str], None]) -> None:
        self._run = run
        self._warn = warn
        self._files: dict[Path, IO[str]] = {}
        self._progress: _ProgressFile | None = None
        self._progress_due = 0.0
        self._failed = False
        # Lines that a full disk refused, kept until it takes them again.
        self._unwritten: dict[Path, list[str]] = {}

    def write(self, messages: Sequence[Message]) -> None:
        """Append the messages, and hand them to the operating system."""
        episodes = [_episode_row(m) for m in messages if m["type"] == "episode"]
        events = [to_json(m) + "\n" for m in messages if m["type"] in JOURNALLED]
        try:
            self._append(self._run.monitor_file, episodes, _monitor_header())
            self._append(self._run.journal_file, events, "")
            self._write_progress([m for m in messages if m["type"] == "metrics"])
        except OSError as error:
            self._report(error)
        else:
            self._report(None)

    def sync(self) -> None:
        """Make what was written survive a power cut.

        Raises:
            OSError: something could not be written yet.
        """
        if self._unwritten:
            raise OSError(errno.EIO, f"{self._run.path} cannot be written")
        for file in self._files.values():
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            try:
                file.close()
            except OSError as error:
                self._report(error)
        self._files.clear()
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def _append(self, path: Path, lines: list[str], header: str) -> None:
        pending = self._unwritten.pop(path, []) + lines
        if not pending:
            return
        try:
            file = self._files.get(path)
            if file is None or not path.exists():
                is_new = not path.exists() or not path.stat().st_size
                # Unbuffered below the text layer: a failed flush must not leave half
                # of the lines to be written a second time.
                file = self._files[path] = path.open("a", encoding="utf-8")
                if is_new and header:
                    file.write(header)
            file.write("".join(pending))
            file.flush()
        except OSError:
            self._files.pop(path, None)
            self._unwritten[path] = pending
            raise

    def _write_progress(self, metrics: list[Message]) -> None:
        now = time.monotonic()
        if not metrics or now < self._progress_due:
            return
        self._progress_due = now + PROGRESS_SECONDS
        if self._progress is None:
            self._progress = _ProgressFile(self._run.progress_file)
        last = metrics[-1]
        row = {key: last[key] for key in ("timesteps", "elapsed", "fps", "episodes")}
        row |= last["values"]
        self._progress.write(row, {}, last["timesteps"])

    def _report(self, error: OSError | None) -> None:
        if error is not None and not self._failed:
            self._warn(f"could not save to {self._run.path}: {error.strerror or error}")
        if error is None and self._failed:
            self._warn(f"saving to {self._run.path} works again")
        self._failed = error is not None


class _ProgressFile(CSVOutputFormat):
    """SB3's progress.csv, gone on with where there is one: SB3 would empty it."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.file = path.open("r+", encoding="utf-8")
        self.keys = self.file.readline().rstrip("\n").split(",")
        self.keys = [key for key in self.keys if key]
        self.separator = ","
        self.quotechar = '"'
        self.file.seek(0, os.SEEK_END)


def _monitor_header() -> str:
    start = to_json({"t_start": time.time(), "env_id": "tetris_widget"})
    return f"#{start}\n{','.join(EPISODE_COLUMNS)}\n"


def _episode_row(message: Message) -> str:
    lines = message["lines"]
    return (
        f"{message['reward']},{message['length']},{message['elapsed']:.3f},"
        f"{message['episode']},{message['env']},"
        f"{'' if lines is None else lines},{message['timesteps']}\n"
    )
