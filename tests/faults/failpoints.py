"""Somebody kills the training process exactly here, or there."""

from __future__ import annotations

import importlib
import itertools
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.matrix import Kernel, Measure, case, check_told, wait_for
from tests.training.test_worker import SMALL
from tetris_widget.config import TrainingConfig
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import RunDirectory, read_metadata

FAILPOINT = "TEST_FAILPOINT"


@dataclass(frozen=True)
class Failpoint:
    """Where the process dies.

    Attributes:
        before: the function before which it does.
        about: what the file must be like that it is about (of those that take a path).
        spared: how many such calls come before the one that is deadly; they count from
            the first checkpoint on.
    """

    before: str
    about: str = ""
    spared: int = 0


# Those that `make test` has come first.
FAILPOINTS = {
    "after temp write of a checkpoint": Failpoint(
        "run_directory:os.fsync", r"checkpoint-\d+", 1
    ),
    "after replace of a checkpoint": Failpoint(
        "run_directory:sync_file", r"/checkpoints$", 2
    ),
    "before the best model's metadata": Failpoint(
        "training.best:write_atomically", r"best/metadata\.json", 1
    ),
    "between journal and queue": Failpoint("training.outbox:Outbox._send", spared=20),
    "at start": Failpoint("training.worker:Worker._run"),
    "after the lock": Failpoint("run_directory:RunDirectory.remove_leftovers"),
    "before the model is built": Failpoint("training.session:build_model"),
    "after fsync of a checkpoint": Failpoint(
        "run_directory:Path.replace", r"checkpoint-\d+", 1
    ),
    "after temp write of the best model": Failpoint(
        "run_directory:os.fsync", r"best/model\.zip", 1
    ),
    "after fsync of the best model": Failpoint(
        "run_directory:Path.replace", r"best/model\.zip", 1
    ),
    "after replace of the best model": Failpoint(
        "run_directory:sync_file", r"/best$", 2
    ),
    "in the middle of the journal": Failpoint(
        "training.journal:Journal._write_progress", spared=20
    ),
    "before the end record": Failpoint("run_directory:RunDirectory.write_state"),
    "after the end record": Failpoint("training.outbox:Outbox.close"),
}
# Of these the run must get to its end, or a rollout further, to come by.
AT_THE_END = ("before the end record", "after the end record")
# Then it has not begun.
AT_THE_START = ("at start", "after the lock", "before the model is built")
# Checkpoints on disk by then: of the one that is being written, the old or the new.
CHECKPOINTS = {
    "after temp write of a checkpoint": 2,
    "after fsync of a checkpoint": 2,
    "after replace of a checkpoint": 3,
}


def arm(name: str, run: RunDirectory) -> None:
    """Let this process die before the call that a failpoint names."""
    failpoint = FAILPOINTS[name]
    module_name, _, path = failpoint.before.partition(":")
    owner: Any = importlib.import_module(f"tetris_widget.{module_name}")
    *parents, attribute = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original: Callable[..., Any] = getattr(owner, attribute)
    spared = failpoint.spared

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal spared
        target = _file_of(arguments[0] if arguments else None)
        counts = name in AT_THE_START or bool(run.checkpoints())
        if counts and re.search(failpoint.about, target):
            if not spared:
                os.kill(os.getpid(), signal.SIGKILL)
            spared -= 1
        return original(*arguments, **options)

    setattr(owner, attribute, deadly)


def _file_of(argument: Any) -> str:
    if isinstance(argument, int):
        return str(Path(f"/proc/self/fd/{argument}").readlink())
    return str(argument)


def deadly_worker(*arguments: Any) -> None:
    name = os.environ[FAILPOINT]
    if FAILPOINTS[name].before.startswith(("training.session", "training.best")):
        # Before the worker does; it is loaded where it is used.
        import tetris_widget.training.session  # noqa: F401
    arm(name, RunDirectory(arguments[0]["run_path"]))
    from tetris_widget.training.worker import run_worker

    run_worker(*arguments)


class DeadlyManager(TrainingManager):
    """Its process dies at the failpoint that the environment names."""

    _training_worker = staticmethod(deadly_worker)


def at_failpoint(name: str, home: Path, kernel: Kernel) -> None:
    """Die there, and see what is left; then go on with it."""
    os.environ[FAILPOINT] = name
    config = TrainingConfig(**{**SMALL, "checkpoint_seconds": 0.1}, run_dir=str(home))
    kernel.messages.clear()
    kernel.manager = DeadlyManager(kernel.messages.append)
    assert kernel.call("start_training", config)
    run = kernel.run
    if name in AT_THE_END:
        kernel.until("running")
        kernel.until_trained()
        kernel.call("request_stop")
    wait_for(lambda: not kernel.call("is_running"))
    reason = kernel.status()["reason"]
    assert name == "after the end record" or "SIGKILL" in reason, reason
    process = kernel.manager.process
    assert process is not None
    wait_for(lambda: process.exitcode == -signal.SIGKILL)
    expected = "stopped" if name in AT_THE_END else "failed"
    kernel.until_told(expected)
    assert run.state()["state"] == expected
    check_told(kernel)
    kernel.manager = TrainingManager(kernel.messages.append)
    if name in AT_THE_START:
        assert not run.checkpoints()
        # There is nothing to go on from: that is said, and Start works.
        assert kernel.call("start_training", {}, resume=run)
        wait_for(lambda: not kernel.call("is_running"))
        assert "start a new run" in kernel.status()["reason"]
        kernel.start(config)
    else:
        check_files(name, run, kernel)
        kernel.start({}, resume=run)
        (mark,) = kernel.of_type("resume")
        assert mark["is_exact"]
    kernel.until_trained()
    assert kernel.manager.stop_training()
    kernel.until_told("stopped")
    check_told(kernel)
    kernel.manager.close()
    assert not list(kernel.run.path.rglob("*.tmp.*")), "half a file is left"


def check_files(name: str, run: RunDirectory, kernel: Kernel) -> None:
    """The previous file or the new one is there, and whole."""
    from stable_baselines3 import PPO

    from tetris_widget.training.checkpointer import last_checkpoint

    def fail(text: str) -> None:
        raise AssertionError(text)

    path, snapshot = last_checkpoint(run, None, fail)
    assert path == run.checkpoint_file(snapshot.timesteps)
    if name in CHECKPOINTS:
        assert len(run.checkpoints()) == CHECKPOINTS[name]
        assert snapshot.timesteps > 0
    told = [m["best_lines"] for m in kernel.of_type("info") if m["kind"] == "best"]
    if told or "best model" in name:
        found = read_metadata(run.best_model_file)
        assert found is not None, "the best model is damaged"
        # The one that was told, or the one that it died about.
        assert found["best_lines"] >= max(told, default=1)
        PPO.load(run.best_model_file, device="cpu")


@case("SIGKILL at a named failpoint", full=3 * len(FAILPOINTS), short=4)
def failpoints(times: int, home: Path) -> list[Measure]:
    kernel = Kernel(TrainingManager)
    died = Measure("deaths", times, "")
    for name in itertools.islice(itertools.cycle(FAILPOINTS), times):
        try:
            at_failpoint(name, home, kernel)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    died.add(times)
    return [died, kernel.calls]
