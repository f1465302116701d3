"""Stop and pause, whatever the training process is doing."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from tests.faults.matrix import Delay, Kernel, Measure, case, check_told, wait_for
from tests.training.test_worker import SMALL
from tetris_widget.config import TrainingConfig
from tetris_widget.manager import TrainingManager
from tetris_widget.run_directory import RunDirectory

PHASES = ("paused", "rollout", "update", "evaluation", "saving")
STOP_SECONDS = 0.5
PAUSE_SECONDS = 0.1
REACH_SECONDS = 20.0
# With its update, on a machine that does other things, too.
ROLLOUT_SECONDS = 3.0


@case("stop while paused, in rollout, update, evaluation, saving", full=6, short=1)
def stops(times: int, home: Path) -> list[Measure]:
    ended = Measure("stopped after", STOP_SECONDS)
    with Kernel(TrainingManager) as kernel:
        for algorithm in ("ppo", "dqn")[:times]:
            config = config_of(algorithm, home)
            for phase in PHASES * max(1, times // 2):
                kernel.messages.clear()
                kernel.start(config)
                kernel.until_trained(60)
                # A boundary is behind it that is not the first one.
                wait_for(lambda: len(kernel.run.checkpoints()) > 1)
                reach(kernel, phase)
                assert kernel.call("request_stop")
                ended.add(kernel.until("stopped", 10))
                assert kernel.status()["rung"] == "stop"
                kernel.until_told("stopped")
                check_told(kernel)
                check_checkpoint(kernel.run, algorithm)
        return [ended, kernel.calls]


def check_checkpoint(run: RunDirectory, algorithm: str) -> None:
    """The newest is of where the run stopped, or of the last boundary in memory."""
    from tetris_widget.training.checkpoint import read_checkpoint
    from tetris_widget.training.checkpointer import MAX_SNAPSHOT_SECONDS

    snapshot, ended = read_checkpoint(run.checkpoints()[0]), run.state()
    assert snapshot.timesteps > 0
    if algorithm == "dqn":  # its stop waits for a boundary
        assert snapshot.timesteps == ended["timesteps"]
        return
    kept = snapshot.values["reports"]["elapsed"]
    taken_back = ended["elapsed"] - kept
    assert taken_back <= MAX_SNAPSHOT_SECONDS + ROLLOUT_SECONDS, taken_back


def config_of(algorithm: str, home: Path) -> TrainingConfig:
    changes: dict[str, Any] = {"n_epochs": 20, "checkpoint_seconds": 0.01}
    if algorithm == "dqn":
        changes |= {"algorithm": "dqn", "buffer_size": 10_000}
    return TrainingConfig(**{**SMALL, **changes}, run_dir=str(home))


def reach(kernel: Kernel, phase: str) -> None:
    """Wait until the process is in a phase."""
    if phase == "paused":
        assert kernel.call("pause_training")
        kernel.until("paused")
        return
    # Phases of milliseconds: a nap would miss them.
    deadline = time.monotonic() + REACH_SECONDS
    while kernel.manager.metrics_queue.pulse.phase != phase:
        assert time.monotonic() < deadline, f"the phase {phase!r} never came"


@case("pause at random", full=100, short=10)
def pauses(times: int, home: Path) -> list[Measure]:
    acknowledged = Delay("acknowledged after (p95)", PAUSE_SECONDS)
    each: list[float] = []
    with Kernel(TrainingManager) as kernel:
        kernel.start(config_of("ppo", home))
        for _ in range(times):
            time.sleep(random.uniform(0, 0.05))
            assert kernel.call("pause_training")
            each.append(kernel.until("paused"))
            wait_for(lambda: kernel.status()["phase"] in ("paused", "saving"))
            assert kernel.call("resume_training")
            kernel.until("running")
        acknowledged.add(sorted(each)[int(0.95 * (len(each) - 1))])
        assert kernel.manager.stop_training()
        kernel.until_told("stopped")
        check_told(kernel)
        return [acknowledged, kernel.calls]
