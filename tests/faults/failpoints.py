"""Somebody kills the training process exactly here, or there."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.matrix import Kernel, Measure, case, check_told, wait_for
from tests.training.test_worker import SMALL
from tetris_widget.config import TrainingConfig
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import RunDirectory, read_metadata

FAILPOINT = "TEST_FAILPOINT"
# Name: the function before which the process dies, and (for those that take a path)
# the file it must be about.
FAILPOINTS: dict[str, tuple[str, str]] = {
    "at start": ("training.worker:Worker._run", ""),
    "after the lock": ("run_directory:RunDirectory.remove_leftovers", ""),
    "before the model is built": ("training.session:build_model", ""),
    "after temp write of a checkpoint": ("run_directory:os.fsync", "checkpoint-"),
    "after fsync of a checkpoint": ("run_directory:Path.replace", "checkpoint-"),
    "after replace of a checkpoint": ("run_directory:sync_file", "checkpoints"),
    "after temp write of the best model": ("run_directory:os.fsync", "model.zip"),
    "after fsync of the best model": ("run_directory:Path.replace", "model.zip"),
    "before the best model's metadata": (
        "training.best:write_atomically",
        "metadata.json",
    ),
    "between journal and queue": ("training.outbox:Outbox._send", ""),
    "in the middle of the journal": ("training.journal:Journal._write_progress", ""),
    "before the end record": ("run_directory:RunDirectory.write_state", ""),
    "after the end record": ("training.outbox:Outbox.close", ""),
}
# Of these the run must get to its end, or a rollout further, to come by.
AT_THE_END = ("before the end record", "after the end record")
# How often such a call comes before the one that is deadly.
SPARED = {"between journal and queue": 20, "in the middle of the journal": 20}


def arm(name: str) -> None:
    """Let this process die before the call that a failpoint names."""
    target, about = FAILPOINTS[name]
    module_name, _, path = target.partition(":")
    owner: Any = importlib.import_module(f"tetris_widget.{module_name}")
    *parents, attribute = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original: Callable[..., Any] = getattr(owner, attribute)
    spared = SPARED.get(name, 0)

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal spared
        if about in _file_of(arguments[0] if arguments else None):
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
    if FAILPOINTS[name][0].startswith(("training.session", "training.best")):
        # Before the worker does; it is loaded where it is used.
        import tetris_widget.training.session  # noqa: F401
    arm(name)
    from tetris_widget.training.worker import run_worker

    run_worker(*arguments)


class DeadlyManager(TrainingManager):
    """Its process dies at the failpoint that the environment names."""

    _training_worker = staticmethod(deadly_worker)


def at_failpoint(name: str, home: Path, kernel: Kernel) -> None:
    """Die there, and see what is left; then go on with it."""
    os.environ[FAILPOINT] = name
    config = TrainingConfig(**{**SMALL, "checkpoint_seconds": 0.1}, run_dir=str(home))
    before = RunDirectory.create(config)
    kernel.messages.clear()
    kernel.manager = DeadlyManager(kernel.messages.append)
    assert kernel.call("start_training", config)
    run = kernel.run
    assert run.path != before.path
    if name in AT_THE_END:
        kernel.until("running")
        kernel.until_trained()
        kernel.call("request_stop")
    wait_for(lambda: not kernel.call("is_running"))
    reason = kernel.status()["reason"]
    assert name == "after the end record" or "SIGKILL" in reason, reason
    expected = "stopped" if name in AT_THE_END else "failed"
    kernel.until_told(expected)
    assert run.state()["state"] == expected
    check_told(kernel)
    if run.best_model_file.exists():
        assert read_metadata(run.best_model_file), "the best model is damaged"
    if run.checkpoints():
        kernel.manager = TrainingManager(kernel.messages.append)
        kernel.start({}, resume=run)
        kernel.until_trained()
        assert not list(run.path.rglob("*.tmp.*")), "half a file is left"
        assert kernel.manager.stop_training()
        kernel.until_told("stopped")
        check_told(kernel)
        kernel.manager.close()


@case("SIGKILL at each named failpoint", full=3, short=0)
def failpoints(times: int, home: Path) -> list[Measure]:
    kernel = Kernel(TrainingManager)
    died = Measure("failpoints", len(FAILPOINTS), "of " + str(len(FAILPOINTS)))
    for _ in range(times):
        for name in FAILPOINTS:
            try:
                at_failpoint(name, home, kernel)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
    died.add(len(FAILPOINTS))
    return [died, kernel.calls]
