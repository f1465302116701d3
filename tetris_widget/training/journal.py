"""Writes what happens in a run to its directory, before anybody is told.

Owns the open files, and the numbers (`seq`) by which a reader sees that something is
missing. A disk that is full or gone never stops the training: it is reported once, and
again when writing works again, with how many of the lines that had to wait are lost.
Deliberately doesn't know how the messages travel, nor how they are read back
(`run_directory`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tetris_widget.run_directory import (
    EPISODE_COLUMNS,
    RunDirectory,
    end_line,
    to_json,
)

if TYPE_CHECKING:
    from tetris_widget.training.progress import ProgressFile

Message = dict[str, Any]
JOURNALLED = ("status", "info", "error", "evaluation", "command", "resume")
LOSSLESS = ("episode", *JOURNALLED)
PROGRESS_SECONDS = 1.0
# Lines of each file that wait for a disk to take them; older ones are lost then.
MAX_UNWRITTEN = 20_000
NEWLINE = ord("\n")


class Journal:
    """The writer of one run directory.

    Args:
        run: where to write; the numbers go on from its last one.
        warn: called with a sentence when writing fails, and when it works again.
    """

    def __init__(self, run: RunDirectory, warn: Callable[[str], None]) -> None:
        self._run = run
        self._warn = warn
        self._episodes = _Lines(run.monitor_file, _monitor_header, self._warn_of_new)
        self._events = _Lines(run.journal_file, str, self._warn_of_new)
        self._progress: ProgressFile | None = None
        self._progress_due = 0.0
        self._failed = False
        self._seq = run.last_seq()

    def write(self, messages: Sequence[Message]) -> None:
        """Append the messages, and hand them to the operating system.

        Those that must not be lost get the next numbers, as `seq`.
        """
        for message in messages:
            if message["type"] in LOSSLESS:
                self._seq += 1
                message["seq"] = self._seq
        episodes = [_episode_row(m) for m in messages if m["type"] == "episode"]
        events = [_event_line(m) for m in messages if m["type"] in JOURNALLED]
        metrics = [m for m in messages if m["type"] == "metrics"]
        failure: OSError | None = None
        # Each, also when the one before fails.
        for file, lines in ((self._episodes, episodes), (self._events, events)):
            try:
                file.append(lines)
            except OSError as error:
                failure = error
        try:
            self._write_progress(metrics)
        except OSError as error:
            failure = error
        self._report(failure)

    def sync(self) -> None:
        """Make what was written survive a power cut.

        Raises:
            OSError: something could not be written yet.
        """
        files = (self._episodes, self._events)
        if any(file.has_unwritten for file in files):
            raise OSError(errno.EIO, f"{self._run.path} cannot be written")
        for file in files:
            file.sync()

    def close(self) -> None:
        """Close the files; what the disk refuses until now is lost, and was told."""
        self._episodes.close()
        self._events.close()
        self._close_progress()

    def _close_progress(self) -> None:
        progress, self._progress = self._progress, None
        if progress is not None:
            # Its last row may wait for a disk that is still full.
            with contextlib.suppress(OSError):
                progress.close()

    def _write_progress(self, metrics: list[Message]) -> None:
        now = time.monotonic()
        if not metrics or now < self._progress_due:
            return
        self._progress_due = now + PROGRESS_SECONDS
        if self._progress is None or not self._run.progress_file.exists():
            self._begin_progress()
        assert self._progress is not None
        last = metrics[-1]
        row = {key: last[key] for key in ("timesteps", "elapsed", "fps", "episodes")}
        row |= last["values"]
        self._progress.write(row, {}, last["timesteps"])

    def _begin_progress(self) -> None:
        # Not before: what fails to be imported is journalled, too.
        from tetris_widget.training.progress import ProgressFile

        path, was_deleted = self._run.progress_file, self._progress is not None
        self._close_progress()
        self._progress = ProgressFile(path)
        if was_deleted:
            self._warn_of_new(path)

    def _warn_of_new(self, path: Path) -> None:
        self._warn(f"somebody deleted {path}; a new one begins here")

    def _report(self, error: OSError | None) -> None:
        if error is not None and not self._failed:
            self._warn(f"could not save to {self._run.path}: {error.strerror or error}")
        if error is None and self._failed:
            lost = self._episodes.take_lost() + self._events.take_lost()
            text = f"; {lost:,} lines are lost" if lost else ""
            self._warn(f"saving to {self._run.path} works again{text}")
        self._failed = error is not None


class _Lines:
    """A file that lines are appended to, whatever becomes of it and of its disk.

    Args:
        path: it goes on there, or begins with what `header` returns.
        warn_of_new: called with the path when somebody has deleted it.
    """

    def __init__(
        self, path: Path, header: Callable[[], str], warn_of_new: Callable[[Path], None]
    ) -> None:
        self._path = path
        self._header = header
        self._warn_of_new = warn_of_new
        self._descriptor: int | None = None
        # What a full disk refused, kept until it takes it again.
        self._unwritten = bytearray()
        self._is_torn = False
        self._lost = 0

    @property
    def has_unwritten(self) -> bool:
        return bool(self._unwritten)

    def append(self, lines: list[str]) -> None:
        """Hand them to the operating system, after those that it has refused.

        Raises:
            OSError: it takes them not all; they are kept.
        """
        self._unwritten += "".join(lines).encode()
        if not self._unwritten:
            return
        try:
            if self._descriptor is None or not self._path.exists():
                self._open()
            self._write()
        except OSError:
            self._bound()
            raise

    def sync(self) -> None:
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def take_lost(self) -> int:
        """Return how many lines have been given up, and count anew."""
        lost, self._lost = self._lost, 0
        return lost

    def _write(self) -> None:
        assert self._descriptor is not None
        while self._unwritten:
            # Unbuffered: what a full disk took half of must not be written twice.
            written = os.write(self._descriptor, self._unwritten)
            self._is_torn = self._unwritten[written - 1] != NEWLINE
            del self._unwritten[:written]

    def _open(self) -> None:
        was_deleted = self._descriptor is not None
        self.close()
        end_line(self._path)
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            self._begin(file)
        except OSError:
            os.close(file)
            raise
        self._descriptor = file
        if was_deleted:
            self._warn_of_new(self._path)

    def _begin(self, file: int) -> None:
        header = self._header().encode()
        if not os.fstat(file).st_size and os.write(file, header) < len(header):
            os.ftruncate(file, 0)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _bound(self) -> None:
        """Give up the oldest of too many lines, but not the rest of a torn one."""
        lines = self._unwritten.splitlines(keepends=True)
        excess = len(lines) - MAX_UNWRITTEN
        if excess > 0:
            first = int(self._is_torn)
            del lines[first : first + excess]
            self._unwritten = bytearray().join(lines)
            self._lost += excess


def _monitor_header() -> str:
    start = to_json({"t_start": time.time(), "env_id": "tetris_widget"})
    return f"#{start}\n{','.join(EPISODE_COLUMNS)}\n"


def _event_line(message: Message) -> str:
    return to_json({**message, "time": time.time()}) + "\n"


def _episode_row(message: Message) -> str:
    lines = message["lines"]
    return (
        f"{message['reward']},{message['length']},{message['elapsed']:.3f},"
        f"{message['episode']},{message['env']},"
        f"{'' if lines is None else lines},{message['timesteps']},{message['seq']}\n"
    )
