"""A toy trainer in the real training process: everything but the learning, no torch.

The real worker with its journal, lock, log and way out runs it; only `TrainingSession`
is another one. It counts timesteps, finishes episodes, takes checkpoints, pauses, stops
and goes on from a checkpoint exactly, in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import sys
import time
import types
from pathlib import Path
from typing import Any

from tetris_widget.config import TrainingConfig
from tetris_widget.ipc import Pulse
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import RunDirectory, to_json, write_atomically

# Timesteps of a rollout, and of an episode.
ROLLOUT = 50
EPISODE = 5
# Seconds that a rollout takes; 0 is as fast as it goes.
PACE = "TOY_PACE"
# Without naps: how late a machine wakes depends on what else it does.
FULL_SPEED = {PACE: "0"}
# `hang`: native code that keeps Python's lock; `deaf`: and SIGTERM is ignored.
FAULT = "TOY_FAULT"
FAULTY_EPISODE = 200
# A file beside the runs; while it is there, they cannot be written, and it says why.
REFUSAL = "TOY_REFUSAL"
READING = ("r", "rb", os.O_RDONLY)
CHECKPOINT_SECONDS = 0.1


class ToySession:
    """Stands in for `training.session.TrainingSession`."""

    goal = None

    def __init__(
        self,
        config: TrainingConfig,
        run: RunDirectory,
        messages: Any,
        commands: Any,
        pause: Any,
        stop: Any,
        resume: Any,
        pulse: Pulse,
    ) -> None:
        self._config = config
        self._run = run
        self._messages = messages
        self._commands = commands
        self._pause = pause
        self._stop = stop
        self._pulse = pulse
        self._word = config.seed or 1
        self._episode = 0
        self._best = 0
        self._timesteps = 0
        self._saved_at = 0.0
        self._pace = float(os.environ.get(PACE, "0.005"))
        # That alone would take most of a test's time.
        assert "torch" not in sys.modules
        if resume is not None:
            self._go_on()

    @property
    def progress(self) -> dict[str, Any]:
        return {"timesteps": self._timesteps, "elapsed": self._timesteps / 1e4}

    def train(self) -> str:
        # Whoever hears that it runs may kill it, and go on with it.
        self._save()
        self._send_status("running")
        while not self._stop.is_set():
            if self._timesteps >= self._config.total_timesteps:
                self._save()
                return "finished"
            self._wait_while_paused()
            self._carry_out_commands()
            self._roll_out()
            if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
                self._save()
        self._save()
        return "stopped"

    def _roll_out(self) -> None:
        self._pulse.beat("rollout")
        for _ in range(ROLLOUT // EPISODE):
            self._timesteps += EPISODE
            self._end_episode()
        values = {"train/loss": float(self._word % 100)}
        fields = {"episodes": self._episode, "fps": 1e4, "watch_cost": None}
        self._send("metrics", values=values, **fields)
        self._pulse.beat("update")
        time.sleep(self._pace)

    def _end_episode(self) -> None:
        self._episode += 1
        if self._episode == FAULTY_EPISODE and os.environ.get(FAULT):
            self._hang()
        self._word = self._word * 48_271 % (2**31 - 1)
        lines = self._word % 1_000
        fields = {"episode": self._episode, "env": 0, "length": EPISODE}
        self._send("episode", reward=float(lines), lines=lines, **fields)
        self._messages.keep()
        if lines > self._best:
            self._best = lines
            text = f"new best: {lines} lines in one game"
            best = {"best_lines": lines, "episode": self._episode}
            if lines >= self._saved_best():
                with contextlib.suppress(OSError):
                    write_atomically(self._best_file, to_json(best))
            self._send("info", kind="best", text=text, **best)

    @property
    def _best_file(self) -> Path:
        return self._run.path / "best" / "metadata.json"

    def _saved_best(self) -> int:
        """One from after the checkpoint that the run goes on from may be better."""
        if not self._best_file.exists():
            return 0
        return int(json.loads(self._best_file.read_text())["best_lines"])

    def _hang(self) -> None:
        if os.environ[FAULT] == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # A lock that is taken twice: unlike a sleep, no signal wakes it.
        library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
        for _ in range(2):
            library.pthread_mutex_lock(mutex)

    def _wait_while_paused(self) -> None:
        if self._pause.is_set():
            return
        self._send_status("paused")
        self._save()
        with self._pulse.during("paused"):
            while not self._pause.wait(0.02) and not self._stop.is_set():
                self._pulse.beat()
                self._carry_out_commands()
        if not self._stop.is_set():
            self._send_status("running")

    def _carry_out_commands(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                values = dict(self._commands.get_nowait())
                name = values.pop("command")
                self._send("command", command=name, values=values)

    def _save(self) -> None:
        """Write all that it takes to go on exactly."""
        state = {
            "timesteps": self._timesteps,
            "episode": self._episode,
            "word": self._word,
            "best": self._best,
        }
        with self._pulse.during("saving"), contextlib.suppress(OSError):
            self._messages.sync()
            path = self._run.checkpoint_file(self._timesteps)
            write_atomically(path, to_json(state))
        self._saved_at = time.monotonic()
        for path in self._run.checkpoints()[3:]:
            path.unlink()

    def _go_on(self) -> None:
        path = self._run.checkpoints()[0]
        state = json.loads(path.read_text())
        self._timesteps, self._episode = state["timesteps"], state["episode"]
        self._word, self._best = state["word"], state["best"]
        self._run.rewind(self._timesteps, self._episode)
        self._send("resume", episode=self._episode, checkpoint=path.name, is_exact=True)

    def _send_status(self, state: str) -> None:
        self._send("status", state=state, reason=None, detail=None)

    def _send(self, type_: str, **fields: Any) -> None:
        self._messages.put({**fields, "type": type_, **self.progress})


class PlainProgress:
    """Stands in for the table of metrics, which is SB3's, and SB3 loads torch."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def write(self, row: dict[str, Any], *_: Any) -> None:
        if not self._file.tell():
            print(*row, sep=",", file=self._file)
        print(*row.values(), sep=",", file=self._file, flush=True)

    def close(self) -> None:
        self._file.close()


class RefusingDisk:
    """Refuses to write a run's files for as long as a file says so, and why.

    What a full disk does can be had from a small one; what a read-only one does, from
    none that has files open.
    """

    def __init__(self, word: Path) -> None:
        self._word = word
        self._guarded = str(word.parent)
        for owner, name in ((os, "open"), (os, "write"), (os, "fsync"), (Path, "open")):
            self._guard(owner, name)

    def _guard(self, owner: Any, name: str) -> None:
        original: Any = getattr(owner, name)

        def guarded(target: Any, *arguments: Any, **options: Any) -> Any:
            how = arguments[0] if arguments else options.get("mode", "r")
            is_writing = name in ("write", "fsync") or how not in READING
            if is_writing and self._word.exists() and self._is_guarded(target):
                code = int(self._word.read_bytes())
                raise OSError(code, os.strerror(code))
            return original(target, *arguments, **options)

        setattr(owner, name, guarded)

    def _is_guarded(self, target: Any) -> bool:
        if isinstance(target, int):
            target = Path(f"/proc/self/fd/{target}").readlink()
        return str(target).startswith(self._guarded)


def be_a_toy() -> None:
    """Let this process's worker run the toy in place of the real session."""
    session: Any = types.ModuleType("tetris_widget.training.session")
    session.TrainingSession = ToySession
    policies: Any = types.ModuleType("tetris_widget.training.policies")
    policies.warm_up = lambda config: None
    progress: Any = types.ModuleType("tetris_widget.training.progress")
    progress.ProgressFile = PlainProgress
    opencv: Any = types.ModuleType("tetris_widget.training.opencv")
    opencv.leave_out = lambda: None
    for module in (session, policies, progress, opencv):
        sys.modules[module.__name__] = module


def refusing_worker(*arguments: Any) -> None:
    if REFUSAL in os.environ:
        RefusingDisk(Path(os.environ[REFUSAL]))
    from tetris_widget.training.worker import run_worker

    run_worker(*arguments)


def toy_worker(*arguments: Any) -> None:
    be_a_toy()
    refusing_worker(*arguments)


class ToyManager(TrainingManager):
    """A manager of the toy trainer."""

    _training_worker = staticmethod(toy_worker)


class RefusingManager(TrainingManager):
    """A manager of the real trainer, on a disk that refuses now and then."""

    _training_worker = staticmethod(refusing_worker)
