"""Somebody kills the training process."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from unittest import mock

from tests.faults.matrix import Kernel, Measure, case, check_told, wait_for
from tests.faults.toy import ToyManager
from tests.training.test_worker import SMALL
from tetris_widget.config import TrainingConfig
from tetris_widget.run_directory import RunDirectory, read_metadata

FOREVER = 1_000_000_000
# Updates long enough to be hit.
LONG_UPDATES = {**SMALL, "n_epochs": 50, "batch_size": 16, "checkpoint_seconds": 0.2}


def kill(kernel: Kernel, failed: Measure) -> None:
    """Kill the process, and measure how long until that is known and told."""
    os.kill(kernel.pid, signal.SIGKILL)
    failed.add(wait_for(lambda: kernel.is_("failed")))
    assert "killed by SIGKILL" in kernel.status()["reason"]
    kernel.until_told("failed")


@case("SIGKILL at random points, a third of them paused, a third in updates", 60, 3)
def sigkill(times: int, home: Path) -> list[Measure]:
    # Not above: each training process imports this file, and that would be torch.
    from tests.training.faults import COUNT_FILE, CountingManager

    config = TrainingConfig(**LONG_UPDATES, run_dir=str(home))
    failed = Measure("failed after", 1.0)
    count = home / "count"
    variable = mock.patch.dict(os.environ, {COUNT_FILE: str(count)})
    with variable, Kernel(CountingManager) as kernel:
        for number in range(times):
            # Half of them go on with the run, half start another.
            if number % 2:
                kernel.start({}, resume=kernel.run)
            else:
                kernel.messages.clear()
                kernel.start(config)
            kernel.until_trained(random.randrange(1, 60))
            if number % 3 == 1:
                assert kernel.call("pause_training")
                kernel.until("paused")
            elif number % 3 == 2:
                wait_for(lambda: kernel.status()["phase"] == "update")
            else:
                time.sleep(random.uniform(0, 0.3))
            kill(kernel, failed)
            check_told(kernel)
            check_best(kernel)
            check_count(kernel, count)
        return [failed, kernel.calls]


def check_best(kernel: Kernel) -> None:
    """The best model is whole, and as good as was told; none was told where none is."""
    infos = (m for m in kernel.of_type("info") if m["run_id"] == kernel.run.run_id)
    told = [m["best_lines"] for m in infos if m["kind"] == "best"]
    path = kernel.run.best_model_file
    best = read_metadata(path)
    assert best is not None or not path.exists(), "the best model is damaged"
    assert best is not None or not told, "the best model is missing"
    assert best is None or best["best_lines"] >= max(told, default=0), "it was better"


def check_count(kernel: Kernel, count: Path) -> None:
    """Every game that the environment saw end is kept, but for those of its last step.

    It counts them before anybody can hear of them.
    """
    resumes = kernel.of_type("resume")
    before = resumes[-1]["episode"] if resumes else 0
    kept = kernel.run.episodes()["env"].tolist()[before:]
    counted = [json.loads(line) for line in count.read_text().splitlines()]
    envs = [env for env, _, _ in counted]
    assert kept == envs[: len(kept)], "other games were kept"
    lost = counted[len(kept) :]
    steps = {step for _, _, step in lost}
    assert len(steps) <= 1, f"games are lost that ended in different steps: {lost}"


@case("SIGKILL of a toy trainer at random points, then resume", 60, 6)
def sigkill_of_a_toy(times: int, home: Path) -> list[Measure]:
    config = TrainingConfig(total_timesteps=FOREVER, run_dir=str(home))
    failed = Measure("failed after", 1.0)
    with Kernel(ToyManager) as kernel:
        kernel.start(config)
        for number in range(times):
            kernel.until_trained(random.randrange(1, 300))
            if number % 3 == 1:
                assert kernel.call("pause_training")
            time.sleep(random.uniform(0, 0.05))
            kill(kernel, failed)
            check_told(kernel)
            kernel.start({}, resume=kernel.run)
        assert kernel.manager.stop_training()
        kernel.until_told("stopped")
        check_told(kernel)
        assert_as_if_never_killed(kernel.run)
        return [failed, kernel.calls]


def assert_as_if_never_killed(run: RunDirectory) -> None:
    """The toy's episodes are those of a run that nobody has disturbed."""
    word = 1
    for lines in run.episodes()["lines"]:
        word = word * 48_271 % (2**31 - 1)
        assert lines == word % 1_000
